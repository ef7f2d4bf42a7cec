"""Many clouds by one command: a run for each, in a process of its own, and a table of all.

    phase-recon scans/ --jobs 2        # every cloud in a folder and in those below it
    phase-recon scans/*.ply            # several files, or a glob that is quoted; ** is any number of folders
    phase-recon @list.txt              # a path per line, seen from the list's folder

``exps/<expname>/<time of start>/`` then holds ``config.conf``, ``table.csv``, ``table.html`` and a folder per cloud.
That is a run like any other, with two files more: ``cloud.json``, what became of it, and ``output.log``, what it said.

The same command again goes on in the newest such folder that has the same configuration, the place of the clouds
included; another configuration makes a new one. Several files are found again by the folder that they are in, so that
a glob and its folder share their runs. There a cloud is finished if its run ended well on the same bytes of its
file, and of that of --stations. What is not finished is continued from its last checkpoint. If a file has changed, the
run is moved to ``replaced/`` and the cloud begins anew. Who works on a cloud holds a lock on its ``output.log``, so
that two such commands share the work.
"""

import hashlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from phase_recon.reconstruction.batch_table import read_record, result_of, write_record, write_tables
from phase_recon.reconstruction.names import folder_name
from phase_recon.reconstruction.output import stays, will_replace
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import to_hocon
from phase_recon.utils.distributed import (
    environment_of_job,
    gpu_of_slot,
    join_ranks,
    leave_ranks,
    local_rank,
    rank_and_size,
)
from phase_recon.utils.errors import UserError, counted
from phase_recon.utils.experiment import TIMESTAMP, Experiment, in_utf8, latest_checkpoint, locked
from phase_recon.utils.files import offset_of_mesh, write_whole
from phase_recon.utils.interrupt import deferred_signals, killed_by
from phase_recon.utils.locations import find_file

if sys.platform != "win32":
    import fcntl

RUN = Path(__file__).with_name("run.py")  # what each cloud is handed to
POLL = 0.1  # seconds between two looks at the processes
TABLES = 10.0  # × the time that the tables took: how long they are then left, so that thousands of clouds do not wait


@dataclass
class Job:
    """A cloud whose process runs."""

    name: str
    slot: int
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    begin: int  # of this process's words in the output
    started: float


class Batch:
    """The clouds of one experiment folder that this process sees to.

    Args:
        folder: the experiment's.
        names: of the clouds, folders in it.
        jobs: how many run at a time, the same number in every rank.
        gpu: as on the command line.
        output: the folder that each surface is copied to as soon as it is there, or None.
        beside: files that each of them reads besides its cloud.
    """

    def __init__(
        self, folder: Path, names: list[str], jobs: int, gpu: str, output: Path | None, beside: Sequence[Path]
    ) -> None:
        self.folder, self.names, self.gpu, self.output, self.beside = folder, names, gpu, output, beside
        self.jobs = jobs
        self.environment = environment_of_job(max(jobs, 1)) | {"PYTHONUNBUFFERED": "1"}
        self.ended = 0
        self.uncopied = 0  # surfaces that could not be copied to the output
        self.tables_due = 0.0  # when the tables may be written next, as ``time.monotonic``
        self.elsewhere: list[str] = []  # the clouds that were done, or are left to another process

    def run(self) -> int:
        """See to all clouds; returns the number of a signal that stopped it, or 0."""
        waiting, running = list(self.names), list[Job]()
        told = False
        with deferred_signals(second_acts=rank_and_size()[1] == 1) as stop:
            try:
                while running or (waiting and not stop.signal):
                    if stop.signal and not told:
                        told = True
                        print(f"stopping: {counted(len(running), 'run')} to be saved", flush=True)
                        for job in running if sys.platform != "win32" else ():  # there Ctrl-C reaches them itself
                            job.process.send_signal(stop.signal)
                    free = sorted(set(range(self.jobs)) - {job.slot for job in running})
                    if waiting and free and not stop.signal:
                        name = waiting.pop(0)
                        if (started := self._start(name, free[0])) is not None:
                            running.append(started)
                        else:
                            self.elsewhere.append(name)
                        continue
                    time.sleep(POLL)
                    for job in [job for job in running if job.process.poll() is not None]:
                        running.remove(job)
                        self._finish(job, bool(stop.signal))
            finally:  # only where something went wrong here
                for job in running:
                    job.process.terminate()
                for job in running:
                    job.process.wait()
        return stop.signal

    def copy_surface(self, folder: Path) -> None:
        """Copy the surface of a cloud to the output, if there is one; a failure is said, and the others go on."""
        try:
            copy_surface(folder, self.output)
        except (UserError, OSError) as error:
            self.uncopied += 1
            print(f"{folder.name}: its surface was not copied: {error}", flush=True)

    def _start(self, name: str, slot: int) -> Job | None:
        """Start or continue the run of a cloud; None if it is finished or another process works on it."""
        folder = self.folder / name
        output = _locked(folder / "output.log")
        if output is None:
            print(f"{name}: left to the process that works on it", flush=True)
            return None
        record = read_record(folder)
        digest = digest_of(Path(record["input"]), *self.beside)
        if is_finished(folder, digest):  # by another command, since this one began
            output.close()
            return None
        if digest is None and record["state"] == "done":
            output.close()
            print(f"{name}: {record['input']} cannot be read; the finished run stays as it is", flush=True)
            return None
        if record["sha256"] == digest and record["state"] in ("running", "failed", "stopped") and ended_alone(folder):
            write_record(folder, record | {"state": "done", "reason": ""})
            output.close()
            print(f"{name}: was done already, by a run that outlived its command, or by --eval", flush=True)
            return None
        if digest is not None and record["sha256"] not in (None, digest) and (folder / "checkpoints").exists():
            stamp = datetime.now().strftime(TIMESTAMP)
            (self.folder / "replaced").mkdir(exist_ok=True)
            if sys.platform == "win32":  # which moves no folder of an open file, and has no lock to lose
                output.close()
            folder.rename(self.folder / "replaced" / f"{name}-{stamp}")
            print(f"{name}: its file has changed; the run before is now replaced/{name}-{stamp}", flush=True)
            output.close()
            record |= {"seconds": 0.0, "state": "waiting"}
            folder.mkdir()
            write_record(folder, record)
            output = _locked(folder / "output.log")
            if output is None:
                return None
        write_record(folder, record | {"state": "running", "reason": "", "sha256": digest or record["sha256"]})
        how = ["--is-continue"] if latest_checkpoint(folder) is not None else []
        command = [
            sys.executable, str(RUN), "--conf", str(self.folder / "config.conf"),
            "--input", record["input"], "--timestamp", f"{self.folder.name}/{name}",
            "--gpu", gpu_of_slot(self.gpu, local_rank() * self.jobs + slot), *how,
        ]  # fmt: skip
        begin = output.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=self.environment,
            start_new_session=True,  # Ctrl-C reaches it by way of this process alone
        )  # fmt: skip
        print(f"{name}: {'continues' if how else 'starts'}, process {process.pid}", flush=True)
        return Job(name, slot, process, output, begin, time.monotonic())

    def _finish(self, job: Job, stopped: bool) -> None:
        """Note what became of a cloud, and write the tables anew, which take longer the more clouds there are."""
        folder = self.folder / job.name
        record, status = read_record(folder), job.process.returncode
        seconds = time.monotonic() - job.started
        if (status == 0 and result_of(folder) is not None) or (stopped and ended_alone(folder)):
            state, reason = "done", ""
        elif stopped:
            state, reason = "stopped", "stopped by a signal; the same command continues it"
        else:
            state, reason = "failed", reason_of(status, (folder / "output.log").read_bytes()[job.begin :])
        record |= {"state": state, "reason": reason, "seconds": round(record["seconds"] + seconds, 1)}
        write_record(folder, record)
        if state == "done":
            self.copy_surface(folder)
        job.output.close()  # the lock goes with it
        if (begun := time.monotonic()) >= self.tables_due:
            write_tables(self.folder)
            now = time.monotonic()
            self.tables_due = now + TABLES * (now - begun)
        self.ended += 1
        said = f"{state} after {seconds:.0f} s" + (f": {reason}" if reason else "")
        print(f"[{self.ended}/{len(self.names)}] {job.name}: {said}", flush=True)


def run_many(config: Config, clouds: Sequence[Path], exps_dir: Path, jobs: int, gpu: str, output: Path | None) -> int:
    """A run for each of many clouds; under torchrun each rank sees to its share.

    Args:
        config: of each run; train.input_path is what all clouds are found by again, such as their folder.
        clouds: their files.
        exps_dir: the folder of all runs.
        jobs: how many run at a time.
        gpu: as on the command line.
        output: the folder that each surface is copied to, under the name of its run, or None.

    Returns:
        The exit status: 0 if every cloud is done and its surface copied, 1 if not, 128 + the signal's number if
        stopped. Under torchrun 0 in place of 1, as torchrun ends all ranks as soon as one of them has another status.

    Raises:
        UserError: a file of the batch itself cannot be read or written, or plot.overwrite is false and a surface would
            replace another file.
    """
    ranks = join_ranks()
    begin = time.monotonic()
    folder, names, missing = ranks.from_first(_prepare(config, clouds, exps_dir) if ranks.first else (Path(), [], []))
    leave_ranks()
    mine = missing[ranks.rank :: ranks.size]
    jobs = min(jobs, math.ceil(len(missing) / ranks.size))  # of the rank that has most
    batch = Batch(folder, mine, jobs, gpu, output, _beside(config))
    if ranks.first:
        if output is not None:
            formats = (config.plot.mesh_format, config.plot.curve_format)
            for path in _others_files(folder, names, output, formats):
                if not config.plot.overwrite:
                    raise stays(path, "folder")
                print(will_replace(path), flush=True)
        print(f"runs: {folder}, {counted(len(names), 'cloud')}, {len(names) - len(missing)} done before", flush=True)
        for name in names:
            if name not in missing:
                batch.copy_surface(folder / name)
    stopped = batch.run()
    write_tables(folder)
    for name in batch.elsewhere:  # its own are copied as soon as they are there
        if read_record(folder / name)["state"] == "done":
            batch.copy_surface(folder / name)
    states = [read_record(folder / name)["state"] for name in mine]
    count = {state: states.count(state) for state in ("done", "failed", "stopped", "waiting", "running")}
    listed = ", ".join(f"{number} {state}" for state, number in count.items() if number) or "nothing to do"
    per_hour = 3600 * count["done"] / (time.monotonic() - begin)
    print(f"{f'rank {ranks.rank}: ' if ranks.size > 1 else ''}{listed}; {per_hour:.3g} clouds per hour", flush=True)
    if ranks.first:
        print(f"\ntable:    {folder / 'table.csv'}\npage:     {folder / 'table.html'}", flush=True)
        if output is not None:
            print(f"output:   {output}", flush=True)
    if stopped:
        return 128 + stopped
    return 0 if ranks.size > 1 or (count["done"] == len(mine) and not batch.uncopied) else 1


def digest_of(*paths: Path) -> str | None:
    """SHA-256 of files, one after the other; None if one cannot be read, which its run will say."""
    total = hashlib.sha256()
    try:
        for path in paths:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: total)
    except OSError:
        return None
    return total.hexdigest()


def is_finished(folder: Path, digest: str | None) -> bool:
    """Whether a cloud's run ended well on a file with this digest, and its results are still there."""
    record = read_record(folder)
    return record["state"] == "done" and record["sha256"] == digest and result_of(folder) is not None


def ended_alone(folder: Path) -> bool:
    """Whether the run of a cloud came to its end, though its command was killed, or --eval did what had failed.

    The evaluation comes after the last checkpoint; a run that was cut off has none, or an older one.
    """
    result, latest = result_of(folder), latest_checkpoint(folder)
    if result is None or latest is None or not result.metrics.get("ended"):
        return False
    return (result.folder / "metrics.json").stat().st_mtime >= latest.stat().st_mtime


def reason_of(status: int, output: bytes) -> str:
    """Why a process failed: the signal that killed it, or the last line that it said."""
    if status < 0:
        return killed_by(status)
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [f"exit status {status}"])[-1]


def copy_surface(run: Path, output: Path | None) -> None:
    """Copy the surface of a finished run to <output>/<its name>, in place of what is there; None copies nothing.

    Raises:
        UserError: the run has none any more, or a file cannot be written.
        OSError: a file cannot be read, or the folder not made.
    """
    if output is None:
        return
    if (result := result_of(run)) is None or result.mesh is None:
        raise UserError(
            f"{run / 'evaluation'} has none any more; --eval --expname {run.parent.parent.name} --timestamp "
            f"{run.parent.name}/{run.name} makes it again"
        )
    output.mkdir(parents=True, exist_ok=True)
    path, surface = output / f"{run.name}{result.mesh.suffix}", result.mesh.read_bytes()
    offset, beside = offset_of_mesh(result.mesh), offset_of_mesh(path)
    beside.unlink(missing_ok=True)  # first: one that is missing does less harm than that of another mesh
    write_whole(path, surface)
    if offset.is_file():  # of a mesh in single precision that is far from the origin
        write_whole(beside, offset.read_bytes())


def _others_files(folder: Path, names: Sequence[str], output: Path, formats: Sequence[str]) -> list[Path]:
    """The files that surfaces of the runs would replace and that are not the runs' own."""
    found = []
    for path in (output / f"{name}.{kind}" for name in names for kind in formats):
        result = result_of(folder / path.stem)
        mesh = None if result is None else result.mesh
        if not path.exists():
            continue
        if mesh is None or mesh.suffix != path.suffix or not path.is_file() or mesh.read_bytes() != path.read_bytes():
            found.append(path)
    return found


def _prepare(config: Config, clouds: Sequence[Path], exps_dir: Path) -> tuple[Path, list[str], list[str]]:
    """The experiment's folder, the names of all clouds in it, and of those that are not finished."""
    given, name = str(config.train.input_path), str(config.train.expname)
    location = find_file(given.removeprefix("@")).absolute()
    resolved = ("@" if given.startswith("@") else "") + str(location)
    beside = _beside(config)
    stations = str(beside[0].absolute()) if beside else None
    text = to_hocon(replace(config, train=replace(config.train, input_path=resolved, stations=stations)))
    content = in_utf8(text, exps_dir / name)
    with suppress(OSError):  # which Experiment.create says
        (exps_dir / name).mkdir(parents=True, exist_ok=True)
    with locked(exps_dir / name, wait=True):  # of two such commands, the second finds the folder of the first
        earlier = sorted((exps_dir / name).glob("*/config.conf"))
        same = [path.parent for path in earlier if path.read_bytes() == content]
        if same:
            folder = same[-1]
        else:
            folder = Experiment.create(exps_dir, name, parts=()).folder
            write_whole(folder / "config.conf", content)
        names = _named(folder, clouds)
    missing = [
        name for name, cloud in zip(names, clouds, strict=True)
        if not (read_record(folder / name)["state"] == "done" and is_finished(folder / name, digest_of(cloud, *beside)))
    ]  # fmt: skip
    write_tables(folder)
    return folder, names, missing


def _beside(config: Config) -> list[Path]:
    """The files that every run reads besides its cloud."""
    return [] if config.train.stations is None else [find_file(config.train.stations)]


def _named(folder: Path, clouds: Sequence[Path]) -> list[str]:
    """A folder's name for each cloud: the one it has, else its file's, with a number where that is taken."""
    known = {read_record(path.parent)["input"]: path.parent.name for path in folder.glob("*/cloud.json")}
    taken = {path.name.lower() for path in folder.iterdir()} | {"replaced", "table.csv", "table.html"}
    for cloud in clouds:
        if str(cloud) in known:
            continue
        base = folder_name(cloud.stem)
        numbers = (base if i == 1 else f"{base}_{i}" for i in range(1, len(clouds) + len(taken) + 2))
        name = next(name for name in numbers if name.lower() not in taken)
        taken.add(name.lower())
        known[str(cloud)] = name
        try:
            (folder / name).mkdir()
        except OSError as error:
            raise UserError(f"{folder / name}: cannot be made ({error.strerror}): choose another --exps-dir") from None
        write_record(folder / name, {"input": str(cloud)})
    return [known[str(cloud)] for cloud in clouds]


def _locked(path: Path) -> IO[bytes] | None:
    """A file opened for appending, with a lock that lasts until this and every process it is handed to end.

    None if another holds it. On Windows there is no such lock.
    """
    try:
        file: Any = path.open("ab")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --exps-dir") from None
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
    return file  # type: ignore[no-any-return]
