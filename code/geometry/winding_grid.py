"""The winding number of points with normals on a periodic grid, by Fourier transforms."""

import functools

import numpy as np
import numpy.typing as npt
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.sparse import csr_array, vstack

from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]

HALF = 0.5  # the winding number on the surface
# Of the grid about the cloud, as a share of the cloud's longest side: the grid is periodic, and the next copy of the
# cloud must stay away while the normals are still wrong
MARGIN = 0.1
LEAST_MARGIN = 5  # cells: the same, at least; 2 are what the differences need


class WindingGrid:
    """The winding number of points with normals on a periodic grid about them; linear between nodes.

    Far from a closed surface it is zero, so the next copies of the cloud are not felt. A constant, which the period
    leaves open, is such that the mean on the walls of the grid is zero.

    Args:
        points: (N, d).
        cell: width of a cell.
    """

    def __init__(self, points: Array, cell: float) -> None:
        self.cell, self.d = cell, points.shape[1]
        self.shape = shape_of_grid(points, cell)
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


def shape_of_grid(points: Array, cell: float) -> tuple[int, ...]:
    """The nodes along each axis of a grid about points (N, d), its margin included."""
    size = np.ptp(points, axis=0)
    counts = np.ceil(size / cell + 2 * np.maximum(MARGIN * size.max() / cell, LEAST_MARGIN)).astype(np.int64)
    return tuple(next_fast_len(count, real=True) for count in counts.tolist())
