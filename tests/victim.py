"""run.py, killed by its own hand at one of the moments at which it writes: torture.py's surest aim.

    python tests/victim.py N [arguments of run.py]     kill -9 at the Nth moment; 0 lives, and says how many there are

A file that appears whole gives three moments: before it is opened under its temporary name; half of it written,
before it is forced to the disk; and all of it, before it is renamed. A line of the log gives one, before it is
written.
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

RUN = Path(__file__).resolve().parents[1] / "code" / "reconstruction" / "run.py"
moments = 0


def moment(last: int) -> bool:
    """Count a moment; whether it is the last one."""
    global moments
    moments += 1
    return moments == last


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(last: int, arguments: list[str]) -> None:
    folder = arguments[arguments.index("--exps_dir") + 1]

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename") or not str(given[0]).startswith(folder):
            return
        writes = event == "os.rename" or set(str(given[1])) & set("wxa")
        if writes and moment(last):
            die()

    fsync = os.fsync

    def half(descriptor: int) -> None:
        if moment(last):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            die()
        fsync(descriptor)

    sys.addaudithook(watch)
    os.fsync = half
    sys.argv = [str(RUN), *arguments]
    try:
        runpy.run_path(str(RUN), run_name="__main__")
    finally:
        print(f"moments: {moments}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
