"""The StEik loss (Yang et al. 2023, StEik: Stabilizing the Optimization of Neural Signed Distance Functions)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from phase_recon.model.loss.base import AnnealedLoss
from phase_recon.model.network import derivative

TINY = 1e-5  # beside ‖∇f‖², as in the authors' code


@dataclass(frozen=True)
class SteikLoss(AnnealedLoss):
    """3000 mean|f| + 100 mean(1 - |cos∠(∇f, n)|) + 100 mean exp(-100|f|) + 50 mean|‖∇f‖ - 1| + v mean|∇fᵀH∇f|/‖∇f‖².

    H is the Hessian. The first two means are over the cloud, the third and the last over Ω, the fourth over both. The
    last term damps what makes the eikonal term unstable, and leaves curved surfaces alone: it is zero for every
    distance. Normals may point either way; the walls of Ω say which side is outside. v, the weight ``divergence``, is
    100 for the first fifth of the run and falls linearly to zero in the second. All weights and their course are
    those of the authors' code. ``surface``, ``normals``, ``off`` and ``eikonal`` are the other weights,
    ``constant_until`` and ``zero_from`` the shares of the run.

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    either_way: ClassVar[bool] = True

    def second_order(self, x: Tensor, gradient: Tensor) -> Tensor:
        """|∇fᵀ H ∇f| / ‖∇f‖² (M,) from the gradient (M, d) at x (M, d), with H ∇f = ∇(‖∇f‖² / 2)."""
        square = gradient.square().sum(-1)
        return (gradient * derivative(0.5 * square, x)).sum(-1).abs() / (square + TINY)
