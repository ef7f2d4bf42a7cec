"""The table of sides: on a sphere all are right, and of normals that are turned on purpose as many are wrong."""

import numpy as np
import pytest

from phase_recon.benchmarks.sides import main, sides_of
from phase_recon.datasets.pointcloud import PointCloud


def sphere(count=1500):
    points = np.random.default_rng(0).standard_normal((count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_wrong_sides_are_counted():
    points = sphere()
    right = sides_of(PointCloud(points, points))
    assert right["sure %"] > 99
    assert right["wrong of sure %"] == right["wrong of all %"] == 0
    turned = np.where(np.arange(1500)[:, None] < 300, -points, points)
    assert sides_of(PointCloud(points, turned))["wrong of all %"] == pytest.approx(20)


def test_the_command_prints_a_row_a_cloud(tmp_path, capsys):
    np.savez(tmp_path / "ball.npz", points=sphere(), normals=sphere())
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| ball | 1500 |" in out
    assert out.rstrip().endswith("worst 0, of 1 clouds")
    assert main([str(tmp_path / "none")]) == 2
    assert "no .npz with points and normals" in capsys.readouterr().err
