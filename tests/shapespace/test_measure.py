"""The page of shape spaces: what is trained, fitted and compared, and what its summary says."""

import numpy as np
import pytest

from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.shapespace import measure
from phase_recon.shapespace.measure import PARTIAL, REFINED, WHOLE


def row(body, loss, way, chamfer, components=1):
    figures = {"d_C": chamfer, "d_H": 10 * chamfer, "components": components}
    return {"body": body, "loss": loss, "steps": 7, "way": way, **figures}


@pytest.fixture
def page(tmp_path, monkeypatch, capsys):
    """Run measure.py with rows that are made up: one body fails by its code, and one has no network of its own."""

    def space_rows(loss, options):
        scale = 1 if loss == "phase" else 2
        yield {"body": "body_0002", "loss": loss, "steps": 7, "way": WHOLE, "failed": "no surface"}
        yield row("body_0003", loss, WHOLE, 0.006 * scale, components=2)
        yield row("body_0002", loss, REFINED, 0.002 * scale)
        yield row("body_0003", loss, REFINED, 0.004 * scale)
        yield row("body_0002", loss, PARTIAL, 0.005 * scale)

    def own_rows(options):
        yield {"body": "body_0002", "way": WHOLE, "d_C": 0.002, "d_H": 0.01}
        yield {"body": "body_0002", "way": PARTIAL, "d_C": 0.020, "d_H": 0.1}

    monkeypatch.setattr(measure, "space_rows", space_rows)
    monkeypatch.setattr(measure, "own_rows", own_rows)

    def call(*arguments):
        words = ["--out", str(tmp_path / "out"), "--docs", str(tmp_path / "docs"), "--train", "2", "--test", "2"]
        return measure.main([*words, *arguments]), capsys.readouterr(), tmp_path

    return call


def test_the_summary_compares_on_the_same_bodies_and_counts_what_failed(page):
    status, _, folder = page()
    assert status == 1  # as a run failed
    lines = (folder / "docs" / "SPACES.md").read_text().splitlines()
    # the only body with a network of its own failed by its code
    assert "| phase | by its code | 0.006 | 0.006 | 0.006 | 0.06 | 0 of 2 |  |  |" in lines
    assert "| phase | refined | 0.003 | 0.003 | 0.004 | 0.03 | 2 of 2 | 0.002 | 1.00 (1) |" in lines
    assert "| igr | from a part, by its code | 0.01 | 0.01 | 0.01 | 0.1 | 1 of 1 | 0.02 | 0.50 (1) |" in lines
    assert any(line.startswith("| body_0002 | failed | failed | 0.002 / 0.02 | 0.004 / 0.04 |") for line in lines)


def test_a_part_is_of_the_front_with_noise(page):
    _, _, folder = page("--losses", "phase")
    bodies = folder / "out" / "bodies-2-2-0"
    assert sorted(path.name for path in (bodies / "train").iterdir()) == ["body_0000.npz", "body_0001.npz"]
    whole, part = (load_point_cloud(bodies / kind / "body_0002.npz") for kind in ("test", "part"))
    assert len(part.points) == 300
    assert (part.normals[:, 1] < 0).all()
    nearest = np.linalg.norm(whole.points[None] - part.points[:50, None], axis=2).min(axis=1)
    assert 0.002 < nearest.mean() < 0.01  # noise of 0.005 along each axis, among points 0.02 apart


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--test", "0"), "--test: expected at least 1, got 0"),
        (("--losses", "phase,siren"), "--losses 'siren': expected some of phase, igr"),
    ],
)
def test_mistakes_are_one_line(page, arguments, text):
    status, said, folder = page(*arguments)
    assert (status, said.err) == (2, f"error: {text}\n")
    assert not (folder / "docs").exists()
