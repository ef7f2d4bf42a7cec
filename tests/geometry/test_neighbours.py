"""Neighbourhoods on lattices, where distances, spacing and density are known."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import (
    areas,
    closeness,
    connected_places,
    density,
    density_of,
    distance_to_other,
    nearest,
    nearest_on_sheet,
    spacing,
)


def plane(side):
    """A square lattice of step 1 in the plane z = 0."""
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    return np.stack([x.ravel(), y.ravel(), np.zeros(side**2)], axis=1).astype(float)


def test_a_point_is_its_own_nearest_and_one_neighbour_is_a_column():
    points = plane(5)
    distance, index = nearest(points, points, 1)
    assert distance.shape == index.shape == (25, 1)
    np.testing.assert_array_equal(index[:, 0], np.arange(25))
    assert nearest(points[:3], points, 9)[1].shape == (25, 3)  # no more than there are


@pytest.mark.parametrize(("others", "expected"), [(1, 1), (4, 1), (5, 2**0.5), (8, 2**0.5), (9, 2), (99, 4.5 * 2**0.5)])
def test_the_distance_to_other_points_of_a_lattice(others, expected):
    """About the middle of a lattice are 4 points at 1, 4 at √2, 4 at 2. Of a few points the farthest is the last."""
    points = plane(21) if others < 99 else plane(10)
    middle = np.array([[10.0, 10, 0]]) if others < 99 else np.array([[4.5, 4.5, 0]])
    assert distance_to_other(points, middle, others)[0] == pytest.approx(expected)


def test_the_spacing_is_the_distance_to_the_15th_other():
    """4 at 1, 4 at √2, 4 at 2 and 8 at √5: the 15th other is at √5. A tree is as good as the points."""
    points = plane(40)
    assert spacing(points, points) == pytest.approx(5**0.5)
    assert spacing(cKDTree(points), points) == pytest.approx(5**0.5)


def test_density_is_points_by_area():
    assert density(2.0, 3, 16) == pytest.approx(16 / (4 * np.pi))
    assert density(2.0, 2, 16) == 4  # on both sides, a length of 4
    random = np.random.default_rng(0).uniform(0, 1, (20_000, 3)) * [1, 1, 0]
    assert density_of(random) == pytest.approx(20_000, rel=0.1)


def test_points_that_are_sparser_stand_for_larger_areas():
    sparse, dense = plane(20)[:, :2] * 2 - [100, 0], plane(40)[:, :2]
    area = areas(np.insert(np.concatenate([sparse, dense]), 2, 0, axis=1), largest=3.0)
    assert np.median(area[: len(sparse)]) == 3  # 4, but for the bound
    assert np.median(area[len(sparse) :]) == 1


def test_weights_fall_to_exp_minus_two_at_the_farthest():
    np.testing.assert_allclose(closeness(np.array([[0.0, 1.0, 2.0]])), [[1, np.exp(-0.5), np.exp(-2)]])
    assert np.isfinite(closeness(np.zeros((1, 3)))).all()


def test_neighbours_on_the_own_sheet_come_first():
    """Two planes 0.1 apart: the nearest 5 on the own sheet are the point and those at distance 1."""
    lower = plane(11)
    points = np.concatenate([lower, lower + np.array([0, 0, 0.1])])
    place, step = np.array([[5.0, 5, 0]]), np.array([[0.0, 0, 0.1]])
    index = nearest_on_sheet(points, place, 5, step)[1]
    assert (index < 121).all()
    assert (nearest_on_sheet(points, place, 5, None)[1] >= 121).any()


def test_places_of_a_grid_are_connected_across_the_diagonal_of_a_cell_and_no_farther():
    places = 0.5 * np.array([[0, 0, 0], [1, 1, 1], [3, 1, 1], [3, 2, 2]], dtype=np.float64)
    count, component = connected_places(places, 0.5)
    assert count == 2
    assert component[0] == component[1] != component[2] == component[3]
    assert connected_places(places[:0], 0.5)[0] == 0
