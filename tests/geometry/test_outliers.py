"""Outliers: points alone, pairs, and what must not be taken for one."""

import numpy as np
import pytest

from phase_recon.geometry.outliers import find_background, find_outliers, find_strays


@pytest.mark.parametrize("d", [2, 3])
def test_points_far_from_all_others_are_outliers(d):
    generator = np.random.default_rng(0)
    ball = generator.standard_normal((600, d))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    alone = np.zeros((3, d))
    alone[:, 0] = [0.0, 4.0, 4.1]  # one in the middle of the ball, and a pair
    found = find_outliers(np.concatenate([ball, alone]))
    assert found[600:].all()
    assert not found[:600].any()


def test_where_a_scan_is_thin_no_point_is_an_outlier():
    generator = np.random.default_rng(1)
    dense = generator.uniform(0, 1, (4000, 2))
    sparse = generator.uniform([1, 0], [2, 1], (200, 2))  # a twentieth of the density, with an edge between
    plane = np.concatenate([dense, sparse])
    assert find_outliers(np.insert(plane, 2, 0.0, axis=1))[4000:].mean() < 0.05


def test_in_a_small_cloud_no_point_is_an_outlier():
    assert not find_outliers(np.insert(np.random.default_rng(2).standard_normal((98, 3)), 0, 1000.0, axis=0)).any()


def test_points_that_come_many_times_are_no_outliers_and_outliers_may_come_so():
    ball = np.random.default_rng(4).standard_normal((300, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    points = np.concatenate([np.repeat(ball[:150], 6, axis=0), ball[150:], np.full((7, 3), 5.0)])
    assert np.flatnonzero(find_outliers(points)).tolist() == list(range(1050, 1057))


def test_a_point_far_from_those_that_were_looked_at_is_a_stray():
    """The fourth nearest of a point of a square lattice is one step away, so a stray is more than three away."""
    lattice = np.array(np.meshgrid(np.arange(20.0), np.arange(20.0), [0.0])).reshape(3, -1).T
    off = [[9.0, 9.0, 3.01], [9.0, 9.0, 2.99], [-2.99, 9.0, 0.0]]
    asked = np.concatenate([off, lattice + np.array([0.3, 0.4, 0.0])])
    assert np.flatnonzero(find_strays(asked, lattice)).tolist() == [0]
    assert np.flatnonzero(find_strays(asked, np.repeat(lattice, 6, axis=0))).tolist() == [0]  # each place counts once
    assert not find_strays(asked, lattice[:99]).any()  # so few show nothing


def test_near_a_crowd_a_stray_is_as_far_as_elsewhere():
    """Of most points the fourth nearest is one step away: by area a stray is √6 steps away from all, not 3 / 10."""
    lattice = np.array(np.meshgrid(np.arange(20.0), np.arange(20.0), [0.0])).reshape(3, -1).T
    crowd = lattice[:100] / 10 + [4.0, 4.0, 0.0]
    asked = np.array([[4.3, 4.3, 1.0], [4.3, 4.3, 2.4], [4.3, 4.3, 2.5]])
    assert find_strays(asked, np.concatenate([lattice, crowd])).tolist() == [False, False, True]


def test_where_many_would_be_outliers_none_are():
    box = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    bore = 0.1 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    up = np.array([0.0, 0.0, 1.0])
    assert not find_outliers(np.concatenate([box, bore + up, bore - up])).any()


@pytest.mark.parametrize("d", [2, 3])
def test_a_sky_far_behind_a_body_is_background_and_what_is_about_the_body_is_none(d):
    generator = np.random.default_rng(5)
    directions = generator.standard_normal((1000, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radius = np.repeat([1.0, 1.5, 40.0], [900, 40, 60])[:, None]
    assert np.flatnonzero(find_background(sky := 7 + radius * directions, sky)).tolist() == list(range(940, 1000))
    near = np.minimum(radius, 8.0)  # nine times as wide as the 90 % in the middle: one scene
    assert find_background(sky, sky[::2]).sum() == 60  # some of the points tell it of all
    assert not find_background(7 + near * directions, 7 + near * directions).any()
    assert not find_background(sky[-99:], sky[-99:]).any()


def test_a_tall_thin_post_on_wide_ground_is_no_background():
    generator = np.random.default_rng(6)
    ground = generator.uniform(-5, 5, (10_000, 3)) * [1, 1, 0.002]
    post = generator.uniform(0, 1, (300, 3)) * [0.06, 0.06, 8.0]
    cloud = np.concatenate([ground, post])
    assert not find_background(cloud, cloud).any()
