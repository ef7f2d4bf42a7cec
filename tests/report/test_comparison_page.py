"""The comparison's page, read back: all its parts, and the link between its views."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
import trimesh
from test_page import columns, read

from phase_recon.report.comparison_page import Shown, comparison_page
from phase_recon.surface.surface import Surface

TABLE = [["method", "d_C"], ["<torus>", "0.5"], ["none", ""]]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cuts.png"
    path.write_bytes(b"\x89PNG not drawn")
    return path


def solid(found: trimesh.Trimesh) -> Surface:
    return Surface(np.asarray(found.vertices), np.asarray(found.faces, dtype=np.int64))


def circle(radius: float) -> Surface:
    angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    cells = np.stack([np.arange(50), np.roll(np.arange(50), -1)], axis=1)
    return Surface(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), cells)


def figures(path: Path) -> list[tuple]:
    """Traces and layout of each figure of a page, in their order."""
    text = path.read_text()
    calls = [match.start() for match in re.finditer(r"Plotly\.newPlot\(\s*\"", text)]
    found = []
    for start, end in zip(calls, [*calls[1:], len(text)], strict=True):
        one = path.with_suffix(f".{start}")
        one.write_text(text[start:end])
        found.append(read(one)[1:])
    return found


def test_surfaces_stand_in_one_linked_view_with_everything_in_one_file(tmp_path, picture):
    torus, far = solid(trimesh.creation.torus(2.0, 0.7)), np.array([5e6, 0.0, 0.0])
    moved = Surface(torus.vertices + far, torus.cells)
    box = solid(trimesh.creation.box((8.0, 1.0, 1.0)))
    shown = [
        Shown("<torus>", moved, [(1.0, 0.5), (2.0, 0.25)]),
        Shown("none", None),
        Shown("box", Surface(box.vertices + far, box.cells), [(3.0, 1.0)]),
    ]
    path = tmp_path / "compare.html"
    points = moved.vertices[:100]
    comparison_page(path, "a < b", "python compare.py", "A note.", TABLE, points, shown, "d_C", {"cuts of it": picture})

    text = path.read_text()
    assert not re.search(r"<script[^>]*\ssrc\s*=|<link\s", text)
    assert "<h1>a &lt; b</h1><pre>python compare.py</pre>" in text
    assert "<th>method</th><th>d_C</th>" in text
    assert "<tr><td>&lt;torus&gt;</td><td>0.5</td></tr><tr><td>none</td><td></td></tr>" in text
    assert "<p>A note.</p>" in text
    assert f'alt="cuts of it" src="data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"' in text

    (traces, layout), (lines, axes) = figures(path)
    assert [trace["type"] for trace in traces] == ["scatter3d", "mesh3d", "mesh3d"]
    assert [trace.get("scene", "scene") for trace in traces] == ["scene", "scene2", "scene3"]
    assert [note["text"] for note in layout["annotations"]] == ["points", "<torus>", "box"]
    offset = columns(traces[1], "xyz") - moved.vertices
    np.testing.assert_allclose(offset, np.broadcast_to(offset[0], offset.shape), atol=1e-6)
    np.testing.assert_allclose(columns(traces[2], "xyz") - box.vertices, offset[:8] + far, atol=1e-6)
    for scene in ("scene", "scene2", "scene3"):  # one frame for all, large enough for the largest
        assert layout[scene]["camera"] == layout["scene"]["camera"]
        low, high = layout[scene]["xaxis"]["range"]
        assert high - low == pytest.approx(8.0)
        assert layout[scene]["aspectratio"] == pytest.approx({"x": 1.0, "y": 5.4 / 8, "z": 1.4 / 8}, abs=1e-6)
    # the script that hands one scene's camera to the others, on the figure that has them, and on no other
    assert text.count('view.on("plotly_relayout", follow)') == 1
    assert 'const view = document.getElementById("surfaces")' in text
    assert [trace["name"] for trace in lines] == ["<torus>", "box"]
    assert (lines[0]["x"], lines[0]["y"]) == ([1.0, 2.0], [0.5, 0.25])
    assert axes["yaxis"]["title"]["text"] == "d_C"


def test_curves_share_their_axes(tmp_path, picture):
    path = tmp_path / "compare.html"
    shown = [Shown("one", circle(1.0)), Shown("two", circle(2.0))]
    comparison_page(path, "t", "c", "n", TABLE, circle(1.0).vertices, shown, "d_C", {})
    ((traces, layout),) = figures(path)  # without a history there is no figure of it
    assert [trace["type"] for trace in traces] == ["scatter"] * 3
    assert np.abs(columns(traces[2], "xy")).max() == pytest.approx(2.0, abs=0.01)
    assert layout["xaxis2"]["matches"] == layout["xaxis3"]["matches"] == "x"
    assert layout["yaxis2"]["matches"] == layout["yaxis3"]["matches"] == "y"
    assert "plotly_relayouting" not in path.read_text().rsplit("Plotly.newPlot(", 1)[1]
