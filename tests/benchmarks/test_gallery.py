"""The gallery: where it finds the worst place, what it draws there, and the page."""

import io
import sys

import numpy as np
import pytest
import trimesh
from PIL import Image

from phase_recon.benchmarks import gallery
from phase_recon.benchmarks.shapes import SHAPES
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError


def box(low, high):
    mesh = trimesh.creation.box(bounds=[low, high])
    return Surface(np.array(mesh.vertices), np.array(mesh.faces))


def joined(first, second):
    cells = np.concatenate([first.cells, second.cells + len(first.vertices)])
    return Surface(np.concatenate([first.vertices, second.vertices]), cells)


CUBE = box([-0.5, -0.5, -0.5], [0.5, 0.5, 0.5])
# a small box, of which the corner at x = 0.9 is 0.4 from the cube and no other place is farther
BALLOON = box([0.7, -0.1, -0.1], [0.9, 0.1, 0.1])


def test_the_worst_place_is_found_on_either_surface():
    for ours, truth in ((joined(CUBE, BALLOON), CUBE), (CUBE, joined(CUBE, BALLOON))):
        worst = gallery.worst_place(ours, truth)
        assert worst.place[0] == pytest.approx(0.9)
        assert worst.step[0] < -0.39


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cross_section_of_a_cube_is_a_square(axis):
    segments = gallery.cross_section(CUBE, axis, 0.2)
    assert np.abs(segments).max() == pytest.approx(0.5)
    assert np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1).sum() == pytest.approx(4.0)
    assert len(gallery.cross_section(CUBE, axis, 0.6)) == 0


@pytest.fixture
def make(tmp_path, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["gallery.py", *(str(a) for a in (tmp_path, *arguments))])
        return gallery.main(), capsys.readouterr()

    return call


def test_the_page_has_a_row_and_a_picture_for_each_case(make, tmp_path, monkeypatch):
    """Where the surface is the true one, all figures are known."""
    given = []

    def reconstruct(points, overrides):
        given.append(overrides)
        return SHAPES["relief"].surface(0.01)

    monkeypatch.setattr(gallery, "reconstruct", reconstruct)
    monkeypatch.setattr(gallery, "SIZE", 60)
    status, _ = make("--only", "relief", "--steps", "7")
    assert status == 0
    assert given == [{"train.nepoch": 7}]
    text = (tmp_path / "GALLERY.md").read_text()
    assert "| 1 (1) | 2 (2) |" in text
    assert "(gallery/relief-exact.png)" in text
    image = Image.open(io.BytesIO((tmp_path / "gallery" / "relief-exact.png").read_bytes()))
    assert image.size == (180, 60 + gallery.TITLE)


def test_a_case_without_a_surface_says_why(make, tmp_path, monkeypatch):
    def reconstruct(points, overrides):
        raise UserError("there is no surface")

    monkeypatch.setattr(gallery, "reconstruct", reconstruct)
    assert make("--only", "bowl")[0] == 0
    text = (tmp_path / "GALLERY.md").read_text()
    assert "failed: there is no surface" in text
    assert ".png" not in text


def test_an_unknown_shape_is_refused(make):
    status, said = make("--only", "bowl,teapot")
    assert status == 2
    assert said.err.startswith("error: --only 'teapot': expected some of relief, lizard, ")


def test_every_case_is_a_shape_and_a_kind_of_cloud():
    assert all(shape in SHAPES and kind in gallery.KINDS for shape, kind in gallery.CASES)
