"""Balls and boxes are filled evenly."""

import math

import numpy as np
import pytest
import torch

from phase_recon.utils.general import sample_ball, sample_omega


def generators(seed=0):
    """The kinds of randomness, with what makes their centres or corners."""
    return {
        "tensor": (torch.Generator().manual_seed(seed), lambda a, dtype: torch.tensor(a, dtype=getattr(torch, dtype))),
        "array": (np.random.default_rng(seed), lambda a, dtype: np.array(a, dtype=dtype)),
    }


KINDS = pytest.mark.parametrize("kind", ["tensor", "array"])


@KINDS
@pytest.mark.parametrize("d", [1, 2, 3])
def test_balls_are_filled_evenly(kind, d):
    """In a uniform ball (r/δ)^d is uniform on (0, 1), and the covariance is δ²/(d+2) in every direction."""
    delta, count = 0.3, 200_000
    generator, make = generators(1)[kind]
    centre = np.arange(1.0, d + 1)
    points = np.asarray(sample_ball(make(centre, "float64"), delta, count, generator))
    assert points.shape == (count, d)
    offset = points - centre
    share = (np.linalg.norm(offset, axis=1) / delta) ** d
    assert share.max() <= 1 + 1e-9
    assert share.mean() == pytest.approx(1 / 2, abs=4 * math.sqrt(1 / 12 / count))
    assert (share**2).mean() == pytest.approx(1 / 3, abs=4 * math.sqrt(4 / 45 / count))
    variance = delta**2 / (d + 2)
    np.testing.assert_allclose(offset.mean(0), 0, atol=4 * math.sqrt(variance / count))
    covariance = offset.T @ offset / count
    # x² and xy vary by less than 2 variance²; five such errors are allowed
    np.testing.assert_allclose(covariance, variance * np.eye(d), atol=5 * variance * math.sqrt(2 / count))


@KINDS
def test_each_centre_has_its_own_ball(kind):
    generator, make = generators(2)[kind]
    centres = make(np.arange(2 * 3 * 2, dtype=float).reshape(2, 3, 2), "float64")
    balls = sample_ball(centres, 0.25, 500, generator)
    assert tuple(balls.shape) == (2, 3, 500, 2)
    offset = np.asarray(balls) - np.asarray(centres)[:, :, None]
    reach = np.linalg.norm(offset, axis=-1)
    assert (reach.max(-1) <= 0.25 + 1e-12).all()
    assert (reach.max(-1) > 0.24).all()
    assert len(np.unique(offset.reshape(-1, 2), axis=0)) == 3000  # not one ball repeated


@KINDS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_comes_out_is_what_went_in(kind, dtype):
    generator, make = generators(3)[kind]
    corners = make([[-1.0, 0.0], [1.0, 2.0]], dtype)
    for points in (sample_ball(corners, 0.1, 5, generator), sample_omega(corners, 5, generator)):
        assert type(points) is type(corners)
        assert points.dtype == corners.dtype


@KINDS
def test_the_same_seed_gives_the_same_points(kind):
    for sample in (lambda c, g: sample_ball(c, 0.1, 6, g), lambda c, g: sample_omega(c, 6, g)):
        first, again, other = (
            np.asarray(sample(make([[0.0, 1.0], [2.0, 3.0]], "float64"), generator))
            for generator, make in (generators(seed)[kind] for seed in (4, 4, 5))
        )
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


@KINDS
@pytest.mark.parametrize(
    "corners",
    [
        [[-1.0, 2.0], [3.0, 2.5]],
        [[3.0, 2.0], [-1.0, 2.5]],  # two opposite corners, whichever they are
        [[-1.0, 2.0], [3.0, 2.0], [-1.0, 2.5], [3.0, 2.5], [0.0, 2.2]],
        [[-1.0, 0.0, 5.0], [1.0, 3.0, 4.0]],
    ],
)
def test_boxes_are_filled_evenly(kind, corners):
    count = 100_000
    generator, make = generators(6)[kind]
    points = np.asarray(sample_omega(make(corners, "float64"), count, generator))
    lower, upper = np.min(corners, axis=0), np.max(corners, axis=0)
    assert points.shape == (count, len(lower))
    unit = (points - lower) / (upper - lower)
    assert unit.min() >= 0
    assert unit.max() <= 1
    np.testing.assert_allclose(unit.mean(0), 1 / 2, atol=4 * math.sqrt(1 / 12 / count))
    np.testing.assert_allclose((unit**2).mean(0), 1 / 3, atol=4 * math.sqrt(4 / 45 / count))
    mixed = (unit[:, 0] - 0.5) * (unit[:, 1] - 0.5)
    assert mixed.mean() == pytest.approx(0, abs=4 / 12 / math.sqrt(count))


def test_arrays_of_integers_are_taken_as_coordinates():
    points = sample_omega(np.array([[-1, -1], [1, 1]]), 10, np.random.default_rng(0))
    assert points.dtype == np.float64
    assert len(np.unique(points)) == 20
