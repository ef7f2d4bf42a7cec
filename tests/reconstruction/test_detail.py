"""The correction about fields that are known by formula, so that what they miss is known too."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from conftest import TINY
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.model.grid import nodes_about
from phase_recon.reconstruction import detail
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.detail import Data, choose_lambda, data_at, solve, spacing_of
from phase_recon.reconstruction.evaluation import distances_to_faces, resolution_for, surface_of
from phase_recon.reconstruction.field import DetailedField, NeuralField, load_field
from phase_recon.reconstruction.training import fit
from phase_recon.utils.config import load_config
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.general import different


def round_field(radius):
    """The signed distance to a ball (circle) about the origin, with its gradient."""

    def field(x):
        length = torch.linalg.vector_norm(x, dim=-1)
        return length - radius, x / length[:, None]

    return field


class Ball:
    """The signed distance to a ball about the origin, as far as it is asked as a field, in a box that is 8 wide."""

    spacing = 0.02

    def __init__(self, radius, d):
        self.radius, self.dimension = radius, d
        self.upper = np.full(d, 4.0)
        self.lower = -self.upper

    def normalised(self, x):
        return self.normalised_value_and_gradient(x)[0]

    def normalised_value_and_gradient(self, x):
        return round_field(self.radius)(x)


def on_sphere(count, d, seed=0):
    directions = np.random.default_rng(seed).normal(size=(count, d))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def bumps(directions):
    """Radius of a ball with waves of height 0.01 on it."""
    return 0.6 + 0.01 * np.sin(12 * directions[:, 0]) * np.cos(9 * directions[:, 1])


def data_of(points, field=None, normals=None):
    normals = np.zeros_like(points) if normals is None else normals
    return data_at(points, normals, np.ones(len(points)), field or round_field(0.6), oriented=False)


@pytest.mark.parametrize(("d", "count"), [(2, 400), (3, 6000)])
def test_waves_that_the_field_misses_are_found(d, count):
    directions = on_sphere(count, d)
    data = data_of(bumps(directions)[:, None] * directions)
    spacing = spacing_of(data.points)
    lambda_ = choose_lambda(data, spacing, 0.0)
    assert lambda_ is not None
    assert lambda_ <= 0.1
    others = on_sphere(500, d, seed=1)
    places = bumps(others)[:, None] * others
    before = np.linalg.norm(places, axis=1) - 0.6
    after = before + solve(data, spacing, lambda_, 0.0).at(places)[0]
    assert np.abs(after).mean() < 0.15 * np.abs(before).mean()


@pytest.mark.parametrize("d", [2, 3])
def test_of_noise_alone_nothing_is_added(d):
    directions = on_sphere(3000, d)
    noise = np.random.default_rng(2).normal(size=3000) * 0.005
    data = data_of((0.6 + noise)[:, None] * directions)
    spacing = max(spacing_of(data.points), detail.NOISE_WIDTHS * 0.005)
    assert choose_lambda(data, spacing, 0.005) is None


def test_the_solution_is_the_least_of_the_three_terms():
    directions = on_sphere(200, 3)
    points = bumps(directions)[:, None] * directions
    generator = np.random.default_rng(3)
    data = Data(
        points, generator.normal(size=200), generator.normal(size=(200, 3)), on_sphere(200, 3, 4), generator.random(200)
    )
    spacing, lambda_, noise = 0.3, 0.5, 0.06
    before = detail.STEPS, detail.TOLERANCE
    detail.STEPS, detail.TOLERANCE = 2000, 1e-7
    try:
        grid = detail._solve_grid(data, spacing, lambda_, noise)
    finally:
        detail.STEPS, detail.TOLERANCE = before
    np.testing.assert_array_equal(grid.nodes, nodes_about(np.rint(points / spacing).astype(int), 1))

    c = torch.from_numpy(grid.coefficients.astype(np.float64)).requires_grad_(True)
    apart = torch.from_numpy(points[:, None, :] / spacing - grid.nodes[None])  # (N, M, 3), by definition of the spline
    t, signs = apart.abs(), torch.sign(apart)
    b = torch.where(t < 0.5, 0.75 - t**2, torch.where(t < 1.5, 0.5 * (1.5 - t) ** 2, 0 * t))
    slope = signs * torch.where(t < 0.5, -2 * t, torch.where(t < 1.5, t - 1.5, 0 * t)) / spacing
    value = b.prod(-1) @ c
    along = [torch.stack([slope[..., a] if a == axis else b[..., a] for a in range(3)]) for axis in range(3)]
    gradient = torch.stack([factors.prod(0) @ c for factors in along], -1)
    trust = torch.from_numpy(data.trust)
    off = torch.from_numpy(data.gradients - data.normals) + gradient
    energy = ((torch.from_numpy(data.values) + value) ** 2).sum()
    nu = lambda_ * spacing**2 + noise**2
    energy = energy + nu * (trust * off.square().sum(-1)).sum()
    index = {tuple(node): number for number, node in enumerate(grid.nodes.tolist())}
    axes = np.eye(3, dtype=int)
    bending = torch.zeros((), dtype=torch.float64)
    for node in index:
        for i in range(3):
            for j in range(3):  # ∂²g / ∂x_i ∂x_j in differences, each of the nine entries of the Hessian once
                steps = ([-axes[i], 0 * axes[i], axes[i]] if i == j else
                         [0 * axes[i], axes[i], axes[j], axes[i] + axes[j]])  # fmt: skip
                near = [index.get(tuple((np.array(node) + step).tolist())) for step in steps]
                if None not in near:
                    factors = torch.tensor([1.0, -2.0, 1.0] if i == j else [1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
                    bending = bending + (factors @ c[near]) ** 2
    energy = energy + lambda_ * bending  # κ s^(d - 4) with κ = λ s^(4 - d)
    force = torch.autograd.grad(energy, c)[0]
    start = torch.autograd.grad(((torch.from_numpy(data.values) + b.prod(-1) @ c) ** 2).sum(), c)[0]
    assert float(force.abs().max()) < 1e-3 * float(start.abs().max())


def test_blocks_give_what_the_whole_gives(monkeypatch):
    directions = on_sphere(4000, 3)
    data = data_of(bumps(directions)[:, None] * directions)
    spacing = spacing_of(data.points)
    whole = solve(data, spacing, 0.1, 0.0)
    monkeypatch.setattr(detail, "BLOCK_POINTS", 1500)
    assert len(detail._boxes(data.points)) == 4
    parts = solve(data, spacing, 0.1, 0.0)
    for one, other in zip(whole.grids, parts.grids, strict=True):
        np.testing.assert_array_equal(one.nodes, other.nodes)
    np.testing.assert_allclose(parts.at(data.points)[0], whole.at(data.points)[0], atol=2e-4)


def test_the_correction_keeps_to_its_time(monkeypatch):
    """In 4 s there is time for 100 of 400 points; no fewer than so many count, however short the time is."""
    config = load_config(TINY, ("train.detail=false", "train.nepoch=5"), check_model)
    scenes, lines = [], []
    field, _ = fit(config, PointCloud(on_sphere(400, 2)), torch.device("cpu"), lines.append, observe=scenes.append)
    monkeypatch.setattr(detail, "SECONDS_PER_POINT", 0.01)
    monkeypatch.setattr(detail, "FEWEST", 50)
    for seconds, count in ((4.0, 100), (0.0, 50)):
        lines.clear()
        detail.correction_of(field, scenes[0], lines.append, seconds)
        assert lines[0] == f"detail: of {count} points, as more would take longer than there is time"
    lines.clear()
    detail.correction_of(field, scenes[0], lines.append)
    assert not any("as more would" in line for line in lines)


def test_boxes_of_a_flat_floor_with_a_mast_come_to_an_end(monkeypatch):
    """More than half of the points are at the least height, which is the median, too."""
    monkeypatch.setattr(detail, "BLOCK_POINTS", 100)
    random = np.random.default_rng(0)
    floor = np.c_[random.uniform(-1, 1, (300, 2)), np.zeros(300)]
    mast = np.c_[0.01 * random.uniform(-1, 1, (200, 2)), random.uniform(0, 9, 200)]
    points = np.r_[floor, mast]
    inside = [((points >= low) & (points < high)).all(axis=1) for low, high in detail._boxes(points)]
    assert (np.sum(inside, axis=0) == 1).all()
    assert max(part.sum() for part in inside) <= 100


def test_boxes_fill_space_and_hold_each_point_once(monkeypatch):
    monkeypatch.setattr(detail, "BLOCK_POINTS", 100)
    points = on_sphere(1000, 3)
    inside = [((points >= low) & (points < high)).all(axis=1) for low, high in detail._boxes(points)]
    assert (np.sum(inside, axis=0) == 1).all()
    assert max(part.sum() for part in inside) <= 100


def test_the_correction_dies_out_away_from_the_points():
    directions = on_sphere(3000, 3)
    half = directions[directions[:, 0] > 0]
    data = data_of(0.62 * half)
    spacing = spacing_of(data.points)
    found = solve(data, spacing, 0.1, 0.0)
    places = np.random.default_rng(1).uniform(-8, 8, (3000, 3))
    reach = np.sqrt(3) * 4 * spacing  # half a cell, a ring, and 1.5 for a spline are less
    far = cKDTree(data.points).query(places)[0] > reach
    assert far.sum() > 500
    assert not found.at(places)[0][far].any()
    assert np.median(found.at(0.62 * half)[0]) == pytest.approx(-0.02, abs=2e-3)


def test_normals_are_followed_whichever_way_they_point():
    directions = on_sphere(2000, 3)
    signs = np.where(np.arange(2000) % 2, 1.0, -1.0)[:, None]
    for normals in (directions, signs * directions):
        data = data_of(0.6 * directions, normals=normals)
        np.testing.assert_allclose(data.normals, directions, atol=1e-6)
    given = data_at(0.6 * directions, -directions, np.ones(2000), round_field(0.6), oriented=True)
    np.testing.assert_allclose(given.normals, -directions)


def test_points_that_come_many_times_have_the_spacing_of_different_ones():
    points = on_sphere(500, 3)
    once = different(np.repeat(points, 20, axis=0))
    np.testing.assert_array_equal(once, points)
    area = 4 * np.pi / 500
    assert spacing_of(once) == pytest.approx(np.sqrt(area), rel=0.1)


def test_a_run_ends_with_its_detail_in_field_checkpoint_and_mesh(tmp_path, shapes):
    """The tiny network of ten steps is far from the circle; what it misses is found and kept."""
    cloud = PointCloud(shapes[0])
    config = load_config(TINY, ("train.detail=true", "plot.resolution=null"), check_model)
    experiment, lines = Experiment.create(tmp_path, "run"), list[str]()
    field, _ = fit(config, cloud, torch.device("cpu"), lines.append, experiment=experiment)
    assert isinstance(field, DetailedField)
    assert any(line.startswith("detail: added down to the points' spacing of ") for line in lines)
    saved = load_field(experiment.folder)
    assert isinstance(saved, DetailedField)
    places = cloud.points + 0.1
    for question in ("u", "w", "gradient"):
        np.testing.assert_array_equal(getattr(saved, question)(places), getattr(field, question)(places))
    assert np.abs(field.w(cloud.points)).mean() < 0.3 * np.abs(field.base.w(cloud.points)).mean()
    w = field.w(places) / field.normalisation.scale
    np.testing.assert_allclose(field.u(places), -np.sign(w) * np.expm1(-np.abs(w) / 0.1), atol=1e-5)  # √ε = 0.1
    curve = surface_of(field, cloud, config.plot)
    assert curve.is_closed()
    assert resolution_for(field) >= 256 == resolution_for(field.base)
    sides = field.upper - field.lower
    assert resolution_for(field.base, None, longest=False) == round(256 * sides.min() / sides.max())

    more = load_config(TINY, ("train.detail=false", "train.nepoch=12"), check_model)  # goes on without detail
    field, epoch = fit(more, cloud, torch.device("cpu"), lines.append, checkpoint=experiment.load_checkpoint())
    assert epoch == 12
    assert isinstance(field, NeuralField)


def test_noise_does_not_make_the_field_flat():
    """The least weight of the normals is the noise's square: with none, a field that is zero everywhere fits best."""
    directions = on_sphere(2000, 3)
    noise = 0.01
    data = data_of((0.6 + noise * np.random.default_rng(5).normal(size=2000))[:, None] * directions)
    spacing = spacing_of(data.points)
    places = 0.6 * on_sphere(500, 3, seed=1)
    slopes = [(solve(data, spacing, 1e-4, sigma).at(places)[1] * places / 0.6).sum(axis=1) for sigma in (0.0, noise)]
    flat, whole = (np.median(1 + slope) for slope in slopes)  # of the field along the normals: 1 is right
    assert flat < 0.7 < whole


def test_given_normals_weigh_more_than_estimated_ones():
    directions = on_sphere(100, 3)
    trust = np.linspace(0, 1, 100)
    for oriented, weight in ((False, 1.0), (True, detail.GIVEN)):
        data = data_at(0.6 * directions, directions, trust, round_field(0.6), oriented)
        np.testing.assert_allclose(data.trust[1:], weight * trust[1:])
        assert data.trust[0] == 1  # without trust the field's own direction stands there


def test_few_different_points_show_no_detail():
    """Four corners that come three times each: nothing can be held out."""
    corners = np.repeat(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float), 3, axis=0)
    config, lines = load_config(TINY, ("train.detail=true", "train.nepoch=5"), check_model), list[str]()
    field, _ = fit(config, PointCloud(corners), torch.device("cpu"), lines.append)
    assert isinstance(field, NeuralField)
    assert "detail: the points show none that the network lacks (train.detail)" in lines


@pytest.mark.parametrize("d", [2, 3])
def test_cells_are_finer_where_points_are_more_exact_than_flat_faces(d):
    """A ball of radius 0.5 with a grid of spacing 0.02 about it that adds nothing; flat faces are off by h² / 12 R."""
    directions, h = on_sphere(3000, d), 0.02
    base = Ball(0.5, d)
    flat = h**2 / 12 / 0.5
    for noise, cell in ((0.0, 0.5), (0.5 * flat, 0.707), (4 * flat, 1.0)):
        signs = np.where(np.arange(3000) % 2, 1.0, -1.0)
        points = (0.5 + noise * signs)[:, None] * directions
        off, between = distances_to_faces(base, points, h)
        assert off == pytest.approx(noise, abs=2e-7)
        assert between == pytest.approx(flat, rel=0.05)
        assert resolution_for(base, points) == pytest.approx(max(8 / (cell * h), 256), rel=0.03)
    assert resolution_for(base) == 400
    assert distances_to_faces(base, points + 100, h) == (0.0, 0.0)
