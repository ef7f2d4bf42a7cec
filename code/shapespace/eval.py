"""Clouds that the space has not seen: a code is fitted to each, and its surface and measurements are written.

A run's folder then holds fits/<name>/ for each, with code.npy and what an evaluation of a single shape has.
"""

import io
import json
from pathlib import Path

import numpy as np
from torch import Tensor

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.reconstruction import evaluation
from phase_recon.shapespace.fitting import fit_code, refined
from phase_recon.shapespace.shapes import Announce, find_shapes, load_shape
from phase_recon.shapespace.space import Space
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.files import write_whole


def evaluate_clouds(
    space: Space, given: str, targets: Path | None, folder: Path, epoch: int, announce: Announce
) -> list[Path]:
    """Fit and evaluate every cloud that is given; returns the metrics' files.

    Args:
        space: the trained space.
        given: a cloud, a folder, a glob or @list.
        targets: a folder of the clouds' true surfaces, of the same names, or a single surface for a single cloud.
        folder: the run's.
        epoch: the step that the space has had.
        announce: receives the lines a user should see.

    Raises:
        UserError: there are no clouds, one cannot be used, a target is missing, or a file cannot be written.
    """
    files = find_shapes(given, None)
    goals = {name: _target(targets, name, alone=len(files) == 1) for name in files}
    written = []
    for name, file in files.items():
        cloud = load_shape(space.config, file, announce)
        code = fit_code(space, cloud)
        place = Experiment(folder / "fits" / name)
        own = refined(space, code, cloud) if space.config.train.refine_steps else space
        metrics = write_shape(own, code, cloud, file, goals[name], place, epoch, announce)
        announce(f"{name}: {said(metrics)}")
        written.append(metrics)
    return written


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
    """Write the evaluation of a code's shape against its cloud, then code.npy; returns the file of the metrics."""
    content = io.BytesIO()
    np.save(content, code.cpu().numpy())
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{place.folder}: cannot be made ({error.strerror}): make room, and try again") from None
    written = evaluation.evaluate(
        space.field(code), cloud, space.config.plot, place, epoch, announce, cloud_path=str(path), target=target
    )
    write_whole(place.folder / "code.npy", content.getvalue())
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
