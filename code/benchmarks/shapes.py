"""Shapes whose surface is known, to measure reconstructions on: one function for each, with what is hard about it.

Lengths are in the bounding radius: every shape is moved and scaled so that the middle of its bounding box is at the
origin and its farthest vertex at distance 1. The mesh is watertight and nowhere farther than TOLERANCE from the curved
surface that it stands for. The Euler characteristic, V - E + F, is counted by hand (2 for each component, less 2 for
each handle; a hollow is a component of its own); the docstrings say how.

The split is fixed: rules and constants may be chosen on shapes for DEVELOPMENT; those for CHECKING are only measured.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import CubicSpline

from phase_recon.benchmarks.solids import (
    Place,
    arc,
    ball,
    box,
    circle,
    common,
    cylinder,
    inside_out,
    level_set,
    moved,
    prism,
    revolved,
    segments,
    sheet,
    spiral,
    star_shaped,
    together,
    tube,
    turned,
    union,
    without,
)
from phase_recon.surface.surface import Surface

Array = npt.NDArray[np.float64]
Split = Literal["development", "checking"]
DEVELOPMENT: Split = "development"
CHECKING: Split = "checking"
TOLERANCE = 1e-4  # of the bounding radius: a tenth of the least noise that is simulated


@dataclass(frozen=True)
class Shape:
    """A shape: ``build(error)`` gives its surface in units of its own, of about radius 1."""

    name: str
    kind: str
    split: Split
    euler_characteristic: int
    components: int
    dimension: int
    build: Callable[[float], Surface]

    def surface(self, tolerance: float = TOLERANCE) -> Surface:
        """The surface at bounding radius 1, its triangles within the tolerance of the curved surface."""
        surface = self.build(tolerance)
        low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
        centred = surface.vertices - (low + high) / 2
        return replace(surface, vertices=centred / np.linalg.norm(centred, axis=1).max())


SHAPES: dict[str, Shape] = {}


def _shape(
    kind: str, split: Split, euler: int, components: int = 1, dimension: int = 3
) -> Callable[[Callable[[float], Surface]], Callable[[float], Surface]]:
    """Enter a function into SHAPES under its own name."""

    def enter(build: Callable[[float], Surface]) -> Callable[[float], Surface]:
        SHAPES[build.__name__] = Shape(build.__name__, kind, split, euler, components, dimension, build)
        return build

    return enter


# Machine parts


@_shape("thin flange", DEVELOPMENT, -12)
def bracket(error: float) -> Surface:
    """A thin angle with screw holes and bosses: 4 holes, 1 window, 2 bores through bosses make 7 handles."""
    foot, wall = box((-0.8, -0.5, 0), (0.8, 0.5, 0.08)), box((-0.78, 0.41, 0.04), (0.78, 0.49, 0.7))
    bosses = [cylinder((x, -0.05, 0.04), (x, -0.05, 0.3), 0.14, error) for x in (-0.3, 0.3)]
    body = union(foot, wall, together(*bosses))
    bores = [cylinder((x, -0.05, -0.1), (x, -0.05, 0.4), 0.07, error) for x in (-0.3, 0.3)]
    corners = [(x, y) for x in (-0.68, 0.68) for y in (-0.38, 0.25)]
    screws = [cylinder((x, y, -0.1), (x, y, 0.2), 0.06, error) for x, y in corners]
    window = cylinder((0, 0.3, 0.45), (0, 0.6, 0.45), 0.15, error)
    return without(body, *bores, *screws, window)


@_shape("thin flange", CHECKING, -16)
def pipe_flange(error: float) -> Surface:
    """A neck on a thin disc: the bore and 8 screw holes make 9 handles."""
    profile = np.array([[0.3, 0], [0.9, 0], [0.9, 0.09], [0.42, 0.09], [0.37, 0.6], [0.3, 0.6]])
    places = [(0.66 * math.cos(a), 0.66 * math.sin(a)) for a in np.arange(8) * math.pi / 4]
    return without(revolved(profile, error), *(cylinder((x, y, -1), (x, y, 1), 0.07, error) for x, y in places))


@_shape("plate", DEVELOPMENT, 2)
def plate(error: float) -> Surface:
    """A plate a tenth as thick as its radius."""
    return box((-0.8, -0.6, -0.05), (0.8, 0.6, 0.05))


@_shape("plate", CHECKING, 0)
def washer(error: float) -> Surface:
    """A flat ring, 0.03 of its radius thick: 1 handle."""
    return revolved(np.array([[0.45, -0.015], [1, -0.015], [1, 0.015], [0.45, 0.015]]), error)


@_shape("plate", DEVELOPMENT, 2)
def bent_metal(error: float) -> Surface:
    """A strip of metal, 0.04 thick, bent twice."""
    bends = [arc((-0.4, 0.1), 0.1, 180, 270, error / 1.2), arc((0.4, -0.1), 0.1, 90, 0, error / 1.2)]
    line = np.concatenate([[[-0.5, 0.6]], bends[0], bends[1], [[0.5, -0.6]]])
    width = np.linspace(-0.35, 0.35, 2)
    middle = np.stack(np.broadcast_arrays(line[:, None, 0], width[None, :], line[:, None, 1]), axis=-1)
    return sheet(np.asarray(middle, dtype=np.float64), 0.04)


@_shape("fins", DEVELOPMENT, 2)
def heat_sink(error: float) -> Surface:
    """Nine fins, 0.04 thick and 0.1 apart, on a base."""
    fins = [box((x - 0.02, -0.5, 0.05), (x + 0.02, 0.5, 0.6)) for x in np.linspace(-0.56, 0.56, 9)]
    return union(box((-0.6, -0.5, 0), (0.6, 0.5, 0.1)), together(*fins))


@_shape("fins", CHECKING, 0)
def cooled_cylinder(error: float) -> Surface:
    """A pipe with seven round fins: 1 handle."""
    profile = [(0.3, -0.7)]
    for z in np.linspace(-0.54, 0.54, 7):
        profile += [(0.4, z - 0.025), (0.75, z - 0.015), (0.75, z + 0.015), (0.4, z + 0.025)]
    ends = [(0.4, -0.7), (0.4, 0.7), (0.3, 0.7)]
    return revolved(np.array([profile[0], ends[0], *profile[1:], *ends[1:]]), error)


def _blade(inner: float, outer: float, twist: float, chord: float, thickness: float, error: float) -> Surface:
    """A twisted blade along x, from one radius to another."""
    step = math.sqrt(4 * error * (outer - inner) / twist)  # a twisted square is a quarter of its twist from flat
    x = np.linspace(inner, outer, math.ceil((outer - inner) / step) + 1)
    across = np.linspace(-chord / 2, chord / 2, math.ceil(chord / step) + 1)
    angle = twist * (x - inner) / (outer - inner) + 0.4
    y, z = np.outer(np.cos(angle), across), np.outer(np.sin(angle), across)
    return sheet(np.stack([np.broadcast_to(x[:, None], y.shape), y, z], axis=-1), thickness)


@_shape("blades", DEVELOPMENT, 2)
def turbine(error: float) -> Surface:
    """Nine twisted blades, 0.03 thick, on a hub."""
    blade = _blade(0.2, 1.0, 0.9, 0.28, 0.03, error)
    blades = [moved(blade, turned(40 * k, "z"), (0, 0, 0)) for k in range(9)]
    return union(cylinder((0, 0, -0.2), (0, 0, 0.2), 0.3, error), together(*blades))


@_shape("blades", CHECKING, -8)
def fan(error: float) -> Surface:
    """Five blades between a hub and a ring: the ring and 5 spokes, 4 of them beyond the first, make 5 handles."""
    ring = revolved(np.array([[0.9, -0.15], [0.96, -0.15], [0.96, 0.15], [0.9, 0.15]]), error)
    blade = _blade(0.1, 0.93, 0.5, 0.22, 0.035, error)
    blades = [moved(blade, turned(72 * k, "z"), (0, 0, 0)) for k in range(5)]
    return union(together(ball(0.28, error), ring), together(*blades))


@_shape("holes", DEVELOPMENT, -106)
def perforated_sheet(error: float) -> Surface:
    """A sheet, 0.04 thick, with 9 × 6 holes: 54 handles."""
    places = [(x, y) for x in np.linspace(-0.72, 0.72, 9) for y in np.linspace(-0.45, 0.45, 6)]
    return without(
        box((-0.85, -0.58, -0.02), (0.85, 0.58, 0.02)),
        *(cylinder((x, y, -0.1), (x, y, 0.1), 0.055, error) for x, y in places),
    )


@_shape("holes", CHECKING, -46)
def strainer(error: float) -> Surface:
    """A disc, 0.05 thick, with 24 round holes in two rings: 24 handles."""
    rings = [(0.35, 8, 0.09), (0.7, 16, 0.07)]
    holes = [
        cylinder((r * math.cos(a), r * math.sin(a), -1), (r * math.cos(a), r * math.sin(a), 1), hole, error)
        for r, count, hole in rings
        for a in 2 * math.pi * np.arange(count) / count
    ]
    return without(cylinder((0, 0, -0.025), (0, 0, 0.025), 0.95, error), *holes)


@_shape("deep bores", DEVELOPMENT, 2)
def blind_bores(error: float) -> Surface:
    """A block with five blind bores, 0.8 deep and 0.1 to 0.2 wide."""
    wide = [(-0.45, -0.25, 0.1), (0, -0.25, 0.08), (0.45, -0.25, 0.06), (-0.3, 0.22, 0.05), (0.3, 0.22, 0.09)]
    bores = [cylinder((x, y, -0.3), (x, y, 0.8), r, error) for x, y, r in wide]
    return without(box((-0.65, -0.45, -0.6), (0.65, 0.45, 0.5)), *bores)


@_shape("deep bores", CHECKING, 0)
def nozzle(error: float) -> Surface:
    """A cylinder with a deep blind bore, into which a cross bore leads from one side: 1 handle."""
    body = cylinder((0, 0, -0.9), (0, 0, 0.7), 0.4, error)
    bored = without(body, cylinder((0, 0, -0.7), (0, 0, 1), 0.16, error))
    return without(bored, cylinder((0, 0, -0.3), (1, 0, -0.3), 0.08, error))


@_shape("creases", DEVELOPMENT, -12)
def gear(error: float) -> Surface:
    """Twenty teeth, a bore and six windows in the web: 7 handles."""
    web = [cylinder((0.5 * c, 0.5 * s, -1), (0.5 * c, 0.5 * s, 1), 0.14, error) for c, s in _around(6)]
    return without(prism(_teeth(20), -0.12, 0.12), cylinder((0, 0, -1), (0, 0, 1), 0.18, error), *web)


@_shape("creases", CHECKING, 0)
def helical_gear(error: float) -> Surface:
    """Sixteen slanted teeth and a bore: 1 handle."""
    layers = math.ceil(0.5 / math.sqrt(2 * error))
    outline = _divided(_teeth(16), 4 * error / (0.5 / layers))  # a twisted square is a quarter of its twist from flat
    return without(prism(outline, -0.25, 0.25, 0.5, layers), cylinder((0, 0, -1), (0, 0, 1), 0.3, error))


def _around(count: int) -> list[tuple[float, float]]:
    """Cosine and sine of evenly spaced angles."""
    return [(math.cos(a), math.sin(a)) for a in 2 * math.pi * np.arange(count) / count]


def _teeth(count: int, foot: float = 0.8, tip: float = 0.95) -> Array:
    """The outline (4 count, 2) of a gear with straight flanks."""
    step = 2 * math.pi / count
    angle = (np.arange(count)[:, None] * step + step * np.array([-0.28, -0.15, 0.15, 0.28])).ravel()
    radius = np.tile([foot, tip, tip, foot], count)
    outline: Array = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return outline


def _divided(outline: Array, longest: float) -> Array:
    """The closed outline (n, 2) with points added to its sides, until none is longer than that."""
    sides = np.roll(outline, -1, axis=0) - outline
    counts = np.ceil(np.linalg.norm(sides, axis=1) / longest).astype(int)
    parts = [
        start + side * (np.arange(count) / count)[:, None]
        for start, side, count in zip(outline, sides, counts, strict=True)
    ]
    return np.concatenate(parts)


@_shape("creases", DEVELOPMENT, 0)
def step_block(error: float) -> Surface:
    """Flat faces that meet at many angles, a round and a cross bore: 1 handle."""
    body = box((-0.7, -0.45, -0.4), (0.7, 0.45, 0.4))
    ramp = moved(box((0, -1, -1), (2, 1, 1)), turned(-50, "y"), (0.35, 0, 0.35))
    step = box((-1, -1, 0.05), (-0.35, 1, 1))
    notch = moved(box((-0.12, -0.12, -1), (0.12, 0.12, 1)), turned(45, "z"), (0.05, -0.45, 0))
    body = without(body, step, notch)
    body = without(body, ramp)
    return without(body, cylinder((-0.5, -1, -0.15), (-0.5, 1, -0.15), 0.12, error))


@_shape("creases", CHECKING, 0)
def hex_nut(error: float) -> Surface:
    """A hexagon with a bore and chamfers: 1 handle."""
    chamfer = revolved(np.array([[0, -1], [0.6, -0.55], [4 / 3, 0], [0.6, 0.55], [0, 1]]), error)
    hexagon = prism(np.array(_around(6)), -0.4, 0.4)
    return without(common(hexagon, chamfer), cylinder((0, 0, -1), (0, 0, 1), 0.5, error))


@_shape("creases", DEVELOPMENT, 2)
def stella(error: float) -> Surface:
    """Two crossed tetrahedra: eight sharp points."""
    corners = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]], dtype=np.float64)
    cells = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    first = Surface(corners, cells)
    return union(first, inside_out(replace(first, vertices=-corners)))


@_shape("pipes", DEVELOPMENT, -2)
def pipe_tee(error: float) -> Surface:
    """Three pipes that meet, open at their ends: 2 handles."""
    body = union(cylinder((-0.9, 0, 0), (0.9, 0, 0), 0.3, error), cylinder((0, 0, 0), (0, 0, 0.9), 0.26, error))
    bore = union(cylinder((-1, 0, 0), (1, 0, 0), 0.24, error), cylinder((0, 0, 0), (0, 0, 1), 0.2, error))
    return without(body, bore)


@_shape("pipes", CHECKING, 0)
def bent_pipe(error: float) -> Surface:
    """A pipe bent by 180 degrees with a wall of 0.05, open at both ends: 1 handle."""
    count = math.ceil(math.pi / math.acos(1 - error / 0.85))
    angle = np.linspace(0, math.pi, count)
    legs = np.linspace(-0.6, -0.05, 3)
    path = np.concatenate(
        [
            np.stack([np.full(3, 0.6), np.zeros(3), legs], axis=1),
            np.stack([0.6 * np.cos(angle), 0 * angle, 0.6 * np.sin(angle)], axis=1),
            np.stack([np.full(3, -0.6), np.zeros(3), legs[::-1]], axis=1),
        ]
    )
    body = without(tube(path, 0.25, error), box((-1, -1, -1.2), (1, 1, -0.6)))
    return without(body, tube(path, 0.2, error))


# Vessels and shells


def _vessel(radius: Callable[[Array], Array], height: float, wall: float, floor: float, error: float) -> Array:
    """The profile of an open vessel about z: its outside, a round rim, its inside down to a flat floor."""
    z = np.linspace(0, height, math.ceil(height / math.sqrt(8 * error / 6)) + 1)
    slope = (radius(z + 1e-6) - radius(z - 1e-6)) / 2e-6
    across = np.column_stack([np.ones_like(z), -slope]) / np.hypot(1, slope)[:, None]
    outer = np.column_stack([radius(z), z])
    inner = outer - wall * across
    angle = math.degrees(math.atan2(across[-1, 1], across[-1, 0]))
    rim = arc((outer[-1] + inner[-1]) / 2, wall / 2, angle, angle + 180, error)[1:-1]
    corner = [np.interp(floor, inner[:, 1], inner[:, 0]), floor]
    return np.concatenate([[[0, 0]], outer, rim, inner[inner[:, 1] > floor][::-1], [corner, [0, floor]]])


@_shape("vessels", DEVELOPMENT, 2)
def vase(error: float) -> Surface:
    """An open vessel with a narrow neck and a wall of 0.05."""
    profile = _vessel(lambda z: 0.36 + 0.2 * np.sin(4.2 * z - 0.6), 1.6, 0.05, 0.06, error / 2)
    return revolved(profile, error / 2)


@_shape("vessels", CHECKING, 0)
def mug(error: float) -> Surface:
    """An open vessel with a handle: 1 handle."""
    body = revolved(_vessel(lambda z: 0.5 + 0 * z, 1.2, 0.05, 0.06, error / 2), error / 2)
    angle = np.radians(np.linspace(-100, 100, segments(0.4, error / 2)))
    path = np.stack([0.5 + 0.33 * np.cos(angle), 0 * angle, 0.62 + 0.33 * np.sin(angle)], axis=1)
    hollow = cylinder((0, 0, 0.06), (0, 0, 2), 0.475, error)
    return union(body, without(tube(path, 0.055, error), hollow))


@_shape("vessels", DEVELOPMENT, 2)
def bowl(error: float) -> Surface:
    """Half of a hollow ball, 0.03 thick, with a round rim."""
    outer, inner = arc((0, 0), 1.0, -90, 0, error / 2), arc((0, 0), 0.97, 0, -90, error / 2)
    rim = arc((0.985, 0), 0.015, 0, 180, error / 2)[1:-1]
    profile = np.concatenate([outer, rim, inner])
    profile[[0, -1], 0] = 0
    return revolved(profile, error / 2)


@_shape("nested", DEVELOPMENT, 6, 3)
def ball_in_ball(error: float) -> Surface:
    """A ball in a hollow ball: 3 spheres."""
    return together(ball(1.0, error), inside_out(ball(0.8, error)), ball(0.45, error, (0.05, 0.1, 0)))


@_shape("nested", CHECKING, 6, 3)
def box_in_box(error: float) -> Surface:
    """A box in a hollow box: 3 spheres, topologically."""
    outer, hollow = box((-0.7, -0.6, -0.5), (0.7, 0.6, 0.5)), box((-0.6, -0.5, -0.4), (0.6, 0.5, 0.4))
    return together(outer, inside_out(hollow), box((-0.35, -0.3, -0.2), (0.4, 0.2, 0.25)))


@_shape("several objects", DEVELOPMENT, 6, 4)
def still_life(error: float) -> Surface:
    """A ball, a ring, a box and a rod, 0.05 apart and more: 3 spheres, topologically, and a torus."""
    rod = tube(np.array([[0.65, -0.5, -0.3], [0.65, 0, -0.3], [0.65, 0.5, -0.3]]), 0.12, error)
    ring = moved(_ring(0.3, 0.1, error), np.eye(3), (-0.45, -0.45, -0.32))
    return together(
        ball(0.35, error, (-0.4, 0.4, -0.07)), ring, box((0.0, -0.5, -0.42), (0.42, 0.3, 0.1)), rod
    )


@_shape("several objects", CHECKING, 16, 8)
def pebbles(error: float) -> Surface:
    """Eight ellipsoids, 0.1 apart: 8 spheres, topologically."""
    one = ball(0.42, error)
    corners = list(itertools.product((-0.47, 0.47), repeat=3))
    stretch = [np.diag([1, 0.8, 0.6]), np.diag([0.6, 1, 0.9])]
    return together(*(moved(one, stretch[k % 2], corner) for k, corner in enumerate(corners)))


# Sheets


@_shape("folds", DEVELOPMENT, 2)
def cloth(error: float) -> Surface:
    """A cloth, 0.025 thick, in folds that overhang."""
    u, v = _grid(2.2, 1.1, math.sqrt(8 * error / 48))
    depth = 0.16 + 0.1 * v
    middle = np.stack([0.6 * u - 0.035 * np.sin(20 * u), v, depth * np.sin(10 * u + 0.5 * np.sin(2 * v))], axis=-1)
    return sheet(middle, 0.025)


@_shape("folds", CHECKING, 2)
def scroll(error: float) -> Surface:
    """A sheet, 0.03 thick, rolled up in 2.2 turns, which are 0.12 apart."""
    count = math.ceil(2.2 * segments(0.7, error))
    turn = np.linspace(0, 2.2 * 2 * math.pi, count)
    radius = 0.3 + 0.15 * turn / (2 * math.pi)
    width = np.linspace(-0.6, 0.6, 9)
    line = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    middle = np.stack(
        [np.repeat(line[:, None, 0], 9, axis=1), np.repeat(line[:, None, 1], 9, axis=1), np.tile(width, (count, 1))],
        axis=-1,
    )
    return sheet(middle, 0.03)


def _grid(width: float, height: float, step: float) -> tuple[Array, Array]:
    """Two arrays (m, n): x and y of a grid about the origin."""
    x = np.linspace(-width / 2, width / 2, math.ceil(width / step) + 1)
    y = np.linspace(-height / 2, height / 2, math.ceil(height / step) + 1)
    u, v = np.meshgrid(x, y, indexing="ij")
    return u, v


# Wires and rings


def _ring(radius: float, tube_radius: float, error: float) -> Surface:
    """A torus about z."""
    return revolved(circle(tube_radius, error / 2, (radius, 0)), error / 2)


@_shape("torus", DEVELOPMENT, 0)
def torus(error: float) -> Surface:
    """A torus: 1 handle."""
    return _ring(0.7, 0.3, error)


@_shape("wires", DEVELOPMENT, 2)
def spring(error: float) -> Surface:
    """A wire of radius 0.06 in four turns, open at both ends."""
    turn = np.linspace(0, 8 * math.pi, 4 * segments(0.6, error / 2))
    path = np.stack([0.5 * np.cos(turn), 0.5 * np.sin(turn), 0.05 * turn - 0.2 * math.pi], axis=1)
    return tube(path, 0.06, error)


@_shape("wires", CHECKING, 0)
def knot(error: float) -> Surface:
    """A trefoil knot: 1 handle."""
    t = 2 * np.pi * np.arange(count := 3 * segments(0.6, error / 2)) / count
    path = np.stack([np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], axis=1)
    return tube(0.3 * path, 0.11, error, closed=True)


@_shape("links", DEVELOPMENT, 0, 4)
def chain(error: float) -> Surface:
    """Four links of a chain, each a torus."""
    half = segments(0.26, error / 2) // 2
    angle = np.linspace(-math.pi / 2, math.pi / 2, half)
    end = np.stack([0.15 + 0.2 * np.cos(angle), 0.2 * np.sin(angle), 0 * angle], axis=1)
    link = tube(np.concatenate([end, end * [-1, -1, 1]]), 0.06, error, closed=True)
    return together(*(moved(link, turned(90 * (k % 2), "x"), (0.5 * k, 0, 0)) for k in range(4)))


@_shape("links", CHECKING, 0, 3)
def borromean_rings(error: float) -> Surface:
    """Three ellipses of which no two are linked, but all are: 3 tori."""
    t = 2 * np.pi * np.arange(count := 2 * segments(1.0, error / 2)) / count
    path = np.stack([np.cos(t), 0.55 * np.sin(t), 0 * t], axis=1)
    return together(*(tube(np.roll(path, k, axis=1), 0.08, error, closed=True) for k in range(3)))


# Networks: a connected graph of rods has edges - vertices + 1 handles


def _balls_and_rods(corners: Sequence[Array], length: float, radii: tuple[float, float], error: float) -> Surface:
    """A ball at every corner, and a rod between any two that are so far apart, which ends inside the balls.

    radii: of balls and rods. Rods do not touch each other outside of the balls.
    """
    rods = [
        cylinder(a + (b - a) * radii[1] / length, b - (b - a) * radii[1] / length, radii[1], error)
        for a, b in itertools.combinations(corners, 2)
        if abs(np.linalg.norm(a - b) - length) < 1e-9
    ]
    return union(together(*(ball(radii[0], error, corner) for corner in corners)), together(*rods))


@_shape("lattice", DEVELOPMENT, -54)
def lattice(error: float) -> Surface:
    """Rods between 3 × 3 × 3 balls: 54 edges, 27 vertices, 28 handles."""
    corners = [np.array(p, dtype=np.float64) for p in itertools.product((-0.55, 0.0, 0.55), repeat=3)]
    return _balls_and_rods(corners, 0.55, (0.12, 0.06), error)


@_shape("lattice", CHECKING, -20)
def dodecahedron_frame(error: float) -> Surface:
    """Rods along the edges of a dodecahedron: 30 edges, 20 vertices, 11 handles."""
    golden = (1 + math.sqrt(5)) / 2
    corners = [np.array(p, dtype=np.float64) for p in itertools.product((-1, 1), repeat=3)]
    for a, b in itertools.product((-1 / golden, 1 / golden), (-golden, golden)):
        corners += [np.array([0, a, b]), np.array([a, b, 0]), np.array([b, 0, a])]
    return _balls_and_rods([0.52 * corner for corner in corners], 0.52 * 2 / golden, (0.12, 0.07), error)


@_shape("lattice", DEVELOPMENT, -6)
def gyroid(error: float) -> Surface:
    """A wall along a gyroid within a ball. Its Euler characteristic is counted on several grids, not by hand."""

    def field(x: torch.Tensor) -> torch.Tensor:
        s, c = torch.sin(4.2 * x), torch.cos(4.2 * x)
        value = (s * c.roll(-1, dims=1)).sum(dim=1) / 5
        wall, outside = value.square() - 0.0064, x.square().sum(dim=1) - 0.9
        # both at a slope of about 1 where they are zero; the smooth maximum rounds the rim
        return 0.03 * torch.logsumexp(torch.stack([wall / 0.16, outside / 1.9], dim=1) / 0.03, dim=1)

    return level_set(field, [-1.05] * 3, [1.05] * 3, math.sqrt(8 / 3 * error * 0.06))


# Furniture and outdoors


@_shape("furniture", DEVELOPMENT, -6)
def stool(error: float) -> Surface:
    """A seat, four legs and four rungs: 8 joints between 5 parts, 4 handles."""
    seat = cylinder((0, 0, 0.5), (0, 0, 0.6), 0.5, error)
    feet = [(0.42 * x, 0.42 * y) for x, y in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    legs = together(*(cylinder((x, y, -0.6), (0.6 * x, 0.6 * y, 0.55), 0.045, error) for x, y in feet))
    body = union(seat, legs)
    for k in range(4):
        (a, b), (c, d), z = feet[k], feet[(k + 1) % 4], -0.25 + 0.12 * (k % 2)
        share = 1 - 0.4 * (z + 0.6) / 1.15
        body = union(body, cylinder((share * a, share * b, z), (share * c, share * d, z), 0.025, error))
    return body


@_shape("furniture", CHECKING, -8)
def fence(error: float) -> Surface:
    """Six posts and two rails: 12 joints between 8 parts, 5 handles."""
    posts = [box((x - 0.05, -0.04, -0.5), (x + 0.05, 0.04, 0.5)) for x in np.linspace(-0.8, 0.8, 6)]
    rails = [box((-0.9, -0.02, z - 0.05), (0.9, 0.02, z + 0.05)) for z in (-0.25, 0.25)]
    return union(together(*posts), together(*rails))


@_shape("outdoors", DEVELOPMENT, 2)
def lamp_post(error: float) -> Surface:
    """A thin post with a lamp on an arm over a slab of ground."""
    post = cylinder((0, 0, -0.5), (0, 0, 0.8), 0.025, error)
    arm = cylinder((0, 0, 0.75), (0.35, 0, 0.75), 0.02, error)
    ground = box((-0.7, -0.5, -0.58), (0.7, 0.5, -0.48))
    return union(together(ground, ball(0.1, error, (0.38, 0, 0.72))), post, arm)


@_shape("outdoors", CHECKING, 2)
def hills(error: float) -> Surface:
    """A block of ground with hills, a house and a pole on it."""
    u, v = _grid(1.6, 1.2, math.sqrt(8 * error / 4))
    ground = _height_field(u, v, 0.1 * np.sin(4 * u) * np.cos(5 * v) + 0.03 * np.cos(9 * u + 2 * v), -0.35)
    house = union(
        box((-0.15, -0.12, -0.2), (0.2, 0.12, 0.25)), cylinder((-0.15, 0, 0.25), (0.2, 0, 0.25), 0.1199, error)
    )
    return union(ground, house, cylinder((-0.5, 0.2, -0.2), (-0.5, 0.2, 0.7), 0.02, error))


def _height_field(u: Array, v: Array, height: Array, bottom: float) -> Surface:
    """The block below a height (m, n) over the grid u, v, down to a flat bottom."""
    top = np.stack([u, v, height], axis=-1)
    block = sheet(top, 0.0)
    vertices = block.vertices.copy()
    vertices[u.size :, 2] = bottom
    return replace(block, vertices=vertices)


# Bodies and reliefs


@_shape("ellipsoids", DEVELOPMENT, 2)
def ellipsoid(error: float) -> Surface:
    """Axes of 1, 0.6 and 0.35."""
    return moved(ball(1.0, error / 3), np.diag([1, 0.6, 0.35]), (0, 0, 0))


@_shape("ellipsoids", CHECKING, 2)
def lens(error: float) -> Surface:
    """A flat ellipsoid, 0.16 thick, with an edge of small radius."""
    return moved(ball(1.0, error / 3), np.diag([1, 0.8, 0.08]), (0, 0, 0))


def _limb(places: Sequence[Place], radii: Sequence[float], error: float) -> Surface:
    """A tube whose path and radius go smoothly through what is given at a few places."""
    knots = np.arange(len(places))
    spline = CubicSpline(knots, np.column_stack([np.asarray(places), radii]), bc_type="natural")
    bend = float(np.linalg.norm(spline(np.linspace(0, knots[-1], 200), 2), axis=1).max())
    along = spline(np.linspace(0, knots[-1], math.ceil(knots[-1] * math.sqrt(2 * bend / (8 * error))) + 2))
    return tube(along[:, :3], along[:, 3], error)


@_shape("animals", DEVELOPMENT, 2)
def lizard(error: float) -> Surface:
    """A body on four thin legs with three claws each, a thin tail and a snout."""
    spine = [(-1.2, -0.08, -0.12), (-0.8, 0.1, -0.06), (-0.4, 0, 0), (0, 0, 0.02), (0.35, 0, 0.02), (0.6, 0, 0.07),
             (0.78, 0, 0.12), (0.95, 0, 0.08)]  # fmt: skip
    body = _limb(spine, (0.02, 0.055, 0.13, 0.17, 0.15, 0.09, 0.11, 0.05), error)
    legs, claws = [], []
    for side, x in itertools.product((-1, 1), (-0.35, 0.33)):
        foot = np.array([x + 0.05, 0.46 * side, -0.24])
        leg: list[Place] = [(x, 0.08 * side, 0), (x - 0.05, 0.36 * side, 0.03), foot, foot + np.array([0.16, 0, -0.04])]
        legs.append(_limb(leg, (0.055, 0.05, 0.035, 0.012), error))
        for s in (-1, 1):
            claw = foot + np.array([[0, 0.024 * s, 0], [0.06, 0.08 * s, 0], [0.12, 0.12 * s, -0.04]])
            claws.append(_limb(list(claw), (0.02, 0.02, 0.01), error))
    return union(body, together(*legs), together(*claws))


@_shape("animals", CHECKING, 2)
def spider(error: float) -> Surface:
    """Two round bodies and eight thin legs."""
    body = union(ball(0.28, error, (-0.25, 0, 0.05)), ball(0.17, error, (0.16, 0, 0)))
    legs = []
    for side, k in itertools.product((-1, 1), range(4)):
        angle = math.radians(30 + 40 * k)
        c, s = math.cos(angle), side * math.sin(angle)
        leg = [(0.15 + r * c, r * s, z) for r, z in ((0.13, 0), (0.5, 0.3), (0.75, 0), (0.9, -0.3))]
        legs.append(_limb(leg, (0.035, 0.035, 0.03, 0.02), error))
    return union(body, together(*legs))


@_shape("fine detail", DEVELOPMENT, 2)
def relief(error: float) -> Surface:
    """A tablet with waves from 0.03 high and 0.4 long down to 0.002 high and 0.06 long."""
    u, v = _grid(1.5, 1.1, math.sqrt(8 * error / 32))
    height = 0.03 * np.sin(14 * u) * np.cos(10 * v)
    height += 0.008 * np.sin(38 * v + 5 * u) + 0.002 * np.sin(100 * u) * np.sin(90 * v)
    return _height_field(u, v, height, -0.2)


@_shape("fine detail", CHECKING, 2)
def pitted_ball(error: float) -> Surface:
    """A ball with 80 pits, 0.02 deep and 0.16 wide at half their depth."""
    places, width = spiral(80), 0.0672

    def radius(directions: Array) -> Array:
        nearest = np.full(len(directions), -1.0)
        for place in places:
            nearest = np.maximum(nearest, directions @ place)
        return 1 - 0.02 * np.exp(-(1 - nearest) / width**2)

    # divided d times, the edges are up to 1.33 / 2^d long, and 6 error / curvature is the square of what they may be
    edge = math.sqrt(6 * error / (1 + 0.02 / width**2))
    return star_shaped(radius, math.ceil(math.log2(1.33 / edge)))


@_shape("fine detail", DEVELOPMENT, 2)
def urchin(error: float) -> Surface:
    """A ball with 24 thin spikes."""
    spikes = [_limb([0.45 * p, 0.7 * p, 0.95 * p], (0.07, 0.05, 0.03), error) for p in spiral(24)]
    return union(ball(0.5, error), together(*spikes))


# Curves of the plane: the Euler characteristic of a closed curve is 0


def _curve(*lines: Array) -> Surface:
    """Closed curves (n, 2), counter-clockwise about the inside."""
    cells, start = [], 0
    for line in lines:
        index = start + np.arange(len(line))
        cells.append(np.stack([index, np.roll(index, -1)], axis=1))
        start += len(line)
    return Surface(np.concatenate(lines), np.concatenate(cells))


@_shape("curves", DEVELOPMENT, 0, 1, 2)
def star_2d(error: float) -> Surface:
    """A star of seven lobes."""
    t = 2 * np.pi * np.arange(count := math.ceil(2 * math.pi / math.sqrt(8 * error / 20))) / count
    r = 0.75 + 0.25 * np.cos(7 * t)
    return _curve(r[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1))


@_shape("curves", CHECKING, 0, 1, 2)
def gear_2d(error: float) -> Surface:
    """A gear of sharp corners."""
    return _curve(_teeth(12, 0.7))


@_shape("curves", DEVELOPMENT, 0, 3, 2)
def nested_2d(error: float) -> Surface:
    """A disc in a ring."""
    return _curve(circle(1.0, error), circle(0.8, error)[::-1], circle(0.4, error, (0.1, 0)))


@_shape("curves", CHECKING, 0, 1, 2)
def crescent_2d(error: float) -> Surface:
    """A crescent with two sharp points, up to 0.25 wide."""
    tip = math.degrees(math.atan2(0.6, 0.8))
    outer = arc((0, 0), 1.0, 180 - tip, 360 + tip, error)
    centre = 0.4375 / 2.7  # of the circle through both tips, (±0.8, 0.6), and (0, -0.75)
    tip = math.degrees(math.atan2(0.6 - centre, 0.8))
    inner = arc((0, centre), 0.75 + centre, 360 + tip, 180 - tip, error)
    return _curve(np.concatenate([outer, inner[1:-1]]))


@_shape("curves", DEVELOPMENT, 0, 2, 2)
def blades_2d(error: float) -> Surface:
    """Two thin blades, 0.05 thick and 0.05 apart."""
    blade = np.array([[-0.9, -0.025], [0.9, -0.025], [0.9, 0.025], [-0.9, 0.025]])
    return _curve(blade - np.array([0, 0.05]), blade + np.array([0.1, 0.05]))
