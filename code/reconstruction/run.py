"""From a point cloud to a surface, on the command line.

    python code/reconstruction/run.py                            train on setup.conf's cloud, then mesh it
    python code/reconstruction/run.py --input scan.ply           train on another
    python code/reconstruction/run.py --input scans/ --jobs 2    train on every cloud of a folder, two at a time
    python code/reconstruction/run.py --eval --checkpoint 1000   mesh what step 1000 had learnt
    python code/reconstruction/run.py --help                     everything else

The functions read in the order in which a run goes: ``main`` → ``train`` or ``evaluate``; ``api.py`` has the same for
arrays, without files. Imports that take seconds are inside the functions, so that ``--help`` and
errors in a configuration come at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

STARTED = time.monotonic()

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

from phase_recon.reconstruction.commands import exit_status
from phase_recon.reconstruction.flags import check_flags, check_flags_for_many, overrides, parser
from phase_recon.utils.errors import UserError
from phase_recon.utils.locations import ROOT, default_exps_dir, find_configuration

if TYPE_CHECKING:

    from phase_recon.datasets.pointcloud import PointCloud
    from phase_recon.reconstruction.field import NeuralField
    from phase_recon.utils.config import Config

ANNOUNCED_BYTES = 30e6  # of a cloud's file
READING_SPEED = {".npy": 200e6, ".npz": 100e6}  # bytes per second, measured on one core
TEXT_SPEED = 6e6  # the same for all other files; a ply may be binary, and then quicker
# What --eval can be told otherwise than the training was
EVALUATED = ("plot.", "train.input_path", "train.d_in", "train.drop_invalid", "train.expname", "train.exps_dir")
EVALUATION_SHARE = 0.25  # of a time budget, at most, for what comes after the training
EVALUATION_SECONDS = 12.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for a mistake that the user can mend."""
    flags = parser((__doc__ or "").split("\n\nThe functions")[0])
    stopped = "stopped at once: nothing is saved since the last checkpoint, if there is one"
    return exit_status(flags, arguments, run, stopped)


def run(options: argparse.Namespace) -> int:
    """Train or evaluate, as the options ask."""
    from phase_recon.reconstruction.batch import names_many, run_many
    from phase_recon.reconstruction.build_model import check_model
    from phase_recon.reconstruction.training import Interrupted
    from phase_recon.utils.config import load_config
    from phase_recon.utils.distributed import rank_and_size

    rank, size = rank_and_size()
    check_flags(options, size)
    config = load_config(find_configuration(options.conf), overrides(options), check_model)
    for line in config.warnings if rank == 0 else ():
        print(f"warning: {line}", file=sys.stderr)
    loads = options.eval or options.is_continue  # a run that knows its own cloud, unless --input names one
    if names_many(config.train.input_path, ROOT) and not (loads and options.input is None):
        check_flags_for_many(options)
        return run_many(config, _exps_dir(config), ROOT, options.jobs, options.gpu)
    if options.jobs != 1:
        raise UserError("--jobs is for many clouds: give a folder, a quoted glob or @list.txt with --input")
    try:
        written = evaluate(config, options) if options.eval else train(config, options)
    except Interrupted as stop:
        saved = f"not saved, as {stop.failure}" if stop.failure else "saved"
        _say(f"stopped at step {stop.epoch} and {saved}; go on with the same command and --is_continue")
        return stop.status
    _say("")
    for name, path in written.items():
        print(f"{name + ':':9s} {path}")
    return 0


def train(config: Config, options: argparse.Namespace) -> dict[str, Path]:
    """Train from the start or from a checkpoint, then write the evaluation of the last step.

    Under torchrun all ranks train, and the first alone writes: what the others return is empty.
    """
    from dataclasses import replace

    from phase_recon.reconstruction.build_model import check_model
    from phase_recon.reconstruction.training import fit
    from phase_recon.utils.config import config_from_dict, differences, override, to_hocon
    from phase_recon.utils.distributed import choose_device, join_ranks, keep_freed_memory, leave_ranks
    from phase_recon.utils.experiment import Experiment

    ranks, experiment, checkpoint = join_ranks(), None, None
    if options.is_continue:
        experiment = ranks.from_first(Experiment.find(_exps_dir(config), config.train.expname, options.timestamp))
        checkpoint = experiment.load_checkpoint(options.checkpoint)
        config = replace(
            override(checkpoint["config"], overrides(options), check_model), plot=config.plot
        )
        budget = config.train.time_budget
        done = checkpoint["epoch"] >= config.train.nepoch if budget is None else (
            checkpoint["seconds"] >= 60 * budget - _reserve(budget)
        )  # fmt: skip
        if done and (options.checkpoint != "latest" or experiment.is_evaluated(checkpoint["epoch"])):
            more = f" of {config.train.nepoch} is done" if budget is None else f" ended its {budget:g} minutes"
            raise UserError(
                f"{experiment.folder}: step {checkpoint['epoch']}{more}; --nepoch N continues up to step N, "
                "--minutes M up to M minutes in all"
            )
        _say(
            f"continuing {experiment.folder} from step {checkpoint['epoch']}, with the configuration it has "
            f"(but plot, which is that of {options.conf})"
        )
        changed = differences(config_from_dict(checkpoint["config"]), config)
        if texts := [f"{key} = {json.dumps(value)}" for key, value in changed.items() if not key.startswith("plot.")]:
            _say(f"changed from here on: {', '.join(texts)}")
    cloud, config = _load_cloud(config)
    device, line = choose_device(options.gpu)
    _say(line)
    keep_freed_memory()
    if experiment is None and ranks.first:
        experiment = Experiment.create(_exps_dir(config), config.train.expname, options.timestamp)
        experiment.write_configuration(to_hocon(config))
    if ranks.size > 1:
        _say(f"processes: {ranks.size}, each with its share of every batch")
    if experiment is None or not ranks.first:
        fit(config, cloud, device, _say, checkpoint=checkpoint, started=STARTED, ranks=ranks)
        leave_ranks()
        return {}
    _say(f"run: {experiment.folder}")

    def preview(field: NeuralField, epoch: int) -> None:
        from phase_recon.reconstruction import evaluation

        evaluation.preview(field, cloud, config.plot, experiment.folder / "plots", epoch, _say)

    with experiment.claimed():
        field, epoch = fit(
            config,
            cloud,
            device,
            _say,
            experiment=experiment,
            checkpoint=checkpoint,
            preview=preview,
            started=STARTED,
            reserve=_reserve(config.train.time_budget),
            ranks=ranks,
        )
        leave_ranks()
        from phase_recon.reconstruction import evaluation  # and its libraries, which would delay the first step

        _say(f"trained {epoch} steps; extracting the surface")
        written = evaluation.evaluate(
            field, cloud, config.plot, experiment, epoch, _say, cloud_path=config.train.input_path
        )
    _show_metrics(written["metrics"])
    return written


def evaluate(config: Config, options: argparse.Namespace) -> dict[str, Path]:
    """Write the evaluation of a checkpoint."""
    from phase_recon.reconstruction import evaluation
    from phase_recon.reconstruction.field import field_from_checkpoint
    from phase_recon.utils.config import config_from_dict, differences, override
    from phase_recon.utils.distributed import choose_device
    from phase_recon.utils.experiment import Experiment

    experiment = Experiment.find(_exps_dir(config), config.train.expname, options.timestamp)
    checkpoint = experiment.load_checkpoint(options.checkpoint)
    device, line = choose_device(options.gpu)
    _say(line)
    _say(f"evaluating step {checkpoint['epoch']} of {experiment.folder}")
    field = field_from_checkpoint(checkpoint, device, str(experiment.folder))
    asked = override(checkpoint["config"], overrides(options))
    changed = differences(config_from_dict(checkpoint["config"]), asked)
    if idle := [key for key in changed if not key.startswith(EVALUATED)]:
        raise UserError(
            f"--eval: {', '.join(idle)} cannot be other than in the training; leave it out, or train again with it"
        )
    cloud, config_of_run = _load_cloud(asked)
    if cloud.points.shape[1] != field.dimension:
        raise UserError(
            f"{config_of_run.train.input_path}: is {cloud.points.shape[1]}D, but the run is {field.dimension}D: "
            "leave --input out, or give the cloud that the run was trained on"
        )
    written = evaluation.evaluate(
        field,
        cloud,
        config.plot,
        experiment,
        checkpoint["epoch"],
        _say,
        cloud_path=config_of_run.train.input_path,
        target=options.target,
        query=options.query,
    )
    _show_metrics(written["metrics"])
    return written


def _reserve(budget: float | None) -> float:
    """Seconds of a time budget, in minutes, that what comes after the training is left."""
    return 0.0 if budget is None else min(EVALUATION_SECONDS, EVALUATION_SHARE * 60 * budget)


def _exps_dir(config: Config) -> Path:
    return default_exps_dir() if config.train.exps_dir is None else Path(config.train.exps_dir)


def _load_cloud(config: Config) -> tuple[PointCloud, Config]:
    """The cloud, and the configuration with the path that it was found at."""
    from dataclasses import replace

    from phase_recon.datasets.pointcloud import load_point_cloud

    t = config.train
    if t.input_path is None:
        raise UserError("train.input_path: not set; give the point cloud with --input PATH")
    path = Path(t.input_path)
    if not path.is_absolute() and not path.exists() and (ROOT / path).exists():
        path = ROOT / path
    if path.is_file() and (size := path.stat().st_size) > ANNOUNCED_BYTES:
        speed = READING_SPEED.get(path.suffix.lower(), TEXT_SPEED)
        _say(f"reading {path}: {size / 1e6:,.0f} MB, about {size / speed:.0f} s")
    cloud = load_point_cloud(path, t.d_in, t.drop_invalid, normals=config.network.has_normals)
    if config.network.has_normals and cloud.normals is None:
        raise UserError(
            f"{path}: has no normals, but network.has_normals = true: set it to false, or give a file with them"
        )
    kind = "without normals" if cloud.normals is None else "with normals"
    _say(f"cloud: {path}, {len(cloud.points)} points in {cloud.points.shape[1]}D, {kind}")
    if cloud.note:
        _say(f"note: {cloud.note}")
    return cloud, replace(config, train=replace(t, input_path=str(path.absolute())))


def _show_metrics(path: Path) -> None:
    metrics = json.loads(path.read_text())
    pieces, far = metrics["components"], metrics["input"]
    _say(
        f"surface: {pieces} {'piece' if pieces == 1 else 'pieces'}, {'closed' if metrics['closed'] else 'OPEN'}; "
        f"points to surface: mean {far['cloud_to_surface_mean']:.4g}, max {far['cloud_to_surface_max']:.4g}"
    )
    if "target" in metrics:
        target = metrics["target"]
        _say(f"to the target: d_C {target['d_C']:.4g}, d_H {target['d_H']:.4g}")


def _say(line: str) -> None:
    """Print a line beside a progress bar; the first rank speaks for all."""
    from tqdm import tqdm

    from phase_recon.utils.distributed import rank_and_size

    if rank_and_size()[0] == 0:
        tqdm.write(line)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.exit(main())
