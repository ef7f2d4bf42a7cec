"""The state of a training, made before step 1 or loaded from a checkpoint: network, optimiser, loss, points to draw."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phase_recon.geometry.points import Normalisation
from phase_recon.model.batch import EstimatedNormals
from phase_recon.model.grid import SplineField
from phase_recon.model.kernels import Kernels
from phase_recon.model.loss.base import Loss
from phase_recon.model.network import ImplicitNet
from phase_recon.model.optimizer import Optimizers
from phase_recon.model.sampling import Clearance, OmegaDensity, Sampler, neighbour_distance, unsigned_distances
from phase_recon.reconstruction.adapt import with_frequencies
from phase_recon.reconstruction.build_model import build_model, in_bfloat16
from phase_recon.reconstruction.field import NeuralField
from phase_recon.reconstruction.hole_holding import HeldGaps, HoleHoldingSettings
from phase_recon.reconstruction.progress import Announce, Clock, Status
from phase_recon.reconstruction.recovery import Course
from phase_recon.reconstruction.scene import Scene
from phase_recon.utils.config import Config
from phase_recon.utils.distributed import Ranks, Repeated
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.processor import subnormals_kept

Preview = Callable[[NeuralField, int], None]

SAME_FRAME = 1e-6  # of the radius: rounding of another machine
# Of the fit to a coarse start, which the first steps keep. Many steps of few places leave about half as many of them on
# the wrong side as 150 steps of 2048 at half of the rate, in 1.4 times the time.
START_STEPS, START_BATCH, START_RATE = 400, 512, 4e-3
# Share of the places of the coarse start on whose wrong side the network may be. With more, it lacks Fourier
# frequencies: it closed the gaps between the teeth of a noisy gear, and 1 000 steps did not open them again.
MISFIT = 0.03


@dataclass(frozen=True)
class Run:
    """What a run has from its beginning to its end: the arguments of ``fit``, and what that made of them."""

    config: Config
    scene: Scene
    device: torch.device
    kernels: Kernels
    clock: Clock
    course: Course
    announce: Announce
    experiment: Experiment | None
    preview: Preview | None
    ranks: Ranks
    continued: dict[str, Any] | None
    holding: HoleHoldingSettings
    most_frequencies: int = 0  # that a network which misses the coarse start may be given

    @property
    def recorded(self) -> bool:
        """Whether steps may be recorded, where the device is one that can."""
        return self.config.train.compile and self.ranks.size == 1

    def write(self, action: Callable[[], object]) -> None:
        """Write something to disk, which the run may be told to do without (train.on_save_error)."""
        write_or_warn(action, self.config.train.on_save_error, self.announce)


@dataclass
class State:
    """What the steps of a run change: all that a checkpoint must hold."""

    field: NeuralField
    optimizers: Optimizers
    generator: torch.Generator
    sampler: Sampler
    gaps: HeldGaps | None
    epoch: int = 0
    correction: SplineField | None = None  # what the last step's field lacks (``reconstruction.detail``)


def write_or_warn(action: Callable[[], object], on_save_error: str, announce: Announce) -> None:
    """Write something to disk; what is wrong is raised, or with on_save_error = continue only said.

    Raises:
        UserError: it cannot be written, and the run is to stop then.
    """
    try:
        action()
    except UserError as error:
        if on_save_error == "stop":
            raise
        announce(f"warning: {error}; training goes on (train.on_save_error = continue)")


def _new(run: Run) -> State:
    """A network as its class starts, and what trains it."""
    config, t, scene, device = run.config, run.config.train, run.scene, run.device
    torch.manual_seed(run.course.mending.seed)
    problems: list[str] = []
    model = build_model(config, scene.dimension, problems)
    if model is None or problems:
        raise UserError("; ".join(problems))
    network, loss = model[0].to(device), model[1].for_noise(scene.scale.noise_left)
    if isinstance(network, ImplicitNet):
        network.kernels = run.kernels
    domain, spacing = scene.domain, scene.scale.trained_spacing
    return State(
        field=NeuralField(
            network, loss, domain.normalisation, domain.lower, domain.upper, device, walls_inside=scene.is_room
        ),
        optimizers=Optimizers(
            network,
            t.optimizer,
            t.weight_decay,
            t.clip_gradient,
            run.ranks.average_gradients,
            t.momentum,
            in_bfloat16(config, device),
        ),
        generator=torch.Generator(device).manual_seed(run.course.mending.seed),
        sampler=sampler_of(config, scene, loss, device, run.course.mending.seed),
        gaps=HeldGaps(scene.points.positions, spacing, run.holding) if t.hold_gaps and loss.weighs_holes else None,
    )


def begin(run: Run) -> tuple[Run, State]:
    """The state before the first step: near the coarse start, if there is one.

    A network that misses the start is given one Fourier frequency more, as far as the run allows, and fitted again; the
    run that comes back says how many it has.
    """
    state, surface = _new(run), run.scene.coarse_surface
    if surface is None:
        return run, state
    places, distances = (
        torch.tensor(part, dtype=torch.float32, device=run.device) for part in (surface.places, surface.distances)
    )
    while True:
        _fit_values(run, state, places, state.field.loss.output_for(distances))
        k = run.config.network.inputs.get("k") or 0
        if k >= run.most_frequencies:
            return run, state
        with torch.no_grad():
            wrong = float((state.field.network(places) * distances < 0).float().mean())
        if run.ranks.from_first(wrong) <= MISFIT:
            return run, state
        run = replace(run, config=with_frequencies(run.config, k + 1))
        state = _new(run)


def resume(run: Run, checkpoint: dict[str, Any]) -> tuple[Run, State]:
    """The state that a checkpoint holds, with as many Fourier frequencies as ``begin`` gave its network.

    Raises:
        UserError: it is not of this cloud, network or optimiser.
    """
    k = checkpoint["config"]["network"]["inputs"].get("k")
    if run.most_frequencies > 0 and k is not None:
        run = replace(run, config=with_frequencies(run.config, k))
    state, scene, path = _new(run), run.scene, run.config.train.input_path
    if checkpoint["cloud"] != scene.cloud.fingerprint:
        raise UserError(
            f"{path or 'the points'}: not the cloud that this run was started with "
            f"({checkpoint['cloud']['points']} points, now {len(scene.cloud.points)}, or changed values): "
            "start a new run without --is-continue"
        )
    if not _same_frame(scene.domain.normalisation, checkpoint):
        raise UserError(
            f"{path}: is scaled otherwise than when the run was started, as other points count as outliers: continue "
            f"with --set train.drop_outliers={'false' if run.config.train.drop_outliers else 'true'}"
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
    return run, state


def checkpoint_of(run: Run, state: State, status: Status, stage: str) -> dict[str, Any]:
    """What ``resume`` needs to go on from a state, and ``reconstruction.field`` to evaluate it.

    ``stage``, of utils.checkpoint.STAGES, is what the run is to do next.
    """
    domain = run.scene.domain
    return {
        "epoch": state.epoch,
        "stage": stage,
        "seconds": run.clock.seconds,
        "config": run.config.to_dict(),
        "d": run.scene.dimension,
        "network": {name: value.cpu().contiguous() for name, value in state.field.network.state_dict().items()},
        "optimizers": state.optimizers.state_dict(),
        "generator": state.generator.get_state(),
        "gaps": None if state.gaps is None else state.gaps.state_dict(),
        "status": status.state_dict(),
        "detail": None if state.correction is None else state.correction.to_plain(),
        "normalisation": domain.normalisation.to_dict(),
        "omega": {"lower": domain.lower.tolist(), "upper": domain.upper.tolist()},
        "walls_inside": run.scene.is_room,
        "cloud": run.scene.cloud.fingerprint,
    }


@subnormals_kept()
def sampler_of(config: Config, scene: Scene, loss: Loss, device: torch.device, seed: int) -> Sampler:
    """What draws the batches of a scene for a loss; the seed is of the places whose distances SAL is given."""
    t, s, points = config.train, config.network.sampler, scene.points
    near = s.properties.near_fraction if s.sampler_type == "NearData" else 0.0

    def tensor(values: Any, kind: torch.dtype = torch.float32) -> Any:
        return torch.tensor(values, dtype=kind, device=device)

    positions, surface, lower, upper = points.positions, scene.coarse_surface, scene.domain.lower, scene.domain.upper
    about = positions if surface is None else np.concatenate([positions, surface.surface])
    eased = t.ease_gaps and loss.weighs_holes and scene.scale.trained_spacing > 0  # few places again and again: no gaps
    empty = surface.opened if loss.heeds_empty and surface is not None and len(surface.opened) else None
    estimated = None
    if scene.normals == "estimated":
        confidence, oriented = tensor(points.confidence), tensor(points.oriented, torch.bool)
        estimated = EstimatedNormals(tensor(points.normals), confidence, oriented)
    return Sampler(
        points=tensor(positions),
        normals=tensor(points.normals) if scene.normals == "given" else None,
        omega=OmegaDensity(about, lower, upper, near, s.properties.near_width).to(device),
        points_batch=t.points_batch,
        pts_per_ball=t.pts_per_ball,
        ball_radius=t.ball_sigma,
        pts_in_omega=t.pts_in_omega,
        areas=tensor(points.area),
        estimated=estimated,
        spread=tensor(neighbour_distance(positions)) if loss.near else None,
        unsigned=unsigned_distances(positions, device, seed) if loss.unsigned else None,
        clearance=Clearance(positions, lower, upper, device) if eased else None,
        spacing=scene.scale.trained_spacing,
        empty=None if empty is None else tensor(empty),
    )


def _fit_values(run: Run, state: State, places: Tensor, values: Tensor) -> None:
    """Bring a network near given values (M,) at places (M, d): some steps of least absolute deviations."""
    network = state.field.network
    optimizers = Optimizers(network, run.config.train.optimizer, half=in_bfloat16(run.config, run.device))

    def step(rate: float | Tensor) -> None:
        chosen = torch.randint(len(places), (START_BATCH,), device=run.device, generator=state.generator)
        optimizers.step((network(places[chosen]) - values[chosen]).abs().mean(), rate)

    repeated = Repeated(step, run.device, state.generator, run.recorded)
    for number in range(START_STEPS):
        repeated((), START_RATE * (1 - number / START_STEPS))


def _same_frame(now: Normalisation, checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint's network was trained in these normalised coordinates."""
    then = Normalisation.from_dict(checkpoint["normalisation"])
    off = np.append(then.centre - now.centre, then.scale - now.scale)
    return bool(np.abs(off).max() <= SAME_FRAME * then.scale)
