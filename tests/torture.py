"""Kill training runs at random moments, go on with them, and compare them with runs that nobody killed.

    python tests/torture.py --kills 50 --seed 0      `make torture`
    python tests/torture.py --kills 0 --steps 20000  the memory alone

Tiny runs in 2D and 3D, with checkpoints, previews and an evaluation, are killed (kill -9) one to five times each:
every second time at any moment of their life, imports included, else at a moment of writing (victim.py). After each
kill every file under its final name must be whole, and no more than checkpoint_frequency steps lost. A run with a
checkpoint is continued, one without is started again. At its end it must be, to the last bit, the run that was
never killed: checkpoints, log (times aside), surface.

The second part trains on for many tiny steps and compares the memory with that after a few.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; the tiny steps have nothing to share out

import argparse
import json
import math
import resource
import shutil
import subprocess
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

from datasets.pointcloud import PointCloud
from reconstruction.field import check_model
from reconstruction.training import fit
from utils.config import load_config
from utils.experiment import Experiment, read_checkpoint
from utils.files import TEMPORARY
from utils.mesh import read_surface

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
    """What was seen."""

    timed: int = 0
    writing: int = 0
    early: int = 0
    late: int = 0
    runs: int = 0
    files: int = 0
    lost: list[int] = field(default_factory=list)


def command(cloud: Path, exps: Path, last: int, *more: str) -> list[str]:
    """A tiny run that kills itself at a moment of writing; 0 does not."""
    given = ["--input", str(cloud), "--exps_dir", str(exps), *KEYS, *more]
    return [sys.executable, str(ROOT / "tests" / "victim.py"), str(last), *given]


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


def whole_life(cloud: Path, exps: Path) -> tuple[dict[str, Any], float, int]:
    """A run that nobody kills: its account, its seconds, and its moments of writing."""
    started = time.monotonic()
    done = subprocess.run(command(cloud, exps, 0), capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("moments: "))
    (folder,) = exps.glob("tiny/*")
    return account(folder), time.monotonic() - started, int(line.split()[1])


def killed_life(
    cloud: Path, exps: Path, expected: dict[str, Any], seconds: float, moments: int,
    kills: int, rng: np.random.Generator, tally: Tally,
) -> None:  # fmt: skip
    """One run, killed so many times, continued, and compared at its end."""
    exps.mkdir()
    while True:
        folder = newest(exps)
        begun = folder is not None and (folder / "checkpoints" / "latest.pth").is_file()
        if folder is not None and not begun and tally.early <= 2:  # what --is_continue says then
            done = subprocess.run(command(cloud, exps, 0, "--is_continue"), capture_output=True, text=True, check=False)
            assert done.returncode == 2, done.stderr
            assert "no run with a checkpoint to load: start one without --is_continue" in done.stderr, done.stderr
        more = ["--is_continue"] if begun else []
        timed = bool(rng.integers(2))
        last = 0 if timed or not kills else int(rng.integers(1, moments + 1))
        victim = subprocess.Popen(
            command(cloud, exps, last, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            _, err = victim.communicate(timeout=rng.uniform(0, seconds) if kills and timed else 300)
        except subprocess.TimeoutExpired:
            victim.kill()
            _, err = victim.communicate()
        folder = newest(exps)
        if folder is not None:
            tally.files += check_whole(folder)
        if victim.returncode == 0:
            break
        assert victim.returncode == -9, err
        assert "Traceback" not in err, err
        kills -= 1
        tally.timed, tally.writing = tally.timed + timed, tally.writing + (not timed)
        tally.early += folder is None or not (folder / "checkpoints" / "latest.pth").is_file()
        tally.late += folder is not None and any((folder / "evaluation").iterdir())
        if folder is not None:
            tally.lost.append(lost_steps(folder))
            assert tally.lost[-1] <= FREQUENCY, f"{folder}: {tally.lost[-1]} steps lost"
    assert folder is not None
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
        references[dimension] = (cloud, *whole_life(cloud, folder / f"reference{dimension}"))
    while (left := kills - tally.timed - tally.writing) > 0:
        cloud, *reference = references[dimensions[tally.runs % len(dimensions)]]
        exps = folder / f"run{tally.runs}"
        killed_life(cloud, exps, *reference, min(left, int(rng.integers(1, 6))), rng, tally)
        shutil.rmtree(exps)
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
        f"train.checkpoint_frequency={short}",
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
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        print(f"seed {options.seed}")
        if options.kills:
            t = kill(options.kills, options.seed, (2, 3), Path(folder))
            print(
                f"{t.timed + t.writing} kills survived ({t.timed} at any moment, {t.writing} while writing; {t.early} "
                f"before the first checkpoint, {t.late} in the evaluation), {t.runs} runs the same to the last bit, "
                f"{t.files} files read, none cut short; at most {max(t.lost)} steps lost of {FREQUENCY} between "
                f"checkpoints; {time.monotonic() - started:.0f} s"
            )
        if options.steps:
            before, after = memory(200, options.steps, Path(folder))
            print(f"memory: {before:.1f} MiB after 200 steps, {after:.1f} MiB after {options.steps}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
