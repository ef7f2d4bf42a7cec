"""docs/SPACES.md: shape spaces by PHASE's and by IGR's loss, fitted to bodies that they have not seen.

    python code/shapespace/measure.py                                  # all, in an hour; `make spaces` is the same
    python code/shapespace/measure.py --minutes 1 --train 8 --test 2   # less of it, to see it work

Every space is trained on the same bodies for the same time. Then a code is fitted to every other body: to the whole of
it, and to few noisy points of its front. To the whole a copy of the network is fitted, too. Beside them stand networks
of one shape alone. What is in --out already is not done again, so the command can be stopped and started again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

import numpy as np

from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.reconstruction.benchmark import Case, commands, measured
from phase_recon.reconstruction.commands import Parser, chosen, common_flag, exit_status
from phase_recon.reconstruction.provenance import commit, load, machine
from phase_recon.reconstruction.tables import Row, cell, markdown, middle
from phase_recon.reconstruction.trials import checksums, remembered
from phase_recon.shapespace.bodies import write_bodies
from phase_recon.shapespace.eval import evaluate_clouds
from phase_recon.shapespace.space import Space, load_space
from phase_recon.utils.checkpoint import read_checkpoint
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment, checkpoint_at
from phase_recon.utils.files import npz_of, write_text, write_whole
from phase_recon.utils.locations import PACKAGE, ROOT

LOSSES = ("phase", "igr")
POINTS = 5000  # of a body
PART, PART_NOISE = 300, 0.005  # points of a body's front, and their noise in the family's unit; a body is 1.8 high
RESOLUTION = 256  # cells along the longest side, as a single run has them
REFINING = 150  # steps of a copy of the network
OWN = "ours+normals"  # a network of one shape alone, as benchmark.py calls it
WHOLE, REFINED, PARTIAL = "by its code", "refined", "from a part, by its code"
WAYS = (WHOLE, REFINED, PARTIAL)


def main(arguments: list[str] | None = None) -> int:
    """Do what is missing, then write the page; returns the exit status."""
    parser = Parser("[--minutes M] [--train N] [--test N] [more flags, see below]", __doc__, script="measure.py")
    common_flag(parser, "minutes", default=10.0, help="of every training (%(default)g)")
    parser.add_argument("--train", type=int, default=60, metavar="N", help="bodies to train on (%(default)s)")
    parser.add_argument("--test", type=int, default=20, metavar="N", help="unseen bodies (%(default)s)")
    parser.add_argument(
        "--own", type=int, default=20, metavar="N", help="how many of them get a network of their own (%(default)s)"
    )
    parser.add_argument("--losses", default="", metavar="NAMES", help=f"some of {', '.join(LOSSES)} (all)")
    common_flag(parser, "seed", default=0, help="of the bodies and of every training (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("spaces"), help="folder of all results (%(default)s)")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the page (docs/)")
    parser.add_version_and_debug()
    return exit_status(parser, arguments, command, "stopped; the same command goes on with what is missing")


def command(options: argparse.Namespace) -> int:
    """Make the bodies, train, fit and measure; the page is written after each loss. Returns 1 if a run failed.

    Raises:
        UserError: the options are wrong, a training failed, or a file cannot be written.
    """
    options.out = options.out.absolute()
    losses = chosen("--losses", options.losses, list(LOSSES))
    for flag in ("train", "test", "own"):
        if (count := getattr(options, flag)) < 1:
            raise UserError(f"--{flag}: expected at least 1, got {count}")
    options.docs.mkdir(parents=True, exist_ok=True)
    make_clouds(options)
    rows: list[Row] = []
    for loss in losses:
        rows += space_rows(loss, options)
        write_text(options.docs / "SPACES.md", page_of(rows, [], options))
    own = list(own_rows(options))
    write_text(options.docs / "SPACES.md", page_of(rows, own, options))
    print(f"page: {options.docs / 'SPACES.md'}")
    return int(any("failed" in row for row in (*rows, *own)))


def make_clouds(options: argparse.Namespace) -> None:
    """Write train/, test/ and truth/ of the bodies, and part/: few noisy points of the front of each of the test."""
    folder = bodies_of(options)
    if not (folder / "part").is_dir():
        write_bodies(folder, options.train, options.test, POINTS, 0.0, options.seed)
        (folder / "part").mkdir()
    for index, path in enumerate(clouds_of(folder / "test", options)):
        part = folder / "part" / path.name
        if part.is_file():
            continue
        cloud, random = load_point_cloud(path), np.random.default_rng((options.seed, index))
        assert cloud.normals is not None
        front = random.permutation(np.flatnonzero(cloud.normals[:, 1] < 0))[:PART]  # bodies face -y
        noise = PART_NOISE * random.standard_normal((len(front), 3))
        write_whole(part, npz_of(points=cloud.points[front] + noise, normals=cloud.normals[front]))


def bodies_of(options: argparse.Namespace) -> Path:
    """The folder of so many bodies of a seed."""
    folder: Path = options.out / f"bodies-{options.train}-{options.test}-{options.seed}"
    return folder


def clouds_of(folder: Path, options: argparse.Namespace) -> list[Path]:
    """The clouds of the bodies that are not trained on."""
    return [folder / f"body_{index:04d}.npz" for index in range(options.train, options.train + options.test)]


def space_rows(loss: str, options: argparse.Namespace) -> Iterator[Row]:
    """Train a space, unless it has been; a row for each body and way of fitting."""
    bodies, records = bodies_of(options), options.out / "records"
    words = [
        "train", str(bodies / "train"), "--minutes", f"{options.minutes:g}", "--expname", f"space-{loss}",
        "--exps-dir", str(options.out / "exps"), "--set", f"network.loss.type={loss}",
        "--set", f"train.seed={options.seed}",
    ]  # fmt: skip
    request = {"command": words, "reads": checksums(sorted((bodies / "train").glob("*.npz")))}
    trained = remembered(records, f"space-{loss}", request, lambda stem: _trained(words, loss, options))
    if "failed" in trained:
        raise UserError(trained["failed"])
    path = Path(trained["written"]["checkpoint"])
    space, steps = load_space(path), int(read_checkpoint(path)["epoch"])
    print(f"{loss}: {steps} steps in {options.minutes:g} minutes", flush=True)
    for way in WAYS:
        fitted = _set(space, REFINING if way == REFINED else 0)
        for cloud in clouds_of(bodies / ("part" if way == PARTIAL else "test"), options):
            truth = bodies / "truth" / f"{cloud.stem}.ply"
            place = options.out / "fits" / f"{loss}-{WAYS.index(way)}"
            asked = {"way": way, "reads": checksums([path, cloud, truth]), "resolution": RESOLUTION}
            fit = partial(_fitted, fitted, cloud, truth, place, steps)
            row = remembered(records, f"{loss}-{WAYS.index(way)}-{cloud.stem}", asked, fit)
            row = {"body": cloud.stem, "loss": loss, "steps": steps, "way": way, **row}
            print("  ".join(f"{key} {cell(row[key])}" for key in row if key != "steps"), flush=True)
            yield row


def _trained(words: Sequence[str], loss: str, options: argparse.Namespace) -> Row:
    """Train a space by the command of every day; the file of its last checkpoint."""
    script = PACKAGE / "shapespace" / "run.py"
    if subprocess.run([sys.executable, str(script), *words], check=False).returncode != 0:
        raise UserError(f"the training of {loss} failed, as said above")
    run = Experiment.find(options.out / "exps", f"space-{loss}", "latest")
    return {"written": {"checkpoint": str(checkpoint_at(run.folder))}}


def _set(space: Space, refining: int) -> Space:
    """The space with so many steps of refinement, and the resolution of the measurements."""
    config = space.config
    train = replace(config.train, refine_steps=refining)
    plot = replace(config.plot, resolution=RESOLUTION, save_html=False)
    return replace(space, config=replace(config, train=train, plot=plot))


def _fitted(space: Space, cloud: Path, truth: Path, place: Path, steps: int, beside: Path) -> Row:
    """The measurements of a space that is fitted to a cloud; nothing is kept beside the record."""
    (metrics,), _ = evaluate_clouds(space, str(cloud), truth, place, steps, lambda line: None)
    found = json.loads(metrics.read_text(encoding="utf-8"))
    return {key: found["target"][key] for key in ("d_C", "d_H")} | {"components": found["components"]}


def own_rows(options: argparse.Namespace) -> Iterator[Row]:
    """A row for the network of each body alone: of the whole, and of the part."""
    bodies = bodies_of(options)
    asked = argparse.Namespace(minutes=None, seeds=[options.seed], gpu="auto", set=[], out=options.out)
    for kind, way in (("test", WHOLE), ("part", PARTIAL)):
        for cloud in clouds_of(bodies / kind, options)[: options.own]:
            case = Case(f"{cloud.stem}-{kind}", cloud, bodies / "truth" / f"{cloud.stem}.ply")
            for method, seed, words in commands(case, asked):
                if method == OWN:
                    row = {"body": cloud.stem, "way": way, **measured(case, method, seed, words, options.out)}
                    print(f"{case.name}, a network of its own: d_C {cell(row.get('d_C', 'failed'))}", flush=True)
                    yield row


def page_of(rows: Sequence[Row], own: Sequence[Row], options: argparse.Namespace) -> str:
    """The page, in Markdown."""
    return _head(rows, options) + _summary(rows, own) + _bodies(rows, own)


def _head(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """What the page is, of which commit, on what machine, and what was measured."""
    steps = ", ".join(f"{loss} {count}" for loss, count in dict.fromkeys((r["loss"], r["steps"]) for r in rows))
    losses = f" --losses {options.losses}" if options.losses else ""
    return f"""# Shape spaces, measured

    python code/shapespace/measure.py --minutes {options.minutes:g} --train {options.train} --test {options.test} \
--own {options.own} --seed {options.seed}{losses}

made this page on {datetime.now(UTC):%Y-%m-%d} of commit {commit()}, on {machine()}{load()}.

{options.train} bodies of {POINTS} points with exact normals are trained on, by every loss for {options.minutes:g}
minutes with the configuration of [shapespace/setup.conf](../code/shapespace/setup.conf) (steps: {steps}).
{options.test} others are fitted. "From a part": {PART} points of the body's front with noise of {PART_NOISE:g}.
"Refined": after the code, a copy of the network is trained on the cloud for {REFINING} steps. "A network of its own":
a single run, as setup.conf says, with
the normals. d_C is the Chamfer distance (L1, the mean of the two directed means), d_H the Hausdorff distance, in the
family's unit; a body is 1.8 high. Meshes of the spaces have {RESOLUTION} cells along the longest side.

"""


def _summary(rows: Sequence[Row], own: Sequence[Row]) -> str:
    """For each loss and way: mean and worst of all bodies, and the ratio to networks of their own."""
    header = ["space", "fitted", "d_C, mean", "median", "worst", "d_H, median", "one component",
              "own networks' d_C, mean", "ratio on the same bodies"]  # fmt: skip
    lines: list[list[object]] = []
    for loss in dict.fromkeys(row["loss"] for row in rows):
        for way in WAYS:
            of = [row for row in rows if (row["loss"], row["way"]) == (loss, way) and "failed" not in row]
            count = sum((row["loss"], row["way"]) == (loss, way) for row in rows)
            if not of:
                lines.append([loss, way, "failed", *[""] * (len(header) - 3)])
                continue
            alone = _own_of(own, way)
            both = [(row["d_C"], alone[row["body"]]["d_C"]) for row in of if "d_C" in alone.get(row["body"], {})]
            ours, theirs = (float(np.mean(part)) for part in zip(*both, strict=True)) if both else (np.nan, np.nan)
            lines.append([
                loss, way, cell(float(np.mean([row["d_C"] for row in of]))), cell(middle(of, "d_C")),
                cell(max(row["d_C"] for row in of)), cell(middle(of, "d_H")),
                f"{sum(row['components'] == 1 for row in of)} of {count}",
                *([cell(theirs), f"{ours / theirs:.2f} ({len(both)})"] if both else ["", ""]),
            ])  # fmt: skip
    return "## In short\n\n" + markdown(header, lines) + "\n"


def _bodies(rows: Sequence[Row], own: Sequence[Row]) -> str:
    """d_C / d_H of every body by every way."""
    losses = list(dict.fromkeys(row["loss"] for row in rows))
    kinds = [(loss, way) for way in WAYS for loss in losses]
    header = ["body", *(f"{loss}, {way}" for loss, way in kinds), "a network of its own", "the same, from a part"]
    found = {(row["loss"], row["way"], row["body"]): row for row in rows}
    whole, part = _own_of(own, WHOLE), _own_of(own, PARTIAL)

    def shown(row: Row | None) -> str:
        return "" if row is None else "failed" if "failed" in row else f"{cell(row['d_C'])} / {cell(row['d_H'])}"

    lines = [
        [body, *(shown(found.get((*kind, body))) for kind in kinds), shown(whole.get(body)), shown(part.get(body))]
        for body in dict.fromkeys(row["body"] for row in rows)
    ]
    return "## Every body, d_C / d_H\n\n" + markdown(header, lines)


def _own_of(own: Sequence[Row], way: str) -> dict[str, Row]:
    """The networks of one shape by body; those of the whole for what is refined, too."""
    kind = PARTIAL if way == PARTIAL else WHOLE
    return {row["body"]: row for row in own if row["way"] == kind}


if __name__ == "__main__":
    sys.exit(main())
