"""Ours against Screened Poisson on a folder of scans and meshes: same cores, one after the other, one table.

    python code/reconstruction/benchmark.py DATA --out results --seeds 0,1,2

Ours runs as setup.conf says; --minutes gives every run of it the same time instead.

In DATA, ``name.ply`` with ``name_gt.off`` (or .ply, .obj, .stl) beside it is a scan with its true surface, which
several scans ``name-kind.ply`` may share; any other mesh is sampled into clouds, one for each of --clouds. Every method
runs as a command of its own, so time is wall clock of the whole command and memory its peak. What is in --out already
is not done again; a command or a file that changed is.

The peers without normals are Screened Poisson with normals propagated along tangent planes (poisson8, poisson9, by the
depth of the octree) and iterated Poisson (ipsr9). With the file's normals, rows of ours and of Poisson at depths 9 and
10 are named +normals. Where ours writes its cloud with oriented normals, Poisson with these is a row of its own, named
"ours oriented+poisson9".
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from phase_recon.utils.environment import require_packages

    del sys.path[0]
    require_packages()

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.commands import Parser, chosen, common_flag, exit_status, whole_numbers
from phase_recon.reconstruction.tables import Row, cell, markdown, spread, write_csv
from phase_recon.reconstruction.target import read_target
from phase_recon.reconstruction.trials import PEER, checksums, remembered, run_once
from phase_recon.report.plots import render_side_by_side
from phase_recon.surface.files import read_surface
from phase_recon.surface.metrics import compare_surfaces, compare_to_points, distance_to_surface, sample_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.config import PlotConfig
from phase_recon.utils.config_files import load_config
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import npz_of, write_text, write_whole
from phase_recon.utils.locations import find_configuration
from phase_recon.utils.overrides import given

HERE = Path(__file__).resolve().parent
SUFFIXES = (".ply", ".obj", ".off", ".stl")
CLOUD_SUFFIXES = (*SUFFIXES, ".xyz", ".npy", ".npz", ".txt")
# d_C and d_H in millimetres of methods without normals on the Surface Reconstruction Benchmark, as the papers of DiGS
# (CVPR 2022, supplementary material) and, for its own method, PINC (NeurIPS 2023) tabulate them
PUBLISHED = {
    "anchor": {"IGR": (0.45, 7.45), "SIREN": (0.72, 10.98), "SAL": (0.42, 7.21), "IGR+FF": (0.72, 9.48),
               "PHASE+FF": (0.29, 7.43), "DiGS": (0.29, 7.19), "PINC": (0.29, 7.54)},
    "daratech": {"IGR": (4.90, 42.15), "SIREN": (0.21, 4.37), "SAL": (0.62, 13.21), "IGR+FF": (2.48, 19.60),
                 "PHASE+FF": (0.35, 7.24), "DiGS": (0.20, 3.72), "PINC": (0.37, 7.24)},
    "dc": {"IGR": (0.63, 10.35), "SIREN": (0.34, 6.27), "SAL": (0.18, 3.06), "IGR+FF": (0.86, 10.32),
           "PHASE+FF": (0.19, 4.65), "DiGS": (0.15, 1.70), "PINC": (0.14, 2.56)},
    "gargoyle": {"IGR": (0.77, 17.46), "SIREN": (0.46, 7.76), "SAL": (0.45, 9.74), "IGR+FF": (0.26, 5.24),
                 "PHASE+FF": (0.17, 4.79), "DiGS": (0.17, 4.10), "PINC": (0.16, 4.78)},
    "lord_quas": {"IGR": (0.16, 4.22), "SIREN": (0.35, 8.96), "SAL": (0.13, 4.14), "IGR+FF": (0.49, 10.71),
                  "PHASE+FF": (0.11, 0.71), "DiGS": (0.12, 0.91), "PINC": (0.10, 0.92)},
}  # fmt: skip
COLUMNS = ("d_C", "d_H", "mean_rec_to_target", "max_rec_to_target", "mean_target_to_rec", "max_target_to_rec",
           "normal_consistency", "iou", "components", "genus", "euler_characteristic",
           "target_euler_characteristic", "cloud_to_surface_max", "seconds", "megabytes")  # fmt: skip
METHODS = ("ours", "ours+normals", "poisson8", "poisson9", "poisson9+normals", "poisson10+normals", "ipsr9")
BEST_HIGH = ("normal_consistency", "iou")  # of these the worst is the least


@dataclass(frozen=True)
class Case:
    """A cloud with the surface that it was taken from."""

    name: str
    cloud: Path
    target: Path
    failed: str = ""  # why the file cannot be read


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, then write the table and the pictures; returns the exit status."""
    parser = Parser(
        "DATA [--out FOLDER] [--minutes M] [--seeds 0,1,2] [more flags, see below]", __doc__, script="benchmark.py",
        console="phase-recon-benchmark",
    )  # fmt: skip
    parser.add_argument("data", metavar="DATA", type=Path, help="folder of scans and meshes")
    parser.add_argument(
        "--out", "--exps-dir", metavar="FOLDER", type=Path, default=Path("benchmark"),
        help="folder of all results (benchmark/)",
    )  # fmt: skip
    common_flag(parser, "minutes", help="time of every run of ours (as long as setup.conf says)")
    parser.add_argument(
        "--seeds", "--seed", metavar="A,B", type=partial(whole_numbers, "--seeds", 0), default="0",
        help="seeds of ours (0)",
    )  # fmt: skip
    parser.add_argument(
        "--only", metavar="A,B", default="", help="names of cases, or their beginnings, separated by commas"
    )
    parser.add_argument(
        "--methods", metavar="A,B", default="",
        help=f"some of {', '.join(METHODS)} (all); each ours adds a row of Poisson with our normals",
    )  # fmt: skip
    parser.add_argument(
        "--clouds",
        metavar="N:NOISE",
        default="5000:0.005,20000:0",
        help="points:noise of the clouds taken from a mesh, noise as a share of half the diagonal of its "
        "box; or points:noise:cut, of which that share is cut away at one end (%(default)s)",
    )
    common_flag(parser, "set", help="a key for every run of ours, such as --set train.nepoch=500; can be repeated")
    common_flag(parser, "gpu")
    parser.add_version_and_debug()
    return exit_status(parser, arguments, benchmark, "stopped; the same command goes on with what is missing")


def benchmark(options: argparse.Namespace) -> int:
    """Everything, in its order; for what is raised see ``measure_all``. Returns 1 if a run failed."""
    return int(any("failed" in row for row in measure_all(options)))


def measure_all(options: argparse.Namespace) -> list[Row]:
    """Run and measure what is missing, write tables and pictures; returns a row for every run.

    Raises:
        UserError: the options are wrong, or the folder holds nothing to do.
    """
    if not options.data.is_dir():
        raise UserError(f"{options.data}: no such folder; give one with scans and meshes")
    cases = list(find_cases(options.data, options.out, options.clouds))
    names = tuple(name for name in options.only.split(",") if name)
    cases = [case for case in cases if not names or case.name.startswith(names)]
    if not cases:
        where = " (with this --only)" if names else ""
        raise UserError(f"{options.data}: no scan with its _gt mesh and no mesh to sample{where}")
    rows = []
    methods = chosen("--methods", options.methods, list(METHODS))
    flags = given([("--minutes", "train.time_budget", options.minutes)])  # a wrong value is said before the first run
    load_config(find_configuration("setup.conf"), [*flags, *options.set], check_model)
    for case in cases:
        try:
            asked = [command for command in commands(case, options) if command[0] in methods]
        except UserError as error:  # of this case alone
            rows.append({"case": case.name, "method": "none", "failed": str(error)})
            _say(rows[-1])
            continue
        for method, seed, command in asked:
            row = measured(case, method, seed, command, options.out)
            _say(row)
            rows.append(row)
            if oriented := row.get("written", {}).get("oriented"):
                name, words = f"{method} oriented+poisson9", poisson(Path(oriented), "--depth", "9", "--normals")
                rows.append(measured(case, name, seed, words, options.out))
        _picture(case, rows, options.out)
    _write_tables(rows, options.out)
    return rows


def _say(row: Row) -> None:
    shown = ("case", "method", "seed", "d_C", "d_H", "seconds", "failed")
    print("  ".join(f"{key} {cell(row[key])}" for key in shown if key in row), flush=True)


def find_cases(data: Path, out: Path, clouds: str) -> Iterator[Case]:
    """The cases of a folder, by name; clouds of meshes are made under ``out/clouds``, the same every time.

    Results that lie within the folder are no cases. Files of one name in several folders are told apart by these.

    Raises:
        UserError: two files would be one case.
    """
    within = out.resolve() == data.resolve() or data.resolve() in out.resolve().parents
    results = {out.resolve() / name for name in ("clouds", "results", "exps")} if within else set()
    files = [
        path for path in sorted(data.rglob("*"))
        if path.suffix.lower() in CLOUD_SUFFIXES and not path.stem.endswith("_gt")
        and results.isdisjoint(path.resolve().parents)
    ]  # fmt: skip
    stems = Counter(path.stem for path in files)
    named: dict[str, Path] = {}
    for path in files:
        name = path.stem if stems[path.stem] == 1 else "_".join(path.relative_to(data).with_suffix("").parts)
        if name in named:
            raise UserError(f"{path}: has the name of {named[name]}, and so would have its results; rename one")
        named[name] = path
    for stem, path in named.items():
        names = path.stem, path.stem.partition("-")[0]
        truths = [path.with_name(f"{name}_gt{suffix}") for name in names for suffix in SUFFIXES]
        truth = next((candidate for candidate in truths if candidate.is_file()), None)
        if truth is not None:
            yield Case(stem, path, truth)
        elif path.suffix.lower() in SUFFIXES:
            try:
                surface = read_surface(path)
            except UserError as error:
                yield Case(stem, path, path, str(error))
                continue
            for count, noise, cut in _clouds(clouds) if len(surface.cells) else []:
                name = f"{stem}-{count}-{noise:g}" + (f"-{cut:g}" if cut else "")
                yield Case(name, _sampled(surface, count, noise, cut, out / "clouds" / f"{name}.npz"), path)


def _clouds(text: str) -> list[tuple[int, float, float]]:
    """The (points, noise, cut) of "20000:0,5000:0.005:0.33"."""
    entries = [entry.split(":") for entry in text.split(",")]
    try:
        whole = [entry if len(entry) == 3 else [*entry, "0"] for entry in entries]
        clouds = [(int(count), float(noise), float(cut)) for count, noise, cut in whole]
        if all(count >= 10 and 0 <= noise < np.inf and 0 <= cut < 1 for count, noise, cut in clouds):
            return clouds
    except (ValueError, TypeError):
        pass
    raise UserError(
        f"--clouds {text!r}: expected points:noise or points:noise:cut, at least 10 points, noise >= 0, 0 <= cut < 1, "
        "such as 20000:0,5000:0.005:0.33"
    )


def commands(case: Case, options: argparse.Namespace) -> Iterator[tuple[str, int, list[str]]]:
    """Method, seed and command of everything that is run on a case; {mesh} stands for its result.

    Raises:
        UserError: the case's file cannot be read.
    """
    if case.failed:
        raise UserError(case.failed)
    ours = [sys.executable, str(HERE / "run.py"), "--input", str(case.cloud), "--gpu", options.gpu,
            "--exps-dir", str(options.out / "exps")]  # fmt: skip
    length = "standard"
    if options.minutes is not None:
        length = f"{options.minutes:g}"
        ours += ["--minutes", length]
    ours += [word for text in options.set for word in ("--set", text)]
    kinds: list[tuple[str, list[str], tuple[int, ...]]] = [("", [], (8, 9))]
    if load_point_cloud(case.cloud, normals=False).normals is not None:
        kinds.append(("+normals", ["--normals"], (9, 10)))
    for suffix, flags, depths in kinds:
        for seed in options.seeds:
            method = f"ours{suffix}"
            expname = f"{case.name}-{method}-{length}-{seed}"
            given = ["--set", "network.has_normals=true"] if flags else []
            yield method, seed, [*ours, "--seed", str(seed), "--expname", expname, *given]
        for depth in depths:
            yield f"poisson{depth}{suffix}", 0, poisson(case.cloud, "--depth", str(depth), *flags)
    yield "ipsr9", 0, poisson(case.cloud, "--depth", "9", "--iterated")


def poisson(cloud: Path, *flags: str) -> list[str]:
    """The command of a peer on a cloud."""
    return [sys.executable, str(PEER), str(cloud), "{mesh}", *flags]


def measured(case: Case, method: str, seed: int, command: list[str], out: Path) -> Row:
    """The row of one command: run and measured, each unless it has been."""
    folder = out / "results" / case.name
    own = [] if str(PEER) in command else [find_configuration("setup.conf").resolve()]
    run = run_once(folder, f"{method}-{seed}", command, [case.cloud, *own])
    row = {"case": case.name, "method": method, "seed": seed, **run}
    if "failed" not in run:
        mesh = Path(run["written"]["mesh"])
        name, module = f"{method}-{seed}-measures", Path(__file__).resolve()
        try:
            request = checksums([mesh, case.target, case.cloud])
            row |= remembered(folder, name, request, lambda stem: _measures(case, mesh), module)
        except UserError as error:
            row["failed"] = str(error)
    return row


def _measures(case: Case, mesh: Path) -> Row:
    surface = read_surface(mesh)
    row = compare_surfaces(surface, read_target(case.target, surface.dimension, needs_cells=True))
    row |= {key.removeprefix("reconstruction_"): value for key, value in row.items() if "reconstruction_" in key}
    cloud = compare_to_points(surface, load_point_cloud(case.cloud, normals=False).points, 1000)
    return row | {"cloud_to_surface_max": cloud["cloud_to_surface_max"]}


def _sampled(surface: Surface, count: int, noise: float, cut: float, path: Path) -> Path:
    """A cloud of a surface: uniform, with Gaussian noise of a share of the radius, and its true normals.

    A share ``cut`` of the points is then left out: those farthest along the axis of their widest spread.
    """
    points, cells = sample_surface(surface, count, seed=0)
    radius = float(np.linalg.norm(np.ptp(surface.vertices[np.unique(surface.cells)], axis=0))) / 2
    points = points + noise * radius * np.random.default_rng(1).standard_normal(points.shape)
    kept = _without_an_end(points, cut)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, npz_of(points=points[kept], normals=surface.cell_normals()[cells[kept]]))
    return path


def _without_an_end(points: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.int64]:
    """Indices of points (N, d) but for a share of them, those farthest along their longest principal axis.

    It points to where its largest component is positive.
    """
    centred = points - points.mean(axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    along = centred @ axis * np.sign(axis[np.abs(axis).argmax()])
    return np.sort(np.argsort(along, kind="stable")[: len(points) - round(share * len(points))])


def _picture(case: Case, rows: list[Row], out: Path) -> None:
    """The surfaces of a case side by side, their distance to the true one as colour."""
    meshes = {
        f"{row['method']}-{row['seed']}": read_surface(row["written"]["mesh"])
        for row in rows
        if row["case"] == case.name and "failed" not in row
    }
    if meshes:
        target = read_surface(case.target)
        errors = {name: distance_to_surface(mesh.vertices, target)[0] for name, mesh in meshes.items()}
        render_side_by_side(
            out / f"{case.name}.png", meshes, values=errors, label="distance to the true surface", up=PlotConfig().up
        )


def _write_tables(rows: list[Row], out: Path) -> None:
    """table.csv, a row per run, and table.md, a row per case and method: the median over seeds (and worst)."""
    write_csv(out / "table.csv", ("case", "method", "seed", *COLUMNS, "failed"), rows)
    lines: list[list[object]] = []
    for case in dict.fromkeys(row["case"] for row in rows):
        for method in dict.fromkeys(row["method"] for row in rows if row["case"] == case):
            runs = [row for row in rows if (row["case"], row["method"]) == (case, method)]
            good = [row for row in runs if "failed" not in row]
            cells = [spread(good, column, min if column in BEST_HIGH else max) for column in COLUMNS]
            failed = f" ({len(runs) - len(good)} failed)" if len(good) < len(runs) else ""
            lines.append([case, method, f"{len(runs)}{failed}", *cells])
        for method, distances in PUBLISHED.get(case, {}).items():
            lines.append([case, f"{method}, published", "", *distances, *[""] * (len(COLUMNS) - len(distances))])
    table = markdown(["case", "method", "runs", *COLUMNS], lines)
    write_text(out / "table.md", table)
    print(table, end="")


if __name__ == "__main__":
    sys.exit(main())
