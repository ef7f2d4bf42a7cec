"""The linear system of the detail (``reconstruction.detail``): its rows, its blocks, its solution.

With J the matrix of the data and normal terms at the points, y what they should give, B that of second differences and
c the coefficients of a grid of ``model.grid``, ‖J c - y‖² + λ ‖B c‖² is least where (JᵀJ + λ BᵀB) c = Jᵀ y. Conjugate
gradients solve it, and never build JᵀJ, which would have five times as many entries as J.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from phase_recon.model.grid import SplineField, SplineGrid, keys_of, nodes_about, spline_weights, steps
from phase_recon.utils.threads import in_threads

Array = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Nodes = npt.NDArray[np.int64]

STEPS, TOLERANCE = 40, 3e-3  # of the conjugate gradients: at most, and the residual at which they end, relative
RIDGE = 1e-6  # on the diagonal, which far from all points is zero
BLOCK_POINTS = 30_000  # points in a block of a grid, at most: 60 000 fill two cores. Each is solved alone, in 0.1 GB,
HALO = 12  # with so many spacings of the grid as a margin about it,
BLOCKS_AT_ONCE = 8  # and no more of them than these at a time, however many processors there are


@dataclass(frozen=True)
class Data:
    """What the correction is to do at some points.

    Attributes:
        points: (N, d), normalised.
        values: the field there (N,), which the correction is to take away.
        gradients: the field's there (N, d).
        normals: what these are to be (N, d).
        trust: in the slopes (N,), 0 to 1, or more where normals were given.
    """

    points: Array
    values: Array
    gradients: Array
    normals: Array
    trust: Array

    def __getitem__(self, index: npt.NDArray[Any]) -> Data:
        return Data(*(getattr(self, of.name)[index] for of in fields(self)))


@dataclass(frozen=True)
class System:
    """The equations A c = b of one grid, with A = JᵀJ + λ BᵀB + RIDGE.

    Attributes:
        matrix: J ((1 + d) N, M), for N points and M nodes.
        transposed: Jᵀ, whose rows lie together in memory.
        bending: λ BᵀB (M, M).
        wanted: b = Jᵀ y (M,).
    """

    matrix: sparse.csr_matrix
    transposed: sparse.csr_matrix
    bending: sparse.csr_matrix
    wanted: Singles

    def times(self, c: Singles) -> Singles:
        """A c (M,)."""
        image: Singles = self.transposed @ (self.matrix @ c) + self.bending @ c + np.float32(RIDGE) * c
        return image

    @property
    def bytes(self) -> int:
        """Of the matrices that ``times`` reads."""
        parts = (self.matrix, self.transposed, self.bending)
        return sum(part.data.nbytes + part.indices.nbytes + part.indptr.nbytes for part in parts)

    def solution(self) -> Singles:
        """The coefficients c (M,), by conjugate gradients preconditioned by the diagonal (Hestenes & Stiefel 1952)."""
        squares = self.matrix.copy()
        squares.data **= 2
        diagonal = (np.asarray(squares.sum(axis=0)).ravel() + self.bending.diagonal() + RIDGE).astype(np.float32)
        c, residual = np.zeros_like(self.wanted), self.wanted.copy()
        direction = residual / diagonal
        square = start = float(residual @ direction)
        for _ in range(STEPS):
            if square <= TOLERANCE**2 * start:
                break
            image = self.times(direction)
            length = np.float32(square / float(direction @ image))
            c += length * direction
            residual -= length * image
            scaled = residual / diagonal
            before, square = square, float(residual @ scaled)
            direction = scaled + np.float32(square / before) * direction
        return c


def solve(data: Data, spacing: float, lambda_: float, noise: float) -> SplineField:
    """The correction for a λ, of points with a spacing and a noise, all normalised.

    Many points are cut into boxes, each solved alone with a margin about it.
    """

    def part(box: Box) -> tuple[SplineGrid, npt.NDArray[np.bool_]]:
        nodes, system = system_of(data[box.about], spacing, lambda_, noise)
        places = nodes * spacing
        own = ((places >= box.lower) & (places < box.upper)).all(axis=1)
        return SplineGrid(spacing, nodes, system.solution()), np.asarray(own)

    parts = in_threads(part, boxes(data.points, HALO * spacing), BLOCKS_AT_ONCE)
    nodes = np.concatenate([grid.nodes[own] for grid, own in parts])
    order = np.argsort(keys_of(nodes))
    coefficients = np.concatenate([grid.coefficients[own] for grid, own in parts])
    return SplineField((SplineGrid(spacing, nodes[order], coefficients[order]),))


@dataclass(frozen=True)
class Box:
    """A part of space, from its lower corner (d,) on and below its upper one, and the points in it and about it."""

    lower: Array
    upper: Array
    about: npt.NDArray[np.int64]


def boxes(points: Array, margin: float) -> list[Box]:
    """Boxes that fill space, each with at most BLOCK_POINTS of the points (N, d), and others within a margin about it.

    Each box is halved at the median of its points, and each half looks at its box's points alone.
    """
    d = points.shape[1]
    todo = [Box(np.full(d, -np.inf), np.full(d, np.inf), np.arange(len(points)))]
    done = []
    while todo:
        box = todo.pop()
        about = points[box.about]
        own = about[((about >= box.lower) & (about < box.upper)).all(axis=1)]
        if len(own) <= BLOCK_POINTS:
            done.append(box)
            continue
        axis = int(np.ptp(own, axis=0).argmax())
        cut = float(np.median(own[:, axis]))
        if not (own[:, axis] < cut).any():  # more than half of them lie at one end, as on a flat floor
            cut = float(own[own[:, axis] > cut, axis].min())
        low, high = box.lower.copy(), box.upper.copy()
        low[axis] = high[axis] = cut
        todo += [
            Box(box.lower, high, box.about[about[:, axis] < cut + margin]),
            Box(low, box.upper, box.about[about[:, axis] >= cut - margin]),
        ]
    return done


def system_of(data: Data, spacing: float, lambda_: float, noise: float) -> tuple[Nodes, System]:
    """The nodes (M, d) that the points see, and the equations of their coefficients.

    Args:
        data: the points and what the correction should be there, normalised.
        spacing: s, distance of the grid's nodes, normalised.
        lambda_: λ, how smooth the correction is: κ = λ s^(4-d), ν = λ s² + σ² (``detail``).
        noise: σ, standard deviation of the points about the surface, normalised.
    """
    place = data.points / spacing
    nearest = np.rint(place).astype(np.int64)
    nodes = nodes_about(nearest, 1)
    matrix, values = _rows(data, place, nearest, keys_of(nodes), spacing, lambda_ * spacing**2 + noise**2)
    bends = _bends(nodes)
    transposed, bending = matrix.T.tocsr(), np.float32(lambda_) * (bends.T @ bends).tocsr()
    return nodes, System(matrix, transposed, bending, transposed @ values)


def _rows(
    data: Data, place: Array, nearest: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], spacing: float, nu: float
) -> tuple[sparse.csr_matrix, npt.NDArray[np.float32]]:
    """The data and normal terms as rows of a matrix ((1 + d) N, M) and what they should give ((1 + d) N,)."""
    n, d = place.shape
    cells, cell = np.unique(keys_of(nearest), return_index=True, return_inverse=True)[1:]
    columns = np.stack([np.searchsorted(keys, keys_of(nearest[cells] + step)) for step in steps(d)], axis=1)[cell]
    values, slopes = spline_weights(place - nearest)

    def rows(of_slope: int, scale: Array) -> npt.NDArray[np.float32]:
        row = scale[:, None]
        for axis in range(d):
            along = slopes if axis == of_slope else values
            row = (row[:, :, None] * along[:, axis, None, :]).reshape(n, -1)
        return row.astype(np.float32)

    sloped = np.sqrt(nu * data.trust)
    entries = np.concatenate([rows(-1, np.ones(n)), *(rows(axis, sloped / spacing) for axis in range(d))])
    missing = data.normals - data.gradients
    wanted = np.concatenate([-data.values, *(sloped * missing[:, axis] for axis in range(d))])
    count = 3**d
    starts = np.arange(0, (1 + d) * n * count + 1, count)
    indices = np.tile(columns.astype(np.int32).ravel(), 1 + d)
    matrix = sparse.csr_matrix((entries.ravel(), indices, starts), shape=((1 + d) * n, len(keys)))
    return matrix, wanted.astype(np.float32)


def _bends(nodes: npt.NDArray[np.int64]) -> sparse.csr_matrix:
    """A matrix (E, M) of second differences at nodes (M, d), the sum of whose squares is h^(4-d) ∫ ‖∇²g‖² dx (derived).

    They are those along each axis, and √2 times the mixed ones of two axes, which count twice in ‖∇²g‖².
    """
    keys, d = keys_of(nodes), nodes.shape[1]
    axes = np.eye(d, dtype=np.int64)
    stencils = [[(-e, 1.0), (0 * e, -2.0), (e, 1.0)] for e in axes]
    root = float(np.sqrt(2))
    for a, b in combinations(axes, 2):
        stencils.append([(0 * a, root), (a, -root), (b, -root), (a + b, root)])
    parts = []
    for stencil in stencils:
        columns, there = [], np.ones(len(nodes), dtype=bool)
        for step, _ in stencil:
            wanted = keys_of(nodes + step)
            found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            there &= keys[found] == wanted
            columns.append(found)
        rows = np.stack([column[there] for column in columns], axis=1)
        weights = np.tile(np.array([weight for _, weight in stencil], dtype=np.float32), len(rows))
        starts = np.arange(0, rows.size + 1, len(stencil))
        parts.append(sparse.csr_matrix((weights, rows.ravel(), starts), shape=(len(rows), len(nodes))))
    return sparse.vstack(parts, format="csr")
