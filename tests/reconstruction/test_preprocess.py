"""What the training looks at: points that move or stay, normals that go with them, Ω and the Fourier features."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import TINY
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry import coarse_surface, winding
from phase_recon.reconstruction import preprocess
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.preprocess import FILLED, LEFT, NOISY, prepare, settled
from phase_recon.utils.config import load_config

CENTRE = np.array([5.0, -3.0, 40.0])


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """A grid that takes tenths of a second."""
    monkeypatch.setattr(winding, "NODES", 24)
    monkeypatch.setattr(coarse_surface, "NODES", 24)
    monkeypatch.setattr(coarse_surface, "CENTRES", 400)


def configured(*keys):
    return load_config(TINY, ("train.estimate_normals=true", *keys), check_model)


def sphere(count, noise=0.0, d=3, seed=0):
    """A cloud of radius 10 about CENTRE with its exact normals; the noise is in units of the radius."""
    random = np.random.default_rng(seed)
    unit = random.standard_normal((count, d))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return PointCloud(CENTRE[:d] + 10 * (1 + noise * random.standard_normal((count, 1))) * unit, unit)


def radii(data):
    """Distances of the prepared points from the sphere's middle, in units of its radius."""
    return np.linalg.norm(data.normalisation.invert(data.points) - CENTRE[: data.points.shape[1]], axis=1) / 10


@pytest.mark.parametrize("d", [2, 3])
def test_exact_points_have_no_noise_and_stay(d):
    cloud = sphere(2000, d=d)
    data = prepare(configured(), cloud)
    np.testing.assert_array_equal(data.points, data.normalisation.apply(cloud.points))
    assert not data.smoothed
    assert data.noise == data.noise_left < 2e-4
    assert data.normals is None


@pytest.mark.parametrize("d", [2, 3])
def test_normals_that_point_inward_are_turned(d):
    """And the run is the same as with outward ones; where two of three are wrong, they are left as they are."""
    cloud = sphere(1000, d=d)
    keys = ("train.start=winding", "network.has_normals=true")
    right = prepare(configured(*keys), cloud)
    turned = prepare(configured(*keys), PointCloud(cloud.points, -cloud.normals))
    assert right.outward > 0.99
    assert turned.outward < 0.01
    np.testing.assert_array_equal(turned.normals, right.normals)
    np.testing.assert_array_equal(turned.start.distances, right.start.distances)
    mixed = cloud.normals * np.where(np.arange(1000) % 3, -1, 1)[:, None]
    left = prepare(configured(*keys), PointCloud(cloud.points, mixed))
    assert left.outward == pytest.approx(1 / 3, abs=0.05)
    np.testing.assert_array_equal(left.normals, mixed)
    assert left.start is None  # the smoothest surface through them would have a sheet near the walls of Ω
    assert prepare(configured("train.start=winding"), cloud).outward is None


@pytest.mark.parametrize(("d", "count", "sigma"), [(2, 500, 0.005), (2, 500, 0.008), (3, 2000, 0.01), (3, 2000, 0.015)])
def test_noisy_points_move_towards_the_surface(d, count, sigma):
    cloud = sphere(count, sigma, d)
    data = prepare(configured(), cloud)
    assert data.smoothed
    assert data.noise * data.normalisation.scale == pytest.approx(10 * sigma, rel=0.15)
    assert data.noise_left == pytest.approx(LEFT * data.noise)
    before = np.linalg.norm(cloud.points - CENTRE[:d], axis=1) / 10
    assert np.abs(radii(data) - 1).mean() < 0.65 * np.abs(before - 1).mean()
    same = prepare(configured(), PointCloud(1000 * cloud.points))
    assert same.noise == pytest.approx(data.noise)
    np.testing.assert_allclose(same.points, data.points, atol=1e-9)


@pytest.mark.parametrize("has_normals", [False, True])
def test_dense_noisy_points_are_seen_among_more_neighbours(has_normals):
    """Noise of 0.16 of the distance to the 16th neighbour: 48 neighbours are enough, and half of the points."""
    cloud = sphere(20_000, 0.008)
    data = prepare(configured(f"network.has_normals={str(has_normals).lower()}"), cloud)
    assert data.noise > NOISY[1] * data.reach
    assert data.noise == pytest.approx(0.08 / data.normalisation.scale, rel=0.1)
    assert data.smoothed
    assert len(data.points) == 10_000
    assert data.noise_left == pytest.approx(LEFT * data.noise / np.sqrt(2))
    assert np.abs(radii(data) - 1).mean() < 0.45 * 0.008 * np.sqrt(2 / np.pi)
    normals = data.normals if has_normals else data.estimated.directions
    cosine = np.abs((normals * (data.normalisation.invert(data.points) - CENTRE)).sum(axis=1)) / (10 * radii(data))
    assert cosine.mean() > 0.99


def test_detail_is_not_taken_for_noise():
    """Waves of the width of four neighbourhoods: quadrics through more neighbours are farther from them."""
    cloud = sphere(4000)
    waves = 0.4 * np.sin(10 * (cloud.points - CENTRE) / 10).prod(axis=1, keepdims=True)
    data = prepare(configured(), PointCloud(cloud.points + waves * 10 * cloud.normals))
    assert not data.smoothed
    assert data.noise_left == data.noise < NOISY[0] * data.reach


def test_noise_is_told_from_detail():
    """Lower waves with noise of 0.01: what quadrics leave is more, by the waves."""
    cloud = sphere(4000)
    waves = 0.15 * np.sin(10 * (cloud.points - CENTRE) / 10).prod(axis=1, keepdims=True)
    height = waves + 0.01 * np.random.default_rng(5).standard_normal((4000, 1))
    data = prepare(configured(), PointCloud(cloud.points + height * 10 * cloud.normals))
    assert data.smoothed
    assert data.noise * data.normalisation.scale / 10 == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize("noise", [0.0, 0.004])
def test_a_bowl_thinner_than_its_points_are_apart_has_the_normals_of_both_its_sides(noise):
    """10 000 points, 0.035 from each other, on a bowl of that thickness."""
    unit = np.random.default_rng(0).standard_normal((10_000, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit[:, 2] = -np.abs(unit[:, 2])
    inner = np.arange(10_000)[:, None] % 2 == 1
    radius = np.where(inner, 0.965, 1.0) + noise * np.random.default_rng(1).standard_normal((10_000, 1))
    data = prepare(configured(), PointCloud(radius * unit))
    cosine = (data.estimated.directions[:10_000] * np.where(inner, -unit, unit)).sum(axis=1)
    assert data.estimated.oriented.mean() > 0.95
    assert (cosine > 0.9).mean() > 0.9
    assert data.noise * data.normalisation.scale == pytest.approx(noise, abs=0.001)


@pytest.mark.parametrize("d", [2, 3])
def test_points_stand_for_areas(d):
    """Below, a sphere has half as many points as elsewhere, each of which stands for twice as much."""
    random = np.random.default_rng(0)
    unit = random.standard_normal((8000, d))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit[(unit[:, -1] > -0.5) | (np.arange(8000) % 2 == 0)]
    below = unit[:, -1] < -0.5
    areas = prepare(configured(), PointCloud(unit)).areas
    assert areas[below].mean() == pytest.approx(2, rel=0.1)
    assert 1 <= areas[~below].mean() < 1.15
    assert areas.min() == 1
    assert areas.max() <= 3
    assert prepare(configured("train.weigh_by_area=false"), PointCloud(unit)).areas is None


def test_points_on_a_thin_wedge_stand_for_no_less_than_others():
    """Along its edge, points of both its faces are among the nearest."""
    points = np.random.default_rng(0).uniform(-1, 1, (20_000, 3))
    points[:, 2] = np.where(np.arange(20_000) % 2 == 0, 0.05, -0.05) * (1 - points[:, 0])
    assert preprocess._areas(points)[points[:, 0] > 0.9].min() == 1


def test_points_all_in_one_place_stand_for_something():
    places = np.repeat(np.random.default_rng(0).uniform(-1, 1, (12, 3)), 50, axis=0)
    assert (preprocess._areas(places) == 1).all()


def test_points_that_hide_their_surface_stay():
    """Noise of the distance to the 16th neighbour: a quadric would follow the noise."""
    cloud = sphere(5000, 0.15)
    data = prepare(configured(), cloud)
    assert not data.smoothed
    assert data.estimated is None
    assert data.noise_left == data.noise > 0.02


def test_few_noisy_points_move_to_the_smoothest_surface_through_all_of_them():
    """Noise of a sixth of the distance to the 16th neighbour, as above, but few enough to be seen together."""
    cloud = sphere(400, 0.05)
    data = prepare(configured("train.start=winding"), cloud)
    assert data.noise > NOISY[1] * data.reach
    before = np.linalg.norm(cloud.points - CENTRE, axis=1) / 10
    assert np.abs(radii(data) - 1).mean() < 0.92 * np.abs(before - 1).mean()
    assert (data.estimated.directions * cloud.normals).sum(axis=1).mean() > 0.9
    assert data.estimated.oriented.all()
    assert (data.estimated.trust == 1).all()
    assert data.smoothed
    alone = prepare(configured(), cloud)
    np.testing.assert_array_equal(alone.points, alone.normalisation.apply(cloud.points))
    assert alone.estimated is None
    assert not alone.smoothed


@pytest.mark.parametrize("has_normals", ["true", "false"])
def test_a_wide_opening_is_filled_as_if_it_had_been_scanned(has_normals):
    cloud = sphere(3000)
    low = cloud.normals[:, 2] < 0.4
    cloud = PointCloud(cloud.points[low], cloud.normals[low])
    keys = ("train.start=winding", f"network.has_normals={has_normals}")
    data = prepare(configured(*keys), cloud)
    more = len(data.points) - len(cloud.points)
    density = 3000 / (4 * np.pi * (10 / data.normalisation.scale) ** 2)
    assert more == data.filled == pytest.approx(FILLED * density * data.start.filling_areas.sum(), rel=0.1)
    assert (data.areas[-more:] == 1).all()
    assert more > 100
    normals = data.normals if has_normals == "true" else data.estimated.directions
    assert len(normals) == len(data.points)
    there, one = np.unique(data.points[-more:], axis=0, return_index=True)
    place = {tuple(point): normal for point, normal in zip(data.start.filling, data.start.filling_normals, strict=True)}
    np.testing.assert_array_equal(normals[-more:][one], [place[tuple(point)] for point in there])
    assert len(there) > 0.9 * len(place)
    if has_normals == "false":
        assert (data.estimated.trust[-more:] == 0).all()
    assert data.normalisation.invert(data.points[-more:])[:, 2].max() > CENTRE[2] + 5
    as_it_is = prepare(configured(*keys, "train.fill_openings=false"), cloud)
    assert len(as_it_is.points) == len(cloud.points)


def test_what_is_asked_for():
    cloud = sphere(2000, 0.01)
    data = prepare(configured("train.smooth_points=false"), cloud)
    np.testing.assert_array_equal(data.points, data.normalisation.apply(cloud.points))
    assert data.noise == data.noise_left > 0.005  # it is still told
    assert data.estimated is not None
    data = prepare(configured("train.estimate_normals=false"), cloud)
    assert (data.normals, data.estimated, data.start) == (None,) * 3
    assert prepare(configured("train.estimate_normals=false", "train.start=winding"), cloud).start is not None
    data = prepare(configured("network.has_normals=true"), cloud)
    np.testing.assert_array_equal(data.normals, cloud.normals)
    assert data.estimated is None


def test_estimated_normals_are_those_of_the_sphere():
    cloud = sphere(2000)
    data = prepare(configured(), cloud)
    cosine = (data.estimated.directions * cloud.normals).sum(axis=1)
    assert np.abs(cosine).min() > 0.999
    assert (cosine[data.estimated.oriented] > 0).all()
    assert data.estimated.oriented.mean() > 0.99
    assert data.estimated.trust.shape == (2000,)
    assert 0.9 < data.estimated.trust.min() <= data.estimated.trust.max() <= 1


@pytest.mark.parametrize("has_normals", ["true", "false"])
def test_of_a_huge_cloud_a_part_is_kept_with_its_normals(monkeypatch, has_normals):
    monkeypatch.setattr(preprocess, "FITTED", 1000)
    cloud = sphere(2000, 0.02)
    data = prepare(configured(f"network.has_normals={has_normals}"), cloud)
    normals = data.normals if has_normals == "true" else data.estimated.directions
    assert data.points.shape == normals.shape == (1000, 3)
    unit = (data.normalisation.invert(data.points) - CENTRE) / 10
    cosine = (unit * normals).sum(axis=1)
    assert (cosine if has_normals == "true" else np.abs(cosine)).min() > 0.9


def test_points_that_need_no_fit_are_all_kept(monkeypatch):
    monkeypatch.setattr(preprocess, "FITTED", 300)
    data = prepare(configured("network.has_normals=true"), sphere(2000))
    assert data.points.shape == data.normals.shape == (2000, 3)


def test_points_that_are_there_many_times_count_once():
    """As the corners of a mesh's triangles do: the nearest are then not all in one place."""
    cloud = sphere(1000, 0.02)
    once, many = (prepare(configured(), PointCloud(np.repeat(cloud.points, n, axis=0))) for n in (1, 20))
    assert once.smoothed
    np.testing.assert_allclose(many.points, once.points, atol=1e-12)
    assert (many.noise, many.reach) == pytest.approx((once.noise, once.reach))
    assert len(many.estimated.trust) == 1000


@pytest.mark.parametrize("places", [4, 9])
def test_points_in_few_places_show_nothing(places):
    """Too few for a quadric, such as the corners of a tetrahedron's faces, three times each."""
    cloud = PointCloud(np.repeat(sphere(places).points, 3, axis=0))
    data = prepare(configured(), cloud)
    np.testing.assert_allclose(data.points, data.normalisation.apply(cloud.points), atol=1e-12)
    assert not data.smoothed
    started = prepare(configured("train.start=winding"), cloud)
    assert len(started.points) == len(cloud.points) + started.filled
    assert np.isfinite(started.points).all()


def test_a_place_keeps_each_of_its_normals():
    """As the corners of a cube do, whose vertices are split where the faces meet."""
    cloud = sphere(1000, 0.02)
    split = PointCloud(np.repeat(cloud.points, 2, axis=0), np.stack([cloud.normals, -cloud.normals], 1).reshape(-1, 3))
    data = prepare(configured("network.has_normals=true"), split)
    assert data.smoothed
    np.testing.assert_array_equal(data.normals, split.normals)
    twice = PointCloud(*(np.repeat(part, 2, axis=0) for part in (cloud.points, cloud.normals)))
    assert len(prepare(configured("network.has_normals=true"), twice).points) == 1000


def test_omega_is_the_box_times_its_scale_and_wider_where_that_is_thin():
    """An ellipse of half-axes 1 and 0.1: 1.5 times the first, 0.2 more than the second."""
    angle = 2 * np.pi * np.arange(200) / 200
    data = prepare(configured(), PointCloud(np.stack([np.cos(angle), 0.1 * np.sin(angle)], axis=-1)))
    np.testing.assert_allclose(data.upper, [1.5, 0.3], atol=1e-12)
    np.testing.assert_allclose(data.lower, [-1.5, -0.3], atol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_the_thickness_is_that_of_the_thinnest_principal_axis(d):
    """An ellipsoid of half-axes 1 and 0.02, turned by 30°."""
    c, s = np.sqrt(0.75), 0.5
    turned = np.eye(d)
    turned[:2, :2] = [[c, -s], [s, c]]
    points = sphere(2000, d=d).normals * [0.02, *[1.0] * (d - 1)] @ turned.T
    data = prepare(configured(), PointCloud(points))
    assert data.thickness == pytest.approx(0.04, rel=0.05)
    np.testing.assert_allclose(data.extents[1:], 2.0, rtol=0.05)


# the Fourier features


@pytest.mark.parametrize(
    ("reach", "k"),
    [
        (0.0, 6),
        (0.0416, 6),  # their shortest wave is 4/32 = 0.125, not less than 3 · 0.0416 = 0.1248
        (0.0418, 5),
        (0.1, 4),  # 4/8 = 0.5 spans 0.3, 4/16 does not
        (0.4, 2),
        (9.0, 2),
    ],
)
def test_as_many_fourier_features_as_the_spacing_bears(reach, k):
    config = configured("network.inputs.use_FFM=true", "train.momentum=0.9")
    rest = settled(config, reach, 0.0)
    assert rest.network.inputs["k"] == k
    assert settled(config, reach, 1e-4) == settled(config, 4 * reach, 0.0)  # two fewer
    assert replace(rest, network=replace(rest.network, inputs=config.network.inputs)) == config


def test_a_number_of_fourier_features_that_is_given_stays():
    config = configured("network.inputs.k=3", "train.momentum=0.9")
    assert settled(config, 0.0, 0.0) == config


def test_the_momentum_is_by_the_noise_unless_it_is_given():
    asked = [configured(), configured("train.momentum=0.9")]
    assert [settled(config, 0.1, noise).train.momentum for config in asked for noise in (0.0, 1e-4)] == [
        0.99, 0.95, 0.9, 0.9
    ]  # fmt: skip


def test_the_learning_rate_is_by_the_noise_unless_it_is_given():
    """0.002 up to a noise of 0.0019, and then as much less as there is more, down to 0.0013."""

    def initial(config, noise):
        return settled(config, 0.1, noise).train.learning_rate_schedule[0].Initial

    config = configured("train.learning_rate_schedule=[{Type=Cosine, Final=0.00002, Restart=9}]")
    rates = [initial(config, noise) for noise in (0.0, 0.001, 0.0019, 0.0038 / 1.5, 0.0038, 1.0)]
    assert rates == pytest.approx([0.002, 0.002, 0.002, 0.0015, 0.0013, 0.0013])
    schedule = settled(config, 0.1, 1.0).train.learning_rate_schedule[0]
    assert (schedule.Type, schedule.Final, schedule.Restart) == ("Cosine", 2e-5, 9)
    asked = configured("train.learning_rate_schedule=[{Type=Cosine, Initial=0.01, Final=0.00002}]")
    assert initial(asked, 1.0) == 0.01


def test_a_network_without_fourier_features_gets_none():
    sines = ("train.network_class=model.siren.SirenNet", "network.inputs=null", "network.inputs={dims:[8,8]}")
    config = configured(*sines, "train.momentum=0.9")
    assert settled(config, 0.1, 0.0) == config


def test_counts_are_rounded_so_that_none_get_lost():
    np.testing.assert_array_equal(preprocess._rounded(np.array([0.4, 0.4, 0.4, 2.0, 0.9])), [0, 0, 1, 2, 1])


def test_points_are_added_on_the_creases_of_a_noisy_box():
    generator = np.random.default_rng(0)
    points = generator.uniform(-1, 1, (3000, 3))
    points[np.arange(3000), generator.integers(3, size=3000)] = generator.choice([-1.0, 1.0], 3000)
    points += 0.02 * generator.standard_normal(points.shape)
    data = prepare(configured("train.fill_openings=false"), PointCloud(points, None))
    assert data.creased > 200
    places = data.normalisation.invert(data.points[len(points) :])
    assert len(places) == data.creased
    off = np.sort(np.abs(np.abs(places) - 1), axis=1)[:, :2]
    assert np.median(np.linalg.norm(off, axis=1)) < 0.02
    assert data.estimated is not None
    assert len(data.estimated.trust) == len(data.points)
    assert not data.estimated.trust[len(points) :].any()
    without = prepare(configured("train.fill_openings=false", "train.find_creases=false"), PointCloud(points, None))
    np.testing.assert_array_equal(without.points, data.points[: len(points)])


def test_strays_are_left_out_whatever_they_do_to_the_extent():
    ball = sphere(1500)
    stray = np.array([[905.0, -3.0, 40.0]])
    cloud = PointCloud(np.concatenate([ball.points, stray]), None)
    data, without = prepare(configured(), cloud), prepare(configured(), PointCloud(ball.points, None))
    assert data.dropped == 1
    assert data.normalisation.to_dict() == without.normalisation.to_dict()
    assert sorted(map(tuple, data.points)) == sorted(map(tuple, without.points))
    np.testing.assert_array_equal([data.lower, data.upper], [without.lower, without.upper])
    believed = prepare(configured("train.drop_outliers=false"), cloud)
    assert believed.dropped == 0
    assert believed.normalisation.scale > 10 * data.normalisation.scale


def test_fine_detail_is_not_taken_for_noise():
    """Bumps as wide as 24 neighbours: 48 show hardly less of them, where of noise they would show 0.7, as above."""
    unit = np.random.default_rng(0).standard_normal((4000, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    bumps = PointCloud(unit * (1 + 0.06 * np.sin(24 * unit).prod(axis=1, keepdims=True)), None)
    data = prepare(configured("train.fill_openings=false"), bumps)
    assert data.noise < 0.05 * data.reach  # of which quadrics through 24 leave 0.13
    assert len(data.points) == 4000


def test_a_stray_that_nobody_looked_at_does_not_set_the_scale(monkeypatch):
    monkeypatch.setattr(preprocess, "FITTED", 500)
    ball = sphere(3000)
    for place in range(1, 5):
        points = np.insert(ball.points, place, [905.0, -3.0, 40.0], axis=0)
        assert prepare(configured(), PointCloud(points, None)).normalisation.scale < 11


def test_few_different_points_that_come_often_show_nothing():
    corners = np.repeat(np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T, 200, axis=0)
    assert not prepare(configured(), PointCloud(corners.astype(np.float64), None)).smoothed
