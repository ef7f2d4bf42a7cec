"""The StEik loss (Yang et al. 2023, StEik: Stabilizing the Optimization of Neural Signed Distance Functions)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from phase_recon.model.base import derivative
from phase_recon.model.loss.base import AnnealedLoss

SMALLEST_SQUARE = 1e-5  # added to ‖∇f‖², which may be zero, as in the authors' code


@dataclass(frozen=True)
class SteikLoss(AnnealedLoss):
    """3000 mean|f| + 100 mean(1 - |cos∠(∇f, n)|) + 100 mean exp(-100|f|) + 50 mean|‖∇f‖ - 1| + v mean|∇fᵀH∇f|/‖∇f‖².

    H is the Hessian. The first two means are over the cloud, the third and the last over Ω, the fourth over both. The
    last term stabilises the eikonal term. It does not flatten curved surfaces, as it is zero for every distance
    function. Given normals may have either sign. The side of the walls of Ω is outside.
    v, the weight ``divergence``, is 100 during the first fifth of the run and falls linearly to zero during the second
    fifth. All weights and their schedule are those of the authors' code. The attributes are those of ``AnnealedLoss``.

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    either_way: ClassVar[bool] = True

    def second_order(self, x: Tensor, gradient: Tensor) -> Tensor:
        """|∇fᵀ H ∇f| / ‖∇f‖² (M,) at points x (M, d) from the gradient (M, d); H ∇f = ∇(‖∇f‖² / 2)."""
        square = gradient.square().sum(-1)
        return (gradient * derivative(0.5 * square, x)).sum(-1).abs() / (square + SMALLEST_SQUARE)
