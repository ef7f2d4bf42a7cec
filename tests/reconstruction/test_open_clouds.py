"""What a run says of a cloud that is open: no word on closed clouds, and what to do with terrain or a single view.

The surfaces are true ones, closed; of an open cloud, points lie on a part of them.
"""

import json
import math

import numpy as np
import pytest

from conftest import Command
from phase_recon.benchmarks.shapes import SHAPES
from phase_recon.reconstruction.run import OPEN, _show_metrics
from phase_recon.surface.files import read_surface
from phase_recon.surface.metrics import compare_to_points, sample_surface
from phase_recon.surface.surface import Surface, near_points

CLOSED = ["bracket", "plate", "fan", "hex_nut", "pipe_tee", "vase", "mug", "box_in_box", "torus", "chain", "knot",
          "stool"]  # fmt: skip
OPEN_PARTS = {  # of a shape: where it was seen, by places in its box (0 to 1) and normals
    "half a ring": ("torus", lambda x, n: x[:, 0] < 0.5),
    "one view of an ellipsoid": ("ellipsoid", lambda x, n: n[:, 0] > 0.1),
    "a ball without its top": ("ellipsoid", lambda x, n: x[:, 2] < 0.7),
    "hills seen from above": ("hills", lambda x, n: n[:, 2] > 0.1),
    "a pipe without its end": ("pipe_tee", lambda x, n: x[:, 0] < 0.6),
    "one view of a ring": ("torus", lambda x, n: n[:, 0] > 0.1),
}


def far_share(surface, keep=lambda x, n: np.full(len(x), True), noise=0.0):
    points, cells = sample_surface(surface, 4000, 0)
    low = surface.vertices.min(axis=0)
    points = points[keep((points - low) / np.ptp(surface.vertices, axis=0), surface.cell_normals()[cells])]
    points = points + np.random.default_rng(0).normal(0, noise, points.shape)
    return compare_to_points(surface, points, 20_000)["surface_far_share"]


@pytest.mark.parametrize("name", CLOSED)
def test_closed_clouds_are_not_called_open(name):
    surface = SHAPES[name].surface(0.05)
    assert far_share(surface) < 0.01
    assert far_share(surface, noise=0.01) < 0.01


@pytest.mark.parametrize("part", OPEN_PARTS)
def test_open_clouds_are(part):
    name, keep = OPEN_PARTS[part]
    assert far_share(SHAPES[name].surface(0.05), keep) > OPEN


def ball():
    surface = SHAPES["ellipsoid"].surface(0.02)
    return Surface(surface.vertices / np.abs(surface.vertices).max(axis=0), surface.cells)


def test_the_share_is_that_of_the_area():
    """Of a ball of radius 1 whose upper half was seen, it is the zone that is far enough below the rim."""
    points, _ = sample_surface(ball(), 20_000, 0)
    found = compare_to_points(ball(), points[points[:, 2] > 0], 100_000)
    radius = math.hypot(1, 0.5)  # about the middle of the box of half a ball
    assert found["far"] == pytest.approx(0.05 * radius, rel=0.01)
    # a place at the height -h is as far from the rim as the chord to it
    reach = max(found["far"], 2 * math.sqrt(16 * 2 / 10_000 * 2))  # near a rim a neighbourhood is half a disc
    assert found["surface_far_share"] == pytest.approx((1 - reach) / 2, abs=0.03)


def said(share, tmp_path, capsys):
    metrics = {
        "components": 1, "closed": True,
        "input": {
            "cloud_to_surface_mean": 0.1, "cloud_to_surface_max": 0.2, "far": 3.14159, "surface_far_share": share,
        },
    }  # fmt: skip
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    _show_metrics(tmp_path / "metrics.json")
    return capsys.readouterr().out.splitlines()[1:]


def test_what_is_said(tmp_path, capsys):
    assert said(0.0, tmp_path, capsys) == []
    assert said(0.06, tmp_path, capsys) == ["6% of the surface is farther than 3.1 from all points, and so a guess"]
    assert said(0.35, tmp_path, capsys) == [
        "warning: 35% of the surface is farther than 3.1 from all points: the cloud looks open, as terrain, a room or "
        "a single view is, and what closes the surface is a guess; the same command with --eval --trim 3.1 cuts that "
        "off, and training with --sensor X,Y,Z mends sides that are wrong"
    ]


def test_what_is_far_from_all_points_is_trimmed(command: Command, clouds, tmp_path):
    """Of half a circle, the half that closes it is cut off; the run stays, and meshes closed again."""
    points = np.loadtxt(clouds[0])
    half = points[points[:, 1] >= np.median(points[:, 1])]
    np.savetxt(tmp_path / "half.xyz", half)
    first = command(tmp_path / "half.xyz", "--steps", 100, "--set", "train.start=winding")
    assert first.status == 0, first.err
    assert "of the surface is farther than" in first.out
    done = command("--eval", "--trim", 3, "-o", tmp_path / "trimmed.ply")
    assert done.status == 0, done.err
    curve = read_surface(tmp_path / "trimmed.ply")
    assert not curve.is_closed()
    assert np.linalg.norm(curve.vertices[:, None] - half, axis=2).min(axis=1).max() <= 3
    assert command("--eval", "--trim", 1e-9).err == (
        "error: --trim 1e-09 (plot.trim): nothing of the surface is so near to the points\n"
    )
    assert command("--eval", "--trim", 0).err == "error: --trim: expected more than 0, got 0.0\n"


def test_cells_near_points():
    triangles = Surface(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 0]]), np.array([[0, 1, 2], [1, 3, 2]]))
    kept = near_points(triangles, np.array([[0.0, 0, 0]]), 1.0 + 1e-9)
    assert kept.cells.tolist() == [[0, 1, 2]]
    assert len(kept.vertices) == 3
