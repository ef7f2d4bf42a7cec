"""How the weights move: Adam, or Muon for the matrices between hidden layers; the learning rate's course."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """lr = max(initial · factor^⌊epoch / interval⌋, 5e-6), as in IGR."""

    initial: float
    interval: int
    factor: float

    def __call__(self, epoch: int, progress: float) -> float:
        """The rate at a step; ``progress``, the share of the run that is over, plays no part."""
        return max(self.initial * self.factor ** (epoch // self.interval), 5e-6)


@dataclass(frozen=True)
class Cosine:
    """lr falls from initial to final along half a cosine over the whole run.

    Args:
        initial: the rate at the start.
        final: at the end.
        restart: the step at which a longer run has come to the end of the wave, and begins another (Loshchilov & Hutter
            2017) at half of ``initial``; at less where fewer than as many steps remain, so that one more step in a run
            changes little (derived). None for one wave, whatever the length.
    """

    initial: float
    final: float
    restart: int | None = None

    def __call__(self, epoch: int, progress: float) -> float:
        """The rate at a step, when the share ``progress`` (0 to 1) of the run is over."""
        if self.restart is None:
            return self._wave(self.initial, progress)
        if epoch < self.restart:
            return self._wave(self.initial, max(progress, epoch / self.restart))
        length, begun = epoch / progress, progress * self.restart / epoch  # as if all steps took the same time
        height = 0.5 * self.initial * min(length / self.restart - 1, 1.0)
        return self._wave(max(height, self.final), (progress - begun) / (1 - begun)) if begun < 1 else self.final

    def _wave(self, height: float, share: float) -> float:
        return self.final + (height - self.final) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


class Adam:
    """Adam (Kingma & Ba 2015) over all its parameters as one vector, n numbers.

    Torch's own does the same in more and smaller operations, and its first one imports a second of Python.

    Args:
        parameters: what to optimise.
        weight_decay: weight of an L2 penalty.

    Attributes:
        state: the steps so far (1,), and the running means of the gradient and of its square (n,).
    """

    MEMORY, MEMORY_OF_SQUARES, LEAST = 0.9, 0.999, 1e-8

    def __init__(self, parameters: Sequence[Tensor], weight_decay: float) -> None:
        self.parameters = parameters
        self.weight_decay = weight_decay
        self.mean, self.square = (torch.zeros_like(_as_one(parameters)) for _ in range(2))
        self.steps = self.mean.new_zeros((), dtype=torch.float64)

    @property
    def state(self) -> dict[str, Tensor]:
        """What it remembers."""
        return {"steps": self.steps, "mean": self.mean, "square": self.square}

    @state.setter
    def state(self, state: dict[str, Tensor]) -> None:
        self.steps, self.mean, self.square = (state[name].clone() for name in ("steps", "mean", "square"))

    @torch.no_grad()
    def step(self, rate: float | Tensor) -> None:
        """One step of the parameters by their gradients."""
        gradient = _as_one([_gradient(parameter) for parameter in self.parameters])
        if self.weight_decay:
            gradient = gradient.add(_as_one(self.parameters), alpha=self.weight_decay)
        self.steps += 1
        self.mean.lerp_(gradient, 1 - self.MEMORY)
        self.square.mul_(self.MEMORY_OF_SQUARES).addcmul_(gradient, gradient, value=1 - self.MEMORY_OF_SQUARES)
        size = (self.square / (1 - self.MEMORY_OF_SQUARES**self.steps)).sqrt_().add_(self.LEAST)
        moves = (self.mean / size).mul_(-rate / (1 - self.MEMORY**self.steps))
        parts = torch.split(moves, [parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.add_(part.view_as(parameter))


MOMENTUM = 0.95  # of Muon, unless another is asked for


class Muon:
    """Muon (Jordan et al. 2024): the mean of a matrix's gradients, made orthogonal, and of the size of Adam's steps
    (Liu et al. 2025). Matrices of one shape are taken together: fewer and larger products.

    Args:
        matrices: what to optimise.
        weight_decay: the decoupled decay.
        momentum: what the mean keeps of itself in a step, below 1.

    Attributes:
        state: the running means of the gradients, for each shape (n, m) one of all its k matrices (k, n, m).
    """

    OF_ADAM = 0.2  # the root mean square of Adam's steps is about that of the rate

    def __init__(self, matrices: Sequence[Tensor], weight_decay: float, momentum: float) -> None:
        alike: dict[torch.Size, list[Tensor]] = {}
        for matrix in matrices:
            alike.setdefault(matrix.shape, []).append(matrix)
        self.groups = list(alike.values())
        self.weight_decay, self.momentum = weight_decay, momentum
        self.means = [torch.zeros_like(torch.stack(group)) for group in self.groups]

    @property
    def state(self) -> dict[str, Tensor]:
        """What it remembers."""
        return {f"means {number}": mean for number, mean in enumerate(self.means)}

    @state.setter
    def state(self, state: dict[str, Tensor]) -> None:
        self.means = [state[name].clone() for name in self.state]

    @torch.no_grad()
    def step(self, rate: float | Tensor) -> None:
        """One step of the matrices by their gradients, which the mean leads on, as Nesterov does."""
        for matrices, mean in zip(self.groups, self.means, strict=True):
            gradients = torch.stack([_gradient(matrix) for matrix in matrices])
            mean.lerp_(gradients, 1 - self.momentum)
            moves = _orthogonal(gradients.lerp_(mean, self.momentum)).to(mean.dtype)
            moves *= rate * self.OF_ADAM * math.sqrt(max(mean.shape[1:]))
            for matrix, move in zip(matrices, moves, strict=True):
                if self.weight_decay:
                    matrix.mul_(1 - rate * self.weight_decay)
                matrix.sub_(move)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _as_one(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


# Newton-Schulz in five rounds, with the factors of Jordan et al. (2024), which bring singular values from 0.001 up to
# between 0.7 and 1.2
FACTORS, ROUNDS, LEAST_NORM = (3.4445, -4.7750, 2.0315), 5, 1e-7


def _orthogonal(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices (k, n, m) in bfloat16: X <- a X + (b XXᵀ + c (XXᵀ)²) X drives all singular values
    towards one.
    """
    a, b, c = FACTORS
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=LEAST_NORM)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Optimizers:
    """Adam over all parameters, or Muon over the hidden matrices and Adam over the rest, as one.

    Args:
        network: what to optimise; with "muon" its ``hidden_matrices()`` go to Muon (Jordan et al. 2024),
            whose steps are scaled to Adam's root mean square, so that one learning rate serves both.
        name: "adam" or "muon".
        weight_decay: L2 penalty of Adam, and decoupled decay of Muon.
        clip_gradient: largest allowed norm of the whole gradient, or None.
        reduce: called with the parameters when they have their gradients, before anything is made of these;
            where a run has several processes, it averages them.
        momentum: Muon's; None is its authors' 0.95.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        weight_decay: float = 0.0,
        clip_gradient: float | None = None,
        reduce: Callable[[Sequence[Tensor]], None] | None = None,
        momentum: float | None = None,
    ) -> None:
        matrices: list[Tensor] = network.hidden_matrices() if name == "muon" else []  # type: ignore[operator]
        taken = {id(p) for p in matrices}
        self.parameters = list(network.parameters())
        rest = [p for p in self.parameters if id(p) not in taken]
        self.members: list[Adam | Muon] = [Adam(rest, weight_decay)]
        if matrices:
            self.members.append(Muon(matrices, weight_decay, MOMENTUM if momentum is None else momentum))
        self.clip_gradient = clip_gradient
        self.reduce = reduce

    def step(self, loss: Tensor, learning_rate: float | Tensor) -> None:
        """One descent step on a loss, at a learning rate."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        if self.reduce is not None:
            self.reduce(self.parameters)
        if self.clip_gradient is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip_gradient)
        self.move(learning_rate)

    def move(self, learning_rate: float | Tensor) -> None:
        """The part of a step that is left when the parameters have their gradients."""
        for member in self.members:
            member.step(learning_rate)

    def state_dict(self) -> list[dict[str, Tensor]]:
        """What the members remember; their settings are the configuration's."""
        return [member.state for member in self.members]

    def load_state_dict(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Take up what the members remember.

        Raises:
            ValueError: it is of another optimiser or network; KeyError, TypeError or AttributeError if it is no state.
        """
        for member, state in zip(self.members, states, strict=True):
            known = member.state
            if {name: value.shape for name, value in state.items()} != {n: value.shape for n, value in known.items()}:
                raise ValueError("the state of another optimiser, or of other parameters")
            member.state = {name: state[name].to(value) for name, value in known.items()}
