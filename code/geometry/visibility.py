"""From which side a point of a cloud was seen, as far as the cloud tells.

Whoever scanned a point stood outside of the surface and saw it. So where rays from one side of a point get out of the
cloud, and those from its other side do not, the point was seen from the one, and outside is there. That tells the floor
of a deep hollow whose walls were not scanned, which the winding number cannot: the hollow looks as full as it looks
empty. Where both sides let rays out, or neither does, nothing is told.

Where another sheet is near, it stands in the way of the rays on its side. If a sheet can be seen from the side away
from the other, a thin wall is between: the sheets on both sides of a narrow gap could be seen so only from within their
bodies. Where few points show the sheets, both must be seen.

Where it is known where the sensors stood, what is between a point and its sensor is empty; so a point that another part
of the cloud hides from its sensor tells that the sensor did not stand there.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import SAMPLED, TINY, spacing
from phase_recon.utils.arrays import thinned, unit
from phase_recon.utils.threads import in_threads, threads

Array = npt.NDArray[np.float64]

RAYS = 1 << 15  # at a time: arrays of 1 MB


@dataclass(frozen=True)
class VisibilitySettings:
    """How rays are cast in the cells of a cloud's box.

    Attributes:
        cells: along the longest side of the box, at most.
        smallest: × spacing: least width of a cell. Cells beside a full one are full too, or rays get in between points.
        rays: in all directions. Through the mouth of a bore four times as deep as wide still come two.
        clear: cells from which a ray starts off the point, clear of the cells of its own sheet.
        steep: least cosine of a ray to the normal, with which it is clear so.
        alone: × way from the point to the start of its rays: where another point is nearer to that start, there is
            another sheet.
        least: rays that get out on the side that was seen, at least.
        other: rays that get out on the other side, at most, as a share of these.
    """

    cells: int = 96
    smallest: float = 0.6
    rays: int = 256
    clear: float = 2.25
    steep: float = 0.3
    alone: float = 0.75
    least: int = 3
    other: float = 0.05


class Space:
    """What is empty in the box of a cloud (M, d), in cells, in the cloud's unit.

    Attributes:
        settings: how rays are cast.
        dimension: d.
        tree: of the points.
        lower: corner of the box (d,).
        upper: the opposite corner (d,).
        cell: the cells' width.
        clear: how far off a point of the cloud rays start.
    """

    def __init__(self, points: Array, settings: VisibilitySettings | None = None) -> None:
        self.settings = s = settings or VisibilitySettings()
        self.dimension = points.shape[1]
        self.tree = cKDTree(points)
        self.lower, self.upper = points.min(axis=0), points.max(axis=0)
        size = self.upper - self.lower
        self.cell = max(float(size.max()) / s.cells, s.smallest * spacing(self.tree, thinned(points, SAMPLED)), TINY)
        self.clear = s.clear * self.cell
        unmet = np.ones((size // self.cell).astype(np.int64) + 1, dtype=bool)
        unmet[tuple(((points - self.lower) // self.cell).astype(np.int64).T)] = False
        distance = np.asarray(distance_transform_edt(unmet))
        self._empty = distance > 1
        # cannot jump over a full cell, from anywhere in this one
        self._stride = np.maximum(distance - 1 - points.shape[1] ** 0.5, 0.5)

    def has_point(self, places: Array, within: float) -> npt.NDArray[np.bool_]:
        """Whether a point of the cloud is nearer than that to places (N, d)."""
        return np.asarray(np.isfinite(self.tree.query(places, distance_upper_bound=within, workers=threads())[0]))

    def let_out(self, at: Array, directions: Array, reach: Array | float = np.inf) -> npt.NDArray[np.bool_]:
        """Whether rays from some places (N, d) in unit directions (N, d) meet no full cell (N,).

        They end where they leave the box, or at their reach (N,).
        """
        place, reach = (at - self.lower) / self.cell, np.broadcast_to(reach, len(at)) / self.cell
        parts = [slice(start, start + RAYS) for start in range(0, len(at), RAYS)]
        return np.concatenate(
            [np.zeros(0, dtype=bool), *in_threads(lambda p: self._let_out(place[p], directions[p], reach[p]), parts)]
        )

    def _let_out(self, at: Array, directions: Array, left: Array) -> npt.NDArray[np.bool_]:
        """``let_out`` in units of cells, from the corner on."""
        out = np.zeros(len(at), dtype=bool)
        ray = np.arange(len(at))
        while len(ray):
            index = np.floor(at).astype(np.int64)
            beyond = np.any((index < 0) | (index >= self._empty.shape), axis=1) | (left <= 0)
            out[ray[beyond]] = True
            inside = tuple(index[~beyond].T)
            going = self._empty[inside]
            ray, stride = ray[~beyond][going], self._stride[inside][going]
            at = at[~beyond][going] + stride[:, None] * directions[ray]
            left = left[~beyond][going] - stride
        return out


def seen_sides(space: Space, places: Array, directions: Array) -> npt.NDArray[np.int64]:
    """On which side of some places on a cloud one can see them (N,): 1 for that of the directions, -1, or 0 if unknown.

    Args:
        space: about the cloud.
        places: some of its points (N, d).
        directions: unit normals there (N, d), of any sign.
    """
    s = space.settings
    beside = sheets_beside(space, places, directions)
    escaped = rays_out(space, places, directions, beside=beside)
    behind, before = (escaped < 0).sum(axis=1), (escaped > 0).sum(axis=1)
    told = [(a <= s.other * b) & (b >= s.least) for a, b in ((behind, before), (before, behind))]
    return np.where(beside.any(axis=1), 0, told[0].astype(np.int64) - told[1])


def seen_sheets(
    space: Space, asked: npt.NDArray[np.int64], directions: Array, steps: Array
) -> npt.NDArray[np.bool_]:
    """Whether some points can be seen from the side away from another sheet, and that sheet from its far side (N, 2).

    Args:
        space: about the cloud.
        asked: indices of some of its points (N,).
        directions: unit normals of all its points (M, d), of any sign.
        steps: from those asked to the other sheets (N, d).
    """
    s, points = space.settings, np.asarray(space.tree.data)
    other = space.tree.query(points[asked] + steps, workers=threads())[1]
    facing = np.abs((directions[other] * unit(steps)).sum(axis=1)) > s.steep

    def seen(some: npt.NDArray[np.int64], hidden: Array) -> npt.NDArray[np.bool_]:
        """Whether rays get out from some points (N,), but not on the side of the hidden directions (N, d)."""
        escaped = rays_out(space, points[some], directions[some], hidden)
        return np.asarray((escaped != 0).sum(axis=1) >= s.least)

    return np.stack([seen(asked, steps), facing & seen(other, -steps)], axis=-1)


def rays_out(
    space: Space,
    places: Array,
    directions: Array,
    opposite: Array | None = None,
    beside: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int8]:
    """Which rays (N, rays) from some places on a cloud get out of it.

    1 if a ray gets out on the side of the direction, -1 if on the other, 0 if not at all, or if another sheet is so
    near on its side that it would start beyond.

    Args:
        space: about the cloud.
        places: some of its points (N, d).
        directions: unit normals there (N, d).
        opposite: step (N, d) to another sheet, or None.
        beside: what ``sheets_beside`` says of the places (N, 2), where that is known.
    """
    s = space.settings
    beside = sheets_beside(space, places, directions) if beside is None else beside
    clear = ~beside & (way_of(directions, opposite)[:, None] != [-1, 1])
    rays = ray_directions(space.dimension, s.rays)
    cosine = directions @ rays.T
    looked = (np.abs(cosine) > s.steep) & np.where(cosine > 0, clear[:, 1:], clear[:, :1])
    place, ray = np.nonzero(looked)
    side = np.sign(cosine[place, ray])
    out = space.let_out(places[place] + space.clear * side[:, None] * directions[place], rays[ray])
    escaped = np.zeros(cosine.shape, dtype=np.int8)
    escaped[place[out], ray[out]] = side[out]
    return escaped


def sheets_beside(space: Space, places: Array, directions: Array) -> npt.NDArray[np.bool_]:
    """Whether another sheet is near some places (N, 2): on the side against the directions (N, d), and on theirs."""
    beside = np.zeros((len(places), 2), dtype=bool)
    for offset in (space.clear, space.clear / 2):
        for column, way in enumerate((-1, 1)):
            beside[:, column] |= space.has_point(places + way * offset * directions, space.settings.alone * offset)
    return beside


def steps_aside(space: Space, places: Array, directions: Array) -> Array:
    """The steps (N, d) from places (N, d) to a sheet beside them on one side alone (``sheets_beside``); else zero."""
    beside = sheets_beside(space, places, directions)
    way = (beside[:, 1].astype(np.float64) - beside[:, 0])[:, None] * directions
    far = space.has_point(places + space.clear * way, space.settings.alone * space.clear)
    return np.asarray(np.where(far, space.clear, space.clear / 2)[:, None] * way)


def way_of(directions: Array, opposite: Array | None) -> Array:
    """Whether the steps (N, d) are along the directions (N, d), 1, or against them, -1, or zero (N,)."""
    return np.zeros(len(directions)) if opposite is None else np.sign((directions * opposite).sum(axis=1))


def unhidden(
    space: Space, places: Array, towards: Array, sensors: Array
) -> npt.NDArray[np.bool_]:
    """Which places on a cloud (N,) no part of it hides from the sensors that saw them.

    Args:
        space: about the cloud.
        places: some of its points (N, d).
        towards: unit normals there (N, d), turned to the sensors.
        sensors: where these stood (N, d).
    """
    at = places + space.clear * towards
    return space.let_out(at, unit(sensors - places), np.linalg.norm(sensors - at, axis=1))


def ray_directions(d: int, count: int) -> Array:
    """Unit vectors (count, d), evenly in all directions: on a circle, or a spiral on the sphere (Fibonacci's)."""
    turn = np.arange(count) + 0.5
    if d == 2:
        angle = 2 * np.pi * turn / count
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    azimuth, height = np.pi * (1 + 5**0.5) * turn, 1 - 2 * turn / count
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), height], axis=-1)
