"""How the weights move: Adam, or Muon for the matrices between hidden layers; the learning rate's course."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    """lr falls from initial to final along half a cosine over the whole run."""

    initial: float
    final: float

    def __call__(self, epoch: int, progress: float) -> float:
        """The rate when the share ``progress`` (0 to 1) of the run is over."""
        return self.final + (self.initial - self.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class Muon(torch.optim.Muon):
    """PyTorch's Muon, scaled to Adam's root mean square, with matrices of one shape taken together: fewer and larger
    products, for the same result.

    Args:
        matrices: what to optimise.
        weight_decay: the decoupled decay.
    """

    def __init__(self, matrices: Sequence[Tensor], weight_decay: float) -> None:
        super().__init__(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of all matrices that have a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in alike.items():
                directions = _orthogonal(
                    torch.stack([self._with_momentum(matrix, group["momentum"]) for matrix in matrices]),
                    group["ns_coefficients"], group["ns_steps"], group["eps"],
                )  # fmt: skip
                for matrix, direction in zip(matrices, directions, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(direction, alpha=-0.2 * math.sqrt(max(shape)) * group["lr"])

    def _with_momentum(self, matrix: Tensor, momentum: float) -> Tensor:
        """The gradient led on by the mean of those before, as Nesterov does."""
        assert matrix.grad is not None
        state = self.state[matrix]
        mean = state.setdefault("momentum_buffer", torch.zeros_like(matrix))
        mean.lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(mean, momentum)


def _orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, least: float) -> Tensor:
    """Nearly orthogonal matrices (k, n, m) in bfloat16: X <- a X + (b XXᵀ + c (XXᵀ)²) X drives all singular values
    towards one (Jordan et al. 2024).
    """
    a, b, c = coefficients
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=least)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


REMEMBERED: dict[type, set[str]] = {
    torch.optim.Adam: {"step", "exp_avg", "exp_avg_sq"},
    Muon: {"momentum_buffer"},
}


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
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        weight_decay: float = 0.0,
        clip_gradient: float | None = None,
        reduce: Callable[[Sequence[Tensor]], None] | None = None,
    ) -> None:
        matrices: list[Tensor] = network.hidden_matrices() if name == "muon" else []  # type: ignore[operator]
        taken = {id(p) for p in matrices}
        self.parameters = list(network.parameters())
        rest = [p for p in self.parameters if id(p) not in taken]
        self.members: list[torch.optim.Optimizer] = [torch.optim.Adam(rest, weight_decay=weight_decay)]
        if matrices:
            self.members.append(Muon(matrices, weight_decay))
        self.clip_gradient = clip_gradient
        self.reduce = reduce

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """One descent step on a loss, at a learning rate."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        if self.reduce is not None:
            self.reduce(self.parameters)
        if self.clip_gradient is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip_gradient)
        for member in self.members:
            for group in member.param_groups:
                group["lr"] = learning_rate
            member.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """The members' states."""
        return [member.state_dict() for member in self.members]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Take up what the members remember of each parameter, not their settings, which are the configuration's.

        Raises:
            ValueError: it is of another optimiser or network; KeyError, TypeError or AttributeError if it is no state.
        """
        for member, state in zip(self.members, states, strict=True):
            settings = [dict(group) for group in member.param_groups]
            for setting in settings:
                del setting["lr"]  # each step sets it; until then it is that of the last
            member.load_state_dict(state)
            for group, setting in zip(member.param_groups, settings, strict=True):
                group.update(setting)
            for parameter, values in member.state.items():
                if set(values) != REMEMBERED[type(member)]:
                    raise ValueError("the state of another optimiser")
                if any(value.shape != parameter.shape for name, value in values.items() if name != "step"):
                    raise ValueError("the state of an optimiser of other parameters")
