"""The flags of the commands of a shape space."""

import argparse
from pathlib import Path

from phase_recon.reconstruction.commands import Parser, common_flag
from phase_recon.reconstruction.flags import inputs
from phase_recon.shapespace.config import SETUP
from phase_recon.utils.errors import UserError
from phase_recon.utils.overrides import Override, given

NAMES = {"script": "run.py", "console": "phase-recon-shapespace"}  # of the command, as a file and installed


def of_all(description: str, names: list[str]) -> Parser:
    """Of the command without a command: its help, and an error that names what there is."""
    flags = Parser("COMMAND [...]", description, **NAMES)
    flags.add_argument("command", metavar="COMMAND", choices=names, help=f"{', '.join(names)}; each has a --help")
    flags.add_version_and_debug()
    return flags


def of_training(description: str) -> Parser:
    """Of train."""
    flags = Parser("SHAPES [--steps N | --minutes M]", description, **NAMES, command="train")
    flags.add_argument(
        "clouds", metavar="SHAPES", nargs="*", default=[], help="a folder of clouds, a quoted glob, or @list.txt"
    )
    flags.add_argument("--input", metavar="PATH", help="the same as SHAPES; train.input_path")
    flags.add_argument("--conf", metavar="PATH", default=str(SETUP), help="the configuration (the space's setup.conf)")
    flags.add_argument("--is-continue", action="store_true", help="go on with a run, with its configuration")
    common_flag(flags, "steps", help="length of the training (4000); train.nepoch")
    common_flag(flags, "minutes")
    flags.add_argument("--points-batch", metavar="N", type=int, help="points of a shape per step; train.points_batch")
    common_flag(flags, "seed", help="seed of everything random; train.seed")
    return _for_a_run(flags)


def overrides(options: argparse.Namespace) -> list[str | Override]:
    """The flags of train as HOCON texts; --set comes last and so wins. A number of steps takes away a run's time."""
    shapes = inputs(options)
    if len(shapes) > 1:
        raise UserError(f"{shapes[1]}: give the shapes as one folder, a quoted glob or @list.txt")
    flags = [
        ("--input", "train.input_path", shapes[0] if shapes else None),
        ("--steps/--nepoch", "train.nepoch", options.steps),
        ("--minutes", "train.time_budget", options.minutes),
        ("--points-batch", "train.points_batch", options.points_batch),
        ("--seed", "train.seed", options.seed),
        ("--expname", "train.expname", options.expname),
        ("--exps-dir", "train.exps_dir", None if options.exps_dir is None else str(options.exps_dir.absolute())),
    ]
    by_steps = [] if options.steps is None else [Override("train.time_budget = null", "--steps/--nepoch")]
    return [*by_steps, *given(flags), *options.set]


def of_evaluation(description: str) -> Parser:
    """Of eval."""
    flags = Parser("CLOUDS [--target PATH]", description, **NAMES, command="eval")
    flags.add_argument(
        "clouds", metavar="CLOUDS", nargs="*", default=[], help="a cloud, a folder, a quoted glob, or @list.txt"
    )
    flags.add_argument("--input", metavar="PATH", help="the same as CLOUDS")
    flags.add_argument("--target", metavar="PATH", type=Path, help="the true surface, or a folder of them by name")
    flags.add_argument(
        "--refine", metavar="N", type=int, help="steps in which the network, too, is fitted (0); train.refine_steps"
    )
    return _for_a_run(flags)


def of_interpolation(description: str) -> Parser:
    """Of interpolate."""
    flags = Parser("A B [--shapes N]", description, **NAMES, command="interpolate")
    for name in ("A", "B"):
        flags.add_argument(name, help="a shape of the training, a cloud, or the code.npz of a fit")
    flags.add_argument("--shapes", metavar="N", type=int, default=9, help="shapes on the path, both ends included (9)")
    return _for_a_run(flags)


def of_bodies(description: str) -> Parser:
    """Of bodies."""
    flags = Parser("--out FOLDER", description, **NAMES, command="bodies")
    flags.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where to write")
    flags.add_argument("--train", metavar="N", type=int, default=60, help="shapes to train on (60)")
    flags.add_argument("--test", metavar="N", type=int, default=20, help="other shapes (20)")
    flags.add_argument("--points", metavar="N", type=int, default=5000, help="of each (5000)")
    flags.add_argument("--noise", metavar="X", type=float, default=0.0, help="standard deviation of the points (0)")
    flags.add_argument("--seed", metavar="N", type=int, default=0, help="another has other bodies (0)")
    flags.add_version_and_debug()
    return flags


def of_scans(description: str) -> Parser:
    """Of dfaust."""
    flags = Parser("--scans FOLDER --out FOLDER", description, **NAMES, command="dfaust")
    flags.add_argument("--scans", metavar="FOLDER", type=Path, required=True, help="of <person>/<action>/<name>.ply")
    flags.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where to write")
    flags.add_argument("--points", metavar="N", type=int, default=250_000, help="of each scan (250000)")
    flags.add_version_and_debug()
    return flags


def _for_a_run(flags: Parser) -> Parser:
    """With the flags that name a run and say where to compute."""
    common_flag(flags, "set", help="any key of the space's setup.conf; can be repeated")
    common_flag(flags, "gpu")
    common_flag(flags, "expname", help="the run's name (shapespace)")
    common_flag(flags, "exps-dir", help="the folder of all runs (exps/)")
    flags.add_argument("--timestamp", metavar="STAMP", default="latest", help="the run's folder (the newest)")
    flags.add_argument("--checkpoint", metavar="N", default="latest", help="the step to load (the latest)")
    flags.add_version_and_debug()
    return flags
