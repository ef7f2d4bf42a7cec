"""Points from E57 files of terrestrial laser scanners (ASTM E2807), by pye57: all scans, in the common frame."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.columns import AXES, COLOURS, NORMALS, SENSORS
from phase_recon.datasets.foreign import one_line
from phase_recon.datasets.table import BLOCK_ROWS, MAX_VALUES, Table
from phase_recon.utils.errors import UserError
from phase_recon.utils.memory import BYTES_PER_NUMBER, require_memory

CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")  # metres and radians
GRID = ("rowIndex", "columnIndex")
INVALID = ("cartesianInvalidState", "sphericalInvalidState")  # not 0 where nothing was measured
RGB = ("colorRed", "colorGreen", "colorBlue")
NORMAL_FIELDS = ("nor:normalX", "nor:normalY", "nor:normalZ")  # of the extension for normals
BITS_OF_A_POINT = 3  # at least: a bit for each coordinate


def read_e57(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read the points of all scans, with colours and normals, in the common frame, and the places of the sensors.

    A scan without a pose is in the common frame already, and its sensor is not known. Points that are marked as
    invalid are left out.
    Raises UserError for a file that is not sound or promises more than it holds.
    """
    from pye57 import libe57

    if handle.read(8) != b"ASTM-E57":
        raise UserError(f"{path} does not begin with 'ASTM-E57': give it the extension of its format")
    size = os.fstat(handle.fileno()).st_size
    with one_line(path):
        file = libe57.ImageFile(str(path), "r")
        try:
            scans = list(file.root()["data3D"])
            counts = [scan["points"].childCount() for scan in scans]
            total = sum(counts)
            if not total:
                raise UserError(f"{path} holds no points: expected scans with points")
            if max(counts) * BITS_OF_A_POINT > 8 * size or total * len(AXES) > MAX_VALUES:
                raise UserError(f"{path} promises {total} points in {size} bytes: copy or export it again")
            require_memory(BYTES_PER_NUMBER * BLOCK_ROWS, f"{path}", "free some")
            for scan, count in zip(scans, counts, strict=True):
                if count:
                    yield from _read_scan(libe57, file, scan, count, total, path)
        finally:
            file.close()


def _read_scan(libe57: Any, file: Any, scan: Any, count: int, total: int, path: Path) -> Iterator[Table]:
    """Read the points of one scan in parts."""
    points = scan["points"]
    prototype = libe57.StructureNode(points.prototype())
    there = [prototype[i].elementName() for i in range(prototype.childCount())]
    system = next((names for names in (CARTESIAN, SPHERICAL) if {*names} <= {*there}), None)
    if system is None:
        raise UserError(f"{path} has a scan without coordinates: expected cartesianX, cartesianY and cartesianZ")
    fields = [*system, *(name for name in INVALID if name in there and name[:3] == system[0][:3])]
    fields += [name for names in (RGB, NORMAL_FIELDS) if {*names} <= {*there} for name in names]

    whole = RGB[0] in there and isinstance(prototype[there.index(RGB[0])], libe57.IntegerNode)
    levels = np.uint16 if whole else np.float64  # colours may be floats, from 0 to 1 or to 255
    rotation, position = _pose(scan, system == SPHERICAL or {*GRID} <= {*there})
    rows = min(count, BLOCK_ROWS)
    arrays = {name: np.empty(rows, dtype=np.float64) for name in fields}
    buffers = libe57.VectorSourceDestBuffer()
    for name, array in arrays.items():
        buffers.append(libe57.SourceDestBuffer(file, name, array, rows, True, True))
    reader = points.reader(buffers)
    read = 0
    try:
        while part := reader.read():
            read += part
            fields_read = {name: array[:part].copy() for name, array in arrays.items()}
            yield _table(fields_read, rotation, position, total, levels)
    finally:
        reader.close()
    if read != count:
        raise UserError(f"{path} is cut short: a scan ends after {read} of {count} points; copy it again")


def _table(
    fields: dict[str, npt.NDArray[np.float64]],
    rotation: npt.NDArray[np.float64],
    position: npt.NDArray[np.float64] | None,
    total: int,
    levels: type[np.uint16 | np.float64],
) -> Table:
    """The points of one scan, or of a part of it, in the common frame, with colours of a type."""
    if SPHERICAL[0] in fields:
        distance, azimuth, elevation = (fields[name] for name in SPHERICAL)
        flat = distance * np.cos(elevation)
        points = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation)], axis=-1)
    else:
        points = np.stack([fields[name] for name in CARTESIAN], axis=-1)
    if position is not None:
        points = points @ rotation.T + position
    columns = dict(zip(AXES, points.T, strict=True))
    if RGB[0] in fields:
        columns |= {name: fields[theirs].astype(levels) for name, theirs in zip(COLOURS, RGB, strict=True)}
    if NORMAL_FIELDS[0] in fields:
        normals = np.stack([fields[name] for name in NORMAL_FIELDS], axis=-1) @ rotation.T
        columns |= dict(zip(NORMALS, normals.T, strict=True))
    if position is not None:
        columns |= {name: np.full(len(points), value) for name, value in zip(SENSORS, position, strict=True)}
    table = Table(columns, total)
    for name in INVALID:
        if name in fields:
            table = table.keep(fields[name] == 0, "marked as invalid")
    return table


def _pose(scan: Any, as_scanned: bool) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    """The rotation (3, 3) and the place (3,) of a scan, None where the file does not tell it.

    ``as_scanned`` says that its points are as a scanner gives them, by rows and columns or by angles.
    """
    if not scan.isDefined("pose"):
        return np.eye(3), None
    pose = scan["pose"]
    rotation, position = np.eye(3), np.zeros(3)
    if pose.isDefined("rotation"):
        w, x, y, z = (pose["rotation"][axis].value() for axis in "wxyz")
        length = w * w + x * x + y * y + z * z
        if length > 0:
            skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
            rotation = np.eye(3) + 2 / length * (w * skew + skew @ skew)
    if pose.isDefined("translation"):
        position = np.array([pose["translation"][axis].value() for axis in AXES], dtype=np.float64)
    if not as_scanned and not position.any() and np.array_equal(rotation, np.eye(3)):
        return rotation, None  # written where there is none, as of a merged cloud: no scanner stood at its origin
    return rotation, position
