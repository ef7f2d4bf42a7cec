"""The points of one training step: points of the cloud, points in balls about them, and weighted points in Ω.

Integrals over Ω are estimated without bias for any density q of the points: ∫ f dx = E_q[f / q]. So each point carries
the weight 1/q, and the estimate is the mean of weight · f.
Points are drawn by stratified sampling: the cloud, or Ω, is divided along a space-filling curve into as many equal
parts as there are points to draw, and each part gives one. Independent points would cover it less evenly, and the loss
would vary more from step to step.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import grid_sample

from phase_recon.geometry.neighbours import distance_to_other
from phase_recon.model.batch import Batch, EstimatedNormals, UnsignedDistances
from phase_recon.utils.arrays import along_curve, unit
from phase_recon.utils.general import sample_ball
from phase_recon.utils.threads import threads

MAX_VOXELS = 2_000_000  # voxels of ``OmegaDensity``: 48 MB, and a second to set up
MAX_NODES = 1_000_000  # nodes of ``Clearance``'s grid: half a second to set up
EXACT_WITHIN = 0.15  # normalised units: the clearance is exact at nodes nearer to the cloud; holes matter up to 0.13
NEIGHBOURS = 50  # neighbours whose distance is the σ of the Gaussians near the data (Gropp et al. 2020)
UNSIGNED = 100_000  # points of each of the two σ of ``unsigned_distances``; 2.5 times as many in Atzmon & Lipman (2020)
FAR_SPREAD = 1.0  # normalised units: the wider σ of ``unsigned_distances`` (Atzmon & Lipman 2020)


class OmegaDensity:
    """A density of points on Ω, constant in each voxel: a part near the surface and a uniform part.

    The part near the surface falls off with the distance from it as exp(-2 distance / width), but no steeper than the
    voxels resolve. The WCH integrand falls off so for width = √ε.

    Args:
        points: points (N, d) near the expected surface, normalised: the cloud, and others in its holes.
        lower: lower corner of Ω (d,).
        upper: upper corner of Ω (d,).
        near_fraction: share of the samples in the part near the surface, 0 (uniform) to below 1.
        width: length of the fall-off, normalised units.
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
        shape = np.ones(d, dtype=np.int64)  # one voxel for a uniform density
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
        """Move the tables to a device; returns itself."""
        for name in ("corners", "voxel", "cumulative", "inverse_density"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw points (count, d) with this density; returns them and their weights 1/density (count,)."""
        shares = _stratified(count, self.cumulative.device, generator)
        cell = torch.searchsorted(self.cumulative, shares).clamp_(max=len(self.cumulative) - 1)
        corners = self.corners[cell]
        inside = torch.rand(corners.shape, device=corners.device, generator=generator)
        return corners + inside * self.voxel, self.inverse_density[cell]


class Clearance:
    """The distance from points in Ω to the nearest point of a cloud, interpolated between the nodes of a grid.

    Args:
        points: the cloud (N, d), normalised.
        lower: lower corner of Ω (d,).
        upper: upper corner of Ω (d,).
        device: where the queries are.
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

    def prepare(self) -> None:
        """Compute the distances at the nodes, in half a second; if not called, the first query does it."""
        _ = self._table

    def __call__(self, x: Tensor) -> Tensor:
        """The distance (M,) of points (M, d) in Ω from the cloud, normalised units."""
        place = (2 * (x - self.lower) / self.size - 1).flip(-1)  # grid_sample wants -1 to 1, last axis first
        place = place.reshape(1, len(x), *[1] * (x.shape[-1] - 1), x.shape[-1])
        return grid_sample(self._table, place, align_corners=True).reshape(len(x))

    @cached_property
    def _table(self) -> Tensor:
        """The distances at the nodes (1, 1, n_1, ..., n_d)."""
        edge = float(np.prod(self.extent) / MAX_NODES) ** (1.0 / len(self.extent))
        counts = np.ceil(self.extent / edge).astype(np.int64) + 1
        spacing = self.extent / (counts - 1)
        empty = np.ones(counts, dtype=bool)
        nearest = np.rint((self.points - self.corner) / spacing).astype(np.int64)
        empty[tuple(np.clip(nearest, 0, counts - 1).T)] = False
        distance = distance_transform_edt(empty, sampling=spacing)
        close = np.nonzero(distance < EXACT_WITHIN)
        nodes = self.corner + np.stack(close, axis=-1) * spacing
        distance[close] = cKDTree(self.points).query(nodes, workers=threads())[0]
        return torch.tensor(distance, dtype=torch.float32, device=self.lower.device)[None, None]


def _stratified(count: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Ascending random numbers (count,) in [0, 1], one in each of ``count`` equal intervals."""
    within = torch.rand(count, dtype=torch.float64, device=device, generator=generator)
    return (torch.arange(count, device=device) + within) / count


def neighbour_distance(
    points: npt.NDArray[np.float64], some: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """The distance (M,) of points (N, d), or of some (M, d), to their 50th neighbours, or the farthest there is."""
    return distance_to_other(points, points if some is None else some, NEIGHBOURS)


def unsigned_distances(
    cloud: npt.NDArray[np.float64], device: torch.device, seed: int, count: int = UNSIGNED
) -> UnsignedDistances:
    """Gaussian points about those of a cloud (N, d), normalised: ``count`` with the distance to the 50th neighbour
    for σ, then as many with σ = 1.
    """
    generator = np.random.default_rng(seed)
    centres = generator.integers(len(cloud), size=count)
    spread = np.concatenate([neighbour_distance(cloud, cloud[centres]), np.full(count, FAR_SPREAD)])
    steps = generator.standard_normal((2 * count, cloud.shape[1]))
    points = np.tile(cloud[centres], (2, 1)) + spread[:, None] * steps
    distances, nearest = cKDTree(cloud).query(points, workers=threads())
    parts = (points, distances, unit(points - cloud[nearest]))
    return UnsignedDistances(*(torch.tensor(part, dtype=torch.float32, device=device) for part in parts))


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws the batches of a run. The cost of a draw does not depend on the number of points.

    Attributes:
        points: the cloud (N, d), normalised.
        normals: its unit normals (N, d), or None where the run does not use them.
        omega: the density of the points in Ω.
        points_batch: points of the cloud in a batch.
        pts_per_ball: points in the ball about each of them.
        ball_radius: δ, in normalised units; 0 draws no balls.
        pts_in_omega: points in Ω in a batch.
        areas: the area that each point represents (N,), in any unit: points are drawn in proportion to it. None draws
            all points equally often.
        estimated: estimated normals of the points, or None.
        spread: standard deviations (N,) of the Gaussians of ``Batch.near``, normalised units; None draws none.
        clearance: the distance to the cloud, for ``Batch.clearance``; None leaves that out.
        spacing: ``Batch.spacing``.
        unsigned: what ``Batch.unsigned`` is drawn from; None leaves that out.
        empty: the places (E, d) that ``Batch.empty`` is drawn from; None leaves that out.
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
    spacing: float = 0.0
    unsigned: UnsignedDistances | None = None
    empty: Tensor | None = None

    def joined(self, points: Tensor, normals: Tensor) -> "Sampler":
        """A sampler that also draws from K further points (K, d) with unit normals (K, d).

        They get an area of 1, confidence 0 where the normals are estimated, and the median width of the Gaussians.
        The density in Ω, the clearance and the unsigned distances stay as they are.
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
        """The lower and upper corner (d,) of the cloud's bounding box."""
        return self.points.amin(0), self.points.amax(0)

    @cached_property
    def order(self) -> Tensor:
        """The indices of the points (N,) in their order along a space-filling curve."""
        return torch.tensor(along_curve(self.points.cpu().numpy()), device=self.points.device)

    @cached_property
    def cumulative(self) -> Tensor:
        """The cumulative share of the area (N,), 0 to 1, in the order of ``order``."""
        areas = torch.ones(len(self.points)) if self.areas is None else self.areas.cpu()
        sums = np.cumsum(areas.double().numpy()[self.order.cpu().numpy()])
        return torch.tensor(sums / sums[-1], device=self.points.device)

    def draw(self, generator: torch.Generator, hole_weight: float | Tensor | None = None) -> Batch:
        """Draw a batch.

        Args:
            generator: on the device of the points; its state decides what is drawn.
            hole_weight: ``Batch.hole_weight``. None means 1, and leaves out the clearance, which is then not needed.
        """
        shares = _stratified(self.points_batch, self.points.device, generator)
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
        unsigned = None
        if self.unsigned is not None:
            count = len(self.unsigned.distances)
            shares = _stratified(self.points_batch, self.points.device, generator)
            unsigned = self.unsigned[(shares * count).long().clamp_(max=count - 1)]
        empty = None
        if self.empty is not None:
            shares = torch.rand(self.points_batch, device=points.device, generator=generator)
            empty = self.empty[(shares * len(self.empty)).long().clamp_(max=len(self.empty) - 1)]
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
            clearance=None if hole_weight is None or self.clearance is None else self.clearance(omega),
            spacing=self.spacing,
            hole_weight=1.0 if hole_weight is None else hole_weight,
            unsigned=unsigned,
            empty=empty,
        )
