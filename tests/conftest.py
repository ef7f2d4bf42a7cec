"""Tiny clouds and tiny runs that tests share; tests/data/tiny.conf is their configuration."""

import os

# A tiny step has nothing to share out: with more threads it waits for them, by far the longest where other
# processes are busy. Set before torch is imported, and handed on to the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import copy
import functools
import itertools
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyhocon
import pytest
import torch

from phase_recon.model.base import value_and_gradient
from phase_recon.reconstruction import evaluation, progress
from phase_recon.reconstruction.run import main
from phase_recon.report import render

# setup.conf is read a thousand times, of which each would take a tenth of a second
parsed = functools.cache(pyhocon.ConfigFactory.parse_string)
pyhocon.ConfigFactory.parse_string = lambda text, **keys: copy.deepcopy(parsed(text, **keys))

# A shell that starts the tests in the background has them, and the commands they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

Array = npt.NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests" / "data" / "tiny.conf"
CENTRES = ((5.0, -3.0), (100.0, -50.0, 7.0))
RADIUS = 20.0


@dataclass(frozen=True)
class Outcome:
    """What a command gave: its exit status and its two streams."""

    status: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        """The run's folder, as the command names it."""
        (line,) = (line for line in self.out.splitlines() if line.startswith("run: "))
        return Path(line.removeprefix("run: "))


Command = Callable[..., Outcome]


class Field:
    """A formula as a loss wants it; its gradient by automatic differentiation."""

    def __init__(self, formula):
        self.formula = formula

    def __call__(self, x):
        return self.formula(x)

    def value_and_gradient(self, x):
        return value_and_gradient(self.formula, x)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> float:
    """The clock of a run goes on by 10 ms whenever it is read, however fast the machine is; the second it starts at."""
    readings = itertools.count()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(readings) / 100))
    return 0.0


@pytest.fixture(autouse=True)
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take seconds of rays, and ask the field half a million times, of which a few show as well that they are
    drawn; how, tests/report looks at.
    """
    if request.path.parent.name != "report":
        monkeypatch.setattr(render, "SUBPIXELS", 1)
        monkeypatch.setattr(render, "AMBIENT_RAYS", 1)
        coarse = functools.partial(evaluation.cross_section_picture, resolution=16)
        monkeypatch.setattr(evaluation, "cross_section_picture", coarse)


@pytest.fixture(scope="session")
def shapes() -> tuple[Array, Array]:
    """A circle (200, 2) and a sphere (400, 3) of radius 20, away from the origin."""
    angle = 2 * math.pi * (np.arange(200) + 0.5) / 200
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    height = 1 - (2 * np.arange(400) + 1) / 400  # a Fibonacci lattice: even, without chance
    turn = math.pi * (1 + math.sqrt(5)) * np.arange(400)
    ring = np.sqrt(1 - height**2)
    sphere = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)
    return CENTRES[0] + RADIUS * circle, CENTRES[1] + RADIUS * sphere


@pytest.fixture(scope="session")
def clouds(shapes: tuple[Array, Array], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same as files, without normals."""
    folder = tmp_path_factory.mktemp("clouds")
    paths = folder / "circle.xyz", folder / "sphere.xyz"
    for path, points in zip(paths, shapes, strict=True):
        np.savetxt(path, points, fmt="%.17g")
    return paths


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process, with tiny.conf and results in tmp_path/exps."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = main(tiny_arguments(tmp_path / "exps", arguments))
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """The same in a process of its own; ``cwd`` is where it starts, ``script`` how run.py is named there."""

    def call(
        *arguments: object, cwd: Path = ROOT, script: str = "code/reconstruction/run.py", tiny: bool = True
    ) -> Outcome:
        given = tiny_arguments(tmp_path / "exps", arguments) if tiny else [str(a) for a in arguments]
        done = subprocess.run(
            [sys.executable, script, *given], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def trained(clouds: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of two finished runs of 250 steps, on the circle and on the sphere. Not to be changed."""
    exps = tmp_path_factory.mktemp("trained")
    for name, path in zip(("circle", "sphere"), clouds, strict=True):
        further = ("--nepoch", 250, "--set", "train.checkpoint_frequency=100", "--set", "train.plot_frequency=200")
        assert main(tiny_arguments(exps, ("--input", path, "--expname", name, *further))) == 0
    (circle,), (sphere,) = (exps / "circle").iterdir(), (exps / "sphere").iterdir()
    return circle, sphere


def tiny_arguments(exps: Path, arguments: Sequence[object]) -> list[str]:
    """The command line of a tiny run; what ``arguments`` say again wins."""
    base = ["--conf", str(TINY), "--exps_dir", str(exps), "--gpu", "cpu"]
    return base + [str(argument) for argument in arguments]


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def box_with_hollow(count, d):
    """The walls of [-1, 1]^d without a mouth of radius 0.4 in the upper one, and a floor beneath it at the middle.

    The hollow's own walls are missing. The points, and which are the floor's.
    """
    random = np.random.default_rng(0)
    points = random.uniform(-1, 1, (count, d))
    axis = random.integers(d, size=count)
    points[np.arange(count), axis] = random.choice([-1, 1], count)
    mouth = (points[:, -1] == 1) & (np.linalg.norm(points[:, :-1], axis=1) < 0.4)
    points[mouth, -1] = 0
    return points, mouth


def spline_at(splines: Any, points: Any) -> tuple[Any, Any]:
    """Values (N,) and gradients (N, d) of a sum of splines at points (N, d), as arrays in double precision."""
    value, gradient = splines.value_and_gradient(torch.from_numpy(points))
    return value.double().numpy(), gradient.double().numpy()
