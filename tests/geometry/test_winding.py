"""Normals that agree with the winding number, on shapes whose normals are known; its grid against sums and formulas."""

import numpy as np
import pytest

from conftest import box_with_hollow
from phase_recon.geometry.orientation import orient
from phase_recon.geometry.winding import WindingGrid, WindingSettings, coarse_normals, consistent_normals

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


COARSE = WindingSettings(nodes=32)  # a grid that takes a second, not ten


def sphere(count, d=3, seed=0):
    points = np.random.default_rng(seed).standard_normal((count, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def omega(points):
    return 1.5 * points.min(axis=0), 1.5 * points.max(axis=0)


@DIMENSIONS
def test_those_of_a_sphere(d):
    points = sphere(2000, d)
    normals = consistent_normals(points, *omega(points), COARSE)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    assert (normals * points).sum(axis=1).min() > 0.97


@DIMENSIONS
def test_those_of_a_thousand_noisy_points(d):
    points = sphere(1000, d)
    noise = 1 + 0.03 * np.random.default_rng(1).standard_normal((1000, 1))
    cosine = (consistent_normals(noise * points, *omega(points), COARSE) * points).sum(axis=1)
    assert cosine.mean() > 0.9
    assert cosine.min() > 0


def test_those_of_a_torus_point_into_its_hole():
    a, b = np.random.default_rng(0).random((2, 3000)) * 2 * np.pi
    ring = 0.7 + 0.25 * np.cos(b)
    points = np.stack([ring * np.cos(a), ring * np.sin(a), 0.25 * np.sin(b)], axis=-1)
    outward = np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=-1)
    assert (consistent_normals(points, *omega(points), COARSE) * outward).sum(axis=1).min() > 0.9


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
    normals = consistent_normals(points, *omega(points), COARSE)
    round_about = normals[:, :2] * points[:, :2]
    assert (round_about[700:3500].sum(axis=1) > 0).all()
    assert (round_about[3500:5300].sum(axis=1) < 0).all()
    assert (normals[:700, 2] < 0).all()
    assert (normals[5300:5700, 2] > 0).all()


def test_of_one_place_there_are_none():
    assert consistent_normals(np.zeros((10, 3)), np.full(3, -0.5), np.full(3, 0.5), COARSE) is None
    assert consistent_normals(np.zeros((1, 2)), np.full(2, -0.5), np.full(2, 0.5), COARSE) is None


# the grid


def grid(d, count=40, nodes=32):
    """A grid of unequal sides about points in its middle."""
    points = np.random.default_rng(2).uniform(-0.5, 0.5, (count, d))
    upper = np.array([1.0, 0.8, 0.7])[:d]
    return points, WindingGrid(points, -upper, upper, nodes)


@DIMENSIONS
def test_the_nodes_are_evenly_spaced_and_cover_omega(d):
    _, g = grid(d, nodes=9)
    assert g.cell == 0.25
    assert g.shape == (9, 8, 7)[:d]  # 2, 1.6 and 1.4 long: 8, 6.4 and 5.6 cells, up, and one node more
    np.testing.assert_allclose(g.nodes.max(axis=0), [1.0, 0.875, 0.75][:d])
    np.testing.assert_allclose(g.nodes.min(axis=0), [-1.0, -0.875, -0.75][:d])


@DIMENSIONS
def test_linear_functions_are_exact_between_the_nodes(d):
    points, g = grid(d)
    slope = np.array([2.0, -1.0, 0.5])[:d]
    values = (g.nodes @ slope + 0.3).reshape(g.shape)
    np.testing.assert_allclose(g.at_points(values), points @ slope + 0.3, atol=1e-13)
    np.testing.assert_allclose(g.gradient_at_points(values), np.tile(slope, (len(points), 1)), atol=1e-12)


@DIMENSIONS
def test_transposed_is_the_transpose(d):
    """Σ_i values_i winding_i(normals) = Σ_i transposed_i(values) · normals_i."""
    points, g = grid(d)
    random = np.random.default_rng(3)
    normals, values = random.standard_normal(points.shape), random.standard_normal(len(points))
    for width in (0.0, 0.1):
        forward = g.at_points(g.winding(normals, width))
        backward = g.transposed(values, width)
        assert values @ forward == pytest.approx(np.sum(backward * normals), rel=1e-4)  # single precision
        assert np.abs(forward).max() > 0


def test_the_winding_number_solves_its_equation():
    """-Δχ = ∇·n with differences written out, χ = 0 beyond the walls."""
    (point,), g = grid(2, count=1, nodes=6)
    density = np.zeros(g.shape)
    for node, index in zip(g.nodes, np.ndindex(g.shape), strict=True):
        density[index] = np.maximum(0, 1 - np.abs(node - point) / g.cell).prod() / g.cell**2
    assert density.sum() * g.cell**2 == pytest.approx(1)
    chi, density = np.pad(g.winding(np.array([[0.6, -0.8]]), 0.0), 1), np.pad(density, 1)
    for i, j in np.ndindex(g.shape):
        i, j = i + 1, j + 1
        laplacian = (chi[i - 1, j] + chi[i + 1, j] + chi[i, j - 1] + chi[i, j + 1] - 4 * chi[i, j]) / g.cell**2
        divergence = (
            0.6 * (density[i + 1, j] - density[i - 1, j]) - 0.8 * (density[i, j + 1] - density[i, j - 1])
        ) / (2 * g.cell)
        assert -laplacian == pytest.approx(divergence, abs=1e-3)  # of up to 9 by 9, in single precision


@DIMENSIONS
def test_outward_normals_wind_once(d):
    """χ is 1 inside and 0 outside when each normal is as long as its share of the area, which is π for r = ½."""
    points = 0.5 * sphere(3000, d)
    g = WindingGrid(points, np.full(d, -1.5), np.full(d, 1.5), 32)
    chi = g.winding(2 * points * np.pi / len(points), 0.0).ravel()
    radius = np.linalg.norm(g.nodes, axis=1)
    np.testing.assert_allclose(chi[radius < 0.2], 1, atol=0.1)
    np.testing.assert_allclose(chi[radius > 0.8], 0, atol=0.1)


def test_the_floor_of_a_hollow_whose_walls_are_missing_looks_up():
    """A box with a mouth of radius 0.4 and a floor at its middle. The winding number alone leaves open which."""
    points, floor = box_with_hollow(20_000, 3)
    box = points.min(axis=0) - 0.5, points.max(axis=0) + 0.5
    directions = np.where(floor[:, None], [0, 0, 1.0], np.where(np.abs(points) == 1, points, 0))
    coarse = coarse_normals(points, *box, COARSE)
    assert coarse is not None
    outward, sure = orient(coarse, points, directions)
    assert (outward == directions)[floor].all()
    assert sure[floor].mean() > 0.35  # of what is not near its rim
    assert (outward == directions).mean() > 0.999
