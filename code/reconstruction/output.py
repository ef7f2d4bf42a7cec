"""-o/--output: the file that a surface is written to besides its run, looked at before the training."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from phase_recon.utils.errors import UserError
from phase_recon.utils.files import offset_of_mesh

MADE_BY = "made by PHASE"  # begins the comment in a surface of ours
# the extensions that surface/files.py writes, which takes a second to import; a test holds them equal
MESHES, CURVES = (".ply", ".obj", ".stl", ".glb"), (".ply", ".svg", ".npz")


def output_file(
    given: Path, cloud: Path, mesh_format: str, curve_format: str, d: int, read: dict[str, Path | None] | None = None
) -> Path:
    """The file that --output means: itself, or in a folder one that is named after the cloud.

    A folder is what exists as one, or has no extension; where it does not exist, it is made when it is written to.

    Args:
        given: as on the command line.
        cloud: the file of the cloud.
        mesh_format: of a mesh in a folder, without the dot.
        curve_format: the same of a curve.
        d: dimension of the cloud, 2 or 3.
        read: further files that the run reads, by what they are.

    Raises:
        UserError: another extension, a file that the run reads, or a folder that cannot be written.
    """
    if given.is_dir() or not given.suffix:
        path = given / f"{cloud.stem}.{curve_format if d == 2 else mesh_format}"
        check_folder(given)
    else:
        path = given
        if not given.parent.is_dir():
            raise UserError(f"--output {given}: there is no folder {given.parent}; make it first")
        check_folder(given, given.parent)
    known, kind = (CURVES, "a curve in 2D") if d == 2 else (MESHES, "a mesh")
    if path.suffix.lower() not in known:
        raise UserError(f"--output {given}: {kind} is written as {', '.join(known)}, not as {path.suffix}")
    check_not_read(given, path, {"cloud": cloud, **(read or {})}, "surface")
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"--output {given}: is write-protected; give the surface another name")
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise UserError(f"--output {given}: {path} is {what}; give the surface another name")
    return path


def check_not_read(
    given: Path, path: Path, read: Mapping[str, Path | None], what: str, argument: str = "--output"
) -> None:
    """Refuse to write onto a file that the command reads.

    Args:
        given: what the argument names.
        path: the file that this means.
        read: the files that are read, by what they are.
        what: what is written.
        argument: the one that says where to.

    Raises:
        UserError: it is one of them.
    """
    for name, file in read.items():
        if path.exists() and file is not None and file.exists() and path.samefile(file):
            raise UserError(f"{argument} {given}: is the {name} itself; give the {what} another name")


def replacing(path: Path, may_replace: bool) -> list[str]:
    """What is said, in time to stop, of the files that --output will replace, itself and its offset: a line for each.

    Args:
        path: the file.
        may_replace: plot.overwrite.

    Raises:
        UserError: there is one, and it may not be replaced.
    """
    from phase_recon.surface.files import SINGLE  # and its libraries, which a command that writes nothing does not need

    files = (path, offset_of_mesh(path)) if path.suffix.lower() in SINGLE else (path,)
    there = [file for file in files if file.exists()]
    if there and not may_replace:
        raise stays(there[0], "name")
    return [will_replace(file) for file in there]


def will_replace(path: Path) -> str:
    """What is said of a file that is there, and that a surface will replace."""
    return f"note: {path} is there, and will be replaced (--set plot.overwrite=false refuses)"


def stays(path: Path, other: str) -> UserError:
    """The error where a file is there and may not be replaced, which asks for another name or folder."""
    return UserError(f"--output {path}: is there, and plot.overwrite = false; move it, or give another {other}")


def check_folder(given: Path, folder: Path | None = None) -> None:
    """Refuse a folder that cannot be written, or made where it does not exist.

    Args:
        given: what --output names.
        folder: the folder, if that is another.

    Raises:
        UserError: it cannot be.
    """
    folder = (given if folder is None else folder).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(
            f"--output {given}: {there} cannot be written ({error.strerror}); choose another folder"
        ) from None


def check_folder_of_many(given: Path, clouds: Sequence[Path], saved: bool) -> None:
    """Refuse a folder for the surfaces of many clouds that cannot be written, or that holds one of the clouds.

    Args:
        given: as on the command line.
        clouds: their files.
        saved: plot.save_ply, without which the runs have no surface to copy.

    Raises:
        UserError: it is such a folder, or there will be no surfaces.
    """
    if not saved:
        raise UserError(
            f"--output {given}: gets copies of the surfaces in the runs, and plot.save_ply = false leaves none there; "
            "leave one of them out"
        )
    check_folder(given)
    if given.is_dir() and any(cloud.exists() and cloud.parent.samefile(given) for cloud in clouds):
        raise UserError(
            f"--output {given}: is the folder of the clouds, which surfaces could replace; give another folder"
        )


def check_extension(given: Path) -> None:
    """Refuse a file whose extension no surface is written with, before anything is read.

    Raises:
        UserError: it has such an extension.
    """
    known = dict.fromkeys((*MESHES, *CURVES))
    if given.suffix and not given.is_dir() and given.suffix.lower() not in known:
        raise UserError(
            f"--output {given}: expected a file that ends in {', '.join(MESHES)}, or in 2D in {', '.join(CURVES)}; a "
            "name without extension is a folder"
        )

