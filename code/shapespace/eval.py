"""Clouds that the space has not seen: a code is fitted to each, and its surface and measurements are written.

A run's folder then holds fits/<name>/ for each, with code.npz and what an evaluation of a single shape has.
"""

import json
from pathlib import Path

import numpy as np
from torch import Tensor

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.reconstruction import evaluation
from phase_recon.reconstruction.progress import Announce
from phase_recon.shapespace.fitting import fit_code, refined
from phase_recon.shapespace.shapes import INWARD, find_shapes, load_shape, points_inward
from phase_recon.shapespace.space import CODE, Space
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.files import npz_of, write_whole


def evaluate_clouds(
    space: Space, given: str, targets: Path | None, folder: Path, epoch: int, announce: Announce
) -> tuple[list[Path], int]:
    """Fit and evaluate every cloud that is given; returns the metrics' files, and how many of several clouds failed.

    Args:
        space: the trained space.
        given: a cloud, a folder, a glob or @list.
        targets: a folder of the clouds' true surfaces, of the same names, or a single surface for a single cloud.
        folder: the run's.
        epoch: the step that the space has had.
        announce: receives the lines a user should see.

    Raises:
        UserError: there are no clouds, a target is missing, or the only cloud cannot be used.
    """
    files = find_shapes(given, None)
    goals = {name: _target(targets, name, alone=len(files) == 1) for name in files}
    written, failed = list[Path](), 0
    for name, file in files.items():
        try:
            written.append(_evaluated(space, name, file, goals[name], folder, epoch, announce))
        except UserError as error:
            if len(files) == 1:
                raise
            failed += 1
            announce(f"{name}: failed: {error}")
    return written, failed


def _evaluated(
    space: Space, name: str, file: Path, target: Path | None, folder: Path, epoch: int, announce: Announce
) -> Path:
    """Fit and evaluate one cloud; returns the file of its metrics."""
    place = Experiment(folder / "fits" / name)
    if not space.config.plot.overwrite and (place.folder / CODE).exists():
        raise UserError(f"{place.folder / CODE}: is there, and plot.overwrite = false: move the folder away")
    cloud = load_shape(space.config, file, announce)
    if points_inward(cloud):
        announce(f"warning: {name}: {INWARD}, or the code is fitted to the shape inside out")
    code = fit_code(space, cloud)
    own = refined(space, code, cloud) if space.config.train.refine_steps else space
    metrics = write_shape(own, code, cloud, file, target, place, epoch, announce)
    write_whole(place.folder / CODE, npz_of(code=code.cpu().numpy(), network=np.array(space.fingerprint)))
    announce(f"{name}: {said(metrics)}")
    return metrics


def write_shape(
    space: Space,
    code: Tensor,
    cloud: PointCloud,
    path: Path,
    target: Path | None,
    place: Experiment,
    epoch: int,
    announce: Announce,
) -> Path:
    """Write the evaluation of a code's shape against its cloud; returns the file of the metrics.

    Raises:
        UserError: the folder cannot be made, a file cannot be read or written, or the code has no surface.
    """
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{place.folder}: cannot be made ({error.strerror}): make room, and try again") from None
    written = evaluation.evaluate(
        space.field(code), cloud, space.config.plot, place, epoch, announce, cloud_path=str(path), target=target
    )
    return written["metrics"]


def said(metrics: Path) -> str:
    """A line about an evaluation."""
    found = json.loads(metrics.read_text())
    far = found["input"]["cloud_to_surface_mean"]
    line = f"components {found['components']}, points to surface {far:.4g} in the mean"
    if "target" in found and "d_C" in found["target"]:
        line += f"; to the target d_C {found['target']['d_C']:.4g}, d_H {found['target']['d_H']:.4g}"
    return line


def _target(targets: Path | None, name: str, alone: bool) -> Path | None:
    """The target of a cloud's name."""
    if targets is None or (alone and targets.is_file()):
        return targets
    kinds = (".ply", ".obj", ".off", ".stl")
    files = [targets / f"{name}{suffix}" for kind in kinds for suffix in (kind, kind.upper())]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise UserError(f"--target {targets}: holds no surface {name}.ply or .obj for this cloud")
    return found
