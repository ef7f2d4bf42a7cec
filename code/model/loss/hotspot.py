"""The HotSpot loss (Wang et al., CVPR 2025, HotSpot: Signed Distance Function Optimization with an Asymptotically
Sufficient Condition, section 4).

Its heat term is half of PHASE's energy in terms of w, with 1/λ in place of √ε: docs/HOTSPOT.md derives it.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from phase_recon.model.batch import Batch
from phase_recon.model.loss.base import (
    DifferentiableField,
    DistanceLoss,
    at_progress,
    course_problems,
    eikonal_residual,
    joint_mean,
)
from phase_recon.utils.errors import raise_problems


@dataclass(frozen=True)
class HotspotLoss(DistanceLoss):
    """b mean|f| + e mean|‖∇f‖ - 1| + h ½ ∫_Ω exp(-2λ|f|) (‖∇f‖² + 1), as named terms.

    The first mean is over the cloud, the second over the points of the cloud and of Ω together. Normals play no part.
    Each of b, e, h and λ has a course: its values at moments evenly spaced over the run, linear between them. The
    defaults are those of a configuration of the authors' code for the plane, as its users report it: λ rises from 4 to
    30 and e from 1 to 10 after a fifth of the run, and h falls from 20 to 0.1 in the last fifth. In space their code
    divides the integral by 3/2 more, so that it counts two thirds of what it does here.

    Attributes:
        boundary: the course of b.
        eikonal: the course of e.
        heat: the course of h.
        lambda_: the course of λ, in 1 / normalised units: the heat is exp(-λ|f|).

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    boundary: tuple[float, ...] = (350.0,)
    eikonal: tuple[float, ...] = (1.0, 1.0, 3.25, 5.5, 7.75, 10.0)
    heat: tuple[float, ...] = (20.0, 20.0, 20.0, 20.0, 20.0, 0.1)
    lambda_: tuple[float, ...] = (4.0, 4.0, 10.5, 17.0, 23.5, 30.0)

    def __post_init__(self) -> None:
        weights = {"boundary": self.boundary, "eikonal": self.eikonal, "heat": self.heat}
        raise_problems(course_problems(**weights, **{"lambda": self.lambda_}))

    def at(self, progress: float) -> Self:
        """The loss when a share of the run, 0 to 1, is over: with the values of that moment."""
        boundary, eikonal, heat, lambda_ = (
            (at_progress(course, progress),) for course in (self.boundary, self.eikonal, self.heat, self.lambda_)
        )
        return replace(self, boundary=boundary, eikonal=eikonal, heat=heat, lambda_=lambda_)

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of a batch, with the first value of each course: boundary, eikonal and heat."""
        value_at_data, gradient_at_data = field.value_and_gradient(batch.points)
        value, gradient = field.value_and_gradient(batch.omega)
        heat = torch.exp(-2 * self.lambda_[0] * value.abs()) * (gradient.square().sum(-1) + 1)
        at_data, in_omega = eikonal_residual(gradient_at_data), eikonal_residual(gradient)
        return {
            "boundary": self.boundary[0] * value_at_data.abs().mean(),
            "eikonal": self.eikonal[0] * joint_mean(at_data, in_omega, batch),
            "heat": self.heat[0] * 0.5 * (batch.weights * heat).mean(),
        }
