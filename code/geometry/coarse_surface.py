"""The coarse surface: the smoothest surface through the oriented points of a cloud, from which the training starts.

u and -u, and inside a closed sheet |u|, cost the loss the same, so what the usual start with a sphere gets wrong (a
hole right through the shape, the two walls of a cup) can stay wrong. This start knows the sides of the points. And
where the cloud has holes, least area draws a flat lid, but a biharmonic function through oriented points (Carr et al.
2001, "Reconstruction and representation of 3D objects with radial basis functions") goes on as the surface does at the
rim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, map_coordinates
from scipy.spatial import cKDTree

from phase_recon.geometry.hull import beyond_hull, convex_hull
from phase_recon.geometry.lattice import walls
from phase_recon.geometry.neighbours import TINY, connected_places, spacing
from phase_recon.geometry.points import Domain
from phase_recon.geometry.rbf import Biharmonic
from phase_recon.utils.arrays import thinned, unique_rows, unit
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CoarseSurfaceSettings:
    """Of what the biharmonic function is told, and where it is evaluated. Lengths are in normalised units.

    Attributes:
        points: points of the cloud that take part, at most, as the function holds no more detail.
        hole_points: points among which the nearest is sought where holes are found, at most.
        centres: points through which the function goes, spread evenly over the cloud: the cost goes with their cube.
        missed: so many of these, at most, where the function through the others misses the cloud.
        missed_noise: × noise: distance by which it then misses the cloud,
        missed_least: and this distance more.
        offset: distance off the centres, along the normals, at which the function is told to be ± that.
        thin_offset: the same where two sheets are near each other.
        free: × offset: least distance of such a place from the cloud; nearer, there is another sheet.
        wall_nodes: points along a side of each wall of Ω where the function is told to be positive.
        opened: places that are known to be empty, at most, where the function is told to be positive.
        outside_value: × distance to the cloud: the value told there. The surface stays off these places, but they
            hardly push it.
        smoothing: weight of smoothness by the noise, which moves a centre and its offsets together. Measured on clouds
            with known noise.
        least_smoothing: the same without noise: of two equal centres the equations would be singular.
        along: least cosine of a normal and the function's gradient where the surface is right.
        nodes: of the grid on which the function is evaluated, along the longest side of Ω.
        between: × spacing: nearer to the cloud, the surface between the points may be nearer than any point.
        hole_cells: cells from the cloud beyond which the surface closes a hole,
        hole_spacing: and × spacing.
        rim_asked: points of the cloud nearest to a place on the rim of a hole that tell whether the surface is right
            there: their side is sure, and their normal along the function's gradient.
        rim_share: of these, about the whole rim, at least; or the hole stays open.
        rim_broken: share of the places on the rim, at most, where most of them do not.
        largest: radius of a hole that is closed, at most, by the area that closes it. On 31 clouds with holes lids of
            up to 0.19 made d_C 1.04 to 1.9 times better, or 1.08 worse; those beyond 0.3 made it up to 3 times worse.
        bulge: × radius of a hole, by the area that closes it: this reaches no farther beyond the convex hull of the
            cloud, where nothing speaks for it. A part of a sphere does up to an angle of 28° about its middle.
    """

    points: int = 20_000
    hole_points: int = 1_000_000
    centres: int = 1000
    missed: int = 300
    missed_noise: float = 4.0
    missed_least: float = 0.005
    offset: float = 0.02
    thin_offset: float = 0.004
    free: float = 0.7
    wall_nodes: int = 7
    opened: int = 200
    outside_value: float = 0.3
    smoothing: float = 4.0
    least_smoothing: float = 1e-6
    along: float = 0.5
    nodes: int = 48
    between: float = 2.0
    hole_cells: float = 2.0
    hole_spacing: float = 1.5
    rim_asked: int = 16
    rim_share: float = 0.9
    rim_broken: float = 0.05
    largest: float = 0.25
    bulge: float = 0.25


class CoarseSurface:
    """The smoothest surface through oriented points, as a function that is negative inside (biharmonic).

    The function goes through the points whose side is sure. Where it would be negative though it is known to be empty
    there, it is told to be positive: a deep hollow that was looked into is open though its walls were not scanned.
    Where it misses the points, it is told more of them (Carr et al. 2001, section 4): so a fingertip that even centres
    hardly touch is not cut off.

    Args:
        points: the cloud (N, d), normalised.
        normals: unit normals there (N, d), outward where that is sure.
        sure: where it is (N,), at some points at least; the signs of the others are by chance.
        domain: Ω.
        noise: standard deviation of the points about the surface.
        empty: places that are known to be outside (E, d), or None.
        settings: of what the function is told.

    Attributes:
        places: places in Ω, or less than two cells beyond it (M, d).
        distances: coarse signed distances there (M,), negative inside.
        opened: those of the empty places (O, d) where it would have been negative.
        surface: points of the surface (S, d), about a cell from each other.
        filling: those that close holes of the cloud (K, d).
        filling_normals: unit normals there (K, d), outward.
        filling_areas: area (2D: length) of the surface that each stands for (K,).
        holes: number of holes that they close.
        farthest: distance from the cloud of the farthest of them, 0 without any.
    """

    def __init__(
        self,
        points: Array,
        normals: Array,
        sure: Mask,
        domain: Domain,
        noise: float,
        empty: Array | None = None,
        settings: CoarseSurfaceSettings | None = None,
    ) -> None:
        self.settings = s = settings or CoarseSurfaceSettings()
        cloud = _Cloud(points, normals, noise, s)
        chosen = thinned(np.flatnonzero(sure), s.points)
        self._function, self.opened = _function_through(cloud, chosen, domain, empty)
        grid = _Grid(self._function, cloud.tree, domain, s.nodes)
        self.surface = grid.surface
        told = thinned(np.arange(len(points)), s.points)
        cosine = (unit(self._function.gradient(points[told])) * normals[told]).sum(axis=1)
        agree = sure[told] & (cosine > s.along)
        some = thinned(points, s.points)
        some = some[unique_rows(some)[0]]
        step = spacing(some, some)
        self._close_holes(grid, cloud, max(s.hole_cells * grid.cell, s.hole_spacing * step), points[told], agree)

        size = cKDTree(np.concatenate([some, self.filling])).query(grid.nodes, workers=threads())[0]
        near = size < s.between * step
        size[near] = np.minimum(size, np.abs(grid.values) / grid.steepness)[near]
        places, values = cloud.with_offsets(chosen)
        self.places = np.concatenate([grid.nodes, places])
        self.distances = np.concatenate([np.sign(grid.values) * size, values])

    def _close_holes(self, grid: "_Grid", cloud: "_Cloud", begins: float, points: Array, agree: Mask) -> None:
        """Find the parts of the surface that close holes of the cloud, which begin so far from it.

        Args:
            grid: the function and its surface.
            cloud: the points.
            begins: least distance from the cloud.
            points: points of the cloud (N, d).
            agree: whether the surface is right there (N,).
        """
        distance = cloud.tree.query(grid.surface, workers=threads())[0]
        far = np.flatnonzero(distance > begins)
        areas = _areas_of_crossings(grid.normals[far], grid.cell)
        rim = distance[far] < begins + grid.cell
        hole = _closed_holes(grid.surface[far], areas, rim, begins, grid.cell, points, agree, self.settings)
        closed = hole >= 0
        self.holes, self.farthest = len(np.unique(hole[closed])), float(distance[far][closed].max(initial=0.0))
        self.filling, self.filling_normals = grid.surface[far[closed]], grid.normals[far[closed]]
        self.filling_areas = areas[closed]

    def project(self, points: Array) -> tuple[Array, Array]:
        """Where the surface passes points (N, d) near it, and its unit normals there (N, d)."""
        offset = self.settings.offset
        step = np.eye(points.shape[1]) * offset / 2
        slopes = np.stack([(self._function(points + s) - self._function(points - s)) / offset for s in step], axis=-1)
        along = self._function(points) / np.maximum((slopes**2).sum(axis=-1), TINY)
        return points - np.clip(along, -offset, offset)[:, None] * slopes, unit(slopes)


def spread_evenly(points: Array, count: int) -> Index:
    """Indices of at most ``count`` different points (N, d), each the farthest from those before."""
    if not len(points):
        return np.empty(0, dtype=np.int64)
    columns = np.ascontiguousarray(points.T)  # which numpy adds four times as fast
    chosen = [0]
    distance = ((columns - columns[:, :1]) ** 2).sum(axis=0)
    while len(chosen) < count and distance.max() > 0:
        last = int(distance.argmax())
        chosen.append(last)
        distance = np.minimum(distance, ((columns - columns[:, last : last + 1]) ** 2).sum(axis=0))
    return np.array(chosen)


class _Cloud:
    """The points of a cloud (N, d), their normals (N, d), and what the function is told of them."""

    def __init__(self, points: Array, normals: Array, noise: float, settings: CoarseSurfaceSettings) -> None:
        self.points, self.normals, self.noise, self.settings = points, normals, noise, settings
        self.tree = cKDTree(thinned(points, settings.hole_points))
        self.smoothing = max(settings.smoothing * noise**2 / settings.offset, settings.least_smoothing)

    def function(self, centres: Index, outside: Array) -> Biharmonic:
        """The smoothest function through some of the points (C,), positive at places outside (M, d)."""
        places, values = self.with_offsets(centres)
        told = self.settings.outside_value * self.tree.query(outside)[0]
        return Biharmonic(np.concatenate([places, outside]), np.concatenate([values, told]), smoothing=self.smoothing)

    def with_offsets(self, some: Index) -> tuple[Array, Array]:
        """Some of the points (K,) and places off them along their normals (M, d), and the signed distances (M,) there.

        Where another point of the cloud is nearer, there is another sheet: the offset is a small one, or left out.
        """
        s, points, normals = self.settings, self.points[some], self.normals[some]
        places, values = [points], [np.zeros(len(points))]
        for side in (-1, 1):
            waiting = np.ones(len(points), dtype=bool)
            for offset in (s.offset, s.thin_offset):
                moved = points[waiting] + side * offset * normals[waiting]
                free = self.tree.query(moved, workers=threads())[0] > s.free * offset
                places.append(moved[free])
                values.append(np.full(int(free.sum()), side * offset))
                waiting[waiting] = ~free
        return np.concatenate(places), np.concatenate(values)


def _function_through(cloud: _Cloud, chosen: Index, domain: Domain, empty: Array | None) -> tuple[Biharmonic, Array]:
    """The smoothest function through chosen points (K,), and the empty places (O, d) where it would be negative.

    A first function goes through a part of the centres. Where it misses the cloud, or is negative at a place that is
    known to be empty (E, d), the second is told more.
    """
    s, points, outside = cloud.settings, cloud.points, walls(domain.lower, domain.upper, cloud.settings.wall_nodes)
    even = chosen[spread_evenly(points[chosen], s.centres)]
    missed, opened = chosen[:0], points[:0] if empty is None else empty
    if len(chosen) > s.centres or len(opened):
        first = cloud.function(even[: s.centres - s.missed], outside)
        opened = opened[first(opened) < 0]
        outside = np.concatenate([outside, opened[spread_evenly(opened, s.opened)]])
        if len(chosen) > s.centres:
            misses = s.missed_noise * cloud.noise + s.missed_least
            missed = chosen[np.abs(first(points[chosen])) > misses]
            missed = missed[spread_evenly(points[missed], s.missed)]
    return cloud.function(np.union1d(even[: s.centres - len(missed)], missed), outside), opened


class _Grid:
    """A function on a grid over Ω, and the surface where it is zero.

    Args:
        function: the function.
        tree: of the cloud, about which it is evaluated on every node.
        domain: Ω.
        count: of nodes along its longest side.

    Attributes:
        cell: width of its cells.
        nodes: (M, d); the last may lie beyond Ω.
        values: of the function there (M,).
        steepness: length of its gradient there (M,), above zero.
        surface: places in Ω on edges of the grid where the function is zero (S, d).
        normals: unit normals there (S, d).
    """

    def __init__(self, function: Biharmonic, tree: cKDTree, domain: Domain, count: int) -> None:
        lower, upper = domain.lower, domain.upper
        self.cell = float((upper - lower).max()) / (count - 1)
        counts = 2 * np.ceil((upper - lower) / (2 * self.cell)).astype(np.int64) + 1
        ticks = [low + self.cell * np.arange(count) for low, count in zip(lower, counts, strict=True)]
        nodes = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1)
        values = _on_nodes(function, tree, ticks, nodes)
        gradient = np.stack([*np.gradient(values, self.cell)], axis=-1)
        crossings, slopes = _crossings(values, nodes, gradient)
        within = np.all((crossings > lower) & (crossings < upper), axis=1)
        self.surface, self.normals = crossings[within], unit(slopes[within])
        self.nodes, self.values = nodes.reshape(-1, nodes.shape[-1]), values.ravel()
        self.steepness = np.maximum(np.linalg.norm(gradient.reshape(self.nodes.shape), axis=1), TINY)


def _on_nodes(function: Biharmonic, tree: cKDTree, ticks: Sequence[Array], nodes: Array) -> Array:
    """A smooth function at the nodes (..., d) of a grid with odd counts of ticks (...).

    Where its surface or the cloud is within two nodes it is evaluated, elsewhere it is interpolated between every
    second node.
    """
    coarse = nodes[(slice(None, None, 2),) * len(ticks)]
    known = function(coarse.reshape(-1, len(ticks))).reshape(coarse.shape[:-1])
    values: Array = map_coordinates(known, np.indices(nodes.shape[:-1]) / 2, order=1)
    inside, outside = (binary_dilation(side, iterations=2) for side in (values < 0, values >= 0))
    near = tree.query(nodes, distance_upper_bound=2 * (ticks[0][1] - ticks[0][0]), workers=threads())[0] < np.inf
    itself = near | (inside & outside)
    values[itself] = function(nodes[itself])
    return values


def _crossings(values: Array, *given: Array) -> list[Array]:
    """What is given on the nodes of a grid (..., d), where values there (...) pass zero along its edges (K, d)."""
    found: list[list[Array]] = [[] for _ in given]
    for axis, n in enumerate(values.shape):
        first, second = (tuple([slice(None)] * axis + [slice(start, n - 1 + start)]) for start in (0, 1))
        here = (values[first] > 0) != (values[second] > 0)
        a, b = values[first][here], values[second][here]
        share = (a / (a - b))[:, None]
        for parts, vectors in zip(found, given, strict=True):
            low, high = vectors[first][here], vectors[second][here]
            parts.append(low + share * (high - low))
    return [np.concatenate(parts) for parts in found]


def _closed_holes(
    filling: Array,
    areas: Array,
    on_rim: Mask,
    begins: float,
    cell: float,
    points: Array,
    agree: Mask,
    s: CoarseSurfaceSettings,
) -> Index:
    """The number of the hole that each place (K, d) of the surface in holes of the cloud closes (derived).

    It is -1 where that is none to close.

    All round its rim the points are of a sure side, and the surface goes through them; else it is a sack that the
    function hangs about what it does not resolve. It is small, and hardly bulges beyond the convex hull of the cloud.

    Args:
        filling: places on the surface, far from the cloud (K, d).
        areas: area (2D: length) that each stands for (K,).
        on_rim: whether each is on the rim of its hole (K,).
        begins: distance from the cloud at which they begin.
        cell: of the grid of the places.
        points: points of the cloud (N, d).
        agree: whether the surface is right there (N,).
        s: the settings.
    """
    closed = np.full(len(filling), -1)
    if not len(filling):
        return closed
    count, hole = connected_places(filling, cell)
    asked = np.arange(1, min(s.rim_asked, len(points)) + 1)
    share = agree[cKDTree(points).query(filling, asked, workers=threads())[1]].mean(axis=1)
    facets = convex_hull(points)
    if facets is None:
        return closed
    for index in range(count):
        own = hole == index
        rim = share[own & on_rim]
        radius = begins + _disc_radius(float(areas[own].sum()), filling.shape[1])
        sound = len(rim) > 0 and rim.mean() >= s.rim_share and (rim < 0.5).mean() <= s.rim_broken
        if not sound or radius > s.largest:
            continue
        if beyond_hull(filling[own], facets).max() <= s.bulge * radius:
            closed[own] = index
    return closed


def _disc_radius(area: float, d: int) -> float:
    """The radius of a disc of some area; in 2D half of a length."""
    return area / 2 if d == 2 else float(np.sqrt(area / np.pi))


def _areas_of_crossings(normals: Array, cell: float) -> Array:
    """The area (2D: length) for which each crossing with a unit normal (K, d) stands (derived).

    A surface has Σ |n_i| crossings with the edges of the grid on each cell^(d-1) of its area.
    """
    return np.asarray(cell ** (normals.shape[1] - 1) / np.maximum(np.abs(normals).sum(axis=1), 1.0))
