"""The occupancy loss (Mescheder et al. 2019, Occupancy Networks: Learning 3D Reconstruction in Function Space)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from phase_recon.model.batch import Batch
from phase_recon.model.loss.base import DifferentiableField, DistanceLoss, mean_over_omega
from phase_recon.utils.errors import raise_problems

GOLDEN = (5**0.5 - 1) / 2  # the golden section: its multiples modulo 1 are spread the most evenly


@dataclass(frozen=True)
class OccupancyLoss(DistanceLoss):
    """Cross entropy of the probability of being outside, σ(f), at points labelled as inside or outside.

    The publication labels points in a box by watertight meshes. A cloud has no such labels, so here the points x - t n
    are labelled as inside and x + t n as outside, for points x of the cloud, their normals n and t evenly spaced
    in (0, offset]. The points of Ω beyond the cloud's bounding box are labelled as outside. The surface is where the
    probability is 1/2, so f = 0. There are no weights.

    f is a logit and no distance. w = f · offset takes the place of the distance: its sign is right and it grows away
    from the surface, but its size is not a distance, and ‖∇w‖ is not 1. u = 2 σ(f) - 1.

    Attributes:
        offset: largest distance of a labelled point from the cloud, normalised units (not from the publication). Set it
            well above the noise of the cloud, and below half of the thickness of its thinnest part.

    Raises:
        ValueError: the offset is not above 0.
    """

    offset: float = 0.02

    needs_normals: ClassVar[bool] = True

    def __post_init__(self) -> None:
        raise_problems([] if self.offset > 0 else [f"offset: must be above 0, got {self.offset}"])

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The cross entropy of a batch, by label: inside, outside, and beyond the cloud (its mean over all of Ω)."""
        assert batch.normals is not None
        assert batch.beyond is not None
        # t / offset is evenly spaced in (0, 1). Points that follow each other are near each other in space, so their
        # shares are far apart: a stride of about the golden section through all of them
        n = len(batch.points)
        stride = next(k for k in range(round(GOLDEN * n), 2 * n) if math.gcd(k, n) == 1)
        place = torch.arange(n, device=batch.points.device) * stride % n
        share = (place.to(batch.points.dtype) + 0.5) / n
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
        """The logit f (...) = distance / offset for distances (...), the inverse of ``distance``."""
        return distance / self.offset

    def distance(self, value: Tensor) -> Tensor:
        """w (...) = f · offset from the logit (...), in place of the signed distance: only its sign is right."""
        return self.offset * value

    def distance_gradient(self, value: Tensor, gradient: Tensor) -> Tensor:
        """The gradient of w (..., d): along the normal, but not of length 1."""
        return self.offset * gradient

    def level(self, phase: float) -> float:
        """The w at which u is ``phase`` (-1 to 1)."""
        return self.offset * 2.0 * math.atanh(phase)
