"""How the points of a cloud lie: on a surface, as they should, on lines far apart, or all through a volume (derived).

A profile sensor gives lines: its points may be a hundred times nearer to each other along a line than across. The
nearest neighbours of a point are then on its own line and show no surface, also where lines of several views cross.
Fewer points, as far apart along the lines as these are from each other, do. Voxels and simulations give volumes. Only
their outermost points are on a surface. Where noise is more than the points are apart, those of a surface fill a layer,
which looks like a volume from within; but they are no lattice, and few are far from its outside.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import PLACES, nearest
from phase_recon.utils.arrays import thinned, unique_rows
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Arrangement = Literal["surface", "lines", "volume"]


@dataclass(frozen=True)
class ArrangementSettings:
    """By what a cloud is told to lie on lines or in a volume.

    Of 200 scans and shapes none is taken for lines or for a volume.

    Extents are standard deviations of neighbours along their principal axes, the least first.

    Attributes:
        asked: points whose neighbours are looked at, at most.
        neighbours: of a point that show whether it is on a line or a plane.
        fewer: the same where lines of several views cross, as fewer of the nearest points are then of another view.
        counts: neighbours that show whether it is in a volume, all of them: a noisy surface looks like one with few,
            two near sheets with many.
        line: extent along the second axis, as a share of that along the third, below which neighbours are a line,
        short_line: and below which the fewer are.
        on_lines: share of the points that must have such neighbours,
        no_plane: and share that must have some that are no plane. On 32 scans of 7 views, with lines ten times as far
            apart as their points, the one was 0.13 to 0.55, the other 0.10 to 0.33; with lines four times as far apart
            0.02 to 0.10, and 0.00 to 0.02; in a room scanned by a depth camera 0.10, and 0.06.
        left_on_lines: the former after the thinning, at most: on surfaces it is 0.00 to 0.06.
        plane: the same, from which on they are a plane.
        solid: extent along the first axis, as a share of that along the third, from which on neighbours are a volume:
            of the points beside a plane wall of one it is 0.54.
        most: share of the points that must have such neighbours; it was 0.99 in volumes of voxels, 0.4 on surfaces.
        first: × the median distance to the nearest other point: side of the first cells that are left one point each,
        wider: and how many times wider the next are.
        most_thinned: points among which they are chosen; of more, so many, spread evenly along the cloud.
        fewest: points that are left, at least, or else the cloud stays as it is.
        fewest_solid: points of a volume, at least: 1 000 noisy points on fins look like one.
        even: 90th percentile of the distances to the last of ``neighbours``, divided by the 10th, at most in a volume:
            1.26 to 1.33 in voxels and random points, 1.41 and more where noise blurs a surface.
        lattice: the same ratio, for the nearest other point, up to which points are a lattice: 1.0 to 1.3 in
            voxels, 1.4 to 2.5 in scans that were thinned by voxels, 2.7 to 3.1 in random points.
        about: neighbours that show whether a point of a volume is on its outside.
        outside: distance from a point to the middle of its neighbours, as a share of that to the farthest of them,
            from which on the point is on the outside: beside a plane wall it is 0.375, within a volume 0.1.
        deep: the same, below which it is far from the outside,
        most_deep: and share of the points that must be, unless they are a lattice: 0.47 to 0.6 in a ball of random
            points, up to 0.41 where noise fills a thin body; up to 0.62 where such a scan was thinned.
    """

    asked: int = 1000
    neighbours: int = 24
    fewer: int = 8
    counts: tuple[int, ...] = (12, 24, 48, 96)
    line: float = 0.1
    short_line: float = 0.2
    on_lines: float = 0.1
    no_plane: float = 0.09
    left_on_lines: float = 0.05
    plane: float = 0.5
    solid: float = 0.45
    most: float = 0.7
    first: float = 2.0
    wider: float = 1.3
    most_thinned: int = 300_000
    fewest: int = 200
    fewest_solid: int = 2000
    even: float = 1.36
    lattice: float = 1.4
    about: int = 48
    outside: float = 0.25
    deep: float = 0.12
    most_deep: float = 0.45


def arrangement(points: Array, settings: ArrangementSettings | None = None) -> tuple[Arrangement, Index]:
    """How points (N, d) lie, and those of them that show the surface, by index: all, if they are on one, or in 2D.

    A cloud on lines is thinned until its neighbourhoods are none; of a volume, the outside is left.
    """
    s = settings or ArrangementSettings()
    every = np.arange(len(points))
    if len(points) < max(s.counts) or points.shape[1] != 3:
        return "surface", every
    places = thinned(points, s.asked)
    distance, index = nearest(points, places, max(s.counts))
    neighbours = points[index]
    no_plane = (_flatness(neighbours[:, : s.neighbours]) < s.plane).mean()
    if _on_lines(neighbours, s) > s.on_lines and no_plane > s.no_plane:
        left = _thin_lines(points, s)
        return ("surface", every) if left is None else ("lines", left)
    shapes = [_extents(neighbours[:, :count]) for count in s.counts]
    solid = all((extents[:, 0] >= s.solid * extents[:, 2]).mean() > s.most for extents in shapes)
    if solid and _evenness(distance[:, s.neighbours - 1]) <= s.even and len(points) >= s.fewest_solid:
        deep = (_one_sidedness(places, neighbours[:, : s.about], distance[:, s.about - 1]) < s.deep).mean()
        if _evenness(distance[:, 1]) <= s.lattice or deep >= s.most_deep:
            return "volume", _outermost(points, s)
    return "surface", every


def _thin_lines(points: Array, s: ArrangementSettings) -> Index | None:
    """The first point in each cell of the finest grid with which neighbourhoods are no lines; None without one."""
    among = thinned(np.arange(len(points)), s.most_thinned)
    points = points[among]
    step = float(np.median(cKDTree(points).query(thinned(points, s.asked), [2])[0]))
    side = s.first * step
    while side > 0:  # of points that come many times nothing is known
        left = np.sort(unique_rows(np.floor((points - points.min(axis=0)) / side))[0])
        if len(left) < s.fewest:
            return None
        neighbours = points[left][nearest(points[left], thinned(points[left], s.asked), s.neighbours)[1]]
        if _on_lines(neighbours, s) < s.left_on_lines:
            return among[left]
        side *= s.wider
    return None


def _on_lines(neighbours: Array, s: ArrangementSettings) -> float:
    """The share of neighbourhoods (K, count, 3) that are a line, of the few nearest points or of the many."""
    few, many = (_flatness(neighbours[:, :count]) for count in (s.fewer, s.neighbours))
    return float(max((few < s.short_line).mean(), (many < s.line).mean()))


def _extents(neighbours: Array) -> Array:
    """The extents (K, 3) of neighbourhoods of so many points (K, count, 3)."""
    offsets = neighbours - neighbours.mean(axis=1, keepdims=True)
    variances = np.linalg.eigvalsh(np.einsum("nki,nkj->nij", offsets, offsets) / neighbours.shape[1])
    return np.asarray(np.sqrt(np.maximum(variances, 0.0)))


def _flatness(neighbours: Array) -> Array:
    """How wide neighbourhoods (K, count, 3) are across, as a share of their length (K,)."""
    extents = _extents(neighbours)
    return np.asarray(extents[:, 1] / np.maximum(extents[:, 2], np.finfo(float).tiny))


def _evenness(distances: Array) -> float:
    """How many times the tenth quantile of distances (N,) the ninetieth is; 1 if all are alike."""
    low, high = np.quantile(distances, [0.1, 0.9])
    return float(high / max(low, np.finfo(float).tiny))


def _one_sidedness(places: Array, neighbours: Array, farthest: Array) -> Array:
    """How far the neighbours (K, count, 3) of places (K, 3) lie to one side of them, as a share of the distance to the
    farthest of them (K,): 0 to 1 (K,).
    """
    return np.asarray(np.linalg.norm(neighbours.mean(axis=1) - places, axis=1) / farthest)


def _outermost(points: Array, s: ArrangementSettings) -> Index:
    """The points of a volume (N, 3) that are on its outside, by index."""
    tree, outside = cKDTree(points), np.empty(len(points), dtype=bool)
    for start in range(0, len(points), PLACES):
        some = points[start : start + PLACES]
        distance, index = tree.query(some, s.about, workers=threads())
        outside[start : start + PLACES] = _one_sidedness(some, points[index], distance[:, -1]) >= s.outside
    return np.flatnonzero(outside)
