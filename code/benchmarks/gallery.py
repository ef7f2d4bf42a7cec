"""A gallery with the faults visible: hard clouds, what is made of them, and a cross-section through the worst place.

    python code/benchmarks/gallery.py                       docs/GALLERY.md and its pictures, by the default settings
    python code/benchmarks/gallery.py FOLDER --steps 100    the same into another folder, quickly and badly

The clouds are those of make_clouds.py with seed 0. Lengths are in the bounding radius.
"""

import argparse
import io
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # started as a file: the package is the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import phase_recon  # noqa: F401

    del sys.path[0]

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from trimesh.intersections import mesh_plane

from phase_recon.benchmarks.scanner import KINDS, take
from phase_recon.benchmarks.shapes import SHAPES
from phase_recon.reconstruction.api import reconstruct
from phase_recon.reconstruction.commands import Parser, exit_status
from phase_recon.reconstruction.trials import markdown
from phase_recon.report.render import FRONT, View, render_views
from phase_recon.surface.metrics import compare_surfaces, distance_to_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import write_whole
from phase_recon.utils.locations import ROOT

Array = npt.NDArray[np.float64]

# (shape, kind of cloud): easy ones first; most are of those that come out wrong in part
CASES = (
    ("relief", "exact"), ("lizard", "noisy"), ("bracket", "scan"), ("bowl", "noisy"), ("vase", "scan"),
    ("urchin", "noisy"), ("ball_in_ball", "exact"), ("gear", "cut"),
)  # fmt: skip
SIZE = 480  # pixels, width and height of a panel
TITLE = 26  # pixels above the panels
SLICE = 0.01  # × bounding radius: half the thickness of the slice whose points a cross-section shows
ASIDE = 1e-5  # × bounding radius: from the plane to the worst place, as triangles may lie in the plane itself
SAMPLES = 200_000  # on each surface, for its distances
TRUTH, OURS, POINTS, WORST = "#8a8f98", "#b8321e", "#27425f", "#000000"
HEADER = ("cloud", "d_C", "d_H", "connected components (true)", "Euler characteristic (true)", "seconds")


@dataclass(frozen=True)
class Worst:
    """Where two surfaces are farthest apart: the place (3,), and the step (3,) from there to the other surface."""

    place: Array
    step: Array


def main() -> int:
    """Make the gallery; returns the exit status."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs", help="where it goes (docs/)")
    parser.add_argument("--only", default="", metavar="A,B", help="shapes, separated by commas (all)")
    parser.add_argument("--steps", "--nepoch", type=int, metavar="N", help="of every run (those of setup.conf)")
    return exit_status(parser, None, make, "stopped; nothing is kept of the case at hand")


def make(options: argparse.Namespace) -> None:
    """Reconstruct, measure and draw every case; write the page at the end.

    Raises:
        UserError: an unknown shape, or a file that cannot be written.
    """
    only = [name for name in options.only.split(",") if name]
    if unknown := sorted(set(only) - {shape for shape, _ in CASES}):
        raise UserError(f"--only {unknown[0]!r}: expected some of {', '.join(shape for shape, _ in CASES)}")
    pictures = options.folder / "gallery"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{pictures}: cannot be made ({error.strerror}); choose another folder") from None
    rows, shown = [], []
    for shape, kind in CASES:
        if only and shape not in only:
            continue
        name = f"{shape}-{kind}"
        row, picture = reconstructed(shape, kind, {} if options.steps is None else {"train.nepoch": options.steps})
        print(f"{name}: {', '.join(map(str, row[1:]))}", flush=True)
        rows.append(row)
        if picture is not None:
            write_whole(pictures / f"{name}.png", picture)
            shown.append(f"![{name}: the cloud, the surface, and a cross-section](gallery/{name}.png)\n")
    write_whole(options.folder / "GALLERY.md", page(rows, shown).encode())


def reconstructed(shape: str, kind: str, overrides: dict[str, object]) -> tuple[list[object], bytes | None]:
    """The row of a case, and its picture (PNG); None where there is no surface."""
    truth = SHAPES[shape].surface()
    cloud = take(truth, shape, kind, seed=0)
    about = f"{shape}: {SHAPES[shape].kind}; {KINDS[kind].about}"
    started = time.monotonic()
    try:
        ours = reconstruct(cloud.points, overrides=overrides)
    except UserError as error:
        return [about, f"failed: {error}", "", "", "", ""], None
    seconds = time.monotonic() - started
    measured = compare_surfaces(ours, truth, samples=SAMPLES)
    components, euler = (f"{measured[f'reconstruction_{what}']:.0f}" for what in ("components", "euler_characteristic"))
    row = [
        about, measured["d_C"], measured["d_H"], f"{components} ({SHAPES[shape].components})",
        f"{euler} ({SHAPES[shape].euler_characteristic})", round(seconds),
    ]  # fmt: skip
    return row, picture(cloud.points, ours, truth)


def worst_place(ours: Surface, truth: Surface) -> Worst:
    """Where a surface is farthest from the true one, or the true one from it, by the vertices of both."""
    found = []
    for source, target in ((ours, truth), (truth, ours)):
        distance, cells = distance_to_surface(source.vertices, target)
        farthest = int(distance.argmax())
        corner = target.vertices[target.cells[cells[farthest]]].mean(axis=0)
        found.append((float(distance[farthest]), source.vertices[farthest], corner))
    _, place, other = max(found, key=lambda each: each[0])
    return Worst(place, other - place)


def cross_section(surface: Surface, axis: int, height: float) -> Array:
    """The segments (N, 2, 2) in which a mesh meets the plane where a coordinate has a value; the other two are kept."""
    mesh = surface.to_trimesh()
    normal = np.eye(3)[axis]
    segments = mesh_plane(mesh, plane_normal=normal, plane_origin=height * normal)  # type: ignore[no-untyped-call]
    return np.delete(np.asarray(segments, dtype=np.float64).reshape(-1, 2, 3), axis, axis=2)


def picture(points: Array, ours: Surface, truth: Surface) -> bytes:
    """A PNG: the cloud; the surface, coloured by its distance from the true one; a cross-section at the worst place.

    The plane is normal to that axis along which the error has the least part, so that the error is seen in it.
    """
    errors = distance_to_surface(ours.vertices, truth)[0]
    colours = ScalarMappable(Normalize(0, float(np.percentile(errors, 99)) or 1.0), "YlOrRd")
    painted = Surface(ours.vertices, ours.cells, ours.normals, colours.to_rgba(errors, bytes=True)[:, :3])
    cloud = Surface(points, np.empty((0, 3), dtype=np.int64))
    front: View = FRONT
    images = render_views([(cloud, front), (painted, front)], width=SIZE, height=SIZE, up="z")
    figure = Figure(figsize=(3 * SIZE / 100, (SIZE + TITLE) / 100), dpi=100)
    FigureCanvasAgg(figure)
    share = SIZE / (SIZE + TITLE)
    panels = [figure.add_axes((k / 3, 0, 1 / 3, share)) for k in range(3)]
    for axes, image in zip(panels, images, strict=False):
        axes.imshow(image)
        axes.axis("off")
    _draw_cross_section(panels[2], points, ours, truth)
    titles = (f"{len(points):,} points".replace(",", " "), f"distance from the truth, dark: {colours.norm.vmax:.2g}",
              "through the worst place")  # fmt: skip
    for k, title in enumerate(titles):
        figure.text((k + 0.5) / 3, share + (1 - share) / 3, title, ha="center", fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_cross_section(axes: Axes, points: Array, ours: Surface, truth: Surface) -> None:
    """The true surface (grey, wide), ours (red), the points near the plane, and a ring around the worst place."""
    worst = worst_place(ours, truth)
    axis = int(np.abs(worst.step).argmin())
    height = float(worst.place[axis]) + ASIDE
    axes.add_collection(LineCollection(list(cross_section(truth, axis, height)), colors=TRUTH, linewidths=3.5))
    axes.add_collection(LineCollection(list(cross_section(ours, axis, height)), colors=OURS, linewidths=1.2))
    near = np.delete(points[np.abs(points[:, axis] - height) < SLICE], axis, axis=1)
    axes.plot(*near.T, ".", color=POINTS, markersize=2.5)
    place = np.delete(worst.place, axis)
    axes.plot(*place, "o", markersize=16, markerfacecolor="none", markeredgecolor=WORST)
    axes.set_aspect("equal")
    axes.set_xlim(-1.08, 1.08)
    axes.set_ylim(-1.08, 1.08)
    axes.axis("off")


def page(rows: list[list[object]], pictures: list[str]) -> str:
    """The page, as Markdown."""
    return f"""# Gallery

Made by `make gallery` {where()}. One run each, seed 0, without normals. The shapes are those of
`code/benchmarks/shapes.py`. Lengths, noise and spacing are in the bounding radius, d_C is the Chamfer distance (L1, the
mean of the two directed means), d_H the Hausdorff distance.

{markdown(HEADER, rows)}
Left the cloud; in the middle the surface, the darker the farther it is from the truth; right a cross-section through
the place where the two are farthest apart (ring): the truth grey, ours red, points near the plane blue.

""" + "\n".join(pictures)


def where() -> str:
    """From which commit, and on what machine."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    commit = f"at commit {asked.stdout.strip()}" if asked.returncode == 0 else "outside of a git checkout"
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"
    return f"{commit} on {machine}"


if __name__ == "__main__":
    sys.exit(main())
