"""C sources compiled on the user's machine and kept for the next run; OpenMP as the process has it already."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from phase_recon.utils.errors import UserError
from phase_recon.utils.files import write_whole

CACHE = "PHASE_CACHE"  # the environment variable that names the folder of what is kept
FLAGS = ("-O3", "-fPIC", "-shared", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
NATIVE = "-march=native"  # which not every compiler knows
PATIENCE = 60  # seconds for the compiler, which needs one
FORBIDDEN = 0o022  # write permissions of others
OPENMP = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")


def load_compiled(source: Path) -> ctypes.CDLL:
    """The library made of a C source, compiled unless the cache has it for this source, compiler and processor.

    Raises:
        UserError: no compiler, or one that fails; a cache that cannot be written, or that others could write to, as
            what they put there would be run.
    """
    compiler = _compiler()
    folder = _private_folder()
    problem = ""
    for flags in ((*FLAGS, NATIVE), FLAGS):
        library = folder / f"{source.stem}-{_key(source, compiler, flags)}.so"
        with suppress(OSError):  # not there, or damaged: it is made anew
            if _is_ours(library):
                return ctypes.CDLL(str(library))
        with tempfile.TemporaryDirectory() as made:
            product = Path(made) / library.name
            worked, output = _run([*compiler, *flags, str(source), "-o", str(product)])
            if not (worked and product.is_file()):
                problem = (output.splitlines() or ["it says nothing"])[0]
                continue
            write_whole(library, product.read_bytes(), f"set {CACHE} to a folder that can be")
        try:
            library.chmod(0o700)
            return ctypes.CDLL(str(library))
        except OSError as error:
            raise UserError(f"{library}: cannot be loaded ({error}); set {CACHE} to another folder") from None
    raise UserError(f"{shlex.join(compiler)} cannot compile {source.name} ({problem}); name another compiler in CC")


def openmp() -> tuple[int, int, int] | None:
    """The addresses of OpenMP's GOMP_parallel, omp_get_thread_num and omp_get_num_threads in the runtime that torch
    has brought into the process and whose threads it uses; None if they cannot be seen.
    """
    try:
        process = ctypes.CDLL(None)
        region, number, count = (ctypes.cast(getattr(process, name), ctypes.c_void_p).value for name in OPENMP)
    except (AttributeError, OSError, TypeError):  # another runtime; Windows
        return None
    return (region, number, count) if region and number and count else None


def _compiler() -> list[str]:
    """The compiler's command: that of the environment variable CC, or the first of the usual ones."""
    try:
        given = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise UserError(f"CC: cannot be read ({error}); give a command as in a shell, or leave CC out") from None
    if given:
        if shutil.which(given[0]) is None:
            raise UserError(f"CC: there is no compiler {given[0]}; name another, or leave CC out")
        return given
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name) is not None:
            return [name]
    raise UserError("there is no C compiler (cc, gcc or clang); install one, or name it in CC")


def _private_folder() -> Path:
    """The folder of compiled libraries, which nobody else may write to."""
    given = os.environ.get(CACHE, "")
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache") / "phase"
        folder = Path(given or base) / "compiled"
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        ours = _is_ours(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        raise UserError(f"{given or 'the cache'}: cannot be written ({error}); set {CACHE} to a folder that can be"
                        ) from None  # fmt: skip
    if not ours:
        raise UserError(f"{folder}: others can write to it, and what is in it is run; set {CACHE} to a folder of yours")
    return folder


def _is_ours(path: Path) -> bool:
    """Whether a file or folder is this user's, and nobody else may write to it."""
    status = path.stat()
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & FORBIDDEN)


def _key(source: Path, compiler: Sequence[str], flags: Sequence[str]) -> str:
    """A hash of what a library depends on: source, compiler, its version, flags and processor."""
    _, version = _run([*compiler, "--version"])
    parts = [source.read_text(), *compiler, version, *flags, _processor()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    """The processor's name and abilities, by which the compiler chooses its instructions."""
    with suppress(OSError):  # Linux
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        return "\n".join(line for line in lines if line.startswith(("model", "flags", "Features", "CPU")))
    return f"{platform.machine()} {platform.processor()}"


def _run(command: list[str]) -> tuple[bool, str]:
    """Whether a command worked, and what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return done.returncode == 0, (done.stdout + done.stderr).strip()
