"""What one looked through: hollows by their mouths, trenches, the lines of known sensors; nothing about a ball."""

import numpy as np
import pytest

from conftest import box_with_hollow
from phase_recon.geometry.hollows import HollowSettings, _Cells, _cones, _expected_lines, looked_through
from phase_recon.geometry.visibility import Space, ray_directions

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


@DIMENSIONS
def test_one_looked_into_a_deep_hollow_through_its_mouth(d):
    """The floor is as far below the mouth as 2.5 of its radii."""
    points, floor = box_with_hollow(20_000, d)
    points[floor, -1] = -0.5
    places = looked_through(Space(points), points[floor], np.tile(np.eye(d)[-1], (int(floor.sum()), 1)))
    assert len(places) > 20
    assert np.quantile(np.linalg.norm(places[:, :-1], axis=1), 0.99) < 0.45  # random walls gape
    assert -0.5 < places[:, -1].min() < -0.2
    assert 0.8 < places[:, -1].max() < 1


@DIMENSIONS
def test_nothing_is_told_outside_of_what_is_convex(d):
    points = np.random.default_rng(0).standard_normal((10_000, d))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert len(looked_through(Space(points), points[:1000], points[:1000])) == 0
    flat = np.c_[np.random.default_rng(0).uniform(-1, 1, (1000, d - 1)), np.zeros(1000)]
    assert len(looked_through(Space(flat), flat, np.tile(np.eye(d)[-1], (1000, 1)))) == 0


def trench(count):
    """Two walls at y = ±0.3 and the floor between them, 1 deep, and which points are the floor."""
    random = np.random.default_rng(0)
    floor = random.uniform([-1, -0.3, -0.5], [1, 0.3, -0.5], (count // 5, 3))
    walls = random.uniform([-1, 0, -0.5], [1, 0, 0.5], (count, 3))
    walls[:, 1] = np.where(np.arange(count) % 2 == 0, -0.3, 0.3)
    return np.concatenate([floor, walls]), np.arange(count + count // 5) < count // 5


def test_a_trench_was_looked_into_all_along():
    points, floor = trench(20_000)
    places = looked_through(Space(points), points[floor], np.tile([0.0, 0.0, 1.0], (int(floor.sum()), 1)))
    assert np.abs(places[:, 1]).max() < 0.3
    assert np.ptp(places[:, 0]) > 1.5
    assert np.ptp(places[:, 2]) > 0.6


def test_where_the_sensor_is_known_only_its_lines_of_sight_are_told():
    points, floor = trench(20_000)
    up, at = np.tile([0.0, 0.0, 1.0], (int(floor.sum()), 1)), np.array([0.0, 0.0, 3.0])
    space = Space(points)
    places = looked_through(space, points[floor], up, np.tile(at, (int(floor.sum()), 1)))
    assert len(places) > 50
    through = at + (places - at) * (3.5 / (3 - places[:, 2:]))  # where the line from the sensor meets the floor
    assert np.abs(through[:, 0]).max() < 1 + 2 * space.cell * HollowSettings().wide
    hidden = np.tile([0.0, 0.0, -3.0], (int(floor.sum()), 1))  # below the floor
    assert len(looked_through(space, points[floor], up, hidden)) == 0


def test_what_was_looked_through_does_not_depend_on_the_unit():
    points, floor = box_with_hollow(20_000, 3)
    points[floor, -1] = -0.5
    up = np.tile([0.0, 0.0, 1.0], (int(floor.sum()), 1))
    once = looked_through(Space(points), points[floor], up)
    np.testing.assert_array_equal(looked_through(Space(1024 * points), 1024 * points[floor], up), 1024 * once)


@DIMENSIONS
def test_of_two_cones_the_wider_is_kept(d):
    """Rays get out within 45° of an axis, and within 15° of another across."""
    rays = ray_directions(d, 256)
    wide, narrow = rays[:, -1] > np.cos(np.pi / 4), rays[:, 0] > np.cos(np.pi / 12)
    cone = _cones((wide | narrow)[None], rays, 1.2)
    np.testing.assert_array_equal(cone, wide[None])
    assert not _cones(np.zeros((1, 256), dtype=bool), rays, 1.2).any()


@DIMENSIONS
def test_lines_of_sight_are_counted_as_plain_loops_count_them(d):
    points, floor = box_with_hollow(3000, d)
    points[floor, -1] = -0.5
    space, s = Space(points), HollowSettings()
    starts = points[floor][:40] + space.clear * np.eye(d)[-1]
    normals = np.tile(np.eye(d)[-1], (len(starts), 1))
    cells, rays = _Cells(space, 2 * space.cell), ray_directions(d, space.settings.rays)
    escaped = np.zeros((len(starts), len(rays)), dtype=bool)
    for place, ray in np.ndindex(escaped.shape):
        if normals[place] @ rays[ray] > space.settings.steep:
            escaped[place, ray] = space.let_out(starts[[place]], rays[[ray]])[0]
    cones, wanted = _cones(escaped, rays, s.beside), np.zeros(cells.shape)
    for ray in range(len(rays)):
        most: dict[tuple[int, ...], float] = {}
        for place in np.flatnonzero(cones[:, ray] & (escaped.sum(axis=1) >= s.least)):
            for step in cells.steps:
                at = tuple(((starts[place] + step * rays[ray] - space.lower) // cells.width).astype(int).tolist())
                if all(0 <= i < size for i, size in zip(at, cells.shape, strict=True)):
                    most[at] = max(most.get(at, 0.0), 1 / escaped[place].sum())
        for at, chance in most.items():
            wanted[at] += chance
    found = _expected_lines(space, cells, starts, normals, s)
    np.testing.assert_allclose(found, wanted.ravel(), atol=1e-12)
    assert found.max() > 0.5
