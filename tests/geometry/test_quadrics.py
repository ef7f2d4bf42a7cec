"""Quadrics through the nearest points, against planes, circles and parabolas, and where there is nothing to fit."""

import numpy as np
import pytest

from phase_recon.geometry import quadrics
from phase_recon.geometry.quadrics import agreeing_fit, local_fit, strays

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


def rotation(d):
    """Some orthogonal matrix; its last column is where the last axis goes."""
    return np.linalg.qr(np.random.default_rng(5).standard_normal((d, d)))[0]


def plane(count, d, noise=0.0):
    """Points (count, d) with their first coordinates in [-1, 1] and Gaussian heights."""
    random = np.random.default_rng(0)
    flat = random.uniform(-1, 1, (count, d - 1))
    return np.concatenate([flat, noise * random.standard_normal((count, 1))], axis=1)


def agreeing(points):
    """The second fit at all points."""
    return agreeing_fit(points, np.arange(len(points)))


def same_lines(normals, expected, **tolerance):
    """Equal unit vectors, up to sign."""
    np.testing.assert_allclose(np.abs(np.sum(normals * expected, axis=1)), 1, **tolerance)


@DIMENSIONS
def test_a_plane_is_found_exactly(d):
    turn = rotation(d)
    points = plane(300, d) @ turn.T + 5
    fit = local_fit(points, points)
    np.testing.assert_allclose(fit.feet, points, atol=1e-14)
    same_lines(fit.normals, turn[:, -1], atol=1e-12)
    np.testing.assert_allclose(fit.planarity, 1, atol=1e-7)
    assert fit.residual.max() < 1e-14


@DIMENSIONS
def test_a_place_above_a_parabola_comes_down_onto_it(d):
    """Points that lie evenly about the axis: the fit's own axes are then those of y = ½x² + 0.3z² (½x² in 2D)."""
    if d == 2:
        x = (np.arange(-12, 12) + 0.5) / 40
        points = np.stack([x, 0.5 * x**2], axis=-1)
    else:
        turn = 2 * np.pi * np.arange(8) / 8
        x, z = (np.concatenate([r * f(turn) for r in (0.1, 0.15, 0.2)]) for f in (np.cos, np.sin))
        points = np.stack([x, z, 0.5 * x**2 + 0.3 * z**2], axis=-1)
    up = np.eye(d)[-1:]
    fit = local_fit(points, 0.01 * up)
    np.testing.assert_allclose(fit.feet, np.zeros((1, d)), atol=1e-14)
    same_lines(fit.normals, up, atol=1e-12)
    assert fit.residual.max() < 1e-14


def test_points_of_a_circle_stay_and_point_away_from_its_middle():
    """The next term of its height is x⁴/8: at most 5e-8 for neighbours within 0.025 on both sides."""
    angle = 2 * np.pi * np.arange(2000) / 2000
    points = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    fit = local_fit(points, points)
    np.testing.assert_allclose(fit.feet, points, atol=5e-8)
    same_lines(fit.normals, points, atol=1e-10)
    np.testing.assert_allclose(fit.reach, 2 * np.sin(8 * np.pi / 2000), rtol=1e-9)  # the 16th: 8 on one side


@DIMENSIONS
def test_noise_of_a_plane_is_found_and_most_of_it_removed(d):
    """The variance that is left, from integrals over an interval (a disc) in place of its 24 points.

    The height at the middle is the sum of c(r) = w(r) (p + q r²) times the noise, with p and q such that constants are
    kept and r² gives nothing.
    """
    r = (np.arange(1000) + 0.5) / 1000
    measure = (1 if d == 2 else 2 * r) / 1000
    weight = np.exp(-2 * r**2)
    moment = [(measure * weight * r**power).sum() for power in (0, 2, 4)]
    p, q = np.linalg.solve([[moment[0], moment[1]], [moment[1], moment[2]]], [1, 0])
    left = np.sqrt((measure * (weight * (p + q * r**2)) ** 2).sum() / 24)
    points = plane(300 if d == 2 else 6000, d, noise=1e-3)
    fit = local_fit(points, points)
    inner = (np.abs(points[:, :-1]) < 0.9).all(axis=1)
    assert np.sqrt(np.mean(fit.residual[inner] ** 2)) == pytest.approx(1e-3, rel=0.1)
    assert fit.feet[inner, -1].std() == pytest.approx(left * 1e-3, rel=0.15)
    same_lines(fit.normals[inner], np.eye(d)[-1], atol=0.05)


def test_trust_is_one_minus_the_ratio_of_the_spreads():
    """Eight corners of a box of sides 2, 2, 1, twice: the squared spreads are 4, 4, 1."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * [2.0, 2.0, 1.0]
    fit = local_fit(np.repeat(corners, 2, axis=0), corners.mean(axis=0, keepdims=True))
    assert fit.planarity.tolist() == pytest.approx([1 - 1 / 4])


RANDOM = np.random.default_rng(1)
POOR = {
    "ten points": RANDOM.random((10, 3)),
    "ten in the plane": RANDOM.random((10, 2)),
    "one place": np.ones((20, 3)),
    "every point 20 times": np.repeat(RANDOM.random((10, 3)), 20, axis=0),
    "every point 20 times in the plane": np.repeat(RANDOM.random((10, 2)), 20, axis=0),
    "every point 3 times": np.repeat(RANDOM.random((30, 3)), 3, axis=0),
    "a line in space": np.linspace(0, 1, 50)[:, None] * [1, 2, 3],
    "a lattice": np.array(list(np.ndindex(4, 4, 4)), dtype=float),
}


@pytest.mark.parametrize("how", [agreeing, lambda points: local_fit(points, points)])
@pytest.mark.parametrize("name", POOR)
def test_poor_neighbours_give_numbers(name, how):
    points = POOR[name]
    fit = how(points)
    assert all(np.isfinite(values).all() for values in vars(fit).values())
    np.testing.assert_allclose(np.linalg.norm(fit.normals, axis=1), 1)
    assert (fit.planarity >= 0).all()
    assert (fit.planarity <= 1).all()
    assert (np.linalg.norm(fit.feet - points, axis=1) <= 1).all()


@pytest.mark.parametrize("name", ["one place", "every point 20 times", "a line in space"])
def test_where_no_direction_is_a_normal_none_is_trusted_and_nothing_moves(name):
    points = POOR[name]
    fit = local_fit(points, points)
    assert fit.planarity.max() < 1e-6
    np.testing.assert_allclose(fit.feet, points, atol=1e-12)


def test_parts_are_the_whole(monkeypatch):
    points = plane(200, 3, noise=0.01)
    whole = agreeing(points)
    monkeypatch.setattr(quadrics, "CHUNK", 64)
    parts = agreeing(points)
    for name, values in vars(whole).items():
        np.testing.assert_allclose(getattr(parts, name), values, rtol=1e-12, atol=1e-15)


@DIMENSIONS
def test_neighbours_that_agree_weigh_the_same(d):
    """On a plane all normals agree, so the second fit is the first."""
    points = plane(300, d) @ rotation(d).T
    first, second = local_fit(points, points), agreeing(points)
    np.testing.assert_allclose(second.feet, first.feet, atol=1e-12)
    same_lines(second.normals, first.normals, atol=1e-12)
    np.testing.assert_allclose(second.reach, first.reach)


@DIMENSIONS
def test_an_edge_stays_sharp(d):
    """A right angle between two faces, exact: near it, one quadric through both cuts the corner."""
    half = plane(1200 if d == 3 else 200, d)
    half[:, 0] = np.abs(half[:, 0])  # the face z = 0, x > 0; turned about the edge, x = 0, z > 0
    points = np.concatenate([half, half[:, [d - 1, *range(1, d - 1), 0]]])
    first, second = local_fit(points, points), agreeing(points)
    off = [np.abs(fit.feet[:, [0, -1]]).min(axis=1).mean() for fit in (first, second)]
    assert off[1] < 0.7 * off[0]
    cosines = [np.abs(fit.normals[:, [0, -1]]).max(axis=1).mean() for fit in (first, second)]
    assert cosines[1] > cosines[0]


def test_more_neighbours_leave_less_noise():
    """The variance at the middle is as one over their number: over some of the points as over all."""
    points = plane(20_000, 3, noise=1e-3)
    some = np.flatnonzero(np.abs(points[:, :2]).max(axis=1) < 0.8)[::4]
    few, many = (np.std(agreeing_fit(points, some, neighbours).feet[:, 2]) for neighbours in (24, 96))
    assert few / many == pytest.approx(2, rel=0.1)
    assert agreeing_fit(points, some, 96).reach.mean() == pytest.approx(np.sqrt(64 / (5000 * np.pi)), rel=0.02)


def test_agreement_is_with_the_nearest_of_the_chosen():
    """As above, an edge, with a quarter of the points chosen: it stays as sharp as with all."""
    half = plane(4800, 3)
    half[:, 0] = np.abs(half[:, 0])
    points = np.concatenate([half, half[:, [2, 1, 0]]])
    some = np.arange(0, len(points), 4)
    whole, part = agreeing(points), agreeing_fit(points, some)
    whole_off, part_off = (np.abs(feet[:, [0, 2]]).min(axis=1).mean() for feet in (whole.feet[some], part.feet))
    assert part_off < 1.3 * whole_off


@pytest.mark.parametrize("d", [2, 3])
def test_points_far_from_all_others_are_strays(d):
    generator = np.random.default_rng(0)
    ball = generator.standard_normal((600, d))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    alone = np.zeros((3, d))
    alone[:, 0] = [0.0, 4.0, 4.1]  # one in the middle of the ball, and a pair
    stray = strays(np.concatenate([ball, alone]))
    assert stray[600:].all()
    assert not stray[:600].any()


def test_where_a_scan_is_thin_no_point_is_a_stray():
    generator = np.random.default_rng(1)
    dense = generator.uniform(0, 1, (4000, 2))
    sparse = generator.uniform([1, 0], [2, 1], (200, 2))  # a twentieth of the density, with an edge between
    plane = np.concatenate([dense, sparse])
    assert strays(np.insert(plane, 2, 0.0, axis=1))[4000:].mean() < 0.05


def test_in_a_small_cloud_no_point_is_a_stray():
    assert not strays(np.insert(np.random.default_rng(2).standard_normal((98, 3)), 0, 1000.0, axis=0)).any()


def test_points_that_come_many_times_are_no_strays_and_strays_may_come_so():
    ball = np.random.default_rng(4).standard_normal((300, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    points = np.concatenate([np.repeat(ball[:150], 6, axis=0), ball[150:], np.full((7, 3), 5.0)])
    assert np.flatnonzero(strays(points)).tolist() == list(range(1050, 1057))


def test_where_many_would_be_strays_none_are():
    box = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    bore = 0.1 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    up = np.array([0.0, 0.0, 1.0])
    assert not strays(np.concatenate([box, bore + up, bore - up])).any()
