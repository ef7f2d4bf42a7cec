"""Edges that bound four triangles, made two edges of two (derived).

Marching cubes leaves such an edge where two sheets of a surface meet in one face of a cell, as walls do that are hardly
thicker than a cell. The mesh is closed then, but for most readers it is not.
"""

import numpy as np
import numpy.typing as npt

from phase_recon.surface.surface import Surface
from phase_recon.utils.arrays import unit

Array = npt.NDArray[np.float64]

ASIDE = 0.05  # × length of the edge: how far the middle of the second edge is moved between its triangles


def with_single_edges(surface: Surface) -> Surface:
    """A surface in space in which each edge that bounded four triangles, two each way, is two edges.

    Of the four triangles, the two that lie the nearest together get an edge of their own, bent at its middle, which is
    off the level set by at most ASIDE of its length.

    Args:
        surface: whose vertices have no normals and no colours yet.
    """
    vertices, cells = surface.vertices, surface.cells
    start, end = surface.edges().reshape(-1, 2).T
    tip = np.roll(cells, 1, axis=1).ravel()  # the vertex across from each side
    key = np.minimum(start, end) * len(vertices) + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    fourfold = first[np.diff(first, append=len(order)) == 4]
    kept = np.ones(len(cells), dtype=bool)
    middles: list[Array] = []
    halves: list[list[int]] = []
    for place in fourfold:
        sides = order[place : place + 4]
        a, b = start[sides[0]], end[sides[0]]
        forward = start[sides] == a
        if forward.sum() != 2 or not kept[sides // 3].all():  # of a triangle one edge at a time
            continue
        along, steps = vertices[b] - vertices[a], vertices[tip[sides]] - vertices[a]
        across = unit(steps - np.outer(steps @ unit(along), unit(along)))
        cosine = across @ across.T
        cosine[(forward[:, None] == forward) | (tip[sides][:, None] == tip[sides])] = -np.inf
        if cosine.max() == -np.inf:  # one triangle twice, each way
            continue
        pair = np.array(np.unravel_index(cosine.argmax(), cosine.shape))
        number = len(vertices) + len(middles)
        aside = ASIDE * np.linalg.norm(along) * across[pair].mean(axis=0)
        middles.append(vertices[[a, b]].mean(axis=0) + aside)
        for side in sides[pair]:
            kept[side // 3] = False
            halves += [[start[side], number, tip[side]], [number, end[side], tip[side]]]
    if not middles:
        return surface
    split = Surface(np.concatenate([vertices, middles]), np.concatenate([cells[kept], np.array(halves)]))
    return with_single_edges(split)
