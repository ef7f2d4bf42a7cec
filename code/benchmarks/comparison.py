"""docs/COMPARISON.md: all losses side by side, on four clouds and two curves, at two lengths.

    python code/benchmarks/comparison.py                                # all; `make comparison` is the same
    python code/benchmarks/comparison.py --clouds gear-noisy --steps 100

Each table is that of compare.py, whose command stands above it: all losses have the coarse surface at the start, the
network and the optimiser of setup.conf, and one batch, and only the loss differs. What is in --out already is not done
again, so the command can be stopped and started again; the page is written anew after every table.
"""

import argparse
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

from phase_recon.benchmarks.make_clouds import make_clouds
from phase_recon.benchmarks.scanner import KINDS
from phase_recon.benchmarks.shapes import SHAPES
from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.reconstruction.commands import Parser, chosen, common_flag, exit_status, whole_numbers
from phase_recon.reconstruction.compare import BAND, BOX, measure_all, measured, methods, table_of
from phase_recon.reconstruction.provenance import commit, load, machine
from phase_recon.reconstruction.tables import Row, cell, markdown
from phase_recon.surface.files import read_surface
from phase_recon.utils.files import write_text
from phase_recon.utils.locations import ROOT

# creases, thin and networked, hollow and scanned, fine: with much noise, with little and with none; and two curves
CLOUDS = ("gear-noisy", "stool-noisy", "mug-scan", "pitted_ball-exact", "blades_2d-noisy", "nested_2d-exact")
LOSSES = ("phase", "igr", "siren", "digs", "steik", "hotspot", "viscoreg", "nsh", "sal", "sald")  # all without normals
# of every run; without checkpoints there is no course of the error, whose surfaces take longer than the run
KEYS = ("train.detail=false", "train.checkpoint_frequency=0", "plot.resolution=192", "plot.save_html=false")
WITH_DETAIL = "phase, with detail"  # PHASE with the correction that no other loss has
BEST = {
    "d_C": "smallest Chamfer distance (d_C)",
    "d_H": "smallest Hausdorff distance (d_H)",
    "eikonal_box": "smallest eikonal error in the box",
}


def main(arguments: list[str] | None = None) -> int:
    """Do what is missing, then write the page; returns the exit status."""
    parser = Parser("[--clouds NAMES] [--steps A,B] [more flags, see below]", __doc__, script="comparison.py")
    parser.add_argument("--clouds", default="", metavar="NAMES", help=f"some of {', '.join(CLOUDS)} (all)")
    parser.add_argument("--losses", default="", metavar="NAMES", help=f"some of {', '.join(LOSSES)} (all)")
    parser.add_argument(
        "--steps", metavar="A,B", type=partial(whole_numbers, "--steps", 1), default="300,1200",
        help="lengths of the runs (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--batch", metavar="N", type=int, default=1024, help="points of the cloud, and in Ω, a step (%(default)s)"
    )
    common_flag(parser, "seed", default=0, help="of every run (0)")
    common_flag(parser, "gpu")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder of all results (%(default)s)")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the page (docs/)")
    parser.add_version_and_debug()
    return exit_status(parser, arguments, command, "stopped; the same command goes on with what is missing")


def command(options: argparse.Namespace) -> int:
    """Make the clouds and measure, table by table; the page is written after each. Returns 1 if a run failed.

    Raises:
        UserError: the options are wrong, or a file cannot be written.
    """
    clouds = chosen("--clouds", options.clouds, list(CLOUDS))
    losses = chosen("--losses", options.losses, list(LOSSES))
    options.docs.mkdir(parents=True, exist_ok=True)
    tables: dict[tuple[str, int], list[Row]] = {}
    for steps in options.steps:
        for name in clouds:
            tables[name, steps] = rows_of(name, steps, losses, options)
            write_text(options.docs / "COMPARISON.md", page_of(tables, losses, options))
    print(f"page: {options.docs / 'COMPARISON.md'}")
    return int(any("failed" in row for rows in tables.values() for row in rows))


def rows_of(name: str, steps: int, losses: list[str], options: argparse.Namespace) -> list[Row]:
    """The rows of compare.py for a cloud and a length, and that of PHASE with detail."""
    shape, _, kind = name.partition("-")
    folder = options.out / "clouds"
    path = folder / f"{name}.npz"
    if not path.is_file():
        make_clouds(folder, [SHAPES[shape]], [kind], 0, sensors=False)
    asked = argparse.Namespace(
        losses=",".join(losses), sweep=None, same_network=True, normals=False, steps=steps, seed=options.seed,
        gpu=options.gpu, target=folder / f"{shape}_gt.ply", set=_keys(options),
    )  # fmt: skip
    cloud, target = load_point_cloud(path, normals=False), read_surface(asked.target)
    place = (options.out / f"{name}-{steps}").absolute()
    rows = measure_all(asked, path, cloud, target, place)
    if "phase" in losses:
        detailed = argparse.Namespace(**{**vars(asked), "losses": "phase", "set": [*asked.set, "train.detail=true"]})
        method = next(methods(detailed, path.absolute(), cloud, place / "detail"))
        row = measured(method, path, cloud, asked.target, target, place / "detail" / "records")
        rows.insert(1, {"method": WITH_DETAIL, **row})
    return rows


def _keys(options: argparse.Namespace) -> list[str]:
    return [*KEYS, f"train.points_batch={options.batch}", f"train.pts_in_omega={options.batch}"]


def page_of(tables: dict[tuple[str, int], list[Row]], losses: list[str], options: argparse.Namespace) -> str:
    """The page, in Markdown."""
    parts = [_head(options, losses, len(tables)), _summary(tables)]
    for (name, steps), rows in tables.items():
        shape, _, kind = name.partition("-")
        sets = "".join(f" --set {key}" for key in _keys(options))
        parts.append(
            f"## {name}, {steps} steps\n\n"
            f"Shape: `{shape}` ({SHAPES[shape].kind}; for {SHAPES[shape].split}). "
            f"Cloud: `{kind}`, {KINDS[kind].words(SHAPES[shape].dimension)}.\n\n"
            f"    python code/reconstruction/compare.py {name}.npz --target {shape}_gt.ply "
            f"--losses {','.join(losses)} --same-network --steps {steps} --seed {options.seed}{sets}\n\n"
            + markdown(*_split(table_of(rows)[1]))
        )
    return "\n".join(parts)


def _split(table: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    return table[0], table[1:]


def _head(options: argparse.Namespace, losses: list[str], done: int) -> str:
    """What the page is, of which commit, on what machine, and what its columns are."""
    clouds = chosen("--clouds", options.clouds, list(CLOUDS))
    count = len(clouds) * len(options.steps)
    some = f"--clouds {','.join(clouds)} " if clouds != list(CLOUDS) else ""
    some += f"--losses {','.join(losses)} " if losses != list(LOSSES) else ""
    missing = f" **{count - done} of {count} tables are still missing;** the same command makes them." if (
        done < count) else ""  # fmt: skip
    shapes, kinds = (",".join(dict.fromkeys(name.split("-")[part] for name in clouds)) for part in (0, 1))
    return f"""# Losses side by side

    python code/benchmarks/comparison.py {some}--steps {",".join(map(str, options.steps))} --batch {options.batch} \
--seed {options.seed}

made this page on {datetime.now(UTC):%Y-%m-%d} of commit {commit()}, on {machine()}{load()}.{missing}

All losses share the coarse surface at the start, the network (4 × 128 with Fourier features), the optimiser and the
batch of {options.batch} points; only the loss differs, without normals. The start decides much of the result at these
lengths, so this tells how the losses go on from a good start, and not how they would do from a sphere. One seed:
differences of a few per cent are chance.

d_C is the Chamfer distance (L1, the mean of the two directed means), d_H the Hausdorff distance, both in the cloud's
unit, in which the shapes have bounding radius 1; meshes have 192 cells along the longest side. The eikonal error is the
mean of | ‖∇w‖ − 1 |, in the cloud's box × {BOX:g}, and within {BAND:g} of the bounding radius from the points. Seconds
are of the whole command, beside other work: those of equal runs may differ threefold. The clouds are made by
[make_clouds.py](../code/benchmarks/make_clouds.py). "{WITH_DETAIL}" is PHASE with the correction that a run of ours
solves for after its last step, which no other loss has: its command is the same with `--losses phase` and without
`train.detail=false`. Where both have equal figures, the correction was not added. Screened Poisson's normals come from
tangent planes. Occupancy is missing, as it needs normals. Rules and constants may be chosen on shapes for development;
those for checking are only measured. A mesh without a genus is open: it leaves Ω, or the points show so little of it
that the rest is cut off, as by every run (`plot.trim = auto`). The commands run where this one puts the clouds:

    python code/benchmarks/make_clouds.py . --shapes {shapes} --kinds {kinds} --no-sensors
"""


def _summary(tables: dict[tuple[str, int], list[Row]]) -> str:
    """For each table the best loss by each measure, and where PHASE stands."""
    lines: list[list[object]] = []
    for (name, steps), rows in tables.items():
        found = [row for row in rows if "failed" not in row and row["method"] not in (WITH_DETAIL, "Screened Poisson")]
        line: list[object] = [name, steps]
        for key in BEST:
            ranked = sorted((row for row in found if key in row), key=lambda row: float(row[key]))
            names = [row["method"] for row in ranked]
            line.append(f"{names[0]}, {cell(ranked[0][key])}" if ranked else "")
            if "phase" in names:
                own = next(row for row in ranked if row["method"] == "phase")
                line.append(f"{names.index('phase') + 1} of {len(names)}, {cell(own[key])}")
            else:
                line.append("failed" if any(row["method"] == "phase" for row in rows) else "")
        failed = [row["method"] for row in rows if "failed" in row]
        lines.append([*line, ", ".join(failed)])
    header = ["cloud", "steps", *(word for title in BEST.values() for word in (title, "PHASE")), "failed"]
    return "## In short\n\n" + markdown(header, lines)


if __name__ == "__main__":
    sys.exit(main())
