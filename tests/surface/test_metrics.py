"""Distances and topology of shapes whose answers are known by hand."""

import math

import igl
import numpy as np
import pytest
import torch
import trimesh
from scipy import integrate

from phase_recon.surface.extract import extract_surface
from phase_recon.surface.metrics import (
    _winding_number_2d,
    compare_surfaces,
    compare_to_points,
    contains,
    distance_to_surface,
    eikonal_error,
    sample_surface,
    signed_distance,
)
from phase_recon.surface.surface import Surface, transform
from phase_recon.utils.errors import UserError


def ball(radius, d=3, resolution=60):
    return extract_surface(
        lambda x: torch.linalg.vector_norm(x, dim=-1) - radius, [-1.3] * d, [1.3] * d, resolution
    )


def cube(side=1.0, centre=(0.0, 0.0, 0.0)):
    mesh = trimesh.creation.box(extents=[side] * 3)
    return Surface(np.asarray(mesh.vertices) + centre, np.asarray(mesh.faces, dtype=np.int64))


def square(side=1.0, centre=(0.0, 0.0)):
    corners = side * (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) - 0.5) + centre
    return Surface(corners, np.array([[0, 1], [1, 2], [2, 3], [3, 0]]))


@pytest.mark.parametrize(("d", "tolerance"), [(2, 1e-3), (3, 2e-3)])
def test_concentric_balls(d, tolerance):
    result = compare_surfaces(ball(1.1, d), ball(1.0, d), samples=20_000)
    for key in ("d_C", "d_H", "mean_rec_to_target", "max_rec_to_target", "mean_target_to_rec"):
        assert result[key] == pytest.approx(0.1, abs=tolerance), key
    assert result["normal_consistency"] == pytest.approx(1, abs=2e-3)
    assert result["iou"] == pytest.approx(1.1**-d, abs=4 * 0.5 / math.sqrt(20_000))
    unit = 2 * math.pi if d == 2 else 4 * math.pi
    assert result["target_measure"] == pytest.approx(unit, rel=5e-3)
    assert result["reconstruction_measure"] == pytest.approx(unit * 1.1 ** (d - 1), rel=5e-3)
    assert result["target_euler_characteristic"] == (0 if d == 2 else 2)
    assert ("target_genus" in result) == (d == 3)


@pytest.mark.parametrize("surface", [ball(1.0), ball(1.0, d=2)], ids=["sphere", "circle"])
def test_identical_surfaces_have_no_floor(surface):
    result = compare_surfaces(surface, surface, samples=5000)
    assert result["d_H"] < 1e-12
    assert result["d_C"] < 1e-12
    assert (result["f_score"], result["iou"]) == (1, 1)
    assert result["normal_consistency"] == pytest.approx(1, abs=1e-3)  # samples on shared edges aside


def test_translated_cube():
    """Moved by 0.2 along x, of area 6: one face 0.2 outside, one 0.2 inside, four strips that stick out."""
    result = compare_surfaces(cube(centre=(0.2, 0, 0)), cube(), samples=200_000)
    # a point t within the rim of the inner face is min(t, 0.2) away; the strips' distances grow from 0 to 0.2
    inner = integrate.quad(lambda t: t * 4 * (1 - 2 * t), 0, 0.2)[0] + 0.2 * 0.6**2
    expected = (0.2 + inner + 4 * 0.2 * 0.1) / 6
    assert result["mean_rec_to_target"] == pytest.approx(expected, rel=0.01)
    assert result["mean_target_to_rec"] == pytest.approx(expected, rel=0.01)
    assert result["d_H"] == pytest.approx(0.2, abs=1e-12)
    assert result["iou"] == pytest.approx(0.8 / 1.2, abs=5e-3)


@pytest.mark.parametrize(("make", "d"), [(square, 2), (cube, 3)])
def test_iou_of_nested_boxes(make, d):
    result = compare_surfaces(make(0.5), make(1.0), samples=40_000)
    assert result["iou"] == pytest.approx(0.5**d, abs=4 * 0.5 / math.sqrt(40_000))


def test_precision_recall_and_f_score():
    """Half of the reconstruction is the target, half is far away: precision 1/2, recall 1."""
    target, far = cube(), cube(centre=(5.0, 0.0, 0.0))
    both = Surface(
        np.concatenate((target.vertices, far.vertices)), np.concatenate((target.cells, far.cells + 8))
    )
    result = compare_surfaces(both, target, samples=20_000)
    assert result["threshold"] == pytest.approx(0.01 * math.sqrt(3))
    assert result["precision"] == pytest.approx(0.5, abs=0.015)
    assert result["recall"] == 1
    assert result["f_score"] == pytest.approx(2 * result["precision"] / (1 + result["precision"]))
    assert result["reconstruction_components"] == 2
    assert compare_surfaces(both, target, samples=100, threshold=6.0)["precision"] == 1


def test_topology_of_a_torus_and_an_open_mesh():
    mesh = trimesh.creation.torus(0.6, 0.2)
    torus = Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces, dtype=np.int64))
    opened = Surface(torus.vertices, torus.cells[1:])
    result = compare_surfaces(opened, torus, samples=1000)
    assert result["target_genus"] == 1
    assert result["target_euler_characteristic"] == 0
    assert result["target_closed"] == 1
    assert result["reconstruction_closed"] == 0
    assert "reconstruction_genus" not in result
    assert "iou" not in result


def test_normal_consistency_of_perpendicular_planes():
    flat = Surface(np.array([[-1.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    upright = Surface(np.array([[-1.0, 0, 0], [1, 0, 0], [0, 0, 1]]), np.array([[0, 1, 2]]))
    assert compare_surfaces(flat, upright, samples=500)["normal_consistency"] < 1e-12


def brute_force(point, triangle):
    """Distance to a triangle by its plane where the foot lies inside, else by its three edges."""
    a, b, c = triangle
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal)
    foot = point - np.dot(point - a, normal) * normal
    pairs = ((a, b), (b, c), (c, a))
    if all(np.dot(np.cross(q - p, foot - p), normal) >= 0 for p, q in pairs):
        return abs(np.dot(point - a, normal))
    feet = [p + np.clip(np.dot(point - p, q - p) / np.dot(q - p, q - p), 0, 1) * (q - p) for p, q in pairs]
    return min(np.linalg.norm(point - f) for f in feet)


@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_distances_against_a_double_loop(offset):
    random = np.random.default_rng(3)
    vertices, cells = random.normal(size=(12, 3)), random.permutation(12).reshape(4, 3)
    points = random.normal(size=(50, 3))
    expected = [min(brute_force(p, vertices[cell]) for cell in cells) for p in points]
    distances, nearest = distance_to_surface(points + offset, Surface(vertices + offset, cells))
    np.testing.assert_allclose(distances, expected, atol=1e-12 + 4e-16 * offset * 4)
    own = [brute_force(p, vertices[cells[cell]]) for p, cell in zip(points, nearest, strict=True)]
    np.testing.assert_allclose(own, expected, atol=1e-7)


def test_samples_are_uniform_and_on_the_surface():
    """Two triangles of areas 1/2 and 3/2: counts 1 to 3, and the mean of each is its centroid."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [3, 0, 5], [0, 1, 5]], dtype=float)
    surface = Surface(vertices, np.array([[0, 1, 2], [3, 4, 5]]))
    points, cells = sample_surface(surface, 40_000, seed=1)
    assert (cells == 1).mean() == pytest.approx(0.75, abs=0.01)
    for cell in (0, 1):
        np.testing.assert_allclose(
            points[cells == cell].mean(axis=0), vertices[surface.cells[cell]].mean(axis=0), atol=0.02
        )
    # uniform: the corner triangle of half the side holds a quarter of the points
    inside = points[cells == 0]
    assert (inside[:, 0] > 0.5).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(points, sample_surface(surface, 40_000, seed=1)[0])
    assert not np.array_equal(points, sample_surface(surface, 40_000, seed=2)[0])


def test_winding_numbers_in_2d():
    random = np.random.default_rng(5)
    vertices = random.normal(size=(9, 2))  # a star that crosses itself
    segments = np.stack((np.arange(9), np.roll(np.arange(9), -1)), axis=1)
    points = random.normal(size=(2000, 2))
    expected = igl.winding_number(vertices, segments, points)
    assert np.ptp(np.round(expected)) >= 2
    np.testing.assert_array_equal(_winding_number_2d(vertices, segments, points), np.round(expected))


@pytest.mark.parametrize("d", [2, 3])
def test_contains(d):
    shape = transform(ball(1.0, d), 1.0, np.full(d, 1e6))
    points = np.random.default_rng(0).uniform(-1.3, 1.3, (2000, d))
    clear = np.abs(np.linalg.norm(points, axis=1) - 1) > 0.01
    found = contains(shape, points + 1e6)
    np.testing.assert_array_equal(found[clear], np.linalg.norm(points[clear], axis=1) < 1)


def test_what_two_overlapping_bodies_share_is_inside_and_so_is_a_body_turned_inside_out():
    one, other = cube(), cube(centre=(0.5, 0.0, 0.0))
    both = Surface(np.concatenate((one.vertices, other.vertices)), np.concatenate((one.cells, other.cells + 8)))
    places = np.array([[-0.3, 0.1, 0.2], [0.25, 0.1, 0.2], [0.8, 0.1, 0.2], [1.1, 0.1, 0.2]])
    assert contains(both, places).tolist() == [True, True, True, False]
    assert contains(Surface(one.vertices, one.cells[:, ::-1]), places).tolist() == [True, True, False, False]


@pytest.mark.parametrize("unit", [1e-7, 1e30])
def test_what_is_inside_does_not_hang_on_the_unit(unit):
    one, other = ball(1.0), ball(1.1)
    scaled = [transform(shape, unit, np.zeros(3)) for shape in (one, other)]
    assert compare_surfaces(*scaled, samples=5000)["iou"] == compare_surfaces(one, other, samples=5000)["iou"]


def test_a_place_below_many_plates_is_inside_its_own():
    count = 120
    plate = Surface(cube().vertices * [1.0, 1.0, 0.5], cube().cells)
    stack = Surface(
        np.concatenate([plate.vertices + np.array([0, 0, k]) for k in range(count)]),
        np.concatenate([plate.cells + 8 * k for k in range(count)]),
    )
    wide = Surface(stack.vertices * [1000.0, 1000.0, 1.0], stack.cells)
    assert contains(wide, np.array([[0.0, 0, 0], [0, 0, 0.5], [0, 0, 1]])).tolist() == [True, False, True]


def test_a_surface_without_any_size_is_refused():
    nothing = Surface(cube().vertices, np.array([[0, 0, 1]]))
    with pytest.raises(UserError, match="the reconstruction has no face with an area"):
        compare_surfaces(nothing, cube(), samples=10)
    with pytest.raises(UserError, match="the surface has no face with an area"):
        compare_to_points(nothing, np.eye(3))


def test_cloud_against_surface():
    """Points at the centres of a unit cube's faces, one of them 0.3 outside."""
    points = 0.5 * np.concatenate((np.eye(3), -np.eye(3)))
    points[0, 0] = 0.8
    result = compare_to_points(cube(), points, samples=20_000)
    assert result["cloud_to_surface_mean"] == pytest.approx(0.05)
    assert result["cloud_to_surface_rms"] == pytest.approx(0.3 / math.sqrt(6))
    assert result["cloud_to_surface_max"] == pytest.approx(0.3)
    # mean distance from the centre of a unit square: (√2 + ln(1 + √2)) / 6; one face is off, hence the bound
    centred = (math.sqrt(2) + math.asinh(1)) / 6
    assert centred < result["surface_to_cloud_mean"] < centred + 0.05
    assert result["surface_to_cloud_max"] < math.hypot(0.5, 0.5) + 0.01
    assert result["d_H"] == max(result["cloud_to_surface_max"], result["surface_to_cloud_max"])
    assert result["d_C"] == 0.5 * (result["cloud_to_surface_mean"] + result["surface_to_cloud_mean"])


def test_degenerate_cells_do_not_count():
    shape = cube()
    spoiled = Surface(shape.vertices, np.concatenate((shape.cells, [[0, 0, 1]])))
    result = compare_surfaces(spoiled, shape, samples=2000)
    assert result["reconstruction_cells"] == 12
    assert result["normal_consistency"] == pytest.approx(1, abs=1e-2)


def test_surfaces_far_apart_have_nothing_in_common():
    far = transform(cube(), 1.0, np.array([1e6, 0.0, 0.0]))
    assert compare_surfaces(cube(), far, samples=100)["iou"] == 0


def test_a_sliver_without_area_does_not_open_a_mesh():
    """A cube one of whose edges has a vertex in its middle on one side: a triangle of area 0 fills the gap."""
    mesh = cube()
    (a, b), third = mesh.cells[0, :2], mesh.cells[0, 2]
    middle = len(mesh.vertices)
    vertices = np.concatenate((mesh.vertices, [(mesh.vertices[a] + mesh.vertices[b]) / 2]))
    cells = np.concatenate((mesh.cells[1:], [[a, middle, third], [middle, b, third], [a, b, middle]]))
    result = compare_surfaces(Surface(vertices, cells), mesh, samples=2000)
    assert result["reconstruction_closed"] == 1
    assert result["reconstruction_euler_characteristic"] == 2
    assert result["iou"] == 1
    assert result["d_H"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_a_distance_has_no_eikonal_error_and_twice_a_distance_has_one(d):
    points = np.random.default_rng(0).normal(size=(500, d))

    def outward(x):  # the gradient of |x| - r, the distance to a circle or a sphere
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    assert eikonal_error(outward, points) == pytest.approx(0.0, abs=1e-12)
    assert eikonal_error(lambda x: 2 * outward(x), points) == pytest.approx(1.0)
    # slopes of 2 and of 0 in equal parts are as far from a distance as any of them, not 1 on average
    assert eikonal_error(lambda x: 2 * outward(x) * (np.arange(500) % 2)[:, None], points) == pytest.approx(1.0)


def test_signed_distances_to_a_square_and_a_cube():
    points = np.array([[0.0, 0.0], [0.5, 0.25], [1.5, 0.0], [1.5, 2.0]])  # of a square of side 2 about zero
    expected = [-1.0, -0.5, 0.5, math.hypot(0.5, 1.0)]
    np.testing.assert_allclose(signed_distance(points, square(2.0)), expected)
    deep = np.concatenate([points, np.zeros((4, 1))], axis=1)
    np.testing.assert_allclose(signed_distance(deep, cube(2.0)), expected)
