"""A run that fails is mended once, in a way that a second process repeats to the last bit; then it gives up."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import same_state, tiny, untimed

from conftest import Command, records
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.model.optimizer import Optimizers
from phase_recon.reconstruction import recovery, state
from phase_recon.reconstruction.progress import Clock
from phase_recon.reconstruction.training import fit
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment

RATE = "train.learning_rate_schedule=[{Type=Step, Initial=0.004, Interval=1000, Factor=1}]"
KEYS = (
    RATE, "train.nepoch=20", "train.checkpoint_frequency=5", "train.status_frequency=3", "train.optimizer=adam",
    "train.start=network",
)  # fmt: skip


@pytest.fixture
def circle(shapes) -> PointCloud:
    return PointCloud(shapes[0])


@pytest.fixture
def brittle(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """An optimiser whose eighth step makes the weights NaN at learning rates above "rate", in any process."""
    limit = {"rate": 0.003}

    class Brittle(Optimizers):
        def step(self, loss: torch.Tensor, learning_rate: float) -> None:
            breaks = learning_rate > limit["rate"] and self.members[0].state["steps"] >= 7
            super().step(loss * torch.nan if breaks else loss, learning_rate)

    monkeypatch.setattr(state, "Optimizers", Brittle)
    return limit


def train(
    folder: Path, cloud: PointCloud, *keys: str, checkpoint: dict[str, Any] | None = None, run: Experiment | None = None
) -> tuple[Experiment, list[str]]:
    said: list[str] = []
    run = run or Experiment.create(folder, "run")
    fit(tiny(*KEYS, *keys), cloud, torch.device("cpu"), said.append, experiment=run, checkpoint=checkpoint)
    return run, said


def test_a_failed_run_goes_on_from_the_last_good_checkpoint_with_a_smaller_step(tmp_path, circle, brittle):
    run, said = train(tmp_path, circle)
    (warning,) = (line for line in said if line.startswith("warning: "))
    assert "became nan between steps 6 and 9" in warning
    assert "; going on from step 5 with 0.3 of the learning rate (train.mend = true)" in warning
    log = run.records()
    assert [record["epoch"] for record in log] == [3, 6, 6, 9, 12, 15, 18, 20]
    assert log[1]["how"] == "from step 5 with 0.3 of the learning rate"
    assert log[1]["mended"] in warning
    assert [record["lr"] for record in log if "lr" in record] == pytest.approx([0.004] + 6 * [0.0012])
    checkpoint = run.load_checkpoint()
    assert (checkpoint["mending"]["since"], checkpoint["mending"]["factor"]) == (5, 0.3)


@pytest.mark.parametrize("epoch", ["5", "10", "15"])  # before the failure, and after it was mended
def test_a_mended_run_is_continued_to_the_same_bits(tmp_path, circle, brittle, epoch):
    whole, _ = train(tmp_path, circle)
    again, _ = train(tmp_path, circle)
    for path in (again.folder / "checkpoints").iterdir():
        if path.stem == "latest" or int(path.stem) > int(epoch):
            path.unlink()
    train(tmp_path, circle, checkpoint=again.load_checkpoint(epoch), run=again)
    for name in ("10", "15", "20", "latest"):
        assert same_state(again.load_checkpoint(name), whole.load_checkpoint(name))
    assert untimed(again.folder) == untimed(whole.folder)


def test_checkpoints_of_the_course_that_failed_are_set_aside(tmp_path, circle, monkeypatch):
    """A run that is killed after it was mended goes on from there, and not from the last step that failed."""
    found = iter([None, *["the surface leaves Ω at its upper x side"] * 3])
    monkeypatch.setattr(recovery, "surface_leaves", lambda *_: next(found, None))
    run, said = train(tmp_path, circle)
    assert any("; going on from step 5 with" in line for line in said)
    (aside,) = (run.folder / "replaced").iterdir()
    assert f"what later steps had left is now in {aside}" in said
    assert sorted(path.name for path in (aside / "checkpoints").iterdir()) == ["10.pth", "15.pth"]
    assert run.load_checkpoint("10")["mending"]["since"] == 5


def test_without_a_good_checkpoint_it_starts_anew_with_the_next_seed(tmp_path, circle, brittle):
    mended, said = train(tmp_path, circle, "train.checkpoint_frequency=0", "train.seed=3")
    assert any("; going on from the start with seed 4, 0.3 of the learning rate" in line for line in said)
    alone, _ = train(tmp_path, circle, RATE.replace("0.004", "0.0012"), "train.seed=4", "train.checkpoint_frequency=0")
    assert same_state(mended.load_checkpoint(), alone.load_checkpoint())
    assert mended.records()[0]["mended"]
    assert [{**r, "time": 0} for r in mended.records()[1:]] == [
        {**r, "time": 0, "lr": pytest.approx(r["lr"])} for r in alone.records()
    ]


def test_a_second_failure_ends_the_run_and_keeps_what_was_good(tmp_path, circle, brittle):
    brittle["rate"] = 0.0
    text = r"became nan between steps 6 and 9.* \(the run had failed before and was mended: from step 5 with 0\.3 of"
    with pytest.raises(UserError, match=text) as caught:
        train(tmp_path, circle)
    assert "\n" not in str(caught.value)
    (run,) = (tmp_path / "run").iterdir()
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"5.pth", "latest.pth"}
    assert Experiment(run).load_checkpoint()["epoch"] == 5


def test_mend_false_stops_at_the_first(tmp_path, circle, brittle):
    with pytest.raises(UserError, match=r"became nan between steps 6 and 9") as caught:
        train(tmp_path, circle, "train.mend=false")
    assert "mended" not in str(caught.value)
    (run,) = (tmp_path / "run").iterdir()
    assert Experiment(run).load_checkpoint()["epoch"] == 5


def test_arrays_are_mended_too(circle, brittle):
    said: list[str] = []
    _, epoch = fit(tiny(*KEYS), circle, torch.device("cpu"), said.append)
    assert epoch == 20
    assert any("going on from step 5" in line for line in said)


def test_the_command_evaluates_a_mended_run(command: Command, clouds, brittle):
    given = [part for key in KEYS for part in ("--set", key)]
    done = command("--input", clouds[0], *given)
    assert done.status == 0, done.err
    assert "going on from step 5" in done.out
    assert (done.folder / "evaluation" / "20" / "losses.png").is_file()
    assert [record["epoch"] for record in records(done.folder) if "mended" in record] == [6]


def test_a_weight_too_small_to_hold_the_surface_is_found_and_named(command: Command, clouds):
    given = (
        "--nepoch", 1500, "--set", "network.loss.lambda=1e-6", "--set", "network.loss.mu=0",
        "--set", "train.checkpoint_frequency=100",
    )  # fmt: skip
    done = command("--input", clouds[0], *given)
    assert (done.status, done.err.count("\n")) == (2, 1), done.out
    assert "going on from " in done.out
    assert "no surface is left" in done.err
    assert "raise network.loss.lambda" in done.err


def test_a_start_anew_has_the_rest_of_the_time(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 1060.0)
    assert Clock(10, 100.0, before=20.0, start=1000.0).progress(3) == pytest.approx(0.8)
    assert Clock(10, 100.0, before=20.0, start=1000.0, spent=60.0).progress(3) == pytest.approx(0.5)
    assert Clock(10, None, before=20.0, start=1000.0, spent=60.0).progress(3) == pytest.approx(0.3)


def test_a_checkpoint_says_what_was_done(tmp_path, circle, brittle):
    run, _ = train(tmp_path, circle)
    plain = run.load_checkpoint()["mending"]
    assert json.loads(json.dumps(plain)) == plain
