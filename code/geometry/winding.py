"""Coarse normals of a cloud that agree with its winding number, found without any normals.

The winding number of a closed surface is a half on the surface, one inside and nothing outside, and its gradient is
along the normals. Asking for both at once finds normals that agree all over a cloud, through holes and noise (Lin, Shi
& Liu 2024, "Fast and globally consistent normal orientation based on the winding number normal consistency"). Here
the winding number lives on a grid, where it is the solution of a Poisson equation (Kazhdan et al. 2006), by Fourier
transforms. Most rounds are on a coarse grid. A few on finer and finer ones then bring it to the resolution of the
cloud, so that the sheets of a thin body are told apart.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import LINKED, NEIGHBOURS, SAMPLED, connected_places, spacing
from phase_recon.geometry.winding_grid import HALF, Array, WindingGrid, shape_of_grid
from phase_recon.utils.arrays import ratio, thinned, unit
from phase_recon.utils.threads import threads


@dataclass(frozen=True)
class WindingSettings:
    """The grids and the rounds of the winding number.

    Attributes:
        nodes: of the coarsest grid, along the longest side of the cloud's box; a finer one has twice as many.
        points: of the cloud, at most, on the coarsest grid, which holds no more detail; on each finer one 2^(d-1) ×
            as many.
        rounds: on the coarsest grid, each a step of steepest descent.
        fine_rounds: on each finer grid: its rounds begin near the answer.
        widest: width of the smoothing in the first round, in cells.
        fine_widest: the same on finer grids.
        narrowest: the same in the last round of each grid.
        most_bodies: that stand apart, the largest first, of which it is asked whether they are the wrong way round.
        finest: × spacing of the cloud: cells of the finest grid are no smaller.
        noise: × noise of the points: the same, as finer cells show the noise.
        least_ratio: of the cells of two grids.
        most_nodes: of a grid, at most: 40 MB for each array. A cube has 160 along a side of its cloud.
    """

    nodes: int = 80
    points: int = 20_000
    rounds: int = 40
    fine_rounds: int = 8
    widest: float = 2.5
    fine_widest: float = 1.0
    narrowest: float = 0.5
    most_bodies: int = 30
    finest: float = 0.2
    noise: float = 2.0
    least_ratio: float = 1.2
    most_nodes: int = 10_000_000


@dataclass(frozen=True)
class CoarseNormals:
    """The coarse normals of a cloud.

    Attributes:
        points: points of the cloud (K, d).
        normals: unit normals there (K, d), outward, as smooth as the grid is coarse; zero where there is none.
    """

    points: Array
    normals: Array

    def at(self, places: Array) -> Array:
        """The normals at the points nearest to some places (N, d)."""
        return np.asarray(self.normals[cKDTree(self.points).query(places, workers=threads())[1]])


def coarse_normals(points: Array, noise: float = 0.0, settings: WindingSettings | None = None) -> CoarseNormals | None:
    """The coarse normals of a cloud, on the finest grid that it fills.

    Args:
        points: (N, d), in any unit.
        noise: standard deviation of the points about the surface.
        settings: the grids and the rounds.

    Returns:
        The normals, or None where the cloud encloses nothing.
    """
    s = settings or WindingSettings()
    cell = float(np.ptp(points, axis=0).max()) / s.nodes
    if cell == 0:
        return None
    some = thinned(points, s.points)
    widths = np.linspace(s.widest, s.narrowest, s.rounds)
    grid = WindingGrid(some, cell)
    normals = consistent_normals(grid, np.zeros_like(some), widths)
    if normals is not None:
        normals = with_bodies_turned(grid, some, normals, s)
    widths = np.linspace(s.fine_widest, s.narrowest, s.fine_rounds)
    least = max(s.finest * spacing(points, thinned(points, SAMPLED)), s.noise * noise)
    while normals is not None and cell > s.least_ratio * least:
        cell = max(cell / 2, least)
        if np.prod(shape_of_grid(points, cell), dtype=np.float64) > s.most_nodes:
            break
        more = thinned(points, len(some) * 2 ** (points.shape[1] - 1))
        nearest = cKDTree(some).query(more, workers=threads())[1]
        begin = normals[nearest] * (len(some) / len(more))  # the area of all stays
        some, normals = more, consistent_normals(WindingGrid(more, cell), begin, widths)
    return None if normals is None else CoarseNormals(some, unit(normals))


def consistent_normals(grid: WindingGrid, normals: Array, widths: Iterable[float]) -> Array | None:
    """Normals (N, d) of a grid's points, outward, each as long as its share of the area; zero where there is none.

    Args:
        grid: of the points.
        normals: where to begin (N, d); zeros if nothing is known.
        widths: of the smoothing in each round, in cells.

    Returns:
        The normals, or None where the cloud encloses nothing.
    """
    width = 0.0
    for width in widths:
        # towards a winding number of one half at every point: a step of steepest descent
        winding = grid.winding(normals, width)
        step = grid.transposed(HALF - grid.at_points(winding), width)
        effect = grid.winding(step, width)
        length = float(ratio(np.sum(step**2), np.sum(grid.at_points(effect) ** 2)))
        normals = normals + length * step
        # along its gradient, with the lengths as they are
        gradient = grid.gradient_at_points(winding + np.float32(length) * effect)
        normals = -unit(gradient) * np.linalg.norm(normals, axis=1, keepdims=True)
    winding = grid.winding(normals, width)
    return None if winding.max() <= np.median(grid.at_points(winding)) else normals


def with_bodies_turned(grid: WindingGrid, points: Array, normals: Array, s: WindingSettings) -> Array:
    """The normals (N, d) of a grid's points (N, d), those of bodies that are the wrong way round turned (derived).

    A body that stands apart from the others, or within one, may have come out inside out and stay so, as every step
    turns its normals but a little. It is turned if that brings the winding numbers at all points nearer to a half.
    """
    count, body = connected_places(points, spacing(points, thinned(points, SAMPLED)) / LINKED)
    if count == 1:
        return normals
    winding = grid.at_points(grid.winding(normals, s.narrowest))
    size = np.bincount(body)
    for number in np.argsort(-size)[: s.most_bodies]:
        if size[number] < NEIGHBOURS:  # a part of a sheet that few points show
            break
        own = (body == number)[:, None]
        part = grid.at_points(grid.winding(np.where(own, normals, 0.0), s.narrowest))
        if ((HALF - winding + 2 * part) ** 2).sum() < ((HALF - winding) ** 2).sum():
            winding, normals = winding - 2 * part, np.where(own, -normals, normals)
    return normals
