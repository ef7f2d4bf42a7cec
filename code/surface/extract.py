"""A field to its level set: extraction, refinement and normals."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from skimage.measure import find_contours

from phase_recon.surface.sparse_grid import CHUNK, EDGE_MARGIN, Field, SparseGrid, evaluate
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError
from phase_recon.utils.general import unique_rows, unit

Array = npt.NDArray[np.float64]
LARGE = 512  # cells along a side, from which the cost is announced
TOUCHED, BYTES_PER_SQUARE = 12, 2500  # evaluations, and bytes of memory, per cell of a side's square (measured)
SHORTEST = 5e-4  # × median edge: edges of a refined surface, so that readers that merge near vertices leave it closed
ENOUGH = 1e-4  # × half the median edge: a vertex so near to the level set is on it
SIDES = ("lower", "upper")


def extract_surface(
    field: Field,
    lower: Sequence[float] | Array,
    upper: Sequence[float] | Array,
    resolution: int,
    level: float = 0.0,
    *,
    grid_axis: Literal["longest", "shortest"] = "longest",
    allow_open: bool = False,
    announce: Callable[[str], None] | None = None,
) -> Surface:
    """The level set of a field (N, d) -> (N,), negative inside, in the box from lower (d,) to upper (d,).

    Cells are cubes (squares); resolution is their number along the box's longest or shortest side, and the
    box grows about its centre, by less than a cell, to whole cells along the others. In 3D the field is
    evaluated near the level set only; in 2D everywhere. announce receives lines about the work done.

    Raises UserError where the field is not finite, where there is no level set, where the grid does not fit into the
    memory, and, unless allow_open, where the surface leaves the box.
    """
    low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    sides = high - low
    cell = float(sides.max() if grid_axis == "longest" else sides.min()) / resolution
    cells = np.ceil(sides / cell - 1e-9).astype(np.int64)
    origin = 0.5 * (low + high) - 0.5 * cell * cells

    if announce:
        counts = " × ".join(f"{count + 1:,}" for count in cells)
        announce(f"extracting from a grid of {counts} points, at most {CHUNK:,} of them evaluated at a time")
        if len(cells) == 3 and cells.max() >= LARGE:
            announce(_cost(field, 0.5 * (low + high), cells))
    march = _march_squares if len(cells) == 2 else _march_cubes
    vertices, elements, exits, evaluations, some_value = march(field, origin, cell, cells, level)
    if not len(elements):
        sign = "positive" if some_value > 0 else "negative"
        raise UserError(
            f"the field is {sign} everywhere in the box: no level set to mesh; train longer, choose a level "
            "(plot.mc_value) within the field's range, or raise the grid's resolution"
        )
    if exits and not allow_open:
        raise _leaves_box(exits)
    if announce:
        total = int(np.prod(cells + 1))
        announce(f"evaluated {evaluations:,} times, {evaluations / total:.1%} of the {total:,} grid points")
    return Surface(origin + cell * vertices, elements)


def check_within(surface: Surface, lower: Array, upper: Array) -> None:
    """Refuse a surface that leaves the box from lower (d,) to upper (d,) in which it was extracted, and so is open.

    Raises:
        UserError: it does; the text names the sides and says what to do.
    """
    if surface.is_closed():
        return
    if surface.dimension == 2:
        ends = np.flatnonzero(np.bincount(surface.cells.ravel()) == 1)
    else:
        edges = np.sort(surface.edges().reshape(-1, 2), axis=1)
        first, kind = unique_rows(edges)
        ends = np.unique(edges[first[np.bincount(kind) == 1]])
    away = np.abs(np.stack([surface.vertices[ends] - lower, surface.vertices[ends] - upper], axis=-1))
    walls = np.unique(away.reshape(len(ends), -1).argmin(axis=1))
    raise _leaves_box({(int(wall) // 2, int(wall) % 2) for wall in walls})


def _leaves_box(exits: Collection[tuple[int, int]]) -> UserError:
    """The error of a surface that goes through some walls, each by its axis, and 1 for the upper one."""
    where = ", ".join(f"{SIDES[side]} {'xyz'[axis]}" for axis, side in sorted(exits))
    return UserError(
        f"the surface leaves the box at its {where} side: train again with a larger Ω, such as twice the "
        "train.bounding_box_scale that it had (1.5 by default); of an open cloud, such as terrain or one view, "
        "plot.trim=open (--eval --trim open) keeps the part that the points show"
    )


def _cost(field: Field, place: Array, cells: npt.NDArray[np.int64]) -> str:
    """What a large grid is going to cost, by the speed of the field at some points and what surfaces usually touch."""
    some = np.tile(place, (CHUNK // 8, 1))
    evaluate(field, some[:1])  # the first is slower, ten times that of a field with detail
    started = time.monotonic()
    evaluate(field, some)
    speed = len(some) / (time.monotonic() - started)
    evaluations = TOUCHED * float(cells.max()) ** 2
    memory = BYTES_PER_SQUARE * float(cells.max()) ** 2 / (1 << 30)
    return (
        f"that is about {evaluations / 1e6:.0f} million evaluations, {1.5 * evaluations / speed:.0f} s, "
        f"and {memory:.1f} GiB of memory"
    )


Marched = tuple[Array, npt.NDArray[np.int64], set[tuple[int, int]], int, float]


def _march_cubes(
    field: Field, origin: Array, cell: float, cells: npt.NDArray[np.int64], level: float
) -> Marched:
    """Vertices in grid coordinates, triangles, sides left, evaluations made, and a value of the field."""
    grid = SparseGrid(field, origin, cell, cells, level)
    vertices, triangles = grid.triangulate()
    return vertices, triangles, grid.exits, grid.evaluations, grid.any_value


def _march_squares(
    field: Field, origin: Array, cell: float, cells: npt.NDArray[np.int64], level: float
) -> Marched:
    """As _march_cubes, for segments, on every point of the grid."""
    index = np.stack(np.meshgrid(*(np.arange(n + 1) for n in cells), indexing="ij"), axis=-1)
    values = evaluate(field, origin + cell * index.reshape(-1, 2)).astype(np.float64) - level
    values = values.reshape(cells + 1)
    inside = values < 0
    crossing = [np.diff(inside, axis=axis) for axis in range(2)]
    if not any(c.any() for c in crossing):
        return np.empty((0, 2)), np.empty((0, 2), dtype=np.int64), set(), values.size, float(values.flat[0])

    # values near the level would give segments nearly without length
    steps = [np.abs(np.diff(values, axis=axis))[c] for axis, c in enumerate(crossing)]
    least = EDGE_MARGIN * np.median(np.concatenate(steps))
    values = np.where(inside, np.minimum(values, -least), np.maximum(values, least))

    exits = {
        (axis, side) for axis in range(2) for side in (0, 1) if np.diff(inside.take(-side, axis=axis)).any()
    }
    vertices, segments, count = [], [], 0
    for line in find_contours(values, 0.0):  # type: ignore[no-untyped-call]  # counter-clockwise around low values
        closed = np.array_equal(line[0], line[-1])
        points = line[:-1] if closed else line
        start = np.arange(len(points) if closed else len(points) - 1)
        vertices.append(points)
        segments.append(np.stack((start, (start + 1) % len(points)), axis=1) + count)
        count += len(points)
    return np.concatenate(vertices), np.concatenate(segments), exits, values.size, float(values.flat[0])


def refine(
    surface: Surface,
    value_and_gradient: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    level: float = 0.0,
) -> Surface:
    """Vertices moved onto the level set by up to two Newton steps x - (u - level) ∇u / |∇u|², with normals along ∇u.

    value_and_gradient gives (N,) and (N, d) at float32 points (N, d). A vertex moves by at most half the
    median edge, about half a grid cell, and only where that brings its value closer to the level; and none where it
    would leave an edge shorter than SHORTEST of the median.
    """
    start = surface.vertices
    edges = surface.edges()
    median = float(np.median(np.linalg.norm(start[edges[:, 0, 1]] - start[edges[:, 0, 0]], axis=1)))
    limit, edges = 0.5 * median, edges.reshape(-1, 2)
    vertices, off = start.copy(), np.arange(len(start))
    first_value, first_gradient = _in_chunks(value_and_gradient, vertices)
    value, gradient = first_value.copy(), first_gradient.copy()
    for _ in range(2):
        slope = np.maximum(np.linalg.norm(gradient[off], axis=1), np.finfo(np.float32).tiny)
        off, slope = (of[np.abs(value[off] - level) > ENOUGH * limit * slope] for of in (off, slope))
        if not len(off):
            break
        moved = vertices[off] - ((value[off] - level) / slope**2)[:, None] * gradient[off]
        away = np.linalg.norm(moved - start[off], axis=1, keepdims=True)
        moved = start[off] + (moved - start[off]) * np.minimum(1.0, limit / np.maximum(away, limit))
        moved_value, moved_gradient = _in_chunks(value_and_gradient, moved)
        better = np.abs(moved_value - level) < np.abs(value[off] - level)
        off = off[better]
        vertices[off], value[off], gradient[off] = moved[better], moved_value[better], moved_gradient[better]
    while True:
        ends = vertices[edges]
        short = edges[np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) < SHORTEST * median]
        short = short[(vertices[short] != start[short]).any(axis=(1, 2))]
        if not len(short):
            break
        vertices[short], gradient[short] = start[short], first_gradient[short]
    return replace(surface, vertices=vertices, normals=unit(gradient))


def _in_chunks(function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], points: Array) -> list[Array]:
    """Each output of a function of float32 points, gathered in double precision."""
    outputs = [
        function(torch.from_numpy(points[start : start + CHUNK].astype(np.float32)))
        for start in range(0, len(points), CHUNK)
    ]
    return [
        np.concatenate([part.detach().cpu().numpy() for part in parts]).astype(np.float64)
        for parts in zip(*outputs, strict=True)
    ]
