"""Measurements of a reconstruction against the ground truth or the cloud: distances, normals, overlap and topology.

Samples of one surface are measured to the cells of the other, exactly. Distances between samples of both would never
fall below about half of the samples' spacing, even for equal surfaces.
"""

from __future__ import annotations

from collections.abc import Callable

import igl
import numpy as np
import numpy.typing as npt
import trimesh

from phase_recon.surface.surface import Surface, select_cells
from phase_recon.surface.trim import guesses
from phase_recon.utils.arrays import ratio
from phase_recon.utils.errors import UserError

Array = npt.NDArray[np.float64]

# points that tell the overlap: of bodies that fill a tenth of their box it is known to 0.004
IOU_POINTS = 200_000
RAY = np.array([0.3691, 0.7532, 0.5443])  # in no plane that shapes have edges in


def sample_surface(surface: Surface, count: int, seed: int) -> tuple[Array, npt.NDArray[np.int64]]:
    """Points (count, d), uniform by length or area, and the cell (count,) of each; ``seed`` decides which."""
    generator = np.random.default_rng(seed)
    cumulative = np.cumsum(surface.cell_measures())
    # sorted by cell: successive samples are then mostly near each other, which makes distance queries faster
    cells = np.searchsorted(cumulative, np.sort(generator.random(count)) * cumulative[-1], side="right")
    cells = np.minimum(cells, len(cumulative) - 1)
    # exponential variables divided by their sum are uniform barycentric coordinates
    weights = generator.exponential(size=(count, surface.dimension))
    weights /= weights.sum(axis=1, keepdims=True)
    corners = surface.vertices[surface.cells[cells]]
    return np.einsum("nk,nkd->nd", weights, corners), cells


def distance_to_surface(points: Array, surface: Surface) -> tuple[Array, npt.NDArray[np.int64]]:
    """Exact distances (N,) of points (N, d) from the surface, and the nearest cell (N,) of each."""
    centre = surface.vertices.mean(axis=0)  # squared coordinates far from the origin would lose digits
    points = np.ascontiguousarray(points - centre)
    _, cells, nearest = igl.point_mesh_squared_distance(points, surface.vertices - centre, surface.cells)
    return np.linalg.norm(points - nearest, axis=1), cells


def _measurable(surface: Surface, name: str) -> Surface:
    """The surface without degenerate cells.

    Raises:
        UserError: it has no others.
    """
    surface = _without_degenerate(surface)
    if not len(surface.cells):
        raise UserError(f"the {name} has no face with an area (2D: segment with a length): there is nothing to measure")
    return surface


def compare_surfaces(
    reconstruction: Surface,
    target: Surface,
    samples: int = 1_000_000,
    seed: int = 0,
    threshold: float | None = None,
) -> dict[str, float]:
    """Measurements of a reconstruction against a target, by name; distances are in the unit of the vertices.

    Args:
        reconstruction: curve or mesh.
        target: the ground truth, of the same dimension.
        samples: number of uniform points on each surface.
        seed: decides which points.
        threshold: distance for precision and recall; None means 1 % of the diagonal of the target's bounding box.

    Returns:
        mean_rec_to_target, max_rec_to_target: directed distances from the reconstruction to the target: the mean
            over the samples, the maximum over samples and vertices.
        mean_target_to_rec, max_target_to_rec: those from the target to the reconstruction.
        d_C: the Chamfer distance (L1, symmetric), the mean of the two means.
        d_H: the Hausdorff distance, the larger of the two maxima.
        normal_consistency: mean of |n · n'| at nearest points, in both directions; 1 is best.
        threshold, precision, recall, f_score: the shares of the reconstruction's samples (precision) and of the
            target's (recall) within the threshold, and their harmonic mean.
        iou: volume (area in 2D) of the intersection / that of the union, by `samples` points in the common bounding
            box, at most IOU_POINTS; only if both surfaces are closed.
        reconstruction_* and target_*: cells, measure (area or length), components, euler_characteristic, closed (0 or
            1), and for a closed mesh genus.
    """
    whole = {"reconstruction": _without_repeats(reconstruction), "target": _without_repeats(target)}
    reconstruction, target = _measurable(reconstruction, "reconstruction"), _measurable(target, "target")
    if threshold is None:
        threshold = 0.01 * float(np.linalg.norm(np.ptp(target.vertices, axis=0)))
    seeds = np.random.SeedSequence(seed).generate_state(3).tolist()
    to_target, max_to_target, consistency_to_target = _directed(reconstruction, target, samples, seeds[0])
    to_rec, max_to_rec, consistency_to_rec = _directed(target, reconstruction, samples, seeds[1])

    precision, recall = float((to_target <= threshold).mean()), float((to_rec <= threshold).mean())
    result = {
        "d_C": 0.5 * float(to_target.mean() + to_rec.mean()),
        "d_H": max(max_to_target, max_to_rec),
        "mean_rec_to_target": float(to_target.mean()),
        "max_rec_to_target": max_to_target,
        "mean_target_to_rec": float(to_rec.mean()),
        "max_target_to_rec": max_to_rec,
        "normal_consistency": 0.5 * (consistency_to_target + consistency_to_rec),
        "threshold": threshold,
        "precision": precision,
        "recall": recall,
        "f_score": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }
    closed = {name: surface.is_closed() for name, surface in whole.items()}
    if all(closed.values()):
        result["iou"] = _intersection_over_union(reconstruction, target, min(samples, IOU_POINTS), seeds[2])
    for name, surface in whole.items():
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
    """Distances between a surface and the cloud from which it was made, by name, in the unit of the points.

    Args:
        reconstruction: curve or mesh.
        points: the cloud (N, d).
        samples: number of uniform points on the surface.
        seed: decides which points.

    Returns:
        cloud_to_surface_mean, cloud_to_surface_rms, cloud_to_surface_max: exact distances of the points from the
            surface.
        surface_to_cloud_mean, surface_to_cloud_max: distances of the samples from the nearest points. They are never
            below about half of the cloud's spacing.
        far: a twentieth of the cloud's bounding radius,
        cloud_far_share: share of the points that are farther than that from the surface,
        surface_far_share: share of the surface that is farther than that from all points, and than twice the distance
            from the nearest of them to its 16th other point: there the surface is a guess.
        d_C: the Chamfer distance (L1, symmetric), the mean of the two means.
        d_H: the Hausdorff distance, the larger of the two maxima.
    """
    reconstruction = _measurable(reconstruction, "surface")
    to_surface = distance_to_surface(points, reconstruction)[0]
    to_cloud, guess, far = guesses(sample_surface(reconstruction, samples, seed)[0], points)
    return {
        "d_C": 0.5 * float(to_surface.mean() + to_cloud.mean()),
        "d_H": float(max(to_surface.max(), to_cloud.max())),
        "cloud_to_surface_mean": float(to_surface.mean()),
        "cloud_to_surface_rms": float(np.sqrt((to_surface**2).mean())),
        "cloud_to_surface_max": float(to_surface.max()),
        "surface_to_cloud_mean": float(to_cloud.mean()),
        "surface_to_cloud_max": float(to_cloud.max()),
        "far": far,
        "cloud_far_share": float((to_surface > far).mean()),
        "surface_far_share": float(guess.mean()),
    }


def eikonal_error(gradient: Callable[[Array], Array], points: Array) -> float:
    """The mean of | ‖∇w‖ - 1 | at points (N, d), where ``gradient`` gives ∇w (N, d); 0 for a distance function."""
    return float(np.abs(np.linalg.norm(gradient(points), axis=1) - 1).mean())


def signed_distance(points: Array, surface: Surface) -> Array:
    """Exact distances (N,) of points (N, d) from a closed surface, negative inside."""
    return np.where(contains(surface, points), -1.0, 1.0) * distance_to_surface(points, surface)[0]


def contains(surface: Surface, points: Array) -> npt.NDArray[np.bool_]:
    """Whether points (N, d) lie inside a closed surface (N,): |winding number| > 1/2."""
    centre = surface.vertices.mean(axis=0)
    winding_number = _winding_number_2d if surface.dimension == 2 else _winding_number_3d
    extent = np.ptp(surface.vertices, axis=0).max()  # trimesh takes small triangles for none
    vertices, places = (surface.vertices - centre) / extent, (points - centre) / extent
    winding = winding_number(vertices, surface.cells, places)
    return np.asarray(np.abs(winding) > 0.5)


def _winding_number_2d(vertices: Array, segments: npt.NDArray[np.int64], points: Array) -> Array:
    """The winding number (N,) of closed curves about points (N, 2): signed crossings of the ray along +x."""
    order = np.argsort(points[:, 1])
    heights = points[order, 1]
    start, end = vertices[segments[:, 0]], vertices[segments[:, 1]]
    # a segment crosses rays of consecutive points only, in ascending order of y; its upper end does not belong to it
    first = np.searchsorted(heights, np.minimum(start[:, 1], end[:, 1]))
    count = np.searchsorted(heights, np.maximum(start[:, 1], end[:, 1])) - first
    segment = np.repeat(np.arange(len(segments)), count)
    point = order[np.arange(len(segment)) + np.repeat(first - np.cumsum(count) + count, count)]
    along, across = (end - start)[segment], points[point] - start[segment]
    side = np.sign(along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0])
    upward = np.sign(along[:, 1])
    crossings = np.where(side == upward, upward, 0.0)
    return np.bincount(point, weights=crossings, minlength=len(points)).astype(np.float64)


def _winding_number_3d(vertices: Array, triangles: npt.NDArray[np.int64], points: Array) -> Array:
    """The winding number (N,) of closed meshes about points (N, 3): signed crossings of a ray in the direction RAY.

    Sheets nearer to each other than 1e-6 of the mesh's extent may count as one. libigl's own function takes minutes
    beside a mesh of long triangles.
    """
    mesh = trimesh.Trimesh(vertices, triangles, process=False)
    crossed, ray = mesh.ray.intersects_id(points, np.tile(RAY, (len(points), 1)), max_hits=len(triangles) + 1)
    outward = np.sign(Surface(vertices, triangles).cell_vectors()[crossed] @ RAY)
    return np.bincount(ray, weights=outward, minlength=len(points)).astype(np.float64)


def _without_repeats(surface: Surface) -> Surface:
    """The surface without cells that have a vertex twice; a sliver of area 0 has neighbours, and stays."""
    ordered = np.sort(surface.cells, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    return select_cells(surface, ~repeated) if repeated.any() else surface


def _without_degenerate(surface: Surface) -> Surface:
    """The surface without cells of length or area 0, which have no normal and lie on edges of others."""
    measures = surface.cell_measures()
    return surface if (measures > 0).all() else select_cells(surface, measures > 0)


def _directed(source: Surface, target: Surface, samples: int, seed: int) -> tuple[Array, float, float]:
    """Distances (samples,) from source to target, their maximum with the vertices', and the mean |n · n'|."""
    points, cells = sample_surface(source, samples, seed)
    corners = source.vertices[np.unique(source.cells)]
    distances, nearest = distance_to_surface(np.concatenate((points, corners)), target)
    cosines = np.einsum("nd,nd->n", source.cell_normals()[cells], target.cell_normals()[nearest[:samples]])
    return distances[:samples], float(distances.max()), float(np.abs(cosines).mean())


def _intersection_over_union(first: Surface, second: Surface, samples: int, seed: int) -> float:
    """Among random points in the common bounding box: those inside both surfaces / those inside at least one."""
    corners = np.concatenate((first.vertices, second.vertices))
    low, high = corners.min(axis=0), corners.max(axis=0)
    points = low + np.random.default_rng(seed).random((samples, len(low))) * (high - low)
    in_first, in_second = contains(first, points), contains(second, points)
    return float(ratio((in_first & in_second).sum(), (in_first | in_second).sum()))  # 0 where they are far apart
