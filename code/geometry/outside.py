"""Places that are surely outside a surface, by the winding number of points whose sides are known.

What no scanner saw leaves the winding number too high: behind what hides it, a hollow counts as inside. Too low it
hardly ever is. So what it calls outside is outside, but what it calls inside may be either.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phase_recon.geometry.winding import HALF, WindingGrid, WindingSettings
from phase_recon.utils.general import ratio, thinned

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
        below: winding number of the places that are outside. With 0.3, of those farther than half a spacing from the
            points 0.01 % were not, at most.
    """

    finest: float = 0.2
    noise: float = 2.0
    most_nodes: int = 1_500_000
    points: int = 200_000
    rounds: int = 4
    width: float = 0.5
    below: float = 0.3


def surely_outside(
    points: Array,
    normals: Array,
    areas: Array,
    spacing: float,
    noise: float,
    settings: OutsideSettings | None = None,
) -> tuple[Array, float]:
    """The nodes (M, d) of a grid about a cloud that are surely outside, and the width of its cells (derived).

    Args:
        points: of the cloud (N, d).
        normals: unit normals there (N, d), outward.
        areas: the area that each stands for (N,), in any unit; less where a side is not sure.
        spacing: of the points.
        noise: standard deviation of the points about the surface.
        settings: the grid, and what the winding number must be.
    """
    s, d = settings or OutsideSettings(), points.shape[1]
    winding = WindingSettings()
    size = np.ptp(points, axis=0)
    volume = float(np.prod(size + 2 * winding.margin * size.max()))
    cell = max(s.finest * spacing, s.noise * noise, (volume / s.most_nodes) ** (1 / d))
    some = thinned(np.arange(len(points)), s.points)
    points, normals, areas = points[some], normals[some], areas[some]
    grid = WindingGrid(points, cell, winding)
    values = grid.winding(normals * areas[:, None], s.width)
    on_surface = float(np.median(grid.at_points(values)))
    if on_surface <= 0:  # most normals point inward, so nothing is known
        return points[:0], cell
    values *= np.float32(HALF / on_surface)
    for _ in range(s.rounds):
        missing = HALF - grid.at_points(values)
        longer = (grid.transposed(missing, s.width) * normals).sum(axis=1)
        effect = grid.winding(longer[:, None] * normals, s.width)
        at_points = grid.at_points(effect)
        values += np.float32(ratio(missing @ at_points, at_points @ at_points)) * effect
    return grid.origin + cell * np.argwhere(values < s.below), cell
