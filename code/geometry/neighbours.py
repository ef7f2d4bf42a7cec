"""The neighbourhood of a point: the nearest points, their weights, the spacing and the density of a cloud.

A point is its own nearest; ``others`` counts the points beside it.
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from phase_recon.utils.arrays import ratio, thinned
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Nearest = tuple[Array, Index]  # distances (N, K) to the points nearest to N places, and their indices

NEIGHBOURS = 24  # of a point, itself included, to which a quadric is fitted where nobody asks for more
SPACING_OTHERS = 15  # the distance to the 15th other point is the spacing of a cloud: on a plane, 2.2 × the mean step
DENSITY_OTHERS = 16  # other points by whose distance a density is told
SAMPLED = 2000  # points that tell the spacing, the noise and the density of a cloud: their median varies by 1 %
DECAY = -2.0  # a neighbour's weight is exp(-2 r²), r its distance as a share of the farthest neighbour's
PLACES = 1 << 14  # at a time: arrays of 10 MB
LINKED = 1.8  # × cell of a grid: places on one surface, or in one volume, that are neighbours lie within √3
TINY = float(np.finfo(np.float64).tiny)


def nearest(points: Array, places: Array, neighbours: int) -> Nearest:
    """The nearest of points (M, d) to places (N, d): so many (K), or all where there are fewer."""
    count = min(neighbours, len(points))
    asked = np.arange(1, count + 1)  # so one is a column, too
    distance, index = cKDTree(points).query(places, k=asked, workers=threads())
    return distance, index


def nearest_on_sheet(points: Array, places: Array, neighbours: int, opposite: Array | None) -> Nearest:
    """The nearest points on the places' own sheet, as far as these are among three times as many.

    Where they are fewer, points of the other sheet fill up, at the distance infinity, which is the weight 0.

    Args:
        points: the cloud (M, d).
        places: some of its points (N, d).
        neighbours: how many (K).
        opposite: step (N, d) from each place to another sheet that is near, zero without one; None without any.
    """
    if opposite is None or not opposite.any():
        return nearest(points, places, neighbours)
    distance, index = nearest(points, places, 3 * neighbours)
    for start in range(0, len(places), PLACES):
        some = slice(start, start + PLACES)
        others = on_opposite_sheet(points[index[some]] - places[some, None], opposite[some])
        distance[some][others] = np.inf
        order = np.argsort(others, axis=1, kind="stable")
        distance[some], index[some] = (np.take_along_axis(of[some], order, axis=1) for of in (distance, index))
    return distance[:, :neighbours], index[:, :neighbours]


def on_opposite_sheet(offsets: Array, opposite: Array) -> npt.NDArray[np.bool_]:
    """Which points at offsets (N, K, d) from others lie nearer to the sheet a step (N, d) away than to their own."""
    return np.asarray(np.einsum("nkd,nd->nk", offsets, opposite) > 0.5 * (opposite**2).sum(axis=1)[:, None])


def closeness(distance: Array) -> Array:
    """The weights (M, K) of neighbours at distances (M, K), ascending; 0 of those at infinity."""
    return np.exp(DECAY * (distance / np.maximum(farthest(distance), TINY)[:, None]) ** 2)


def farthest(distance: Array) -> Array:
    """The largest of distances (M, K) that is not infinite (M,)."""
    return np.asarray(np.where(np.isfinite(distance), distance, 0.0).max(axis=1))


def distance_to_other(points: Array | cKDTree, places: Array, others: int) -> Array:
    """The distance (N,) of points of a cloud (N, d) to the so-manieth other point (M, d), or the last there is."""
    tree = points if isinstance(points, cKDTree) else cKDTree(points)
    return np.asarray(tree.query(places, k=[min(others + 1, tree.n)], workers=threads())[0][:, 0])


def spacing(points: Array | cKDTree, places: Array) -> float:
    """The spacing of a cloud (M, d): the median distance of places (N, d) on it to the 15th other point."""
    return float(np.median(distance_to_other(points, places, SPACING_OTHERS)))


def density(radius: float, d: int, others: int = DENSITY_OTHERS) -> float:
    """Points per area (2D: per length) of a cloud whose points have so many others nearer than a radius."""
    return others / (2 * radius if d == 2 else np.pi * radius**2)


def density_of(points: Array) -> float:
    """Points per area (2D: per length) of a cloud (N, d), in the median of its points."""
    others = min(DENSITY_OTHERS, len(points) - 1)
    radius = np.median(distance_to_other(points, thinned(points, SAMPLED), others))
    return density(float(radius), points.shape[1], others)


def areas(points: Array, largest: float) -> Array:
    """The area (2D: length) that each point (N, d) stands for (N,), in the median 1, from 1 to ``largest`` (derived).

    It goes with the distance to the 16th other point. It is never below 1, as at folds and edges points of several
    faces are near, and would be taken for a dense part of one.
    """
    distance = distance_to_other(points, points, DENSITY_OTHERS)
    return np.asarray(np.clip(ratio(distance, np.median(distance)) ** (points.shape[1] - 1), 1.0, largest))


def connected_places(places: Array, cell: float) -> tuple[int, npt.NDArray[np.int32]]:
    """The number of connected components of places (N, d) on a grid's nodes or edges, and that of each place (N,).

    Args:
        places: any number of them.
        cell: the width of the grid's cells.
    """
    pairs = cKDTree(places).query_pairs(LINKED * cell, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(places),) * 2)
    count, component = connected_components(links, directed=False)
    return count, component
