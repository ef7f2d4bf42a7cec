"""A field on sparse grids: sums of quadratic B-splines (C¹) at several spacings, zero away from their nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]
Reals = npt.NDArray[np.floating[Any]]
Nodes = npt.NDArray[np.int64]

BITS = 20  # of a node's index along an axis, in its key: 2^20 nodes along a side
BRICK = 4  # cells along the side of a brick, whose coefficients lie together in memory
CHUNK = 1 << 15  # points at a time


def keys_of(nodes: Nodes) -> npt.NDArray[np.int64]:
    """One number (N,) for each node (N, d), in lexicographic order."""
    shifted = nodes + (1 << (BITS - 1))
    key = shifted[:, 0].copy()
    for axis in range(1, nodes.shape[1]):
        key = (key << BITS) | shifted[:, axis]
    return key


def nodes_of(keys: npt.NDArray[np.int64], d: int) -> Nodes:
    """The nodes (N, d) of keys (N,): the inverse of ``keys_of``."""
    parts = [(keys >> (BITS * (d - 1 - axis))) & ((1 << BITS) - 1) for axis in range(d)]
    return np.stack(parts, axis=1) - (1 << (BITS - 1))


def steps(d: int, low: int = -1, high: int = 1) -> Nodes:
    """All steps (K, d) from low to high along each axis, in lexicographic order."""
    return np.array(list(product(range(low, high + 1), repeat=d)), dtype=np.int64)


def nodes_about(nodes: Nodes, rings: int) -> Nodes:
    """Nodes (N, d) and those up to so many rings about them (M, d), each once, in the order of their keys."""
    keys, d = np.unique(keys_of(nodes)), nodes.shape[1]
    for axis in range(d):
        step = np.arange(-rings, rings + 1, dtype=np.int64) << (BITS * (d - 1 - axis))
        keys = np.unique(keys[:, None] + step)
    return nodes_of(keys, d)


def spline_weights(f: Reals) -> tuple[Reals, Reals]:
    """The quadratic B-splines of the nearest node and its two neighbours, and their slopes.

    Args:
        f: the place (N, d) relative to the nearest node, -½ to ½ spacings along each axis.

    Returns:
        Values (N, d, 3) and derivatives (N, d, 3), per spacing, at the nodes -1, 0 and 1, in the precision of f.
    """
    values = np.stack([0.5 * (0.5 - f) ** 2, 0.75 - f**2, 0.5 * (0.5 + f) ** 2], axis=-1)
    return values, np.stack([f - 0.5, -2 * f, f + 0.5], axis=-1)


@dataclass(frozen=True)
class SplineGrid:
    """The sum of coefficients times the quadratic B-splines of the nodes of one grid; node i is at spacing · i.

    Attributes:
        spacing: of the nodes.
        nodes: those with a coefficient (M, d), in the order of their keys.
        coefficients: (M,) float32.
    """

    spacing: float
    nodes: Nodes
    coefficients: npt.NDArray[np.float32]

    @cached_property
    def _bricks(self) -> tuple[Tensor, Tensor]:
        """Keys of the bricks, ascending, and the coefficients (B + 1, 6^d) in and about each; the last are zero."""
        d, width = self.nodes.shape[1], BRICK + 2
        keys, places, owners = [], [], []
        home = self.nodes // BRICK
        own, strides = self.nodes - BRICK * home, width ** np.arange(d)[::-1]
        beside = {-1: own == 0, 0: np.ones_like(own, dtype=bool), 1: own == BRICK - 1}  # of which bricks, axis by axis
        for step in steps(d):
            near = np.flatnonzero(np.logical_and.reduce([beside[s][:, axis] for axis, s in enumerate(step)]))
            keys.append(keys_of(home[near] + step))
            places.append((own[near] - BRICK * step + 1) @ strides)
            owners.append(near)
        unique, brick = np.unique(np.concatenate(keys), return_inverse=True)
        held = np.zeros((len(unique) + 1, width**d), dtype=np.float32)
        held[brick, np.concatenate(places)] = self.coefficients[np.concatenate(owners)]
        return torch.from_numpy(unique), torch.from_numpy(held)

    def value(self, x: Tensor) -> Tensor:
        """The sum (N,) at points (N, d)."""
        about, values, _ = self._about(x)
        return _contract(about, [values[:, axis] for axis in range(x.shape[1])])

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sum (N,) and its gradient (N, d) at points (N, d)."""
        about, values, slopes = self._about(x)
        axes = range(x.shape[1])
        gradient = [_contract(about, [(slopes if a == axis else values)[:, a] for a in axes]) for axis in axes]
        return _contract(about, [values[:, a] for a in axes]), torch.stack(gradient, dim=-1)

    def _about(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The coefficients (N, 3, …) about points (N, d), and values and slopes (N, d, 3) of their splines."""
        d, width = x.shape[1], BRICK + 2
        keys, held = self._bricks
        place = x.double() / self.spacing
        nearest = torch.round(place)
        f = (place - nearest).float()
        node = nearest.long()
        brick = torch.div(node, BRICK, rounding_mode="floor")
        local, shifted = node - BRICK * brick, brick + (1 << (BITS - 1))
        key, first = shifted[:, 0], local[:, 0]
        for axis in range(1, d):
            key = (key << BITS) | shifted[:, axis]
            first = first * width + local[:, axis]
        found = torch.searchsorted(keys, key).clamp(max=len(keys) - 1)
        row = torch.where(keys[found] == key, found, len(keys))
        offsets = torch.from_numpy(np.ravel_multi_index(tuple(steps(d, 0, 2).T), (width,) * d))
        index = (row * width**d + first)[:, None] + offsets
        about = held.view(-1)[index.view(-1)].view(-1, *(3,) * d)
        values, slopes = map(torch.from_numpy, spline_weights(f.numpy()))
        return about, values, slopes / self.spacing


@dataclass(frozen=True)
class SplineField:
    """The sum of some grids."""

    grids: tuple[SplineGrid, ...]

    def to_plain(self) -> list[dict[str, Any]]:
        """As numbers and tensors, for a checkpoint: {spacing, nodes (M, d) int32, coefficients (M,) float32} a grid."""
        return [
            {
                "spacing": grid.spacing,
                "nodes": torch.from_numpy(grid.nodes.astype(np.int32)),
                "coefficients": torch.from_numpy(grid.coefficients),
            }
            for grid in self.grids
        ]

    @classmethod
    def from_plain(cls, plain: list[dict[str, Any]]) -> Self:
        """Take what ``to_plain`` gave."""
        return cls(
            tuple(
                SplineGrid(
                    float(grid["spacing"]), grid["nodes"].numpy().astype(np.int64), grid["coefficients"].numpy()
                )
                for grid in plain
            )
        )

    def spacing_at(self, places: Array) -> Array:
        """That of the finest grid which has a node nearest to each of some places (N, d); infinite without one (N,)."""
        least = np.full(len(places), np.inf)
        for grid in self.grids:
            there = np.isin(keys_of(np.rint(places / grid.spacing).astype(np.int64)), keys_of(grid.nodes))
            least[there] = np.minimum(least[there], grid.spacing)
        return least

    def value(self, x: Tensor) -> Tensor:
        """The sum (N,) at points (N, d)."""
        total = torch.zeros(len(x))
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK]
            for grid in self.grids:
                total[start : start + CHUNK] += grid.value(part)
        return total

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sum (N,) and its gradient (N, d) at points (N, d)."""
        total, slope = torch.zeros(len(x)), torch.zeros(x.shape)
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK]
            for grid in self.grids:
                value, gradient = grid.value_and_gradient(part)
                total[start : start + CHUNK] += value
                slope[start : start + CHUNK] += gradient
        return total, slope


def _contract(about: Tensor, weights: list[Tensor]) -> Tensor:
    """The sum (N,) of coefficients (N, 3, …) times the weights (N, 3) of each axis."""
    for axis in reversed(range(len(weights))):
        about = (about * weights[axis].reshape(-1, *(1,) * axis, 3)).sum(-1)
    return about
