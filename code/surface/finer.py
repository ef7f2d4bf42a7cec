"""A mesh made finer where its field is: long edges are halved, and their middles go onto the level set.

Cells of one size fit most of a surface. Where a scanner came close, the field's grid is finer than they are, and what
it holds lies between their vertices.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from phase_recon.surface.division import different_edges, divided_at
from phase_recon.surface.refine import SHORTEST, ValueAndGradient, median_edge, onto_level
from phase_recon.surface.surface import Surface
from phase_recon.utils.arrays import unit

Array = npt.NDArray[np.float64]

LONGEST = 3**0.5  # × side of a cell: the longest edge of a mesh by marching cubes, the diagonal of its cell
REACH = 0.5  # × edge: how far its middle is moved at most
ROUNDS = 6  # of halving, at most: no edge becomes shorter than a 64th of what it was


def made_finer(
    surface: Surface, value_and_gradient: ValueAndGradient, cell_at: Callable[[Array], Array], level: float = 0.0
) -> Surface:
    """A surface whose edges are no longer than the diagonals of the cells that are wanted where they end.

    Args:
        surface: on the level set, with normals.
        value_and_gradient: of the field: (N,) and (N, d) at float32 points (N, d).
        cell_at: the side of a cell (N,) that is wanted at places (N, d).
        level: of the surface.

    An edge stays as it is where one would be shorter than SHORTEST of the median, and where a cell would be turned
    over.
    """
    least = SHORTEST * median_edge(surface)
    for _ in range(ROUNDS):
        long = surface.edge_lengths() > LONGEST * cell_at(surface.vertices)[surface.edges()].min(axis=2)
        if not long.any():
            break
        ends, numbers = different_edges(surface, long)
        start, end = surface.vertices[ends].transpose(1, 0, 2)
        reach = REACH * np.linalg.norm(end - start, axis=1)
        _, places, gradients = onto_level(0.5 * (start + end), reach, value_and_gradient, level)
        surface = divided_at(surface, numbers, places, unit(gradients), np.arange(len(ends)), least)
    return surface
