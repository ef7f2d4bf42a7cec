"""Images of triangle meshes by ray tracing on the CPU with embree: no display, no graphics driver.

The scene is scaled into the unit ball, as embree computes in single precision. All coordinates are those of the camera:
x to the right, y up, z towards the eye.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import trimesh
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from phase_recon.surface.surface import Surface
from phase_recon.utils.threads import in_threads

Up = Literal["y", "z"]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.integer]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Noise = np.random.Generator

EYE_DISTANCE = 5.0  # × radius of the scene: a mild perspective
FILLED = 0.94  # × width or height of an image: what the scene fills at most
BAND_ROWS = 64  # rows of rays traced at a time, which bounds the memory
SUBPIXELS = 2  # rays per pixel along each side
AMBIENT_RAYS = 4  # rays per hit that sample the ambient light
OFFSET = 2e-4  # × radius of the scene: distance of secondary rays' origins from the surface, against self-shadowing
CLAY = np.array([0.40, 0.48, 0.58])  # linear RGB of a surface without colours
INSIDE = np.array([0.55, 0.30, 0.18], dtype=np.float32)  # linear RGB of the back: visible where a surface is open
DIMMED = 0.6  # × a surface's own colours: the lights are made for CLAY and would overexpose pale colours
KEY_LIGHT = np.array([-0.62, 0.58, 0.53], dtype=np.float32)  # direction towards the key light, from the left above
FILL_LIGHT = np.array([0.85, -0.05, 0.52], dtype=np.float32)  # direction towards the fill light, from the right
KEY = 1.20  # strength of the key light
FILL = 0.22  # strength of the fill light
AMBIENT = 0.48  # strength of the ambient light
GLOSS = 0.08  # strength of the highlights
LIGHT_RADIUS = 0.08  # of the key light at distance 1: makes soft shadows
BALL_RADIUS = 0.006  # × radius of the scene: radius of a point's ball
POINT_COLOUR = np.array([240, 120, 50], dtype=np.uint8)  # sRGB of points without colours, orange


@dataclass(frozen=True)
class View:
    """A direction from which a scene is seen.

    Attributes:
        azimuth: degrees; 0 is the front, positive to the right. The front is +z where y points up, and -y where z
            points up; x points to the right in both.
        elevation: degrees, positive upwards.
    """

    azimuth: float
    elevation: float

    def axes(self, up: Up) -> Float64:
        """(3, 3): the camera's right, up and backward directions as rows."""
        world = np.eye(3) if up == "y" else np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
        a, e = np.radians([self.azimuth, self.elevation])
        right = np.array([np.cos(a), 0.0, -np.sin(a)])
        backward = np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
        axes: Float64 = np.stack([right, np.cross(backward, right), backward]) @ world
        return axes


FRONT = View(-30.0, 15.0)
BACK = View(150.0, 15.0)


def render_views(
    shots: Sequence[tuple[Surface, View]], *, width: int, height: int, up: Up = "y"
) -> Bytes:
    """Images (N, height, width, 3), sRGB on white, of N surfaces from one view each.

    All images have one scale, and those of one view have one centre, so that surfaces can be compared. The back of a
    surface is brown.

    Args:
        shots: the surfaces (d = 3) with their views. A surface is shaded by its vertex normals, or else by those of its
            triangles, and shows its colours if it has any. A surface without cells is a cloud, drawn as small balls.
        width: pixels.
        height: pixels.
        up: the axis that points up.
    """
    corners = np.concatenate([[s.vertices.min(axis=0), s.vertices.max(axis=0)] for s, _ in shots])
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    radius = max(np.linalg.norm(s.vertices - centre, axis=1).max() for s, _ in shots)
    scene = [replace(s, vertices=(s.vertices - centre) / radius) for s, _ in shots]
    views = [view.axes(up) for _, view in shots]

    # the centre and the extent of the whole scene in each view's plane at distance 1
    seen = [np.concatenate([_project(s.vertices @ axes.T) for s in scene]) for axes in views]
    middles = [(xy.min(axis=0) + xy.max(axis=0)) / 2 for xy in seen]
    pixel = max((np.ptp(xy, axis=0) / (width, height)).max() for xy in seen) / FILLED

    solid = [s if len(s.cells) else balls(s.vertices, s.colours, BALL_RADIUS) for s in scene]
    shown = zip(solid, views, middles, strict=True)
    return np.stack([_Traced(s, axes).image(middle, pixel, width, height) for s, axes, middle in shown])


def balls(points: Float64, colours: Bytes | None, radius: float) -> Surface:
    """One surface with a smooth ball of 20 triangles at each of the points (N, 3).

    Args:
        points: the centres (N, 3).
        colours: sRGB (N, 3) of the balls, or None for orange.
        radius: of the balls, in the unit of the points.
    """
    ball = trimesh.creation.icosahedron()
    corners, faces = np.asarray(ball.vertices), np.asarray(ball.faces)  # trimesh's own arrays are slow to go through
    if colours is None:
        colours = np.tile(POINT_COLOUR, (len(points), 1))
    return Surface(
        vertices=(points[:, None] + radius * corners).reshape(-1, 3),
        cells=(len(corners) * np.arange(len(points))[:, None, None] + faces).reshape(-1, 3),
        normals=np.tile(corners, (len(points), 1)),
        colours=np.repeat(colours, len(corners), axis=0),
    )


class _Traced:
    """One surface in one camera's coordinates, as an embree scene."""

    def __init__(self, surface: Surface, axes: Float64) -> None:
        normals = _vertex_normals(surface) if surface.normals is None else surface.normals
        linear = CLAY if surface.colours is None else DIMMED * (surface.colours / 255.0) ** 2.2
        self.vertices = np.ascontiguousarray(surface.vertices @ axes.T, dtype=np.float32)
        self.normals = _unit((normals @ axes.T).astype(np.float32))
        self.albedo = np.broadcast_to(linear, self.vertices.shape).astype(np.float32)
        self.cells = surface.cells.astype(np.int32)
        self.scene = EmbreeScene()
        TriangleMesh(self.scene, self.vertices, self.cells)

    def image(self, middle: Float64, pixel: float, width: int, height: int) -> Bytes:
        """The image (height, width, 3), sRGB; `middle` (2,) is its centre and `pixel` a pixel's size at distance 1."""
        step = pixel / SUBPIXELS
        x = middle[0] + step * (np.arange(width * SUBPIXELS) + 0.5 - width * SUBPIXELS / 2)
        y = middle[1] - step * (np.arange(height * SUBPIXELS) + 0.5 - height * SUBPIXELS / 2)
        bands = enumerate(np.split(y, range(BAND_ROWS, len(y), BAND_ROWS)))
        shaded = np.concatenate(in_threads(lambda band: self._band(x, band[1], seed=band[0]), bands))
        light = shaded.reshape(height, SUBPIXELS, width, SUBPIXELS, 3).mean(axis=(1, 3))
        return np.asarray(np.round(255 * light ** (1 / 2.2)), dtype=np.uint8)

    def _band(self, x: Float64, y: Float64, seed: int) -> Float32:
        """Linear RGB (len(y), len(x), 3), 0 to 1, of the rays through a grid x, y in the plane at distance 1.

        The seed is that of the secondary rays: every run gives the same picture.
        """
        noise = np.random.default_rng(seed)
        directions = np.stack([*np.meshgrid(x, y), np.full((len(y), len(x)), -1.0)], axis=-1)
        rays = _unit(directions.reshape(-1, 3).astype(np.float32))
        eye = np.tile(np.array([0, 0, EYE_DISTANCE], dtype=np.float32), (len(rays), 1))
        found = self.scene.run(eye, rays, output=1)
        hit = found["primID"] >= 0
        light = np.ones((len(rays), 3), dtype=np.float32)
        row, column = np.indices((len(y), len(x))) % SUBPIXELS
        stratum = (SUBPIXELS * row + column).reshape(-1)[hit].astype(np.float32)
        light[hit] = self._shade(rays[hit], found["primID"][hit], found["u"][hit], found["v"][hit], stratum, noise)
        return light.reshape(len(y), len(x), 3)

    def _shade(self, rays: Float32, cell: Ints, u: Float32, v: Float32, stratum: Float32, noise: Noise) -> Float32:
        """Linear RGB (N, 3), 0 to 1, of N rays that hit the surface.

        Args:
            rays: directions of the rays (N, 3).
            cell: the triangle that each hits (N,).
            u: barycentric coordinate of the hit (N,), for the triangle's second corner.
            v: barycentric coordinate of the hit (N,), for the third corner.
            stratum: the number of each ray within its pixel (N,), which selects a part of the sphere for the random
                directions of its secondary rays.
            noise: draws these directions.
        """
        ids = self.cells[cell]
        weights = np.stack([1 - u - v, u, v], axis=1)[..., None]
        corners, corner_normals = self.vertices[ids], self.normals[ids]
        points = (weights * corners).sum(axis=1)
        normals = _unit((weights * corner_normals).sum(axis=1))
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        inside = _dot(flat, rays) > 0
        side = np.where(inside, -1, 1).astype(np.float32)[:, None]
        normals, corner_normals = normals * side, corner_normals * side[:, None]
        albedo = np.where(inside[:, None], INSIDE, (weights * self.albedo[ids]).sum(axis=1))

        # secondary rays start from the smooth surface that the vertex normals describe; from the triangles, coarse
        # meshes would shadow themselves (Hanika, "Hacking the Shadow Terminator", Ray Tracing Gems II, 2021)
        depth = _dot(points[:, None] - corners, corner_normals)[..., None]
        start = points + (weights * np.maximum(-depth, 0) * corner_normals).sum(axis=1) + OFFSET * normals

        towards_key = _unit(KEY_LIGHT + LIGHT_RADIUS * _directions(stratum, stratum, SUBPIXELS**2, noise))
        lit = self._is_open(start, towards_key)
        key = lit * np.maximum(_dot(normals, towards_key), 0)
        fill = np.maximum(normals @ _unit(FILL_LIGHT), 0)
        ambient = np.zeros(len(rays), dtype=np.float32)
        for k in range(AMBIENT_RAYS):
            # points on a sphere that touches the surface give cosine-weighted directions; the sky is brighter above
            sky = _unit(normals + 0.999 * _directions(stratum, k, AMBIENT_RAYS, noise))
            ambient += self._is_open(start, sky) * (0.7 + 0.3 * sky[:, 1]) / AMBIENT_RAYS
        halfway = _unit(towards_key - rays)
        gloss = lit * np.maximum(_dot(normals, halfway), 0) ** 40
        diffuse = (KEY * key + FILL * fill + AMBIENT * ambient)[:, None] * albedo
        return np.asarray(np.minimum(diffuse + GLOSS * gloss[:, None], 1), dtype=np.float32)

    def _is_open(self, start: Float32, direction: Float32) -> npt.NDArray[np.bool_]:
        """Whether rays from the starts (N, 3) in the directions (N, 3) hit nothing (N,)."""
        return np.asarray(self.scene.run(start, direction, query="OCCLUDED") == -1)


def _directions(stratum: Float32, part: Float32 | int, parts: int, noise: Noise) -> Float32:
    """Random unit vectors (N, 3): `stratum` (N,) chooses a band of the sphere, and `part` one of `parts` wedges."""
    z, turn = noise.random((2, len(stratum)), dtype=np.float32)
    z = 1 - 2 * (stratum + z) / SUBPIXELS**2
    angle = 2 * np.pi * (part + turn) / parts
    flat = np.sqrt(1 - z * z)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], axis=1).astype(np.float32)


def _project(points: Float64) -> Float64:
    """The perspective projection (N, 2) of points (N, 3) onto the plane at distance 1 from the eye."""
    return points[:, :2] / (EYE_DISTANCE - points[:, 2:])


def _vertex_normals(surface: Surface) -> Float64:
    """The vertex normals (V, 3): sums of the normals of the triangles around each, weighted by their areas."""
    normals = np.zeros_like(surface.vertices)
    for corner in surface.cells.T:
        np.add.at(normals, corner, surface.cell_vectors())
    return normals


def _unit(vectors: Float32) -> Float32:
    """The vectors (N, 3) at length 1; a zero vector stays zero."""
    tiny = np.finfo(vectors.dtype).tiny
    return np.asarray(vectors / np.maximum(np.sqrt(_dot(vectors, vectors)), tiny)[..., None])


def _dot(a: Float32, b: Float32) -> Float32:
    """The scalar products (...) of vectors (..., 3)."""
    return np.asarray(np.einsum("...i,...i->...", a, b))
