"""Two boxes that share an edge, and two walls that meet in the face of a cell."""

import numpy as np
import pytest
import torch
import trimesh

from phase_recon.surface import extract
from phase_recon.surface.extract import extract_surface
from phase_recon.surface.manifold import with_single_edges
from phase_recon.surface.surface import Surface


def two_boxes():
    """Unit cubes with opposite corners in the plane, whose only common vertices are the ends of an edge along z."""
    box = trimesh.creation.box((1, 1, 1))
    vertices = np.concatenate([box.vertices + 0.5, box.vertices + np.array([1.5, 1.5, 0.5])])
    unique, of = np.unique(vertices.round(9), axis=0, return_inverse=True)
    assert len(unique) == 14
    return Surface(unique, of.reshape(-1)[np.concatenate([box.faces, box.faces + 8])])


def two_cells(x):
    """A field that is known at the nodes of a grid, 2 about all but the corners of two cells; there are two walls."""
    walls = [[[-98, 519], [31, -240]], [[-202, 373], [155, -289]], [[-277, 200], [307, -286]]]
    nodes = torch.from_numpy(np.pad(np.array(walls) / 500, 2, constant_values=2)).float()
    return nodes[tuple(x.round().long().T)]


def test_an_edge_of_four_triangles_becomes_two():
    boxes = two_boxes()
    assert not boxes.is_closed()
    single = with_single_edges(boxes)
    assert single.is_closed()
    mesh = trimesh.Trimesh(single.vertices, single.cells, process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert len(single.vertices) == len(boxes.vertices) + 1
    assert mesh.volume == pytest.approx(2.0, abs=0.02)  # the middle is moved by a twentieth of the edge
    assert single.vertices[-1][2] == pytest.approx(0.5)
    assert 0 < np.linalg.norm(single.vertices[-1] - [1, 1, 0.5]) <= 0.05


def test_other_surfaces_stay_as_they_are():
    box = trimesh.creation.box((1, 1, 1))
    surface = Surface(np.array(box.vertices), np.array(box.faces))
    assert with_single_edges(surface) is surface
    half = Surface(surface.vertices, surface.cells[:5])
    assert with_single_edges(half) is half


def test_a_triangle_that_comes_twice_each_way_stays():
    """Its sides bound four triangles, but no two of them part."""
    twice = np.array([[0, 1, 2], [0, 1, 2], [1, 0, 2], [1, 0, 2]])
    surface = Surface(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), twice)
    assert with_single_edges(surface) is surface


def test_two_walls_in_the_face_of_a_cell_are_closed_for_other_readers(monkeypatch):
    def mesh():
        surface = extract_surface(two_cells, [0.0] * 3, [6.0, 5.0, 5.0], 6)
        return surface, trimesh.Trimesh(surface.vertices, surface.cells, process=True)

    surface, read = mesh()
    assert surface.is_closed()
    assert read.is_watertight
    monkeypatch.setattr(extract, "with_single_edges", lambda surface: surface)
    assert not mesh()[0].is_closed()
