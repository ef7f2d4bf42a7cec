"""The page of results: its figures are those of the runs, failures and losses stand in it, and the picture is drawn."""

import sys

import numpy as np
import pytest

from phase_recon.benchmarks import results
from phase_recon.benchmarks.solids import ball
from phase_recon.reconstruction.benchmark import find_cases
from phase_recon.surface.files import write_surface


def run(case, method, chamfer, mesh=None, seed=0, **more):
    """A row as benchmark.py gives it, with round numbers."""
    row = {"case": case, "method": method, "seed": seed, "seconds": 10.0, "megabytes": 100.0}
    if mesh is None:
        return row | {"failed": "/some/where/scan.npz: no memory"}
    return row | {
        "d_C": chamfer, "d_H": 10 * chamfer, "normal_consistency": 0.9, "components": 1.0, "euler_characteristic": 2.0,
        "target_euler_characteristic": 2.0, "iou": 0.8, "cloud_to_surface_max": 0.01, "written": {"mesh": str(mesh)},
    } | more  # fmt: skip


@pytest.fixture
def page(tmp_path, monkeypatch, capsys):
    """Run results.py with runs of plate (won) and still_life (lost, and one of two seeds failed) that are made up."""
    mesh = tmp_path / "mesh.ply"
    write_surface(mesh, ball(1.0, 0.02))
    asked = []

    def measure_all(options):
        asked.append(options)
        rows = []
        for case in find_cases(options.data, options.out, options.clouds):
            won = case.name.startswith("plate")
            rows += [run(case.name, "ours", 0.001 if won else 0.003, mesh, euler_characteristic=2.0 if won else 4.0)]
            rows += [run(case.name, "ours", 0, seed=1)] if not won else []
            rows += [run(case.name, "poisson8", 0.004, mesh), run(case.name, "ipsr9", 0.002, mesh)]
            rows += [run(case.name, "poisson9+normals", 0.0005, mesh)]
        return rows

    monkeypatch.setattr(results, "measure_all", measure_all)

    def call(*arguments, docs=True):
        words = ["results.py", "--out", str(tmp_path / "out"), *arguments]
        words += ["--docs", str(tmp_path / "docs")] if docs else []
        monkeypatch.setattr(sys, "argv", words)
        status = results.main()
        return status, capsys.readouterr(), asked, tmp_path / "docs"

    return call


def test_the_page_says_what_was_measured_and_what_went_wrong(page):
    status, _, asked, docs = page("--quick", "--tables", "noisy", "--seeds", "0,1")
    assert "/some/" not in (docs / "RESULTS.md").read_text()
    assert status == 1  # one failed
    text = (docs / "RESULTS.md").read_text()
    (options,) = asked
    assert (options.minutes, options.seeds) == (None, [0, 1])
    assert "of commit " in text
    assert "python code/benchmarks/make_clouds.py noisy --shapes plate,still_life --kinds noisy" in text
    assert "python code/reconstruction/benchmark.py noisy --seeds 0,1 --methods ours,poisson8" in text
    lines = text.splitlines()
    # 0.001 over the best peer's 0.002, both distances; the normals of the file are no peer
    assert any(line.startswith("| plate-noisy | ours | 1/1 | 0.001 | 0.01 | 0.50, 0.50 |") for line in lines)
    assert any(line.startswith("| still_life-noisy | ours | 1/2 | 0.003 | 0.03 | 1.50, 1.50 |") for line in lines)
    # three runs of ours on shapes for development: one failed, one lost, one has the truth's topology
    assert any(line == "| development | 3 | 1 | 1.00 | 1.00 | 1.50 | 1.50 | 1 | 1 of 3 |" for line in lines)
    assert "| still_life-noisy | 0 | 1.50 | 1.50 | 4 (2) |" in lines
    assert "| still_life-noisy | 1 | failed: scan.npz: no memory |  |  |" in lines
    assert not any(line.startswith("| plate-noisy | 0 |") for line in lines)
    assert (docs / "gallery.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_shapes_that_are_asked_for_are_measured(page):
    status, _, _, docs = page("--quick", "--tables", "scan,noisy", "--shapes", "plate")
    assert status == 0
    text = (docs / "RESULTS.md").read_text()
    assert "--tables scan,noisy --shapes plate" in text
    assert "plate-scan" in text
    assert "plate-noisy" in text
    assert "still_life" not in text
    status, output, *_ = page("--quick", "--shapes", "plates")
    assert status == 2
    assert "--shapes 'plates': expected some of" in output.err


def test_a_page_without_a_picture_has_none_of_another_page(page, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "gallery.png").write_text("of another page")
    _, output, _, docs = page("--tables", "curves", "--shapes", "gear_2d")
    assert [path.name for path in docs.iterdir()] == ["RESULTS.md"]
    assert "gallery" not in (docs / "RESULTS.md").read_text()
    assert output.out.endswith(f"page: {docs / 'RESULTS.md'}\n")


def test_a_trial_does_not_replace_the_page(page, tmp_path):
    _, output, *_ = page("--quick", "--tables", "scan", "--shapes", "plate", docs=False)
    assert f"page: {tmp_path / 'out' / 'RESULTS.md'}\n" in output.out


def test_noise_and_spacing_are_shares_of_the_radius(page):
    _, _, _, docs = page("--quick", "--tables", "noisy")
    (line,) = (line for line in (docs / "RESULTS.md").read_text().splitlines() if "| development | 5000 |" in line
               and line.startswith("| plate-noisy"))  # fmt: skip
    radius, noise, spacing = (float(word) for word in line.split("|")[4:7])
    assert radius == pytest.approx(1, abs=0.03)
    assert noise == 0.005
    assert 0.005 < spacing < 0.03


def test_only_peers_without_normals_count():
    rows = [run("a", "poisson8", 0.2, "m"), run("a", "ipsr9", 0.1, "m", d_H=5.0)]
    rows.append(run("a", "poisson9+normals", 0.01, "m"))
    assert results.best_peer(rows) == {"d_C": 0.1, "d_H": 2.0}
    assert results.best_peer(rows[2:]) is None


def test_all_shapes_are_in_a_table_and_a_folder_adds_one(tmp_path):
    found = results.tables(tmp_path, quick=False)
    assert {name for table in found for name in table.shapes} == set(results.SHAPES)
    assert found[-1].folder == tmp_path
    assert np.all([set(table.kinds) <= set(results.KINDS) for table in found])


def test_an_unknown_table_is_said(page):
    status, said, _, _ = page("--tables", "all")
    assert status == 2
    assert said.err.startswith("error: --tables 'all': expected some of scan, noisy, ")
