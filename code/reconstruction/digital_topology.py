"""Which nodes of a grid cannot change sides without joining parts of that side which are apart (digital topology).

A body is the nodes that are inside, and two of them meet if they share a face of their cells; outside, a corner is
enough (Kong & Rosenfeld 1989). A node that changes sides links nothing if the neighbours that it comes to are in one
piece. A body is taken into another node by node, each one at its turn (after Han, Xu & Prince 2003, who allow only what
changes no topology at all). Where the other body has a handle that the first lacks, or is one where the first is two,
nodes stay as they were: those where the parts would meet, and those that have no neighbour on their new side. In space,
handles may be closed on the way, hollows closed off, and parts come apart.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from phase_recon.model.grid import keys_of, steps

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]

LEVELS = 8  # shares of the nodes, by their order, that are taken one after the other; within one all are alike


def linking_nodes(nodes: Index, inside: Bools, changing: Index, order: Array) -> Index:
    """Those of the nodes that are to change sides that cannot without a link, as numbers of ``nodes`` (K,).

    Args:
        nodes: of a grid (M, d), in the order of their keys: those that change and all their neighbours.
        inside: on which side each is (M,).
        changing: the numbers of those that are to change (N,).
        order: of these (N,): the least come first, so that the parts meet where it is greatest.
    """
    if not len(changing):
        return changing
    d = nodes.shape[1]
    sides, beside = inside.copy(), _neighbours(nodes, changing)
    turn = (nodes[changing] & 1) @ (1 << np.arange(d))  # of one turn none is another's neighbour
    level = np.searchsorted(np.quantile(order, np.arange(1, LEVELS) / LEVELS), order)
    waiting = np.ones(len(changing), dtype=bool)
    for last in range(LEVELS):
        before = len(changing) + 1
        while (left := int(waiting.sum())) < before:
            before = left
            for this in range(1 << d):
                asked = np.flatnonzero(waiting & (level <= last) & (turn == this))
                free = asked[links_nothing(sides[beside[asked]], sides[changing[asked]], d)]
                sides[changing[free]] ^= True
                waiting[free] = False
    return changing[waiting]


def links_nothing(beside: Bools, inside: Bools, d: int) -> Bools:
    """Whether nodes (N,) that leave their side come to neighbours in one piece.

    Args:
        beside: which neighbours are inside (N, 3^d - 1), in the order of ``steps``.
        inside: whether the nodes are (N,).
        d: 2 or 3.
    """
    about, free = _neighbourhood(d), np.empty(len(inside), dtype=bool)
    every = np.ones_like(about.at_face)
    free[~inside] = _one_piece(beside[~inside] & about.near, about.by_face, about.at_face)
    free[inside] = _one_piece(~beside[inside], about.by_corner, every)
    return free


class _Neighbourhood(NamedTuple):
    """The K = 3^d - 1 neighbours of a node.

    Attributes:
        by_face: which of them share a face with which, or are the same (K, K), as numbers.
        by_corner: which share a corner, or are the same (K, K), as numbers.
        at_face: which share a face with the node (K,).
        near: which share an edge with it, or a face (K,); no path over faces leads through the others.
    """

    by_face: npt.NDArray[np.float32]
    by_corner: npt.NDArray[np.float32]
    at_face: Bools
    near: Bools


@cache
def _neighbourhood(d: int) -> _Neighbourhood:
    about = _steps_away(d)
    apart = np.abs(about[:, None] - about)
    by_face, by_corner = apart.sum(axis=-1) <= 1, apart.max(axis=-1) <= 1
    away = np.abs(about).sum(axis=1)
    return _Neighbourhood(by_face.astype(np.float32), by_corner.astype(np.float32), away == 1, away <= 2)


def _one_piece(some: Bools, meet: npt.NDArray[np.float32], touching: Bools) -> Bools:
    """Whether those of some neighbours (N, K) that touch the node are in one piece, and there are any."""
    ends = some & touching
    reached = np.zeros_like(some)
    reached[np.arange(len(some)), ends.argmax(axis=1)] = True
    reached &= ends
    while True:
        more = (reached.astype(np.float32) @ meet > 0) & some
        if np.array_equal(more, reached):
            return np.asarray(ends.any(axis=1) & ~(ends & ~reached).any(axis=1))
        reached = more


def _neighbours(nodes: Index, some: Index) -> Index:
    """The numbers of the neighbours (N, 3^d - 1) of some nodes (N,) among nodes (M, d), which has them all."""
    keys, of = keys_of(nodes), nodes[some]
    return np.stack([np.searchsorted(keys, keys_of(of + step)) for step in _steps_away(nodes.shape[1])], axis=1)


def _steps_away(d: int) -> Index:
    """The steps (3^d - 1, d) to the neighbours of a node."""
    about = steps(d)
    return about[about.any(axis=1)]
