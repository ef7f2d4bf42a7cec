"""The detail that a network misses: a correction g on a sparse grid, solved linearly about the trained field.

With w_0 the network's signed distance, x_i the points and n_i the normals there, g minimises

    Σ_i (w_0(x_i) + g(x_i))² + ν Σ_i t_i ‖∇w_0(x_i) + ∇g(x_i) - n_i‖² + κ ∫ ‖∇²g‖² dx

The first two are the data term and the normal term of the PHASE functional about w_0, with the trust t_i in each
normal. In place of the second variation of its WCH energy, which for a surface moved by g along its normals is that of
its area, ∫ ‖∇g‖², stands the energy of bending: measured, it leaves less error on creases and on curved parts alike, as
it lets a face or an edge move as a whole (docs/ABLATION.md). Without the normal term g would bring all points nearer by
making the field flat.

All three terms are squares of what is linear in the unknowns, the coefficients of a grid of ``model.grid`` whose nodes
are as far apart as the points; conjugate gradients find them. With s that spacing and σ the points' noise,
κ = λ s^(4-d) and ν = λ s² + σ², so that λ alone says how smooth g is to be, and noise does not make the field flat. λ
is found by cross-validation: what a solve on some of the points tells of the others is detail, what it does not is
noise. Where no λ brings the others nearer to the surface, there is nothing to add.

A second grid of four times the spacing gained 2 % in the mean, and put blobs where no point is near, as what bends
little goes on as a plane does (docs/ABLATION_NOTEBOOK.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.spatial import cKDTree

from phase_recon.geometry.points import Source
from phase_recon.model.grid import SplineField, SplineGrid, keys_of, nodes_about, spline_weights
from phase_recon.reconstruction.field import NeuralField
from phase_recon.reconstruction.preprocess import Scene
from phase_recon.utils.general import different, in_threads, thinned

Array = npt.NDArray[np.float64]
ValueAndGradient = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

FINEST = 0.001  # spacing, normalised: of finer grids nothing is left in the finest mesh
NOISE_WIDTHS = 3.0  # × noise: the least spacing; a finer grid could hold each of many noisy points
SAMPLED = 3000  # points that tell the spacing
FEWEST = 10_000  # points that count, however short the time is: they take a second
SECONDS, SECONDS_PER_POINT = 3.0, 6e-5  # that a correction takes on two cores (measured)
GIVEN = 10.0  # weight of a normal that was given over that of one that was estimated
TRIED = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4)  # values of λ, in the order of comparison
PATCHES, PATCH = 4, 3000  # parts of the cloud that tell λ, and points in each
HELD_OUT = 5  # every fifth point of a patch is held out
SURE = 1.0  # standard errors by which points that are held out must come nearer, though the network has seen them
FEWEST_HELD_OUT = 5  # of a cloud of fewer different points than give so many nothing is told
FLATTEST = 0.3  # slope that is believed where a distance is taken from a value
STEPS, TOLERANCE = 40, 3e-3  # of the conjugate gradients: at most, and the residual at which they end, relative
RIDGE = 1e-6  # on the diagonal, which far from all points is zero
BLOCK_POINTS = 120_000  # points in a block of a grid, at most: each block is solved alone, in some 0.4 GB,
HALO = 12  # with so many spacings of the grid as a margin about it,
BLOCKS_AT_ONCE = 4  # and no more of them than these at a time, however many processors there are
NEIGHBOURS = 16  # that tell the spacing


@dataclass(frozen=True)
class Data:
    """What the correction is to do at some points.

    Attributes:
        points: (N, d), normalised.
        values: the field there (N,), which the correction is to take away.
        gradients: the field's there (N, d).
        normals: what these are to be (N, d).
        trust: in the slopes (N,), 0 to 1, or of given normals to GIVEN.
    """

    points: Array
    values: Array
    gradients: Array
    normals: Array
    trust: Array

    def __getitem__(self, index: npt.NDArray[Any]) -> Data:
        return Data(
            self.points[index],
            self.values[index],
            self.gradients[index],
            self.normals[index],
            self.trust[index],
        )


def correction_of(
    field: NeuralField, scene: Scene, announce: Callable[[str], None], seconds: float = np.inf
) -> SplineField | None:
    """What the points of a scene know and its field misses; None if that is nothing.

    Every row of the cloud that is no outlier counts, as it was given; the normal there is that of the nearest point
    that was trained on.

    Args:
        field: the trained field.
        scene: what it was trained on.
        announce: receives a line about what was found.
        seconds: the time for it; where all points would take longer, so many count as take that long.
    """
    points = different(scene.domain.normalisation.apply(scene.cloud.points[scene.kept]))
    count = max((seconds - SECONDS) / SECONDS_PER_POINT, FEWEST)
    if len(points) > count:
        points = thinned(points, int(count))
        announce(f"detail: of {len(points):,} points, as more would take longer than there is time")
    normals, trust = np.zeros_like(points), np.zeros(len(points))
    if scene.normals != "none":
        measured = scene.points[np.flatnonzero(scene.points.source == Source.MEASURED)]
        nearest = cKDTree(measured.positions).query(points, workers=-1)[1]
        normals, trust = measured.normals[nearest], measured.confidence[nearest]
    lambda_, noise = None, scene.scale.noise
    if len(points) >= FEWEST_HELD_OUT * HELD_OUT:
        data = data_at(points, normals, trust, field.normalised_value_and_gradient, scene.normals == "given")
        spacing = max(spacing_of(points), NOISE_WIDTHS * noise, FINEST)
        lambda_ = choose_lambda(data, spacing, noise)
    if lambda_ is None:
        announce("detail: the points show none that the network lacks (train.detail)")
        return None
    correction = solve(data, spacing, lambda_, noise)
    unit = scene.domain.normalisation.scale
    announce(f"detail: added down to the points' spacing of {spacing * unit:.3g}, λ = {lambda_:g} (train.detail)")
    return correction


def seconds_for(count: int) -> float:
    """About how long ``correction_of`` takes for so many points on two cores."""
    return SECONDS + SECONDS_PER_POINT * count


def spacing_of(points: Array) -> float:
    """The side of the square (2D: the length) that each of different points (N, d) has for itself, the median."""
    nearest = min(NEIGHBOURS, len(points) - 1)
    radius = float(np.median(cKDTree(points).query(thinned(points, SAMPLED), k=[nearest + 1])[0]))
    return 2 * radius / nearest if points.shape[1] == 2 else radius * float(np.sqrt(np.pi / nearest))


def data_at(
    points: Array, normals: Array, trust: Array, value_and_gradient: ValueAndGradient, oriented: bool
) -> Data:
    """What a correction of a field is to do at points.

    Args:
        points: (N, d), normalised.
        normals: unit normals there (N, d), or zero.
        trust: in them (N,), 0 to 1; where it is zero, the field's own direction stands for the normal, with trust 1.
        value_and_gradient: of the field, at float32 points.
        oriented: whether the normals were given, with their sides; else these are the field's.
    """
    value, gradient = (
        part.double().numpy() for part in value_and_gradient(torch.from_numpy(points.astype(np.float32)))
    )
    own = gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), FLATTEST)
    known = (trust > 0) & normals.any(axis=1)
    turned = np.where(((normals * own).sum(axis=1) < 0) & (not oriented), -1.0, 1.0)
    wanted = np.where(known[:, None], turned[:, None] * normals, own)
    trust = np.where(known, trust * (GIVEN if oriented else 1.0), 1.0)
    return Data(points, value, gradient, wanted, trust)


def solve(data: Data, spacing: float, lambda_: float, noise: float) -> SplineField:
    """The correction for a λ, of points with a spacing and a noise, all normalised.

    Many points are cut into boxes, each solved alone with a margin about it.
    """

    def part(box: tuple[Array, Array]) -> tuple[SplineGrid, npt.NDArray[np.bool_]]:
        lower, upper = box
        margin = HALO * spacing
        inside = ((data.points >= lower - margin) & (data.points < upper + margin)).all(axis=1)
        grid = _solve_grid(data[np.flatnonzero(inside)], spacing, lambda_, noise)
        places = grid.nodes * spacing
        return grid, np.asarray(((places >= lower) & (places < upper)).all(axis=1))

    parts = in_threads(part, _boxes(data.points), BLOCKS_AT_ONCE)
    nodes = np.concatenate([grid.nodes[own] for grid, own in parts])
    order = np.argsort(keys_of(nodes))
    coefficients = np.concatenate([grid.coefficients[own] for grid, own in parts])
    return SplineField((SplineGrid(spacing, nodes[order], coefficients[order]),))


def choose_lambda(data: Data, spacing: float, noise: float) -> float | None:
    """The λ of TRIED with which points that are held out come nearest to the surface, or None.

    From the smoothest on, as long as each brings them nearer than the one before.
    """
    generator = np.random.default_rng(0)
    if len(data.points) <= PATCHES * PATCH:
        patches = [np.arange(len(data.points))]
    else:
        centres = data.points[generator.choice(len(data.points), PATCHES, replace=False)]
        patches = list(cKDTree(data.points).query(centres, k=PATCH)[1])
    parts = []
    for patch in patches:
        out = generator.permutation(len(patch)) < len(patch) // HELD_OUT
        parts.append((data[patch[~out]], data[patch[out]]))
    before = np.concatenate([_distances(others.values, others.gradients) for _, others in parts])
    best, least = None, np.full(len(before), np.inf)
    for lambda_ in TRIED:
        now = []
        for some, others in parts:
            value, gradient = solve(some, spacing, lambda_, noise).at(others.points)
            now.append(_distances(others.values + value, others.gradients + gradient))
        after = np.concatenate(now)
        if after.mean() >= least.mean():
            break
        best, least = lambda_, after
    gain = before - least
    return best if gain.mean() > SURE * gain.std() / np.sqrt(len(gain)) else None


def _distances(values: Array, gradients: Array) -> Array:
    """To the zero set (N,), to first order: a field is not nearer to its points by being flatter there, or steeper."""
    distances: Array = np.abs(values) / np.clip(np.linalg.norm(gradients, axis=1), FLATTEST, 1.0)
    return distances


def _boxes(points: Array) -> list[tuple[Array, Array]]:
    """Boxes that fill space, each with at most BLOCK_POINTS of the points (N, d): halved at the median."""
    d = points.shape[1]
    todo = [(points, np.full(d, -np.inf), np.full(d, np.inf))]
    done = []
    while todo:
        some, lower, upper = todo.pop()
        if len(some) <= BLOCK_POINTS:
            done.append((lower, upper))
            continue
        axis = int(np.ptp(some, axis=0).argmax())
        cut = float(np.median(some[:, axis]))
        left = some[:, axis] < cut
        if not left.any():  # more than half of them lie at one end, as on a flat floor
            cut = float(some[some[:, axis] > cut, axis].min())
            left = some[:, axis] < cut
        low, high = lower.copy(), upper.copy()
        low[axis] = high[axis] = cut
        todo += [(some[left], lower, high), (some[~left], low, upper)]
    return done


def _solve_grid(data: Data, spacing: float, lambda_: float, noise: float) -> SplineGrid:
    """The coefficients of the grid whose nodes are those that the points see."""
    place = data.points / spacing
    nearest = np.rint(place).astype(np.int64)
    nodes = nodes_about(nearest, 1)
    matrix, wanted = _rows(data, place, nearest, keys_of(nodes), spacing, lambda_ * spacing**2 + noise**2)
    bends = _bends(nodes)
    transposed, bending = matrix.T.tocsr(), np.float32(lambda_) * (bends.T @ bends).tocsr()

    def apply(c: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        image: npt.NDArray[np.float32] = transposed @ (matrix @ c) + bending @ c + np.float32(RIDGE) * c
        return image

    squares = matrix.copy()
    squares.data **= 2
    diagonal = np.asarray(squares.sum(axis=0)).ravel() + bending.diagonal() + RIDGE
    return SplineGrid(spacing, nodes, _conjugate_gradients(apply, transposed @ wanted, diagonal.astype(np.float32)))


def _rows(
    data: Data, place: Array, nearest: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], spacing: float, nu: float
) -> tuple[sparse.csr_matrix, npt.NDArray[np.float32]]:
    """The data and normal terms as rows of a matrix ((1 + d) N, M) and what they should give ((1 + d) N,)."""
    n, d = place.shape
    cells, cell = np.unique(keys_of(nearest), return_index=True, return_inverse=True)[1:]
    step = np.stack(np.meshgrid(*[(-1, 0, 1)] * d, indexing="ij"), axis=-1).reshape(-1, d)
    columns = np.stack([np.searchsorted(keys, keys_of(nearest[cells] + s)) for s in step], axis=1)[cell]
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


def _conjugate_gradients(
    apply: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    wanted: npt.NDArray[np.float32],
    diagonal: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """The solution of apply(c) = wanted, preconditioned by the diagonal (Hestenes & Stiefel 1952)."""
    c, residual = np.zeros_like(wanted), wanted.copy()
    direction = residual / diagonal
    square = start = float(residual @ direction)
    for _ in range(STEPS):
        if square <= TOLERANCE**2 * start:
            break
        image = apply(direction)
        length = np.float32(square / float(direction @ image))
        c += length * direction
        residual -= length * image
        scaled = residual / diagonal
        before, square = square, float(residual @ scaled)
        direction = scaled + np.float32(square / before) * direction
    return c
