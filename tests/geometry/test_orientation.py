"""Which side of a cloud's points is outside: sheets vote together, two near each other do not, and walls have two."""

import numpy as np
import pytest

from phase_recon.geometry.orientation import (
    OrientationSettings,
    orient,
    outside_of_walls,
    probability,
    sheet_links,
    spread_votes,
)
from phase_recon.geometry.points import SURE
from phase_recon.geometry.visibility import Space
from phase_recon.geometry.winding import CoarseNormals, WindingSettings, coarse_normals

COARSE = WindingSettings(nodes=32)  # a grid that takes a second, not ten
S = OrientationSettings()


def together(points, normals, votes):
    """Votes spread along the sheets of points with normals."""
    return spread_votes(sheet_links(points, normals, None, S), votes, S.own_vote, S)


@pytest.mark.parametrize("d", [2, 3])
def test_directions_of_a_sphere_are_turned_outward(d):
    points = np.random.default_rng(0).standard_normal((2000, d))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    coarse = coarse_normals(points, settings=COARSE)
    assert coarse is not None
    assert np.array_equal(coarse.points, points)
    chance = np.where(np.random.default_rng(4).random(2000) < 0.5, -1.0, 1.0)[:, None]
    turned, sure = orient(coarse, points, chance * points)
    np.testing.assert_array_equal(turned, points)
    assert (sure >= SURE).mean() > 0.99


def test_nested_shells_and_a_ball_beside_them_are_told_apart():
    """A ball of radius 0.3 in a hollow ball of radii 0.6 and 1, whose inner wall faces its middle; another beside."""
    count = np.array([4000, 1600, 400, 400])
    unit = np.random.default_rng(0).standard_normal((count.sum(), 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    points = np.repeat([1.0, 0.6, 0.3, 0.3], count)[:, None] * unit
    points[-400:] += np.array([1.6, 0, 0])
    outward = np.repeat([1.0, -1.0, 1.0, 1.0], count)[:, None] * unit
    coarse = coarse_normals(points, settings=COARSE)
    assert coarse is not None
    turned, probable = orient(coarse, points, unit)
    assert (probable >= SURE).mean() > 0.95
    np.testing.assert_allclose(turned, outward)


def test_a_side_is_sure_where_the_direction_is_that_of_the_coarse_normal():
    """cos 30° = 0.87 is enough, cos 60° is not, and a coarse normal of zero has no vote."""
    points, across = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])  # not of one sheet
    half, tilted, nothing = [np.sqrt(0.75), 0.5], [0.5, np.sqrt(0.75)], [0.0, 0.0]
    for coarse, close in ((half, True), (tilted, False), (nothing, False)):
        for sign in (1, -1):
            turned, sure = orient(CoarseNormals(points, np.array([[0.0, 1.0], coarse])), points, sign * across)
            np.testing.assert_allclose(turned, across * ([[1], [sign]] if coarse == nothing else 1))
            assert (sure >= SURE).tolist() == [True, close]


def test_a_probability_is_linear_between_what_is_known():
    pairs = ((0.0, 0.5), (0.5, 0.9), (1.0, 1.0))
    np.testing.assert_allclose(probability(np.array([-1, 0, 0.25, 0.75, 9]), pairs), [0.5, 0.5, 0.7, 0.95, 1])


def test_votes_of_those_that_are_not_of_one_sheet_stay():
    points, turned = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(together(points, turned, np.array([1.0, -0.36])), [1, -0.36], atol=1e-3)


def test_two_votes_are_taken_together():
    """(f - v1)² and (f - v2)² with the same small weight, f the same at both or its negative: their mean."""
    points = np.array([[0.0, 0.0], [1.0, 0.0]])
    for sign in (1, -1):
        directions = np.array([[0.0, 1.0], [0.0, sign]])
        votes = together(points, directions, np.array([1.0, -0.2 * sign]))
        np.testing.assert_allclose(votes, [0.4, 0.4 * sign], atol=0.01)


def test_a_floor_takes_the_side_of_the_walls_that_it_goes_over_into():
    """A bent sheet, 20 x 10 points: a tenth of it votes for the wrong side, with all its neighbours."""
    turn, along = np.meshgrid(np.linspace(0, np.pi / 2, 20), np.linspace(0, 1, 10), indexing="ij")
    points = np.stack([np.cos(turn), np.sin(turn), along], axis=-1).reshape(-1, 3)
    outward = points * [1, 1, 0]
    wrong = points[:, 0] < np.cos(0.45 * np.pi)
    assert 0.05 < wrong.mean() < 0.15
    chance = np.where(np.random.default_rng(0).random((len(points), 1)) < 0.5, -1.0, 1.0)
    coarse = CoarseNormals(points, np.where(wrong[:, None], -outward, outward))
    turned, sure = orient(coarse, points, chance * outward)
    np.testing.assert_allclose(turned, outward)
    np.testing.assert_array_equal(sure >= SURE, ~wrong)  # where its coarse normals are at odds with that, it stays open


def two_planes(gap):
    """Two planes (121, 121 points, 0.1 apart from each other in their plane), and whether a point is of the lower."""
    x, y = np.meshgrid(np.linspace(0, 1, 11), np.linspace(0, 1, 11))
    flat = np.stack([x.ravel(), y.ravel(), np.zeros(121)], axis=-1)
    return np.concatenate([flat, flat + np.array([0, 0, gap])]), np.arange(242) < 121


def test_two_sheets_do_not_vote_together():
    """Farther from each other than their points are: each keeps its own votes, strong or weak."""
    points, below = two_planes(0.5)
    votes = together(points, np.tile([0.0, 0.0, 1.0], (242, 1)), np.where(below, -0.5, 1.0))
    np.testing.assert_allclose(votes, np.where(below, -0.5, 1.0), atol=0.02)


@pytest.mark.parametrize("gap", [0.02, 0.05, 0.1])
def test_of_two_sheets_nearer_than_their_points_no_side_is_surely_wrong(gap):
    points, below = two_planes(gap)
    for vote in (-1.0, -0.6, -0.31):
        votes = together(points, np.tile([0.0, 0.0, 1.0], (242, 1)), np.where(below, vote, 1.0))
        sure = probability(np.abs(votes), S.by_votes) >= SURE
        assert not (sure & (votes > 0) & below).any()
        assert not (sure & (votes < 0) & ~below).any()


def bowl(count, thickness):
    """Points of half a thin shell, their outward normals, and the step from each to the other side."""
    unit = np.random.default_rng(0).standard_normal((count, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit[:, 2] = -np.abs(unit[:, 2])
    inner = np.arange(count)[:, None] % 2 == 1
    return (
        np.where(inner, 1 - thickness, 1) * unit,
        np.where(inner, -unit, unit),
        thickness * np.where(inner, unit, -unit),
    )


def test_both_sides_of_a_thin_wall_are_outside_of_it():
    """A bowl much thinner than its points are apart, whose coarse normals are wrong at a tenth of the inner side."""
    points, outward, steps = bowl(8000, 0.01)
    random = np.random.default_rng(1)
    chance = np.where(random.random((8000, 1)) < 0.5, -1.0, 1.0)
    inner = np.arange(8000) % 2 == 1
    wrong = inner & (random.random(8000) < 0.1)
    coarse = CoarseNormals(points, np.where(wrong[:, None], -outward, outward))
    turned, sure = orient(coarse, points, chance * outward, steps)
    assert (sure >= SURE).mean() > 0.75  # open where coarse normals about are wrong
    assert ((turned * outward).sum(axis=1)[sure >= SURE] > 0).mean() > 0.999
    unaware = orient(coarse, points, chance * outward)[1]
    assert (unaware >= SURE).mean() < 0.1  # opposite votes cancel


def test_the_floor_of_a_cup_looks_up_though_its_coarse_normals_look_down():
    """The floor is 0.06 thick. Few points are on its inner side, and these have the coarse normals of the bottom."""
    random = np.random.default_rng(0)
    angle, height = random.uniform(0, 2 * np.pi, 16_000), random.uniform(0, 1.2, 16_000)
    around = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    wall = np.where(np.arange(16_000)[:, None] % 2, 0.5, 0.45) * around + height[:, None] * [0, 0, 1]
    outward = np.where(np.arange(16_000)[:, None] % 2, around, -around)
    wall[::2, 2] = np.maximum(wall[::2, 2], 0.06)
    disc = np.sqrt(random.random((6_600, 1))) * 0.45 * around[:6_600]
    floor = np.arange(6_600) < 600
    disc[floor, 2] = 0.06
    points, down = np.concatenate([wall, disc]), np.tile([0.0, 0.0, -1.0], (6_600, 1))
    true = np.concatenate([outward, np.where(floor[:, None], -down, down)])
    coarse = CoarseNormals(points, np.concatenate([outward, down]))
    turned, sure = orient(coarse, points, np.where(random.random((len(points), 1)) < 0.5, -1.0, 1.0) * true)
    right, of_floor = (turned * true).sum(axis=1) > 0, np.append(np.zeros(16_000, dtype=bool), floor)
    assert right[of_floor].mean() > 0.97
    assert (sure[of_floor] >= SURE).mean() > 0.75  # near the edge, neighbours are on the wall
    assert right[sure >= SURE].mean() > 0.999


def test_two_views_of_one_sheet_are_no_thin_wall():
    """The same points as two views of a solid half ball, put together badly: its coarse normals tell."""
    points, outward, steps = bowl(8000, 0.01)
    radial = points / np.linalg.norm(points, axis=1, keepdims=True)
    turned, sure = orient(CoarseNormals(points, radial), points, outward, steps)
    np.testing.assert_allclose(turned, radial, atol=1e-12)
    assert (sure >= SURE).all()


def test_between_two_bodies_is_a_gap_and_no_wall():
    """Two boxes whose faces are 0.04 apart: nobody looks out of the boxes."""
    random, boxes = np.random.default_rng(0), []
    for side in (-1, 1):
        box = random.uniform(-1, 1, (12_000, 3))
        axis = random.integers(0, 3, 12_000)
        box[np.arange(12_000), axis] = np.where(random.random(12_000) < 0.5, -1.0, 1.0)
        boxes.append(box + np.array([side * 1.02, 0, 0]))
    points = np.concatenate(boxes)
    near = np.isclose(np.abs(points[:, 0]), 0.02)
    across = np.tile([1.0, 0.0, 0.0], (len(points), 1))
    assert near.sum() > 3000
    none = np.zeros_like(points)
    assert (outside_of_walls(Space(points), points, across, none, S)[near] != 0).mean() < 0.01
    steps = np.where(near[:, None], -2 * points * [1, 0, 0], 0)
    assert (outside_of_walls(Space(points), points, across, steps, S) != 0).mean() < 0.01
    plate = points[near & (points[:, 0] > 0) | np.isclose(points[:, 0], 2.02)]  # two faces of a box, 2 apart
    assert not outside_of_walls(Space(plate), plate, across[: len(plate)], none[: len(plate)], S).any()


def test_both_terraces_of_a_cliff_have_one_side():
    """Open ground, 1 600 points high above and 2 400 below, whose coarse normals say up below and down above."""
    x, y = np.meshgrid(np.linspace(-1, 1, 100), np.linspace(0, 1, 40))
    high = (x < -0.2).ravel()
    points = np.stack([x.ravel(), y.ravel(), np.where(high, 0.4, 0.0)], axis=-1)
    wall = np.random.default_rng(0).random((200, 2))  # where points are twice as far apart
    cliff = np.stack([np.full(200, -0.21), wall[:, 0], 0.4 * wall[:, 1]], axis=-1)
    points, high = np.concatenate([points, cliff]), np.append(high, wall[:, 1] > 0.5)
    up = np.concatenate([np.tile([0.0, 0.0, 1.0], (4000, 1)), np.tile([1.0, 0.0, 0.0], (200, 1))])
    chance = np.where(np.random.default_rng(0).random((len(points), 1)) < 0.5, -1.0, 1.0)
    coarse = CoarseNormals(points, np.where(high[:, None], -up, up))
    turned, sure = orient(coarse, points, chance * up)
    np.testing.assert_allclose(turned, up)
    assert (sure >= SURE).mean() > 0.9
