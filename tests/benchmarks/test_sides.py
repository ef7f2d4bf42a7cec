"""The table of sides: on a sphere all are right, and of normals that are turned on purpose as many are wrong."""

import numpy as np
import pytest

from phase_recon.benchmarks.sides import RIGHT, WRONG, calibration, main, sides_of
from phase_recon.datasets.pointcloud import PointCloud


def sphere(count=1500):
    points = np.random.default_rng(0).standard_normal((count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_wrong_sides_are_counted():
    points = sphere()
    right = sides_of(PointCloud(points, points))
    assert len(right.outward) == 1500
    assert right.row["sure %"] > 99
    assert right.row["wrong of sure %"] == right.row["wrong of all %"] == 0
    turned = np.where(np.arange(1500)[:, None] < 300, -points, points)
    some = sides_of(PointCloud(points, turned))
    assert some.row["wrong of all %"] == pytest.approx(20)
    assert some.wrong.mean() == pytest.approx(0.2)
    red = (some.colours == WRONG).all(axis=1)
    assert red.mean() == pytest.approx(some.row["sure %"] / 100 * some.row["wrong of sure %"] / 100)
    np.testing.assert_array_equal(some.points[red], points[:300][(right.colours == RIGHT).all(axis=1)[:300]])


def test_each_cloud_counts_the_same_in_the_calibration():
    """Of two points said to be 0.6 one is wrong, of four said to be 0.995 none; of another cloud's two at 0.6 both."""
    first = np.array([0.6, 0.6, 0.995, 0.995, 0.995, 0.995]), np.arange(6) < 1
    rows = calibration([first, (np.array([0.6, 0.6]), np.ones(2, dtype=bool))])
    low = rows[0]
    assert low["stated probability"] == "0.5 to 0.7"
    assert low["share of points %"] == pytest.approx(100 * (2 / 6 + 1) / 2)
    assert low["stated wrong %"] == pytest.approx(40)
    assert low["wrong %"] == pytest.approx(100 * (1 / 6 + 1) / (2 / 6 + 1))
    (sure,) = (row for row in rows if row["stated probability"] == "0.995 to 0.999")
    assert sure["wrong %"] == 0
    assert rows[-1]["wrong %"] is None


def test_the_command_prints_a_row_a_cloud(tmp_path, capsys):
    np.savez(tmp_path / "ball.npz", points=sphere(), normals=sphere())
    pictures = ["--picture", str(tmp_path / "calibration.png"), "--worst", str(tmp_path / "worst.png")]
    assert main([str(tmp_path), *pictures]) == 0
    out = capsys.readouterr().out
    assert "| ball | 1500 |" in out
    assert "worst 0, of 1 clouds" in out
    assert "| stated probability |" in out
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "worst.png").read_bytes().startswith(b"\x89PNG")
    assert main([str(tmp_path / "none")]) == 2
    assert "no .npz with points and normals" in capsys.readouterr().err
