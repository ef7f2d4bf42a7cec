"""Small tools of the method: points in balls and in Ω, an order of points, fewer of them, unit vectors, the family's
Chamfer distance.

Each takes tensors or arrays of any dimension and gives the same kind back; randomness is passed in.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from torch import Tensor

Array = npt.NDArray[Any]
Part = TypeVar("Part")
Result = TypeVar("Result")


@overload
def sample_ball(center: Tensor, radius: float, n_points: int, generator: torch.Generator) -> Tensor: ...
@overload
def sample_ball(center: Array, radius: float, n_points: int, generator: np.random.Generator) -> Array: ...
def sample_ball(center: Any, radius: float, n_points: int, generator: Any) -> Any:
    """Points uniform in the balls of a radius about some centres: (..., d) to (..., n_points, d).

    A normal vector gives the direction; the distance is radius · U^(1/d), which makes the volume even.
    """
    *lead, d = center.shape
    shape = (*lead, n_points, d)
    if isinstance(center, Tensor):
        kind = {"dtype": center.dtype, "device": center.device, "generator": generator}
        step: Any = torch.randn(shape, **kind)
        reach: Any = radius * torch.rand((*lead, n_points, 1), **kind) ** (1.0 / d)
        return center.unsqueeze(-2) + step * (reach / torch.linalg.vector_norm(step, dim=-1, keepdim=True))
    real = np.result_type(center, np.float32)  # float64 for integers, too
    step = generator.standard_normal(shape, dtype=real)
    reach = radius * generator.random((*lead, n_points, 1), dtype=real) ** (1.0 / d)
    return center[..., None, :] + step * (reach / np.linalg.norm(step, axis=-1, keepdims=True))


@overload
def sample_omega(box_coords: Tensor, n_points: int, generator: torch.Generator) -> Tensor: ...
@overload
def sample_omega(box_coords: Array, n_points: int, generator: np.random.Generator) -> Array: ...
def sample_omega(box_coords: Any, n_points: int, generator: Any) -> Any:
    """Points (n_points, d) uniform in the smallest box that holds ``box_coords`` (k, d), e.g. its corners."""
    d = box_coords.shape[-1]
    if isinstance(box_coords, Tensor):
        lower, upper = box_coords.amin(0), box_coords.amax(0)
        unit: Any = torch.rand((n_points, d), dtype=lower.dtype, device=lower.device, generator=generator)
    else:
        lower, upper = box_coords.min(0), box_coords.max(0)
        unit = generator.random((n_points, d), dtype=np.result_type(box_coords, np.float32))
    return lower + unit * (upper - lower)


def along_curve(points: Array) -> npt.NDArray[np.int64]:
    """The order (N,) of points (N, d) along a Z-order curve (Morton 1966), on which neighbours are mostly near."""
    d = points.shape[1]
    bits = 30 // d
    lower = points.min(axis=0)
    size = float((points.max(axis=0) - lower).max()) or 1.0
    code = np.zeros(len(points), dtype=np.uint32)
    for axis in range(d):
        cell = ((points[:, axis] - lower[axis]) / size * (2**bits - 1)).astype(np.uint32)
        for bit in range(bits):
            code |= (cell >> bit & 1) << (bit * d + axis)
    return np.argsort(code)


def thinned(points: Array, count: int) -> Array:
    """At most ``count`` of the points (N, d), chosen at random but the same ones every time, in their order."""
    if len(points) <= count:
        return points
    return points[np.sort(np.random.default_rng(0).choice(len(points), count, replace=False))]


def chamfer_dist(mesh_x: Any, mesh_y: Any, sample_count: int = 100000, seed: int = 0) -> float:
    """The family's Chamfer distance between two trimesh meshes: the mean of the two directed mean distances.

    Both meshes are sampled, and each sample is matched with the nearest SAMPLE of the other. The number
    therefore never falls below about ½ √(area / sample_count); ``utils.metrics`` measures to the surface
    itself and is what the runs report.
    """
    points_x, points_y = _sample_mesh(mesh_x, sample_count, seed), _sample_mesh(mesh_y, sample_count, seed + 1)
    x_to_y = cKDTree(points_y).query(points_x, workers=-1)[0]
    y_to_x = cKDTree(points_x).query(points_y, workers=-1)[0]
    return float((x_to_y.mean() + y_to_x.mean()) / 2)


def _sample_mesh(mesh: Any, count: int, seed: int) -> Array:
    import trimesh  # here, for it takes a second to import and training never needs it

    return np.asarray(trimesh.sample.sample_surface(mesh, count, seed=seed)[0])


def ratio(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """a / b (...), and 0 where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return np.asarray(np.divide(a, b, out=np.zeros(b.shape), where=b > 0))


def unit(vectors: Array) -> npt.NDArray[np.float64]:
    """Vectors (N, d) of length 1, or zero where they are."""
    return np.asarray(vectors * ratio(1.0, np.linalg.norm(vectors, axis=-1, keepdims=True)))


def in_threads(function: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
    """What a function gives for each of some parts, in their order, on as many threads as torch has.

    That is quicker where the function is made of numpy's and scipy's large operations: while these compute, Python
    goes on in another thread.
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, parts))
