"""A curve or a triangle mesh as plain arrays: topology, measures, connected components, transformations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from phase_recon.utils.arrays import unit
from phase_recon.utils.errors import UserError
from phase_recon.utils.threads import threads

FAR_ON_PAGES = 100.0  # × extent: coordinates of at least this size lose detail in single precision


@dataclass(frozen=True, repr=False)
class Surface:
    """A polyline curve (d = 2) or a triangle mesh (d = 3).

    Attributes:
        vertices: positions (V, d) in double precision.
        cells: vertex numbers (F, d) of the segments or triangles, oriented so that normals point outward. In 2D the
            normal is the segment's direction turned by -90 degrees, so curves run counter-clockwise around the inside.
        normals: unit vertex normals (V, d), or None.
        colours: sRGB (V, 3) of the vertices, or None.
    """

    vertices: npt.NDArray[np.float64]
    cells: npt.NDArray[np.int64]
    normals: npt.NDArray[np.float64] | None = None
    colours: npt.NDArray[np.uint8] | None = None

    def __repr__(self) -> str:
        """What it is, in one line and without its arrays."""
        cells = "segments" if self.dimension == 2 else "triangles"
        return f"<{type(self).__name__} in {self.dimension}D: {len(self.vertices)} vertices, {len(self.cells)} {cells}>"

    @property
    def dimension(self) -> int:
        """2 for a curve, 3 for a mesh."""
        return int(self.vertices.shape[1])

    @property
    def faces(self) -> npt.NDArray[np.int64]:
        """``cells``, by the name that mesh libraries have for triangles."""
        return self.cells

    def edges(self) -> npt.NDArray[np.int64]:
        """The ends (F, 1, 2) of each segment, or of the three edges (F, 3, 2) of each triangle, one after the other."""
        return self.cells[:, [[0, 1]] if self.dimension == 2 else [[0, 1], [1, 2], [2, 0]]]

    def edge_lengths(self) -> npt.NDArray[np.float64]:
        """The lengths (F, edges) of the edges of each cell, in the order of ``edges``."""
        ends = self.vertices[self.edges()]
        return np.asarray(np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=2))

    def to_trimesh(self) -> trimesh.Trimesh:
        """The mesh (d = 3) as a trimesh, vertex normals and colours included.

        Raises:
            UserError: it is a curve.
        """
        if self.dimension == 2:
            raise UserError("to_trimesh: is of meshes, and this is a curve: take its vertices and cells, or save() it")
        return trimesh.Trimesh(
            self.vertices, self.cells, vertex_normals=self.normals, vertex_colors=self.colours, process=False
        )

    def cell_vectors(self) -> npt.NDArray[np.float64]:
        """The outward normals of the cells (F, d); the length of each is the cell's length or area."""
        corners = self.vertices[self.cells]
        if self.dimension == 2:
            along = corners[:, 1] - corners[:, 0]
            return np.stack((along[:, 1], -along[:, 0]), axis=1)
        return 0.5 * np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

    def cell_measures(self) -> npt.NDArray[np.float64]:
        """The lengths of the segments or the areas of the triangles (F,)."""
        lengths: npt.NDArray[np.float64] = np.linalg.norm(self.cell_vectors(), axis=1)
        return lengths

    def cell_normals(self) -> npt.NDArray[np.float64]:
        """(F, d) outward unit normals; zero for a degenerate cell."""
        return unit(self.cell_vectors())

    def measure(self) -> float:
        """Total length (2D) or area (3D)."""
        return float(self.cell_measures().sum())

    def components(self) -> tuple[int, npt.NDArray[np.int32]]:
        """Number of connected components, and the component (F,) of every cell."""
        return self._components

    def component_measures(self) -> npt.NDArray[np.float64]:
        """The length or area of each connected component."""
        count, labels = self.components()
        return np.asarray(np.bincount(labels, weights=self.cell_measures(), minlength=count), dtype=np.float64)

    @cached_property
    def _components(self) -> tuple[int, npt.NDArray[np.int32]]:
        """What ``components`` gives: several questions about a surface need it."""
        count = len(self.vertices)
        start, end = self.cells.ravel(), np.roll(self.cells, -1, axis=1).ravel()
        graph = coo_matrix((np.ones(len(start), dtype=np.int8), (start, end)), shape=(count, count))
        labels = connected_components(graph, directed=False)[1][self.cells[:, 0]]
        names, labels = renumbered(labels, count)  # leaves out vertices without cells
        return len(names), labels.astype(np.int32)

    def is_closed(self) -> bool:
        """Whether the surface is closed (watertight): every edge (2D: vertex) bounds two cells, equally oriented."""
        if not len(self.cells):
            return False
        if self.dimension == 2:
            return bool(np.array_equal(np.sort(self.cells[:, 0]), np.sort(self.cells[:, 1]))) and (
                len(np.unique(self.cells[:, 0])) == len(self.cells)
            )
        start, end = self.cells.astype(np.int64).ravel(), np.roll(self.cells, -1, axis=1).ravel()
        forward = np.sort(start * len(self.vertices) + end)
        backward = np.sort(end * len(self.vertices) + start)
        return bool(np.array_equal(forward, backward)) and bool((np.diff(forward) > 0).all())

    def euler_characteristic(self) -> int:
        """V - E + F (2D: V - E), without vertices that have no cell."""
        vertices = len(renumbered(self.cells, len(self.vertices))[0])
        if self.dimension == 2 or not len(self.cells):
            return vertices - len(self.cells)
        start, end = self.cells.astype(np.int64).ravel(), np.roll(self.cells, -1, axis=1).ravel()
        edges = np.sort(np.minimum(start, end) * len(self.vertices) + np.maximum(start, end))
        return vertices - 1 - int(np.count_nonzero(np.diff(edges))) + len(self.cells)

    def genus(self) -> int:
        """The number of handles of a closed mesh, summed over its C components: (2 C - V + E - F) / 2.

        Raises:
            ValueError: the surface is a curve or an open mesh, which have no genus.
        """
        if self.dimension != 3 or not self.is_closed():
            raise ValueError("the genus is defined for closed meshes only")
        return (2 * self.components()[0] - self.euler_characteristic()) // 2


def renumbered(numbers: npt.NDArray[Any], count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The different ones of some numbers (...) from 0 below ``count``, ascending (M,), and each one's place there.

    It is what ``np.unique(numbers, return_inverse=True)`` gives, in a time that is proportional to their number.
    """
    there = np.zeros(count, dtype=bool)
    there[numbers] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[numbers]


def select_cells(surface: Surface, keep: npt.NDArray[np.bool_]) -> Surface:
    """The surface of those cells for which keep (F,) is true, with the vertices that they use."""
    used, cells = renumbered(surface.cells[keep], len(surface.vertices))
    return Surface(
        surface.vertices[used],
        cells,
        None if surface.normals is None else surface.normals[used],
        None if surface.colours is None else surface.colours[used],
    )


def polylines(surface: Surface) -> list[list[int]]:
    """The vertex numbers along each curve of a 2D surface; a closed curve ends with its first vertex."""
    following = dict(surface.cells.tolist())
    starts = sorted(following.keys() - set(following.values()))  # open curves first, from their ends
    lines = []
    while following:
        line = [starts.pop(0) if starts else next(iter(following))]
        while line[-1] in following:
            line.append(following.pop(line[-1]))
        lines.append(line)
    return lines


def transform(surface: Surface, scale: float, centre: npt.NDArray[np.float64]) -> Surface:
    """The surface with vertices scale * x + centre (scale > 0): from normalised to input units."""
    return replace(surface, vertices=scale * surface.vertices + np.asarray(centre, dtype=np.float64))


def offset_of(points: npt.NDArray[np.float64], far: float = FAR_ON_PAGES) -> npt.NDArray[np.float64]:
    """The offset (d,) to subtract from points (N, d): near their middle if ``far`` extents from zero, else 0."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    if np.abs([low, high]).max() < far * extent:
        return np.zeros(len(low))
    step = 10.0 ** np.floor(np.log10(extent))
    return np.asarray(np.round((low + high) / 2 / step) * step)


def carry_colours(
    surface: Surface, points: npt.NDArray[np.float64], colours: npt.NDArray[np.uint8]
) -> Surface:
    """The surface whose vertices have the colours (N, 3) of the nearest of the points (N, d)."""
    nearest = cKDTree(points).query(surface.vertices, workers=threads())[1]
    return replace(surface, colours=np.asarray(colours, dtype=np.uint8)[nearest])
