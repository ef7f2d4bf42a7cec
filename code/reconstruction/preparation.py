"""From a cloud to what the training looks at: the unit ball, Ω, and what the points show of the surface near them."""

import inspect
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from datasets.local import LocalFit, local_fit
from datasets.pointcloud import Normalisation, PointCloud
from model.start import Start, coarse_inside
from utils.build import find_class
from utils.config import Config
from utils.general import thinned

Array = npt.NDArray[np.float64]

OMEGA_MARGIN = 0.2  # of Ω about the cloud, at least: a thin cloud's own box would cut the transition of u
BALL_NOISE, BALL_LEAST, BALL_MOST = 2.0, 0.001, 0.02  # δ from the noise, normalised
# Noise as a share of the distance to the 16th neighbour: below, it is the surface's own curvature as likely as noise;
# above, the neighbours do not show the surface any more.
NOISY = (0.045, 0.12)
LEFT = 0.6  # share of the noise that the fit leaves at a point; on a plane it is 0.45
FITTED = 300_000  # points that are looked at one by one, at most: more than a run of the default length draws
SAMPLED = 2000  # points that tell the noise and the spacing
FREQUENCIES, WAVE = (2, 6), 3.0  # k of the Fourier features; their shortest wave in distances to the 16th neighbour


@dataclass(frozen=True)
class Prepared:
    """A cloud in normalised coordinates, ready for training.

    Attributes:
        normalisation: from the input's frame to this one.
        points: the points that are trained on (N, d).
        normals: the cloud's unit normals there (N, d), if the run uses them.
        directions: estimated normals there (N, d), if the run uses them.
        trust: how far each of these can be trusted (N,), 0 to 1.
        oriented: whether each of these surely points outward (N,), or else has its sign by chance.
        start: the coarse inside, or None where the cloud encloses nothing or nothing asks for it.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).
        noise: standard deviation of the cloud's points about the surface.
        noise_left: the same of ``points``.
        reach: distance to the 16th neighbour.
        ball_radius: δ.
    """

    normalisation: Normalisation
    points: Array
    normals: Array | None
    directions: Array | None
    trust: Array | None
    oriented: npt.NDArray[np.bool_] | None
    start: Start | None
    lower: Array
    upper: Array
    noise: float
    noise_left: float
    reach: float
    ball_radius: float

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

    some = local_fit(points, thinned(points, SAMPLED))
    noise, reach = float(np.median(some.residual)), float(np.median(some.reach))
    smooth = t.smooth_points and 0 < NOISY[0] * reach <= noise <= NOISY[1] * reach
    estimate = t.estimate_normals and not config.network.has_normals and noise <= NOISY[1] * reach
    kept = thinned(np.arange(len(points)), FITTED) if smooth or estimate else np.arange(len(points))
    fit: LocalFit | None = local_fit(points, points[kept]) if smooth or estimate else None
    used = fit.feet if fit is not None and smooth else points[kept]
    start = coarse_inside(used, middle - half, middle + half) if estimate or t.start == "winding" else None
    directions = oriented = None
    if fit is not None and estimate:
        directions, oriented = fit.normals, np.zeros(len(used), dtype=bool)
        if start is not None:
            directions, oriented = start.oriented(used, fit.normals)
    return Prepared(
        normalisation=normalisation,
        points=used,
        normals=cloud.normals[kept] if config.network.has_normals and cloud.normals is not None else None,
        directions=directions,
        trust=fit.planarity if fit is not None and estimate else None,
        oriented=oriented,
        start=start,
        lower=middle - half,
        upper=middle + half,
        noise=noise,
        noise_left=LEFT * noise if smooth else noise,
        reach=reach,
        ball_radius=min(max(BALL_NOISE * noise, BALL_LEAST), BALL_MOST) if t.ball_sigma is None else t.ball_sigma,
    )


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
