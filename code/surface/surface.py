"""A curve or a triangle mesh as plain arrays: topology, measures, and moves that keep it a surface."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

LOOKED_AT = 200_000  # points of a cloud, at most, that tell which pieces it shows
SHOWN, SHARE_SHOWN = 20, 0.3

@dataclass(frozen=True)
class Surface:
    """A polyline curve (d = 2) or a triangle mesh (d = 3).

    vertices: (V, d) double precision. cells: (F, d) vertex numbers, segments or triangles, oriented so
    that normals point outward; in 2D the normal is the segment's direction turned by -90 degrees, so
    that curves run counter-clockwise around the inside. normals: (V, d) unit vertex normals, or None.
    colours: (V, 3) uint8, or None.
    """

    vertices: npt.NDArray[np.float64]
    cells: npt.NDArray[np.int64]
    normals: npt.NDArray[np.float64] | None = None
    colours: npt.NDArray[np.uint8] | None = None

    @property
    def dimension(self) -> int:
        """2 for a curve, 3 for a mesh."""
        return int(self.vertices.shape[1])

    @property
    def faces(self) -> npt.NDArray[np.int64]:
        """``cells``, by the name that mesh libraries have for triangles."""
        return self.cells

    def to_trimesh(self) -> trimesh.Trimesh:
        """The mesh (d = 3) as a trimesh, vertex normals and colours included."""
        return trimesh.Trimesh(
            self.vertices, self.cells, vertex_normals=self.normals, vertex_colors=self.colours, process=False
        )

    def cell_vectors(self) -> npt.NDArray[np.float64]:
        """(F, d) outward normals whose length is the cell's measure (length or area)."""
        corners = self.vertices[self.cells]
        if self.dimension == 2:
            along = corners[:, 1] - corners[:, 0]
            return np.stack((along[:, 1], -along[:, 0]), axis=1)
        return 0.5 * np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

    def cell_measures(self) -> npt.NDArray[np.float64]:
        """(F,) lengths of segments or areas of triangles."""
        lengths: npt.NDArray[np.float64] = np.linalg.norm(self.cell_vectors(), axis=1)
        return lengths

    def cell_normals(self) -> npt.NDArray[np.float64]:
        """(F, d) outward unit normals; zero for a degenerate cell."""
        vectors = self.cell_vectors()
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        normals: npt.NDArray[np.float64] = vectors / np.where(lengths > 0, lengths, 1.0)
        return normals

    def measure(self) -> float:
        """Total length (2D) or area (3D)."""
        return float(self.cell_measures().sum())

    def components(self) -> tuple[int, npt.NDArray[np.int32]]:
        """Number of connected components, and the component (F,) of every cell."""
        count = len(self.vertices)
        start, end = self.cells.ravel(), np.roll(self.cells, -1, axis=1).ravel()
        graph = coo_matrix((np.ones(len(start), dtype=np.int8), (start, end)), shape=(count, count))
        labels = connected_components(graph, directed=False)[1][self.cells[:, 0]]
        names, labels = np.unique(labels, return_inverse=True)  # vertices of no cell do not count
        return len(names), labels.astype(np.int32)

    def is_closed(self) -> bool:
        """True where every edge (2D: vertex) bounds exactly two cells, which agree on what is outside."""
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
        """V - E + F (2D: V - E) over the vertices that cells use."""
        vertices = len(np.unique(self.cells))
        if self.dimension == 2:
            return vertices - len(self.cells)
        edges = np.sort(np.stack((self.cells, np.roll(self.cells, -1, axis=1)), axis=-1), axis=-1)
        numbers = edges[..., 0].ravel() * len(self.vertices) + edges[..., 1].ravel()
        return vertices - len(np.unique(numbers)) + len(self.cells)

    def genus(self) -> int:
        """Number of handles, summed over the components: (2 C - V + E - F) / 2. Closed meshes only.

        Raises ValueError for a curve or an open mesh, which have none.
        """
        if self.dimension != 3 or not self.is_closed():
            raise ValueError("the genus is defined for closed meshes only")
        return (2 * self.components()[0] - self.euler_characteristic()) // 2


def select_cells(surface: Surface, keep: npt.NDArray[np.bool_]) -> Surface:
    """The surface of the cells where keep (F,) is true, with the vertices they use."""
    used, cells = np.unique(surface.cells[keep], return_inverse=True)
    return Surface(
        surface.vertices[used],
        cells.reshape(-1, surface.dimension).astype(np.int64),
        None if surface.normals is None else surface.normals[used],
        None if surface.colours is None else surface.colours[used],
    )


def largest_components(surface: Surface, keep: int) -> tuple[Surface, int]:
    """The keep components of largest measure, and how many others were left out."""
    count, labels = surface.components()
    if count <= keep:
        return surface, 0
    sizes = np.bincount(labels, weights=surface.cell_measures(), minlength=count)
    kept = np.argsort(-sizes, kind="stable")[:keep]
    return select_cells(surface, np.isin(labels, kept)), count - keep


def polylines(surface: Surface) -> list[list[int]]:
    """Vertex numbers along each curve of a 2D surface; a closed one ends where it starts."""
    following = dict(surface.cells.tolist())
    starts = sorted(following.keys() - set(following.values()))  # open curves first, from their ends
    lines = []
    while following:
        line = [starts.pop(0) if starts else next(iter(following))]
        while line[-1] in following:
            line.append(following.pop(line[-1]))
        lines.append(line)
    return lines


def substantial_components(
    surface: Surface, share: float, points: npt.NDArray[np.float64] | None = None
) -> tuple[Surface, int]:
    """The pieces whose length or area is at least this share of the largest one's, and how many were left out.

    A cloud (N, d) has a say: a point is on a piece if it is nearer to cells of it than to others, and no farther than
    the piece is large. A smaller piece is kept with SHOWN points or more, and for its size SHARE_SHOWN of what the
    whole surface has: so a fingertip whose finger was not scanned. Of the larger ones, which may be bubbles where a
    part of the shape is missing, those with no point at all are left out. Share 0 keeps everything.
    """
    count, piece = surface.components()
    measures = np.bincount(piece, weights=surface.cell_measures(), minlength=count)
    keep = measures >= share * measures.max()
    if points is not None and share > 0 and count > 1:
        some = points[:: -(-len(points) // LOOKED_AT)]
        distance, cells = cKDTree(surface.vertices[surface.cells].mean(axis=1)).query(some, workers=-1)
        nearest = piece[cells]
        on_it = nearest[distance < measures[nearest] ** (1 / (surface.dimension - 1))]
        shown_by = np.bincount(on_it, minlength=count) * (len(points) / len(some))
        keep &= (shown_by > 0) | (measures == measures.max())
        keep |= (shown_by >= SHOWN) & (shown_by >= SHARE_SHOWN * len(points) * measures / measures.sum())
    return (surface, 0) if keep.all() else (select_cells(surface, keep[piece]), int(count - keep.sum()))


def transform(surface: Surface, scale: float, centre: npt.NDArray[np.float64]) -> Surface:
    """The surface with vertices scale * x + centre: from normalised back to input units (scale > 0)."""
    return replace(surface, vertices=scale * surface.vertices + np.asarray(centre, dtype=np.float64))


def carry_colours(
    surface: Surface, points: npt.NDArray[np.float64], colours: npt.NDArray[np.uint8]
) -> Surface:
    """The surface with, at every vertex, the colour (N, 3) of the nearest of the points (N, d)."""
    nearest = cKDTree(points).query(surface.vertices)[1]
    return replace(surface, colours=np.asarray(colours, dtype=np.uint8)[nearest])
