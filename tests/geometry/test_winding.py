"""Normals that agree with the winding number, on shapes whose normals are known."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import box_with_hollow
from phase_recon.geometry.orientation import orient
from phase_recon.geometry.winding import WindingSettings, coarse_normals, with_bodies_turned
from phase_recon.geometry.winding_grid import WindingGrid

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


COARSE = WindingSettings(nodes=32)  # a grid that takes a second, not ten


def sphere(count, d=3, seed=0):
    points = np.random.default_rng(seed).standard_normal((count, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def normals_of(points, noise=0.0):
    coarse = coarse_normals(points, noise, COARSE)
    assert coarse is not None
    np.testing.assert_array_equal(coarse.points, points)
    return coarse.normals


@DIMENSIONS
def test_those_of_a_sphere(d):
    points = sphere(2000, d)
    normals = normals_of(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    assert (normals * points).sum(axis=1).min() > 0.97


@DIMENSIONS
def test_shells_within_shells_alternate(d):
    """The innermost of five is a twenty-fifth of the largest, and had come out inside out."""
    radii = np.array([0.2, 0.4, 0.6, 0.8, 1.0])
    counts = 600 * radii if d == 2 else 12_000 * radii**2
    shells = [r * sphere(int(count), d, seed) for seed, (r, count) in enumerate(zip(radii, counts, strict=True))]
    coarse = coarse_normals(np.concatenate(shells))
    assert coarse is not None
    radius = np.linalg.norm(coarse.points, axis=1)
    outward = (coarse.normals * coarse.points).sum(axis=1) > 0
    for r, out in zip(radii, (True, False, True, False, True), strict=True):
        assert (outward[np.isclose(radius, r)] == out).mean() > 0.98


def test_a_body_the_wrong_way_round_is_turned_and_no_other():
    points = np.concatenate([sphere(2000) - [2, 0, 0], 0.5 * sphere(500) + [1, 0, 0], sphere(10, seed=1) - [9, 0, 0]])
    right = np.concatenate([sphere(2000), sphere(500), sphere(10, seed=1)])
    grid = WindingGrid(points, 0.1)
    inside_out = np.where(np.arange(len(points))[:, None] < 2000, right, -right)
    turned = with_bodies_turned(grid, points, 4e-3 * inside_out, COARSE)
    np.testing.assert_array_equal(turned[:2500], 4e-3 * right[:2500])
    np.testing.assert_array_equal(turned[2500:], 4e-3 * inside_out[2500:])  # too few points to be a body
    np.testing.assert_array_equal(with_bodies_turned(grid, points, 4e-3 * right, COARSE), 4e-3 * right)


@DIMENSIONS
def test_those_of_a_thousand_noisy_points(d):
    points = sphere(1000, d)
    noise = 1 + 0.03 * np.random.default_rng(1).standard_normal((1000, 1))
    cosine = (normals_of(noise * points, 0.03) * points).sum(axis=1)
    assert cosine.mean() > 0.9
    assert cosine.min() > 0


def test_those_of_a_torus_point_into_its_hole():
    a, b = np.random.default_rng(0).random((2, 3000)) * 2 * np.pi
    ring = 0.7 + 0.25 * np.cos(b)
    points = np.stack([ring * np.cos(a), ring * np.sin(a), 0.25 * np.sin(b)], axis=-1)
    outward = np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=-1)
    assert (normals_of(points) * outward).sum(axis=1).min() > 0.9


def test_those_of_a_cup_point_into_its_hollow():
    """Cylinders of radius 0.8 and 0.6, and a floor from z = -0.8 to -0.6."""
    random = np.random.default_rng(0)

    def ring(count, inner, outer, low, high):
        radius = np.sqrt(random.uniform(inner**2, outer**2, count))
        angle = random.uniform(0, 2 * np.pi, count)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), random.uniform(low, high, count)], axis=-1)

    parts = [(700, 0, 0.8, -0.8, -0.8), (2800, 0.8, 0.8, -0.8, 0.8), (1800, 0.6, 0.6, -0.6, 0.8),
             (400, 0, 0.6, -0.6, -0.6), (300, 0.6, 0.8, 0.8, 0.8)]  # fmt: skip
    points = np.concatenate([ring(*part) for part in parts])
    normals = normals_of(points)
    round_about = normals[:, :2] * points[:, :2]
    assert (round_about[700:3500].sum(axis=1) > 0).all()
    assert (round_about[3500:5300].sum(axis=1) < 0).all()
    assert (normals[:700, 2] < 0).all()
    assert (normals[5300:5700, 2] > 0).all()


def test_of_one_place_there_are_none():
    assert coarse_normals(np.zeros((10, 3)), settings=COARSE) is None
    assert coarse_normals(np.zeros((1, 2)), settings=COARSE) is None


def test_two_sheets_a_spacing_apart_are_told_apart_on_the_finest_grid():
    """A plate of 1 × 1 × 0.03, of which the first grid, with cells of 1/31, sees one sheet."""
    random = np.random.default_rng(0)
    flat, side = random.uniform(-0.5, 0.5, (20_000, 2)), np.repeat([-1.0, 1.0], 10_000)
    points = np.column_stack([flat, 0.015 * side])
    fine = coarse_normals(points, settings=COARSE)
    assert fine is not None
    assert (fine.normals[:, 2] * side > 0.8).mean() > 0.98  # of all but the rim
    one_grid = coarse_normals(points, settings=replace(COARSE, most_nodes=0))
    assert one_grid is not None
    assert (one_grid.normals[:, 2] * side > 0.8).mean() < 0.9


def test_a_grid_may_not_have_too_many_nodes():
    """8, 16, 32 … cells along a side, and 5 more at both ends: 18, 26, 42. The next grid takes twice as many points."""
    points = sphere(1000, 2)
    coarse = coarse_normals(points, settings=WindingSettings(nodes=8, most_nodes=30**2, points=100))
    assert coarse is not None
    assert len(coarse.points) == 200


def test_the_floor_of_a_hollow_whose_walls_are_missing_looks_up():
    """A box with a mouth of radius 0.4 and a floor at its middle. The winding number alone leaves open which."""
    points, floor = box_with_hollow(20_000, 3)
    directions = np.where(floor[:, None], [0, 0, 1.0], np.where(np.abs(points) == 1, points, 0))
    coarse = coarse_normals(points, settings=COARSE)
    assert coarse is not None
    outward, sure = orient(coarse, points, directions)
    assert (outward == directions)[floor].all()
    assert sure[floor].mean() > 0.35  # of what is not near its rim
    assert (outward == directions).mean() > 0.999
