"""Where the project's own files are: in a checkout, or in an installed package."""

from pathlib import Path

from phase_recon.utils.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]  # the folder code/, or phase_recon/ where it is installed
IN_CHECKOUT = (PACKAGE / "phase_recon.py").is_file()  # an installed package has __init__.py instead
ROOT = PACKAGE.parent if IN_CHECKOUT else PACKAGE  # the folder with setup.conf and data/
CONFIGURATIONS = PACKAGE / "confs"  # the folder with a configuration for each published loss and published.conf


def folder_of_runs(exps_dir: Path | str | None) -> Path:
    """The folder of all runs: that given, or for None exps/ in the checkout, or in the current folder if installed."""
    return (ROOT if IN_CHECKOUT else Path.cwd()) / "exps" if exps_dir is None else Path(exps_dir)


def find_file(given: str, root: Path = ROOT) -> Path:
    """The file that a relative path means: from the current folder, else from the project's root."""
    path = Path(given)
    return path if path.is_absolute() or path.exists() or not (root / path).exists() else root / path


def find_configuration(name: str) -> Path:
    """The configuration file with this name: a path, relative to the current folder, the project's root or confs/.

    In confs/ the ending .conf may be left out: ``siren`` and ``code/confs/siren.conf`` mean the same file, also where
    the package is installed.

    Raises:
        UserError: there is no such file; the text lists the names.
    """
    path = Path(name)
    own = [CONFIGURATIONS / path, CONFIGURATIONS / f"{name}.conf"]
    own += [CONFIGURATIONS / path.name] if path.parent == Path("code", "confs") else []
    for candidate in (path, ROOT / path, *own):
        if candidate.is_file():
            return candidate
    if path.exists() or (ROOT / path).exists():  # a folder, or no ordinary file: whoever reads it says so
        return path
    names = sorted(file.stem for file in CONFIGURATIONS.glob("*.conf"))
    raise UserError(
        f"{path}: no such configuration file; give the path of one, setup.conf, or a name: {', '.join(names)}"
    )
