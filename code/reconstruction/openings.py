"""Openings of the shape that the network has filled, such as the holes of screws, and the correction that opens them.

A short training leaves the field of a narrow opening near zero with either sign: few of the points that are drawn lie
there, so it is learned last. But the oriented points tell that it is outside (``geometry.outside``). A correction on a
sparse grid, as of the detail, makes the field positive there, and zero at the points about; the body stays as it is.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import LINKED, connected_places
from phase_recon.geometry.outside import Outside, outside_of
from phase_recon.geometry.points import Source
from phase_recon.model.grid import SplineField
from phase_recon.reconstruction.detail_system import Data, solve
from phase_recon.reconstruction.field import NeuralField
from phase_recon.reconstruction.scene import Scene
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OpeningSettings:
    """What is a filled opening, and how it is opened. Chosen on simulated scans and noisy clouds.

    Attributes:
        begins: × spacing of the points: places nearer to a point tell nothing.
        smallest: × spacing: side of a cube (2D: a square), below whose volume an opening may be noise.
        widest: × spacing: the farthest place of an opening is nearer to the points than that, or than this in
        widest_least: normalised units. What is wider is no fault of the network's, but what the loss makes of a part
            that was not scanned.
        distance: × distance to the nearest point: the field that is asked for in the opening.
        grid: × cell of the places: the spacing of the correction's nodes.
        about: × the same: distance from an opening up to which points, and the body, take part.
        smoothness: λ of the correction; between 1 and 0.01 there is little difference.
    """

    begins: float = 0.25
    smallest: float = 0.5
    widest: float = 2.0
    widest_least: float = 0.1
    distance: float = 0.5
    grid: float = 1.33
    about: float = 3.0
    smoothness: float = 0.1


def opened(field: NeuralField, scene: Scene, settings: OpeningSettings | None = None) -> tuple[SplineField, int]:
    """The correction that opens what a field has filled, of no grid where that is nothing; and the number of openings.

    Args:
        field: the trained field, negative inside.
        scene: what it was trained on.
        settings: what is a filled opening.
    """
    s = settings or OpeningSettings()
    found = filled_openings(field, scene, s)
    if found is None:
        return SplineField(()), 0
    places, distances, opening, outside = found
    spacing = s.grid * outside.cell
    tree = cKDTree(places)

    def about(some: Array) -> Array:
        """Those of some places (N, d) that are about the opened ones (K, d)."""
        near = np.isfinite(tree.query(some, distance_upper_bound=s.about * spacing, workers=threads())[0])
        return np.asarray(some[near])

    points, body = about(scene.points.positions[scene.points.source != Source.HOLE]), about(outside.inside)
    body = body[_values(field, body) < 0]
    told = np.concatenate([points, places])
    wanted = np.concatenate([np.zeros(len(points)), s.distance * distances])
    values = np.append(_values(field, told) - wanted, np.zeros(len(body)))  # the body stays as it is
    every = np.concatenate([told, body])
    nothing = np.zeros_like(every)  # the slopes are left to the detail
    return solve(Data(every, values, nothing, nothing, nothing[:, 0]), spacing, s.smoothness, noise=0.0), opening


def filled_openings(field: NeuralField, scene: Scene, s: OpeningSettings) -> tuple[Array, Array, int, Outside] | None:
    """Places (M, d) in openings that the field has filled, their distances from the points (M,), and the number of
    openings; and what is known of the outside. None where there are none, or the points have no sure outside.
    """
    points, spacing = scene.points, scene.scale.trained_spacing
    measured = points.measured
    known = scene.normals != "none" and scene.coarse_surface is not None
    if not known or scene.is_open or spacing <= 0 or measured.oriented.mean() <= scene.settings.believed:
        return None
    areas = measured.area * np.maximum(2 * measured.outward - 1, 0)
    widest, noise = max(s.widest * spacing, s.widest_least), scene.scale.noise_left
    outside = outside_of(measured.positions, measured.normals, areas, spacing, noise)
    every, cell = outside.places, outside.cell
    distances = cKDTree(points.positions).query(every, distance_upper_bound=widest + cell, workers=threads())[0]
    asked = np.flatnonzero((distances > s.begins * spacing) & np.isfinite(distances))
    inside = _values(field, every[asked]) < 0
    free, filled = every[asked[~inside]], asked[inside]
    places, distances, sure = every[filled], distances[filled], outside.surely(filled)
    count, opening = connected_places(places, cell)
    farthest = np.zeros(count)
    np.maximum.at(farthest, opening, distances)
    volume = np.bincount(opening[sure], minlength=count) * cell**scene.dimension
    leads_out = np.zeros(count, dtype=bool)  # others would become bubbles
    leads_out[opening[np.isfinite(cKDTree(free).query(places, distance_upper_bound=LINKED * cell)[0])]] = True
    sound = (volume > (s.smallest * spacing) ** scene.dimension) & (farthest < widest) & leads_out
    kept = sound[opening] & sure
    return (places[kept], distances[kept], int(sound.sum()), outside) if kept.any() else None


def _values(field: NeuralField, places: Array) -> npt.NDArray[np.float32]:
    """The field (N,) at places (N, d)."""
    from phase_recon.surface.sparse_grid import evaluate  # half a second, and not before the first step

    return evaluate(field.normalised, places)
