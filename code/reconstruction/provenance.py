"""Of what commit, and on what machine, a page of figures is."""

import hashlib
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

from phase_recon.utils.locations import PACKAGE, ROOT
from phase_recon.utils.memory import processors

CODE = (".py", ".c", ".conf")  # endings of the files that decide a result


def commit() -> str:
    """The commit, and whether files differ from it."""
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    try:
        changed = " with local changes" if git("status", "--porcelain", "code", "setup.conf", "data") else ""
        return (git("rev-parse", "--short=12", "HEAD") or "unknown") + changed
    except OSError:
        return "unknown (git cannot be started)"


@cache
def version_of_code() -> str:
    """A checksum of all files of the package that decide a result, and of setup.conf."""
    files = [path for path in sorted(PACKAGE.rglob("*")) if path.suffix in CODE and path.is_file()]
    digest = hashlib.sha256()
    for path in (ROOT / "setup.conf", *files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def machine() -> str:
    """The processor, the cores and threads that this process may use, and versions."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux
        pass
    threads = f", OMP_NUM_THREADS={threads}" if (threads := os.environ.get("OMP_NUM_THREADS")) else ""
    return f"{model} with {processors()} cores{threads} (Python {platform.python_version()}, torch {torch.__version__})"


def load() -> str:
    """How busy the machine is, as the end of a sentence; nothing where the system does not tell."""
    return f", load {os.getloadavg()[0]:.0f} at the end" if hasattr(os, "getloadavg") else ""
