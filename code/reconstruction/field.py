"""The trained field as its users ask for it: u, w and ∇w at any points, in the input's units."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from datasets.pointcloud import Normalisation
from model.kernels import CompiledKernels, Kernels
from model.network import ImplicitNet
from model.sample import Batch
from utils.build import build, find_class
from utils.config import Config, config_from_dict
from utils.distributed import multiplies_bfloat16
from utils.errors import UserError
from utils.experiment import read_checkpoint
from utils.memory import require_memory

Array = npt.NDArray[np.float64]
CHUNK = 1 << 13  # points at a time: a layer of them stays in the processor's cache, which halves the time on two cores
CONFS = Path(__file__).parents[1] / "confs"  # a configuration for each published loss
WALL = 32  # points along a side of Ω's walls, at which the sign of a field is looked at
STEP_REMEDY = "lower points_batch, pts_per_ball, pts_in_omega or network.inputs.dims"


class Loss(Protocol):
    """What a run needs of a loss: named terms for training, and the meaning of the network's output.

    Attributes:
        near: whether it looks at ``Batch.near``.
        gaps: whether it looks at ``Batch.clearance``.
        needs_normals: whether it has no meaning without normals.
        needs_second_derivatives: whether the network must be twice differentiable in x.
    """

    near: ClassVar[bool]
    gaps: ClassVar[bool]
    needs_normals: ClassVar[bool]
    needs_second_derivatives: ClassVar[bool]

    def __call__(self, field: Any, batch: Batch, /) -> dict[str, Tensor]:
        """The weighted terms of a batch."""

    def for_noise(self, noise: float) -> "Loss":
        """The loss for a cloud with this much noise, normalised units; what the configuration left open is set."""

    def at(self, progress: float) -> "Loss":
        """The loss when a share of the run, 0 to 1, is over; what is annealed has the value of that moment."""

    def phase(self, value: Tensor) -> Tensor:
        """The occupancy-like u in (-1, 1) from the network's output."""

    def output_for(self, distance: Tensor) -> Tensor:
        """The network's output that means a signed distance, normalised units."""

    def distance(self, value: Tensor) -> Tensor:
        """The signed distance, normalised units, from the network's output."""

    def distance_gradient(self, value: Tensor, gradient: Tensor) -> Tensor:
        """Its gradient, from the output and the output's gradient."""

    def level(self, phase: float) -> float:
        """The signed distance, normalised units, at which u has a value."""


def build_model(config: Config, d: int, problems: list[str]) -> tuple[nn.Module, Loss] | None:
    """The network and the loss that a configuration describes; what is wrong is appended to ``problems``."""
    kind = config.network.loss["type"]
    network = loss = None
    try:
        network_class = find_class(config.train.network_class)
        network = build(network_class, config.network.inputs, "network.inputs", problems, d_in=d)
    except UserError as error:
        problems.append(f"train.network_class: {error}")
    try:
        loss_class = find_class(f"model.loss.{kind}.{kind.capitalize()}Loss")
        parameters = {key: value for key, value in config.network.loss.items() if key != "type"}
        given = {"output": config.network.output} if "output" in signature(loss_class).parameters else {}
        if config.network.output == "u" and not given:
            problems.append(f"network.output: only the phase loss can learn u; remove it for {kind}")
        before = len(problems)
        loss = build(loss_class, parameters, "network.loss", problems, **given)
        if len(problems) > before and (CONFS / f"{kind}.conf").is_file():
            problems[-1] += f"; {kind} has keys of its own: see --conf code/confs/{kind}.conf"
    except UserError as error:
        problems.append(f"network.loss.type: {error}")
    if loss is not None and loss.needs_normals and not config.network.has_normals:
        problems.append(
            f"network.has_normals: the {kind} loss needs normals; set it to true, with a cloud that has them"
        )
    if network is None or loss is None:
        return None
    if loss.needs_second_derivatives and not getattr(network, "twice_differentiable", False):
        problems.append(
            f"network.loss.type: {kind} needs second derivatives, which the configured network does not have; set "
            "network.inputs.beta = 100, or train.network_class = model.siren.SirenNet"
        )
    return network, loss


def kernels_for(config: Config, device: torch.device, problems: list[str]) -> Kernels:
    """What computes between the matrix products of a configured ImplicitNet: compiled, and its backward pass in
    bfloat16, where that is wanted and of use. Why it is not compiled although it should be is appended to ``problems``.
    """
    if not issubclass(find_class(config.train.network_class), ImplicitNet):
        return Kernels()
    half = config.train.bfloat16 and multiplies_bfloat16(device)
    if config.train.compile and device.type == "cpu":
        try:
            return CompiledKernels(half)
        except UserError as problem:
            problems.append(str(problem))
    return Kernels(half)


def check_model(config: Config, problems: list[str]) -> None:
    """Append what is wrong with the configured network and loss; nothing of their size is allocated.

    That includes a step that the machine's memory cannot hold.
    """
    with torch.device("meta"):
        model = build_model(config, config.train.d_in or 3, problems)
    if model is not None:
        try:
            require_memory(memory_of_training(config, model[0]), "a step", STEP_REMEDY)
        except UserError as error:
            problems.append(f"train: {error}")


def memory_of_training(config: Config, network: nn.Module) -> float:
    """Bytes that training takes on the network's device, about (derived).

    Four copies of the weights (themselves, gradient, two moments); at every point of a step each layer's value and
    its copies for the backward pass, of which points with gradients (Ω, the cloud) keep six and balls three.
    """
    t = config.train
    weights = sum(p.numel() for p in network.parameters())
    widths = sum(p.shape[0] for p in network.parameters() if p.ndim == 2)
    in_balls = t.points_batch * t.pts_per_ball if t.ball_sigma > 0 else 0
    layers = 6 * (t.pts_in_omega + t.points_batch) + 3 * in_balls
    return 4.0 * (4 * weights + widths * layers)


@dataclass(frozen=True)
class NeuralField:
    """A network with what turns its output into u and w, and the frame of the input.

    Attributes:
        network: maps normalised points (..., d) to (...).
        loss: gives the output its meaning.
        normalisation: from the input's frame to the normalised one.
        lower: corner of Ω (d,), normalised.
        upper: the opposite corner (d,), normalised.
        device: where the network is.
        sign: 1, or -1 where the network gives the negative of what its loss means (``outward``).
    """

    network: nn.Module
    loss: Loss
    normalisation: Normalisation
    lower: Array
    upper: Array
    device: torch.device
    sign: float = 1.0

    def outward(self) -> Self:
        """The field with the sign that makes most of the walls of Ω outside.

        Where neither the loss nor the start tells inside from outside, f and -f are as good; and what encloses
        nothing but the cloud ends before the walls.
        """
        ticks = np.linspace(self.lower, self.upper, WALL)  # (WALL, d)
        lattice = np.stack(np.meshgrid(*ticks.T, indexing="ij"), axis=-1)
        walls = np.concatenate(
            [lattice.take(side, axis).reshape(-1, self.dimension) for axis in range(self.dimension) for side in (0, -1)]
        )
        inside = self.normalised(torch.from_numpy(walls.astype(np.float32))) < 0
        return replace(self, sign=-self.sign) if inside.double().mean() > 0.5 else self

    @property
    def dimension(self) -> int:
        """2 or 3."""
        return len(self.lower)

    def u(self, points: Array) -> Array:
        """The phase u (N,) at points (N, d) in the input's units: about -1 inside, 1 outside."""
        return self._ask(points, lambda x: self.loss.phase(self.sign * self.network(x)))

    def w(self, points: Array) -> Array:
        """The signed distance w (N,) at points (N, d), both in the input's units; negative inside."""
        return self._ask(points, self.normalised) * self.normalisation.scale

    def gradient(self, points: Array) -> Array:
        """∇w (N, d) at points (N, d) in the input's units; of length about 1, outward on the surface."""
        return self._ask(points, lambda x: self.normalised_value_and_gradient(x)[1])

    def normalised(self, x: Tensor) -> Tensor:
        """w (N,) at normalised float32 points (N, d) on the CPU, in normalised units."""
        with torch.no_grad():
            outputs = (self.sign * self.network(part.to(self.device)) for part in torch.split(x, CHUNK))
            return torch.cat([self.loss.distance(output).cpu() for output in outputs])

    def normalised_value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """w (N,) and ∇w (N, d) at normalised float32 points (N, d), without a graph."""
        values, gradients = [], []
        with torch.no_grad():
            for part in torch.split(x, CHUNK):
                value, gradient = (
                    self.sign * output
                    for output in self.network.value_and_gradient(part.to(self.device))  # type: ignore[operator]
                )
                values.append(self.loss.distance(value).cpu())
                gradients.append(self.loss.distance_gradient(value, gradient).cpu())
        return torch.cat(values), torch.cat(gradients)

    def _ask(self, points: Array, question: Callable[[Tensor], Tensor]) -> Array:
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != self.dimension:
            raise ValueError(f"points: expected shape (N, {self.dimension}), got {points.shape}")
        x = torch.from_numpy(self.normalisation.apply(points).astype(np.float32))
        with torch.no_grad():
            answers = [question(part.to(self.device)).cpu() for part in torch.split(x, CHUNK)]
        return torch.cat(answers).double().numpy()


def field_from_checkpoint(checkpoint: dict[str, Any], device: torch.device, source: str) -> NeuralField:
    """The field that a checkpoint holds; ``source`` names it in errors.

    Raises:
        UserError: the weights are not those of the network that its configuration describes.
    """
    problems: list[str] = []
    config, weights = config_from_dict(checkpoint["config"], source), checkpoint["network"]
    with torch.device("meta"):  # the shapes alone: what the configuration claims may be huge, the weights are here
        model = build_model(config, checkpoint["d"], problems)
    if model is None or problems:
        raise UserError(f"{source}: {'; '.join(problems)}")
    claimed = {name: value.shape for name, value in model[0].state_dict().items()}
    if claimed != {name: value.shape for name, value in weights.items()}:
        raise UserError(
            f"{source}: holds the weights of another network than its configuration describes; "
            "load another with --checkpoint N"
        )
    model = build_model(config, checkpoint["d"], problems)
    assert model is not None
    network, loss = model
    network.load_state_dict(weights)
    if isinstance(network, ImplicitNet):
        network.kernels = kernels_for(config, device, [])  # what is wrong was said while training; it is only slower
    return NeuralField(
        network.to(device).eval(),
        loss,
        Normalisation.from_dict(checkpoint["normalisation"]),
        np.array(checkpoint["omega"]["lower"]),
        np.array(checkpoint["omega"]["upper"]),
        device,
    ).outward()


def load_field(run_or_checkpoint: str | Path) -> NeuralField:
    """The field of a run's folder (its latest checkpoint) or of a checkpoint file, on the CPU.

    Raises:
        UserError: nothing to load there.
    """
    path = Path(run_or_checkpoint)
    if path.is_dir():
        run, path = path, path / "checkpoints" / "latest.pth"
        if not path.is_file():
            raise UserError(f"{run}: has no checkpoints/latest.pth: give a run's folder, <expname>/<time of start>")
    return field_from_checkpoint(read_checkpoint(path), torch.device("cpu"), str(path))
