"""Where a surface is a guess, far from all points of the cloud that it was made from, and the surface without that.

What closes the surface of an open cloud, such as terrain or a single view, is a guess. How far from the points it
begins depends on how dense they are there: the measure is the reach of a point, the distance to its 16th other point,
which is about 2.3 steps from point to point. Of points on lines far apart only some show the surface, as far apart
along the lines as these are from each other, and only those count. All is derived.
"""

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.geometry.arrangement import arrangement
from phase_recon.geometry.neighbours import distance_to_other
from phase_recon.geometry.points import Normalisation
from phase_recon.surface.surface import Surface, select_cells
from phase_recon.utils.arrays import different
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

OTHERS = 16  # the distance from a point to the 16th other is its reach
GUESSED = 2.0  # × reach of the nearest point: farther from it than this a place is a guess,
LEAST = 0.05  # × bounding radius of the cloud: and than this, which a small hole does not hold
SHOWN = 0.7  # × reach of the nearest point: as far the points show the surface; with 1 a rim was twice as wide,
CLEAR = 1.4  # and if nothing of what is beyond is farther than this, it is a gap between points, and stays
# Nearest points, one of which must lie on the same side: of a plate that is thinner than its points are apart half of
# them do; on the back of a sheet, which no one saw, none does.
ASKED = 8


def guesses(places: Array, points: Array) -> tuple[Array, Mask, float]:
    """Which places on the surface of a cloud are a guess.

    Args:
        places: on the surface (N, d).
        points: the cloud (M, d), in the same unit.

    Returns:
        The distances from the places to the nearest points (N,), which places are a guess (N,), and the distance
        within which none is.
    """
    centre = points.mean(axis=0)  # far off the origin, differences would lose digits
    distance = cKDTree(points - centre).query(places - centre, workers=threads())[0]
    least = LEAST * Normalisation.fit(points).scale
    far = np.flatnonzero(distance > least)
    guess = np.zeros(len(places), dtype=bool)
    if len(far):
        showing = cKDTree(_showing(points) - centre)
        to_showing, nearest = showing.query(places[far] - centre, workers=threads())
        guess[far] = to_showing > GUESSED * _reach(showing, nearest)
    return distance, guess, least


def within(surface: Surface, points: Array, distance: float) -> Surface:
    """The cells of a surface all of whose vertices have one of the points (N, d) within that distance."""
    near = np.isfinite(cKDTree(points).query(surface.vertices, distance_upper_bound=distance, workers=threads())[0])
    return select_cells(surface, near[surface.cells].all(axis=1))


def shown_part(surface: Surface, points: Array, level: float = 0.0) -> Surface:
    """The part of a surface that points show, with the small gaps between them.

    A point shows what is near it, and on the side of the surface where it lies: not the back of a thin body.

    Args:
        surface: with normals.
        points: of the cloud (N, d), in the same unit.
        level: the signed distance from the points' own surface at which it lies; they are moved there, along normals.

    Raises:
        ValueError: the surface has no normals.
    """
    if surface.normals is None:
        raise ValueError("expected a surface with normals")
    normals, points = surface.normals, _showing(points)
    of_points = normals[cKDTree(surface.vertices).query(points, workers=threads())[1]]
    points = points + level * of_points
    tree = cKDTree(points)
    distance, nearest = tree.query(surface.vertices, np.arange(1, min(ASKED, tree.n) + 1), workers=threads())
    share = distance[:, 0] / _reach(tree, nearest[:, 0])
    back = (np.einsum("nkc,nc->nk", of_points[nearest], normals) <= 0).all(axis=1)
    share[back] = np.inf
    cut = (share > SHOWN)[surface.cells].any(axis=1)
    if not cut.any():
        return surface
    count, component = select_cells(surface, cut).components()
    clear = np.zeros(count, dtype=bool)
    np.logical_or.at(clear, component, (share > CLEAR)[surface.cells[cut]].any(axis=1))
    cut[cut] = clear[component]
    return select_cells(surface, ~cut)


def _showing(points: Array) -> Array:
    """Those of the points (N, d) that show a surface (M, d), each once."""
    points = different(points)
    return points[arrangement(points)[1]]


def _reach(tree: cKDTree, asked: npt.NDArray[np.int64]) -> Array:
    """The reach (N,) of some of a tree's points, by index (N,)."""
    of, which = np.unique(asked, return_inverse=True)
    return np.asarray(distance_to_other(tree, tree.data[of], OTHERS)[which])
