"""From a cloud to what the training looks at: the unit ball, Ω, and what the points show of the surface near them."""

import inspect
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.datasets.pointcloud import Normalisation, PointCloud
from phase_recon.geometry.coarse_surface import CENTRES, Start
from phase_recon.geometry.creases import creases
from phase_recon.geometry.quadrics import agreeing_fit, local_fit, strays
from phase_recon.geometry.thin_walls import other_sheets
from phase_recon.geometry.winding import coarse_sides
from phase_recon.model.loss.phase import certainty
from phase_recon.model.optimizer import MOMENTUM
from phase_recon.model.sampling import EstimatedNormals
from phase_recon.utils.build import find_class
from phase_recon.utils.config import Config
from phase_recon.utils.general import ratio, thinned

Array = npt.NDArray[np.float64]

OMEGA_MARGIN = 0.2  # of Ω about the cloud, at least: a thin cloud's own box would cut the transition of u
# What quadrics leave of their neighbours is noise and detail: of noise nearly the same whether 16 or 24 are looked at,
# of detail with 16 at most 0.72 of it (measured on twelve shapes, with known noise and without).
FEWER, OF_NOISE, OF_DETAIL = 16, 0.95, 0.72
# As shares of a neighbourhood's reach: noise below is none; where more is left, they do not show the surface, and more
# of them are looked at.
NOISY = (0.02, 0.12)
# Of noise alone the share falls to 0.7 when twice as many are looked at. Where it stays, it is in part detail, of which
# so much may be borne, and so much of both.
STEADY, DETAILED, MOST = 0.8, 0.16, 0.3
NEIGHBOURS = (24, 48, 96, 192, 384)
FEWEST = 20  # neighbourhoods in a cloud: in fewer, they are no part of it but all of it
EXACT = 1e-9  # of which less is rounding
THIN = 0.05  # a body thinner than this, normalised, is likely to come out wrong,
NEEDLE = 0.025  # and one thinner than this along two axes in pieces
LEFT = 0.6  # share of the noise that the fit to the fewest leaves at a point; on a plane it is 0.45
BELIEVED = 0.2  # share of the estimated normals that must be sure, or the coarse ones show more
# Points that are looked at one by one, and then trained on, at most: the 24 nearest of so many lie within 0.02 of the
# radius of a ball, where a quadric is exact to 1e-6; of a denser cloud they would lie within its noise.
FITTED = 300_000
MARGIN = 0.05  # of the extent of so many, about them: others beyond are strays
LOOKED_AT = 1_000_000  # points among which those that come many times are sought: a second
LEAST = 10  # different points that show anything at all
SAMPLED = 2000  # points that tell the noise and the spacing
CROWD = 16  # neighbours that tell how dense a cloud is
LARGEST = 3.0  # area that a point may stand for, if one in the middle stands for 1
FILLED = 0.5  # density of the points that fill openings, as a share of the cloud's: they are a guess
CREASED = 20_000  # points of a cloud, at most, whose creases are sought: more of them show these well enough
FREQUENCIES = 2, 6  # k of the Fourier features
WAVE, NOISY_WAVE = 3.0, 12.0  # their shortest wave in distances to the 16th neighbour; and where there is noise
CLEAN_MOMENTUM = 0.99  # Muon's, where there is no noise
RATE, LEAST_RATE = 0.002, 0.65  # the learning rate at the start, and what is left of it where there is much
INWARD, MIXED = 0.1, 0.75  # share of the given normals that point outward, below which all or some are taken for wrong


@dataclass(frozen=True)
class Prepared:
    """A cloud in normalised coordinates, ready for training.

    Attributes:
        fingerprint: of the cloud as it was given, by which a checkpoint knows it.
        normalisation: from the input's frame to this one.
        points: the points that are trained on (N, d), those that were added on creases and in openings last.
        areas: what area each stands for (N,), 1 where they lie as most do or denser; None where all are taken alike.
        normals: the cloud's unit normals there (N, d), if the run uses them.
        estimated: normals that were estimated there, if the run uses them.
        dropped: how many of the cloud's points, or of the 300 000 that were looked at, stand far from all others.
        outward: share of the given normals that point outward, as far as the cloud shows, or None; where it is below
            INWARD, ``normals`` are turned round.
        creased: how many of ``points`` were added on creases.
        filled: how many of ``points`` were added in openings.
        start: where the network starts, or None where the cloud encloses nothing or nothing asks for it.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).
        noise: standard deviation of the cloud's points about the surface.
        noise_left: the same of ``points``.
        reach: distance to the 16th neighbour.
        extents: of the cloud along its principal axes (d,), the least first.
    """

    fingerprint: dict[str, int]
    normalisation: Normalisation
    points: Array
    areas: Array | None
    normals: Array | None
    estimated: EstimatedNormals[npt.NDArray[Any]] | None
    dropped: int
    outward: float | None
    creased: int
    filled: int
    start: Start | None
    lower: Array
    upper: Array
    noise: float
    noise_left: float
    reach: float
    extents: Array

    @property
    def smoothed(self) -> bool:
        """Whether the points were moved."""
        return self.noise_left < self.noise

    @property
    def thickness(self) -> float:
        """Extent along the thinnest of the principal axes."""
        return float(self.extents[0])


def prepare(config: Config, cloud: PointCloud) -> Prepared:
    """Look at a cloud as the configuration says; nothing is by chance."""
    t = config.train
    given = cloud.normals if config.network.has_normals else None
    once = _once(cloud.points if given is None else np.concatenate([cloud.points, given], axis=1))
    whole, dropped = np.arange(len(cloud.points)), np.empty(0, dtype=np.int64)
    if t.drop_outliers:
        looked_at, stray = once, strays(cloud.points[once])
        once, dropped = looked_at[~stray], looked_at[stray]
        if len(looked_at) == FITTED:  # a stray that nobody looked at is not to set the scale
            whole = np.setdiff1d(_about(cloud.points, cloud.points[once]), dropped)
        elif len(dropped):
            whole = once

    normalisation = Normalisation.fit(cloud.points[whole])
    points = normalisation.apply(cloud.points)
    upper, lower = points[whole].max(axis=0), points[whole].min(axis=0)
    middle, half = (upper + lower) / 2, (upper - lower) / 2
    half = np.maximum(half * t.bounding_box_scale, half + OMEGA_MARGIN)
    box = middle - half, middle + half

    steps = other_sheets(points[once])
    places = np.arange(len(once)) if given is None else _once(points[once])  # some come with several normals
    look = _look(points[once[places]], steps[places])
    noise = look.noise

    seen = look.shown or len(once) <= CENTRES  # few points may show the surface all together
    smooth = t.smooth_points and seen and NOISY[0] * look.width <= noise and noise > EXACT
    estimate = t.estimate_normals and seen and not config.network.has_normals
    fewer = thinned(np.arange(len(once)), len(once) * NEIGHBOURS[0] // look.neighbours)
    kept = once[fewer] if smooth or estimate else whole
    used = points[kept]
    normals = None if given is None else given[kept]
    estimated: EstimatedNormals[npt.NDArray[Any]] | None = None
    start, noise_left, filled, edges = None, noise, 0, points[:0]
    left = LEFT * noise * (NEIGHBOURS[0] / look.neighbours) ** 0.5

    if look.shown and (smooth or estimate):  # each point as its neighbours show it
        fit = agreeing_fit(points[once], fewer, look.neighbours, steps[fewer])
        used, noise_left = (fit.feet, left) if smooth else (used, noise)
        if estimate:
            estimated = EstimatedNormals(fit.normals, fit.planarity, np.zeros(len(used), dtype=bool))
        if smooth and t.find_creases and normals is None and len(once) <= CREASED:
            edges = creases(fit.feet, points[once[fewer]], fit.normals, float(np.median(fit.residual)))
    sides = coarse_sides(used, *box) if estimated is not None or t.start == "winding" else None
    if estimated is not None and sides is not None:
        turned, sure = sides.oriented(used, estimated.directions, steps[fewer])
        estimated = replace(estimated, directions=turned, oriented=sure)

    outward = None
    if normals is not None and sides is not None:
        outward = _alike(thinned(normals, len(sides.points)), sides.normals)
        normals = -normals if outward < INWARD else normals

    if t.start == "winding":
        if normals is not None:
            if outward is not None and not INWARD <= outward <= 0.5:
                start = Start(used, normals, np.ones(len(used), dtype=bool), *box, noise_left)
        elif estimated is not None and estimated.oriented.mean() > BELIEVED:
            start = Start(used, estimated.directions, estimated.oriented, *box, noise_left)
            estimated = replace(estimated, directions=start.normals, oriented=start.sure)
        elif sides is not None:
            start = Start(sides.points, sides.normals, np.any(sides.normals, axis=1), *box, noise_left)
    if start is not None and not look.shown and (smooth or estimate):  # each point as all of them show it
        feet, slopes = start.feet(used)
        used, noise_left = (feet, left) if smooth else (used, noise)
        if estimate:
            estimated = EstimatedNormals(slopes, np.ones(len(used)), np.ones(len(used), dtype=bool))
    added, directions = edges, np.zeros_like(edges)  # a crease has no normal
    if start is not None and t.fill_openings and len(start.filling):
        copies = _rounded(FILLED * _crowding_of(used) * start.filling_areas)  # the loss knows no weights of points
        filling, filling_normals = (np.repeat(of, copies, axis=0) for of in (start.filling, start.filling_normals))
        filled = len(filling)
        added, directions = np.concatenate([added, filling]), np.concatenate([directions, filling_normals])
    areas = None
    if t.weigh_by_area and len(used) <= FITTED:
        areas = np.append(_areas(used), np.ones(len(added)))
    used = np.concatenate([used, added])
    normals = None if normals is None else np.concatenate([normals, directions])
    if estimated is not None:  # at what was added they are a guess, not to be held to
        estimated = EstimatedNormals(
            np.concatenate([estimated.directions, directions]),
            np.append(estimated.trust, np.zeros(len(added))),
            np.append(estimated.oriented, np.zeros(len(added), dtype=bool)),
        )
    return Prepared(
        fingerprint={"points": len(cloud.points), "checksum": zlib.crc32(np.ascontiguousarray(cloud.points).tobytes())},
        normalisation=normalisation,
        points=used,
        areas=areas,
        normals=normals,
        estimated=estimated,
        dropped=len(dropped),
        outward=outward,
        creased=len(edges),
        filled=filled,
        start=start,
        lower=box[0],
        upper=box[1],
        noise=noise,
        noise_left=noise_left,
        reach=look.reach,
        extents=_extents(points[once]),
    )


def _about(points: Array, some: Array) -> npt.NDArray[np.int64]:
    """Indices of the points (N, d) in the bounding box of some of them (M, d), or not far from it."""
    lower, upper = some.min(axis=0), some.max(axis=0)
    margin = MARGIN * (upper - lower).max()
    return np.flatnonzero(((points >= lower - margin) & (points <= upper + margin)).all(axis=1))


@dataclass(frozen=True)
class _Look:
    """What some of a cloud's points show: ``noise`` and ``reach`` of ``Prepared``, and of the fewest neighbours that
    show the surface, or of 24 where none do, how many they are and how wide (their ``LocalFit.reach``).
    """

    shown: bool
    neighbours: int
    noise: float
    width: float
    reach: float


def _look(points: Array, steps: Array) -> _Look:
    """Noise moves quadrics through more neighbours less; detail moves them more, and so is not taken for noise: where
    it is seen by the first that are more, the fewest show the surface better. Few points in all are too few to tell
    one from the other.
    """
    some = thinned(np.arange(len(points)), SAMPLED)

    def left(neighbours: int) -> tuple[float, float]:
        """What quadrics leave of so many neighbours, and how wide these are, in the middle."""
        fit = local_fit(points, points[some], neighbours, steps[some])
        return float(np.median(fit.residual)), float(np.median(fit.reach))

    rest, width = left(NEIGHBOURS[0])
    few = len(points) <= CENTRES
    noise = rest if few else rest * _share_of_noise(left(FEWER)[0] / max(rest, EXACT))
    look = _Look(rest <= NOISY[1] * width, NEIGHBOURS[0], noise, width, width)
    if look.shown or few:
        return look
    for neighbours in NEIGHBOURS[1:]:
        if neighbours * FEWEST > len(points):
            break
        more, wide = left(neighbours)
        if neighbours == NEIGHBOURS[1] and more * width > STEADY * rest * wide:
            return replace(look, shown=rest <= MOST * width and rest**2 - noise**2 <= (DETAILED * width) ** 2)
        if more <= NOISY[1] * wide:
            return _Look(True, neighbours, more, wide, width)
    return look


def _share_of_noise(kept: float) -> float:
    """How much of what quadrics leave of 24 neighbours is noise, 0 to 1, if they leave so much of it of fewer."""
    return float(np.sqrt(np.clip((kept**2 - OF_DETAIL**2) / (OF_NOISE**2 - OF_DETAIL**2), 0.0, 1.0)))


def crowding(radius: float, d: int, neighbours: int = CROWD) -> float:
    """Points per area (2D: per length) of a cloud whose points have so many neighbours nearer than a radius."""
    return neighbours / (2 * radius if d == 2 else np.pi * radius**2)


def _areas(points: Array) -> Array:
    """The area that each point (N, d) stands for (N,), by the distance to its 16th neighbour: 1 in the middle.

    No less where that is nearer, as it is on folds of the surface too, which so would be drawn more seldom.
    """
    nearest = cKDTree(points).query(points, k=[min(CROWD + 1, len(points))], workers=-1)[0][:, 0]
    return np.asarray(np.clip(ratio(nearest, np.median(nearest)) ** (points.shape[1] - 1), 1.0, LARGEST))


def _crowding_of(points: Array) -> float:
    """The same of a cloud (N, d), where its neighbours lie as they do in the middle of it."""
    nearest = min(CROWD, len(points) - 1)
    radius = np.median(cKDTree(points).query(thinned(points, SAMPLED), k=[nearest + 1], workers=-1)[0])
    return crowding(float(radius), points.shape[1], nearest)


def _rounded(counts: Array) -> npt.NDArray[np.int64]:
    """Whole numbers (N,) in place of counts (N,), the sum of the first k of which is that of these, rounded down."""
    return np.diff(np.floor(np.cumsum(counts)), prepend=0).astype(np.int64)


def _alike(normals: Array, others: Array) -> float:
    """The share of some normals (N, d) that are on the same side as others (N, d), of which some may be zero."""
    cosine = (normals * others).sum(axis=1)
    return float((cosine > 0).sum() / max((cosine != 0).sum(), 1))


def _once(rows: Array) -> npt.NDArray[np.int64]:
    """Indices of points, or of points with normals (N, c), each once: corners of a mesh's triangles come many times.

    Of more than FITTED, so many; of fewer than LEAST, which a quadric would not fit, all of them.
    """
    some = thinned(np.arange(len(rows)), LOOKED_AT)
    once = some[np.sort(np.unique(rows[some], axis=0, return_index=True)[1])]
    return thinned(once, FITTED) if len(once) >= LEAST else some


def _extents(points: Array) -> Array:
    """The extents (d,) of points (N, d) along their principal axes, the least first."""
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.sort(np.ptp(centred @ axes, axis=0))


def settled(config: Config, reach: float, noise: float) -> Config:
    """The configuration with values, by the cloud, in place of a momentum, a learning rate and a number of Fourier
    features left open.

    The shortest of their waves, 4 / 2^(k-1), is to span some points, or it follows each of them; and more, where these
    are noisy.

    Args:
        config: any.
        reach: distance to the 16th neighbour, normalised.
        noise: standard deviation of the points that are trained on about the surface; 0 where they show none.
    """
    if config.train.momentum is None:
        config = replace(config, train=replace(config.train, momentum=MOMENTUM if noise else CLEAN_MOMENTUM))
    (schedule,) = config.train.learning_rate_schedule
    if schedule.Initial is None:
        initial = max(RATE * max(certainty(noise), LEAST_RATE), schedule.Final or 0.0)
        schedule = replace(schedule, Initial=initial)
        config = replace(config, train=replace(config.train, learning_rate_schedule=(schedule,)))
    inputs = config.network.inputs
    parameters = inspect.signature(find_class(config.train.network_class)).parameters
    if "k" not in parameters or inputs.get("k") is not None:
        return config
    wave = (NOISY_WAVE if noise else WAVE) * max(reach, 1e-9)
    k = int(np.clip(np.floor(np.log2(4 / wave)) + 1, *FREQUENCIES))
    return replace(config, network=replace(config.network, inputs={**inputs, "k": k}))
