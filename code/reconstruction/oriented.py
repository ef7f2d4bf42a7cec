"""A cloud with the oriented normals that its preprocessing found, as arrays and as a ply."""

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.datasets.ply import ply_of_columns
from phase_recon.reconstruction.scene import Scene
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]


def oriented_points(scene: Scene) -> tuple[Array, Array, Array]:
    """The points of a scene's cloud that are no outliers, with the normals that the scene has.

    Returns:
        Positions (K, d) in the input's units, outward unit normals (K, d), and confidence (K,), 0 to 1. A row that was
        not trained on has the normal of the nearest one that was.
    """
    measured = scene.points.measured
    positions = scene.cloud.points[scene.kept]
    nearest = cKDTree(scene.cloud.points[measured.raw_index]).query(positions, workers=threads())[1]
    confidence = measured.confidence * np.where(measured.oriented, measured.outward, 0.0)
    return positions, measured.normals[nearest], confidence[nearest]


def oriented_ply(positions: Array, normals: Array, confidence: Array) -> bytes:
    """A binary ply of points (K, d) with unit normals (K, d) and confidence (K,), all in double precision."""
    places = dict(zip("xyz", positions.T, strict=False))
    directions = {f"n{axis}": column for axis, column in zip("xyz", normals.T, strict=False)}
    return ply_of_columns({**places, **directions, "confidence": confidence})
