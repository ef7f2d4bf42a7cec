"""The input: a file -> a checked PointCloud.

A cloud that cannot enclose anything, or that is not what the file's owner thinks it is, is refused here.
"""

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.readers import read_table
from phase_recon.datasets.table import AXES, COLOURS, NORMALS, SENSORS, Table
from phase_recon.utils.errors import UserError

Array = npt.NDArray[np.float64]

LEAST_POINTS = 10
# thinner than this part of its extent, a cloud is flat: the rounding of a tilted plane to six decimals or to
# single precision stays below it, and no surface so thin can be reconstructed
FLAT = 1e-5
EXTENT_BOUND = 1e100  # beyond it (or its inverse) squares of coordinates leave double precision
LOOSE, MOST = 0.1, 0.9  # two columns without names are normals of a curve where most are so nearly of length 1


@dataclass(frozen=True)
class PointCloud:
    """Points on a curve or surface, in the input's units.

    points (N, d) float64; normals (N, d) float64 of unit length, or None; colours (N, 3) uint8, or None;
    sensors (N, d) float64: the position of the sensor that saw each point, finite, or None where the file
    does not tell it for all points; note: what the user should know of how the file was read, or None.
    """

    points: Array
    normals: Array | None = None
    colours: npt.NDArray[np.uint8] | None = None
    sensors: Array | None = None
    note: str | None = None


def load_point_cloud(
    path: str | PathLike[str], d_in: int | None = None, drop_invalid: bool = False
) -> PointCloud:
    """Read a cloud and check that a closed curve or surface can be fitted to it.

    ``d_in`` (2, 3 or None for what the file has) is the dimension the configuration asks for: a 3D cloud
    with one z throughout is given as 2D when it asks for 2. ``drop_invalid`` drops rows with NaN or infinity,
    which are refused otherwise.

    Raises UserError for a file that cannot be read or understood (datasets.readers), another dimension than
    d_in, rows that are not finite, normals of length zero, fewer than 10 points, and points that are all
    equal, on one line or in one plane.
    """
    return _cloud(Path(path), read_table(Path(path)), d_in, drop_invalid)


def point_cloud(points: npt.ArrayLike, normals: npt.ArrayLike | None = None) -> PointCloud:
    """Check arrays (N, 2 or 3) of points and, if there are, normals as ``load_point_cloud`` checks a file.

    Raises UserError as there, and for arrays of another shape.
    """
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        raise UserError(f"points: expected an array of shape (N, 2) or (N, 3), got {values.shape}")
    names = list(AXES[: values.shape[1]])
    if normals is not None:
        directions = np.asarray(normals, dtype=np.float64)
        if directions.shape != values.shape:
            raise UserError(f"normals: expected the shape of the points {values.shape}, got {directions.shape}")
        names += [f"n{axis}" for axis in names]
        values = np.concatenate([values, directions], axis=1)
    return _cloud(Path("points"), Table(values, tuple(names)), None, False)


def load_points(path: str | PathLike[str], d: int) -> Array:
    """Points (N, d) from a file, at any place and in any number: places to ask, not a surface.

    Raises UserError for a file that cannot be read, of another dimension, or with rows that are not finite.
    """
    path = Path(path)
    table = read_table(path)
    axes = [axis for axis in AXES if axis in table.names]
    if len(axes) != d:
        raise UserError(f"{path} holds {len(axes)}D points: expected {d}D, as the run is")
    points = np.stack([table.values[:, table.names.index(axis)] for axis in axes], axis=-1)
    if not np.isfinite(points).all():
        raise UserError(f"{path} has NaN or infinity among its points: remove those rows")
    return points


def _cloud(path: Path, table: Table, d_in: int | None, drop_invalid: bool) -> PointCloud:
    notes = [table.note]
    told = [i for i, name in enumerate(table.names) if name not in SENSORS]
    finite = np.logical_and.reduce(np.isfinite(table.values[:, told]), axis=1)
    if not finite.all():
        table = _without_invalid(path, table, finite, drop_invalid)
        notes.append(f"{np.count_nonzero(~finite)} rows with NaN or infinity dropped")
    if len(table.values) < LEAST_POINTS:
        raise UserError(f"{path} holds {len(table.values)} points: expected {LEAST_POINTS} or more")

    columns = dict(zip(table.names, table.values.T, strict=True))
    axes = [axis for axis in AXES if axis in columns]
    if d_in not in (None, len(axes)):
        if d_in == 2 and np.ptp(columns["z"]) == 0:
            axes = ["x", "y"]
            notes.append("z is the same throughout and was left out")
        else:
            raise UserError(
                f"{path} has {len(table.names)} columns ({len(axes)}D) but train.d_in = {d_in}: "
                f"set train.d_in = {len(axes)} or leave it unset"
            )
    points = np.stack([columns[axis] for axis in axes], axis=-1)
    _check_shape(path, points)
    sensors, sensors_note = _sensors(columns, axes)
    notes.append(sensors_note)
    return PointCloud(
        points,
        _normals(path, columns, axes, table.named),
        _colours(path, columns),
        sensors,
        "; ".join(note for note in notes if note) or None,
    )


def _without_invalid(path: Path, table: Table, finite: npt.NDArray[np.bool_], drop_invalid: bool) -> Table:
    if drop_invalid:
        return replace(table, values=table.values[finite])
    first = int(np.flatnonzero(~finite)[0])
    wrong = np.array(table.names)[~np.isfinite(table.values[first])]
    raise UserError(
        f"{path} has NaN or infinity in {np.count_nonzero(~finite)} of {len(finite)} rows (first in row "
        f"{first + 1}: {', '.join(wrong)}): train.drop_invalid = true drops them"
    )


def _check_shape(path: Path, points: Array) -> None:
    """Refuse points (N, d) whose smallest enclosing slab has no thickness to speak of, or no sane size.

    Invariant under scaling and shifting, up to what double precision has left at that offset.
    """
    count, d = points.shape
    largest = np.abs(points).max()
    if largest > EXTENT_BOUND:
        raise UserError(
            f"{path} has coordinates up to {largest:.3g}: expected at most {EXTENT_BOUND:.0e}; "
            "is it damaged, or of another format?"
        )
    low = points.min(axis=0)
    extent = np.ptp(points, axis=0).max()
    rounding = 4 * np.finfo(np.float64).eps * largest
    if extent <= max(rounding, 1 / EXTENT_BOUND):
        raise UserError(f"{path}: all {count} points are equal: expected points on a curve or surface")
    unit = (points - low) / extent
    unit -= unit.mean(axis=0)
    _, directions = np.linalg.eigh(unit.T @ unit)
    # thickness is measured along the directions, not taken from the eigenvalues: those are squares
    thickness = np.sort(np.ptp(unit @ directions, axis=0))
    flat = thickness <= FLAT * thickness[-1] + rounding / extent
    if flat[:-1].all():
        needs = "a closed curve encloses an area" if d == 2 else "a closed surface encloses a volume"
        raise UserError(f"{path}: all {count} points lie on one straight line: {needs}; check the columns")
    if flat[0]:
        raise UserError(
            f"{path}: all {count} points lie in one plane: a closed surface encloses a volume; for a planar "
            "curve give two columns (x y) or, where z is the same throughout, train.d_in = 2"
        )


def _normals(path: Path, columns: dict[str, Array], axes: list[str], named: bool) -> Array | None:
    """Take the normals (N, d) if there are, at unit length."""
    given = [name for name in NORMALS if name in columns]
    if not given:
        return None
    expected = [f"n{axis}" for axis in axes]
    if missing := [name for name in expected if name not in given]:
        raise UserError(f"{path} has {', '.join(given)} but not {', '.join(missing)}: give all or none")
    if len(given) > len(axes) and columns["nz"].any():
        raise UserError(f"{path} is read as 2D but some normals have nz other than 0: remove the normals")
    normals = np.stack([columns[name] for name in expected], axis=-1)
    if normals.max() > 1 and normals.min() >= 0 and np.array_equal(normals, np.round(normals)):
        raise UserError(
            f"{path} has whole numbers from 0 up where normals were expected: if they are colours, name the "
            "columns in a header line (x y z red green blue) or remove them"
        )
    largest = np.abs(normals).max(axis=1, keepdims=True)
    if zero := np.count_nonzero(largest == 0):
        raise UserError(f"{path} has {zero} of {len(normals)} normals of length zero: mend or remove them")
    if len(axes) == 2 and not named and (np.abs(np.hypot(*normals.T) - 1) < LOOSE).mean() < MOST:
        raise UserError(
            f"{path} has four columns without names, of which the last two are no unit normals of a curve: name all in "
            "a header line (x y nx ny, or x y z intensity), or leave out what is no coordinate"
        )
    # the largest component is divided out first: lengths of 1e-200 and 1e200 have squares too
    normals /= largest
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals


def _colours(path: Path, columns: dict[str, Array]) -> npt.NDArray[np.uint8] | None:
    """Take the colours (N, 3) if all three are there, whether they run to 1 or to 255."""
    if not all(name in columns for name in COLOURS):
        return None
    colours = np.stack([columns[name] for name in COLOURS], axis=-1)
    if colours.min() < 0 or colours.max() > 255:
        raise UserError(f"{path} has colours outside 0 to 255 (or 0 to 1): mend or remove them")
    return np.round(colours * 255 if colours.max() <= 1 else colours).astype(np.uint8)


def _sensors(columns: dict[str, Array], axes: list[str]) -> tuple[Array | None, str | None]:
    """Take the sensor positions (N, d) if all coordinates of all are there; and a note where only some are."""
    names = [f"sensor_{axis}" for axis in axes]
    if not all(name in columns for name in names):
        return None, None
    sensors = np.stack([columns[name] for name in names], axis=-1)
    if unknown := np.count_nonzero(~np.isfinite(sensors).all(axis=1)):
        return None, f"{unknown} of {len(sensors)} sensor positions are NaN or infinite: all are left out"
    return sensors, None
