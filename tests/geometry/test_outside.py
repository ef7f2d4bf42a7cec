"""Places that are surely outside, about shapes whose inside is known."""

import numpy as np
import pytest

from phase_recon.geometry.outside import OutsideSettings, outside_of

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])
FEW = OutsideSettings(most_nodes=100_000)


def sure_places(*args):
    """The places that are surely outside, and the width of the cells."""
    outside = outside_of(*args)
    return outside.places[outside.surely(np.arange(len(outside.places)))], outside.cell


def sphere(count, d, seed=0):
    points = np.random.default_rng(seed).standard_normal((count, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


@DIMENSIONS
def test_about_a_sphere_all_that_is_outside_is_found_and_nothing_inside(d):
    points = sphere(3000, d)
    places, cell = sure_places(points, points, np.ones(3000), 0.05, 0.0, FEW)
    radius = np.linalg.norm(places, axis=1)
    assert radius.min() > 1
    nodes = places[0] + cell * np.rint((places - places[0]) / cell)
    np.testing.assert_allclose(nodes, places, atol=1e-9)  # of one grid
    shell = (radius > 1.05) & (radius < 1.1)
    volume = (1.1**d - 1.05**d) * (np.pi if d == 2 else 4 / 3 * np.pi)
    assert shell.sum() * cell**d == pytest.approx(volume, rel=0.1)  # all of it


@DIMENSIONS
def test_the_hollow_of_a_ball_is_outside_and_what_lies_between_is_not(d):
    outer, inner = sphere(4000, d), 0.5 * sphere(4000, d, seed=1)
    normals = np.concatenate([outer, -2 * inner])
    areas = np.concatenate([np.ones(4000), np.full(4000, 0.5 ** (d - 1))])
    places, _ = sure_places(np.concatenate([outer, inner]), normals, areas, 0.05, 0.0, FEW)
    radius = np.linalg.norm(places, axis=1)
    assert (radius < 0.4).any()
    assert not ((radius > 0.55) & (radius < 0.98)).any()


def test_the_unit_of_the_areas_does_not_matter_and_wrong_ones_are_mended():
    points = sphere(3000, 3)
    whole, _ = sure_places(points, points, np.ones(3000), 0.05, 0.0, FEW)
    tenth, _ = sure_places(points, points, np.full(3000, 0.1), 0.05, 0.0, FEW)
    np.testing.assert_array_equal(whole, tenth)
    uneven = np.where(points[:, 0] > 0, 1.0, 0.5)
    places, _ = sure_places(points, points, uneven, 0.05, 0.0, FEW)
    assert np.linalg.norm(places, axis=1).min() > 1


def test_of_many_points_some_tell_as_much():
    points = sphere(5000, 3)
    some = OutsideSettings(most_nodes=100_000, points=2000)
    places, _ = sure_places(points, points, np.ones(5000), 0.05, 0.0, some)
    assert np.linalg.norm(places, axis=1).min() > 1
    assert len(places) > 10_000


def test_a_grid_is_as_fine_as_spacing_noise_and_memory_allow():
    points = sphere(1000, 3)
    cells = [sure_places(points, points, np.ones(1000), spacing, noise, FEW)[1]
             for spacing, noise in ((1.0, 0.0), (0.1, 0.15), (1e-9, 0.0))]  # fmt: skip
    assert cells[:2] == [pytest.approx(0.2), pytest.approx(0.3)]
    assert 2.4**3 / cells[2] ** 3 == pytest.approx(100_000, rel=0.1)


def test_where_the_normals_point_inward_nothing_is_known():
    points = sphere(1000, 3)
    assert len(sure_places(points, -points, np.ones(1000), 0.1, 0.0, FEW)[0]) == 0


@pytest.mark.parametrize("left", [0.1, 0.03])
def test_where_points_are_few_a_low_winding_number_tells_nothing(left):
    """A plate, 0.1 thick, a part of which has few points: it is too low in the plate, but at the points there, too."""
    random = np.random.default_rng(0)
    points = np.c_[random.uniform(-1, 1, (16_000, 2)), random.choice([-0.05, 0.05], 16_000)]
    points = points[(np.linalg.norm(points[:, :2], axis=1) > 0.4) | (random.random(16_000) < left)]
    normals = np.where(points[:, 2:] > 0, [[0.0, 0.0, 1.0]], [[0.0, 0.0, -1.0]])
    settings = OutsideSettings(most_nodes=200_000)
    places, _ = sure_places(points, normals, np.ones(len(points)), 0.03, 0.0, settings)
    in_plate = (np.abs(places[:, 2]) < 0.04) & (np.abs(places[:, :2]).max(axis=1) < 0.9)
    assert not in_plate.any()
    assert len(places) > 150_000  # what is outside is found all the same


def test_of_some_places_it_is_told_by_index():
    points = sphere(1000, 3)
    outside = outside_of(points, points, np.ones(1000), 0.05, 0.0, OutsideSettings(most_nodes=20_000))
    some = np.array([5, 0, len(outside.places) - 1])
    np.testing.assert_array_equal(outside.surely(some), outside.surely(np.arange(len(outside.places)))[some])
    assert outside.surely(some).all()
