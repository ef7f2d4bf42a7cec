"""Where the time of a whole command goes, before its first step and after its last.

    python code/reconstruction/bench_start.py --input data/bunny.xyz --steps 50

Runs the command in this process, with a clock about each of its parts, and prints a line a part: when it began, how
long it took, and the processor seconds of all threads meanwhile, by which a shared machine can be judged. A part that
another one calls stands below it, indented. The imports come first, as in the command, and are timed cold. What is
written goes to a temporary folder.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import local
from typing import Any

STARTED = time.monotonic()

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from phase_recon.utils.environment import require_packages

    del sys.path[0]
    require_packages()

from phase_recon.reconstruction.commands import Parser, exit_status

IMPORTED = ("torch", "phase_recon.reconstruction.training", "phase_recon.reconstruction.evaluation")
# module, and its function that is timed; each name is where the caller looks the function up
PARTS = (
    ("input_cloud", "load_point_cloud", "read the cloud"),
    ("input_cloud", "examine", "examine given normals"),
    ("training", "prepare", "prepare"),
    ("preprocess", "find_scene", "find outliers and Ω"),
    ("preprocess", "STAGES", ""),  # each stage by its name
    ("training", "kernels_for", "compiled kernels"),
    ("training", "begin", "network, sampler, coarse surface"),
    ("state", "sampler_of", "set up the sampler"),
    ("state", "HeldGaps", "set up the holding of holes"),
    ("state", "_fit_values", "fit the network to the coarse surface"),
    ("training", "_step", "step"),
    ("training", "correction_of", "detail"),
    ("evaluation", "surface_of", "surface"),
    ("meshing", "extract_surface", "extract"),
    ("meshing", "refine", "refine, with normals"),
    ("evaluation", "write_surface", "write the mesh"),
    ("evaluation", "compare_to_points", "measure the distance to the cloud"),
    ("evaluation", "surface_page", "page"),
    ("evaluation", "render_surface", "picture of the surface"),
    ("evaluation", "cross_section_picture", "picture of cross-sections"),
    ("evaluation", "loss_curves", "picture of the losses"),
)
WARM = 1  # steps that get a line of their own; the others share one


@dataclass
class Part:
    """One part of a run: its name, its depth below others, and seconds since the start, on the clock and used."""

    name: str
    depth: int
    begins: float
    seconds: float = 0.0
    used: float = 0.0
    count: int = 1

    def __str__(self) -> str:
        name = "  " * self.depth + self.name + (f" × {self.count}" if self.count > 1 else "")
        return f"{name:48s} {self.begins:8.2f} {self.seconds:8.2f} {self.used:8.2f}"


class Stopwatch:
    """Times functions; the calls that one thread makes within another are its parts."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._thread = local()

    def timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, each call of which is noted; from the second on, calls that follow each other share a line."""

        @wraps(function)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            depth = getattr(self._thread, "depth", 0)
            began, used = time.monotonic(), time.process_time()
            last = self.parts[-1] if self.parts else None
            shared = last is not None and last.name == name and sum(part.name == name for part in self.parts) > WARM
            part = last if shared and last is not None else Part(name, depth, began - STARTED, count=0)
            if part is not last:
                self.parts.append(part)
            self._thread.depth = depth + 1
            try:
                return function(*arguments, **named)
            finally:
                self._thread.depth = depth
                part.seconds += time.monotonic() - began
                part.used += time.process_time() - used
                part.count += 1

        return wrapper


def bench(cloud: Path, steps: int) -> None:
    """Run the command, and print the table."""
    watch = Stopwatch()
    for name in IMPORTED:
        watch.timed(import_module, f"import {name.rpartition('.')[2]}")(name)
    for room, name, label in PARTS:
        module = import_module(f"phase_recon.reconstruction.{room}")
        given = getattr(module, name)
        if isinstance(given, tuple):
            setattr(module, name, tuple(watch.timed(stage, stage.__name__.replace("_", " ")) for stage in given))
        else:
            setattr(module, name, watch.timed(given, label))
    from phase_recon.reconstruction.run import main as run

    with TemporaryDirectory() as folder:
        flags = ["--steps", str(steps), "--set", f"train.exps_dir={folder}", "--set", "train.mend=false"]
        status = run([str(cloud), "--output", str(Path(folder) / "mesh.ply"), *flags])
    if status == 0:
        print(f"\n{'part':48s} {'begins':>8s} {'seconds':>8s} {'used':>8s}")
        print("\n".join(str(part) for part in watch.parts))
        print(f"{'all':48s} {'':8s} {time.monotonic() - STARTED:8.2f} {time.process_time():8.2f}")


def main() -> int:
    """Read the flags and print the table; returns the exit status."""
    parser = Parser("[--input CLOUD] [--steps N]", __doc__, script="bench_start.py")
    parser.add_argument(
        "--input", metavar="CLOUD", type=Path, default=Path("data/bunny.xyz"), help="the cloud (data/bunny.xyz)"
    )
    parser.add_argument("--steps", metavar="N", type=int, default=100, help="steps of the training (100)")
    return exit_status(parser, None, lambda options: bench(options.input, options.steps), "stopped")


if __name__ == "__main__":
    sys.exit(main())
