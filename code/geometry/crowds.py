"""Crowds: parts of a cloud where the points are much denser than over most of its area (derived).

Spacing, noise and neighbourhoods are told by medians over the points. Where an overview and a close-up are in one
cloud, most points may lie on a small part of it. The medians are then of that part, and elsewhere the neighbourhoods
they ask for show nothing. So a crowd is thinned to a few points in each cell of a grid, whose side is the distance
from point to point over most of the area.
"""

import numpy as np
import numpy.typing as npt

from phase_recon.geometry.neighbours import density, distance_to_other
from phase_recon.utils.arrays import thinned

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

MOST = 6  # points in each cell that count; with 4, few points by stereo were worse
OTHERS = 8  # by the distance to this other point the density at a point is told
SAMPLED = 3000  # points at which it is told
SPARSEST = 0.98  # quantile: what is sparser counts as this, as outliers stand for any area
COUNTED = 1 << 20  # cells along an axis; of more, those so many apart are one
# Share that must be too many, or all stay. Of 110 scans and evenly random clouds it was at most 0.005, of clouds by
# stereo 0.02 to 0.13, with half of the points on a tenth of the area 0.23
FEWEST = 0.03


def evened(points: Array) -> Index:
    """The indices, in their order, of those of some different points (N, d) that are left where crowds are thinned."""
    count = min(OTHERS, len(points) - 1)
    everyone = np.arange(len(points))
    if count < 1:
        return everyone
    radius = distance_to_other(points, thinned(points, SAMPLED), count)
    radius = np.sort(np.minimum(radius, np.quantile(radius, SPARSEST)))
    area = np.cumsum(radius ** (points.shape[1] - 1))  # that the points stand for, up to a factor
    typical = float(radius[np.searchsorted(area, area[-1] / 2)])  # half of the area is sparser
    if typical == 0:
        return everyone
    cell = density(typical, points.shape[1], count) ** (-1 / (points.shape[1] - 1))
    left = few_in_each_cell(points, cell, MOST)
    return left if len(left) < (1 - FEWEST) * len(points) else everyone


def few_in_each_cell(points: Array, cell: float, most: int) -> Index:
    """The indices, in their order, of at most so many points (N, d), by chance, in each cell of a grid of a side."""
    order = np.random.default_rng(0).permutation(len(points))
    node = np.floor((points[order] - points.min(axis=0)) / cell).astype(np.int64) & (COUNTED - 1)
    number = node @ COUNTED ** np.arange(points.shape[1])
    by_cell = np.argsort(number, kind="stable")
    begins = np.flatnonzero(np.diff(number[by_cell], prepend=-1))
    rank = np.arange(len(points)) - np.repeat(begins, np.diff(begins, append=len(points)))
    return np.sort(order[by_cell[rank < most]])
