"""Clouds of known shapes, with their true surfaces, into a folder: what benchmark.py and others measure on.

    python code/benchmarks/make_clouds.py FOLDER
    python code/benchmarks/make_clouds.py FOLDER --kinds scan,noisy --shapes bracket,mug --seed 1
    python code/benchmarks/make_clouds.py --list

Writes shape-kind.npz (points, normals, sensor_position where an instrument stood somewhere), the truth shape_gt.ply,
and clouds.csv, which says of each cloud its noise and spacing as shares of the bounding radius. With another seed than
0 the names end in it: shape-kind-1.npz. A truth that is there is not made again. Scans of shapes that are hidden inside
others, and of curves, are left out.
"""

import argparse
import csv
import sys
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from phase_recon.benchmarks.scanner import KINDS, Cloud, take
from phase_recon.benchmarks.shapes import SHAPES, Shape
from phase_recon.datasets.ply import ply_of_columns
from phase_recon.reconstruction.commands import Parser, chosen, exit_status, whole_numbers
from phase_recon.reconstruction.tables import Row, write_csv
from phase_recon.surface.files import read_surface, write_surface
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import npz_of, write_whole

COLUMNS = ("cloud", "shape", "kind", "split", "seed", "points", "noise", "spacing", "components",
           "euler_characteristic")  # fmt: skip


def main() -> int:
    """Make what is missing; returns the exit status."""
    parser = Parser("FOLDER [--shapes NAMES] [--kinds NAMES] [--seed N]", __doc__, script="make_clouds.py")
    parser.add_argument("folder", type=Path, nargs="?", help="where the files go; made if need be")
    parser.add_argument("--list", action="store_true", help="say what shapes and kinds of clouds there are, and stop")
    parser.add_argument("--shapes", default="", metavar="NAMES", help="shapes, separated by commas (default: all)")
    parser.add_argument("--kinds", default="exact,noisy,scan", metavar="NAMES", help="of clouds (default: %(default)s)")
    parser.add_argument("--split", choices=("development", "checking"), help="only shapes of this part (default: both)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random, from 0 on (default: %(default)s)")
    parser.add_argument("--ply", action="store_true", help="write clouds as .ply, not .npz")
    parser.add_argument("--no-sensors", action="store_true", help="leave the sensor positions out")
    return exit_status(parser, None, command, "stopped; the same command makes what is missing")


def command(options: argparse.Namespace) -> None:
    """List, or make."""
    if options.list:
        for shape in SHAPES.values():
            print(f"{shape.name:20} {shape.split:12} {shape.kind}, Euler characteristic {shape.euler_characteristic}")
        for name, kind in KINDS.items():
            print(f"{name:20} {kind.words(3)}")
        return
    if options.folder is None:
        raise UserError("a folder is needed, for the clouds; --help lists what there is")
    (seed,) = whole_numbers("--seed", 0, str(options.seed))
    shapes = [SHAPES[name] for name in chosen("--shapes", options.shapes, list(SHAPES))]
    shapes = [shape for shape in shapes if options.split in (None, shape.split)]
    kinds = chosen("--kinds", options.kinds, list(KINDS))
    make_clouds(options.folder, shapes, kinds, seed, ".ply" if options.ply else ".npz", not options.no_sensors)


def make_clouds(
    folder: Path, shapes: list[Shape], kinds: list[str], seed: int, suffix: str = ".npz", sensors: bool = True
) -> list[Row]:
    """Write the clouds of some kinds of some shapes, their truths and clouds.csv; returns the rows of the table.

    With ``sensors`` the clouds have the positions of their sensors, where they have some.

    Raises:
        UserError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None
    rows = []
    for shape in shapes:
        truth = folder / f"{shape.name}_gt.ply"
        if not truth.is_file():
            write_surface(truth, shape.surface())
        surface = read_surface(truth)
        for kind in kinds:
            if KINDS[kind].instrument and (shape.dimension == 2 or shape.kind == "nested"):
                continue
            name = f"{shape.name}-{kind}" + (f"-{seed}" if seed else "")
            cloud = take(surface, shape.name, kind, seed)
            cloud = cloud if sensors else replace(cloud, sensor_position=None)
            write_whole(folder / f"{name}{suffix}", _ply(cloud) if suffix == ".ply" else _npz(cloud))
            distances, _ = cKDTree(cloud.points).query(cloud.points, k=2)
            row = {"cloud": name, "shape": shape.name, "kind": kind, "split": shape.split, "seed": seed,
                   "points": len(cloud.points), "noise": KINDS[kind].noise,
                   "spacing": round(float(np.median(distances[:, 1])), 5), "components": shape.components,
                   "euler_characteristic": shape.euler_characteristic}  # fmt: skip
            print(f"{name}: {row['points']} points, noise {row['noise']}, spacing {row['spacing']}", flush=True)
            rows.append(row)
    made = {row["cloud"] for row in rows}
    others = [row for row in _listed(folder / "clouds.csv") if row["cloud"] not in made]
    write_csv(folder / "clouds.csv", COLUMNS, [*others, *rows])
    return rows


def _listed(path: Path) -> list[dict[str, str]]:
    """The rows of an earlier clouds.csv whose clouds are there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if any(path.parent.glob(f"{row.get('cloud')}.*"))]


def _npz(cloud: Cloud) -> bytes:
    arrays = {"points": cloud.points, "normals": cloud.normals}
    if cloud.sensor_position is not None:
        arrays["sensor_position"] = cloud.sensor_position
    return npz_of(**arrays)


def _ply(cloud: Cloud) -> bytes:
    """Double precision; the sensor positions are the columns sensor_x, sensor_y and sensor_z."""
    groups = {"": cloud.points, "n": cloud.normals}
    if cloud.sensor_position is not None:
        groups["sensor_"] = cloud.sensor_position
    return ply_of_columns(
        {f"{prefix}{axis}": column for prefix, of in groups.items() for axis, column in zip("xyz", of.T, strict=False)}
    )


if __name__ == "__main__":
    sys.exit(main())
