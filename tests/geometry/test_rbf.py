"""The smoothest function: what it reproduces, and scipy's of the same kernels."""

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from phase_recon.geometry.rbf import Biharmonic

DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


def told(d, count=60):
    random = np.random.default_rng(0)
    return random.uniform(-1, 1, (count, d)), random.standard_normal(count)


@DIMENSIONS
def test_it_goes_through_its_values(d):
    places, values = told(d)
    np.testing.assert_allclose(Biharmonic(places, values, 0.0)(places), values, atol=1e-9)


@DIMENSIONS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_scipys(monkeypatch, d, smoothing):
    places, values = told(d)
    points = told(d, 50)[0] * 1.5
    kernel = {2: "thin_plate_spline", 3: "linear"}[d]
    known = RBFInterpolator(places, values, kernel=kernel, smoothing=smoothing)(points)
    np.testing.assert_allclose(Biharmonic(places, values, smoothing)(points), known, atol=1e-9)


@pytest.mark.parametrize("where", ["box", "sphere", "line", "two"])
def test_in_space_it_is_found_wherever_the_places_are(where):
    """The Cholesky factor is there, and gives what elimination with pivots does."""
    random = np.random.default_rng(0)
    places = random.uniform(-1, 1, (2 if where == "two" else 300, 3)) + 5.0
    if where == "sphere":
        places = 5.0 + (places - 5.0) / np.linalg.norm(places - 5.0, axis=1, keepdims=True)
    if where == "line":
        places[:, 1:] = 0.0
    kernel = -np.linalg.norm(places[:, None] - places, axis=-1)
    system = np.block([[kernel, np.ones((len(places), 1))], [np.ones(len(places)), 0.0]])
    values = random.standard_normal(len(places))
    known = np.linalg.solve(system, np.append(values, 0.0))
    f = Biharmonic(places, values, 0.0)
    np.testing.assert_allclose(np.append(f.weights, f.rest), known, atol=1e-6 * np.abs(known).max())


def test_what_is_free_comes_out_whatever_the_smoothing():
    """In 2D linear functions, which have no second derivatives; in 3D constants."""
    for d, slope in ((2, np.array([2.0, -3.0])), (3, np.zeros(3))):
        places, _ = told(d)
        f = Biharmonic(places, places @ slope + 0.5, 10.0)
        np.testing.assert_allclose(f(3 * places), 3 * places @ slope + 0.5, atol=1e-9)


def test_between_two_places_in_space_it_is_the_straight_line():
    f = Biharmonic(np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), np.array([2.0, 4.0]), 0.0)
    np.testing.assert_allclose(f(np.array([[0.5, 0.0, 0.0], [0.25, 0.0, 0.0], [9.0, 0.0, 0.0]])), [3.0, 2.5, 4.0])


@DIMENSIONS
def test_of_no_points_there_are_no_values(d):
    assert Biharmonic(*told(d), 0.0)(np.empty((0, d))).shape == (0,)


@DIMENSIONS
def test_its_gradient_is_that_of_differences(monkeypatch, d):
    f = Biharmonic(*told(d), 0.1)
    points, step = told(d, 50)[0] * 1.5 + 0.01, 1e-6 * np.eye(d)
    differences = np.stack([(f(points + s) - f(points - s)) / 2e-6 for s in step], axis=-1)
    np.testing.assert_allclose(f.gradient(points), differences, atol=1e-5)
    assert np.isfinite(f.gradient(f.places)).all()
