"""How often a side is wrong, and how often it is said to be: on clouds whose true normals are known.

    python code/benchmarks/make_clouds.py FOLDER --kinds scan,noisy     # makes such clouds
    python code/benchmarks/sides.py FOLDER                              # prints a row a cloud, and the calibration
    python code/benchmarks/sides.py FOLDER --sensors                    # the same, told the sensor positions
    python code/benchmarks/sides.py FOLDER --picture calibration.png    # draws the calibration
    python code/benchmarks/sides.py FOLDER --worst sides_worst.png      # draws the worst clouds

A side is wrong where the normal that was found and the true one point to different sides of the surface. Normals that
are nearly perpendicular to the true ones, as at edges, are of no side and do not count. In the calibration each cloud
counts the same: a point of a cloud of N points has the weight 1/N.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from phase_recon.datasets.pointcloud import PointCloud, load_point_cloud
from phase_recon.geometry.points import SURE
from phase_recon.reconstruction.commands import Parser, exit_status
from phase_recon.reconstruction.preprocess import ORIENTING, prepare
from phase_recon.reconstruction.tables import Row, markdown
from phase_recon.report.plots import save_figure
from phase_recon.report.render import FRONT, render_views
from phase_recon.surface.surface import Surface
from phase_recon.utils.arrays import thinned
from phase_recon.utils.config import Config
from phase_recon.utils.errors import UserError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

PERPENDICULAR = 0.3  # |cosine| below which a normal is on no side of the surface
STATED = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, SURE, 0.995, 0.999, 1.0)  # probabilities between which the calibration counts
COLUMNS = ("cloud", "points", "sure %", "wrong of sure %", "wrong of all %", "seconds")
CALIBRATION = ("stated probability", "share of points %", "stated wrong %", "wrong %")
MOST_WRONG, MOST_OPEN = 4, 4  # clouds that are drawn: those with most wrong sides of the sure ones, then most open ones
DRAWN, PIXELS = 6000, 280  # points of each, and the side of its panel
RIGHT, OPEN, WRONG = (190, 195, 200), (235, 165, 30), (205, 20, 20)  # sRGB of sides: sure, open, sure and wrong


@dataclass(frozen=True)
class Sides:
    """What is right of the sides of a cloud with true normals.

    Attributes:
        row: of the table.
        outward: the stated probability of each point that counts (K,).
        wrong: whether its side is wrong (K,).
        points: all points (N, d).
        colours: sRGB of each by its side (N, 3).
    """

    row: Row
    outward: Array
    wrong: Mask
    points: Array
    colours: npt.NDArray[np.uint8]


def sides_of(cloud: PointCloud) -> Sides:
    """What is right of the sides of a cloud with true normals, which are not shown to the preprocessing."""
    assert cloud.normals is not None
    started = time.monotonic()
    points = prepare(Config(), replace(cloud, normals=None), stages=ORIENTING).points
    seconds = time.monotonic() - started
    cosine = (points.normals * cloud.normals[points.raw_index]).sum(axis=1)
    counted, wrong, sure = np.abs(cosine) > PERPENDICULAR, cosine < 0, points.oriented
    row: Row = {
        "points": len(cloud.points),
        "sure %": 100 * float(sure.mean()),
        "wrong of sure %": 100 * float(wrong[counted & sure].mean()) if (counted & sure).any() else None,
        "wrong of all %": 100 * float(wrong[counted].mean()) if counted.any() else None,
        "seconds": round(seconds, 1),
    }
    colours = np.array((OPEN, RIGHT, WRONG), dtype=np.uint8)[np.where(sure, 1 + (counted & wrong), 0)]
    return Sides(row, points.outward[counted], wrong[counted], cloud.points[points.raw_index], colours)


def calibration(clouds: Sequence[tuple[Array, Mask]]) -> list[Row]:
    """Between each two of ``STATED``: the share of all points, and how much of it is said to be wrong, and is.

    Args:
        clouds: of each, the stated probability of its points (K,), and which are wrong (K,).
    """
    sums = np.zeros((len(STATED) - 1, 3))
    for outward, wrong in clouds:
        between = np.clip(np.searchsorted(STATED, outward, side="right") - 1, 0, len(sums) - 1)
        for column, of in enumerate((np.ones(len(outward)), 1 - outward, wrong.astype(np.float64))):
            sums[:, column] += np.bincount(between, of, len(sums)) / max(len(outward), 1)
    return [
        {
            "stated probability": f"{low:g} to {high:g}",
            "share of points %": 100 * share / len(clouds),
            "stated wrong %": 100 * stated / share if share else None,
            "wrong %": 100 * wrong / share if share else None,
        }
        for low, high, (share, stated, wrong) in zip(STATED, STATED[1:], sums.tolist(), strict=False)
    ]


def calibration_picture(path: Path, rows: list[Row], clouds: int) -> None:
    """Draw the share that is wrong against the share that is said to be."""
    told = [row for row in rows if row["wrong %"] is not None]
    stated, wrong = ([max(float(row[name]), 1e-3) for row in told] for name in ("stated wrong %", "wrong %"))
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.loglog([1e-3, 50], [1e-3, 50], color="0.7", label="as stated")
    axes.loglog(stated, wrong, "o-", label="found")
    axes.axvline(100 * (1 - SURE), color="0.7", linestyle=":", label="sure: left of this")
    axes.set(xlabel="stated probability that a side is wrong, %", ylabel="sides that are wrong, %")
    axes.set_title(f"{clouds} clouds")
    axes.legend()
    save_figure(figure, path)


def worst_picture(path: Path, clouds: Sequence[tuple[str, Sides]]) -> None:
    """Draw clouds in 3D by the sides of their points: those with most wrong sides, then those with most open ones.

    Raises:
        UserError: there is no cloud in 3D, or the file cannot be written.
    """
    solid = [(name, sides) for name, sides in clouds if sides.points.shape[1] == 3]
    if not solid:
        raise UserError(f"{path}: is of clouds in 3D, and there are none: leave --worst out")
    by_wrong = sorted(solid, key=lambda cloud: -(cloud[1].row["wrong of sure %"] or 0.0))
    by_open = sorted(by_wrong[MOST_WRONG:], key=lambda cloud: cloud[1].row["sure %"])
    chosen = by_wrong[:MOST_WRONG] + by_open[:MOST_OPEN]
    rows = -(-len(chosen) // MOST_WRONG)
    figure = Figure((MOST_WRONG * PIXELS / 100, (rows * (PIXELS + 30) + 30) / 100), dpi=100)
    figure.subplots_adjust(left=0, right=1, bottom=0.3 / figure.get_figheight(), top=0.94, wspace=0, hspace=0.12)
    panels = figure.subplots(rows, MOST_WRONG, squeeze=False).ravel()
    for axes, (name, sides) in zip(panels, chosen, strict=False):
        some = thinned(np.arange(len(sides.points)), DRAWN)
        cloud = Surface(sides.points[some], np.empty((0, 3), dtype=np.int64), colours=sides.colours[some])
        axes.imshow(render_views([(cloud, FRONT)], width=PIXELS, height=PIXELS, up="z")[0])
        wrong = sides.row["wrong of sure %"]
        said = "" if wrong is None else f", {wrong:.2g} % of them wrong"
        axes.set_title(f"{name}\n{sides.row['sure %']:.3g} % sure{said}", fontsize=8, pad=2)
    for axes in panels:
        axes.set_axis_off()
    words = {"sure and right": RIGHT, "open": OPEN, "sure and wrong": WRONG}
    patches = [Patch(color="#{:02x}{:02x}{:02x}".format(*colour), label=word) for word, colour in words.items()]
    figure.legend(handles=patches, loc="lower center", ncols=len(patches), fontsize=8, frameon=False)
    save_figure(figure, path)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; returns the exit status."""
    parser = Parser("FOLDER [--sensors] [--picture PATH] [--worst PATH]", __doc__, script="sides.py")
    parser.add_argument("folder", type=Path, help="folder of clouds (.npz) that have true normals")
    parser.add_argument("--sensors", action="store_true", help="let the preprocessing use the sensor positions")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="of the calibration, .png")
    parser.add_argument("--worst", type=Path, metavar="PATH", help="of the worst clouds, their sides as colours, .png")
    return exit_status(parser, arguments, command, "stopped")


def command(options: argparse.Namespace) -> None:
    """A row for each cloud of the folder, the median and the worst of all, and the calibration.

    Raises:
        UserError: there are no clouds with normals, or the picture cannot be written.
    """
    rows: list[Row] = []
    told: list[tuple[str, Sides]] = []
    for path in sorted(options.folder.glob("*.npz")):
        cloud = load_point_cloud(path)
        if cloud.normals is None:
            continue
        sides = sides_of(cloud if options.sensors else replace(cloud, sensors=None))
        rows.append({"cloud": path.stem, **sides.row})
        told.append((path.stem, sides))
        print(rows[-1], file=sys.stderr, flush=True)
    if not rows:
        raise UserError(f"{options.folder}: no .npz with points and normals; code/benchmarks/make_clouds.py makes some")
    print(markdown(COLUMNS, [[row[column] for column in COLUMNS] for row in rows]))
    shares = [row["wrong of sure %"] for row in rows if row["wrong of sure %"] is not None]
    if shares:
        worst = f"median {np.median(shares):.3g}, worst {max(shares):.3g}, of {len(shares)} clouds"
        print(f"wrong of those called sure, %: {worst}\n")
    calibrated = calibration([(sides.outward, sides.wrong) for _, sides in told])
    print(markdown(CALIBRATION, [[row[column] for column in CALIBRATION] for row in calibrated]))
    if options.picture is not None:
        calibration_picture(options.picture, calibrated, len(rows))
    if options.worst is not None:
        worst_picture(options.worst, told)


if __name__ == "__main__":
    sys.exit(main())
