"""The singular Hessian loss (Wang et al. 2023, Neural-Singular-Hessian: Implicit Neural Representation of Unoriented
Point Clouds by Enforcing Singular Hessian).
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

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
    mean_over_omega,
    weight_problems,
)
from phase_recon.utils.errors import raise_problems


@dataclass(frozen=True)
class NshLoss(DistanceLoss):
    """7000 mean|f| + 100 mean(1 - |cos∠(∇f, n)|) + 600 mean exp(-100|f|) + 50 mean|‖∇f‖ - 1| + v ½ mean|det H|.

    H is the Hessian, which has a zero eigenvalue, along ∇f, wherever f is a distance. Its mean is over one Gaussian
    point about each point of the cloud, σ the distance to its 50th neighbour; the third is over Ω, the others over the
    cloud. Without normals, which may point either way, the second term is left out. v falls from 3 to almost nothing in
    the second fifth of the run. The weights, that course and the half are those of the authors' code.

    Attributes:
        surface: weight of the first mean.
        normals: weight of the second.
        off: weight of the third.
        eikonal: weight of the fourth.
        singular: the course of v: its values at moments evenly spaced over the run, linear between them.

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    surface: float = 7000.0
    normals: float = 100.0
    off: float = 600.0
    eikonal: float = 50.0
    singular: tuple[float, ...] = (3.0, 3.0, 0.001, 0.0007, 0.0004, 0.0001)

    near: ClassVar[bool] = True
    needs_second_derivatives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        weights = weight_problems(surface=self.surface, normals=self.normals, off=self.off, eikonal=self.eikonal)
        raise_problems(weights + course_problems(singular=self.singular))

    def at(self, progress: float) -> Self:
        """The loss when a share of the run, 0 to 1, is over: with the weight v of that moment."""
        return replace(self, singular=(at_progress(self.singular, progress),))

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of a batch, with the first value of the course of v: surface, off, eikonal, singular and,
        with normals, normals.
        """
        assert batch.near is not None
        value_at_data, gradient_at_data = field.value_and_gradient(batch.points)
        x = batch.near.detach().requires_grad_(True)
        second = determinant(hessian(derivative(field(x), x), x))
        terms = {
            "surface": self.surface * value_at_data.abs().mean(),
            "off": self.off * mean_over_omega(torch.exp(-OFF_SURFACE * field(batch.omega).abs()), batch),
            "eikonal": self.eikonal * eikonal_residual(gradient_at_data).mean(),
            "singular": self.singular[0] * 0.5 * second.abs().mean(),
        }
        if batch.normals is not None:
            cosine = cosine_similarity(gradient_at_data, batch.normals, dim=-1)
            terms["normals"] = self.normals * (1 - cosine.abs()).mean()
        return terms


def determinant(matrices: Tensor) -> Tensor:
    """The determinants (M,) of matrices (M, d, d), d = 2 or 3, by their rows.

    The derivative of torch's own is costly where a matrix is singular, which is where this loss leads.
    """
    first, second = matrices[:, 0], matrices[:, 1]
    if matrices.shape[-1] == 2:
        return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    normal: Tensor = torch.linalg.cross(second, matrices[:, 2])
    return (first * normal).sum(-1)
