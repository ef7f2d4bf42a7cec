"""The DiGS loss (Ben-Shabat et al. 2022, Divergence Guided Shape Implicit Neural Representation, section 3)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from phase_recon.model.loss.base import AnnealedLoss, hessian

SMALLEST_LAPLACIAN = 0.1  # 1 / normalised units: |Δf| is at least this, as in the authors' code
LARGEST_LAPLACIAN = 50.0  # 1 / normalised units: |Δf| is at most this, as in the authors' code


@dataclass(frozen=True)
class DigsLoss(AnnealedLoss):
    """3000 mean|f| + 100 mean(1 - |cos∠(∇f, n)|) + 100 mean exp(-100|f|) + 50 mean|‖∇f‖ - 1| + v mean|Δf|.

    The first two means are over the cloud, the third and the last over Ω, the fourth over both. The method is made for
    clouds without normals; given normals may have either sign. The side of the walls of Ω is outside.
    v, the weight ``divergence``, is 100 during the first fifth of the run and falls linearly to zero during the second
    fifth, so that the surface is smooth before it gets detail. All weights, their schedule and the limits of |Δf|, 0.1
    and 50, are those of the authors' code. The attributes are those of ``AnnealedLoss``.

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    either_way: ClassVar[bool] = True

    def second_order(self, x: Tensor, gradient: Tensor) -> Tensor:
        """|Δf| (M,) at points x (M, d): the divergence of the gradient (M, d), within the two limits."""
        laplacian = hessian(gradient, x).diagonal(dim1=-2, dim2=-1).sum(-1)
        return laplacian.abs().clamp(SMALLEST_LAPLACIAN, LARGEST_LAPLACIAN)
