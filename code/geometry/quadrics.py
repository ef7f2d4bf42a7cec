"""Quadrics fitted to the neighbours of each point: they denoise it and give its normal up to sign (derived).

The height of the quadric at a point is where the surface is likelier than the noisy point itself, its slope gives the
normal, and what it leaves of the neighbours is their noise. A second, bilateral fit weighs neighbours by how far their
normals agree, as those across an edge belong to another face (Jones, Durand & Desbrun 2003).
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import NEIGHBOURS, TINY, Nearest, closeness, farthest, nearest_on_sheet
from phase_recon.utils.threads import in_threads, threads

Array = npt.NDArray[np.float64]

AGREEMENT = 0.5  # distance of two unit normals at which a neighbour's weight has fallen to 1/e
CHUNK = 1 << 18  # neighbours at a time: 10 MB an array, which a processor's cache holds
ROUNDING = 1e-9  # of the largest spread: on one line or in one place, no direction is a normal
SINGULAR = 1e-6  # diagonal of the triangular factor below which a term of the quadric is not determined


@dataclass(frozen=True)
class QuadricFit:
    """The quadrics of some points.

    Attributes:
        projections: where the quadrics pass the points (N, d), along the thinnest axis of their neighbours.
        normals: unit normals of the quadrics there (N, d), their sign by chance.
        planarity: how far a normal can be trusted (N,): 0 where the neighbours spread alike in all directions, 1 where
            they lie in a plane (a line in 2D).
        residual: standard deviation of the neighbours about each quadric (N,). Noise-free points of a smooth surface
            leave nearly nothing; where the points are too few for the shape, detail is left.
        width: distance to the neighbour at two thirds of them (N,): the 15th other of 24.
    """

    projections: Array
    normals: Array
    planarity: Array
    residual: Array
    width: Array

    def with_some(self, index: npt.NDArray[np.int64], others: "QuadricFit") -> "QuadricFit":
        """The same with the quadrics of some points (M,) in place of those here."""
        changed = {}
        for of in fields(self):
            values = getattr(self, of.name).copy()
            values[index] = getattr(others, of.name)
            changed[of.name] = values
        return QuadricFit(**changed)


@dataclass(frozen=True)
class LocalFrames:
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
    def of(cls, near: Array, weight: Array) -> "LocalFrames":
        """The frames of points (M, K, d) with weights (M, K)."""
        weight = weight / weight.sum(axis=1, keepdims=True)
        middle = np.einsum("mk,mkc->mc", weight, near)
        near = near - middle[:, None]
        size = np.maximum(np.linalg.norm(near, axis=-1).max(axis=1), TINY)
        near = near / size[:, None, None]
        spread, axes = np.linalg.eigh(near.mT @ (weight[..., None] * near))
        return cls(near @ axes, weight, middle, size, axes, spread)


def fit_quadrics(
    points: Array, places: Array, neighbours: int = NEIGHBOURS, opposite: Array | None = None, chunk: int = CHUNK
) -> QuadricFit:
    """Fit a quadric to the nearest of M points at each of N places; both (…, d), d = 2 or 3, M ≥ 10.

    Args:
        points: the cloud (M, d).
        places: where to fit (N, d).
        neighbours: points to which each quadric is fitted.
        opposite: step (N, d) from each place to another sheet that is near, whose points do not count; zero without
            one, None without any.
        chunk: neighbours at a time.
    """
    return _in_parts(points, places, nearest_on_sheet(points, places, neighbours, opposite), None, chunk)


def fit_quadrics_bilateral(
    points: Array,
    chosen: npt.NDArray[np.int64],
    neighbours: int = NEIGHBOURS,
    opposite: Array | None = None,
    chunk: int = CHUNK,
) -> QuadricFit:
    """``fit_quadrics`` at some of the points (N,), then again with each neighbour weighted by its agreement.

    The weight is exp(-‖n_i ± n_j‖² / ¼), where n_j is the normal of the chosen point nearest to the neighbour.
    """
    places = points[chosen]
    own = nearest_on_sheet(points, places, neighbours, opposite)
    normals = _in_parts(points, places, own, None, chunk).normals
    shown_by = np.full(len(points), -1)
    shown_by[chosen] = np.arange(len(chosen))
    others = np.flatnonzero(shown_by < 0)
    shown_by[others] = cKDTree(places).query(points[others], workers=threads())[1]
    return _in_parts(points, places, own, (normals, normals[shown_by]), chunk)


def _in_parts(
    points: Array, places: Array, own: Nearest, normals: tuple[Array, Array] | None, chunk: int
) -> QuadricFit:
    """The quadrics at places (N, d), with given normals at these (N, d) and at the points (M, d)."""

    def part(some: slice) -> QuadricFit:
        distance, index = own[0][some], own[1][some]
        weight = closeness(distance)
        if normals is not None:
            cosine = np.einsum("mkc,mc->mk", normals[1][index], normals[0][some])
            weight *= np.exp((np.abs(cosine) - 1) * 2 / AGREEMENT**2)
        width = np.minimum(distance[:, -(-2 * index.shape[1] // 3) - 1], farthest(distance))
        return _fit(points[index], weight, places[some], width)

    step = chunk // own[1].shape[1]
    parts = in_threads(part, [slice(start, start + step) for start in range(0, len(places), step)])
    return QuadricFit(*(np.concatenate([getattr(part, of.name) for part in parts]) for of in fields(QuadricFit)))


def _fit(near: Array, weight: Array, places: Array, width: Array) -> QuadricFit:
    """The quadrics at places (M, d) of the points near each (M, K, d), weighted (M, K)."""
    d = places.shape[1]
    frames = LocalFrames.of(near, weight)
    size, root = frames.size, np.sqrt(frames.weight)
    rounding = ROUNDING * frames.spread[:, -1] + TINY
    basis, triangle = np.linalg.qr(root[..., None] * quadric_terms(frames.local))
    height = root * frames.local[..., 0]
    projected = np.einsum("mkc,mk->mc", basis, height)
    rest = height - np.einsum("mkc,mc->mk", basis, projected)
    # of noise of variance 1, the weighted squares that the fit leaves (the trace of the projection onto the rest)
    freedom = np.maximum(1 - np.einsum("mk,mkc,mkc->m", frames.weight, basis, basis), 1 / (2 * basis.shape[1]))
    # too few or equal neighbours leave terms undetermined, which are then zero
    usable = np.abs(np.diagonal(triangle, axis1=1, axis2=2)).min(axis=1) > SINGULAR
    triangle[~usable] = np.eye(triangle.shape[-1])
    coefficients = np.where(usable[:, None], np.linalg.solve(triangle, projected[..., None])[..., 0], 0.0)
    local = ((places - frames.middle) / size[:, None])[:, None] @ frames.axes
    at = np.einsum("mkc,mc->mk", quadric_terms(local), coefficients)[:, 0]
    slopes = [np.einsum("mkc,mc->mk", quadric_terms(local, i), coefficients)[:, 0] for i in range(1, d)]
    normal = np.stack([np.ones_like(at), *(-slope for slope in slopes)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    step = (at - local[:, 0, 0]) * usable * size
    return QuadricFit(
        projections=places + step[:, None] * frames.axes[..., 0],
        normals=np.einsum("mij,mj->mi", frames.axes, normal),
        planarity=np.clip(1 - (frames.spread[:, 0] + rounding) / (frames.spread[:, 1] + rounding), 0.0, 1.0),
        residual=np.sqrt((rest**2).sum(axis=1) / freedom) * size,
        width=width,
    )


def quadric_terms(local: Array, axis: int | None = None) -> Array:
    """The terms 1, x, …, x², xy, … of the coordinates in the plane (M, K, d - 1 of d), or their derivatives in one.

    Args:
        local: points in the frame of their neighbourhood (M, K, d); the first coordinate is the height.
        axis: the coordinate, 1 to d - 1, in which to derive; None for the terms themselves.

    Returns:
        (M, K, terms): 3 terms in 2D, 6 in 3D.
    """
    plane = [local[..., i] for i in range(1, local.shape[-1])]
    pairs = [(a, b) for a in range(len(plane)) for b in range(a, len(plane))]
    one, zero = np.ones_like(plane[0]), np.zeros_like(plane[0])
    if axis is None:
        return np.stack([one, *plane, *(plane[a] * plane[b] for a, b in pairs)], axis=-1)
    own = axis - 1
    linear = [one if a == own else zero for a in range(len(plane))]
    squares = [plane[b] * (a == own) + plane[a] * (b == own) for a, b in pairs]
    return np.stack([zero, *linear, *squares], axis=-1)
