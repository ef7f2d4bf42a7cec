"""Where a cloud has two sheets near each other, such as the sides of a thin wall (derived).

The points nearest to one on a wall as thin as they are apart lie on both of its sides, and a quadric through them is of
neither. But two parallel quadrics leave nearly nothing of such points. So both are fitted to each neighbourhood, and
where they leave far less than one does, and each is seen all over it, there are two sheets.
"""

import numpy as np
import numpy.typing as npt

from phase_recon.geometry.quadrics import Frames, closeness, nearest, terms
from phase_recon.utils.general import in_threads, thinned

Array = npt.NDArray[np.float64]

NEIGHBOURS, REACH = 48, 16  # that are looked at, and those by which a distance between sheets is measured:
APART = 0.4  # nearer ones than this share of it are a scan's own views of one surface, as likely
SHRUNK = 0.4  # what two quadrics leave of what one does, at most; of noise about one sheet they leave half
FEWEST = 1 / 6  # share of the neighbours on each sheet
ASIDE = 0.9  # largest distance of their middles, by their spread: at a step or a crease they lie side by side
ROUNDS = 4  # in which points are dealt to the sheets
SAMPLED, SHARE = 2000, 0.01  # points that tell whether a cloud has walls, and the share of them on one where it has
ABOUT = 10  # neighbours that tell of a point whose own neighbourhood does not, as near a rim
OFF = 0.25  # of the distance of the sheets, how far from one of them a point on it may be
CHUNK = 4096  # neighbourhoods at a time


def other_sheets(points: Array) -> Array:
    """The step (N, d) from each point (N, d) of a cloud to a sheet near its own; zero where there is none."""
    steps = np.zeros_like(points)
    if len(points) < 2 * NEIGHBOURS or np.any(_seen(points, thinned(points, SAMPLED)), axis=1).mean() < SHARE:
        return steps
    steps = _seen(points, points)
    told = np.any(steps, axis=1)
    open_ones = np.flatnonzero(~told)
    if len(open_ones):
        steps[open_ones] = _told_by_others(points[open_ones], points[told], steps[told])
    return steps


def _seen(points: Array, places: Array) -> Array:
    """The step (N, d) to the other sheet from some (N, d) of the points (M, d), as far as their neighbours show it."""
    distance, index = nearest(points, places, NEIGHBOURS)

    def part(some: slice) -> Array:
        return _two_quadrics(points[index[some]], distance[some])

    return np.concatenate(in_threads(part, [slice(i, i + CHUNK) for i in range(0, len(places), CHUNK)]))


def _two_quadrics(near: Array, distance: Array) -> Array:
    """The step to the other sheet (M, d) from the first of each neighbourhood (M, K, d), by two parallel quadrics."""
    frames = Frames.of(near, closeness(distance))
    local, root = frames.local, np.sqrt(frames.weight)
    basis = np.linalg.qr(root[..., None] * terms(local))[0]

    def rest(values: Array) -> Array:
        """What a quadric leaves of values at the neighbours (M, K), each times its root."""
        own = root * values
        return np.asarray(own - np.einsum("mkc,mc->mk", basis, np.einsum("mkc,mk->mc", basis, own)))

    one = rest(local[..., 0])
    left, apart, upper = one, np.zeros(len(near)), np.zeros(one.shape, dtype=bool)
    for _ in range(ROUNDS):
        upper = _parted(left / root + apart[:, None] * upper, frames.weight)
        step = rest(upper.astype(np.float64))
        apart = (step * one).sum(axis=1) / np.maximum((step**2).sum(axis=1), np.finfo(np.float64).tiny)
        left = one - apart[:, None] * step
    plane, share = local[..., 1:], upper.mean(axis=1)
    middles = [np.einsum("mk,mkc->mc", of, plane) / np.maximum(of.sum(axis=1), 1)[:, None] for of in (upper, ~upper)]
    aside, spread = ((middles[0] - middles[1]) ** 2).sum(axis=1), (plane**2).sum(axis=-1).mean(axis=1)
    two = (left**2).sum(axis=1) < SHRUNK**2 * (one**2).sum(axis=1)
    two &= (np.abs(apart) * frames.size > APART * distance[:, REACH - 1]) & (aside < ASIDE**2 * spread)
    two &= np.minimum(share, 1 - share) >= FEWEST
    height = two * frames.size * np.where(upper[:, 0], -apart, apart)
    return np.asarray(height[:, None] * frames.axes[..., 0])


def _parted(heights: Array, weight: Array) -> npt.NDArray[np.bool_]:
    """Which of some weighted heights (M, K) are in the upper of the two groups that differ the most (Otsu 1979)."""
    order = np.argsort(heights, axis=1)
    sorted_heights, below = (np.take_along_axis(of, order, axis=1) for of in (heights, weight))
    sums, below = np.cumsum(below * sorted_heights, axis=1), np.cumsum(below, axis=1)
    total, above = sums[:, -1:], below[:, -1:] - below
    between = below * above * (sums / below - (total - sums) / np.maximum(above, np.finfo(np.float64).tiny)) ** 2
    last = between[:, :-1].argmax(axis=1)[:, None]  # of the lower group
    return heights > np.take_along_axis(sorted_heights, last, axis=1)


def _told_by_others(points: Array, others: Array, steps: Array) -> Array:
    """The steps (N, d) of points (N, d) that most of the nearest others (M, d), whose steps (M, d) are known, have on
    their own sheet or the other.
    """
    index = nearest(others, points, ABOUT)[1]
    theirs = steps[index]
    along = np.einsum("nkd,nkd->nk", points[:, None] - others[index], theirs) / (theirs**2).sum(axis=-1)
    here, there = np.abs(along) < OFF, np.abs(along - 1) < OFF
    mean = np.einsum("nk,nkd->nd", here.astype(np.float64) - there, theirs)
    count = (here | there).sum(axis=1)
    agreed = (count > ABOUT / 2) & ((mean**2).sum(axis=1) > (0.5 * count) ** 2 * (theirs**2).sum(axis=-1).mean(axis=1))
    return np.where(agreed[:, None], mean / np.maximum(count, 1)[:, None], 0.0)
