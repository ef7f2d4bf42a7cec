"""Cells of a surface, divided at vertices that are put on some of their edges; its topology stays."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from phase_recon.surface.surface import Surface

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


def different_edges(surface: Surface, which: npt.NDArray[np.bool_]) -> tuple[Index, Index]:
    """Some of the edges of a surface's cells, each once although two cells share it.

    Args:
        surface: with cells (F, d).
        which: the edges (F, edges) that are meant, in the order of ``Surface.edges``, true in both cells.

    Returns:
        The ends (E, 2) of each, and its number (F, edges) where ``which`` is true, -1 elsewhere.
    """
    ends = np.sort(surface.edges()[which], axis=1)
    _, first, of = np.unique(ends @ np.array([len(surface.vertices), 1]), return_index=True, return_inverse=True)
    numbers = np.full(which.shape, -1)
    numbers[which] = of
    return ends[first], numbers


def divided_at(surface: Surface, numbers: Index, places: Array, normals: Array, put: Index, least: float) -> Surface:
    """A surface with vertices put on some of its edges.

    An edge stays as it is where another would be shorter than ``least``, and where a cell would be turned over.

    Args:
        surface: with normals.
        numbers: of its edges (F, edges), from ``different_edges``.
        places: for a vertex of each edge (E, d).
        normals: there (E, d).
        put: the edges (M,) that get it.
        least: length of an edge.
    """
    assert surface.normals is not None
    count = len(surface.vertices)
    vertices = np.concatenate([surface.vertices, places])
    there = np.zeros(len(places) + 1, dtype=bool)  # the last, number -1, is no edge
    there[put] = True
    while True:
        crossed = there[numbers].any(axis=1)
        whole, about = replace(surface, cells=surface.cells[crossed]), numbers[crossed]
        parts, parents = _divided(whole.cells, np.where(there[about], count + about, -1), vertices)
        finer = Surface(vertices, parts)
        over = np.einsum("nd,nd->n", finer.cell_vectors(), whole.cell_vectors()[parents]) <= 0
        wrong = parts[over | (finer.edge_lengths().min(axis=1) < least)]
        wrong = wrong[wrong >= count] - count
        if not len(wrong):
            break
        there[wrong] = False
    used = np.concatenate([np.full(count, True), there[:-1]])
    cells = (np.cumsum(used) - 1)[np.concatenate([surface.cells[~crossed], parts])]
    return Surface(vertices[used], cells, np.concatenate([surface.normals, normals])[used])


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
