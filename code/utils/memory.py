"""What a process may use of its machine, within the limits of a container or a batch system: memory and processors.

Work that does not fit into the memory is refused before anything is allocated.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from phase_recon.utils.errors import UserError

GIB = 1 << 30  # bytes
BYTES_PER_NUMBER = 48  # bytes of memory per number in a file, up to the checked cloud: six copies (measured)
BYTES_PER_TEXT_BYTE = 6  # bytes of memory per byte of a text file: the same, at eight characters per number


def available_memory() -> int:
    """The bytes that can be allocated without swapping, within a container's limit if there is one.

    This is known on Linux. On other systems it is the whole memory of the machine.
    """
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 62
    return max(min([free, *_left_by_groups()]), 0)


def processors() -> int:
    """The processors that this process can keep busy: those that it may run on, and no more than a container's limit.

    A limit is of processor time, not of processors. More threads than that run out of it together, and then all wait.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([allowed, *_processors_of_groups()])


def _left_by_groups() -> Iterator[int]:
    """The bytes that the limits of this process's control groups leave."""
    for folder, first in _groups("memory"):
        limit, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if first else ("memory.max", "memory.current")
        try:
            counts = dict(line.split() for line in Path(f"{folder}/memory.stat").read_text().splitlines())
            total = "total_" if first else ""  # of the groups below, too
            cached = sum(int(counts.get(f"{total}{name}_file", 0)) for name in ("active", "inactive"))
            # what only caches files is given back when it is needed
            yield int(Path(f"{folder}/{limit}").read_text()) - int(Path(f"{folder}/{used}").read_text()) + cached
        except (OSError, ValueError):  # no such group, or no limit
            continue


def _processors_of_groups() -> Iterator[int]:
    """The processors, rounded up, of which the limits of this process's control groups let it have the time."""
    for folder, first in _groups("cpu"):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if first else ("cpu.max",)
        try:
            quota, period = map(int, " ".join(Path(f"{folder}/{name}").read_text() for name in names).split())
        except (OSError, ValueError):  # no such group, or no limit
            continue
        if quota > 0 and period > 0:
            yield math.ceil(quota / period)


def _groups(controller: str) -> Iterator[tuple[str, bool]]:
    """The folders of this process's control groups, by which containers and batch systems limit it.

    Both versions of control groups are asked, each from the process's own group up to the root.

    Yields:
        A folder, and whether it is of the first version.
    """
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        groups = []
    places = [("", parts[2]) for parts in groups if parts[0] == "0"] or [("", "/")]
    places += [(controller, parts[2]) for parts in groups if controller in parts[1].split(",")]
    for first, group in places:
        above = group.strip("/").split("/")
        for depth in range(len(above), -1, -1):
            yield "/".join(part for part in ("/sys/fs/cgroup", first, *above[:depth]) if part), bool(first)


def require_memory(needed: float, what: str, remedy: str) -> None:
    """Raise an error if something needs more memory than is available.

    Args:
        needed: bytes.
        what: the subject of the error's text.
        remedy: what the user can do, the end of the text.

    Raises:
        UserError: "<what> needs about 3.2 GiB of memory, and 1.0 GiB is available: <remedy>".
    """
    available = available_memory()
    if needed > available:
        raise UserError(
            f"{what} needs about {needed / GIB:.3g} GiB of memory, and {available / GIB:.3g} GiB is available: {remedy}"
        )
