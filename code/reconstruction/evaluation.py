"""From a trained field to what a user opens: the surface, its pictures and page, its measurements."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.pointcloud import PointCloud, load_points
from phase_recon.reconstruction.field import Field
from phase_recon.reconstruction.meshing import cells_of, surface_of
from phase_recon.reconstruction.oriented import oriented_ply, oriented_points
from phase_recon.reconstruction.output import MADE_BY
from phase_recon.reconstruction.progress import Announce
from phase_recon.reconstruction.scene import Scene
from phase_recon.reconstruction.target import read_target
from phase_recon.report.page import surface_page
from phase_recon.report.plots import cross_section_picture, loss_curves, render_surface
from phase_recon.surface.files import CURVE_WRITERS, MESH_WRITERS, write_surface
from phase_recon.surface.metrics import compare_surfaces, compare_to_points
from phase_recon.surface.surface import Surface
from phase_recon.utils.config import PlotConfig
from phase_recon.utils.errors import UserError, counted
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.files import npz_of, offset_of_mesh, write_whole

SAMPLES = 1_000_000  # of a surface for its distances to a target, as the published benchmarks take
CLOUD_SAMPLES = 100_000  # of a surface for its distances to the input


def evaluate(
    field: Field,
    cloud: PointCloud,
    plot: PlotConfig,
    experiment: Experiment,
    epoch: int,
    announce: Announce,
    *,
    cloud_path: str | None = None,
    target: Path | None = None,
    query: Path | None = None,
    output: Path | None = None,
    body: npt.NDArray[np.int64] | None = None,
    scene: Scene | None = None,
    ended: bool = True,
) -> dict[str, Path]:
    """Write evaluation/<epoch>/ of a run; returns what was written, by what it is.

    Args:
        field: the trained field.
        cloud: its input.
        plot: what to write, and how fine.
        experiment: the run.
        epoch: the step that the field has had.
        announce: receives the lines a user should see.
        cloud_path: where the input was read, for the record.
        target: a mesh, curve or cloud to measure against, or None.
        query: points at which to write u, w and ∇w, or None.
        output: another file to write the surface to, in place of what is there, or None.
        body: rows of the cloud that are no outliers, which alone show a surface; None for all.
        scene: what the preprocessing found, whose normals are written if it found some, or None.
        ended: whether the run has had all its steps and its detail, for the record.

    Raises:
        UserError: there is no surface; a file cannot be read or written; or plot.overwrite = false and the
            evaluation exists.
    """
    folder = experiment.folder / "evaluation" / str(epoch)
    if not plot.overwrite and experiment.is_evaluated(epoch):  # one that was cut off is made again
        raise UserError(f"{folder}: exists, and plot.overwrite = false: move it away, or --set plot.overwrite=true")
    goal = None if target is None else read_target(target, field.dimension)
    if goal is not None and not _overlap(goal.vertices, cloud.points):
        announce(f"warning: {target} and the cloud have no place in common: are they in one frame and unit?")
    asked = None if query is None else load_points(query, field.dimension)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}): make room, then use --eval") from None

    box = field.normalisation.invert(np.stack([field.lower, field.upper]))
    inside = ((cloud.points >= box[0]) & (cloud.points <= box[1])).all(axis=1)
    points = cloud.points[inside] if inside.any() else cloud.points
    if outside := len(cloud.points) - len(points):
        announce(f"{counted(outside, 'point')} outside of Ω, in no picture or measurement")

    started = time.monotonic()
    showing = cloud if body is None else cloud.rows(body)
    cells = cells_of(field, showing, plot)
    surface = surface_of(field, showing, plot, announce, cells)
    record = folder / "metrics.json"
    before, of = (_path_before(record, part) for part in ("target", "input"))
    if of is not None and cloud_path is not None and Path(of).absolute() != Path(cloud_path).absolute():
        announce(f"note: {folder} was the evaluation of {of}, and is replaced")
    record.unlink(missing_ok=True)  # it is written last: an evaluation that is cut off from here on has none
    written = _write_surface(surface, folder, plot, output, announce)
    extraction = time.monotonic() - started
    if asked is not None:
        written["query"] = _write_query(folder / "query.npz", field, asked)
    if scene is not None and scene.normals == "estimated":
        written["oriented"] = folder / "oriented.ply"
        write_whole(written["oriented"], oriented_ply(*oriented_points(scene)))

    title = f"{experiment.folder.name}, step {epoch}"
    records = [record for record in experiment.records() if "loss" in record]
    written |= _write_pictures(field, surface, points, folder, plot, title, records)

    saved_as = written.get("mesh", written.get("curve"))
    metrics: dict[str, Any] = {
        "epoch": epoch,
        "ended": ended,
        "surface": None if saved_as is None else saved_as.name,
        "seconds_extraction": round(extraction, 3),
        "resolution": cells.along,
        "scale": field.normalisation.scale,
        **_topology(surface),
        "input": {"path": cloud_path, **compare_to_points(surface, points, CLOUD_SAMPLES)},
    }
    if goal is not None and target is not None:
        is_cloud = not len(goal.cells)
        compare = compare_to_points(surface, goal.vertices, SAMPLES) if is_cloud else compare_surfaces(surface, goal)
        metrics["target"] = {"path": str(target.absolute()), **compare}
    written["metrics"] = record
    if before is not None and goal is None:
        announce(f"note: metrics.json no longer compares with {before}: give it with --target to have that again")
    write_whole(written["metrics"], (json.dumps(metrics, indent=2) + "\n").encode())
    return written


def preview(
    field: Field, cloud: PointCloud, plot: PlotConfig, folder: Path, epoch: int, announce: Announce
) -> None:
    """Write plots/<epoch>.png (and .ply) of a coarse surface, and say what came of it.

    No surface, and a file that cannot be written, are no errors: a training does not end for want of a picture.
    """
    details = announce if plot.verbose else None
    try:
        whole = dataclasses.replace(plot, trim="closed", resolution=plot.preview_resolution)
        surface = surface_of(field, cloud, whole, details, allow_open=True)
        if plot.save_ply:
            write_surface(folder / f"{epoch}.ply", surface)
        render_surface(folder / f"{epoch}.png", surface, None, up=plot.up, size=(1000, 500))
    except UserError as error:
        announce(f"preview at step {epoch}: {error}")
        return
    announce(f"preview at step {epoch}: {folder / f'{epoch}.png'}")


def _write_surface(
    surface: Surface, folder: Path, plot: PlotConfig, output: Path | None, announce: Announce
) -> dict[str, Path]:
    """Write a surface into its evaluation's folder and where the user wants it; what was written, by what it is."""
    written: dict[str, Path] = {}
    if plot.save_ply:
        kind, suffix = ("curve", plot.curve_format) if surface.dimension == 2 else ("mesh", plot.mesh_format)
        written[kind] = folder / f"surface.{suffix}"
        _write(written[kind], surface, announce)
    for other in _other_surfaces(folder, next(iter(written.values()), None)):
        if plot.save_ply:
            other.unlink()
        announce(f"note: {other}, of an earlier evaluation, {'is removed' if plot.save_ply else 'stays'}")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        _write(output, surface, announce)
        written["output"] = output
    if written:
        shown = written.get("output", next(iter(written.values())))
        announce(f"the surface is written: {shown}; its pictures and measurements follow")
    return written


def _write_pictures(
    field: Field,
    surface: Surface,
    points: npt.NDArray[np.float64],
    folder: Path,
    plot: PlotConfig,
    title: str,
    records: Sequence[dict[str, Any]],
) -> dict[str, Path]:
    """Write the page and the pictures of an evaluation; what was written, by what it is.

    Args:
        field: the trained field.
        surface: its surface, in the input's units.
        points: of the cloud that are in Ω (N, d), in the same.
        folder: of the evaluation.
        plot: what to write.
        title: of the page.
        records: of the log, with losses; there may be none.
    """
    written, page = {}, folder / "surface.html"
    if plot.save_html:
        written["page"] = page
        surface_page(page, surface, points, title, up=plot.up)
    else:
        page.unlink(missing_ok=True)  # it would be of another surface
    written["picture"] = folder / "surface.png"
    render_surface(written["picture"], surface, points, up=plot.up)
    written["cuts"] = folder / "cuts.png"
    lower, upper = field.normalisation.invert(np.stack([field.lower, field.upper]))
    cross_section_picture(written["cuts"], field.u, field.w, lower, upper, points)
    if records:
        written["losses"] = folder / "losses.png"
        loss_curves(written["losses"], records)
    return written


def _topology(surface: Surface) -> dict[str, Any]:
    """What metrics.json says of a surface alone."""
    closed, measures = surface.is_closed(), surface.component_measures()
    return {
        "components": len(measures),
        "largest_component": float(measures.max() / measures.sum()),
        "closed": closed,
        "euler_characteristic": surface.euler_characteristic(),
        "genus": surface.genus() if surface.dimension == 3 and closed else None,
    }


def _write(path: Path, surface: Surface, announce: Announce) -> None:
    note = write_surface(path, surface, f"{MADE_BY}, in the units of the input")
    if note:
        announce(note)


def _other_surfaces(folder: Path, written: Path | None) -> list[Path]:
    """The surfaces, with their offsets, that an evaluation's folder has besides one: they are of an earlier field."""
    surfaces = [folder / f"surface{kind}" for kind in dict.fromkeys((*MESH_WRITERS, *CURVE_WRITERS))]
    others = [path for path in surfaces if path != written]
    return [path for other in others for path in (other, offset_of_mesh(other)) if path.is_file()]


def _write_query(path: Path, field: Field, points: npt.NDArray[np.float64]) -> Path:
    answers = {"u": field.u(points), "w": field.w(points), "gradient": field.gradient(points)}
    write_whole(path, npz_of(points=points, **answers))
    return path


def _overlap(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> bool:
    """Whether the boxes about two sets of points (N, d) and (M, d) overlap."""
    low = np.maximum(first.min(axis=0), second.min(axis=0))
    return bool((low <= np.minimum(first.max(axis=0), second.max(axis=0))).all())


def _path_before(metrics: Path, part: str) -> str | None:
    """The file that an earlier evaluation's metrics.json is of ("input") or compares with ("target"); None if none."""
    try:
        earlier = json.loads(metrics.read_text())
        path = earlier[part]["path"]
        return None if path is None else str(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
