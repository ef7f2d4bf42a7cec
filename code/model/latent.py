"""A network of many shapes with the latent codes of some: a field like that of a network of one shape."""

from torch import Tensor, nn

from phase_recon.model.base import Network


class CodedNet(Network):
    """x -> network(x, code), as losses, meshing and whatever else asks a network want it.

    Args:
        network: takes points (..., d) and a code, such as ``model.network.ImplicitNet`` with a latent_size.
        code: the code (latent_size,) of one shape; or those of s shapes (s, latent_size), which take turns along the
            first axis of the points, as in ``model.sampling.together``. Its gradient is there for the asking, if it
            requires one.
    """

    def __init__(self, network: nn.Module, code: Tensor) -> None:
        super().__init__()
        self.network = network
        self.code = code

    def forward(self, x: Tensor) -> Tensor:
        """The field (...) at points x (..., d)."""
        value: Tensor = self.network(x, self._code_at(x))
        return value

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The field (...) and its gradient (..., d) at x (..., d), both differentiable in parameters and code."""
        both: tuple[Tensor, Tensor] = self.network.value_and_gradient(x, self._code_at(x))  # type: ignore[operator]
        return both

    def _code_at(self, x: Tensor) -> Tensor:
        """The code of all points x (..., d), or of each (n, 1, ..., latent_size)."""
        if self.code.ndim == 1:
            return self.code
        turns = self.code.repeat(len(x) // len(self.code), 1)
        return turns.reshape(len(x), *[1] * (x.ndim - 2), -1)
