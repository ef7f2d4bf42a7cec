"""The creases of an extracted surface: edges that cut a corner off, each split at the level set.

Marching cubes puts vertices on the edges of its grid, hardly ever on a crease. So the mesh goes across the crease in
chords, and looks like a saw there. With its middle moved up to the crease, a chord becomes two that lie on the surface.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from phase_recon.surface.refine import SHORTEST, ValueAndGradient, in_chunks, median_edge
from phase_recon.surface.surface import Surface
from phase_recon.utils.arrays import ratio, unit

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

SMOOTH = 0.9  # least cosine between the normals at the ends of an edge that does not cross a crease
REACH = 0.5  # × edge: how far its middle is moved at most: up to the corner of a right angle
NEARER = 0.1  # × its distance from the level set: no more may be left of it, or the edge stays as it is
SIDE = 1.0  # least length of the sum of two unit normals that tells where the crease is: they differ by 120°
STEPS = 2  # of Newton's method


def split_at_creases(surface: Surface, value_and_gradient: ValueAndGradient, level: float = 0.0) -> Surface:
    """Edges between whose ends the surface turns, split; its other cells and its topology stay.

    Args:
        surface: on the level set, with normals.
        value_and_gradient: of the field: (N,) and (N, d) at float32 points (N, d).
        level: of the surface.

    An edge is left as it is where its middle lies on the level set or does not come there, where an edge would be
    shorter than SHORTEST of the median, and where a cell would be turned over.
    """
    assert surface.normals is not None
    edges = surface.edges()
    ends = np.sort(edges.reshape(-1, 2), axis=1)
    known = np.asarray(surface.normals.any(axis=1))[ends].all(axis=1)
    turns = known & (np.einsum("nd,nd->n", *surface.normals[ends.T]) < SMOOTH)
    keys = ends[turns] @ np.array([len(surface.vertices), 1])
    _, first, of = np.unique(keys, return_index=True, return_inverse=True)
    if not len(first):
        return surface
    crossing = surface.vertices[ends[turns][first]], surface.normals[ends[turns][first]]
    places, gradients, there = _up_to_the_crease(*crossing, value_and_gradient, level)
    vertices = np.concatenate([surface.vertices, places])
    normals = np.concatenate([surface.normals, unit(gradients)])
    number = np.where(there, len(surface.vertices) + np.arange(len(first)), -1)
    least = SHORTEST * median_edge(surface)
    while True:
        marks = np.full(edges.shape[:2], -1)
        marks[turns.reshape(marks.shape)] = number[of]
        crossed = (marks >= 0).any(axis=1)
        whole = replace(surface, cells=surface.cells[crossed])
        parts, parents = _divided(whole.cells, marks[crossed], vertices)
        split = Surface(vertices, parts)
        over = np.einsum("nd,nd->n", split.cell_vectors(), whole.cell_vectors()[parents]) <= 0
        length = np.linalg.norm(np.diff(vertices[split.edges()], axis=2)[:, :, 0], axis=2).min(axis=1)
        wrong = parts[over | (length < least)]
        wrong = wrong[wrong >= len(surface.vertices)] - len(surface.vertices)
        if not len(wrong):
            break
        number[wrong] = -1
    cells = np.concatenate([surface.cells[~crossed], parts])
    used = np.concatenate([np.full(len(surface.vertices), True), number >= 0])
    return Surface(vertices[used], (np.cumsum(used) - 1)[cells], normals[used])


def _up_to_the_crease(
    ends: Array, normals: Array, value_and_gradient: ValueAndGradient, level: float
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """The middles of edges (N, d), moved onto the level set along the mean of the normals at their ends.

    Where it is the rim of a thin sheet that the edge goes around, nothing tells where the crease is.

    Args:
        ends: places (N, 2, d).
        normals: there (N, 2, d).
        value_and_gradient: of the field.
        level: of the surface.

    Returns:
        Places (N, d), the gradients there (N, d), and which came onto the level set (N,).
    """
    middles, sums = ends.mean(axis=1), normals.sum(axis=1)
    told = np.linalg.norm(sums, axis=1) >= SIDE
    along, reach = unit(sums), np.where(told, REACH * np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1), 0.0)
    step = np.zeros(len(ends))
    value, gradient = in_chunks(value_and_gradient, middles)
    least = NEARER * np.abs(value - level)
    for _ in range(STEPS):
        slope = np.einsum("nd,nd->n", gradient, along)
        tried = np.clip(step - ratio(value - level, slope), -reach, reach)
        tried_value, tried_gradient = in_chunks(value_and_gradient, middles + tried[:, None] * along)
        better = np.abs(tried_value - level) < np.abs(value - level)
        step, value = np.where(better, tried, step), np.where(better, tried_value, value)
        gradient = np.where(better[:, None], tried_gradient, gradient)
    return middles + step[:, None] * along, gradient, (step != 0) & (np.abs(value - level) <= least)


def _divided(cells: Index, marks: Index, vertices: Array) -> tuple[Index, Index]:
    """Cells (F, d), each divided at the vertices (F, edges) on its edges, -1 without one; and the cell of each part.

    A quadrilateral that is left beside a triangle's corner is divided by its shorter diagonal.
    """
    if cells.shape[1] == 2:
        (a, b), middle, every = cells.T, marks[:, 0], np.arange(len(cells))
        return np.stack([[a, middle], [middle, b]]).transpose(0, 2, 1).reshape(-1, 2), np.tile(every, 2)
    count = (marks >= 0).sum(axis=1)
    kinds = []
    for turn in range(3):
        (a, b, c), (ab, bc, ca) = np.roll(cells, -turn, axis=1).T, np.roll(marks, -turn, axis=1).T
        one, two = (count == 1) & (ab >= 0), (count == 2) & (ca < 0)
        diagonals = (np.linalg.norm(vertices[x] - vertices[y], axis=1) for x, y in ((ab, c), (a, bc)))
        from_side = np.less(*diagonals)
        kinds += [
            (one, ((a, ab, c), (ab, b, c))),
            (two, ((ab, b, bc),)),
            (two & from_side, ((a, ab, c), (ab, bc, c))),
            (two & ~from_side, ((a, ab, bc), (a, bc, c))),
        ]
    (a, b, c), (ab, bc, ca) = cells.T, marks.T
    kinds.append((count == 3, ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))))
    parts = [(np.stack(corners, axis=1)[where], np.flatnonzero(where)) for where, of in kinds for corners in of]
    return np.concatenate([triangles for triangles, _ in parts]), np.concatenate([parents for _, parents in parts])
