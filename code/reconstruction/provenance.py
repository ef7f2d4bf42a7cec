"""The commit and the machine that a page of figures was made with."""

import ast
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
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
def version_of_code(module: Path | None = None) -> str:
    """A checksum of all files of the package that decide a result, and of setup.conf.

    Of a module that no configuration tells what else to load, it is of the module and of what it imports, at any depth.
    """
    if module is None:
        files = [ROOT / "setup.conf", *(path for path in PACKAGE.rglob("*") if path.suffix in CODE and path.is_file())]
    else:
        files = list(_imported(module))
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _imported(module: Path) -> set[Path]:
    """The files of a module of the package and of all modules of it that it imports, at any depth."""
    found, left = {module}, [module]
    while left:
        files = {PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py") for name in _names(left.pop())}
        new = {file for file in files if file.is_file()} - found
        found |= new
        left += new
    return found


def _names(module: Path) -> Iterator[str]:
    """The dotted names in the import statements of a module that may be modules of the package."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.startswith("phase_recon."))


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
    return f", one-minute load average {os.getloadavg()[0]:.0f} at the end" if hasattr(os, "getloadavg") else ""
