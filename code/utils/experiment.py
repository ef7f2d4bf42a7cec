"""A run on disk: exps/<expname>/<timestamp>/ with its configuration, checkpoints, log, plots and evaluations.

A checkpoint is one self-describing file of tensors, numbers, strings, dicts and lists only, so that it is read without
pickle. Files are written as a whole (``write_whole``): a reader during a run sees the old file or the new one.
"""

import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from phase_recon.utils.checkpoint import FORMAT, read_checkpoint
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import append_line, remove_leftovers, write_whole
from phase_recon.utils.hocon import parse, read_file

# ends of errors where a file cannot be written
GO_ON = "the earlier checkpoints are complete: free some space and continue with --is-continue"
START_AGAIN = "no checkpoint is complete yet: free some space and start again"
TIMESTAMP = "%Y_%m_%d_%H_%M_%S"  # name of a run's folder: the local time of its start
PARTS = ("checkpoints", "plots", "evaluation")  # the folders in a run's folder
# What a run has left that ended before its first checkpoint
BEGUN = {*PARTS, "config.conf", "log.jsonl", "tensorboard", "cloud.json", "output.log"}
MAX_SAME_SECOND = 1000  # runs of one name that can start in one second; more are a mistake
NO_CHECKPOINT = (
    "has no checkpoint yet, and so nothing to load: a run saves its first after train.checkpoint_frequency steps "
    "(500), or at its end; wait for it or, if the run has ended, start a new one without --eval and --is-continue"
)
STALE_AFTER = 3600  # seconds: age from which a temporary file in evaluation/ has no living writer
LISTED = 12  # names that an error lists at most


@dataclass(frozen=True)
class Experiment:
    """The folder of one run; ``create`` makes it, ``find`` finds it.

    Attributes:
        folder: its path.
    """

    folder: Path

    @staticmethod
    def create(
        exps_dir: Path, expname: str, timestamp: str = "latest", parts: Sequence[str] = PARTS
    ) -> "Experiment":
        """Make exps_dir/expname/<now>/; two runs in the same second get different folders.

        Args:
            exps_dir: the folder of all experiments.
            expname: the name of this one.
            timestamp: the folder's name in place of <now>, which may be a path; "latest" means <now>. The folder of a
                run that has ended before its first checkpoint is used again.
            parts: the folders to make in it, where it is new.

        Raises:
            UserError: the folder cannot be made, or contains a checkpoint or other results.
        """
        if timestamp != "latest":
            return Experiment._create_named(exps_dir / expname / timestamp, parts)
        stamp = datetime.now().strftime(TIMESTAMP)
        for attempt in range(MAX_SAME_SECOND):
            folder = exps_dir / expname / (f"{stamp}_{attempt}" if attempt else stamp)
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
                for name in parts:
                    (folder / name).mkdir()
            except FileExistsError:
                if folder.is_dir():
                    continue
                raise UserError(f"{folder.parent} is not a folder: choose another --exps-dir") from None
            except OSError as error:
                raise UserError(
                    f"{folder}: cannot be made ({error.strerror}): choose a folder that can be written "
                    "with --exps-dir"
                ) from None
            return Experiment(folder)
        raise UserError(f"{folder}: {MAX_SAME_SECOND} runs of this second exist; choose another --expname")

    @staticmethod
    def _create_named(folder: Path, parts: Sequence[str]) -> "Experiment":
        if latest_checkpoint(folder) is not None:
            raise UserError(f"{folder}: contains a run: continue it with --is-continue, or evaluate it with --eval")
        if others := _results(folder):
            raise UserError(f"{folder}: contains {others[0]}, but no checkpoint; give another --timestamp")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in parts:
                (folder / name).mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}): choose another --exps-dir") from None
        experiment = Experiment(folder)
        with experiment.claimed():  # not under the hands of a process that is training it
            if experiment.log_path.is_file():
                experiment.rewind_log(0)
        return experiment

    @staticmethod
    def find(exps_dir: Path, expname: str, timestamp: str = "latest", cloud: Path | None = None) -> "Experiment":
        """The run with this name and timestamp; "latest" is the newest run with a checkpoint.

        Of several runs of the name, the newest one of the file ``cloud`` goes first, where there is one.

        Raises:
            UserError: there is none; the text names the folder and lists the runs in it.
        """
        parent = exps_dir / expname
        if not parent.is_dir():
            others = _listing(exps_dir, "the experiments there are")
            raise UserError(f"{parent}: no such experiment to load; {others}")
        if timestamp != "latest":
            if not (parent / timestamp).is_dir():
                there = (parent / timestamp).parent  # of one cloud of many, the folder of them all
                there = there if there.is_dir() else parent
                raise UserError(f"{parent / timestamp}: no such run; {_listing(there, 'the runs there are')}")
            return Experiment(parent / timestamp)
        runs = sorted((p for p in parent.iterdir() if p.is_dir()), key=lambda p: _natural(p.name))
        trained = [run for run in runs if latest_checkpoint(run) is not None]
        if not trained and (many := [run for run in runs if any(run.glob("*/checkpoints/*.pth"))]):
            raise UserError(
                f"{parent}: contains runs of many clouds: the same command again does what is missing; to load one "
                f"of them, give --timestamp {many[-1].name}/<cloud>"
            )
        if not runs:
            raise UserError(f"{parent}: no run to load: start one without --is-continue or --eval")
        if not trained:
            raise UserError(f"{runs[-1]}: {NO_CHECKPOINT}")
        return Experiment(next((run for run in reversed(trained) if cloud and _is_of(run, cloud)), trained[-1]))

    def discard(self, above: Sequence[Path] = ()) -> None:
        """Remove the folder of a run that has failed before it left anything but its configuration.

        What others put into it stays, and the folder with it.

        Args:
            above: the folders above it that were made for it, the innermost first: they are removed if they are empty.
        """
        if self.log_path.is_file() or any(any((self.folder / name).glob("*")) for name in PARTS):
            return
        with suppress(OSError):  # which is not what has gone wrong
            (self.folder / "config.conf").unlink(missing_ok=True)
            for name in PARTS:
                (self.folder / name).rmdir()
            self.folder.rmdir()
            for folder in above:
                folder.rmdir()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Lock the run for training by this process, and remove the temporary files of killed processes.

        Raises:
            UserError: another process is training the run.
        """
        with locked(self.folder, wait=False) as free:
            if not free:
                raise UserError(f"{self.folder}: another process is training this run; wait for it, or stop it first")
            for folder in (self.folder, self.folder / "checkpoints", self.folder / "plots"):
                remove_leftovers(folder)
            for folder in self.folder.glob("evaluation/*"):  # another process may be evaluating
                remove_leftovers(folder, older_than=STALE_AFTER)
            yield

    def is_evaluated(self, epoch: int) -> bool:
        """Whether the evaluation of the checkpoint of step ``epoch`` is complete: its metrics are written last."""
        return (self.folder / "evaluation" / str(epoch) / "metrics.json").is_file()

    @property
    def log_path(self) -> Path:
        """The log's file, with one JSON object per line."""
        return self.folder / "log.jsonl"

    def log(self, record: dict[str, Any]) -> None:
        """Append one record to the log.

        Raises:
            UserError: the disk is full or the folder cannot be written; earlier records are unchanged.
        """
        append_line(self.log_path, json.dumps(record), self._make_room)

    def records(self) -> list[dict[str, Any]]:
        """The records of the log, in order; a line that a crash cut short is left out."""
        if not self.log_path.is_file():
            return []
        records = []
        for line in self.log_path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return records

    def rewind_log(self, epoch: int) -> None:
        """Remove the records of steps after ``epoch``, from which the run is going to continue.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        kept = [json.dumps(record) + "\n" for record in self.records() if record["epoch"] <= epoch]
        write_whole(self.log_path, "".join(kept).encode(), self._make_room)

    def write_configuration(self, text: str) -> None:
        """Write config.conf, the configuration of the run from this moment on, as HOCON text.

        Raises:
            UserError: the disk is full, the folder cannot be written, or a path in the text is not of UTF-8.
        """
        write_whole(self.folder / "config.conf", in_utf8(text, self.folder), self._make_room)

    def set_aside(self, epoch: int) -> Path | None:
        """Make the checkpoint of step ``epoch`` the latest: move all files of later steps into replaced/<now>/.

        The log is copied there.

        Returns:
            That folder, or None where there are no files of later steps.

        Raises:
            UserError: a file cannot be moved or written.
        """
        later = [
            path
            for part in PARTS
            for path in (self.folder / part).glob("*")
            if path.stem.isdecimal() and int(path.stem) > epoch
        ]
        if not later:
            return None
        aside = self.folder / "replaced" / datetime.now().strftime(TIMESTAMP)
        own = self.folder / "checkpoints" / f"{epoch}.pth"
        try:
            for path in later:
                (aside / path.parent.name).mkdir(parents=True, exist_ok=True)
                path.rename(aside / path.parent.name / path.name)
            if self.log_path.is_file():
                write_whole(aside / "log.jsonl", self.log_path.read_bytes(), self._make_room)
            if own.is_file():  # if not, the run continues from latest.pth itself
                write_whole(own.with_name("latest.pth"), own.read_bytes(), self._make_room)
        except OSError as error:
            raise UserError(f"{aside}: later steps cannot be set aside there ({error.strerror})") from None
        return aside

    @property
    def _make_room(self) -> str:
        """What to do where a file of the run cannot be written."""
        return START_AGAIN if latest_checkpoint(self.folder) is None else GO_ON

    def save_checkpoint(self, checkpoint: dict[str, Any]) -> Path:
        """Write checkpoints/<epoch>.pth and latest.pth.

        Raises:
            UserError: the disk is full or the folder cannot be written; earlier checkpoints are unchanged.
        """
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **checkpoint}, buffer)
        path = self.folder / "checkpoints" / f"{checkpoint['epoch']}.pth"
        for name in (path, path.with_name("latest.pth")):
            write_whole(name, buffer.getvalue(), self._make_room)
        return path

    def load_checkpoint(self, checkpoint: str = "latest") -> dict[str, Any]:
        """The checkpoint of a step, such as "500", or the latest.

        Raises:
            UserError: there is no such checkpoint, or ``read_checkpoint`` refuses it.
        """
        latest = latest_checkpoint(self.folder)
        if latest is None:
            raise UserError(f"{self.folder}: {NO_CHECKPOINT}")
        if checkpoint != "latest" and not checkpoint.isdecimal():
            there = _listing(latest.parent, "the checkpoints there are")
            raise UserError(f"--checkpoint {checkpoint}: expected the number of a step, or latest; {there}")
        path = latest if checkpoint == "latest" else latest.with_name(f"{checkpoint}.pth")
        if not path.is_file():
            raise UserError(f"{path}: no such checkpoint; {_listing(path.parent, 'the checkpoints there are')}")
        return read_checkpoint(path)


@contextmanager
def locked(folder: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock of a folder; gives False where another process holds it, and this one does not wait for it.

    The system releases the lock when the process ends, also if it is killed. On Windows, or where the file system has
    no locks, nothing is locked.
    """
    descriptor, free = None, True
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        free = False
    except (ImportError, OSError):
        pass
    try:
        yield free
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _results(folder: Path) -> list[str]:
    """What a folder, if there is one, holds besides what a run has left that ended before its first checkpoint."""
    others = [path.name for path in folder.glob("*") if path.name not in BEGUN and not path.name.startswith(".")]
    return sorted([*others, *(f"evaluation/{path.name}" for path in (folder / "evaluation").glob("[!.]*"))])


def latest_checkpoint(run: Path) -> Path | None:
    """The file of a run's latest checkpoint; None if the folder holds none.

    It is latest.pth or, where that is missing, the one of the most steps: a run that is killed while it saves its
    first, and a user who copies one file, leave no latest.pth.
    """
    latest = run / "checkpoints" / "latest.pth"
    if latest.is_file():
        return latest
    numbered = [path for path in latest.parent.glob("*.pth") if path.stem.isdecimal()]
    return max(numbered, key=lambda path: int(path.stem), default=None)


def checkpoint_at(run_or_checkpoint: str | Path) -> Path:
    """A checkpoint's file: the path itself, or if it is a run's folder, the latest in it.

    Raises:
        UserError: the folder holds none.
    """
    path = Path(run_or_checkpoint)
    latest = latest_checkpoint(path) if path.is_dir() else path
    if latest is None:
        raise UserError(f"{path}: has no checkpoint: give a run's folder, <expname>/<time of start>")
    return latest


def in_utf8(text: str, place: Path) -> bytes:
    """A configuration as the bytes of its file in a folder, ``place``.

    Raises:
        UserError: it names a path with bytes that are no UTF-8.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        name = text[error.start : error.end].encode("ascii", errors="backslashreplace").decode()
        raise UserError(
            f"{place / 'config.conf'}: would name a path with bytes that are not UTF-8 ({name}): rename that folder, "
            "or start from another"
        ) from None


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key for names with numbers: 2 comes before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _listing(folder: Path, title: str) -> str:
    """The text "title: a, b, c" of the folders and checkpoints in a folder, the newest last; or "title: none"."""
    there = list(folder.iterdir()) if folder.is_dir() else []
    names = [p.stem if p.suffix == ".pth" else p.name for p in there if p.suffix == ".pth" or p.is_dir()]
    names = sorted((name for name in names if not name.startswith(".")), key=_natural)
    more = "…, " if len(names) > LISTED else ""
    return f"{title}: {more}{', '.join(names[-LISTED:])}" if names else f"{title}: none"


def _is_of(run: Path, cloud: Path) -> bool:
    """Whether the configuration of a run names this file as its cloud."""
    try:
        tree = parse(read_file(run / "config.conf"), "config.conf").tree
        return cloud.samefile(str(tree["train"]["input_path"]))
    except (UserError, OSError, KeyError, TypeError):
        return False
