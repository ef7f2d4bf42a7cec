"""What is empty in the hollows of a cloud, as one looked through it (derived).

Deep in a hollow few rays get out, all through its mouth, and along one of them it was seen. So the hollow reaches down
to there, though most of its walls may not have been scanned. If it is known where the sensors stood, the lines of sight
are known.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phase_recon.geometry.hull import beyond_hull, convex_hull
from phase_recon.geometry.visibility import Space, ray_directions
from phase_recon.utils.arrays import ratio, unit
from phase_recon.utils.threads import in_threads, threads

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

PARTS = 8  # of the directions, each with an array of a MB: always as many, so that sums do not depend on the threads


@dataclass(frozen=True)
class HollowSettings:
    """How lines of sight are counted. Chosen on 78 simulated scans of 26 shapes.

    Attributes:
        wide: cells of ``Space`` along a side of the larger ones in which they are counted.
        least: rays that get out from a point, at least: fewer found gaps between points.
        beside: × angle between neighbouring rays: two with less between them are of one cone.
        expected: lines of sight that are expected to go through what is empty, at least. With 0.5, 1 % of the places
            were inside in the mean, most of them of two shapes some of whose sides were wrong.
        off: cells of ``Space`` from there to the cloud and to its convex hull, at least: nearer, the cloud itself shows
            what is inside.
    """

    wide: float = 2.0
    least: int = 3
    beside: float = 1.2
    expected: float = 0.5
    off: float = 2.0


def looked_through(
    space: Space, places: Array, normals: Array, sensors: Array | None = None, settings: HollowSettings | None = None
) -> Array:
    """Places (K, d) in the hollows of a cloud that are empty.

    A point was seen along one of the n rays that get out from it, each as likely as any other. A cell on rays of one
    direction from several points was looked through along them with the largest of their 1 / n; the sum over all
    directions is how many lines of sight are expected to go through the cell. Told are the middles of cells with enough
    of them; of known lines of sight, a place in each cell that one goes through. They lie away from the cloud, and
    within its convex hull: beyond, nothing is in doubt.

    Args:
        space: about the cloud.
        places: some of its points (N, d).
        normals: unit normals there (N, d), outward.
        sensors: where the places were seen from (N, d), or None; then the lines of sight are known.
        settings: how they are counted.
    """
    s, starts = settings or HollowSettings(), places + space.clear * normals
    cells = _Cells(space, s.wide * space.cell)
    if sensors is None:
        found = cells.middles(np.flatnonzero(_expected_lines(space, cells, starts, normals, s) >= s.expected))
    else:
        directions, reach = unit(sensors - starts), np.linalg.norm(sensors - starts, axis=1)
        seen = space.let_out(starts, directions, reach)
        index, _, on_lines = cells.along(starts[seen], directions[seen], reach[seen])
        found = on_lines[np.unique(index, return_index=True)[1]]
    found = found[space.tree.query(found, workers=threads())[0] > s.off * space.cell]
    facets = convex_hull(np.asarray(space.tree.data)) if len(found) else None
    return np.asarray(found[:0] if facets is None else found[beyond_hull(found, facets) < -s.off * space.cell])


def _expected_lines(space: Space, cells: "_Cells", starts: Array, normals: Array, s: HollowSettings) -> Array:
    """How many lines of sight are expected to go through each cell (C,), of places seen from their starts (N, d)."""
    rays = ray_directions(space.dimension, space.settings.rays)
    escaped = _escaped(space, starts, normals, rays)
    count = escaped.sum(axis=1)
    chance = np.where(count >= s.least, ratio(1.0, count), 0.0)
    cones = _cones(escaped, rays, s.beside)

    def along(some: Index) -> Array:
        """Those along rays of some directions."""
        total = np.zeros(cells.count)
        for ray in some:
            most, out = np.zeros(cells.count), cones[:, ray]
            index, start, _ = cells.along(starts[out], rays[None, ray])
            np.maximum.at(most, index, chance[out][start])
            total += most
        return total

    return np.asarray(np.sum(in_threads(along, np.array_split(np.arange(len(rays)), PARTS)), axis=0))


class _Cells:
    """Cells of some width in the box of a cloud, numbered."""

    def __init__(self, space: Space, width: float) -> None:
        self.lower, self.width = space.lower, width
        size = space.upper - space.lower
        self.shape = tuple((size // width).astype(np.int64) + 1)
        self.count = int(np.prod(self.shape))
        self.steps = np.arange(0.0, float(np.linalg.norm(size)), width)

    def along(self, starts: Array, directions: Array, reach: Array | None = None) -> tuple[Index, Index, Array]:
        """The cells (C,) on rays from places (M, d) in unit directions, of which ray each is (C,), and where (C, d).

        Args:
            starts: the places.
            directions: (M, d), or (1, d) for all.
            reach: how far the rays go (M,); None for as far as the box.
        """
        places = starts[:, None] + self.steps[:, None] * directions[:, None]
        at = ((places - self.lower) // self.width).astype(np.int64)
        on = ((at >= 0) & (at < self.shape)).all(axis=2)
        if reach is not None:
            on &= self.steps < reach[:, None]
        return np.ravel_multi_index(tuple(at[on].T), self.shape), np.nonzero(on)[0], places[on]

    def middles(self, cells: Index) -> Array:
        """The middles (C, d) of cells (C,)."""
        return np.asarray(self.lower + (np.stack(np.unravel_index(cells, self.shape), axis=-1) + 0.5) * self.width)


def _escaped(space: Space, starts: Array, normals: Array, rays: Array) -> Mask:
    """Which rays get out from places off a cloud (N, rays), of those that are clear of their own sheet."""
    looked = normals @ rays.T > space.settings.steep
    place, ray = np.nonzero(looked)
    escaped = np.zeros(looked.shape, dtype=bool)
    escaped[place, ray] = space.let_out(starts[place], rays[ray])
    return escaped


def _cones(escaped: Mask, rays: Array, width: float) -> Mask:
    """Of the rays (N, rays) that get out from each place, those of one cone: that of the one nearest to their mean.

    Others found a hole in a wall, while most went through the mouth.

    Args:
        escaped: which of the rays get out.
        rays: unit vectors (rays, d).
        width: × angle between neighbouring rays, within which two are beside each other.
    """
    cosine = rays @ rays.T
    nearest = np.sort(cosine, axis=1)[:, -2].min()
    beside = (cosine > np.cos(width * np.arccos(nearest))).astype(np.float32)
    towards = np.where(escaped, escaped @ rays @ rays.T, -np.inf)
    cone = escaped & (towards == towards.max(axis=1, keepdims=True))
    while True:
        grown = escaped & (cone.astype(np.float32) @ beside > 0)
        if (grown == cone).all():
            return np.asarray(cone)
        cone = grown
