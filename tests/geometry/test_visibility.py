"""From which side points were seen, and through which space: hollows, lone sheets, shells, and two sheets as one."""

import numpy as np
import pytest

from conftest import box_with_hollow
from phase_recon.geometry.visibility import (
    Space,
    seen_sheets,
    seen_sides,
    steps_aside,
)

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


def ball(count, d, seed=0):
    """Unit vectors (count, d)."""
    vectors = np.random.default_rng(seed).standard_normal((count, d))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@DIMENSIONS
@pytest.mark.parametrize("way", [1, -1])
def test_the_floor_of_a_hollow_is_seen_through_its_mouth(d, way):
    points, floor = box_with_hollow(20_000, d)
    up = way * np.tile(np.eye(d)[-1], (int(floor.sum()), 1))
    told = seen_sides(Space(points), points[floor], up)
    assert (told != -way).all()
    assert (told == way).mean() > 0.5


@DIMENSIONS
def test_a_closed_shape_is_seen_from_outside_and_one_within_it_not_at_all(d):
    outer, inner = ball(10_000, d), 0.5 * ball(2500, d, seed=1)
    points = np.concatenate([outer, inner])
    assert (seen_sides(Space(points), outer[:300], outer[:300]) == 1).mean() > 0.97
    assert (seen_sides(Space(points), outer[:300], -outer[:300]) == -1).mean() > 0.97
    assert (seen_sides(Space(points), inner[:300], 2 * inner[:300]) == 0).mean() > 0.94  # random points gape


@DIMENSIONS
def test_a_lone_sheet_may_have_been_seen_from_either_side(d):
    sheet = np.random.default_rng(0).uniform(-1, 1, (5000, d))
    sheet[:, -1] = 0
    up = np.tile(np.eye(d)[-1], (300, 1))
    assert (seen_sides(Space(sheet), sheet[:300], up) == 0).all()


@DIMENSIONS
@pytest.mark.parametrize("gap", [0.02, 0.05, 0.1])
def test_of_two_sheets_nearer_than_the_rays_start_nothing_is_said(d, gap):
    """The lower face of a plate that closes the mouth: rays that start beyond the upper face would get out."""
    points, floor = box_with_hollow(20_000, d)
    points = np.concatenate([points[~floor], np.random.default_rng(1).uniform(-0.5, 0.5, (8000, d))])
    points[-8000:, -1] = np.where(np.arange(8000) % 2, 1, 1 - gap)
    lower = points[-8000::2][:200]
    up = np.tile(np.eye(d)[-1], (len(lower), 1))
    assert (seen_sides(Space(points), lower, up) == 0).mean() > 0.99


def two_sheets(d, gap, back):
    """Two parallel faces of 5 000 points each, a gap apart, and with ``back`` those that close a box behind each."""
    random = np.random.default_rng(0)
    faces = random.uniform(-1, 1, (10_000, d))
    faces[:, -1] = np.where(np.arange(10_000) % 2, gap / 2, -gap / 2)
    boxes = random.uniform(-1, 1, (60_000, d))
    axis = random.integers(0, d, 60_000)
    boxes[np.arange(60_000), axis] = np.where(random.random(60_000) < 0.5, -1.0, 1.0)
    boxes[:, -1] += np.where(np.arange(60_000) % 2, 1 + gap / 2, -1 - gap / 2)
    points = np.concatenate([faces, boxes]) if back else faces
    up = np.tile(np.eye(d)[-1], (len(points), 1))
    near = np.flatnonzero((np.abs(points[:, :-1]) < 0.8).all(axis=1)[:10_000])[:300]
    return points, up, near


@DIMENSIONS
@pytest.mark.parametrize("way", [1, -1])
def test_the_step_to_a_sheet_beside_is_to_the_side_on_which_it_is(d, way):
    points, up, near = two_sheets(d, 0.05, back=False)
    steps = steps_aside(Space(points), points[near], way * up[near])
    assert np.all(steps[:, :-1] == 0)
    assert (steps[:, -1] * points[near, -1] < 0).mean() > 0.97
    assert not steps_aside(Space(points[1::2]), points[1::2], up[1::2]).any()  # without the other sheet


@DIMENSIONS
@pytest.mark.parametrize("way", [1, -1])
def test_both_faces_of_a_plate_can_be_seen_and_those_beside_a_gap_cannot(d, way):
    for back in (False, True):
        points, up, near = two_sheets(d, 0.05, back)
        steps = -2 * points[near] * np.eye(d)[-1]
        told = seen_sheets(Space(points), near, way * up, steps)
        assert told.shape == (len(near), 2)
        assert told.mean() < 0.01 if back else told.mean() > 0.99


@DIMENSIONS
def test_of_a_thin_closed_shell_only_the_outer_sheet_is_seen(d):
    outward = ball(20_000, d)
    outer, inner = outward[::2], 0.97 * outward[1::2]
    space, every = Space(np.concatenate([outer, inner])), np.concatenate([outward[::2], outward[1::2]])
    seen, other_seen = seen_sheets(space, np.arange(300), every, -0.03 * outer[:300]).T
    assert seen.mean() > 0.97
    assert other_seen.mean() < 0.06  # random points gape


@DIMENSIONS
def test_the_unit_does_not_matter(d):
    points, floor = box_with_hollow(20_000, d)
    up = np.tile(np.eye(d)[-1], (int(floor.sum()), 1))
    once = seen_sides(Space(points), points[floor], up)
    np.testing.assert_array_equal(seen_sides(Space(1024 * points), 1024 * points[floor], up), once)


def test_nobody_is_asked():
    points, _ = box_with_hollow(1000, 3)
    assert seen_sides(Space(points), np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)
