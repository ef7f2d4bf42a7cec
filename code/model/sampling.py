"""Which points one training step looks at: the data, the balls about them, and Ω with its weights.

The integral over Ω is estimated without bias whatever the density q of the points:
∫ f dx = E_q[f / q], so each point carries the weight 1/q and the estimate is the mean of weight · f.
Points are drawn one from each of as many equal parts of what there is, along a curve through space: by chance alone
they would crowd here and leave gaps there, and what a step sees would vary more.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import grid_sample

from phase_recon.utils.general import along_curve, sample_ball

MAX_VOXELS = 2_000_000  # of the density's grid: 48 MB, and a second to set up
MAX_NODES, CLOSE = 1_000_000, 0.15  # of the clearance's; it is exact at nodes so near the cloud
NEIGHBOURS = 50  # the distance to that many is the spread of the points near the data (Gropp et al. 2020)


Values = TypeVar("Values", Tensor, npt.NDArray[Any])


@dataclass(frozen=True)
class EstimatedNormals(Generic[Values]):
    """Normals that the neighbours of some points show.

    Attributes:
        directions: the unit normals (N, d).
        trust: how far each can be trusted (N,), 0 to 1.
        oriented: whether each surely points outward (N,), or else has its sign by chance.
    """

    directions: Values
    trust: Values
    oriented: Values

    def __getitem__(self, chosen: Values) -> "EstimatedNormals[Values]":
        """Those of some of the points, by index."""
        return EstimatedNormals(self.directions[chosen], self.trust[chosen], self.oriented[chosen])


@dataclass(frozen=True)
class Batch:
    """The points of one step, in normalised coordinates.

    Attributes:
        points: points of the cloud (N, d).
        normals: their unit normals (N, d), or None.
        balls: points in the δ-balls about them (N, p, d), or None for δ = 0, where these are the points themselves.
        omega: points in Ω (M, d).
        weights: 1 / density of each (M,), so that ∫_Ω f is estimated by mean(weights · f(omega)).
        volume: of Ω, which the mean of all possible weights is.
        estimated: normals estimated for ``points``, or None.
        beyond: which points of ``omega`` (M,) lie beyond the cloud's bounding box, and so outside.
        near: a Gaussian point about each of ``points`` (N, d), or None where the loss does not ask for it.
        clearance: distance of each of ``omega`` from the nearest point of the cloud (M,), or None if not asked for.
        reach: distance of the cloud's points to their 16th neighbours, about; 0 where it plays no part.
        in_gaps: weight of the loss's energy where the surface lies in a gap of the cloud; one number.
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
    reach: float = 0.0
    in_gaps: float | Tensor = 1.0

    def share(self, rank: int, size: int) -> "Batch":
        """The rank-th of ``size`` equal parts, 0 and up, along the first axis of every tensor."""

        def part(whole: Any) -> Any:
            if isinstance(whole, Tensor) and whole.ndim:
                return whole.chunk(size)[rank]
            if isinstance(whole, EstimatedNormals):
                return EstimatedNormals(part(whole.directions), part(whole.trust), part(whole.oriented))
            return whole

        return Batch(**{item.name: part(getattr(self, item.name)) for item in fields(self)})


class OmegaDensity:
    """A piecewise constant density on Ω: a share near the data, the rest uniform.

    Near means: falling off as exp(-2 distance / width) from the data, as the WCH integrand does about the
    surface for width = √ε, but no steeper than one voxel.

    Args:
        points: the cloud (N, d), normalised, and what else is known of where the surface will be.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).
        near_fraction: share of the points that follow the data, 0 (uniform) to below 1.
        width: of the band, in normalised units.
    """

    def __init__(
        self,
        points: npt.NDArray[np.float64],
        lower: npt.NDArray[np.float64],
        upper: npt.NDArray[np.float64],
        near_fraction: float,
        width: float,
    ) -> None:
        size = upper - lower
        d = len(size)
        shape = np.ones(d, dtype=np.int64)  # uniform is one voxel
        if near_fraction > 0:
            edge = max(width / 2, float(np.prod(size) / MAX_VOXELS) ** (1.0 / d))
            shape = np.maximum(1, np.ceil(size / edge).astype(np.int64))
        voxel = size / shape
        mass = np.full(shape, (1.0 - near_fraction) / np.prod(shape))
        if near_fraction > 0:
            empty = np.ones(shape, dtype=bool)
            empty[tuple(np.clip((points - lower) // voxel, 0, shape - 1).astype(np.int64).T)] = False
            distance = np.maximum(0.0, distance_transform_edt(empty, sampling=voxel) - voxel.max())
            near = np.exp(-2.0 * distance / width)
            mass += near_fraction * near / near.sum()
        cells = np.indices(tuple(shape.tolist())).reshape(d, -1).T
        order = along_curve(cells)
        mass = mass.ravel()[order] / mass.sum()
        self.corners = torch.tensor(lower + voxel * cells[order], dtype=torch.float32)
        self.voxel = torch.tensor(voxel, dtype=torch.float32)
        self.volume = float(np.prod(size))
        self.cumulative = torch.tensor(np.cumsum(mass))
        self.inverse_density = torch.tensor(np.prod(voxel) / mass, dtype=torch.float32)

    def to(self, device: torch.device) -> "OmegaDensity":
        """Move the tables to a device."""
        for name in ("corners", "voxel", "cumulative", "inverse_density"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points (count, d) of this density and their weights 1/density (count,)."""
        shares = _evenly(count, self.cumulative.device, generator)
        cell = torch.searchsorted(self.cumulative, shares).clamp_(max=len(self.cumulative) - 1)
        corners = self.corners[cell]
        inside = torch.rand(corners.shape, device=corners.device, generator=generator)
        return corners + inside * self.voxel, self.inverse_density[cell]


class Clearance:
    """The distance to a cloud from points in Ω, by interpolation between the nodes of a grid.

    Args:
        points: the cloud (N, d), normalised.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).
        device: of the points that are asked for.
    """

    def __init__(
        self,
        points: npt.NDArray[np.float64],
        lower: npt.NDArray[np.float64],
        upper: npt.NDArray[np.float64],
        device: torch.device,
    ) -> None:
        self.points, self.corner, self.extent = points, lower, upper - lower
        self.lower, self.size = (
            torch.tensor(side, dtype=torch.float32, device=device) for side in (lower, self.extent)
        )

    def __call__(self, x: Tensor) -> Tensor:
        """The distance (M,) from points (M, d)."""
        place = (2 * (x - self.lower) / self.size - 1).flip(-1)  # grid_sample counts from the last axis, -1 to 1
        place = place.reshape(1, len(x), *[1] * (x.shape[-1] - 1), x.shape[-1])
        return grid_sample(self._table, place, align_corners=True).reshape(len(x))

    @cached_property
    def _table(self) -> Tensor:
        """The distance at the nodes (1, 1, ...), made when it is first needed: it takes half a second."""
        edge = float(np.prod(self.extent) / MAX_NODES) ** (1.0 / len(self.extent))
        counts = np.ceil(self.extent / edge).astype(np.int64) + 1
        spacing = self.extent / (counts - 1)
        empty = np.ones(counts, dtype=bool)
        nearest = np.rint((self.points - self.corner) / spacing).astype(np.int64)
        empty[tuple(np.clip(nearest, 0, counts - 1).T)] = False
        distance = distance_transform_edt(empty, sampling=spacing)
        close = np.nonzero(distance < CLOSE)
        nodes = self.corner + np.stack(close, axis=-1) * spacing
        distance[close] = cKDTree(self.points).query(nodes, workers=-1)[0]
        return torch.tensor(distance, dtype=torch.float32, device=self.lower.device)[None, None]


def _evenly(count: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Numbers (count,) between 0 and 1, one in each of as many equal parts, in their order."""
    within = torch.rand(count, dtype=torch.float64, device=device, generator=generator)
    return (torch.arange(count, device=device) + within) / count


def neighbour_distance(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The distance (N,) of each of the points (N, d) to its 50th neighbour, the last one where there are fewer."""
    last = min(NEIGHBOURS + 1, len(points))  # the first is the point itself
    return np.asarray(cKDTree(points).query(points, k=[last], workers=-1)[0][:, 0], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws the batches of a run; the cost of a draw does not depend on the number of points.

    Attributes:
        points: the cloud (N, d), normalised.
        normals: its unit normals (N, d), or None when the run does not use them.
        omega: the density of the points in Ω.
        points_batch: points of the cloud per batch, one from each of as many parts of it, equal by ``areas``.
        pts_per_ball: points in the ball about each of them.
        ball_radius: δ, in normalised units; 0 draws no balls.
        pts_in_omega: points in Ω per batch.
        areas: how often each point is drawn, relative to the others (N,); None draws all alike.
        estimated: normals of the points that were estimated, or None.
        spread: standard deviations (N,) of the Gaussians about the points, for ``Batch.near``; None draws none.
        clearance: the distance to the cloud, for ``Batch.clearance``; None gives none.
        reach: ``Batch.reach``.
    """

    points: Tensor
    normals: Tensor | None
    omega: OmegaDensity
    points_batch: int
    pts_per_ball: int
    ball_radius: float
    pts_in_omega: int
    areas: Tensor | None = None
    estimated: EstimatedNormals[Tensor] | None = None
    spread: Tensor | None = None
    clearance: Clearance | None = None
    reach: float = 0.0

    def joined(self, points: Tensor, normals: Tensor) -> "Sampler":
        """One that draws from more points (K, d) too, with unit normals (K, d), which are not trusted if estimated.

        Their areas are 1, their Gaussians as wide as the others in the middle; Ω and the clearance stay as they are.
        """
        count, estimated, spread = len(points), self.estimated, self.spread
        if estimated is not None:
            estimated = EstimatedNormals(
                torch.cat([estimated.directions, normals]),
                torch.cat([estimated.trust, estimated.trust.new_zeros(count)]),
                torch.cat([estimated.oriented, estimated.oriented.new_zeros(count)]),
            )
        return replace(
            self,
            points=torch.cat([self.points, points]),
            normals=None if self.normals is None else torch.cat([self.normals, normals]),
            areas=None if self.areas is None else torch.cat([self.areas, self.areas.new_ones(count)]),
            estimated=estimated,
            spread=None if spread is None else torch.cat([spread, spread.median().expand(count)]),
        )

    @cached_property
    def box(self) -> tuple[Tensor, Tensor]:
        """The lower and the upper corner (d,) of the cloud's bounding box."""
        return self.points.amin(0), self.points.amax(0)

    @cached_property
    def order(self) -> Tensor:
        """The points' indices (N,) along a curve through space."""
        return torch.tensor(along_curve(self.points.cpu().numpy()), device=self.points.device)

    @cached_property
    def cumulative(self) -> Tensor:
        """The share of all areas (N,) that the points up to each have, in their order."""
        areas = torch.ones(len(self.points)) if self.areas is None else self.areas.cpu()
        sums = np.cumsum(areas.double().numpy()[self.order.cpu().numpy()])
        return torch.tensor(sums / sums[-1], device=self.points.device)

    def draw(self, generator: torch.Generator, in_gaps: float | Tensor | None = None) -> Batch:
        """The next batch, with ``Batch.in_gaps`` and a clearance; None is a weight of 1, which needs no clearance."""
        shares = _evenly(self.points_batch, self.points.device, generator)
        chosen = self.order[torch.searchsorted(self.cumulative, shares).clamp_(max=len(self.points) - 1)]
        points = self.points[chosen]
        omega, weights = self.omega.sample(self.pts_in_omega, generator)
        balls = None
        if self.ball_radius > 0:
            balls = sample_ball(points, self.ball_radius, self.pts_per_ball, generator)
        near = None
        if self.spread is not None:
            step = torch.randn(points.shape, device=points.device, generator=generator)
            near = points + self.spread[chosen].unsqueeze(-1) * step
        return Batch(
            points=points,
            normals=None if self.normals is None else self.normals[chosen],
            balls=balls,
            omega=omega,
            weights=weights,
            volume=self.omega.volume,
            estimated=None if self.estimated is None else self.estimated[chosen],
            beyond=((omega < self.box[0]) | (omega > self.box[1])).any(-1),
            near=near,
            clearance=None if in_gaps is None or self.clearance is None else self.clearance(omega),
            reach=self.reach,
            in_gaps=1.0 if in_gaps is None else in_gaps,
        )
