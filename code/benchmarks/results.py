"""docs/RESULTS.md and docs/gallery.png: every table of results by one command, from one commit.

    python code/benchmarks/results.py                         # all, for hours; `make results` is the same
    python code/benchmarks/results.py --quick                 # two shapes, in some minutes, to see it work
    python code/benchmarks/results.py --data ../scans         # and the scans of a folder, as benchmark.py takes them

Each table is one run of benchmark.py, whose command stands above it. What is in --out already is not done again, so the
command can be stopped and started again; the page is written anew after every table. Ours runs as setup.conf says, or
for --minutes. Each cloud takes two to four minutes, its peers and measurements included; about 100 clouds in all.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

import numpy as np
from scipy.spatial import cKDTree

from phase_recon.benchmarks.gallery import draw_gallery
from phase_recon.benchmarks.make_clouds import make_clouds
from phase_recon.benchmarks.scanner import KINDS
from phase_recon.benchmarks.shapes import CHECKING, DEVELOPMENT, SHAPES
from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.geometry.points import Normalisation
from phase_recon.reconstruction.benchmark import find_cases, measure_all
from phase_recon.reconstruction.commands import Parser, chosen, exit_status, whole_numbers
from phase_recon.reconstruction.provenance import commit, load, machine
from phase_recon.reconstruction.tables import Row, cell, failure, markdown, middle, spread
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import write_text
from phase_recon.utils.locations import ROOT

WITHOUT_NORMALS = ("poisson8", "poisson9", "ipsr9")  # the peers that ours is compared with
SHOWN = {"ours": "ours", "ours oriented+poisson9": "our normals + Poisson, depth 9",
         "poisson8": "tangent planes + Poisson, depth 8", "poisson9": "tangent planes + Poisson, depth 9",
         "ipsr9": "iterated Poisson, depth 9", "ours+normals": "ours, with the file's normals",
         "poisson9+normals": "the file's normals + Poisson, depth 9",
         "poisson10+normals": "the file's normals + Poisson, depth 10"}  # fmt: skip
GALLERY = """
![Runs of ours, the worst first, and the best peer on the same cloud: the error as colour, and cross-sections through \
the place of the largest error](gallery.png)
"""
HEADER = ("cloud", "method", "runs", "Chamfer distance", "Hausdorff distance", "ratios", "normals", "components",
          "Euler characteristic", "IoU", "points to surface, max", "seconds", "MB")  # fmt: skip
QUICK = ("plate", "still_life")
# shapes for the tables of many kinds of clouds: thin, creased, hollow, several, networked, fine
FEW = ("bracket", "gear", "mug", "still_life", "stool", "pitted_ball")
SOME = (*FEW, "ball_in_ball", "box_in_box", "pipe_flange", "turbine", "perforated_sheet", "blind_bores", "vase",
        "cloth", "knot", "lizard")  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table of the page: clouds of some kinds of some shapes, or of a folder."""

    name: str
    title: str
    shapes: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    methods: str = ""
    folder: Path | None = None


def tables(data: Path | None, quick: bool) -> list[Table]:
    """The tables, in their order."""
    solid = tuple(shape.name for shape in SHAPES.values() if shape.dimension == 3)
    curves = tuple(shape.name for shape in SHAPES.values() if shape.dimension == 2)
    ours = "ours,poisson8,poisson9,ipsr9,poisson9+normals,poisson10+normals"
    found = [
        Table("scan", "Simulated range scans, without normals", solid, ("scan",), ours),
        Table("noisy", "Noisy clouds, without normals", SOME, ("noisy",), ours),
        Table("exact", "Noise-free clouds, without normals", SOME, ("exact",), ours),
        Table("normals", "With true normals", FEW, ("exact", "noisy", "scan"),
              "ours+normals,poisson9+normals,poisson10+normals"),
        Table("hard", "Few points, thick noise, few views, missing sides, outliers, stereo, holes and cuts", FEW,
              ("coarse", "thick", "scan4", "scan20", "scan_side", "scan_outliers", "stereo", "holes", "cut"), ours),
        Table("curves", "Curves of the plane", curves, ("exact", "noisy"), "ours,ours+normals"),
        Table("samples", "The sample data", folder=ROOT / "data", methods="ours,ours+normals"),
    ]  # fmt: skip
    if quick:
        return [replace(table, shapes=QUICK) for table in found[:2]]
    return found if data is None else [*found, Table("data", f"The folder {data.name}", folder=data)]


def main() -> int:
    """Do what is missing, then write the page and the picture; returns the exit status."""
    parser = Parser("[--quick] [--data FOLDER] [more flags, see below]", __doc__, script="results.py")
    parser.add_argument("--data", type=Path, help="a folder of scans and meshes, measured too")
    parser.add_argument("--quick", action="store_true", help="two shapes")
    parser.add_argument("--tables", default="", metavar="NAMES", help="some of the tables, separated by commas (all)")
    parser.add_argument("--shapes", default="", metavar="NAMES", help="only these of the shapes of every table (all)")
    parser.add_argument("--minutes", type=float, help="time for every run of ours (as long as setup.conf says)")
    parser.add_argument("--seeds", type=partial(whole_numbers, "--seeds", 0), default="0", help="of ours (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of clouds and records (%(default)s)")
    parser.add_argument("--docs", type=Path, help="folder of the page (docs/; of --quick that of --out)")
    return exit_status(parser, None, command, "stopped; the same command goes on with what is missing")


def command(options: argparse.Namespace) -> int:
    """Measure table by table; the page is written after each. Returns 1 if a run failed.

    Raises:
        UserError: the options are wrong, or a file cannot be written.
    """
    if options.quick and options.data is not None:
        raise UserError("--quick: measures two shapes and no --data; give one of them")
    known = tables(options.data, options.quick)
    names = chosen("--tables", options.tables, [table.name for table in known])
    shapes = chosen("--shapes", options.shapes, list(SHAPES))
    docs = options.docs or (options.out if options.quick else ROOT / "docs")
    docs.mkdir(parents=True, exist_ok=True)
    page, picture = docs / "RESULTS.md", docs / "gallery.png"
    picture.unlink(missing_ok=True)  # it is of another page
    parts: list[str] = []
    drawn, failed = list[Row](), False
    for table in (table for table in known if table.name in names):
        if table.folder is None:
            table = replace(table, shapes=tuple(name for name in table.shapes if name in shapes))
            if not table.shapes:
                continue
        text, rows = measured_table(table, options)
        parts.append(text)
        drawn += [row for row in rows if table.name != "curves"]
        failed |= any("failed" in row for row in rows)
        write_text(page, "\n".join([_head(options, bool(drawn)), *([_summary(drawn)] if drawn else []), *parts]))
    if not parts:
        raise UserError(f"--shapes {options.shapes}: none of them is in the tables {', '.join(names)}")
    draw_gallery(picture, drawn, WITHOUT_NORMALS)
    print(f"page: {page}" + (f"\npicture: {picture}" if picture.is_file() else ""))
    return int(failed)


def measured_table(table: Table, options: argparse.Namespace) -> tuple[str, list[Row]]:
    """The Markdown of a table, and the rows of its runs, each with its cloud, target, radius, spacing and split.

    Raises:
        UserError: there is nothing to measure.
    """
    out = options.out / table.name
    folder, before = table.folder, ""
    if folder is None:
        folder = out / "clouds"
        make_clouds(folder, [SHAPES[name] for name in table.shapes], list(table.kinds), 0, sensors=False)
        flags = f"--shapes {','.join(table.shapes)} --kinds {','.join(table.kinds)} --no-sensors"
        before = f"    python code/benchmarks/make_clouds.py {table.name} {flags}\n"
    only = ",".join(f"{name}-" for name in table.shapes)  # other clouds may be there of another command
    asked = argparse.Namespace(
        data=folder, out=out, minutes=options.minutes, seeds=options.seeds, only=only,
        clouds="5000:0.005,20000:0", set=[], gpu="auto", methods=table.methods,
    )  # fmt: skip
    rows = measure_all(asked)
    cases = {case.name: case for case in find_cases(folder, out, asked.clouds)}
    for name in dict.fromkeys(row["case"] for row in rows):
        facts = _facts(cases[name].cloud, name)
        for row in rows:
            if row["case"] == name:
                row |= {"cloud": str(cases[name].cloud), "target": str(cases[name].target), **facts}
    seeds = ",".join(map(str, options.seeds))
    where = table.name if table.folder is None else "data" if table.name == "samples" else "DATA"
    more = f" --methods {table.methods}" if table.methods else ""
    text = [f"## {table.title}\n", before + f"    python code/reconstruction/benchmark.py {where} "
            f"{_length(options)}--seeds {seeds}{more}\n"]  # fmt: skip
    d = SHAPES[table.shapes[0]].dimension if table.shapes else 3  # a table is of surfaces or of curves
    text += [f"`{kind}`: {KINDS[kind].words(d)}." for kind in table.kinds]
    text += ["", _clouds_table(rows), _runs_table(rows)]
    return "\n".join(text), rows


def _facts(cloud: Path, case: str) -> Row:
    """Points, bounding radius, and spacing and noise as shares of it; and which part of the split a shape is in."""
    points = load_point_cloud(cloud, normals=False).points
    radius = Normalisation.fit(points).scale
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]
    shape, _, kind = case.partition("-")
    known = shape in SHAPES and kind in KINDS
    return {
        "points": len(points),
        "radius": radius,
        "spacing": float(np.median(nearest)) / radius,
        "noise": KINDS[kind].noise if known else None,
        "split": SHAPES[shape].split if known else "",
    }


def _clouds_table(rows: list[Row]) -> str:
    """What the clouds are, a row for each."""
    lines = []
    for name in dict.fromkeys(row["case"] for row in rows):
        row = next(row for row in rows if row["case"] == name)
        noise = "not known" if row["noise"] is None else row["noise"]
        lines.append([name, row["split"], row["points"], row["radius"], noise, row["spacing"]])
    header = ["cloud", "split", "points", "bounding radius", "noise / radius", "spacing / radius"]
    return markdown(header, lines)


def _runs_table(rows: list[Row]) -> str:
    """A row for each cloud and method: medians over the seeds, and the worst; what failed, and why."""
    lines: list[list[object]] = []
    for case in dict.fromkeys(row["case"] for row in rows):
        best = best_peer([row for row in rows if row["case"] == case])
        for method in dict.fromkeys(row["method"] for row in rows if row["case"] == case):
            runs = [row for row in rows if (row["case"], row["method"]) == (case, method)]
            good = [row for row in runs if "failed" not in row]
            name = SHOWN.get(method, method)
            if not good:
                lines.append([case, name, failure(runs[0]), *[""] * (len(HEADER) - 3)])
                continue
            ratios = ""
            if method == "ours" and best is not None:
                ratios = ", ".join(f"{middle(good, key) / best[key]:.2f}" for key in ("d_C", "d_H"))
            lines.append(
                [case, name, f"{len(good)}/{len(runs)}", spread(good, "d_C"), spread(good, "d_H"), ratios,
                 spread(good, "normal_consistency", min),
                 ", ".join(cell(int(row["components"])) for row in good),
                 ", ".join(cell(int(row["euler_characteristic"])) for row in good)
                 + f" ({good[0]['target_euler_characteristic']:.0f})",
                 spread(good, "iou", min), spread(good, "cloud_to_surface_max"), spread(good, "seconds"),
                 spread(good, "megabytes")]
            )  # fmt: skip
    return markdown(HEADER, lines)


def best_peer(rows: list[Row]) -> Row | None:
    """The least d_C and d_H of a case's peers without normals, each by itself; None without any."""
    peers = [row for row in rows if row["method"] in WITHOUT_NORMALS and "failed" not in row]
    return {key: min(row[key] for row in peers) for key in ("d_C", "d_H")} if peers else None


def _summary(rows: list[Row]) -> str:
    """Ours against the best of the peers on every cloud, by the split; and every cloud that went wrong, by name."""
    lines: list[list[object]] = []
    wrong: list[list[object]] = []
    for split in (DEVELOPMENT, CHECKING, ""):
        ratios: list[tuple[float, float]] = []
        right, count, failed = 0, 0, 0
        for case in dict.fromkeys(row["case"] for row in rows if row["split"] == split):
            of_case = [row for row in rows if row["case"] == case]
            best = best_peer(of_case)
            for row in (row for row in of_case if row["method"] == "ours"):
                count += 1
                if "failed" in row:
                    failed += 1
                    wrong.append([case, row["seed"], failure(row), "", ""])
                    continue
                topology = row["euler_characteristic"] == row["target_euler_characteristic"]
                right += topology
                pair = None if best is None else (row["d_C"] / best["d_C"], row["d_H"] / best["d_H"])
                ratios += [pair] if pair else []
                if not topology or (pair and max(pair) > 1):
                    euler = f"{row['euler_characteristic']:.0f} ({row['target_euler_characteristic']:.0f})"
                    shown = [f"{x:.2f}" for x in pair] if pair else ["", ""]
                    wrong.append([case, row["seed"], *shown, euler])
        if count:
            table = np.array(ratios, dtype=np.float64).reshape(-1, 2)
            middle = [f"{x:.2f}" for x in np.median(table, axis=0)] if len(table) else ["", ""]
            most = [f"{x:.2f}" for x in table.max(axis=0)] if len(table) else ["", ""]
            losses = int((table[:, 0] > 1).sum())
            group = split or "given scans and samples"
            lines.append([group, count, failed, *middle, *most, losses, f"{right} of {count}"])
    header = ["shapes for", "runs", "failed", "Chamfer, median ratio", "Hausdorff, median ratio",
              "Chamfer, worst ratio", "Hausdorff, worst ratio", "Chamfer worse than a peer's",
              "true Euler characteristic"]  # fmt: skip
    text = ["## In short\n", "Ours without normals over the best of the peers without normals, distance by distance; "
            "below 1, ours is nearer to the truth.\n", markdown(header, lines)]  # fmt: skip
    if wrong:
        text += ["Runs of ours that failed, are farther from the truth than a peer, or have another topology:\n",
                 markdown(["cloud", "seed", "Chamfer ratio", "Hausdorff ratio", "Euler characteristic (true)"], wrong)]
    return "\n".join(text)


def _head(options: argparse.Namespace, drawn: bool) -> str:
    """What the page is, of which commit, on what machine; ``drawn``: whether it has a picture."""
    words = (" --quick" if options.quick else "") + (" --data DATA" if options.data else "")
    words += f" --tables {options.tables}" if options.tables else ""
    words += f" --shapes {options.shapes}" if options.shapes else ""
    time = "as long as setup.conf says" if options.minutes is None else f"{options.minutes:g} minutes, all included"
    what = "this page and its picture" if drawn else "this page"
    return f"""# Results

    python code/benchmarks/results.py{words} {_length(options)}--seeds \
{",".join(map(str, options.seeds))}

made {what} on {datetime.now(UTC):%Y-%m-%d} of commit {commit()}, on {machine()}{load()}. Clouds are
made with seed 0, and without the positions of their sensors: ours would use them, as it does where a file of DATA has
them. "Ours" is this program; it has the seeds above and runs {time}. Every method runs alone, one after the other;
seconds are wall clock of the whole command, MB its peak memory.

**Chamfer distance (L1, symmetric mean):** the mean of the two directed mean distances between the surfaces, each over
1 000 000 uniform points of one and exact to the other. **Hausdorff distance:** the larger of the two greatest such
distances. Both in the unit of the cloud; the shapes made here have bounding radius 1. **Peers:** "tangent planes +
Poisson" is Screened Poisson (Kazhdan & Hoppe 2013) with normals propagated along tangent planes, "iterated Poisson" is
iPSR (Hou et al. 2022), "our normals + Poisson" is Screened Poisson with the normals that ours found; depth is the
octree's. **Spacing** of a cloud: the median distance from a point to its nearest other. DATA holds `name.ply` (or .npz)
with the truth beside it, `name_gt.ply` (or .off, .obj, .stl). **Ratios:** Chamfer and Hausdorff distance of ours over
the least of tangent planes + Poisson and iterated Poisson; Poisson with our normals does not count. **Normals:** mean
|cosine| at nearest points. In brackets after the Euler characteristic is the truth's. On noisy points no method can
reach zero. No constant was chosen on shapes for checking ([shapes.py](../code/benchmarks/shapes.py)), but some faults
that were seen on them were mended ([ORIENTATION](ORIENTATION.md)).
{GALLERY if drawn else ""}"""


def _length(options: argparse.Namespace) -> str:
    """The flag that sets how long ours runs, if any."""
    return "" if options.minutes is None else f"--minutes {options.minutes:g} "


if __name__ == "__main__":
    sys.exit(main())
