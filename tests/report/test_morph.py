"""The page of a path between shapes: all at one scale, and where they are."""

import re

import numpy as np
import pytest
import trimesh

from phase_recon.report.morph import morph_page
from phase_recon.surface.surface import Surface


@pytest.mark.parametrize("d", [2, 3])
def test_all_shapes_have_one_scale_and_the_axes_name_their_offset(tmp_path, d):
    angle = np.linspace(0, 2 * np.pi, 41)[:-1]
    ball = trimesh.creation.icosphere(2)
    vertices = ball.vertices if d == 3 else np.stack([np.cos(angle), np.sin(angle)], axis=1)
    cells = ball.faces if d == 3 else np.stack([np.arange(40), np.roll(np.arange(40), -1)], axis=1)
    shapes = [Surface(radius * vertices + 5000.0, cells) for radius in (1.0, 3.0)]
    morph_page(tmp_path / "path.html", shapes, "grows")
    layout = _compact(tmp_path / "path.html")
    ranges = [[float(end) for end in found] for found in re.findall(r'"range":\[(-?[\d.]+),(-?[\d.]+)\]', layout)]
    np.testing.assert_allclose(ranges, [[-3, 3]] * d, atol=0.05)
    assert layout.count("5000") >= d


def _compact(path):
    """The part of a page below plotly's own script, without spaces."""
    return path.read_text().rpartition("Plotly.newPlot(")[2].replace(" ", "")
