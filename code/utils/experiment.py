"""A run on disk: exps/<expname>/<timestamp>/ with its configuration, checkpoints, log, plots, evaluations.

A checkpoint is one file that describes itself, made of tensors, numbers, strings, dicts and lists only, so it
is read without pickle. Every file is written under a temporary name and renamed: whoever reads beside a
writing run sees the old file or the new one, never half of one.
"""

import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from phase_recon.utils.checkpoint import check_parts, check_values
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import append_line, remove_leftovers, write_whole

FORMAT = 1
MAKE_ROOM = "the checkpoints before it are whole: make room and go on with --is_continue"
TIMESTAMP = "%Y_%m_%d_%H_%M_%S"
PARTS = ("checkpoints", "plots", "evaluation")
CHECKPOINT_KEYS = frozenset(
    {"format", "epoch", "seconds", "config", "d", "network", "optimizers", "generator", "normalisation",
     "omega", "cloud"}
)  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """The folder of one run; made by ``create`` or found by ``find``."""

    folder: Path

    @staticmethod
    def create(
        exps_dir: Path, expname: str, timestamp: str = "latest", parts: Sequence[str] = PARTS
    ) -> "Experiment":
        """Make exps_dir/expname/<now>/; two runs in the same second get different folders.

        Args:
            exps_dir: the folder of all experiments.
            expname: the name of this one.
            timestamp: the folder's name instead of <now>, which may be a path; "latest" means <now>. A folder that
                exists is taken over while it holds no checkpoint.
            parts: the folders to make in it.

        Raises:
            UserError: the folder cannot be made, or holds a checkpoint.
        """
        if timestamp != "latest":
            return Experiment._create_named(exps_dir / expname / timestamp)
        stamp = datetime.now().strftime(TIMESTAMP)
        for attempt in range(1000):
            folder = exps_dir / expname / (f"{stamp}_{attempt}" if attempt else stamp)
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
                for name in parts:
                    (folder / name).mkdir()
            except FileExistsError:
                if folder.is_dir():
                    continue
                raise UserError(f"{folder.parent} is not a folder: choose another --exps_dir") from None
            except OSError as error:
                raise UserError(
                    f"{folder}: cannot be made ({error.strerror}): choose a folder that can be written "
                    "with --exps_dir"
                ) from None
            return Experiment(folder)
        raise UserError(f"{folder}: a thousand runs of this second exist; choose another --expname")

    @staticmethod
    def _create_named(folder: Path) -> "Experiment":
        if (folder / "checkpoints" / "latest.pth").is_file():
            raise UserError(f"{folder}: holds a run: go on with it by --is_continue, or load it by --eval")
        try:
            for name in PARTS:
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}): choose another --exps_dir") from None
        experiment = Experiment(folder)
        if experiment.log_path.is_file():
            experiment.rewind_log(0)
        return experiment

    @staticmethod
    def find(exps_dir: Path, expname: str, timestamp: str = "latest") -> "Experiment":
        """The run of that name and timestamp; "latest" is the newest that has a checkpoint.

        Raises:
            UserError: there is none; the text names the folder looked in and lists what there is.
        """
        parent = exps_dir / expname
        if not parent.is_dir():
            others = _listing(exps_dir, "the experiments there are")
            raise UserError(f"{parent}: no such experiment to load; {others}")
        if timestamp != "latest":
            if not (parent / timestamp).is_dir():
                raise UserError(f"{parent / timestamp}: no such run; {_listing(parent, 'the runs there are')}")
            return Experiment(parent / timestamp)
        runs = sorted((p for p in parent.iterdir() if p.is_dir()), key=lambda p: _natural(p.name))
        trained = [run for run in runs if (run / "checkpoints" / "latest.pth").is_file()]
        if not trained and (many := [run for run in runs if any(run.glob("*/checkpoints/latest.pth"))]):
            raise UserError(
                f"{parent}: holds runs of many clouds: the command that made them does what is missing; one of them is "
                f"loaded by --timestamp {many[-1].name}/<cloud>"
            )
        if not trained:
            raise UserError(
                f"{parent}: no run with a checkpoint to load: start one without --is_continue or --eval; "
                f"{_listing(parent, 'the runs there are')}"
            )
        return Experiment(trained[-1])

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the one process that trains this run, and remove what a killed one left half written.

        The claim is a lock on the folder, which the system lifts however the process ends. Where the file system has
        no such locks, or on Windows, nothing is checked.

        Raises:
            UserError: another process trains it.
        """
        descriptor = None
        try:
            import fcntl

            descriptor = os.open(self.folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            assert descriptor is not None
            os.close(descriptor)
            raise UserError(
                f"{self.folder}: another process is training this run; wait for it, or stop it first"
            ) from None
        except (ImportError, OSError):
            pass
        try:
            for folder in (self.folder, self.folder / "checkpoints", self.folder / "plots"):
                remove_leftovers(folder)
            for folder in self.folder.glob("evaluation/*"):  # where --eval may be at work
                remove_leftovers(folder, older_than=3600)
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def is_evaluated(self, epoch: int) -> bool:
        """Whether the evaluation of a step is complete: its metrics are written last."""
        return (self.folder / "evaluation" / str(epoch) / "metrics.json").is_file()

    @property
    def log_path(self) -> Path:
        """The log, one JSON object per line."""
        return self.folder / "log.jsonl"

    def log(self, record: dict[str, Any]) -> None:
        """Append one record to the log.

        Raises:
            UserError: the disk is full or the folder cannot be written; the records before stay whole.
        """
        append_line(self.log_path, json.dumps(record), MAKE_ROOM)

    def records(self) -> list[dict[str, Any]]:
        """The log's records; a last line cut short by a crash is left out."""
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
        """Drop the records after a step from which the run is about to continue."""
        kept = [json.dumps(record) + "\n" for record in self.records() if record["epoch"] <= epoch]
        write_whole(self.log_path, "".join(kept).encode(), MAKE_ROOM)

    def write_configuration(self, text: str) -> None:
        """Write config.conf, which says all that the run is to do from here on.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        write_whole(self.folder / "config.conf", text.encode(), MAKE_ROOM)

    def set_aside(self, epoch: int) -> Path | None:
        """Move what belongs to later steps than that of a checkpoint into replaced/<now>/, with a copy of the log; the
        checkpoint is the latest then. Returns that folder, or None where there was nothing later.

        Raises:
            UserError: something cannot be moved or written.
        """
        later = [
            path
            for part in PARTS
            for path in (self.folder / part).glob("*")
            if path.stem.isdigit() and int(path.stem) > epoch
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
                write_whole(aside / "log.jsonl", self.log_path.read_bytes(), MAKE_ROOM)
            if own.is_file():  # or it is latest.pth itself that the run goes on from
                write_whole(own.with_name("latest.pth"), own.read_bytes(), MAKE_ROOM)
        except OSError as error:
            raise UserError(f"{aside}: later steps cannot be set aside there ({error.strerror})") from None
        return aside

    def save_checkpoint(self, checkpoint: dict[str, Any]) -> Path:
        """Write checkpoints/<epoch>.pth and latest.pth.

        Raises:
            UserError: the disk is full or the folder cannot be written; earlier checkpoints stay whole.
        """
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **checkpoint}, buffer)
        path = self.folder / "checkpoints" / f"{checkpoint['epoch']}.pth"
        for name in (path, path.with_name("latest.pth")):
            write_whole(name, buffer.getvalue(), MAKE_ROOM)
        return path

    def load_checkpoint(self, checkpoint: str = "latest") -> dict[str, Any]:
        """The checkpoint of a step, or the latest; raises as ``read_checkpoint``."""
        path = self.folder / "checkpoints" / f"{checkpoint}.pth"
        if not path.is_file():
            there_are = _listing(path.parent, "the checkpoints there are")
            none = "; the run ended before its first: start a new one" if there_are.endswith(": none") else ""
            raise UserError(f"{path}: no such checkpoint; {there_are}{none}")
        return read_checkpoint(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without pickle.

    Raises:
        UserError: no such file, not a checkpoint, truncated, of another format, or with values that no run saves.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        check_parts(path)
        data = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # zipfile and torch raise a dozen kinds on damaged files
        raise UserError(f"{path}: not a checkpoint, or cut short: load another with --checkpoint N") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format", "none") if isinstance(data, dict) else "none"
        raise UserError(f"{path}: not a checkpoint of this program (format {str(found)[:20]}, expected {FORMAT})")
    missing = CHECKPOINT_KEYS - data.keys()
    if missing:
        raise UserError(f"{path}: not a whole checkpoint: {', '.join(sorted(missing))} missing")
    check_values(data, path)
    return data


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _listing(folder: Path, title: str) -> str:
    """"title: a, b, c", at most a dozen, the newest last; or that there are none."""
    there = list(folder.iterdir()) if folder.is_dir() else []
    names = [p.stem if p.suffix == ".pth" else p.name for p in there if p.suffix == ".pth" or p.is_dir()]
    names = sorted((name for name in names if not name.startswith(".")), key=_natural)
    return f"{title}: {', '.join(names[-12:])}" if names else f"{title}: none"
