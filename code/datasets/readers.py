"""From a path to a Table: what can be wrong with a file as such, numpy's formats, and who reads what."""

import difflib
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.meshes import read_obj, read_off, read_stl
from phase_recon.datasets.ply import read_ply
from phase_recon.datasets.table import (
    COLOURS,
    MAX_VALUES,
    POSITIONAL,
    POSITIONAL_TEXT,
    SENSORS,
    Table,
    shorten,
    to_double,
)
from phase_recon.datasets.text import read_text
from phase_recon.utils.archive import check_archive, read_array
from phase_recon.utils.errors import UserError

NPZ_NAMES = {
    "points": ("points", "xyz", "vertices", "pos"),
    "normals": ("normals", "n"),
    "colours": ("colours", "colors", "rgb"),
    "sensors": ("sensors", "sensor_position", "sensor_positions"),
}


def read_table(path: Path) -> Table:
    """Read the columns of points in the file, by its extension (one of READERS).

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
        with path.open("rb") as handle:
            return reader(handle, path)
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


def _read_npy(handle: BinaryIO, path: Path) -> Table:
    """Read one array (N, 2|3|4|6), whose columns mean what they mean in a text."""
    return _name_columns(_read_columns(handle, os.fstat(handle.fileno()).st_size, f"{path}"), f"{path}")


def _read_npz(handle: BinaryIO, path: Path) -> Table:
    """Read the arrays named as in NPZ_NAMES, or the only one there is."""
    try:
        with zipfile.ZipFile(handle) as archive:
            check_archive(archive, path)
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            found = {
                kind: next((name for name in members if name.lower() in known), None)
                for kind, known in NPZ_NAMES.items()
            }
            if found["points"] is None and len(members) == 1:
                found["points"] = next(iter(members))
            if found["points"] is None:
                held = shorten(", ".join(members), 100)
                raise UserError(
                    f"{path} holds the arrays {held}: expected one of {', '.join(NPZ_NAMES['points'])}, "
                    "or one array alone"
                )
            arrays = {}
            for kind, name in found.items():
                if name is not None:
                    where = f"{path} (array {shorten(name)})"
                    with archive.open(members[name]) as member:
                        arrays[kind] = _read_columns(member, archive.getinfo(members[name]).file_size, where)
    except UserError:
        raise
    except Exception as error:  # zipfile and its decompressors raise a dozen kinds on damaged archives
        reason = shorten(str(error))
        raise UserError(f"{path} is not a sound npz archive ({reason}): save it again") from error
    return _join(arrays, path)


def _read_columns(handle: IO[bytes], size: int, where: str) -> npt.NDArray[np.float64]:
    """Read one array with a row per point out of ``size`` bytes."""
    return to_double(read_array(handle, size, where, MAX_VALUES, POSITIONAL_TEXT))


def _name_columns(values: npt.NDArray[np.float64], where: str) -> Table:
    if values.shape[1] not in POSITIONAL:
        raise UserError(f"{where} has {values.shape[1]} columns: expected {POSITIONAL_TEXT}")
    return Table(values, POSITIONAL[values.shape[1]], named=False)


def _join(arrays: dict[str, npt.NDArray[np.float64]], path: Path) -> Table:
    """Put points, normals, colours and sensor positions from separate arrays side by side."""
    table = _name_columns(arrays["points"], f"{path} (points)")
    d = 3 if "z" in table.names else 2
    n_names = tuple(f"n{axis}" for axis in table.names[:d])
    for kind, names in (("normals", n_names), ("colours", COLOURS), ("sensors", SENSORS[:d])):
        if kind not in arrays:
            continue
        expected = (len(table.values), len(names))
        if arrays[kind].shape != expected:
            raise UserError(f"{path} has {kind} of shape {arrays[kind].shape}: expected {expected}")
        if names[0] in table.names:
            raise UserError(f"{path} holds normals beside its points and in an array: keep one of them")
        table = Table(np.hstack([table.values, arrays[kind]]), table.names + names)
    return table


READERS: dict[str, Callable[[BinaryIO, Path], Table]] = {
    ".xyz": read_text,
    ".txt": read_text,
    ".csv": read_text,
    ".pts": read_text,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".ply": read_ply,
    ".obj": read_obj,
    ".off": read_off,
    ".stl": read_stl,
}
