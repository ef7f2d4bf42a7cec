"""How fast the detail is solved for, as a share of the bytes a second that this machine's memory can move.

    python code/reconstruction/bench_detail.py --points 30000

A product of the equations' matrices with a vector, which conjugate gradients spend their time on, reads each entry
once; so no more of them can be done than the memory has bytes for. Timed beside it is a copy in memory, which reads and
writes. Both in one thread, and in as many as there are cores, each with its own block of the cloud. Best of several,
as machines are shared.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from phase_recon.utils.environment import require_packages

    del sys.path[0]
    require_packages()

import numpy as np
import torch

from phase_recon.reconstruction.commands import Parser, exit_status
from phase_recon.reconstruction.detail import point_distance
from phase_recon.reconstruction.detail_system import BLOCK_POINTS, Data, system_of
from phase_recon.utils.errors import UserError
from phase_recon.utils.threads import in_threads

ROUNDS = 5  # of which the fastest counts
COPIED = 1 << 28  # bytes that are copied: more than the caches hold
LAMBDA = 0.01  # of the equations; their pattern is the same for all
HEIGHT, WAVES = 0.01, np.array([40.0, 30.0, 20.0])  # of the waves on the sphere that are solved for, of radius 1
FEWEST = 100  # points of a block that is timed


def lines(points: int) -> Iterator[str]:
    """What is printed, for blocks of so many points of a sphere.

    Raises:
        UserError: too few points, or more than a block has.
    """
    if not FEWEST <= points <= BLOCK_POINTS:
        raise UserError(f"--points {points}: expected {FEWEST} to {BLOCK_POINTS}, the points of a block")
    sphere = np.random.default_rng(0).standard_normal((points, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    data = Data(sphere, HEIGHT * np.sin(sphere @ WAVES), sphere, sphere, np.ones(points))
    spacing, started = point_distance(sphere), time.perf_counter()
    nodes, system = system_of(data, spacing, LAMBDA, 0.0)
    made = time.perf_counter()
    system.solution()
    solved = time.perf_counter()
    yield (
        f"{points:,} points, {len(nodes):,} nodes, {system.bytes / 1e6:.0f} MB of equations: made in "
        f"{made - started:.2g} s, solved in {solved - made:.2g} s"
    )
    vector = np.ones(len(nodes), dtype=np.float32)
    source = np.ones(COPIED // 4, dtype=np.float32)
    for threads in sorted({1, torch.get_num_threads()}):
        targets = [np.empty_like(source) for _ in range(threads)]
        copied = 2 * threads * COPIED / _fastest(lambda target: np.copyto(target, source), targets)
        read = threads * system.bytes / _fastest(lambda _: system.times(vector), targets)
        yield (
            f"{threads} thread{'s' if threads > 1 else ''}: products read {read / 1e9:.3g} GB/s, "
            f"{read / copied:.0%} of the {copied / 1e9:.3g} GB/s of a copy"
        )


def _fastest(work: Callable[[np.ndarray], object], targets: list[np.ndarray]) -> float:
    """Seconds of the fastest of several rounds, in each of which every target is worked on in a thread of its own."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        in_threads(work, targets, len(targets))
        times.append(time.perf_counter() - started)
    return min(times)


def main(arguments: list[str] | None = None) -> int:
    """Read the flag and print the lines; returns the exit status."""
    parser = Parser("[--points N]", __doc__, script="bench_detail.py")
    parser.add_argument("--points", metavar="N", type=int, default=BLOCK_POINTS, help="of a block (%(default)s)")
    return exit_status(parser, arguments, lambda options: print(*lines(options.points), sep="\n"), "stopped")


if __name__ == "__main__":
    sys.exit(main())
