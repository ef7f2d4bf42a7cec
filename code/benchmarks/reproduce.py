"""docs/REPRODUCTION.md: the published method beside its published figures, its sensitivity, and the way to ours.

    python code/benchmarks/reproduce.py DATA              # as published: hours on a GPU; or make reproduce DATA=...
    python code/benchmarks/reproduce.py DATA --quick      # a look on a CPU: a small network, few steps; goes to --out
    python code/benchmarks/reproduce.py DATA --network 4x256 --steps 2000 --batch 2048 --tables published,grid

DATA is a folder of scans with their true surfaces, as benchmark.py takes it: name.ply beside name_gt.off. There are
three tables. ``published``: the method of code/confs/published.conf, with its Fourier features and without. ``grid``:
values that the publication leaves open, one at a time about those of published.conf. ``path``: from published.conf to
setup.conf, where each row adds a part to the row above. Every run is a run.py of its own.

What is in --out already is not done again, so the command can be stopped and started again; the page and
<out>/reproduction.json are written anew after every run.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

from phase_recon.reconstruction.benchmark import HERE, PUBLISHED, Case, find_cases, measured
from phase_recon.reconstruction.commands import Parser, chosen, common_flag, exit_status, whole_numbers
from phase_recon.reconstruction.provenance import commit, machine
from phase_recon.reconstruction.tables import Row, cell, failure, markdown, middle, spread
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import differences, load_config
from phase_recon.utils.distributed import choose_device
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import write_text, write_whole
from phase_recon.utils.locations import CONFIGURATIONS, ROOT

TABLES = ("published", "grid", "path")
STEPS, NETWORK, BATCH = 10_000, "8x512", 16_384  # of published.conf
QUICK_STEPS, QUICK_NETWORK, QUICK_BATCH = 1_000, "4x256", 1_024  # minutes a run on two cores
RESOLUTION, QUICK_RESOLUTION = 512, 256  # cells along a side of the meshes that are measured
FEATURES = "with Fourier features"
DISTANCES = ("d_C", "d_H")
# values about those of published.conf: what other implementations use spans them
GRID: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "δ": ("train.ball_sigma", (0.0, 0.01, 0.05)),
    "λ": ("network.loss.lambda", (0.1, 1.0, 100.0)),
    "μ": ("network.loss.mu", (0.0, 0.1, 10.0)),
}
BATCHES = (0.25, 2.0)  # × the batch
RATES = (0.2, 10.0)  # × the learning rate; 10 is IGR's
# the parts of ours, in the order in which they are added; the values are those of setup.conf
PATH: Mapping[str, tuple[str, ...]] = {
    "w in place of u": ("network.output",),
    "a learning rate that falls along a cosine": ("train.learning_rate_schedule",),
    "Muon": ("train.optimizer",),
    "points in Ω near the data": ("network.sampler.sampler_type",),
    "no balls, δ = 0": ("train.ball_sigma",),
    "a start from winding numbers": ("train.start", "network.inputs.radius_init"),
    "outliers removed, points denoised": ("train.drop_outliers", "train.smooth_points"),
    "normals estimated": ("train.estimate_normals",),
    "points drawn by area": ("train.weigh_by_area",),
    "points on creases": ("train.find_creases",),
    "holes filled": ("train.fill_openings",),
    "hollows kept open": ("train.keep_hollows",),
    "narrow holes eased and held": ("train.ease_gaps", "train.hold_gaps"),
    "λ, μ and frequencies by the cloud": ("network.loss.lambda", "network.loss.mu", "network.inputs.k"),
    "detail solved for": ("train.detail",),
    "our network": ("network.inputs.dims", "network.inputs.skip_in"),
    "our batch": ("train.points_batch", "train.pts_in_omega"),
    "our number of steps": ("train.nepoch",),
}
LETTERS = str.maketrans({"δ": "delta", "λ": "lambda", "μ": "mu"})  # in names of folders


@dataclass(frozen=True)
class Setting:
    """A row: the keys in which it differs from published.conf at the size that is asked for."""

    table: str
    name: str
    keys: Mapping[str, Any] = field(default_factory=dict)


START = Setting("published", FEATURES)  # the centre of the grid, and the beginning of the path


def main(arguments: list[str] | None = None) -> int:
    """Do what is missing, write the page and the figures; returns the exit status."""
    parser = Parser("DATA [--quick] [more flags, see below]", __doc__, script="reproduce.py")
    parser.add_argument("data", metavar="DATA", type=Path, help="folder of scans with their true surfaces")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_NETWORK}, {QUICK_STEPS} steps, batch {QUICK_BATCH}"
    )
    parser.add_argument("--network", metavar="LxW", help=f"hidden layers x their width ({NETWORK})")
    common_flag(parser, "steps", help=f"of every run but the last ({STEPS})")
    parser.add_argument("--batch", metavar="N", type=int, help=f"points of the cloud, and in Ω, a step ({BATCH})")
    parser.add_argument("--resolution", metavar="N", type=int, help=f"of the meshes ({RESOLUTION})")
    parser.add_argument("--tables", default="", metavar="A,B", help=f"some of {', '.join(TABLES)} (all)")
    parser.add_argument("--only", metavar="A,B", default="", help="names of scans, or their beginnings")
    parser.add_argument(
        "--seeds", "--seed", metavar="A,B", type=partial(whole_numbers, "--seeds", 0), default="0",
        help="seeds of every run (%(default)s)",
    )
    common_flag(parser, "gpu")
    parser.add_argument("--out", type=Path, default=Path("reproduction"), help="folder of all results (%(default)s)")
    parser.add_argument("--docs", type=Path, help="folder of the page (docs/; of --quick that of --out)")
    parser.add_version_and_debug()
    return exit_status(parser, arguments, reproduce, "stopped; the same command goes on with what is missing")


def reproduce(options: argparse.Namespace) -> int:
    """Everything, in its order: a table after the other, and in each all scans of a row before the next row.

    Returns 1 if a run failed.

    Raises:
        UserError: the options are wrong, the folder holds nothing to do, or a file cannot be written.
    """
    size = (QUICK_STEPS, QUICK_NETWORK, QUICK_BATCH, QUICK_RESOLUTION) if options.quick else (
        STEPS, NETWORK, BATCH, RESOLUTION)  # fmt: skip
    for key, value in zip(("steps", "network", "batch", "resolution"), size, strict=True):
        if getattr(options, key) is None:
            setattr(options, key, value)
    asked = chosen("--tables", options.tables, list(TABLES))
    names = tuple(name for name in options.only.split(",") if name)
    cases = [case for case in find_cases(options.data, options.out, "20000:0") if case.name.startswith(names or "")]
    if not cases:
        raise UserError(f"{options.data}: no scan with its _gt mesh and no mesh to sample (with this --only)")
    device = choose_device(options.gpu)[1]
    docs = options.docs or (options.out if options.quick else ROOT / "docs")
    docs.mkdir(parents=True, exist_ok=True)
    figures = options.out / "reproduction.json"
    before = {_identity(row): row for row in _read(figures)}
    rows: list[Row] = []
    wanted = [setting for setting in settings(options) if setting.table in asked or setting == START]
    for setting in wanted:
        for case in cases:
            for seed in options.seeds:
                row = run(setting, case, seed, options)
                made = {"commit": commit(), "machine": f"{machine()}; {device}"}
                known = before.get(_identity(row), row)
                rows.append(row | {key: known.get(key, value) for key, value in made.items()})
                shown = ("table", "setting", "scan", "seed", "d_C", "d_H", "seconds", "failed")
                print("  ".join(f"{key} {cell(row[key])}" for key in shown if key in row), flush=True)
                done = {_identity(row) for row in rows}
                kept = [*rows, *(row for identity, row in before.items() if identity not in done)]
                write_whole(figures, (json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode())
                page = page_of(rows, wanted, [case.name for case in cases], options)
                write_text(docs / "REPRODUCTION.md", page)
    print(f"page: {docs / 'REPRODUCTION.md'}\nfigures: {figures}")
    return int(any("failed" in row for row in rows))


def settings(options: argparse.Namespace) -> Iterator[Setting]:
    """All rows of all tables, in their order."""
    yield START
    yield Setting("published", "without", {"network.inputs.use_FFM": False})
    for name, (key, values) in GRID.items():
        for value in values:
            yield Setting("grid", f"{name} = {value:g}", {key: value})
    (rate,) = published(options).to_dict()["train"]["learning_rate_schedule"]
    for factor in RATES:
        initial = factor * rate["Initial"]
        schedule = [{**rate, "Initial": initial}]
        yield Setting("grid", f"learning rate {initial:g}", {"train.learning_rate_schedule": schedule})
    for factor in BATCHES:
        count = round(factor * options.batch)
        yield Setting("grid", f"batch {count}", {"train.points_batch": count, "train.pts_in_omega": count})
    ours = differences(published(options), load_config(ROOT / "setup.conf"))
    keys: dict[str, Any] = {}
    for name, part in PATH.items():
        keys = keys | {key: ours[key] for key in part if key in ours}
        yield Setting("path", name, keys)


def published(options: argparse.Namespace) -> Config:
    """published.conf at the size that is asked for.

    Raises:
        UserError: the size is none.
    """
    return load_config(CONFIGURATIONS / "published.conf", [f"{key}={json.dumps(value)}" for key, value in
                                                           size_keys(options).items()])  # fmt: skip


def size_keys(options: argparse.Namespace) -> dict[str, Any]:
    """The keys of --network, --steps and --batch.

    As in published.conf, the skip goes into the middle layer, and the learning rate has five levels in a run.
    """
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", options.network)
    if found is None:
        raise UserError(f"--network {options.network!r}: expected layers x width, such as {NETWORK}")
    layers, width = map(int, found.groups())
    (rate,) = load_config(CONFIGURATIONS / "published.conf").to_dict()["train"]["learning_rate_schedule"]
    return {
        "network.inputs.dims": [width] * layers,
        "network.inputs.skip_in": [layers // 2] if layers > 1 else [],
        "train.nepoch": options.steps,
        "train.learning_rate_schedule": [{**rate, "Interval": max(1, options.steps * rate["Interval"] // STEPS)}],
        "train.points_batch": options.batch,
        "train.pts_in_omega": options.batch,
    }


def run(setting: Setting, case: Case, seed: int, options: argparse.Namespace) -> Row:
    """The row of one run: done and measured, each unless it has been."""
    keys = size_keys(options) | dict(setting.keys)
    keys |= {"train.mend": False, "train.plot_frequency": 0, "plot.save_html": False, "plot.allow_open": True}
    keys |= {"plot.resolution": options.resolution}
    name = re.sub(r"[^\w.=-]+", "_", f"{setting.table}-{setting.name}".translate(LETTERS), flags=re.ASCII)
    command = [sys.executable, str(HERE / "run.py"), "--input", str(case.cloud), "--conf",
               str(CONFIGURATIONS / "published.conf"), "--seed", str(seed), "--gpu", options.gpu,
               "--exps-dir", str(options.out / "exps"), "--expname", f"{case.name}-{name}-{seed}"]  # fmt: skip
    command += [word for key, value in keys.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    row = measured(case, name, seed, command, options.out)
    row |= {"table": setting.table, "setting": setting.name, "scan": case.name, "steps": keys["train.nepoch"]}
    return row | {"keys": dict(setting.keys), "size": size_keys(options)}


def _identity(row: Row) -> str:
    """What tells a run from others: its setting at its size, and the mesh that it left."""
    parts = [row.get(key) for key in ("table", "setting", "scan", "seed", "size", "written", "seconds")]
    return json.dumps(parts, sort_keys=True)


def _read(path: Path) -> list[Row]:
    """The rows that an earlier command left; none if there are none."""
    try:
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        return rows
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as the figures of earlier runs ({error}); move it away") from None


def page_of(rows: list[Row], wanted: list[Setting], scans: list[str], options: argparse.Namespace) -> str:
    """The page, in Markdown."""
    parts = [_head(rows, len(wanted) * len(scans) * len(options.seeds), options)]
    of = {table: [setting for setting in wanted if setting.table == table] for table in TABLES}
    if of["published"]:
        parts += ["## Beside the published figures\n", _published_table(rows, of["published"], scans)]
    if of["grid"]:
        parts += ["## What the publication leaves open\n", _grid_table(rows, of["grid"], scans, published(options))]
    if of["path"]:
        parts += ["## From the published method to ours\n", _path_table(rows, of["path"], scans)]
    return "\n".join(parts)


def _head(rows: list[Row], count: int, options: argparse.Namespace) -> str:
    """What the page is, how it was made, of which commits and on which machines."""
    flags = f" --network {options.network} --steps {options.steps} --batch {options.batch}"
    flags += f" --resolution {options.resolution} --seeds {','.join(map(str, options.seeds))}"
    flags += f" --tables {options.tables}" if options.tables else ""
    flags += f" --only {options.only}" if options.only else ""
    text = "**These are runs of the published size.**"
    if (options.network, options.steps, options.batch) != (NETWORK, STEPS, BATCH):
        text = (
            f"**This is not the published size**, which is {NETWORK}, {STEPS} steps of {BATCH} points and a GPU:\n"
            f"the network here is {options.network}, with {options.steps} steps of {options.batch} points. So the "
            "figures say what each part does at\nthis size, and not whether the published figures can be reached."
        )
    made = dict.fromkeys((row["commit"], row["machine"]) for row in rows)
    of = "; ".join(f"commit {name} on {where}" for name, where in made)
    missing = f" **{count - len(rows)} of {count} runs are still missing;** the same command does them." if (
        len(rows) < count) else ""  # fmt: skip
    return f"""# The published method, reproduced

    python code/benchmarks/reproduce.py DATA{flags}

made this page, last on {datetime.now(UTC):%Y-%m-%d}: {of}.{missing}

{text}

The method is that of [published.conf](../code/confs/published.conf): u, uniform points in Ω, Adam, no normals. Meshes
have {options.resolution} cells along the longest side of Ω. d_C is the Chamfer distance (L1, the mean of both directed
means), d_H the Hausdorff distance, in the scan's unit; of several seeds the median, and the worst. No run recovers from
a failure (`train.mend = false`).
"""


def _published_table(rows: list[Row], wanted: list[Setting], scans: list[str]) -> str:
    lines: list[list[object]] = []
    for scan in scans:
        for name, distances in PUBLISHED.get(scan, {}).items():
            if name.startswith("PHASE"):
                lines.append([scan, f"{name}, published", *distances])
        for setting in wanted:
            good = _good(rows, setting, scan)
            lines.append([scan, setting.name, *_cells(rows, setting, scan), *(
                [spread(good, key) for key in ("components", "euler_characteristic", "cloud_to_surface_max", "seconds")]
                if good else [])])  # fmt: skip
    header = ["scan", "row", "d_C", "d_H", "components", "Euler characteristic", "points to surface, max", "seconds"]
    return markdown(header, (line + [""] * (len(header) - len(line)) for line in lines))


def _grid_table(rows: list[Row], wanted: list[Setting], scans: list[str], centre: Config) -> str:
    """The rows of the grid over their centre; and which row is nearest to the published figures."""
    lines = []
    for setting in (START, *wanted):
        name = "the centre" if setting == START else setting.name
        lines.append([name, *(word for scan in scans for word in _cells(rows, setting, scan, START))])
    header = ["value", *(f"{scan}, {distance}" for scan in scans for distance in DISTANCES)]
    loss = centre.network.loss
    text = (
        f"The centre is the row {FEATURES}: δ = {centre.train.ball_sigma:g}, λ = {loss['lambda']:g}, "
        f"μ = {loss['mu']:g}, learning rate {centre.train.learning_rate_schedule[0].Initial:g}, batch "
        f"{centre.train.points_batch}. The other rows change one value each; behind each "
        "figure is its ratio to the centre's.\n"
    )
    nearest = [f"{scan}: {near}" for scan in scans if (near := _nearest(rows, (START, *wanted), scan))]
    if nearest:
        text += f"\nNearest to the published PHASE+FF, by both ratios: {'; '.join(nearest)}.\n"
    return f"{text}\n{markdown(header, lines)}"


def _nearest(rows: list[Row], wanted: Sequence[Setting], scan: str) -> str | None:
    """The row whose d_C and d_H are nearest to those published of PHASE+FF, as ratios; None without any of these."""
    goal = PUBLISHED.get(scan, {}).get("PHASE+FF")
    if goal is None:
        return None
    far = {
        setting.name: sum(abs(math.log(middle(good, key) / x)) for key, x in zip(DISTANCES, goal, strict=True))
        for setting in wanted
        if (good := _good(rows, setting, scan))
    }
    return min(far, key=lambda name: far[name]) if far else None


def _path_table(rows: list[Row], wanted: list[Setting], scans: list[str]) -> str:
    """Each row over the row above."""
    lines, above = [["published.conf", "", *(word for scan in scans for word in _cells(rows, START, scan))]], START
    for setting in wanted:
        parts = ", ".join(f"`{key.rpartition('.')[2]}`" for key in PATH[setting.name])
        lines.append([f"+ {setting.name}", parts, *(w for scan in scans for w in _cells(rows, setting, scan, above))])
        above = setting
    header = ["part", "keys", *(f"{scan}, {distance}" for scan in scans for distance in DISTANCES)]
    text = (
        "Each row has all parts above it, too; the last is the setup.conf of that commit. Behind each figure is its "
        "ratio to that of the row above: below 1, the part helped there. The order decides what a part is seen to "
        "add.\n"
    )
    return f"{text}\n{markdown(header, lines)}"


def _good(rows: list[Row], setting: Setting, scan: str) -> list[Row]:
    return [row for row in _of(rows, setting, scan) if "failed" not in row]


def _of(rows: list[Row], setting: Setting, scan: str) -> list[Row]:
    return [row for row in rows if (row["table"], row["setting"], row["scan"]) == (setting.table, setting.name, scan)]


def _cells(rows: list[Row], setting: Setting, scan: str, beside: Setting | None = None) -> list[str]:
    """d_C and d_H of a row on a scan, over those of another row if one is given; why there are none."""
    good, runs = _good(rows, setting, scan), _of(rows, setting, scan)
    if not good:
        return [failure(runs[0]) if runs else "not run yet", ""]
    other = [] if beside is None or beside == setting else _good(rows, beside, scan)
    ratios = [f" ({middle(good, key) / middle(other, key):.2f})" if other else "" for key in DISTANCES]
    return [spread(good, key) + ratio for key, ratio in zip(DISTANCES, ratios, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
