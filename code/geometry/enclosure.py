"""Whether points with normals enclose a body: the winding number that they have at their own places.

On a closed surface it is one half where the normals point outward, and minus one half where they point inward, as half
of all directions lead into the body (principal value). On a flat sheet it is zero, on an open one anything between.
"""

import numpy as np
import numpy.typing as npt

from phase_recon.geometry.crowds import evened
from phase_recon.geometry.neighbours import areas, density_of
from phase_recon.utils.arrays import ratio, thinned, unique_rows

Array = npt.NDArray[np.float64]

POINTS = 10_000  # of the cloud, at most, over which the sum goes
ASKED = 300  # of them, at which it is taken: the median varies by a hundredth
LARGEST_AREA = 3.0  # that a point may stand for, where one in the median stands for 1
# Half of the way from a flat sheet to a closed body. Of 37 clouds of bodies it was 0.28 and more, the least on thin
# bowls whose sheets are nearer than the points; of half a sphere it is 0.35, of a valley seven times as wide 0.15.
ENCLOSED = 0.25
# Below which the points are a sheet, of which nothing but convention says the outer side. It is 0.03 and less on
# terrains, 0.18 on a single view of a box, and 0.15 and more on bodies of few, noisy points.
SHEET = 0.1


def enclosure(points: Array, normals: Array) -> float:
    """The median of the winding number of points (N, d) with unit normals (N, d) at the points, -0.5 to 0.5 (derived).

    Args:
        points: of a surface, in any unit; repeated ones count once.
        normals: of any side.
    """
    once = np.sort(unique_rows(points)[0])
    some = thinned(once[evened(points[once])], POINTS)  # a point stands for LARGEST_AREA at most
    points, normals, d = points[some], normals[some], points.shape[1]
    if len(points) < 2:
        return 0.0
    stand_for = areas(points, LARGEST_AREA) / density_of(points)
    asked = thinned(points, ASKED)
    steps = points - asked[:, None]
    lengths = np.linalg.norm(steps, axis=2)
    along = np.einsum("knd,nd->kn", steps, normals)
    return float(np.median((stand_for * ratio(along, lengths**d)).sum(axis=1)) / (2 * np.pi * (d - 1)))
