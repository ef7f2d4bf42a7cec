"""Files that appear whole or not at all."""

import os
import time
from pathlib import Path

from utils.errors import UserError


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
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror}); {remedy}") from None
