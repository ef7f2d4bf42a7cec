"""Points from numpy's formats: one array (.npy), or arrays with names (.npz)."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.columns import COLOURS, GUESSED_ROWS, NORMALS, POSITIONAL_TEXT, SENSORS, guess_columns
from phase_recon.datasets.table import MAX_VALUES, Table, shorten, to_double
from phase_recon.utils.archive import check_archive, read_array
from phase_recon.utils.errors import UserError

NPZ_NAMES = {
    "points": ("points", "xyz", "vertices", "pos"),
    "normals": ("normals", "n"),
    "colours": ("colours", "colors", "rgb"),
    "sensors": ("sensors", "sensor_position", "sensor_positions"),
}
BESIDE_POINTS = {"normals": NORMALS, "colours": COLOURS, "sensors": SENSORS}


def read_npy(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read one array with a row per point, whose columns are told as those of a text are (``guess_columns``)."""
    yield _name_columns(_read_columns(handle, os.fstat(handle.fileno()).st_size, f"{path}"), f"{path}")


def read_npz(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read the arrays named as in NPZ_NAMES, or the only one there is.

    Raises:
        UserError: it is no npz file, holds no points, or an array of another shape.
    """
    try:
        with zipfile.ZipFile(handle) as archive:
            check_archive(archive, path)
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            found = {
                kind: next((name for key in known for name in members if name.lower() == key), None)
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
                        arrays[kind] = _read_columns(
                            member, archive.getinfo(members[name]).file_size, where, row=kind == "sensors"
                        )
    except UserError:
        raise
    except Exception as error:  # zipfile and its decompressors raise a dozen kinds on damaged archives
        reason = shorten(str(error))
        raise UserError(f"{path} is not a sound npz archive ({reason}): save it again") from error
    yield _join(arrays, path)


def _read_columns(handle: IO[bytes], size: int, where: str, row: bool = False) -> npt.NDArray[Any]:
    """Read one array with a row per point out of ``size`` bytes; with ``row`` a single row may have one dimension."""
    return read_array(handle, size, where, MAX_VALUES, POSITIONAL_TEXT, row)


def _name_columns(values: npt.NDArray[Any], where: str) -> Table:
    places, note = guess_columns(to_double(values[:GUESSED_ROWS]), where)
    columns = {name: values[:, place] for name, place in places.items()}
    return Table(columns, len(values), () if note is None else (note,))


def _join(arrays: dict[str, npt.NDArray[Any]], path: Path) -> Table:
    """Put points, normals, colours and sensor positions from separate arrays side by side."""
    table = _name_columns(arrays.pop("points"), f"{path} (points)")
    d = len(table.axes)
    columns = dict(table.columns)
    for kind, array in arrays.items():
        names = BESIDE_POINTS[kind] if kind == "colours" else BESIDE_POINTS[kind][:d]
        expected = (len(table), len(names))
        if kind == "sensors" and array.shape == (1, d):  # one sensor saw all points
            array = np.broadcast_to(array, expected)
        if array.shape != expected:
            raise UserError(
                f"{path} has {kind} of shape {array.shape}: expected {expected}, a row a point; or leave them out"
            )
        if names[0] in columns:
            raise UserError(f"{path} holds {kind} beside its points and in an array: keep one of them")
        columns |= dict(zip(names, array.T, strict=True))
    return Table(columns, table.total, table.notes)
