"""Coarse normals of a cloud that agree with its winding number, found without any normals.

The winding number of a closed surface is a half on the surface, one inside and nothing outside, and its gradient is
along the normals. Asking for both at once finds normals that agree all over a cloud, through holes and noise (Lin, Shi
& Liu 2024, "Fast and globally consistent normal orientation based on the winding number normal consistency"). Here
the winding number lives on a grid, where it is the solution of a Poisson equation (Kazhdan et al. 2006), by sine
transforms.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dstn, idstn, next_fast_len
from scipy.sparse import csr_array, diags_array, eye_array, kron, vstack

from phase_recon.utils.general import ratio, thinned, unit

Array = npt.NDArray[np.float64]

HALF = 0.5  # the winding number on the surface


@dataclass(frozen=True)
class WindingSettings:
    """The grid and the rounds of the winding number.

    Attributes:
        nodes: of the grid, along the longest side of Ω.
        points: of the cloud, at most, as the grid holds no more detail.
        rounds: each a step of steepest descent.
        widest: width of the smoothing in the first round, in cells.
        narrowest: the same in the last round.
    """

    nodes: int = 80
    points: int = 20_000
    rounds: int = 40
    widest: float = 2.5
    narrowest: float = 0.5


@dataclass(frozen=True)
class CoarseNormals:
    """The coarse normals of a cloud.

    Attributes:
        points: points of the cloud (K, d).
        normals: unit normals there (K, d), outward, as smooth as the grid is coarse; zero where there is none.
    """

    points: Array
    normals: Array


def coarse_normals(
    points: Array, lower: Array, upper: Array, settings: WindingSettings | None = None
) -> CoarseNormals | None:
    """The coarse normals of a cloud (N, d) in the box from ``lower`` to ``upper`` (d,); None if it encloses nothing."""
    s = settings or WindingSettings()
    points = thinned(points, s.points)
    normals = consistent_normals(points, lower, upper, s)
    return None if normals is None else CoarseNormals(points, normals)


def consistent_normals(
    points: Array, lower: Array, upper: Array, settings: WindingSettings | None = None
) -> Array | None:
    """Unit normals (N, d) of a cloud, outward, as smooth as the grid is coarse; zero where there is none.

    Args:
        points: the cloud (N, d), normalised.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).
        settings: the grid and the rounds.

    Returns:
        The normals, or None where the cloud encloses nothing.
    """
    s = settings or WindingSettings()
    grid = WindingGrid(points, lower, upper, s.nodes)
    normals = np.zeros_like(points)
    for width in np.linspace(s.widest, s.narrowest, s.rounds) * grid.cell:
        # towards a winding number of one half at every point: a step of steepest descent
        winding = grid.winding(normals, width)
        step = grid.transposed(HALF - grid.at_points(winding), width)
        effect = grid.winding(step, width)
        length = ratio(np.sum(step**2), np.sum(grid.at_points(effect) ** 2))
        normals = normals + length * step
        # along its gradient, with the lengths as they are
        gradient = grid.gradient_at_points(winding + length * effect)
        normals = -unit(gradient) * np.linalg.norm(normals, axis=1, keepdims=True)
    winding = grid.winding(normals, s.narrowest * grid.cell)
    if winding.max() <= np.median(grid.at_points(winding)):
        return None
    return unit(normals)


class WindingGrid:
    """The winding number of points with normals on a grid in Ω, zero on the walls; linear between nodes.

    Args:
        points: (N, d), normalised, in Ω.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).
        count: nodes along the longest side.
    """

    def __init__(self, points: Array, lower: Array, upper: Array, count: int) -> None:
        size = upper - lower
        self.cell = float(size.max()) / (count - 1)
        counts = np.ceil(size / self.cell - 1e-9).astype(np.int64) + 1
        self.shape = tuple(next_fast_len(n + 1, real=True) - 1 for n in counts.tolist())  # a transform is of 2 (n + 1)
        self.d = len(size)
        origin = (lower + upper) / 2 - (np.array(self.shape) - 1) / 2 * self.cell
        self.ticks = [low + self.cell * np.arange(n) for low, n in zip(origin, self.shape, strict=True)]
        place = (points - origin) / self.cell
        first = np.clip(np.floor(place), 0, np.array(self.shape) - 2).astype(np.int64)
        share = place - first
        corners = [np.array(corner) for corner in np.ndindex((2,) * self.d)]
        nodes = [np.ravel_multi_index(tuple((first + corner).T), self.shape) for corner in corners]
        weights = [np.where(corner, share, 1 - share).prod(axis=1) for corner in corners]
        rows = np.tile(np.arange(len(points)), len(corners))
        whole = (len(points), int(np.prod(self.shape)))
        self.interpolation = csr_array((np.concatenate(weights), (rows, np.concatenate(nodes))), shape=whole)
        # central differences along each axis, with zero beyond the walls
        self.gradient = vstack([self.interpolation @ self._difference(axis) for axis in range(self.d)]).tocsr()
        # the eigenvalues of minus the Laplacian for the sine transform
        waves = [(2 * np.sin(0.5 * np.pi * np.arange(1, n + 1) / (n + 1)) / self.cell) ** 2 for n in self.shape]
        self.eigenvalues = np.sum(np.meshgrid(*waves, indexing="ij"), axis=0)
        self._width, self._response = np.nan, np.empty(0, dtype=np.float32)

    @property
    def nodes(self) -> Array:
        """The nodes of the grid (M, d), in the order of its values."""
        return np.stack(np.meshgrid(*self.ticks, indexing="ij"), axis=-1).reshape(-1, self.d)

    def winding(self, normals: Array, width: float) -> Array:
        """χ with -Δχ = ∇·(the normals, each spread over ``width``): its shape is the grid's."""
        return self._solve(-self._per_volume(self.gradient.T @ normals.T.ravel()), width)

    def transposed(self, values: Array, width: float) -> Array:
        """The transpose of normals (N, d) -> winding numbers at the points (N,)."""
        return -self.gradient_at_points(self._solve(self._per_volume(self.interpolation.T @ values), width))

    def at_points(self, values: Array) -> Array:
        """Grid values at the points (N,)."""
        return np.asarray(self.interpolation @ values.ravel())

    def gradient_at_points(self, values: Array) -> Array:
        """The gradient of grid values at the points (N, d)."""
        return np.asarray(self.gradient @ values.ravel()).reshape(self.d, -1).T

    def _per_volume(self, values: Array) -> Array:
        """Sums at the nodes (M,) as a density on the grid."""
        return values.reshape(self.shape) / self.cell**self.d

    def _difference(self, axis: int) -> csr_array:
        """The matrix (M, M) of central differences along an axis."""
        before, after = (int(np.prod(part)) for part in (self.shape[:axis], self.shape[axis + 1 :]))
        n = self.shape[axis]
        along = diags_array([-0.5 / self.cell, 0.5 / self.cell], offsets=[-1, 1], shape=(n, n))
        return kron(kron(eye_array(before), along), eye_array(after), format="csr")

    def _solve(self, source: Array, width: float) -> Array:
        """The f of -Δf = source, smoothed by a Gaussian of this width; in single precision, which is twice as fast."""
        waves = dstn(source.astype(np.float32), type=1, workers=-1, overwrite_x=True)
        waves *= self._response_to(width)
        return np.asarray(idstn(waves, type=1, workers=-1, overwrite_x=True), dtype=np.float64)

    def _response_to(self, width: float) -> npt.NDArray[np.float32]:
        """What each wave of a source is multiplied by; kept, as a round asks for one width three times."""
        if width != self._width:
            green = np.exp(-0.5 * width**2 * self.eigenvalues) / self.eigenvalues
            self._width, self._response = width, green.astype(np.float32)
        return self._response
