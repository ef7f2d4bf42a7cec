"""Records of points: choosing and joining keeps what belongs together; lattices and walls of a box."""

import numpy as np
import pytest

from phase_recon.geometry import points
from phase_recon.geometry.points import OrientedPoints, Source, beyond_hull, convex_hull, lattice, walls


def some(count, source=Source.MEASURED):
    positions = np.arange(3.0 * count).reshape(count, 3)
    return OrientedPoints.bare(positions, positions + 0.5, source, np.arange(count))


def test_a_choice_keeps_what_belongs_to_each_point():
    for chosen in (np.array([3, 1]), np.array([False, True, False, True])):
        part = some(4)[chosen]
        assert len(part) == 2
        np.testing.assert_array_equal(part.normals, part.positions + 0.5)
        np.testing.assert_array_equal(part.positions[:, 0], 3.0 * part.raw_index)


def test_points_are_joined_in_order():
    both = some(3) + some(2, Source.HOLE)
    assert both.source.tolist() == [0, 0, 0, 2, 2]
    assert (both.count(Source.MEASURED), both.count(Source.CREASE), both.count(Source.HOLE)) == (3, 0, 2)
    np.testing.assert_array_equal(both.positions[3:], some(2).positions)
    assert both.area.tolist() == [1] * 5


def test_bare_points_are_trusted_in_nothing():
    bare = OrientedPoints.bare(np.ones((2, 2)))
    assert not bare.normals.any()
    assert not bare.confidence.any()
    assert not bare.oriented.any()
    assert bare.raw_index.tolist() == [-1, -1]


@pytest.mark.parametrize("d", [2, 3])
def test_the_lattice_of_a_box_and_its_walls(d):
    """3 nodes a side: all but the one in the middle lie on a wall."""
    upper = np.array([1.0, 2.0, 3.0])[:d]
    nodes, on_walls = lattice(-upper, upper, 3), walls(-upper, upper, 3)
    assert nodes.shape == (3**d, d)
    np.testing.assert_array_equal(nodes[0], -upper)
    np.testing.assert_array_equal(nodes[1], [*-upper[:-1], 0])
    assert len(on_walls) == 3**d - 1
    assert (np.abs(on_walls) == upper).any(axis=1).all()


@pytest.mark.parametrize("d", [2, 3])
def test_how_far_places_lie_beyond_a_convex_hull(d, monkeypatch):
    """That of a box's corners and some points within; one facet at a time gives the same."""
    corners = lattice(-np.ones(d), np.ones(d), 3)
    facets = convex_hull(corners)
    assert facets is not None
    axis, diagonal = np.eye(d)[0], np.ones(d)
    places = np.stack([0 * axis, 0.75 * axis, 1.5 * axis, diagonal, 1.5 * diagonal])
    np.testing.assert_allclose(beyond_hull(places, facets), [-1, -0.25, 0.5, 0, 0.5], atol=1e-12)
    monkeypatch.setattr(points, "HULL_NUMBERS", 1)
    np.testing.assert_allclose(beyond_hull(places, facets), [-1, -0.25, 0.5, 0, 0.5], atol=1e-12)
    assert len(beyond_hull(places[:0], facets)) == 0
    assert convex_hull(corners * np.eye(d)[0]) is None  # on a line
