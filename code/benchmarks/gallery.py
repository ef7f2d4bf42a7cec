"""A picture of results that shows where they fail: the error as colour, and cross-sections through the worst places."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import trimesh
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.reconstruction.tables import Row
from phase_recon.report.plots import save_figure
from phase_recon.report.render import FRONT, render_views
from phase_recon.surface.files import read_surface
from phase_recon.surface.metrics import distance_to_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.arrays import thinned

Array = npt.NDArray[np.float64]

WORST, TYPICAL = 5, 3  # rows of the picture: the largest Hausdorff distances, and those about the median
SIDE = 200  # pixels of a panel: with 300 the picture has 2 MB
POINTS = 20_000  # of a cloud that are drawn
TOP = 0.05  # of the bounding radius: the error from which on the colour stays the same
# of the way from the worst place to the middle: where a cross-section is, as it may graze a flat face at that place;
# and the next where no such plane meets the truth
INWARD = (0.03, 0.5)
TRUTH, OURS = "0.6", "#c03020"  # colours in cross-sections


def draw_gallery(path: Path, rows: Sequence[Row], peers: Sequence[str]) -> None:
    """PNG with a row for some clouds: the cloud, ours, the best peer, and a cross-section through our worst place.

    Args:
        path: of the picture; none is written where ours has no surface in 3D.
        rows: of runs, as results.py has them: case, method, written, cloud, target, radius, d_C and d_H.
        peers: the methods of which the one with the least d_C is drawn.

    Raises:
        UserError: a file cannot be read or written.
    """
    chosen = _chosen([row for row in rows if row["method"] == "ours" and "failed" not in row and "written" in row])
    if not chosen:
        return
    colours = ScalarMappable(Normalize(0, 100 * TOP), "YlOrRd")
    figure = Figure((4 * SIDE / 100 + 0.9, len(chosen) * (SIDE + 34) / 100), dpi=100)
    grid = figure.subplots(len(chosen), 4, squeeze=False)
    right, top = 1 - 0.9 / figure.get_figwidth(), 1 - 0.3 / figure.get_figheight()
    figure.subplots_adjust(left=0.005, right=right, bottom=0.005, top=top, wspace=0.02, hspace=0.17)
    for axes, row in zip(grid, chosen, strict=True):
        alike = [r for r in rows if r["case"] == row["case"] and r["method"] in peers and "failed" not in r]
        _draw_row(list(axes), row, min(alike, key=lambda r: float(r["d_C"])) if alike else None, colours)
    bar = figure.add_axes((1 - 0.75 / figure.get_figwidth(), 0.3, 0.012, 0.4))
    figure.colorbar(colours, cax=bar, label="distance to the truth, % of the bounding radius", extend="max")
    save_figure(figure, path)


def _chosen(rows: list[Row]) -> list[Row]:
    """Of one run for each cloud in 3D, those with the largest Hausdorff distance over the radius, then some medians."""
    first = {row["case"]: row for row in reversed(rows) if read_surface(row["target"]).dimension == 3}
    ordered = sorted(first.values(), key=lambda row: -float(row["d_H"] / row["radius"]))
    middle = max(WORST, (len(ordered) - TYPICAL) // 2)
    return ordered[:WORST] + ordered[middle : middle + TYPICAL]


def _draw_row(axes: list[Axes], row: Row, peer: Row | None, colours: ScalarMappable) -> None:
    """The four panels of a cloud."""
    target, ours = read_surface(row["target"]), read_surface(row["written"]["mesh"])
    radius = float(row["radius"])
    points = thinned(load_point_cloud(row["cloud"], normals=False).points, POINTS)
    titles = [row["case"], _title(row)]
    surfaces = [Surface(points, np.empty((0, 3), dtype=np.int64)), _coloured(ours, target, radius, colours)]
    if peer is not None:
        surfaces.append(_coloured(read_surface(peer["written"]["mesh"]), target, radius, colours))
        titles.append(_title(peer))
    images = render_views([(surface, FRONT) for surface in surfaces], width=SIDE, height=SIDE, up="z")
    for panel, image, title in zip(axes, images, titles, strict=False):
        panel.imshow(image, interpolation="nearest")
        panel.set_title(title, fontsize=7, pad=3)
    for panel in axes:
        panel.set_axis_off()
    _draw_section(axes[3], ours, target, radius)


def _title(row: Row) -> str:
    """The method of a row and its distances over the radius."""
    chamfer, hausdorff = (100 * float(row[name] / row["radius"]) for name in ("d_C", "d_H"))
    return f"{row['method']}\nChamfer {chamfer:.2g} %, Hausdorff {hausdorff:.2g} %"


def _coloured(surface: Surface, target: Surface, radius: float, colours: ScalarMappable) -> Surface:
    """The surface with the distance of its vertices from the target as colours."""
    errors = 100 * distance_to_surface(surface.vertices, target)[0] / radius
    return replace(surface, colours=colours.to_rgba(errors, bytes=True)[:, :3])


def _draw_section(axes: Axes, ours: Surface, target: Surface, radius: float) -> None:
    """Both surfaces in an axis-parallel plane by the place of our largest error: the one that shows most of the truth.

    Planes that the way from there to the other surface leaves at a large angle count less.
    """
    there, back = distance_to_surface(ours.vertices, target), distance_to_surface(target.vertices, ours)
    outward = there[0].max() >= back[0].max()
    (distances, cells), source, other = (there, ours, target) if outward else (back, target, ours)
    worst = source.vertices[distances.argmax()]
    away = other.vertices[other.cells[cells[distances.argmax()]]].mean(axis=0) - worst
    middle = (target.vertices.min(axis=0) + target.vertices.max(axis=0)) / 2
    flat = 1 - np.abs(away) / max(float(np.linalg.norm(away)), 1e-12)
    for share in INWARD:
        origin = worst + share * (middle - worst)
        lengths = [np.linalg.norm(np.diff(_section(target, k, origin), axis=1), axis=2).sum() for k in range(3)]
        if any(lengths):
            break
    axis = int((np.array(lengths) * (0.1 + flat)).argmax())
    shown = [k for k in range(3) if k != axis]
    for drawn, colour, width in ((target, TRUTH, 3.0), (ours, OURS, 1.0)):
        lines = _section(drawn, axis, origin)[..., shown]
        axes.add_collection(LineCollection(list(lines), colors=colour, linewidths=width))
    axes.plot(*worst[shown], "o", markersize=12, markerfacecolor="none", color="black")
    low, high = (middle[shown] + side * radius for side in (-1.1, 1.1))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set_title("cross-section at the worst place\ntruth grey, ours red", fontsize=7, pad=3)


def _section(surface: Surface, axis: int, origin: Array) -> Array:
    """Line segments (n, 2, 3) of a surface in the plane through the origin that is normal to an axis."""
    lines = trimesh.intersections.mesh_plane(  # type: ignore[no-untyped-call]
        surface.to_trimesh(), np.eye(3)[axis], origin
    )
    return np.asarray(lines, dtype=np.float64).reshape(-1, 2, 3)
