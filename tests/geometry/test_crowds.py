"""Crowds on a plane and a line, where the area of each part and its points are known."""

import numpy as np
import pytest

from phase_recon.geometry.crowds import MOST, evened, few_in_each_cell


@pytest.mark.parametrize("d", [2, 3])
def test_of_a_crowd_so_many_are_left_in_each_cell(d):
    """In cells by hand: 20 000 points in one, 20 in another; and one point a cell of a lattice stays as it is."""
    crowd, few = np.full((20_000, d), 0.15), np.full((20, d), -0.05)
    points = np.concatenate([crowd, few])
    left = few_in_each_cell(points, 0.1, 30)
    assert [int((points[left, 0] > 0).sum()), int((points[left, 0] < 0).sum())] == [30, 20]
    assert (np.diff(left) > 0).all()
    lattice = np.arange(50.0)[:, None] * np.ones(d)
    np.testing.assert_array_equal(few_in_each_cell(lattice, 1.0, 1), np.arange(50))


def patches(d, dense, sparse, random):
    """Points of [0, 1]^(d - 1), so many in its tenth about a corner and elsewhere, embedded in d axes."""
    side = 0.1 ** (1 / (d - 1))

    def part(count, inside):
        x = random.uniform(0, 1, (20 * count, d - 1))
        return x[(x < side).all(axis=1) == inside][:count]

    points = np.concatenate([part(dense, True), part(sparse, False)])
    return np.column_stack([points, np.zeros(len(points))])


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("outliers", [0, 100])
def test_a_dense_part_is_thinned_though_most_points_are_in_it(d, outliers):
    """20 000 points on a tenth of the area, 10 000 on the rest: 18 times as dense.

    The rest has 1.1e4 points an area. About that many cells of the side of its mean step make an area of one, so that
    the tenth has 1.1e3 of them and keeps MOST points in each. Outliers stand for any area, and change nothing.
    """
    random = np.random.default_rng(0)
    points = patches(d, 20_000, 10_000, random)
    far = random.uniform(-1, 2, (outliers, d))
    left = evened(np.concatenate([points, far]))
    dense, sparse = int((left < 20_000).sum()), int(((left >= 20_000) & (left < 30_000)).sum())
    assert dense == pytest.approx(MOST * 10_000 / 0.9 * 0.1, rel=0.25)
    assert sparse > 9_900


def test_points_that_are_evenly_spread_stay_and_so_do_a_few():
    random = np.random.default_rng(0)
    sphere = random.standard_normal((30_000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    for points in (sphere, patches(3, 2_000, 10_000, random), sphere[:5], sphere[:1], np.zeros((12, 3))):
        np.testing.assert_array_equal(evened(points), np.arange(len(points)))
