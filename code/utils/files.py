"""Files that appear whole or not at all."""

import errno
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from phase_recon.utils.errors import UserError

TEMPORARY = re.compile(r"\..+\.\d+\.\d{16,}")  # .<name>.<process>.<nanoseconds>, as write_whole names them


def write_whole(path: Path | str, content: bytes, remedy: str = "choose another folder") -> None:
    """Write beside `path` under a temporary name, to the disk, then rename: nobody ever meets half a file.

    Raises UserError, ending in the remedy, where the folder is missing or not writable, or the disk is full;
    what was there before is then untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:  # Ctrl-C too: nothing is left beside the file
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"{path}: cannot be written ({error.strerror}); {remedy}") from None
        raise


def append_line(path: Path, line: str, remedy: str = "choose another folder") -> None:
    """Add a line to a file; if the disk takes only a part of it, the part is taken back.

    Raises UserError, ending in the remedy, where that fails; the lines before are then untouched.
    """
    content = f"{line}\n".encode()
    try:
        with path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                if file.write(content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); {remedy}") from None


def remove_leftovers(folder: Path, older_than: float = 0.0) -> None:
    """Delete the temporary files in a folder that writers killed at work have left.

    Args:
        folder: where no other process writes, or else
        older_than: age in seconds beyond which a temporary file has no living writer.
    """
    for path in folder.glob(".*"):
        with suppress(OSError):
            if TEMPORARY.fullmatch(path.name) and path.stat().st_mtime <= time.time() - older_than:
                path.unlink()
