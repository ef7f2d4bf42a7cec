"""Bodies whose volume, area and distance have closed forms."""

import math

import numpy as np
import pytest
import torch

from phase_recon.benchmarks.solids import (
    ball,
    box,
    circle,
    common,
    cylinder,
    inside_out,
    level_set,
    moved,
    prism,
    revolved,
    segments,
    sheet,
    together,
    tube,
    turned,
    union,
    without,
)
from phase_recon.surface.metrics import sample_surface

ERROR = 1e-3


def volume(surface):
    a, b, c = surface.vertices[surface.cells].transpose(1, 0, 2)
    return float(np.einsum("nd,nd->n", a, np.cross(b, c)).sum()) / 6


def samples(surface):
    return sample_surface(surface, 20_000, 0)[0]


def test_chords_of_a_circle_are_within_the_error():
    for radius in (0.01, 0.3, 5.0):
        count = segments(radius, ERROR)
        assert radius * (1 - math.cos(math.pi / count)) <= ERROR
        line = circle(radius, ERROR, (2, 3))
        np.testing.assert_allclose(np.linalg.norm(line - [2, 3], axis=1), radius)
        assert len(line) == count


def test_flat_bodies_are_exact():
    square = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]])
    assert volume(box((0, 0, 0), (1, 2, 3))) == pytest.approx(6)
    assert volume(prism(square, -1, 2)) == pytest.approx(12)
    middle = np.stack([*np.meshgrid([0.0, 1, 2], [0.0, 1, 2, 3], indexing="ij"), np.zeros((3, 4))], axis=-1)
    slab = sheet(middle, 0.1)
    assert slab.is_closed()
    assert volume(slab) == pytest.approx(0.6)
    assert slab.measure() == pytest.approx(12 + 2 * 0.1 * (2 + 3))


@pytest.mark.parametrize(
    ("surface", "distance", "measure"),
    [
        (ball(0.7, ERROR, (1, 2, 3)), lambda x: np.linalg.norm(x - [1, 2, 3], axis=1) - 0.7, 4 * math.pi * 0.49),
        (
            revolved(circle(0.2, ERROR / 2, (0.8, 0)), ERROR / 2),
            lambda x: np.hypot(np.hypot(x[:, 0], x[:, 1]) - 0.8, x[:, 2]) - 0.2,
            4 * math.pi**2 * 0.8 * 0.2,
        ),
        (
            tube(np.array([[0, 0, -1.0], [0, 0, 0], [0, 0, 1]]), 0.25, ERROR),
            lambda x: np.linalg.norm(x - [0, 0, 1] * np.clip(x[:, 2:], -1, 1), axis=1) - 0.25,
            2 * math.pi * 0.25 * 2 + 4 * math.pi * 0.25**2,
        ),
        (
            level_set(lambda x: x.square().sum(dim=1) - 0.36, [-1] * 3, [1] * 3, math.sqrt(8 / 3 * ERROR * 0.6)),
            lambda x: np.linalg.norm(x, axis=1) - 0.6,
            4 * math.pi * 0.36,
        ),
    ],
    ids=["ball", "torus", "capsule", "level set"],
)
def test_round_bodies_are_within_the_error(surface, distance, measure):
    assert surface.is_closed()
    assert volume(surface) > 0
    assert np.abs(distance(samples(surface))).max() < ERROR
    assert surface.measure() == pytest.approx(measure, rel=0.01)


def test_a_closed_tube_has_no_seam():
    """The frame that is carried along a curve in space turns by some angle in a round, and that is evened out."""
    t = 2 * np.pi * np.arange(400) / 400
    path = np.stack([np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], axis=1)
    surface = tube(path, 0.3, ERROR, closed=True)
    assert (surface.is_closed(), surface.genus()) == (True, 1)
    corners = surface.vertices[surface.cells]
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    assert edges.max() < 3 * np.median(edges)


def test_a_cylinder_lies_between_its_ends():
    surface = cylinder((1, 1, 1), (1, 3, 1), 0.5, ERROR)
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    np.testing.assert_allclose([low, high], [[0.5, 1, 0.5], [1.5, 3, 1.5]], atol=2 * ERROR)
    assert volume(surface) == pytest.approx(math.pi * 0.25 * 2, rel=0.01)


def test_boolean_operations_give_the_volumes_that_they_should():
    first, second = box((0, 0, 0), (1, 1, 1)), box((0.5, 0.25, 0.25), (2, 0.75, 0.75))
    assert volume(union(first, second)) == pytest.approx(1 + 0.25 * 1)
    assert volume(common(first, second)) == pytest.approx(0.25 * 0.5)
    assert volume(without(first, second)) == pytest.approx(1 - 0.25 * 0.5)
    bores = [cylinder((x, 0.5, -1), (x, 0.5, 2), 0.1, ERROR) for x in (0.25, 0.75)]
    bored = without(first, *bores)
    assert (bored.is_closed(), bored.genus()) == (True, 2)
    assert (bored.cell_measures() > 0).all()
    assert volume(bored) == pytest.approx(1 - 2 * volume(bores[0]) / 3)


def test_a_hollow_takes_its_volume_away():
    whole = together(box((0, 0, 0), (1, 1, 1)), inside_out(box((0.25, 0.25, 0.25), (0.75, 0.75, 0.75))))
    assert volume(whole) == pytest.approx(1 - 0.125)
    assert (whole.is_closed(), whole.components()[0]) == (True, 2)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_a_turn_is_right_handed(axis):
    following = {"x": "y", "y": "z", "z": "x"}[axis]
    unit = dict(zip("xyz", np.eye(3), strict=True))
    other = ({"x", "y", "z"} - {axis, following}).pop()
    np.testing.assert_allclose(turned(90, axis) @ unit[following], unit[other], atol=1e-15)
    surface = moved(box((0, 0, 0), (1, 1, 1)), turned(90, axis), (5, 0, 0))
    assert volume(surface) == pytest.approx(1)


def test_a_level_set_is_moved_onto_the_zero():
    field = lambda x: torch.linalg.vector_norm(x, dim=1) - 0.5  # noqa: E731
    surface = level_set(field, [-1] * 3, [1] * 3, 0.2)
    np.testing.assert_allclose(np.linalg.norm(surface.vertices, axis=1), 0.5, atol=1e-9)
