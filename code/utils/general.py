"""Samples in balls and boxes, of tensors or arrays.

The dimension d is that of the arguments. Random generators are passed in.
"""

from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]


@overload
def sample_ball(center: Tensor, radius: float, n_points: int, generator: torch.Generator) -> Tensor: ...
@overload
def sample_ball(center: Array, radius: float, n_points: int, generator: np.random.Generator) -> Array: ...
def sample_ball(center: Any, radius: float, n_points: int, generator: Any) -> Any:
    """Points (..., n_points, d) uniform in balls about centres (..., d); tensors give tensors, arrays give arrays.

    The direction is that of a normal vector, the distance is radius · U^(1/d) for U uniform in [0, 1] (derived).

    Args:
        center: the centres (..., d).
        radius: of the balls, in the unit of the centres.
        n_points: points in each ball.
        generator: torch's for a tensor, numpy's for an array.
    """
    *lead, d = center.shape
    shape = (*lead, n_points, d)
    if isinstance(center, Tensor):
        kind = {"dtype": center.dtype, "device": center.device, "generator": generator}
        step: Any = torch.randn(shape, **kind)
        distance: Any = radius * torch.rand((*lead, n_points, 1), **kind) ** (1.0 / d)
        return center.unsqueeze(-2) + step * (distance / torch.linalg.vector_norm(step, dim=-1, keepdim=True))
    real = np.result_type(center, np.float32)  # float64 for integers, too
    step = generator.standard_normal(shape, dtype=real)
    distance = radius * generator.random((*lead, n_points, 1), dtype=real) ** (1.0 / d)
    return center[..., None, :] + step * (distance / np.linalg.norm(step, axis=-1, keepdims=True))


@overload
def sample_omega(box_coords: Tensor, n_points: int, generator: torch.Generator) -> Tensor: ...
@overload
def sample_omega(box_coords: Array, n_points: int, generator: np.random.Generator) -> Array: ...
def sample_omega(box_coords: Any, n_points: int, generator: Any) -> Any:
    """Points (n_points, d) uniform in the bounding box of ``box_coords`` (k, d), such as its two corners.

    A tensor with torch's generator gives a tensor, an array with numpy's gives an array.
    """
    d = box_coords.shape[-1]
    if isinstance(box_coords, Tensor):
        lower, upper = box_coords.amin(0), box_coords.amax(0)
        unit: Any = torch.rand((n_points, d), dtype=lower.dtype, device=lower.device, generator=generator)
    else:
        lower, upper = box_coords.min(0), box_coords.max(0)
        unit = generator.random((n_points, d), dtype=np.result_type(box_coords, np.float32))
    return lower + unit * (upper - lower)
