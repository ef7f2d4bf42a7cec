"""Close-ups show the part of most relief, from where it faces."""

import matplotlib.image
import numpy as np
import pytest
import trimesh

from phase_recon.benchmarks.closeup import draw_closeup, most_relief, part_of, view_along
from phase_recon.surface.surface import Surface


def bumpy_plate():
    """A square of side 2 in the plane z = 0 with a bump about (0.5, 0.5)."""
    ticks = np.linspace(-1, 1, 41)
    x, y = (of.ravel() for of in np.meshgrid(ticks, ticks, indexing="ij"))
    z = 0.1 * np.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.01)
    first = (41 * np.arange(40)[:, None] + np.arange(40)).ravel()
    cells = np.concatenate([np.stack([first, first + 41, first + 42], 1), np.stack([first, first + 42, first + 1], 1)])
    return Surface(np.stack([x, y, z], axis=1), cells)


def test_the_bump_is_found_and_seen_from_above():
    place, normal = most_relief(bumpy_plate(), 0.3)
    assert np.linalg.norm(place[:2] - 0.5) < 0.3
    assert normal[2] > 0.8


def test_a_part_has_the_triangles_within_its_radius():
    plate = bumpy_plate()
    part = part_of(plate, np.zeros(3), 0.26)
    assert np.linalg.norm(part.vertices, axis=1).max() < 0.26
    ball = trimesh.creation.icosphere()
    assert len(part_of(Surface(ball.vertices, ball.faces), np.zeros(3), 1.1).cells) == len(ball.faces)
    inside = np.linalg.norm(plate.vertices, axis=1) < 0.26
    assert len(part.cells) == inside[plate.cells].all(axis=1).sum() > 0


@pytest.mark.parametrize(
    "normal", [(1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0.6, 0, -0.8), (-2 / 3, 1 / 3, 2 / 3)]
)
def test_one_looks_at_a_part_along_its_normal(normal):
    """The third row of the camera's axes points from the part to the eye."""
    np.testing.assert_allclose(view_along(np.array(normal, dtype=float)).axes("z")[2], normal, atol=1e-12)


def test_a_panel_for_each_surface_that_has_something_there(tmp_path):
    plate = bumpy_plate()
    far = Surface(plate.vertices + 100, plate.cells)
    draw_closeup(tmp_path / "detail.png", {"truth": plate, "ours": plate, "far": far})
    height, width = matplotlib.image.imread(tmp_path / "detail.png").shape[:2]
    assert width == pytest.approx(660, abs=3)
    assert height == pytest.approx(356, abs=3)
