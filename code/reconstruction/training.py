"""From a cloud to a trained field: the loop, in the order in which the data flows."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.pointcloud import Normalisation, PointCloud
from model.kernels import Kernels
from model.network import ImplicitNet
from model.optimizer import Cosine, Optimizers, Step
from model.sample import Clearance, EstimatedNormals, OmegaDensity, Sampler, neighbour_distance
from reconstruction.field import Loss, NeuralField, build_model, kernels_for
from reconstruction.gaps import HeldGaps, weight_in_gaps
from reconstruction.health import SMALLER_STEP, Course, Failure, course_of
from reconstruction.preparation import NEEDLE, THIN, Prepared, prepare, settled
from reconstruction.progress import Announce, Clock, Status, progress_bar, tensorboard
from utils.config import Config
from utils.distributed import ALONE, Ranks, subnormals_as_zero
from utils.errors import UserError
from utils.experiment import Experiment
from utils.interrupt import deferred_signals

Preview = Callable[[NeuralField, int], None]


SAME_FRAME = 1e-6  # of the radius: rounding of another machine
START_STEPS, START_BATCH, START_RATE = 150, 2048, 2e-3  # of the fit to a coarse start


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
) -> tuple[NeuralField, int]:
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

    Raises:
        UserError: the checkpoint does not belong to this cloud, network or optimiser; a time budget was over before
            the first step; the cloud is a needle; a file cannot be written; a batch that cannot be dealt evenly to the
            ranks; another rank has ended; or, as Failure, the loss is no longer finite, no surface is left, or it
            leaves Ω, and that for the second time, as the first is mended if train.mend.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved if there is an experiment.
    """
    started = time.monotonic() if started is None else started
    t = config.train
    budget = None if t.time_budget is None else max(60 * t.time_budget - reserve, 1.0)
    seconds = 0.0 if checkpoint is None else checkpoint["seconds"]
    course = course_of(config, checkpoint, experiment, alone=ranks.size == 1)
    clock = Clock(t.nepoch, budget, seconds, started, course.mending.spent, t.checkpoint_minutes)
    if config.network.has_normals and cloud.normals is None:
        raise UserError(
            "network.has_normals = true, but the cloud has no normals: set it to false, or give a file with them"
        )
    for key in ("points_batch", "pts_in_omega"):
        ranks.check_share(f"train.{key}", getattr(t, key))

    # the cloud in the unit ball, the box Ω in which the field is learned, and what the points show of the surface
    data = prepare(config, cloud)
    _announce(data, announce)
    config = settled(config, data.reach, noisy=data.smoothed)
    problems: list[str] = []
    kernels = kernels_for(config, device, problems)
    for problem in problems:
        announce(f"note: steps are slower than they could be: {problem} (train.compile)")
    while True:
        try:
            with subnormals_as_zero():
                return _fit(
                    config, data, device, kernels, announce, clock, course, experiment, checkpoint, preview, ranks
                )
        except Failure as failure:
            checkpoint = course.mend(failure, clock.seconds, over=budget is not None and clock.seconds >= budget)
            clock.spent = course.mending.spent
            announce(f"warning: {failure}; going on {course.mending.action} (train.mend = true)")


def _announce(data: Prepared, announce: Announce) -> None:
    """Say what the cloud is like.

    Raises:
        UserError: it is a needle.
    """
    scale = data.normalisation.scale
    if len(data.extents) == 3 and data.extents[1] < NEEDLE:
        raise UserError(
            f"the cloud is a needle, {data.extents[1] * scale:.3g} by {data.thickness * scale:.3g} thick and "
            f"{data.extents[2] * scale:.3g} long: finer than the field resolves, it would come in pieces; stretch it "
            "across, say tenfold, and shrink the mesh as much"
        )
    if data.dropped:
        announce(f"{data.dropped} points stand far from all others and are left out (train.drop_outliers)")
    moved = ", smoothed" if data.smoothed else ""
    creases = f"; {data.creased} points added on creases" if data.creased else ""
    filling = f"; {data.filled} points added in openings (train.fill_openings)" if data.filled else ""
    announce(f"noise of the points: about {data.noise * scale:.3g}{moved}{creases}{filling}")
    if data.thickness < THIN:
        announce(
            f"warning: the cloud is {data.thickness * scale:.3g} thick at most, {data.thickness:.2g} of its radius: a "
            "body so thin may come in pieces, or leave Ω; a smaller network.loss.epsilon and a finer plot.resolution "
            "may help, or to stretch it across and to shrink the mesh as much"
        )


def _fit(
    config: Config,
    data: Prepared,
    device: torch.device,
    kernels: Kernels,
    announce: Announce,
    clock: Clock,
    course: Course,
    experiment: Experiment | None,
    checkpoint: dict[str, Any] | None,
    preview: Preview | None,
    ranks: Ranks,
) -> tuple[NeuralField, int]:
    """``fit``, up to the end or a Failure."""
    t = config.train
    d = data.points.shape[1]

    # the network, its start and its optimiser
    torch.manual_seed(course.mending.seed)
    problems: list[str] = []
    model = build_model(config, d, problems)
    if model is None or problems:
        raise UserError("; ".join(problems))
    network, loss = model[0].to(device), model[1].for_noise(data.noise_left)
    if isinstance(network, ImplicitNet):
        network.kernels = kernels
    sampler = _sampler(config, data, loss, device)
    gaps = HeldGaps(data.points, data.reach) if t.hold_gaps and loss.gaps else None
    field = NeuralField(network, loss, data.normalisation, data.lower, data.upper, device)
    optimizers = Optimizers(network, t.optimizer, t.weight_decay, t.clip_gradient, ranks.average_gradients)
    schedule = _schedule(config)
    generator = torch.Generator(device).manual_seed(course.mending.seed)

    if data.start is not None and checkpoint is None:
        known = data.start.places, data.start.distances
        places, values = (torch.tensor(part, dtype=torch.float32, device=device) for part in known)
        _fit_values(network, Optimizers(network, t.optimizer), places, loss.output_for(values), generator)

    # where an earlier run stopped
    epoch = 0
    if checkpoint is not None:
        if checkpoint["cloud"] != data.fingerprint:
            raise UserError(
                f"train.input_path: {t.input_path} is not the cloud that this run was started with "
                f"({checkpoint['cloud']['points']} points, now {data.fingerprint['points']}, or changed values): "
                "start a new run without --is_continue"
            )
        if not _same_frame(data, checkpoint):
            raise UserError(
                f"{t.input_path}: is scaled otherwise than when the run was started, by a version that left no strays "
                "out: continue with --set train.drop_outliers=false"
            )
        epoch = checkpoint["epoch"]
        try:
            network.load_state_dict(checkpoint["network"])
            optimizers.load_state_dict(checkpoint["optimizers"])
            generator.set_state(checkpoint["generator"])
            if gaps is not None:
                gaps.load_state_dict(checkpoint.get("gaps"), network)
                sampler = gaps.join(sampler)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):  # by what is wrong with them
            raise UserError(
                f"the checkpoint of step {epoch} has the weights of another network, or the state of another "
                "optimizer, than configured: leave network.inputs and train.optimizer as they were, and go on with the "
                "version that saved it"
            ) from None
    ranks.copy_first(optimizers.parameters)

    def write(action: Callable[[], object]) -> None:
        try:
            action()
        except UserError as error:
            if t.on_save_error == "stop":
                raise
            announce(f"warning: {error}; training goes on (train.on_save_error = continue)")

    if experiment is not None and (checkpoint is not None or course.mending.reason):
        experiment.rewind_log(epoch)
        if course.mending.reason and course.mending.since == epoch:
            note = {"epoch": epoch + 1, "mended": course.mending.reason, "how": course.mending.action}
            write(lambda: experiment.log(note))

    def save(last: bool = False) -> None:
        status.check(epoch)
        if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
            raise Failure(
                f"the weights became NaN or infinite at step {epoch}: the last checkpoint before is kept; "
                f"{SMALLER_STEP}"
            )
        level = loss.level(config.plot.mc_value)
        # a run that was asked to stop is looked at when it goes on, at the step where it would have been
        healthy = not stop.signal and course.examine(field, sampler.points, level, epoch, progress)
        state = course.saved(
            {
                "epoch": epoch,
                "seconds": clock.seconds,
                "config": config.to_dict(),
                "d": d,
                "network": {name: value.cpu() for name, value in network.state_dict().items()},
                "optimizers": optimizers.state_dict(),
                "generator": generator.get_state(),
                "gaps": None if gaps is None else gaps.state_dict(),
                "status": status.state_dict(),
                "normalisation": data.normalisation.to_dict(),
                "omega": {"lower": data.lower.tolist(), "upper": data.upper.tolist()},
                "cloud": data.fingerprint,
            },
            healthy,
        )
        if experiment is not None and last:
            experiment.save_checkpoint(state)
        elif experiment is not None:
            write(lambda: experiment.save_checkpoint(state))

    writer = tensorboard(experiment, announce) if t.tensorboard and experiment is not None else None
    with deferred_signals(second_acts=ranks.size == 1) as stop, progress_bar(clock, epoch, ranks.first) as bar:
        status, rate = Status(clock, bar, announce, experiment, writer, epoch, write, ranks), 0.0
        if checkpoint is not None:
            status.load_state_dict(checkpoint.get("status", {}), device)
        begun = epoch
        while (progress := ranks.agree(clock.progress(epoch), stop)) < 1:
            timed = t.checkpoint_minutes is not None and ranks.from_first(clock.struck())
            if epoch > begun and (timed or _due(epoch, t.checkpoint_frequency)):
                save()
            if preview is not None and epoch > begun and _due(epoch, t.plot_frequency):
                preview(field.outward(), epoch)
            batch = sampler.draw(generator, weight_in_gaps(epoch)).share(ranks.rank, ranks.size)
            terms = loss.at(progress)(network, batch)
            total = torch.stack(list(terms.values())).sum()
            rate = course.mending.factor * schedule(epoch, progress)
            optimizers.step(total, rate)
            epoch += 1
            if gaps is not None and gaps.after(epoch, field, ranks):
                sampler = gaps.join(sampler)
                announce(f"step {epoch}: {gaps.count} points hold the surface in gaps of the cloud (train.hold_gaps)")
            bar.update(epoch - bar.n if clock.budget is None else 0)
            status.add(terms)
            if _due(epoch, t.status_frequency):
                status.report(epoch, rate)
        if epoch == 0 and not stop.signal:
            raise UserError(
                f"train.time_budget: {t.time_budget} minutes were over before the first step: give more with --minutes"
            )
        if status.pending and not stop.signal:  # a run that goes on later reports them when they are due
            status.report(epoch, rate)
        try:
            save(last=True)
        except Failure as failure:
            if stop.signal:
                raise Interrupted(stop.exit_status, epoch, str(failure)) from None
            raise
        ranks.wait()  # one that leaves before the first has saved would have it ended
        if stop.signal:
            raise Interrupted(stop.exit_status, epoch)
    outward = field.outward()
    if outward.sign < 0:
        announce("the field was negative on the walls of Ω: its sign is turned, so that inside is negative")
    return outward, epoch


def _fit_values(
    network: nn.Module, optimizers: Optimizers, places: Tensor, values: Tensor, generator: torch.Generator
) -> None:
    """Bring a network near given values (M,) at places (M, d): some steps of least absolute deviations."""
    for step in range(START_STEPS):
        chosen = torch.randint(len(places), (START_BATCH,), device=places.device, generator=generator)
        misfit = (network(places[chosen]) - values[chosen]).abs().mean()
        optimizers.step(misfit, START_RATE * (1 - step / START_STEPS))


def _same_frame(data: Prepared, checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint's network was trained in this cloud's normalised coordinates."""
    then = Normalisation.from_dict(checkpoint["normalisation"])
    off = np.append(then.centre - data.normalisation.centre, then.scale - data.normalisation.scale)
    return bool(np.abs(off).max() <= SAME_FRAME * then.scale)


def _due(epoch: int, frequency: int) -> bool:
    return frequency > 0 and epoch % frequency == 0


def _sampler(config: Config, data: Prepared, loss: Loss, device: torch.device) -> Sampler:
    t, s = config.train, config.network.sampler
    near = s.properties.near_fraction if s.sampler_type == "NearData" else 0.0

    def tensor(values: Any, kind: torch.dtype = torch.float32) -> Any:
        return None if values is None else torch.tensor(values, dtype=kind, device=device)

    known, estimated = data.estimated, None
    if known is not None:
        estimated = EstimatedNormals(tensor(known.directions), tensor(known.trust), tensor(known.oriented, torch.bool))
    return Sampler(
        points=tensor(data.points),
        normals=tensor(data.normals),
        omega=OmegaDensity(data.points, data.lower, data.upper, near, s.properties.near_width).to(device),
        points_batch=t.points_batch,
        pts_per_ball=t.pts_per_ball,
        ball_radius=t.ball_sigma,
        pts_in_omega=t.pts_in_omega,
        estimated=estimated,
        spread=tensor(neighbour_distance(data.points)) if loss.near else None,
        clearance=Clearance(data.points, data.lower, data.upper, device) if t.ease_gaps and loss.gaps else None,
        reach=data.reach,
    )


def _schedule(config: Config) -> Step | Cosine:
    (given,) = config.train.learning_rate_schedule
    if given.Interval is not None and given.Factor is not None:
        return Step(given.Initial, given.Interval, given.Factor)
    return Cosine(given.Initial, given.Final or 0.0)
