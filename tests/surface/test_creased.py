"""Edges that cut a corner off: where they are split, what stays, and how each kind of cell is divided."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from phase_recon.surface.creased import split_at_creases
from phase_recon.surface.extract import extract_surface
from phase_recon.surface.refine import SHORTEST, refine
from phase_recon.surface.surface import Surface
from phase_recon.surface.trim import within

HALF = np.array([0.61, 0.47, 0.33])  # sides of a box
TURN = Rotation.from_euler("xyz", [20, 35, 50], degrees=True).as_matrix()


def box(d, turn):
    """The signed distance within a box, turned, and its gradient: that of the nearest face."""
    half, turned = torch.tensor(HALF[:d]).float(), torch.from_numpy(turn[:d, :d]).float()

    def field(x):
        place = x @ turned
        over = place.abs() - half
        value, face = over.max(dim=1)
        gradient = torch.nn.functional.one_hot(face, d) * place.sign()
        return value, gradient.float() @ turned.T

    return field


def off_box(points, d, turn):
    """Distances (N,) of points within a box, or hardly beyond, from its faces."""
    return np.abs((np.abs(points @ turn[:d, :d]) - HALF[:d]).max(axis=1))


def turn_of(d):
    angle = np.radians(25)
    plane = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return plane if d == 2 else TURN


def extracted(d, cells=32):
    field = box(d, turn_of(d))
    coarse = extract_surface(lambda x: field(x)[0], [-1.0] * d, [1.0] * d, cells)
    return refine(coarse, field), field


def test_a_chord_across_a_corner_goes_up_to_it():
    """The chord from (0, -1) to (1, 0), of a square whose corner is at (1, -1)."""

    def field(x):
        right, down = x[:, 0] - 1, -1 - x[:, 1]
        value = torch.maximum(right, down)
        return value, torch.where((right > down)[:, None], torch.tensor([1.0, 0.0]), torch.tensor([0.0, -1.0]))

    normals = np.array([[0.0, -1.0], [1.0, 0.0]])
    chord = Surface(np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([[0, 1]]), normals)
    split = split_at_creases(chord, field)
    np.testing.assert_allclose(split.vertices[2], [1, -1], atol=1e-6)
    assert split.cells.tolist() == [[0, 2], [2, 1]]
    np.testing.assert_array_equal(split.normals[:2], normals)


def test_a_chord_around_a_rim_stays():
    """From the lower to the upper side of a sheet that ends at x = 1."""

    def field(x):
        return x[:, 0] - 1, torch.tensor([1.0, 0.0]).expand(len(x), 2)

    chord = Surface(np.array([[0.9, -0.1], [0.9, 0.1]]), np.array([[0, 1]]), np.array([[0.1, -1], [0.1, 1.0]]))
    split = split_at_creases(chord, field)
    np.testing.assert_array_equal(split.vertices, chord.vertices)
    np.testing.assert_array_equal(split.cells, chord.cells)


@pytest.mark.parametrize("d", [2, 3])
def test_creases_come_nearer_and_the_topology_stays(d):
    surface, field = extracted(d)
    split = split_at_creases(surface, field)

    def cut_off(of):  # area (2D: length) times the depth below the faces of the box
        depths = off_box(of.vertices[of.cells].mean(axis=1), d, turn_of(d))
        return (of.cell_measures() * depths).sum()

    assert cut_off(split) < 0.5 * cut_off(surface)
    assert off_box(split.vertices, d, turn_of(d)).max() < 1e-6
    assert split.is_closed()
    assert split.euler_characteristic() == surface.euler_characteristic()
    assert split.measure() > surface.measure()
    edges = split.edges().reshape(-1, 2)
    lengths = np.linalg.norm(split.vertices[edges[:, 0]] - split.vertices[edges[:, 1]], axis=1)
    before = surface.vertices[surface.cells]
    assert lengths.min() >= SHORTEST * np.median(np.linalg.norm(before[:, 1] - before[:, 0], axis=1))


def test_a_part_with_a_rim_keeps_it():
    surface, field = extracted(3)
    part = within(surface, np.array([[0.5, 0.5, 0.5]]), 0.6)
    split = split_at_creases(part, field)
    assert len(split.cells) > len(part.cells)
    assert split.euler_characteristic() == part.euler_characteristic() == 1


def test_a_surface_without_creases_stays_the_same():
    def ball(x):
        length = torch.linalg.vector_norm(x, dim=1)
        return length - 0.7, x / length[:, None]

    surface = refine(extract_surface(lambda x: ball(x)[0], [-1.0] * 3, [1.0] * 3, 24), ball)
    assert split_at_creases(surface, ball) is surface


def corner(normals):
    """A triangle in z = 0 with normals, and a field that is zero 0.1 above it."""

    def field(x):
        return x[:, 2] - 0.1, torch.tensor([0.0, 0.0, 1.0]).expand(len(x), 3)

    vertices = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    return Surface(vertices, np.array([[0, 1, 2]]), np.array(normals)), field


Z = np.array([0.0, 0.0, 1.0])
X, Y = np.array([0.6, 0.0, 0.8]), np.array([0.0, 0.6, 0.8])


@pytest.mark.parametrize(
    ("normals", "split_edges", "cells"),
    [
        ([X, X, X], [], [[0, 1, 2]]),
        # vertex 0 alone looks elsewhere: its two edges are split, and the rest by the shorter diagonal, from 3 to 2
        ([X, Y, Y], [[0, 1], [0, 2]], [[0, 3, 4], [1, 2, 3], [2, 4, 3]]),
        ([X, Y, Z], [[0, 1], [0, 2], [1, 2]], [[0, 3, 4], [1, 5, 3], [2, 4, 5], [3, 5, 4]]),
        # 40° between the first and the last, and 20°, which is not enough, from each to the one between
        ([[0.342, 0, 0.940], [-0.342, 0, 0.940], Z], [[0, 1]], [[0, 3, 2], [1, 2, 3]]),
    ],
)
def test_each_kind_of_triangle_is_divided(normals, split_edges, cells):
    surface, field = corner(normals)
    split = split_at_creases(surface, field)
    found = {tuple(np.roll(cell, -int(np.argmin(cell)))) for cell in split.cells.tolist()}
    assert found == {tuple(cell) for cell in cells}
    middles = []
    for pair in split_edges:  # along the mean of the normals at the ends, up to z = 0.1
        along = surface.normals[pair].sum(axis=0)
        middles.append(surface.vertices[pair].mean(axis=0) + 0.1 * along / along[2])
    np.testing.assert_allclose(split.vertices[3:], np.reshape(middles, (-1, 3)), atol=1e-6)
    assert split.normals[3:].tolist() == [[0, 0, 1]] * len(middles)


def test_a_level_beside_zero_is_the_one_that_counts():
    surface, field = corner([X, Y, Z])
    split = split_at_creases(surface, field, 0.05)
    np.testing.assert_allclose(split.vertices[3:, 2], [0.15] * 3, atol=1e-6)


def test_a_vertex_without_a_direction_is_on_no_crease():
    surface, field = corner([np.zeros(3), Y, Y])
    assert split_at_creases(surface, field).cells.tolist() == [[0, 1, 2]]


def test_an_edge_whose_middle_does_not_come_onto_the_level_set_stays():
    """The level set is 0.6 of the edge away, or Newton's steps lead beyond it."""
    surface, _ = corner([X, Y, Z])
    for value in (lambda x: x[:, 2] - 3.0, lambda x: torch.sign(x[:, 2] - 0.1) * (x[:, 2] - 0.1).abs().sqrt()):
        split = split_at_creases(surface, lambda x, v=value: (v(x), torch.tensor([0.0, 0.0, 1.0]).expand(len(x), 3)))
        np.testing.assert_array_equal(split.cells, surface.cells)


def test_an_edge_that_would_be_too_short_stays():
    """Two middles, 1 from each other, which come to places 2e-4 from each other."""

    def field(x):
        return x[:, 2] - 0.4999, torch.tensor([0.0, 0.0, 1.0]).expand(len(x), 3)

    vertices = np.array([[0.0, 0, 0], [2, -1, 0], [2, 1, 0]])
    normals = np.array([[0.0, 0, 1], [0, 1, 0], [0, -1, 0]])
    surface = Surface(vertices, np.array([[0, 1, 2]]), normals)
    assert split_at_creases(surface, field).cells.tolist() == [[0, 1, 2]]
    apart = split_at_creases(surface, lambda x: (x[:, 2] - 0.4, field(x)[1]))
    np.testing.assert_allclose(apart.vertices[3:], [[1, -0.1, 0.4], [1, 0.1, 0.4]], atol=1e-6)


def test_an_edge_whose_middle_would_turn_a_cell_over_stays():
    """A sliver, 0.1 high, whose third corner the middle of its long edge would be moved beyond."""

    def field(x):
        return x[:, 1] - 0.5, torch.tensor([0.0, 1.0, 0.0]).expand(len(x), 3)

    surface = Surface(np.array([[0.0, 0, 0], [2, 0, 0], [1, 0.1, 0]]), np.array([[0, 1, 2]]), np.eye(3)[[0, 1, 1]])
    split = split_at_creases(surface, field)
    assert (split.cells >= 0).all()
    assert [0, 1] in [sorted(edge) for edge in split.edges().reshape(-1, 2).tolist()]
