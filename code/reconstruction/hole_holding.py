"""Narrow holes of the cloud in long runs: the energy fades there, and then points that are added hold the surface.

Otherwise the surface there would depend on how long a run is, as no point holds it. The least area draws it to a flat
lid, a little with every step; and where that draws no more, every step moves it by chance. So the energy there counts
whole at first, which smooths what the start guessed, and then less and less; and once that has come to rest, the
surface is held by points of itself, which join those of the cloud.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from phase_recon.geometry.neighbours import SPACING_OTHERS, density
from phase_recon.model.loss.phase import HOLE_BEGINS, WIDEST_HOLE
from phase_recon.model.sampling import Sampler
from phase_recon.reconstruction.field import NeuralField
from phase_recon.utils.arrays import thinned, unit
from phase_recon.utils.distributed import Ranks
from phase_recon.utils.errors import UserError
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HoleHoldingSettings:
    """When the energy fades in holes, and when and how the surface is held there.

    Attributes:
        fade_from: step up to which the energy counts whole in holes; then it fades.
        fade_power: it fades with this power of the steps, so that many of them add no more than half as many.
        held_at: step after which the surface is held. There the default learning rate is at its lowest, as a longer
            run is about to restart it (``model.schedule.Cosine``).
        averaged: steps before that, over which the weights are averaged.
        cells: of the grid on which that surface is found, along the longest side of Ω.
        looked_at: points of the cloud, at most, that tell where the surface has not yet come to them.
        least_component: share of the largest component's area below which a component is a bubble, and not held.
        density: of the points that hold the surface, as a share of the cloud's.
    """

    fade_from: int = 1500
    fade_power: int = 3
    held_at: int = 5000
    averaged: int = 1000
    cells: int = 128
    looked_at: int = 20_000
    least_component: float = 0.01
    density: float = 0.5

    def weight(self, step: int) -> float:
        """The weight of the energy in holes at a step (derived)."""
        return (self.fade_from / max(step, self.fade_from)) ** self.fade_power


class HeldGaps:
    """The points that hold the surface in gaps, found once in a run.

    The weights of a single step leave a gap's surface where chance has it; their mean over many steps does not (Polyak
    & Juditsky 1992). Where that surface misses points of the cloud, it has not come to rest, and is not held.

    Args:
        points: the cloud (N, d), with what was added to it, normalised.
        spacing: of the cloud, normalised.
        settings: when and how the surface is held.
    """

    def __init__(self, points: Array, spacing: float, settings: HoleHoldingSettings | None = None) -> None:
        self._cloud, self._spacing, self._settings = points, spacing, settings or HoleHoldingSettings()
        self._mean: dict[str, Tensor] = {}
        self._points: Tensor | None = None
        self._normals: Tensor | None = None

    def after(self, epoch: int, field: NeuralField, ranks: Ranks) -> bool:
        """Look at a field after a step; whether there are points, as of now, that are to join the sampler's.

        Raises:
            UserError: another rank has ended.
        """
        first = self._settings.held_at - self._settings.averaged
        if not first < epoch <= self._settings.held_at:
            return False
        share = 1 / (epoch - first)
        for name, weights in field.network.named_parameters():
            mean = self._mean.setdefault(name, weights.detach().clone())
            mean.lerp_(weights.detach(), share)
        if epoch < self._settings.held_at:
            return False
        found = ranks.from_first(self._find(field) if ranks.first else None)  # other processors may round otherwise
        self._mean.clear()
        if found is None or not len(found[0]):
            return False
        self._points, self._normals = (torch.tensor(part, dtype=torch.float32, device=field.device) for part in found)
        return True

    def join(self, sampler: Sampler) -> Sampler:
        """A sampler that draws from the points that hold gaps too, if there are any by now."""
        return sampler if self._points is None or self._normals is None else sampler.joined(self._points, self._normals)

    @property
    def count(self) -> int:
        """How many points hold gaps."""
        return 0 if self._points is None else len(self._points)

    def _find(self, field: NeuralField) -> tuple[Array, Array] | None:
        """Points (K, d) on the surface of the mean weights in gaps, and unit normals there (K, d); None without one."""
        from phase_recon.surface.components import (
            substantial_components,  # half a second, and not before the first step
        )
        from phase_recon.surface.extract import extract_surface
        from phase_recon.surface.metrics import sample_surface

        s = self._settings
        if self._spacing <= 0:
            return None  # the same few points again and again have no gaps
        network = copy.deepcopy(field.network)
        network.load_state_dict(self._mean, strict=False)  # the rest does not change
        mean = replace(field, network=network)
        try:
            surface = extract_surface(mean.normalised, field.lower, field.upper, s.cells, allow_open=True)
        except UserError:
            return None  # no surface: for the checks of the run's health
        surface, _ = substantial_components(surface, s.least_component, self._cloud)
        dense = s.density * density(self._spacing, self._cloud.shape[1], SPACING_OTHERS) * surface.measure()
        places, _ = sample_surface(surface, round(min(dense, len(self._cloud))), seed=0)  # of one that is uneven fewer
        distance = cKDTree(self._cloud).query(places, workers=threads())[0]
        places = places[(distance > HOLE_BEGINS * self._spacing) & (distance < WIDEST_HOLE)]
        some = thinned(self._cloud, s.looked_at)
        missed = some[mean.normalised(_single(some)).abs().numpy() > HOLE_BEGINS * self._spacing]
        places = places[cKDTree(missed).query(places, workers=threads())[0] > WIDEST_HOLE] if len(missed) else places
        if not len(places):
            return None
        w, normals = (part.double().numpy() for part in mean.normalised_value_and_gradient(_single(places)))
        slope = np.maximum(np.linalg.norm(normals, axis=1), 0.5)  # the triangles cut the curves
        return places - (w / slope**2)[:, None] * normals, unit(normals)

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on must know."""
        return {
            "mean": {name: weights.cpu() for name, weights in self._mean.items()},
            "points": None if self._points is None else self._points.cpu(),
            "normals": None if self._normals is None else self._normals.cpu(),
        }

    def load_state_dict(self, state: dict[str, Any] | None, network: nn.Module) -> None:
        """Take over the state of a run that had held gaps, or was to, with a network like this; None has none.

        Raises:
            ValueError: it is of another network.
        """
        if state is None:
            return
        shapes = {name: weights.shape for name, weights in network.named_parameters()}
        if state["mean"] and {name: weights.shape for name, weights in state["mean"].items()} != shapes:
            raise ValueError("mean weights of another network")
        device = next(network.parameters()).device
        self._mean = {name: weights.to(device).clone() for name, weights in state["mean"].items()}
        if state["points"] is not None and state["normals"] is not None:
            self._points, self._normals = state["points"].to(device), state["normals"].to(device)


def _single(points: Array) -> Tensor:
    """Points (N, d) as a field takes them."""
    return torch.from_numpy(points.astype(np.float32))
