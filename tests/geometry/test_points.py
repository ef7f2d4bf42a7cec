"""Records of points: choosing and joining keeps what belongs together."""

import numpy as np

from phase_recon.geometry.points import OrientedPoints, Source


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
