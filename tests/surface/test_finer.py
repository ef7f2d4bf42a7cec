"""Meshes made finer in a part: how long their edges are there, what stays, and where the new vertices lie."""

import numpy as np
import pytest
import torch

from phase_recon.surface.extract import extract_surface
from phase_recon.surface.finer import LONGEST, made_finer
from phase_recon.surface.refine import refine
from phase_recon.surface.surface import Surface

RADIUS, CELL = 0.7, 0.1


def ball(x):
    """The distance from a ball, and its gradient."""
    length = torch.linalg.vector_norm(x, dim=1)
    return length - RADIUS, x / length[:, None]


def finer_by(share):
    """Cells of a size where x > 0.3, and none that is asked for elsewhere."""
    return lambda places: np.where(places[:, 0] > 0.3, share * CELL, np.inf)


def meshed(d):
    return refine(extract_surface(lambda x: ball(x)[0], [-1.0] * d, [1.0] * d, round(2 / CELL)), ball)


def lengths_of(surface):
    """The lengths of the edges, and whether one of their ends is where finer cells are asked for."""
    ends = surface.vertices[surface.edges().reshape(-1, 2)]
    return np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1), (ends[:, :, 0] > 0.3).any(axis=1)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("share", [0.4, 0.1])
def test_cells_are_as_small_as_asked_for_and_the_others_stay(d, share):
    surface = meshed(d)
    finer = made_finer(surface, ball, finer_by(share))
    length, asked = lengths_of(finer)
    assert (length[asked] > LONGEST * share * CELL).mean() < 0.02  # slivers would be turned over
    assert (length[asked] <= LONGEST * share * CELL).all() or d == 3
    np.testing.assert_allclose(np.linalg.norm(finer.vertices, axis=1), RADIUS, atol=1e-6)
    np.testing.assert_allclose(finer.normals, finer.vertices / RADIUS, atol=1e-5)
    assert finer.is_closed()
    assert finer.euler_characteristic() == surface.euler_characteristic()
    far = surface.cells[(surface.vertices[surface.cells][..., 0] < 0).all(axis=1)]
    assert len(far) > 0.3 * len(surface.cells)
    assert {tuple(cell) for cell in far.tolist()} <= {tuple(cell) for cell in finer.cells.tolist()}
    np.testing.assert_array_equal(finer.vertices[: len(surface.vertices)], surface.vertices)
    assert finer.measure() > surface.measure()  # arcs in place of chords


def test_a_segment_becomes_four_on_the_circle():
    """A chord of 60° of the circle, halved twice: its vertices stand 15° apart."""
    angles = np.radians([0, 60])
    ends = RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    chord = Surface(ends, np.array([[0, 1]]), ends / RADIUS)
    finer = made_finer(chord, ball, lambda places: np.full(len(places), 0.27 * RADIUS / LONGEST))
    degrees = np.degrees(np.arctan2(finer.vertices[:, 1], finer.vertices[:, 0]))
    np.testing.assert_allclose(np.sort(degrees), [0, 15, 30, 45, 60], atol=1e-4)
    assert len(finer.cells) == 4


@pytest.mark.parametrize("d", [2, 3])
def test_a_mesh_that_is_fine_enough_stays_the_same(d):
    surface = meshed(d)
    assert made_finer(surface, ball, lambda places: np.full(len(places), CELL)) is surface
    assert made_finer(surface, ball, lambda places: np.full(len(places), np.inf)) is surface
