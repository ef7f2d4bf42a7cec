"""The machine's free memory, and errors for work that does not fit into it, before anything is allocated."""

import os
from pathlib import Path

from phase_recon.utils.errors import UserError

GIB = 1 << 30  # bytes
READING = 32  # bytes of memory per number in a file, up to the checked cloud: four copies (measured)
READING_TEXT = 4  # bytes of memory per byte of a text file: the same, at eight characters per number


def available_memory() -> int:
    """The bytes that can be allocated without swapping, within a container's limit if there is one.

    This is known on Linux. On other systems it is the whole memory of the machine.
    """
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 62
    try:  # control groups, version 2
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(counts.get("active_file", 0)) + int(counts.get("inactive_file", 0))  # given back when it is needed
        free = min(free, limit - used + cached)
    except (OSError, ValueError):  # no such limit
        pass
    return max(free, 0)


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
