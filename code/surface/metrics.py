"""How far a reconstruction is from the truth: exact distances, normals, overlap and topology.

One surface is sampled, and the exact distance to the other surface's cells is taken. Distances between two
sets of samples would show a floor of about half the spacing of the samples.
"""

from __future__ import annotations

from collections.abc import Callable

import igl
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.surface.surface import Surface, select_cells

Array = npt.NDArray[np.float64]


def sample_surface(surface: Surface, count: int, seed: int) -> tuple[Array, npt.NDArray[np.int64]]:
    """Points (count, d) uniform by length or area, and the cell (count,) that each lies on."""
    generator = np.random.default_rng(seed)
    reached = np.cumsum(surface.cell_measures())
    # in the order of the cells, so that neighbours follow each other: distance queries are faster so
    cells = np.searchsorted(reached, np.sort(generator.random(count)) * reached[-1], side="right")
    cells = np.minimum(cells, len(reached) - 1)
    # ratios of exponential variables are uniform on a simplex
    weights = generator.exponential(size=(count, surface.dimension))
    weights /= weights.sum(axis=1, keepdims=True)
    corners = surface.vertices[surface.cells[cells]]
    return np.einsum("nk,nkd->nd", weights, corners), cells


def distance_to_surface(points: Array, surface: Surface) -> tuple[Array, npt.NDArray[np.int64]]:
    """Exact distances (N,) of points (N, d) to the surface, and the nearest cell (N,) of each."""
    centre = surface.vertices.mean(axis=0)  # far from the origin, squares would lose digits
    points = np.ascontiguousarray(points - centre)
    _, cells, nearest = igl.point_mesh_squared_distance(points, surface.vertices - centre, surface.cells)
    return np.linalg.norm(points - nearest, axis=1), cells


def compare_surfaces(
    reconstruction: Surface,
    target: Surface,
    samples: int = 1_000_000,
    seed: int = 0,
    threshold: float | None = None,
) -> dict[str, float]:
    """Distances in the unit of the vertices, and ratios, between two surfaces of the same dimension.

    mean_/max_rec_to_target and mean_/max_target_to_rec: directed distances, means over `samples` uniform
    points, maxima over these and the vertices. d_C: mean of the two means. d_H: larger of the two maxima.
    normal_consistency: |n · n'| at nearest points, both ways, averaged (1 is best). precision, recall,
    f_score: shares of samples within the threshold (default 1 % of the diagonal of the target's bounding
    box). iou: volume (area) of the intersection over that of the union, by `samples` points in the joint
    bounding box; only where both are closed. For each of reconstruction_ and target_: cells, measure
    (area or length), components, euler_characteristic, closed (0 or 1), and genus of a closed mesh.
    """
    reconstruction, target = _without_degenerate(reconstruction), _without_degenerate(target)
    if threshold is None:
        threshold = 0.01 * float(np.linalg.norm(np.ptp(target.vertices, axis=0)))
    seeds = np.random.SeedSequence(seed).generate_state(3).tolist()
    to_target, highest_to_target, agree_to_target = _directed(reconstruction, target, samples, seeds[0])
    to_rec, highest_to_rec, agree_to_rec = _directed(target, reconstruction, samples, seeds[1])

    precision, recall = float((to_target <= threshold).mean()), float((to_rec <= threshold).mean())
    result = {
        "d_C": 0.5 * float(to_target.mean() + to_rec.mean()),
        "d_H": max(highest_to_target, highest_to_rec),
        "mean_rec_to_target": float(to_target.mean()),
        "max_rec_to_target": highest_to_target,
        "mean_target_to_rec": float(to_rec.mean()),
        "max_target_to_rec": highest_to_rec,
        "normal_consistency": 0.5 * (agree_to_target + agree_to_rec),
        "threshold": threshold,
        "precision": precision,
        "recall": recall,
        "f_score": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }
    closed = {"reconstruction": reconstruction.is_closed(), "target": target.is_closed()}
    if all(closed.values()):
        result["iou"] = _intersection_over_union(reconstruction, target, samples, seeds[2])
    for name, surface in (("reconstruction", reconstruction), ("target", target)):
        result[f"{name}_cells"] = float(len(surface.cells))
        result[f"{name}_measure"] = surface.measure()
        result[f"{name}_components"] = float(surface.components()[0])
        result[f"{name}_euler_characteristic"] = float(surface.euler_characteristic())
        result[f"{name}_closed"] = float(closed[name])
        if closed[name] and surface.dimension == 3:
            result[f"{name}_genus"] = float(surface.genus())
    return result


def compare_to_points(
    reconstruction: Surface, points: Array, samples: int = 1_000_000, seed: int = 0
) -> dict[str, float]:
    """Distances between a surface and the cloud (N, d) it was made from, in the unit of the points.

    cloud_to_surface_mean, _rms, _max: exact distances of the points to the surface.
    surface_to_cloud_mean, _max: distances of uniform samples to their nearest point, which include the
    spacing of the cloud. d_C: mean of the two means; d_H: larger of the two maxima.
    """
    reconstruction = _without_degenerate(reconstruction)
    centre = reconstruction.vertices.mean(axis=0)
    inward = distance_to_surface(points, reconstruction)[0]
    outward = cKDTree(points - centre).query(sample_surface(reconstruction, samples, seed)[0] - centre)[0]
    return {
        "d_C": 0.5 * float(inward.mean() + outward.mean()),
        "d_H": float(max(inward.max(), outward.max())),
        "cloud_to_surface_mean": float(inward.mean()),
        "cloud_to_surface_rms": float(np.sqrt((inward**2).mean())),
        "cloud_to_surface_max": float(inward.max()),
        "surface_to_cloud_mean": float(outward.mean()),
        "surface_to_cloud_max": float(outward.max()),
    }


def eikonal_error(gradient: Callable[[Array], Array], points: Array) -> float:
    """Mean of | ‖∇w‖ - 1 | at points (N, d): how far a w with this gradient (N, d) is from a distance, which has 0."""
    return float(np.abs(np.linalg.norm(gradient(points), axis=1) - 1).mean())


def signed_distance(points: Array, surface: Surface) -> Array:
    """Exact distances (N,) of points (N, d) to a closed surface, negative inside."""
    return np.where(contains(surface, points), -1.0, 1.0) * distance_to_surface(points, surface)[0]


def contains(surface: Surface, points: Array) -> npt.NDArray[np.bool_]:
    """Whether points (N, d) lie inside a closed surface: winding number beyond one half."""
    centre = surface.vertices.mean(axis=0)
    vertices, queries = surface.vertices - centre, np.ascontiguousarray(points - centre)
    turns = _turns if surface.dimension == 2 else igl.fast_winding_number  # the latter is wrong in 2D
    inside: npt.NDArray[np.bool_] = np.abs(turns(vertices, surface.cells, queries)) > 0.5
    return inside


def _turns(vertices: Array, segments: npt.NDArray[np.int64], points: Array) -> Array:
    """Winding number (N,) of closed curves about points (N, 2): signed crossings of the ray along +x."""
    order = np.argsort(points[:, 1])
    heights = points[order, 1]
    start, end = vertices[segments[:, 0]], vertices[segments[:, 1]]
    # a segment can cross the rays of one run of the points sorted by height; its upper end is left out
    first = np.searchsorted(heights, np.minimum(start[:, 1], end[:, 1]))
    count = np.searchsorted(heights, np.maximum(start[:, 1], end[:, 1])) - first
    segment = np.repeat(np.arange(len(segments)), count)
    point = order[np.arange(len(segment)) + np.repeat(first - np.cumsum(count) + count, count)]
    along, across = (end - start)[segment], points[point] - start[segment]
    side = np.sign(along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0])
    upward = np.sign(along[:, 1])
    crossings = np.where(side == upward, upward, 0.0)
    return np.bincount(point, weights=crossings, minlength=len(points)).astype(np.float64)


def _without_degenerate(surface: Surface) -> Surface:
    """Cells of no length or area have no normal, and stand on the edges of others."""
    measures = surface.cell_measures()
    return surface if (measures > 0).all() else select_cells(surface, measures > 0)


def _directed(source: Surface, target: Surface, samples: int, seed: int) -> tuple[Array, float, float]:
    """Distances (samples,) from source to target, the largest, and the mean |cosine| of the normals."""
    points, cells = sample_surface(source, samples, seed)
    corners = source.vertices[np.unique(source.cells)]
    distances, nearest = distance_to_surface(np.concatenate((points, corners)), target)
    cosines = np.einsum("nd,nd->n", source.cell_normals()[cells], target.cell_normals()[nearest[:samples]])
    return distances[:samples], float(distances.max()), float(np.abs(cosines).mean())


def _intersection_over_union(first: Surface, second: Surface, samples: int, seed: int) -> float:
    """Share of the points inside either that are inside both."""
    corners = np.concatenate((first.vertices, second.vertices))
    low, high = corners.min(axis=0), corners.max(axis=0)
    points = low + np.random.default_rng(seed).random((samples, len(low))) * (high - low)
    in_first, in_second = contains(first, points), contains(second, points)
    return float((in_first & in_second).sum() / (in_first | in_second).sum())
