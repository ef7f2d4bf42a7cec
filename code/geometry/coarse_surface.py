"""A start near the answer: the cloud's inside, found without normals, and the smoothest surface through its points.

u and -u, and inside a closed sheet |u|, cost the loss the same, so what the sphere of the usual start gets wrong
(a hole right through the shape, the two walls of a cup) can stay wrong. The winding number knows better (``winding``),
and gives the sides that this begins with.
And where the cloud says nothing, in openings of a scan, least area draws a flat lid; a biharmonic function through
oriented points (Carr et al. 2001, "Reconstruction and representation of 3D objects with radial basis functions") goes
on as the surface does at the rim.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, map_coordinates
from scipy.spatial import cKDTree

from phase_recon.geometry.rbf import Biharmonic
from phase_recon.geometry.visibility import lines_of_sight
from phase_recon.utils.general import thinned, unit

Array = npt.NDArray[np.float64]

POINTS, SCANNED = 20_000, 1_000_000  # of the cloud, at most: the grids hold no more detail; and to find openings
CENTRES = 1000  # of the cloud through which the biharmonic function goes, as even as they can be,
MISSED = 300  # but so many, at most, where those before miss the cloud,
OFF = 4.0, 0.005  # by more than so many deviations of the noise, and this
OFFSET = 0.02  # of the centres at which it is told to be ± that, along the normals,
THIN_OFFSET = 0.004  # or ± that, where two sheets are near each other
WALL = 7  # points along a side of each wall of Ω where the function is told to be positive,
LOOKED_FROM, LOOKED_THROUGH = 1500, 200  # and at so many places, at most, through which so many points were looked at,
OUTSIDE_VALUE = 0.3  # by this share of the distance to the cloud: the surface stays off these, but they hardly push it
SMOOTHING = 4.0  # by the noise, which moves a centre and its offsets together; measured on clouds with known noise
STEADY = 1e-6  # least weight of smoothness against the data: of two equal centres the equations are singular
ALONG, ROUNDS = 0.5, 3  # cosine of a normal and the function's gradient that tells its side; how often others are asked
FEW = 0.02  # of those sure, by so many more the function would hardly be another, and no others are asked
NODES = 48  # of the grid on which the function is looked at, along the longest side of Ω
REACH, BETWEEN = 16, 2.0  # how far between points the nearest may mislead: in distances to the 16th of these
OPEN = 2.0, 1.5  # an opening is farther from the cloud than so many cells, and of those distances


class Start:
    """The smoothest surface through oriented points, as a function that is negative inside (biharmonic).

    Args:
        points: the cloud (N, d), normalised.
        normals: unit normals there (N, d), outward where that is sure.
        sure: where it is (N,), at some points at least; the others may have theirs either way round.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).
        noise: standard deviation of the points about the surface.

    The function goes through the points that are sure, and is positive where one looked through (``lines_of_sight``): a
    deep hollow is open though its walls were not scanned. Where its gradient is along another point's normal, that
    tells which way this points, and the point is among them; so a surface grows from what is sure into patches of a
    scan that were seen through a narrow mouth, or alone. Where it misses the cloud, it is told more of it (Carr et al.
    2001, section 4): so a fingertip that even centres hardly touch is not cut off.

    Attributes:
        normals: the normals (N, d), turned where that was found out.
        sure: whether each (N,) is sure by now.
        places: places in Ω, or a cell beyond it (M, d).
        distances: coarse signed distances there (M,), negative inside.
        surface: points of the surface (S, d), about a cell from each other.
        filling: those in the openings of the cloud (K, d).
        filling_normals: unit normals there (K, d), outward.
        filling_areas: area (2D: length) of the surface that each stands for (K,).
    """

    def __init__(
        self,
        points: Array,
        normals: Array,
        sure: npt.NDArray[np.bool_],
        lower: Array,
        upper: Array,
        noise: float,
    ) -> None:
        tree = cKDTree(thinned(points, SCANNED))
        some = np.unique(thinned(points, POINTS), axis=0)
        reach = float(np.median(cKDTree(some).query(some, k=[min(REACH, len(some))], workers=-1)[0]))
        asked = thinned(np.flatnonzero(sure), LOOKED_FROM)
        sight = lines_of_sight(some, points[asked], normals[asked])
        outside = np.concatenate([_wall(lower, upper), sight[_spread(sight, LOOKED_THROUGH)]])
        outside_values = OUTSIDE_VALUE * tree.query(outside)[0]

        def through(centres: npt.NDArray[np.int64]) -> Biharmonic:
            places, values = _with_offsets(tree, points[centres], self.normals[centres])
            return Biharmonic(
                np.concatenate([places, outside]),
                np.concatenate([values, outside_values]),
                smoothing=max(SMOOTHING * noise**2 / OFFSET, STEADY),
            )

        self.normals, self.sure = normals.copy(), sure.copy()
        for _ in range(ROUNDS):
            chosen = thinned(np.flatnonzero(self.sure), POINTS)
            self._function = through(chosen[_spread(points[chosen], CENTRES - MISSED)])
            others = thinned(np.flatnonzero(~self.sure), POINTS)
            cosine = (unit(self._function.gradient(points[others])) * normals[others]).sum(axis=1)
            told = np.abs(cosine) > ALONG
            self.normals[others[told]] *= np.sign(cosine[told])[:, None]
            self.sure[others[told]] = True
            if told.sum() < FEW * len(chosen):
                break
        chosen = thinned(np.flatnonzero(self.sure), POINTS)
        missed = chosen[np.abs(self._function(points[chosen])) > OFF[0] * noise + OFF[1]]
        missed = missed[_spread(points[missed], MISSED)] if len(chosen) > CENTRES else missed[:0]
        even = chosen[_spread(points[chosen], CENTRES - len(missed))]
        self._function = through(np.union1d(even, missed))
        points, normals = points[chosen], self.normals[chosen]

        cell = float((upper - lower).max()) / (NODES - 1)
        counts = 2 * np.ceil((upper - lower) / (2 * cell)).astype(np.int64) + 1
        ticks = [low + cell * np.arange(count) for low, count in zip(lower, counts, strict=True)]
        nodes = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1)
        on_nodes = _on_nodes(self._function, tree, ticks, nodes)
        gradient = np.stack([*np.gradient(on_nodes, cell)], axis=-1)
        crossings, slopes = _crossings(on_nodes, nodes, gradient)
        within = np.all((crossings > lower) & (crossings < upper), axis=1)  # the last nodes may lie beyond Ω
        self.surface, slopes = crossings[within], slopes[within]
        far = tree.query(self.surface, workers=-1)[0] > max(OPEN[0] * cell, OPEN[1] * reach)
        self.filling, self.filling_normals = self.surface[far], unit(slopes[far])
        self.filling_areas = _areas(self.filling_normals, cell)

        nodes, on_nodes = nodes.reshape(-1, nodes.shape[-1]), on_nodes.ravel()
        size = cKDTree(np.concatenate([some, self.filling])).query(nodes, workers=-1)[0]
        slope = np.maximum(np.linalg.norm(gradient.reshape(nodes.shape), axis=1), np.finfo(np.float64).tiny)
        near = size < BETWEEN * reach  # where the nearest point may be farther than the surface between the points
        size[near] = np.minimum(size, np.abs(on_nodes) / slope)[near]
        places, values = _with_offsets(tree, points, normals)
        self.places = np.concatenate([nodes, places])
        self.distances = np.concatenate([np.sign(on_nodes) * size, values])

    def feet(self, points: Array) -> tuple[Array, Array]:
        """Where the surface passes points (N, d) near it, and its unit normals there (N, d)."""
        step = np.eye(points.shape[1]) * OFFSET / 2
        slopes = np.stack([(self._function(points + s) - self._function(points - s)) / OFFSET for s in step], axis=-1)
        along = self._function(points) / np.maximum((slopes**2).sum(axis=-1), np.finfo(np.float64).tiny)
        return points - np.clip(along, -OFFSET, OFFSET)[:, None] * slopes, unit(slopes)


def _with_offsets(tree: cKDTree, points: Array, normals: Array) -> tuple[Array, Array]:
    """Points (N, d) and those off them along their normals (M, d), and the distances (M,) there.

    Where another point of the cloud is nearer, there is another sheet: the offset is a small one, or left out.
    """
    places, values = [points], [np.zeros(len(points))]
    for side in (-1, 1):
        waiting = np.ones(len(points), dtype=bool)
        for offset in (OFFSET, THIN_OFFSET):
            moved = points[waiting] + side * offset * normals[waiting]
            free = tree.query(moved, workers=-1)[0] > 0.7 * offset
            places.append(moved[free])
            values.append(np.full(int(free.sum()), side * offset))
            waiting[waiting] = ~free
    return np.concatenate(places), np.concatenate(values)


def _spread(points: Array, count: int) -> npt.NDArray[np.int64]:
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


def _wall(lower: Array, upper: Array) -> Array:
    """Points (N, d) on the walls of Ω."""
    ticks = [np.linspace(low, up, WALL) for low, up in zip(lower, upper, strict=True)]
    lattice = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, len(lower))
    on_wall = np.any((lattice == lower) | (lattice == upper), axis=1)
    return np.asarray(lattice[on_wall], dtype=np.float64)


def _on_nodes(function: Biharmonic, tree: cKDTree, ticks: Sequence[Array], nodes: Array) -> Array:
    """A smooth function at the nodes (..., d) of a grid with odd counts of ticks (...): where its surface or the cloud
    is within two of them by itself, elsewhere by interpolation between every second one.
    """
    coarse = nodes[(slice(None, None, 2),) * len(ticks)]
    known = function(coarse.reshape(-1, len(ticks))).reshape(coarse.shape[:-1])
    values: Array = map_coordinates(known, np.indices(nodes.shape[:-1]) / 2, order=1)
    inside, outside = (binary_dilation(side, iterations=2) for side in (values < 0, values >= 0))
    near = tree.query(nodes, distance_upper_bound=2 * (ticks[0][1] - ticks[0][0]), workers=-1)[0] < np.inf
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


def _areas(normals: Array, cell: float) -> Array:
    """The area (2D: length) for which each crossing with a unit normal (K, d) stands: a surface has Σ |n_i| of them on
    each cell^(d-1) of its area (derived).
    """
    return np.asarray(cell ** (normals.shape[1] - 1) / np.maximum(np.abs(normals).sum(axis=1), 1.0))
