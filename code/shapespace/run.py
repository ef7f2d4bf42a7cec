"""Shape spaces on the command line: one network for many shapes, a latent code for each.

    python code/shapespace/run.py bodies --out bodies --train 60 --test 20    a family to try it on, made by formulas
    python code/shapespace/run.py train --input bodies/train                  train a space on a folder of clouds
    python code/shapespace/run.py eval --input bodies/test --target bodies/truth    fit codes to clouds it has not seen
    python code/shapespace/run.py interpolate --ends body_0000 body_0007      the path between two of its shapes
    python code/shapespace/run.py dfaust --scans scans --out processed        D-FAUST's scans in the layout of IGR

Runs are folders like those of reconstruction/run.py: exps/<expname>/<time of start>/. ``train --is_continue`` goes on
with one. code/shapespace/setup.conf explains every key.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

STARTED = time.monotonic()

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

from phase_recon.reconstruction.commands import Parser, exit_status
from phase_recon.reconstruction.flags import overrides
from phase_recon.reconstruction.training import Interrupted
from phase_recon.shapespace.config import SETUP, SpaceConfig, load_space_config, override_space
from phase_recon.shapespace.shapes import load_shapes
from phase_recon.shapespace.space import Space, space_from_checkpoint
from phase_recon.shapespace.train import fit_space
from phase_recon.utils.config import differences
from phase_recon.utils.distributed import (
    choose_device,
    join_ranks,
    keep_freed_memory,
    leave_ranks,
    rank_and_size,
)
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.locations import default_exps_dir

# what may be told otherwise than in the training, where a trained space is used
USED = (
    "plot.",
    "train.fit_",
    "train.drop_invalid",
    "train.points_batch",
    "train.pts_in_omega",
    "network.has_normals",
    "network.loss.latent_lambda",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for a mistake that the user can mend."""
    stopped = "stopped at once: nothing is saved since the last checkpoint, if there is one"
    return exit_status(_parser(), arguments, lambda options: options.do(options), stopped)


def train(options: argparse.Namespace) -> int:
    """Train a space from the start or from a checkpoint."""
    if options.nepoch is not None and options.minutes is not None:
        raise UserError("--nepoch and --minutes: one or the other; a run ends by its steps or by the clock")
    config = load_space_config(options.conf, overrides(options))
    for line in config.warnings if rank_and_size()[0] == 0 else ():
        print(f"warning: {line}", file=sys.stderr)
    ranks, experiment, checkpoint = join_ranks(), None, None
    if options.is_continue:
        experiment = ranks.from_first(Experiment.find(_exps_dir(config), config.train.expname, options.timestamp))
        checkpoint = experiment.load_checkpoint(options.checkpoint)
        space_from_checkpoint(checkpoint, choose_device("cpu")[0], str(experiment.folder))  # is it one at all?
        config = override_space(checkpoint["config"], overrides(options))
        if config.train.time_budget is None and checkpoint["epoch"] >= config.train.nepoch:
            raise UserError(
                f"{experiment.folder}: step {checkpoint['epoch']} of {config.train.nepoch} is done; --nepoch N "
                "continues up to step N, --minutes M up to M minutes in all"
            )
        _say(f"continuing {experiment.folder} from step {checkpoint['epoch']}, with the configuration it has")
    shapes = load_shapes(config, _say)
    device, line = choose_device(options.gpu)
    _say(line)
    keep_freed_memory()
    if not ranks.first:
        fit_space(config, shapes, device, _say, checkpoint=checkpoint, started=STARTED, ranks=ranks)
        leave_ranks()
        return 0
    if experiment is None:
        experiment = Experiment.create(_exps_dir(config), config.train.expname, options.timestamp)
    _say(f"run: {experiment.folder}")
    with experiment.claimed():
        try:
            _, epoch = fit_space(
                config, shapes, device, _say, experiment=experiment, checkpoint=checkpoint, started=STARTED, ranks=ranks
            )
        except Interrupted as stop:
            _say(f"stopped at step {stop.epoch} and saved; go on with the same command and --is_continue")
            return stop.status
        leave_ranks()
    _say(f"trained {epoch} steps on {len(shapes.names)} shapes")
    return 0


def evaluate(options: argparse.Namespace) -> None:
    """Fit codes to clouds, and evaluate their shapes."""
    from phase_recon.shapespace.eval import evaluate_clouds

    if options.input is None:
        raise UserError("--input: missing; give a cloud, a folder, a quoted glob or @list.txt")
    space, experiment, epoch = _trained(options)
    written = evaluate_clouds(space, str(options.input), options.target, experiment.folder, epoch, _say)
    _say(f"fits: {experiment.folder / 'fits'}, {len(written)} shapes")


def interpolate(options: argparse.Namespace) -> None:
    """Write the path between two shapes."""
    from phase_recon.shapespace.interpolate import write_path

    space, experiment, epoch = _trained(options)
    names = "-".join(Path(end).parent.name if Path(end).name == "code.npy" else Path(end).stem for end in options.ends)
    folder = experiment.folder / "paths" / str(epoch) / names
    for name, path in write_path(space, tuple(options.ends), options.steps, folder, _say).items():
        print(f"{name + ':':9s} {path}")


def bodies(options: argparse.Namespace) -> None:
    """Write a family made by formulas."""
    from phase_recon.shapespace.bodies import write_bodies

    write_bodies(options.out, options.train, options.test, options.points, options.noise, options.seed)
    print(f"written: {options.out}, {options.train} shapes to train on and {options.test} others")


def dfaust(options: argparse.Namespace) -> None:
    """Process D-FAUST's scans."""
    from phase_recon.shapespace.dfaust import process_scans

    print(f"written: {options.out}, {process_scans(options.scans, options.out, options.points)} scans")


def _trained(options: argparse.Namespace) -> tuple[Space, Experiment, int]:
    """The space that the options name, with what they set for its use."""
    exps = default_exps_dir() if options.exps_dir is None else options.exps_dir
    experiment = Experiment.find(exps, options.expname or SpaceConfig().train.expname, options.timestamp)
    checkpoint = experiment.load_checkpoint(options.checkpoint)
    device, line = choose_device(options.gpu)
    _say(line)
    space = space_from_checkpoint(checkpoint, device, str(experiment.folder))
    asked = override_space(checkpoint["config"], options.set)
    if idle := [key for key in differences(space.config, asked) if not key.startswith(USED)]:
        raise UserError(f"--set: {', '.join(idle)} cannot be other than in the training; leave it out, or train again")
    checkpoint["config"] = asked.to_dict()
    _say(f"step {checkpoint['epoch']} of {experiment.folder}, {len(space.names)} shapes")
    return space_from_checkpoint(checkpoint, device, str(experiment.folder)), experiment, checkpoint["epoch"]


def _exps_dir(config: SpaceConfig) -> Path:
    return default_exps_dir() if config.train.exps_dir is None else Path(config.train.exps_dir)


def _say(line: str) -> None:
    """Print a line beside a progress bar; the first rank speaks for all."""
    from tqdm import tqdm

    if rank_and_size()[0] == 0:
        tqdm.write(line)


def _parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def command(name: str, do: Any) -> Any:
        text = (do.__doc__ or "").strip()
        flags = commands.add_parser(name, help=text, description=text)
        flags.set_defaults(do=do)
        flags.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return flags

    training = command("train", train)
    training.add_argument("--input", metavar="PATH", type=Path, help="the shapes; train.input_path")
    training.add_argument("--conf", metavar="PATH", default=str(SETUP), help="the configuration")
    training.add_argument("--is_continue", action="store_true", help="go on with a run, with its configuration")
    training.add_argument("--nepoch", metavar="N", type=int, help="number of steps; train.nepoch")
    training.add_argument("--minutes", metavar="M", type=float, help="time for the whole command; train.time_budget")
    training.add_argument("--points_batch", metavar="N", type=int, help="points of a shape per step")
    training.add_argument("--seed", metavar="N", type=int, help="seed of everything random; train.seed")
    using = command("eval", evaluate)
    using.add_argument("--input", metavar="PATH", type=Path, help="a cloud, a folder, a quoted glob or @list.txt")
    using.add_argument("--target", metavar="PATH", type=Path, help="the true surface, or a folder of them by name")
    between = command("interpolate", interpolate)
    between.add_argument(
        "--ends", nargs=2, required=True, metavar=("A", "B"), help="shapes of the training, clouds, or code.npy of fits"
    )
    between.add_argument("--steps", metavar="N", type=int, default=9, help="shapes on the path (default: 9)")
    for flags in (training, using, between):
        flags.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="any key; can be repeated")
        flags.add_argument("--gpu", metavar="WHICH", default="auto", help="auto (the freest), cpu, ignore, or a number")
        flags.add_argument("--expname", metavar="NAME", help="the run's name; train.expname")
        flags.add_argument("--exps_dir", metavar="PATH", type=Path, help="the folder of all runs; train.exps_dir")
        flags.add_argument("--timestamp", metavar="STAMP", default="latest", help="the run's folder")
        flags.add_argument("--checkpoint", metavar="N", default="latest", help="the step to load")
    family = command("bodies", bodies)
    family.add_argument("--out", metavar="PATH", type=Path, required=True, help="the folder to write")
    family.add_argument("--train", metavar="N", type=int, default=60, help="shapes to train on (default: 60)")
    family.add_argument("--test", metavar="N", type=int, default=20, help="other shapes (default: 20)")
    family.add_argument("--points", metavar="N", type=int, default=5000, help="of each (default: 5000)")
    family.add_argument("--noise", metavar="X", type=float, default=0.0, help="standard deviation (default: 0)")
    family.add_argument("--seed", metavar="N", type=int, default=0, help="another has other bodies (default: 0)")
    scans = command("dfaust", dfaust)
    scans.add_argument("--scans", metavar="PATH", type=Path, required=True, help="of <person>/<action>/<name>.ply")
    scans.add_argument("--out", metavar="PATH", type=Path, required=True, help="the folder to write")
    scans.add_argument("--points", metavar="N", type=int, default=250_000, help="of each scan (default: 250000)")
    return parser


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.exit(main())
