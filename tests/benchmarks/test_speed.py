"""The page of speed: its figures are those of the runs, and what failed says so."""

import sys

import pytest
import trimesh

from phase_recon.benchmarks import speed
from phase_recon.utils.errors import UserError


@pytest.fixture
def page(tmp_path, monkeypatch, capsys):
    """Run speed.py with runs that are made up: 30 s and 0.01 for a minute of ours, Poisson fails on many points."""

    def measured(case, method, seed, command, out):
        row = {"case": case.name, "method": method, "seed": seed}
        if method == "poisson10+normals" and case.name.endswith("-2000"):
            return row | {"failed": "no memory"}
        minutes = float(command[command.index("--minutes") + 1]) if "--minutes" in command else 2.0
        measures = {"d_C": 0.01 / minutes, "d_H": 0.1, "euler_characteristic": 2.0, "target_euler_characteristic": 2.0}
        return row | measures | {"seconds": 30 * minutes, "megabytes": 500.0}

    monkeypatch.setattr(speed, "measured", measured)
    monkeypatch.setattr(speed, "CLOUDS", (("torus", "noisy"),))
    monkeypatch.setattr(speed, "printed", lambda script: f"half by {script}")

    def call(*arguments):
        words = ["speed.py", "--out", str(tmp_path / "out"), "--docs", str(tmp_path / "docs"), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        return speed.main(), capsys.readouterr(), tmp_path / "docs"

    return call


def test_the_page_has_a_row_for_each_time_and_each_number_of_points(page):
    status, _, docs = page("--minutes", "0.5,1", "--points", "1000,2000", "--seed", "3")
    assert status == 0
    lines = (docs / "SPEED.md").read_text().splitlines()
    assert "    python code/benchmarks/speed.py --minutes 0.5,1 --points 1000,2000 --seed 3" in lines
    assert "| torus-noisy | ours, 0.5 min | 0.02 | 0.1 | 2 | 2 | 15 | 500 |" in lines
    assert "| torus-noisy | ours, 1 min | 0.01 | 0.1 | 2 | 2 | 30 | 500 |" in lines
    assert sum(line.startswith("| torus-noisy | iterated Poisson, depth 9 |") for line in lines) == 1
    assert "| 1000 | ours | 0.005 | 0.1 | 2 | 2 | 60 | 500 |" in lines
    assert "| 2000 | true normals + Poisson, depth 10 | failed |  |  |  |  |  |" in lines
    text = (docs / "SPEED.md").read_text()
    assert "    python code/reconstruction/bench_step.py\n\n```\nhalf by bench_step.py\n```\n" in text
    assert "    python code/reconstruction/bench_detail.py\n\n```\nhalf by bench_detail.py\n```\n" in text
    assert "detail.png" not in text  # there is no dense cloud
    assert all((docs / name).read_bytes().startswith(b"\x89PNG") for name in ("error_time.png", "cost.png"))


def test_curves_are_those_of_the_rows_without_the_failed(page):
    rows = [{"seconds": 1.0, "d_C": 2.0}, {"failed": "no memory"}, {"seconds": 3.0, "d_C": 4.0}]
    curve = speed._curve("ours", rows, "seconds", "d_C")
    assert (curve.x, curve.y) == ((1.0, 3.0), (2.0, 4.0))


def test_the_detail_is_drawn_from_the_written_meshes(tmp_path):
    ball = trimesh.creation.icosphere(3)
    ball.export(tmp_path / "ball.ply")
    case = speed.Case(speed.DETAIL, tmp_path / "cloud.npz", tmp_path / "ball.ply")
    mesh = {"written": {"mesh": str(tmp_path / "ball.ply")}}
    rows = [{"method": "ours", **mesh}, {"method": "poisson9", "failed": "no memory"}, {"method": "ipsr9", **mesh}]
    assert speed.draw_detail(tmp_path / "detail.png", [(case, rows)])
    assert (tmp_path / "detail.png").read_bytes().startswith(b"\x89PNG")
    assert not speed.draw_detail(tmp_path / "none.png", [(case, rows[1:])])
    assert not (tmp_path / "none.png").exists()


def test_what_a_benchmark_prints_is_taken_and_its_failure_said(tmp_path, monkeypatch):
    (tmp_path / "reconstruction").mkdir()
    (tmp_path / "reconstruction" / "good.py").write_text("print('half')")
    (tmp_path / "reconstruction" / "bad.py").write_text("import sys; sys.exit('error: no memory')")
    monkeypatch.setattr(speed, "PACKAGE", tmp_path)
    assert speed.printed("good.py") == "half"
    with pytest.raises(UserError, match=r"bad.py: failed: error: no memory"):
        speed.printed("bad.py")


@pytest.mark.parametrize("text", ["0", "1,x", ""])
def test_minutes_are_positive_numbers(page, text):
    status, output, _ = page("--minutes", text)
    assert status == 2
    assert "expected minutes above 0, separated by commas, such as 0.5,1,2" in output.err
