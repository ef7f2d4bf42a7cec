"""From a cloud to what the training looks at: the unit ball, Ω, and what the points show of the surface near them."""

import inspect
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from datasets.local import local_fit
from datasets.pointcloud import Normalisation, PointCloud
from model.start import CENTRES, Start
from model.winding import coarse_sides
from utils.build import find_class
from utils.config import Config
from utils.general import thinned

Array = npt.NDArray[np.float64]

OMEGA_MARGIN = 0.2  # of Ω about the cloud, at least: a thin cloud's own box would cut the transition of u
# Noise as a share of the distance to the 16th neighbour: below, it is the surface's own curvature as likely as noise;
# above, the neighbours do not show the surface any more.
NOISY = (0.045, 0.12)
EXACT = 1e-9  # of which less is rounding
THIN = 0.05  # a body thinner than this, normalised, is likely to come out wrong
LEFT = 0.6  # share of the noise that the fit leaves at a point; on a plane it is 0.45
BELIEVED = 0.2  # share of the estimated normals that must be sure, or the coarse ones show more
FITTED = 300_000  # points that are looked at one by one, and then trained on, at most
SAMPLED = 2000  # points that tell the noise and the spacing
FREQUENCIES, WAVE = (2, 6), 3.0  # k of the Fourier features; their shortest wave in distances to the 16th neighbour


@dataclass(frozen=True)
class Prepared:
    """A cloud in normalised coordinates, ready for training.

    Attributes:
        normalisation: from the input's frame to this one.
        points: the points that are trained on (N, d), those that fill openings last.
        normals: the cloud's unit normals there (N, d), if the run uses them.
        directions: estimated normals there (N, d), if the run uses them.
        trust: how far each of these can be trusted (N,), 0 to 1.
        oriented: whether each of these surely points outward (N,), or else has its sign by chance.
        filled: how many of them fill openings.
        start: where the network starts, or None where the cloud encloses nothing or nothing asks for it.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).
        noise: standard deviation of the cloud's points about the surface.
        noise_left: the same of ``points``.
        reach: distance to the 16th neighbour.
        thickness: extent of the cloud along the thinnest of its principal axes.
    """

    normalisation: Normalisation
    points: Array
    normals: Array | None
    directions: Array | None
    trust: Array | None
    oriented: npt.NDArray[np.bool_] | None
    filled: int
    start: Start | None
    lower: Array
    upper: Array
    noise: float
    noise_left: float
    reach: float
    thickness: float

    @property
    def smoothed(self) -> bool:
        """Whether the points were moved."""
        return self.noise_left < self.noise


def prepare(config: Config, cloud: PointCloud) -> Prepared:
    """Look at a cloud as the configuration says; nothing is by chance."""
    t = config.train
    normalisation = Normalisation.fit(cloud.points)
    points = normalisation.apply(cloud.points)
    middle, half = (points.max(0) + points.min(0)) / 2, (points.max(0) - points.min(0)) / 2
    half = np.maximum(half * t.bounding_box_scale, half + OMEGA_MARGIN)
    box = middle - half, middle + half

    some = local_fit(points, thinned(points, SAMPLED))
    noise, reach = float(np.median(some.residual)), float(np.median(some.reach))

    shown = noise <= NOISY[1] * reach  # whether neighbours show the surface; of few points, all together may
    seen = shown or len(points) <= CENTRES
    smooth = t.smooth_points and seen and NOISY[0] * reach <= noise and noise > EXACT
    estimate = t.estimate_normals and seen and not config.network.has_normals
    kept = thinned(np.arange(len(points)), FITTED) if smooth or estimate else np.arange(len(points))
    used = points[kept]
    normals = cloud.normals[kept] if config.network.has_normals and cloud.normals is not None else None
    directions = trust = oriented = start = None
    noise_left, filled = noise, 0

    if shown and (smooth or estimate):  # each point as its neighbours show it
        fit = local_fit(points, used)
        used, noise_left = (fit.feet, LEFT * noise) if smooth else (used, noise)
        if estimate:
            directions, trust, oriented = fit.normals, fit.planarity, np.zeros(len(used), dtype=bool)
    sides = coarse_sides(used, *box) if directions is not None or t.start == "winding" else None
    if directions is not None and sides is not None:
        directions, oriented = sides.oriented(used, directions)

    if t.start == "winding":
        if normals is not None:
            if sides is not None and (sides.oriented(used, normals)[0] == normals).all(axis=1).mean() > 0.5:
                start = Start(used, normals, np.ones(len(used), dtype=bool), *box, noise_left)
        elif directions is not None and oriented is not None and oriented.mean() > BELIEVED:
            start = Start(used, directions, oriented, *box, noise_left)
        elif sides is not None:
            start = Start(sides.points, sides.normals, np.any(sides.normals, axis=1), *box, noise_left)
    if start is not None and not shown and seen:  # each point as all of them show it
        feet, slopes = start.feet(used)
        used, noise_left = (feet, LEFT * noise) if smooth else (used, noise)
        if estimate:
            directions, trust, oriented = slopes, np.ones(len(used)), np.ones(len(used), dtype=bool)
    if start is not None and t.fill_openings and len(start.filling):
        filled = len(start.filling)
        used = np.concatenate([used, start.filling])
        normals = None if normals is None else np.concatenate([normals, start.filling_normals])
        if directions is not None and trust is not None and oriented is not None:
            directions = np.concatenate([directions, start.filling_normals])
            trust, oriented = np.append(trust, np.zeros(filled)), np.append(oriented, np.ones(filled, dtype=bool))
    return Prepared(
        normalisation=normalisation,
        points=used,
        normals=normals,
        directions=directions,
        trust=trust,
        oriented=oriented,
        filled=filled,
        start=start,
        lower=box[0],
        upper=box[1],
        noise=noise,
        noise_left=noise_left,
        reach=reach,
        thickness=_thickness(thinned(points, FITTED)),
    )


def _thickness(points: Array) -> float:
    """The extent of points (N, d) along the thinnest of their principal axes."""
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return float(np.ptp(centred @ axes[:, 0]))


def settled(config: Config, reach: float) -> Config:
    """The configuration with a number of Fourier features in place of one left open.

    The shortest of their waves, 4 / 2^(k-1), is to span some points, or it follows each of them.

    Args:
        config: any.
        reach: distance to the 16th neighbour, normalised.
    """
    inputs = config.network.inputs
    parameters = inspect.signature(find_class(config.train.network_class)).parameters
    if "k" not in parameters or inputs.get("k") is not None:
        return config
    k = int(np.clip(np.floor(np.log2(4 / (WAVE * max(reach, 1e-9)))) + 1, *FREQUENCIES))
    return replace(config, network=replace(config.network, inputs={**inputs, "k": k}))
