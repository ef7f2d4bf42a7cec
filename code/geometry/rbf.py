"""Biharmonic interpolation: the smoothest function with given values at some places.

Radial basis functions: Carr et al. 2001; thin plates: Duchon 1977.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.distance import cdist
from scipy.special import xlogy

from phase_recon.geometry.neighbours import TINY
from phase_recon.utils.arrays import ratio
from phase_recon.utils.threads import in_threads

Array = npt.NDArray[np.float64]

CHUNK = 256  # points at a time: their distances to some thousand places stay in the processor's cache


class Biharmonic:
    """The f that makes the integral of its second derivatives' squares as small as its values allow.

    That is a sum of the bilaplacian's fundamental solutions about the places, and what no second derivative sees: in
    3D of distances -r and a constant, in 2D of r² log r and a linear function.

    Args:
        places: where f is told (N, d), d = 2 or 3, all different.
        values: of f there (N,).
        smoothing: weight of smoothness against the values, at least 0. With 0, f goes through the values.
        chunk: points at a time that f is asked at.
    """

    def __init__(self, places: Array, values: Array, smoothing: float, chunk: int = CHUNK) -> None:
        self.places, self.chunk = places, chunk
        kernel, free = self._kernel(places), self._free(places)
        kernel[np.diag_indices(len(places))] += smoothing
        solve = _by_cholesky if places.shape[1] == 3 else _by_elimination
        self.weights, self.rest = solve(kernel, free, values)

    def __call__(self, points: Array) -> Array:
        """f (M,) at points (M, d)."""

        def some(part: Array) -> Array:  # einsum, as threads of a matrix product would wait for each other
            return np.asarray(np.einsum("mn,n->m", self._kernel(part), self.weights) + self._free(part) @ self.rest)

        parts = [points[start : start + self.chunk] for start in range(0, len(points), self.chunk)]
        return np.concatenate([np.empty(0), *in_threads(some, parts)])

    def gradient(self, points: Array) -> Array:
        """∇f (M, d) at points (M, d). At a place itself its own term counts as zero; in 3D it has no gradient there."""

        def some(part: Array) -> Array:
            distance = cdist(part, self.places)
            if part.shape[1] == 3:
                pull = -self.weights * ratio(1.0, distance)
            else:
                pull = self.weights * np.where(distance > 0, 2 * np.log(np.maximum(distance, TINY)) + 1, 0.0)
            slope = part * pull.sum(axis=1, keepdims=True) - np.einsum("mn,nd->md", pull, self.places)
            return np.asarray(slope if part.shape[1] == 3 else slope + self.rest[1:])

        parts = [points[start : start + self.chunk] for start in range(0, len(points), self.chunk)]
        return np.concatenate([np.empty((0, points.shape[1])), *in_threads(some, parts)])

    def _kernel(self, points: Array) -> Array:
        """The fundamental solutions about each place, at points (M, d): (M, N)."""
        distance = cdist(points, self.places)
        return np.asarray(np.negative(distance, out=distance) if points.shape[1] == 3 else xlogy(distance**2, distance))

    @staticmethod
    def _free(points: Array) -> Array:
        """What costs nothing, at points (M, d): the constant (M, 1) in 3D, linear functions (M, 3) in 2D."""
        one = np.ones((len(points), 1))
        return one if points.shape[1] == 3 else np.concatenate([one, points], axis=1)


def _by_elimination(kernel: Array, free: Array, values: Array) -> tuple[Array, Array]:
    """The weights (N,) with freeᵀ weights = 0 and the rest (k,) of kernel · weights + free · rest = values."""
    system = np.block([[kernel, free], [free.T, np.zeros((free.shape[1],) * 2)]])
    solution = np.linalg.solve(system, np.append(values, np.zeros(free.shape[1])))
    return solution[: len(kernel)], solution[len(kernel) :]


def _by_cholesky(kernel: Array, free: Array, values: Array) -> tuple[Array, Array]:
    """``_by_elimination`` for distances -r (N, N) and a constant, in half of the time. The kernel is overwritten.

    A number added to all of it changes nothing for weights whose sum is zero. Twice the largest distance makes it
    positive definite: of weights with sum one, Σ w_i w_j r_ij is at most the diameter of a ball about the places
    (derived, for a sphere and its derivative by the radius, whose potential inside is that number), which is 1.23
    times the largest distance at most (Jung 1901).
    """
    kernel -= 2 * kernel.min()
    factor = torch.linalg.cholesky(torch.from_numpy(kernel))
    sides = torch.from_numpy(np.column_stack([values, free]))
    solved: Array = torch.cholesky_solve(sides, factor).numpy()
    by_values, by_free = solved[:, :1], solved[:, 1:]
    rest = np.asarray(np.linalg.solve(free.T @ by_free, free.T @ by_values), dtype=np.float64)
    return (by_values - by_free @ rest)[:, 0], rest[:, 0]
