"""Screened Poisson reconstruction by open3d, the peer that the benchmark compares with.

    python code/reconstruction/poisson.py scan.ply mesh.ply --depth 9
    python code/reconstruction/poisson.py scan.ply mesh.ply --depth 9 --normals     # with the file's own normals
    python code/reconstruction/poisson.py scan.ply mesh.ply --depth 9 --iterated    # normals by iterated Poisson

Without either they are estimated over 20 neighbours and oriented by propagation along tangent planes. Iterated Poisson
(Hou et al. 2022) begins with random normals and takes those of the surface that came out, again and again.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from phase_recon.utils.environment import require_packages

    del sys.path[0]
    require_packages()

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.datasets.pointcloud import PointCloud, load_point_cloud
from phase_recon.geometry.points import Normalisation
from phase_recon.reconstruction.commands import Parser, exit_status
from phase_recon.reconstruction.output import check_not_read
from phase_recon.surface.files import write_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError

Array = npt.NDArray[np.float64]

NEIGHBOURS = 20
# of iterated Poisson, as published
FACE_NEIGHBOURS = 10  # points that a face gives its normal to
MOST_ROUNDS = 30
DEPTHS = range(2, 17)  # of the octree: open3d crashes below, and deeper than 16 its cells are below single precision
CHANGED_MOST = 0.001  # share of the normals that changed most, by which it is told that nothing changes any more ...
UNCHANGED = 0.175  # ... when their mean change, as a length, is below this

Normals = Literal["tangent planes", "file", "iterated"]


def poisson(cloud: PointCloud, depth: int, normals: Normals) -> Surface:
    """The surface of a 3D cloud in its own frame (Kazhdan & Hoppe 2013).

    Args:
        cloud: the points.
        depth: of the octree.
        normals: estimated and propagated along tangent planes, those of the file, or found by iterated Poisson.

    Raises:
        UserError: open3d cannot be imported, or there are no normals to use.
    """
    if cloud.points.shape[1] != 3:
        raise UserError("Poisson: needs points in 3D; leave its rows out for a cloud in 2D")
    try:
        import open3d as o3d
    except (ImportError, OSError) as error:
        raise UserError(
            f"open3d cannot be imported ({error}): pip install open3d, and on a slim Linux install libusb-1.0, "
            "libGL, libEGL and libX11"
        ) from None
    if normals == "file" and cloud.normals is None:
        raise UserError("--normals: the cloud has none; leave the flag out to have them estimated")
    frame = Normalisation.fit(cloud.points)
    points = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(frame.apply(cloud.points)))

    def solve(given: Array) -> Surface:
        points.normals = o3d.utility.Vector3dVector(given)
        mesh, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(points, depth=depth)
        return Surface(np.asarray(mesh.vertices).copy(), np.asarray(mesh.triangles, dtype=np.int64))

    if normals == "iterated":
        surface = iterated(frame.apply(cloud.points), solve)
    elif normals == "file" and cloud.normals is not None:
        surface = solve(cloud.normals)
    else:
        points.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(NEIGHBOURS))
        points.orient_normals_consistent_tangent_plane(NEIGHBOURS)
        surface = solve(np.asarray(points.normals).copy())
    return replace(surface, vertices=frame.invert(surface.vertices))


def iterated(points: Array, solve: Callable[[Array], Surface], seed: int = 0) -> Surface:
    """Iterated Poisson surface reconstruction (Hou et al. 2022, algorithm 1, with random normals at the start).

    Args:
        points: (N, 3).
        solve: from outward normals (N, 3) to the surface through the points.
        seed: of the first normals.

    Returns:
        The surface of the last round, its normals outward.
    """
    normals = np.random.default_rng(seed).standard_normal(points.shape)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    tree, most = cKDTree(points), max(1, round(CHANGED_MOST * len(points)))
    for _ in range(MOST_ROUNDS):
        surface = solve(normals)
        near = tree.query(surface.vertices[surface.cells].mean(axis=1), k=min(FACE_NEIGHBOURS, len(points)))[1]
        total = np.zeros_like(points)
        np.add.at(total, near, surface.cell_vectors()[:, None])  # weighted by the faces' areas
        lengths = np.linalg.norm(total, axis=1, keepdims=True)
        found = np.where(lengths > 0, total / np.where(lengths > 0, lengths, 1), normals)
        change = np.sort(np.linalg.norm(found - normals, axis=1))[-most:].mean()
        normals = found
        if change < UNCHANGED:
            break
    if (normals * (points - points.mean(axis=0))).sum() < 0:  # it knows no inside: either side may have come out
        normals = -normals
    return solve(normals)


def main() -> int:
    """Read, reconstruct, write; returns the exit status."""
    parser = Parser("CLOUD MESH [--depth N] [--normals | --iterated]", __doc__, script="poisson.py")
    parser.add_argument("cloud", metavar="CLOUD", type=Path, help="the point cloud")
    parser.add_argument("mesh", metavar="MESH", type=Path, help="the file to write")
    parser.add_argument("--depth", metavar="N", type=int, default=8, help="depth of the octree (8)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--normals", action="store_true", help="use the normals of the file")
    which.add_argument("--iterated", action="store_true", help="find the normals by iterated Poisson")

    def command(options: argparse.Namespace) -> None:
        normals: Normals = "file" if options.normals else "iterated" if options.iterated else "tangent planes"
        if options.depth not in DEPTHS:
            raise UserError(f"--depth {options.depth}: expected {DEPTHS[0]} to {DEPTHS[-1]}")
        check_not_read(options.mesh, options.mesh, {"cloud": options.cloud}, "mesh", "MESH")
        if options.mesh.exists():
            print(f"note: {options.mesh} is there, and will be replaced")
        cloud = load_point_cloud(options.cloud, normals=options.normals)
        write_surface(options.mesh, poisson(cloud, options.depth, normals))

    return exit_status(parser, None, command, "stopped, without a mesh")


if __name__ == "__main__":
    sys.exit(main())
