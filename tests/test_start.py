"""The coarse start, the noise of a cloud, and what both set: shapes whose inside and noise are known."""

import numpy as np
import pytest

from datasets.pointcloud import noise_level
from model.loss.phase import PhaseLoss
from model.start import flood


def sphere(count, d=3, seed=0):
    points = np.random.default_rng(seed).standard_normal((count, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def torus(count, major=0.7, minor=0.25):
    a, b = np.random.default_rng(0).random((2, count)) * 2 * np.pi
    ring = major + minor * np.cos(b)
    return np.stack([ring * np.cos(a), ring * np.sin(a), minor * np.sin(b)], axis=-1)


def omega(points):
    return 1.5 * points.min(axis=0), 1.5 * points.max(axis=0)


@pytest.mark.parametrize("d", [2, 3])
def test_a_sphere_is_flooded_to_its_signed_distance(d):
    points = sphere(3000, d)
    found = flood(points, *omega(points))
    assert found is not None
    centres, distances = found
    exact = np.linalg.norm(centres, axis=1) - 1
    far = np.abs(exact) > 0.1
    assert (np.sign(distances) == np.sign(exact))[far].all()
    np.testing.assert_allclose(distances[far], exact[far], atol=0.06)  # to points, not to the sphere between them


def test_the_hole_of_a_torus_is_outside():
    points = torus(6000)
    found = flood(points, *omega(points))
    assert found is not None
    centres, distances = found
    ring = np.linalg.norm(centres[:, :2], axis=1)
    exact = np.hypot(ring - 0.7, centres[:, 2]) - 0.25
    far = np.abs(exact) > 0.1
    assert (np.sign(distances) == np.sign(exact))[far].all()
    assert (distances[(ring < 0.2) & (np.abs(centres[:, 2]) < 0.2)] > 0).all()


def test_a_sheet_that_encloses_nothing_gives_no_start():
    points = sphere(4000)
    sheet = points[points[:, 2] > 0.2]
    assert flood(sheet, sheet.min(axis=0) - 0.5, sheet.max(axis=0) + 0.5) is None


@pytest.mark.parametrize("sigma", [0.003, 0.01])
def test_noise_of_a_sphere_is_found_and_scales(sigma):
    points = sphere(20000)
    noisy = points * (1 + sigma * np.random.default_rng(1).standard_normal((len(points), 1)))
    assert noise_level(noisy) == pytest.approx(sigma, rel=0.15)
    assert noise_level(1000 * noisy) == pytest.approx(1000 * noise_level(noisy))


def test_exact_points_have_next_to_no_noise():
    assert noise_level(sphere(20000)) < 1e-4
    assert noise_level(sphere(2000, d=2)) < 1e-4


def test_lambda_falls_with_noise_unless_it_is_given():
    assert PhaseLoss().for_noise(0.0).lambda_ == 60
    assert PhaseLoss().for_noise(0.0048).lambda_ == pytest.approx(60 / 8)  # four times 0.0012: 4^1.5 = 8
    assert PhaseLoss().for_noise(1.0).lambda_ == 6
    assert PhaseLoss(lambda_=3.0).for_noise(0.0).lambda_ == 3


def test_epsilon_falls_by_a_constant_factor_until_half_of_the_run():
    loss = PhaseLoss(epsilon=0.01, epsilon_start=0.04)
    assert [loss.at(progress).epsilon for progress in (0.0, 0.25, 0.5, 0.9)] == pytest.approx([0.04, 0.02, 0.01, 0.01])
    assert PhaseLoss(epsilon=0.01).at(0.0).epsilon == 0.01


def test_epsilon_start_is_checked():
    with pytest.raises(ValueError, match=r"epsilon_start: expected epsilon \(0.01\) or more, got 0.001"):
        PhaseLoss(epsilon_start=0.001)
    with pytest.raises(ValueError, match=r"epsilon_start: wants network.output = w"):
        PhaseLoss(epsilon_start=0.1, output="u")
