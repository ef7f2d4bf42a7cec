"""Writing files as a whole or not at all, removing what killed writers left, and the offset beside a mesh."""

import errno
import io
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phase_recon.utils.errors import UserError

OFFSET = ".offset.txt"  # ends the name of the file beside a mesh in single precision that is far from the origin
TEMPORARY = re.compile(r"\..+\.\d+\.\d{16,}")  # .<name>.<process>.<nanoseconds>, of write_whole


def offset_of_mesh(path: Path) -> Path:
    """The file beside a mesh that holds what its vertices, in single precision, are less than they should be."""
    return path.with_name(f"{path.name}{OFFSET}")


def read_offset(path: Path) -> npt.NDArray[np.float64] | None:
    """The offset (3,) that ``offset_of_mesh`` of a mesh holds; None where there is no such file.

    Raises:
        UserError: the file holds something else.
    """
    beside = offset_of_mesh(path)
    if not beside.is_file():
        return None
    try:
        offset = np.array([float(word) for word in beside.read_text(encoding="utf-8").split()])
    except ValueError:
        offset = np.empty(0)
    if offset.shape != (3,) or not np.isfinite(offset).all():
        raise UserError(f"{beside}: expected three numbers, the offset of the mesh; move it away if it is no offset")
    return offset


def write_whole(path: Path | str, content: bytes, remedy: str = "choose another folder") -> None:
    """Write a file as a whole: under a temporary name beside `path`, onto the disk, then renamed.

    A reader always sees the old file or the new one, never a part. Where the path is a link, the file that it means is
    written, and the link stays.

    Args:
        path: the file.
        content: its new content.
        remedy: what the user can do about an error, the end of its text.

    Raises:
        UserError: the folder is missing or not writable, the disk is full, or there is something else than a file, such
            as a pipe. What was there is then unchanged.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name[:50]}.{os.getpid()}.{time.time_ns()}")  # a name has 255 bytes at most
    try:
        if path.exists() and not path.is_file():  # a device or a pipe would be gone, and a file stand in its place
            raise OSError(errno.EINVAL, "it is no file")
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):
            shutil.copymode(path, temporary)  # of the old file, if there is one
        temporary.replace(path)
    except BaseException as error:  # also on Ctrl-C, no temporary file is left
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"{path}: cannot be written ({error.strerror}); {remedy}") from None
        raise


def write_text(path: Path | str, text: str) -> None:
    """``write_whole`` for a text, as UTF-8; bytes that are no letters, as names may have, are written by their code."""
    write_whole(path, text.encode(errors="backslashreplace"))


def npz_of(**arrays: npt.ArrayLike) -> bytes:
    """The bytes of an .npz that holds some arrays by name."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def npy_of(array: npt.NDArray[Any]) -> bytes:
    """The bytes of an .npy."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def append_line(path: Path, line: str, remedy: str = "choose another folder") -> None:
    """Append a line to a file; if only a part of it can be written, that part is removed again.

    Args:
        path: the file; it is made if it does not exist.
        line: the line, without its end.
        remedy: what the user can do about an error, the end of its text.

    Raises:
        UserError: the folder is missing or not writable, or the disk is full. The lines before are then unchanged.
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
    """Delete the temporary files of ``write_whole`` that killed processes have left in a folder.

    Args:
        folder: the folder.
        older_than: age in seconds that they must have at least; 0 only where no other process writes at the moment.
    """
    for path in folder.glob(".*"):
        with suppress(OSError):
            if TEMPORARY.fullmatch(path.name) and path.stat().st_mtime <= time.time() - older_than:
                path.unlink()
