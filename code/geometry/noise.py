"""The noise of a cloud, and how many neighbours show its surface (derived).

Quadrics leave of their neighbours a residual, which is noise and detail. Noise and detail are told apart by looking at
fewer and at more neighbours: the residual of noise stays nearly the same with 16 in place of 24, that of detail falls;
and relative to the width of the neighbourhood, that of noise falls when more are looked at, that of detail does not.
Only neighbours that all lie within the noise are alike however many they are; but they spread in all directions alike.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import NEIGHBOURS, SAMPLED
from phase_recon.geometry.quadrics import QuadricFit, fit_quadrics
from phase_recon.utils.arrays import thinned
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]

EXACT = 1e-9  # normalised: a residual below this is rounding


@dataclass(frozen=True)
class NoiseSettings:
    """How noise is told from detail. Measured on twelve shapes with known noise and without, but where it says so.

    Attributes:
        fewest_shapes: neighbourhoods a cloud must have, or what quadrics leave of them is its shape.
        few_points: points of a cloud up to which noise and detail cannot be told apart, and all residual is noise.
        in_plane: neighbours in 2D that are enough where they show the curve, four for each term of a quadric as 24 are
            in 3D: with 24, curves of 250 noisy points came out 1.3 times as far off.
        fewer: × the neighbours: so many are looked at beside them, to tell noise from detail.
        kept_of_noise: share of the residual of 24 neighbours that pure noise leaves of ``fewer``.
        kept_of_detail: the largest share that pure detail leaves.
        noise_begins: × width of the neighbourhood: residual below which the points count as noise-free.
        surface_hidden: × width: residual above which so many neighbours do not show the surface.
        steady: ratio of residual over width, of twice as many neighbours to that of some, above which more of them show
            more detail and not less noise; noise alone gives 0.7.
        flat: planarity below which a neighbourhood lies within the noise, whatever its residual does: the noise's own
            layer has 0.2 to 0.5, half of it outside 0.6 to 0.7, detail without noise 0.8 to 1.
        shown: planarity from which on the last look, with which the points run out, shows the surface: 0.86 to 0.98 of
            full bodies and of curves, up to 0.83 where both sides of a wall are in it.
        detail_borne: × width: detail with which 24 neighbours still show the surface.
        residual_borne: × width: residual with which any number still does.
        more: neighbours that are looked at in turn where 24 do not show the surface.
        fewest_neighbourhoods: so many neighbourhoods a cloud must have, or one is not a part of it but all of it.
        most_looked_at: neighbours of all places that are looked at together, at most: a second.
        left: share of the noise that the fit to 24 neighbours leaves at a point; on a plane it would be 0.45.
        beside: places next to one that tell whether the surface is hidden all about it.
        hidden_beside: share of them where it must be, so that the part ends where the noise does.
        fewest_blurred: share of the places that must be so, and not be so; fewer are hard to see, not noisier.
        noisier: × the noise of the rest: that of the part, at least. With less one noise does for both: with 3, thin
            walls whose noise grows along them came out worse.
        left_of_blur: × spacing: the noise that so many neighbours are to leave there, as the rest counts as clean.
        most_fitted: neighbours of all its points together, at most, or fewer points are kept: some seconds, and a GiB.
    """

    fewest_shapes: int = 2
    few_points: int = 1000
    in_plane: int = 12
    fewer: float = 2 / 3
    kept_of_noise: float = 0.95
    kept_of_detail: float = 0.72
    noise_begins: float = 0.02
    surface_hidden: float = 0.12
    steady: float = 0.8
    flat: float = 0.6
    shown: float = 0.85
    detail_borne: float = 0.16
    residual_borne: float = 0.3
    more: tuple[int, ...] = (48, 96, 192, 384, 768, 1536, 3072, 6144, 12288)
    fewest_neighbourhoods: int = 20
    most_looked_at: int = 768_000
    left: float = 0.6
    beside: int = 30
    hidden_beside: float = 0.5
    fewest_blurred: float = 0.03
    noisier: float = 4.0
    left_of_blur: float = 0.1
    most_fitted: int = 24_000_000

    def tells_noise(self, count: int) -> bool:
        """Whether so many points have neighbourhoods that are parts of their shape."""
        return count >= self.fewest_shapes * NEIGHBOURS


@dataclass(frozen=True)
class Scale:
    """The noise and the resolution of a cloud, in normalised units.

    Attributes:
        noise: standard deviation of the points about the surface.
        spacing: distance to the 15th other point, in the median.
        neighbours: the fewest neighbours that show the surface, 24 or more, in 2D also 12; 24 where none do.
        width: distance to the neighbour at two thirds of them, in the median.
        resolved: whether so many neighbours show the surface.
        noise_left: the noise of the points that are trained on: that of the cloud, or less once they are denoised.
        residual: standard deviation of the points about the quadrics that denoised them, in the median; 0 without.
        trained_spacing: the spacing of the points that are trained on, which may be fewer than the cloud's; by it holes
            are told. 0 until they are chosen.
    """

    noise: float
    spacing: float
    neighbours: int
    width: float
    resolved: bool
    noise_left: float
    residual: float = 0.0
    trained_spacing: float = 0.0

    def in_unit(self, ratio: float) -> Self:
        """The same in a unit of which an old one is so many: all lengths times the ratio."""
        lengths = ("noise", "spacing", "width", "noise_left", "residual", "trained_spacing")
        return replace(self, **{name: getattr(self, name) * ratio for name in lengths})

    @property
    def denoised(self) -> bool:
        """Whether the points that are trained on were moved."""
        return self.noise_left < self.noise

    @property
    def noise_shown(self) -> float:
        """The noise of the points that are trained on, where the cloud has any that could be told from its detail."""
        return self.noise_left if self.denoised else 0.0


@dataclass(frozen=True)
class Blurred:
    """A part of a cloud that is much noisier than the rest.

    Attributes:
        part: which points of the cloud are in it (N,).
        scale: its noise and resolution.
    """

    part: npt.NDArray[np.bool_]
    scale: Scale


def fit_some(points: Array, opposite: Array, neighbours: int = NEIGHBOURS, most: int = SAMPLED) -> QuadricFit:
    """The quadrics at some points of a cloud (N, d), at most so many, by which its noise is told."""
    places = thinned(thinned(np.arange(len(points)), SAMPLED), most)
    return fit_quadrics(points, points[places], neighbours, opposite[places])


def estimate_noise(
    points: Array, opposite: Array, settings: NoiseSettings | None = None, fit: QuadricFit | None = None
) -> Scale:
    """The noise of a cloud (N, d), and the fewest neighbours that show its surface.

    Args:
        points: the cloud, normalised, each point once.
        opposite: step (N, d) from each point to another sheet that is near, zero without one.
        settings: how noise is told from detail.
        fit: what ``fit_some`` gives with 24 neighbours, where it is known.
    """
    s = settings or NoiseSettings()

    def look(neighbours: int, fit: QuadricFit | None = None) -> tuple[float, float, float]:
        fit = fit or fit_some(points, opposite, neighbours, s.most_looked_at // neighbours)
        return float(np.median(fit.residual)), float(np.median(fit.width)), float(np.median(fit.planarity))

    residual, width, planarity = look(NEIGHBOURS, fit)
    if not s.tells_noise(len(points)):
        return Scale(0.0, width, NEIGHBOURS, width, False, 0.0)
    few = len(points) <= s.few_points

    def scale_of(neighbours: int, residual: float, wide: float) -> Scale:
        kept = 1.0 if few else look(round(s.fewer * neighbours))[0] / max(residual, EXACT)
        noise = residual * _share_of_noise(kept, s)
        return Scale(noise, width, neighbours, wide, residual <= s.surface_hidden * wide, noise)

    in_plane = scale_of(s.in_plane, *look(s.in_plane)[:2]) if points.shape[1] == 2 else None
    if in_plane is not None and in_plane.resolved:
        return in_plane
    hidden = scale_of(NEIGHBOURS, residual, width)
    if few or hidden.resolved:
        return hidden if hidden.resolved else in_plane or hidden
    shown = hidden
    for neighbours in s.more:
        if neighbours * s.fewest_neighbourhoods > len(points):
            break
        of_more, wide, planarity_of_more = look(neighbours)
        if planarity >= s.flat and of_more * shown.width > s.steady * residual * wide:
            borne = residual**2 - shown.noise**2 <= (s.detail_borne * shown.width) ** 2
            return replace(shown, resolved=True) if borne and residual <= s.residual_borne * shown.width else hidden
        residual, planarity = of_more, planarity_of_more
        shown = Scale(residual, width, neighbours, wide, True, residual)
        if residual <= s.surface_hidden * wide:
            return shown
    return shown if planarity >= s.shown else hidden


def find_blurred(
    points: Array, opposite: Array, scale: Scale, settings: NoiseSettings | None = None, fit: QuadricFit | None = None
) -> tuple[Blurred, Scale] | None:
    """The part of a cloud (N, d) that is so much noisier than the rest that it needs more neighbours (derived).

    Stereo is so where there is no texture, a scanner where it is far away.

    Args:
        points: the cloud, normalised, each point once.
        opposite: step (N, d) from each point to another sheet that is near, zero without one.
        scale: of all, by the median.
        settings: what is hidden.
        fit: what ``fit_some`` gives with 24 neighbours, where it is known.

    Returns:
        That part, and the scale of the cloud: the given one, or that of the rest where the part had hidden it. None
        where all points are of one scale.
    """
    s = settings or NoiseSettings()
    if len(points) <= s.few_points:
        return None
    some = thinned(np.arange(len(points)), SAMPLED)
    fit = fit or fit_some(points, opposite)
    tree = cKDTree(points[some])
    hidden = fit.residual > s.surface_hidden * fit.width
    about = hidden[tree.query(points[some], min(s.beside, len(some)))[1]].mean(axis=1) >= s.hidden_beside
    if not s.fewest_blurred <= about.mean() <= 1 - s.fewest_blurred:
        return None
    part = about[tree.query(points, workers=threads())[1]]
    blurred = estimate_noise(points[part], opposite[part], s)
    rest = estimate_noise(points[~part], opposite[~part], s)
    if not (blurred.resolved and rest.resolved and rest.neighbours <= NEIGHBOURS):
        return None
    if blurred.noise <= s.noisier * rest.noise:
        return None
    if not scale.resolved or scale.neighbours > NEIGHBOURS:
        scale = rest
    enough = NEIGHBOURS * (s.left * blurred.noise / (s.left_of_blur * scale.spacing)) ** 2
    most = max(int(part.sum()) // s.fewest_neighbourhoods, blurred.neighbours)
    neighbours = int(np.clip(enough, blurred.neighbours, most))
    return Blurred(part, replace(blurred, neighbours=neighbours)), scale


def _share_of_noise(kept: float, s: NoiseSettings) -> float:
    """The share of noise, 0 to 1, in the residual of 24 neighbours, if fewer keep so much of it."""
    detail, noise = s.kept_of_detail**2, s.kept_of_noise**2
    return float(np.sqrt(np.clip((kept**2 - detail) / (noise - detail), 0.0, 1.0)))
