"""Every shape is closed, outward and of the topology that was counted by hand; some have closed forms."""

import math

import numpy as np
import pytest

from phase_recon.benchmarks.shapes import CHECKING, DEVELOPMENT, SHAPES
from phase_recon.surface.metrics import contains, distance_to_surface, sample_surface

COARSE = 4e-3


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_watertight_and_of_the_topology_that_is_told(name):
    shape = SHAPES[name]
    surface = shape.surface(COARSE)
    assert surface.is_closed()
    assert surface.euler_characteristic() == shape.euler_characteristic
    assert surface.components()[0] == shape.components
    assert (surface.cell_measures() > 0).all()
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    np.testing.assert_allclose(low + high, 0, atol=1e-12)
    assert np.linalg.norm(surface.vertices, axis=1).max() == pytest.approx(1)
    points, cells = sample_surface(surface, 2000, 0)
    offset = 1e-5 * surface.cell_normals()[cells]
    assert contains(surface, points - offset).mean() > 0.99  # but for points on edges
    assert contains(surface, points + offset).mean() < 0.01


@pytest.mark.parametrize(
    "name", ["bracket", "turbine", "helical_gear", "vase", "cloth", "knot", "relief", "lizard", "gear_2d", "star_2d"]
)
def test_a_finer_mesh_is_within_the_tolerance_of_a_coarse_one(name):
    coarse, fine = (SHAPES[name].surface(tolerance) for tolerance in (COARSE, COARSE / 5))
    for one, other in ((coarse, fine), (fine, coarse)):
        points = sample_surface(one, 5000, 0)[0]
        assert distance_to_surface(points, other)[0].max() < 1.2 * COARSE + COARSE / 5


def test_a_torus_is_within_the_tolerance_of_its_formula():
    """Its radii are 0.7 and 0.3, so the bounding radius of its box's middle is 1."""
    for tolerance in (1e-3, 1e-4):
        x = sample_surface(SHAPES["torus"].surface(tolerance), 20_000, 0)[0]
        distance = np.hypot(np.hypot(x[:, 0], x[:, 1]) - 0.7, x[:, 2]) - 0.3
        assert np.abs(distance).max() < 1.01 * tolerance


def test_a_lens_is_within_the_tolerance_of_its_formula():
    x = sample_surface(SHAPES["lens"].surface(1e-3), 20_000, 0)[0] / [1, 0.8, 0.08]
    value, slope = (x**2).sum(axis=1) - 1, 2 * np.linalg.norm(x / [1, 0.8, 0.08], axis=1)
    assert np.abs(value / slope).max() < 1e-3


def test_a_ball_in_a_hollow_ball_is_three_spheres():
    surface = SHAPES["ball_in_ball"].surface(1e-3)
    x = sample_surface(surface, 20_000, 0)[0]
    from_middle, from_inner = np.linalg.norm(x, axis=1), np.linalg.norm(x - [0.05, 0.1, 0], axis=1)
    distance = np.min(np.abs([from_middle - 1, from_middle - 0.8, from_inner - 0.45]), axis=0)
    assert distance.max() < 1e-3
    inside = contains(surface, np.array([[0, 0, 0.9], [0, 0, 0.7], [0.05, 0.1, 0]]))
    assert inside.tolist() == [True, False, True]


def test_the_holes_of_the_perforated_sheet_are_where_they_should_be():
    surface = SHAPES["perforated_sheet"].surface(1e-3)
    radius = math.sqrt(0.85**2 + 0.58**2 + 0.02**2)
    x, y = (grid.ravel() / radius for grid in np.meshgrid(np.linspace(-0.72, 0.72, 9), np.linspace(-0.45, 0.45, 6)))
    middles = np.stack([x, y, 0 * x], axis=1)
    assert not contains(surface, middles).any()
    assert contains(surface, middles + np.array([0.06 / radius, 0, 0])).all()


def test_the_wall_of_the_bowl_is_as_thick_as_told():
    """Below the rim the surface is that of two balls about one middle, of radius 1 and 0.97, before it is scaled."""
    surface = SHAPES["bowl"].surface(1e-3)
    depth = 1 + 0.015  # of the box, from the lowest point to the top of the rim
    scale = 0.015 + math.hypot(0.985, depth / 2 - 0.015)  # the rim is farthest from the middle of the box
    x = scale * sample_surface(surface, 20_000, 0)[0] + [0, 0, depth / 2 - 1]
    below = x[:, 2] < -0.01
    assert np.abs(np.abs(np.linalg.norm(x[below], axis=1) - 0.985) - 0.015).max() < 1.5e-3


def test_the_split_is_fixed_and_has_every_kind_but_few_on_both_sides():
    kinds = {split: {s.kind for s in SHAPES.values() if s.split == split} for split in (DEVELOPMENT, CHECKING)}
    assert kinds[DEVELOPMENT] >= kinds[CHECKING]
    assert kinds[DEVELOPMENT] - kinds[CHECKING] == {"torus"}
    assert [s.split for s in SHAPES.values()].count(CHECKING) >= 20
    assert len([s for s in SHAPES.values() if s.dimension == 3]) >= 36
    assert len([s for s in SHAPES.values() if s.dimension == 2]) >= 4


def test_a_shape_is_the_same_every_time():
    first, second = (SHAPES["bracket"].surface(4e-3) for _ in range(2))
    np.testing.assert_array_equal(first.vertices, second.vertices)
    np.testing.assert_array_equal(first.cells, second.cells)
