"""docs/SPEED.md: the error against the time that it takes, time and memory against the number of points, the detail of
a dense cloud, and what share of the machine's peak the work has.

    python code/benchmarks/speed.py                                          # all, in about an hour
    python code/benchmarks/speed.py --minutes 0.25,1 --points 10000,100000   # less

Ours runs without normals. Beside it are Screened Poisson, with normals propagated along tangent planes and with the
true ones, and iterated Poisson. What is in --out already is not done again.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from phase_recon.benchmarks.closeup import draw_closeup
from phase_recon.benchmarks.make_clouds import make_clouds
from phase_recon.benchmarks.scanner import sampled
from phase_recon.benchmarks.shapes import SHAPES
from phase_recon.reconstruction.benchmark import Case, commands, measured
from phase_recon.reconstruction.commands import Parser, exit_status, whole_numbers
from phase_recon.reconstruction.provenance import commit, load, machine
from phase_recon.reconstruction.tables import Row, cell, markdown
from phase_recon.report.plots import save_figure
from phase_recon.surface.files import read_surface
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import npz_of, write_text, write_whole
from phase_recon.utils.locations import PACKAGE, ROOT

CLOUDS = (("pipe_flange", "scan"), ("knot", "exact"), ("spider", "noisy"), ("pitted_ball", "dense"))  # error and time
PEERS = {"poisson9": "tangent planes + Poisson, depth 9", "ipsr9": "iterated Poisson, depth 9",
         "poisson10+normals": "true normals + Poisson, depth 10"}  # fmt: skip
OURS = "ours"
GROWING = "pitted_ball"  # the shape that is sampled by more and more points
NOISE = 0.0003  # of these points, a share of the bounding radius
DETAIL = "pitted_ball-dense"  # the cloud whose detail is drawn
PEAKS = ("bench_step.py", "bench_detail.py")  # print the shares of the machine's peak
COST_PEERS = ("poisson9", "poisson10+normals")
SIDE, DPI = 4.2, 110  # inches and dots per inch of a panel of a picture


@dataclass(frozen=True)
class Curve:
    """Some y over some x; one of each is drawn as a mark."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """Curves on the same axes."""

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]


def main() -> int:
    """Do what is missing, then write the page and its pictures; returns the exit status."""
    parser = Parser("[--minutes A,B] [--points N,M] [more flags, see below]", __doc__, script="speed.py")
    parser.add_argument(
        "--minutes", type=numbers, default="0.25,0.5,1,2,4", metavar="A,B", help="times of ours (%(default)s)"
    )
    parser.add_argument(
        "--points", type=partial(whole_numbers, "--points", 100), default="10000,100000,1000000", metavar="N,M",
        help="numbers of points whose cost is measured (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of ours (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("speed"), help="folder of clouds and records (%(default)s)")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the page (docs/)")
    return exit_status(parser, None, command, "stopped; the same command goes on with what is missing")


def numbers(text: str) -> list[float]:
    """The positive numbers in "0.5,1,2".

    Raises:
        argparse.ArgumentTypeError: one is none.
    """
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected minutes above 0, separated by commas, such as 0.5,1,2")
    return found


def command(options: argparse.Namespace) -> None:
    """Measure, and write SPEED.md, error_time.png, cost.png and, where the cloud for it was measured, detail.png.

    Raises:
        UserError: a file cannot be written.
    """
    options.docs.mkdir(parents=True, exist_ok=True)
    timed = [(case, list(error_rows(case, options))) for case in error_cases(options.out)]
    grown = [(case, count, list(cost_rows(case, options))) for case, count in cost_cases(options.out, options.points)]
    draw(options.docs / "error_time.png", [error_panel(case, rows) for case, rows in timed])
    draw(options.docs / "cost.png", cost_panels(grown))
    detail = draw_detail(options.docs / "detail.png", timed)
    peaks = {script: printed(script) for script in PEAKS}
    write_text(options.docs / "SPEED.md", page(options, timed, grown, detail, peaks))
    print(f"page: {options.docs / 'SPEED.md'}")


def error_cases(out: Path) -> list[Case]:
    """The clouds whose error is followed over time."""
    folder = out / "clouds"
    for shape, kind in CLOUDS:
        make_clouds(folder, [SHAPES[shape]], [kind], 0, sensors=False)
    return [Case(f"{s}-{k}", folder / f"{s}-{k}.npz", folder / f"{s}_gt.ply") for s, k in CLOUDS]


def cost_cases(out: Path, counts: Sequence[int]) -> list[tuple[Case, int]]:
    """A shape by more and more points."""
    folder = out / "clouds"
    make_clouds(folder, [SHAPES[GROWING]], ["dense"], 0)
    truth = folder / f"{GROWING}_gt.ply"
    surface, cases = read_surface(truth), []
    for count in counts:
        path = folder / f"{GROWING}-{count}.npz"
        if not path.is_file():
            cloud = sampled(surface, count, NOISE, np.random.default_rng(0))
            write_whole(path, npz_of(points=cloud.points, normals=cloud.normals))
        cases.append((Case(path.stem, path, truth), count))
    return cases


def error_rows(case: Case, options: argparse.Namespace) -> Iterator[Row]:
    """A row for each of ours' times and for each peer."""
    for minutes in options.minutes:
        yield from _rows(case, options, minutes, (OURS,))
    yield from _rows(case, options, None, tuple(PEERS))


def cost_rows(case: Case, options: argparse.Namespace) -> Iterator[Row]:
    """A row for ours as setup.conf has it, and for each peer."""
    yield from _rows(case, options, None, (OURS, *COST_PEERS))


def _rows(case: Case, options: argparse.Namespace, minutes: float | None, methods: Sequence[str]) -> Iterator[Row]:
    asked = argparse.Namespace(minutes=minutes, seeds=[options.seed], gpu="auto", set=[], out=options.out)
    for method, seed, words in commands(case, asked):
        if method in methods:
            row = measured(case, method, seed, words, options.out) | {"minutes": minutes}
            shown = ("case", "method", "minutes", "d_C", "d_H", "seconds", "megabytes", "failed")
            print("  ".join(f"{key} {cell(row[key])}" for key in shown if row.get(key) is not None), flush=True)
            yield row


def error_panel(case: Case, rows: Sequence[Row]) -> Panel:
    """The error of a case over seconds: a curve of ours, and a mark for each peer."""
    names = {OURS: OURS, **PEERS}
    curves = [
        _curve(name, [row for row in rows if row["method"] == method], "seconds", "d_C")
        for method, name in names.items()
    ]
    return Panel(case.name, "seconds", "Chamfer distance", tuple(curves))


def cost_panels(grown: Sequence[tuple[Case, int, Sequence[Row]]]) -> list[Panel]:
    """Seconds, memory and error against the number of points."""
    panels = []
    for key, label in (("seconds", "seconds"), ("megabytes", "peak memory, MB"), ("d_C", "Chamfer distance")):
        curves = []
        for method in (OURS, *COST_PEERS):
            rows = [row | {"points": count} for _, count, of in grown for row in of if row["method"] == method]
            curves.append(_curve(PEERS.get(method, method), rows, "points", key))
        panels.append(Panel(label, "points", label, tuple(curves)))
    return panels


def _curve(label: str, rows: Sequence[Row], x: str, y: str) -> Curve:
    good = [row for row in rows if "failed" not in row]
    return Curve(label, tuple(row[x] for row in good), tuple(row[y] for row in good))


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Write a PNG of panels side by side, with logarithmic axes."""
    figure = Figure(figsize=(SIDE * len(panels), SIDE), dpi=DPI, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for curve in panel.curves:
            axes.plot(curve.x, curve.y, marker="o", label=curve.label)
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y, xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
            axis.set_minor_formatter(NullFormatter())  # else two labels stand on each other
        axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7)
    save_figure(figure, path)


def draw_detail(path: Path, timed: Sequence[tuple[Case, Sequence[Row]]]) -> bool:
    """Draw a part of a dense cloud's surfaces, by ours in its longest time and by the peers; returns whether it is."""
    for case, rows in timed:
        there = {row["method"]: row for row in rows if "written" in row and "failed" not in row}
        if case.name == DETAIL and OURS in there:
            surfaces = {"truth": read_surface(case.target)}
            for method, name in {OURS: OURS, **PEERS}.items():
                if method in there:
                    surfaces[name] = read_surface(there[method]["written"]["mesh"])
            draw_closeup(path, surfaces)
            return True
    return False


def printed(script: str) -> str:
    """What a benchmark prints.

    Raises:
        UserError: it fails.
    """
    command = [sys.executable, str(PACKAGE / "reconstruction" / script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{script}: failed: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def page(
    options: argparse.Namespace,
    timed: Sequence[tuple[Case, Sequence[Row]]],
    grown: Sequence[tuple[Case, int, Sequence[Row]]],
    detail: bool,
    peaks: Mapping[str, str],
) -> str:
    """The Markdown of docs/SPEED.md."""
    minutes, points = (",".join(f"{value:g}" if value < 1e4 else str(int(value)) for value in values)
                       for values in (options.minutes, options.points))  # fmt: skip
    header = ("Chamfer distance", "Hausdorff distance", "Euler characteristic", "true", "seconds", "MB")
    keys = ("d_C", "d_H", "euler_characteristic", "target_euler_characteristic", "seconds", "megabytes")

    def line(row: Row) -> list[object]:
        name = str(PEERS.get(row["method"], row["method"]))
        name += "" if row["minutes"] is None else f", {row['minutes']:g} min"
        failed = ["failed", *[""] * (len(keys) - 1)]
        return [name, *(failed if "failed" in row else [cell(row[key]) for key in keys])]

    errors = [[case.name, *line(row)] for case, rows in timed for row in rows]
    costs = [[count, *line(row)] for _, count, rows in grown for row in rows]
    shown = f"""## Detail

![The same part of the surfaces of {DETAIL}](detail.png)

The part of the true surface of {DETAIL} where its normals differ most; ours in the longest of the times above.

""" if detail else ""  # fmt: skip
    shares = "\n".join(
        f"    python code/reconstruction/{script}\n\n```\n{text}\n```\n" for script, text in peaks.items()
    )
    return f"""# Speed

    python code/benchmarks/speed.py --minutes {minutes} --points {points} --seed {options.seed}

made this page and its pictures on {datetime.now(UTC):%Y-%m-%d} from commit {commit()}, on
{machine()}{load()}. Distances are shares of the bounding radius,
Chamfer (L1, symmetric mean) and Hausdorff; ours has no normals. Seconds are wall clock of the whole command. The clouds
are those of [make_clouds.py](../code/benchmarks/make_clouds.py).

## Error against time

![Chamfer distance against seconds, a panel for each cloud](error_time.png)

{markdown(["cloud", "method", *header], errors)}
## Cost against the number of points

{GROWING} by uniform points with noise {NOISE:g}; ours as long as setup.conf says.

![Seconds, memory and Chamfer distance against the number of points](cost.png)

{markdown(["points", "method", *header], costs)}
{shown}## Shares of the machine's peak

Matrix products bound a training step, and reads of memory bound the solver of the detail. A percentage of bench_step.py
is the step's rate of operations over that of one plain product in single precision; in bfloat16 it can exceed 100 %.

{shares}"""


if __name__ == "__main__":
    sys.exit(main())
