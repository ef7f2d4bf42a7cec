"""Which points of a file are kept, while it is read: a box, one point per cell, classes, opacity."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.columns import CLASS, OPACITY
from phase_recon.datasets.table import Table, join
from phase_recon.utils.errors import UserError
from phase_recon.utils.memory import BYTES_PER_NUMBER, require_memory

OPAQUE = 0.5  # of 1: less opaque 3D Gaussians float about the body more often than they lie on its surface
CELLS = 1 << 20  # along each axis, either way from the first point: three such numbers fit one integer


@dataclass(frozen=True)
class Selection:
    """What is read of a file, in the input's units; by default, all of it.

    crop: lower and upper end along x, along y and, in 3D, along z; None is an open end. Points on an end are kept.
    voxel: side of cubic cells of which each keeps its first point; None keeps all.
    classes: the classes (LAS) that are kept; None keeps all.
    min_opacity: of 3D Gaussians, 0 to 1; None means OPAQUE.
    """

    crop: tuple[float | None, ...] | None = None
    voxel: float | None = None
    classes: tuple[int, ...] | None = None
    min_opacity: float | None = None

    @property
    def everything(self) -> bool:
        """Whether all points are kept."""
        return self == Selection()


def select(parts: Iterable[Table], selection: Selection, path: Path) -> Table:
    """Keep the selected points of each part as it is read, and join what is kept.

    The memory that is needed is that of the points that are kept, and of one part.
    Raises UserError for what the memory cannot hold, and where the file has no classes or opacities to select by.
    """
    kept: list[Table] = []
    cells = None if selection.voxel is None else _Cells(selection.voxel, path)
    rows = 0
    for part in parts:
        if not kept and selection.everything and part.total is not None:
            _require_memory(part, part.total, path)
        kept.append(_select_part(part, selection, cells, path))
        rows += len(kept[-1])
        _require_memory(part, rows, path)
    return join(kept)


def _require_memory(part: Table, rows: int, path: Path) -> None:
    needed = BYTES_PER_NUMBER * rows * len(part.columns)
    require_memory(needed, f"{path} ({rows} points)", "read less of it: train.voxel or train.crop (--voxel, --crop)")


def _select_part(part: Table, selection: Selection, cells: "_Cells | None", path: Path) -> Table:
    if selection.classes is not None:
        if CLASS not in part.columns:
            raise UserError(f"{path} has no classes: leave out --classes (train.classes)")
        part = part.keep(np.isin(part.columns[CLASS], selection.classes), "of other classes")
    if OPACITY in part.columns:
        least = OPAQUE if selection.min_opacity is None else selection.min_opacity
        part = part.keep(part.columns[OPACITY] >= least, f"of opacity below {least:g} (--min-opacity)")
    elif selection.min_opacity is not None:
        raise UserError(f"{path} has no opacities, as 3D Gaussians have: leave out --min-opacity (train.min_opacity)")
    if selection.crop is not None:
        part = part.keep(_within(part, selection.crop, path), "outside the crop")
    if cells is not None:
        part = part.keep(cells.first_in_cell(part.stack(part.axes)), "beyond one per voxel")
    return part


def _within(part: Table, crop: tuple[float | None, ...], path: Path) -> npt.NDArray[np.bool_]:
    axes = part.axes
    if len(crop) != 2 * len(axes):
        raise UserError(
            f"{path} holds {len(axes)}D points but --crop (train.crop) has {len(crop)} ends: expected {2 * len(axes)}, "
            "lower and upper along each axis"
        )
    inside = np.ones(len(part), dtype=np.bool_)
    for axis, low, high in zip(axes, crop[::2], crop[1::2], strict=True):
        if low is not None:
            inside &= part.columns[axis] >= low
        if high is not None:
            inside &= part.columns[axis] <= high
    return inside


class _Cells:
    """The cells of a grid that have a point already."""

    def __init__(self, size: float, path: Path) -> None:
        self.size, self.path = size, path
        self.origin: npt.NDArray[np.float64] | None = None
        self.taken = np.empty(0, dtype=np.int64)  # sorted

    def first_in_cell(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Whether each of the points (N, d) is the first in its cell.

        Points that are NaN or all zero, where nothing was measured, pass: they are counted elsewhere.
        """
        passes: npt.NDArray[np.bool_] = ~np.isfinite(points).all(axis=1) | (points == 0).all(axis=1)
        measured = np.flatnonzero(~passes)
        if not len(measured):
            return passes
        places = np.floor(points[measured] / self.size)
        if self.origin is None:
            self.origin = places[0].copy()
        places -= self.origin
        if np.abs(places).max() >= CELLS:
            raise UserError(
                f"{self.path} extends over more than {CELLS} cells of --voxel {self.size:g} (train.voxel): give larger "
                "cells, or --crop"
            )
        keys = np.zeros(len(places), dtype=np.int64)
        for column in places.T:
            keys = keys * (2 * CELLS) + (column.astype(np.int64) + CELLS)
        cells, first = np.unique(keys, return_index=True)
        found = np.searchsorted(self.taken, cells)
        free = np.ones(len(cells), dtype=np.bool_)
        known = found < len(self.taken)
        free[known] = self.taken[found[known]] != cells[known]
        # two sorted runs, which a stable sort merges
        self.taken = np.sort(np.concatenate([self.taken, cells[free]]), kind="stable")
        passes[measured[first[free]]] = True
        return passes
