"""A trained field → its surface: how fine it is meshed, which components are left out, what is cut off."""

import dataclasses
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.crowds import evened
from phase_recon.geometry.neighbours import TINY
from phase_recon.reconstruction.field import FLATTEST, Field
from phase_recon.reconstruction.progress import Announce
from phase_recon.surface.components import largest_components, substantial_components
from phase_recon.surface.creased import split_at_creases
from phase_recon.surface.extract import check_within, extract_surface
from phase_recon.surface.files import write_surface
from phase_recon.surface.finer import made_finer
from phase_recon.surface.refine import refine
from phase_recon.surface.straddle import straddle
from phase_recon.surface.surface import Surface, carry_colours, transform
from phase_recon.surface.trim import shown_part, within
from phase_recon.utils.arrays import thinned
from phase_recon.utils.config import LEAST_RESOLUTION, MOST_RESOLUTION, PlotConfig
from phase_recon.utils.errors import UserError, counted

CELL = 1.0  # × spacing of the field's grid: side of a cell; with 1.5 flat faces were a fifth of the error,
FINEST_CELL = 0.5  # and at least, where the points lie nearer to the field than flat faces would
SPACED = 20_000  # points of the cloud at which that spacing is asked for
LOOKED_AT = 2000  # points of the cloud that tell that
# Share of a surface that the points show, below which the cloud is taken to be open: of 46 bodies, scanned with holes
# too, it was 0.76 to 1, of sheets, views and terrains 0.31 to 0.71, of a ball and a tube without their ends 0.84.
OPEN = 0.73


class Cells(NamedTuple):
    """How fine a mesh is.

    Attributes:
        along: cells along the side of Ω that plot.is_uniform_grid names.
        share: × spacing of the field's grid: the side of a cell where that is less; infinite if all are of one size.
    """

    along: int
    share: float


@dataclass(frozen=True, repr=False)
class Reconstruction(Surface):
    """A surface with the field whose level set it is, both in the input's units."""

    field: Field = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls, surface: Surface, field: Field) -> Self:
        """A surface and its field as one."""
        return cls(surface.vertices, surface.cells, surface.normals, surface.colours, field=field)

    def save(self, path: str | Path) -> None:
        """Write the surface by the extension: .ply, .obj, .stl, .glb; a curve as .ply, .svg, .npz.

        Far from the origin, .stl and .glb hold the vertices less an offset; a warning says so, and a file beside
        them has it.

        Raises:
            UserError: no path, another extension, or the file cannot be written.
        """
        if not isinstance(path, (str, PathLike)):
            raise UserError(f"save: expected a path such as 'mesh.ply', got {path!r}")
        if note := write_surface(Path(path), self):
            warnings.warn(note, stacklevel=2)


def surface_of(
    field: Field,
    cloud: PointCloud | None,
    plot: PlotConfig,
    announce: Announce | None = None,
    cells: Cells | None = None,
    allow_open: bool = False,
) -> Surface:
    """The level set of a field in the input's units, with normals, and colours if the cloud has them.

    Args:
        field: the trained field.
        cloud: without outliers, or None; it keeps what it shows of the surface, and gives colours.
        plot: grid and level.
        announce: receives lines about the extraction, or None.
        cells: those of ``cells_of``, if they are known.
        allow_open: whether a surface may leave Ω even if plot.allow_open is false.

    Raises:
        UserError: there is no such surface, it leaves Ω and may not, or plot.trim leaves nothing of it.
    """
    level = field.level(plot.mc_value)
    cuts = cloud is not None and plot.trim != "closed"
    points = None if cloud is None else field.normalisation.apply(cloud.points)
    cells = cells or cells_of(field, cloud, plot)
    surface = extract_surface(
        field.normalised,
        field.lower,
        field.upper,
        cells.along,
        level,
        grid_axis="longest" if plot.is_uniform_grid else "shortest",
        allow_open=True,
        announce=announce,
    )
    surface, dropped = substantial_components(surface, plot.least_component, points)
    if dropped and announce:
        announce(
            f"left out {counted(dropped, 'component')} below plot.least_component = {plot.least_component:g} of the "
            "largest, or on which few of the points about them lie"
        )
    if plot.keep_components is not None:
        surface, dropped = largest_components(surface, plot.keep_components)
        if dropped and announce:
            kept = f"plot.keep_components = {plot.keep_components}"
            announce(f"left out {counted(dropped, 'smaller component')} ({kept})")
    if not (allow_open or plot.allow_open or cuts):
        check_within(surface, field.lower, field.upper)  # what no point shows may have left it
    at = field.normalised_value_and_gradient
    surface = refine(surface, at, level)
    if np.isfinite(cells.share):
        surface = made_finer(surface, at, lambda places: cells.share * field.spacing_at(places), level)
    surface = straddle(split_at_creases(surface, at, level))
    if points is not None and cuts:
        surface = _trimmed(surface, points, level, plot, field.normalisation.scale, announce)
        if plot.keep_components is not None:  # the cut may have made more
            surface = largest_components(surface, plot.keep_components)[0]
    surface = transform(surface, field.normalisation.scale, field.normalisation.centre)
    if cloud is not None and cloud.colours is not None:
        surface = carry_colours(surface, cloud.points, cloud.colours)
    return surface


def _trimmed(
    surface: Surface,
    points: npt.NDArray[np.float64],
    level: float,
    plot: PlotConfig,
    unit: float,
    announce: Announce | None,
) -> Surface:
    """A surface without what plot.trim cuts off, in normalised coordinates; a unit of these is so long in the input's.

    ``level`` is the signed distance at which it lies, normalised.

    Raises:
        UserError: nothing is left.
    """
    if isinstance(plot.trim, float):
        part = within(surface, points, plot.trim / unit)
    else:
        part = shown_part(surface, points, level)
    if plot.trim == "auto":
        leaves, shown = not surface.is_closed(), part.measure() / surface.measure()
        if (plot.allow_open or not leaves) and not 0 < shown < OPEN:  # what is near no point is a failure, and shown
            return surface
        why = f"the points show only {shown:.0%} of the closed surface"
        closed = "the same command with --eval --trim closed keeps it"
        if leaves:
            why = "the surface that closes the points leaves Ω"
            closed = (
                "a body, not a sheet, may be closed by a longer training (--steps) with --trim closed, or in a larger "
                "Ω (--set train.bounding_box_scale=3)"
            )
        if announce:
            announce(
                f"warning: the cloud looks open, as terrain, a room, a single view or a thin leaf is: {why}; what they "
                f"do not show is cut off (plot.trim = auto); {closed}"
            )
    if not len(part.cells):
        raise UserError(
            f"--trim {plot.trim} (plot.trim): nothing of the surface is so near to the points; give a larger "
            "distance, in the input's unit, or --trim closed"
        )
    return substantial_components(part, plot.least_component, points)[0]


def cells_of(field: Field, cloud: PointCloud | None, plot: PlotConfig) -> Cells:
    """The cells of a mesh: as plot.resolution says, or as the field's grid asks for.

    That is the grid over most of the area that the points of the cloud show; where it is finer, so is the mesh. Where
    the points lie nearer to the field than the faces of such a mesh would, all cells are smaller. Without a cloud
    nothing is asked for.
    """
    if plot.resolution is not None:
        return Cells(plot.resolution, np.inf)
    sides, cells, share = field.upper - field.lower, float(LEAST_RESOLUTION), np.inf
    points = np.empty((0, field.dimension)) if cloud is None else field.normalisation.apply(cloud.points)
    some = thinned(points, SPACED)
    if len(some) and np.isfinite(spacing := float(np.median(field.spacing_at(some[evened(some)])))):
        off, flat = distances_to_faces(field, points, CELL * spacing)
        share = CELL * float(np.clip(np.sqrt(off / max(flat, TINY)), FINEST_CELL, 1.0))
        cells = float(np.clip(sides.max() / (share * spacing), LEAST_RESOLUTION, MOST_RESOLUTION))
        share = max(share, float(sides.max()) / cells / spacing)
    along = int(cells) if plot.is_uniform_grid else max(round(cells * sides.min() / sides.max()), 1)
    return Cells(along, share)


def distances_to_faces(field: Field, points: npt.NDArray[np.float64], cell: float) -> tuple[float, float]:
    """The mean distance of points from a field's surface, and that of this from flat faces with sides of a length.

    A chord of length h lies within h²κ/8 of its arc, and in the mean two thirds of that; cells that straddle it are
    less than half as far (``surface.straddle``). The sum over the axes, as far as they lie in the tangent plane, is
    d - 1 times the mean over the directions in it (derived).

    Args:
        field: any.
        points: of its cloud (N, d), normalised; some of them are looked at.
        cell: that length, normalised.
    """
    some = thinned(points[((points >= field.lower) & (points <= field.upper)).all(axis=1)], LOOKED_AT)
    if not len(some):
        return 0.0, 0.0

    def at(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return field.normalised(torch.from_numpy(places.astype(np.float32))).double().numpy()

    single = torch.from_numpy(some.astype(np.float32))
    value, gradient = (part.double().numpy() for part in field.normalised_value_and_gradient(single))
    slope = np.maximum(np.linalg.norm(gradient, axis=1), FLATTEST)
    normal = gradient / slope[:, None]
    on_it = some - (value / slope)[:, None] * normal
    here, flat = at(on_it), np.zeros(len(some))
    for axis in np.eye(field.dimension):
        along = 0.5 * cell * (axis - (normal @ axis)[:, None] * normal)
        flat += np.abs(at(on_it + along) + at(on_it - along) - 2 * here) / 2
    return float((np.abs(value) / slope).mean()), 2 / 3 * float(flat.mean()) / (field.dimension - 1)
