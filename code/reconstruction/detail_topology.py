"""Keeps the detail from linking what the network has apart: it makes no handles, and joins no bodies.

Where points are few, as on a side of a rib that hardly a ray saw, the network's surface is smooth, and the detail would
tear holes into it or bridge it. So the corrected field is compared with the network's at the nodes of the detail's
grid, and about it. Where nodes can change sides only by a link (``digital_topology``), the detail is left out about
them. It may close handles, but makes none, joins no bodies, and begins none. What is finer than the grid is not seen.
"""

import numpy as np
import numpy.typing as npt
import torch

from phase_recon.model.grid import SplineField, SplineGrid, keys_of, nodes_about
from phase_recon.reconstruction.digital_topology import linking_nodes
from phase_recon.reconstruction.field import DetailedField

Values = npt.NDArray[np.float32]
Nodes = npt.NDArray[np.int64]

RINGS = 2  # of nodes without detail about one that links; splines reach 1.5 spacings, so that it is zero there
ROUNDS = 4  # at most: where the detail ends, others may link; after three hardly any did


def without_links(field: DetailedField, detail: SplineField) -> tuple[SplineField, int]:
    """The part of a detail that links nothing, without a grid if that is nothing, and how many nodes would link.

    Args:
        field: what the detail is to be added to.
        detail: of one grid.
    """
    (grid,) = detail.grids
    nodes = nodes_about(grid.nodes, 1)  # of these alone the splines reach beyond the grid
    keys = keys_of(nodes)
    before, places = _field_at(field, grid.spacing, nodes), 0
    for _ in range(ROUNDS):
        after = before + _detail_at(grid, nodes)
        changes = np.flatnonzero((before < 0) != (after < 0))
        about = nodes_about(nodes[changes], 1)  # some of which are farther out
        place = np.minimum(np.searchsorted(keys, keys_of(about)), len(keys) - 1)
        values, unknown = before[place], (nodes[place] != about).any(axis=1)
        values[unknown] = _field_at(field, grid.spacing, about[unknown])
        changing = np.searchsorted(keys_of(about), keys[changes])
        share = np.abs(before[changes] / (after - before)[changes])  # of the detail, with which the side changes
        linking = linking_nodes(about, values < 0, changing, share)
        if not len(linking):
            break
        places += len(linking)
        left = ~np.isin(keys_of(grid.nodes), keys_of(nodes_about(about[linking], RINGS)))
        grid = SplineGrid(grid.spacing, grid.nodes[left], grid.coefficients[left])
        if not left.any():
            return SplineField(()), places
    return SplineField((grid,)), places


def _field_at(field: DetailedField, spacing: float, nodes: Nodes) -> Values:
    """The field (M,) at nodes (M, d) of a grid, normalised."""
    from phase_recon.surface.sparse_grid import evaluate  # half a second, and not before the first step

    return evaluate(field.normalised, np.float64(spacing) * nodes)


def _detail_at(grid: SplineGrid, nodes: Nodes) -> Values:
    """The detail (M,) at nodes (M, d), normalised."""
    value = SplineField((grid,)).value(torch.from_numpy((nodes * grid.spacing).astype(np.float32)))
    return np.asarray(value.numpy())
