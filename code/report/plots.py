"""Pictures of a run, as PNG: its surface, cross-sections of its fields, its loss curves.

matplotlib draws the figures on the Agg canvas, without pyplot: no display and no global state. A file is written as a
whole or not at all.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from phase_recon.report.render import BACK, FRONT, Up, View, render_views
from phase_recon.surface.surface import Surface, polylines
from phase_recon.utils.arrays import thinned
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import write_whole

Float64 = npt.NDArray[np.float64]
ArrayFunction = Callable[[Float64], npt.NDArray[np.floating]]

DPI = 100  # pixels per inch, the unit of matplotlib's sizes: a font of 14 points is 19 pixels high
TITLE_HEIGHT = 36  # pixels above the panels
COLOUR_BAR_WIDTH = 120  # pixels, with its label
TICK_MARGIN = 48  # pixels left of and below a 2D panel
SECTION = 500  # pixels, the side of a cross-section with what is about it:
LABELS = 60  # left of and below it,
SECTION_TITLE = 30  # and above it
MAX_POINTS = 20_000  # points drawn in a panel: more only cover each other
PROFILE_POINTS = 1_000  # points of a scatter plot: more only cover each other
SLICE = 0.01  # × longest side of the box: half the thickness of the slice whose points a cross-section shows
FILL = "#b8cbe0"  # light blue, the inside of a curve
LINE = "#27425f"  # dark blue, a curve
DOTS = "#d66028"  # orange, points
NOT_TERMS = ("epoch", "loss", "lr", "time")  # entries of a log record that are no terms of the loss


@dataclass(frozen=True)
class _Panel:
    """One image of a row: a surface seen from a view, with values (V,) at its vertices and points (N, 2) on it."""

    surface: Surface
    title: str = ""
    view: View = FRONT
    values: Float64 | None = None
    points: Float64 | None = None


def render_surface(
    path: Path,
    surface: Surface,
    points: Float64 | None = None,
    *,
    values: Float64 | None = None,
    label: str = "",
    up: Up = "y",
    size: tuple[int, int] = (1200, 600),
) -> None:
    """Write a PNG of a surface: a mesh from the front and the back, or a filled curve.

    Args:
        path: the PNG file.
        surface: the mesh or curve.
        points: the cloud (N, d), or None: drawn left of a mesh, or on a curve.
        values: numbers (V,) from 0 up, such as errors, that colour the vertices.
        label: the title of their colour bar.
        up: the axis that points up, for a mesh.
        size: width and height in pixels.

    Raises:
        UserError: the file cannot be written.
    """
    if surface.dimension == 2:
        panels = [_Panel(surface, values=values, points=points)]
    else:
        panels = [_Panel(surface, values=values), _Panel(surface, view=BACK, values=values)]
        if points is not None:
            panels.insert(0, _Panel(Surface(thinned(points, MAX_POINTS), np.empty((0, 3), dtype=np.int64))))
    _write_panels(path, panels, label, up, size)


def render_side_by_side(
    path: Path,
    surfaces: Mapping[str, Surface],
    *,
    values: Mapping[str, Float64] | None = None,
    label: str = "",
    up: Up = "y",
    size: tuple[int, int] = (1500, 600),
) -> None:
    """Write a PNG of several surfaces in a row, at one scale and from the front, under their titles.

    Args:
        path: the PNG file.
        surfaces: meshes or curves by title; one without cells is drawn as a cloud.
        values: by title, numbers as in ``render_surface``; all share one colour bar.
        label: the title of the colour bar.
        up: the axis that points up, for meshes.
        size: width and height in pixels.

    Raises:
        UserError: the file cannot be written.
    """
    values = values or {}
    panels = [_Panel(surface, title, values=values.get(title)) for title, surface in surfaces.items()]
    _write_panels(path, panels, label, up, size)


def _write_panels(path: Path, panels: Sequence[_Panel], label: str, up: Up, size: tuple[int, int]) -> None:
    """Write a PNG of `size` pixels with the panels in a row, and one colour bar for the values of all."""
    known = [panel.values for panel in panels if panel.values is not None]
    # the scale ends at the 99th percentile: a few large values would give all others one colour
    top = max((float(np.percentile(values, 99)) for values in known), default=0.0)
    colours = ScalarMappable(Normalize(0, top or 1.0), "YlOrRd")
    header = TITLE_HEIGHT if any(panel.title for panel in panels) else 0
    width, height = (size[0] - (COLOUR_BAR_WIDTH if known else 0)) // len(panels), size[1] - header
    figure = _figure(size)
    boxes = [figure.add_axes(_box((k * width, 0, width, height), size)) for k in range(len(panels))]
    if panels[0].surface.dimension == 3:
        shots = [(_painted(panel, colours), panel.view) for panel in panels]
        for axes, image in zip(boxes, render_views(shots, width=width, height=height, up=up), strict=True):
            axes.imshow(image, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
    else:
        drawn = [array for p in panels for array in (p.surface.vertices, p.points) if array is not None]
        seen = np.concatenate(drawn)
        pad = 0.05 * np.ptp(seen, axis=0).max()
        for k, (axes, panel) in enumerate(zip(boxes, panels, strict=True)):
            inner = (k * width + TICK_MARGIN, TICK_MARGIN, width - 1.5 * TICK_MARGIN, height - 1.5 * TICK_MARGIN)
            axes.set_position(_box(inner, size))
            _draw_curve(axes, panel, colours)
            axes.set_aspect("equal")
            axes.set_xlim(seen[:, 0].min() - pad, seen[:, 0].max() + pad)
            axes.set_ylim(seen[:, 1].min() - pad, seen[:, 1].max() + pad)
    for k, panel in enumerate(panels):
        x, y = (k + 0.5) * width / size[0], 1 - TITLE_HEIGHT / 2 / size[1]
        figure.text(x, y, panel.title, ha="center", va="center", fontsize=14)
    if known:
        bar = _bar_axes(figure, size, 0.2 * size[1], 0.6 * size[1])
        figure.colorbar(colours, cax=bar, label=label, extend="max")
    save_figure(figure, path)


def _painted(panel: _Panel, colours: ScalarMappable) -> Surface:
    """The panel's surface; if it has values, with colours for them."""
    if panel.values is None:
        return panel.surface
    return replace(panel.surface, colours=colours.to_rgba(panel.values, bytes=True)[:, :3])


def _draw_curve(axes: Axes, panel: _Panel, colours: ScalarMappable) -> None:
    """Draw a panel's filled inside, its curve over that (coloured by the values), and its points on top."""
    surface = panel.surface
    if surface.is_closed():
        # Agg fills by the non-zero rule, which leaves holes open, as inner curves have the opposite orientation
        outlines = [Outline(surface.vertices[line], closed=True) for line in polylines(surface)]
        axes.add_patch(PathPatch(Outline.make_compound_path(*outlines), facecolor=FILL, edgecolor="none"))
    ends = list(surface.vertices[surface.cells])
    segments = LineCollection(ends, linewidths=2.0, colors=LINE, capstyle="round")
    if panel.values is not None:
        segments.set(colors=colours.to_rgba(panel.values[surface.cells].mean(axis=1)), linewidths=3.0)
    axes.add_collection(segments)
    dots = surface.vertices if not len(surface.cells) else panel.points
    if dots is not None:
        axes.plot(*thinned(dots, MAX_POINTS).T, ".", color=DOTS, markersize=4)


def cross_section_picture(
    path: Path,
    u: ArrayFunction,
    w: ArrayFunction,
    lower: Float64,
    upper: Float64,
    points: Float64,
    *,
    resolution: int = 256,
) -> None:
    """Write a PNG of cross-sections of u (above) and w (below), on the planes through the middle of a box.

    The planes are normal to the axes. The zero level is black. The contours of w are at equal steps, so they are
    equally spaced where w is a distance. Points closer to a plane than 1 % of the longest side are drawn on it.

    Args:
        path: the PNG file.
        u: the phase (N,) at points (N, d) in input units.
        w: the signed distance (N,) in input units, at points (N, d) in input units.
        lower: lower corner of the box (d,), input units.
        upper: upper corner of the box (d,), input units.
        points: the cloud (N, d), input units.
        resolution: samples along the box's longest side.

    Raises:
        UserError: a field is not finite somewhere, or the file cannot be written.
    """
    lower, upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    middle, longest, d = (lower + upper) / 2, float((upper - lower).max()), len(lower)
    planes = list(combinations(range(d), 2))
    digits = max(6, 3 + math.ceil(math.log10(max(np.abs(middle).max() / longest, 1.0))))  # more far from zero
    size = (SECTION * len(planes) + COLOUR_BAR_WIDTH, 2 * SECTION)
    figure, inner = _figure(size), SECTION - LABELS - SECTION_TITLE
    for row, (name, field) in enumerate([("u", u), ("w", w)]):
        sections = []
        for i, j in planes:
            counts = np.ceil(resolution * (upper - lower) / longest).astype(int) + 1
            sides = [np.linspace(lower[k], upper[k], counts[k]) for k in (i, j)]
            where = np.tile(middle, (counts[j], counts[i], 1))
            where[..., i], where[..., j] = np.meshgrid(*sides)
            values = np.asarray(field(where.reshape(-1, d)), dtype=np.float64).reshape(where.shape[:2])
            sections.append((*sides, values))
        values = np.concatenate([values.ravel() for *_, values in sections])
        broken = int((~np.isfinite(values)).sum())
        if broken:
            raise UserError(
                f"{path}: {name} is not finite at {broken} of {len(values)} points of the cross-sections; "
                "the training has diverged: lower the learning rate"
            )
        top = 1.0 if name == "u" else float(np.abs(values).max()) or 1.0
        levels = MaxNLocator(20, symmetric=True).tick_values(-top, top)
        for column, ((i, j), (x, y, section)) in enumerate(zip(planes, sections, strict=True)):
            corner = (column * SECTION + LABELS, (1 - row) * SECTION + LABELS)
            axes = figure.add_axes(_box((*corner, inner, inner), size))
            beyond = "both" if name == "u" else "neither"
            filled = axes.contourf(x, y, section, levels, cmap="RdBu_r", extend=beyond)
            drawn = levels if name == "w" else np.zeros(1)
            drawn = drawn[(section.min() < drawn) & (drawn < section.max())]
            if len(drawn):  # black for the zero level, thin and grey for the others
                zero = np.abs(drawn) < 1e-9 * top
                colours, widths = np.where(zero, "black", "0.4").tolist(), np.where(zero, 2.0, 0.5).tolist()
                axes.contour(x, y, section, drawn, linestyles="solid", colors=colours, linewidths=widths)
            others = [k for k in range(d) if k not in (i, j)]
            near = (np.abs(points[:, others] - middle[others]) < SLICE * longest).all(axis=1)
            axes.plot(*thinned(points[near][:, [i, j]], MAX_POINTS).T, ".", color="#20a040", markersize=3)
            axes.set(xlabel="xyz"[i], ylabel="xyz"[j], xlim=x[[0, -1]], ylim=y[[0, -1]], aspect="equal")
            axes.locator_params(nbins=4)
            axes.set_title(", ".join([name, *(f"{'xyz'[k]} = {middle[k]:.{digits}g}" for k in others)]))
        bar = _bar_axes(figure, size, corner[1], inner)
        figure.colorbar(filled, cax=bar, label="u" if name == "u" else "w (input units)")
    save_figure(figure, path)


@dataclass(frozen=True)
class PlaneField:
    """A field in 2D for ``fields_picture``.

    Attributes:
        u: the phase (N,) at points (N, 2) in input units.
        w: the signed distance (N,) in input units that the field gives at points (N, 2).
        distance: the true signed distance (N,) in input units at points (N, 2).
        ideal: the u (N,) that belongs to true signed distances (N,).
    """

    u: ArrayFunction
    w: ArrayFunction
    distance: ArrayFunction
    ideal: ArrayFunction


def fields_picture(
    path: Path, fields: Mapping[str, PlaneField], lower: Float64, upper: Float64, *, resolution: int = 200
) -> None:
    """Write a PNG with a row for each field: maps of u and w on a box, and plots of both against the true distance.

    In the maps, the zero level is black. The contours of w are at equal steps, so they are equally spaced where w is a
    distance. In the plots, a dot is a point of the box, and the line is where the dots would be if w were the distance.
    All rows have the same scales.

    Args:
        path: the PNG file.
        fields: the fields by title.
        lower: lower corner of the box (2,), input units.
        upper: upper corner of the box (2,), input units.
        resolution: samples along the box's longest side.

    Raises:
        UserError: the file cannot be written.
    """
    lower, upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    counts = np.ceil(resolution * (upper - lower) / (upper - lower).max()).astype(int) + 1
    x, y = (np.linspace(lower[k], upper[k], counts[k]) for k in range(2))
    where = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    scattered = lower + np.random.default_rng(0).random((PROFILE_POINTS, 2)) * (upper - lower)
    maps = [{"u": field.u(where), "w": field.w(where)} for field in fields.values()]
    distances = [field.distance(scattered) for field in fields.values()]
    deepest, farthest = float(np.min(distances)), float(np.max(distances))
    line = np.linspace(deepest, farthest, 801)
    ranges = {"u": (-1.1, 1.1), "w": (1.1 * deepest, 1.1 * farthest)}
    top = {"u": 1.0, "w": max(-deepest, farthest)}
    levels = {name: MaxNLocator(20, symmetric=True).tick_values(-top[name], top[name]) for name in top}

    figure = _figure((1200, 40 + 250 * len(fields)))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(fields), 4, squeeze=False)
    for row, (title, field), values, distance in zip(grid, fields.items(), maps, distances, strict=True):
        for axes, name in zip(row[:2], ("u", "w"), strict=True):
            field_map = values[name].reshape(len(y), len(x))
            axes.contourf(x, y, field_map, levels[name], cmap="RdBu_r", extend="both")
            if name == "w":
                axes.contour(x, y, field_map, levels[name], colors="0.4", linewidths=0.4, linestyles="solid")
            axes.contour(x, y, field_map, [0.0], colors="black", linewidths=1.2)
            axes.set(aspect="equal", xticks=[], yticks=[], title=name)
        for axes, name, truth in ((row[2], "u", field.ideal(line)), (row[3], "w", line)):
            axes.plot(distance, getattr(field, name)(scattered), ".", color=DOTS, markersize=2)
            axes.plot(line, truth, color=LINE, linewidth=1.0)
            axes.set(xlim=(deepest, farthest), ylim=ranges[name], title=f"{name} against the distance")
            axes.grid(alpha=0.3)
        row[0].set_ylabel(title, fontsize=12)
    save_figure(figure, path)


def loss_curves(path: Path, records: Sequence[Mapping[str, float]]) -> None:
    """Write a PNG of the loss and each of its terms against the step, and of the learning rate below.

    Args:
        path: the PNG file.
        records: records of the log, {"epoch", "loss", the terms by name, "lr", "time"}. Where a record lacks a term,
            its curve is interrupted. The scale is logarithmic, so values that are not positive are not drawn.

    Raises:
        UserError: there are no records, or the file cannot be written.
    """
    if not records:
        raise UserError(f"{path}: the log holds no records, so there is no curve to draw; train first")
    epochs = [record["epoch"] for record in records]

    def column(name: str) -> list[float]:
        return [record.get(name, np.nan) for record in records]

    terms = dict.fromkeys(name for record in records for name in record if name not in NOT_TERMS)
    figure = _figure((1100, 700))
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.08, top=0.98, hspace=0.06)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    losses.plot(epochs, column("loss"), color="black", linewidth=1.8, label="loss")
    for name in terms:
        losses.plot(epochs, column(name), linewidth=1.0, label=name)
    losses.set(yscale="log", ylabel="loss and its terms")
    losses.legend()
    rates.plot(epochs, column("lr"), color="0.3")
    rates.set(ylabel="lr", xlabel="epoch")
    for axes in (losses, rates):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def _figure(size: tuple[int, int]) -> Figure:
    """An empty figure of `size` pixels."""
    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _box(
    pixels: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Left, bottom, width and height in pixels, as fractions of a figure of `size` pixels."""
    left, bottom, width, height = pixels
    return left / size[0], bottom / size[1], width / size[0], height / size[1]


def _bar_axes(figure: Figure, size: tuple[int, int], bottom: float, height: float) -> Axes:
    """Axes for a colour bar at the right of a figure of `size` pixels, from `bottom` up, in pixels."""
    return figure.add_axes(_box((size[0] - COLOUR_BAR_WIDTH + 20, bottom, 18, height), size))


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, as a whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_whole(path, content.getvalue())
