"""How often a side that the preprocessing calls sure is wrong: on clouds whose true normals are known.

    python code/benchmarks/make_clouds.py FOLDER --kinds scan,noisy     makes such clouds
    python code/benchmarks/sides.py FOLDER                              prints a row a cloud
    python code/benchmarks/sides.py FOLDER --sensors                    the same, told the sensor positions

A side is wrong where the normal that was found and the true one point to different sides of the surface. Normals that
are nearly perpendicular to the true ones, as at edges, are of no side and do not count.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

import numpy as np

from phase_recon.datasets.pointcloud import PointCloud, load_point_cloud
from phase_recon.geometry.points import Source
from phase_recon.reconstruction.commands import Parser, exit_status
from phase_recon.reconstruction.preprocess import prepare
from phase_recon.reconstruction.trials import Row, markdown
from phase_recon.utils.config import Config
from phase_recon.utils.errors import UserError

PERPENDICULAR = 0.3  # |cosine| below which a normal is on no side of the surface
COLUMNS = ("cloud", "points", "sure %", "wrong of sure %", "wrong of all %", "filled", "seconds")


def sides_of(cloud: PointCloud) -> Row:
    """What is right of the sides of a cloud with true normals, which are not shown to the preprocessing."""
    assert cloud.normals is not None
    started = time.monotonic()
    scene = prepare(Config(), replace(cloud, normals=None))
    measured = scene.points[scene.points.source == Source.MEASURED]
    cosine = (measured.normals * cloud.normals[measured.raw_index]).sum(axis=1)
    counted, wrong, sure = np.abs(cosine) > PERPENDICULAR, cosine < 0, measured.oriented
    return {
        "points": len(cloud.points),
        "sure %": 100 * float(sure.mean()),
        "wrong of sure %": 100 * float(wrong[counted & sure].mean()) if (counted & sure).any() else None,
        "wrong of all %": 100 * float(wrong[counted].mean()) if counted.any() else None,
        "filled": scene.points.count(Source.HOLE),
        "seconds": round(time.monotonic() - started, 1),
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = Parser("FOLDER [--sensors]", __doc__, script="sides.py")
    parser.add_argument("folder", type=Path, help="of clouds with true normals, .npz")
    parser.add_argument("--sensors", action="store_true", help="show the preprocessing the sensor positions, too")
    return exit_status(parser, arguments, command, "stopped")


def command(options: argparse.Namespace) -> None:
    """A row for each cloud of the folder, and the median and the worst of all.

    Raises:
        UserError: there are no clouds with normals.
    """
    rows: list[Row] = []
    for path in sorted(options.folder.glob("*.npz")):
        cloud = load_point_cloud(path)
        if cloud.normals is not None:
            rows.append({"cloud": path.stem, **sides_of(cloud if options.sensors else replace(cloud, sensors=None))})
            print(rows[-1], file=sys.stderr, flush=True)
    if not rows:
        raise UserError(f"{options.folder}: no .npz with points and normals; code/benchmarks/make_clouds.py makes some")
    told = [row["wrong of sure %"] for row in rows if row["wrong of sure %"] is not None]
    print(markdown(COLUMNS, [[row[column] for column in COLUMNS] for row in rows]))
    print(f"wrong of those called sure, %: median {np.median(told):.3g}, worst {max(told):.3g}, of {len(told)} clouds")


if __name__ == "__main__":
    sys.exit(main())
