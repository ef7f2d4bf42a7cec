"""Where a cloud shows one surface twice, as scans that are badly registered do (derived).

Two sheets beside each other are the sides of a thin wall, and face away from each other; or two scans of one surface,
and face the same way.
"""

import numpy as np
from scipy.spatial import cKDTree

from phase_recon.geometry.points import OrientedPoints
from phase_recon.utils.threads import threads

SAME = 0.7  # least cosine between two normals that face the same way, and between a normal and the step to the other
HIT = 0.5  # × the step to another sheet: a point of it must be so near to where the step ends


def layers(points: OrientedPoints) -> tuple[float, float]:
    """The share of points, 0 to 1, behind or before which others face the same way, and how far these are apart.

    On 60 000 points of two scans 0.009 to 0.029 of the radius apart the share was 0.035 to 0.22, on 80 other clouds,
    thin walls among them, at most 0.003. In 2D, where a neighbourhood is a long part of a curve, the flanks of two
    teeth would count as layers.

    Args:
        points: with normals, and the step to another sheet. Only those whose side is sure are asked.

    Returns:
        The share, and the median distance of two layers in the unit of the points, 0 where there are none.
    """
    asked = np.flatnonzero(points.opposite.any(axis=1) & points.oriented)
    if not len(asked):
        return 0.0, 0.0
    steps = points.opposite[asked]
    apart = np.linalg.norm(steps, axis=1)
    off, other = cKDTree(points.positions).query(points.positions[asked] + steps, workers=threads())
    normals, others = points.normals[asked], points.normals[other]
    along = np.abs((normals * steps).sum(axis=1)) > SAME * apart
    same = along & points.oriented[other] & (off < HIT * apart) & ((normals * others).sum(axis=1) > SAME)
    return float(same.sum() / len(points)), float(np.median(apart[same])) if same.any() else 0.0
