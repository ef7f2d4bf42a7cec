"""The SIREN loss (Sitzmann et al. 2020, Implicit Neural Representations with Periodic Activations, section 4.2)."""

from dataclasses import dataclass

from torch import Tensor

from phase_recon.model.batch import Batch
from phase_recon.model.loss.base import DifferentiableField, FourTermLoss


@dataclass(frozen=True)
class SirenLoss(FourTermLoss):
    """3000 mean|f| + 100 mean(1 - cos∠(∇f, n)) + 100 mean exp(-100|f|) + 50 mean|‖∇f‖ - 1|, as named terms.

    The first two means are over the cloud, the third over Ω, the last over both. The publication requires normals.
    Without them the second term is left out, as in later publications; the side of the walls of Ω is then outside.
    The default weights are those of the authors' code. That code divides the first three sums by the number of all
    points, so that with as many points in Ω as in the cloud these terms count half as much there as here. The
    attributes are those of ``FourTermLoss``.

    Raises:
        ValueError: a line "name: what is wrong" for each weight out of range.
    """

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of a batch: surface, off, eikonal and, with normals, normals."""
        return self.four_terms(field, batch, *field.value_and_gradient(batch.omega))
