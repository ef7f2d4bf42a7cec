"""Clouds per hour with one and with several jobs: the command of every day on copies of one cloud, timed whole.

    python code/reconstruction/bench_jobs.py --clouds 4 --jobs 1,2 --steps 500

Results go to a temporary folder, which is removed. The machine should have nothing else to do.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from phase_recon.utils.environment import require_packages

    del sys.path[0]
    require_packages()

from phase_recon.reconstruction.commands import Parser, common_flag, exit_status, whole_numbers
from phase_recon.utils.errors import UserError
from phase_recon.utils.locations import ROOT
from phase_recon.utils.memory import processors


def clouds_per_hour(cloud: Path, clouds: int, jobs: int, further: list[str]) -> float:
    """Clouds that one command finishes per hour, the start of its processes and the evaluations included.

    Raises:
        UserError: there is no such cloud, or the command failed.
    """
    if not cloud.is_file():
        raise UserError(f"{cloud}: no such file; --cloud names a point cloud")
    with tempfile.TemporaryDirectory() as folder:
        scans = Path(folder, "scans")
        scans.mkdir()
        for i in range(clouds):
            shutil.copy(cloud, scans / f"{cloud.stem}{i}{cloud.suffix}")
        command = [sys.executable, str(Path(__file__).with_name("run.py")), "--input", str(scans), "--exps-dir",
                   str(Path(folder, "exps")), "--jobs", str(jobs), *further]  # fmt: skip
        started = time.monotonic()
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            failed = [line for line in done.stdout.splitlines() if "failed after" in line]
            why = f": {failed[0]}" if failed else ", as said above"
            raise UserError(f"{shlex.join(command)}: failed{why}")
        return 3600 * clouds / (time.monotonic() - started)


def main() -> int:
    """Read the flags and print the table; returns the exit status."""
    parser = Parser("[--cloud PATH] [--clouds N] [--jobs A,B] [--steps N]", __doc__, script="bench_jobs.py")
    parser.add_argument(
        "--cloud", metavar="PATH", type=Path, default=ROOT / "data" / "bunny.xyz", help="a cloud (data/bunny.xyz)"
    )
    parser.add_argument("--clouds", metavar="N", type=int, default=4, help="copies of it (4)")
    parser.add_argument(
        "--jobs", metavar="A,B", type=partial(whole_numbers, "--jobs", 1), default="1,2",
        help="numbers of jobs to compare (1,2)",
    )  # fmt: skip
    common_flag(parser, "steps", default=500, help="steps per cloud (500)")
    return exit_status(parser, None, bench, "stopped")


def bench(options: argparse.Namespace) -> None:
    """Print the table.

    Raises:
        UserError: there is no such cloud, or a command failed.
    """
    print(f"{options.clouds} clouds, {options.steps} steps each, {processors()} processors\n")
    print("| jobs | clouds per hour | times |\n|---|---|---|", flush=True)
    first = 0.0
    for jobs in options.jobs:
        rate = clouds_per_hour(options.cloud, options.clouds, jobs, ["--steps", str(options.steps)])
        first = first or rate
        print(f"| {jobs} | {rate:.1f} | {rate / first:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
