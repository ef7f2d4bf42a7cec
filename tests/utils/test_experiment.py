"""Runs on disk: folders of their own, files that are whole or not there, and refusals that say what to do."""

import errno
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from phase_recon.utils import experiment
from phase_recon.utils.checkpoint import CHECKPOINT_KEYS, FORMAT
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment, checkpoint_at, latest_checkpoint


class NoonForEver(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> "NoonForEver":
        return cls(2024, 2, 29, 12, 0, 9)


def checkpoint(epoch: int) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "format": FORMAT, "epoch": epoch, "seconds": 1.5, "config": {}, "d": 2, "optimizers": [],
        "network": {"weight": torch.arange(4.0)}, "generator": torch.Generator().get_state(),
        "normalisation": {"centre": [1.0, 2.0], "scale": 3.0}, "cloud": {"points": 9, "checksum": 7},
        "omega": {"lower": [-1.0, -1.0], "upper": [1.0, 1.0]},
    }  # fmt: skip
    assert plain.keys() == CHECKPOINT_KEYS
    return plain


def test_runs_of_the_same_second_get_folders_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "datetime", NoonForEver)
    runs = [Experiment.create(tmp_path, "a") for _ in range(12)]
    stamp = "2024_02_29_12_00_09"
    assert [run.folder.name for run in runs] == [stamp, *(f"{stamp}_{i}" for i in range(1, 12))]
    assert all((run.folder / name).is_dir() for run in runs for name in ("checkpoints", "plots", "evaluation"))


def test_latest_is_the_newest_run_with_a_checkpoint_in_natural_order(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "datetime", NoonForEver)
    runs = [Experiment.create(tmp_path, "a") for _ in range(12)]
    for run in runs[:11]:  # the twelfth, _11, never saved anything; _10 comes after _9
        run.save_checkpoint(checkpoint(1))
    assert Experiment.find(tmp_path, "a").folder == runs[10].folder
    assert runs[10].folder.name.endswith("_10")
    assert Experiment.find(tmp_path, "a", runs[3].folder.name).folder == runs[3].folder


def test_experiments_folder_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/exps/a.*cannot be made.*--exps-dir"):
        Experiment.create(tmp_path / "file" / "exps", "a")
    (tmp_path / "a").write_text("in the way")
    with pytest.raises(UserError, match=r"a.*(not a folder|cannot be made).*--exps-dir"):
        Experiment.create(tmp_path, "a")


def test_a_checkpoint_comes_back_equal_under_its_step_and_as_latest(tmp_path):
    run = Experiment.create(tmp_path, "a")
    path = run.save_checkpoint(checkpoint(7))
    assert path == run.folder / "checkpoints" / "7.pth"
    assert path.read_bytes() == (path.parent / "latest.pth").read_bytes()
    for read in (run.load_checkpoint(), run.load_checkpoint("7")):
        assert read["epoch"] == 7
        assert torch.equal(read["network"]["weight"], torch.arange(4.0))


def test_without_latest_pth_the_checkpoint_of_the_most_steps_is_the_latest(tmp_path):
    run = Experiment.create(tmp_path, "a", "mine")
    for epoch in (500, 1000):
        path = run.save_checkpoint(checkpoint(epoch))
    path.with_name("latest.pth").unlink()
    assert latest_checkpoint(run.folder) == checkpoint_at(run.folder) == path
    assert Experiment.find(tmp_path, "a").load_checkpoint()["epoch"] == 1000
    with pytest.raises(UserError, match=r"mine: contains a run: continue it with --is-continue"):
        Experiment.create(tmp_path, "a", "mine")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_checkpoint_whole(monkeypatch, tmp_path, failing):
    run = Experiment.create(tmp_path, "a")
    before = run.save_checkpoint(checkpoint(5)).read_bytes()

    def full(*arguments: Any, **keywords: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(UserError, match=r"6\.pth: cannot be written \(No space left.*--is-cont"):
            run.save_checkpoint(checkpoint(6))
    folder = run.folder / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["5.pth", "latest.pth"]
    assert (folder / "latest.pth").read_bytes() == before
    run.save_checkpoint(checkpoint(6))
    assert run.load_checkpoint()["epoch"] == 6


def test_a_run_that_is_being_trained_is_not_begun_again(tmp_path):
    experiment = Experiment.create(tmp_path, "a", "mine")
    experiment.log({"epoch": 1})
    with experiment.claimed():
        with pytest.raises(UserError, match=r"another process is training this run; wait for it, or stop it first$"):
            Experiment.create(tmp_path, "a", "mine")
        assert len(list(experiment.records())) == 1
    Experiment.create(tmp_path, "a", "mine")
    assert not list(experiment.records())


@pytest.mark.parametrize("result", ["evaluation/500", "bunny", "notes.txt"])
def test_a_folder_with_results_but_no_checkpoint_is_not_begun_again(result, tmp_path):
    """A run whose checkpoints were removed, the folder of many clouds, a user's own."""
    run = Experiment.create(tmp_path, "a", "mine")
    run.write_configuration("train {}")
    run.log({"epoch": 1})
    (run.folder / "cloud.json").touch()
    (run.folder / "tensorboard").mkdir()
    (run.folder / ".config.conf.1a2b").touch()
    Experiment.create(tmp_path, "a", "mine")  # this much a run leaves that ended before its first checkpoint
    (run.folder / result).mkdir()
    run.log({"epoch": 1})
    with pytest.raises(UserError, match=rf"mine: contains {result}, but no checkpoint; give another --timestamp$"):
        Experiment.create(tmp_path, "a", "mine")
    assert len(list(run.records())) == 1


def test_a_checkpoint_that_is_missing_is_named_with_those_there_are(tmp_path):
    run = Experiment.create(tmp_path, "a")
    with pytest.raises(UserError, match="has no checkpoint yet"):
        run.load_checkpoint()
    for epoch in (10, 9):
        run.save_checkpoint(checkpoint(epoch))
    with pytest.raises(UserError, match=r"checkpoints/8\.pth: no such checkpoint; .* there are: latest, 9, 10$"):
        run.load_checkpoint("8")


def test_runs_that_are_missing_are_named_with_those_there_are(tmp_path):
    with pytest.raises(UserError, match=r"exps/a: no such experiment to load; .*: none$"):
        Experiment.find(tmp_path / "exps", "a")
    run = Experiment.create(tmp_path, "b")
    (tmp_path / "README.md").touch()
    with pytest.raises(UserError, match=rf"{tmp_path}/a: no such experiment to load; the experiments there are: b$"):
        Experiment.find(tmp_path, "a")
    with pytest.raises(UserError, match=rf"{run.folder}: has no checkpoint yet"):
        Experiment.find(tmp_path, "b")
    with pytest.raises(UserError, match=rf"b/2001: no such run; the runs there are: {run.folder.name}$"):
        Experiment.find(tmp_path, "b", "2001")


def test_a_run_of_many_clouds_says_how_to_load_one(tmp_path):
    Experiment.create(tmp_path / "many", "2026_01_01", "cloud").save_checkpoint(checkpoint(1))
    with pytest.raises(UserError, match=r"/many: contains runs of many clouds: .* --timestamp 2026_01_01/<cloud>$"):
        Experiment.find(tmp_path, "many")
    assert Experiment.find(tmp_path, "many", "2026_01_01/cloud").load_checkpoint()["epoch"] == 1


def test_the_log_is_rewound_to_a_step(tmp_path):
    run = Experiment.create(tmp_path, "a")
    assert run.records() == []
    for epoch in (5, 10, 15):
        run.log({"epoch": epoch, "loss": 1 / epoch})
    run.rewind_log(10)
    assert run.records() == [{"epoch": 5, "loss": 0.2}, {"epoch": 10, "loss": 0.1}]
    run.log({"epoch": 15})
    assert [json.loads(line)["epoch"] for line in run.log_path.read_text().splitlines()] == [5, 10, 15]


def test_half_a_last_line_of_the_log_is_left_out(tmp_path):
    run = Experiment.create(tmp_path, "a")
    run.log({"epoch": 5})
    with run.log_path.open("a") as file:
        file.write('{"epoch": 10, "lo')
    assert run.records() == [{"epoch": 5}]
    run.rewind_log(5)
    run.log({"epoch": 10})
    assert run.records() == [{"epoch": 5}, {"epoch": 10}]


def test_files_get_the_permissions_of_any_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    path = Experiment.create(tmp_path, "a").save_checkpoint(checkpoint(1))
    assert Path(path).stat().st_mode == plain.stat().st_mode


def test_what_later_steps_left_is_set_aside(tmp_path):
    run = Experiment.create(tmp_path, "a")
    for epoch in (5, 10, 15):
        run.save_checkpoint(checkpoint(epoch))
    (run.folder / "plots" / "15.png").write_bytes(b"picture")
    assert run.set_aside(15) is None
    assert not (run.folder / "replaced").exists()
    aside = run.set_aside(5)
    assert aside is not None
    found = {path.relative_to(aside).as_posix() for path in aside.rglob("*") if path.is_file()}
    assert found == {"checkpoints/10.pth", "checkpoints/15.pth", "plots/15.png"}
    assert {path.name for path in (run.folder / "checkpoints").iterdir()} == {"5.pth", "latest.pth"}
    assert run.load_checkpoint()["epoch"] == 5


def test_setting_aside_does_without_the_numbered_file_of_the_latest(tmp_path):
    run = Experiment.create(tmp_path, "a")
    run.save_checkpoint(checkpoint(5)).unlink()  # by a user, to make room
    (run.folder / "plots" / "6.png").write_bytes(b"picture")
    aside = run.set_aside(5)
    assert aside is not None
    assert (aside / "plots" / "6.png").is_file()
    assert run.load_checkpoint()["epoch"] == 5
