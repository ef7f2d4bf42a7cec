"""The occupancy loss (Mescheder et al. 2019, Occupancy Networks: Learning 3D Reconstruction in Function Space)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from phase_recon.model.loss.base import DifferentiableField, DistanceLoss, check, mean_over_omega
from phase_recon.model.sampling import Batch


@dataclass(frozen=True)
class OccupancyLoss(DistanceLoss):
    """Cross entropy of the probability to be outside, σ(f), at points that are known to be inside or outside.

    The publication takes points all over a box, and their labels from watertight meshes. A cloud has none, so here the
    points x ± t n, offset along the normals with t even in (0, offset], are labelled: minus inside, plus outside; and
    the points of Ω beyond the cloud's bounding box, which are outside. The surface is where the probability is 1/2,
    f = 0. There are no weights.

    f is a logit and no distance. What is given as w is f · offset: right in sign and growing away from the surface,
    but not in its length, and ‖∇w‖ is not 1. u is σ(f) carried to (-1, 1).

    Attributes:
        offset: largest distance from the surface of a labelled point, normalised units (not from the publication): well
            above the noise of the cloud, and below half of its thinnest parts.

    Raises:
        ValueError: the offset is not above 0.
    """

    offset: float = 0.02

    needs_normals: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check([] if self.offset > 0 else [f"offset: must be above 0, got {self.offset}"])

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The cross entropy of a batch by its kinds of points: inside, outside, and beyond the cloud (as part of Ω)."""
        assert batch.normals is not None
        assert batch.beyond is not None
        n = len(batch.points)  # drawn at random: even steps along the batch are as good as random ones
        share = (torch.arange(n, dtype=batch.points.dtype, device=batch.points.device) + 0.5) / n
        step = self.offset * share.unsqueeze(-1) * batch.normals
        return {
            "inside": 0.5 * softplus(field(batch.points - step)).mean(),  # -log(1 - σ(f))
            "outside": 0.5 * softplus(-field(batch.points + step)).mean(),  # -log σ(f)
            "beyond": mean_over_omega(batch.beyond * softplus(-field(batch.omega)), batch),
        }

    def phase(self, value: Tensor) -> Tensor:
        """u = 2 σ(f) - 1 = tanh(f / 2) (...) from the logit (...)."""
        return torch.tanh(0.5 * value)

    def output_for(self, distance: Tensor) -> Tensor:
        """The logit (...) that ``distance`` gives back as a distance (...)."""
        return distance / self.offset

    def distance(self, value: Tensor) -> Tensor:
        """f · offset (...) from the logit (...): a stand-in for the signed distance, right in sign only."""
        return self.offset * value

    def distance_gradient(self, value: Tensor, gradient: Tensor) -> Tensor:
        """Its gradient (..., d): along the normal, but not of length 1."""
        return self.offset * gradient

    def level(self, phase: float) -> float:
        """What ``distance`` gives where u is ``phase``, between -1 and 1."""
        return self.offset * 2.0 * math.atanh(phase)
