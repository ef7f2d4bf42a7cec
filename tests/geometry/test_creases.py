"""Creases of noisy clouds: those of a box and a square are known, and round bodies have none."""

import numpy as np
import pytest

from phase_recon.geometry.creases import find_creases
from phase_recon.geometry.quadrics import fit_quadrics_bilateral


def box_points(count, d, seed):
    """Points on the walls of the box [-1, 1]^d (count, d), uniform."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(-1, 1, (count, d))
    points[np.arange(count), generator.integers(d, size=count)] = generator.choice([-1.0, 1.0], count)
    return points


def sphere_points(count, d, seed):
    """Points on the unit sphere or circle (count, d), uniform."""
    points = np.random.default_rng(seed).standard_normal((count, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def found(points, noise, seed):
    noisy = points + noise * np.random.default_rng(seed).standard_normal(points.shape)
    fit = fit_quadrics_bilateral(noisy, np.arange(len(noisy)))
    return find_creases(fit.projections, noisy, fit.normals, noise)


def to_crease(places):
    """Distance (M,) of places (M, d) to where two walls of the box [-1, 1]^d meet: all but one axis at ±1."""
    off = np.sort(np.abs(np.abs(places) - 1), axis=1)
    return np.linalg.norm(off[:, :2], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_the_edges_of_a_noisy_box_are_found(seed):
    noise = 0.02
    places = found(box_points(4000, 3, seed), noise, seed + 10)
    off = to_crease(places)
    assert len(places) > 300
    assert np.median(off) < noise
    assert np.quantile(off, 0.95) < 3 * noise  # a point of the cloud has 0.08 to the next one
    # nearly all along the twelve edges, corners included
    ticks, ends = np.linspace(-1, 1, 9), (-1.0, 1.0)
    edges = np.array([np.insert([a, b], axis, t) for axis in range(3) for a in ends for b in ends for t in ticks])
    assert (np.linalg.norm(edges[:, None] - places, axis=-1).min(axis=1) < 0.2).mean() > 0.9


def test_the_corners_of_a_noisy_box_are_found():
    places = found(box_points(4000, 3, seed=0), 0.02, seed=10)
    corners = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    nearest = np.linalg.norm(corners[:, None] - places, axis=-1).min(axis=1)
    assert np.median(nearest) < 0.04


def test_the_corners_of_a_noisy_square_are_found():
    places = found(box_points(800, 2, seed=0), 0.01, seed=1)
    assert len(places) >= 4
    assert np.linalg.norm(np.abs(places) - 1, axis=1).max() < 0.05
    assert len({tuple(np.sign(place)) for place in places}) == 4


@pytest.mark.parametrize(("d", "noise"), [(2, 0.01), (3, 0.005), (3, 0.02)])
def test_round_bodies_have_none(d, noise):
    assert len(found(sphere_points(4000 if d == 3 else 500, d, seed=1), noise, seed=2)) == 0


def test_a_cylinder_has_none():
    generator = np.random.default_rng(3)
    angle, height = generator.uniform(0, 2 * np.pi, 5000), generator.uniform(-2, 2, 5000)
    cylinder = np.stack([0.3 * np.cos(angle), 0.3 * np.sin(angle), height], axis=1)
    assert len(found(cylinder, 0.01, seed=4)) == 0


def test_few_points_have_none():
    assert find_creases(np.eye(3), np.eye(3), np.eye(3), 0.1).shape == (0, 3)
