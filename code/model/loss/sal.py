"""The SAL loss (Atzmon & Lipman 2020, SAL: Sign Agnostic Learning of Shapes from Raw Data, section 3)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from phase_recon.model.batch import Batch
from phase_recon.model.loss.base import DifferentiableField, DistanceLoss


@dataclass(frozen=True)
class SalLoss(DistanceLoss):
    """mean | |f| - h |, where h is the unsigned distance to the cloud.

    The mean is over ``Batch.unsigned``, half of it Gaussian points about the cloud, σ the distance to the 50th
    neighbour, and half with σ = 1, as in the authors' code. f and |f| cost the same; the start, a sphere, and least
    area lead to a signed f. Normals play no part, and there are no weights.
    """

    unsigned: ClassVar[bool] = True

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The term of a batch: distance."""
        assert batch.unsigned is not None
        return {"distance": (field(batch.unsigned.points).abs() - batch.unsigned.distances).abs().mean()}
