"""Which clouds a command is given: a file, the files of a folder and of those below it, a glob, or a list of paths."""

import glob
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from phase_recon.datasets.readers import READERS
from phase_recon.reconstruction.output import MADE_BY
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import OFFSET
from phase_recon.utils.locations import find_file

COMMENT_WITHIN = 400  # bytes: the comment of a surface of ours is among the first of its file, of which .glb has most


def names_many(given: str | None, root: Path) -> bool:
    """Whether train.input_path names many clouds: @list, a folder, or a glob that is not a file's name."""
    if given is None:
        return False
    path = find_file(given, root)
    return path.is_dir() or ((given.startswith("@") or glob.has_magic(given)) and not path.exists())


def find_clouds(given: str, root: Path, runs: Path | None = None) -> list[Path]:
    """The clouds that a file, a folder, a glob or @list names, in the order of their names; a list keeps its own order.

    A folder gives the files with the extensions of clouds, but for hidden ones, those of runs, and surfaces that runs
    have written, unless it holds nothing else.

    Args:
        given: as on the command line.
        root: where a relative path is looked for if it is not in the current folder.
        runs: the folder of all runs, which counts where it is below a folder that is given.

    Raises:
        UserError: there are none, or the list cannot be read or names no files.
    """
    if not given:
        raise UserError("CLOUD is empty: give the path of a cloud, a folder, a glob or @list")
    path = find_file(given, root).absolute()
    if path.is_file():  # its name may have what a glob or a list has, too
        return [Path(os.path.normpath(path))]
    if given.startswith("@") and not path.is_dir():
        path = find_file(given[1:], root)
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not text in UTF-8"
            raise UserError(f"{path}: the list of clouds cannot be read ({why})") from None
        found = [path.absolute().parent / line for line in lines if line and not line.startswith("#")]
        if folder := next((file for file in found if file.is_dir()), None):
            raise UserError(f"{path}: names the folder {folder}: a list has a file on each line; or give the folder")
        remedy = "write a path on each line"
    elif path.is_dir():
        left_out = {file.parent for file in path.rglob("config.conf") if _is_run(file.parent)}
        if runs is not None and path.resolve() in runs.resolve().parents:
            left_out.add(path / runs.resolve().relative_to(path.resolve()))
        found = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in READERS and file.is_file() and left_out.isdisjoint(file.parents)
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]  # fmt: skip
        others = [file for file in found if not is_of_ours(file)]
        found = others or [file for file in found if not file.name.endswith(OFFSET)]
        remedy = f"expected files with one of {', '.join(READERS)}"
    else:
        found = [file for name in sorted(glob.glob(given, recursive=True)) if (file := Path(name).absolute()).is_file()]
        remedy = "quote it, so that the shell leaves it alone, and check the path"
        if not found and not glob.has_magic(given):
            raise UserError(f"{given}: no such file; check the path, or give -o {given} if the surface goes there")
    if not found:
        raise UserError(f"{given}: names no clouds; {remedy}")
    return list(dict.fromkeys(Path(os.path.normpath(file)) for file in found))


def is_of_ours(path: Path) -> bool:
    """Whether a file is a surface that a run of ours wrote, by the comment in it, or lies beside one as its offset."""
    if path.name.endswith(OFFSET) and (surface := path.with_name(path.name.removesuffix(OFFSET))).is_file():
        return is_of_ours(surface)
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                return {"vertices.npy", "cells.npy", "comment.npy"} <= set(archive.namelist())
        with path.open("rb") as file:
            return MADE_BY.encode() in file.read(COMMENT_WITHIN)
    except (OSError, zipfile.BadZipFile):  # whose reader says what is wrong
        return False


def _is_run(folder: Path) -> bool:
    """Whether a folder with a config.conf is a run's, or that of the runs of many clouds."""
    return (folder / "checkpoints").is_dir() or any(folder.glob("*/cloud.json"))


def common_folder(clouds: Sequence[Path]) -> Path:
    """The folder that all of some files are in, or below.

    Raises:
        UserError: there is none, as of files on several drives of Windows.
    """
    first, *others = [path.absolute().parent for path in clouds]
    for folder in (first, *first.parents):
        if all(other.is_relative_to(folder) for other in others):
            return folder
    raise UserError(f"{clouds[-1]}: is on another drive than {clouds[0]}; give the clouds of a drive at a time")
