"""Iterated Poisson with a solver whose answers are known: it stops when nothing changes, and gives the outward side."""

import numpy as np
import trimesh

from phase_recon.reconstruction.poisson import MOST_ROUNDS, iterated
from phase_recon.surface.surface import Surface


def test_iterated_poisson_takes_the_normals_of_the_faces_until_they_stay():
    ball = trimesh.creation.icosphere(3)
    points, faces = np.asarray(ball.vertices), np.asarray(ball.faces, dtype=np.int64)
    asked = []

    def solve(normals):
        """The ball, inside out unless the normals given point outward."""
        asked.append(normals)
        outward = (normals * points).sum() > 0
        return Surface(points, faces if outward and len(asked) > 2 else faces[:, ::-1])

    surface = iterated(points, solve)
    assert len(asked) == 3 + 1 - 1
    np.testing.assert_array_equal(surface.cells, faces)
    np.testing.assert_allclose((asked[-1] * points).sum(axis=1), 1, atol=0.05)


def test_iterated_poisson_ends_where_it_never_settles():
    ball = trimesh.creation.icosphere(2)
    points, faces = np.asarray(ball.vertices), np.asarray(ball.faces, dtype=np.int64)
    asked = []

    def solve(normals):
        asked.append(normals)
        return Surface(points, faces[:, :: -1 if len(asked) % 2 else 1])

    iterated(points, solve)
    assert len(asked) == MOST_ROUNDS + 1
