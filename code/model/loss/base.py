"""What losses share: the protocols ``DifferentiableField`` and ``Loss``, base classes, and means over points.

A loss whose network gives the signed distance derives from ``DistanceLoss`` and adds its terms. ``FourTermLoss`` has
the four terms that several publications share; ``AnnealedLoss`` adds the second-order term of two of them. The other
modules of this package hold one loss each and do not import each other.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from phase_recon.model.base import derivative
from phase_recon.model.batch import Batch
from phase_recon.utils.errors import UserError, raise_problems

OFF_SURFACE = 100.0  # 1 / normalised units: α of exp(-α |f|), 1/e at a distance of 0.01 (Sitzmann et al. 2020)


class DifferentiableField(Protocol):
    """A function of points (..., d) that gives its value (...), or its value and its gradient (..., d)."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """The value (...) at points x (..., d)."""

    @property
    def value_and_gradient(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """The function that gives value (...) and gradient (..., d) at points x (..., d)."""


class Loss(Protocol):
    """What a run needs of a loss: named terms for training, and the meaning of the network's output.

    Attributes:
        near: whether it uses ``Batch.near``.
        unsigned: whether it uses ``Batch.unsigned``.
        weighs_holes: whether it weights the energy in holes of the cloud, for which it needs ``Batch.clearance``.
        heeds_empty: whether it keeps ``Batch.empty`` outside.
        needs_normals: whether it requires given normals.
        needs_second_derivatives: whether the network must be twice differentiable in x.
    """

    near: ClassVar[bool]
    unsigned: ClassVar[bool]
    weighs_holes: ClassVar[bool]
    heeds_empty: ClassVar[bool]
    needs_normals: ClassVar[bool]
    needs_second_derivatives: ClassVar[bool]

    def __call__(self, field: Any, batch: Batch, /) -> dict[str, Tensor]:
        """The weighted terms () of a batch, by name; their sum is the loss."""

    def for_noise(self, noise: float) -> "Loss":
        """The loss for a cloud with this noise (normalised units), which sets what the configuration left as null."""

    def at(self, progress: float) -> "Loss":
        """The loss when the share ``progress`` (0 to 1) of the run is finished, with the weights of that moment."""

    def phase(self, value: Tensor) -> Tensor:
        """The phase u (...), -1 (inside) to 1 (outside), from the network's output (...)."""

    def output_for(self, distance: Tensor) -> Tensor:
        """The network's output (...) for signed distances (...), normalised units."""

    def distance(self, value: Tensor) -> Tensor:
        """The signed distance (...), normalised units, from the network's output (...)."""

    def distance_gradient(self, value: Tensor, gradient: Tensor) -> Tensor:
        """The gradient (..., d) of that distance, from the output (...) and the output's gradient (..., d)."""

    def level(self, phase: float) -> float:
        """The signed distance, normalised units, at which u is ``phase`` (-1 to 1)."""


class DistanceLoss:
    """A loss whose network gives the signed distance w itself: normalised units, negative inside.

    The attributes are those of ``Loss``.
    """

    near: ClassVar[bool] = False
    unsigned: ClassVar[bool] = False
    weighs_holes: ClassVar[bool] = False
    heeds_empty: ClassVar[bool] = False
    needs_normals: ClassVar[bool] = False
    needs_second_derivatives: ClassVar[bool] = False

    def for_noise(self, noise: float) -> Self:
        """The loss itself, for a cloud with any noise."""
        return self

    def at(self, progress: float) -> Self:
        """The loss itself, at any moment of the run."""
        return self

    def phase(self, value: Tensor) -> Tensor:
        """w (...) clipped to -1 … 1: these losses have no phase. So ``plot.mc_value`` is a distance, as in IGR."""
        return value.clamp(-1.0, 1.0)

    def output_for(self, distance: Tensor) -> Tensor:
        """The network's output (...) for signed distances (...), normalised units."""
        return distance

    def distance(self, value: Tensor) -> Tensor:
        """The signed distance w (...), normalised units, from the network's output (...)."""
        return value

    def distance_gradient(self, value: Tensor, gradient: Tensor) -> Tensor:
        """∇w (..., d) from the network's output (...) and its gradient (..., d)."""
        return gradient

    def level(self, phase: float) -> float:
        """The signed distance, normalised units, at which ``phase`` gives this value."""
        return phase


@dataclass(frozen=True)
class FourTermLoss(DistanceLoss):
    """s mean|f| + n mean(1 - cos∠(∇f, n)) + o mean exp(-100|f|) + e mean|‖∇f‖ - 1|, as named terms.

    f is the network's output. The first two means are over the cloud, the third over Ω, the last over the points of
    both. Without normals, the second term is left out.

    Attributes:
        surface: s, weight of the distance at the points of the cloud.
        normals: n, weight of the angle between gradient and normal.
        off: o, weight of small distances away from the surface.
        eikonal: e, weight of the eikonal term.
        either_way: whether normals may have either sign: |cos| takes the place of cos.

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    surface: float = 3000.0
    normals: float = 100.0
    off: float = 100.0
    eikonal: float = 50.0

    either_way: ClassVar[bool] = False

    def __post_init__(self) -> None:
        raise_problems(self.problems())

    def problems(self) -> list[str]:
        """A line "name: what is wrong" for each value out of range."""
        return weight_problems(surface=self.surface, normals=self.normals, off=self.off, eikonal=self.eikonal)

    def four_terms(
        self, field: DifferentiableField, batch: Batch, value: Tensor, gradient: Tensor
    ) -> dict[str, Tensor]:
        """The weighted terms of a batch, given value (M,) and gradient (M, d) at ``batch.omega``."""
        value_at_data, gradient_at_data = field.value_and_gradient(batch.points)
        terms = {
            "surface": self.surface * value_at_data.abs().mean(),
            "off": self.off * mean_over_omega(torch.exp(-OFF_SURFACE * value.abs()), batch),
            "eikonal": self.eikonal * joint_mean(
                eikonal_residual(gradient_at_data), eikonal_residual(gradient), batch
            ),
        }
        if batch.normals is not None:
            cosine = cosine_similarity(gradient_at_data, batch.normals, dim=-1)
            terms["normals"] = self.normals * (1 - (cosine.abs() if self.either_way else cosine)).mean()
        return terms


@dataclass(frozen=True)
class AnnealedLoss(FourTermLoss):
    """The four terms, and the mean over Ω of a second-order term, whose weight falls to zero during the run.

    Attributes:
        divergence: weight of the second-order term at the first step.
        constant_until: share of the run up to which the weight is constant.
        zero_from: share of the run from which the weight is zero; between the two it falls linearly.
    """

    divergence: float = 100.0
    constant_until: float = 0.2
    zero_from: float = 0.4

    needs_second_derivatives: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """A line "name: what is wrong" for each value out of range."""
        found = super().problems() + weight_problems(divergence=self.divergence)
        if not 0 <= self.constant_until <= 1:
            found.append(f"constant_until: expected a share of the run, 0 to 1, got {self.constant_until}")
        elif not self.constant_until <= self.zero_from:
            found.append(f"zero_from: expected constant_until ({self.constant_until}) or more, got {self.zero_from}")
        return found

    def at(self, progress: float) -> Self:
        """The loss when the share ``progress`` (0 to 1) of the run is finished: with the weight of that moment."""
        start, end = self.constant_until, self.zero_from
        if progress < start:
            return self
        remaining = (end - progress) / (end - start) if progress < end else 0.0
        return replace(self, divergence=self.divergence * remaining)

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of a batch: surface, off, eikonal, divergence and, with normals, normals."""
        if self.divergence == 0:
            terms = self.four_terms(field, batch, *field.value_and_gradient(batch.omega))
            return {**terms, "divergence": torch.zeros_like(terms["surface"])}
        x = batch.omega.detach().requires_grad_(True)
        value = field(x)
        gradient = derivative(value, x)
        terms = self.four_terms(field, batch, value, gradient)
        return {**terms, "divergence": self.divergence * mean_over_omega(self.second_order(x, gradient), batch)}

    @abstractmethod
    def second_order(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The second-order term (M,) at points x (M, d), from the gradient (M, d) there; it is differentiable."""


def checked(terms: Any, loss: Loss) -> dict[str, Tensor]:
    """The terms that a loss gave, if they are what a run needs: a number () each, by name.

    Raises:
        UserError: they are not; the text names the loss and the term.
    """
    name = type(loss).__name__
    if not isinstance(terms, dict) or not terms:
        raise UserError(f"{name}: gave {type(terms).__name__} in place of its terms; return {{name: tensor, ...}}")
    for term, value in terms.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{name}: the term {term!r} is a {type(value).__name__}; expected a tensor of one number")
        if value.ndim:
            shape = tuple(value.shape)
            raise UserError(f"{name}: the term {term!r} has the shape {shape}; expected one number: take its mean")
    return terms


def mean_over_omega(values: Tensor, batch: Batch) -> Tensor:
    """The mean () over Ω of a function with values (M,) at ``batch.omega``, independent of these points' density."""
    return (batch.weights * values).mean() / batch.volume


def joint_mean(values: Tensor, in_omega: Tensor, batch: Batch) -> Tensor:
    """The mean () of values (N,) at any points and values (M,) at ``batch.omega``, the latter as if uniform in Ω."""
    n, m = len(values), len(in_omega)
    return (n * values.mean() + m * mean_over_omega(in_omega, batch)) / (n + m)


def eikonal_residual(gradient: Tensor) -> Tensor:
    """| ‖∇f‖ - 1 | (...) of gradients (..., d): the residual of the eikonal equation."""
    residual: Tensor = (torch.linalg.vector_norm(gradient, dim=-1) - 1).abs()
    return residual


def hessian(gradient: Tensor, x: Tensor) -> Tensor:
    """The second derivatives (M, d, d) of a field from its gradient (M, d), computed from the points x (M, d)."""
    return torch.stack([derivative(gradient[:, i], x) for i in range(x.shape[-1])], dim=-2)


def at_progress(course: Sequence[float], progress: float) -> float:
    """The value of a weight when a share of the run, 0 to 1, is over.

    Args:
        course: its values at moments that are evenly spaced over the run, the first at the start and the last at the
            end; linear between them. A single value holds throughout.
        progress: the share.
    """
    if len(course) == 1:
        return course[0]
    place = min(max(progress, 0.0), 1.0) * (len(course) - 1)
    before = min(int(place), len(course) - 2)
    return course[before] + (place - before) * (course[before + 1] - course[before])


def course_problems(**courses: Sequence[float]) -> list[str]:
    """A line "name: what is wrong" for each course of a weight that is empty or has a value below 0."""
    return [
        f"{name}: expected one or more values of 0 or above, got {list(course)}"
        for name, course in courses.items()
        if not course or not all(value >= 0 for value in course)
    ]


def weight_problems(**weights: float) -> list[str]:
    """A line "name: what is wrong" for each weight that is not 0 or above."""
    return [f"{name}: must be 0 or above, got {value}" for name, value in weights.items() if not value >= 0]
