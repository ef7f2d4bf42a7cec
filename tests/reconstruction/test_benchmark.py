"""The benchmark's cases and tables; what it runs is tested with those commands."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from conftest import ROOT
from phase_recon.reconstruction import trials
from phase_recon.reconstruction.benchmark import PUBLISHED, Case, _measures, _without_an_end, find_cases, main
from phase_recon.surface.files import write_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    np.savetxt(folder / "scan.xyz", trimesh.creation.icosphere(2).vertices)
    trimesh.creation.icosphere(2).export(folder / "scan_gt.off")
    trimesh.creation.box().export(folder / "box.obj")
    return folder


def test_scans_have_their_truth_and_meshes_are_sampled(data, tmp_path):
    cases = list(find_cases(data, tmp_path / "out", "500:0,100:0.01"))
    clouds = tmp_path / "out" / "clouds"
    assert cases == [
        Case("box-500-0", clouds / "box-500-0.npz", data / "box.obj"),
        Case("box-100-0.01", clouds / "box-100-0.01.npz", data / "box.obj"),
        Case("scan", data / "scan.xyz", data / "scan_gt.off"),
    ]
    exact, noisy = (np.load(case.cloud) for case in cases[:2])
    np.testing.assert_allclose(np.abs(exact["points"]).max(axis=1), 0.5)  # on a face of the unit cube
    off = np.abs(np.abs(noisy["points"]).max(axis=1) - 0.5)
    assert 0.002 < off.mean() < 0.02  # noise of 0.01 of the radius √3/2
    assert (np.abs((exact["points"] * exact["normals"]).sum(axis=1) - 0.5) < 1e-12).all()


def test_an_unknown_method_is_refused_before_anything_runs(data, tmp_path, capsys):
    assert main([str(data), "--out", str(tmp_path / "out"), "--methods", "ours,wnnc"]) == 2
    assert "--methods 'wnnc': expected some of ours, ours+normals, poisson8" in capsys.readouterr().err


def test_meshes_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("a/model.obj", "b/model.obj"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        trimesh.creation.box().export(tmp_path / "data" / name)
    for out in (tmp_path / "out", tmp_path / "data", tmp_path / "data" / "out"):
        for _ in range(2):  # the second time there are results
            found = [case.name for case in find_cases(tmp_path / "data", out, "50:0")]
            assert found == ["a_model-50-0", "b_model-50-0"]
    trimesh.creation.box().export(tmp_path / "data" / "a" / "model.stl")
    with pytest.raises(UserError, match=r"a/model\.stl: has the name of .*a/model\.obj, and so would have its results"):
        list(find_cases(tmp_path / "data", tmp_path / "out", "50:0"))


def test_a_truth_without_faces_fails_alone(tmp_path, monkeypatch):
    trimesh.PointCloud(trimesh.creation.icosphere(1).vertices).export(tmp_path / "points.ply")
    trimesh.creation.icosphere(1).export(tmp_path / "mesh.ply")
    case = Case("a", tmp_path / "mesh.ply", tmp_path / "points.ply")
    with pytest.raises(UserError, match="a target needs cells, but this is a cloud"):
        _measures(case, tmp_path / "mesh.ply")


def test_clouds_are_the_same_every_time(data, tmp_path):
    first, second = (next(find_cases(data, tmp_path / name, "50:0.01")).cloud for name in ("a", "b"))
    np.testing.assert_array_equal(np.load(first)["points"], np.load(second)["points"])


def test_malformed_clouds_are_refused(data, tmp_path):
    for clouds in ("many", "500", "500:0:0.1:0", "500:0:half", "500:0:1", "500:0:-0.1"):
        with pytest.raises(UserError, match=rf"--clouds '{clouds}': expected points:noise or points:noise:cut"):
            list(find_cases(data, tmp_path / "out", clouds))


def test_an_end_of_a_cloud_is_cut_away(tmp_path):
    """Half of a bar three times as long as wide and high ends in its middle."""
    (tmp_path / "data").mkdir()
    bar = trimesh.creation.box((1, 1, 3))
    bar.export(tmp_path / "data" / "bar.obj")
    whole, cut = find_cases(tmp_path / "data", tmp_path / "out", "3000:0,3000:0:0.5")
    assert (whole.name, cut.name) == ("bar-3000-0", "bar-3000-0-0.5")
    whole, cut = (np.load(case.cloud) for case in (whole, cut))
    points = whole["points"]
    assert len(cut["points"]) == 1500
    lower = np.sort(points[:, 2])[1499]  # its axis is z but for the luck of the sample
    np.testing.assert_allclose(cut["points"][:, 2].max(), lower, atol=0.05)
    assert abs(cut["points"][:, 2].max()) < 0.1
    rows = {tuple(row) for row in np.hstack([points, whole["normals"]]).tolist()}
    assert rows > {tuple(row) for row in np.hstack([cut["points"], cut["normals"]]).tolist()}


def test_the_end_that_is_cut_away_does_not_depend_on_the_order_or_the_axis_sign():
    line = np.stack([np.zeros(5), [4.0, 0.0, 1.0, 3.0, 2.0], np.zeros(5)], axis=1)
    assert _without_an_end(line, 0.4).tolist() == [1, 2, 4]
    assert _without_an_end(line * [1, -1, 1], 0.4).tolist() == [0, 3, 4]
    assert _without_an_end(line, 0.0).tolist() == [0, 1, 2, 3, 4]


def test_published_figures_have_their_means():
    """The means over the five shapes are tabulated, too (DiGS, table of the paper itself)."""
    means = {"IGR": (1.38, 16.33), "SIREN": (0.42, 7.67), "SAL": (0.36, 7.47), "IGR+FF": (0.96, 11.06),
             "PHASE+FF": (0.22, 4.96), "DiGS": (0.19, 3.52)}  # fmt: skip
    assert list(PUBLISHED) == ["anchor", "daratech", "dc", "gargoyle", "lord_quas"]
    for method, mean in means.items():
        found = np.mean([PUBLISHED[name][method] for name in PUBLISHED], axis=0)
        np.testing.assert_allclose(found, mean, atol=0.0101)  # of figures that were rounded


def test_the_benchmark_runs_what_is_missing_and_writes_its_tables(data, tmp_path, monkeypatch, capsys):
    out, ran = tmp_path / "out", []

    def timed(command: list[str]) -> tuple[int, str, float, float]:
        """In place of both programs: ours names its mesh, Poisson writes where it is told and fails at depth 9."""
        name, mesh = Path(command[1]).name, tmp_path / "ours.ply"
        ran.append(name)
        if name == "poisson.py":
            mesh = Path(command[3])
            if command[command.index("--depth") + 1] == "9" and "--iterated" not in command:
                return 2, "error: no memory\n", 1.0, 1.0
        ball = trimesh.creation.icosphere(2, radius=1.1)
        write_surface(mesh, Surface(np.asarray(ball.vertices), np.asarray(ball.faces, dtype=np.int64)))
        return 0, f"\nmesh:     {mesh}\n", 2.0, 50.0

    monkeypatch.setattr(trials, "timed", timed)

    def call(*more: str) -> list[dict[str, str]]:
        monkeypatch.setattr(sys, "argv", ["benchmark.py", str(data), "--out", str(out), "--only", "scan", *more])
        assert main() == 1  # poisson9 failed
        with (out / "table.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    ours, poisson8, poisson9, ipsr = call()
    assert ran == ["run.py", "poisson.py", "poisson.py", "poisson.py"]
    assert (ours["method"], ours["seconds"], ours["megabytes"]) == ("ours", "2.0", "50.0")
    assert float(ours["d_C"]) == pytest.approx(0.1, rel=0.03)
    assert (ours["d_C"], ours["genus"], ours["components"]) == (poisson8["d_C"], "0.0", "1.0")
    assert (poisson9["d_C"], poisson9["failed"]) == ("", "no memory")
    assert (ipsr["method"], ipsr["d_C"]) == ("ipsr9", ours["d_C"])
    table = capsys.readouterr().out
    assert "| scan | poisson9 | 1 (1 failed) |" in table
    assert (out / "table.md").read_text() in table
    assert (out / "scan.png").read_bytes().startswith(b"\x89PNG")

    call()
    assert ran[4:] == ["poisson.py"]  # what failed is tried again
    call("--minutes", "3")
    assert ran[5:] == ["run.py", "poisson.py"]  # another command is not the old result
    own = (ROOT / "setup.conf").read_text()
    (tmp_path / "setup.conf").write_text(own.replace("nepoch = 1500", "nepoch = 7"))
    monkeypatch.chdir(tmp_path)
    call("--minutes", "3")
    assert ran[7:] == ["run.py", "poisson.py"]  # nor is another setup.conf's, but a peer reads none
    call("--minutes", "3")
    assert ran[9:] == ["poisson.py"]


def test_a_file_that_cannot_be_read_fails_alone(data, tmp_path, monkeypatch, capsys):
    (data / "torn.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n")  # a mesh to sample, whose points can be read
    (data / "bad.xyz").write_text("0 0\n0 0 0\n")  # a scan with its truth
    (data / "bad_gt.off").write_bytes((data / "scan_gt.off").read_bytes())
    ball = trimesh.creation.icosphere(2)

    def timed(command: list[str]) -> tuple[int, str, float, float]:
        write_surface(Path(command[3]), Surface(np.asarray(ball.vertices), np.asarray(ball.faces, dtype=np.int64)))
        return 0, "", 1.0, 1.0

    monkeypatch.setattr(trials, "timed", timed)
    out = tmp_path / "out"
    given = [str(data), "--out", str(out), "--only", "bad,scan,torn", "--methods", "poisson8"]
    assert main(given) == 1
    with (out / "table.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["bad", "scan", "torn"]
    assert rows["bad"]["failed"].startswith(f"{data / 'bad.xyz'}, line 2 has 3 values")
    assert rows["torn"]["failed"].startswith(f"{data / 'torn.obj'}: ")
    assert float(rows["scan"]["d_C"]) < 1e-3
    shown = capsys.readouterr().out
    assert f"case bad  method none  failed {rows['bad']['failed']}" in shown
    assert "| torn | none | 1 (1 failed) |" in shown


def test_poisson_through_our_oriented_points_is_a_row(data, tmp_path, monkeypatch):
    ball = trimesh.creation.icosphere(2)
    mesh, oriented = tmp_path / "ours.ply", tmp_path / "oriented.ply"
    write_surface(mesh, Surface(np.asarray(ball.vertices), np.asarray(ball.faces, dtype=np.int64)))
    write_surface(oriented, Surface(np.asarray(ball.vertices), np.empty((0, 3), dtype=np.int64)))
    ran = []

    def timed(command: list[str]) -> tuple[int, str, float, float]:
        if Path(command[1]).name == "run.py":
            return 0, f"\nmesh:     {mesh}\noriented: {oriented}\n", 2.0, 50.0
        ran.append(command)
        Path(command[3]).write_bytes(mesh.read_bytes())
        return 0, "", 1.0, 1.0

    monkeypatch.setattr(trials, "timed", timed)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", str(data), "--out", str(tmp_path / "out"), "--only", "scan"])
    assert main() == 0
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["ours", "ours oriented+poisson9", "poisson8", "poisson9", "ipsr9"]
    assert ran[0][2:] == [str(oriented), ran[0][3], "--depth", "9", "--normals"]
    assert rows[1]["d_C"] == rows[0]["d_C"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nofolder"], "nofolder: no such folder; give one with scans and meshes"),
        (["empty"], "empty: no scan with its _gt mesh and no mesh to sample"),
        (["empty", "--only", "a"], "empty: no scan with its _gt mesh and no mesh to sample (with this --only)"),
        (["full", "--set", "train.nepoch=0"], "--set: train.nepoch: expected at least 1, got 0"),
        (["full", "--minutes", "0"], "--minutes: expected more than 0 minutes, got 0.0"),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    trimesh.creation.box().export(tmp_path / "full" / "box.obj")
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    assert main() == 2
    assert capsys.readouterr().err == f"error: {text}\n"
