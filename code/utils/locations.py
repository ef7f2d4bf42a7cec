"""Where the project's own files are: in a checkout, or inside of an installed package."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # the folder code/, or phase_recon/ where it is installed
IN_CHECKOUT = (PACKAGE / "phase_recon.py").is_file()
ROOT = PACKAGE.parent if IN_CHECKOUT else PACKAGE  # of setup.conf and data/
CONFIGURATIONS = PACKAGE / "confs"  # one for each published loss, and the published method


def default_exps_dir() -> Path:
    """The folder of all runs where nobody names one: exps/ of the checkout, or of the current folder if installed."""
    return (ROOT if IN_CHECKOUT else Path.cwd()) / "exps"


def find_configuration(name: str) -> Path:
    """The configuration file that a name means: a path, one from the project's root, or one of ``confs``."""
    path = Path(name)
    for candidate in (path, ROOT / path, CONFIGURATIONS / path, CONFIGURATIONS / f"{name}.conf"):
        if candidate.is_file():
            return candidate
    return path
