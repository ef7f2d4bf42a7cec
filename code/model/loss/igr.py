"""The IGR loss (Gropp et al. 2020, Implicit Geometric Regularization for Learning Shapes, section 3)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from phase_recon.model.batch import Batch
from phase_recon.model.loss.base import (
    DifferentiableField,
    DistanceLoss,
    eikonal_residual,
    joint_mean,
    weight_problems,
)
from phase_recon.utils.errors import raise_problems


@dataclass(frozen=True)
class IgrLoss(DistanceLoss):
    """mean_i |f(x_i)| + λ E (‖∇f‖ - 1)² + τ mean_i ‖∇f(x_i) - n_i‖, as named terms.

    E is the mean over uniform points in Ω and one Gaussian sample about each point of the cloud; its σ is the distance
    to the point's 50th neighbour. The authors' code takes one uniform point for eight Gaussian ones; here
    train.pts_in_omega sets their number. Without normals the last term is left out, and the initialisation of the
    network decides which side is inside.

    Attributes:
        lambda_: λ, weight of the eikonal term, 0.1 in the publication.
        normals_lambda: τ, weight of the normal term, 1 in the publication; 0 leaves it out. The name is that of the
            authors' configuration.

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    lambda_: float = 0.1
    normals_lambda: float = 1.0

    near: ClassVar[bool] = True

    def __post_init__(self) -> None:
        raise_problems(weight_problems(**{"lambda": self.lambda_, "normals_lambda": self.normals_lambda}))

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of a batch: surface, eikonal and, with normals, normals."""
        assert batch.near is not None
        _, gradient = field.value_and_gradient(torch.cat([batch.near, batch.omega]))
        near, in_omega = eikonal_residual(gradient).square().tensor_split([len(batch.near)])
        eikonal = {"eikonal": self.lambda_ * joint_mean(near, in_omega, batch)}
        if batch.normals is None or self.normals_lambda == 0:
            return {"surface": field(batch.points).abs().mean(), **eikonal}
        value, gradient = field.value_and_gradient(batch.points)
        deviation = torch.linalg.vector_norm(gradient - batch.normals, dim=-1)
        return {"surface": value.abs().mean(), **eikonal, "normals": self.normals_lambda * deviation.mean()}
