"""The comparison from its command line: rows, resume, changed requests, refusals; runs are tiny and real."""

import argparse
import contextlib
import csv
import io
import json
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trimesh

from conftest import CENTRES, RADIUS
from phase_recon.reconstruction import compare, evaluation, run, trials
from phase_recon.surface.files import write_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError


@pytest.mark.parametrize(
    ("settings", "up"),
    [([], "z"), (["plot.up=y"], "y"), (['plot.up = "y"', "plot.up=z"], "z"), (["plot { up = y }"], "y")],
)
def test_the_axis_that_points_up_on_the_page(settings, up, tmp_path):
    options = argparse.Namespace(
        losses=None, sweep=None, same_network=False, set=settings, minutes=None, steps=None, seed=0
    )
    assert compare.configured(options, tmp_path).plot.up == up


TINY = (
    "train.time_budget=null", "train.nepoch=20", "train.checkpoint_frequency=10", "train.start=network",
    "train.points_batch=64", "train.pts_in_omega=64", "network.inputs.dims=[16,16]", "network.inputs.use_FFM=false",
    "network.inputs.radius_init=0.9", "plot.resolution=16", "plot.save_html=false",
)  # fmt: skip


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands run in this process, which has its imports behind it; their names, as they come."""
    names: list[str] = []

    def timed(command: list[str]) -> tuple[int, str, float, float]:
        names.append(command[command.index("--expname") + 1])
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = run.main(command[2:])
        return status, said.getvalue(), 1.5, 100.0

    monkeypatch.setattr(trials, "timed", timed)
    monkeypatch.setattr(evaluation, "cross_section_picture", partial(evaluation.cross_section_picture, resolution=16))
    monkeypatch.setattr(compare, "fields_picture", partial(compare.fields_picture, resolution=16))
    monkeypatch.setattr(compare, "SAMPLES", 20_000)
    monkeypatch.setattr(compare, "HISTORY_SAMPLES", 20_000)
    monkeypatch.setattr(compare, "EIKONAL_POINTS", 2_000)
    monkeypatch.setattr(compare, "find_spec", lambda name: None)  # open3d takes seconds
    return names


@pytest.fixture
def confs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configurations in place of ours, with one peer in it."""
    folder = tmp_path / "confs"
    folder.mkdir()
    (folder / "peer.conf").write_text(
        "train.points_batch = 32\nnetwork { output = u\nloss { type = phase, epsilon = 0.04 } }\n"
    )
    monkeypatch.setattr(compare, "CONFIGURATIONS", folder)
    return folder


def call(tmp_path: Path, *arguments: object, sets: tuple[str, ...] = TINY) -> int:
    words = [str(argument) for argument in arguments]
    words += ["--exps_dir", str(tmp_path / "exps"), "--gpu", "cpu"]
    return compare.main([*words, *(word for key in sets for word in ("--set", key))])


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_plane_cloud_gives_a_table_a_page_and_a_picture(tmp_path, clouds, confs, ran, capsys):
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    cells = np.stack([np.arange(400), np.roll(np.arange(400), -1)], axis=1)
    write_surface(tmp_path / "true.ply", Surface(CENTRES[0] + RADIUS * ring, cells))
    arguments = ("--input", clouds[0], "--losses", "phase,peer", "--target", tmp_path / "true.ply")
    assert call(tmp_path, *arguments) == 0
    assert ran == ["phase", "peer"]

    folder = tmp_path / "exps" / "compare-circle"
    rows = table(folder)
    assert [row["method"] for row in rows] == ["phase", "peer"]
    for row in rows:
        assert 0 < float(row["d_C"]) < float(row["d_H"]) < 0.3 * RADIUS
        assert 0.9 < float(row["normal_consistency"]) <= 1
        assert (row["components"], row["steps"], row["seconds"]) == ("1", "20", "1.5")
        assert float(row["eikonal_box"]) > 0
        assert float(row["eikonal_band"]) > 0
        assert "failed" not in row
        assert "genus" not in row  # a curve has none
    text = (folder / "table.md").read_text()
    command, header, _, first, *_ = (line for line in text.splitlines() if line)
    assert command.startswith(f"    phase-recon-compare --input {clouds[0]} --losses phase,peer")
    assert header.startswith("| method | d_C | d_H | normal consistency | eikonal error in the box |")
    assert first.startswith(f"| phase | {float(rows[0]['d_C']):.4g} |")
    assert "Device: CPU, threads: 1." in text
    out = capsys.readouterr().out
    assert text in out
    assert out.endswith(f"page: {folder / 'compare.html'}\n")
    assert (folder / "fields.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "compare.html").read_text()
    assert f"<td>{float(rows[1]['d_H']):.4g}</td>" in page
    assert page.count('<img alt="u and w, and both against the signed distance to the target" src="data:image/png') == 1

    # the peer has its own file, and both have their checkpoints measured
    used = [next((folder / name).iterdir()) / "config.conf" for name in ("phase", "peer")]
    assert ["output = \"u\"" in path.read_text() for path in used] == [False, True]
    records = list((folder / "records").glob("*-measures-*.json"))
    assert len(records) == 2
    for record in records:
        history = json.loads(record.read_text())["result"]["history"]
        assert len(history) == 2
        assert all(error > 0 and seconds > 0 for seconds, error in history)


def test_what_is_there_is_not_done_again_and_another_request_is(tmp_path, clouds, ran):
    arguments = ("--input", clouds[0], "--sweep", "network.loss.epsilon=0.04,0.01")
    assert call(tmp_path, *arguments) == 0
    assert ran == ["epsilon=0.04", "epsilon=0.01"]
    folder = tmp_path / "exps" / "compare-circle"
    before = (folder / "table.csv").read_bytes()
    assert "points to surface, mean" in (folder / "table.md").read_text()  # without a target
    assert "signed distance to its own curve" in (folder / "compare.html").read_text()
    assert call(tmp_path, *arguments) == 0
    assert ran[2:] == []
    assert (folder / "table.csv").read_bytes() == before
    assert call(tmp_path, *arguments[:-1], "network.loss.epsilon=0.04,0.0225") == 0
    assert ran[2:] == ["epsilon=0.0225"]
    assert call(tmp_path, *arguments, sets=(*TINY, "train.nepoch=10")) == 0
    assert ran[3:] == ["epsilon=0.04", "epsilon=0.01"]
    assert {row["steps"] for row in table(folder)} == {"10"}


def test_a_run_that_fails_is_a_row_with_its_reason(tmp_path, clouds, confs, ran, capsys):
    (confs / "bad.conf").write_text("plot.trim = 1e-9\n")
    assert call(tmp_path, "--input", clouds[1], "--losses", "bad,phase") == 1
    folder = tmp_path / "exps" / "compare-sphere"
    bad, phase = table(folder)
    assert "nothing of the surface is so near to the points" in bad["failed"]
    assert bad["steps"] == ""
    assert (phase["failed"], phase["components"], phase["genus"], phase["steps"]) == ("", "1", "0", "20")
    assert float(phase["cloud_to_surface_mean"]) < 0.3 * RADIUS
    assert "no row for Screened Poisson: pip install open3d" in capsys.readouterr().out
    page = (folder / "compare.html").read_text()
    assert "nothing of the surface is so near to the points" in page
    assert "phase: u and w on planes through the middle" in page

    assert call(tmp_path, "--input", clouds[1], "--losses", "bad", "--expname", "other") == 2
    assert "error: every run failed; the first, bad: " in capsys.readouterr().err
    assert not (tmp_path / "exps" / "other" / "table.md").exists()


def test_one_network_for_all_keeps_the_loss_of_the_peer(tmp_path, confs):
    own = compare.configuration("peer", True, tmp_path)
    tree, ours = (compare.parse(path.read_text(), "").tree for path in (own, compare.ROOT / "setup.conf"))
    assert tree["network"].pop("loss") == {"type": "phase", "epsilon": 0.04}
    ours["network"].pop("loss")
    assert tree == ours
    assert compare.configuration("peer", False, tmp_path) == confs / "peer.conf"
    assert compare.configuration("phase", True, tmp_path) == compare.ROOT / "setup.conf"


def test_every_method_gets_the_same_request(tmp_path, clouds, confs, monkeypatch):
    monkeypatch.setattr(compare, "find_spec", lambda name: name)
    cloud = compare.load_point_cloud(clouds[1])
    words = ["--input", str(clouds[1]), "--losses", "phase,peer", "--minutes", "4", "--seed", "3", "--normals"]
    options = compare._parser().parse_args([*words, "--set", "train.nepoch=7"])
    phase, peer, poisson = compare.methods(options, clouds[1], cloud, tmp_path)
    assert phase.command[:2] == [sys.executable, str(compare.HERE / "run.py")]

    def without(command: list[str], flag: str) -> list[str]:
        place = command.index(flag)
        return command[:place] + command[place + 2 :]

    assert [without(without(m.command, "--conf"), "--expname") for m in (phase, peer)] == [
        without(without(phase.command, "--conf"), "--expname")
    ] * 2
    for word in ("network.has_normals=true", "train.checkpoint_minutes=0.5", "train.plot_frequency=0", "4", "3"):
        assert word in phase.command
    assert phase.command[-1] == "train.nepoch=7"  # what the user sets wins
    assert peer.reads == [clouds[1], confs / "peer.conf"]
    assert poisson.command[2:] == [str(clouds[1]), "{mesh}", "--normals"]
    options.steps = 80
    words = next(compare.methods(options, clouds[1], cloud, tmp_path)).command
    assert words[words.index("--steps") + 1] == "80"
    assert "train.checkpoint_frequency=10" in words
    assert "--minutes" not in words
    options.steps = options.minutes = None  # what --set says counts, and no time takes it away
    for options.set in (["train.nepoch=7"], ["train { nepoch = 7 }"]):
        assert "--minutes" not in next(compare.methods(options, clouds[1], cloud, tmp_path)).command
    options.sweep, options.losses = "train.nepoch=80,160", "peer"
    one, two = (method.command for method in compare.methods(options, clouds[1], cloud, tmp_path))
    assert [words[words.index("--steps") + 1] for words in (one, two)] == ["80", "160"]
    assert "train.checkpoint_frequency=20" in two
    options.sweep = "train.nepoch=80,many"
    with pytest.raises(UserError, match=r"^--sweep train\.nepoch = .many.: expected a whole number"):
        list(compare.methods(options, clouds[1], cloud, tmp_path))
    options.sweep, options.minutes = "train.nepoch=80,160", 1
    with pytest.raises(UserError, match=r"--sweep train\.nepoch: says how long each run is; leave --steps and"):
        list(compare.methods(options, clouds[1], cloud, tmp_path))
    options.sweep = "train.voxel=0.1,0.2"
    with pytest.raises(UserError, match=r"--sweep train\.voxel: all methods are measured on the whole file"):
        list(compare.methods(options, clouds[1], cloud, tmp_path))
    options.steps, options.minutes = 80, None
    options.sweep, options.losses = "network.inputs.dims=[8,8],[16]", "peer"
    one, two = compare.methods(options, clouds[1], cloud, tmp_path)
    assert (one.name, one.command[-1]) == ("dims=[8, 8]", "network.inputs.dims=[8, 8]")
    assert two.command[-1] == "network.inputs.dims=[16]"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--losses", "phase,other"], r"--losses other: no such configuration, .*other\.conf; there are peer, phase"),
        (["--losses", "phase,peer", "--sweep", "network.loss.mu=1,2"],
         "--sweep compares settings of one loss, but --losses names 2: give one"),
        (["--sweep", "network.loss.mu=1"], r"--sweep 'network.loss.mu=1': expected a key and values, such as "),
        (["--sweep", "=1,2"], r"--sweep '=1,2': expected a key and values, such as network\.loss\.epsilon=0\.04,"),
        (["--sweep", "a.b=[1,2"], r"--sweep 'a\.b=\[1,2': expected a key and values"),
        (["--sweep", "network.loss.epsilon=0.1,abc"], r"network\.loss\.epsilon = 'abc': expected a number"),
        (["--normals"], r"circle\.xyz: has no normals: leave --normals out, or give a file with them"),
        (["--target", "{box}"], r"box\.obj: is 3D, but the cloud is 2D: give one of the same kind"),
        (["--target", "{cloud}"], r"cloud\.ply: a target needs cells, but this is a cloud; leave --target out"),
        (["--target", "gone.obj"], r"gone\.obj: no such file"),
        (["--set", "train { voxel = 1 }"], r"--set train\.voxel: all methods are measured on the whole file"),
        (["--set", "train.voxel=1"], r"--set train\.voxel: all methods are measured on the whole file: leave it out"),
        (["--input", "gone.xyz"], r"gone\.xyz: no such file"),
        (["--gpu", "best"], "--gpu best: expected auto, cpu, ignore or the number of a GPU"),
        (["--minutes", "0"], "--minutes: expected more than 0 minutes, got 0.0"),
        (["--steps", "0"], "--steps: expected at least 1, got 0"),
        (["--seed", "-1"], "--seed: expected 0 to "),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_runs(tmp_path, clouds, confs, ran, capsys, arguments, text):
    trimesh.creation.box().export(tmp_path / "box.obj")
    write_surface(tmp_path / "cloud.ply", Surface(np.eye(2), np.zeros((0, 2), dtype=np.int64)))
    places = {"{box}": str(tmp_path / "box.obj"), "{cloud}": str(tmp_path / "cloud.ply")}
    words = [places.get(word, word) for word in arguments]
    exps = ["--exps_dir", str(tmp_path / "exps")]
    assert compare.main(["--input", str(clouds[0]), *exps, *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert re.search(text, line)
    assert ran == []
    assert not (tmp_path / "exps").exists()


def test_ctrl_c_says_how_to_go_on(tmp_path, clouds, monkeypatch, capsys):
    def stop(command: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "timed", stop)
    assert call(tmp_path, "--input", clouds[0], "--losses", "phase") == 130
    assert capsys.readouterr().err == "stopped; the same command goes on with the runs that are missing\n"
