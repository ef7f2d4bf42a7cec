"""The trained field as its users ask for it: u, w and ∇w at any points, in the input's units."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from phase_recon.datasets.pointcloud import numbers
from phase_recon.geometry.lattice import walls
from phase_recon.geometry.points import Normalisation
from phase_recon.model.base import Network
from phase_recon.model.grid import SplineField
from phase_recon.model.loss.base import Loss
from phase_recon.model.network import ImplicitNet
from phase_recon.reconstruction.build_model import build_model, kernels_for
from phase_recon.utils.checkpoint import ANOTHER, read_checkpoint
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import config_from_dict
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import checkpoint_at

Array = npt.NDArray[np.float64]
CHUNK = 1 << 13  # points at a time: a layer of them stays in the processor's cache, which halves the time on two cores
FLATTEST = 0.3  # slope of w that is believed, where a distance is its value over its slope
WALL = 32  # points along a side of each wall of Ω, at which the sign of a field is looked at
WITHOUT_DETAIL = "the run was cut off after its last step, and lacks the detail that is solved for then"
INVERTED = 0.9  # share of these that are on the wrong side, from which the field has the wrong sign


class Field(Protocol):
    """A signed distance w in a box, as it is meshed, drawn, queried and measured: the only way to ask one.

    A network is one (``NeuralField``); so is whatever else answers these questions.
    """

    @property
    def normalisation(self) -> Normalisation:
        """From the input's frame to the normalised one, in which the box lies."""

    @property
    def lower(self) -> Array:
        """Corner of the box Ω (d,), normalised."""

    @property
    def upper(self) -> Array:
        """The opposite corner (d,), normalised."""

    @property
    def dimension(self) -> int:
        """2 or 3."""

    def normalised(self, x: Tensor, /) -> Tensor:
        """w (N,) at float32 points (N, d) on the CPU, both normalised; negative inside."""

    def normalised_value_and_gradient(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """w (N,) and ∇w (N, d) at float32 points (N, d) on the CPU, normalised."""

    def spacing_at(self, places: Array, /) -> Array:
        """That of the finest grid which the field holds at places (N, d), both normalised; infinite without (N,)."""

    def level(self, phase: float, /) -> float:
        """The normalised w at which u has a value."""

    def u(self, points: Array, /) -> Array:
        """The phase (N,) at points (N, d) in the input's units: about -1 inside, 1 outside."""

    def w(self, points: Array, /) -> Array:
        """The signed distance (N,) at points (N, d), both in the input's units."""

    def gradient(self, points: Array, /) -> Array:
        """∇w (N, d) at points (N, d) in the input's units."""


@dataclass(frozen=True, repr=False)
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
        walls_inside: whether the walls of Ω are inside, as beyond a room's.
    """

    network: Network
    loss: Loss
    normalisation: Normalisation
    lower: Array
    upper: Array
    device: torch.device
    sign: float = 1.0
    walls_inside: bool = False

    def outward(self) -> Self:
        """The field with the other sign where nearly all walls of Ω are on the wrong side.

        Where neither the loss nor the start tells inside from outside, f and -f are as good; and what encloses
        nothing but the cloud ends before the walls. An open sheet, which may go through them, keeps its sides.
        """
        nodes = walls(self.lower, self.upper, WALL).astype(np.float32)
        wrong = (self.normalised(torch.from_numpy(nodes)) < 0) != self.walls_inside
        return replace(self, sign=-self.sign) if wrong.double().mean() > INVERTED else self

    @property
    def dimension(self) -> int:
        """2 or 3."""
        return len(self.lower)

    def spacing_at(self, places: Array) -> Array:
        """A network has no grid: infinite (N,)."""
        return np.full(len(places), np.inf)

    def level(self, phase: float) -> float:
        """The normalised w at which u has a value."""
        return self.loss.level(phase)

    def u(self, points: Array) -> Array:
        """The phase u (N,) at points (N, d) in the input's units: about -1 inside, 1 outside."""
        return self._ask(points, lambda x: self.loss.phase(self.sign * self.network(x)))

    def w(self, points: Array) -> Array:
        """The signed distance w (N,) at points (N, d), both in the input's units; negative inside."""
        return self._ask(points, self.normalised) * self.normalisation.scale

    def gradient(self, points: Array) -> Array:
        """∇w (N, d) at points (N, d) in the input's units; of length about 1, outward on the surface."""
        return self.normalised_value_and_gradient(_normalised_points(self, points))[1].double().numpy()

    def normalised(self, x: Tensor) -> Tensor:
        """w (N,) at normalised float32 points (N, d) on the CPU, in normalised units."""
        with torch.no_grad():
            outputs = (self.sign * self.network(part.to(self.device)) for part in torch.split(x, CHUNK))
            return torch.cat([self.loss.distance(output).cpu() for output in outputs])

    def normalised_value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """w (N,) and ∇w (N, d) at normalised float32 points (N, d), without a graph."""
        values, gradients = [torch.empty(0)], [torch.empty(0, x.shape[-1])]
        with torch.no_grad():
            for part in torch.split(x, CHUNK) if len(x) else ():
                value, gradient = (
                    self.sign * output
                    for output in self.network.value_and_gradient(part.to(self.device))
                )
                values.append(self.loss.distance(value).cpu())
                gradients.append(self.loss.distance_gradient(value, gradient).cpu())
        return torch.cat(values), torch.cat(gradients)

    def _ask(self, points: Array, question: Callable[[Tensor], Tensor]) -> Array:
        x = _normalised_points(self, points)
        with torch.no_grad():
            answers = [question(part.to(self.device)).cpu() for part in torch.split(x, CHUNK)]
        return torch.cat(answers).double().numpy()


@dataclass(frozen=True, repr=False)
class DetailedField:
    """A network's field plus a correction: w = w_network + g, and u is the phase of that.

    Attributes:
        base: the network's field.
        correction: g on sparse grids (``reconstruction.detail``), normalised.
    """

    base: NeuralField
    correction: SplineField

    @property
    def loss(self) -> Loss:
        """What gives u its meaning."""
        return self.base.loss

    @property
    def normalisation(self) -> Normalisation:
        """From the input's frame to the normalised one."""
        return self.base.normalisation

    @property
    def lower(self) -> Array:
        """Corner of Ω (d,), normalised."""
        return self.base.lower

    @property
    def upper(self) -> Array:
        """The opposite corner (d,), normalised."""
        return self.base.upper

    @property
    def dimension(self) -> int:
        """2 or 3."""
        return self.base.dimension

    def spacing_at(self, places: Array) -> Array:
        """That of the correction's finest grid at places (N, d), both normalised; infinite where it has none (N,)."""
        return self.correction.spacing_at(places)

    def level(self, phase: float) -> float:
        """The normalised w at which u has a value."""
        return self.base.level(phase)

    def u(self, points: Array) -> Array:
        """The phase u (N,) at points (N, d) in the input's units: about -1 inside, 1 outside."""
        w = self.normalised(_normalised_points(self, points))
        return self.loss.phase(self.loss.output_for(w)).double().numpy()

    def w(self, points: Array) -> Array:
        """The signed distance w (N,) at points (N, d), both in the input's units; negative inside."""
        return self.normalised(_normalised_points(self, points)).double().numpy() * self.normalisation.scale

    def gradient(self, points: Array) -> Array:
        """∇w (N, d) at points (N, d) in the input's units; of length about 1, outward on the surface."""
        return self.normalised_value_and_gradient(_normalised_points(self, points))[1].double().numpy()

    def normalised(self, x: Tensor) -> Tensor:
        """w (N,) at normalised float32 points (N, d) on the CPU, in normalised units."""
        return self.base.normalised(x) + self.correction.value(x)

    def normalised_value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """w (N,) and ∇w (N, d) at normalised float32 points (N, d), without a graph."""
        value, gradient = self.base.normalised_value_and_gradient(x)
        more, slope = self.correction.value_and_gradient(x)
        return value + more, gradient + slope


def _normalised_points(field: Field, points: Array) -> Tensor:
    """Points (N, d) in the input's units as the field takes them, float32.

    Raises:
        UserError: they are no numbers, or of another dimension.
    """
    points = numbers("points", points)
    if points.ndim != 2 or points.shape[1] != field.dimension:
        raise UserError(f"points: expected shape (N, {field.dimension}), got {points.shape}")
    return torch.from_numpy(field.normalisation.apply(points).astype(np.float32))


def field_from_checkpoint(
    checkpoint: dict[str, Any], device: torch.device, source: str
) -> NeuralField | DetailedField:
    """The field that a checkpoint holds; ``source`` names it in errors.

    Raises:
        UserError: the weights are not those of the network that its configuration describes.
    """
    if "codes" in checkpoint:
        raise UserError(f"{source}: holds a space of many shapes: phase-recon-shapespace eval fits it to a cloud")
    config, weights = config_from_dict(checkpoint["config"], source), checkpoint["network"]
    check_weights(config, checkpoint["d"], weights, source)
    model = build_model(config, checkpoint["d"], [])
    assert model is not None
    network, loss = model
    network.load_state_dict(weights)
    if isinstance(network, ImplicitNet):
        network.kernels = kernels_for(config, device, [])  # what is wrong was said while training; it is only slower
    field = NeuralField(
        network.to(device).eval(),
        loss,
        Normalisation.from_dict(checkpoint["normalisation"]),
        np.array(checkpoint["omega"]["lower"]),
        np.array(checkpoint["omega"]["upper"]),
        device,
        walls_inside=checkpoint.get("walls_inside", False),
    ).outward()
    if (grids := checkpoint.get("detail")) is None:
        return field
    return DetailedField(field, SplineField.from_plain(grids))


def check_weights(
    config: Config, d: int, weights: Mapping[str, Tensor], source: str, latent_size: int = 0
) -> None:
    """Refuse weights of another network than a configuration describes, before anything of its size is allocated.

    Raises:
        UserError: they are of another; ``source`` names them.
    """
    problems: list[str] = []
    with torch.device("meta"):  # the shapes alone: what the configuration claims may be huge, the weights are here
        model = build_model(config, d, problems, latent_size)
    if model is None or problems:
        raise UserError(f"{source}: {'; '.join(problems)}")
    claimed = {name: value.shape for name, value in model[0].state_dict().items()}
    if claimed != {name: value.shape for name, value in weights.items()}:
        raise UserError(
            f"{source}: holds the weights of another network than its configuration describes; {ANOTHER}"
        )


def load_field(run_or_checkpoint: str | Path) -> NeuralField | DetailedField:
    """The field of a run's folder (its latest checkpoint) or of a checkpoint file, on the CPU.

    Raises:
        UserError: nothing to load there.

    Warns:
        UserWarning: the run was cut off before its detail was solved for.
    """
    path = checkpoint_at(run_or_checkpoint)
    checkpoint = read_checkpoint(path)
    if lacks_detail(checkpoint):
        warnings.warn(f"{path}: {WITHOUT_DETAIL}: --is-continue does it", stacklevel=2)
    return field_from_checkpoint(checkpoint, torch.device("cpu"), str(path))


def lacks_detail(checkpoint: dict[str, Any]) -> bool:
    """Whether its run was cut off after its last step, before the detail was solved for."""
    return checkpoint.get("stage") == "detail"
