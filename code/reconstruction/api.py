"""The method for programs: from arrays to a surface and its field, without files. ``phase_recon`` gives these names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from phase_recon.reconstruction.field import DetailedField, NeuralField
    from phase_recon.reconstruction.meshing import Reconstruction

WARNING = "warning: "
SELECT = "select the points before"
# keys of what a file has (``input_cloud.READING_KEYS`` and more), and what does the same for arrays
OF_FILES = {
    **dict.fromkeys(("train.crop", "train.voxel", "train.classes", "train.min_opacity"), SELECT),
    "train.input_path": "read it with numpy, or use the command phase-recon",
    "train.sample": "sample the mesh before",
    "train.d_in": "give as many columns",
    "train.sensor": "give sensors=",
    "train.stations": "give sensors=",
    **dict.fromkeys(("plot.mesh_format", "plot.curve_format", "plot.overwrite"), "save() takes the file's name"),
    **dict.fromkeys(
        ("train.expname", "train.exps_dir", "train.checkpoint_frequency", "train.checkpoint_minutes",
         "train.on_save_error", "train.plot_frequency", "train.tensorboard", "plot.preview_resolution", "plot.verbose"),
        "runs are of phase-recon",
    ),
    **dict.fromkeys(("plot.save_ply", "plot.save_html"), "save() writes the surface, phase-recon a page"),
}
ARGUMENTS = {"minutes": "train.time_budget", "steps": "train.nepoch", "resolution": "plot.resolution",
             "normals": "network.has_normals"}  # fmt: skip
# what a command advises, as regular expressions, and what does the same in Python; in this order
IN_PYTHON = {
    r" or, where z is the same throughout, --set train\.d_in=2": "",
    r"--crop=\S+ reads those alone": SELECT,
    r"the same command with --eval ": "",
    r" \(--eval --trim open\)": "",
    r"--set ([\w.]+)=true": r'overrides={"\1": True}',
    r"--set ([\w.]+)=false": r'overrides={"\1": False}',
    r"--set ([\w.]+)=(\S+?)(?=[;,]?(\s|$))": r'overrides={"\1": \2}',
    r"--trim (open|closed|auto)": r'overrides={"plot.trim": "\1"}',
    r"--trim (\S+) \(plot\.trim\)": r"plot.trim = \1",
    r"--no-normals does without them": "leave them out",
    r"--stations": "sensors= with a place for each point",
    r"--sensor=X,Y,Z": "sensors=",
    r"--(normals|steps|minutes)": r"\1=",
    r"--gpu (\S+)": r"gpu=\1",
}


def reconstruct(
    points: npt.ArrayLike,
    normals: npt.ArrayLike | None = None,
    *,
    sensors: npt.ArrayLike | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    resolution: int | None = None,
    overrides: dict[str, Any] | None = None,
    gpu: str | int = "auto",
) -> Reconstruction:
    """The surface through points, and the signed distance and occupancy that it belongs to.

    Example::

        mesh = phase_recon.reconstruct(points)
        mesh.vertices, mesh.faces, mesh.normals     # (V, 3), (F, 3), (V, 3)
        mesh.save("mesh.ply")                       # or .obj, .stl, .glb; in 2D .ply, .svg, .npz
        mesh.to_trimesh()
        mesh.field.w(places)                        # signed distance (N,) at places (N, 3), negative inside
        mesh.field.u(places), mesh.field.gradient(places)

    It trains for 1 500 steps, which is half a minute to a minute on two CPU cores, and uses a GPU if there is one. The
    same points and seed give the same surface on the same CPU. No file is read or written, but the compiled kernels' in
    the cache (key ``train.compile``).

    Args:
        points: (N, d), d = 2 or 3, N at least 10, in any unit and anywhere. They lie on a surface (curve), which may
            have holes; noise and outliers are found and dealt with. If they show an open sheet, the surface is open.
        normals: (N, d), pointing outward, of any length; given, they are used. Without them the sides are found.
        sensors: where the points were seen from, (N, d), or one position (d,) for all; where they can be right, they
            tell the sides.
        minutes: time for the training, in place of the 1 500 steps.
        steps: of the training, in place of the 1 500.
        resolution: cells of the grid along the longest side of the box, 8 to 2048; if None as many as the
            points have detail for, 256 to 1024.
        overrides: keys of the configuration and their values, such as ``{"train.seed": 3}``; setup.conf explains all.
            Those that select what is read of a file are refused.
        gpu: "auto" (the freest, else the CPU), "cpu", or the number of one.

    Returns:
        The surface in the frame of the points, with outward unit normals at its vertices, and its ``field``.

    Raises:
        UserError: what is wrong with the points, a key or a value, in one line; or there is no surface.
        KeyboardInterrupt: Ctrl-C.

    Warns:
        UserWarning: points are left out; or something may be wrong with the surface, as when the cloud looks open, or
            sensors are not believed.
    """
    from phase_recon.utils.errors import UserError

    if overrides is not None and not isinstance(overrides, dict):
        raise UserError(f'overrides: expected a dict such as {{"train.seed": 3}}, got {overrides!r}')
    if normals is not None and sensors is not None:
        raise UserError("sensors: have no meaning with normals, which tell the sides; leave one out")
    if minutes is not None and steps is not None:
        raise UserError("minutes and steps: one or the other; a run ends by its steps or by the clock")
    given = {"minutes": minutes, "steps": steps, "resolution": resolution, "normals": normals is not None}
    with _in_words_of_python():
        return _reconstruct(points, normals, sensors, given, overrides or {}, str(gpu))


def _reconstruct(
    points: npt.ArrayLike,
    normals: npt.ArrayLike | None,
    sensors: npt.ArrayLike | None,
    given: dict[str, Any],
    overrides: dict[str, Any],
    gpu: str,
) -> Reconstruction:
    """``reconstruct`` with the values of ``ARGUMENTS``, None for what is not given."""
    from phase_recon.datasets.pointcloud import point_cloud
    from phase_recon.reconstruction.build_model import check_model
    from phase_recon.reconstruction.meshing import Reconstruction, surface_of
    from phase_recon.reconstruction.scene import Scene
    from phase_recon.reconstruction.training import Interrupted, fit
    from phase_recon.utils.config import Config
    from phase_recon.utils.config_files import differences, override
    from phase_recon.utils.distributed import choose_device
    from phase_recon.utils.errors import UserError
    from phase_recon.utils.overrides import Override, assignment

    told = [Override(assignment(ARGUMENTS[name], value), name) for name, value in given.items() if value is not None]
    keys = [assignment(key, value) for key, value in overrides.items()]
    config = override(Config().to_dict(), [*told, *keys], check_model, source="overrides", place="")
    for key in differences(Config(), config):
        if key in OF_FILES:
            raise UserError(f"overrides: {key} is for files, and does nothing here: {OF_FILES[key]}")
    for name, value in given.items():
        section, _, key = ARGUMENTS[name].partition(".")
        if value is not None and getattr(getattr(config, section), key) != value:
            raise UserError(f"overrides: {ARGUMENTS[name]} is told by {name}=, in another way; leave one of them out")
    if given["steps"] is not None and config.train.time_budget is not None:
        raise UserError("overrides: train.time_budget, but steps= is given; a run ends by its steps or by the clock")
    cloud = point_cloud(points, normals, sensors, config.train.drop_invalid)
    if cloud.note:
        warnings.warn(_in_python(cloud.note), stacklevel=3)
    try:
        scenes: list[Scene] = []
        field, _ = fit(config, cloud, choose_device(gpu)[0], _warn, observe=scenes.append)
    except Interrupted:
        raise KeyboardInterrupt from None
    return Reconstruction.of(surface_of(field, cloud.rows(scenes[-1].body), config.plot, _warn), field)


@contextmanager
def _in_words_of_python() -> Iterator[None]:
    """Errors that are raised within name no flags of a command."""
    from phase_recon.utils.errors import UserError

    try:
        yield
    except UserError as error:
        raise UserError(*_in_python(str(error)).split("\n  ")) from None


def _in_python(text: str) -> str:
    """A text of the commands with what does the same in Python."""
    for command, python in IN_PYTHON.items():
        text = re.sub(command, python, text)
    return text


def _warn(line: str) -> None:
    """Pass on what a command would print, if it is a warning."""
    if line.startswith(WARNING):
        warnings.warn(_in_python(line.removeprefix(WARNING)), stacklevel=2)


def load_field(run_or_checkpoint: str | Path) -> NeuralField | DetailedField:
    """The trained field of a run's folder (its latest checkpoint) or of a checkpoint file, on the CPU.

    Raises:
        UserError: there is nothing to load, or it is damaged.
    """
    from os import PathLike

    from phase_recon.reconstruction.field import load_field
    from phase_recon.utils.errors import UserError

    if not isinstance(run_or_checkpoint, (str, PathLike)):
        raise UserError(f"load_field: expected the path of a run or of a checkpoint, got {run_or_checkpoint!r}")
    return load_field(run_or_checkpoint)
