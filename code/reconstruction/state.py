"""What a run has from its beginning to its end, and what its steps change: made anew, or taken from a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phase_recon.datasets.pointcloud import Normalisation
from phase_recon.model.kernels import Kernels
from phase_recon.model.loss.base import Loss
from phase_recon.model.network import ImplicitNet
from phase_recon.model.optimizer import Optimizers
from phase_recon.model.sampling import Clearance, EstimatedNormals, OmegaDensity, Sampler, neighbour_distance
from phase_recon.reconstruction.build_model import build_model
from phase_recon.reconstruction.field import NeuralField
from phase_recon.reconstruction.hole_holding import HeldGaps
from phase_recon.reconstruction.preprocess import Prepared
from phase_recon.reconstruction.progress import Announce, Clock, Status
from phase_recon.reconstruction.recovery import Course
from phase_recon.utils.config import Config
from phase_recon.utils.distributed import Ranks, Repeated
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment

Preview = Callable[[NeuralField, int], None]

SAME_FRAME = 1e-6  # of the radius: rounding of another machine
START_STEPS, START_BATCH, START_RATE = 150, 2048, 2e-3  # of the fit to a coarse start


@dataclass(frozen=True)
class Run:
    """What a run has from its beginning to its end: the arguments of ``fit``, and what that made of them."""

    config: Config
    data: Prepared
    device: torch.device
    kernels: Kernels
    clock: Clock
    course: Course
    announce: Announce
    experiment: Experiment | None
    preview: Preview | None
    ranks: Ranks
    continued: dict[str, Any] | None

    @property
    def recorded(self) -> bool:
        """Whether steps may be recorded, where the device is one that can."""
        return self.config.train.compile and self.ranks.size == 1

    def write(self, action: Callable[[], object]) -> None:
        """Write something to disk, which the run may be told to do without (train.on_save_error)."""
        try:
            action()
        except UserError as error:
            if self.config.train.on_save_error == "stop":
                raise
            self.announce(f"warning: {error}; training goes on (train.on_save_error = continue)")


@dataclass
class State:
    """What the steps of a run change: all that a checkpoint must hold."""

    field: NeuralField
    optimizers: Optimizers
    generator: torch.Generator
    sampler: Sampler
    gaps: HeldGaps | None
    epoch: int = 0


def _new(run: Run) -> State:
    """A network as its class starts, and what trains it."""
    config, t, data, device = run.config, run.config.train, run.data, run.device
    torch.manual_seed(run.course.mending.seed)
    problems: list[str] = []
    model = build_model(config, data.points.shape[1], problems)
    if model is None or problems:
        raise UserError("; ".join(problems))
    network, loss = model[0].to(device), model[1].for_noise(data.noise_left)
    if isinstance(network, ImplicitNet):
        network.kernels = run.kernels
    return State(
        field=NeuralField(network, loss, data.normalisation, data.lower, data.upper, device),
        optimizers=Optimizers(
            network, t.optimizer, t.weight_decay, t.clip_gradient, run.ranks.average_gradients, t.momentum
        ),
        generator=torch.Generator(device).manual_seed(run.course.mending.seed),
        sampler=_sampler(config, data, loss, device),
        gaps=HeldGaps(data.points, data.reach) if t.hold_gaps and loss.gaps else None,
    )


def begin(run: Run) -> State:
    """The state before the first step: near the coarse start, if there is one."""
    state, start = _new(run), run.data.start
    if start is not None:
        places, values = (
            torch.tensor(part, dtype=torch.float32, device=run.device) for part in (start.places, start.distances)
        )
        _fit_values(run, state, places, state.field.loss.output_for(values))
    return state


def resume(run: Run, checkpoint: dict[str, Any]) -> State:
    """The state that a checkpoint holds.

    Raises:
        UserError: it is not of this cloud, network or optimiser.
    """
    state, data, path = _new(run), run.data, run.config.train.input_path
    if checkpoint["cloud"] != data.fingerprint:
        raise UserError(
            f"train.input_path: {path} is not the cloud that this run was started with "
            f"({checkpoint['cloud']['points']} points, now {data.fingerprint['points']}, or changed values): "
            "start a new run without --is_continue"
        )
    if not _same_frame(data, checkpoint):
        raise UserError(
            f"{path}: is scaled otherwise than when the run was started, by a version that left no strays "
            "out: continue with --set train.drop_outliers=false"
        )
    state.epoch = checkpoint["epoch"]
    try:
        state.field.network.load_state_dict(checkpoint["network"])
        state.optimizers.load_state_dict(checkpoint["optimizers"])
        if checkpoint["generator"].shape == state.generator.get_state().shape:
            state.generator.set_state(checkpoint["generator"])
        else:
            state.generator.manual_seed(run.course.mending.seed + state.epoch)
            run.announce("note: the run was on another kind of device: its random numbers begin anew here")
        if state.gaps is not None:
            state.gaps.load_state_dict(checkpoint.get("gaps"), state.field.network)
            state.sampler = state.gaps.join(state.sampler)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):  # by what is wrong with them
        raise UserError(
            f"the checkpoint of step {state.epoch} has the weights of another network, or the state of another "
            "optimizer, than configured: leave network.inputs and train.optimizer as they were, and go on with the "
            "version that saved it"
        ) from None
    return state


def checkpoint_of(run: Run, state: State, status: Status) -> dict[str, Any]:
    """What ``resume`` needs to go on from a state, and ``reconstruction.field`` to evaluate it."""
    data = run.data
    return {
        "epoch": state.epoch,
        "seconds": run.clock.seconds,
        "config": run.config.to_dict(),
        "d": data.points.shape[1],
        "network": {name: value.cpu() for name, value in state.field.network.state_dict().items()},
        "optimizers": state.optimizers.state_dict(),
        "generator": state.generator.get_state(),
        "gaps": None if state.gaps is None else state.gaps.state_dict(),
        "status": status.state_dict(),
        "normalisation": data.normalisation.to_dict(),
        "omega": {"lower": data.lower.tolist(), "upper": data.upper.tolist()},
        "cloud": data.fingerprint,
    }


def _sampler(config: Config, data: Prepared, loss: Loss, device: torch.device) -> Sampler:
    t, s = config.train, config.network.sampler
    near = s.properties.near_fraction if s.sampler_type == "NearData" else 0.0

    def tensor(values: Any, kind: torch.dtype = torch.float32) -> Any:
        return None if values is None else torch.tensor(values, dtype=kind, device=device)

    about = data.points if data.start is None else np.concatenate([data.points, data.start.surface])
    known, estimated = data.estimated, None
    if known is not None:
        estimated = EstimatedNormals(tensor(known.directions), tensor(known.trust), tensor(known.oriented, torch.bool))
    return Sampler(
        points=tensor(data.points),
        normals=tensor(data.normals),
        omega=OmegaDensity(about, data.lower, data.upper, near, s.properties.near_width).to(device),
        points_batch=t.points_batch,
        pts_per_ball=t.pts_per_ball,
        ball_radius=t.ball_sigma,
        pts_in_omega=t.pts_in_omega,
        areas=tensor(data.areas),
        estimated=estimated,
        spread=tensor(neighbour_distance(data.points)) if loss.near else None,
        clearance=Clearance(data.points, data.lower, data.upper, device) if t.ease_gaps and loss.gaps else None,
        reach=data.reach,
    )


def _fit_values(run: Run, state: State, places: Tensor, values: Tensor) -> None:
    """Bring a network near given values (M,) at places (M, d): some steps of least absolute deviations."""
    network = state.field.network
    optimizers = Optimizers(network, run.config.train.optimizer)

    def step(rate: float | Tensor) -> None:
        chosen = torch.randint(len(places), (START_BATCH,), device=run.device, generator=state.generator)
        optimizers.step((network(places[chosen]) - values[chosen]).abs().mean(), rate)

    repeated = Repeated(step, run.device, state.generator, run.recorded)
    for number in range(START_STEPS):
        repeated((), START_RATE * (1 - number / START_STEPS))


def _same_frame(data: Prepared, checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint's network was trained in this cloud's normalised coordinates."""
    then = Normalisation.from_dict(checkpoint["normalisation"])
    off = np.append(then.centre - data.normalisation.centre, then.scale - data.normalisation.scale)
    return bool(np.abs(off).max() <= SAME_FRAME * then.scale)
