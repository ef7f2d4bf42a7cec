"""The winding number of points at their own places, on bodies and sheets where it is known."""

import numpy as np
import pytest

from phase_recon.geometry.enclosure import ENCLOSED, enclosure
from phase_recon.utils.arrays import unit


def on_sphere(count, d, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(count, d)))


def sheet(height, count=3000):
    """The graph z = height · (x² + y²) over a square, and its upward normals."""
    xy = np.random.default_rng(0).uniform(-1, 1, (count, 2))
    points = np.column_stack([xy, height * (xy**2).sum(axis=1)])
    return points, unit(np.column_stack([-2 * height * xy, np.ones(count)]))


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_it_is_a_half_on_a_ball(d, sign):
    ball = on_sphere(4000, d)
    assert enclosure(1e5 + 7 * ball, sign * ball) == pytest.approx(sign / 2, abs=0.06)


@pytest.mark.parametrize("dense", [0.4, 0.55])
def test_it_is_a_half_on_a_ball_of_which_a_hundredth_has_half_of_the_points(dense):
    ball = on_sphere(100_000, 3)
    patch = ball[ball[:, 2] < -0.98]
    ball = np.concatenate([patch, on_sphere(int(len(patch) * (1 - dense) / dense), 3, seed=1)])
    assert enclosure(ball, ball) == pytest.approx(0.5, abs=0.1)


def test_it_is_nothing_on_a_flat_sheet_and_little_in_a_valley():
    assert enclosure(*sheet(0.0)) == 0
    assert -ENCLOSED < enclosure(*sheet(0.3)) < -0.05


def test_repeated_points_count_once():
    ball = on_sphere(500, 3)
    many = np.repeat(ball, 20, axis=0)
    assert enclosure(many, many) == pytest.approx(enclosure(ball, ball), abs=0.02)
    assert enclosure(np.zeros((5, 3)), np.tile([0.0, 0, 1], (5, 1))) == 0
