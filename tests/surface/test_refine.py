"""Vertices that are moved onto a level set, by hand."""

import numpy as np
import pytest
import torch

from phase_recon.surface.extract import extract_surface
from phase_recon.surface.refine import refine

LOWER, UPPER = np.full(3, -1.0), np.full(3, 1.0)


def ball(radius):
    return lambda x: torch.linalg.vector_norm(x, dim=-1) - radius


def squared(x):
    """x² + y² + z² - 0.49 and its gradient: a level set that linear interpolation misses."""
    return x.square().sum(dim=-1) - 0.49, 2 * x


@pytest.mark.parametrize("d", [2, 3])
def test_refine_and_normals(d):
    coarse = extract_surface(lambda x: squared(x)[0], LOWER[:d], UPPER[:d], 16)
    fine = refine(coarse, squared)
    before = np.abs(np.linalg.norm(coarse.vertices, axis=1) - 0.7).max()
    assert before > 1e-3
    assert np.abs(np.linalg.norm(fine.vertices, axis=1) - 0.7).max() < 1e-4 * 2 / 16  # of a cell
    np.testing.assert_allclose(fine.normals, fine.vertices / 0.7, atol=1e-5)


def test_refine_is_bounded():
    surface = extract_surface(lambda x: squared(x)[0], LOWER, UPPER, 16)
    edges = surface.vertices[surface.cells[:, 1]] - surface.vertices[surface.cells[:, 0]]
    moved = refine(
        surface, lambda x: (torch.ones(len(x)) + x[:, 0], torch.eye(3)[:1].expand(len(x), 3) * 1e-3)
    )
    step = np.linalg.norm(moved.vertices - surface.vertices, axis=1)
    assert step.max() == pytest.approx(0.5 * np.median(np.linalg.norm(edges, axis=1)), rel=1e-6)


def test_a_vertex_that_refinement_would_move_onto_another_stays():
    surface = extract_surface(ball(0.5), LOWER, UPPER, 16)

    def pinched(x):  # whose Newton steps lead all vertices towards one place
        step = x - torch.tensor((0.5, 0.0, 0.0))
        return step.square().sum(dim=-1) / 2, step

    moved = refine(surface, pinched)
    corners = moved.vertices[moved.cells]
    assert np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).min() > 1e-4 * 2 / 16
    assert moved.is_closed()
