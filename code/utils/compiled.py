"""Compile a C source on the user's machine and cache the library; find the OpenMP runtime that torch uses."""

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

CACHE = "PHASE_CACHE"  # environment variable with the cache's folder
FLAGS = ("-O3", "-fPIC", "-shared", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")  # gcc and clang
NATIVE = "-march=native"  # tried first: some compilers do not know it
TIMEOUT = 60  # seconds for the compiler, which needs about one
FORBIDDEN = 0o022  # permission bits by which others can write to a file
OPENMP = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")  # the functions that kernels.c calls


def load_compiled(source: Path) -> ctypes.CDLL:
    """The library of a C source: from the cache if it has one for this source, compiler and processor, else compiled.

    Raises:
        UserError: there is no compiler, or it fails; the cache cannot be written, or other users can write to it, whose
            code would then be run.
    """
    compiler = _compiler()
    folder = _private_folder()
    problem = ""
    for flags in ((*FLAGS, NATIVE), FLAGS):
        library = folder / f"{source.stem}-{_key(source, compiler, flags)}.so"
        with suppress(OSError):  # missing or damaged: it is compiled again
            if _is_ours(library):
                return ctypes.CDLL(str(library))
        try:
            with tempfile.TemporaryDirectory() as made:
                product = Path(made) / library.name
                worked, output = _run([*compiler, *flags, str(source), "-o", str(product)])
                if not (worked and product.is_file()):
                    problem = (output.splitlines() or ["it says nothing"])[0]
                    continue
                write_whole(library, product.read_bytes(), f"set {CACHE} to a folder that can be")
        except OSError as error:
            raise UserError(
                f"{source.name}: there is no folder to compile it in ({error.strerror}); set TMPDIR to one that can be "
                "written"
            ) from None
        try:
            library.chmod(0o700)
            return ctypes.CDLL(str(library))
        except OSError as error:
            raise UserError(f"{library}: cannot be loaded ({error}); set {CACHE} to another folder") from None
    raise UserError(f"{shlex.join(compiler)} cannot compile {source.name} ({problem}); name another compiler in CC")


def openmp() -> tuple[int, int, int] | None:
    """The addresses of GOMP_parallel, omp_get_thread_num and omp_get_num_threads; None if they are not found.

    They are those of the OpenMP runtime that torch has loaded into the process, so that its threads are used.
    """
    try:
        process = ctypes.CDLL(None)
        region, number, count = (ctypes.cast(getattr(process, name), ctypes.c_void_p).value for name in OPENMP)
    except (AttributeError, OSError, TypeError):  # another runtime; Windows
        return None
    return (region, number, count) if region and number and count else None


def _compiler() -> list[str]:
    """The compiler's command: the environment variable CC, or the first of cc, gcc and clang that exists.

    Raises:
        UserError: there is none.
    """
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
    """The folder of compiled libraries, made if it does not exist.

    Raises:
        UserError: it cannot be made, or other users can write to it.
    """
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
    """Whether a file or folder belongs to this user, and nobody else can write to it."""
    status = path.stat()
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & FORBIDDEN)


def _key(source: Path, compiler: Sequence[str], flags: Sequence[str]) -> str:
    """A hash of everything that a library depends on: source, compiler, its version, flags and processor."""
    _, version = _run([*compiler, "--version"])
    parts = [source.read_text(), *compiler, version, *flags, _processor()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    """The processor's name and instruction sets, which decide what the compiler generates."""
    with suppress(OSError):  # Linux
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        return "\n".join(line for line in lines if line.startswith(("model", "flags", "Features", "CPU")))
    return f"{platform.machine()} {platform.processor()}"


def _run(command: list[str]) -> tuple[bool, str]:
    """Whether a command succeeded within TIMEOUT, and its output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return done.returncode == 0, (done.stdout + done.stderr).strip()
