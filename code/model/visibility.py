"""From which side a point of a cloud was seen, as far as the cloud tells.

Whoever scanned a point stood outside of the cloud and saw it. So where rays from one side of a point get out of the
cloud, and those from its other side do not, it was seen from the one, and outside is there. That tells the floor of a
deep hollow whose walls were not scanned, which the winding number cannot: the hollow looks as full as it looks empty.
Where both sides let rays out, or neither does, nothing is told.

Where another sheet is near, it stands in the way of the rays on its side. Then it is a thin wall that is between if the
place was seen from its other side, and a narrow gap if not.
"""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from utils.general import thinned

Array = npt.NDArray[np.float64]

CELLS = 96  # along the longest side of the cloud's box, at most
SAMPLED, REACH = 2000, 16  # a cell is no smaller, and its neighbours are full too, or rays get in between points:
SMALLEST = 0.6  # of the distance of some points to such a neighbour
RAYS = 256  # in all directions: through the mouth of a bore four times as deep as wide still come two
CLEAR = 2.25  # cells from which a ray starts off the point: clear of the cells of its own sheet,
STEEP = 0.3  # if its cosine to the normal is at least so large
NEAREST = 0.75  # of the way from the point, the nearest other point to the start: nearer, there is another sheet
LEAST, OTHER = 3, 0.05  # rays that get out on the side that was seen, and as a share of them, at most, on the other


def seen_sides(
    points: Array, places: Array, directions: Array, steps: Array | None = None
) -> npt.NDArray[np.int64]:
    """On which side of some places on a cloud one can see them (N,): 1 for that of the directions, -1, or 0 if unknown.

    Args:
        points: the cloud (M, d), in any unit.
        places: some of its points (N, d).
        directions: unit normals there (N, d), either way round.
        steps: from the places to another sheet that is near (N, d), on whose side nobody looks; zero where none is,
            and None where none is anywhere.
    """
    d, tree = points.shape[1], cKDTree(points)
    some = thinned(points, SAMPLED)
    reach = float(np.median(tree.query(some, k=[min(REACH, len(points))], workers=-1)[0]))
    lower, size = points.min(axis=0), np.ptp(points, axis=0)
    cell = max(float(size.max()) / CELLS, SMALLEST * reach, float(np.finfo(np.float64).tiny))
    shape = (size // cell).astype(np.int64) + 1
    unmet = np.ones(shape, dtype=bool)
    unmet[tuple(((points - lower) // cell).astype(np.int64).T)] = False
    distance = np.asarray(distance_transform_edt(unmet))
    empty = distance > 1
    stride = np.maximum(distance - 1 - d**0.5, 0.5) * cell  # cannot jump over a full cell, from anywhere in this one

    towards = np.zeros(len(places)) if steps is None else np.sign((directions * steps).sum(axis=1))  # the other sheet
    alone = np.ones(len(places), dtype=bool)
    for offset in (CLEAR * cell, CLEAR * cell / 2):
        for way in (-1, 1):
            nearest = tree.query(places + way * offset * directions, workers=-1)[0]
            alone &= (nearest > NEAREST * offset) | (towards == way)
    rays = _directions(d)
    cosine = directions @ rays.T
    looked = (np.abs(cosine) > STEEP) & alone[:, None] & (np.sign(cosine) != towards[:, None])
    place, ray = np.nonzero(looked)
    side = np.where(cosine[place, ray] > 0, 1, 0)
    at = places[place] + (CLEAR * cell) * np.where(side, 1, -1)[:, None] * directions[place]
    escaped = np.zeros((len(places), 2), dtype=np.int64)
    while len(at):
        index = np.floor((at - lower) / cell).astype(np.int64)
        out = np.any((index < 0) | (index >= shape), axis=1)
        np.add.at(escaped, (place[out], side[out]), 1)
        inside = tuple(index[~out].T)
        going = empty[inside]
        place, ray, side = (part[~out][going] for part in (place, ray, side))
        at = at[~out][going] + stride[inside][going][:, None] * rays[ray]
    behind, before = escaped.T
    told = [(a <= OTHER * b) & (b >= LEAST) for a, b in ((behind, before), (before, behind))]
    return told[0].astype(np.int64) - told[1]


def _directions(d: int) -> Array:
    """Unit vectors (RAYS, d), evenly in all directions: on a circle, or a spiral on the sphere (Fibonacci's)."""
    turn = np.arange(RAYS) + 0.5
    if d == 2:
        angle = 2 * np.pi * turn / RAYS
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    azimuth, height = np.pi * (1 + 5**0.5) * turn, 1 - 2 * turn / RAYS
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), height], axis=-1)
