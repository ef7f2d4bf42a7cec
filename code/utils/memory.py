"""What memory there is, and a refusal of what cannot fit into it before anything is allocated."""

import os
from pathlib import Path

from phase_recon.utils.errors import UserError

GIB = 1 << 30
READING = 32  # bytes per number of a file, from the file to the checked cloud: four copies (measured)
READING_TEXT = 4  # bytes per byte of a text, likewise, at eight characters per number


def available_memory() -> int:
    """Bytes that can be had without swapping: the machine's, or what a container's limit leaves of them.

    Linux says it; elsewhere it is all of the machine's memory, for want of better.
    """
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 62
    try:  # control groups, version 2
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no such limit
        pass
    return max(free, 0)


def require_memory(needed: float, what: str, remedy: str) -> None:
    """Refuse what needs more bytes than are available.

    Raises:
        UserError: "<what> needs about 3.2 GiB of memory, and 1.0 GiB is available: <remedy>".
    """
    available = available_memory()
    if needed > available:
        raise UserError(
            f"{what} needs about {needed / GIB:.3g} GiB of memory, and {available / GIB:.3g} GiB is available: {remedy}"
        )
