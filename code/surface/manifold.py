"""Edges that bound four triangles, made two edges of two (derived).

Marching cubes leaves such an edge where two sheets of a surface meet in one face of a cell, as walls do that are hardly
thicker than a cell. The mesh is closed then, but for most readers it is not.
"""

import numpy as np
import numpy.typing as npt

from phase_recon.surface.surface import Surface

Array = npt.NDArray[np.float64]

TINY = float(np.finfo(np.float64).tiny)
ASIDE = 0.05  # × length of the edge: how far the middle of the second edge is moved between its triangles


def with_single_edges(surface: Surface) -> Surface:
    """A surface in space in which each edge that bounded four triangles, two each way, is two edges.

    Of the four triangles, the two that lie the nearest together get an edge of their own, bent at its middle, which is
    off the level set by at most ASIDE of its length.

    Args:
        surface: whose vertices have no normals and no colours yet.
    """
    vertices, cells = surface.vertices, surface.cells
    start, end = cells.ravel(), np.roll(cells, -1, axis=1).ravel()
    key = np.minimum(start, end) * len(vertices) + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    fourfold = first[np.diff(first, append=len(order)) == 4]
    if not len(fourfold):
        return surface
    kept = np.ones(len(cells), dtype=bool)
    more: list[Array] = []
    halves: list[list[int]] = []
    for place in fourfold:
        sides = order[place : place + 4]
        a = min(start[sides[0]], end[sides[0]])
        forward, backward = sides[start[sides] == a], sides[start[sides] != a]
        if len(forward) != 2 or not kept[sides // 3].all():  # of a triangle one edge at a time
            continue
        b = end[forward[0]]
        towards = {int(side): _across(vertices, a, b, cells[side // 3, (side + 2) % 3]) for side in sides}
        tips = {side: cells[side // 3, (side + 2) % 3] for side in towards}
        pairs = [(int(f), int(g)) for f in forward for g in backward if tips[int(f)] != tips[int(g)]]
        if not pairs:  # one triangle twice, each way
            continue
        pair = max(pairs, key=lambda p: float(towards[p[0]] @ towards[p[1]]))
        length = np.linalg.norm(vertices[b] - vertices[a])
        middle = 0.5 * (vertices[a] + vertices[b]) + ASIDE * length * 0.5 * (towards[pair[0]] + towards[pair[1]])
        for side in pair:
            kept[side // 3] = False
            number = len(vertices) + len(more)
            halves += [[start[side], number, tips[side]], [number, end[side], tips[side]]]
        more.append(middle)
    split = Surface(
        np.concatenate([vertices, np.reshape(more, (-1, 3))]),
        np.concatenate([cells[kept], np.reshape(halves, (-1, 3)).astype(cells.dtype)]),
    )
    return with_single_edges(split) if more else surface


def _across(vertices: Array, a: int, b: int, tip: int) -> Array:
    """The unit vector (3,) from the line of an edge from a to b to a vertex off it."""
    along = _unit(vertices[b] - vertices[a])
    step = vertices[tip] - vertices[a]
    return _unit(step - (step @ along) * along)


def _unit(vector: Array) -> Array:
    """The vector (3,) at length 1, or zero."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), TINY))
