"""A start near the answer: the coarse inside of a cloud, found by flooding.

u and -u, and inside a closed sheet |u|, cost the loss the same, so what the sphere of the usual start gets wrong
(a hole right through the shape, say) can stay wrong. Flooding asks the cloud itself: with every point thickened
to a ball, what water from the walls of Ω cannot reach is inside.
"""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, label
from scipy.spatial import cKDTree

from utils.general import thinned

Array = npt.NDArray[np.float64]

POINTS = 200_000  # of a larger cloud: they lie a fifth of a voxel from each other
VOXELS = {2: 256, 3: 72}  # along the longest side of Ω
NEIGHBOURS = 8  # the distance to that many tells how far apart the points are
LADDER = 1.25  # factor between the radii tried
WIDEST = 0.35  # radius, normalised, beyond which thickening has lost the shape
CLOSING = 2.0  # how many times the first radius that encloses anything is still tried
LEAST = 0.002  # share of Ω that must be enclosed to count
BACKED = 0.85  # share of the points that must have inside within two voxels


def flood(points: Array, lower: Array, upper: Array) -> tuple[Array, Array] | None:
    """Coarse signed distances of a cloud (derived).

    Thickening starts at the distance between points and grows until something is enclosed, then to twice that, which
    closes parts that leaked; more would close true hollows. Between inside and outside the nearer one gives the
    sign; the magnitude is the distance to the nearest point.

    Args:
        points: the cloud (N, d), normalised.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).

    Returns:
        Centres of voxels (M, d) and their signed distances (M,), or None where too little is enclosed, or too many
        points have no inside near them: a scan with large gaps.
    """
    points = thinned(points, POINTS)
    size = upper - lower
    cell = size.max() / VOXELS[len(size)]
    ticks = [np.arange(low + cell / 2, high, cell) for low, high in zip(lower, upper, strict=True)]
    centres = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1)
    tree = cKDTree(points)
    distance = tree.query(centres, workers=-1)[0]
    some = points[:: max(1, len(points) // 2000)]
    gap = float(np.median(tree.query(some, k=min(NEIGHBOURS, len(points)), workers=-1)[0][:, -1]))

    inside, border = np.zeros(distance.shape, dtype=bool), np.ones(distance.shape, dtype=bool)
    border[(slice(1, -1),) * len(size)] = False
    first, radius = 0.0, max(gap, cell)
    while radius <= (min(WIDEST, CLOSING * first) if first else WIDEST):
        regions, _ = label(distance > radius)
        # what water from the walls of Ω reaches, and (0) the thickened points
        wet = np.isin(regions, np.append(np.unique(regions[border]), 0))
        if first == 0.0 and (~wet).mean() > LEAST:
            first, outside = radius, wet & (regions > 0)
        inside |= ~wet
        radius *= LADDER
    if not first:
        return None
    sign = np.where(distance_transform_edt(~inside) < distance_transform_edt(~outside | inside), -1.0, 1.0)
    if (cKDTree(centres[sign < 0]).query(points, workers=-1)[0] <= 2 * cell).mean() < BACKED:
        return None
    return centres.reshape(-1, len(size)), (sign * distance).ravel()
