"""The optimisers: Adam and Muon.

``Optimizers`` joins them: Muon for the matrices between hidden layers and Adam for all other parameters, or Adam alone.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from phase_recon.model.base import Network

MOMENTUM = 0.95  # share of Muon's running mean that a step keeps, its authors' value (Jordan et al. 2024)
MUON_RATE = 0.2  # root mean square of Muon's steps / learning rate: about that of Adam's steps (Liu et al. 2025)
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a, b, c of a round: singular values of 0.001 to 1 end between 0.7 and 1.2
NEWTON_SCHULZ_ROUNDS = 5  # as in Jordan et al. (2024)
SMALLEST_NORM = 1e-7  # a matrix is divided by at least this: a zero gradient stays zero


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) over all its parameters as one vector of n numbers.

    It equals torch.optim.Adam. That one takes more and smaller operations, and a second to import.

    Args:
        parameters: the tensors to optimise.
        weight_decay: weight of an L2 penalty.

    Attributes:
        state: the number of steps so far (), and the running means of the gradient and of its square (n,).
    """

    BETA_1 = 0.9  # share of the gradient's running mean that a step keeps (Kingma & Ba 2015)
    BETA_2 = 0.999  # share of the squared gradient's running mean that a step keeps (Kingma & Ba 2015)
    EPSILON = 1e-8  # added to the root of the squares' mean, which may be zero (Kingma & Ba 2015)

    def __init__(self, parameters: Sequence[Tensor], weight_decay: float) -> None:
        self.parameters = parameters
        self.weight_decay = weight_decay
        self.mean, self.square = (torch.zeros_like(_as_one(parameters)) for _ in range(2))
        self.steps = self.mean.new_zeros((), dtype=torch.float64)

    @property
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it, by name."""
        return {"steps": self.steps, "mean": self.mean, "square": self.square}

    @state.setter
    def state(self, state: dict[str, Tensor]) -> None:
        self.steps, self.mean, self.square = (state[name].clone() for name in ("steps", "mean", "square"))

    @torch.no_grad()
    def step(self, rate: float | Tensor) -> None:
        """Move the parameters once, by their gradients and the learning rate, a number or a tensor ()."""
        gradient = _as_one([_gradient(parameter) for parameter in self.parameters])
        if self.weight_decay:
            gradient = gradient.add(_as_one(self.parameters), alpha=self.weight_decay)
        self.steps += 1
        self.mean.lerp_(gradient, 1 - self.BETA_1)
        self.square.mul_(self.BETA_2).addcmul_(gradient, gradient, value=1 - self.BETA_2)
        size = (self.square / (1 - self.BETA_2**self.steps)).sqrt_().add_(self.EPSILON)
        moves = (self.mean / size).mul_(-rate / (1 - self.BETA_1**self.steps))
        parts = torch.split(moves, [parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.add_(part.view_as(parameter))


class Muon:
    """Muon (Jordan et al. 2024): each step is the running mean of a matrix's gradients, made orthogonal.

    Its size is that of Adam's steps (Liu et al. 2025). Matrices of one shape are treated together, as one large product
    is faster than several small ones.

    Args:
        matrices: the tensors (n, m) to optimise.
        weight_decay: the decoupled weight decay.
        momentum: the share of the running mean that a step keeps, 0 to below 1.
        half: whether it multiplies in bfloat16, in which a processor without such products takes forty times as long.

    Attributes:
        state: the running means of the gradients: for each shape (n, m), those of its k matrices (k, n, m).
    """

    def __init__(self, matrices: Sequence[Tensor], weight_decay: float, momentum: float, half: bool) -> None:
        alike: dict[torch.Size, list[Tensor]] = {}
        for matrix in matrices:
            alike.setdefault(matrix.shape, []).append(matrix)
        self.groups = list(alike.values())
        self.weight_decay, self.momentum, self.dtype = weight_decay, momentum, torch.bfloat16 if half else torch.float32
        self.means = [torch.zeros_like(torch.stack(group)) for group in self.groups]

    @property
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it, by name."""
        return {f"means {number}": mean for number, mean in enumerate(self.means)}

    @state.setter
    def state(self, state: dict[str, Tensor]) -> None:
        self.means = [state[name].clone() for name in self.state]

    @torch.no_grad()
    def step(self, rate: float | Tensor) -> None:
        """Move the matrices once, by their gradients with Nesterov momentum and the learning rate, a number or ()."""
        for matrices, mean in zip(self.groups, self.means, strict=True):
            gradients = torch.stack([_gradient(matrix) for matrix in matrices])
            mean.lerp_(gradients, 1 - self.momentum)
            moves = _orthogonal(gradients.lerp_(mean, self.momentum).to(self.dtype)).to(mean.dtype)
            moves *= rate * MUON_RATE * math.sqrt(max(mean.shape[1:]))
            for matrix, move in zip(matrices, moves, strict=True):
                if self.weight_decay:
                    matrix.mul_(1 - rate * self.weight_decay)
                matrix.sub_(move)


def _gradient(parameter: Tensor) -> Tensor:
    """A parameter's gradient; zeros where the loss does not depend on it."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _as_one(tensors: Sequence[Tensor]) -> Tensor:
    """The numbers of all tensors as one vector (n,)."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _orthogonal(x: Tensor) -> Tensor:
    """The nearest orthogonal matrices, about, of matrices (k, n, m).

    Five rounds of the Newton-Schulz iteration X <- a X + (b XXᵀ + c (XXᵀ)²) X drive all singular values towards one
    (Jordan et al. 2024).
    """
    a, b, c = NEWTON_SCHULZ
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(NEWTON_SCHULZ_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Optimizers:
    """Adam over all parameters, or Muon over the hidden matrices and Adam over the others, as one optimiser.

    Args:
        network: the network to optimise. With "muon", Muon optimises its ``hidden_matrices()``. One learning rate
            serves both, as Muon's steps are as large as Adam's.
        name: "adam" or "muon".
        weight_decay: L2 penalty of Adam, and decoupled weight decay of Muon.
        clip_gradient: largest allowed norm of the whole gradient, or None.
        reduce: called with the parameters after the backward pass, before the gradients are used; a run of several
            processes averages the gradients there.
        momentum: Muon's, 0 to below 1; None means its authors' 0.95.
        half: whether Muon multiplies in bfloat16, as its authors do, which not every processor does fast.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        weight_decay: float = 0.0,
        clip_gradient: float | None = None,
        reduce: Callable[[Sequence[Tensor]], None] | None = None,
        momentum: float | None = None,
        half: bool = False,
    ) -> None:
        matrices: list[Tensor] = network.hidden_matrices() if name == "muon" else []
        taken = {id(p) for p in matrices}
        self.parameters = list(network.parameters())
        rest = [p for p in self.parameters if id(p) not in taken]
        self.members: list[Adam | Muon] = [Adam(rest, weight_decay)]
        if matrices:
            self.members.append(Muon(matrices, weight_decay, MOMENTUM if momentum is None else momentum, half))
        self.clip_gradient = clip_gradient
        self.reduce = reduce

    def step(self, loss: Tensor, learning_rate: float | Tensor) -> None:
        """Compute the gradients of a loss () and move the parameters once, at a learning rate."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        if self.reduce is not None:
            self.reduce(self.parameters)
        if self.clip_gradient is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip_gradient)
        self.move(learning_rate)

    def move(self, learning_rate: float | Tensor) -> None:
        """Move the parameters once by the gradients that they have, at a learning rate."""
        for member in self.members:
            member.step(learning_rate)

    def state_dict(self) -> list[dict[str, Tensor]]:
        """The states of the optimisers, for a checkpoint; their settings are in the configuration."""
        return [member.state for member in self.members]

    def load_state_dict(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Continue from the states that ``state_dict`` gave.

        Raises:
            ValueError: they belong to another optimiser or network.
            KeyError, TypeError, AttributeError: they are not such states.
        """
        for member, state in zip(self.members, states, strict=True):
            known = member.state
            if {name: value.shape for name, value in state.items()} != {n: value.shape for n, value in known.items()}:
                raise ValueError("the state of another optimiser, or of other parameters")
            member.state = {name: state[name].to(value) for name, value in known.items()}
