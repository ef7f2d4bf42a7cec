"""The coarse start: shapes whose inside is known, and the grid of winding numbers against sums and formulas."""

import numpy as np
import pytest

from model import start
from model.start import WindingGrid, coarse_inside

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """A grid that takes a second, not ten."""
    monkeypatch.setattr(start, "NODES", 32)


def sphere(count, d=3, seed=0):
    points = np.random.default_rng(seed).standard_normal((count, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def omega(points):
    return 1.5 * points.min(axis=0), 1.5 * points.max(axis=0)


def found(points, lower=None, upper=None):
    """Nodes, their distances, and the length of a cell."""
    if lower is None:
        lower, upper = omega(points)
    result = coarse_inside(points, lower, upper)
    assert result is not None
    return result.places, result.distances, (upper - lower).max() / start.NODES


@DIMENSIONS
def test_a_sphere_gives_its_signed_distance(d):
    nodes, distances, cell = found(sphere(2000, d))
    assert nodes.shape == (len(distances), d)
    np.testing.assert_allclose(distances, np.linalg.norm(nodes, axis=1) - 1, atol=0.6 * cell)


def test_the_hole_of_a_torus_is_outside():
    a, b = np.random.default_rng(0).random((2, 3000)) * 2 * np.pi
    ring = 0.7 + 0.25 * np.cos(b)
    nodes, distances, cell = found(np.stack([ring * np.cos(a), ring * np.sin(a), 0.25 * np.sin(b)], axis=-1))
    around = np.linalg.norm(nodes[:, :2], axis=1)
    np.testing.assert_allclose(distances, np.hypot(around - 0.7, nodes[:, 2]) - 0.25, atol=0.6 * cell)
    assert (distances[(around < 0.2) & (np.abs(nodes[:, 2]) < 0.2)] > 0).all()


def test_a_cup_is_hollow_and_its_walls_are_inside():
    """Two cylinders of radius 0.8 and 0.6, a floor from z = -0.8 to -0.6, and a rim at 0.8."""
    random = np.random.default_rng(0)

    def ring(count, inner, outer, low, high):
        radius = np.sqrt(random.uniform(inner**2, outer**2, count))
        angle = random.uniform(0, 2 * np.pi, count)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), random.uniform(low, high, count)], axis=-1)

    parts = [(700, 0, 0.8, -0.8, -0.8), (2800, 0.8, 0.8, -0.8, 0.8), (1800, 0.6, 0.6, -0.6, 0.8),
             (400, 0, 0.6, -0.6, -0.6), (300, 0.6, 0.8, 0.8, 0.8)]  # fmt: skip
    nodes, distances, cell = found(np.concatenate([ring(*part) for part in parts]))
    radius, z = np.linalg.norm(nodes[:, :2], axis=1), nodes[:, 2]

    def body(margin):
        """The walls and the floor, this much thicker."""
        hollow = (radius < 0.6 - margin) & (z > -0.6 + margin)
        return (radius < 0.8 + margin) & (np.abs(z) < 0.8 + margin) & ~hollow

    inside, near = body(-cell), body(cell)
    assert inside.sum() > 300
    assert (distances[inside] < 0).all()
    assert (distances[~near] > 0).all()


def test_a_sphere_with_a_third_of_it_missing_stays_closed():
    points = sphere(3000)
    nodes, distances, _ = found(points[points[:, 2] < 1 / 3], np.full(3, -1.5), np.full(3, 1.5))
    radius = np.linalg.norm(nodes, axis=1)
    assert (distances[radius < 0.4] < 0).all()
    assert (distances[radius > 1.2] > 0).all()


@DIMENSIONS
def test_a_thousand_noisy_points(d):
    noise = 1 + 0.03 * np.random.default_rng(1).standard_normal((1000, 1))
    nodes, distances, cell = found(noise * sphere(1000, d))
    assert np.abs(distances - (np.linalg.norm(nodes, axis=1) - 1)).mean() < 0.2 * cell


ENCLOSES_NOTHING = {
    "ten points": sphere(10),
    "half a sphere": np.array([point for point in sphere(1000) if point[2] > 0.2]),
    "a sheet": np.random.default_rng(0).random((500, 3)) * [1, 1, 0],
    "a straight line": np.linspace(-1, 1, 200)[:, None] * [1, 0],
    "one place": np.zeros((10, 3)),
    "one point": np.zeros((1, 2)),
}


@pytest.mark.parametrize("name", ENCLOSES_NOTHING)
def test_what_encloses_nothing_gives_numbers_or_nothing(monkeypatch, name):
    monkeypatch.setattr(start, "NODES", 16)
    points = ENCLOSES_NOTHING[name]
    result = coarse_inside(points, points.min(axis=0) - 0.5, points.max(axis=0) + 0.5)
    if name.startswith("one"):
        assert result is None
    else:
        assert result is not None
        assert np.isfinite(result.distances).all()
        assert np.isfinite(result.normals).all()


# the side of normals


@DIMENSIONS
def test_directions_of_a_sphere_are_turned_outward(d):
    points = sphere(2000, d)
    result = coarse_inside(points, *omega(points))
    assert result is not None
    assert np.array_equal(result.points, points)
    np.testing.assert_allclose(np.linalg.norm(result.normals, axis=1), 1)
    chance = np.where(np.random.default_rng(4).random(2000) < 0.5, -1.0, 1.0)[:, None]
    turned, sure = result.oriented(points, chance * points)
    np.testing.assert_array_equal(turned, points)
    assert sure.mean() > 0.99


def test_a_side_is_sure_where_the_direction_is_that_of_the_nearest_coarse_normal():
    """cos 30° = 0.87 is enough, cos 60° is not; a coarse normal of zero says nothing."""
    points = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    known = start.Start(points, np.zeros(3), points, np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]))
    half, tilted = np.array([0.5, np.sqrt(0.75)]), np.array([np.sqrt(0.75), 0.5])
    turned, sure = known.oriented(points + 0.1, np.array([-half, -tilted, half]))
    np.testing.assert_allclose(turned, [half, tilted, half])
    assert sure.tolist() == [True, False, False]


# the grid


def grid(d, count=40):
    """A grid of unequal sides about points in its middle."""
    points = np.random.default_rng(2).uniform(-0.5, 0.5, (count, d))
    upper = np.array([1.0, 0.8, 0.7])[:d]
    return points, WindingGrid(points, -upper, upper)


@DIMENSIONS
def test_the_nodes_are_evenly_spaced_and_cover_omega(monkeypatch, d):
    monkeypatch.setattr(start, "NODES", 8)
    _, g = grid(d)
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
    crossings = g.crossings(values)
    np.testing.assert_allclose(crossings @ slope + 0.3, 0, atol=1e-13)
    assert len(crossings) > start.NODES


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


def test_the_winding_number_solves_its_equation(monkeypatch):
    """-Δχ = ∇·n with differences written out, χ = 0 beyond the walls."""
    monkeypatch.setattr(start, "NODES", 6)
    (point,), g = grid(2, count=1)
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
    g = WindingGrid(points, np.full(d, -1.5), np.full(d, 1.5))
    chi = g.winding(2 * points * np.pi / len(points), 0.0).ravel()
    radius = np.linalg.norm(g.nodes, axis=1)
    np.testing.assert_allclose(chi[radius < 0.2], 1, atol=0.1)
    np.testing.assert_allclose(chi[radius > 0.8], 0, atol=0.1)
