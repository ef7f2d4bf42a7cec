"""A page that compares reconstructions of one cloud: one HTML file, which opens without a network.

It shows the surfaces in a grid, in which turning one turns all; below that the table, the error against time, and
pictures.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from phase_recon.report.page import axis_titles, camera, curve_trace, dots_trace, mesh_trace, simplified
from phase_recon.report.render import Up
from phase_recon.surface.surface import Surface, offset_of
from phase_recon.utils.arrays import thinned
from phase_recon.utils.files import write_text

Float64 = npt.NDArray[np.float64]

MAX_FACES = 40_000  # triangles of each surface: a page of six surfaces has about 15 MB
MAX_POINTS = 10_000  # points of the cloud that are shown
COLUMNS = 4  # surfaces in a row
ROW_HEIGHT = 380  # pixels
# the page's style sheet
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; color: #222 }
pre { background: #f3f5f7; padding: .7em 1em; white-space: pre-wrap; overflow-wrap: anywhere }
table { border-collapse: collapse } td, th { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child, td.words { text-align: left } img { max-width: 100% }
"""
# JavaScript that gives the camera of the scene that a user turns to all other scenes, while it turns and at the end.
# plotly reports these changes like those of the user: ``following`` is true meanwhile, so that they are ignored.
LINK = """
const view = document.getElementById("{plot_id}");
const scenes = Object.keys(view.layout).filter(name => name.startsWith("scene"));
let following = false;
function follow(change) {
  const key = Object.keys(change).find(name => name.endsWith(".camera"));
  if (following || !key) return;
  const update = {};
  for (const name of scenes) if (name + ".camera" !== key) update[name + ".camera"] = change[key];
  following = true;
  Plotly.relayout(view, update).finally(() => { following = false; });
}
view.on("plotly_relayouting", follow);
view.on("plotly_relayout", follow);
"""


@dataclass(frozen=True)
class Shown:
    """What the page shows of one method.

    Attributes:
        name: the method.
        surface: its surface in input units, or None if it gave none.
        history: (seconds, error) pairs, in ascending order of time.
    """

    name: str
    surface: Surface | None
    history: Sequence[tuple[float, float]] = ()


def comparison_page(
    path: Path,
    title: str,
    command: str,
    note: str,
    table: Sequence[Sequence[str]],
    points: Float64,
    shown: Sequence[Shown],
    error: str,
    pictures: Mapping[str, Path],
    *,
    up: Up = "z",
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        title: the page's heading.
        command: the command that made the page.
        note: a text below the table.
        table: the header and the rows, as text.
        points: the cloud (N, d) in input units, shown in the first panel.
        shown: the methods, in the order of their panels; all surfaces have the dimension d.
        error: the name of the error in the histories, for the axis of the plot.
        pictures: PNG files to put into the page, by caption.
        up: the axis that points up in a 3D view.

    Raises:
        UserError: the file cannot be written.
    """
    figures = [_side_by_side(points, shown, up)]
    if any(one.history for one in shown):
        figures.append(_error_against_time(shown, error))
    views = [
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=name,
            post_script=LINK if name == "surfaces" and points.shape[1] == 3 else None,
            config={"displaylogo": False, "responsive": True},
        )
        for name, figure in zip(("surfaces", "history"), figures, strict=False)
    ]
    head, *body = ["".join(_cell(text, kind) for text in row) for kind, row in _rows(table)]
    parts = [
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body>",
        f"<h1>{html.escape(title)}</h1><pre>{html.escape(command)}</pre>",
        views[0],
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table>",
        f"<p>{html.escape(note)}</p>",
        *views[1:],
        *(_picture(caption, picture) for caption, picture in pictures.items()),
        "</body></html>\n",
    ]
    write_text(path, "\n".join(parts))


def _rows(table: Sequence[Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    """The rows of a table, each with the HTML tag of its cells."""
    return [("th" if number == 0 else "td", row) for number, row in enumerate(table)]


def _cell(text: str, kind: str) -> str:
    """A cell of a table as HTML; texts of several words are set to the left."""
    words = ' class="words"' if " " in text and kind == "td" else ""
    return f"<{kind}{words}>{html.escape(text)}</{kind}>"


def _picture(caption: str, path: Path) -> str:
    """A PNG file as HTML, under its caption."""
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(caption)
    return f'<h2>{name}</h2><img alt="{name}" src="data:image/png;base64,{data}">'


def _side_by_side(points: Float64, shown: Sequence[Shown], up: Up) -> go.Figure:
    """A grid of panels, the cloud first, then the surfaces; one offset is subtracted from all."""
    offset = offset_of(points)
    surfaces = {one.name: one.surface for one in shown if one.surface is not None}
    names = ["points", *surfaces]
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    flat = points.shape[1] == 2
    figure = make_subplots(
        rows, columns,
        specs=[[{"type": "xy" if flat else "scene"}] * columns] * rows,
        subplot_titles=names, horizontal_spacing=0.03 if flat else 0.005, vertical_spacing=0.1 / rows,
    )  # fmt: skip
    dots = dots_trace(thinned(points, MAX_POINTS), offset)
    traces = [dots] + [
        curve_trace(surface, offset) if flat else mesh_trace(simplified(surface, MAX_FACES), offset, up)
        for surface in surfaces.values()
    ]
    for number, trace in enumerate(traces):
        figure.add_trace(trace, number // columns + 1, number % columns + 1)
    if flat:  # plotly itself links the ranges of 2D axes
        figure.update_xaxes(matches="x").update_yaxes(matches="y", scaleanchor="x")
        figure.update_layout(**axis_titles(offset))
    else:
        everything = np.concatenate([points, *(surface.vertices for surface in surfaces.values())]) - offset
        low, high = everything.min(axis=0), everything.max(axis=0)
        axes = {f"{name}axis": {"range": [low[k], high[k]], "visible": False} for k, name in enumerate("xyz")}
        sides = dict(zip("xyz", (high - low) / (high - low).max(), strict=True))
        figure.update_scenes(aspectmode="manual", aspectratio=sides, camera=camera(up), dragmode="turntable", **axes)
    figure.update_layout(
        template="plotly_white", height=ROW_HEIGHT * rows + 60, showlegend=False,
        margin={"l": 30, "r": 10, "b": 20, "t": 40},
    )  # fmt: skip
    return figure


def _error_against_time(shown: Sequence[Shown], error: str) -> go.Figure:
    """A line for each method, with a mark at each pair; a history of one pair is a single mark."""
    figure = go.Figure(
        [
            go.Scatter(x=[s for s, _ in one.history], y=[e for _, e in one.history], name=one.name,
                       mode="lines+markers")
            for one in shown
            if one.history
        ]
    )  # fmt: skip
    figure.update_layout(
        template="plotly_white", height=420, title={"text": f"{error} against time"},
        xaxis={"title": {"text": "seconds since the start of the command"}, "rangemode": "tozero"},
        yaxis={"title": {"text": error}, "type": "log"}, showlegend=True,
    )  # fmt: skip
    return figure
