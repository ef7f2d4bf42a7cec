"""Many clouds: each is a process, one failure leaves the rest alone, and the same command does what is missing.

Most of it is tested with a stand-in for run.py, which leaves what a run leaves without importing anything.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conftest import Command, records
from phase_recon.reconstruction import batch
from phase_recon.reconstruction.batch import reason_of
from phase_recon.reconstruction.batch_table import COLUMNS, DISTANCES, read_record, write_record
from phase_recon.utils.config import Config, TrainConfig
from phase_recon.utils.experiment import Experiment

# Writes its arguments and threads to calls/<cloud>.<number>, then does what the first word of the cloud says
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
def given(flag): return sys.argv[sys.argv.index(flag) + 1]
cloud, conf = Path(given("--input")), Path(given("--conf"))
run = conf.parent.parent / given("--timestamp")
calls = Path({calls!r})
number = len(list(calls.glob(run.name + ".*")))
(calls / f"{{run.name}}.{{number}}").write_text(json.dumps([sys.argv[1:], os.environ["OMP_NUM_THREADS"]]))
word = cloud.read_text().split()[0] if cloud.exists() else "missing"
(run / "checkpoints").mkdir(exist_ok=True)
print("some progress")
if word == "missing":
    print(f"error: {{cloud}}: no such file", file=sys.stderr)
    sys.exit(2)
if word == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if word == "crash":
    raise MemoryError("4 GiB")
if word == "stop" and number == 0:
    def save(*_):
        (run / "checkpoints" / "latest.pth").write_text("half")
        sys.exit(130)
    signal.signal(signal.SIGINT, save)
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
    sys.exit(9)
if word == "meet":  # ends well only beside another
    for _ in range(400):
        if len(list(calls.glob("meet*"))) == 2:
            break
        time.sleep(0.02)
    else:
        sys.exit(1)
evaluation = run / "evaluation" / "10"
evaluation.mkdir(parents=True, exist_ok=True)
(run / "checkpoints" / "latest.pth").write_text("whole")
for name in ("surface.ply", "surface.png", "surface.html"):
    (evaluation / name).write_text(word)
metrics = {{"epoch": 10, "ended": True, "components": 1, "closed": True, "euler_characteristic": 2, "scale": 20.0}}
metrics["input"] = {{"cloud_to_surface_mean": 0.125, "cloud_to_surface_max": 0.5, "d_C": 0.25, "d_H": 1.0}}
(evaluation / "metrics.json").write_text(json.dumps(metrics))
"""


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for clouds; their first word says what the stand-in for run.py does with them."""
    for name in ("scans", "calls"):
        (tmp_path / name).mkdir()
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN.format(calls=str(tmp_path / "calls")))
    monkeypatch.setattr(batch, "RUN", stand_in)
    monkeypatch.setattr(batch, "POLL", 0.01)
    return tmp_path / "scans"


def put(folder: Path, **words: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, word in words.items():
        (folder / f"{name}.xyz").write_text(f"{word}\n")


def runs(out: str) -> Path:
    """The folder of all runs, as the command names it."""
    (line,) = (line for line in out.splitlines() if line.startswith("runs: "))
    return Path(line.removeprefix("runs: ").split(", ")[0])


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        return {row["cloud"]: row for row in csv.DictReader(file)}


def untimed(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**record, "time": 0} for record in log]


def calls(scans: Path, name: str) -> list[list[str]]:
    """The arguments of every call for a cloud, in their order."""
    paths = sorted((scans.parent / "calls").glob(f"{name}.*"), key=lambda path: int(path.suffix[1:]))
    return [json.loads(path.read_text())[0] for path in paths]


def test_one_failure_leaves_the_rest_alone_and_is_listed_with_its_reason(command: Command, scans: Path):
    put(scans, good="fine", killed="die", broken="crash", last="fine")
    done = command("--input", scans)
    assert done.status == 1
    found = rows(runs(done.out))
    assert {name: row["state"] for name, row in found.items()} == {
        "good": "done", "killed": "failed", "broken": "failed", "last": "done",
    }  # fmt: skip
    assert found["killed"]["reason"] == "killed by SIGKILL: out of memory, or by hand"
    assert found["broken"]["reason"] == "MemoryError: 4 GiB"
    assert "[2/4] good: done after" in done.out
    assert "2 done, 2 failed; " in done.out


def test_a_surface_that_cannot_be_copied_stops_no_other(command: Command, scans: Path, tmp_path: Path):
    put(scans, a="fine", b="fine")
    (tmp_path / "out" / "a.ply").mkdir(parents=True)  # a folder in its place
    done = command("--input", scans, "-o", tmp_path / "out")
    assert done.status == 1
    assert "a: its surface was not copied: " in done.out
    assert (tmp_path / "out" / "b.ply").read_text() == "fine"
    assert "2 done; " in done.out
    again = command("--input", scans, "-o", tmp_path / "out")
    assert again.status == 1
    assert "a: its surface was not copied: " in again.out
    (tmp_path / "out" / "a.ply").rmdir()
    assert command("--input", scans, "-o", tmp_path / "out").status == 0
    assert (tmp_path / "out" / "a.ply").read_text() == "fine"


def test_the_table_and_the_page_hold_what_the_runs_left(command: Command, scans: Path):
    put(scans, good="fine", killed="die")
    folder = runs(command("--input", scans).out)
    row = rows(folder)["good"]
    assert list(row) == list(COLUMNS)
    assert [row[key] for key in ("epoch", "components", "closed", "scale")] == ["10", "1", "True", "20.0"]
    assert (row["cloud_to_surface_mean"], row["d_H"]) == ("0.125", "1.0")
    assert (folder / row["mesh"]).read_text() == "fine"
    assert row["input"] == str(scans / "good.xyz")
    page = (folder / "table.html").read_text()
    for part in ("evaluation/10/surface.png", "evaluation/10/surface.html", "evaluation/10/surface.ply", "output.log"):
        assert f'"good/{part}"' in page
    assert "2 clouds: 1 done, 1 failed" in page
    assert '<span class="failed">failed</span><br>killed by SIGKILL' in page
    assert (folder / "killed" / "output.log").read_text() == "some progress\n"


def test_the_same_command_does_what_is_missing_only(command: Command, scans: Path):
    put(scans, a="fine", b="die", c="stop", d="fine")
    first = command("--input", scans)
    assert first.status == 130
    folder = runs(first.out)
    assert {name: row["state"] for name, row in rows(folder).items()} == {
        "a": "done", "b": "failed", "c": "stopped", "d": "waiting",
    }  # fmt: skip
    put(scans, e="fine")
    second = command("--input", scans)
    assert second.status == 1  # b fails again
    assert runs(second.out) == folder
    assert "5 clouds, 1 done before" in second.out
    assert [len(calls(scans, name)) for name in "abcde"] == [1, 2, 2, 1, 1]
    assert "--is-continue" in calls(scans, "c")[1]
    assert "--is-continue" not in calls(scans, "b")[1]  # it had saved nothing
    assert [rows(folder)[name]["state"] for name in "abcde"] == ["done", "failed", "done", "done", "done"]
    put(scans, b="fine")
    third = command("--input", scans)
    assert third.status == 0
    assert command("--input", scans).out.count("starts") == 0
    assert [len(calls(scans, name)) for name in "abcde"] == [1, 3, 2, 1, 1]


def test_a_run_that_was_trained_to_its_end_goes_on_with_its_evaluation(command: Command, scans: Path):
    put(scans, a="die")
    folder = runs(command("--input", scans).out)
    for name in ("10.pth", "latest.pth"):  # nepoch of tiny.conf
        (folder / "a" / "checkpoints" / name).write_text("whole")
    command("--input", scans)
    assert calls(scans, "a")[1][-1] == "--is-continue"


def test_a_cloud_that_changed_is_begun_anew_and_its_run_kept(command: Command, scans: Path):
    put(scans, a="fine", b="fine")
    folder = runs(command("--input", scans).out)
    put(scans, a="better")
    done = command("--input", scans)
    assert done.status == 0
    assert "a: its file has changed; the run before is now replaced/a-" in done.out
    assert [len(calls(scans, name)) for name in "ab"] == [2, 1]
    assert "--is-continue" not in calls(scans, "a")[1]
    assert (folder / "a" / "evaluation" / "10" / "surface.ply").read_text() == "better"
    (kept,) = (folder / "replaced").iterdir()
    assert (kept / "evaluation" / "10" / "surface.ply").read_text() == "fine"
    assert sorted(rows(folder)) == ["a", "b"]


def test_a_finished_run_stays_as_it_is_while_its_cloud_cannot_be_read(command: Command, scans: Path, tmp_path: Path):
    put(scans, a="fine", b="fine")
    (tmp_path / "list.txt").write_text(f"{scans / 'a.xyz'}\n{scans / 'b.xyz'}\n")
    folder = runs(command("--input", f"@{tmp_path / 'list.txt'}").out)
    (scans / "a.xyz").rename(tmp_path / "away.xyz")
    done = command("--input", f"@{tmp_path / 'list.txt'}")
    assert done.status == 0
    assert f"a: {scans / 'a.xyz'} cannot be read; the finished run stays as it is" in done.out
    assert not (folder / "replaced").exists()
    (tmp_path / "away.xyz").rename(scans / "a.xyz")
    assert command("--input", f"@{tmp_path / 'list.txt'}").status == 0
    assert len(calls(scans, "a")) == 1


def test_a_run_that_outlived_its_command_is_done(command: Command, scans: Path, tmp_path: Path):
    put(scans, a="fine")
    folder = runs(command("--input", scans).out)
    write_record(folder / "a", read_record(folder / "a") | {"state": "running"})
    done = command("--input", scans, "-o", tmp_path / "meshes")
    assert done.status == 0
    assert "a: was done already, by a run that outlived its command, or by --eval" in done.out
    assert (tmp_path / "meshes" / "a.ply").read_text() == "fine"
    assert len(calls(scans, "a")) == 1


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_whose_evaluation_was_mended_by_eval_is_done(command: Command, scans: Path, ended: bool):
    """But not one that was only looked at on the way."""
    put(scans, a="fine")
    folder = runs(command("--input", scans).out)
    write_record(folder / "a", read_record(folder / "a") | {"state": "failed", "reason": "out of memory"})
    metrics = folder / "a" / "evaluation" / "10" / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"ended": ended}))
    assert command("--input", scans).status == 0
    assert (rows(folder)["a"]["state"], rows(folder)["a"]["reason"]) == ("done", "")
    assert len(calls(scans, "a")) == (1 if ended else 2)


def test_a_surface_that_is_gone_is_not_said_to_be_copied(command: Command, scans: Path, tmp_path: Path):
    put(scans, a="fine", b="fine")
    folder = runs(command("--input", scans).out)
    (folder / "a" / "evaluation" / "10" / "surface.ply").unlink()
    done = command("--input", scans, "-o", tmp_path / "meshes")
    assert done.status == 1
    said = f"a: its surface was not copied: {folder / 'a' / 'evaluation'} has none any more; --eval --expname"
    assert f"{said} tiny --timestamp {folder.name}/a makes it again" in done.out
    assert [path.name for path in (tmp_path / "meshes").iterdir()] == ["b.ply"]


def test_a_run_that_was_cut_off_goes_on(command: Command, scans: Path):
    put(scans, a="fine")
    folder = runs(command("--input", scans).out)
    write_record(folder / "a", read_record(folder / "a") | {"state": "running"})
    os.utime(folder / "a" / "evaluation" / "10" / "metrics.json", (0, 0))  # of an earlier checkpoint
    assert command("--input", scans).status == 0
    assert len(calls(scans, "a")) == 2


def test_surfaces_replace_nothing_where_that_is_forbidden(command: Command, scans: Path, tmp_path: Path):
    put(scans, a="fine")
    meshes = tmp_path / "meshes"
    put(meshes)
    (meshes / "a.ply").write_text("mine")
    done = command("--input", scans, "-o", meshes, "--set", "plot.overwrite=false")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "a.ply: is there, and plot.overwrite = false; move it, or give another folder" in done.err
    assert (meshes / "a.ply").read_text() == "mine"
    done = command("--input", scans, "-o", meshes)
    assert done.out.startswith(f"note: {meshes / 'a.ply'} is there, and will be replaced (--set plot.overwrite=false ")
    assert (meshes / "a.ply").read_text() == "fine"
    (meshes / "a.ply").unlink()
    for _ in range(2):  # the second time its own surface is there
        assert command("--input", scans, "-o", meshes, "--set", "plot.overwrite=false").status == 0


def test_the_table_of_the_stations_is_no_cloud(command: Command, scans: Path):
    put(scans, a="fine")
    (scans / "stations.csv").write_text("station,x,y,z\n1,0,0,0\n")
    done = command("--input", scans, "--stations", scans / "stations.csv")
    assert ": 1 done;" in done.out.replace("\n", ": ")
    for flags, says in (
        (("--stations", scans / "none.csv"), f"--stations (train.stations): {scans / 'none.csv'}: no such file; give "),
        (("--sensor=0,0,1", "--normals"), "--sensor (train.sensor): has no meaning with --normals"),
        (("--gpu", "fast"), "--gpu fast: expected auto, cpu, ignore or the number of a GPU"),
    ):
        done = command("--input", scans, *flags)
        assert done.status == 2
        assert done.err.startswith(f"error: {says}")


def test_a_surface_is_copied_with_its_offset(command: Command, scans: Path, tmp_path: Path):
    put(scans, a="fine")
    result = runs(command("--input", scans).out) / "a" / "evaluation" / "10"
    (result / "surface.ply.offset.txt").write_text("1 2 3\n")
    command("--input", scans, "-o", tmp_path / "meshes")
    assert (tmp_path / "meshes" / "a.ply.offset.txt").read_text() == "1 2 3\n"
    (result / "surface.ply.offset.txt").unlink()
    command("--input", scans, "-o", tmp_path / "meshes")
    assert not (tmp_path / "meshes" / "a.ply.offset.txt").exists()


def test_surfaces_may_go_into_a_folder_below_that_of_the_clouds(command: Command, scans: Path):
    put(scans, a="fine")
    for _ in range(2):
        done = command("--input", scans, "-o", scans / "meshes")
        assert done.status == 0, done.err
        (scans / "meshes" / "a.ply").write_text("ply\ncomment made by PHASE, in the units of the input\n")
    assert [path.name for path in (scans / "meshes").iterdir()] == ["a.ply"]
    assert len(calls(scans, "a")) == 1


def test_a_folder_with_clouds_of_its_own_gets_no_surfaces(command: Command, scans: Path):
    put(scans, a="fine")
    put(scans / "raw", a="mine")
    done = command("--input", scans, "-o", scans / "raw")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "raw: is the folder of the clouds, which surfaces could replace; give another folder" in done.err


def test_a_touched_file_is_not_a_changed_one(command: Command, scans: Path):
    put(scans, a="fine")
    command("--input", scans)
    os.utime(scans / "a.xyz", (0, 0))
    assert command("--input", scans).status == 0
    assert len(calls(scans, "a")) == 1


def test_results_that_are_gone_are_made_again(command: Command, scans: Path):
    put(scans, a="fine")
    shutil.rmtree(runs(command("--input", scans).out) / "a" / "evaluation")
    assert command("--input", scans).status == 0
    assert len(calls(scans, "a")) == 2


def test_another_configuration_is_another_folder(command: Command, scans: Path):
    put(scans, a="fine")
    first = runs(command("--input", scans).out)
    second = runs(command("--input", scans, "--seed", 1).out)
    assert first != second
    assert runs(command("--input", scans).out) == first
    assert runs(command("--input", scans, "--seed", 1, "--jobs", 2, "--gpu", "ignore").out) == second
    assert len(calls(scans, "a")) == 2


def test_files_of_one_name_get_folders_of_their_own_which_they_keep(command: Command, scans: Path):
    for name in ("a", "b", "c"):
        put(scans / name, x=f"fine {name}")
    put(scans, **{"table.csv": "fine", "Ü 1": "fine"})
    shutil.rmtree(scans / "a")
    folder = runs(command("--input", scans).out)
    inputs = {name: Path(row["input"]).relative_to(scans).as_posix() for name, row in rows(folder).items()}
    assert inputs == {"table.csv_2": "table.csv.xyz", "x": "b/x.xyz", "x_2": "c/x.xyz", "Ü_1": "Ü 1.xyz"}
    put(scans / "a", x="fine a")
    assert command("--input", scans).status == 0
    assert rows(folder)["x"]["input"].endswith("b/x.xyz")
    assert rows(folder)["x_3"]["input"].endswith("a/x.xyz")
    assert len(calls(scans, "x")) == 1


def test_jobs_run_side_by_side_with_a_share_of_the_threads(
    command: Command, scans: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    put(scans, meet1="meet", meet2="meet")
    assert command("--input", scans, "--jobs", 2).status == 0
    threads = [json.loads(path.read_text())[1] for path in (scans.parent / "calls").iterdir()]
    assert threads == ["3", "3"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such lock")
def test_commands_that_start_together_share_one_folder(scans: Path, tmp_path: Path):
    """A lock is that of an opened folder, so threads exclude each other as processes do."""
    put(scans, a="fine", b="fine", c="fine")
    clouds = sorted(scans.iterdir())
    config = Config(train=TrainConfig(input_path=str(scans), expname="many"))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: batch._prepare(config, clouds, tmp_path / "exps"), range(8)))
    assert {folder for folder, _, _ in found} == {found[0][0]}
    assert all(names == ["a", "b", "c"] for _, names, _ in found)
    assert len(list((tmp_path / "exps" / "many").iterdir())) == 1


def test_a_cloud_that_another_process_works_on_is_left_to_it(command: Command, scans: Path):
    put(scans, a="die", b="fine")
    folder = runs(command("--input", scans).out)
    with batch._locked(folder / "a" / "output.log") or pytest.fail("the lock was not given back"):
        done = command("--input", scans)
        assert "a: left to the process that works on it" in done.out
        assert done.status == 1
        assert len(calls(scans, "a")) == 1
    command("--input", scans)
    assert len(calls(scans, "a")) == 2


def test_a_surface_that_another_command_made_meanwhile_is_copied_too(
    command: Command, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(scans, a="fine")
    folder = runs(command("--input", scans).out)
    done = read_record(folder / "a")
    write_record(folder / "a", done | {"state": "waiting"})

    def meanwhile(batch: batch.Batch, name: str, slot: int) -> None:
        write_record(folder / name, done)

    monkeypatch.setattr(batch.Batch, "_start", meanwhile)
    assert command("--input", scans, "-o", tmp_path / "meshes").status == 0
    assert (tmp_path / "meshes" / "a.ply").read_text() == "fine"


def test_a_real_folder_of_clouds(command: Command, clouds: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "in").mkdir()
    shutil.copy(clouds[0], tmp_path / "in")
    (tmp_path / "in" / "bad.xyz").write_text("no numbers\n")
    keys = ("--set", "plot.save_html=false", "--set", "train.checkpoint_frequency=5")
    done = command("--input", tmp_path / "in", "--jobs", 2, *keys)
    assert done.status == 1
    folder = runs(done.out)
    assert {path.name for path in folder.iterdir()} == {"bad", "circle", "config.conf", "table.csv", "table.html"}
    found = rows(folder)
    assert f"{tmp_path / 'in' / 'bad.xyz'}, line 1 is neither" in found["bad"]["reason"]
    assert found["circle"]["state"] == "done"
    assert (folder / found["circle"]["mesh"]).stat().st_size > 200
    assert found["circle"]["page"] == ""
    assert Experiment.find(tmp_path / "exps", "tiny", f"{folder.name}/circle").load_checkpoint()["epoch"] == 10

    # as if it had been killed at step 7
    run = folder / "circle"
    log = records(run)
    shutil.rmtree(run / "evaluation")
    (run / "checkpoints" / "10.pth").unlink()
    shutil.copy(run / "checkpoints" / "5.pth", run / "checkpoints" / "latest.pth")
    (tmp_path / "in" / "bad.xyz").unlink()
    again = command("--input", tmp_path / "in", "--jobs", 2, *keys)
    assert again.status == 0, again.out
    assert "circle: continues" in again.out
    assert "from step 5" in (run / "output.log").read_text()
    assert untimed(records(run)) == untimed(log)
    assert rows(folder)["circle"]["state"] == "done"


def test_a_path_of_the_list_that_is_not_there_fails_alone(command: Command, scans: Path):
    put(scans, a="fine")
    (scans / "list.txt").write_text("a.xyz\ngone.xyz\n")
    done = command("--input", f"@{scans / 'list.txt'}")
    assert done.status == 1
    found = rows(runs(done.out))
    assert found["a"]["state"] == "done"
    assert found["gone"]["reason"] == f"{scans / 'gone.xyz'}: no such file"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--input", "{empty}"], "names no clouds; expected files with one of .xyz"),
        (["--input", "{empty}/*.ply"], "names no clouds; quote it, so that the shell leaves it alone"),
        (["--input", "@{empty}/list.txt"], "list.txt: the list of clouds cannot be read (No such file or directory)"),
        (["--input", "{empty}", "--eval"], "the same command without them does what is missing"),
        (["--input", "{empty}", "--is-continue"], "the same command without them does what is missing"),
        (["--input", "{empty}", "--timestamp", "x"], "the same command without them does what is missing"),
        (["--input", "{empty}", "--jobs", "0"], "--jobs: expected at least 1, got 0"),
        (["--input", "{empty}/a.xyz", "--jobs", "2"], "--jobs is for many clouds: give several files, a folder"),
    ],
)
def test_what_cannot_be_done_is_an_error(command: Command, tmp_path: Path, arguments: list[str], text: str):
    (tmp_path / "empty").mkdir()
    done = command(*(argument.format(empty=tmp_path / "empty") for argument in arguments))
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert text in done.err
    assert not (tmp_path / "exps").exists()


@pytest.mark.parametrize(
    ("status", "output", "reason"),
    [
        (-signal.SIGSEGV, b"", "killed by SIGSEGV"),
        (2, b"x\nerror: scan.ply is empty\nlater\n", "scan.ply is empty"),
        (1, b"Traceback\nRuntimeError: \xff\n\n", "RuntimeError: \ufffd"),
        (3, b"", "exit status 3"),
    ],
)
def test_a_reason_is_the_signal_or_the_last_word(status: int, output: bytes, reason: str):
    assert reason_of(status, output) == reason


def test_a_run_that_ended_while_its_command_was_stopped_is_done(scans: Path, tmp_path: Path):
    put(scans, a="fine")
    work = batch.Batch(tmp_path, ["a"], 1, "cpu", None, [])
    folder = tmp_path / "a"
    for part in ("checkpoints", "evaluation/10"):
        (folder / part).mkdir(parents=True)
    for name in ("output.log", "checkpoints/latest.pth"):
        (folder / name).touch()
    write_record(folder, {"input": str(scans / "a.xyz"), "state": "running"})
    for evaluated, state in ((False, "stopped"), (True, "done")):
        if evaluated:
            metrics = {"epoch": 10, "ended": True, "components": 1, "closed": True, "euler_characteristic": 2}
            metrics["scale"], metrics["input"] = 1.0, dict.fromkeys(DISTANCES, 0.1)
            (folder / "evaluation" / "10" / "metrics.json").write_text(json.dumps(metrics))
        process = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(143)"])
        process.wait()
        output = (folder / "output.log").open("ab")
        work._finish(batch.Job("a", 0, process, output, 0, 0.0), stopped=True)
        assert read_record(folder)["state"] == state


def test_stations_that_changed_are_read_again(command: Command, scans: Path, tmp_path: Path):
    put(scans, a="fine")
    stations = tmp_path / "stations.csv"
    for times, height in ((1, 9), (1, 9), (2, -9)):
        stations.write_text(f"station,x,y,z\n1,0,0,{height}\n")
        assert command("--input", scans, "--stations", stations).status == 0
        assert len(calls(scans, "a")) == times


def test_surfaces_that_no_run_keeps_cannot_be_copied(command: Command, scans: Path, tmp_path: Path):
    put(scans, a="fine")
    done = command("--input", scans, "-o", tmp_path / "meshes", "--set", "plot.save_ply=false")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "gets copies of the surfaces in the runs, and plot.save_ply = false leaves none there; leave one" in done.err


def test_a_cloud_that_is_given_twice_is_one_run(command: Command, scans: Path):
    put(scans, a="fine", b="fine")
    assert "2 clouds" in command(scans, scans / "a.xyz").out
    assert len(calls(scans, "a")) == 1
