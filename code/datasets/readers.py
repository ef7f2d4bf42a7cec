"""From a path to a Table: what can be wrong with a file as such, and which reader reads which format."""

import difflib
import importlib.util
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from phase_recon.datasets.arrays import read_npy, read_npz
from phase_recon.datasets.meshes import read_obj, read_off, read_stl
from phase_recon.datasets.ply import read_ply
from phase_recon.datasets.selection import Selection, select
from phase_recon.datasets.table import Table
from phase_recon.datasets.text import read_text
from phase_recon.utils.errors import UserError


@dataclass(frozen=True)
class Reader:
    """How a format is read.

    read: from an open file and its path to the parts of its table, in the order of the file; at least one;
    needs: the modules that must be installed, each with the name of its package for pip.
    """

    read: Callable[[BinaryIO, Path], Iterator[Table]]
    needs: tuple[tuple[str, str], ...] = ()


def read_table(path: Path, selection: Selection | None = None) -> Table:
    """Read the selected points of a file (all by default), by its extension, one of READERS.

    Raises UserError, one line, for whatever keeps the file from being read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{path} is a folder: name one file in it ({', '.join(READERS)})")
        if not stat.S_ISREG(mode):
            raise UserError(f"{path} is not an ordinary file: expected one of {', '.join(READERS)}")
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            given = f"the extension '{path.suffix}'" if path.suffix else "no extension"
            raise UserError(f"{path} has {given}: expected one of {', '.join(READERS)}")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty: expected points")
        missing = [package for module, package in reader.needs if importlib.util.find_spec(module) is None]
        if missing:
            raise UserError(f"{path}: {path.suffix} needs a package that is not installed: pip install {missing[0]}")
        with path.open("rb") as handle:
            return select(reader.read(handle, path), selection or Selection(), path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_suggestion(path)}") from None
    except PermissionError:
        raise UserError(f"{path} may not be read: permission denied; change its permissions") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _suggestion(path: Path) -> str:
    if not path.parent.is_dir():
        return f", nor is there a folder {path.parent}: check the path"
    names = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1)
    return f": did you mean {path.parent / names[0]}?" if names else ": check the path"


TEXT = Reader(read_text)
READERS: dict[str, Reader] = {
    **dict.fromkeys((".xyz", ".txt", ".csv", ".tsv", ".pts", ".asc", ".dat", ".3d"), TEXT),
    **dict.fromkeys((".xyzn", ".npts", ".nxyz", ".xyzrgb"), TEXT),
    ".npy": Reader(read_npy),
    ".npz": Reader(read_npz),
    ".ply": Reader(read_ply),
    ".obj": Reader(read_obj),
    ".off": Reader(read_off),
    ".stl": Reader(read_stl),
}
