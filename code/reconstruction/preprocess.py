"""From a cloud to the scene that the training looks at, in stages: each is Scene → Scene, and nothing is by chance.

``prepare`` deduplicates the cloud, leaves out outliers and normalises it. Then the ``STAGES`` follow in a fixed order.
Each opens with its own condition and returns the scene as it was where it is not wanted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.arrangement import Arrangement, ArrangementSettings, arrangement
from phase_recon.geometry.coarse_surface import CoarseSurface, CoarseSurfaceSettings
from phase_recon.geometry.creases import CreaseSettings, find_creases
from phase_recon.geometry.enclosure import ENCLOSED, SHEET, enclosure
from phase_recon.geometry.neighbours import NEIGHBOURS, SAMPLED, areas, density_of, spacing
from phase_recon.geometry.noise import EXACT, Blurred, NoiseSettings, Scale, estimate_noise, find_blurred, fit_some
from phase_recon.geometry.orientation import OrientationSettings, orient
from phase_recon.geometry.outliers import OutlierSettings, find_background, find_outliers
from phase_recon.geometry.points import Domain, Normalisation, OrientedPoints, Source
from phase_recon.geometry.quadrics import fit_quadrics_bilateral
from phase_recon.geometry.thin_walls import ThinWallSettings, opposite_sheets
from phase_recon.geometry.visibility import Space, unhidden
from phase_recon.geometry.winding import CoarseNormals, WindingSettings, coarse_normals
from phase_recon.utils.config import Config, PlotConfig
from phase_recon.utils.general import different, thinned, unique_rows, unit

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

UNKNOWN = 0.5  # probability that a side is outside, of which nothing is known


@dataclass(frozen=True)
class PreprocessSettings:
    """The constants of the preprocessing; those of a method stand in its own file. Lengths are normalised.

    Attributes:
        most_points: points that are looked at one by one, and then trained on, at most. The 24 nearest of so many lie
            within 0.02 of the radius of a ball, where a quadric is exact to 1e-6; of a denser cloud they would lie
            within its noise.
        most_rows: rows of the input among which repeated points are sought: a second.
        fewest: different points, with fewer of which repeated points are kept: they show nothing.
        outlier_margin: × extent of the points that are looked at: other points farther off them are outliers too.
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
        largest_area: that a point may stand for, where one in the median stands for 1. With 2, thin places that few
            points show were lost; with 4, holes came out worse.
        crease_points: points of a cloud, at most, whose creases are sought: more of them show these well enough.
    """

    most_points: int = 300_000
    most_rows: int = 1_000_000
    fewest: int = 10
    outlier_margin: float = 0.05
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
    largest_area: float = 3.0
    crease_points: int = 20_000
    outliers: OutlierSettings = field(default_factory=OutlierSettings)
    arrangement: ArrangementSettings = field(default_factory=ArrangementSettings)
    thin_walls: ThinWallSettings = field(default_factory=ThinWallSettings)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    creases: CreaseSettings = field(default_factory=CreaseSettings)
    winding: WindingSettings = field(default_factory=WindingSettings)
    orientation: OrientationSettings = field(default_factory=OrientationSettings)
    coarse_surface: CoarseSurfaceSettings = field(default_factory=CoarseSurfaceSettings)


@dataclass(frozen=True)
class Scene:
    """A cloud in normalised coordinates, with all that the preprocessing finds out about it.

    Attributes:
        cloud: the input, in its own units.
        kept: rows of the input (K,) that are no outliers, and show the surface.
        dropped: outliers, of all rows or of the 300 000 that were looked at.
        domain: Ω and the normalisation.
        reference: different points of the input (M, d), normalised, at most 300 000; for questions about neighbours.
        place: for each of ``reference`` (M,) the first at its place: points that come with several normals share one.
        points: the points that are trained on; those that were added on creases and in holes come last.
        normals: where the normals of ``points`` come from: "given" are the input's, and trusted; "estimated" ones
            count by their confidence; with "none" there are none.
        arrangement: how the points lay; ``kept`` are those that show the surface.
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
        coarse_surface: where the training starts, or None where the cloud encloses nothing or nothing asks for it.
    """

    cloud: PointCloud
    kept: Index
    dropped: int
    domain: Domain
    reference: Array
    place: Index
    points: OrientedPoints
    normals: Literal["none", "given", "estimated"]
    arrangement: Arrangement
    settings: PreprocessSettings = field(repr=False)
    scale: Scale
    blurred: Blurred | None = None
    chosen: Index | None = None
    coarse_normals: CoarseNormals | None = None
    outward: float | None = None
    sensors_agree: float | None = None
    sensors_believed: bool = False
    enclosed: float | None = None
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


Stage = Callable[[Scene, Config], Scene]


def prepare(
    config: Config,
    cloud: PointCloud,
    settings: PreprocessSettings | None = None,
    stages: tuple[Stage, ...] | None = None,
) -> Scene:
    """Look at a cloud as the configuration says, in all stages unless fewer are given."""
    scene = find_scene(cloud, config, settings or PreprocessSettings())
    for stage in STAGES if stages is None else stages:
        scene = stage(scene, config)
    return scene


def find_scene(cloud: PointCloud, config: Config, settings: PreprocessSettings) -> Scene:
    """Each different point once, outliers left out, the rest in the unit ball, and Ω about it."""
    t, s = config.train, settings
    given = cloud.normals if config.network.has_normals else None
    rows = cloud.points if given is None else np.concatenate([cloud.points, given], axis=1)
    once = _deduplicate(rows, s)
    kept, dropped = np.arange(len(cloud.points)), np.empty(0, dtype=np.int64)
    if t.drop_outliers:
        looked_at, outlier = once, find_background(cloud.points[once], s.outliers)
        outlier[~outlier] = find_outliers(cloud.points[once[~outlier]], s.outliers)
        once, dropped = looked_at[~outlier], looked_at[outlier]
        if len(looked_at) == s.most_points or len(cloud.points) > s.most_rows:  # an outlier that nobody looked at is
            # not to set the scale
            near = _near(cloud.points, cloud.points[once], s.outlier_margin)
            near[dropped] = False
            kept, dropped = np.flatnonzero(near), np.flatnonzero(~near)
        elif len(dropped):
            kinds = unique_rows(rows)[1]
            kept = np.flatnonzero(~np.isin(kinds, kinds[dropped]))
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
        kept=kept,
        dropped=len(dropped),
        domain=Domain(normalisation, middle - half, middle + half),
        reference=reference,
        place=np.arange(len(reference)) if given is None else _first_at_place(reference, s),
        points=_with_given(OrientedPoints.bare(reference, raw_index=once), given),
        normals="none" if given is None else "given",
        arrangement=arranged,
        settings=s,
        scale=Scale(noise=0.0, spacing=0.0, neighbours=NEIGHBOURS, width=0.0, resolved=False, noise_left=0.0),
    )


def find_opposite_sheets(scene: Scene, config: Config) -> Scene:
    """Where two sheets of the surface are near each other, as on a thin wall, the step from each point to the other."""
    first, of = np.unique(scene.place, return_inverse=True)
    opposite = opposite_sheets(scene.reference[first], scene.settings.thin_walls)[of]
    return replace(scene, points=replace(scene.points, opposite=opposite))


def estimate_scale(scene: Scene, config: Config) -> Scene:
    """The noise of the cloud, its spacing, and how many neighbours show its surface; and of a part much noisier."""
    first, of = np.unique(scene.place, return_inverse=True)
    once, s = scene.points[first], scene.settings.noise
    fit = fit_some(once.positions, once.opposite)
    scale = estimate_noise(once.positions, once.opposite, s, fit)
    denoises = config.train.smooth_points and scene.normals != "given"
    found = find_blurred(once.positions, once.opposite, scale, s, fit) if denoises else None
    if found is None:
        return replace(scene, scale=scale)
    blurred, scale = found
    return replace(scene, scale=scale, blurred=replace(blurred, part=blurred.part[of]))


def choose_points(scene: Scene, config: Config) -> Scene:
    """The points that are trained on: all rows kept, or fewer, the more neighbours each is denoised with."""
    if not (_denoises(scene, config) or _estimates(scene, config)):
        given = scene.cloud.normals if scene.normals == "given" else None
        rows = scene.domain.normalisation.apply(scene.cloud.points[scene.kept])
        points = _with_given(OrientedPoints.bare(rows, raw_index=scene.kept), given)
        return replace(scene, points=points, scale=replace(scene.scale, trained_spacing=scene.scale.spacing))
    count = len(scene.reference) * NEIGHBOURS // scene.scale.neighbours
    chosen = thinned(np.arange(len(scene.reference)), count)
    points, trained_spacing = scene.points[chosen], scene.scale.spacing
    if len(chosen) < len(scene.reference):
        trained_spacing = spacing(points.positions, thinned(points.positions, SAMPLED))
    return replace(scene, points=points, chosen=chosen, scale=replace(scene.scale, trained_spacing=trained_spacing))


def fit_quadrics(scene: Scene, config: Config) -> Scene:
    """Each point denoised, and its normal up to sign, by a quadric through its neighbours, where these show one."""
    if scene.chosen is None or not scene.scale.resolved:
        return scene
    points, scale = scene.points, scene.scale
    first, of = np.unique(scene.place, return_inverse=True)
    fitted, some, own = np.unique(of[scene.chosen], return_index=True, return_inverse=True)
    fit = fit_quadrics_bilateral(scene.reference[first], fitted, scale.neighbours, points.opposite[some])
    if scene.blurred is not None:
        again, more = np.flatnonzero(scene.blurred.part[first[fitted]]), scene.blurred.scale.neighbours
        others = fit_quadrics_bilateral(scene.reference[first], fitted[again], more, points.opposite[some][again])
        fit = fit.with_some(again, others)
    if scene.normals != "given":
        points = replace(points, normals=fit.normals[own], confidence=fit.planarity[own])
    if _denoises(scene, config):
        points = replace(points, positions=fit.projections[own])
        scale = replace(scale, noise_left=_noise_left(scene), residual=float(np.median(fit.residual)))
    elif scene.blurred is not None:
        moved = np.where(scene.blurred.part[scene.chosen][:, None], fit.projections[own], points.positions)
        points = replace(points, positions=moved)
    if _estimates(scene, config):
        scene = replace(scene, normals="estimated")
    return replace(scene, points=points, scale=scale)


def find_coarse_normals(scene: Scene, config: Config) -> Scene:
    """The coarse normals of the points that agree with their winding number."""
    if scene.normals != "estimated" and config.train.start != "winding":
        return scene
    found = coarse_normals(scene.points.positions, scene.scale.noise_left, scene.settings.winding)
    return replace(scene, coarse_normals=found)


def orient_normals(scene: Scene, config: Config) -> Scene:
    """The estimated normals turned outward, as far as their sides are sure."""
    if scene.normals != "estimated" or scene.coarse_normals is None:
        return scene
    points, settings = scene.points, scene.settings.orientation
    normals, outward = orient(scene.coarse_normals, points.positions, points.normals, points.opposite, settings)
    return replace(scene, points=replace(points, normals=normals, outward=outward))


def believe_sensors(scene: Scene, config: Config) -> Scene:
    """The estimated normals turned to the sensors that saw the points, where the cloud has these and they can be right.

    A point was seen from outside. If the sides that are already sure agree with that, nearly all of them, the sensors
    tell the others. If nearly all disagree, the shape alone had the sides the wrong way round, as of a room seen from
    within. Anything between means that the sides are by chance, as those of an open sheet are, or that the positions of
    the sensors are wrong or in another order than the points. Then the sensors are believed if nothing hides the points
    from them.
    """
    s, points, sensors = scene.settings, scene.points, scene.cloud.sensors
    if scene.normals != "estimated" or sensors is None:
        return scene
    sensors = scene.domain.normalisation.apply(sensors[points.raw_index])
    cosine = (points.normals * unit(sensors - points.positions)).sum(axis=1)
    facing = np.abs(cosine) > s.grazing
    told = facing & points.oriented
    agreement = float((cosine[told] > 0).mean()) if told.any() else None
    towards = np.where(cosine < 0, -1.0, 1.0)[:, None] * points.normals
    believed = agreement is not None and max(agreement, 1 - agreement) >= s.sensors_agree
    if not believed and facing.any():
        asked = thinned(np.flatnonzero(facing), s.sensors_asked)
        seen = unhidden(Space(points.positions), points.positions[asked], towards[asked], sensors[asked])
        believed = bool(seen.mean() >= s.sensors_see)
    scene = replace(scene, sensors_agree=agreement, sensors_believed=believed)
    if not believed:
        return scene
    # points that were seen edge-on go with the others; where the sides of these were by chance, so are theirs
    by_chance = agreement is None or 1 - s.sensors_agree < agreement < s.sensors_agree
    turned = agreement is not None and agreement <= 1 - s.sensors_agree
    normals = np.where(facing[:, None], towards, -points.normals if turned else points.normals)
    outward = np.where(facing, s.seen, np.minimum(points.outward, UNKNOWN) if by_chance else points.outward)
    return replace(scene, points=replace(points, normals=normals, outward=outward))


def find_enclosure(scene: Scene, config: Config) -> Scene:
    """How far the points enclose a body, where most of their sides are sure."""
    s, points = scene.settings, scene.points
    sure = np.flatnonzero(points.oriented)
    if len(sure) < max(s.fewest, s.mostly * len(points)):
        return scene
    some = points[thinned(sure, s.most_points)]
    return replace(scene, enclosed=enclosure(some.positions, some.normals))


def turn_sheet(scene: Scene, config: Config) -> Scene:
    """The normals of a sheet turned the other way where that is outward: its shape alone has them by chance.

    Of one that lies, as terrain does, the upper side is outside. Any other, such as a body on a table, is to enclose
    what it can.
    """
    if scene.normals != "estimated" or scene.sensors_believed or scene.enclosed is None:
        return scene
    points, vertical = scene.points, "xyz".index(config.plot.up) if scene.dimension == 3 else 1
    upward = float(points.normals[points.oriented].mean(axis=0)[vertical])
    lies = scene.is_sheet and abs(upward) > scene.settings.lying
    if (upward if lies else scene.enclosed) >= 0:
        return scene
    return replace(scene, points=replace(points, normals=-points.normals), enclosed=-scene.enclosed)


def check_given_normals(scene: Scene, config: Config) -> Scene:
    """The share of the given normals that point outward, by the cloud's shape; if nearly all point inward, all turn.

    An open sheet has no inside, and the shape takes either side of it for one. There the given normals are right.
    """
    if scene.normals != "given" or scene.coarse_normals is None:
        return scene
    cosine = (scene.points.normals * scene.coarse_normals.at(scene.points.positions)).sum(axis=1)
    outward = float((cosine > 0).sum() / max((cosine != 0).sum(), 1))
    points = scene.points
    if outward >= scene.settings.inward:
        return replace(scene, outward=outward)
    if scene.enclosed is None or scene.enclosed > -ENCLOSED:
        return replace(scene, outward=1 - outward)
    points = replace(points, normals=-points.normals)
    return replace(scene, outward=outward, points=points, enclosed=-scene.enclosed)


def fit_coarse_surface(scene: Scene, config: Config) -> Scene:
    """The surface from which the training starts: through the given normals, the estimated or the coarse ones."""
    if config.train.start != "winding":
        return scene
    s, points, coarse = scene.settings, scene.points, scene.coarse_normals
    if scene.ends_at_walls(config.plot):
        s = replace(s, coarse_surface=replace(s.coarse_surface, wall_nodes=0))

    def through(positions: Array, normals: Array, sure: npt.NDArray[np.bool_]) -> CoarseSurface:
        return CoarseSurface(positions, normals, sure, scene.domain, scene.scale.noise_left, s.coarse_surface)

    if scene.normals == "given":
        if scene.outward is None or s.inward <= scene.outward <= 0.5:  # mixed normals would make a sheet in empty space
            return scene
        return replace(scene, coarse_surface=through(points.positions, points.normals, points.oriented))
    if scene.normals == "estimated" and points.oriented.mean() > s.believed:
        return replace(scene, coarse_surface=through(points.positions, points.normals, points.oriented))
    if coarse is None:
        return scene
    if scene.normals == "estimated":  # hardly a side is sure, so no rim of a hole is
        s = replace(s, coarse_surface=replace(s.coarse_surface, rim_share=np.inf))
    return replace(scene, coarse_surface=through(coarse.points, coarse.normals, np.any(coarse.normals, axis=1)))


def project_unresolved(scene: Scene, config: Config) -> Scene:
    """Where no neighbourhood shows the surface, each point denoised and its normal taken by the coarse surface."""
    if scene.coarse_surface is None or scene.scale.resolved or scene.chosen is None:
        return scene
    points, scale, every = scene.points, scene.scale, np.ones(len(scene.points))
    positions, normals = scene.coarse_surface.project(points.positions)
    if _estimates(scene, config):
        points = replace(points, normals=normals, confidence=every, outward=every)
        scene = replace(scene, normals="estimated")
    if _denoises(scene, config):
        points = replace(points, positions=positions)
        scale = replace(scale, noise_left=_noise_left(scene))
    return replace(scene, points=points, scale=scale)


def add_creases(scene: Scene, config: Config) -> Scene:
    """Points added where the flat faces of a noisy cloud meet; a crease has no normal."""
    s, points, residual = scene.settings, scene.points, scene.scale.residual
    if not config.train.find_creases or not residual or scene.normals == "given":
        return scene
    if len(scene.reference) > s.crease_points:
        return scene
    before = scene.domain.normalisation.apply(scene.cloud.points[points.raw_index])
    places = find_creases(points.positions, before, points.normals, residual, s.creases)
    return replace(scene, points=points + OrientedPoints.bare(places, source=Source.CREASE))


def fill_holes(scene: Scene, config: Config) -> Scene:
    """Points of the coarse surface added where it closes holes of the cloud; their normals are not trusted."""
    surface, points = scene.coarse_surface, scene.points
    if not config.train.fill_openings or surface is None or not len(surface.filling):
        return scene
    measured = points.positions[points.source == Source.MEASURED]
    count = scene.settings.hole_density * density_of(different(measured)) * surface.filling_areas
    # few points far off a dense cloud make openings that hold many times its points; they say no more than so many
    copies = _rounded(count * min(1.0, len(measured) / max(count.sum(), 1.0)))
    places, normals = (np.repeat(of, copies, axis=0) for of in (surface.filling, surface.filling_normals))
    return replace(scene, points=points + OrientedPoints.bare(places, normals, Source.HOLE))


def weigh_by_area(scene: Scene, config: Config) -> Scene:
    """The area that each measured point stands for; a point that was added stands for 1."""
    measured = scene.points.source == Source.MEASURED
    if not config.train.weigh_by_area or measured.sum() > scene.settings.most_points:
        return scene
    area = scene.points.area.copy()
    area[measured] = areas(scene.points.positions[measured], scene.settings.largest_area)
    return replace(scene, points=replace(scene.points, area=area))


ORIENTING: tuple[Stage, ...] = (  # after which the sides of the normals are known
    find_opposite_sheets,
    estimate_scale,
    choose_points,
    fit_quadrics,
    find_coarse_normals,
    orient_normals,
    believe_sensors,
    find_enclosure,
    turn_sheet,
)
STAGES: tuple[Stage, ...] = (
    *ORIENTING,
    check_given_normals,
    fit_coarse_surface,
    project_unresolved,
    add_creases,
    fill_holes,
    weigh_by_area,
)


def _denoises(scene: Scene, config: Config) -> bool:
    """Whether points are moved: it is wanted, they are noisy, and the cloud shows where to."""
    begins = scene.settings.noise.noise_begins * scene.scale.width
    noisy = begins <= scene.scale.noise and scene.scale.noise > EXACT
    return config.train.smooth_points and scene.shows_surface and noisy


def _estimates(scene: Scene, config: Config) -> bool:
    """Whether normals are estimated: it is wanted, none are given, and the cloud shows them."""
    return config.train.estimate_normals and scene.shows_surface and not config.network.has_normals


def _noise_left(scene: Scene) -> float:
    """The noise of points that are denoised with so many neighbours."""
    scale = scene.scale
    return float(scene.settings.noise.left * scale.noise * (NEIGHBOURS / scale.neighbours) ** 0.5)


def _first_at_place(points: Array, s: PreprocessSettings) -> Index:
    """For each of some points (N, d) the first that is at its place; itself where there are fewer than 10 places."""
    first, kind = unique_rows(points)
    return first[kind] if len(first) >= s.fewest else np.arange(len(points))


def _with_given(points: OrientedPoints, given: Array | None) -> OrientedPoints:
    """Points with the given normals of the input's rows (N, d), which are trusted; as they are without any."""
    if given is None:
        return points
    every = np.ones(len(points))
    return replace(points, normals=given[points.raw_index], confidence=every, outward=every)


def _deduplicate(rows: Array, s: PreprocessSettings) -> Index:
    """Indices of points, or of points with normals (N, c), each once: corners of a mesh's triangles come many times.

    Of more than 300 000, so many. Of fewer than 10, which a quadric would not fit, all rows.
    """
    some = thinned(np.arange(len(rows)), s.most_rows)
    once = some[np.sort(unique_rows(rows[some])[0])]
    return thinned(once, s.most_points) if len(once) >= s.fewest else some


def _near(points: Array, some: Array, margin: float) -> npt.NDArray[np.bool_]:
    """Which of the points (N, d) are in the bounding box of some of them (M, d), or within a margin of its extent."""
    lower, upper = some.min(axis=0), some.max(axis=0)
    margin = margin * (upper - lower).max()
    return np.asarray(((points >= lower - margin) & (points <= upper + margin)).all(axis=1))


def _rounded(counts: Array) -> Index:
    """Whole numbers (N,) in place of counts (N,), the sum of the first k of which is that of these, rounded down."""
    return np.diff(np.floor(np.cumsum(counts)), prepend=0).astype(np.int64)
