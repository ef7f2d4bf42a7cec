"""From a point cloud to a surface.

    python code/reconstruction/run.py scan.ply -o mesh.ply       # train on a cloud, and write its surface
    python code/reconstruction/run.py scan.ply --quality draft   # a first look
    python code/reconstruction/run.py scan.ply --target gt.obj   # and measure the surface against another
    python code/reconstruction/run.py scans/ -o meshes/          # every cloud of a folder
    python code/reconstruction/run.py scan.ply --is-continue --steps 5000
    python code/reconstruction/run.py scan.ply --eval --resolution 512 -o fine.ply
    python code/reconstruction/run.py orient scan.ply            # the cloud with oriented normals, in seconds
    python code/reconstruction/run.py compare --help             # losses side by side on a cloud
    python code/reconstruction/run.py benchmark --help           # beside Screened Poisson on many
    python code/reconstruction/run.py                            # the cloud that setup.conf names: data/bunny.xyz

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
from typing import TYPE_CHECKING, Any

STARTED = time.monotonic()

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from phase_recon.utils.environment import require_packages

    del sys.path[0]
    require_packages()

from phase_recon.reconstruction.commands import exit_status, say
from phase_recon.reconstruction.flags import (
    GOES_ON_WITH_ITS_SEED,
    check_flags,
    check_flags_for_many,
    flag_of,
    inputs,
    overrides,
    parser,
)
from phase_recon.utils.errors import UserError
from phase_recon.utils.locations import ROOT, find_configuration, folder_of_runs

if TYPE_CHECKING:
    from phase_recon.datasets.pointcloud import PointCloud
    from phase_recon.reconstruction.field import NeuralField
    from phase_recon.reconstruction.scene import Scene
    from phase_recon.utils.config import Config
    from phase_recon.utils.experiment import Experiment

# What is read before a run is loaded, beside which the configuration is the run's own
BEFORE_LOADING = ("plot", "train.input_path", "train.expname", "train.exps_dir")
# What --eval can be told otherwise than the training was, besides how the cloud is read
EVALUATED = ("plot.", "train.input_path", "train.expname", "train.exps_dir")
# Keys of plot that the training uses, too: a run that goes on keeps its own, unless the command line has others
TRAINED_WITH = ("up", "trim", "allow_open")
EVALUATION_SHARE = 0.25  # of a time budget, at most, for what comes after the training
EVALUATION_SECONDS = 12.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for a mistake that the user can mend."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] in (["compare"], ["benchmark"], ["orient"]):  # a folder of this name is ./compare
        return _other_command(given[0], given[1:])
    flags = parser((__doc__ or "").split("\n\nThe functions")[0])
    stopped = "stopped at once: nothing is saved since the last checkpoint, if there is one"
    return exit_status(flags, given, run, stopped)


def run(options: argparse.Namespace) -> int:
    """Train or evaluate, as the options ask; returns the exit status.

    Raises:
        UserError: anything that the user gave cannot be used, or a file cannot be read or written.
    """
    from dataclasses import replace

    from phase_recon.reconstruction.batch import run_many
    from phase_recon.reconstruction.batch_clouds import common_folder, find_clouds, names_many
    from phase_recon.reconstruction.build_model import check_model
    from phase_recon.reconstruction.input_cloud import without_stations
    from phase_recon.reconstruction.names import named
    from phase_recon.reconstruction.output import check_extension, check_folder_of_many
    from phase_recon.reconstruction.training import Interrupted
    from phase_recon.utils.config_files import load_config
    from phase_recon.utils.distributed import check_gpu, rank_and_size
    from phase_recon.utils.overrides import values_of

    rank, size = rank_and_size()
    check_flags(options, size)
    if options.output is not None:
        check_extension(options.output)
    loads = options.eval or options.is_continue  # a run that knows its own cloud, unless one is given
    settings = [  # without those for the run's own configuration
        text for text in overrides(options)
        if not loads or any(key.startswith(BEFORE_LOADING) for key in values_of(text))
    ]  # fmt: skip
    config = load_config(find_configuration(options.conf), settings, check_model)
    for line in config.warnings if rank == 0 else ():
        print(f"warning: {line}", file=sys.stderr)

    given = inputs(options)
    if len(given) > 1 or (names_many(config.train.input_path, ROOT) and not (loads and not given)):
        check_flags_for_many(options)
        texts, runs = given or [str(config.train.input_path)], folder_of_runs(config.train.exps_dir)
        clouds = list(dict.fromkeys(cloud for text in texts for cloud in find_clouds(text, ROOT, runs)))
        clouds = without_stations(clouds, config)
        check_gpu(options.gpu)  # what no run could use is said before the first
        if len(given) > 1:
            config = replace(config, train=replace(config.train, input_path=str(common_folder(clouds))))
        if options.output is not None:
            check_folder_of_many(options.output, clouds, config.plot.save_ply)
        config = named(config)
        return run_many(config, clouds, runs, options.jobs, options.gpu, options.output)
    if options.jobs != 1:
        raise UserError("--jobs is for many clouds: give several files, a folder, a glob or @list.txt")

    config = named(config)
    try:
        written = evaluate(config, options) if options.eval else train(config, options)
    except Interrupted as stop:
        saved = f"not saved, as {stop.failure}" if stop.failure else "saved"
        say(f"stopped at step {stop.epoch} and {saved}; go on with the same command and --is-continue")
        return stop.status
    say("")
    for name, path in written.items():
        print(f"{name + ':':9s} {path}")
    return 0


def train(config: Config, options: argparse.Namespace) -> dict[str, Path]:
    """Train from the start or from a checkpoint, then write the evaluation of the last step.

    Under torchrun all ranks train, and the first alone writes: what the others return is empty.

    Raises:
        UserError: the cloud, the configuration or the run to go on with cannot be used, or the training failed.
    """
    from phase_recon.reconstruction.forecast import plan
    from phase_recon.reconstruction.input_cloud import describe, load_cloud
    from phase_recon.reconstruction.training import fit
    from phase_recon.utils.config_files import to_hocon
    from phase_recon.utils.distributed import choose_device, join_ranks, leave_ranks
    from phase_recon.utils.experiment import Experiment
    from phase_recon.utils.processor import keep_freed_memory

    ranks, experiment, checkpoint = join_ranks(), None, None
    runs, name = folder_of_runs(config.train.exps_dir), str(config.train.expname)
    if options.is_continue:
        found = Experiment.find(runs, name, options.timestamp, _cloud_of(config, options))
        experiment = ranks.from_first(found)
        checkpoint, config = _continued(experiment, config, options)
    cloud, config = load_cloud(config, say)
    output, replaced = _output(config, options, cloud)
    device, line = choose_device(options.gpu)
    say(plan(config, device, cloud.points.shape, 0 if checkpoint is None else checkpoint["epoch"]))
    for text in (*describe(cloud, config), *replaced, line):
        say(text)
    keep_freed_memory()
    is_new = experiment is None
    missing = [folder for folder in (runs / name, runs) if not folder.exists()]
    if experiment is None and ranks.first:
        experiment = Experiment.create(runs, name, options.timestamp)
    if ranks.size > 1:
        say(f"processes: {ranks.size}, each with its share of every batch")
    if experiment is None or not ranks.first:
        fit(config, cloud, device, say, checkpoint=checkpoint, started=STARTED, ranks=ranks)
        leave_ranks()
        return {}
    say(f"run: {experiment.folder}")

    scenes: list[Scene] = []  # what the preprocessing finds, before the first step

    def preview(field: NeuralField, epoch: int) -> None:
        from phase_recon.reconstruction import evaluation

        body = cloud.rows(scenes[-1].body)
        evaluation.preview(field, body, config.plot, experiment.folder / "plots", epoch, say)

    with experiment.claimed():
        if is_new:
            experiment.write_configuration(to_hocon(config))
        try:
            field, epoch = fit(
                config,
                cloud,
                device,
                say,
                experiment=experiment,
                checkpoint=checkpoint,
                preview=preview,
                started=STARTED,
                reserve=_reserve(config.train.time_budget),
                ranks=ranks,
                observe=scenes.append,
            )
        except BaseException:
            if is_new:
                experiment.discard(missing)
            raise
        leave_ranks()
        from phase_recon.reconstruction import evaluation  # and its libraries, which would delay the first step

        say(f"trained {epoch} steps; extracting the surface")
        written = evaluation.evaluate(
            field, cloud, config.plot, experiment, epoch, say, cloud_path=config.train.input_path,
            target=options.target, query=options.query, output=output, body=scenes[-1].body, scene=scenes[-1],
        )  # fmt: skip
    _say_verdict(written["metrics"], len(cloud.points))
    return written


def _continued(
    experiment: Experiment, config: Config, options: argparse.Namespace
) -> tuple[dict[str, Any], Config]:
    """The checkpoint that a run goes on from, and the configuration from there on; says what it changes.

    Raises:
        UserError: there is none, nothing is left to do, or the seed is to change.
    """
    from dataclasses import replace

    from phase_recon.reconstruction.build_model import check_model
    from phase_recon.reconstruction.field import lacks_detail
    from phase_recon.reconstruction.training import refuse_if_over, seconds_of_steps
    from phase_recon.utils.config_files import config_from_dict, override
    from phase_recon.utils.overrides import assignment

    checkpoint = experiment.load_checkpoint(options.checkpoint)
    own = override(checkpoint["config"], overrides(options), check_model)
    asked = replace(own, plot=replace(config.plot, **{key: getattr(own.plot, key) for key in TRAINED_WITH}))
    evaluated = experiment.is_evaluated(checkpoint["epoch"]) and not lacks_detail(checkpoint)
    if options.checkpoint != "latest" or evaluated:
        points, t = checkpoint["cloud"]["points"], asked.train
        seconds = seconds_of_steps(asked, points, _reserve(t.time_budget))
        refuse_if_over(experiment.folder, checkpoint, t.nepoch, t.time_budget, seconds)
    kept = tuple(f"plot.{key}" for key in TRAINED_WITH)
    say(
        f"continuing {experiment.folder} from step {checkpoint['epoch']}, with the configuration it has (but plot, "
        f"which is that of {options.conf}, without {', '.join(kept)})"
    )
    changed = _changes(config_from_dict(checkpoint["config"]), asked)
    if "train.seed" in changed:
        raise UserError(GOES_ON_WITH_ITS_SEED)
    trained_with = {key: value for key, value in changed.items() if key in kept or not key.startswith("plot.")}
    if texts := [assignment(key, value) for key, value in trained_with.items()]:
        say(f"changed from here on: {', '.join(texts)}")
    return checkpoint, asked


def _cloud_of(config: Config, options: argparse.Namespace) -> Path | None:
    """The file of the cloud that the command line names, if it is there."""
    from phase_recon.utils.locations import find_file
    from phase_recon.utils.overrides import values_of

    named = any("train.input_path" in values_of(text) for text in overrides(options))
    if config.train.input_path is None or not named:
        return None
    path = find_file(config.train.input_path)
    return path if path.is_file() else None


def _named_by_cloud(config: Config, options: argparse.Namespace) -> bool:
    """Whether it is the name of the cloud alone that says which run is meant."""
    from dataclasses import replace

    from phase_recon.reconstruction.names import named

    given = options.timestamp != "latest" or options.expname is not None
    return not given and config == named(replace(config, train=replace(config.train, expname=None)))


def _changes(before: Config, now: Config) -> dict[str, Any]:
    """The keys whose values a configuration changes, and these; two paths of one file are the same value."""
    from phase_recon.utils.config_files import differences

    changed = differences(before, now)
    for key in ("input_path", "stations"):
        if _same_file(getattr(before.train, key), getattr(now.train, key)):
            changed.pop(f"train.{key}", None)
    return changed


def _same_file(one: str | None, other: str | None) -> bool:
    """Whether two paths name one file that is there."""
    from phase_recon.utils.locations import find_file

    if one is None or other is None:
        return False
    first, second = find_file(one), find_file(other)
    return first.exists() and second.exists() and first.samefile(second)


def evaluate(config: Config, options: argparse.Namespace) -> dict[str, Path]:
    """Write the evaluation of a checkpoint.

    Raises:
        UserError: there is none, it is of another cloud, or its field has no surface.
    """
    from dataclasses import replace

    from phase_recon.reconstruction import evaluation
    from phase_recon.reconstruction.field import WITHOUT_DETAIL, field_from_checkpoint, lacks_detail
    from phase_recon.reconstruction.input_cloud import READING_KEYS, describe, load_cloud
    from phase_recon.reconstruction.scene import PreprocessSettings, find_body
    from phase_recon.utils.config_files import config_from_dict, override
    from phase_recon.utils.distributed import choose_device
    from phase_recon.utils.experiment import Experiment

    runs, name = folder_of_runs(config.train.exps_dir), str(config.train.expname)
    experiment = Experiment.find(runs, name, options.timestamp, _cloud_of(config, options))
    checkpoint = experiment.load_checkpoint(options.checkpoint)
    device, line = choose_device(options.gpu)
    say(line)
    say(f"evaluating step {checkpoint['epoch']} of {experiment.folder}")
    field = field_from_checkpoint(checkpoint, device, str(experiment.folder))
    if lacks_detail(checkpoint):
        say(f"warning: {WITHOUT_DETAIL}: the same command with --is-continue in place of --eval does it")
    texts = overrides(options)
    asked = override(checkpoint["config"], texts)
    changed = _changes(config_from_dict(checkpoint["config"]), asked)
    if idle := [key for key in changed if not key.startswith((*EVALUATED, *READING_KEYS))]:
        given = [flag_of(key, texts) for key in idle]
        remedy = "leave it out" if "--quality" not in given else "give --resolution, which may be other, without it"
        raise UserError(
            f"--eval: {', '.join(dict.fromkeys(given))} cannot be other than in the training; {remedy}, or train again "
            "with it"
        )
    cloud, config_of_run = load_cloud(asked, say)
    for line in describe(cloud, config_of_run):
        say(line)
    trained_on = checkpoint["config"]["train"].get("input_path")
    path, differs = config_of_run.train.input_path, checkpoint["cloud"] != cloud.fingerprint
    another = trained_on is not None and trained_on != path and not _same_file(trained_on, path)
    if another and differs and _named_by_cloud(config, options):
        raise UserError(
            f"{path}: there is no run of it; {experiment.folder}, of that name, was trained on {trained_on}: train "
            f"first, or give --expname {name} to measure that run by this cloud"
        )
    if another and Path(trained_on).exists():
        say(f"note: the run was trained on {trained_on}; its surface is cut, coloured and measured by this cloud")
    elif differs:
        say(
            f"note: the run was trained on {checkpoint['cloud']['points']} points, and now there are "
            f"{len(cloud.points)}, or their values changed; its surface is cut, coloured and measured by these"
        )
    if cloud.points.shape[1] != field.dimension:
        raise UserError(
            f"{path}: is {cloud.points.shape[1]}D, but the run is {field.dimension}D: "
            "leave --input out, or give the cloud that the run was trained on"
        )
    output, replaced = _output(replace(config_of_run, plot=config.plot), options, cloud)
    for text in replaced:
        say(text)
    written = evaluation.evaluate(
        field,
        cloud,
        config.plot,
        experiment,
        checkpoint["epoch"],
        say,
        cloud_path=config_of_run.train.input_path,
        target=options.target,
        query=options.query,
        output=output,
        body=find_body(cloud, config_of_run, PreprocessSettings())[1],
        ended=checkpoint.get("stage") == "end",
    )
    _say_verdict(written["metrics"], len(cloud.points))
    return written


def _other_command(name: str, arguments: list[str]) -> int:
    """``phase-recon compare``, ``phase-recon benchmark`` and ``phase-recon orient``."""
    from importlib import import_module

    status: int = import_module(f"phase_recon.reconstruction.{name}").main(arguments)
    return status


def _output(config: Config, options: argparse.Namespace, cloud: PointCloud) -> tuple[Path | None, list[str]]:
    """The file that --output means, and a line for each that will be replaced.

    That, --target and --query are looked at before there is anything to lose.

    Raises:
        UserError: one of them cannot be read or written.
    """
    from phase_recon.datasets.pointcloud import load_points
    from phase_recon.reconstruction.input_cloud import files_of
    from phase_recon.reconstruction.output import output_file, replacing

    d = cloud.points.shape[1]
    if options.target is not None:
        from phase_recon.reconstruction.target import read_target

        read_target(options.target, d)
    if options.query is not None:
        load_points(options.query, d)
    if options.output is None:
        return None, []
    plot = config.plot
    path = output_file(
        options.output, Path(str(config.train.input_path)), plot.mesh_format, plot.curve_format, d,
        {"target": options.target, "query": options.query, **files_of(config)},
    )  # fmt: skip
    return path, replacing(path, plot.overwrite)


def _reserve(budget: float | None) -> float:
    """Seconds of a time budget, in minutes, that what comes after the training is left."""
    return 0.0 if budget is None else min(EVALUATION_SECONDS, EVALUATION_SHARE * 60 * budget)


def _say_verdict(path: Path, points: int) -> None:
    """Say what came out, by the metrics.json of a cloud of so many points."""
    from phase_recon.reconstruction.verdict import verdict

    for line in verdict(json.loads(path.read_text()), points):
        say(line)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.exit(main())
