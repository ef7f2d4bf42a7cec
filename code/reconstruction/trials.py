"""Commands that are run once, measured and remembered: what benchmark.py and compare.py have in common.

Every method runs as a command of its own, so that its time is wall clock of the whole command and its memory the
peak of it. What was computed is kept in a record, a JSON file named by all that was asked for and by the version of the
code: the same request is read back, another one has a record of its own, and what failed is tried again. The version is
of all code, or of that alone which a peer or a measurement uses: its record outlives a change of ours.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from phase_recon.reconstruction.provenance import machine, version_of_code
from phase_recon.reconstruction.tables import Row
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import write_whole
from phase_recon.utils.interrupt import killed_by

PEER = Path(__file__).resolve().with_name("poisson.py")  # the script that runs the peers, without the rest of our code


def remembered(
    folder: Path, name: str, request: Mapping[str, Any], compute: Callable[[Path], Row], module: Path | None = None
) -> Row:
    """What ``compute`` gives for a request, from its record in a folder if there is one.

    Args:
        folder: of the records; made if need be.
        name: how the records of such requests begin.
        request: everything that the result depends on, as JSON can hold it.
        compute: gets the record's path without its suffix, under which it may keep files of its own. It gives what
            JSON can hold; the files that a result needs stand under "written", by what they are, and without them
            the record is of no use.
        module: file of the package that, with what it imports, is all the code that the result depends on; None: all.

    Returns:
        The result; where ``compute`` raised UserError, {"failed": its text}, which is not kept.
    """
    asked = {**request, "code": version_of_code(module)}
    text = json.dumps(asked, sort_keys=True)
    stem = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
    path = stem.with_name(f"{stem.name}.json")  # a name may have dots
    if path.is_file():
        result: Row = json.loads(path.read_text(encoding="utf-8"))["result"]
        if all(Path(file).exists() for file in result.get("written", {}).values()):
            return result
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = compute(stem)
    except UserError as error:
        return {"failed": str(error)}
    write_whole(path, (json.dumps({"request": asked, "result": result}, indent=1) + "\n").encode())
    return result


def run_once(folder: Path, name: str, command: Sequence[str], reads: Iterable[Path]) -> Row:
    """Run a command, unless the same one has been run on the same files, on such a machine with as many threads.

    Args:
        folder: of the records.
        name: of the method.
        command: its words; "{mesh}" stands for the file to which it writes its mesh. run.py names its own.
        reads: the files whose content the result depends on.

    Returns:
        seconds (wall clock), megabytes (peak) and written, which has "mesh" and all else that run.py wrote; or
        failed, the reason.
    """
    request = {"command": list(command), "reads": checksums(reads), "machine": machine()}
    module = PEER if str(PEER) in command else None
    return remembered(folder, name, request, lambda stem: _run(command, stem), module)


def checksums(files: Iterable[Path]) -> dict[str, int]:
    """The CRC-32 of the content of each file, by path.

    Raises:
        UserError: one cannot be read.
    """
    try:
        return {str(path): zlib.crc32(path.read_bytes()) for path in files}
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); check the path") from None


def _run(command: Sequence[str], stem: Path) -> Row:
    own = stem.with_name(f"{stem.name}.ply")
    status, output, seconds, megabytes = timed([word.replace("{mesh}", str(own)) for word in command])
    if status != 0:
        raise UserError(killed_by(status) if status < 0 else _reason(output) or f"exit status {status}")
    # run.py ends with a block of "what: path"; a curve is a mesh of the plane
    last = output.rpartition("\n\n")[2]
    written = dict(re.findall(r"^(\w+): +(.+)$", last, re.MULTILINE)) if "{mesh}" not in command else {"mesh": str(own)}
    if "curve" in written:
        written["mesh"] = written.pop("curve")
    if "mesh" not in written:
        raise UserError("no mesh was written: leave plot.save_ply = true")
    return {"seconds": round(seconds, 2), "megabytes": round(megabytes, 1), "written": written}


# A process of its own, small, that starts a command and tells its status and peak memory: where the large process of a
# benchmark did, the peak would be that one's, which Linux hands on to what it starts
WATCH = """
import os, signal, sys
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which is meant for the child
_, status, usage = os.wait4(child, 0)
os.write(int(sys.argv[1]), f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}".encode())
"""


def timed(command: Sequence[str]) -> tuple[int, str, float, float]:
    """Exit status, output, wall-clock seconds and peak megabytes of a command; it ends where this is interrupted.

    Raises:
        UserError: the system is Windows, which does not tell the peak memory of a process that has ended.
    """
    if sys.platform == "win32":
        raise UserError("compare and benchmark measure peak memory, which Windows does not tell: start them under WSL")
    started = time.monotonic()
    told, telling = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WATCH, str(telling), *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        pass_fds=[telling], start_new_session=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    os.close(telling)
    assert process.stdout is not None
    try:
        with process.stdout:
            output = process.stdout.read()
        process.wait()
        with open(told, encoding="utf-8", closefd=False) as file:
            status, peak = (int(number) for number in file.read().split() or (process.returncode, 0))
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    finally:
        os.close(told)
    per_megabyte = 1e6 if sys.platform == "darwin" else 1e3
    return status, output, time.monotonic() - started, peak / per_megabyte


def _reason(output: str) -> str:
    """What a command said last: its error, on one line."""
    lines = output.strip().splitlines()
    starts = [k for k, line in enumerate(lines) if line.startswith("error: ")]
    said = lines[starts[-1] :] if starts else lines[-1:]
    return "; ".join(line.strip() for line in said).removeprefix("error: ")
