"""The correction about fields that are known by formula, so that what they miss is known too."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from waves import bumps, data_of, on_sphere, round_field

from conftest import TINY, spline_at
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.points import Normalisation
from phase_recon.model.grid import SplineField
from phase_recon.reconstruction import detail
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.detail import (
    choose_lambda,
    data_at,
    in_layer,
    levels,
    point_distance,
    without_strays,
)
from phase_recon.reconstruction.detail_system import Data, solve
from phase_recon.reconstruction.field import DetailedField, NeuralField, load_field
from phase_recon.reconstruction.meshing import cells_of, distances_to_faces, surface_of
from phase_recon.reconstruction.training import fit
from phase_recon.utils.arrays import different
from phase_recon.utils.config import PlotConfig
from phase_recon.utils.config_files import load_config
from phase_recon.utils.experiment import Experiment


class Ball:
    """The signed distance to a ball about the origin, as far as it is asked as a field, in a box that is 8 wide."""

    def spacing_at(self, places):
        return np.full(len(places), 0.02)

    def __init__(self, radius, d):
        self.radius, self.dimension = radius, d
        self.upper = np.full(d, 4.0)
        self.lower = -self.upper
        self.normalisation = Normalisation(np.zeros(d), 1.0)

    def level(self, phase):
        return 0.0

    def normalised(self, x):
        return self.normalised_value_and_gradient(x)[0]

    def normalised_value_and_gradient(self, x):
        return round_field(self.radius)(x)


@pytest.mark.parametrize(("d", "count"), [(2, 400), (3, 6000)])
def test_waves_that_the_field_misses_are_found(d, count):
    directions = on_sphere(count, d)
    data = data_of(bumps(directions)[:, None] * directions)
    spacing = point_distance(data.points)
    lambda_ = choose_lambda(data, spacing, 0.0)
    assert lambda_ is not None
    assert lambda_ <= 0.1
    others = on_sphere(500, d, seed=1)
    places = bumps(others)[:, None] * others
    before = np.linalg.norm(places, axis=1) - 0.6
    after = before + spline_at(solve(data, spacing, lambda_, 0.0), places)[0]
    assert np.abs(after).mean() < 0.15 * np.abs(before).mean()


@pytest.mark.parametrize("d", [2, 3])
def test_of_noise_alone_nothing_is_added(d):
    directions = on_sphere(3000, d)
    noise = np.random.default_rng(2).normal(size=3000) * 0.005
    data = data_of((0.6 + noise)[:, None] * directions)
    spacing = max(point_distance(data.points), detail.NOISE_WIDTHS * 0.005)
    assert choose_lambda(in_layer(data, spacing, 0.005, round_field(0.6))[1], spacing, 0.005) is None


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({10.0: 1.03, 3.0: 1.02, 1.0: 1.008, 0.3: 1.02}, 1.0),  # detail, though the network was trained on the others
        ({10.0: 1.03, 3.0: 1.02, 1.0: 1.016, 0.3: 1.02}, None),  # farther off by more than chance
        ({10.0: 1.008, 3.0: 1.02}, None),  # the smoothest is no sign of detail
        ({10.0: 0.992, 3.0: 1.02}, None),
        ({10.0: 0.984, 3.0: 1.02}, 10.0),  # but where it brings them nearer by more than chance
        ({10.0: 0.98, 3.0: 1.02, 1.0: 0.9}, 10.0),  # what comes after one that is worse is not looked at
    ],
)
def test_what_is_held_out_may_come_out_farther_off_by_chance_where_there_is_detail(monkeypatch, after, expected):
    """From 1 they go to ``after`` ± 0.3: of 600 points the standard error of the mean is 0.0122."""
    either = 0.3 * np.where(np.arange(600) % 2, 1.0, -1.0)
    monkeypatch.setattr(detail, "_held_out", lambda spacing, lambda_, noise, part: after.get(lambda_, 2.0) + either)
    points, ones = np.arange(9000.0).reshape(-1, 3), np.ones(3000)
    along = np.eye(3)[np.zeros(3000, dtype=int)]
    assert choose_lambda(Data(points, ones, along, along, ones), 1.0, 0.0) == expected


def test_a_hump_that_chance_explains_is_passed(monkeypatch):
    """Behind 1.0 come 1.01 ± 0.3, of 600 points no more than a standard error of 0.0122, and then 0.98."""
    after, signs = {10.0: 1.03, 3.0: 1.0, 1.0: 1.01, 0.3: 0.98}, np.random.default_rng(0).choice([-0.3, 0.3], (9, 600))
    signs -= signs.mean(axis=1, keepdims=True)

    def held_out(spacing, lambda_, noise, part):
        return after.get(lambda_, 2.0) + signs[list(detail.TRIED).index(lambda_) % 9]

    monkeypatch.setattr(detail, "_held_out", held_out)
    points, ones = np.arange(9000.0).reshape(-1, 3), np.ones(3000)
    along = np.eye(3)[np.zeros(3000, dtype=int)]
    assert choose_lambda(Data(points, ones, along, along, ones), 1.0, 0.0) == 0.3


def test_where_points_are_sparse_they_may_differ_more():
    """On one half a hundredth of the points, so ten times as far apart, and every second is off by five spacings."""
    directions = on_sphere(20_000, 3)
    sparse = directions[:, 0] < 0
    directions = directions[~sparse | (np.arange(20_000) % 100 == 0)]
    spacing = point_distance(0.6 * directions)
    heights = np.where((directions[:, 0] < -0.5) & (np.arange(len(directions)) % 2 == 0), 5 * spacing, 0.0)
    points = (0.6 + heights[:, None]) * directions
    assert len(without_strays(data_of(points), spacing).points) == len(points)
    far = np.concatenate([points, 1.2 * points[-40:-20]])  # 20 beside each other, off by more than 10 spacings
    np.testing.assert_array_equal(without_strays(data_of(far), spacing).points, points)


@pytest.mark.parametrize("d", [2, 3])
def test_what_one_point_says_alone_is_left_out_and_what_neighbours_share_is_not(d):
    """Points off the ball by two spacings stand alone on one half; on the other the ball rises by four."""
    directions = on_sphere(4000, d)
    spacing = point_distance(0.6 * directions)
    heights = 4 * np.maximum(directions[:, 0], 0)
    strays = np.flatnonzero(directions[:, 0] < 0)[::100]
    heights[strays] = 2
    points = (0.6 + spacing * heights[:, None]) * directions
    kept = without_strays(data_of(points), spacing)
    np.testing.assert_array_equal(kept.points, np.delete(points, strays, axis=0))
    np.testing.assert_allclose(kept.values, np.linalg.norm(kept.points, axis=1) - 0.6, atol=1e-6)


def close_up(d):
    """4 000 points of the unit sphere (2D: 400), and as many of the fiftieth of it about its first axis."""
    count = 4000 if d == 3 else 400
    everywhere, more = on_sphere(count, d), on_sphere(60 * count, d, seed=1)
    dense = more[more[:, 0] > (0.96 if d == 3 else np.cos(np.pi / 50))][:count]
    assert len(dense) == count
    return everywhere, dense


@pytest.mark.parametrize("d", [2, 3])
def test_a_dense_part_has_a_finer_grid_of_its_own(d):
    """Where 50 times as many points lie, they are √51 times as near to each other (2D: 51 times)."""
    everywhere, dense = close_up(d)
    (first, spacing), (second, finer) = levels(np.concatenate([everywhere, dense]), 0.0)
    count, apart = len(everywhere), np.sqrt(4 * np.pi / 4000) if d == 3 else 2 * np.pi / 400
    assert spacing == pytest.approx(apart, rel=0.1)
    assert finer == pytest.approx(max(apart / (np.sqrt(51) if d == 3 else 51), detail.FINEST), rel=0.1)
    assert len(first) > 0.9 * count
    assert len(second) == pytest.approx(1.02 * count, rel=0.03)
    assert second[:, 0].min() > 0.94
    assert [len(some) for some, _ in levels(everywhere, 0.0)] == [count]
    assert len(list(levels(np.concatenate([everywhere, dense]), 0.3 * apart))) == 1  # noise hides the finer detail


def test_relief_that_only_a_close_up_shows_is_found_and_meshed():
    """Ripples as long as the points are apart elsewhere, on the part that is seen from near."""
    everywhere, dense = close_up(3)

    def rippled(directions):
        return (1 + 0.004 * np.sin(100 * directions[:, 1]))[:, None] * directions

    points = np.concatenate([everywhere[everywhere[:, 0] < 0.95], rippled(dense[::2])])
    base, correction, spacings = Ball(1.0, 3), SplineField(()), []
    for some, spacing in levels(points, 0.0):
        data = data_of(some, DetailedField(base, correction).normalised_value_and_gradient)
        correction = SplineField((*correction.grids, *solve(data, spacing, 0.001, 0.0).grids))
        spacings.append(spacing)
    coarse, field = (DetailedField(base, SplineField(correction.grids[:count])) for count in (1, 2))
    others = dense[1::2]
    places = torch.from_numpy(rippled(others[others[:, 0] > 0.97]).astype(np.float32))
    assert field.normalised(places).abs().mean() < 0.2 * coarse.normalised(places).abs().mean()
    np.testing.assert_array_equal(np.unique(field.spacing_at(points)), sorted(spacings))
    along = cells_of(field, cloud := PointCloud(points), PlotConfig()).along
    assert 256 <= along <= 8 / (0.5 * spacings[0])
    off = []
    for mesh in (surface_of(field, cloud, PlotConfig(trim="closed", resolution=n)) for n in (along, None)):
        assert mesh.is_closed()
        middles = mesh.vertices[mesh.cells].mean(axis=1)
        radius = np.linalg.norm(middles, axis=1)
        relief = 0.004 * np.sin(100 * middles[:, 1] / radius)
        shown = middles[:, 0] > 0.97
        off.append(np.average(np.abs(radius - 1 - relief)[shown], weights=mesh.cell_measures()[shown]))
    assert off[1] < 0.5 * off[0]


def test_the_correction_keeps_to_its_time(monkeypatch):
    """In 1 s beyond what any takes there is time for 100 of 400 points; 50 count, however short the time is."""
    config = load_config(TINY, ("train.detail=false", "train.nepoch=5"), check_model)
    scenes, lines = [], []
    field, _ = fit(config, PointCloud(on_sphere(400, 2)), torch.device("cpu"), lines.append, observe=scenes.append)
    monkeypatch.setattr(detail, "SECONDS_PER_POINT", 0.01)
    monkeypatch.setattr(detail, "FEWEST", 50)
    for seconds, count in ((detail.SECONDS + 1.0, 100), (0.0, 50)):
        lines.clear()
        detail.correction_of(field, scenes[0], lines.append, seconds)
        assert lines[0] == f"detail: of {count} points, as more would take longer than there is time"
    lines.clear()
    detail.correction_of(field, scenes[0], lines.append)
    assert not any("as more would" in line for line in lines)


def test_normals_are_followed_whichever_way_they_point():
    directions = on_sphere(2000, 3)
    signs = np.where(np.arange(2000) % 2, 1.0, -1.0)[:, None]
    for normals in (directions, signs * directions):
        data = data_of(0.6 * directions, normals=normals)
        np.testing.assert_allclose(data.normals, directions, atol=1e-6)
    given = data_at(0.6 * directions, -directions, np.ones(2000), round_field(0.6), oriented=True)
    np.testing.assert_allclose(given.normals, -directions)


class Negative(torch.nn.Module):
    """A network with the other sign."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return -self.network(x)

    def value_and_gradient(self, x):
        value, gradient = self.network.value_and_gradient(x)
        return -value, -gradient


def test_given_normals_turn_with_a_field_that_is_turned(shapes):
    """A network that followed normals which point inward, turned, is the field that followed outward ones."""
    rows = ("train.detail=false", "train.nepoch=20", "network.has_normals=true")
    config, scenes = load_config(TINY, rows, check_model), []
    circle = on_sphere(400, 2)
    field, _ = fit(config, PointCloud(circle, circle), torch.device("cpu"), [].append, observe=scenes.append)
    turned = replace(field, network=Negative(field.network), sign=-field.sign)
    points = scenes[0].points
    inward = replace(scenes[0], points=replace(points, normals=-points.normals))
    one, other = detail.correction_of(field, scenes[0], [].append), detail.correction_of(turned, inward, [].append)
    for grid, same in zip(one.grids, other.grids, strict=True):
        np.testing.assert_array_equal(grid.coefficients, same.coefficients)


def test_points_that_come_many_times_have_the_spacing_of_different_ones():
    points = on_sphere(500, 3)
    once = different(np.repeat(points, 20, axis=0))
    np.testing.assert_array_equal(once, points)
    area = 4 * np.pi / 500
    assert point_distance(once) == pytest.approx(np.sqrt(area), rel=0.1)


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
    assert cells_of(field, cloud, PlotConfig()).along >= 256 == cells_of(field, None, PlotConfig()).along
    assert cells_of(field.base, cloud, PlotConfig()).along == 256
    sides = field.upper - field.lower
    shortest = PlotConfig(is_uniform_grid=False)
    assert cells_of(field.base, None, shortest).along == round(256 * sides.min() / sides.max())
    assert cells_of(field, cloud, PlotConfig(resolution=40)).along == 40

    more = load_config(TINY, ("train.detail=false", "train.nepoch=12"), check_model)  # goes on without detail
    field, epoch = fit(more, cloud, torch.device("cpu"), lines.append, checkpoint=experiment.load_checkpoint())
    assert epoch == 12
    assert isinstance(field, NeuralField)


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
        found = cells_of(base, PointCloud(points), PlotConfig()).along
        assert found == pytest.approx(max(8 / (cell * h), 256), rel=0.03)
    assert cells_of(base, PointCloud(1.1 * points), PlotConfig()).along == 400
    assert distances_to_faces(base, points + 100, h) == (0.0, 0.0)


@pytest.mark.parametrize(("count", "noise"), [(60_000, 0.006), (20_000, 0.006)])
def test_a_layer_of_noise_is_not_taken_for_detail(count, noise):
    """About a field that is right, what is chosen is nothing or so smooth that the field stays nearly as it is."""
    directions = on_sphere(count, 3)
    distances = 0.6 + noise * np.random.default_rng(1).standard_normal(count)
    data = data_of(distances[:, None] * directions)
    spacing = max(point_distance(data.points), detail.NOISE_WIDTHS * noise)
    data, told = in_layer(data, spacing, noise, round_field(0.6))
    lambda_ = choose_lambda(told, spacing, noise)
    assert lambda_ is None or lambda_ >= 1
    if lambda_ is not None:
        others = on_sphere(500, 3, seed=2)
        assert np.abs(spline_at(solve(data, spacing, lambda_, noise), 0.6 * others)[0]).mean() < 0.2 * noise


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("slope", [1.0, 0.8])
def test_points_of_a_thick_layer_are_asked_of_the_surface_below_them(d, slope):
    """Of s (r - 0.6) + 2 (r - 0.6)², whose mean over the layer is not zero: the values are s (r - 0.6).

    As steep as a distance they are r - 0.6.
    """

    def value_and_gradient(x):
        radius = torch.linalg.vector_norm(x, dim=-1)
        off = radius - 0.6
        return slope * off + 2 * off**2, ((slope + 4 * off) / radius)[:, None] * x

    off = np.linspace(-0.02, 0.02, 4000)
    points = (0.6 + off)[:, None] * on_sphere(4000, d)
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    data = data_at(points, normals, np.ones(4000), value_and_gradient, oriented=False)
    assert (data.values - slope * off).mean() == pytest.approx(2 / 3 * 0.02**2, rel=0.01)
    below = detail._below(data, 0.1, value_and_gradient)
    np.testing.assert_allclose(np.linalg.norm(below.points, axis=1), 0.6, atol=1.5e-3)
    np.testing.assert_allclose(below.values, slope * off, atol=1e-4)
    np.testing.assert_allclose(detail._of_slope_one(below).values, off, atol=3e-4)
