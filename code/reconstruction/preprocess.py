"""The stages in which a cloud is looked at before the first step: each is Scene → Scene, and nothing is by chance.

``prepare`` begins with ``find_scene``. Then the ``STAGES`` follow in a fixed order. Each opens with its own condition
and returns the scene as it was where it is not wanted.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.coarse_surface import CoarseSurface
from phase_recon.geometry.creases import find_creases
from phase_recon.geometry.enclosure import ENCLOSED, enclosure
from phase_recon.geometry.hollows import looked_through
from phase_recon.geometry.neighbours import NEIGHBOURS, SAMPLED, areas, density_of, spacing
from phase_recon.geometry.noise import EXACT, estimate_noise, find_blurred, fit_some
from phase_recon.geometry.orientation import orient
from phase_recon.geometry.points import UNKNOWN, OrientedPoints, Source
from phase_recon.geometry.quadrics import fit_quadrics_bilateral
from phase_recon.geometry.thin_walls import opposite_sheets
from phase_recon.geometry.visibility import Space, unhidden
from phase_recon.geometry.winding import coarse_normals
from phase_recon.reconstruction.scene import PreprocessSettings, Scene, find_scene
from phase_recon.utils.arrays import different, thinned, unique_rows, unit
from phase_recon.utils.config import Config

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

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
    """The points that are trained on: all rows kept, of crowds a few; or fewer, the more neighbours denoise each."""
    if not (_denoises(scene, config) or _estimates(scene, config)):
        points = scene.points
        if not scene.crowded:
            given = scene.cloud.normals if scene.normals == "given" else None
            rows = scene.domain.normalisation.apply(scene.cloud.points[scene.kept])
            points = OrientedPoints.bare(rows, raw_index=scene.kept).with_given(given)
        return replace(scene, points=points, scale=replace(scene.scale, trained_spacing=scene.scale.spacing))
    count = len(scene.reference) * NEIGHBOURS // max(scene.scale.neighbours, NEIGHBOURS)
    chosen = thinned(np.arange(len(scene.reference)), count)
    if (blurred := scene.blurred) is not None:
        most = scene.settings.noise.most_fitted // blurred.scale.neighbours
        part = blurred.part[chosen]
        chosen = np.sort(np.concatenate([chosen[~part], thinned(chosen[part], most)]))
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
    Without coarse normals, what the given ones enclose tells it: ½ where all point outward, -½ where all point inward.
    """
    if scene.normals != "given":
        return scene
    enclosed = 0.0 if scene.enclosed is None else scene.enclosed
    if scene.coarse_normals is None:
        outward = 0.5 + enclosed
        if outward > scene.settings.inward:
            return scene
    else:
        cosine = (scene.points.normals * scene.coarse_normals.at(scene.points.positions)).sum(axis=1)
        outward = float((cosine > 0).sum() / max((cosine != 0).sum(), 1))
        if outward >= scene.settings.inward:
            return replace(scene, outward=outward)
        if enclosed > -ENCLOSED:  # a sheet: what its shape says has the wrong sign
            return replace(scene, outward=1 - outward)
    turned = replace(scene.points, normals=-scene.points.normals)
    return replace(scene, outward=outward, points=turned, enclosed=-enclosed)


def find_empty(scene: Scene, config: Config) -> Scene:
    """The places in hollows through which one looked at what lies in them."""
    if config.train.start != "winding" or not config.train.keep_hollows:
        return scene
    points, s = scene.points, scene.settings
    sure = np.flatnonzero(points.oriented)
    some = thinned(points.positions, s.coarse_surface.points)
    some = some[unique_rows(some)[0]]
    if not len(sure) or len(some) < s.fewest:
        return scene
    asked = thinned(sure, s.sight_from)
    sensors = scene.cloud.sensors if scene.sensors_believed else None
    if sensors is not None:
        sensors = scene.domain.normalisation.apply(sensors[points.raw_index[asked]])
    places, normals = points.positions[asked], points.normals[asked]
    return replace(scene, empty=looked_through(Space(some), places, normals, sensors, s.hollows))


def fit_coarse_surface(scene: Scene, config: Config) -> Scene:
    """The surface from which the training starts: through the given normals, the estimated or the coarse ones."""
    if config.train.start != "winding":
        return scene
    s, points, coarse = scene.settings, scene.points, scene.coarse_normals
    if scene.ends_at_walls(config.plot):
        s = replace(s, coarse_surface=replace(s.coarse_surface, wall_nodes=0))

    def through(positions: Array, normals: Array, sure: npt.NDArray[np.bool_]) -> CoarseSurface:
        noise = scene.scale.noise_left
        return CoarseSurface(positions, normals, sure, scene.domain, noise, scene.empty, s.coarse_surface)

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
    """Points of the coarse surface added where it closes holes; estimated normals there are not trusted."""
    surface, points = scene.coarse_surface, scene.points
    if not config.train.fill_openings or surface is None or not len(surface.filling):
        return scene
    measured = points.measured.positions
    count = scene.settings.hole_density * density_of(different(measured)) * surface.filling_areas
    # few points far off a dense cloud make openings that hold many times its points; they say no more than so many
    copies = _rounded(count * min(1.0, len(measured) / max(count.sum(), 1.0)))
    places, normals = (np.repeat(of, copies, axis=0) for of in (surface.filling, surface.filling_normals))
    return replace(scene, points=points + OrientedPoints.bare(places, normals, Source.HOLE))


def weigh_by_area(scene: Scene, config: Config) -> Scene:
    """The area that each measured point stands for; a point that was added stands for 1."""
    measured = scene.points.measured
    if not config.train.weigh_by_area or len(measured) > scene.settings.most_points:
        return scene
    area = scene.points.area.copy()
    area[scene.points.source == Source.MEASURED] = areas(measured.positions, scene.settings.largest_area)
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
    find_empty,
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
    return float(scene.settings.noise.left * scale.noise * (NEIGHBOURS / max(scale.neighbours, NEIGHBOURS)) ** 0.5)


def _rounded(counts: Array) -> Index:
    """Whole numbers (N,) in place of counts (N,), the sum of the first k of which is that of these, rounded down."""
    return np.diff(np.floor(np.cumsum(counts)), prepend=0).astype(np.int64)
