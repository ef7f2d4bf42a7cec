"""A field on a fine 3D grid, evaluated only near its zero set, and the triangles of that zero set.

The grid is cut into blocks of 4 cells, and these are gathered into coarse blocks of 8 cells. A block is
evaluated where its centre's value is small enough for the surface to reach it, given how fast the field
changes around there. That bound is checked, not trusted: fine values that change faster widen the search,
and the surface is followed through every block face that it crosses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import maximum_filter
from skimage.measure import marching_cubes

from phase_recon.utils.errors import UserError
from phase_recon.utils.memory import require_memory

TensorFunction = Callable[[torch.Tensor], torch.Tensor]

BLOCK = 4  # cells along a block's side
COARSE = 8  # cells along a coarse block's side
SAFETY = 1.25  # on the rate of change seen
BLOCK_BYTES = 2000  # of memory per block that the surface touches: its 125 values, copied, and its triangles (measured)
SEEN_BYTES = 20  # of memory per block of the whole grid: its centre's value, and whether it was seen (derived)
COARSE_BYTES = 120  # the same per coarse block: its place, its value and its slope (derived)
CHUNK = 2**18  # points in one evaluation of the field
CHUNK_BLOCKS = 2**15  # blocks whose corners are gathered at once
SLAB_VOXELS = 2**25  # grid points that marching cubes sees at once
HALF_WAY = np.sqrt((np.indices((BLOCK + 1,) * 3) % 2).sum(axis=0)).astype(np.float32)  # cells to the next even corner
EDGE_MARGIN = 1e-3  # vertices keep this distance, in cells, from the ends of their edge, and so from each other


def evaluate(field: TensorFunction, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The field (N,) at points (N, d). Raises UserError where it is not finite."""
    values = np.empty(len(points), dtype=np.float32)
    with torch.no_grad():
        for start in range(0, len(points), CHUNK):
            chunk = torch.from_numpy(points[start : start + CHUNK].astype(np.float32))
            values[start : start + CHUNK] = field(chunk).cpu().numpy()
    bad = len(values) - int(np.isfinite(values).sum())
    if bad:
        raise UserError(
            f"the field is not finite at {bad} of {len(values)} grid points: the training has diverged; "
            "mesh an earlier checkpoint, or train again with a smaller learning rate"
        )
    return values


class SparseGrid:
    """A field minus its level on cubical cells, known near the zero set only.

    origin (3,) is the grid's lowest corner, cell the side of a cell, cells (3,) their number along each
    axis. After construction every block that the zero set is seen to touch has been evaluated.
    """

    def __init__(
        self,
        field: TensorFunction,
        origin: npt.NDArray[np.float64],
        cell: float,
        cells: npt.NDArray[np.int64],
        level: float,
    ) -> None:
        self.field, self.origin, self.cell, self.cells, self.level = field, origin, cell, cells, level
        self.evaluations = 0
        self.exits: set[tuple[int, int]] = set()  # (axis, side) where the zero set leaves the grid
        self.block_count = -(-cells // BLOCK)
        self.blocks = np.empty((0, 3), dtype=np.int64)
        self.values = np.empty((0, *(BLOCK + 1,) * 3), dtype=np.float32)  # at the corners of each block
        self._trace()

    def _sample(self, index: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The field minus the level (N,) at grid coordinates (N, 3)."""
        self.evaluations += len(index)
        values = evaluate(self.field, self.origin + self.cell * index)
        return values - np.float32(self.level)

    def _sample_lattice(self, ticks: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """The field minus the level at all grid coordinates made of the ticks of each axis."""
        index = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1)
        return self._sample(index.reshape(-1, 3)).reshape(index.shape[:-1])

    def _trace(self) -> None:
        """Evaluate the blocks that can hold the zero set, until it leaves none of them unseen."""
        ticks = [np.minimum(COARSE * np.arange(-(-n // COARSE) + 1), n) for n in self.cells]
        require_memory(
            SEEN_BYTES * math.prod(self.block_count.tolist()) + COARSE_BYTES * math.prod(map(len, ticks)),
            f"a grid of {' × '.join(map(str, self.cells))} cells",
            "choose a coarser plot.resolution, or leave plot.is_uniform_grid = true",
        )
        coarse = self._sample_lattice([0.5 * (tick[1:] + tick[:-1]) for tick in ticks])
        slope = _slopes(coarse, self._sample_lattice(ticks), ticks)
        self.any_value = float(coarse.flat[0])
        typical = np.median(slope)

        centre = np.full(self.block_count, np.nan, dtype=np.float32)
        done = np.zeros(self.block_count, dtype=bool)
        crossed = np.zeros(self.block_count, dtype=bool)
        ratio = COARSE // BLOCK
        while True:
            bound = SAFETY * np.maximum(maximum_filter(slope, size=3), typical)
            near = np.abs(coarse) <= bound * (np.sqrt(3) * COARSE / 2)
            for axis in range(3):
                near = near.repeat(ratio, axis=axis)
            near = near[tuple(slice(n) for n in self.block_count)]

            unseen = np.argwhere(near & np.isnan(centre))
            ends = np.minimum(BLOCK * (unseen + 1), self.cells)
            centre[tuple(unseen.T)] = self._sample(0.5 * (BLOCK * unseen + ends))

            candidates = np.argwhere(near & ~done)
            reach = bound[tuple((candidates // ratio).T)] * (np.sqrt(3) * BLOCK / 2)
            candidates = candidates[np.abs(centre[tuple(candidates.T)]) <= reach]
            wanted = crossed.copy()
            wanted[tuple(candidates.T)] = True
            for axis in range(3):  # and wherever the sign changes between two centres
                signs, both = np.moveaxis(np.sign(centre), axis, 0), np.moveaxis(wanted, axis, 0)
                change = signs[1:] * signs[:-1] < 0
                both[1:] |= change
                both[:-1] |= change
            wanted &= ~done
            new = np.argwhere(wanted)
            if not len(new):
                return
            done |= wanted
            coarse_block = tuple((new // ratio).T)
            values, steepest = self._evaluate_blocks(new, bound[coarse_block])
            np.maximum.at(slope, coarse_block, steepest)
            self._follow(new, values, crossed)

    def _evaluate_blocks(
        self, blocks: npt.NDArray[np.int64], bound: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Evaluate and keep the corner values (B, 5, 5, 5) of blocks (B, 3); and the steepest slopes seen there (B,).

        Every second corner is evaluated, and those others whose sign is open if the field changes by ``bound`` (B,) a
        cell at most, or that have a corner of the other sign beside them. The rest get values of the right sign, which
        no triangle asks for. A block where the field is seen to be steeper is evaluated at all corners.

        Raises UserError where the surface touches more blocks than the memory holds.
        """
        require_memory(
            BLOCK_BYTES * (len(self.blocks) + len(blocks)),
            f"the surface, in {len(self.blocks) + len(blocks):,} blocks of {BLOCK}³ cells,",
            "choose a coarser plot.resolution; a surface that is nearly everywhere is noise: train longer",
        )
        parts, slopes = [], []
        for start in range(0, len(blocks), CHUNK_BLOCKS):
            x, y, z = self._corner_index(blocks[start : start + CHUNK_BLOCKS])
            numbers = np.ravel_multi_index((x, y, z), self.cells + 1)
            limit = bound[start : start + CHUNK_BLOCKS]
            values = np.empty(numbers.shape, dtype=np.float32)
            known = np.zeros(numbers.shape, dtype=bool)
            known[:, ::2, ::2, ::2] = True
            self._fill(values, numbers, known)
            even = values[:, ::2, ::2, ::2].copy()
            low, high = _between(even)
            reach = limit[:, None, None, None] * HALF_WAY
            wanted = ~known & (low <= reach) & (high >= -reach)
            values[~known] = 0.5 * (low + high)[~known]
            while wanted.any():
                self._fill(values, numbers, wanted)
                known |= wanted
                wanted = _beside_zero_set(values) & ~known
            steepest = np.maximum(_steepest(values, known), _steepest(even, np.ones(even.shape, dtype=bool)) / 2)
            self._fill(values, numbers, (steepest > limit)[:, None, None, None] & ~known)
            known[steepest > limit] = True
            parts.append(values)
            slopes.append(np.maximum(_steepest(values, known), steepest))
        values = np.concatenate(parts)
        self.blocks = np.concatenate((self.blocks, blocks))
        self.values = np.concatenate((self.values, values))
        return values, np.concatenate(slopes)

    def _fill(
        self, values: npt.NDArray[np.float32], numbers: npt.NDArray[np.int64], wanted: npt.NDArray[np.bool_]
    ) -> None:
        """Evaluate the corners (B, 5, 5, 5) that are wanted, by their numbers on the grid; shared ones once."""
        if not wanted.any():
            return
        once, place = np.unique(numbers[wanted], return_inverse=True)
        values[wanted] = self._sample(np.stack(np.unravel_index(once, self.cells + 1), axis=1))[place]

    def _corner_index(self, blocks: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
        """Grid coordinates of the corners of blocks (B, 3): three arrays that broadcast to (B, 5, 5, 5)."""
        index = np.minimum(BLOCK * blocks[:, :, None] + np.arange(BLOCK + 1), self.cells[:, None])
        return index[:, 0, :, None, None], index[:, 1, None, :, None], index[:, 2, None, None, :]

    def _follow(
        self,
        blocks: npt.NDArray[np.int64],
        values: npt.NDArray[np.float32],
        crossed: npt.NDArray[np.bool_],
    ) -> None:
        """Mark in crossed the neighbours of blocks that the zero set enters, and note where it leaves."""
        for axis, side in product(range(3), (0, 1)):
            face = np.take(values, -side, axis=1 + axis) < 0
            neighbours = blocks[face.any(axis=(1, 2)) & ~face.all(axis=(1, 2))]
            neighbours[:, axis] += 2 * side - 1
            inside = (neighbours[:, axis] >= 0) & (neighbours[:, axis] < self.block_count[axis])
            crossed[tuple(neighbours[inside].T)] = True
            if not inside.all():
                self.exits.add((axis, side))

    def triangulate(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """The zero set by marching cubes: vertices (V, 3) in grid coordinates, triangles (F, 3).

        Lewiner et al., Efficient implementation of marching cubes' cases with topological guarantees,
        2003. Works in slabs, so that memory is bounded; a vertex is named by the grid edge it lies on,
        so that the slabs join exactly. No vertices where there is no zero set.
        """
        negative = self.values < 0
        mixed = negative.any(axis=(1, 2, 3)) & ~negative.all(axis=(1, 2, 3))
        blocks, values = self.blocks[mixed], self.values[mixed]
        if not len(blocks):
            return np.empty((0, 3)), np.empty((0, 3), dtype=np.int64)
        scale = np.median(np.abs(values))
        layers = max(1, SLAB_VOXELS // (BLOCK * int(np.prod(self.cells[1:] + 1))))  # blocks in a slab

        vertices, names, cells, count = [], [], [], 0
        for first in range(0, int(self.block_count[0]), layers):
            here = (blocks[:, 0] >= first) & (blocks[:, 0] < first + layers)
            if not here.any():
                continue
            slab_vertices, slab_names, slab_cells = self._march(blocks[here], values[here], scale)
            vertices.append(slab_vertices)
            names.append(slab_names)
            cells.append(slab_cells + count)
            count += len(slab_vertices)
        _, first_of, place = np.unique(np.concatenate(names), return_index=True, return_inverse=True)
        return np.concatenate(vertices)[first_of], place[np.concatenate(cells)].astype(np.int64)

    def _march(
        self, blocks: npt.NDArray[np.int64], values: npt.NDArray[np.float32], scale: np.float32
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Vertices in grid coordinates, their names (V,), and triangles of the zero set within blocks."""
        low = BLOCK * blocks.min(axis=0)
        shape = np.minimum(BLOCK * (blocks.max(axis=0) + 1), self.cells) - low + 1
        x, y, z = (i - o for i, o in zip(self._corner_index(blocks), low, strict=True))
        volume = np.ones(shape, dtype=np.float32)
        volume[x, y, z] = values
        mask = np.zeros(shape, dtype=bool)  # a cell is masked by its upper corner
        mask[x[:, 1:], y[:, :, 1:], z[:, :, :, 1:]] = True

        # Marching cubes sees values within a factor of 1024 of each other: its single precision vertices
        # then stay clear of the grid points, and tell which edge they lie on. Where on that edge is
        # computed below from the true values, in double precision.
        tame = np.abs(volume)
        np.clip(tame, scale / 32, scale * 32, out=tame)
        np.copysign(tame, np.where(volume < 0, np.float32(-1), np.float32(1)), out=tame)
        found, cells, _, _ = marching_cubes(tame, 0.0, mask=mask)  # type: ignore[no-untyped-call]

        base = np.floor(found).astype(np.int64)
        on_edge = found > base
        vertices = found.astype(np.float64) + low
        numbers = 3 * np.ravel_multi_index(tuple((base + low).T), self.cells + 1)
        edge = np.flatnonzero(on_edge.sum(axis=1) == 1)  # the others lie within a cell, one each at most
        axis = on_edge[edge].argmax(axis=1)
        tip = base[edge]
        tip[np.arange(len(edge)), axis] += 1
        start = volume[tuple(base[edge].T)].astype(np.float64)
        end = volume[tuple(tip.T)].astype(np.float64)
        part = np.clip(start / (start - end), EDGE_MARGIN, 1 - EDGE_MARGIN)
        vertices[edge, axis] = (base + low)[edge, axis] + part
        names = -1 - numbers
        names[edge] = numbers[edge] + axis
        return vertices, names, cells.astype(np.int64)


def _slopes(
    centres: npt.NDArray[np.float32], corners: npt.NDArray[np.float32], ticks: list[npt.NDArray[np.int64]]
) -> npt.NDArray[np.float32]:
    """Rate of change per cell (A, B, C) seen in blocks with corners (A+1, B+1, C+1) at the ticks.

    The larger of the gradient's length by the steepest edge of each axis, and the steepest way from the
    centre to a corner.
    """
    sizes = np.meshgrid(*(np.diff(tick) for tick in ticks), indexing="ij")
    halves = {0: slice(None, -1), 1: slice(1, None)}
    squares = np.zeros(centres.shape)
    for axis in range(3):
        steps = np.abs(np.diff(corners, axis=axis))
        for other in {0, 1, 2} - {axis}:
            below, above = (steps[(slice(None),) * other + (halves[side],)] for side in (0, 1))
            steps = np.maximum(below, above)
        squares += (steps / sizes[axis]) ** 2
    radius = 0.5 * np.sqrt(sum(size**2 for size in sizes))
    for sides in product((0, 1), repeat=3):
        step = centres - corners[tuple(halves[side] for side in sides)]
        squares = np.maximum(squares, (step / radius) ** 2)
    return np.sqrt(squares).astype(np.float32)


def _between(
    values: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The least and the largest (B, 5, 5, 5) of every second corner's values (B, 3, 3, 3) next to each corner."""
    both = []
    for choose in (np.minimum, np.maximum):
        wide = values
        for axis in (1, 2, 3):
            first, second, third = np.moveaxis(wide, axis, 0)
            wide = np.stack([first, choose(first, second), second, choose(second, third), third], axis=axis)
        both.append(wide)
    return both[0], both[1]


def _beside_zero_set(values: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which corners of blocks (B, 5, 5, 5) have one of the other sign beside them, along an axis."""
    inside, beside = values < 0, np.zeros(values.shape, dtype=bool)
    for axis in (1, 2, 3):
        change = np.diff(inside, axis=axis)
        along = np.moveaxis(beside, axis, 0)
        along[1:] |= np.moveaxis(change, axis, 0)
        along[:-1] |= np.moveaxis(change, axis, 0)
    return beside


def _steepest(values: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Largest gradient (B,), per cell, in blocks of corner values (B, n, n, n), of those that are known."""
    cells = values.shape[1] - 1
    base = values[:, :-1, :-1, :-1]
    squares, all_known = np.zeros_like(base), known[:, :-1, :-1, :-1].copy()
    for ahead in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        neighbour = (slice(None), *(slice(step, cells + step) for step in ahead))
        squares += (values[neighbour] - base) ** 2
        all_known &= known[neighbour]
    steepest: npt.NDArray[np.float32] = np.sqrt(np.where(all_known, squares, 0).max(axis=(1, 2, 3)))
    return steepest
