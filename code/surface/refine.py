"""Vertices of an extracted surface, moved onto the level set by Newton's method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from phase_recon.surface.sparse_grid import CHUNK
from phase_recon.surface.surface import Surface
from phase_recon.utils.arrays import unit

Array = npt.NDArray[np.float64]
ValueAndGradient = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

SHORTEST = 5e-4  # × median edge: edges of a refined surface, so that readers that merge near vertices leave it closed
ENOUGH = 1e-4  # × the most that a place may move: one so near to the level set is on it


def refine(surface: Surface, value_and_gradient: ValueAndGradient, level: float = 0.0) -> Surface:
    """Vertices moved onto the level set by up to two Newton steps x - (u - level) ∇u / |∇u|², with normals along ∇u.

    value_and_gradient gives (N,) and (N, d) at float32 points (N, d). A vertex moves by at most half the
    median edge, about half a grid cell, and only where that brings its value closer to the level; and none where it
    would leave an edge shorter than SHORTEST of the median.
    """
    start, edges, median = surface.vertices, surface.edges().reshape(-1, 2), median_edge(surface)
    first_gradient, vertices, gradient = onto_level(start, np.full(len(start), 0.5 * median), value_and_gradient, level)
    while True:
        ends = vertices[edges]
        short = edges[np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) < SHORTEST * median]
        short = short[(vertices[short] != start[short]).any(axis=(1, 2))]
        if not len(short):
            break
        vertices[short], gradient[short] = start[short], first_gradient[short]
    return replace(surface, vertices=vertices, normals=unit(gradient))


def onto_level(
    start: Array, limit: Array, value_and_gradient: ValueAndGradient, level: float
) -> tuple[Array, Array, Array]:
    """Places moved onto the level set by up to two Newton steps, each no farther than its limit in all.

    Args:
        start: the places (N, d).
        limit: of each (N,); a move counts only where it brings the value closer to the level.
        value_and_gradient: of the field.
        level: of the surface.

    Returns:
        The gradient at the start, the places, and the gradient there, all (N, d).
    """
    places, off = start.copy(), np.arange(len(start))
    value, first_gradient = in_chunks(value_and_gradient, places)
    gradient = first_gradient.copy()
    for _ in range(2):
        slope = np.maximum(np.linalg.norm(gradient[off], axis=1), np.finfo(np.float32).tiny)
        far = np.abs(value[off] - level) > ENOUGH * limit[off] * slope
        off, slope = off[far], slope[far]
        if not len(off):
            break
        moved = places[off] - ((value[off] - level) / slope**2)[:, None] * gradient[off]
        away, most = np.linalg.norm(moved - start[off], axis=1), limit[off]
        moved = start[off] + (moved - start[off]) * np.minimum(1.0, most / np.maximum(away, most))[:, None]
        moved_value, moved_gradient = in_chunks(value_and_gradient, moved)
        better = np.abs(moved_value - level) < np.abs(value[off] - level)
        off = off[better]
        places[off], value[off], gradient[off] = moved[better], moved_value[better], moved_gradient[better]
    return first_gradient, places, gradient


def median_edge(surface: Surface) -> float:
    """The median length of the edges of a surface; one edge of each cell tells it."""
    first, second = surface.cells[:, 0], surface.cells[:, 1]
    return float(np.median(np.linalg.norm(surface.vertices[second] - surface.vertices[first], axis=1)))


def in_chunks(function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], points: Array) -> list[Array]:
    """Each output of a function of float32 points, gathered in double precision."""
    outputs = [
        function(torch.from_numpy(points[start : start + CHUNK].astype(np.float32)))
        for start in range(0, len(points), CHUNK)
    ]
    return [
        np.concatenate([part.detach().cpu().numpy() for part in parts]).astype(np.float64)
        for parts in zip(*outputs, strict=True)
    ]
