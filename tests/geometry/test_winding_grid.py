"""The winding number on its grid: exact for linear functions, and the solution of its equation."""

import numpy as np
import pytest

from phase_recon.geometry.winding_grid import WindingGrid

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


def sphere(count, d=3, seed=0):
    points = np.random.default_rng(seed).standard_normal((count, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def grid(d, count=40, cell=0.07):
    """A grid about points in a box of unequal sides."""
    points = np.random.default_rng(2).uniform(-0.5, 0.5, (count, d)) * np.array([1.0, 0.8, 0.7])[:d]
    g = WindingGrid(points, cell)
    return points, g, nodes_of(g)


def nodes_of(g):
    """Places (..., d) of a grid's nodes."""
    return g.origin + g.cell * np.stack(np.meshgrid(*[np.arange(n) for n in g.shape], indexing="ij"), axis=-1)


@DIMENSIONS
def test_the_nodes_have_a_margin_about_the_points(d):
    """5 cells of 0.1 on each side of 1, 0.8 and 0.6, which is more than a tenth of 1."""
    corners = np.array([[0, 0, 0], [1.0, 0.8, 0.6]])[:, :d]
    g = WindingGrid(corners, 0.1)
    assert (np.array(g.shape) >= np.array([20, 18, 16])[:d]).all()
    nodes = nodes_of(g).reshape(-1, d)
    assert (nodes.min(axis=0) <= corners[0] - 0.5 + 1e-9).all()
    assert (nodes.max(axis=0) >= corners[1] + 0.4 - 1e-9).all()  # the next node is the first one of the next copy


@DIMENSIONS
def test_linear_functions_are_exact_between_the_nodes(d):
    points, g, nodes = grid(d)
    slope = np.array([2.0, -1.0, 0.5])[:d]
    values = (nodes @ slope + 0.3).astype(np.float32)
    np.testing.assert_allclose(g.at_points(values), points @ slope + 0.3, atol=1e-6)
    np.testing.assert_allclose(g.gradient_at_points(values), np.tile(slope, (len(points), 1)), atol=2e-5)


@DIMENSIONS
def test_transposed_is_the_transpose(d):
    """Σ_i values_i winding_i(normals) = Σ_i transposed_i(values) · normals_i."""
    points, g, _ = grid(d)
    random = np.random.default_rng(3)
    normals, values = random.standard_normal(points.shape), random.standard_normal(len(points))
    for width in (0.0, 1.4):
        forward = g.at_points(g.winding(normals, width))
        backward = g.transposed(values, width)
        assert values @ forward == pytest.approx(np.sum(backward * normals), rel=1e-3)  # single precision
        assert np.abs(forward).max() > 0


def test_the_winding_number_solves_its_equation():
    """-Δχ = ∇·n with differences written out, on a grid that goes on with its other side, and 0 on the mean of its
    walls.
    """
    (point,), g, nodes = grid(2, count=1)
    density = np.maximum(0, 1 - np.abs(nodes - point) / g.cell).prod(axis=-1) / g.cell**2
    assert density.sum() * g.cell**2 == pytest.approx(1)
    chi = g.winding(np.array([[0.6, -0.8]]), 0.0).astype(np.float64)
    around = [np.roll(chi, shift, axis) for axis in (0, 1) for shift in (-1, 1)]
    slope = [(np.roll(density, -1, axis) - np.roll(density, 1, axis)) / (2 * g.cell) for axis in (0, 1)]
    np.testing.assert_allclose((4 * chi - sum(around)) / g.cell**2, 0.6 * slope[0] - 0.8 * slope[1], atol=0.02)
    assert np.abs(slope).max() > 100
    assert np.concatenate([chi[0], chi[1:, 0]]).mean() == pytest.approx(0, abs=1e-6)


@DIMENSIONS
def test_outward_normals_wind_once(d):
    """χ is 1 inside and 0 outside when each normal is as long as its share of the area, which is π for r = ½."""
    points = 0.5 * sphere(3000, d)
    g = WindingGrid(points, 0.1)
    chi = g.winding(2 * points * np.pi / len(points), 0.0)
    radius = np.linalg.norm(nodes_of(g), axis=-1)
    np.testing.assert_allclose(chi[radius < 0.2], 1, atol=0.1)
    np.testing.assert_allclose(chi[radius > 0.8], 0, atol=0.1)
