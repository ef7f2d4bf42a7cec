"""The convex hull of points, and how far places lie beyond it."""

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from phase_recon.geometry.points import Array

HULL_NUMBERS = 1 << 22  # distances from facets at a time: 32 MB; a round cloud has tens of thousands of facets


def convex_hull(points: Array) -> Array | None:
    """The facets (F, d + 1) of the convex hull of points (N, d): unit normal and offset; None if it has no inside."""
    try:
        return np.asarray(ConvexHull(points).equations)
    except QhullError:  # on a line or in a plane
        return None


def beyond_hull(places: Array, facets: Array) -> Array:
    """How far places (N, d) lie beyond a convex hull with such facets (N,): negative within."""
    step = max(HULL_NUMBERS // len(facets), 1)
    parts = [places[start : start + step] for start in range(0, len(places), step)]
    beyond = [(part @ facets[:, :-1].T + facets[:, -1]).max(axis=1) for part in parts]
    return np.concatenate([np.zeros(0), *beyond])
