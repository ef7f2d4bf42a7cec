"""The flags of run.py: what there are, which belong together, and the keys of the configuration that they stand for."""

import argparse
import json
from pathlib import Path

from phase_recon.reconstruction.commands import Parser
from phase_recon.utils.errors import UserError


def parser(description: str) -> argparse.ArgumentParser:
    """What run.py can be asked on the command line."""

    class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        def _get_help_string(self, action: argparse.Action) -> str | None:
            """Leave out defaults that say nothing."""
            return super()._get_help_string(action) if action.default else action.help

    flags = Parser(prog="run.py", description=description, formatter_class=Formatter)
    what = flags.add_argument_group("what to do")
    what.add_argument("--eval", action="store_true", help="mesh, draw and measure a checkpoint; no training")
    what.add_argument(
        "--is_continue", action="store_true", help="go on with a run, up to its nepoch, with its configuration"
    )
    what.add_argument(
        "--input",
        metavar="PATH",
        type=Path,
        help="the point cloud, instead of train.input_path; or many: a folder, a quoted glob, @list.txt",
    )
    what.add_argument("--target", metavar="PATH", type=Path, help="with --eval: a mesh or cloud to measure against")
    what.add_argument(
        "--query", metavar="PATH", type=Path, help="with --eval: points at which to write u, w and ∇w (query.npz)"
    )
    how = flags.add_argument_group("how", "those that name a key win over the configuration, which is the default")
    how.add_argument("--conf", metavar="PATH", default="setup.conf", help="as given, else a file at the project's root")
    how.add_argument("--nepoch", metavar="N", type=int, help="number of steps; train.nepoch")
    how.add_argument("--minutes", metavar="M", type=float, help="time for the whole command; train.time_budget")
    how.add_argument("--points_batch", metavar="N", type=int, help="points per step; train.points_batch")
    how.add_argument("--seed", metavar="N", type=int, help="seed of everything random; train.seed")
    how.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="any key, in HOCON; can be repeated"
    )
    how.add_argument("--jobs", metavar="N", type=int, default=1, help="with many clouds: how many at a time")
    how.add_argument("--gpu", metavar="WHICH", default="auto", help="auto (the freest), cpu, ignore, or a number")
    which = flags.add_argument_group("which run")
    which.add_argument("--expname", metavar="NAME", help="its name; train.expname")
    which.add_argument("--exps_dir", metavar="PATH", type=Path, help="the folder of all runs; train.exps_dir")
    which.add_argument(
        "--timestamp", metavar="STAMP", default="latest", help="the run's folder; a new one has the time of its start"
    )
    which.add_argument("--checkpoint", metavar="N", default="latest", help="the step to load")
    flags.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return flags


def overrides(options: argparse.Namespace) -> list[str]:
    """The flags as HOCON texts; --set comes last and so wins. --nepoch takes away the time that a run had."""
    flags = {
        "train.input_path": None if options.input is None else str(options.input),
        "train.nepoch": options.nepoch,
        "train.time_budget": options.minutes,
        "train.points_batch": options.points_batch,
        "train.seed": options.seed,
        "train.expname": options.expname,
        "train.exps_dir": None if options.exps_dir is None else str(options.exps_dir.absolute()),
    }
    given = [f"{key} = {json.dumps(value)}" for key, value in flags.items() if value is not None]
    by_steps = [] if options.nepoch is None else ["train.time_budget = null"]
    return [*given, *by_steps, *options.set]


def check_flags(options: argparse.Namespace, size: int) -> None:
    """Refuse flags that have no meaning together; ``size`` is the number of processes that torchrun started.

    Raises:
        UserError: some are given.
    """
    if not options.eval and (options.target or options.query):
        raise UserError("--target and --query look at a trained run: add --eval")
    if not (options.eval or options.is_continue) and options.checkpoint != "latest":
        raise UserError("--checkpoint names something to load: add --eval or --is_continue")
    if options.eval and options.is_continue:
        raise UserError("--eval and --is_continue: one or the other; a run that is continued is also evaluated")
    if options.eval and size > 1:
        raise UserError("--eval is the work of one process: start it without torchrun")
    if options.nepoch is not None and options.minutes is not None:
        raise UserError("--nepoch and --minutes: one or the other; a run ends by its steps or by the clock")


def check_flags_for_many(options: argparse.Namespace) -> None:
    """Refuse flags that have no meaning where --input names many clouds.

    Raises:
        UserError: one is given.
    """
    if options.eval or options.is_continue or options.timestamp != "latest":
        raise UserError(
            "many clouds with --eval, --is_continue or --timestamp: the same command without them does what is "
            "missing; one of the runs is loaded by --timestamp <time of start>/<cloud>, without the --input of many"
        )
    if options.jobs < 1:
        raise UserError(f"--jobs: expected at least 1, got {options.jobs}")
