"""The input: a file → a checked PointCloud.

A cloud that cannot enclose anything, or that is not what the file's owner thinks it is, is refused here.
"""

import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.columns import AXES, COLOURS, NORMALS, SENSORS
from phase_recon.datasets.readers import read_table
from phase_recon.datasets.selection import Selection
from phase_recon.datasets.stations import with_sensor, with_stations
from phase_recon.datasets.table import Table
from phase_recon.utils.arrays import eight_bit, unique_rows
from phase_recon.utils.errors import UserError, counted

Array = npt.NDArray[np.float64]

UNUSED = "leave the normals out (network.has_normals = false)"  # of errors about normals
LEAST_POINTS = 10
# thinner than this part of its extent, a cloud is flat: the rounding of a tilted plane to six decimals or to
# single precision stays below it, and no surface so thin can be reconstructed
FLAT = 1e-5
EXTENT_BOUND = 1e100  # beyond it (or its inverse) squares of coordinates leave double precision
ZEROS = 10  # rows of zeros, from which on they are pixels without depth and no points
PLACE = 1e-6  # × extent of most points: side of the cells in which points are at one place
FARTHEST = 1e15  # cells: what is farther off counts as there
HASH = (6364136223846793005, 3935559000370003845, 2691343689449507681)  # odd and large: factors of a cell's key
CLUMP = 20  # points at one place, and as many times the usual number there, that are no measurements
CENTRAL = 0.9  # share of the points, along each axis, that are compared to the box about all of them
SPARSE = 0.01  # share of that box which these fill, below which the user is told
LOOKED_AT = 100_000  # points by which this is told


@dataclass(frozen=True)
class PointCloud:
    """Points on a curve or surface, in the input's units.

    points (N, d) float64; normals (N, d) float64 of unit length, or None; colours (N, 3) uint8, or None;
    sensors (N, d) float64: the position of the sensor that saw each point, finite, or None where the file
    does not tell it for all points;
    note: what the user should know of how the file was read, or None;
    source: the file, or what else errors call it.
    """

    points: Array
    normals: Array | None = None
    colours: npt.NDArray[np.uint8] | None = None
    sensors: Array | None = None
    note: str | None = None
    source: str = "points"

    def rows(self, chosen: npt.NDArray[np.int64]) -> "PointCloud":
        """The cloud of some of its rows, by index (K,)."""
        return PointCloud(
            self.points[chosen],
            None if self.normals is None else self.normals[chosen],
            None if self.colours is None else self.colours[chosen],
            None if self.sensors is None else self.sensors[chosen],
            self.note,
            self.source,
        )

    @cached_property
    def fingerprint(self) -> dict[str, int]:
        """How many points there are, and a checksum of them, by which a checkpoint knows the cloud."""
        return {"points": len(self.points), "checksum": zlib.crc32(np.ascontiguousarray(self.points).tobytes())}


def load_point_cloud(
    path: str | PathLike[str],
    d_in: int | None = None,
    drop_invalid: bool = False,
    *,
    normals: bool = True,
    selection: Selection | None = None,
    sensor: tuple[float, ...] | None = None,
    stations: Path | None = None,
) -> PointCloud:
    """Read a cloud and check that a closed curve or surface can be fitted to it.

    Rows in which all coordinates are NaN, and rows of zeros where there are many, say that nothing was measured:
    they are left out, and the note counts them.

    Args:
        path: the file.
        d_in: the dimension that the configuration asks for, 2 or 3, or None for what the file has; a 3D cloud with
            one z throughout is given as 2D when 2 is asked for.
        drop_invalid: whether other rows with NaN or infinity are left out; they are refused otherwise.
        normals: whether the file's normals will be used, and so must be sound. If not, unsound ones are left out,
            and the note says so.
        selection: which points are read; None is all.
        sensor: where the sensor was that saw all points (d,), in place of what the file says; None for that.
        stations: a table of such positions, for points with the numbers of their stations; None for what the file says.

    Raises:
        UserError: a file that cannot be read or understood (datasets.readers), another dimension than d_in, rows
            that are not finite, normals of length zero, fewer than 10 points, and points that are all equal, on one
            line or in one plane.
    """
    table = read_table(Path(path), selection)
    if sensor is not None:
        table = with_sensor(table, sensor, Path(path))
    if stations is not None:
        table = with_stations(table, stations, Path(path))
    return _cloud(Path(path), table, d_in, drop_invalid, normals)


def point_cloud(
    points: npt.ArrayLike,
    normals: npt.ArrayLike | None = None,
    sensors: npt.ArrayLike | None = None,
    drop_invalid: bool = False,
) -> PointCloud:
    """Check arrays (N, 2 or 3) of points and, if there are, normals as ``load_point_cloud`` checks a file.

    ``sensors`` are the positions from which the points were seen, or one position (d,). Rows that are not finite are an
    error, or are dropped with ``drop_invalid``.

    Raises UserError as there, and for arrays of another shape.
    """
    if isinstance(points, (str, PathLike)):
        raise UserError(f"points: expected an array, got {str(points)!r}: the command phase-recon takes files")
    values = numbers("points", points)
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        raise UserError(f"points: expected an array of shape (N, 2) or (N, 3), got {values.shape}")
    columns = dict(zip(AXES, values.T, strict=False))
    if normals is not None:
        directions = numbers("normals", normals)
        if directions.shape != values.shape:
            raise UserError(f"normals: expected the shape of the points {values.shape}, got {directions.shape}")
        columns |= dict(zip(NORMALS, directions.T, strict=False))
    if sensors is not None:
        places = numbers("sensors", sensors)
        if places.shape not in (values.shape, values.shape[1:]):
            expected = f"the shape of the points {values.shape}, or {values.shape[1:]} for one position"
            raise UserError(f"sensors: expected {expected}, got {places.shape}")
        broken = np.logical_not(np.isfinite(places).reshape(-1, values.shape[1]).all(axis=1))
        if len(broken) == len(values):  # of rows that were not measured nothing is asked
            broken &= np.isfinite(values).all(axis=1)
        if broken.any():
            raise UserError(f"sensors: {broken.sum()} of {len(broken)} are NaN or infinite; leave them out")
        columns |= dict(zip(SENSORS, np.broadcast_to(places, values.shape).T, strict=False))
    return _cloud(Path("points"), Table(columns), None, drop_invalid, normals is not None)


def numbers(name: str, given: npt.ArrayLike) -> Array:
    """An argument as an array; what a masked one hides is NaN.

    Raises UserError for what is no array of numbers.
    """
    try:
        if isinstance(given, np.ma.MaskedArray):
            given = np.ma.filled(given.astype(np.float64), np.nan)
        if (kind := np.asarray(given).dtype).kind in "bc":
            raise TypeError(f"it is of {kind}")
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:120]
        raise UserError(f"{name}: expected an array of numbers, (N, 2) or (N, 3): {why}") from None


def load_points(path: str | PathLike[str], d: int) -> Array:
    """Points (N, d) from a file, at any place and in any number: places to ask, not a surface.

    Raises UserError for a file that cannot be read, of another dimension, or with rows that are not finite.
    """
    path = Path(path)
    table = read_table(path)
    if len(table.axes) != d:
        raise UserError(f"{path} holds {len(table.axes)}D points: expected {d}D, as the run is")
    points = table.stack(table.axes)
    if not np.isfinite(points).all():
        raise UserError(f"{path} has NaN or infinity among its points: remove those rows")
    return points


def _cloud(path: Path, table: Table, d_in: int | None, drop_invalid: bool, normals: bool) -> PointCloud:
    notes: list[str | None] = [*table.notes]
    axes, axes_note = _axes(path, table, d_in)
    used = [f"n{axis}" for axis in axes if f"n{axis}" in table.columns] if normals else []
    table = _measured(path, table, used, drop_invalid)
    table = _without_clumps(table, axes)
    if len(table) < LEAST_POINTS:
        left_out = f" ({_left_out(table)})" if table.dropped else ""
        raise UserError(f"{path} holds {counted(len(table), 'point')}{left_out}: expected {LEAST_POINTS} or more")

    points = table.stack(axes)
    _check_shape(path, points)
    colours, colours_note = _colours(table)
    sensors, sensors_note = _sensors(table, axes)
    directions, normals_note = (_normals(path, table, axes), None) if normals else _sound_normals(path, table, axes)
    notes += [axes_note, colours_note, sensors_note, normals_note]
    notes += [_left_out(table) if table.dropped else None, _sparse(points)]
    note = "; ".join(note for note in notes if note) or None
    return PointCloud(points, directions, colours, sensors, note, str(path))


def _left_out(table: Table) -> str:
    return "left out: " + ", ".join(f"{counted(count, 'point')} {reason}" for reason, count in table.dropped.items())


def _axes(path: Path, table: Table, d_in: int | None) -> tuple[list[str], str | None]:
    """Tell which coordinates are taken, and a note where z is not."""
    axes = table.axes
    if d_in in (None, len(axes)):
        return axes, None
    z = table.columns["z"][np.isfinite(table.columns["z"])] if d_in == 2 and len(axes) == 3 else np.zeros(0)
    if len(z) and np.ptp(z) == 0:
        return axes[:2], "z is the same throughout and was left out"
    raise UserError(
        f"{path} has {len(table.columns)} columns ({len(axes)}D) but train.d_in = {d_in}: "
        f"leave it out, or --set train.d_in={len(axes)}"
    )


def _measured(path: Path, table: Table, used: list[str], drop_invalid: bool) -> Table:
    """Leave out rows where nothing was measured; and refuse, or leave out, others that are not finite.

    ``used`` are the normals that must be finite, too, unless none of them is.
    """
    points = table.stack(table.axes)
    missing = np.logical_and.reduce(np.isnan(points), axis=1)
    finite = np.logical_and.reduce(np.isfinite(points), axis=1)
    normals = table.stack(used) if used else np.zeros((len(table), 0))
    if np.isfinite(normals).any():
        finite &= np.isfinite(normals).all(axis=1)
    zero = np.logical_and.reduce(points == 0, axis=1)
    others = points[~zero & np.isfinite(points).all(axis=1)]
    if (count := np.count_nonzero(zero)) < ZEROS or count < ZEROS * _repetition(others):
        zero[:] = False
    wrong = ~finite & ~missing & ~zero
    if wrong.any() and not drop_invalid:
        first = int(np.flatnonzero(wrong)[0])
        row = np.concatenate([points[first], normals[first]])
        names = ", ".join(np.array([*table.axes, *used])[~np.isfinite(row)])
        raise UserError(
            f"{path} has NaN or infinity in {np.count_nonzero(wrong)} of {len(table)} rows (first in row "
            f"{first + 1}: {names}): --set train.drop_invalid=true drops them"
        )
    table = table.keep(~missing, "without coordinates (NaN)")
    table = table.keep(~wrong[~missing], "with NaN or infinity")
    return table.keep(~zero[~missing & ~wrong], "at 0 0 0, where nothing was measured")


def _repetition(points: Array) -> float:
    """How often a place comes among points (N, d), in the mean; the corners of triangles come once for each of them."""
    return len(points) / max(len(unique_rows(points)[0]), 1)


def _without_clumps(table: Table, axes: list[str]) -> Table:
    """Keep one point of each clump without extent: what a sensor gives where it measures nothing, brought elsewhere."""
    points = table.stack(axes)
    if len(points) < CLUMP:
        return table
    low, high = _central_box(points)
    with np.errstate(over="ignore"):  # what is so large is refused later
        extent = (high - low).max() or np.ptp(points, axis=0).max()
    if not 0 < extent < EXTENT_BOUND:
        return table
    factors = np.array(HASH[: len(axes)])  # products wrap around: a cell's key is its own, but for one chance in 10⁸
    hashed = np.zeros(len(points), dtype=np.int64)
    for values, start, factor in zip(points.T, low, factors, strict=True):
        with np.errstate(over="ignore"):  # what is so far off is cut down to the farthest
            cells = np.clip(np.round((values - start) / (PLACE * extent)), -FARTHEST, FARTHEST)
        hashed += cells.astype(np.int64) * factor
    keys, first, cell, counts = np.unique(hashed, return_index=True, return_inverse=True, return_counts=True)
    clumped = counts >= CLUMP * max(1, np.median(counts))
    if not clumped.any():
        return table
    largest = np.where(clumped, counts, 0)  # of a cell and those beside it
    for step in np.ndindex(*(3,) * len(axes)):
        beside = keys + ((np.array(step) - 1) * factors).sum(keepdims=True)
        found = np.minimum(np.searchsorted(keys, beside), len(keys) - 1)
        here = keys[found] == beside
        largest[here] = np.maximum(largest[here], np.where(clumped, counts, 0)[found[here]])
    kept = (largest == 0)[cell]
    kept[first[clumped & (counts == largest)]] = True
    return table.keep(kept, "beyond one where many are at one place")


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
        remedy = _sparse(points) or "check the columns"  # one stray point, far off, makes a line of any cloud
        raise UserError(f"{path}: all {count} points lie on one straight line: {needs}; {remedy}")
    if flat[0]:
        raise UserError(
            f"{path}: all {count} points lie in one plane: a closed surface encloses a volume; for a planar "
            "curve give two columns (x y) or, where z is the same throughout, --set train.d_in=2"
        )


def _central_box(points: Array) -> tuple[Array, Array]:
    """The corners (d,) of the box that holds most of the points (N, d) along each axis, whatever strays there are."""
    sample = points[:: max(1, len(points) // LOOKED_AT)]
    low, high = np.quantile(sample, [(1 - CENTRAL) / 2, (1 + CENTRAL) / 2], axis=0)
    return low, high


def _sparse(points: Array) -> str | None:
    """Say so where nearly all points fill a small part of the box about them."""
    low, high = _central_box(points)
    extent = np.ptp(points, axis=0)
    share = float(np.prod((high - low)[extent > 0] / extent[extent > 0]))
    if share >= SPARSE:
        return None
    margin = (high - low) / 4
    if ((points >= low - margin) & (points <= high + margin))[:, margin > 0].all():
        return None
    ends = np.stack([low - margin, high + margin], axis=1).ravel()
    digits = 6 + max(0, math.ceil(math.log10(np.abs(ends).max() / max((high - low).max(), 1e-300))))
    wide = np.repeat(margin > 0, 2)  # along an axis without width there is nothing to cut
    crop = ",".join(f"{end:.{min(digits, 17)}g}" if cut else "" for end, cut in zip(ends, wide, strict=True))
    return f"most points fill {100 * share:.2g} % of the box about all: --crop={crop} reads those alone"


def _sound_normals(path: Path, table: Table, axes: list[str]) -> tuple[Array | None, str | None]:
    """Take the normals (N, d) if there are and nothing is wrong with them; else say why they are left out."""
    given = [name for name in NORMALS if name in table.columns]
    if given and not np.nan_to_num(table.stack(given)).any():
        return None, "the normals are all zero or NaN and are ignored"
    if given and not np.isfinite(table.stack(given)).all():
        return None, "some normals are NaN or infinite: all are ignored"
    try:
        return _normals(path, table, axes), None
    except UserError:
        return None, "the normals are unsound (of length zero, incomplete or not between -1 and 1) and are ignored"


def _normals(path: Path, table: Table, axes: list[str]) -> Array | None:
    """Take the normals (N, d) if there are, at unit length."""
    given = [name for name in NORMALS if name in table.columns]
    if not given:
        return None
    expected = [f"n{axis}" for axis in axes]
    if missing := [name for name in expected if name not in given]:
        raise UserError(f"{path} has {', '.join(given)} but not {', '.join(missing)}: give all or none")
    if len(given) > len(axes) and np.any(table.columns["nz"]):
        raise UserError(f"{path} is read as 2D but some normals have nz other than 0: remove the normals")
    normals = table.stack(expected)
    if not np.nan_to_num(normals).any():
        raise UserError(
            f"{path} has normals that are all zero or NaN, which nobody computed: "
            f"{UNUSED}, or give a file with normals"
        )
    if normals.max() > 1 and normals.min() >= 0 and np.array_equal(normals, np.round(normals)):
        raise UserError(
            f"{path} has whole numbers from 0 up where normals were expected, as colours are, or normals in bytes: "
            f"{UNUSED}, or give normals between -1 and 1"
        )
    largest = np.abs(normals).max(axis=1, keepdims=True)
    if zero := np.count_nonzero(largest == 0):
        raise UserError(
            f"{path} has {zero} of {len(normals)} normals of length zero: mend or remove them, or "
            f"{UNUSED}"
        )
    # the largest component is divided out first: lengths of 1e-200 and 1e200 have squares too
    normals /= largest
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals


def _colours(table: Table) -> tuple[npt.NDArray[np.uint8] | None, str | None]:
    """Take the colours (N, 3) if all three are there, or say why not."""
    if not all(name in table.columns for name in COLOURS):
        return None, None
    colours = eight_bit(table.stack(COLOURS), [table.columns[name].dtype for name in COLOURS])
    if colours is None:
        return None, "the colours are not from 0 to 255 (or 0 to 1) and were left out"
    if not colours.any():  # a field that nobody filled
        return None, "the colours are all zero and were left out"
    return colours, None


def _sensors(table: Table, axes: list[str]) -> tuple[Array | None, str | None]:
    """Take the sensor positions (N, d) if all coordinates of all are there; and a note where only some are."""
    names = [f"sensor_{axis}" for axis in axes]
    if not all(name in table.columns for name in names):
        return None, None
    sensors = table.stack(names)
    if unknown := np.count_nonzero(~np.isfinite(sensors).all(axis=1)):
        return None, f"{unknown} of {len(sensors)} sensor positions are NaN or infinite: all are left out"
    return sensors, None
