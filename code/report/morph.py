"""Shapes that turn into one another: a page with a slider, and an animated picture."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from phase_recon.report.page import axis_titles, camera, curve_trace, mesh_trace, simplified
from phase_recon.report.render import FRONT, Up, render_views
from phase_recon.surface.surface import Surface, offset_of, polylines
from phase_recon.utils.files import write_text, write_whole

MOST_FACES = 200_000  # of all shapes on a page together, which keeps it under 15 MB
FRAME_MS = 120  # of a picture's frame
SIZE = 400  # pixels along a side of the picture


def morph_page(path: Path, surfaces: Sequence[Surface], title: str, *, up: Up = "z") -> None:
    """HTML of surfaces in their order, one at a time, with a slider through them."""
    everything = np.concatenate([surface.vertices for surface in surfaces])
    offset = offset_of(everything)
    low, high = everything.min(axis=0) - offset, everything.max(axis=0) - offset  # one scale for all
    ranges = np.stack([low, high], axis=1).tolist()
    axes: dict[str, object] = {f"{name}axis_range": ends for name, ends in zip("xyz", ranges, strict=False)}
    axes |= axis_titles(offset)
    if surfaces[0].dimension == 2:
        figure = go.Figure([curve_trace(surface, offset) for surface in surfaces])
        figure.update_layout(**axes, yaxis_scaleanchor="x")
    else:
        faces = MOST_FACES // len(surfaces)
        figure = go.Figure([mesh_trace(simplified(surface, faces), offset, up) for surface in surfaces])
        figure.update_scenes(**axes, aspectmode="data", camera=camera(up))
    steps = []
    for number, trace in enumerate(figure.data):
        trace.update(visible=number == 0, showlegend=False)
        visible = [other == number for other in range(len(surfaces))]
        steps.append({"method": "restyle", "args": [{"visible": visible}], "label": str(number)})
    figure.update_layout(
        title={"text": title}, template="plotly_white", sliders=[{"steps": steps, "currentvalue": {"visible": False}}]
    )
    page = figure.to_html(include_plotlyjs=True, default_height="94vh", config={"displaylogo": False})
    write_text(path, page)


def morph_picture(path: Path, surfaces: Sequence[Surface], *, up: Up = "z") -> None:
    """An animated GIF of surfaces in their order and back, all at one scale."""
    if surfaces[0].dimension == 2:
        frames = [Image.fromarray(image) for image in _curves(surfaces)]
    else:
        shots = [(surface, FRONT) for surface in surfaces]
        frames = [Image.fromarray(image) for image in render_views(shots, width=SIZE, height=SIZE, up=up)]
    there_and_back = [*frames, *frames[-2:0:-1]]
    content = io.BytesIO()
    there_and_back[0].save(
        content, "GIF", save_all=True, append_images=there_and_back[1:], duration=FRAME_MS, loop=0, optimize=False
    )
    write_whole(path, content.getvalue())


def _curves(surfaces: Sequence[Surface]) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """A picture (SIZE, SIZE, 3) of each curve, all within the same bounds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = np.concatenate([surface.vertices for surface in surfaces])
    low, high = points.min(axis=0), points.max(axis=0)
    pictures = []
    for surface in surfaces:
        figure = Figure(figsize=(SIZE / 100, SIZE / 100), dpi=100)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0.02, 0.02, 0.96, 0.96), aspect="equal", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.axis("off")
        for line in polylines(surface):
            axes.plot(*surface.vertices[line].T, color="#2b5c8a")
        canvas.draw()  # type: ignore[no-untyped-call]
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())  # type: ignore[no-untyped-call]
    return pictures
