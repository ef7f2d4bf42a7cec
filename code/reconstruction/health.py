"""Whether a field in training can still become a surface: the failures that more steps will not mend."""

import numpy as np
import torch
from torch import Tensor

from phase_recon.geometry.lattice import lattice
from phase_recon.reconstruction.field import NeuralField
from phase_recon.utils.errors import UserError

CELLS = 32  # of the grid on Ω, along each axis
PROBES = 4096  # points of the cloud that are looked at
SMALLER_STEP = "lower learning_rate_schedule's Initial, or set train.clip_gradient = 1"


class Failure(UserError):
    """A field that more steps will not mend; the text names the remedy."""


def surface_lost(field: NeuralField, points: Tensor, level: float = 0.0) -> str | None:
    """What is wrong if a field has one sign everywhere, so that no surface is left in Ω.

    Asked are the nodes of a grid on Ω, walls included; points of the cloud; and where a step of 2 |w - level|, a cell
    at most, leads from each of these along the gradient: to the other side of a surface too small for the grid.

    Args:
        field: the field.
        points: the cloud (N, d), normalised.
        level: the signed distance at which the surface lies, normalised.
    """
    some = points[:: max(1, len(points) // PROBES)].cpu()
    value, slope = field.normalised_value_and_gradient(some)
    cell = float((field.upper - field.lower).max()) / CELLS
    step = (2 * (value - level)).clamp(-cell, cell)
    across = some - step[:, None] * torch.nn.functional.normalize(slope, dim=-1)
    values = torch.cat([value, field.normalised(across), field.normalised(_grid(field))]) - level
    if not bool(values.isfinite().all()):
        return "the field is not finite"
    inside = values < 0
    if bool(inside.any()) and not bool(inside.all()):
        return None
    sign = "negative" if bool(inside[0]) else "positive"
    return f"no surface is left: the field is {sign} everywhere in Ω and at the points"


def surface_leaves(field: NeuralField, level: float = 0.0) -> str | None:
    """What is wrong if a field changes its sign on a wall of Ω, and so the surface goes through it.

    Args:
        field: the field.
        level: the signed distance at which the surface lies, normalised.
    """
    values = field.normalised(_grid(field)).reshape((CELLS + 1,) * field.dimension)
    inside = (values < level).numpy()
    through = [
        f"{side} {'xyz'[axis]}"
        for axis in range(field.dimension)
        for side, index in (("lower", 0), ("upper", -1))
        if inside.take(index, axis=axis).any() and not inside.take(index, axis=axis).all()
    ]
    return f"the surface leaves Ω at its {', '.join(through)} side" if through else None


def _grid(field: NeuralField) -> Tensor:
    """The nodes of a grid on Ω (33^d, d), float32, the last axis running fastest."""
    return torch.from_numpy(lattice(field.lower, field.upper, CELLS + 1).astype(np.float32))
