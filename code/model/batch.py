"""The points of one training step, as the losses read them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

Values = TypeVar("Values", Tensor, npt.NDArray[Any])


@dataclass(frozen=True)
class EstimatedNormals(Generic[Values]):
    """Normals that were estimated from the neighbours of N points, as arrays or as tensors.

    Attributes:
        directions: the unit normals (N, d).
        trust: the confidence in each (N,), 0 to 1.
        oriented: whether each is known to point outward (N,); where not, its sign is arbitrary.
    """

    directions: Values
    trust: Values
    oriented: Values

    def __getitem__(self, chosen: Values) -> "EstimatedNormals[Values]":
        """The normals of the points with these indices (K,)."""
        return EstimatedNormals(self.directions[chosen], self.trust[chosen], self.oriented[chosen])


@dataclass(frozen=True)
class UnsignedDistances:
    """Points about a cloud, and how far from it they are.

    Attributes:
        points: the points (K, d), normalised.
        distances: the distance of each from the nearest point of the cloud (K,).
        gradients: the distances' gradients (K, d): unit vectors away from that point, or zero at it.
    """

    points: Tensor
    distances: Tensor
    gradients: Tensor

    def __getitem__(self, chosen: Tensor) -> "UnsignedDistances":
        """Those of some of the points, by index."""
        return UnsignedDistances(self.points[chosen], self.distances[chosen], self.gradients[chosen])


@dataclass(frozen=True)
class Batch:
    """The points of one step, in normalised coordinates.

    Attributes:
        points: points of the cloud (N, d).
        normals: their unit normals (N, d), or None.
        balls: points in the balls of radius δ about ``points`` (N, p, d), or None for δ = 0.
        omega: points in Ω (M, d).
        weights: 1 / density of each point in ``omega`` (M,), so that mean(weights · f(omega)) estimates ∫_Ω f.
        volume: the volume (area in 2D) of Ω, which is the expected weight.
        estimated: the estimated normals of ``points``, or None.
        beyond: whether each point of ``omega`` (M,) lies beyond the cloud's bounding box, and so outside.
        near: a Gaussian sample about each of ``points`` (N, d), or None where the loss does not need it.
        clearance: distance of each point in ``omega`` from the nearest point of the cloud (M,), or None.
        spacing: distance of the cloud's points to their 15th other points, about; 0 where the loss does not need it.
        hole_weight: weight of the loss's energy where the surface lies in a hole of the cloud; one number, 0 to 1.
        unsigned: N points about the cloud with their distances to it, or None where the loss does not need them.
        empty: places that are known to be outside (N, d), or None.
    """

    points: Tensor
    normals: Tensor | None
    balls: Tensor | None
    omega: Tensor
    weights: Tensor
    volume: float
    estimated: EstimatedNormals[Tensor] | None = None
    beyond: Tensor | None = None
    near: Tensor | None = None
    clearance: Tensor | None = None
    spacing: float = 0.0
    hole_weight: float | Tensor = 1.0
    unsigned: UnsignedDistances | None = None
    empty: Tensor | None = None

    def share(self, rank: int, size: int) -> "Batch":
        """Part number ``rank`` (0 and up) of ``size`` equal parts, cut along the first axis of every tensor."""

        def part(whole: Any) -> Any:
            if isinstance(whole, Tensor) and whole.ndim:
                return whole.chunk(size)[rank]
            if isinstance(whole, EstimatedNormals | UnsignedDistances):
                return replace(whole, **{item.name: part(getattr(whole, item.name)) for item in fields(whole)})
            return whole

        return Batch(**{item.name: part(getattr(self, item.name)) for item in fields(self)})


def together(batches: Sequence[Batch]) -> Batch:
    """The batches of s shapes as one: rows of the tensors take turns, so that row k is of shape k mod s.

    Its means are the means over the shapes of each one's. All have as many points; ``volume``, ``spacing`` and
    ``hole_weight`` are those of the first. Where only some have estimated normals, those of the others have no trust.
    """

    def joined(parts: Sequence[Any]) -> Any:
        first = next((part for part in parts if part is not None), None)
        if isinstance(first, EstimatedNormals):
            none = EstimatedNormals(*(torch.zeros_like(getattr(first, item.name)) for item in fields(first)))
            parts = [none if part is None else part for part in parts]
        if any(part is None for part in parts):  # what not all know is left out
            return None
        if isinstance(first, Tensor) and first.ndim:
            return torch.stack(list(parts), dim=1).flatten(0, 1)
        if isinstance(first, EstimatedNormals | UnsignedDistances):
            names = [item.name for item in fields(first)]
            return replace(first, **{name: joined([getattr(part, name) for part in parts]) for name in names})
        return first

    return Batch(**{item.name: joined([getattr(batch, item.name) for batch in batches]) for item in fields(Batch)})
