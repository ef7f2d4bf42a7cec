"""Sums of B-splines against loops over all nodes, and what such sums must reproduce."""

from itertools import product

import numpy as np
import pytest
import torch

from conftest import spline_at
from phase_recon.model.grid import SplineField, SplineGrid, keys_of, nodes_about, nodes_of

H = 0.25


def spline(t):
    """The quadratic B-spline (N,) by its definition: ¾ - t² up to ½, ½ (3/2 - |t|)² up to 3/2, then 0."""
    t = t.abs()
    return torch.where(t < 0.5, 0.75 - t**2, torch.where(t < 1.5, 0.5 * (1.5 - t) ** 2, torch.zeros_like(t)))


def by_loops(grid, x):
    total = torch.zeros(len(x), dtype=torch.float64)
    for node, coefficient in zip(grid.nodes, grid.coefficients, strict=True):
        term = torch.full((len(x),), float(coefficient), dtype=torch.float64)
        for axis, i in enumerate(node):
            term = term * spline(x[:, axis] / grid.spacing - float(i))
        total = total + term
    return total


def scattered(d, seed=0):
    """A grid with holes in it, and nodes on both sides of zero."""
    generator = np.random.default_rng(seed)
    nodes = np.array(list(product(range(-4, 5), repeat=d)))
    nodes = nodes[generator.random(len(nodes)) < 0.3]
    return SplineGrid(H, nodes, generator.normal(size=len(nodes)).astype(np.float32))


@pytest.mark.parametrize("d", [2, 3])
def test_a_grid_is_the_sum_of_its_splines(d):
    grid = scattered(d)
    x = torch.from_numpy(np.random.default_rng(1).uniform(-2, 2, (500, d)))
    x.requires_grad_(True)
    expected = by_loops(grid, x)
    slope = torch.autograd.grad(expected.sum(), x)[0]
    value, gradient = grid.value_and_gradient(x.detach())
    torch.testing.assert_close(value.double(), expected.detach(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradient.double(), slope, atol=1e-5, rtol=1e-5)
    assert torch.equal(grid.value(x.detach()), value)
    assert 0 < int((value == 0).sum()) < len(x)  # some places are away from all nodes


@pytest.mark.parametrize("d", [2, 3])
def test_linear_functions_are_reproduced_where_all_nodes_are_there(d):
    nodes = np.array(list(product(range(-6, 7), repeat=d)))
    slope = np.array([0.5, -2.0, 1.25])[:d]
    grid = SplineGrid(H, nodes, (3 + H * nodes @ slope).astype(np.float32))
    x = np.random.default_rng(2).uniform(-1, 1, (200, d))
    value, gradient = spline_at(grid, x)
    np.testing.assert_allclose(value, 3 + x @ slope, atol=1e-5)
    np.testing.assert_allclose(gradient, np.tile(slope, (200, 1)), atol=1e-5)
    assert not grid.value(torch.full((1, d), 10.0)).any()


def test_the_slope_has_no_jump_between_cells():
    grid = scattered(3)
    edges = (np.random.default_rng(3).integers(-4, 4, (100, 3)) + 0.5) * H  # corners of the cells of all three axes
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 1e-6
        before, after = spline_at(grid, edges - step)[1], spline_at(grid, edges + step)[1]
        np.testing.assert_allclose(before, after, atol=1e-3)
        assert np.abs(before).max() > 1


def test_keys_are_in_the_order_of_the_nodes():
    nodes = np.array(list(product((-300, -1, 0, 2, 500), repeat=3)))
    keys = keys_of(nodes)
    assert (np.diff(keys) > 0).all()
    np.testing.assert_array_equal(nodes_of(keys, 3), nodes)


def test_nodes_about_some_are_a_cube_of_each():
    near = nodes_about(np.array([[0, 0], [0, 0], [5, 1]]), 1)
    expected = sorted({(a + i, b + j) for a, b in ((0, 0), (5, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)})
    np.testing.assert_array_equal(near, expected)


def test_a_field_is_the_sum_of_its_grids_and_survives_a_checkpoint():
    field = SplineField((scattered(3, 4), SplineGrid(0.1, *_some(scattered(3, 5)))))
    x = torch.from_numpy(np.random.default_rng(6).uniform(-1, 1, (50, 3)).astype(np.float32))
    back = SplineField.from_plain(field.to_plain())
    torch.testing.assert_close(field.value(x), sum(grid.value(x) for grid in field.grids))
    slopes = sum(grid.value_and_gradient(x)[1] for grid in field.grids)
    torch.testing.assert_close(field.value_and_gradient(x)[1], slopes)
    for one, other in zip(field.value_and_gradient(x), back.value_and_gradient(x), strict=True):
        assert torch.equal(one, other)


def test_the_finest_grid_with_a_node_there_tells_the_spacing():
    coarse = SplineGrid(0.2, np.array([[0, 0], [1, 0]]), np.ones(2, dtype=np.float32))
    fine = SplineGrid(0.1, np.array([[0, 0]]), np.ones(1, dtype=np.float32))
    places = np.array([[0.04, -0.04], [0.06, 0.0], [0.2, 0.0], [0.0, 0.11]])
    for grids in ((coarse, fine), (fine, coarse)):
        np.testing.assert_array_equal(SplineField(grids).spacing_at(places), [0.1, 0.2, 0.2, np.inf])
    np.testing.assert_array_equal(SplineField(()).spacing_at(places), np.full(4, np.inf))


def _some(grid):
    return grid.nodes, grid.coefficients
