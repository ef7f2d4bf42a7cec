"""Quadrics through the nearest points, against planes, circles and parabolas, and where there is nothing to fit."""

import numpy as np
import pytest

from phase_recon.geometry.neighbours import nearest_on_sheet
from phase_recon.geometry.quadrics import fit_quadrics, fit_quadrics_bilateral

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


def rotation(d):
    """Some orthogonal matrix; its last column is where the last axis goes."""
    return np.linalg.qr(np.random.default_rng(5).standard_normal((d, d)))[0]


def plane(count, d, noise=0.0):
    """Points (count, d) with their first coordinates in [-1, 1] and Gaussian heights."""
    random = np.random.default_rng(0)
    flat = random.uniform(-1, 1, (count, d - 1))
    return np.concatenate([flat, noise * random.standard_normal((count, 1))], axis=1)


def agreeing(points, **settings):
    """The second fit at all points."""
    return fit_quadrics_bilateral(points, np.arange(len(points)), **settings)


def same_lines(normals, expected, **tolerance):
    """Equal unit vectors, up to sign."""
    np.testing.assert_allclose(np.abs(np.sum(normals * expected, axis=1)), 1, **tolerance)


@DIMENSIONS
def test_a_plane_is_found_exactly(d):
    turn = rotation(d)
    points = plane(300, d) @ turn.T + 5
    fit = fit_quadrics(points, points)
    np.testing.assert_allclose(fit.projections, points, atol=1e-14)
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
    fit = fit_quadrics(points, 0.01 * up)
    np.testing.assert_allclose(fit.projections, np.zeros((1, d)), atol=1e-14)
    same_lines(fit.normals, up, atol=1e-12)
    assert fit.residual.max() < 1e-14


def test_points_of_a_circle_stay_and_point_away_from_its_middle():
    """The next term of its height is x⁴/8: at most 5e-8 for neighbours within 0.025 on both sides."""
    angle = 2 * np.pi * np.arange(2000) / 2000
    points = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    fit = fit_quadrics(points, points)
    np.testing.assert_allclose(fit.projections, points, atol=5e-8)
    same_lines(fit.normals, points, atol=1e-10)
    np.testing.assert_allclose(fit.width, 2 * np.sin(8 * np.pi / 2000), rtol=1e-9)  # the 16th: 8 on one side


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
    fit = fit_quadrics(points, points)
    inner = (np.abs(points[:, :-1]) < 0.9).all(axis=1)
    assert np.sqrt(np.mean(fit.residual[inner] ** 2)) == pytest.approx(1e-3, rel=0.1)
    assert fit.projections[inner, -1].std() == pytest.approx(left * 1e-3, rel=0.15)
    same_lines(fit.normals[inner], np.eye(d)[-1], atol=0.05)


def test_trust_is_one_minus_the_ratio_of_the_spreads():
    """Eight corners of a box of sides 2, 2, 1, twice: the squared spreads are 4, 4, 1."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * [2.0, 2.0, 1.0]
    fit = fit_quadrics(np.repeat(corners, 2, axis=0), corners.mean(axis=0, keepdims=True))
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


@pytest.mark.parametrize("how", [agreeing, lambda points: fit_quadrics(points, points)])
@pytest.mark.parametrize("name", POOR)
def test_poor_neighbours_give_numbers(name, how):
    points = POOR[name]
    fit = how(points)
    assert all(np.isfinite(values).all() for values in vars(fit).values())
    np.testing.assert_allclose(np.linalg.norm(fit.normals, axis=1), 1)
    assert (fit.planarity >= 0).all()
    assert (fit.planarity <= 1).all()
    assert (np.linalg.norm(fit.projections - points, axis=1) <= 1).all()


@pytest.mark.parametrize("name", ["one place", "every point 20 times", "a line in space"])
def test_where_no_direction_is_a_normal_none_is_trusted_and_nothing_moves(name):
    points = POOR[name]
    fit = fit_quadrics(points, points)
    assert fit.planarity.max() < 1e-6
    np.testing.assert_allclose(fit.projections, points, atol=1e-12)


def test_parts_are_the_whole():
    points = plane(200, 3, noise=0.01)
    whole = agreeing(points)
    parts = agreeing(points, chunk=64)
    for name, values in vars(whole).items():
        np.testing.assert_allclose(getattr(parts, name), values, rtol=1e-12, atol=1e-15)


@DIMENSIONS
def test_neighbours_that_agree_weigh_the_same(d):
    """On a plane all normals agree, so the second fit is the first."""
    points = plane(300, d) @ rotation(d).T
    first, second = fit_quadrics(points, points), agreeing(points)
    np.testing.assert_allclose(second.projections, first.projections, atol=1e-12)
    same_lines(second.normals, first.normals, atol=1e-12)
    np.testing.assert_allclose(second.width, first.width)


@DIMENSIONS
def test_an_edge_stays_sharp(d):
    """A right angle between two faces, exact: near it, one quadric through both cuts the corner."""
    half = plane(1200 if d == 3 else 200, d)
    half[:, 0] = np.abs(half[:, 0])  # the face z = 0, x > 0; turned about the edge, x = 0, z > 0
    points = np.concatenate([half, half[:, [d - 1, *range(1, d - 1), 0]]])
    first, second = fit_quadrics(points, points), agreeing(points)
    off = [np.abs(fit.projections[:, [0, -1]]).min(axis=1).mean() for fit in (first, second)]
    assert off[1] < 0.7 * off[0]
    cosines = [np.abs(fit.normals[:, [0, -1]]).max(axis=1).mean() for fit in (first, second)]
    assert cosines[1] > cosines[0]


def test_more_neighbours_leave_less_noise():
    """The variance at the middle is as one over their number: over some of the points as over all."""
    points = plane(20_000, 3, noise=1e-3)
    some = np.flatnonzero(np.abs(points[:, :2]).max(axis=1) < 0.8)[::4]
    few, many = (np.std(fit_quadrics_bilateral(points, some, neighbours).projections[:, 2]) for neighbours in (24, 96))
    assert few / many == pytest.approx(2, rel=0.1)
    width = fit_quadrics_bilateral(points, some, 96).width.mean()
    assert width == pytest.approx(np.sqrt(64 / (5000 * np.pi)), rel=0.02)


def test_agreement_is_with_the_nearest_of_the_chosen():
    """As above, an edge, with a quarter of the points chosen: it stays as sharp as with all."""
    half = plane(4800, 3)
    half[:, 0] = np.abs(half[:, 0])
    points = np.concatenate([half, half[:, [2, 1, 0]]])
    some = np.arange(0, len(points), 4)
    whole, part = agreeing(points), fit_quadrics_bilateral(points, some)
    projections = whole.projections[some], part.projections
    whole_off, part_off = (np.abs(places[:, [0, 2]]).min(axis=1).mean() for places in projections)
    assert part_off < 1.3 * whole_off


def test_a_dense_sheet_nearby_does_not_draw_the_points_of_a_sparse_one():
    """A plate whose back is six times as dense: of the 72 nearest points fewer than 24 lie on the front."""
    front = np.stack(np.meshgrid(*[np.arange(-12, 13) * 0.04] * 2), -1).reshape(-1, 2)
    back = np.stack(np.meshgrid(*[np.arange(-30, 31) * 0.016] * 2), -1).reshape(-1, 2)
    points = np.r_[np.c_[front, np.zeros(len(front))], np.c_[back, np.full(len(back), -0.03)]]
    places = points[: len(front)][np.abs(front).max(axis=1) < 0.2]
    opposite = np.tile([0.0, 0.0, -0.03], (len(places), 1))
    distance, index = nearest_on_sheet(points, places, 24, opposite)
    own = np.isfinite(distance)
    assert 6 < own.sum(axis=1).min() <= own.sum(axis=1).max() < 24
    assert (points[index[own]][:, 2] == 0).all()
    assert (points[index[~own]][:, 2] < 0).all()
    fit = fit_quadrics(points, places, 24, opposite)
    np.testing.assert_allclose(fit.projections, places, atol=1e-9)
    np.testing.assert_allclose(np.abs(fit.normals[:, 2]), 1.0, atol=1e-9)
    assert (fit.width <= np.where(own, distance, 0).max(axis=1)).all()
