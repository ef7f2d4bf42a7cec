"""Shape spaces on the command line: one network for many shapes, a latent code for each.

    python code/shapespace/run.py bodies --out bodies --train 60 --test 20    # a family to try it on, made by formulas
    python code/shapespace/run.py train bodies/train                          # train a space on a folder of clouds
    python code/shapespace/run.py eval bodies/test --target bodies/truth      # fit codes to clouds it has not seen
    python code/shapespace/run.py interpolate body_0000 body_0007             # the path between two of its shapes
    python code/shapespace/run.py dfaust --scans scans --out processed        # D-FAUST's scans in the layout of IGR

Runs are folders like those of reconstruction/run.py: exps/<expname>/<time of start>/. ``train --is-continue`` goes on
with one. code/shapespace/setup.conf explains the keys that only a space has.
"""

import argparse
import re
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

STARTED = time.monotonic()

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from phase_recon.utils.environment import require_packages

    del sys.path[0]
    require_packages()

from phase_recon.reconstruction.commands import check_length, exit_status, say
from phase_recon.reconstruction.flags import GOES_ON_WITH_ITS_SEED, inputs
from phase_recon.reconstruction.training import Interrupted, refuse_if_over
from phase_recon.shapespace import flags
from phase_recon.shapespace.config import SpaceConfig, load_space_config, override_space, space_config_from_dict
from phase_recon.shapespace.shapes import load_shapes, located
from phase_recon.shapespace.space import CODE, Space, space_from_checkpoint
from phase_recon.shapespace.train import fit_space
from phase_recon.utils.config_files import differences
from phase_recon.utils.distributed import choose_device, join_ranks, leave_ranks, rank_and_size
from phase_recon.utils.errors import UserError, counted
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.locations import folder_of_runs
from phase_recon.utils.overrides import Override, assignment, values_of
from phase_recon.utils.processor import keep_freed_memory

# what may be told otherwise than in the training, where a trained space is used
USED = (
    "plot.",
    "train.fit_",
    "train.refine_steps",
    "train.drop_invalid",
    "train.points_batch",
    "train.pts_in_omega",
    "network.has_normals",
    "network.loss.latent_lambda",
)
# Of these, what says nothing to a path: it has one page, all its surfaces, no cloud that shows a part, and one network
IDLE_FOR_PATHS = {"plot.save_html", "plot.save_ply", "plot.trim", "train.refine_steps"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for a mistake that the user can mend."""
    given = sys.argv[1:] if arguments is None else arguments
    stopped = "stopped at once: nothing is saved since the last checkpoint, if there is one"
    if not given or given[0] not in COMMANDS:
        parser = flags.of_all(__doc__ or "", list(COMMANDS))
        return exit_status(parser, given or ["--help"], lambda options: None, stopped)
    flags_of, command = COMMANDS[given[0]]
    return exit_status(flags_of((command.__doc__ or "").strip()), given[1:], command, stopped)


def train(options: argparse.Namespace) -> int:
    """Train a space from the start or from a checkpoint."""
    try:
        _train(options)
    except Interrupted as stop:
        say(f"stopped at step {stop.epoch} and saved; go on with the same command and --is-continue")
        return stop.status
    return 0


def _train(options: argparse.Namespace) -> None:
    """Train, as every rank does; the first alone writes."""
    check_length(options)
    if options.checkpoint != "latest" and not options.is_continue:
        raise UserError("--checkpoint names something to load: add --is-continue")
    config = load_space_config(options.conf, flags.overrides(options))
    for line in config.warnings if rank_and_size()[0] == 0 else ():
        print(f"warning: {line}", file=sys.stderr)
    ranks, experiment, checkpoint = join_ranks(), None, None
    if options.is_continue:
        runs = folder_of_runs(config.train.exps_dir)
        experiment = ranks.from_first(Experiment.find(runs, config.train.expname, options.timestamp))
        checkpoint = experiment.load_checkpoint(options.checkpoint)
        space_from_checkpoint(checkpoint, choose_device("cpu")[0], str(experiment.folder))  # is it one at all?
        config = override_space(checkpoint["config"], flags.overrides(options))
        minutes = config.train.time_budget
        seconds = None if minutes is None else 60 * minutes
        refuse_if_over(experiment.folder, checkpoint, config.train.nepoch, minutes, seconds)
        changed = differences(space_config_from_dict(checkpoint["config"], str(experiment.folder)), located(config))
        if "train.seed" in changed:
            raise UserError(GOES_ON_WITH_ITS_SEED)
        say(f"continuing {experiment.folder} from step {checkpoint['epoch']}, with the configuration it has")
        if changed:
            say(f"changed from here on: {', '.join(assignment(*change) for change in changed.items())}")
    config = located(config)
    shapes = load_shapes(config, say)
    device, line = choose_device(options.gpu)
    say(line)
    keep_freed_memory()
    if not ranks.first:
        fit_space(config, shapes, device, say, checkpoint=checkpoint, started=STARTED, ranks=ranks)
        leave_ranks()
        return
    is_new = experiment is None
    if experiment is None:
        experiment = Experiment.create(folder_of_runs(config.train.exps_dir), config.train.expname, options.timestamp)
    say(f"run: {experiment.folder}")
    with experiment.claimed():
        try:
            _, epoch = fit_space(
                config, shapes, device, say, experiment=experiment, checkpoint=checkpoint, started=STARTED, ranks=ranks
            )
        except BaseException:
            if is_new:
                experiment.discard()
            raise
        leave_ranks()
    say(f"trained {counted(epoch, 'step')} on {counted(len(shapes.names), 'shape')}")


def evaluate(options: argparse.Namespace) -> int:
    """Fit codes to clouds, and evaluate their shapes."""
    from phase_recon.shapespace.eval import evaluate_clouds

    given = inputs(options)
    if len(given) != 1:
        raise UserError("give one cloud, a folder, a quoted glob or @list.txt")
    refine = [] if options.refine is None else [Override(f"train.refine_steps = {options.refine}", "--refine")]
    _check_alone()
    space, experiment, epoch = _loaded(options, refine)
    written, failed = evaluate_clouds(space, given[0], options.target, experiment.folder, epoch, say)
    say(f"fits: {experiment.folder / 'fits'}, {len(written)} shapes" + (f"; {failed} failed" if failed else ""))
    return 1 if failed else 0


def interpolate(options: argparse.Namespace) -> None:
    """Write the path between two shapes."""
    from phase_recon.shapespace.interpolate import write_path

    _check_alone()
    space, experiment, epoch = _loaded(options)
    if idle := [key for text in options.set for key in values_of(text) if key in IDLE_FOR_PATHS]:
        raise UserError(f"--set: {', '.join(idle)}: does nothing for a path; leave it out")
    ends = (options.A, options.B)
    names = "-".join(_name_of_end(end, space) for end in ends)
    folder = experiment.folder / "paths" / str(epoch) / names
    for name, path in write_path(space, ends, options.shapes, folder, say).items():
        print(f"{name + ':':9s} {path}")


def bodies(options: argparse.Namespace) -> None:
    """Write a family made by formulas."""
    from phase_recon.shapespace.bodies import write_bodies

    there = write_bodies(options.out, options.train, options.test, options.points, options.noise, options.seed)
    replaced = f"; {there} that were there are replaced" if there else ""
    shapes = f"{counted(options.train, 'shape')} to train on and {counted(options.test, 'other')}"
    print(f"written: {options.out}, {shapes}{replaced}")


def dfaust(options: argparse.Namespace) -> None:
    """Process D-FAUST's scans."""
    from phase_recon.shapespace.dfaust import process_scans

    done, there = process_scans(options.scans, options.out, options.points)
    kept = f"; {there} that were there are as they were" if there else ""
    print(f"written: {options.out}, {counted(done, 'scan')}{kept}")


def _loaded(options: argparse.Namespace, texts: Sequence[Override] = ()) -> tuple[Space, Experiment, int]:
    """The space that the options name, with what they set for its use, by flags and by --set."""
    exps = folder_of_runs(options.exps_dir)
    experiment = Experiment.find(exps, options.expname or SpaceConfig().train.expname, options.timestamp)
    checkpoint = experiment.load_checkpoint(options.checkpoint)
    device, line = choose_device(options.gpu)
    say(line)
    space = space_from_checkpoint(checkpoint, device, str(experiment.folder))
    asked = override_space(checkpoint["config"], [*texts, *options.set])
    if idle := [key for key in differences(space.config, asked) if not key.startswith(USED)]:
        raise UserError(f"--set: {', '.join(idle)} cannot be other than in the training; leave it out, or train again")
    say(f"step {checkpoint['epoch']} of {experiment.folder}, {len(space.names)} shapes")
    return replace(space, config=asked), experiment, checkpoint["epoch"]


def _name_of_end(end: str, space: Space) -> str:
    """What an end of a path is called in the name of its folder."""
    path = Path(end)
    if end not in space.names and path.name == CODE:
        end = path.parent.as_posix().rpartition("fits/")[2]
    elif end not in space.names and path.is_file():
        end = path.stem
    return re.sub(r"[\\/:]+", "_", end).strip("_.")


def _check_alone() -> None:
    """Raise UserError under torchrun, whose processes would write the same files."""
    if rank_and_size()[1] > 1:
        raise UserError("only train is the work of several processes: start this without torchrun")


COMMANDS = {
    "train": (flags.of_training, train),
    "eval": (flags.of_evaluation, evaluate),
    "interpolate": (flags.of_interpolation, interpolate),
    "bodies": (flags.of_bodies, bodies),
    "dfaust": (flags.of_scans, dfaust),
}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.exit(main())
