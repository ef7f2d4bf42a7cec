"""An interactive page of a surface: one HTML file with plotly in it, which opens without a network."""

from pathlib import Path

import fast_simplification
import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from phase_recon.report.plots import DOTS, FILL, LINE
from phase_recon.report.render import FRONT, Up
from phase_recon.surface.surface import Surface, carry_colours, offset_of, polylines
from phase_recon.utils.arrays import thinned
from phase_recon.utils.files import write_text

Float64 = npt.NDArray[np.float64]

LIGHTING = {"ambient": 0.40, "diffuse": 0.75, "specular": 0.20, "roughness": 0.45, "fresnel": 0.10}  # strengths
EXTENT = 1000.0  # of a mesh that is simplified, as the bound of the error is a length: 1 cut smooth meshes 8 × worse
NO_SMALLEST_AREA = {"facenormalsepsilon": 0, "vertexnormalsepsilon": 0}  # else plotly drops normals of small triangles


def surface_page(
    path: Path,
    surface: Surface,
    points: Float64,
    title: str,
    *,
    max_faces: int = 120_000,
    max_points: int = 20_000,
    up: Up = "y",
) -> None:
    """Write an HTML page of a surface and its points; a click on a name shows or hides each.

    Coordinates are in input units, in single precision. Far from zero, an offset is subtracted, which the axes name.

    Args:
        path: the HTML file.
        surface: the mesh or curve, input units.
        points: the cloud (N, d), input units.
        title: the title; a line below it says how many triangles and points are shown.
        max_faces: a mesh is simplified to at most so many triangles; with the default, the page is below 10 MB.
        max_points: at most so many points are shown, a random choice.
        up: the axis that points up.

    Raises:
        UserError: the file cannot be written.
    """
    shown = thinned(points, max_points)
    offset = offset_of(np.concatenate([surface.vertices, points]))
    if surface.dimension == 2:
        figure, kept, cells = _curve_figure(surface, offset, shown), len(surface.cells), "segments"
    else:
        mesh = simplified(surface, max_faces)
        figure, kept, cells = _mesh_figure(mesh, offset, shown, up), len(mesh.cells), "triangles"
    counts = f"{kept:,} of {len(surface.cells):,} {cells}, {len(shown):,} of {len(points):,} points"
    figure.update_layout(
        title={"text": title, "subtitle": {"text": counts}},
        template="plotly_white",
        legend={"x": 0.01, "y": 0.99, "itemsizing": "constant"},
        margin={"l": 60, "r": 20, "b": 50, "t": 80},
    )
    page = figure.to_html(
        include_plotlyjs=True, default_height="94vh", config={"displaylogo": False, "responsive": True}
    )
    write_text(path, page)


def axis_titles(offset: Float64) -> dict[str, str]:
    """plotly's settings for the axes' titles, which name the offset (d,)."""
    titles = (name if not o else f"{name} − {o:.15g}" for name, o in zip("xyz", offset, strict=False))
    return {f"{name}axis_title_text": title for name, title in zip("xyz", titles, strict=False)}


def simplified(surface: Surface, max_faces: int) -> Surface:
    """The mesh simplified to at most `max_faces` triangles; a vertex gets the colour of the nearest given one."""
    if len(surface.cells) <= max_faces:
        return surface
    centre = surface.vertices.mean(axis=0)  # the simplification computes in single precision
    unit = float(np.ptp(surface.vertices, axis=0).max()) / EXTENT
    vertices, cells = fast_simplification.simplify(
        ((surface.vertices - centre) / unit).astype(np.float32), surface.cells.astype(np.int32), target_count=max_faces
    )
    mesh = Surface(unit * vertices.astype(np.float64) + centre, cells.astype(np.int64))
    return mesh if surface.colours is None else carry_colours(mesh, surface.vertices, surface.colours)


def _mesh_figure(mesh: Surface, offset: Float64, points: Float64, up: Up) -> go.Figure:
    figure = go.Figure([mesh_trace(mesh, offset, up), dots_trace(points, offset)])
    figure.update_scenes(aspectmode="data", camera=camera(up), **axis_titles(offset))
    return figure


def mesh_trace(mesh: Surface, offset: Float64, up: Up) -> go.Mesh3d:
    """A mesh as a plotly trace, lit from the front, with an offset (3,) subtracted."""
    x, y, z = (mesh.vertices - offset).astype(np.float32).T
    i, j, k = mesh.cells.astype(np.int32).T
    light = 1e5 * FRONT.axes(up).T @ np.array([-0.6, 0.6, 0.5])
    colours = None if mesh.colours is None else [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in mesh.colours]
    return go.Mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k,
        name="surface", showlegend=True, color="#a9bfd8", vertexcolor=colours,
        lighting={**LIGHTING, **NO_SMALLEST_AREA}, lightposition=dict(zip("xyz", light, strict=True)),
    )  # fmt: skip


def dots_trace(points: Float64, offset: Float64) -> go.Scatter3d | go.Scatter:
    """Points (N, d) as a plotly trace, with an offset (d,) subtracted."""
    columns = dict(zip("xyz", (points - offset).astype(np.float32).T, strict=False))
    kind, size = (go.Scatter, 3) if len(columns) == 2 else (go.Scatter3d, 1.5)
    return kind(**columns, mode="markers", name="points", marker={"size": size, "color": DOTS})


def camera(up: Up) -> dict[str, dict[str, float]]:
    """plotly's camera for the front view."""
    upward, backward = np.eye(3)["xyz".index(up)], FRONT.axes(up)[2]
    return {"up": dict(zip("xyz", upward, strict=True)), "eye": dict(zip("xyz", 1.6 * backward, strict=True))}


def _curve_figure(surface: Surface, offset: Float64, points: Float64) -> go.Figure:
    figure = go.Figure([curve_trace(surface, offset), dots_trace(points, offset)])
    figure.update_layout(**axis_titles(offset), yaxis_scaleanchor="x")
    return figure


def curve_trace(surface: Surface, offset: Float64) -> go.Scatter:
    """All curves of a 2D surface as one plotly trace, with an offset (2,) subtracted."""
    interruption = np.full((1, 2), np.nan)  # between two curves
    parts = [part - offset for line in polylines(surface) for part in (surface.vertices[line], interruption)]
    x, y = np.concatenate(parts)[:-1].astype(np.float32).T
    fill = "toself" if surface.is_closed() else "none"
    return go.Scatter(x=x, y=y, mode="lines", name="surface", fill=fill, fillcolor=FILL, line={"color": LINE})
