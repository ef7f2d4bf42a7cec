"""How points lie: on surfaces of every kind, on lines far apart, through a volume."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from phase_recon.benchmarks.scanner import take
from phase_recon.benchmarks.shapes import SHAPES
from phase_recon.geometry.arrangement import ArrangementSettings, arrangement


def tube(rings, per_ring, noise=0.0):
    """A tube of radius 1 and length 10, seen as rings."""
    along, angle = np.meshgrid(np.linspace(0, 10, rings), np.arange(per_ring) * 2 * np.pi / per_ring, indexing="ij")
    points = np.stack([np.cos(angle), np.sin(angle), along], axis=-1).reshape(-1, 3)
    return points + np.random.default_rng(0).normal(0, noise, points.shape)


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_lines_are_thinned_until_neighbourhoods_are_planes(noise):
    points = tube(25, 600, noise)  # 0.01 along the rings, 0.42 across
    kind, left = arrangement(points)
    assert kind == "lines"
    between = np.median(cKDTree(points[left]).query(points[left], [2])[0])
    assert 0.42 / 16 < between < 0.42
    assert set(np.round(points[left, 2] * 24 / 10)) == set(range(25))  # of every ring


def test_lines_that_are_near_each_other_are_a_surface():
    assert arrangement(tube(250, 600))[0] == "surface"  # 0.01 along, 0.04 across


def crossing(step):
    """Circles on the unit sphere, 0.1 apart in each of five directions, with points so far apart along them."""
    rng, circles = np.random.default_rng(0), []
    for _ in range(5):
        frame = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        for z in np.arange(-0.95, 1, 0.1):
            radius = np.sqrt(1 - z**2)
            t = np.arange(0, 2 * np.pi, step / radius) + rng.uniform(0, 1)
            circles.append(np.column_stack([radius * np.cos(t), radius * np.sin(t), np.full(len(t), z)]) @ frame)
    return np.concatenate(circles)


def test_lines_that_cross_are_lines_if_they_are_far_apart():
    """Their points are a twentieth as far apart as the lines, and a quarter."""
    points = crossing(0.005)
    kind, left = arrangement(points)
    assert kind == "lines"
    assert len(points) / 20 < len(left) < len(points) / 2
    assert arrangement(crossing(0.025))[0] == "surface"


def test_of_a_volume_the_outside_is_left():
    ticks = np.arange(-12, 13.0)
    points = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points[np.linalg.norm(points, axis=1) <= 12]
    kind, left = arrangement(points)
    assert kind == "volume"
    radius = np.linalg.norm(points, axis=1)
    outside = np.zeros(len(points), dtype=bool)
    outside[left] = True
    assert outside[radius > 11.5].all()
    assert not outside[radius < 10.5].any()


def test_of_a_volume_of_random_points_the_outside_is_left():
    points = np.random.default_rng(0).uniform(-1, 1, (30_000, 3))
    points = points[np.linalg.norm(points, axis=1) < 1]
    kind, left = arrangement(points)
    assert kind == "volume"
    radius = np.linalg.norm(points, axis=1)
    outside = np.zeros(len(points), dtype=bool)
    outside[left] = True
    assert outside[radius > 0.98].mean() > 0.95
    assert outside[radius < 0.9].mean() < 0.02


@pytest.mark.parametrize("name", ["cloth", "heat_sink", "chain", "perforated_sheet", "urchin", "spring", "lattice"])
@pytest.mark.parametrize("kind", ["noisy", "coarse"])
def test_points_of_surfaces_are_on_a_surface(name, kind):
    shape = SHAPES[name]
    points = take(shape.surface(0.05), name, kind, 0).points
    found, left = arrangement(points)
    assert found == "surface"
    assert len(left) == len(points)


@pytest.mark.parametrize("noise", [0.1, 0.15, 0.3])
def test_a_surface_that_noise_blurs_is_no_volume(noise):
    generator = np.random.default_rng(0)
    ball = generator.standard_normal((5000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    assert arrangement(ball + generator.normal(0, noise, ball.shape))[0] == "surface"


def plate_with_noise(noise: float, count: int = 100_000) -> np.ndarray:
    """Points on both sides of a plate, 0.04 thick, with noise: they fill it."""
    generator = np.random.default_rng(0)
    points = generator.uniform(-1, 1, (count, 3)) * [1.0, 0.5, 0.0]
    points[:, 2] = np.where(generator.random(count) < 0.5, -0.02, 0.02)
    return points + generator.normal(0, noise, points.shape)


def middles_of_cells(points: np.ndarray, side: float) -> np.ndarray:
    """The mean of the points in each cell of a grid, as voxel filters give it."""
    cells, of = np.unique(np.floor(points / side), axis=0, return_inverse=True)
    sums = np.zeros_like(cells)
    np.add.at(sums, of.ravel(), points)
    return sums / np.bincount(of.ravel())[:, None]


def test_a_thin_body_that_noise_fills_is_no_volume():
    assert arrangement(plate_with_noise(0.01))[0] == "surface"


@pytest.mark.parametrize("side", [0.01, 0.02, 0.03])
def test_a_noisy_surface_that_was_thinned_by_voxels_is_no_volume(side):
    """Its points are then as even as those of a volume, but in a layer a few of them thick."""
    generator = np.random.default_rng(0)
    ball = generator.standard_normal((100_000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    points = middles_of_cells(ball + generator.normal(0, 0.02, ball.shape), side)
    assert arrangement(points)[0] == "surface"


def test_voxels_of_a_thin_body_are_a_volume():
    """Eight voxels thick, so that few are far from its outside: a lattice is believed all the same."""
    ticks = [np.arange(0.0, n) for n in (60, 40, 8)]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    assert arrangement(points)[0] == "volume"


def test_few_points_and_those_of_a_plane_are_left_as_they_are():
    few = np.random.default_rng(0).uniform(-1, 1, (ArrangementSettings().counts[-1] - 1, 3))
    assert arrangement(few)[0] == "surface"
    assert arrangement(np.random.default_rng(0).uniform(-1, 1, (3000, 2)))[0] == "surface"
