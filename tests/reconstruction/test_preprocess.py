"""What the training looks at: points that move or stay, normals that go with them, Ω and the Fourier features."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from conftest import TINY, box_with_hollow
from phase_recon.benchmarks.scanner import take
from phase_recon.benchmarks.shapes import SHAPES
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.coarse_surface import CoarseSurfaceSettings
from phase_recon.geometry.layers import layers
from phase_recon.geometry.neighbours import areas
from phase_recon.geometry.noise import NoiseSettings
from phase_recon.geometry.points import Source
from phase_recon.geometry.winding import WindingSettings
from phase_recon.model.loss.igr import IgrLoss
from phase_recon.model.loss.phase import HOLE_BEGINS, PhaseLoss
from phase_recon.reconstruction import preprocess
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.detail import not_blurred
from phase_recon.reconstruction.findings import findings, sensor_warning
from phase_recon.reconstruction.scene import PreprocessSettings
from phase_recon.reconstruction.state import sampler_of
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import load_config, override

CENTRE = np.array([5.0, -3.0, 40.0])


# grids that take tenths of a second
COARSE = PreprocessSettings(
    winding=WindingSettings(nodes=24), coarse_surface=CoarseSurfaceSettings(nodes=24, centres=400)
)


def prepare(config, cloud, **settings):
    return preprocess.prepare(config, cloud, replace(COARSE, **settings))


def configured(*keys):
    return load_config(TINY, ("train.estimate_normals=true", *keys), check_model)


def sphere(count, noise=0.0, d=3, seed=0):
    """A cloud of radius 10 about CENTRE with its exact normals; the noise is in units of the radius."""
    random = np.random.default_rng(seed)
    unit = random.standard_normal((count, d))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return PointCloud(CENTRE[:d] + 10 * (1 + noise * random.standard_normal((count, 1))) * unit, unit)


def in_input_units(data):
    """The prepared points in the cloud's own frame."""
    return data.domain.normalisation.invert(data.points.positions)


def radii(data):
    """Distances of the prepared points from the sphere's middle, in units of its radius."""
    return np.linalg.norm(in_input_units(data) - CENTRE[: data.dimension], axis=1) / 10


@pytest.mark.parametrize("d", [2, 3])
def test_exact_points_have_no_noise_and_stay(d):
    cloud = sphere(2000, d=d)
    data = prepare(configured(), cloud)
    np.testing.assert_array_equal(data.points.positions, data.domain.normalisation.apply(cloud.points))
    assert not data.scale.denoised
    assert data.scale.noise == data.scale.noise_left < 2e-4
    assert data.normals != "given"


def given_both_ways(d, start):
    """A cloud with outward normals, the keys by which they are used, and what is made of it and of inward ones."""
    cloud, keys = sphere(1000, d=d), (f"train.start={start}", "network.has_normals=true")
    inward = PointCloud(cloud.points, -cloud.normals)
    return cloud, keys, prepare(configured(*keys), cloud), prepare(configured(*keys), inward)


@pytest.mark.parametrize("d", [2, 3])
def test_normals_that_point_inward_are_turned(d):
    """And the run is the same as with outward ones; where two of three are wrong, they are left as they are."""
    cloud, keys, right, turned = given_both_ways(d, "winding")
    assert right.outward > 0.99
    assert turned.outward < 0.01
    np.testing.assert_array_equal(turned.points.normals, right.points.normals)
    np.testing.assert_array_equal(turned.coarse_surface.distances, right.coarse_surface.distances)
    mixed = cloud.normals * np.where(np.arange(1000) % 3, -1, 1)[:, None]
    left = prepare(configured(*keys), PointCloud(cloud.points, mixed))
    assert left.outward == pytest.approx(1 / 3, abs=0.05)
    np.testing.assert_array_equal(left.points.normals, mixed)
    assert left.coarse_surface is None  # the smoothest surface through them would have a sheet near the walls of Ω
    assert prepare(configured("train.start=winding"), cloud).outward is None


@pytest.mark.parametrize("d", [2, 3])
def test_without_coarse_normals_what_the_given_ones_enclose_tells_their_sides(d):
    cloud, _, right, turned = given_both_ways(d, "network")
    np.testing.assert_array_equal(right.points.normals, cloud.normals)
    np.testing.assert_array_equal(turned.points.normals, cloud.normals)
    assert right.outward is None
    assert turned.outward < 0.1
    assert not turned.is_room


@pytest.mark.parametrize(("d", "count", "sigma"), [(2, 500, 0.005), (2, 500, 0.008), (3, 2000, 0.01), (3, 2000, 0.015)])
def test_noisy_points_move_towards_the_surface(d, count, sigma):
    cloud = sphere(count, sigma, d)
    data = prepare(configured(), cloud)
    assert data.scale.denoised
    assert data.scale.noise * data.domain.normalisation.scale == pytest.approx(10 * sigma, rel=0.15)
    assert data.scale.noise_left == pytest.approx(COARSE.noise.left * data.scale.noise)
    before = np.linalg.norm(cloud.points - CENTRE[:d], axis=1) / 10
    assert np.abs(radii(data) - 1).mean() < 0.65 * np.abs(before - 1).mean()
    same = prepare(configured(), PointCloud(1000 * cloud.points))
    assert same.scale.noise == pytest.approx(data.scale.noise)
    np.testing.assert_allclose(same.points.positions, data.points.positions, atol=1e-9)


@pytest.mark.parametrize("has_normals", [False, True])
def test_dense_noisy_points_are_seen_among_more_neighbours(has_normals):
    """Noise of 0.16 of the distance to the 16th neighbour: 48 neighbours are enough, and half of the points."""
    cloud = sphere(20_000, 0.008)
    data = prepare(configured(f"network.has_normals={str(has_normals).lower()}"), cloud)
    assert data.scale.noise > COARSE.noise.surface_hidden * data.scale.spacing
    assert data.scale.noise == pytest.approx(0.08 / data.domain.normalisation.scale, rel=0.1)
    assert data.scale.denoised
    assert len(data.points) == 10_000
    assert data.scale.noise_left == pytest.approx(COARSE.noise.left * data.scale.noise / np.sqrt(2))
    assert np.abs(radii(data) - 1).mean() < 0.45 * 0.008 * np.sqrt(2 / np.pi)
    outward = (in_input_units(data) - CENTRE) / (10 * radii(data)[:, None])
    cosine = np.abs((data.points.normals * outward).sum(axis=1))
    assert cosine.mean() > 0.99


def test_detail_is_not_taken_for_noise():
    """Waves of the width of four neighbourhoods: quadrics through more neighbours are farther from them."""
    cloud = sphere(4000)
    waves = 0.4 * np.sin(10 * (cloud.points - CENTRE) / 10).prod(axis=1, keepdims=True)
    data = prepare(configured(), PointCloud(cloud.points + waves * 10 * cloud.normals))
    assert not data.scale.denoised
    assert data.scale.noise_left == data.scale.noise < COARSE.noise.noise_begins * data.scale.spacing


def test_noise_is_told_from_detail():
    """Lower waves with noise of 0.01: what quadrics leave is more, by the waves."""
    cloud = sphere(4000)
    waves = 0.15 * np.sin(10 * (cloud.points - CENTRE) / 10).prod(axis=1, keepdims=True)
    height = waves + 0.01 * np.random.default_rng(5).standard_normal((4000, 1))
    data = prepare(configured(), PointCloud(cloud.points + height * 10 * cloud.normals))
    assert data.scale.denoised
    assert data.scale.noise * data.domain.normalisation.scale / 10 == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize("noise", [0.0, 0.004])
def test_a_bowl_thinner_than_its_points_are_apart_has_the_normals_of_both_its_sides(noise):
    """10 000 points, 0.035 from each other, on a bowl of that thickness."""
    unit = np.random.default_rng(0).standard_normal((10_000, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit[:, 2] = -np.abs(unit[:, 2])
    inner = np.arange(10_000)[:, None] % 2 == 1
    radius = np.where(inner, 0.965, 1.0) + noise * np.random.default_rng(1).standard_normal((10_000, 1))
    data = prepare(configured(), PointCloud(radius * unit))
    cosine = (data.points.normals[:10_000] * np.where(inner, -unit, unit)).sum(axis=1)
    assert data.points.oriented.mean() > 0.95
    assert (cosine > 0.9).mean() > 0.9
    assert data.scale.noise * data.domain.normalisation.scale == pytest.approx(noise, abs=0.001)


@pytest.mark.parametrize("d", [2, 3])
def test_points_stand_for_areas(d):
    """Below, a sphere has half as many points as elsewhere, each of which stands for twice as much."""
    random = np.random.default_rng(0)
    unit = random.standard_normal((8000, d))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit[(unit[:, -1] > -0.5) | (np.arange(8000) % 2 == 0)]
    below = unit[:, -1] < -0.5
    area = prepare(configured(), PointCloud(unit)).points.area
    assert area[below].mean() == pytest.approx(2, rel=0.1)
    assert 1 <= area[~below].mean() < 1.15
    assert area.min() == 1
    assert area.max() <= 3
    assert prepare(configured("train.weigh_by_area=false"), PointCloud(unit)).points.area.max() == 1


def test_points_on_a_thin_wedge_stand_for_no_less_than_others():
    """Along its edge, points of both its faces are among the nearest."""
    points = np.random.default_rng(0).uniform(-1, 1, (20_000, 3))
    points[:, 2] = np.where(np.arange(20_000) % 2 == 0, 0.05, -0.05) * (1 - points[:, 0])
    assert areas(points, 3.0)[points[:, 0] > 0.9].min() == 1


def test_points_all_in_one_place_stand_for_something():
    places = np.repeat(np.random.default_rng(0).uniform(-1, 1, (12, 3)), 50, axis=0)
    assert (areas(places, 3.0) == 1).all()


def test_points_that_hide_their_surface_stay():
    """Noise of the distance to the 16th neighbour: a quadric would follow the noise."""
    cloud = sphere(5000, 0.15)
    data = prepare(configured(), cloud)
    assert not data.scale.denoised
    assert data.normals != "estimated"
    assert data.scale.noise_left == data.scale.noise > 0.02


def test_few_noisy_points_move_to_the_smoothest_surface_through_all_of_them():
    """Noise of a sixth of the distance to the 16th neighbour, as above, but few enough to be seen together."""
    cloud = sphere(400, 0.05)
    data = prepare(configured("train.start=winding"), cloud)
    assert data.scale.noise > COARSE.noise.surface_hidden * data.scale.spacing
    before = np.linalg.norm(cloud.points - CENTRE, axis=1) / 10
    assert np.abs(radii(data) - 1).mean() < 0.92 * np.abs(before - 1).mean()
    assert (data.points.normals * cloud.normals).sum(axis=1).mean() > 0.9
    assert data.points.oriented.all()
    assert (data.points.confidence == 1).all()
    assert data.scale.denoised
    alone = prepare(configured(), cloud)
    np.testing.assert_array_equal(alone.points.positions, alone.domain.normalisation.apply(cloud.points))
    assert alone.normals == "none"
    assert not alone.scale.denoised


@pytest.mark.parametrize("has_normals", ["true", "false"])
def test_a_wide_opening_is_filled_as_if_it_had_been_scanned(has_normals):
    cloud = sphere(3000)
    low = cloud.normals[:, 2] < 0.4
    cloud = PointCloud(cloud.points[low], cloud.normals[low])
    keys = ("train.start=winding", f"network.has_normals={has_normals}")
    any_size = replace(COARSE.coarse_surface, largest=np.inf)
    data = prepare(configured(*keys), cloud, coarse_surface=any_size)
    more = len(data.points) - len(cloud.points)
    density = 3000 / (4 * np.pi * (10 / data.domain.normalisation.scale) ** 2)
    surface = data.coarse_surface
    expected = COARSE.hole_density * density * surface.filling_areas.sum()
    assert more == data.points.count(Source.HOLE) == pytest.approx(expected, rel=0.1)
    assert (data.points.area[-more:] == 1).all()
    assert more > 100
    there, one = np.unique(data.points.positions[-more:], axis=0, return_index=True)
    place = {tuple(point): normal for point, normal in zip(surface.filling, surface.filling_normals, strict=True)}
    np.testing.assert_array_equal(data.points.normals[-more:][one], [place[tuple(point)] for point in there])
    assert len(there) > 0.9 * len(place)
    if has_normals == "false":
        assert (data.points.confidence[-more:] == 0).all()
    assert in_input_units(data)[-more:, 2].max() > CENTRE[2] + 5
    as_it_is = prepare(configured(*keys, "train.fill_openings=false"), cloud, coarse_surface=any_size)
    assert len(as_it_is.points) == len(cloud.points)


def test_what_is_asked_for():
    cloud = sphere(2000, 0.01)
    data = prepare(configured("train.smooth_points=false"), cloud)
    np.testing.assert_array_equal(data.points.positions, data.domain.normalisation.apply(cloud.points))
    assert data.scale.noise == data.scale.noise_left > 0.005  # it is still told
    assert data.normals == "estimated"
    data = prepare(configured("train.estimate_normals=false"), cloud)
    assert (data.normals, data.coarse_surface) == ("none", None)
    assert prepare(configured("train.estimate_normals=false", "train.start=winding"), cloud).coarse_surface is not None
    data = prepare(configured("network.has_normals=true"), cloud)
    np.testing.assert_array_equal(data.points.normals, cloud.normals)
    assert data.normals != "estimated"


def test_estimated_normals_are_those_of_the_sphere():
    cloud = sphere(2000)
    data = prepare(configured(), cloud)
    cosine = (data.points.normals * cloud.normals).sum(axis=1)
    assert np.abs(cosine).min() > 0.999
    assert (cosine[data.points.oriented] > 0).all()
    assert data.points.oriented.mean() > 0.99
    assert data.points.confidence.shape == (2000,)
    assert 0.9 < data.points.confidence.min() <= data.points.confidence.max() <= 1


@pytest.mark.parametrize("has_normals", ["true", "false"])
def test_of_a_huge_cloud_a_part_is_kept_with_its_normals(has_normals):
    cloud = sphere(2000, 0.02)
    data = prepare(configured(f"network.has_normals={has_normals}"), cloud, most_points=1000)
    assert data.points.positions.shape == data.points.normals.shape == (1000, 3)
    cosine = ((in_input_units(data) - CENTRE) / 10 * data.points.normals).sum(axis=1)
    assert (cosine if has_normals == "true" else np.abs(cosine)).min() > 0.9


def test_points_that_need_no_fit_are_all_kept():
    data = prepare(configured("network.has_normals=true"), sphere(2000), most_points=300)
    assert data.points.positions.shape == data.points.normals.shape == (2000, 3)


def test_points_that_are_there_many_times_count_once():
    """As the corners of a mesh's triangles do: the nearest are then not all in one place."""
    cloud = sphere(1000, 0.02)
    once, many = (prepare(configured(), PointCloud(np.repeat(cloud.points, n, axis=0))) for n in (1, 20))
    assert once.scale.denoised
    np.testing.assert_allclose(many.points.positions, once.points.positions, atol=1e-12)
    assert (many.scale.noise, many.scale.spacing) == pytest.approx((once.scale.noise, once.scale.spacing))
    assert len(many.points.confidence) == 1000


@pytest.mark.parametrize("places", [4, 9])
def test_points_in_few_places_show_nothing(places):
    """Too few for a quadric, such as the corners of a tetrahedron's faces, three times each."""
    cloud = PointCloud(np.repeat(sphere(places).points, 3, axis=0))
    data = prepare(configured(), cloud)
    np.testing.assert_allclose(data.points.positions, data.domain.normalisation.apply(cloud.points), atol=1e-12)
    assert not data.scale.denoised
    started = prepare(configured("train.start=winding"), cloud)
    assert len(started.points) == len(cloud.points) + started.points.count(Source.HOLE)
    assert np.isfinite(started.points.positions).all()


def test_a_place_keeps_each_of_its_normals():
    """As the corners of a cube do, whose vertices are split where the faces meet."""
    cloud = sphere(1000, 0.02)
    split = PointCloud(np.repeat(cloud.points, 2, axis=0), np.stack([cloud.normals, -cloud.normals], 1).reshape(-1, 3))
    data = prepare(configured("network.has_normals=true"), split)
    assert data.scale.denoised
    np.testing.assert_array_equal(data.points.normals, split.normals)
    twice = PointCloud(*(np.repeat(part, 2, axis=0) for part in (cloud.points, cloud.normals)))
    assert len(prepare(configured("network.has_normals=true"), twice).points) == 1000


def test_omega_is_the_box_times_its_scale_and_wider_where_that_is_thin():
    """An ellipse of half-axes 1 and 0.1: 1.5 times the first, 0.2 more than the second."""
    angle = 2 * np.pi * np.arange(200) / 200
    data = prepare(configured(), PointCloud(np.stack([np.cos(angle), 0.1 * np.sin(angle)], axis=-1)))
    np.testing.assert_allclose(data.domain.upper, [1.5, 0.3], atol=1e-12)
    np.testing.assert_allclose(data.domain.lower, [-1.5, -0.3], atol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_the_thickness_is_that_of_the_thinnest_principal_axis(d):
    """An ellipsoid of half-axes 1 and 0.02, turned by 30°."""
    c, s = np.sqrt(0.75), 0.5
    turned = np.eye(d)
    turned[:2, :2] = [[c, -s], [s, c]]
    points = sphere(2000, d=d).normals * [0.02, *[1.0] * (d - 1)] @ turned.T
    data = prepare(configured(), PointCloud(points))
    assert data.extents[0] == pytest.approx(0.04, rel=0.05)
    np.testing.assert_allclose(data.extents[1:], 2.0, rtol=0.05)


def test_counts_are_rounded_so_that_none_get_lost():
    np.testing.assert_array_equal(preprocess._rounded(np.array([0.4, 0.4, 0.4, 2.0, 0.9])), [0, 0, 1, 2, 1])


def test_points_are_added_on_the_creases_of_a_noisy_box():
    generator = np.random.default_rng(0)
    points = generator.uniform(-1, 1, (3000, 3))
    points[np.arange(3000), generator.integers(3, size=3000)] = generator.choice([-1.0, 1.0], 3000)
    points += 0.02 * generator.standard_normal(points.shape)
    data = prepare(configured("train.fill_openings=false"), PointCloud(points, None))
    assert data.points.count(Source.CREASE) > 200
    places = in_input_units(data)[len(points) :]
    assert len(places) == data.points.count(Source.CREASE)
    off = np.sort(np.abs(np.abs(places) - 1), axis=1)[:, :2]
    assert np.median(np.linalg.norm(off, axis=1)) < 0.02
    assert data.normals == "estimated"
    assert len(data.points.confidence) == len(data.points)
    assert not data.points.confidence[len(points) :].any()
    without = prepare(configured("train.fill_openings=false", "train.find_creases=false"), PointCloud(points, None))
    np.testing.assert_array_equal(without.points.positions, data.points.positions[: len(points)])


def test_outliers_are_left_out_whatever_they_do_to_the_extent():
    ball = sphere(1500)
    outlier = np.array([[905.0, -3.0, 40.0]])
    cloud = PointCloud(np.concatenate([ball.points, outlier]), None)
    data, without = prepare(configured(), cloud), prepare(configured(), PointCloud(ball.points, None))
    assert data.dropped == 1
    assert data.domain.normalisation.to_dict() == without.domain.normalisation.to_dict()
    assert sorted(map(tuple, data.points.positions)) == sorted(map(tuple, without.points.positions))
    np.testing.assert_array_equal([data.domain.lower, data.domain.upper], [without.domain.lower, without.domain.upper])
    believed = prepare(configured("train.drop_outliers=false"), cloud)
    assert believed.dropped == 0
    assert believed.domain.normalisation.scale > 10 * data.domain.normalisation.scale


def test_fine_detail_is_not_taken_for_noise():
    """Bumps as wide as 24 neighbours: 48 show hardly less of them, where of noise they would show 0.7, as above."""
    unit = np.random.default_rng(0).standard_normal((4000, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    bumps = PointCloud(unit * (1 + 0.06 * np.sin(24 * unit).prod(axis=1, keepdims=True)), None)
    data = prepare(configured("train.fill_openings=false"), bumps)
    assert data.scale.noise < 0.05 * data.scale.spacing  # of which quadrics through 24 leave 0.13
    assert len(data.points) == 4000


def test_an_outlier_that_nobody_looked_at_does_not_set_the_scale():
    ball = sphere(3000)
    for place in range(1, 5):
        points = np.insert(ball.points, place, [905.0, -3.0, 40.0], axis=0)
        assert prepare(configured(), PointCloud(points, None), most_points=500).domain.normalisation.scale < 11


def test_no_outlier_stays_in_a_cloud_of_which_some_points_were_looked_at():
    ball = sphere(6000)
    middle = ball.points.mean(axis=0)
    strays = middle + 0.6 * (sphere(6, seed=2).points - middle)
    points = np.insert(ball.points, np.arange(6) * 1000 + 1, strays, axis=0)
    stray = np.arange(6) * 1001 + 1
    found = prepare(configured(), PointCloud(points, None), most_points=3000)
    assert found.dropped == 6
    assert np.array_equal(found.kept, np.delete(np.arange(6006), stray))
    assert np.array_equal(found.body, found.kept)


def test_a_background_of_which_some_was_looked_at_is_left_out_whole():
    ball = sphere(19_000)
    middle = ball.points.mean(axis=0)
    sky = middle + 30 * (sphere(1000, seed=2).points - middle)
    order = np.random.default_rng(0).permutation(20_000)
    found = prepare(configured(), PointCloud(np.concatenate([ball.points, sky])[order], None), most_points=5000)
    assert np.array_equal(found.kept, np.flatnonzero(order < 19_000))
    assert found.dropped == 1000


def test_few_different_points_that_come_often_show_nothing():
    corners = np.repeat(np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T, 200, axis=0)
    assert not prepare(configured(), PointCloud(corners.astype(np.float64), None)).scale.denoised


def test_unbroken_surface_is_no_hole_where_fewer_points_are_trained_on():
    """Of 30 000 noisy points a quarter: by their own spacing no place of the sphere is far from all of them."""
    cloud = sphere(30_000, 0.009)
    data = prepare(configured(), cloud)
    assert len(data.points) < 0.6 * len(cloud.points)
    assert data.scale.trained_spacing > 1.3 * data.scale.spacing
    places = data.domain.normalisation.apply(sphere(20_000, seed=1).points)
    distance = cKDTree(data.points.positions).query(places)[0]
    assert (distance < HOLE_BEGINS * data.scale.trained_spacing).all()
    few = prepare(configured(), sphere(2000))
    assert few.scale.trained_spacing == few.scale.spacing


@pytest.mark.parametrize("d", [2, 3])
def test_sensors_tell_the_sides_that_the_shape_leaves_open(d):
    """An open sheet, seen from above: the winding number cannot know, but who saw it can."""
    flat = np.random.default_rng(0).uniform(-1, 1, (2000, d))
    flat[:, -1] = 0.1 * flat[:, 0] ** 2
    above = np.tile(5 * np.eye(d)[-1], (2000, 1))
    for sign in (1, -1):
        data = prepare(configured(), PointCloud(flat, sensors=sign * above))
        assert data.points.oriented.mean() > 0.99
        assert (sign * data.points.normals[: len(data.chosen), -1] > 0).mean() > 0.99


def hills(count=6000, seed=0):
    """Open ground with an even number of tops and hollows (count, 3)."""
    x, y = np.random.default_rng(seed).uniform(-1, 1, (2, count))
    return np.stack([x, y, 0.1 * np.sin(4 * x) * np.cos(5 * y)], axis=1)


def test_an_open_sheet_has_one_side_and_what_is_sure_is_of_it():
    """The winding number has the tops of hills one way round, the hollows the other."""
    data = prepare(configured(), PointCloud(hills()))
    up = data.points.normals[: len(data.chosen), 2] > 0
    assert up.all() or not up.any()
    coarse = data.coarse_normals.at(data.points.positions[: len(data.chosen)])[:, 2] > 0
    assert 0.2 < coarse.mean() < 0.8


def test_a_sensor_tells_the_sides_of_sheets_of_which_the_shape_has_one_the_wrong_way_round():
    """Of a dome and a bowl beside it, outside is up for the one and down for the other; both were seen from above."""
    x, y = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 6000))
    dome = np.arange(6000) < 3000
    height = np.where(dome, -1, 1) * (x**2 + y**2)
    sheets = np.stack([x + np.where(dome, 0, 1.3), y, height], axis=1)
    data = prepare(configured(), PointCloud(sheets, sensors=np.tile([0.65, 0.0, 3.0], (6000, 1))))
    assert 0.1 < data.sensors_agree < 0.9
    assert data.sensors_believed
    assert (data.points.normals[: len(data.chosen), 2] > 0).all()


def test_points_that_a_sensor_saw_edge_on_have_the_side_of_the_others():
    """Level ground about a tripod: only the nearest points face it, and their sides tell those of the rest."""
    random = np.random.default_rng(0)
    radius, turn = 12 * np.sqrt(random.uniform(size=1500)), random.uniform(0, 2 * np.pi, 1500)
    x, y = radius * np.cos(turn), radius * np.sin(turn)
    ground = np.stack([x, y, 0.2 * np.sin(x / 3) * np.cos(y / 3)], axis=1)
    data = prepare(configured(), PointCloud(ground, sensors=np.tile([0.0, 0.0, 1.7], (1500, 1))))
    assert data.sensors_believed
    sure = data.points[np.flatnonzero(data.points.oriented & (data.points.source == Source.MEASURED))]
    assert len(sure) > 100
    assert (sure.normals[:, 2] > 0).mean() > 0.99


def test_given_normals_of_an_open_sheet_stay():
    """By the winding number those of a valley, upward, point inward, as it takes the valley's air for a body."""
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 700))
    valley = np.stack([x, y, 0.3 * (x**2 + y**2)], axis=1)
    normals = np.stack([-0.6 * x, -0.6 * y, np.ones(700)], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for sign in (1, -1):
        data = prepare(configured("network.has_normals=true"), PointCloud(valley, sign * normals))
        assert (sign * data.points.normals[:, 2] > 0).all()


def test_points_that_come_many_times_have_their_holes_filled_as_once():
    angle = np.linspace(0.19, 2 * np.pi - 0.19, 600)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    config = override(Config().to_dict(), ["network.has_normals=true"])
    clouds = [PointCloud(np.repeat(ring, n, axis=0), np.repeat(ring, n, axis=0)) for n in (1, 20)]
    once, often = (preprocess.prepare(config, cloud) for cloud in clouds)
    assert often.points.count(Source.HOLE) == once.points.count(Source.HOLE) > 0


def test_sensors_of_a_sheet_of_which_no_side_is_sure_are_asked_what_they_see():
    """Open ground: in another unit the stations are below it, and would have seen it through itself."""
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 1500))
    sheet = np.stack([x, y, 0.3 * np.sin(5 * x) * np.cos(4 * y)], axis=1)
    stations = np.array([[-2, -2, 2], [2, -2, 2], [-2, 2, 2], [2, 2, 2.0]])
    sensors = stations[np.random.default_rng(1).integers(4, size=1500)]
    right, wrong = (prepare(configured(), PointCloud(sheet, sensors=unit * sensors)) for unit in (1.0, 0.001))
    assert right.sensors_believed
    assert (right.points.normals[: len(right.chosen), 2] > 0).all()
    assert not wrong.sensors_believed
    if wrong.sensors_agree is None:
        assert "the cloud hides points from the sensor that is said" in sensor_warning(wrong)


def test_an_outlier_in_a_row_that_nobody_looked_at_does_not_set_the_scale():
    """Of more rows than are looked at, so few differ that all of them are."""
    cloud = sphere(400)
    settings = PreprocessSettings(most_rows=2000)
    rows = np.repeat(cloud.points, 8, axis=0)
    far = np.insert(rows, 1, CENTRE + np.array([90.0, 0, 0]), axis=0)  # every second row is looked at
    scale, right = (
        preprocess.prepare(configured(), PointCloud(points), settings).domain.normalisation.scale
        for points in (far, rows)
    )
    assert scale == pytest.approx(right, rel=0.05)


def test_sensors_in_another_order_are_noticed_and_not_used():
    cloud = sphere(3000)
    sensors = CENTRE + 40 * cloud.normals
    right = prepare(configured(), PointCloud(cloud.points, sensors=sensors))
    assert right.sensors_agree > 0.99
    assert sensor_warning(right) is None
    mixed = PointCloud(cloud.points, sensors=np.random.default_rng(0).permutation(sensors))
    wrong, without = prepare(configured(), mixed), prepare(configured(), PointCloud(cloud.points))
    assert wrong.sensors_agree < 0.7
    np.testing.assert_array_equal(wrong.points.normals, without.points.normals)
    assert sensor_warning(wrong) == (
        f"warning: only {wrong.sensors_agree:.0%} of the points face the sensor that is said to have seen them, and "
        "the cloud hides others from it: the sensor positions are wrong, in another order or unit than the points, or "
        "there were more of them (--stations); they are not used"
    )


def test_a_cloud_whose_noise_hides_its_surface_is_said():
    """Of a plate a tenth as thick as its noise is wide, no number of neighbours shows a side."""
    random = np.random.default_rng(0)
    plate = np.c_[random.uniform(-1, 1, (6000, 2)), random.choice([-0.01, 0.01], 6000)]
    hidden = prepare(configured(), PointCloud(plate + 0.1 * random.standard_normal(plate.shape)))
    shown = prepare(configured(), PointCloud(sphere(6000).points))
    for scene, said in ((hidden, True), (shown, False)):
        lines = [line for line in findings(scene) if line.startswith("warning: no neighbourhood of the points looks")]
        assert bool(lines) == said == (not scene.scale.resolved)


def test_repeated_rows_stay_where_an_outlier_is_left_out():
    points = sphere(2000).points
    twice = np.concatenate([points, points, [CENTRE + 300]])
    scene = prepare(configured(), PointCloud(twice))
    assert scene.dropped == 1
    np.testing.assert_array_equal(scene.kept, np.arange(4000))
    np.testing.assert_array_equal(scene.body, np.arange(4000))


def test_points_that_carry_two_normals_are_denoised_as_those_that_carry_one():
    """As at the corners of a mesh with a normal for each of its triangles."""
    once = sphere(3000, noise=0.005)
    tilted = once.normals + 0.1 * np.roll(once.normals, 1, axis=1)
    tilted /= np.linalg.norm(tilted, axis=1, keepdims=True)
    twice = PointCloud(np.concatenate([once.points] * 2), np.concatenate([once.normals, tilted]))
    one, two = (prepare(configured("network.has_normals=true"), cloud) for cloud in (once, twice))
    assert one.scale.denoised
    assert two.scale.noise_left == pytest.approx(one.scale.noise_left)
    np.testing.assert_allclose(in_input_units(two)[:3000], in_input_units(one), atol=1e-9)
    np.testing.assert_allclose(in_input_units(two)[3000:], in_input_units(one), atol=1e-9)
    assert np.std(radii(two)) < 0.7 * np.std(radii(prepare(configured("train.smooth_points=false"), twice)))


def test_a_hollow_that_was_looked_into_is_empty():
    """Of a box the outer walls, and a floor that one sees through a mouth of radius 0.4, 1.5 above it."""
    points, floor = box_with_hollow(8000, 3)
    points[floor, -1] = -0.5
    normals = np.where(np.abs(points) == 1, np.sign(points), 0.0)
    normals[floor] = [0.0, 0.0, 1.0]
    cloud, config = PointCloud(points, normals), configured("network.has_normals=true", "train.start=winding")
    scene = prepare(config, cloud)
    assert scene.empty is not None
    places = scene.domain.normalisation.invert(scene.empty)
    assert len(places) > 20
    assert np.linalg.norm(places[:, :2], axis=1).max() < 0.45
    assert -0.5 < places[:, 2].min() < 0
    drawn = sampler_of(config, scene, PhaseLoss(), torch.device("cpu"), 0).empty
    np.testing.assert_allclose(drawn, scene.coarse_surface.opened, atol=1e-6)
    assert 10 < len(drawn) <= len(places)
    assert sampler_of(config, scene, IgrLoss(), torch.device("cpu"), 0).empty is None
    for key in ("train.keep_hollows=false", "train.start=network"):
        assert prepare(configured("network.has_normals=true", key), cloud).empty is None


def test_corners_at_few_places_stay_as_they_are():
    """A cube's eight corners, each with the normals of its three faces: fewer places than a quadric needs."""
    corners = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    normals = np.concatenate([np.eye(3) * corner for corner in corners])
    scene = prepare(configured("network.has_normals=true"), PointCloud(np.repeat(corners, 3, axis=0), normals))
    np.testing.assert_allclose(in_input_units(scene), np.repeat(corners, 3, axis=0))


def test_a_part_much_noisier_than_the_rest_is_denoised_and_shows_no_detail():
    random = np.random.default_rng(0)
    exact = random.standard_normal((20_000, 3))
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    noisy = exact[:, 0] > 0.5
    points = exact * (1 + np.where(noisy, 0.015, 0.0003)[:, None] * random.standard_normal((20_000, 1)))
    scene = preprocess.prepare(Config(), PointCloud(100 * points), stages=preprocess.ORIENTING[:4])
    assert scene.blurred is not None
    blurred = scene.blurred.part
    assert (blurred == noisy).mean() > 0.97
    moved = scene.domain.normalisation.invert(scene.points.positions) / 100
    np.testing.assert_allclose(moved[~blurred], points[~blurred], atol=1e-9)  # noise that is too small to be removed
    left = np.linalg.norm(moved[blurred & noisy], axis=1) - 1
    assert left.std() < 0.2 * 0.015
    cosine = np.abs((scene.points.normals * exact).sum(axis=1))
    assert np.quantile(cosine[blurred], 0.01) > 0.98
    said = "\n".join(findings(scene))
    assert re.search(r"warning: 2\d% of the points, .* much noisier than the rest: 1\.[4-6]\d?, 0\.01\d of the", said)
    assert len(not_blurred(scene.reference, scene)) == np.count_nonzero(~blurred)
    plain = override(Config().to_dict(), ["train.smooth_points=false"], source="", place="")
    assert preprocess.prepare(plain, PointCloud(100 * points), stages=preprocess.ORIENTING[:2]).blurred is None

    few = PreprocessSettings(noise=NoiseSettings(most_fitted=1000 * scene.blurred.scale.neighbours))
    fewer = preprocess.prepare(Config(), PointCloud(100 * points), few, stages=preprocess.ORIENTING[:4])
    assert fewer.chosen is not None
    assert blurred[fewer.chosen].sum() == 1000  # whose neighbours are fitted in seconds
    assert (~blurred[fewer.chosen]).sum() == (~blurred).sum()


def test_a_surface_that_is_scanned_twice_is_said():
    """A sphere of radius 100 in two scans, one shifted by 3; where the inner sheet faces in, it is a thin wall."""
    random = np.random.default_rng(0)
    points = random.standard_normal((20_000, 3))
    points *= 100 / np.linalg.norm(points, axis=1, keepdims=True)
    points[::2] += [3, 0, 0]
    scene = preprocess.prepare(Config(), PointCloud(points), stages=preprocess.ORIENTING)
    (line,) = (line for line in findings(scene) if "badly registered" in line)
    assert re.match(r"warning: \d+% of the points have others behind or before them, [23][.0-9]* apart, that", line)
    facing = np.where(np.arange(20_000)[scene.points.raw_index] % 2, 1.0, -1.0)
    wall = replace(scene.points, normals=scene.points.normals * facing[:, None])
    assert not any("badly registered" in line for line in findings(replace(scene, points=wall)))


def test_a_close_up_does_not_set_the_scale():
    """A ball of radius 100: 10 000 points all over it, and 15 000 on a fiftieth."""
    random = np.random.default_rng(0)
    ball = random.standard_normal((900_000, 3))
    ball *= 100 / np.linalg.norm(ball, axis=1, keepdims=True)
    even, patch = ball[:10_000], ball[10_000:][ball[10_000:, 2] < -96][:15_000]
    stages = preprocess.ORIENTING
    alone = preprocess.prepare(Config(), PointCloud(even), stages=stages)
    scene = preprocess.prepare(Config(), PointCloud(np.concatenate([even, patch])), stages=stages)
    assert scene.crowded + len(scene.reference) == 25_000
    assert scene.scale.spacing == pytest.approx(alone.scale.spacing, rel=0.2)
    assert scene.dropped == 0
    said = "\n".join(findings(scene))
    assert re.search(r"note: much of the surface is sparser than most points are: 5\d% of them, in dense parts", said)
    assert "sparser than most points" not in "\n".join(findings(alone))
    assert alone.crowded == 0

    points = np.concatenate([even, patch])
    given = preprocess.prepare(configured("network.has_normals=true"), PointCloud(points, points / 100), stages=stages)
    assert given.scale.spacing == scene.scale.spacing
    assert len(given.points) == len(scene.reference)


def test_the_flanks_of_a_curve_are_no_layers():
    """Teeth 0.2 apart, whose flanks face the same way; 48 neighbours of 250 points go from one to another."""
    cloud = take(SHAPES["gear_2d"].surface(), "gear_2d", "noisy", 0)
    scene = preprocess.prepare(Config(), PointCloud(cloud.points))
    assert layers(scene.points.measured)[0] > 0.01
    assert not any("badly registered" in line for line in findings(scene))
