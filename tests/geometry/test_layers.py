"""One surface that is scanned twice is told from a thin wall."""

from dataclasses import replace

import numpy as np
import pytest

from phase_recon.geometry.layers import layers
from phase_recon.geometry.points import OrientedPoints


def planes(apart, lower):
    """Two planes of 20 × 20 points, the upper facing up, with the steps from each to the other; and their points."""
    x = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2)
    up = np.array([0.0, 0.0, 1.0])
    sheets = [np.column_stack([x, np.full(len(x), z)]) for z in (0.0, apart)]
    normals = [np.tile(sign * up, (len(x), 1)) for sign in (lower, 1.0)]
    points = OrientedPoints.bare(np.concatenate(sheets), np.concatenate(normals))
    steps = np.concatenate([np.tile(sign * apart * up, (len(x), 1)) for sign in (1.0, -1.0)])
    return points, steps


def test_two_scans_of_a_plane_face_the_same_way_and_the_sides_of_a_wall_do_not():
    for lower, share, apart in ((1.0, 1.0, 0.5), (-1.0, 0.0, 0.0)):
        points, steps = planes(0.5, lower)
        sure = np.ones(len(points))
        points = replace(points, opposite=steps, confidence=sure, outward=sure)
        assert layers(points) == pytest.approx((share, apart))
        assert layers(replace(points, outward=0.5 * sure)) == (0.0, 0.0)  # no side is sure
        assert layers(replace(points, opposite=0 * steps)) == (0.0, 0.0)
