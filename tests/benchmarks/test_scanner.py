"""What a scanner sees: only what nothing hides, as noisy and as far off as it is told to be, the same for a seed."""

import numpy as np
import pytest

from phase_recon.benchmarks.scanner import (
    KINDS,
    STEEPEST,
    RangeScan,
    cut_away,
    even_directions,
    sampled,
    scanned,
    stereo,
    take,
    with_holes,
)
from phase_recon.benchmarks.shapes import SHAPES
from phase_recon.benchmarks.solids import ball, box, circle, inside_out, moved, together
from phase_recon.surface.surface import Surface

BALL = ball(1.0, 1e-3)
CUBE = box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
EXACT = RangeScan(points=4000, views=6, noise=0.0, misregistration=0.0)


def seed(number=0):
    return np.random.default_rng(number)


def test_uniform_samples_are_on_the_surface_and_noise_is_as_told():
    exact = sampled(CUBE, 6000, 0.0, seed())
    np.testing.assert_allclose(np.abs(exact.points).max(axis=1), 0.5)
    np.testing.assert_allclose((exact.points * exact.normals).sum(axis=1), 0.5)
    share = np.bincount(np.abs(exact.normals).argmax(axis=1)) / 6000
    np.testing.assert_allclose(share, 1 / 3, atol=4 * np.sqrt(2 / 9 / 6000))
    noisy = sampled(BALL, 20_000, 0.01, seed())
    off = np.linalg.norm(noisy.points, axis=1) - 1
    assert off.std() == pytest.approx(0.01, rel=0.05)
    assert exact.sensor_position is None


def test_a_kind_says_how_many_points_a_cloud_has():
    for d, shape, says in ((2, "gear_2d", "250 uniform points, noise"), (3, "knot", "5 000 uniform points, noise")):
        assert KINDS["noisy"].words(d).startswith(says)
        count = int(says.split(" uniform")[0].replace(" ", ""))
        assert len(take(SHAPES[shape].surface(), shape, "noisy", 0).points) == count


def test_a_hidden_body_is_never_seen():
    """A ball in a hollow ball: all points are on the outermost sphere."""
    nested = together(BALL, inside_out(ball(0.8, 1e-3)), ball(0.4, 1e-3))
    cloud = scanned(nested, EXACT, seed())
    assert np.linalg.norm(cloud.points, axis=1).min() > 0.99
    seen = stereo(nested, 500, 8, 0.0, seed())
    assert np.linalg.norm(seen.points, axis=1).min() > 0.99


@pytest.mark.parametrize("name", ["bracket", "still_life", "mug"])
def test_every_line_of_sight_is_empty(name):
    """From just before a point to its sensor, a plain loop finds no triangle in the way (Möller & Trumbore 1997)."""
    surface = SHAPES[name].surface(4e-3)
    cloud = scanned(surface, EXACT, seed())
    some = seed().choice(len(cloud.points), 60, replace=False)
    a, b, c = surface.vertices[surface.cells].transpose(1, 0, 2)
    for point, sensor in zip(cloud.points[some], cloud.sensor_position[some], strict=True):
        ray = sensor - point
        p = np.cross(ray, c - a)
        determinant = ((b - a) * p).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = ((point - a) * p).sum(axis=1) / determinant
            q = np.cross(point - a, b - a)
            v, along = q @ ray / determinant, ((c - a) * q).sum(axis=1) / determinant
        crossed = (u >= 0) & (v >= 0) & (u + v <= 1) & (along > 1e-4)
        assert not crossed.any()


def test_a_scan_is_exact_without_noise_and_faces_its_sensors():
    cloud = scanned(CUBE, EXACT, seed())
    np.testing.assert_allclose(np.abs(cloud.points).max(axis=1), 0.5, atol=1e-6)
    towards = cloud.sensor_position - cloud.points
    cosine = (towards * cloud.normals).sum(axis=1) / np.linalg.norm(towards, axis=1)
    assert cosine.min() > np.cos(np.radians(STEEPEST)) - 1e-6
    assert len(np.unique(cloud.sensor_position, axis=0)) == EXACT.views
    assert len(cloud.points) == pytest.approx(EXACT.points, rel=0.1)


def test_noise_of_a_scan_is_along_its_rays():
    """Of two scans that differ in their noise alone, each point is on the other's ray, off by the noise."""
    exact, noisy = (
        scanned(BALL, RangeScan(points=4000, views=1, noise=noise, misregistration=0), seed()) for noise in (0.0, 0.01)
    )
    rays = exact.points - exact.sensor_position
    distances = np.linalg.norm(rays, axis=1)
    off = noisy.points - exact.points
    along = (off * rays).sum(axis=1) / distances
    np.testing.assert_allclose(np.cross(off, rays), 0, atol=1e-12)
    assert np.std(along / distances) == pytest.approx(0.01 / 3.5, rel=0.1)


def test_density_falls_with_the_angle():
    """On a ball seen from one place, the middle of the visible cap is denser than its rim."""
    cloud = scanned(BALL, RangeScan(points=20_000, views=1, noise=0, misregistration=0), seed())
    towards = cloud.sensor_position[0] / np.linalg.norm(cloud.sensor_position[0])
    height = cloud.points @ towards  # area on a sphere is proportional to height (Archimedes)
    top = ((height > 0.9) & (height < 1.0)).sum()
    low = ((height > 0.5) & (height < 0.6)).sum()
    assert top > 2 * low > 0


def test_a_view_moves_as_a_whole():
    scan = RangeScan(points=3000, views=4, noise=0.0, misregistration=0.01)
    cloud = scanned(BALL, scan, seed())
    shifts = []
    for sensor in np.unique(cloud.sensor_position, axis=0):
        points = cloud.points[(cloud.sensor_position == sensor).all(axis=1)]
        # the centre of the sphere through them, by least squares: |x|² = 2 c·x + r² - |c|²
        solution = np.linalg.lstsq(np.column_stack([2 * points, np.ones(len(points))]), (points**2).sum(axis=1))[0]
        off = np.linalg.norm(points - solution[:3], axis=1) - 1
        assert np.abs(off).max() < 3e-3
        shifts.append(solution[:3])
    assert len(shifts) == 4
    assert 0.002 < np.linalg.norm(shifts, axis=1).mean() < 0.04


def test_missing_views_leave_one_side_unseen():
    whole = scanned(BALL, RangeScan(points=3000, views=20, noise=0, misregistration=0), seed())
    part = scanned(BALL, RangeScan(points=3000, views=20, noise=0, misregistration=0, missing=0.6), seed())
    directions = even_directions(200, seed(1))

    def farthest(cloud):
        return max(np.linalg.norm(cloud.points - d, axis=1).min() for d in directions)

    assert farthest(whole) < 0.2
    assert farthest(part) > 0.3
    assert len(np.unique(part.sensor_position, axis=0)) == 8


def test_outliers_are_on_their_rays():
    cloud = scanned(BALL, RangeScan(points=4000, views=6, noise=0, misregistration=0, outliers=0.05), seed())
    off = np.abs(np.linalg.norm(cloud.points, axis=1) - 1) > 0.01
    assert 0.03 < off.mean() < 0.06


def test_stereo_is_clustered_and_seen():
    cloud = stereo(BALL, 1000, 10, 0.0, seed())
    assert len(cloud.points) == 1000
    towards = cloud.sensor_position - cloud.points
    assert ((towards * cloud.normals).sum(axis=1) > 0).all()
    uniform = sampled(BALL, 1000, 0.0, seed())
    places = even_directions(50, seed(2))
    spread = [np.std([(c.points @ p > 0.95).sum() for p in places]) for c in (cloud, uniform)]
    assert spread[0] > 2 * spread[1]
    noisy = stereo(BALL, 1000, 10, 0.01, seed())
    assert 0.003 < np.std(np.linalg.norm(noisy.points, axis=1)) < 0.012


def test_holes_and_cuts_take_away_what_they_should():
    cloud = sampled(BALL, 5000, 0.0, seed())
    holed = with_holes(cloud, 3, 0.2, seed())
    assert 5000 - 3 * 5000 * 0.2**2 / 4 * 1.3 < len(holed.points) < 5000  # a cap of chord c is c² / 4 of the sphere
    rest = cut_away(cloud, 1 / 3, seed())
    assert len(rest.points) == 3333
    kept = {tuple(p) for p in rest.points.tolist()}
    gone = np.array([p for p in cloud.points.tolist() if tuple(p) not in kept])
    axis = gone.mean(axis=0) / np.linalg.norm(gone.mean(axis=0))
    assert (gone @ axis).min() > 0.25  # a cap of a third of the sphere begins at height 1/3


def test_curves_are_sampled_too():
    line = circle(1.0, 1e-4)
    index = np.arange(len(line))
    curve = Surface(line, np.stack([index, np.roll(index, -1)], axis=1))
    cloud = take(curve, "ring", "noisy", 0)
    assert cloud.points.shape == (250, 2)
    assert 0.003 < np.std(np.linalg.norm(cloud.points, axis=1)) < 0.007


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_one_cloud(kind):
    surface = moved(CUBE, 2 / np.sqrt(3) * np.eye(3), (0, 0, 0))
    first, again, other = (take(surface, "cube", kind, number) for number in (3, 3, 4))
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_array_equal(first.normals, again.normals)
    assert first.points.shape != other.points.shape or (first.points != other.points).any()
    np.testing.assert_allclose(np.linalg.norm(first.normals, axis=1), 1)
    assert (first.sensor_position is not None) == KINDS[kind].instrument


def test_directions_are_even():
    directions = even_directions(20, seed())
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    cosines = directions @ directions.T - 2 * np.eye(20)
    assert np.degrees(np.arccos(cosines.max())) > 25


def test_the_lines_of_a_view_are_as_far_apart_as_asked():
    """A wall before one sensor: the points of a line have one height in its image, and a ninth of the step between."""
    wall = box((-1.0, -1.0, -0.01), (1.0, 1.0, 0.01))
    cloud = scanned(wall, RangeScan(points=20_000, views=1, noise=0.0, misregistration=0.0, lines=9.0), seed(2))
    assert cloud.sensor_position is not None
    sensor = cloud.sensor_position[0]
    rays = cloud.points - sensor
    forward = -sensor / np.linalg.norm(sensor)
    right = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])
    right /= np.linalg.norm(right)
    x, y = (rays @ axis / (rays @ forward) for axis in (right, np.cross(forward, right)))
    across, along = (np.unique(np.round(of, 5)) for of in (y, x))
    assert np.median(np.diff(across)) == pytest.approx(9 * np.median(np.diff(along)), rel=0.03)
