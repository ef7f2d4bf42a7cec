"""Faults from outside: kills, signals, full disks, several processes at one folder; nothing saved is ever lost."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from test_experiment import checkpoint
from test_training import tiny, untimed

import torture
from conftest import ROOT, Command, records, tiny_arguments
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.model.optimizer import Optimizers
from phase_recon.reconstruction import evaluation, preprocess, training
from phase_recon.reconstruction.field import load_field
from phase_recon.reconstruction.training import fit
from phase_recon.utils.checkpoint import read_checkpoint
from phase_recon.utils.config import PlotConfig
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.files import append_line, write_whole

FULL = r"cannot be written \(No space left on device\); "
NO_SPACE = FULL + "the earlier checkpoints are complete: free some space and continue"
AT_FIRST = FULL + "no checkpoint is complete yet: free some space and start again"


@pytest.fixture
def circle(shapes) -> PointCloud:
    return PointCloud(shapes[0])


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse files above so many bytes, after it has taken that many."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full(monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    """A disk that is full for so many files, and then has room again."""
    fsync, left = os.fsync, [times]

    def failing(descriptor: int) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(28, os.strerror(28))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)


# kills


def test_killed_runs_end_as_if_they_had_lived_and_memory_does_not_grow():
    done = subprocess.run(
        [sys.executable, "tests/torture.py", "--kills", "3", "--seed", "1", "--steps", "2000"],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3 kills survived" in done.stdout
    found = re.search(r"memory: ([\d.]+) MiB after 200 steps, ([\d.]+) MiB after 2000", done.stdout)
    assert found, done.stdout
    assert float(found[2]) - float(found[1]) < 8  # 4.5 KiB a step would be 8; on a busy machine it varies by 5


def test_a_run_killed_before_its_first_checkpoint_is_named(command: Command, tmp_path):
    run = Experiment.create(tmp_path / "exps", "tiny")
    done = command("--is_continue")
    assert (done.status, done.err) == (
        2,
        f"error: {run.folder}: has no checkpoint yet, and so nothing to load: a run saves its first after "
        "train.checkpoint_frequency steps (500), or at its end; wait for it or, if the run has ended, start a new one "
        "without --eval and --is-continue\n",
    )
    for flag in ("--is_continue", "--eval"):
        assert command(flag, "--timestamp", run.folder.name).err == done.err


def test_a_run_killed_in_its_evaluation_is_continued_to_its_end(command: Command, clouds):
    folder = command("--input", clouds[0]).folder
    before = (folder / "evaluation" / "10" / "surface.ply").read_bytes()
    for path in (folder / "evaluation" / "10").iterdir():
        path.unlink()
    assert command("--is_continue").status == 0
    assert (folder / "evaluation" / "10" / "surface.ply").read_bytes() == before
    assert "step 10 of 10 is done" in command("--is_continue").err
    assert "step 10 of 5 is done" in command("--is_continue", "--nepoch", 5, "--checkpoint", 10).err


def test_what_killed_writers_left_is_removed_by_the_next_of_the_run(tmp_path):
    run = Experiment.create(tmp_path, "a")
    (run.folder / "evaluation" / "5").mkdir()
    name = f".surface.ply.77.{time.time_ns()}"
    left = [run.folder / sub / name for sub in (".", "checkpoints", "plots", "evaluation/5")]
    kept = [run.folder / ".notes", run.folder / "checkpoints" / ".5.pth", run.folder / "plots" / "5.png"]
    for path in (*left, *kept):
        path.write_text("")
    with run.claimed():
        assert [path.exists() for path in left] == [False, False, False, True]  # --eval may be writing the last
    os.utime(left[3], times=(time.time() - 4000,) * 2)
    with run.claimed():
        assert not left[3].exists()
    assert all(path.exists() for path in kept)


def test_what_a_killed_writer_left_is_no_evaluation(command: Command, clouds):
    folder = command("--input", clouds[0], "--set", "plot.overwrite=false").folder
    for path in (folder / "evaluation" / "10").iterdir():
        path.unlink()
    (folder / "evaluation" / "10" / f".cuts.png.77.{time.time_ns()}").write_text("")
    assert command("--eval", "--set", "plot.overwrite=false").status == 0
    assert "plot.overwrite = false" in command("--eval", "--set", "plot.overwrite=false").err


# signals


def raising(number: int, times: int = 1) -> Any:
    def now(*arguments: Any, **keywords: Any) -> None:
        for _ in range(times):
            signal.raise_signal(number)

    return now


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("stage", ["start", "evaluation"])
def test_a_signal_outside_of_the_training_leaves_at_once(
    monkeypatch, command: Command, clouds, tmp_path, number, status, stage
):
    where = {"start": (preprocess, "coarse_normals"), "evaluation": (evaluation, "render_surface")}[stage]
    monkeypatch.setattr(*where, raising(number))
    done = command("--input", clouds[0], "--set", "train.start=winding")
    assert (done.status, done.err) == (
        status, "stopped at once: nothing is saved since the last checkpoint, if there is one\n"
    )  # fmt: skip
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert (done.folder / "checkpoints" / "latest.pth").exists() == (stage == "evaluation")
    monkeypatch.undo()
    if stage == "evaluation":  # nothing is lost
        assert command("--is_continue").status == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_leaves_at_once_and_in_the_middle_of_a_checkpoint(
    monkeypatch, command: Command, clouds, number, status
):
    fsync, count = os.fsync, [0]

    def interrupted(descriptor: int) -> None:
        count[0] += 1
        if count[0] == 4:  # 1: the configuration; 2, 3: step 2 and latest; 4: step 4
            raising(number, times=2)()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", interrupted)
    done = command("--input", clouds[0], "--set", "train.checkpoint_frequency=2")
    assert done.status == status
    assert "stopped at once" in done.err
    folder = done.folder / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"2.pth", "latest.pth"}
    assert read_checkpoint(folder / "latest.pth")["epoch"] == 2


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_imports_leaves_at_once(tmp_path, clouds, number, status):
    script = f"""
import os, runpy, sys
def watch(event, given):
    if event == "import" and given[0] == "torch.nn":
        os.kill(os.getpid(), {int(number)})
sys.addaudithook(watch)
sys.argv = ["run.py", *{tiny_arguments(tmp_path / "exps", ("--input", clouds[0]))!r}]
runpy.run_path({str(ROOT / "code/reconstruction/run.py")!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("stopped at once")
    assert not (tmp_path / "exps").exists()


def test_a_stop_at_a_state_that_is_not_finite_saves_nothing_and_says_why(monkeypatch, command: Command, clouds):
    step = Optimizers.step

    def broken(self: Any, loss: torch.Tensor, rate: float) -> None:
        step(self, loss * torch.nan, rate)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Optimizers, "step", broken)
    done = command("--input", clouds[0], "--set", "train.start=network")
    assert done.status == 130
    assert "stopped at step 1 and not saved, as the weights became NaN or infinite at step 1" in done.out
    assert not done.folder.exists()  # there was nothing in it


# full disks


def test_a_line_that_does_not_fit_is_taken_back(tmp_path):
    path = tmp_path / "log.jsonl"
    append_line(path, "first")
    with largest_file(10), pytest.raises(UserError, match=r"log\.jsonl: cannot be written \(.+\); choose another"):
        append_line(path, "second")
    append_line(path, "third")
    assert path.read_text() == "first\nthird\n"


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path):
    path = tmp_path / "x.pth"
    write_whole(path, b"old")
    with largest_file(1000), pytest.raises(UserError, match=r"x\.pth: cannot be written \(File too large\)"):
        write_whole(path, b"new" * 1000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_no_file_can_have_is_an_error_too(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_whole(tmp_path / ("x" * 300), b"")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x: cannot be written \(Not a directory\)"):
        write_whole(tmp_path / "file" / "x", b"")


def train(folder: Path, cloud: PointCloud, *keys: str) -> tuple[Experiment, list[str]]:
    run, said = Experiment.create(folder, "run"), []
    keys = ("train.checkpoint_frequency=3", "train.status_frequency=2", *keys)
    fit(tiny(*keys), cloud, torch.device("cpu"), said.append, experiment=run)
    return run, said


def test_a_full_disk_stops_the_training_and_keeps_the_last_checkpoint(monkeypatch, command: Command, clouds):
    fsync, count = os.fsync, [0]

    def failing(descriptor: int) -> None:
        count[0] += 1
        if count[0] > 3:
            raise OSError(28, os.strerror(28))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    done = command("--input", clouds[0], "--set", "train.checkpoint_frequency=3")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert re.search(rf"checkpoints/6\.pth: {NO_SPACE}", done.err)
    assert read_checkpoint(done.folder / "checkpoints" / "latest.pth")["epoch"] == 3
    monkeypatch.undo()
    assert command("--is_continue").status == 0


def test_training_goes_on_over_a_full_disk_if_it_may(monkeypatch, tmp_path, circle):
    plain, _ = train(tmp_path, circle)
    full(monkeypatch, times=2)  # the checkpoints of steps 3 and 6
    run, said = train(tmp_path, circle, "train.on_save_error=continue")
    warnings = [line for line in said if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert re.search(rf"3\.pth: {AT_FIRST}; training goes on \(train\.on_save_error = continue\)", warnings[0])
    assert {path.stem for path in (run.folder / "checkpoints").iterdir()} == {"9", "10", "latest"}
    assert torture.equal(run.load_checkpoint()["network"], plain.load_checkpoint()["network"])


def test_the_last_checkpoint_must_be_written(monkeypatch, tmp_path, circle):
    full(monkeypatch, times=100)
    with pytest.raises(UserError, match=rf"10\.pth: {AT_FIRST}"):
        train(tmp_path, circle, "train.on_save_error=continue")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_log_that_cannot_be_written_does_as_configured(tmp_path, circle):
    keys = ("train.checkpoint_frequency=3", "train.status_frequency=4", "train.nepoch=12")

    def logging(on_save_error: str) -> tuple[Experiment, list[str]]:
        run, said = Experiment.create(tmp_path, "run"), []
        run.log_path.symlink_to("/dev/full")
        config = tiny(*keys, f"train.on_save_error={on_save_error}")
        fit(config, circle, torch.device("cpu"), said.append, experiment=run)
        return run, said

    run, said = logging("continue")
    assert sum(bool(re.search(rf"warning: .*log\.jsonl: {NO_SPACE}", line)) for line in said) == 3
    assert run.load_checkpoint()["epoch"] == 12
    with pytest.raises(UserError, match=rf"log\.jsonl: {NO_SPACE}"):
        logging("stop")


@pytest.mark.parametrize("kind", [0, 1], ids=["2D", "3D"])
def test_a_preview_that_cannot_be_written_ends_no_training(trained, kind, tmp_path):
    said: list[str] = []
    run = evaluation_of(trained[kind])
    evaluation.preview(*run, PlotConfig(preview_resolution=8), tmp_path / "gone", 5, said.append)
    (line,) = said
    assert re.search(r"preview at step 5: .*gone/5\.p.*: cannot be written \(No such file or directory\)", line)


def evaluation_of(folder: Path) -> tuple[Any, PointCloud]:
    field = load_field(folder)
    return field, PointCloud(field.normalisation.invert(torture.sphere(field.dimension)))


def test_an_evaluation_that_cannot_be_written_keeps_the_checkpoint(command: Command, clouds):
    folder = command("--input", clouds[0]).folder
    before = (folder / "checkpoints" / "latest.pth").read_bytes()
    with largest_file(400):
        done = command("--eval")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert re.search(r"evaluation/10/surface\.\w+: cannot be written \(File too large\)", done.err)
    assert (folder / "checkpoints" / "latest.pth").read_bytes() == before
    (folder / "evaluation" / "10").rename(folder / "moved")
    (folder / "evaluation" / "10").write_text("in the way")
    assert re.search(r"evaluation/10: cannot be made \(File exists\)", command("--eval").err)


# several processes


def test_processes_of_the_same_second_get_folders_of_their_own(tmp_path):
    script = f"""
import sys
sys.path[:0] = [{str(ROOT / "code")!r}, {str(ROOT / "tests")!r}]
from phase_recon.utils import experiment
from datetime import datetime
class Noon(datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 2, 29, 12)
experiment.datetime = Noon
sys.stdin.readline()
for _ in range(200):
    print(experiment.Experiment.create(experiment.Path({str(tmp_path)!r}), "a").folder)
"""
    pair = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in pair:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    made = [line for process in pair for line in process.communicate(timeout=120)[0].split()]
    assert len(set(made)) == len(made) == 400
    assert sorted(made) == sorted(str(path) for path in (tmp_path / "a").iterdir())


def test_one_process_at_a_time_trains_a_run(command: Command, clouds):
    folder = command("--input", clouds[0]).folder
    with Experiment(folder).claimed():
        done = command("--is_continue", "--nepoch", 20)
        assert (done.status, done.err) == (
            2, f"error: {folder}: another process is training this run; wait for it, or stop it first\n"
        )  # fmt: skip
        assert command("--eval").status == 0
    assert command("--is_continue", "--nepoch", 20).status == 0


def test_a_reader_beside_a_writer_sees_whole_checkpoints(tmp_path):
    run = Experiment.create(tmp_path, "a")
    run.save_checkpoint(checkpoint(0))
    big = torch.arange(200_000.0)  # large enough to be caught half written, were it possible

    def write() -> None:
        for epoch in range(1, 41):
            run.save_checkpoint(checkpoint(epoch) | {"network": {"weight": big + epoch}})

    writer = threading.Thread(target=write)
    writer.start()
    seen = [0]
    while writer.is_alive():
        read = run.load_checkpoint()
        assert read["epoch"] >= seen[-1]
        if read["epoch"]:
            assert torch.equal(read["network"]["weight"], big + read["epoch"])
        seen.append(read["epoch"])
    writer.join()
    assert len(set(seen)) > 5
    assert run.load_checkpoint()["epoch"] == 40


def test_the_log_of_a_stopped_run_is_that_of_one_that_was_not(tmp_path, circle, monkeypatch):
    run = Experiment.create(tmp_path, "run")
    step, count = Optimizers.step, [0]

    def stopped(self: Any, loss: torch.Tensor, rate: float) -> None:
        step(self, loss, rate)
        count[0] += 1
        if count[0] == 5:
            signal.raise_signal(signal.SIGTERM)

    config = tiny("train.checkpoint_frequency=3", "train.status_frequency=2", "train.start=network")
    whole = Experiment.create(tmp_path, "run")
    fit(config, circle, torch.device("cpu"), lambda line: None, experiment=whole)
    with monkeypatch.context() as patch:
        patch.setattr(Optimizers, "step", stopped)
        with pytest.raises(training.Interrupted, match="step 5"):
            fit(config, circle, torch.device("cpu"), lambda line: None, experiment=run)
    assert [record["epoch"] for record in records(run.folder)] == [2, 4]
    fit(config, circle, torch.device("cpu"), lambda line: None, experiment=run, checkpoint=run.load_checkpoint())
    assert untimed(run.folder) == untimed(whole.folder)
