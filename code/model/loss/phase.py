"""The PHASE loss (Lipman 2021, sections 3 and 4): λ · reconstruction + WCH + μ · normals.

The network gives u, as published, or w, the log transform of u. It is the same loss either way; in terms of
w nothing has to take the logarithm of 1 - |u|, which a network may push below zero.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from phase_recon.model.loss.base import DifferentiableField, DistanceLoss
from phase_recon.model.sampling import Batch

TOLERANCE = 1e-6  # 1 - |u| is kept above this: beyond, w is past 13.8 √ε and single precision has no more


def u_from_w(w: Tensor, epsilon: float) -> Tensor:
    """The phase u = sign(w) (1 - exp(-|w| / √ε)) of a distance w (inverse of the log transform, derived)."""
    return torch.sign(w) * -torch.expm1(-w.abs() / math.sqrt(epsilon))


def w_from_u(u: Tensor, epsilon: float) -> Tensor:
    """The log transform w = -√ε log(1 - |u|) sign(u) (Lipman 2021, eq. 9); |u| is cut just below 1."""
    return -math.sqrt(epsilon) * torch.log1p(-u.abs().clamp(max=1 - TOLERANCE)) * torch.sign(u)


def gradient_of_w(u: Tensor, gradient_of_u: Tensor, epsilon: float) -> Tensor:
    """∇w = √ε ∇u / (1 - |u|) (..., d), the derivative of the log transform; at u = 0 it is √ε ∇u."""
    return math.sqrt(epsilon) * gradient_of_u / (1 - u.abs()).clamp(min=TOLERANCE).unsqueeze(-1)


def double_well(u: Tensor) -> Tensor:
    """W(u) = u² - 2|u| + 1 = (|u| - 1)², zero in the two pure phases u = ±1."""
    return (u.abs() - 1) ** 2


CLEAN_LAMBDA, NOISY_LAMBDA, CLEAN_NOISE = 30.0, 6.0, 0.0019
GIVEN_MU, UNGIVEN_MU = 10.0, 1.0
ANNEALED = 0.5  # share of the run after which ε has its final value
# A surface lies in a gap of the cloud where the nearest point is so many reaches off, beside it: from, and wholly;
GAP = 1.25, 1.9
WIDE, FADING = 0.13, 0.02  # wider openings have points by now (``model.start``), or should have no surface


def certainty(noise: float) -> float:
    """How far points with so much noise, normalised units, tell the surface: 1 up to that of a good scan, then as much
    less as there is more.
    """
    return CLEAN_NOISE / max(noise, CLEAN_NOISE)


@dataclass(frozen=True)
class PhaseLoss(DistanceLoss):
    """F = λ L + WCH + μ N, as named terms.

    Attributes:
        lambda_: λ, weight of the reconstruction term; None sets it by the noise of the cloud (``for_noise``), and is 30
            without a cloud.
        mu: μ, weight of the normal term; 0 leaves it out. None is 10 for normals that are given, and 1 without.
        epsilon: ε; √ε is the width of the transition from -1 to 1, in normalised units.
        epsilon_start: ε at the start of a run; it falls to ``epsilon`` by a constant factor per step until half of
            the run is over. None means ``epsilon`` throughout. Only for output "w", whose meaning ε does not change.
        output: what the network gives, "u" or "w".

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    lambda_: float | None = None
    mu: float | None = None
    epsilon: float = 0.01
    output: Literal["u", "w"] = "w"
    epsilon_start: float | None = None

    gaps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        problems = []
        if self.lambda_ is not None and not self.lambda_ > 0:
            problems.append(f"lambda: must be above 0, got {self.lambda_}")
        if self.mu is not None and not self.mu >= 0:
            problems.append(f"mu: must be 0 or above, got {self.mu}")
        if not self.epsilon > 0:
            problems.append(f"epsilon: must be above 0, got {self.epsilon}")
        if self.epsilon_start is not None and self.epsilon_start < self.epsilon:
            problems.append(f"epsilon_start: expected epsilon ({self.epsilon}) or more, got {self.epsilon_start}")
        if self.epsilon_start is not None and self.output == "u":
            problems.append("epsilon_start: wants network.output = w; the meaning of u changes with ε")
        if problems:
            raise ValueError("\n".join(problems))

    def for_noise(self, noise: float) -> "PhaseLoss":
        """The loss for a cloud whose points stand off the surface by ``noise``, normalised units; sets an open λ.

        λ balances the points against the smallest area, so it should fall as they become less certain. The form
        λ = 30 (0.0019 / noise)^1.5, between 6 and 30, was measured on scans and on samples with known noise.
        """
        if self.lambda_ is not None:
            return self
        return replace(self, lambda_=max(CLEAN_LAMBDA * certainty(noise) ** 1.5, NOISY_LAMBDA))

    def at(self, progress: float) -> "PhaseLoss":
        """The loss when a share of the run, 0 to 1, is over: with the ε of that moment.

        A far point's pull on u dies out as exp(-|w| / √ε), so a wide transition is what lets a surface find its
        way into a hollow, and a narrow one what draws its detail.
        """
        if self.epsilon_start is None:
            return self
        remaining = max(0.0, 1.0 - progress / ANNEALED)
        epsilon = self.epsilon * (self.epsilon_start / self.epsilon) ** remaining
        return replace(self, epsilon=epsilon, epsilon_start=None)

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms; their sum is F.

        reconstruction: λ mean_i |mean_{y in ball i} u(y)|, or λ mean_i |u(x_i)| without balls
        gradient, potential: ∫_Ω ε‖∇u‖² and ∫_Ω W(u), the two halves of WCH; in gaps of the cloud (``_in_gap``) with the
            weight that the batch gives them, if it has a clearance
        normals: μ mean_i ‖n_i - ∇w(x_i)‖; without normals μ mean_i of (1 - ‖∇w(x_i)‖)², which gives way to
            ‖n_i - ∇w(x_i)‖ as far as n_i, an estimated normal, can be trusted, or to the lesser of that and
            ‖n_i + ∇w(x_i)‖ where its sign is not known (derived)
        """
        weight = CLEAN_LAMBDA if self.lambda_ is None else self.lambda_
        mu = self.mu
        if mu is None:
            mu = UNGIVEN_MU if batch.normals is None else GIVEN_MU
        u = None if batch.balls is None else self.phase(field(batch.balls)).mean(-1)
        if u is None or mu > 0:
            value, gradient = field.value_and_gradient(batch.points)
            slope = self.distance_gradient(value, gradient)
            u = self.phase(value) if u is None else u
        terms = {"reconstruction": weight * u.abs().mean()}
        value, gradient = field.value_and_gradient(batch.omega)
        if self.output == "w":  # u = sign(w)(1 - exp(-|w|/√ε)) put into both (derived)
            potential = torch.exp(-2.0 / math.sqrt(self.epsilon) * value.abs())
            kinetic = potential * gradient.square().sum(-1)
        else:
            potential = double_well(value)
            kinetic = self.epsilon * gradient.square().sum(-1)
        weights = batch.weights
        if batch.clearance is not None:
            gap = _in_gap(self.distance(value.detach()), batch.clearance, batch.reach)
            weights = weights * (1 - (1 - batch.in_gaps) * gap)
        terms["gradient"] = (weights * kinetic).mean()
        terms["potential"] = (weights * potential).mean()
        if mu > 0:
            terms["normals"] = mu * _misfit(slope, batch).mean()
        return terms

    def phase(self, value: Tensor) -> Tensor:
        """The occupancy-like u (...) from the network's output (...)."""
        return value if self.output == "u" else u_from_w(value, self.epsilon)

    def output_for(self, distance: Tensor) -> Tensor:
        """The network's output (...) that means a signed distance (...), normalised units."""
        return distance if self.output == "w" else u_from_w(distance, self.epsilon)

    def distance(self, value: Tensor) -> Tensor:
        """The signed distance w (...), normalised units, from the network's output (...)."""
        return value if self.output == "w" else w_from_u(value, self.epsilon)

    def distance_gradient(self, value: Tensor, gradient: Tensor) -> Tensor:
        """∇w (..., d) from the network's output (...) and its gradient (..., d)."""
        return gradient if self.output == "w" else gradient_of_w(value, gradient, self.epsilon)

    def level(self, phase: float) -> float:
        """The signed distance, normalised units, at which u is ``phase``, between -1 and 1."""
        return float(w_from_u(torch.tensor(phase, dtype=torch.float64), self.epsilon))


def _in_gap(distance: Tensor, clearance: Tensor, reach: float) -> Tensor:
    """How far, 0 to 1, the surface next to points lies in a gap of the cloud (M,), from their distances (M,) from the
    surface and from the cloud.

    The nearest point of the surface is |w| away, and so √(clearance² - w²) along the surface from the cloud (derived).
    """
    beside = (clearance.square() - distance.square()).clamp(min=0).sqrt()
    return ((beside / reach - GAP[0]) / (GAP[1] - GAP[0])).clamp(0, 1) * ((WIDE - beside) / FADING).clamp(0, 1)


def _misfit(slope: Tensor, batch: Batch) -> Tensor:
    """The normal term (N,) of each point of a batch where ∇w is ``slope`` (N, d), as said at ``PhaseLoss``."""
    misfit: Tensor
    if batch.normals is not None:
        misfit = torch.linalg.vector_norm(batch.normals - slope, dim=-1)
        return misfit
    misfit = (1 - torch.linalg.vector_norm(slope, dim=-1)).square()
    if batch.estimated is None:
        return misfit
    along, against = ((sign * batch.estimated.directions - slope).norm(dim=-1) for sign in (1, -1))
    along = torch.where(batch.estimated.oriented, along, torch.minimum(along, against))
    return torch.lerp(misfit, along, batch.estimated.trust)
