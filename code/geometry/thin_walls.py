"""Where a cloud has two sheets near each other, such as the two sides of a thin wall (derived).

The points nearest to one on a wall as thin as they are apart lie on both of its sides, and a quadric through them is of
neither. But two parallel quadrics leave nearly nothing of such points. So both are fitted to each neighbourhood. Where
two leave far less than one does, and each sheet is seen all over the neighbourhood, there are two sheets.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phase_recon.geometry.neighbours import TINY, closeness, nearest
from phase_recon.geometry.quadrics import LocalFrames, quadric_terms
from phase_recon.utils.arrays import thinned
from phase_recon.utils.threads import in_threads

Array = npt.NDArray[np.float64]

CHUNK = 4096  # neighbourhoods at a time, which a processor's cache holds


@dataclass(frozen=True)
class ThinWallSettings:
    """When a neighbourhood has two sheets. Measured on bowls, vases and plates of known thickness and on two scans.

    Attributes:
        neighbours: points of a neighbourhood; twice as many must be in the cloud.
        width_neighbour: the distance to this one of them, itself counted, is the unit of the sheets' distance.
        apart: least distance of two sheets in that unit; nearer ones are as likely two views of one surface.
        residual_left: largest share that two quadrics leave of what one does; of noise about one sheet they leave half.
        fewest: least share of the neighbours on each sheet.
        aside: largest distance of the middles of the sheets, by their spread; at a step or a crease they lie side by
            side.
        rounds: times that points are dealt to the sheets anew.
        sampled: points that tell whether a cloud has thin walls at all.
        share: share of these on one from which on it has.
        about: nearest points on a wall that tell of a point whose own neighbourhood does not, as near a rim.
        off: × distance of the sheets: how far from one of them a point on it may lie.
        agreement: least length of the mean of their steps, × the mean length of these.
    """

    neighbours: int = 48
    width_neighbour: int = 16
    apart: float = 0.4
    residual_left: float = 0.4
    fewest: float = 1 / 6
    aside: float = 0.9
    rounds: int = 4
    sampled: int = 2000
    share: float = 0.01
    about: int = 10
    off: float = 0.25
    agreement: float = 0.5


def opposite_sheets(points: Array, settings: ThinWallSettings | None = None) -> Array:
    """The step (N, d) from each point (N, d) of a cloud to another sheet near its own; zero where there is none."""
    s = settings or ThinWallSettings()
    steps = np.zeros_like(points)
    if len(points) < 2 * s.neighbours:
        return steps
    if np.any(_by_own_neighbours(points, thinned(points, s.sampled), s), axis=1).mean() < s.share:
        return steps
    steps = _by_own_neighbours(points, points, s)
    told = np.any(steps, axis=1)
    untold = np.flatnonzero(~told)
    if len(untold):
        steps[untold] = _by_points_about(points[untold], points[told], steps[told], s)
    return steps


def _by_own_neighbours(points: Array, places: Array, s: ThinWallSettings) -> Array:
    """The step (N, d) to another sheet from places (N, d) on a cloud (M, d), as far as their neighbours show it."""
    distance, index = nearest(points, places, s.neighbours)

    def part(some: slice) -> Array:
        return _by_two_quadrics(points[index[some]], distance[some], s)

    return np.concatenate(in_threads(part, [slice(i, i + CHUNK) for i in range(0, len(places), CHUNK)]))


def _by_two_quadrics(near: Array, distance: Array, s: ThinWallSettings) -> Array:
    """The step to another sheet (M, d) from the first of each neighbourhood (M, K, d), by two parallel quadrics."""
    frames = LocalFrames.of(near, closeness(distance))
    local, root = frames.local, np.sqrt(frames.weight)
    basis = np.linalg.qr(root[..., None] * quadric_terms(local))[0]

    def rest(values: Array) -> Array:
        """What a quadric leaves of values at the neighbours (M, K), each times the root of its weight."""
        own = root * values
        return np.asarray(own - np.einsum("mkc,mc->mk", basis, np.einsum("mkc,mk->mc", basis, own)))

    one = rest(local[..., 0])
    left, apart, upper = one, np.zeros(len(near)), np.zeros(one.shape, dtype=bool)
    for _ in range(s.rounds):
        upper = _upper_group(left / root + apart[:, None] * upper, frames.weight)
        step = rest(upper.astype(np.float64))
        apart = (step * one).sum(axis=1) / np.maximum((step**2).sum(axis=1), TINY)
        left = one - apart[:, None] * step
    plane, share = local[..., 1:], upper.mean(axis=1)
    middles = [np.einsum("mk,mkc->mc", of, plane) / np.maximum(of.sum(axis=1), 1)[:, None] for of in (upper, ~upper)]
    aside, spread = ((middles[0] - middles[1]) ** 2).sum(axis=1), (plane**2).sum(axis=-1).mean(axis=1)
    two = (left**2).sum(axis=1) < s.residual_left**2 * (one**2).sum(axis=1)
    two &= np.abs(apart) * frames.size > s.apart * distance[:, s.width_neighbour - 1]
    two &= aside < s.aside**2 * spread
    two &= np.minimum(share, 1 - share) >= s.fewest
    height = two * frames.size * np.where(upper[:, 0], -apart, apart)
    return np.asarray(height[:, None] * frames.axes[..., 0])


def _upper_group(heights: Array, weight: Array) -> npt.NDArray[np.bool_]:
    """Which of some weighted heights (M, K) are in the upper of the two groups that differ the most (Otsu 1979)."""
    order = np.argsort(heights, axis=1)
    sorted_heights, below = (np.take_along_axis(of, order, axis=1) for of in (heights, weight))
    sums, below = np.cumsum(below * sorted_heights, axis=1), np.cumsum(below, axis=1)
    total, above = sums[:, -1:], below[:, -1:] - below
    between = below * above * (sums / below - (total - sums) / np.maximum(above, TINY)) ** 2
    last = between[:, :-1].argmax(axis=1)[:, None]  # of the lower group
    return heights > np.take_along_axis(sorted_heights, last, axis=1)


def _by_points_about(points: Array, others: Array, steps: Array, s: ThinWallSettings) -> Array:
    """The steps (N, d) of points (N, d), from the steps (M, d) of the nearest others (M, d) that lie on a wall.

    A point takes the mean of the steps of those whose sheets it lies on, if most do and they agree.
    """
    index = nearest(others, points, s.about)[1]
    theirs = steps[index]
    along = np.einsum("nkd,nkd->nk", points[:, None] - others[index], theirs) / (theirs**2).sum(axis=-1)
    here, there = np.abs(along) < s.off, np.abs(along - 1) < s.off
    mean = np.einsum("nk,nkd->nd", here.astype(np.float64) - there, theirs)
    count = (here | there).sum(axis=1)
    length = (theirs**2).sum(axis=-1).mean(axis=1)
    agreed = (count > s.about / 2) & ((mean**2).sum(axis=1) > (s.agreement * count) ** 2 * length)
    return np.where(agreed[:, None], mean / np.maximum(count, 1)[:, None], 0.0)
