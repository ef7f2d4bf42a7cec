"""Places that are surely outside a surface, by the winding number of points whose sides are known.

The walls of a hollow that no scanner saw leave the winding number too high: the hollow counts as inside. Where points
of the body's own skin are missing, as between the clusters of stereo or beside a cut, it is too low. But then it is too
low at the points about, too. So what is low beside points that have their ½ is outside; of the rest nothing is known.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phase_recon.geometry.neighbours import nearest
from phase_recon.geometry.winding_grid import HALF, MARGIN, WindingGrid
from phase_recon.utils.arrays import ratio, thinned

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OutsideSettings:
    """The grid of the winding number, and what it must be. Chosen on 30 clouds of 14 shapes.

    Attributes:
        finest: × spacing of the points: cells of the grid are no smaller.
        noise: × noise of the points: the same.
        most_nodes: of the grid, about, at most: 6 MB for each array.
        points: that take part, at most, as such a grid holds no more.
        rounds: in which the areas of the points are fitted, each a step of steepest descent.
        width: of the smoothing, in cells.
        below: winding number below which a place seems to be outside. With m the mean winding number at the points
            about it, at most ½, it surely is where m is not below this and its own number is below (2m)² times this.
            On clouds with noise at most 0.01 % of the places are then not outside, on stereo 0.2 to 0.6 %, of 4 to 12 %
            that only seem so, and beside a cut 0.4 to 1.2 %, of 1 to 3 %.
        about: points about a place, whose mean counts: on an edge one alone has less than ½.
    """

    finest: float = 0.2
    noise: float = 2.0
    most_nodes: int = 1_500_000
    points: int = 200_000
    rounds: int = 4
    width: float = 0.5
    below: float = 0.3
    about: int = 8


@dataclass(frozen=True)
class Outside:
    """Places about a cloud that seem to be outside (``outside_of``).

    Attributes:
        places: nodes of a grid (M, d).
        winding: the winding number there (M,).
        inside: nodes that seem to be inside (K, d): theirs is as far above ½.
        cell: the width of the grid's cells.
        points: of the cloud (N, d).
        at_points: the winding number there (N,).
        settings: what it must be.
    """

    places: Array
    winding: npt.NDArray[np.float32]
    inside: Array
    cell: float
    points: Array
    at_points: Array
    settings: OutsideSettings

    def surely(self, some: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of some of the places, by index (K,), surely are (K,)."""
        s = self.settings
        near = nearest(self.points, self.places[some], s.about)[1]
        theirs = np.minimum(self.at_points[near].mean(axis=1), HALF)
        return np.asarray((theirs >= s.below) & (self.winding[some] < s.below * (theirs / HALF) ** 2))


def outside_of(
    points: Array,
    normals: Array,
    areas: Array,
    spacing: float,
    noise: float,
    settings: OutsideSettings | None = None,
) -> Outside:
    """The nodes of a grid about a cloud that seem to be outside (derived).

    Args:
        points: of the cloud (N, d).
        normals: unit normals there (N, d), outward.
        areas: the area that each stands for (N,), in any unit; less where a side is not sure.
        spacing: of the points.
        noise: standard deviation of the points about the surface.
        settings: the grid, and what the winding number must be.
    """
    s, d = settings or OutsideSettings(), points.shape[1]
    size = np.ptp(points, axis=0)
    volume = float(np.prod(size + 2 * MARGIN * size.max()))
    cell = max(s.finest * spacing, s.noise * noise, (volume / s.most_nodes) ** (1 / d))
    some = thinned(np.arange(len(points)), s.points)
    points, normals, areas = points[some], normals[some], areas[some]
    grid = WindingGrid(points, cell)
    values = grid.winding(normals * areas[:, None], s.width)
    on_surface = float(np.median(grid.at_points(values)))
    if on_surface <= 0:  # most normals point inward, so nothing is known
        return Outside(points[:0], np.zeros(0, dtype=np.float32), points[:0], cell, points, np.zeros(len(points)), s)
    values *= np.float32(HALF / on_surface)
    for _ in range(s.rounds):
        missing = HALF - grid.at_points(values)
        longer = (grid.transposed(missing, s.width) * normals).sum(axis=1)
        effect = grid.winding(longer[:, None] * normals, s.width)
        at_points = grid.at_points(effect)
        values += np.float32(ratio(missing @ at_points, at_points @ at_points)) * effect
    low, high = np.argwhere(values < s.below), np.argwhere(values > 2 * HALF - s.below)
    places, inside = (grid.origin + cell * nodes for nodes in (low, high))
    return Outside(places, values[tuple(low.T)], inside, cell, points, grid.at_points(values), s)
