"""Regular nodes in a box, and those on its walls."""

import numpy as np

from phase_recon.geometry.points import Array


def lattice(lower: Array, upper: Array, count: int) -> Array:
    """The nodes (count^d, d) of a lattice in a box, its walls included, the last axis running fastest.

    Args:
        lower: corner of the box (d,).
        upper: the opposite corner (d,).
        count: nodes along each axis.
    """
    ticks = [np.linspace(low, high, count) for low, high in zip(lower, upper, strict=True)]
    return np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, len(lower))


def walls(lower: Array, upper: Array, count: int) -> Array:
    """The nodes (N, d) of ``lattice`` that lie on the walls of the box."""
    nodes = lattice(lower, upper, count)
    return np.asarray(nodes[np.any((nodes == lower) | (nodes == upper), axis=1)], dtype=np.float64)
