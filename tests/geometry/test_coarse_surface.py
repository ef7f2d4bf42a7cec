"""The start: shapes whose inside is known, and openings that go on as their rims do."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from conftest import box_with_hollow
from phase_recon.geometry.coarse_surface import (
    CoarseSurface,
    CoarseSurfaceSettings,
    _areas_of_crossings,
    _crossings,
    _on_nodes,
)
from phase_recon.geometry.points import Domain, Normalisation
from phase_recon.geometry.winding import WindingSettings, coarse_normals

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


COARSE = CoarseSurfaceSettings(nodes=32, centres=400, missed=100)  # tenths of a second
OFFSET, THIN_OFFSET = COARSE.offset, COARSE.thin_offset


def box(lower, upper):
    return Domain(Normalisation(np.zeros(len(lower)), 1.0), lower, upper)


def sphere(count, d=3, seed=0):
    points = np.random.default_rng(seed).standard_normal((count, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def begun(points, normals, noise=0.0, sure=None, empty=None, **settings):
    d = points.shape[1]
    sure = np.ones(len(points), dtype=bool) if sure is None else sure
    domain = box(np.full(d, -1.5), np.full(d, 1.5))
    return CoarseSurface(points, normals, sure, domain, noise, empty, replace(COARSE, **settings))


@DIMENSIONS
def test_a_sphere_gives_its_signed_distance(d):
    result = begun(sphere(2000, d), sphere(2000, d))
    assert result.places.shape == (len(result.distances), d)
    np.testing.assert_allclose(result.distances, np.linalg.norm(result.places, axis=1) - 1, atol=0.06)
    assert (result.distances == 0).sum() == 2000
    assert len(result.filling) == 0
    np.testing.assert_allclose(np.linalg.norm(result.surface, axis=1), 1, atol=0.01)
    cell = 3 / (COARSE.nodes - 1)  # of the box from -1.5 to 1.5
    assert cKDTree(result.surface).query(sphere(500, d, seed=3))[0].max() < cell * np.sqrt(d)
    feet, normals = result.project(1.01 * sphere(50, d, seed=1))
    np.testing.assert_allclose(np.linalg.norm(feet, axis=1), 1, atol=2e-3)
    assert (normals * sphere(50, d, seed=1)).sum(axis=1).min() > 0.99


def test_a_small_tip_is_not_cut_off():
    """Of 400 even centres on the sphere two or so fall on the tip of radius 0.04 before it; 60 points show it."""
    tip = sphere(60, seed=2)
    points = np.concatenate([sphere(3000), 0.04 * tip + [1.12, 0, 0]])
    result = begun(points, np.concatenate([sphere(3000), tip]))
    feet, normals = result.project(points[3000:])
    assert np.linalg.norm(feet - points[3000:], axis=1).mean() < 0.004
    assert (normals * tip).sum(axis=1).mean() > 0.9


def test_the_nodes_of_a_grid_are_on_the_side_that_the_function_says():
    """A ball nobody scanned, and a scanned plate thinner than the step between the nodes that are always asked."""
    ticks = [np.linspace(-1, 1, 41)] * 3
    nodes = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1)
    across, middle = np.array([0.5, 0.5, 0.03]), np.array([0, 0, 0.8])
    asked = []

    def distance(x):
        asked.append(len(x))
        plate = np.max(np.abs(x - middle) - across, axis=-1)
        return np.minimum(np.linalg.norm(x - [0, 0, -0.3], axis=-1) - 0.5, plate)

    plate = np.random.default_rng(0).uniform(-across, across, (5000, 3)) + middle
    values = _on_nodes(distance, cKDTree(plate), ticks, nodes)
    assert sum(asked) < 0.5 * values.size
    exact = distance(nodes)
    assert ((values < 0) == (exact < 0)).all()
    near = np.abs(exact) < 0.05
    np.testing.assert_array_equal(values[near], exact[near])


def test_the_hole_of_a_torus_is_outside():
    a, b = np.random.default_rng(0).random((2, 3000)) * 2 * np.pi
    ring = 0.7 + 0.25 * np.cos(b)
    normals = np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=-1)
    result = begun(np.stack([ring * np.cos(a), ring * np.sin(a), 0.25 * np.sin(b)], axis=-1), normals)
    around = np.linalg.norm(result.places[:, :2], axis=1)
    exact = np.hypot(around - 0.7, result.places[:, 2]) - 0.25
    np.testing.assert_allclose(result.distances, exact, atol=0.06)
    far = np.abs(exact) > 0.06
    assert (np.sign(result.distances) == np.sign(exact))[far].all()
    assert len(result.filling) == 0


@DIMENSIONS
def test_the_missing_cap_of_a_sphere_bulges(d):
    """Cut at a height of 0.93: the flat lid lies there, the sphere goes on to 1; the hole is 0.37 wide."""
    points = sphere(6000, d)
    points = points[points[:, -1] < 0.93]
    assert not len(begun(points, points, largest=0.3).filling)
    result = begun(points, points, largest=0.45)
    assert len(result.filling) > 1
    assert 0.95 < result.filling[:, -1].max() < 1.05
    assert np.linalg.norm(result.filling, axis=1).min() > 0.95
    np.testing.assert_allclose(np.linalg.norm(result.filling_normals, axis=1), 1)
    assert (result.filling_normals * result.filling).sum(axis=1).min() > 0.9


@DIMENSIONS
def test_no_hole_is_closed_far_beyond_the_hull_of_the_cloud(d):
    """Of a sphere cut at 0.4 the surface bulges to 1, but nothing that was measured says so."""
    points = sphere(3000, d)
    points = points[points[:, -1] < 0.4]
    result = begun(points, points, largest=np.inf)
    assert result.surface[:, -1].max() > 0.6
    assert not len(result.filling)


@DIMENSIONS
def test_a_hole_whose_rim_is_not_sure_stays_open(d):
    """The cap again, with sides sure everywhere but next to the cut."""
    points = sphere(6000, d)
    points = points[points[:, -1] < 0.9]
    result = begun(points, points, sure=points[:, -1] < 0.6, largest=np.inf)
    assert not len(result.filling)


@DIMENSIONS
def test_a_deep_hollow_is_open_though_its_walls_were_not_scanned(d):
    """Of a box the outer walls, and a floor that one sees through a mouth of radius 0.4, 1.5 above it.

    Places are told, every fifth along the line from the floor to the mouth.
    """
    points, floor = box_with_hollow(8000, d)
    points[floor, -1] = -0.5
    normals = np.where(np.abs(points) == 1, np.sign(points), 0.0)
    normals[floor] = np.eye(d)[-1]
    between = np.linspace(-0.4, 0.9, 14)[:, None] * np.eye(d)[-1]
    result = begun(points, normals, 0.001, empty=between[::5])
    assert (result._function(between) > 0).all()
    unseen = begun(points, normals, 0.001)
    assert (unseen._function(between) < 0).any()


def test_what_would_be_nearer_to_another_sheet_is_less_far_off():
    """Two sheets 0.02 apart: what is off one by 0.02 towards the other would be on it, and is off by 0.004."""
    ticks = np.linspace(-0.7, 0.7, 71)
    sheet = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    points = np.concatenate([np.column_stack([sheet, np.full(len(sheet), height)]) for height in (0.0, 0.02)])
    normals = np.repeat([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]], len(sheet), axis=0)
    result = begun(points, normals)
    assert not (result.distances == -OFFSET).any()
    inside = result.places[result.distances == -THIN_OFFSET, 2]
    assert (np.isclose(inside, 0.004) | np.isclose(inside, 0.016)).all()
    assert len(inside) == len(points)
    outside = result.places[result.distances == OFFSET, 2]
    assert (np.isclose(outside, -0.02) | np.isclose(outside, 0.04)).all()
    assert len(outside) == len(points)


def test_points_of_unsure_sides_are_no_opening_and_no_centres():
    """The upper half of a sphere, whose normals are wrong and known to be unsure."""
    points = sphere(3000)
    above = points[:, 2] > 0
    normals = np.where(above[:, None], -points, points)
    result = begun(points, normals, sure=~above, largest=np.inf)
    assert len(result.filling) == 0 or np.linalg.norm(result.filling, axis=1).max() < 0.95
    assert (result.distances[np.linalg.norm(result.places, axis=1) < 0.3] < 0).mean() > 0.5
    assert (result.distances[np.linalg.norm(result.places, axis=1) > 1.3] > 0).all()


def test_equal_points_and_noise_leave_it_solvable():
    points = np.repeat(sphere(60), 20, axis=0)
    for noise in (0.0, 0.05):
        assert np.isfinite(begun(points, points, noise).distances).all()


def test_smoothing_by_the_noise_brings_the_feet_nearer_to_the_sphere():
    points = sphere(400)
    noisy = (1 + 0.01 * np.random.default_rng(1).standard_normal((400, 1))) * points
    error = {}
    for noise in (0.0, 0.02):
        feet, _ = begun(noisy, points, noise).project(noisy)
        error[noise] = np.abs(np.linalg.norm(feet, axis=1) - 1).mean()
    assert error[0.02] < 0.85 * error[0.0]


ENCLOSES_NOTHING = {
    "ten points": sphere(10),
    "half a sphere": np.array([point for point in sphere(1000) if point[2] > 0.2]),
    "a sheet": np.random.default_rng(0).random((500, 3)) * [1, 1, 0],
    "a straight line": np.linspace(-1, 1, 200)[:, None] * [1, 0],
    "one place": np.zeros((10, 3)),
    "one point": np.zeros((1, 2)),
}


@pytest.mark.parametrize("name", ENCLOSES_NOTHING)
def test_what_encloses_nothing_gives_numbers_or_nothing(name):
    points = ENCLOSES_NOTHING[name]
    lower, upper = points.min(axis=0) - 0.5, points.max(axis=0) + 0.5
    sides = coarse_normals(points, settings=WindingSettings(nodes=32))
    if name.startswith("one"):
        assert sides is None
    else:
        assert sides is not None
        sure = sides.normals.any(axis=1)
        result = CoarseSurface(sides.points, sides.normals, sure, box(lower, upper), 0.0, settings=COARSE)
        for numbers in (sides.normals, result.distances, result.filling, *result.project(points)):
            assert np.isfinite(numbers).all()


@DIMENSIONS
def test_crossings_stand_for_the_whole_surface(d):
    """A sphere of radius 0.8 has the area 4π 0.64, a circle the length 2π 0.8."""
    cell = 0.04
    ticks = [np.arange(-1.1, 1.1, cell)] * d
    nodes = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1)
    (crossings,) = _crossings(np.linalg.norm(nodes, axis=-1) - 0.8, nodes)
    normals = crossings / np.linalg.norm(crossings, axis=1, keepdims=True)
    whole = 2 * np.pi * 0.8 if d == 2 else 4 * np.pi * 0.64
    assert _areas_of_crossings(normals, cell).sum() == pytest.approx(whole, rel=0.01)
