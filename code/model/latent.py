"""A network of many shapes with the latent code of one: a field like that of a network of one shape."""

from torch import Tensor, nn


class CodedNet(nn.Module):
    """x -> network(x, code), as losses, meshing and whatever else asks a network want it.

    Args:
        network: takes points (..., d) and a code, such as ``model.network.ImplicitNet`` with a latent_size.
        code: the code (latent_size,); its gradient is there for the asking, if it requires one.
    """

    def __init__(self, network: nn.Module, code: Tensor) -> None:
        super().__init__()
        self.network = network
        self.code = code

    def forward(self, x: Tensor) -> Tensor:
        """The field (...) at points x (..., d)."""
        value: Tensor = self.network(x, self.code)
        return value

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The field (...) and its gradient (..., d) at x (..., d), both differentiable in parameters and code."""
        both: tuple[Tensor, Tensor] = self.network.value_and_gradient(x, self.code)  # type: ignore[operator]
        return both
