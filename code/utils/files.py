"""Files that appear whole or not at all."""

import os
from pathlib import Path

from utils.errors import UserError


def write_whole(path: Path | str, content: bytes) -> None:
    """Write beside `path` under a temporary name, then rename: a reader never meets half a file.

    Raises UserError where the folder is missing or not writable, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
