"""Losses, or settings of one, side by side on a cloud: the same time, the same threads, one table and one page.

    python code/reconstruction/compare.py scan.ply --losses phase,igr,siren,digs --minutes 2
    python code/reconstruction/compare.py scan.ply --target truth.obj --losses phase,igr --same-network
    python code/reconstruction/compare.py curve.xyz --sweep network.loss.epsilon=0.04,0.01,0.0025

A loss is trained as its publication says: with code/confs/LOSS.conf, and phase with setup.conf. Every run is a
run.py of its own, one after the other. Interrupted, the same command goes on with the runs that are missing.

Results are in <exps_dir>/compare-<cloud>/: table.md, table.csv, compare.html, in 2D fields.png, the runs, each under
its name, and records/, what is known of them. Another request on this cloud writes its own table and page there;
--expname gives it a folder of its own.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from phase_recon.utils.environment import require_packages

    del sys.path[0]
    require_packages()

import numpy as np
import torch

from phase_recon.datasets.pointcloud import PointCloud, load_point_cloud
from phase_recon.geometry.points import Normalisation
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.commands import Parser, check_length, common_flag, exit_status
from phase_recon.reconstruction.field import DetailedField, NeuralField, field_from_checkpoint
from phase_recon.reconstruction.input_cloud import READING_KEYS
from phase_recon.reconstruction.meshing import surface_of
from phase_recon.reconstruction.tables import Row, cell, markdown, write_csv
from phase_recon.reconstruction.target import read_target
from phase_recon.reconstruction.trials import PEER, checksums, remembered, run_once
from phase_recon.report.comparison_page import Shown, comparison_page
from phase_recon.report.plots import PlaneField, fields_picture
from phase_recon.surface.files import read_surface
from phase_recon.surface.metrics import compare_surfaces, compare_to_points, eikonal_error, signed_distance
from phase_recon.surface.surface import Surface
from phase_recon.utils.checkpoint import read_checkpoint
from phase_recon.utils.config import Config, TrainConfig
from phase_recon.utils.config_files import config_from_dict, differences, load_config
from phase_recon.utils.distributed import choose_device
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.files import write_text, write_whole
from phase_recon.utils.general import sample_ball, sample_omega
from phase_recon.utils.hocon import parse, read_file, write
from phase_recon.utils.locations import CONFIGURATIONS, ROOT, find_file, folder_of_runs
from phase_recon.utils.overrides import Override, given, values_of

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

HERE = Path(__file__).resolve().parent
LOSSES = "phase,igr,siren,digs"
MINUTES = 2.0  # of a run, where neither they nor steps are given
STEPS = "train.nepoch"  # key of the length of a run, which --steps and --minutes stand for
WHOLE = "all methods are measured on the whole file: leave it out, or cut the file"
CHECKPOINTS = 8  # of a run, for its error against time
SAMPLES, HISTORY_SAMPLES = 1_000_000, 50_000  # of a surface, for its distances to the target
HISTORY_RESOLUTION = 128  # of the surfaces of checkpoints, at most
EIKONAL_POINTS = 100_000
BOX = TrainConfig.bounding_box_scale  # the same for all, whatever Ω a configuration has
BAND = 0.05  # how far from the points their band reaches, of the cloud's radius
COLUMNS = {
    "method": "method",
    "d_C": "d_C",
    "d_H": "d_H",
    "normal_consistency": "normal consistency",
    "cloud_to_surface_mean": "points to surface, mean",
    "cloud_to_surface_max": "points to surface, max",
    "eikonal_box": "eikonal error in the box",
    "eikonal_band": "eikonal error near the points",
    "components": "components",
    "genus": "genus",
    "steps": "steps",
    "seconds": "seconds",
    "failed": "failed",
}
NOTE = (
    "Lengths in the cloud's unit. Eikonal error: mean of | ‖∇w‖ - 1 | of the signed distance w, in the cloud's "
    f"bounding box × {BOX:g} and within {BAND:g} radii of the points; 0 is a distance."
)


@dataclass(frozen=True)
class Method:
    """A row of the table: its name, the command that makes its surface, and the files that command reads."""

    name: str
    command: list[str]
    reads: list[Path]


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, measure it, write the table and the page; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    line = f"{parser.prog} {shlex.join(words)}"
    stopped = "stopped; the same command goes on with the runs that are missing"
    return exit_status(parser, words, lambda options: compare(options, line), stopped)


def compare(options: argparse.Namespace, command: str) -> int:
    """Everything, in its order; ``command`` is what the table and the page say made them. Returns 1 if a run failed.

    Raises:
        UserError: the options, the cloud or the target are wrong; or no run gave a surface.
    """
    check_length(options)
    _, device = choose_device(options.gpu)
    if (options.cloud is None) == (options.input is None):
        raise UserError("give one point cloud: phase-recon compare CLOUD, or --input PATH")
    path = find_file(options.cloud or options.input)
    cloud = load_point_cloud(path, normals=options.normals)
    if cloud.note:
        print(f"note: {cloud.note}", flush=True)
    if options.normals and cloud.normals is None:
        raise UserError(f"{path}: has no normals: leave --normals out, or give a file with them")
    target = None if options.target is None else read_target(options.target, cloud.points.shape[1], needs_cells=True)
    exps = folder_of_runs(options.exps_dir)
    folder = (exps / (options.expname or f"compare-{path.stem}")).absolute()
    config = configured(options, folder)

    rows = measure_all(options, path, cloud, target, folder)
    if all("failed" in row for row in rows):
        raise UserError(f"every run failed; the first, {rows[0]['method']}: {rows[0]['failed']}")

    columns, table = table_of(rows)
    note = f"{NOTE} {device[0].upper()}{device[1:]}."
    write_csv(folder / "table.csv", columns, rows)
    text = f"    {command}\n\n{markdown(table[0], table[1:])}\n{note}\n"
    write_text(folder / "table.md", text)
    pictures = _pictures(rows, cloud, target, folder)
    shown = [Shown(row["method"], _surface(row), row.get("history", ())) for row in rows]
    if target is not None:
        shown.insert(0, Shown("target", target))
    error = COLUMNS[_error_column(target)]
    title = f"{path.stem}: {len(rows)} reconstructions"
    comparison_page(
        folder / "compare.html", title, command, note, table, cloud.points, shown, error, pictures,
        up=config.plot.up,
    )  # fmt: skip
    print(f"\n{text}\npage: {folder / 'compare.html'}")
    return int(any("failed" in row for row in rows))


def measure_all(
    options: argparse.Namespace, path: Path, cloud: PointCloud, target: Surface | None, folder: Path
) -> list[Row]:
    """A row of every method that the options ask for: run and measured, each unless it has been.

    Raises:
        UserError: as ``methods``.
    """
    rows = []
    for method in list(methods(options, path.absolute(), cloud, folder)):
        print(f"{method.name}: {shlex.join(method.command)}", flush=True)
        row = {"method": method.name, **measured(method, path, cloud, options.target, target, folder / "records")}
        print("  ".join(f"{key} {cell(row[key])}" for key in COLUMNS if key in row), flush=True)
        rows.append(row)
    return rows


def configured(options: argparse.Namespace, folder: Path) -> Config:
    """The configuration of the first loss, with the keys that the options set.

    Raises:
        UserError: one of these is wrong, or says which points are read, so that ours would see other ones than it is
            measured on.
    """
    conf = configuration(losses_of(options)[0], options.same_network, folder)
    length = [("--minutes", "train.time_budget", options.minutes), ("--steps", "train.nepoch", options.steps)]
    flags = given([*length, ("--seed", "train.seed", options.seed)])
    config = load_config(conf, [*flags, *options.set], check_model)
    for key in differences(load_config(conf), config):
        if key in READING_KEYS:
            raise UserError(f"--set {key}: {WHOLE}")
    return config


def losses_of(options: argparse.Namespace) -> list[str]:
    """The losses that the options name."""
    named: str = options.losses or ("phase" if options.sweep else LOSSES)
    return named.split(",")


def table_of(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """The columns that some row fills, and the table of them: its header and its rows."""
    columns = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)]
    return columns, [[COLUMNS[key] for key in columns], *([cell(row.get(key)) for key in columns] for row in rows)]


def methods(options: argparse.Namespace, path: Path, cloud: PointCloud, folder: Path) -> Iterator[Method]:
    """The rows that the options ask for.

    Raises:
        UserError: a loss that has no configuration, a sweep that is none, or a key or value that is
            wrong for a loss.
    """
    losses = losses_of(options)
    settings = [("", "")]
    if options.sweep:
        if len(losses) > 1:
            raise UserError(f"--sweep compares settings of one loss, but --losses names {len(losses)}: give one")
        settings = list(_settings(options.sweep))
        key = options.sweep.partition("=")[0].strip()
        if key in READING_KEYS:
            raise UserError(f"--sweep {key}: {WHOLE}")
        if key == STEPS and (options.steps is not None or options.minutes is not None):
            raise UserError(f"--sweep {STEPS}: says how long each run is; leave --steps and --minutes out")
        if key == STEPS:  # numbers of steps, before they are taken for such
            conf = configuration(losses[0], options.same_network, folder)
            for _, setting in settings:
                load_config(conf, [Override(setting, f"--sweep {STEPS}")], check_model)
    ours = [sys.executable, str(HERE / "run.py"), "--input", str(path)]
    ours += ["--seed", str(options.seed), "--gpu", options.gpu, "--exps-dir", str(folder)]
    keys = [
        f"network.has_normals={'true' if options.normals else 'false'}",
        "train.checkpoint_frequency=0",
        "train.plot_frequency=0",  # a preview takes time from the training
        "plot.allow_open=true",  # a surface that leaves Ω is a result, too
    ]
    for loss in dict.fromkeys(losses):
        conf = configuration(loss, options.same_network, folder)
        for label, setting in settings:
            name = label or loss
            length, saved = _length(options, setting)
            asked = [key for key in (*keys, saved, *options.set, setting) if key]
            load_config(conf, asked, check_model)  # a wrong value is said before the first run
            sets = [word for key in asked for word in ("--set", key)]
            expname = re.sub(r"[^\w.,=+-]", "_", name)
            yield Method(name, [*ours, *length, "--conf", str(conf), "--expname", expname, *sets], [path, conf])
    if cloud.points.shape[1] == 3 and not options.sweep:
        if find_spec("open3d") is None:
            print("no row for Screened Poisson: pip install open3d")
        else:
            poisson = [sys.executable, str(PEER), str(path), "{mesh}"]
            yield Method("Screened Poisson", [*poisson, *(["--normals"] if options.normals else [])], [path])


def _length(options: argparse.Namespace, setting: str) -> tuple[list[str], str]:
    """The flags for the length of a run with a setting of the sweep, "" without one, and when it saves checkpoints."""
    steps = values_of(setting).get(STEPS, options.steps)
    if steps is not None:
        return ["--steps", str(steps)], f"train.checkpoint_frequency={max(1, steps // CHECKPOINTS)}"
    minutes = MINUTES if options.minutes is None else options.minutes
    by_set = options.minutes is None and any(STEPS in values_of(text) for text in options.set)
    length = [] if by_set else ["--minutes", f"{minutes:g}"]
    return length, f"train.checkpoint_minutes={minutes / CHECKPOINTS:g}"


def configuration(loss: str, same_network: bool, folder: Path) -> Path:
    """The configuration file of a loss: its publication's, or with ``same_network`` setup.conf with that loss.

    Raises:
        UserError: there is none for this loss, or it cannot be read.
    """
    setup = ROOT / "setup.conf"
    path = setup if loss == "phase" else CONFIGURATIONS / f"{loss}.conf"
    if not path.is_file():
        known = sorted(["phase", *(conf.stem for conf in CONFIGURATIONS.glob("*.conf"))])
        raise UserError(f"--losses {loss}: no such configuration, {path}; there are {', '.join(known)}")
    if not same_network or loss == "phase":
        return path
    tree, peer = (parse(read_file(file), str(file)).tree for file in (setup, path))
    tree["network"]["loss"] = peer.get("network", {}).get("loss", {})
    own = folder / "confs" / path.name
    own.parent.mkdir(parents=True, exist_ok=True)
    write_whole(own, write(tree).encode())
    return own


def _settings(sweep: str) -> Iterator[tuple[str, str]]:
    """The label and the override of each value of "key=value,value"."""
    key, _, values = sweep.partition("=")
    try:
        entries = parse(f"values = [{values}]", f"--sweep {sweep!r}").tree["values"] if key and values else []
    except UserError:
        entries = []
    if len(entries) < 2:
        raise UserError(f"--sweep {sweep!r}: expected a key and values, such as network.loss.epsilon=0.04,0.01,0.0025")
    for value in entries:
        text = json.dumps(value, ensure_ascii=False)
        yield f"{key.rpartition('.')[2]}={text}", f"{key}={text}"


def measured(
    method: Method, path: Path, cloud: PointCloud, target_path: Path | None, target: Surface | None, records: Path
) -> Row:
    """The row of a method: run and measured, each unless it has been."""
    name = re.sub(r"\W+", "-", method.name)
    run = run_once(records, name, method.command, method.reads)
    if "failed" in run:
        return {"failed": run["failed"].replace(f"{ROOT}/", "")}
    mesh = Path(run["written"]["mesh"])
    folder = Path(run["written"]["metrics"]).parents[2] if "metrics" in run["written"] else None
    request = checksums([mesh, path, *([] if target_path is None else [target_path])])
    return run | remembered(
        records, f"{name}-measures", request, lambda stem: _measures(mesh, folder, cloud, target, run["seconds"])
    )


def _measures(mesh: Path, folder: Path | None, cloud: PointCloud, target: Surface | None, seconds: float) -> Row:
    """What is to be known of a surface and, where a run's folder is given, of its field and its course."""
    surface = read_surface(mesh)
    row: Row = {**_accuracy(surface, cloud, target, SAMPLES), "components": surface.components()[0]}
    if surface.dimension == 3 and surface.is_closed():
        row["genus"] = surface.genus()
    if folder is None:
        return row | {"history": [(seconds, row[_error_column(target)])]}
    checkpoint = Experiment(folder).load_checkpoint()
    field = _field(folder)
    generator = np.random.default_rng(0)
    centres = cloud.points[generator.integers(len(cloud.points), size=EIKONAL_POINTS)]
    near = sample_ball(centres, BAND * Normalisation.fit(cloud.points).scale, 1, generator)[:, 0]
    everywhere = sample_omega(_box(cloud), EIKONAL_POINTS, generator)
    return row | {
        "steps": checkpoint["epoch"],
        "eikonal_box": eikonal_error(field.gradient, everywhere),
        "eikonal_band": eikonal_error(field.gradient, near),
        "history": list(_history(folder, cloud, target)),
    }


def _history(folder: Path, cloud: PointCloud, target: Surface | None) -> Iterator[tuple[float, float]]:
    """Seconds and error of a run's checkpoints, in their order, from coarse surfaces; those without are left out."""
    paths = [path for path in (folder / "checkpoints").glob("*.pth") if path.stem != "latest"]
    for path in sorted(paths, key=lambda path: int(path.stem)):
        checkpoint = read_checkpoint(path)
        plot = config_from_dict(checkpoint["config"], str(path)).plot
        field = field_from_checkpoint(checkpoint, torch.device("cpu"), str(path))
        try:
            plot = replace(plot, resolution=min(HISTORY_RESOLUTION, plot.resolution or HISTORY_RESOLUTION))
            surface = surface_of(field, cloud, plot, allow_open=True)
        except UserError:
            continue  # no surface yet
        error = _accuracy(surface, cloud, target, HISTORY_SAMPLES)[_error_column(target)]
        yield round(checkpoint["seconds"], 2), error


def _accuracy(surface: Surface, cloud: PointCloud, target: Surface | None, samples: int) -> dict[str, float]:
    """Distances to the target, or without one of the points to the surface."""
    if target is None:
        found = compare_to_points(surface, cloud.points, 1000)
        return {name: found[name] for name in ("cloud_to_surface_mean", "cloud_to_surface_max")}
    found = compare_surfaces(surface, target, samples)
    return {name: found[name] for name in ("d_C", "d_H", "normal_consistency")}


def _error_column(target: Surface | None) -> str:
    return "cloud_to_surface_mean" if target is None else "d_C"


def _surface(row: Row) -> Surface | None:
    return None if "failed" in row else read_surface(row["written"]["mesh"])


def _pictures(rows: list[Row], cloud: PointCloud, target: Surface | None, folder: Path) -> dict[str, Path]:
    """The pictures of the page, by caption: in 2D one of all fields, in 3D the cuts of each."""
    runs = {row["method"]: row for row in rows if "failed" not in row and "cuts" in row["written"]}
    cuts = {f"{name}: u and w on planes through the middle": Path(row["written"]["cuts"]) for name, row in runs.items()}
    fields = {name: _field(Path(row["written"]["metrics"]).parents[2]) for name, row in runs.items()}
    if not fields or next(iter(fields.values())).dimension == 3:
        return cuts
    shown = {}
    for name, field in fields.items():
        curve = target or read_surface(runs[name]["written"]["mesh"])
        shown[name] = PlaneField(field.u, field.w, partial(signed_distance, surface=curve), _ideal(field))
    fields_picture(folder / "fields.png", shown, *_box(cloud))
    of = "the target" if target is not None else "its own curve"
    return {f"u and w, and both against the signed distance to {of}": folder / "fields.png"}


def _ideal(field: NeuralField | DetailedField) -> Callable[[Array], Array]:
    """The u (N,) that signed distances (N,), input units, would have."""

    def ideal(distance: Array) -> Array:
        normalised = torch.from_numpy(distance / field.normalisation.scale)
        return np.asarray(field.loss.phase(field.loss.output_for(normalised)))

    return ideal


def _field(folder: Path) -> NeuralField | DetailedField:
    """The field of a run, on the CPU."""
    return field_from_checkpoint(Experiment(folder).load_checkpoint(), torch.device("cpu"), str(folder))


def _box(cloud: PointCloud) -> Array:
    """The corners (2, d) of the box in which fields are looked at, input units."""
    low, high = cloud.points.min(axis=0), cloud.points.max(axis=0)
    reach = BOX * (high - low) / 2
    return np.stack([(low + high) / 2 - reach, (low + high) / 2 + reach])


def _parser() -> Parser:
    parser = Parser(
        "CLOUD [--target TRUTH] [--losses A,B] [--minutes M] [more flags, see below]", __doc__, script="compare.py",
        console="phase-recon-compare",
    )  # fmt: skip
    parser.add_argument("cloud", metavar="CLOUD", nargs="?", help="the point cloud")
    parser.add_argument("--input", metavar="PATH", help="the same as CLOUD")
    parser.add_argument("--target", metavar="PATH", type=Path, help="its true surface, a mesh or curve")
    parser.add_argument("--losses", metavar="A,B", help=f"names of configurations ({LOSSES})")
    parser.add_argument("--sweep", metavar="KEY=A,B", help="settings of one loss (phase) instead")
    common_flag(parser, "minutes", help=f"time of every run ({MINUTES:g})")
    common_flag(parser, "steps", help="length of every run, in place of a time")
    parser.add_argument("--normals", action="store_true", help="use the normals of the file, in all that can")
    parser.add_argument(
        "--same-network", action="store_true", help="all of setup.conf but the loss, for every loss"
    )
    common_flag(parser, "set", help="a key for every run, such as --set plot.resolution=128; can be repeated")
    common_flag(parser, "seed", default=0, help="seed of every run (0)")
    common_flag(parser, "gpu")
    common_flag(parser, "exps-dir", help="the folder of all results (exps/)")
    common_flag(parser, "expname", help="the folder in it (compare-<cloud>)")
    parser.add_version_and_debug()
    return parser


if __name__ == "__main__":
    sys.exit(main())
