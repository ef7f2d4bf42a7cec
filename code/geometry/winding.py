"""Coarse normals of a cloud that agree with its winding number, found without any normals.

The winding number of a closed surface is a half on the surface, one inside and nothing outside, and its gradient is
along the normals. Asking for both at once finds normals that agree all over a cloud, through holes and noise (Lin, Shi
& Liu 2024, "Fast and globally consistent normal orientation based on the winding number normal consistency"). Here
the winding number lives on a grid, where it is the solution of a Poisson equation (Kazhdan et al. 2006), by Fourier
transforms. Most rounds are on a coarse grid. A few on finer and finer ones then bring it to the resolution of the
cloud, so that the sheets of a thin body are told apart.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.sparse import csr_array, vstack
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import LINKED, NEIGHBOURS, SAMPLED, connected_places, spacing
from phase_recon.utils.general import ratio, thinned, threads, unit

Array = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]

HALF = 0.5  # the winding number on the surface


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
        margin: of the grid about the cloud, as a share of its longest side: the grid is periodic, and the next copy
            of the cloud must stay away while the normals are still wrong.
        least_margin: the same in cells, at least; 2 is what the differences need.
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
    margin: float = 0.1
    least_margin: int = 5


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
    grid = WindingGrid(some, cell, s)
    normals = consistent_normals(grid, np.zeros_like(some), widths)
    if normals is not None:
        normals = with_bodies_turned(grid, some, normals, s)
    widths = np.linspace(s.fine_widest, s.narrowest, s.fine_rounds)
    least = max(s.finest * spacing(points, thinned(points, SAMPLED)), s.noise * noise)
    while normals is not None and cell > s.least_ratio * least:
        cell = max(cell / 2, least)
        if np.prod(_shape(points, cell, s), dtype=np.float64) > s.most_nodes:
            break
        more = thinned(points, len(some) * 2 ** (points.shape[1] - 1))
        nearest = cKDTree(some).query(more, workers=threads())[1]
        begin = normals[nearest] * (len(some) / len(more))  # the area of all stays
        some, normals = more, consistent_normals(WindingGrid(more, cell, s), begin, widths)
    return None if normals is None else CoarseNormals(some, unit(normals))


def consistent_normals(grid: "WindingGrid", normals: Array, widths: Iterable[float]) -> Array | None:
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


def with_bodies_turned(grid: "WindingGrid", points: Array, normals: Array, s: WindingSettings) -> Array:
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


class WindingGrid:
    """The winding number of points with normals on a periodic grid about them; linear between nodes.

    Far from a closed surface it is zero, so the next copies of the cloud are not felt. A constant, which the period
    leaves open, is such that the mean on the walls of the grid is zero.

    Args:
        points: (N, d).
        cell: width of a cell.
        settings: for the margin.
    """

    def __init__(self, points: Array, cell: float, settings: WindingSettings) -> None:
        self.cell, self.d = cell, points.shape[1]
        self.shape = _shape(points, cell, settings)
        self.origin = (points.min(axis=0) + points.max(axis=0)) / 2 - np.array(self.shape) / 2 * cell
        place = (points - self.origin) / cell
        first = np.floor(place).astype(np.int64)
        share = place - first
        # along each axis: the weights of the nodes -1, 0, 1, 2 for a value, and for a central difference
        value = np.stack([np.zeros_like(share), 1 - share, share, np.zeros_like(share)], axis=-1)
        slope = np.stack([share - 1, -share, 1 - share, share], axis=-1) / (2 * cell)
        values, slopes = ([of[:, axis] for axis in range(self.d)] for of in (value, slope))
        self.interpolation = self._matrix(first, values)
        along = [[slopes[i] if i == axis else values[i] for i in range(self.d)] for axis in range(self.d)]
        self.gradient = vstack([self._matrix(first, weights) for weights in along]).tocsr()
        # the eigenvalues of minus the Laplacian for the waves; the constant's is 0, for which any other does
        waves = [(2 * np.sin(np.pi * np.fft.fftfreq(n)) / cell) ** 2 for n in self.shape]
        waves[-1] = waves[-1][: self.shape[-1] // 2 + 1]
        self._eigenvalues = functools.reduce(np.add.outer, waves).astype(np.float32)
        self._eigenvalues.flat[0] = 1.0
        walls = np.zeros(self.shape, dtype=bool)
        for axis in range(self.d):
            walls[(slice(None),) * axis + (0,)] = True
        self._walls = np.flatnonzero(walls)
        self._width, self._response = np.nan, np.empty(0, dtype=np.float32)

    def winding(self, normals: Array, width: float) -> Single:
        """χ with -Δχ = ∇·(the normals, each spread over ``width`` cells): its shape is the grid's."""
        chi = self._solve(-(self.gradient.T @ normals.T.ravel().astype(np.float32)), width)
        chi -= chi.flat[self._walls].mean(dtype=np.float64).astype(np.float32)
        return chi

    def transposed(self, values: Array, width: float) -> Array:
        """The transpose of normals (N, d) -> winding numbers at the points (N,)."""
        source = self.interpolation.T @ values.astype(np.float32)
        source[self._walls] -= np.float32(source.sum(dtype=np.float64) / len(self._walls))
        return -self.gradient_at_points(self._solve(source, width))

    def at_points(self, values: Single) -> Array:
        """Grid values at the points (N,)."""
        return np.asarray(self.interpolation @ values.ravel(), dtype=np.float64)

    def gradient_at_points(self, values: Single) -> Array:
        """The gradient of grid values at the points (N, d)."""
        return np.asarray(self.gradient @ values.ravel(), dtype=np.float64).reshape(self.d, -1).T

    def _matrix(self, first: npt.NDArray[np.int64], weights: list[Array]) -> csr_array:
        """The matrix (N, M) from the nodes to points, whose cells begin at ``first`` (N, d), as a product over the axes
        of weights (N, 4) of the nodes -1, 0, 1, 2 along each; nodes that weigh nothing anywhere are left out.
        """
        used = [np.flatnonzero(weight.any(axis=0)) for weight in weights]
        offsets = np.stack(np.meshgrid(*used, indexing="ij"), axis=-1).reshape(-1, self.d)
        data = np.ones((len(first), len(offsets)), dtype=np.float32)
        nodes = np.zeros(data.shape, dtype=np.int32)
        for axis, weight in enumerate(weights):
            data *= weight[:, offsets[:, axis]]
            nodes = nodes * self.shape[axis] + (first[:, axis, None] + offsets[:, axis] - 1).astype(np.int32)
        rows = np.arange(0, data.size + 1, len(offsets), dtype=np.int32)
        return csr_array((data.ravel(), nodes.ravel(), rows), shape=(len(first), int(np.prod(self.shape))))

    def _solve(self, sums: Single, width: float) -> Single:
        """The f of -Δf = a density, of which the sums at the nodes (M,) are given, smoothed by a Gaussian of so many
        cells; in single precision, which is twice as fast.
        """
        waves = rfftn(sums.reshape(self.shape), workers=threads(), overwrite_x=True)
        waves *= self._response_to(width)
        return np.asarray(irfftn(waves, s=self.shape, workers=threads(), overwrite_x=True))

    def _response_to(self, width: float) -> Single:
        """What each wave of the sums is multiplied by; kept, as a round asks for one width three times."""
        if width != self._width:
            smoothing = np.exp(np.float32(-0.5 * (width * self.cell) ** 2) * self._eigenvalues)
            self._width, self._response = width, smoothing / (self._eigenvalues * np.float32(self.cell**self.d))
            self._response.flat[0] = 0.0  # a constant is found on the walls
        return self._response


def _shape(points: Array, cell: float, s: WindingSettings) -> tuple[int, ...]:
    """The nodes along each axis of a grid about points (N, d)."""
    size = np.ptp(points, axis=0)
    counts = np.ceil(size / cell + 2 * np.maximum(s.margin * size.max() / cell, s.least_margin)).astype(np.int64)
    return tuple(next_fast_len(count, real=True) for count in counts.tolist())
