"""What the readers that use a library share: whatever the library raises becomes one line for the user."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phase_recon.datasets.table import shorten
from phase_recon.utils.errors import UserError


@contextmanager
def one_line(path: Path) -> Iterator[None]:
    """Turn what a library raises over a damaged file into a UserError that names the file.

    Libraries in other languages raise what is no Exception: a panic of Rust is a BaseException.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        # libE57 tells its own story behind the first sentence
        said = " ".join(str(error).split("****")[0].split())
        reason = shorten(said or type(error).__name__, 120)
        raise UserError(
            f"{path} is not a sound {path.suffix.lower()} file ({reason}): copy or export it again"
        ) from error
