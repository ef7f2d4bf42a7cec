"""What is found out about a cloud before the first step: the scene, the constants of that, and how it begins.

``find_scene`` deduplicates a cloud, leaves out outliers and normalises it. The stages of ``preprocess.py`` find the
rest.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.arrangement import Arrangement, ArrangementSettings, arrangement
from phase_recon.geometry.coarse_surface import CoarseSurface, CoarseSurfaceSettings
from phase_recon.geometry.creases import CreaseSettings
from phase_recon.geometry.crowds import evened
from phase_recon.geometry.enclosure import ENCLOSED, SHEET
from phase_recon.geometry.hollows import HollowSettings
from phase_recon.geometry.neighbours import NEIGHBOURS
from phase_recon.geometry.noise import Blurred, NoiseSettings, Scale
from phase_recon.geometry.orientation import OrientationSettings
from phase_recon.geometry.outliers import OutlierSettings, find_background, find_outliers, find_strays
from phase_recon.geometry.points import Domain, Normalisation, OrientedPoints
from phase_recon.geometry.thin_walls import ThinWallSettings
from phase_recon.geometry.winding import CoarseNormals, WindingSettings
from phase_recon.utils.arrays import thinned, unique_rows
from phase_recon.utils.config import Config, PlotConfig

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PreprocessSettings:
    """The constants of the preprocessing; those of a method stand in its own file. Lengths are normalised.

    Attributes:
        most_points: points that are looked at one by one, and then trained on, at most. The 24 nearest of so many lie
            within 0.02 of the radius of a ball, where a quadric is exact to 1e-6; of a denser cloud they would lie
            within its noise.
        most_rows: rows of the input among which repeated points are sought: a second.
        fewest: different points, with fewer of which repeated points are kept: they show nothing.
        omega_margin: of Ω about the cloud, at least: a thin cloud's own box would cut the transition of u.
        inward: share of the given normals that point outward, below which all are taken to point inward.
        believed: share of the estimated normals whose side must be sure; else the coarse normals show more.
        grazing: least cosine between a normal and the direction to its sensor that tells a side: noise turns normals.
        sensors_agree: share of the points whose side is sure that must face their sensors, or face away, all alike;
        sensors_see: or share of the points that nothing may hide from their sensors. Of 28 simulated scans all have the
            one; of their single views, which are open sheets with sides by chance, 8 of 13 have it, and 12 the other.
        sensors_asked: points, at most, of which that is asked.
        seen: probability that a side seen by a sensor that is believed is outside. Measured on simulated scans.
        mostly: share of the sides that must be sure for the others to be of one body, or of one sheet, with them.
        lying: component of a sheet's mean normal along the vertical, from which on the sheet has an upper side.
        hole_density: density of the points that close holes, as a share of the cloud's: they are a guess.
        sight_from: points, at most, from which lines of sight are sought.
        largest_area: that a point may stand for, where one in the median stands for 1. With 2, thin places that few
            points show were lost; with 4, holes came out worse.
        crease_points: points of a cloud, at most, whose creases are sought: more of them show these well enough.
    """

    most_points: int = 300_000
    most_rows: int = 1_000_000
    fewest: int = 10
    omega_margin: float = 0.2
    inward: float = 0.1
    believed: float = 0.2
    grazing: float = 0.5
    sensors_agree: float = 0.9
    sensors_see: float = 0.9
    sensors_asked: int = 1500
    seen: float = 0.999
    mostly: float = 0.5
    lying: float = 0.5
    hole_density: float = 0.5
    sight_from: int = 1500
    largest_area: float = 3.0
    crease_points: int = 20_000
    outliers: OutlierSettings = field(default_factory=OutlierSettings)
    arrangement: ArrangementSettings = field(default_factory=ArrangementSettings)
    thin_walls: ThinWallSettings = field(default_factory=ThinWallSettings)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    creases: CreaseSettings = field(default_factory=CreaseSettings)
    winding: WindingSettings = field(default_factory=WindingSettings)
    orientation: OrientationSettings = field(default_factory=OrientationSettings)
    hollows: HollowSettings = field(default_factory=HollowSettings)
    coarse_surface: CoarseSurfaceSettings = field(default_factory=CoarseSurfaceSettings)


@dataclass(frozen=True)
class Scene:
    """A cloud in normalised coordinates, with all that the preprocessing finds out about it.

    Attributes:
        cloud: the input, in its own units.
        body: rows of the input (B,) that are no outliers.
        kept: those of them (K,) that show the surface.
        dropped: how many rows are outliers.
        domain: Ω and the normalisation.
        reference: different points of the input (M, d), normalised, at most 300 000; for questions about neighbours.
        place: for each of ``reference`` (M,) the first at its place: points that come with several normals share one.
        points: the points that are trained on; those that were added on creases and in holes come last.
        normals: where the normals of ``points`` come from: "given" are the input's, and trusted; "estimated" ones
            count by their confidence; with "none" there are none.
        arrangement: how the points lay; ``kept`` are those that show the surface.
        crowded: how many different points are not in ``reference``, as they lie in crowds.
        settings: the constants of the stages.
        scale: noise and resolution of the cloud.
        blurred: the part of ``reference`` (M,) that is much noisier than the rest; None where none is.
        chosen: those of ``reference`` (N,) that ``points`` begins with; None where ``points`` are all rows kept.
        coarse_normals: the normals that agree with the winding number; None where they are not needed, or the cloud
            encloses nothing.
        outward: share of the given normals that point outward, as far as the cloud's shape tells, or None.
        sensors_agree: share of the points with a sure side that face the sensor that saw them; None without any.
        sensors_believed: whether the sensors tell the sides.
        enclosed: the ``enclosure`` of the points whose side is sure; None where most are not.
        empty: places (E, d) that are known to be outside, as one looked through them.
        coarse_surface: where the training starts, or None where the cloud encloses nothing or nothing asks for it.
    """

    cloud: PointCloud
    body: Index
    kept: Index
    dropped: int
    domain: Domain
    reference: Array
    place: Index
    points: OrientedPoints
    normals: Literal["none", "given", "estimated"]
    arrangement: Arrangement
    crowded: int
    settings: PreprocessSettings = field(repr=False)
    scale: Scale
    blurred: Blurred | None = None
    chosen: Index | None = None
    coarse_normals: CoarseNormals | None = None
    outward: float | None = None
    sensors_agree: float | None = None
    sensors_believed: bool = False
    enclosed: float | None = None
    empty: Array | None = None
    coarse_surface: CoarseSurface | None = None

    @property
    def dimension(self) -> int:
        """2 or 3."""
        return int(self.reference.shape[1])

    @cached_property
    def extents(self) -> Array:
        """Extents of the cloud along its principal axes (d,), the least first."""
        centred = self.reference - self.reference.mean(axis=0)
        _, axes = np.linalg.eigh(centred.T @ centred)
        return np.sort(np.ptp(centred @ axes, axis=0))

    @property
    def shows_surface(self) -> bool:
        """Whether neighbourhoods show the surface; few points may show it all together."""
        return self.scale.resolved or len(self.reference) <= self.settings.noise.few_points

    @property
    def is_sheet(self) -> bool:
        """Whether the points enclose so little, as terrain does, that their shape says nothing of their sides."""
        return self.enclosed is not None and abs(self.enclosed) < SHEET

    @property
    def is_open(self) -> bool:
        """Whether the points enclose less than a body does, so that within their rim little counts as inside."""
        return self.enclosed is not None and self.enclosed < ENCLOSED

    @property
    def is_room(self) -> bool:
        """Whether the points were seen from within what they enclose, as of a room, so that all beyond is inside."""
        return self.enclosed is not None and self.enclosed <= -SHEET

    def ends_at_walls(self, plot: PlotConfig) -> bool:
        """Whether the surface may go through the walls of Ω: it is a room's, or a sheet's that is not to be closed."""
        return self.is_room or (self.is_sheet and plot.trim != "closed")


def find_body(cloud: PointCloud, config: Config, s: PreprocessSettings) -> tuple[Index, Index, int, int]:
    """What is no outlier: each different point once, of crowds a few (M,), and all rows (B,).

    Returns:
        These, how many outliers there are, and how many different points lie in crowds and are not among the first.
    """
    given = cloud.normals if config.network.has_normals else None
    rows = cloud.points if given is None else np.concatenate([cloud.points, given], axis=1)
    once, crowded = _deduplicate(rows, s), 0
    kept, dropped = np.arange(len(cloud.points)), np.empty(0, dtype=np.int64)
    if config.train.drop_outliers:
        looked_at, far = once, find_background(cloud.points, cloud.points[once], s.outliers)
        once = looked_at[~far[looked_at]]
        left = evened(cloud.points[once])  # without the background, which would stand for most of the area
        once, crowded = once[left], len(once) - len(left)
        outlier = find_outliers(cloud.points[once], s.outliers)
        dropped = np.sort(np.concatenate([looked_at[far[looked_at]], once[outlier]]))
        once = once[~outlier]
        if len(looked_at) == s.most_points or len(cloud.points) > s.most_rows:  # others were not looked at
            far[dropped] = True
            others = ~far
            others[once] = False
            far[others] = find_strays(cloud.points[others], cloud.points[once], s.outliers)
            kept, dropped = np.flatnonzero(~far), np.flatnonzero(far)
        elif len(dropped):
            kinds = unique_rows(rows)[1]
            kept = np.flatnonzero(~np.isin(kinds, kinds[dropped]))
    return once, kept, len(dropped), crowded


def find_scene(cloud: PointCloud, config: Config, settings: PreprocessSettings) -> Scene:
    """Each different point once, of crowds a few, outliers left out, the rest in the unit ball, and Ω about it."""
    t, s = config.train, settings
    given = cloud.normals if config.network.has_normals else None
    once, body, dropped, crowded = find_body(cloud, config, s)
    kept = body
    arranged: Arrangement = "surface"
    if given is None:
        arranged, shown = arrangement(cloud.points[once], s.arrangement)
        if arranged != "surface":
            kept = once = once[shown]
    normalisation = Normalisation.fit(cloud.points[kept])
    points = normalisation.apply(cloud.points[kept])
    upper, lower = points.max(axis=0), points.min(axis=0)
    middle, half = (upper + lower) / 2, (upper - lower) / 2
    half = np.maximum(half * t.bounding_box_scale, half + s.omega_margin)
    reference = normalisation.apply(cloud.points[once])
    return Scene(
        cloud=cloud,
        body=body,
        kept=kept,
        dropped=dropped,
        domain=Domain(normalisation, middle - half, middle + half),
        reference=reference,
        place=np.arange(len(reference)) if given is None else _first_at_place(reference, s),
        points=OrientedPoints.bare(reference, raw_index=once).with_given(given),
        normals="none" if given is None else "given",
        arrangement=arranged,
        crowded=crowded,
        settings=s,
        scale=Scale(noise=0.0, spacing=0.0, neighbours=NEIGHBOURS, width=0.0, resolved=False, noise_left=0.0),
    )


def _first_at_place(points: Array, s: PreprocessSettings) -> Index:
    """For each of some points (N, d) the first that is at its place; itself where there are fewer than 10 places."""
    first, kind = unique_rows(points)
    return first[kind] if len(first) >= s.fewest else np.arange(len(points))


def _deduplicate(rows: Array, s: PreprocessSettings) -> Index:
    """Indices of points, or of points with normals (N, c), each once: corners of a mesh's triangles come many times.

    Of more than 300 000, so many. Of fewer than 10, which a quadric would not fit, all rows.
    """
    some = thinned(np.arange(len(rows)), s.most_rows)
    once = some[np.sort(unique_rows(rows[some])[0])]
    return thinned(once, s.most_points) if len(once) >= s.fewest else some
