"""Iterated Poisson with a solver whose answers are known: it stops when nothing changes, and gives the outward side."""

import numpy as np
import pytest
import trimesh

from phase_recon.reconstruction.poisson import MOST_ROUNDS, iterated, main
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


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["cloud.xyz", "cloud.xyz"], "error: MESH cloud.xyz: is the cloud itself; give the mesh another name"),
        (["cloud.xyz", "mesh.ply", "--depth", "0"], "error: --depth 0: expected 2 to 16"),
    ],
)
def test_what_cannot_be_done_is_an_error(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    np.savetxt("cloud.xyz", trimesh.creation.icosphere(2).vertices)
    before = (tmp_path / "cloud.xyz").read_bytes()
    monkeypatch.setattr("sys.argv", ["poisson.py", *arguments])
    assert main() == 2
    assert text in capsys.readouterr().err
    assert (tmp_path / "cloud.xyz").read_bytes() == before
