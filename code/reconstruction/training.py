"""From a cloud to a trained field: the loop, in the order in which the data flows."""

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from datasets.pointcloud import Normalisation, PointCloud, noise_level
from model.optimizer import Cosine, Optimizers, Step
from model.sample import OmegaDensity, Sampler
from model.start import flood
from reconstruction.field import NeuralField, build_model
from utils.config import Config
from utils.errors import UserError
from utils.experiment import Experiment
from utils.interrupt import deferred_signals

Announce = Callable[[str], None]
Preview = Callable[[NeuralField, int], None]


BALL_NOISE, BALL_LEAST, BALL_MOST = 2.0, 0.001, 0.02  # δ from the noise, normalised
OMEGA_MARGIN = 0.2  # of Ω about the cloud, at least: a thin cloud's own box would cut the transition of u
START_STEPS, START_BATCH, START_RATE = 150, 4096, 2e-3  # of the fit to a coarse start
REMEDY = "lower learning_rate_schedule's Initial, or set train.clip_gradient = 1"


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; ``status`` is the exit status it should end with."""

    def __init__(self, status: int, epoch: int) -> None:
        super().__init__(f"stopped at step {epoch}")
        self.status = status
        self.epoch = epoch


@dataclass
class Clock:
    """How much of a run is over: steps of nepoch, or seconds of a budget if there is one.

    Attributes:
        nepoch: steps of the whole run.
        budget: seconds of the whole training, or None.
        before: seconds used before this process took over.
        start: when this process started, by ``time.monotonic``.
    """

    nepoch: int
    budget: float | None
    before: float
    start: float

    @property
    def seconds(self) -> float:
        """Seconds of the run, those of earlier processes included."""
        return self.before + time.monotonic() - self.start

    def progress(self, epoch: int) -> float:
        """The share of the run that is over before a step: 0 at the start, 1 and above at the end."""
        return epoch / self.nepoch if self.budget is None else self.seconds / self.budget


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

    Raises:
        UserError: the checkpoint does not belong to this cloud, network or optimiser; the loss is no longer
            finite; or a time budget was over before the first step.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved if there is an experiment.
    """
    t = config.train
    if config.network.has_normals and cloud.normals is None:
        raise UserError(
            "network.has_normals = true, but the cloud has no normals: set it to false, or give a file with them"
        )

    # the cloud in the unit ball, and the box Ω in which the field is learned
    normalisation = Normalisation.fit(cloud.points)
    points = normalisation.apply(cloud.points)
    middle = (points.max(0) + points.min(0)) / 2
    half = (points.max(0) - points.min(0)) / 2
    half = np.maximum(half * t.bounding_box_scale, half + OMEGA_MARGIN)
    lower, upper = middle - half, middle + half
    noise = noise_level(points)
    radius = min(max(BALL_NOISE * noise, BALL_LEAST), BALL_MOST) if t.ball_sigma is None else t.ball_sigma
    sampler = _sampler(config, cloud, points, lower, upper, radius, device)

    # the network, its start and its optimiser
    torch.manual_seed(t.seed)
    problems: list[str] = []
    model = build_model(config, points.shape[1], problems)
    if model is None or problems:
        raise UserError("; ".join(problems))
    network, loss = model[0].to(device), model[1].for_noise(noise)
    announce(f"noise of the points: about {noise * normalisation.scale:.3g}; δ = {radius * normalisation.scale:.3g}")
    field = NeuralField(network, loss, normalisation, lower, upper, device)
    optimizers = Optimizers(network, t.optimizer, t.weight_decay, t.clip_gradient)
    schedule = _schedule(config)
    generator = torch.Generator(device).manual_seed(t.seed)
    fingerprint = {"points": len(cloud.points), "checksum": zlib.crc32(np.ascontiguousarray(cloud.points).tobytes())}

    if t.start == "flood" and checkpoint is None and (coarse := flood(points, lower, upper)) is not None:
        places, values = (torch.tensor(part, dtype=torch.float32, device=device) for part in coarse)
        _fit_values(network, Optimizers(network, t.optimizer), places, loss.output_for(values), generator)

    # where an earlier run stopped
    epoch, seconds = 0, 0.0
    if checkpoint is not None:
        if checkpoint["cloud"] != fingerprint:
            raise UserError(
                f"train.input_path: {t.input_path} is not the cloud that this run was started with "
                f"({checkpoint['cloud']['points']} points, now {fingerprint['points']}, or changed values): "
                "start a new run without --is_continue"
            )
        epoch, seconds = checkpoint["epoch"], checkpoint["seconds"]
        try:
            network.load_state_dict(checkpoint["network"])
            optimizers.load_state_dict(checkpoint["optimizers"])
            generator.set_state(checkpoint["generator"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):  # by what is wrong with them
            raise UserError(
                f"the checkpoint of step {epoch} has the weights of another network, or the state of another "
                "optimizer, than configured: leave network.inputs and train.optimizer as they were"
            ) from None
        if experiment is not None:
            experiment.rewind_log(epoch)

    def save() -> None:
        status.check(epoch)
        if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
            raise UserError(
                f"the weights became NaN or infinite at step {epoch}: the last checkpoint before is kept; {REMEDY}"
            )
        if experiment is not None:
            experiment.save_checkpoint(
                {
                    "epoch": epoch,
                    "seconds": clock.seconds,
                    "config": config.to_dict(),
                    "d": points.shape[1],
                    "network": {name: value.cpu() for name, value in network.state_dict().items()},
                    "optimizers": optimizers.state_dict(),
                    "generator": generator.get_state(),
                    "normalisation": normalisation.to_dict(),
                    "omega": {"lower": lower.tolist(), "upper": upper.tolist()},
                    "cloud": fingerprint,
                }
            )

    budget = None if t.time_budget is None else max(60 * t.time_budget - reserve, 1.0)
    clock = Clock(t.nepoch, budget, seconds, time.monotonic() if started is None else started)
    writer = _tensorboard(experiment, announce) if t.tensorboard and experiment is not None else None
    with deferred_signals() as stop, _bar(clock, epoch) as bar:
        status, rate = Status(clock, bar, announce, experiment, writer, epoch), 0.0
        while (progress := clock.progress(epoch)) < 1 and not stop.signal:
            batch = sampler.draw(generator)
            terms = loss.at(progress)(network, batch)
            total = torch.stack(list(terms.values())).sum()
            rate = schedule(epoch, progress)
            optimizers.step(total, rate)
            epoch += 1
            bar.update(epoch - bar.n if budget is None else 0)
            status.add(terms)
            if _due(epoch, t.status_frequency):
                status.report(epoch, rate)
            if _due(epoch, t.checkpoint_frequency):
                save()
            if preview is not None and _due(epoch, t.plot_frequency) and clock.progress(epoch) < 1:
                preview(field, epoch)
        if epoch == 0 and not stop.signal:
            raise UserError(
                f"train.time_budget: {t.time_budget} minutes were over before the first step: give more with --minutes"
            )
        if status.pending:
            status.report(epoch, rate)
        save()
        if stop.signal:
            raise Interrupted(stop.exit_status, epoch)
    return field, epoch


class Status:
    """Sums the terms of the steps since the last report on the device, so that the loop never waits for it."""

    def __init__(
        self,
        clock: Clock,
        bar: Any,
        announce: Announce,
        experiment: Experiment | None,
        writer: Any,
        epoch: int,
    ) -> None:
        self.clock, self.bar, self.announce = clock, bar, announce
        self.experiment, self.writer = experiment, writer
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.last = epoch
        self.shown = 0.0

    def add(self, terms: dict[str, Tensor]) -> None:
        """Count the terms of one step."""
        self.names = list(terms)
        values = torch.stack([term.detach() for term in terms.values()])
        self.sums = values if self.sums is None else self.sums + values

    @property
    def pending(self) -> bool:
        """Whether steps have been counted that no report has shown."""
        return self.sums is not None

    def check(self, epoch: int) -> dict[str, float]:
        """The means since the last report.

        Raises:
            UserError: one of them is NaN or infinite.
        """
        if self.sums is None:
            return {}
        means = dict(zip(self.names, (self.sums / (epoch - self.last)).tolist(), strict=True))
        for name, value in means.items():
            if not math.isfinite(value):
                raise UserError(
                    f"the loss term '{name}' became {value} between steps {self.last} and {epoch}: the last "
                    f"checkpoint before is kept; {REMEDY}"
                )
        return means

    def report(self, epoch: int, rate: float) -> None:
        """Log the means and show them."""
        means = self.check(epoch)
        loss = sum(means.values())
        record = {"epoch": epoch, "loss": loss, **means, "lr": rate, "time": round(self.clock.seconds, 3)}
        if self.experiment is not None:
            self.experiment.log(record)
        if self.writer is not None:
            for name in ("loss", *means, "lr"):
                self.writer.add_scalar(name, record[name], epoch)
            self.writer.flush()
        shown = {"loss": f"{loss:.4f}", **{name: f"{value:.4f}" for name, value in means.items()}}
        self.bar.set_postfix(shown, refresh=False)
        if self.bar.disable and self.clock.seconds - self.shown > 10:  # no terminal: a line now and then
            self.shown = self.clock.seconds
            terms = ", ".join(f"{name} {value}" for name, value in shown.items())
            self.announce(f"step {epoch}, {self.clock.progress(epoch):.0%}, {self.clock.seconds:.0f} s: {terms}")
        elif self.clock.budget is not None:
            self.bar.update(round(min(self.clock.seconds, self.clock.budget)) - self.bar.n)
        self.sums, self.last = None, epoch


def _fit_values(
    network: nn.Module, optimizers: Optimizers, places: Tensor, values: Tensor, generator: torch.Generator
) -> None:
    """Bring a network near given values (M,) at places (M, d): some steps of least absolute deviations."""
    for step in range(START_STEPS):
        chosen = torch.randint(len(places), (START_BATCH,), device=places.device, generator=generator)
        misfit = (network(places[chosen]) - values[chosen]).abs().mean()
        optimizers.step(misfit, START_RATE * (1 - step / START_STEPS))


def _due(epoch: int, frequency: int) -> bool:
    return frequency > 0 and epoch % frequency == 0


def _sampler(
    config: Config, cloud: PointCloud, points: Any, lower: Any, upper: Any, radius: float, device: torch.device
) -> Sampler:
    t, s = config.train, config.network.sampler
    near = s.properties.near_fraction if s.sampler_type == "NearData" else 0.0
    return Sampler(
        points=torch.tensor(points, dtype=torch.float32, device=device),
        normals=(
            torch.tensor(cloud.normals, dtype=torch.float32, device=device) if config.network.has_normals else None
        ),
        omega=OmegaDensity(points, lower, upper, near, s.properties.near_width).to(device),
        points_batch=t.points_batch,
        pts_per_ball=t.pts_per_ball,
        ball_radius=radius,
        pts_in_omega=t.pts_in_omega,
    )


def _schedule(config: Config) -> Step | Cosine:
    (given,) = config.train.learning_rate_schedule
    if given.Interval is not None and given.Factor is not None:
        return Step(given.Initial, given.Interval, given.Factor)
    return Cosine(given.Initial, given.Final or 0.0)


def _bar(clock: Clock, epoch: int) -> Any:
    """A progress bar on a terminal, over steps or seconds; elsewhere it draws nothing."""
    if clock.budget is None:
        return tqdm(total=clock.nepoch, initial=epoch, unit="step", disable=None, dynamic_ncols=True)
    return tqdm(total=round(clock.budget), unit="s", disable=None, dynamic_ncols=True)


def _tensorboard(experiment: Experiment | None, announce: Announce) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        announce("train.tensorboard = true, but TensorBoard is not installed: pip install tensorboard")
        return None
    assert experiment is not None
    return SummaryWriter(str(experiment.folder / "tensorboard"))
