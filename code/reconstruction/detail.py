"""The detail that a network misses: a correction g on a sparse grid, solved linearly about the trained field.

With w_0 the network's signed distance, x_i the points and n_i the normals there, g minimises

    Σ_i (w_0(x_i) + g(x_i))² + ν Σ_i t_i ‖∇w_0(x_i) + ∇g(x_i) - n_i‖² + κ ∫ ‖∇²g‖² dx

The first two are the data term and the normal term of the PHASE functional about w_0, with the trust t_i in each
normal. In place of the quadratic part of its WCH energy, which for a nearly flat surface S moved by g along its normals
is that of its area, ∫_S ‖∇g‖², stands the energy of bending: measured, it leaves less error on creases and on curved
parts alike, as it lets a face or an edge move as a whole (docs/ABLATION.md). Without the normal term g would bring all
points nearer by making the field flat.

Where a part of the cloud is much denser than the rest, as a close-up is, a finer grid follows there, and so on
(``levels``).

All three terms are squares of what is linear in the unknowns, the coefficients of a grid of ``model.grid`` whose nodes
are as far apart as the points (``detail_system``). With s that spacing and σ the points' noise,
κ = λ s^(4-d) and ν = λ s² + σ², so that λ alone says how smooth g is to be, and noise does not make the field flat. λ
is found by cross-validation: what a solve on some of the points tells of the others is detail, what it does not is
noise. Where every λ takes the others clearly farther off, or the best is the smoothest and does not bring them clearly
nearer, there is nothing to add. Where the layer of noise is so thick that a field could be zero about all points in it,
each is asked of the surface below it, and what only makes the field as steep as a distance is no gain.

λ of a grid is told by points that are spread evenly. A coarser grid, of four times the spacing, gained 2 % in the
mean, and put blobs where no point is near, as what bends little goes on as a plane does (docs/ABLATION_NOTEBOOK.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from phase_recon.geometry.crowds import evened, few_in_each_cell
from phase_recon.geometry.neighbours import TINY, distance_to_other, nearest
from phase_recon.model.grid import SplineField
from phase_recon.reconstruction.detail_system import Data, solve
from phase_recon.reconstruction.field import FLATTEST, DetailedField, NeuralField
from phase_recon.reconstruction.openings import opened
from phase_recon.reconstruction.scene import Scene
from phase_recon.utils.arrays import different, thinned
from phase_recon.utils.config import Config
from phase_recon.utils.threads import in_threads

Array = npt.NDArray[np.float64]
ValueAndGradient = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

FINEST = 0.001  # spacing, normalised: of finer grids nothing is left in the finest mesh
NOISE_WIDTHS = 3.0  # × noise: the least spacing; a finer grid could hold each of many noisy points
NOISE_REACHES = 2.0  # × noise: how far below a point the surface is looked for; 1 is too little
LAYER = 0.25  # × spacing of the grid: noise above which a correction can vary across its layer
FINER = 0.5  # × spacing of a grid: of the next, at most, and the distance of the points that it is solved for
CROWD = 30  # points in each cell of the grid, at most: they tell its few coefficients
SAMPLED = 3000  # points that tell the spacing
FEWEST = 10_000  # points that count, however short the time is: they take a second
SECONDS, SECONDS_PER_POINT = 4.0, 6e-5  # that a correction takes on two cores (measured), openings included
GIVEN = 10.0  # weight of a normal that was given over that of one that was estimated
TRIED = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4)  # values of λ, the smoothest first
PATCHES, PATCH = 4, 3000  # parts of the cloud that tell λ, and points in each
HELD_OUT = 5  # every fifth point of a patch is held out
# By how many the points that are held out must come nearer with the smoothest correction, and may come out farther off
# with another: ``choose_lambda`` says why
STANDARD_ERRORS = 1.0
FEWEST_HELD_OUT = 5  # of a cloud of fewer different points than give so many nothing is told
NEIGHBOURS = 16  # that tell the spacing
STRAY = 1.0  # × spacing: an outlier is farther off the field's surface, and differs by more from the points about
COMPANIONS = 8  # points about, whose median counts: three outliers beside each other do not make it
DENSE = 0.25  # share of the points about that are more crowded than the one by which the spacing there is told
FAR = 10.0  # × spacing: so far off the field's surface a point is an outlier, whatever is about it


def correction_of(
    field: NeuralField, scene: Scene, announce: Callable[[str], None], seconds: float = np.inf
) -> SplineField | None:
    """What the points of a scene know and its field misses; None if that is nothing.

    First it opens what the network has filled (``openings``). Then every row of the cloud that is no outlier counts, as
    it was given, but of a crowd a part; the normal there is that of the nearest point that was trained on.
    In a thick layer of noise each is asked of the surface below it.

    Args:
        field: the trained field.
        scene: what it was trained on.
        announce: receives a line about what was found.
        seconds: the time for it; where all points would take longer, so many count as take that long.
    """
    points = not_blurred(different(scene.domain.normalisation.apply(scene.cloud.points[scene.kept])), scene)
    count = max((seconds - SECONDS) / SECONDS_PER_POINT, FEWEST)
    if len(points) > count:
        points = thinned(points, int(count))
        announce(f"detail: of {len(points):,} points, as more would take longer than there is time")
    openings, found = opened(field, scene)
    if found:
        announce("detail: outside, the network had filled places near the points; it is open there now (train.detail)")
    correction = openings
    for level, (some, spacing) in enumerate(levels(points, scene.scale.noise)):
        detail, lambda_ = _on_one_grid(field, correction, scene, some, spacing)
        if detail is None:
            continue
        where = " where they are densest" if level else ""
        distance = spacing * scene.domain.normalisation.scale
        announce(f"detail: added down to the points' spacing of {distance:.3g}{where}, λ = {lambda_:g} (train.detail)")
        correction = SplineField((*correction.grids, *detail.grids))
    if len(correction.grids) == len(openings.grids):
        announce("detail: the points show none that the network lacks (train.detail)")
    return correction if correction.grids else None


def levels(points: Array, noise: float) -> Iterator[tuple[Array, float]]:
    """The points that each grid of the detail is solved for, and its spacing, the coarsest first; all normalised.

    The first is as fine as the points are apart over most of their area; the next as they are where they are less than
    half as far apart, as in a close-up beside an overview, if a few hundredths of the points lie so.

    Args:
        points: different ones (N, d).
        noise: of them.
    """
    spacing = np.inf
    while len(points) >= FEWEST_HELD_OUT * HELD_OUT:
        left = evened(points)
        finer = max(point_distance(points[left]), NOISE_WIDTHS * noise, FINEST)
        if finer > FINER * spacing:
            return
        spacing = finer
        yield points[few_in_each_cell(points, spacing, CROWD)], spacing
        if len(left) == len(points):
            return
        points = points[own_distances(points, points) <= FINER * spacing]


def _on_one_grid(
    field: NeuralField, correction: SplineField, scene: Scene, points: Array, spacing: float
) -> tuple[SplineField | None, float]:
    """What points (N, d) know and a corrected field misses, on a grid of a spacing, and its λ; None if that is nothing.

    A field that was turned (``NeuralField.outward``) had normals that point inward.
    """
    normals, trust = np.zeros_like(points), np.zeros(len(points))
    if scene.normals != "none":
        measured = scene.points.measured
        beside = nearest(measured.positions, points, 1)[1][:, 0]
        normals, trust = field.sign * measured.normals[beside], measured.confidence[beside]
    noise, so_far = scene.scale.noise, DetailedField(field, correction).normalised_value_and_gradient
    data = without_strays(data_at(points, normals, trust, so_far, scene.normals == "given"), spacing)
    data, told = in_layer(data, spacing, noise, so_far)
    lambda_ = choose_lambda(told[evened(told.points)], spacing, noise)
    return (None, 0.0) if lambda_ is None else (solve(data, spacing, lambda_, noise), lambda_)


def not_blurred(points: Array, scene: Scene) -> Array:
    """Points of a scene's cloud (N, d), normalised, but for a part that is much noisier than the rest: it shows none.

    Denoised points would show less than none: what is left of the noise is alike in neighbours, as detail is.
    """
    if scene.blurred is None:
        return points
    beside = nearest(scene.reference, points, 1)[1][:, 0]
    return np.asarray(points[~scene.blurred.part[beside]])


def adds_detail(config: Config) -> bool:
    """Whether a correction is solved for after the last step of a run."""
    return config.train.detail and config.network.loss["type"] == "phase"


def seconds_for(count: int) -> float:
    """About how long ``correction_of`` takes for so many points on two cores."""
    return SECONDS + SECONDS_PER_POINT * count


def point_distance(points: Array) -> float:
    """The side of the square (2D: the length) that each of different points (N, d) has for itself, the median."""
    return float(np.median(own_distances(points, thinned(points, SAMPLED))))


def own_distances(points: Array, some: Array) -> Array:
    """The side of the square (2D: the length) (M,) that some of different points (N, d) have each for themselves."""
    others = min(NEIGHBOURS, len(points) - 1)
    return _distance_in(distance_to_other(points, some, others), others, points.shape[1])


def _distance_in(radius: npt.ArrayLike, others: int, d: int) -> Array:
    """The side of the square (2D: the length) that each of so many points has for itself, within a radius (...)."""
    return np.asarray(radius) * (2 / others if d == 2 else np.sqrt(np.pi / others))


def data_at(
    points: Array, normals: Array, trust: Array, value_and_gradient: ValueAndGradient, oriented: bool
) -> Data:
    """What a correction of a field is to do at points.

    Args:
        points: (N, d), normalised.
        normals: unit normals there (N, d), or zero.
        trust: in them (N,), 0 to 1; where it is zero, the field's own direction stands for the normal, with trust 1.
        value_and_gradient: of the field, at float32 points.
        oriented: whether the normals were given, with their sides; else these are the field's.
    """
    value, gradient = (
        part.double().numpy() for part in value_and_gradient(torch.from_numpy(points.astype(np.float32)))
    )
    own = gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), FLATTEST)
    known = (trust > 0) & normals.any(axis=1)
    turned = np.where(((normals * own).sum(axis=1) < 0) & (not oriented), -1.0, 1.0)
    wanted = np.where(known[:, None], turned[:, None] * normals, own)
    trust = np.where(known, trust * (GIVEN if oriented else 1.0), 1.0)
    return Data(points, value, gradient, wanted, trust)


def without_strays(data: Data, spacing: float) -> Data:
    """The same without what a point alone says, which is an outlier.

    Their values would be most of what the solution is to give, so that it would end before it is good elsewhere.

    Args:
        data: of the points.
        spacing: of the points; where they are sparser, theirs there counts, as the field knows less.
    """
    asked = np.flatnonzero(np.abs(data.values) > STRAY * spacing)
    if not len(asked):
        return data
    about = nearest(data.points, data.points[asked], COMPANIONS + 1)[1][:, 1:]
    some, place = np.unique(about, return_inverse=True)
    radii = nearest(data.points, data.points[some], COMPANIONS + 1)[0][:, -1]
    radius = np.quantile(radii[place.reshape(about.shape)], DENSE, axis=1)
    there = np.maximum(_distance_in(radius, COMPANIONS, data.points.shape[1]), spacing)
    stray = np.abs(data.values[asked] - np.median(data.values[about], axis=1)) > STRAY * there
    stray |= np.abs(data.values[asked]) > FAR * spacing
    return data[np.delete(np.arange(len(data.points)), asked[stray])]


def choose_lambda(data: Data, spacing: float, noise: float) -> float | None:
    """The λ of TRIED with which points that are held out come nearest to the surface, or None.

    The smoothest are tried first. A λ with which they are farther off than with a smoother one, by more than
    STANDARD_ERRORS, is the last: beyond it, a rough field in a thick layer of noise is nearly zero at all points.

    The network was trained on the points that are held out, so it is nearer to them than to the surface. If another λ
    than the smoothest is best, that is a sign of detail: it is taken unless it leaves them farther off than the network
    does by more than STANDARD_ERRORS. If the smoothest is best, it may only smooth: it is taken only if it brings them
    nearer by more than that.
    """
    generator = np.random.default_rng(0)
    if len(data.points) <= PATCHES * PATCH:
        patches = [np.arange(len(data.points))]
    else:
        centres = data.points[generator.choice(len(data.points), PATCHES, replace=False)]
        patches = list(cKDTree(data.points).query(centres, k=PATCH)[1])
    parts = []
    for patch in patches:
        out = generator.permutation(len(patch)) < len(patch) // HELD_OUT
        parts.append((data[patch[~out]], data[patch[out]]))
    before = np.concatenate([_distances(others.values, others.gradients) for _, others in parts])

    def after(lambda_: float) -> Array:
        return np.concatenate(in_threads(partial(_held_out, spacing, lambda_, noise), parts))

    best, least = TRIED[0], after(TRIED[0])
    for lambda_ in TRIED[1:]:
        distances = after(lambda_)
        if _gain(distances, least) > STANDARD_ERRORS:
            break
        if distances.mean() < least.mean():
            best, least = lambda_, distances
    needed = STANDARD_ERRORS if best == TRIED[0] else -STANDARD_ERRORS
    return best if _gain(before, least) > needed else None


def _gain(before: Array, after: Array) -> float:
    """By how many standard errors distances (M,) became less in the mean."""
    gain = before - after
    return float(gain.mean() / max(gain.std() / np.sqrt(len(gain)), TINY))


def _held_out(spacing: float, lambda_: float, noise: float, part: tuple[Data, Data]) -> Array:
    """How far those points (M,) that are held out are from the surface that a λ gives the others."""
    some, others = part
    value, gradient = solve(some, spacing, lambda_, noise).value_and_gradient(torch.from_numpy(others.points))
    return _distances(others.values + value.double().numpy(), others.gradients + gradient.double().numpy())


def in_layer(
    data: Data, spacing: float, noise: float, value_and_gradient: ValueAndGradient
) -> tuple[Data, Data]:
    """What a correction is solved for, and what tells its λ: the data, or what they say in a thick layer of noise.

    Args:
        data: of the points.
        spacing: of the grid, normalised.
        noise: σ, normalised.
        value_and_gradient: of the field that is corrected.
    """
    if noise <= LAYER * spacing:
        return data, data
    below = _below(data, NOISE_REACHES * noise, value_and_gradient)
    return below, _of_slope_one(below)


def _below(data: Data, reach: float, value_and_gradient: ValueAndGradient) -> Data:
    """The same, asked of the field's surface below each point, or on the way there at most so far.

    The values are those of the field's plane there: across a layer of noise w bends, and its mean over the layer would
    move the surface (derived).
    """
    slopes = np.maximum(np.linalg.norm(data.gradients, axis=1), FLATTEST)
    steps = np.clip(data.values / slopes, -reach, reach) / slopes
    below = data.points - steps[:, None] * data.gradients
    value, gradient = (
        part.double().numpy() for part in value_and_gradient(torch.from_numpy(below.astype(np.float32)))
    )
    planes = value + ((data.points - below) * gradient).sum(axis=1)
    return replace(data, points=below, values=planes, gradients=gradient)


def _of_slope_one(data: Data) -> Data:
    """The same of a field that is as steep as a distance: what only makes it so brings no point nearer."""
    slopes = np.maximum(np.linalg.norm(data.gradients, axis=1), FLATTEST)
    return replace(data, values=data.values / slopes, gradients=data.gradients / slopes[:, None])


def _distances(values: Array, gradients: Array) -> Array:
    """To the zero set (N,), to first order: a field is not nearer to its points by being flatter there, or steeper."""
    distances: Array = np.abs(values) / np.clip(np.linalg.norm(gradients, axis=1), FLATTEST, 1.0)
    return distances
