"""A mesh whose flat cells lie on both sides of the curved surface that it stands for.

With all vertices on the surface, every cell lies on its inner side where it is convex, and on its outer side where it
is concave: balls are too small and holes too wide. Moved along their normals until the cells lie as much on the one
side as on the other, the vertices make a mesh that has the surface's volume, and comes more than twice as near to it.
"""

from dataclasses import replace

import numpy as np

from phase_recon.surface.creased import SMOOTH
from phase_recon.surface.surface import Surface
from phase_recon.utils.arrays import ratio


def straddle(surface: Surface) -> Surface:
    """Vertices that lie on a surface, moved along their normals until its cells straddle it.

    The surface over a cell is its quadric to second order: over an edge e from vertex i to vertex j, with normals n,
    it bends by e · (n_j - n_i), and in the mean it lies above the cell by a twelfth of that (2D), or by a 24th of the
    sum over the three edges of a triangle (derived); but across a crease nothing is curved like a ball. A vertex moves
    by the mean of its cells, weighted by their measures, so that the volume is right to the same order.

    Args:
        surface: with normals.
    """
    assert surface.normals is not None
    d = surface.dimension
    bends = np.zeros(len(surface.cells))
    for i, j in surface.edges().transpose(1, 2, 0):
        along = surface.vertices[j] - surface.vertices[i]
        one, other = surface.normals[i], surface.normals[j]
        smooth = np.einsum("nd,nd->n", one, other) > SMOOTH
        bends += np.where(smooth, np.einsum("nd,nd->n", along, other - one), 0.0)
    measures, corners = surface.cell_measures(), surface.cells.ravel()
    above = measures * bends / (12 if d == 2 else 24)
    moved, share = (
        np.bincount(corners, np.repeat(of, d), minlength=len(surface.vertices)) for of in (above, measures)
    )
    return replace(surface, vertices=surface.vertices + ratio(moved, share)[:, None] * surface.normals)
