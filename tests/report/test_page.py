"""Pages of tori and circles, read back: their data, their size, and that they need no network."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from phase_recon.report.page import simplified, surface_page
from phase_recon.surface.surface import Surface

MEGABYTES_10 = 10_000_000


def mesh(found: trimesh.Trimesh) -> Surface:
    return Surface(np.asarray(found.vertices), np.asarray(found.faces, dtype=np.int64))


def read(path: Path) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """The page's text, and the traces and the layout it draws."""
    text = path.read_text()
    call = text.rindex("Plotly.newPlot(")
    start = text.index("[", call)
    start = text.index("[{", start)
    traces, end = json.JSONDecoder().raw_decode(text[start:])
    layout, _ = json.JSONDecoder().raw_decode(text[text.index("{", start + end) :])
    return text, traces, layout


def column(entry: dict[str, str]) -> np.ndarray:
    assert "bdata" in entry, "numbers must travel in binary"
    return np.frombuffer(base64.b64decode(entry["bdata"]), dtype=entry["dtype"])


def columns(trace: dict[str, Any], names: str) -> np.ndarray:
    return np.stack([column(trace[name]) for name in names], axis=1)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_a_mesh_is_simplified_as_far_in_any_unit(unit):
    ball = mesh(trimesh.creation.icosphere(6))
    rough = ball.vertices * (1 + 0.003 * np.random.default_rng(0).standard_normal((len(ball.vertices), 1)))
    assert len(simplified(Surface(unit * rough, ball.cells), 20_000).cells) <= 20_000


def test_a_large_mesh_makes_a_page_under_10_mb_that_needs_no_network(tmp_path):
    torus = mesh(trimesh.creation.torus(1.0, 0.3, major_sections=500, minor_sections=400))
    assert len(torus.cells) == 400_000
    colours = (255 * (torus.vertices - torus.vertices.min(axis=0)) / 2.6).astype(np.uint8)
    torus = Surface(torus.vertices, torus.cells, colours=colours)
    surface_page(tmp_path / "p.html", torus, np.repeat(torus.vertices, 2, axis=0), "torus")
    assert list(tmp_path.iterdir()) == [tmp_path / "p.html"]
    assert (tmp_path / "p.html").stat().st_size < MEGABYTES_10

    text, (surface, points), layout = read(tmp_path / "p.html")
    assert not re.search(r"<script[^>]*\ssrc\s*=|<link\s", text)
    vertices, cells = columns(surface, "xyz"), columns(surface, "ijk")
    assert 100_000 < len(cells) <= 120_000
    assert cells.max() < len(vertices)
    off = np.hypot(np.hypot(vertices[:, 0], vertices[:, 1]) - 1, vertices[:, 2]) - 0.3
    assert np.abs(off).max() < 0.01
    assert len(columns(points, "xyz")) == 20_000
    subtitle = layout["title"]["subtitle"]["text"]
    assert subtitle == f"{len(cells):,} of 400,000 triangles, 20,000 of {2 * len(torus.vertices):,} points"

    shown = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in surface["vertexcolor"]])
    expected = 255 * (vertices - torus.vertices.min(axis=0)) / 2.6
    assert np.abs(shown - expected).max() < 6


def test_a_small_mesh_is_shown_as_it_is(tmp_path):
    box = mesh(trimesh.creation.box())
    surface_page(tmp_path / "p.html", box, box.vertices[:3], "a <box> & more", up="z")
    _, (surface, points), layout = read(tmp_path / "p.html")
    np.testing.assert_array_equal(columns(surface, "xyz"), box.vertices)
    np.testing.assert_array_equal(columns(surface, "ijk"), box.cells)
    np.testing.assert_array_equal(columns(points, "xyz"), box.vertices[:3])
    assert layout["title"]["text"] == "a <box> & more"
    assert layout["scene"]["aspectmode"] == "data"
    assert layout["scene"]["camera"]["up"] == {"x": 0, "y": 0, "z": 1}
    assert layout["scene"]["camera"]["eye"]["y"] < -1  # in front, where z points up
    assert layout["scene"]["xaxis"]["title"]["text"] == "x"
    assert (surface["name"], points["name"]) == ("surface", "points")
    assert surface["showlegend"]


def test_detail_far_from_zero_survives_single_precision(tmp_path):
    box = mesh(trimesh.creation.box())
    place = np.array([512_345.0, 4_649_776.0, 312.5])
    vertices = 0.01 * box.vertices + place
    surface_page(tmp_path / "p.html", Surface(vertices, box.cells), vertices, "far")
    _, (surface, points), layout = read(tmp_path / "p.html")
    titles = [layout["scene"][f"{name}axis"]["title"]["text"] for name in "xyz"]
    offset = np.array([float(text.split(" − ")[1]) for text in titles])
    for trace in (surface, points):
        np.testing.assert_allclose(columns(trace, "xyz") + offset, vertices, atol=2e-9, rtol=0)


def test_many_small_triangles_far_away_are_simplified_in_place(tmp_path):
    ball = mesh(trimesh.creation.icosphere(subdivisions=4))
    place = np.array([5e5, 4.6e6, 300.0])
    far = Surface(1e-3 * ball.vertices + place, ball.cells)
    surface_page(tmp_path / "p.html", far, far.vertices, "far", max_faces=1000, max_points=10)
    _, (surface, points), layout = read(tmp_path / "p.html")
    titles = [layout["scene"][f"{name}axis"]["title"]["text"] for name in "xyz"]
    offset = np.array([float(text.split(" − ")[1]) for text in titles])
    assert len(column(surface["i"])) <= 1000
    radii = np.linalg.norm(columns(surface, "xyz") + (offset - place), axis=1)
    assert radii == pytest.approx(1e-3, rel=0.02)
    assert len(column(points["x"])) == 10


def test_curves_are_filled_and_kept_apart(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    cells = np.stack([np.arange(50), np.roll(np.arange(50), -1)], axis=1)
    moved = circle + np.array([3.0, 0.0])
    both = Surface(np.concatenate([circle, moved]), np.concatenate([cells, cells + 50]))
    surface_page(tmp_path / "p.html", both, circle, "curves")
    text, (curve, points), layout = read(tmp_path / "p.html")
    assert len(text) < MEGABYTES_10
    shown = columns(curve, "xy")
    assert len(shown) == 51 + 1 + 51
    assert np.isnan(shown[51]).all()
    np.testing.assert_allclose(shown[52:102], both.vertices[50:], atol=1e-6)
    assert curve["fill"] == "toself"
    assert layout["yaxis"]["scaleanchor"] == "x"
    assert len(columns(points, "xy")) == 50

    surface_page(tmp_path / "p.html", Surface(circle, cells[:-5]), circle, "open")
    assert read(tmp_path / "p.html")[1][0]["fill"] == "none"
