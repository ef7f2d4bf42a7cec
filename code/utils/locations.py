"""Where the project's own files are: in a checkout, or in an installed package."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # the folder code/, or phase_recon/ where it is installed
IN_CHECKOUT = (PACKAGE / "phase_recon.py").is_file()  # an installed package has __init__.py instead
ROOT = PACKAGE.parent if IN_CHECKOUT else PACKAGE  # the folder with setup.conf and data/
CONFIGURATIONS = PACKAGE / "confs"  # the folder with a configuration for each published loss and published.conf


def default_exps_dir() -> Path:
    """The folder of all runs if none is given: exps/ in the checkout, or in the current folder if installed."""
    return (ROOT if IN_CHECKOUT else Path.cwd()) / "exps"


def find_configuration(name: str) -> Path:
    """The configuration file with this name: a path, relative to the current folder, the project's root or confs/.

    In confs/ the ending .conf may be left out. If no such file exists, the name itself is returned as a path.
    """
    path = Path(name)
    for candidate in (path, ROOT / path, CONFIGURATIONS / path, CONFIGURATIONS / f"{name}.conf"):
        if candidate.is_file():
            return candidate
    return path
