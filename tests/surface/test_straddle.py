"""Cells that straddle a surface, on circles, spheres, tori and creases whose distances are known."""

import numpy as np
import pytest

from phase_recon.surface.extract import extract_surface
from phase_recon.surface.refine import refine
from phase_recon.surface.straddle import straddle
from phase_recon.surface.surface import Surface
from phase_recon.utils.arrays import unit


def circle(count, radius=1.0):
    angle = 2 * np.pi * np.arange(count) / count
    normals = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    cells = np.stack([np.arange(count), (np.arange(count) + 1) % count], axis=1)
    return Surface(radius * normals, cells, normals)


def torus(n, m):
    """Of radii 1 and 0.4: convex outside, a saddle within; vertices on it."""
    a, b = (x.ravel() for x in np.meshgrid(*(2 * np.pi * np.arange(k) / k for k in (n, m)), indexing="ij"))
    normals = np.stack([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)], axis=1)
    vertices = np.stack([np.cos(a), np.sin(a), 0 * a], axis=1) + 0.4 * normals
    i, j = (x.ravel() for x in np.meshgrid(np.arange(n), np.arange(m), indexing="ij"))
    corner = [((i + p) % n) * m + (j + q) % m for p, q in ((0, 0), (1, 0), (1, 1), (0, 1))]
    cells = np.concatenate([np.stack([corner[0], corner[k], corner[k + 1]], axis=1) for k in (1, 2)])
    return Surface(vertices, cells, normals)


def volume(surface):
    corners = surface.vertices[surface.cells]
    return np.einsum("fd,fd->", corners.mean(axis=1), surface.cell_vectors()) / surface.dimension


def off_torus(surface):
    """The mean distance of the cells from the torus, over points spread evenly in each."""
    grid = [(p / 10, q / 10) for p in range(11) for q in range(11 - p)]
    places = np.concatenate([surface.vertices[surface.cells].transpose(0, 2, 1) @ [p, q, 1 - p - q] for p, q in grid])
    ring = np.hypot(np.hypot(places[:, 0], places[:, 1]) - 1, places[:, 2])
    return np.abs(ring - 0.4).mean()


def test_a_polygon_has_the_area_of_its_circle():
    polygon = circle(30)
    moved = straddle(polygon)
    assert volume(polygon) == pytest.approx(15 * np.sin(2 * np.pi / 30), rel=1e-12)
    assert abs(volume(moved) - np.pi) < 0.02 * abs(volume(polygon) - np.pi)


def test_vertices_of_a_circle_move_out_by_a_twelfth_of_the_bend():
    """On a circle of radius r the bend over an edge e is e²/r: its normals differ by e/r along it."""
    polygon = circle(20, radius=3.0)
    edge = 6 * np.sin(np.pi / 20)
    np.testing.assert_allclose(np.linalg.norm(straddle(polygon).vertices, axis=1), 3 + edge**2 / 36, rtol=1e-12)


def test_a_torus_comes_nearer_and_gets_its_volume():
    mesh = torus(60, 30)
    moved = straddle(mesh)
    true = 2 * np.pi**2 * 0.4**2
    assert abs(volume(moved) - true) < 0.05 * abs(volume(mesh) - true)
    assert off_torus(moved) < 0.5 * off_torus(mesh)
    np.testing.assert_allclose(unit(moved.vertices - mesh.vertices)[:30] ** 2, mesh.normals[:30] ** 2, atol=1e-6)


def test_an_extracted_ball_gets_its_volume():
    def ball(x):
        distance = x.norm(dim=-1)
        return distance - 0.7, x / distance[:, None]

    mesh = refine(extract_surface(lambda x: ball(x)[0], [-1.0] * 3, [1.0] * 3, 24), ball)
    true = 4 / 3 * np.pi * 0.7**3
    assert abs(volume(straddle(mesh)) - true) < 0.02 * abs(volume(mesh) - true)


def test_flat_faces_and_their_creases_stay():
    corners = np.array([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
    cells = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6],
                      [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])  # fmt: skip
    cube = Surface(corners, cells, unit(corners - 0.5))
    np.testing.assert_array_equal(straddle(cube).vertices, corners)
