"""A field to its level set, and the refusal of one that leaves its box."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from skimage.measure import find_contours

from phase_recon.surface.manifold import with_single_edges
from phase_recon.surface.sparse_grid import CHUNK, EDGE_MARGIN, SparseGrid, TensorFunction, evaluate
from phase_recon.surface.surface import Surface
from phase_recon.utils.arrays import unique_rows
from phase_recon.utils.errors import UserError

Array = npt.NDArray[np.float64]
LARGE = 512  # cells along a side, from which the cost is announced
TOUCHED, BYTES_PER_SQUARE = 12, 2500  # evaluations, and bytes of memory, per cell of a side's square (measured)
SIDES = ("lower", "upper")


def extract_surface(
    field: TensorFunction,
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
    evaluated near the level set only; in 2D everywhere. An edge of four triangles is made two, one of them bent off the
    level set (``surface.manifold``). announce receives lines about the work done.

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
    surface = Surface(origin + cell * vertices, elements)
    return with_single_edges(surface) if len(cells) == 3 else surface


def check_within(surface: Surface, lower: Array, upper: Array) -> None:
    """Refuse a surface that leaves the box from lower (d,) to upper (d,) in which it was extracted, and so is open.

    Raises:
        UserError: it does; the text names the sides and says what to do.
    """
    if surface.dimension == 2:
        ends = np.flatnonzero(np.bincount(surface.cells.ravel()) == 1)
    else:
        edges = np.sort(surface.edges().reshape(-1, 2), axis=1)
        first, kind = unique_rows(edges)
        ends = np.unique(edges[first[np.bincount(kind) == 1]])
    if not len(ends):
        return
    away = np.abs(np.stack([surface.vertices[ends] - lower, surface.vertices[ends] - upper], axis=-1))
    walls = np.unique(away.reshape(len(ends), -1).argmin(axis=1))
    raise _leaves_box({(int(wall) // 2, int(wall) % 2) for wall in walls})


def _leaves_box(exits: Collection[tuple[int, int]]) -> UserError:
    """The error of a surface that goes through some walls, each by its axis, and 1 for the upper one."""
    where = ", ".join(f"{SIDES[side]} {'xyz'[axis]}" for axis, side in sorted(exits))
    return UserError(
        f"the surface leaves the box at its {where} side: train again with a larger Ω, "
        "--set train.bounding_box_scale=3 (1.5 by default); of an open cloud, such as terrain or one view, "
        "plot.trim=open (--eval --trim open) keeps the part that the points show"
    )


def _cost(field: TensorFunction, place: Array, cells: npt.NDArray[np.int64]) -> str:
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
    field: TensorFunction, origin: Array, cell: float, cells: npt.NDArray[np.int64], level: float
) -> Marched:
    """Vertices in grid coordinates, triangles, sides left, evaluations made, and a value of the field."""
    grid = SparseGrid(field, origin, cell, cells, level)
    vertices, triangles = grid.triangulate()
    return vertices, triangles, grid.exits, grid.evaluations, grid.any_value


def _march_squares(
    field: TensorFunction, origin: Array, cell: float, cells: npt.NDArray[np.int64], level: float
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
