"""The DiGS loss (Ben-Shabat et al. 2022, Divergence Guided Shape Implicit Neural Representation, section 3)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from phase_recon.model.loss.base import AnnealedLoss
from phase_recon.model.network import derivative

LEAST, MOST = 0.1, 50.0  # |Δf| is cut to these in the authors' code


@dataclass(frozen=True)
class DigsLoss(AnnealedLoss):
    """3000 mean|f| + 100 mean(1 - |cos∠(∇f, n)|) + 100 mean exp(-100|f|) + 50 mean|‖∇f‖ - 1| + v mean|Δf|.

    The first two means are over the cloud, the third and the last over Ω, the fourth over both. Normals, which the
    method is made to do without, may point either way; the walls of Ω say which side is outside. v, the weight
    ``divergence``, is 100 for the first fifth of the run and falls linearly to zero in the second, so that the surface
    is smooth before it is sharp. All weights, their course and the cut of |Δf| to 0.1 … 50 are those of the authors'
    code. ``surface``, ``normals``, ``off`` and ``eikonal`` are the other weights, ``constant_until`` and
    ``zero_from`` the shares of the run.

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    either_way: ClassVar[bool] = True

    def second_order(self, x: Tensor, gradient: Tensor) -> Tensor:
        """|Δf| (M,), the divergence of the gradient (M, d) at x (M, d)."""
        rows = [derivative(gradient[:, i], x)[:, i] for i in range(x.shape[-1])]
        return sum(rows[1:], rows[0]).abs().clamp(LEAST, MOST)
