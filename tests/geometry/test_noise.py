"""Noise of planes and spheres that is known, told from detail, and how many neighbours show a surface."""

import numpy as np
import pytest

from phase_recon.geometry.noise import NoiseSettings, Scale, estimate_noise, find_blurred


def sphere(count, noise=0.0):
    random = np.random.default_rng(0)
    unit = random.standard_normal((count, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit * (1 + noise * random.standard_normal((count, 1)))


def estimate(points, **settings):
    return estimate_noise(points, np.zeros_like(points), NoiseSettings(**settings))


@pytest.mark.parametrize("noise", [0.003, 0.006])
def test_the_noise_of_a_sphere_is_found(noise):
    scale = estimate(sphere(5000, noise))
    assert scale.noise == pytest.approx(noise, rel=0.15)
    assert scale.resolved
    assert scale.neighbours == 24
    assert scale.noise_left == scale.noise
    assert not scale.denoised


def test_noise_free_points_have_none():
    assert estimate(sphere(5000)).noise < 1e-4


def test_much_noise_is_seen_by_more_neighbours():
    scale = estimate(sphere(20_000, 0.008))
    assert scale.resolved
    assert scale.neighbours > 24
    assert scale.width > scale.spacing
    assert scale.noise == pytest.approx(0.008, rel=0.15)


def test_a_cloud_of_few_neighbourhoods_is_not_looked_at_more_widely():
    scale = estimate(sphere(1200, 0.2), fewest_neighbourhoods=100)
    assert not scale.resolved
    assert scale.neighbours == 24


def test_in_another_unit_all_lengths_change_and_nothing_else():
    scale = Scale(0.5, 2.0, 24, 3.0, True, 0.25, 0.125, 1.0)
    assert scale.in_unit(2.0) == Scale(1.0, 4.0, 24, 6.0, True, 0.5, 0.25, 2.0)


@pytest.mark.parametrize(
    ("count", "noise"),
    [(50_000, 0.01), (100_000, 0.01), (300_000, 0.01), (50_000, 0.02)],
)
def test_a_layer_of_noise_thicker_than_24_neighbours_is_seen_through(count, noise):
    scale = estimate(sphere(count, noise))
    assert scale.resolved
    assert scale.neighbours >= 96
    assert scale.noise == pytest.approx(noise, rel=0.15)


def test_a_layer_about_a_curve_is_seen_through():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 20_000)
    curve = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    scale = estimate(curve * (1 + 0.005 * np.random.default_rng(1).standard_normal((20_000, 1))))
    assert scale.resolved
    assert scale.noise == pytest.approx(0.005, rel=0.15)


@pytest.mark.parametrize(("count", "noise"), [(6000, 0.04), (3000, 0.04)])
def test_the_last_look_is_believed_where_points_run_out_if_it_is_flat(count, noise):
    """One with more neighbours would be of the shape; the last lies wider than the noise, and is nearly a plane."""
    scale = estimate(sphere(count, noise))
    assert scale.resolved
    assert scale.neighbours == 24 * 2 ** int(np.log2(count / 20 / 24))
    assert scale.noise == pytest.approx(noise, rel=0.15)


def test_the_last_look_at_a_curve_is_believed_too():
    scale = estimate(circle(3000, 0.015))
    assert scale.resolved
    assert scale.neighbours == 96
    assert scale.noise == pytest.approx(0.015, rel=0.15)


def test_the_last_look_at_both_sides_of_a_wall_is_not():
    """A hollow ball, 0.1 thick, with noise of a fifth of that: so many neighbours are on both of its sides."""
    random = np.random.default_rng(0)
    points = sphere(6000) * random.choice([0.9, 1.0], (6000, 1)) + 0.03 * random.standard_normal((6000, 3))
    assert not estimate(points).resolved


def test_two_noisy_sheets_are_not_taken_for_one():
    """Of a plate with noise of a fifth of its thickness, so many neighbours are looked at as lie on one side of it."""
    random = np.random.default_rng(0)
    plate = np.c_[random.uniform(-1, 1, (100_000, 2)), random.choice([-0.025, 0.025], 100_000)]
    scale = estimate(plate + 0.005 * random.standard_normal(plate.shape))
    assert scale.resolved
    assert scale.width < 0.05
    assert scale.noise == pytest.approx(0.005, rel=0.3)


def blurred(points, **settings):
    opposite, s = np.zeros_like(points), NoiseSettings(**settings)
    return find_blurred(points, opposite, estimate_noise(points, opposite, s), s)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_a_part_much_noisier_than_the_rest_is_found_with_its_noise(share):
    exact = sphere(20_000)
    noisy = exact[:, 0] > 1 - 2 * share  # a cap has that share of a sphere's area
    noise = np.where(noisy, 0.015, 0.0005)[:, None]
    found, whole = blurred(exact * (1 + noise * np.random.default_rng(1).standard_normal((20_000, 1))))
    scale = found.scale
    assert (found.part == noisy).mean() > 0.95
    assert (whole.resolved, whole.neighbours) == (True, 24)
    assert whole.noise < 0.006
    assert scale.noise == pytest.approx(0.015, rel=0.15)
    # on a plane a quadric leaves 0.45 of the noise of 24 neighbours: so many more leave a tenth of the point distance
    assert scale.neighbours > 96
    distance = np.sqrt(4 * np.pi / 20_000)
    assert 0.45 * scale.noise * np.sqrt(24 / scale.neighbours) < 0.15 * distance


def test_noise_that_is_alike_everywhere_or_nearly_has_no_such_part():
    assert blurred(sphere(20_000)) is None
    assert blurred(sphere(20_000, 0.004)) is None
    assert blurred(sphere(20_000, 0.015)) is None
    exact = sphere(20_000)
    noise = np.where(exact[:, 0] > 0, 0.009, 0.006)[:, None]
    assert blurred(exact * (1 + noise * np.random.default_rng(1).standard_normal((20_000, 1)))) is None


def test_few_points_whose_neighbourhoods_are_all_of_them_have_no_noise():
    assert estimate(sphere(47)).noise == 0
    assert not estimate(sphere(47)).resolved
    turn = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    assert estimate(np.stack([np.cos(turn), np.sin(turn)], axis=1)).noise == 0
    assert estimate(sphere(48, 0.1)).noise > 0.01


def circle(count, noise=0.0):
    random = np.random.default_rng(0)
    angle = random.uniform(0, 2 * np.pi, count)
    return (1 + noise * random.standard_normal((count, 1))) * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_in_the_plane_half_as_many_neighbours_are_enough_where_they_show_the_curve():
    exact, noisy = estimate(circle(250)), estimate(circle(250, 0.005))
    assert (exact.neighbours, exact.resolved, noisy.neighbours, noisy.resolved) == (12, True, 12, True)
    assert noisy.noise == pytest.approx(0.005, rel=0.25)
    assert noisy.width < 0.7 * noisy.spacing
    dense = estimate(circle(2000, 0.002))
    assert (dense.neighbours, dense.resolved) == (24, True)
    assert dense.noise == pytest.approx(0.002, rel=0.15)
