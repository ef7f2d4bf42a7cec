"""From a cloud to a trained field: the loop, in the order in which the data flows."""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.model.loss.base import Loss, checked
from phase_recon.model.sampling import Sampler
from phase_recon.model.schedule import Cosine, Step
from phase_recon.reconstruction.adapt import adapt, most_frequencies
from phase_recon.reconstruction.build_model import kernels_for
from phase_recon.reconstruction.detail import adds_detail, correction_of, seconds_for
from phase_recon.reconstruction.field import DetailedField, Field
from phase_recon.reconstruction.findings import findings
from phase_recon.reconstruction.health import SMALLER_STEP, Failure
from phase_recon.reconstruction.hole_holding import HoleHoldingSettings
from phase_recon.reconstruction.preprocess import prepare
from phase_recon.reconstruction.progress import (
    LEAST_SECONDS,
    LEAST_SHARE,
    Announce,
    Clock,
    Status,
    progress_bar,
    tensorboard,
)
from phase_recon.reconstruction.recovery import course_of
from phase_recon.reconstruction.scene import PreprocessSettings, Scene
from phase_recon.reconstruction.state import Preview, Run, State, begin, checkpoint_of, resume
from phase_recon.utils.config import Config, LearningRate
from phase_recon.utils.config_files import to_hocon
from phase_recon.utils.distributed import ALONE, Ranks, Repeated
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.interrupt import deferred_signals
from phase_recon.utils.processor import subnormals_as_zero, subnormals_kept

DETAIL_SHARE = 0.4  # of a time budget, at most, for the correction after the last step
AWAITED = 240.0  # s that other ranks wait for it, at most; after 600 they give up


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; ``status`` is the exit status it should end with.

    ``failure`` says why the state was not saved, and is empty otherwise.
    """

    def __init__(self, status: int, epoch: int, failure: str = "") -> None:
        super().__init__(f"stopped at step {epoch}")
        self.status = status
        self.epoch = epoch
        self.failure = failure


def fit(
    config: Config,
    cloud: PointCloud,
    device: torch.device,
    announce: Announce,
    *,
    experiment: Experiment | None = None,
    checkpoint: dict[str, Any] | None = None,
    preview: Preview | None = None,
    started: float | None = None,
    reserve: float = 0.0,
    ranks: Ranks = ALONE,
    preprocessing: PreprocessSettings | None = None,
    holding: HoleHoldingSettings | None = None,
    observe: Callable[[Scene], None] | None = None,
) -> tuple[Field, int]:
    """Fit a field to a cloud; returns it with the number of steps it has had.

    Args:
        config: everything that can be set.
        cloud: the points, in the input's units.
        device: where to compute.
        announce: receives the lines a user should see.
        experiment: where checkpoints and the log go; None writes nothing.
        checkpoint: the state to go on from, or None to begin.
        preview: called with the field and the step every plot_frequency steps.
        started: when the command started (``time.monotonic``), for a time budget; now if None.
        reserve: seconds of a time budget to leave for what comes after the training.
        ranks: the processes that share each step; all but the first are given neither experiment nor preview.
        preprocessing: the constants of the preprocessing; None for those that were measured.
        holding: the constants that say how the surface is held in holes; None for those that were measured.
        observe: called with what the preprocessing found, before the first step.

    Raises:
        UserError: the checkpoint does not belong to this cloud, network or optimiser; the cloud is a needle; a file
            cannot be written; a batch that cannot be dealt evenly to the ranks; another rank has ended; or, as Failure,
            the loss is no longer finite, no surface is left, or it leaves Ω, and that for the second time, as the first
            is mended if train.mend.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved if there is an experiment.
    """
    started = time.monotonic() if started is None else started
    t = config.train
    budget = seconds_of_steps(config, len(cloud.points), reserve)
    seconds = 0.0 if checkpoint is None else checkpoint["seconds"]
    course = course_of(config, checkpoint, experiment, alone=ranks.size == 1)
    least = 0.0 if t.time_budget is None else min(LEAST_SHARE * 60 * t.time_budget, LEAST_SECONDS)
    clock = Clock(t.nepoch, budget, seconds, started, course.mending.spent, t.checkpoint_minutes, least)
    if config.network.has_normals and cloud.normals is None:
        raise UserError("network.has_normals = true, but the cloud has no normals: set it to false, or give some")
    for key in ("points_batch", "pts_in_omega"):
        ranks.check_share(f"train.{key}", getattr(t, key))

    # the cloud in the unit ball, the box Ω in which the field is learned, and what the points show of the surface
    scene = prepare(config, cloud, preprocessing)
    for line in findings(scene):
        announce(line)
    if observe is not None:
        observe(scene)
    course.open_allowed |= scene.ends_at_walls(config.plot)
    most = most_frequencies(config, scene.scale.spacing)
    config = adapt(config, scene.scale.spacing, scene.scale.noise_shown)
    problems: list[str] = []
    kernels = kernels_for(config, device, problems)
    for problem in problems:
        announce(f"note: steps are slower than they could be: {problem} (train.compile)")
    holding = holding or HoleHoldingSettings()
    run = Run(
        config=config, scene=scene, device=device, kernels=kernels, clock=clock, course=course, announce=announce,
        experiment=experiment, preview=preview, ranks=ranks, continued=checkpoint, holding=holding,
        most_frequencies=most,
    )  # fmt: skip
    while True:
        try:
            with subnormals_as_zero():
                return _fit(run, checkpoint)
        except Failure as failure:
            over = clock.budget is not None and clock.seconds >= clock.budget
            checkpoint = course.mend(failure, clock.seconds, over)
            clock.spent = course.mending.spent
            announce(f"warning: {failure}; going on {course.mending.action} (train.mend = true)")


def _fit(run: Run, checkpoint: dict[str, Any] | None) -> tuple[Field, int]:
    """``fit``, up to the end or a Failure."""
    run, state = begin(run) if checkpoint is None else resume(run, checkpoint)
    config, t, clock, course, ranks = run.config, run.config.train, run.clock, run.course, run.ranks
    loss, schedule = state.field.loss, schedule_of(config.train.learning_rate_schedule[0])
    step = Repeated(partial(_step, state, ranks), run.device, state.generator, run.recorded)
    ranks.copy_first(state.optimizers.parameters)
    if run.experiment is not None:
        _go_on_in_folder(run, run.experiment, state.epoch, checkpoint)
    with (
        deferred_signals(second_acts=ranks.size == 1) as stop,
        progress_bar(clock, state.epoch, ranks.first) as bar,
        tensorboard(run.experiment if t.tensorboard else None, run.announce) as writer,
        subnormals_kept(),  # but in the steps
    ):
        status, rate = Status(clock, bar, run.announce, run.experiment, writer, state.epoch, run.write, ranks), 0.0
        if checkpoint is not None:
            status.load_state_dict(checkpoint.get("status", {}), run.device)
        begun = state.epoch
        missing = clock.begin_steps(begun)
        if missing and not course.mending.reason:  # else it was the steps that failed that took the time
            run.announce(_note_of_overtime(run, missing))
        while (progress := ranks.agree(clock.progress(state.epoch), stop)) < 1:
            timed = t.checkpoint_minutes is not None and ranks.from_first(clock.struck())
            if state.epoch > begun and (timed or is_due(state.epoch, t.checkpoint_frequency)):
                _save(run, state, status, progress, stopped=bool(stop.signal))
            if run.preview is not None and state.epoch > begun and is_due(state.epoch, t.plot_frequency):
                run.preview(state.field.outward(), state.epoch)
            rate, in_gaps = course.mending.factor * schedule(state.epoch, progress), run.holding.weight(state.epoch)
            if in_gaps < 1 and state.sampler.clearance is not None:
                state.sampler.clearance.prepare()  # not in a step: it has a tree of the points
            with subnormals_as_zero():
                terms = step((state.sampler, loss.at(progress), in_gaps < 1), rate, in_gaps)
            state.epoch += 1
            if (gaps := state.gaps) is not None and gaps.after(state.epoch, state.field, ranks):
                state.sampler = gaps.join(state.sampler)
                if clock.progress(state.epoch) < 1:  # else for a run that goes on
                    held = f"{gaps.count} points hold the surface in gaps of the cloud (train.hold_gaps)"
                    run.announce(f"step {state.epoch}: {held}")
            bar.update(state.epoch - bar.n if clock.budget is None else 0)
            status.add(terms)
            if is_due(state.epoch, t.status_frequency):
                status.report(state.epoch, rate)
        if status.pending and not stop.signal:  # a run that goes on later reports them when they are due
            status.report(state.epoch, rate)
        try:
            _save(run, state, status, progress, stopped=bool(stop.signal), last=True)
        except Failure as failure:
            if stop.signal:
                raise Interrupted(stop.exit_status, state.epoch, str(failure)) from None
            raise
        ranks.wait()  # one that leaves before the first has saved would have it ended
        if stop.signal:
            raise Interrupted(stop.exit_status, state.epoch)
    outward = state.field.outward()
    if outward.sign < 0:
        run.announce("the field had the wrong sign on the walls of Ω: it is turned, so that inside is negative")
    return outward if state.correction is None else DetailedField(outward, state.correction), state.epoch


def _go_on_in_folder(run: Run, experiment: Experiment, epoch: int, checkpoint: dict[str, Any] | None) -> None:
    """Leave in a run's folder only what is of steps up to this one, where a checkpoint or a failure led back to it.

    The configuration of a run that goes on is written, and a failure is noted in the log.
    """
    mending = run.course.mending
    mended = bool(mending.reason) and mending.since == epoch
    if checkpoint is not None and (mended or checkpoint is run.continued):
        if checkpoint is run.continued:
            experiment.write_configuration(to_hocon(run.config))
        if (aside := experiment.set_aside(epoch)) is not None:
            run.announce(f"what later steps had left is now in {aside}")
    if checkpoint is not None or mending.reason:
        experiment.rewind_log(epoch)
        if mended:
            note = {"epoch": epoch + 1, "mended": mending.reason, "how": mending.action}
            run.write(lambda: experiment.log(note))


def _note_of_overtime(run: Run, missing: float) -> str:
    """What is said where what comes before the steps has left so many seconds of the time budget too few."""
    minutes = run.config.train.time_budget
    assert minutes is not None
    enough = math.ceil(10 * minutes + missing / (1 - DETAIL_SHARE) / 6) / 10  # the detail has its share
    return (
        f"note: what comes before the steps took {run.clock.seconds:.0f} s of the {minutes:g} minutes of "
        f"train.time_budget, so the run takes longer than that; --minutes {enough:g} would do"
    )


def _step(
    state: State,
    ranks: Ranks,
    sampler: Sampler,
    loss: Loss,
    eased: bool,
    rate: float | Tensor,
    in_gaps: float | Tensor,
) -> dict[str, Tensor]:
    """One step: the terms of the loss of a batch, and the weights moved by their gradients."""
    batch = sampler.draw(state.generator, in_gaps if eased else None).share(ranks.rank, ranks.size)
    terms = checked(loss(state.field.network, batch), loss)
    state.optimizers.step(torch.stack(list(terms.values())).sum(), rate)
    return {name: term.detach() for name, term in terms.items()}


def _save(run: Run, state: State, status: Status, progress: float, stopped: bool, last: bool = False) -> None:
    """Look at a state, and write it to a checkpoint, which the last must be; the last step's field is given its detail.

    Raises:
        Failure: it is not worth keeping.
    """
    status.check(state.epoch)
    if not all(bool(parameter.isfinite().all()) for parameter in state.field.network.parameters()):
        raise Failure(
            f"the weights became NaN or infinite at step {state.epoch}: the last checkpoint before is kept; "
            f"{SMALLER_STEP}"
        )
    level = state.field.loss.level(run.config.plot.mc_value)
    # a run that was asked to stop is looked at when it goes on, at the step where it would have been
    seconds = None if run.clock.budget is None else run.clock.seconds
    points = state.sampler.points
    healthy = not stopped and run.course.examine(state.field, points, level, state.epoch, progress, seconds)
    experiment = run.experiment
    if last and not stopped and adds_detail(run.config) and run.ranks.first:
        if experiment is not None:  # the steps are on disk while the correction is solved for
            experiment.save_checkpoint(run.course.saved(checkpoint_of(run, state, status, "detail"), healthy))
        state.correction = correction_of(state.field.outward(), run.scene, run.announce, _seconds_of_detail(run))
    stage = "end" if last and not stopped else "steps"
    saved = run.course.saved(checkpoint_of(run, state, status, stage), healthy)
    if experiment is not None and last:
        experiment.save_checkpoint(saved)
    elif experiment is not None:
        run.write(lambda: experiment.save_checkpoint(saved))


def _seconds_of_detail(run: Run) -> float:
    """The time that the correction may take: its share of a time budget, and no longer than other ranks wait."""
    minutes = run.config.train.time_budget
    allowed = math.inf if minutes is None else DETAIL_SHARE * 60 * minutes
    return allowed if run.ranks.size == 1 else min(allowed, AWAITED)


def seconds_of_steps(config: Config, points: int, reserve: float) -> float | None:
    """What a time budget leaves for the steps on a cloud of so many points; None where there is no budget.

    The correction after the last step, which only the phase loss has, gets its time, and what comes then ``reserve``.
    """
    minutes = config.train.time_budget
    if minutes is None:
        return None
    last = min(seconds_for(points), DETAIL_SHARE * 60 * minutes) if adds_detail(config) else 0.0
    return max(60 * minutes - reserve - last, 1.0)


def refuse_if_over(
    folder: Path, checkpoint: dict[str, Any], nepoch: int, minutes: float | None, seconds: float | None
) -> None:
    """Refuse to go on with a run that has had its steps or its time.

    Args:
        folder: of the run.
        checkpoint: to go on from.
        nepoch: steps of the run, which count without a time budget.
        minutes: the time budget, or None.
        seconds: what it leaves for the steps, or None without one.

    Raises:
        UserError: nothing is left to do.
    """
    if checkpoint["epoch"] >= nepoch if seconds is None else checkpoint["seconds"] >= seconds:
        done = f" of {nepoch} is done" if minutes is None else f" ended its {minutes:g} minutes"
        raise UserError(
            f"{folder}: step {checkpoint['epoch']}{done}; --steps N continues up to step N, --minutes M up to M "
            "minutes in all"
        )


def is_due(epoch: int, frequency: int) -> bool:
    """Whether something that comes every so many steps, 0 for never, comes after this one."""
    return frequency > 0 and epoch % frequency == 0


def schedule_of(given: LearningRate) -> Step | Cosine:
    """The course of a learning rate that an entry of the configuration means; its Initial is set."""
    assert given.Initial is not None
    if given.Interval is not None and given.Factor is not None:
        return Step(given.Initial, given.Interval, given.Factor)
    return Cosine(given.Initial, given.Final or 0.0, given.Restart, given.Warmup or 0.0)
