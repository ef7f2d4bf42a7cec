"""Point clouds as instruments would take them of a known surface: uniform samples, range scans, multi-view stereo.

The surface has bounding radius 1 about the origin, so every length here is a share of the bounding radius. A cloud has
its true outward normals and, where an instrument stood somewhere, the sensor position of every point. All is drawn from
the generator that is given: the same seed gives the same cloud.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from phase_recon.benchmarks.solids import spiral
from phase_recon.surface.metrics import sample_surface
from phase_recon.surface.surface import Surface

Array = npt.NDArray[np.float64]
Generator = np.random.Generator

NEAREST, FARTHEST = 2.5, 4.0  # distances of the sensors from the middle
STEEPEST = 80.0  # degrees between ray and normal: beyond, nothing comes back
PILOT = 64  # rays along a side of the first, coarse image, by which the number of rays is chosen
OFFSET = 1e-4  # from the surface, where rays towards a camera start
GLINTS = 0.3  # of the distance to the middle: how far off along its ray an outlier is, at most


@dataclass(frozen=True)
class Cloud:
    """Points (N, d) with true outward unit normals (N, d) and, but for uniform samples, sensor positions (N, d)."""

    points: Array
    normals: Array
    sensor_position: Array | None = None

    def __getitem__(self, kept: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "Cloud":
        sensors = None if self.sensor_position is None else self.sensor_position[kept]
        return Cloud(self.points[kept], self.normals[kept], sensors)


@dataclass(frozen=True)
class RangeScan:
    """How a scanner takes a cloud from several places.

    points: about how many in all. views: places it stands at, evenly about the surface. noise: standard deviation along
    the ray at distance 1 + NEAREST, in proportion to the distance. misregistration: standard deviation of how far a
    view is shifted, and turned (in radians), from its true place. missing: share of the views that are left out, all on
    one side. outliers: share of the points that are somewhere else along their rays. lines: how many times as far apart
    the rays of a view are across as along; a line scanner moves by so much from line to line.
    """

    points: int = 20_000
    views: int = 9
    noise: float = 0.0015
    misregistration: float = 0.001
    missing: float = 0.0
    outliers: float = 0.0
    lines: float = 1.0


def sampled(surface: Surface, points: int, noise: float, random: Generator) -> Cloud:
    """Points uniform by area (length in 2D), with Gaussian noise of this standard deviation in every direction."""
    exact, cells = sample_surface(surface, points, int(random.integers(2**31)))
    return Cloud(exact + noise * random.standard_normal(exact.shape), surface.cell_normals()[cells])


def scanned(surface: Surface, scan: RangeScan, random: Generator) -> Cloud:
    """What a range scanner sees from several places: the first surface along each ray.

    The rays of a view are a square grid in its image plane, or lines, so that points lie farther apart where the
    surface is far or slanted; a ray comes back with the probability of the cosine between it and the normal, never
    beyond STEEPEST.
    """
    scene = _Scene(surface)
    sensors = even_directions(scan.views, random) * random.uniform(NEAREST, FARTHEST, (scan.views, 1))
    if scan.missing > 0:
        side = _direction(random)
        sensors = sensors[np.argsort(sensors @ side)[: max(1, round((1 - scan.missing) * scan.views))]]
    images = [scene.image(sensor, PILOT, random) for sensor in sensors]
    share = sum(len(image.points) for image in images) / PILOT**2
    side_length = max(2, round((scan.points / max(share, 1e-3)) ** 0.5))
    clouds = []
    for sensor in sensors:
        seen = scene.image(sensor, side_length, random, scan.lines)
        rays = seen.points - sensor
        distances = np.linalg.norm(rays, axis=1, keepdims=True)
        rays /= distances
        spread = scan.noise * distances / (1 + NEAREST)
        points = seen.points + spread * random.standard_normal((len(rays), 1)) * rays
        wild = random.random(len(rays)) < scan.outliers
        points[wild] += rays[wild] * random.uniform(-GLINTS, GLINTS, (wild.sum(), 1)) * np.linalg.norm(sensor)
        turn, shift = _small_motion(scan.misregistration, random)
        clouds.append(Cloud(points @ turn.T + shift, seen.normals, np.tile(turn @ sensor + shift, (len(rays), 1))))
    return joined(clouds)


def stereo(surface: Surface, points: int, views: int, noise: float, random: Generator) -> Cloud:
    """As multi-view stereo gives it: few points, in clusters where there is texture, each seen by at least two cameras.

    Three quarters of the noise's square lie along the ray, as triangulation has it.
    """
    scene = _Scene(surface)
    cameras = even_directions(views, random) * random.uniform(NEAREST, FARTHEST, (views, 1))
    exact, cells = sample_surface(surface, 8 * points, int(random.integers(2**31)))
    normals = surface.cell_normals()[cells]
    waves = 9 * random.standard_normal((6, 3))  # of the texture
    texture = np.cos(exact @ waves.T + random.uniform(0, 2 * np.pi, 6)).sum(axis=1)
    seen = np.stack([scene.visible(exact, normals, camera) for camera in cameras], axis=1)
    likely = np.where(seen.sum(axis=1) >= 2, np.exp(texture), 0.0)
    count = min(points, int((likely > 0).sum()))
    kept = np.sort(random.choice(len(exact), count, replace=False, p=likely / likely.sum()))
    camera = (seen[kept] * random.random((count, views))).argmax(axis=1)
    rays = exact[kept] - cameras[camera]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    off = 0.8 * random.standard_normal((count, 1)) * rays + 0.35 * random.standard_normal((count, 3))
    return Cloud(exact[kept] + noise * off, normals[kept], cameras[camera])


def with_holes(cloud: Cloud, holes: int, radius: float, random: Generator) -> Cloud:
    """The cloud without what is within a radius of some of its points."""
    centres = cloud.points[random.choice(len(cloud.points), holes, replace=False)]
    distances = np.linalg.norm(cloud.points[:, None] - centres, axis=2)
    return cloud[(distances > radius).all(axis=1)]


def cut_away(cloud: Cloud, share: float, random: Generator) -> Cloud:
    """The cloud without the share of its points that lies farthest in some direction."""
    along = cloud.points @ _direction(random, cloud.points.shape[1])
    return cloud[np.sort(np.argsort(along)[: len(along) - round(share * len(along))])]


def joined(clouds: list[Cloud]) -> Cloud:
    """Several clouds with sensor positions as one."""
    sensors = [cloud.sensor_position for cloud in clouds if cloud.sensor_position is not None]
    points, normals = [cloud.points for cloud in clouds], [cloud.normals for cloud in clouds]
    return Cloud(np.concatenate(points), np.concatenate(normals), np.concatenate(sensors))


def even_directions(count: int, random: Generator) -> Array:
    """Unit vectors (count, 3), evenly spread, turned at random."""
    rotation = np.linalg.qr(random.standard_normal((3, 3)))[0]
    directions: Array = spiral(count) @ (rotation * np.sign(np.linalg.det(rotation)))
    return directions


def _direction(random: Generator, d: int = 3) -> Array:
    vector = random.standard_normal(d)
    unit: Array = vector / np.linalg.norm(vector)
    return unit


def _small_motion(size: float, random: Generator) -> tuple[Array, Array]:
    """A rotation (3, 3) by about ``size`` radians and a shift (3,) of that length."""
    x, y, z = size * random.standard_normal(3)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    left, _, right = np.linalg.svd(np.eye(3) + skew)
    return left @ right, size * random.standard_normal(3) / np.sqrt(3)


class _Scene:
    """A surface that rays are cast on."""

    def __init__(self, surface: Surface) -> None:
        self.surface, self.normals = surface, surface.cell_normals()
        self.scene = EmbreeScene()
        TriangleMesh(self.scene, surface.vertices.astype(np.float32), surface.cells.astype(np.int32))

    def image(self, sensor: Array, side: int, random: Generator, lines: float = 1.0) -> Cloud:
        """Exact points and normals that come back from side × side rays, which cover the ball of radius 1.

        Lines are so many times as far apart as the rays along them; then these are more, and those fewer.
        """
        distance = float(np.linalg.norm(sensor))
        forward = -sensor / distance
        right = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])
        right /= np.linalg.norm(right)
        reach = 1 / np.sqrt(distance**2 - 1)  # tangent of the angle under which that ball is seen
        first, counts = random.random(), (round(side * lines**0.5), max(2, round(side / lines**0.5)))
        ticks = [reach * ((np.arange(count) + first) / count * 2 - 1) for count in counts]
        x, y = (grid.reshape(-1, 1) for grid in np.meshgrid(*ticks))
        rays = forward + x * right + y * np.cross(forward, right)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        found = self.scene.run(np.tile(sensor, (len(rays), 1)).astype(np.float32), rays.astype(np.float32), output=1)
        hit = found["primID"] >= 0
        cells, rays = found["primID"][hit], rays[hit]
        u, v = (found[name][hit].astype(np.float64) for name in "uv")
        weights = np.stack([1 - u - v, u, v], axis=1)
        points = np.einsum("nk,nkd->nd", weights, self.surface.vertices[self.surface.cells[cells]])
        normals = self.normals[cells]
        cosines = -(rays * normals).sum(axis=1)  # negative behind a crack between triangles that a ray slipped through
        back = (cosines > np.cos(np.radians(STEEPEST))) & (random.random(len(rays)) < cosines)
        return Cloud(points[back], normals[back])

    def visible(self, points: Array, normals: Array, camera: Array) -> npt.NDArray[np.bool_]:
        """Whether each of the points (N, 3) on the surface is seen from a camera (3,)."""
        towards = camera - points
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        facing = (towards * normals).sum(axis=1) > np.cos(np.radians(STEEPEST))
        start = (points + OFFSET * normals).astype(np.float32)
        open_ = self.scene.run(start, towards.astype(np.float32), query="OCCLUDED") == -1
        return np.asarray(facing & open_)


@dataclass(frozen=True)
class Kind:
    """A kind of cloud: what it is, how it is taken, its noise, and whether by an instrument that only sees outsides.

    ``uniform`` is the number of uniform points on a surface, of which a curve gets a twentieth; None of other kinds.
    """

    about: str
    take: Callable[[Surface, Generator], Cloud]
    noise: float
    instrument: bool
    uniform: int | None = None

    def words(self, d: int) -> str:
        """What such a cloud of a surface (d = 3) or of a curve (d = 2) is."""
        if self.uniform is None:
            return self.about
        count = f"{count_in(self.uniform, d):,}".replace(",", " ")
        return f"{count} uniform points, {self.about}"


def count_in(uniform: int, d: int) -> int:
    """So many points on a surface, a twentieth of them on a curve."""
    return uniform if d == 3 else uniform // 20


def _uniform(about: str, points: int, noise: float, change: Callable[[Cloud, Generator], Cloud] | None = None) -> Kind:
    """So many uniform points on a surface, or a twentieth of them on a curve, with a part taken away by ``change``."""

    def take_it(surface: Surface, random: Generator) -> Cloud:
        cloud = sampled(surface, count_in(points, surface.dimension), noise, random)
        return cloud if change is None else change(cloud, random)

    return Kind(about, take_it, noise, instrument=False, uniform=points)


def _range_scan(about: str, scan: RangeScan) -> Kind:
    return Kind(about, lambda surface, random: scanned(surface, scan, random), scan.noise, instrument=True)


SCAN = RangeScan()
LINES = RangeScan(points=35_000, views=7, noise=0.0006, misregistration=0.0005, lines=10.0)
MANY = replace(SCAN, views=20, points=40_000, noise=0.003, misregistration=0.003)
KINDS: dict[str, Kind] = {
    "exact": _uniform("noise-free", 20_000, 0.0),
    "noisy": _uniform("noise 0.005", 5_000, 0.005),
    "coarse": _uniform("noise 0.01", 1_000, 0.01),
    "dense": _uniform("noise 0.001", 100_000, 0.001),
    "thick": _uniform("noise 0.01, about as much as the points are apart", 100_000, 0.01),
    "holes": _uniform("noise 0.001, without six discs of radius 0.15", 20_000, 0.001,
                      lambda cloud, random: with_holes(cloud, 6, 0.15, random)),
    "cut": _uniform("noise 0.005, a third of them cut away", 5_000, 0.005,
                    lambda cloud, random: cut_away(cloud, 1 / 3, random)),
    "scan": _range_scan("range scan, 9 views, 20 000 points, noise 0.0015, misregistration 0.001", SCAN),
    "scan4": _range_scan("range scan, 4 views, 10 000 points", replace(SCAN, views=4, points=10_000)),
    "scan20": _range_scan("range scan, 20 views, 40 000 points, noise and misregistration 0.003", MANY),
    "scan_side": _range_scan("as scan, but the 4 views of one side are missing", replace(SCAN, missing=0.4)),
    "scan_outliers": _range_scan("as scan, 2 % of the points elsewhere along their rays", replace(SCAN, outliers=0.02)),
    "scan_lines": _range_scan("range scan, 7 views, 35 000 points in lines ten times as far apart", LINES),
    "stereo": Kind("multi-view stereo, 10 cameras, 3 000 points in clusters, noise 0.006",
                   lambda surface, random: stereo(surface, 3_000, 10, 0.006, random), 0.006, instrument=True),
}  # fmt: skip


def take(surface: Surface, shape: str, kind: str, seed: int) -> Cloud:
    """The cloud of a kind of a shape's surface: the same for the same names and seed, whatever else is made."""
    random = np.random.default_rng([seed, zlib.crc32(shape.encode()), zlib.crc32(kind.encode())])
    return KINDS[kind].take(surface, random)
