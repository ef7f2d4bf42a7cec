"""Whether the normals that come with a cloud look trustworthy: said before the training, in a tenth of a second.

Three things are looked at, each at some of the points: whether a normal is perpendicular to the plane of its
neighbours, whether it points to the same side as theirs, and whether all together point out of the body.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.enclosure import ENCLOSED, enclosure
from phase_recon.utils.arrays import thinned
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]

SEARCHED = 25_000  # points among which neighbours are sought, at most: a tree of so many takes 0.02 s
LOOKED_AT = 1_000  # points whose normals are looked at, at most
NEIGHBOURS = (16, 64)  # of a plane: few where the points are exact, more where they are noisy
BESIDE = 8  # neighbours whose sides are compared
PERPENDICULAR = 0.85  # |cos| between a normal and that of the plane, from which they agree: 32°, as surfaces bend
# Measured on range scans, on photogrammetry and on sampled meshes of 2 000 to 300 000 points, noise up to 0.01 of the
# radius: 0.78 to 1 of right normals are perpendicular, 0.16 of random ones.
FITTING = 0.6  # share of the points that are, from which the normals look trustworthy
WRONG = 0.06  # share of normals on the wrong side, up to which they do; right ones seemed to have up to 0.04


@dataclass(frozen=True)
class GivenNormals:
    """What is found of the normals of a file.

    Attributes:
        fitting: share of the points, 0 to 1, whose normal is perpendicular to the plane of their neighbours.
        wrong: share of those, 0 to 0.5, whose normal points to the other side than most, as far as neighbours tell.
        outward: whether most point out of the body; None where the points enclose none, as an open sheet.
    """

    fitting: float
    wrong: float
    outward: bool | None

    @property
    def trustworthy(self) -> bool:
        """Whether they look so."""
        return self.fitting >= FITTING and self.wrong <= WRONG

    def sentence(self, used: bool) -> str:
        """What a user should know of them, and of how to use them or to do without."""
        fitting = f"{self.fitting:.0%} are perpendicular to the surface that the points show"
        if self.fitting < FITTING:
            finding = f"do not look trustworthy: only {fitting}"
        elif self.wrong > WRONG:
            finding = f"do not look trustworthy: about {self.wrong:.0%} point to the wrong side of the surface"
        else:
            side = "" if self.outward is None else f", and they point {'outward' if self.outward else 'inward'}"
            finding = f"look trustworthy: {fitting}{side}"
        if used:
            advice = "they are used" if self.trustworthy else "they are used; --no-normals does without them"
        else:
            advice = "they are not used; --normals uses them" if self.trustworthy else "they are not used"
        return f"the file's normals {finding}; {advice}"


def examine(cloud: PointCloud) -> GivenNormals | None:
    """Look at the normals of a cloud; None where it has none."""
    if cloud.normals is None:
        return None
    some = thinned(np.arange(len(cloud.points)), SEARCHED)
    points, normals = cloud.points[some], cloud.normals[some]
    points = (points - points.mean(axis=0)) / np.ptp(points, axis=0).max()
    asked = thinned(np.arange(len(points)), LOOKED_AT)
    tree = cKDTree(points)
    nearest = tree.query(points[asked], k=min(max(NEIGHBOURS) + 1, len(points)), workers=threads())[1]
    fits = [_perpendicular(points[nearest[:, : count + 1]], normals[asked]) for count in NEIGHBOURS]
    fit = max(fits, key=np.mean)
    sides = np.einsum("nd,nkd->nk", normals[asked], normals[nearest[:, 1 : BESIDE + 1]])[fit]
    unlike = min(float((sides < 0).mean()), 0.5) if len(sides) else 0.5
    # of normals that are wrong by chance, a share p, 2 p (1 - p) of the pairs of neighbours are unlike
    wrong = (1 - (1 - 2 * unlike) ** 0.5) / 2
    enclosed = enclosure(points, normals)
    return GivenNormals(float(fit.mean()), wrong, None if abs(enclosed) < ENCLOSED else enclosed > 0)


def _perpendicular(neighbours: Array, normals: Array) -> npt.NDArray[np.bool_]:
    """Whether normals (N, d) are perpendicular to the planes of their neighbours (N, k, d)."""
    centred = neighbours - neighbours.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
    return np.asarray(np.abs(np.einsum("nd,nd->n", axes[:, :, 0], normals)) > PERPENDICULAR)
