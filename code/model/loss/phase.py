"""The PHASE loss (Lipman 2021, sections 3 and 4): λ · reconstruction + WCH + μ · normals.

The network gives u, as published, or w, the log transform of u. The loss is the same function of the surface either
way. With w, no logarithm of 1 - |u| is needed, which is undefined where a network gives |u| > 1.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from phase_recon.model.batch import Batch
from phase_recon.model.loss.base import DifferentiableField, DistanceLoss
from phase_recon.utils.errors import raise_problems

TOLERANCE = 1e-6  # smallest 1 - |u| in the log transform: |w| is then 13.8 √ε, and single precision ends there
CLEAN_LAMBDA = 30.0  # λ for a cloud with noise up to CLEAN_NOISE (measured on scans)
NOISY_LAMBDA = 6.0  # smallest λ, for any noise (measured on samples with known noise)
LAMBDA_POWER = 1.5  # λ falls with this power of the noise (measured on samples with known noise)
CLEAN_NOISE = 0.0019  # normalised units: noise of a good scan, up to which the points are trusted fully
GIVEN_MU = 10.0  # μ for normals that are given: they are more precise than the positions of noisy points
UNGIVEN_MU = 1.0  # μ without given normals
ANNEALED = 0.5  # share of the run after which ε has its final value
HOLE_BEGINS = 1.25  # × spacing: distance along the surface to the nearest point beyond which a place may lie in a hole
HOLE_CERTAIN = 1.9  # × spacing: the same distance, beyond which a place surely lies in a hole
WIDEST_HOLE = 0.13  # normalised units: the same distance; wider holes were filled in preprocessing, or stay open
HOLE_FADES = 0.02  # normalised units: below WIDEST_HOLE, the weight of a hole falls to 0 over this length


def u_from_w(w: Tensor, epsilon: float) -> Tensor:
    """The phase u (...) = sign(w) (1 - exp(-|w| / √ε)) of distances w (...): the inverse of Lipman 2021, eq. 9."""
    return torch.sign(w) * -torch.expm1(-w.abs() / math.sqrt(epsilon))


def w_from_u(u: Tensor, epsilon: float) -> Tensor:
    """The log transform w (...) = -√ε log(1 - |u|) sign(u) (Lipman 2021, eq. 9); |u| is at most 1 - TOLERANCE."""
    return -math.sqrt(epsilon) * torch.log1p(-u.abs().clamp(max=1 - TOLERANCE)) * torch.sign(u)


def gradient_of_w(u: Tensor, gradient_of_u: Tensor, epsilon: float) -> Tensor:
    """∇w (..., d) = √ε ∇u / (1 - |u|) from u (...) and ∇u (..., d): the derivative of Lipman 2021, eq. 9."""
    return math.sqrt(epsilon) * gradient_of_u / (1 - u.abs()).clamp(min=TOLERANCE).unsqueeze(-1)


def double_well(u: Tensor) -> Tensor:
    """W(u) (...) = u² - 2|u| + 1 = (|u| - 1)² of u (...), zero in the two pure phases u = ±1."""
    return (u.abs() - 1) ** 2


def certainty(noise: float) -> float:
    """How precise a cloud with this noise is, relative to a good scan: CLEAN_NOISE / noise, at most 1.

    Args:
        noise: standard deviation of the points from the surface, normalised units.
    """
    return CLEAN_NOISE / max(noise, CLEAN_NOISE)


@dataclass(frozen=True)
class PhaseLoss(DistanceLoss):
    """F = λ L + WCH + μ N, as named terms.

    Attributes:
        lambda_: λ, weight of the reconstruction term. None means that ``for_noise`` sets it by the noise of the cloud;
            until then it is 30.
        mu: μ, weight of the normal term; 0 leaves it out. None means 10 with given normals, and 1 without.
        epsilon: ε; √ε is the width of the transition from -1 to 1, in normalised units.
        epsilon_start: ε at the first step. It falls to ``epsilon`` by a constant factor per step during the first half
            of the run. None means ``epsilon`` throughout. Only for output "w", whose meaning does not depend on ε.
        output: what the network gives, "u" or "w".

    Raises:
        ValueError: a line "name: what is wrong" for each value out of range.
    """

    lambda_: float | None = None
    mu: float | None = None
    epsilon: float = 0.01
    output: Literal["u", "w"] = "w"
    epsilon_start: float | None = None

    weighs_holes: ClassVar[bool] = True
    heeds_empty: ClassVar[bool] = True

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
        raise_problems(problems)

    def for_noise(self, noise: float) -> "PhaseLoss":
        """The loss for a cloud with this noise, the points' standard deviation from the surface in normalised units.

        It sets λ if that is None. λ weighs the distance to the points against the area of the surface, so it should
        fall as the noise grows. λ = 30 (0.0019 / noise)^1.5, between 6 and 30, was measured on scans and on samples
        with known noise.
        """
        if self.lambda_ is not None:
            return self
        return replace(self, lambda_=max(CLEAN_LAMBDA * certainty(noise) ** LAMBDA_POWER, NOISY_LAMBDA))

    def at(self, progress: float) -> "PhaseLoss":
        """The loss when the share ``progress`` (0 to 1) of the run is finished: with the ε of that moment.

        The influence of a point on the surface falls off as exp(-|w| / √ε). A wide transition lets the surface enter
        deep concavities; a narrow one gives it detail.
        """
        if self.epsilon_start is None:
            return self
        remaining = max(0.0, 1.0 - progress / ANNEALED)
        epsilon = self.epsilon * (self.epsilon_start / self.epsilon) ** remaining
        return replace(self, epsilon=epsilon, epsilon_start=None)

    def __call__(self, field: DifferentiableField, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms () by name; their sum is F.

        reconstruction: λ mean_i |mean_{y in ball i} u(y)|, or λ mean_i |u(x_i)| without balls.
        gradient, potential: ∫_Ω ε‖∇u‖² and ∫_Ω W(u), the two parts of WCH. If the batch has a clearance, the energy in
            holes of the cloud (``_in_hole``) has the weight ``Batch.hole_weight``.
        empty: λ mean_i max(-u(y_i), 0) at places y_i that are known to be outside, where there are any (derived).
        normals: with given normals n_i, μ mean_i ‖n_i - ∇w(x_i)‖. Without, μ mean_i (1 - ‖∇w(x_i)‖)². With estimated
            normals n_i of confidence c_i, μ mean_i of (1 - c_i) (1 - ‖∇w(x_i)‖)² + c_i ‖n_i - ∇w(x_i)‖; where the sign
            of n_i is unknown, the smaller of ‖n_i - ∇w(x_i)‖ and ‖n_i + ∇w(x_i)‖ takes the place of the latter
            (derived).
        """
        weight = CLEAN_LAMBDA if self.lambda_ is None else self.lambda_
        mu = self.mu
        if mu is None:
            mu = UNGIVEN_MU if batch.normals is None else GIVEN_MU
        # of both kinds of points at once, which takes a processor two thirds of the time
        points = batch.points if batch.balls is None or mu > 0 else batch.points[:0]
        both = field.value_and_gradient(torch.cat([points, batch.omega]))
        (at_points, value), (slope, gradient) = (torch.split(part, [len(points), len(batch.omega)]) for part in both)
        slope = self.distance_gradient(at_points, slope)
        u = self.phase(at_points) if batch.balls is None else self.phase(field(batch.balls)).mean(-1)
        terms = {"reconstruction": weight * u.abs().mean()}
        if self.output == "w":  # u = sign(w)(1 - exp(-|w|/√ε)) put into both (derived)
            potential = torch.exp(-2.0 / math.sqrt(self.epsilon) * value.abs())
            kinetic = potential * gradient.square().sum(-1)
        else:
            potential = double_well(value)
            kinetic = self.epsilon * gradient.square().sum(-1)
        weights = batch.weights
        if batch.clearance is not None:
            hole = _in_hole(self.distance(value.detach()), batch.clearance, batch.spacing)
            weights = weights * (1 - (1 - batch.hole_weight) * hole)
        terms["gradient"] = (weights * kinetic).mean()
        terms["potential"] = (weights * potential).mean()
        if mu > 0:
            terms["normals"] = mu * _normal_term(slope, batch).mean()
        if batch.empty is not None:
            terms["empty"] = weight * torch.relu(-self.phase(field(batch.empty))).mean()
        return terms

    def phase(self, value: Tensor) -> Tensor:
        """The phase u (...) from the network's output (...)."""
        return value if self.output == "u" else u_from_w(value, self.epsilon)

    def output_for(self, distance: Tensor) -> Tensor:
        """The network's output (...) for signed distances (...), normalised units."""
        return distance if self.output == "w" else u_from_w(distance, self.epsilon)

    def distance(self, value: Tensor) -> Tensor:
        """The signed distance w (...), normalised units, from the network's output (...)."""
        return value if self.output == "w" else w_from_u(value, self.epsilon)

    def distance_gradient(self, value: Tensor, gradient: Tensor) -> Tensor:
        """∇w (..., d) from the network's output (...) and its gradient (..., d)."""
        return gradient if self.output == "w" else gradient_of_w(value, gradient, self.epsilon)

    def level(self, phase: float) -> float:
        """The signed distance, normalised units, at which u is ``phase`` (-1 to 1)."""
        return float(w_from_u(torch.tensor(phase, dtype=torch.float64), self.epsilon))


def _in_hole(distance: Tensor, clearance: Tensor, spacing: float) -> Tensor:
    """Whether the surface nearest to each of M points lies in a hole of the cloud (M,): 0 (no) to 1 (yes).

    The place is |w| from the point, and so √(clearance² - w²) along the surface from the cloud (derived).

    Args:
        distance: w, the signed distance of the points from the surface (M,), normalised units.
        clearance: their distance from the cloud (M,), normalised units.
        spacing: of the cloud's points, as ``Batch.spacing``, normalised units.
    """
    along = (clearance.square() - distance.square()).clamp(min=0).sqrt()
    beyond_spacing = ((along / spacing - HOLE_BEGINS) / (HOLE_CERTAIN - HOLE_BEGINS)).clamp(0, 1)
    return beyond_spacing * ((WIDEST_HOLE - along) / HOLE_FADES).clamp(0, 1)


def _normal_term(slope: Tensor, batch: Batch) -> Tensor:
    """The normal term (N,) at each point of a batch, not weighted, where ∇w is ``slope`` (N, d); see ``PhaseLoss``."""
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
