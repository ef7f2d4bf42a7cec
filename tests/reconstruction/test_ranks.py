"""Several processes for one run: torchrun with two of them computes what one computes, and ends as one."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import CENTRES, ROOT, TINY, Command, records, tiny_arguments
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.model.batch import Batch, EstimatedNormals
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.hole_holding import HoleHoldingSettings
from phase_recon.reconstruction.training import Interrupted, fit
from phase_recon.utils.checkpoint import read_checkpoint
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import load_config
from phase_recon.utils.distributed import (
    ALONE,
    LAUNCHER,
    Ranks,
    choose_device,
    environment_of_job,
    gpu_of_slot,
    join_ranks,
)
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
# A rate at which rounding does not grow: at larger ones, steps that differ in the last bit part after twenty
STEADY = "train.learning_rate_schedule=[{Type=Step, Initial=1e-4, Interval=1000, Factor=1}]"
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the ranks in /proc")


def steady(*overrides: str) -> Config:
    looked = ("train.start=winding", "train.fill_openings=false", "train.estimate_normals=true", "train.bfloat16=false")
    keys = (STEADY, "train.nepoch=30", "train.status_frequency=3", "train.clip_gradient=1", *looked)
    return load_config(TINY, (*keys, *overrides), check_model)


def train(
    folder: Path, optimizer: str, points: Any, ranks: Ranks = ALONE, holding: HoleHoldingSettings | None = None
) -> Path:
    """The log of a run that these ranks share; rank 0 writes it."""
    experiment = Experiment.create(folder, optimizer, "run") if ranks.first else None
    config = steady(f"train.optimizer={optimizer}")
    cpu, given = torch.device("cpu"), {"experiment": experiment, "ranks": ranks, "holding": holding}
    fit(config, PointCloud(points), cpu, lambda line: None, **given)
    return folder / optimizer / "run"


def hold(folder: Path, ranks: Ranks = ALONE) -> Path:
    """The log of a run of adam whose cloud, a circle, has a gap, which is held from step 12 on."""
    angle = np.linspace(0.1, 2 * np.pi - 0.1, 2000)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return train(folder, "adam", points, ranks, HoleHoldingSettings(held_at=12, averaged=6))


def stop_on_the_second_rank(folder: Path, points: Any, ranks: Ranks) -> None:
    """A long run of which the second rank gets a SIGTERM, twice, as a launcher may send it."""

    def interrupt() -> None:
        while not (folder / "stop" / "run" / "log.jsonl").is_file():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    if not ranks.first:
        threading.Thread(target=interrupt, daemon=True).start()
    experiment = Experiment.create(folder, "stop", "run") if ranks.first else None
    try:
        fit(steady("train.nepoch=1000000"), PointCloud(points), torch.device("cpu"), lambda line: None,
            experiment=experiment, ranks=ranks)  # fmt: skip
    except Interrupted as stop:
        (folder / f"rank{ranks.rank}").write_text(f"{stop.status} {stop.epoch}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, shapes: tuple[Any, Any]) -> Path:
    """What two ranks of torchrun leave: an adam run, a muon run, and one that was stopped."""
    folder = tmp_path_factory.mktemp("shared")
    torch.save(torch.tensor(shapes[0]), folder / "points.pt")
    script = folder / "script.py"
    script.write_text(f"""
import sys
sys.path[:0] = {[str(ROOT / "code"), str(ROOT / "tests"), str(Path(__file__).parent)]!r}
from pathlib import Path
import torch
from test_ranks import hold, stop_on_the_second_rank, train
from phase_recon.utils.distributed import join_ranks, leave_ranks
folder = Path({str(folder)!r})
points = torch.load(folder / "points.pt").numpy()
ranks = join_ranks()
assert ranks.from_first(ranks.rank) == 0
for optimizer in ("adam", "muon"):
    train(folder, optimizer, points, ranks)
hold(folder / "held", ranks)
stop_on_the_second_rank(folder, points, ranks)
leave_ranks()
""")
    done = subprocess.run([*TORCHRUN, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("optimizer", "tolerance"), [("adam", 1e-5), ("muon", 5e-3)])  # Muon: bfloat16 rounds by 4e-3
def test_two_ranks_give_the_loss_curve_of_one(shared: Path, tmp_path: Path, shapes: Any, optimizer, tolerance):
    alone = records(train(tmp_path, optimizer, shapes[0]))
    together = records(shared / optimizer / "run")
    assert [record["epoch"] for record in together] == list(range(3, 31, 3))
    for one, two in zip(alone, together, strict=True):
        for key in ("loss", "reconstruction", "gradient", "potential", "normals"):
            assert two[key] == pytest.approx(one[key], rel=tolerance), (key, one["epoch"])
    assert abs(alone[-1]["loss"] / alone[0]["loss"] - 1) > 0.01  # the weights have moved


def test_two_ranks_hold_gaps_by_the_same_points(shared: Path, tmp_path: Path):
    logs = hold(tmp_path), shared / "held" / "adam" / "run"
    alone, together = (records(log)[-1]["loss"] for log in logs)
    assert together == pytest.approx(alone, rel=1e-5)
    one, two = (read_checkpoint(log / "checkpoints" / "latest.pth")["gaps"]["points"] for log in logs)
    assert len(one) > 10
    torch.testing.assert_close(two, one, rtol=0, atol=1e-4)


def test_a_checkpoint_of_ranks_is_a_checkpoint_like_any_other(shared: Path, tmp_path: Path, shapes: Any):
    checkpoint = read_checkpoint(shared / "adam" / "run" / "checkpoints" / "latest.pth")
    config = steady("train.optimizer=adam", "train.nepoch=31")
    assert fit(config, PointCloud(shapes[0]), torch.device("cpu"), lambda line: None, checkpoint=checkpoint)[1] == 31


def test_a_signal_to_one_rank_stops_all_and_the_first_saves(shared: Path):
    first, second = ((shared / f"rank{rank}").read_text() for rank in (0, 1))
    status, epoch = first.split()
    assert first == second
    assert status == "143"
    assert read_checkpoint(shared / "stop" / "run" / "checkpoints" / "latest.pth")["epoch"] == int(epoch)


@linux
def test_a_rank_that_dies_ends_the_run_and_continuing_goes_on(
    command: Command, clouds: tuple[Path, Path], tmp_path: Path
):
    arguments = ("--input", clouds[0], "--set", "train.checkpoint_frequency=5", "--nepoch", 10**7)
    given = tiny_arguments(tmp_path / "exps", arguments)
    process = subprocess.Popen(
        [*TORCHRUN, str(ROOT / "code/reconstruction/run.py"), *given],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while not (found := list((tmp_path / "exps").glob("tiny/*/checkpoints/latest.pth"))):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ranks = {environment(int(child)).get("RANK"): int(child) for child in children}
        os.kill(ranks["1"], signal.SIGKILL)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "error: rank 0: another process of this run has ended" in err
    assert "continue with the same command and --is-continue" in err
    assert out.count("run: ") == 1  # the first rank speaks for both
    assert "processes: 2, each with its share of every batch" in out

    folder = found[0].parents[1]
    epoch = read_checkpoint(folder / "checkpoints" / "latest.pth")["epoch"]
    done = command("--is-continue", "--nepoch", epoch + 5)
    assert done.status == 0, done.err
    assert f"continuing {folder} from step {epoch}" in done.out
    assert [record["epoch"] for record in records(folder)] == list(range(5, epoch + 6, 5))


def environment(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def test_ranks_share_the_clouds_of_a_folder(tmp_path: Path):
    (tmp_path / "in").mkdir()
    for name in "abcde":
        (tmp_path / "in" / f"{name}.xyz").write_text("no matter\n")
    arguments = tiny_arguments(tmp_path / "exps", ("--input", tmp_path / "in"))
    # in place of each cloud's run, a process that notes who started it, and one that fails
    (tmp_path / "stand_in.py").write_text(f"""
import os, sys
from pathlib import Path
cloud = Path(sys.argv[sys.argv.index("--input") + 1]).stem
(Path({str(tmp_path)!r}) / cloud).write_text(f"{{os.getppid()}} {{os.environ.get('RANK')}}")
sys.exit("error: this one" if cloud == "b" else "error: the others")
""")
    (tmp_path / "script.py").write_text(f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(ROOT / "code")!r}]
from phase_recon.reconstruction import batch
from phase_recon.reconstruction import run
batch.RUN = Path({str(tmp_path / "stand_in.py")!r})
sys.exit(run.main({arguments!r}))
""")
    done = subprocess.run(
        [*TORCHRUN, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr  # though all clouds failed: torchrun would have ended the other rank
    starters = [(tmp_path / name).read_text() for name in "abcde"]
    assert starters[0] == starters[2] == starters[4] != starters[1] == starters[3]
    assert all(starter.endswith(" None") for starter in starters)  # no child takes itself for a rank
    (table,) = (tmp_path / "exps").glob("tiny/*/table.csv")
    lines = table.read_text().splitlines()
    assert len(lines) == 6
    assert lines[2].startswith("b,failed,this one,")
    assert "rank 1: 2 failed; 0 clouds per hour" in done.stdout


def test_the_shares_of_a_batch_are_the_batch():
    whole = Batch(
        points=torch.arange(12.0).reshape(6, 2), normals=None, balls=torch.arange(36.0).reshape(6, 3, 2),
        omega=torch.arange(18.0).reshape(9, 2), weights=torch.arange(9.0), volume=4.0,
        estimated=EstimatedNormals(torch.arange(12.0, 24.0).reshape(6, 2), torch.arange(6.0), torch.arange(6) > 2),
    )  # fmt: skip
    parts = [whole.share(rank, 3) for rank in range(3)]
    for name in ("points", "balls", "omega", "weights"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
        assert len({len(getattr(part, name)) for part in parts}) == 1
    for name in ("directions", "trust", "oriented"):
        joined = torch.cat([getattr(part.estimated, name) for part in parts])
        assert torch.equal(joined, getattr(whole.estimated, name))
    assert [(part.normals, part.volume) for part in parts] == [(None, 4.0)] * 3


def test_a_batch_that_cannot_be_dealt_evenly_is_refused(shapes: Any):
    with pytest.raises(UserError, match=r"train\.points_batch: 64 cannot be divided equally among 3 .* such as 66"):
        fit(steady(), PointCloud(shapes[0]), torch.device("cpu"), lambda line: None, ranks=Ranks(0, 3))


def test_without_torchrun_there_is_one_rank(monkeypatch: pytest.MonkeyPatch):
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    assert join_ranks() == ALONE == Ranks(0, 1)
    assert ALONE.from_first(CENTRES) is CENTRES


def test_ranks_take_the_gpus_of_a_machine_in_turn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "some GPU")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto") == (torch.device("cuda", 1), "device: GPU 1, some GPU")
    with pytest.raises(UserError, match="--gpu 0: one GPU for the 2 processes of torchrun; leave --gpu out"):
        choose_device("0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UserError, match="torchrun started 3 processes here, but there are 2 usable GPUs"):
        choose_device("auto")
    assert [gpu_of_slot("auto", slot) for slot in range(3)] == ["0", "1", "0"]
    assert gpu_of_slot("cpu", 1) == "cpu"


def test_a_job_gets_its_share_of_the_threads_and_is_no_rank(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"OMP_NUM_THREADS": "7", "RANK": "1", "TORCHELASTIC_RUN_ID": "x", "MINE": "kept"}.items():
        monkeypatch.setenv(name, value)
    given = environment_of_job(3)
    assert given["OMP_NUM_THREADS"] == given["OPENBLAS_NUM_THREADS"] == "2"
    assert given["MINE"] == "kept"
    assert not {"RANK", "TORCHELASTIC_RUN_ID"} & given.keys()
    assert environment_of_job(100)["OMP_NUM_THREADS"] == "1"


def test_eval_is_not_for_torchrun(command: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = command("--eval")
    assert (done.status, done.err) == (2, "error: --eval is the work of one process: start it without torchrun\n")


@pytest.mark.parametrize(("given", "seen"), [(None, "3000"), ("7", "7")])
def test_threads_do_not_spin_long_and_torch_is_told_before_it_starts(given, seen):
    check = (
        "import sys, os; sys.path.insert(0, 'code'); import phase_recon.reconstruction.run;"
        "assert 'torch' not in sys.modules;"
        "print(os.environ['GOMP_SPINCOUNT'])"
    )
    kept = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    chosen = kept if given is None else {**kept, "GOMP_SPINCOUNT": given}
    command = [sys.executable, "-c", check]
    done = subprocess.run(command, cwd=ROOT, env=chosen, capture_output=True, text=True, check=False)
    assert done.stdout == f"{seen}\n", done.stderr
