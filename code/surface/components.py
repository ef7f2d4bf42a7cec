"""Which components of a surface are kept: the largest, and those that points support."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import SAMPLED, spacing
from phase_recon.surface.surface import Surface, select_cells
from phase_recon.utils.arrays import thinned
from phase_recon.utils.threads import threads

SUPPORT_POINTS = 200_000  # points of a cloud that are assigned to components; of a larger cloud a part is
LEAST_SUPPORT = 20  # points of the cloud on a small component that is kept
LEAST_SUPPORT_DENSITY = 0.3  # × mean density of points on the whole surface: on a small component that is kept
REACH = 0.25  # × radius of a ball of a component's area: a point nearer to it than this, or than the spacing, is on it
LEAST_ON = 0.5  # share of the points nearest to a component that must be on it: a blob about outliers has fewer


def largest_components(surface: Surface, keep: int) -> tuple[Surface, int]:
    """The ``keep`` connected components of largest length or area, and how many others were removed."""
    count, labels = surface.components()
    if count <= keep:
        return surface, 0
    kept = np.argsort(-surface.component_measures(), kind="stable")[:keep]
    return select_cells(surface, np.isin(labels, kept)), count - keep


def substantial_components(
    surface: Surface, share: float, points: npt.NDArray[np.float64] | None = None
) -> tuple[Surface, int]:
    """The connected components that are large or supported by points, and how many others were removed.

    A component is large if its length or area is at least ``share`` of that of the largest, which with a cloud is the
    largest that points show. Without a cloud, the large components are kept. A point supports the component whose
    cells are nearest to it, if it is on them: nearer than the cloud's spacing, or than a quarter of the component's
    radius, and than its size. With a cloud, two rules are added. A small component is kept if at least LEAST_SUPPORT
    points support it, and LEAST_SUPPORT_DENSITY times as densely as the whole surface, such as a fingertip whose finger
    was not scanned. A large component is removed that most of the points nearest to it do not support, or that has
    none: it is a bubble where a part of the shape is missing, or a blob between outliers, which lie about it. The
    largest component that points show is always kept; where none is, the largest of all.

    Args:
        surface: curve or mesh.
        share: 0 to 1; 0 keeps all components.
        points: the cloud (N, d) in the unit of the vertices, or None.
    """
    count, component = surface.components()
    measures = surface.component_measures()
    keep = measures >= share * measures.max()
    if points is not None and share > 0 and count > 1:
        some = thinned(points, SUPPORT_POINTS)
        distance, cells = cKDTree(surface.vertices[surface.cells].mean(axis=1)).query(some, workers=threads())
        nearest = component[cells]
        size = measures ** (1 / (surface.dimension - 1))
        radius = size / (2 * np.pi if surface.dimension == 2 else np.sqrt(4 * np.pi))
        reach = np.minimum(size, np.maximum(spacing(some, thinned(some, SAMPLED)), REACH * radius))
        supported, all_nearest = (
            np.bincount(of, minlength=count) for of in (nearest[distance < reach[nearest]], nearest)
        )
        support = supported * (len(points) / len(some))
        shown = (supported > 0) & (supported >= LEAST_ON * all_nearest)
        if not shown.any():
            shown = measures == measures.max()
        keep = (measures >= share * measures[shown].max()) & shown
        least = LEAST_SUPPORT_DENSITY * len(points) * measures / measures.sum()
        keep |= (support >= LEAST_SUPPORT) & (support >= least)
    return (surface, 0) if keep.all() else (select_cells(surface, keep[component]), int(count - keep.sum()))
