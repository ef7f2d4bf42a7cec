"""From a path to a Table: what can be wrong with a file as such, and which reader reads which format."""

import difflib
import importlib.util
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from phase_recon.datasets.arrays import read_npy, read_npz
from phase_recon.datasets.e57 import read_e57
from phase_recon.datasets.las import read_las
from phase_recon.datasets.meshes import read_gltf, read_obj, read_off, read_stl
from phase_recon.datasets.pcd import read_pcd
from phase_recon.datasets.ply import read_ply
from phase_recon.datasets.ptx import read_ptx
from phase_recon.datasets.selection import Selection, select
from phase_recon.datasets.table import Table
from phase_recon.datasets.text import read_text
from phase_recon.utils.errors import UserError


@dataclass(frozen=True)
class Reader:
    """How a format is read.

    read: from an open file and its path to the parts of its table, in the order of the file; at least one;
    needs: the modules that must be installed, each with the name of its package for pip.
    """

    read: Callable[[BinaryIO, Path], Iterator[Table]]
    needs: tuple[tuple[str, str], ...] = ()


def read_table(path: Path, selection: Selection | None = None) -> Table:
    """Read the selected points of a file (all by default), by its extension, one of READERS.

    Raises UserError, one line, for whatever keeps the file from being read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{path} is a folder: name one file in it ({', '.join(READERS)})")
        if not stat.S_ISREG(mode):
            raise UserError(f"{path} is not an ordinary file: expected one of {', '.join(READERS)}")
        reader = READERS.get(path.suffix.lower())
        if reader is None and path.suffix.lower() in CONVERSIONS:
            raise UserError(f"{path}: {path.suffix} is not read: {CONVERSIONS[path.suffix.lower()]}")
        if reader is None:
            given = f"the extension '{path.suffix}'" if path.suffix else "no extension"
            raise UserError(f"{path} has {given}: expected one of {', '.join(READERS)}")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty: expected points")
        missing = [package for module, package in reader.needs if importlib.util.find_spec(module) is None]
        if missing:
            raise UserError(f"{path}: {path.suffix} needs a package that is not installed: pip install {missing[0]}")
        with path.open("rb") as handle:
            return select(reader.read(handle, path), selection or Selection(), path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_suggestion(path)}") from None
    except PermissionError:
        raise UserError(f"{path} may not be read: permission denied; change its permissions") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _suggestion(path: Path) -> str:
    if not path.parent.is_dir():
        return f", nor is there a folder {path.parent}: check the path"
    try:
        there = os.listdir(path.parent)
    except OSError:  # a folder that may be entered and not listed
        there = []
    names = difflib.get_close_matches(path.name, there, n=1, cutoff=ALIKE)
    return f": did you mean {path.parent / names[0]}?" if names else ": check the path"


TEXT = Reader(read_text)
READERS: dict[str, Reader] = {
    **dict.fromkeys((".xyz", ".txt", ".csv", ".tsv", ".pts", ".asc", ".dat", ".3d"), TEXT),
    **dict.fromkeys((".xyzn", ".npts", ".nxyz", ".xyzrgb"), TEXT),
    ".npy": Reader(read_npy),
    ".npz": Reader(read_npz),
    ".ply": Reader(read_ply),
    ".obj": Reader(read_obj),
    ".off": Reader(read_off),
    ".stl": Reader(read_stl),
    ".e57": Reader(read_e57, (("pye57", "pye57"),)),
    ".glb": Reader(read_gltf),
    ".gltf": Reader(read_gltf),
    ".pcd": Reader(read_pcd),
    ".ptx": Reader(read_ptx),
    ".las": Reader(read_las),
    ".laz": Reader(read_las),
}

ALIKE = 0.75  # of two names, 0 to 1, from which on the one may be the other misspelt
SCANNER = "export it from the scanner's program as .e57, .ptx or .las"
PARAVIEW = "save its points from ParaView as .csv or .ply"
# formats that only other programs read, and what to do with them
CONVERSIONS: dict[str, str] = {
    ".drc": "convert it with draco_decoder -i FILE.drc -o FILE.ply",
    ".bin": "if it is CloudCompare's, CloudCompare -SILENT -O FILE.bin -C_EXPORT_FMT PLY -SAVE_CLOUDS converts it",
    **dict.fromkeys((".rcp", ".rcs", ".fls", ".lsproj", ".zfs", ".zfprj", ".rdbx", ".ptg", ".lgs", ".dp"), SCANNER),
    **dict.fromkeys((".vtk", ".vtp", ".vtu"), PARAVIEW),
    **dict.fromkeys((".splat", ".ksplat", ".spz", ".sog"), "export the Gaussians as .ply"),
    **dict.fromkeys((".fbx", ".dae", ".3ds", ".blend", ".usd", ".usdz", ".3mf"), "export it as .ply, .obj or .glb"),
}
