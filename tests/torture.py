"""Kill training runs at random moments, go on with them, and compare them with runs that nobody killed.

    python tests/torture.py --kills 50 --seed 0      `make torture`
    python tests/torture.py --kills 0 --steps 20000  the memory alone

Tiny runs in 2D and 3D, with checkpoints, previews and an evaluation, are killed (kill -9) one to five times each:
every second time at any moment of their life, the earlier the likelier, else at a moment of writing. A file that
appears whole gives three of these: before it is opened under its temporary name; half of it written, before it is
forced to the disk; and all of it, before it is renamed. A line of the log gives one, before it is written.

After each kill every file under its final name must be whole, and no more than checkpoint_frequency steps lost. A run
with a checkpoint is continued, one without is started again. At its end it must be, to the last bit, the run that
was never killed: checkpoints, log (times aside), surface. Each life is a process of its own, a fork of this one, so
that the imports, which write nothing, are paid for once.

The other part trains for many tiny steps and compares the memory with that after a few.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; the tiny steps have nothing to share out

import argparse
import json
import math
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "code"))

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.reconstruction import evaluation, run
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.training import fit
from phase_recon.surface.files import read_surface
from phase_recon.utils.checkpoint import read_checkpoint
from phase_recon.utils.config_files import load_config
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.files import TEMPORARY

assert evaluation  # imported for the forks

TINY = ROOT / "tests" / "data" / "tiny.conf"
EPOCHS, FREQUENCY = 120, 20
KEYS = (
    "--nepoch", str(EPOCHS), "--gpu", "cpu", "--conf", str(TINY), "--set", f"train.checkpoint_frequency={FREQUENCY}",
    "--set", "train.status_frequency=7", "--set", "train.plot_frequency=30",
)  # fmt: skip
DIFFERS = {"seconds", "config"}  # of two checkpoints: the time, and the folder of results


def equal(a: Any, b: Any) -> bool:
    """Whether two nested structures of tensors and scalars hold the same bits."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def sphere(dimension: int) -> np.ndarray:
    """300 points of a circle or sphere of radius 1, without chance."""
    turn = math.pi * (1 + math.sqrt(5)) * np.arange(300)
    height = np.zeros(300) if dimension == 2 else 1 - (2 * np.arange(300) + 1) / 300
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)[:, :dimension]


@dataclass
class Tally:
    """What was seen: kills by kind and stage, runs compared, files read, steps lost at each kill."""

    timed: int = 0
    writing: int = 0
    early: int = 0
    late: int = 0
    runs: int = 0
    files: int = 0
    lost: list[int] = field(default_factory=list)


@dataclass
class Life:
    """How a process went: minus the signal that ended it, or its exit status; what it said; moments of writing."""

    status: int
    said: str
    moments: int


def live(arguments: list[str], exps: Path, last: int = 0, seconds: float = math.inf) -> Life:
    """Run the command line in a process of its own, killed at a moment of writing (0: none), or after some seconds."""
    said = exps.with_suffix(".said")
    process = os.fork()
    if process == 0:
        os.dup2(os.open(said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND), 1)
        os.dup2(1, 2)
        status, moments = 1, count_moments(exps, last)
        try:
            status = run.main([*arguments, "--exps_dir", str(exps)])
        finally:
            print(f"moments: {moments[0]}", flush=True)
            os._exit(status)
    started = time.monotonic()
    while not (found := os.waitpid(process, os.WNOHANG))[0]:
        time.sleep(0.001)
        if time.monotonic() - started > seconds:
            os.kill(process, signal.SIGKILL)
            seconds = math.inf
    text = said.read_text()
    count = text.rpartition("moments: ")[2]
    return Life(os.waitstatus_to_exitcode(found[1]), text, int(count) if count.strip().isdigit() else 0)


def count_moments(folder: Path, last: int) -> list[int]:
    """Count the moments of writing below a folder from now on, and die at the last."""
    moments, fsync = [0], os.fsync

    def is_last() -> bool:
        moments[0] += 1
        return moments[0] == last

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename") or not str(given[0]).startswith(f"{folder}/"):
            return
        if (event == "os.rename" or set(str(given[1])) & set("wxa")) and is_last():
            os.kill(os.getpid(), signal.SIGKILL)

    def half(descriptor: int) -> None:
        if is_last():
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    sys.addaudithook(watch)
    os.fsync = half
    return moments


def check_whole(folder: Path) -> int:
    """Read every file under its final name; returns how many there were, raises where one is not whole."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not TEMPORARY.fullmatch(path.name)]
    for path in paths:
        match path.suffix:
            case ".pth":
                read_checkpoint(path)
            case ".json":
                json.loads(path.read_text())
            case ".jsonl":
                [json.loads(line) for line in path.read_text().splitlines()]
            case ".ply":
                read_surface(path)
            case ".png":
                with Image.open(path) as image:
                    image.load()
            case ".html":
                assert path.read_text().rstrip().endswith("</html>"), f"{path}: cut short"
            case ".conf":
                load_config(path)
            case _:
                raise AssertionError(f"{path}: what is this?")
    return len(paths)


def newest(exps: Path) -> Path | None:
    """The folder of the run that was started last."""
    runs = sorted(exps.glob("tiny/*"), key=lambda path: path.stat().st_ctime_ns)
    return runs[-1] if runs else None


def lost_steps(folder: Path) -> int:
    """Steps that the log knows of and the last checkpoint does not."""
    latest = folder / "checkpoints" / "latest.pth"
    saved = read_checkpoint(latest)["epoch"] if latest.is_file() else 0
    return max([0, *(record["epoch"] - saved for record in Experiment(folder).records())])


def account(folder: Path) -> dict[str, Any]:
    """All of a run that must not depend on its having been killed."""
    checkpoints = {
        path.name: {key: value for key, value in read_checkpoint(path).items() if key not in DIFFERS}
        for path in sorted((folder / "checkpoints").glob("*.pth"))
    }
    log = [{key: value for key, value in r.items() if key != "time"} for r in Experiment(folder).records()]
    surface = (folder / "evaluation" / str(EPOCHS) / "surface.ply").read_bytes()
    return {"checkpoints": checkpoints, "log": log, "surface": list(surface)}


def whole_life(arguments: list[str], exps: Path) -> tuple[dict[str, Any], float, int]:
    """A run that nobody kills: its account, its seconds, and its moments of writing."""
    started = time.monotonic()
    life = live(arguments, exps)
    assert life.status == 0, life.said
    (folder,) = exps.glob("tiny/*")
    return account(folder), time.monotonic() - started, life.moments


def killed_life(
    arguments: list[str], exps: Path, expected: dict[str, Any], seconds: float, moments: int,
    kills: int, rng: np.random.Generator, tally: Tally,
) -> None:  # fmt: skip
    """One run, killed so many times at most, continued, and compared at its end."""
    folder = None
    while folder is None or not Experiment(folder).is_evaluated(EPOCHS):
        begun = folder is not None and (folder / "checkpoints" / "latest.pth").is_file()
        if folder is not None and not begun:
            life = live([*arguments, "--is-continue"], exps)
            assert life.status == 2, life.said
            assert "has no checkpoint yet, and so nothing to load" in life.said, life.said
        timed = bool(rng.integers(2))
        how = {"seconds": seconds * rng.uniform() ** 2} if timed else {"last": int(rng.integers(1, moments + 1))}
        life = live([*arguments, "--is-continue"] if begun else arguments, exps, **(how if kills else {}))
        folder = newest(exps)
        tally.files += 0 if folder is None else check_whole(folder)
        if life.status != -signal.SIGKILL:
            assert life.status == 0, life.said
            continue
        kills -= 1
        tally.timed, tally.writing = tally.timed + timed, tally.writing + (not timed)
        tally.early += folder is None or not (folder / "checkpoints" / "latest.pth").is_file()
        tally.late += folder is not None and any((folder / "evaluation").iterdir())
        if folder is not None:
            tally.lost.append(lost_steps(folder))
            assert tally.lost[-1] <= FREQUENCY, f"{folder}: {tally.lost[-1]} steps lost"
    left = [path for path in folder.rglob(".*") if "evaluation" not in path.parts]
    assert not left, f"left behind: {left}"
    found = account(folder)
    for part, value in expected.items():
        assert equal(found[part], value), f"{folder}: {part}: not as in the run that was never killed"
    tally.runs += 1


def kill(kills: int, seed: int, dimensions: Sequence[int], folder: Path) -> Tally:
    """Kill as many times as asked, over as many runs as that takes."""
    rng, tally = np.random.default_rng(seed), Tally()
    references = {}
    for dimension in dimensions:
        cloud = folder / f"cloud{dimension}.xyz"
        np.savetxt(cloud, sphere(dimension), fmt="%.17g")
        arguments = ["--input", str(cloud), *KEYS]
        references[dimension] = (arguments, *whole_life(arguments, folder / f"reference{dimension}"))
    while (left := kills - tally.timed - tally.writing) > 0:
        exps = folder / f"run{tally.runs}"
        arguments, *reference = references[dimensions[tally.runs % len(dimensions)]]
        killed_life(arguments, exps, *reference, min(left, int(rng.integers(1, 6))), rng, tally)
        shutil.rmtree(exps)
        print(f"{tally.timed + tally.writing} kills, {tally.runs} runs the same to the last bit", flush=True)
    return tally


def memory(short: int, long: int, folder: Path) -> tuple[float, float]:
    """The largest memory this process has had, MiB, after two numbers of tiny steps; with log and checkpoints."""
    peaks: dict[int, float] = {}
    unit = 1024.0 if sys.platform.startswith("linux") else 1024.0**2

    def look(_: Any, epoch: int) -> None:
        if epoch in (short, long):
            peaks[epoch] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    keys = (
        f"train.nepoch={long + short}", f"train.plot_frequency={short}", "train.status_frequency=20",
        f"train.checkpoint_frequency={short}", "train.ease_gaps=false",  # whose table is made once, at step 1500
    )  # fmt: skip
    run = Experiment.create(folder, "memory")
    config = load_config(TINY, keys, check_model)
    fit(config, PointCloud(sphere(3)), torch.device("cpu"), lambda line: None, experiment=run, preview=look)
    return peaks[short], peaks[long]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--steps", type=int, default=20_000, help="of the run whose memory is measured; 0: none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"seed {options.seed}", flush=True)
        if options.steps:
            before, after = memory(200, options.steps, Path(folder))
            print(f"memory: {before:.1f} MiB after 200 steps, {after:.1f} MiB after {options.steps}")
        if options.kills:
            started = time.monotonic()
            t = kill(options.kills, options.seed, (2, 3), Path(folder))
            print(
                f"{t.timed + t.writing} kills survived ({t.timed} at any moment, {t.writing} while writing; {t.early} "
                f"before the first checkpoint, {t.late} in the evaluation), {t.runs} runs the same to the last bit, "
                f"{t.files} files read, none cut short; at most {max(t.lost)} steps lost of {FREQUENCY} between "
                f"checkpoints; {time.monotonic() - started:.0f} s"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
