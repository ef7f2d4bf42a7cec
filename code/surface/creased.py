"""The creases of an extracted surface: edges that cut a corner off, each split at the level set.

Marching cubes puts vertices on the edges of its grid, hardly ever on a crease. So the mesh goes across the crease in
chords, and looks like a saw there. With its middle moved up to the crease, a chord becomes two that lie on the surface.
"""

import numpy as np
import numpy.typing as npt

from phase_recon.surface.division import different_edges, divided_at
from phase_recon.surface.refine import SHORTEST, ValueAndGradient, in_chunks, median_edge
from phase_recon.surface.surface import Surface
from phase_recon.utils.arrays import ratio, unit

Array = npt.NDArray[np.float64]

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
    known = np.asarray(surface.normals.any(axis=1))[edges].all(axis=2)
    turns = known & (np.einsum("fed,fed->fe", *np.moveaxis(surface.normals[edges], 2, 0)) < SMOOTH)
    if not turns.any():
        return surface
    ends, numbers = different_edges(surface, turns)
    crossing = surface.vertices[ends], surface.normals[ends]
    places, gradients, there = _up_to_the_crease(*crossing, value_and_gradient, level)
    least = SHORTEST * median_edge(surface)
    return divided_at(surface, numbers, places, unit(gradients), np.flatnonzero(there), least)


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
