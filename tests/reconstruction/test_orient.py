"""The command that writes a cloud with oriented normals: on a sphere and a circle, whose normals are known."""

from pathlib import Path

import numpy as np
import pytest

from conftest import CENTRES, RADIUS
from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.reconstruction import run
from phase_recon.reconstruction.orient import main


@pytest.mark.parametrize("kind", [0, 1], ids=["2D", "3D"])
def test_a_cloud_is_written_with_outward_normals(clouds, kind, tmp_path: Path, capsys):
    output = tmp_path / "normals.ply"
    assert main([str(clouds[kind]), "-o", str(output)]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"oriented: {output}")
    read = load_point_cloud(output)
    np.testing.assert_array_equal(read.points, load_point_cloud(clouds[kind]).points)
    np.testing.assert_allclose(read.normals, (read.points - CENTRES[kind]) / RADIUS, atol=0.02)
    assert b"property double confidence" in output.read_bytes()[:400]


def test_it_is_a_command_of_run_py_too_and_writes_beside_nothing(clouds, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run.main(["orient", str(clouds[1])]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sphere_oriented.ply"]


def test_what_is_wrong_is_said_in_a_line(clouds, tmp_path: Path, capsys):
    for arguments, says in (
        ([tmp_path / "none.xyz"], "none.xyz: no such file"),
        ([clouds[1], "-o", tmp_path / "x.obj"], "oriented points are written as .ply, not as .obj"),
    ):
        assert main([str(argument) for argument in arguments]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1
