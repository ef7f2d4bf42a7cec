"""ViscoReg's loss (Krishnan & Duraiswami 2025, ViscoReg: Neural Signed Distance Functions via Viscosity Solutions)."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from phase_recon.model.base import derivative
from phase_recon.model.batch import Batch
from phase_recon.model.loss.base import (
    OFF_SURFACE,
    DifferentiableField,
    DistanceLoss,
    at_progress,
    course_problems,
    eikonal_residual,
    hessian,
    joint_mean,
    mean_over_omega,
    weight_problems,
)
from phase_recon.utils.errors import raise_problems


@dataclass(frozen=True)
class ViscoregLoss(DistanceLoss):
    """3000 mean|f| + 100 mean exp(-100|f|) + 50 (mean|‖∇f‖ - 1 - ε Δf| + mean|‖∇f‖ - 1|), as named terms.

    The first and the last mean are over the cloud, the others over Ω. The eikonal equation with ε Δf has one solution
    where the one without has many, and ε falls to zero during the run; once it is zero, the two eikonal means become
    one over all points, as in SIREN. Normals play no part. The weights and the course of ε are those of the authors'
    runs on scans.

    Attributes:
        surface: weight of the first mean.
        off: weight of the second.
        eikonal: weight of the two last.
        viscosity: the course of ε, in normalised units: its values at moments evenly spaced over the run, linear
            between them.

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    surface: float = 3000.0
    off: float = 100.0
    eikonal: float = 50.0
    viscosity: tuple[float, ...] = (0.5, 0.4, 0.04, 0.005, 0.0, 0.0)

    needs_second_derivatives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        weights = weight_problems(surface=self.surface, off=self.off, eikonal=self.eikonal)
        raise_problems(weights + course_problems(viscosity=self.viscosity))

    def at(self, progress: float) -> Self:
        """The loss when a share of the run, 0 to 1, is over: with the ε of that moment."""
        return replace(self, viscosity=(at_progress(self.viscosity, progress),))

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of a batch, with the first value of the course of ε: surface, off and eikonal."""
        value_at_data, gradient_at_data = field.value_and_gradient(batch.points)
        epsilon = self.viscosity[0]
        if epsilon == 0:
            value, gradient = field.value_and_gradient(batch.omega)
            eikonal = joint_mean(eikonal_residual(gradient_at_data), eikonal_residual(gradient), batch)
        else:
            x = batch.omega.detach().requires_grad_(True)
            value = field(x)
            gradient = derivative(value, x)
            laplacian = hessian(gradient, x).diagonal(dim1=-2, dim2=-1).sum(-1)
            misfit = torch.linalg.vector_norm(gradient, dim=-1) - 1 - epsilon * laplacian
            eikonal = mean_over_omega(misfit.abs(), batch) + eikonal_residual(gradient_at_data).mean()
        return {
            "surface": self.surface * value_at_data.abs().mean(),
            "off": self.off * mean_over_omega(torch.exp(-OFF_SURFACE * value.abs()), batch),
            "eikonal": self.eikonal * eikonal,
        }
