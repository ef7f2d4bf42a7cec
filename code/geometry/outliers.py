"""Outliers of a cloud: points that stand far from all others, and what is far behind the body (derived).

Of a cloud too large to look at each point, some are looked at, and ``find_strays`` compares the others with these.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phase_recon.geometry.neighbours import nearest
from phase_recon.utils.arrays import unique_rows

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OutlierSettings:
    """When a point is an outlier. The values keep every point of 31 scans and shapes but for what one sees as outliers.

    Attributes:
        fewest: points of a cloud below which there are no outliers.
        others: the distance to so many other points tells how sparse the cloud is at a point; an outlier may so have
            up to three companions.
        about: points about a point with which it is compared.
        sparser_than_about: times that the cloud is sparser at an outlier than at the points about it, by area.
        sparser_than_most: times that it is sparser there than at most points, by area.
        most: share of the cloud above which none is an outlier: a cloud so uneven is so on purpose.
        body: share of the points, along each axis, that show where the body is.
        behind: × extent of the body: a cloud that is so much wider has a background, such as the sky of a scene of
            splats. In the Ω about both, the body would have 17 of the 256 cells of a mesh.
        margin: × extent of the body: what is farther off it is the background.
    """

    fewest: int = 100
    others: int = 4
    about: int = 16
    sparser_than_about: float = 9.0
    sparser_than_most: float = 6.0
    most: float = 0.02
    body: float = 0.9
    behind: float = 10.0
    margin: float = 0.5


def find_outliers(points: Array, settings: OutlierSettings | None = None) -> npt.NDArray[np.bool_]:
    """Which points (N, d), in any unit, stand far from all others (N,), alone or in groups of up to four.

    The cloud is sparser there than at the points about, and than at most points. Where a scan is sparse, it is so at
    the points about too.
    """
    s = settings or OutlierSettings()
    first, place = unique_rows(points)
    different = points[first]
    none = np.zeros(len(points), dtype=bool)
    if len(different) < s.fewest:
        return none
    distance, index = nearest(different, different, s.about + 1)
    own = distance[:, s.others] ** (points.shape[1] - 1)  # area (2D: length) for so many points
    about = np.median(own[index[:, 1:]], axis=1)
    far = own > np.maximum(s.sparser_than_about * about, s.sparser_than_most * np.median(own))
    return none if far.mean() > s.most else np.asarray(far[place])


def find_strays(points: Array, some: Array, settings: OutlierSettings | None = None) -> npt.NDArray[np.bool_]:
    """Which points (N, d) stand far from all of some others (M, d), from which outliers were taken (N,).

    The circle (2D: the interval) from such a point to the nearest of the others has more area than a few points have
    there, and at most places. Where outliers were left among the others, their like stay.
    """
    s = settings or OutlierSettings()
    some = some[unique_rows(some)[0]]
    if len(some) < s.fewest:
        return np.zeros(len(points), dtype=bool)
    power = points.shape[1] - 1
    own = nearest(some, some, s.others + 1)[0][:, s.others] ** power
    distance, index = nearest(some, points, 1)
    least = np.maximum(s.sparser_than_about * own[index[:, 0]], s.sparser_than_most * np.median(own))
    return np.asarray(distance[:, 0] ** power > least)


def find_background(points: Array, some: Array, settings: OutlierSettings | None = None) -> npt.NDArray[np.bool_]:
    """Which points (N, d), in any unit, are far behind the body that some of them (M, d) show, if it is small (N,)."""
    s = settings or OutlierSettings()
    low, high = np.quantile(some, [(1 - s.body) / 2, (1 + s.body) / 2], axis=0)
    extent = float((high - low).max())
    if len(some) < s.fewest or np.ptp(some, axis=0).max() <= s.behind * extent:
        return np.zeros(len(points), dtype=bool)
    return np.asarray(((points < low - s.margin * extent) | (points > high + s.margin * extent)).any(axis=1))
