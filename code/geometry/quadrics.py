"""What a cloud shows of its surface near each of its points: a quadric through the nearest ones (derived).

Its height at a point is where the surface is likelier than the noisy point itself, its slope gives the normal up to
sign, and what it leaves of the points is their noise. A second fit counts neighbours by how far their normals agree,
as those across an edge show another face (bilateral filtering; Jones, Durand & Desbrun 2003).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.utils.general import beyond, in_threads

Array = npt.NDArray[np.float64]
Nearest = tuple[Array, npt.NDArray[np.int64]]  # distances (N, K) to the points nearest to N places, and their indices

NEIGHBOURS = 24  # where nobody asks for more
FALL = -2.0  # of the logarithm of a neighbour's weight, at the farthest
AGREEMENT = 0.5  # distance of two normals at which a neighbour's weight has fallen to 1/e
FEWEST, FOURTH, ABOUT = 100, 4, 16  # points of a cloud in which one is a stray, and neighbours that tell
ALONE, FAR = 9.0, 6.0  # how many times thinner the cloud is at a stray than at the points about, and at most points
MOST = 0.02  # share of strays in a cloud
CHUNK = 1 << 18  # neighbours at a time: 10 MB each array, which a processor holds near
TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class LocalFit:
    """The quadrics of some points.

    Attributes:
        feet: where the quadrics pass the points (N, d), along their normals.
        normals: unit normals of the quadrics there (N, d), their sign by chance.
        planarity: how much a normal can be trusted (N,): 0 where the neighbours spread alike in all directions, 1 where
            they lie in a plane (a line in 2D).
        residual: standard deviation of the neighbours about each quadric (N,): the noise. Exact points of a smooth
            surface leave nearly nothing; too few points for the shape look like noise.
        reach: distance to the neighbour at two thirds of them, the 16th of 24 (N,).
    """

    feet: Array
    normals: Array
    planarity: Array
    residual: Array
    reach: Array


@dataclass(frozen=True)
class Frames:
    """Neighbourhoods of K points, each in the frame of its principal axes.

    Attributes:
        local: the points (M, K, d), from the middle, with the farthest at distance 1; the first axis is the thinnest.
        weight: of each (M, K); the sum is 1.
        middle: weighted means (M, d).
        size: the unit of ``local`` (M,).
        axes: the principal axes (M, d, d), as columns.
        spread: variances along these (M, d).
    """

    local: Array
    weight: Array
    middle: Array
    size: Array
    axes: Array
    spread: Array

    @classmethod
    def of(cls, near: Array, weight: Array) -> "Frames":
        """Those of points (M, K, d) with weights (M, K)."""
        weight = weight / weight.sum(axis=1, keepdims=True)
        middle = np.einsum("mk,mkc->mc", weight, near)
        near = near - middle[:, None]
        size = np.maximum(np.linalg.norm(near, axis=-1).max(axis=1), TINY)
        near = near / size[:, None, None]
        spread, axes = np.linalg.eigh(near.mT @ (weight[..., None] * near))
        return cls(near @ axes, weight, middle, size, axes, spread)


def local_fit(points: Array, places: Array, neighbours: int = NEIGHBOURS, steps: Array | None = None) -> LocalFit:
    """Fit a quadric to the 24 (or so) of M points nearest to each of N places; both (…, d), d = 2 or 3, M ≥ 10.

    Where there is another sheet, a step (N, d) away from the place, its points do not count.
    """
    return _in_parts(points, places, _nearest_own(points, places, neighbours, steps), None)


def agreeing_fit(
    points: Array, chosen: npt.NDArray[np.int64], neighbours: int = NEIGHBOURS, steps: Array | None = None
) -> LocalFit:
    """``local_fit`` of points (M, d) at some of them (N,), and again with each neighbour weighted by its agreement.

    That is exp(-‖n_i ± n_j‖² / ¼), where n_j is the normal of the chosen point nearest to the neighbour.
    """
    places = points[chosen]
    own = _nearest_own(points, places, neighbours, steps)
    normals = _in_parts(points, places, own, None).normals
    shown_by = np.empty(len(points), dtype=np.int64)
    shown_by[chosen] = np.arange(len(chosen))
    others = np.setdiff1d(np.arange(len(points)), chosen)
    shown_by[others] = cKDTree(places).query(points[others], workers=-1)[1]
    return _in_parts(points, places, own, (normals, normals[shown_by]))


def strays(points: Array) -> npt.NDArray[np.bool_]:
    """Which of some points (N, d) stand far from all others (N,), alone or in groups of up to four (derived).

    The cloud is then thinner there, by the distance to the fourth neighbour, than at the points about, and at most
    points; where a scan is thin, it is so at the points about too. Among fewer than 100 different points there are
    none, nor where they would be more than a fiftieth: a cloud so uneven is so on purpose.
    """
    different, place = np.unique(points, axis=0, return_inverse=True)
    none = np.zeros(len(points), dtype=bool)
    if len(different) < FEWEST:
        return none
    distance, index = nearest(different, different, ABOUT + 1)
    own = distance[:, FOURTH] ** (points.shape[1] - 1)  # area or length for so many points
    about = np.median(own[index[:, 1:]], axis=1)
    far = own > np.maximum(ALONE * about, FAR * np.median(own))
    return none if far.mean() > MOST else np.asarray(far[place.ravel()])


def nearest(points: Array, places: Array, neighbours: int) -> Nearest:
    """The nearest of points (M, d) to places (N, d): so many (K), or all where there are fewer."""
    count = min(neighbours, len(points))
    distance, index = cKDTree(points).query(places, k=np.arange(1, count + 1), workers=-1)  # so one is a column, too
    return distance, index


def closeness(distance: Array) -> Array:
    """The weights (M, K) of neighbours at distances (M, K), the farthest last."""
    return np.exp(FALL * (distance / np.maximum(distance[:, -1:], TINY)) ** 2)


def _nearest_own(points: Array, places: Array, neighbours: int, steps: Array | None) -> Nearest:
    """The nearest on the places' own sheets, as far as these are among three times as many."""
    if steps is None or not steps.any():
        return nearest(points, places, neighbours)
    distance, index = nearest(points, places, 3 * neighbours)
    for start in range(0, len(places), CHUNK):
        some = slice(start, start + CHUNK)
        others = beyond(points[index[some]] - places[some, None], steps[some])
        order = np.argsort(others, axis=1, kind="stable")
        distance[some], index[some] = (np.take_along_axis(of[some], order, axis=1) for of in (distance, index))
    return distance[:, :neighbours], index[:, :neighbours]


def _in_parts(points: Array, places: Array, own: Nearest, normals: tuple[Array, Array] | None) -> LocalFit:
    """The quadrics at places (N, d), with given normals at these (N, d) and at the points (M, d)."""

    def part(some: slice) -> LocalFit:
        distance, index = own[0][some], own[1][some]
        weight = closeness(distance)
        if normals is not None:
            cosine = np.einsum("mkc,mc->mk", normals[1][index], normals[0][some])
            weight *= np.exp((np.abs(cosine) - 1) * 2 / AGREEMENT**2)
        return _fit(points[index], weight, places[some], distance[:, -(-2 * index.shape[1] // 3) - 1])

    step = CHUNK // own[1].shape[1]
    parts = in_threads(part, [slice(start, start + step) for start in range(0, len(places), step)])
    names = ("feet", "normals", "planarity", "residual", "reach")
    return LocalFit(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _fit(near: Array, weight: Array, places: Array, reach: Array) -> LocalFit:
    """The quadrics at places (M, d) of the points near each (M, K, d), weighted (M, K)."""
    d = places.shape[1]
    frames = Frames.of(near, weight)
    size, root = frames.size, np.sqrt(frames.weight)
    rounding = 1e-9 * frames.spread[:, -1] + TINY  # on one line or in one place, no direction is a normal
    basis, triangle = np.linalg.qr(root[..., None] * terms(frames.local))
    height = root * frames.local[..., 0]
    projected = np.einsum("mkc,mk->mc", basis, height)
    rest = height - np.einsum("mkc,mc->mk", basis, projected)
    # of noise of variance 1, the weighted squares that the fit leaves (the trace of what projects on them)
    freedom = np.maximum(1 - np.einsum("mk,mkc,mkc->m", frames.weight, basis, basis), 1 / (2 * basis.shape[1]))
    # the quadric at the place itself; too few or equal neighbours leave terms open, which are then zero
    usable = np.abs(np.diagonal(triangle, axis1=1, axis2=2)).min(axis=1) > 1e-6
    triangle[~usable] = np.eye(triangle.shape[-1])
    coefficients = np.where(usable[:, None], np.linalg.solve(triangle, projected[..., None])[..., 0], 0.0)
    local = ((places - frames.middle) / size[:, None])[:, None] @ frames.axes
    at = np.einsum("mkc,mc->mk", terms(local), coefficients)[:, 0]
    slopes = [np.einsum("mkc,mc->mk", terms(local, i), coefficients)[:, 0] for i in range(1, d)]
    normal = np.stack([np.ones_like(at), *(-slope for slope in slopes)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    step = (at - local[:, 0, 0]) * usable * size
    return LocalFit(
        feet=places + step[:, None] * frames.axes[..., 0],
        normals=np.einsum("mij,mj->mi", frames.axes, normal),
        planarity=np.clip(1 - (frames.spread[:, 0] + rounding) / (frames.spread[:, 1] + rounding), 0.0, 1.0),
        residual=np.sqrt((rest**2).sum(axis=1) / freedom) * size,
        reach=reach,
    )


def terms(local: Array, axis: int | None = None) -> Array:
    """The terms 1, x, …, x², xy, … of the plane's coordinates (M, K, d - 1 of d), or their derivatives in one."""
    plane = [local[..., i] for i in range(1, local.shape[-1])]
    pairs = [(a, b) for a in range(len(plane)) for b in range(a, len(plane))]
    one, zero = np.ones_like(plane[0]), np.zeros_like(plane[0])
    if axis is None:
        return np.stack([one, *plane, *(plane[a] * plane[b] for a, b in pairs)], axis=-1)
    own = axis - 1
    linear = [one if a == own else zero for a in range(len(plane))]
    squares = [plane[b] * (a == own) + plane[a] * (b == own) for a, b in pairs]
    return np.stack([zero, *linear, *squares], axis=-1)
