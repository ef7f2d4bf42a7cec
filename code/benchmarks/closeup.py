"""A picture of detail: the same small part of several surfaces, side by side and from the same view."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from phase_recon.geometry.points import Normalisation
from phase_recon.report.plots import save_figure
from phase_recon.report.render import View, render_views
from phase_recon.surface.surface import Surface, select_cells
from phase_recon.utils.arrays import thinned

Array = npt.NDArray[np.float64]

PART = 0.25  # of the bounding radius of the first surface: the radius of the part that is shown
ASKED = 300  # places at which one looks for the part of most relief
SIDE = 330  # pixels of a panel


def draw_closeup(path: Path, surfaces: Mapping[str, Surface]) -> None:
    """PNG with a panel for each of the surfaces (d = 3), by its title: the part where the first has most relief.

    Raises:
        UserError: the file cannot be written.
    """
    first = next(iter(surfaces.values()))
    radius = PART * Normalisation.fit(first.vertices).scale
    place, normal = most_relief(first, radius)
    parts = {title: cut for title, surface in surfaces.items() if len((cut := part_of(surface, place, radius)).cells)}
    view = view_along(normal)
    images = render_views([(cut, view) for cut in parts.values()], width=SIDE, height=SIDE, up="z")
    figure = Figure((len(parts) * SIDE / 100, (SIDE + 26) / 100), dpi=100)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=SIDE / (SIDE + 26), wspace=0)
    for axes, image, title in zip(figure.subplots(1, len(parts), squeeze=False)[0], images, parts, strict=True):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(title, fontsize=8, pad=4)
        axes.set_axis_off()
    save_figure(figure, path)


def most_relief(surface: Surface, radius: float) -> tuple[Array, Array]:
    """A vertex (3,) within so far of which the normals differ most, and their mean direction (3,)."""
    normals = np.asarray(surface.to_trimesh().vertex_normals)
    places = thinned(surface.vertices, ASKED)
    near = cKDTree(surface.vertices).query_ball_point(places, radius)
    means = np.array([normals[numbers].mean(axis=0) for numbers in near])
    lengths = np.linalg.norm(means, axis=1)
    found = int(np.where(lengths > 0, lengths, np.inf).argmin())
    return places[found], means[found] / lengths[found]


def part_of(surface: Surface, place: Array, radius: float) -> Surface:
    """The triangles of a surface whose corners are all within so far of a place."""
    near = np.linalg.norm(surface.vertices - place, axis=1) < radius
    return select_cells(Surface(surface.vertices, surface.cells), near[surface.cells].all(axis=1))


def view_along(normal: Array) -> View:
    """From where one looks at a part with this outward unit normal (3,), with z up."""
    x, y, z = normal
    return View(float(np.degrees(np.arctan2(x, -y))), float(np.degrees(np.arcsin(np.clip(z, -1, 1)))))
