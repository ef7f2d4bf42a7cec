"""Screened Poisson reconstruction by open3d, the peer that the benchmark compares with.

    python code/reconstruction/poisson.py scan.ply mesh.ply --depth 9
    python code/reconstruction/poisson.py scan.ply mesh.ply --depth 9 --normals     # with the file's own normals

Without --normals they are estimated over 20 neighbours and oriented by propagation along tangent planes.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

import numpy as np

from phase_recon.datasets.pointcloud import PointCloud, load_point_cloud
from phase_recon.geometry.points import Normalisation
from phase_recon.reconstruction.commands import Parser, exit_status
from phase_recon.surface.files import write_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError

NEIGHBOURS = 20


def poisson(cloud: PointCloud, depth: int, use_normals: bool) -> Surface:
    """The surface of a 3D cloud in its own frame (Kazhdan & Hoppe 2013).

    Raises:
        UserError: open3d cannot be imported, or there are no normals to use.
    """
    try:
        import open3d as o3d
    except (ImportError, OSError) as error:
        raise UserError(
            f"open3d cannot be imported ({error}): pip install open3d, and on a slim Linux install libusb-1.0, "
            "libGL, libEGL and libX11"
        ) from None
    if use_normals and cloud.normals is None:
        raise UserError("--normals: the cloud has none; leave the flag out to have them estimated")
    frame = Normalisation.fit(cloud.points)
    points = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(frame.apply(cloud.points)))
    if use_normals and cloud.normals is not None:
        points.normals = o3d.utility.Vector3dVector(cloud.normals)
    else:
        points.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(NEIGHBOURS))
        points.orient_normals_consistent_tangent_plane(NEIGHBOURS)
    mesh, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(points, depth=depth)
    return Surface(frame.invert(np.asarray(mesh.vertices)), np.asarray(mesh.triangles, dtype=np.int64))


def main() -> int:
    """Read, reconstruct, write; returns the exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cloud", type=Path)
    parser.add_argument("mesh", type=Path)
    parser.add_argument("--depth", type=int, default=8, help="of the octree (default: 8)")
    parser.add_argument("--normals", action="store_true", help="use the normals of the file")

    def command(options: argparse.Namespace) -> None:
        cloud = load_point_cloud(options.cloud, normals=options.normals)
        write_surface(options.mesh, poisson(cloud, options.depth, options.normals))

    return exit_status(parser, None, command, "stopped, without a mesh")


if __name__ == "__main__":
    sys.exit(main())
