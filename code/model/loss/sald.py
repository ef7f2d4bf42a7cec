"""The SALD loss (Atzmon & Lipman 2021, SALD: Sign Agnostic Learning with Derivatives, section 3)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from phase_recon.model.batch import Batch
from phase_recon.model.loss.base import DifferentiableField, DistanceLoss, weight_problems
from phase_recon.utils.errors import raise_problems


@dataclass(frozen=True)
class SaldLoss(DistanceLoss):
    """mean | |f| - h | + λ mean min(|∇f - ∇h|, |∇f + ∇h|), where h is the unsigned distance to the cloud.

    The means are over ``Batch.unsigned``, as in SAL; |·| of a vector is the sum of its components' sizes, as in the
    authors' code. Normals play no part.

    Attributes:
        gradients: λ; 1 is that of the authors' configuration.

    Raises:
        ValueError: λ is below 0.
    """

    gradients: float = 1.0

    unsigned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        raise_problems(weight_problems(gradients=self.gradients))

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of a batch: distance and gradients."""
        assert batch.unsigned is not None
        value, gradient = field.value_and_gradient(batch.unsigned.points)
        along, against = ((gradient - sign * batch.unsigned.gradients).abs().sum(-1) for sign in (1, -1))
        return {
            "distance": (value.abs() - batch.unsigned.distances).abs().mean(),
            "gradients": self.gradients * torch.minimum(along, against).mean(),
        }
