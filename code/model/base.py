"""What networks share: the value and the gradient of a field, and ``Network``, the class that every network extends.

A network of your own needs a ``forward`` alone; whatever else a network is asked for may be replaced by what is faster.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

TensorFunction = Callable[[Tensor], Tensor]


def value_and_gradient(field: TensorFunction, x: Tensor) -> tuple[Tensor, Tensor]:
    """The field's value (...) and its gradient (..., d) at points x (..., d), by automatic differentiation.

    This is the readable reference for any field. Both results are differentiable in the field's parameters.
    A network's own ``value_and_gradient`` may be faster; a test holds it equal to this one.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = field(x)
        gradient = derivative(value, x)
    return value, gradient


def derivative(value: Tensor, x: Tensor) -> Tensor:
    """The gradient (..., d) of values (...) in the points x (..., d) from which they were computed.

    By automatic differentiation. The result can be differentiated again, in x and in the parameters.
    """
    gradient: Tensor = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    return gradient


class Network(nn.Module):
    """A function of points x (..., d) to one value each (...), which ``forward`` computes.

    The configuration finds it by ``train.network_class``; the parameters of its ``__init__`` are the keys of
    ``network.inputs``, but for ``d_in``, the dimension of the points, which a run sets.
    """

    @property
    def twice_differentiable(self) -> bool:
        """Whether the field has second derivatives in x, which some losses need."""
        return True

    def hidden_matrices(self) -> list[Tensor]:
        """The weight matrices (n, m) that Muon moves; Adam moves all other parameters, and all of them where none are.

        Those between hidden layers, for which a matrix optimiser is made.
        """
        return []

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The field's value (...) and gradient (..., d) at points x (..., d), both differentiable in the parameters."""
        return value_and_gradient(self, x)
