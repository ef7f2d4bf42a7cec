"""Two sheets near each other: planes and shells whose distance is known, and what must not be taken for them."""

import numpy as np
import pytest

from phase_recon.geometry.neighbours import on_opposite_sheet
from phase_recon.geometry.quadrics import fit_quadrics
from phase_recon.geometry.thin_walls import ThinWallSettings, _by_points_about, opposite_sheets

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


def flat(count, d, seed):
    """Points (count, d) with random first coordinates in [-1, 1], the last zero."""
    points = np.random.default_rng(seed).uniform(-1, 1, (count, d))
    points[:, -1] = 0
    return points


def plates(count, d, apart, noise=0.0):
    """Two plates (2 count, d) at heights 0 and ``apart``, with Gaussian noise, and which are of the upper."""
    upper = np.arange(2 * count) >= count
    points = np.concatenate([flat(count, d, 0), flat(count, d, 1)])
    points[:, -1] = np.where(upper, apart, 0) + noise * np.random.default_rng(2).standard_normal(2 * count)
    return points, upper


def spacing(count, d):
    """About the distance of neighbours among so many points of a plate."""
    return 2 / count if d == 2 else 2 / np.sqrt(count)


@pytest.mark.parametrize(("d", "thickness"), [(3, 0.8), (3, 1.5), (2, 2), (2, 4)])
def test_the_step_between_two_plates_is_their_distance(d, thickness):
    apart = thickness * spacing(1500, d)
    points, upper = plates(1500, d, apart)
    steps = opposite_sheets(points)
    told = steps.any(axis=1)
    assert told.mean() > 0.95
    share = steps[told, -1] / np.where(upper, -apart, apart)[told]
    assert (np.abs(share - 1) < 0.05).mean() > 0.9
    assert (share > 0.5).mean() > 0.99
    across = np.linalg.norm(steps[told, :-1], axis=1)  # it is along the thinnest axis of both sheets together
    assert np.quantile(across, 0.9) < 0.5 * apart


@DIMENSIONS
def test_noise_of_a_fifth_of_the_distance_leaves_two_sheets(d):
    apart = (3 if d == 2 else 1.5) * spacing(1500, d)
    points, upper = plates(1500, d, apart, apart / 5)
    steps = opposite_sheets(points)
    told = steps.any(axis=1)
    assert told.mean() > 0.7
    assert (np.sign(steps[told, -1]) == np.where(upper, -1, 1)[told]).mean() > 0.97
    assert np.median(np.abs(steps[told, -1])) == pytest.approx(apart, rel=0.1)


def test_the_two_sides_of_a_shell_are_found():
    """Spheres of radius 1 and 0.94, 10 000 points in all: about 0.05 from each other."""
    points = np.random.default_rng(0).standard_normal((10_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    inner = np.arange(10_000) % 2 == 1
    steps = opposite_sheets(points * np.where(inner, 0.94, 1.0)[:, None])
    assert steps.any(axis=1).mean() > 0.99
    along = (steps * points).sum(axis=1)
    np.testing.assert_allclose(np.median(along[inner]), 0.06, atol=0.002)
    np.testing.assert_allclose(np.median(along[~inner]), -0.06, atol=0.002)


@DIMENSIONS
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_one_sheet_has_no_other(d, noise):
    points = flat(3000, d, 0)
    points[:, -1] += noise * spacing(3000, d) * np.random.default_rng(1).standard_normal(3000)
    assert not opposite_sheets(points).any()


@DIMENSIONS
def test_two_faces_that_meet_are_not_two_sheets_nor_is_a_step(d):
    crease = flat(3000, d, 0)
    crease[:, -1] = np.abs(crease[:, 0])
    step = flat(3000, d, 0)
    step[:, -1] = np.where(step[:, 0] > 0, 3 * spacing(3000, d), 0)
    for points in (crease, step):
        assert opposite_sheets(points).any(axis=1).mean() < 0.01


def test_few_points_and_points_all_in_one_place_have_none():
    assert not opposite_sheets(plates(40, 3, 0.1)[0]).any()
    assert not opposite_sheets(np.ones((500, 3))).any()


def test_a_sheet_seen_only_here_and_there_is_told_by_others():
    """Of the upper plate every fifth point: too few among the neighbours of many a point of the lower."""
    points, upper = plates(3000, 3, 1.5 * spacing(3000, 3))
    kept = ~upper | (np.arange(6000) % 5 == 0)
    steps = opposite_sheets(points[kept])
    lower = ~upper[kept]
    assert steps[lower].any(axis=1).mean() > 0.9
    assert (steps[lower][:, -1] >= 0).all()


def test_six_tell_and_one_alone_does_not():
    points, upper = plates(20, 3, 0.1)
    step = np.array([0.0, 0.0, 0.1])
    there = np.where(upper[:, None], -step, step)
    s = ThinWallSettings()
    np.testing.assert_allclose(_by_points_about(points, points[:6], np.tile(step, (6, 1)), s), there, atol=1e-12)
    assert not _by_points_about(points, points[:1], step[None], s).any()


def test_beyond_is_past_the_middle_of_the_step():
    offsets = np.array([[[0, 0.9], [5, 1.1], [-3, 2.0], [0, -4]]])
    assert on_opposite_sheet(offsets, np.array([[0.0, 2.0]])).tolist() == [[False, True, True, False]]
    assert not on_opposite_sheet(offsets, np.zeros((1, 2))).any()


@DIMENSIONS
def test_quadrics_are_fitted_to_the_points_own_sheet(d):
    apart = spacing(1500, d)
    points, upper = plates(1500, d, apart)
    steps = np.zeros_like(points)
    steps[:, -1] = np.where(upper, -apart, apart)
    mixed, own = fit_quadrics(points, points), fit_quadrics(points, points, opposite=steps)
    assert np.median(mixed.residual) > 0.2 * apart
    assert (own.residual < 1e-9).mean() > 0.99  # at a corner of the plates fewer are on the point's own
    assert (np.abs(own.normals[:, -1]) > 1 - 1e-9).mean() > 0.99
