"""Closed surfaces to make shapes of: prisms, bodies of revolution, tubes, sheets, level sets, and Boolean operations.

Every function gives a closed surface whose normals point outward. ``error`` is the farthest that its triangles may be
from the curved surface that they stand for, in the unit of the coordinates.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import igl.copyleft.cgal
import numpy as np
import numpy.typing as npt
import torch
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from phase_recon.model.base import value_and_gradient
from phase_recon.surface.extract import extract_surface
from phase_recon.surface.surface import Surface

Array = npt.NDArray[np.float64]
Place = Sequence[float] | Array
WELDED = 1e-9
GENERIC = 0.37  # degrees: cylinders are turned about their axes, so that edges of two do not meet, which leaves slivers
CHUNK = 2**16  # points at which a field and its gradient are taken at once
NEWTON_STEPS = 3  # from a vertex of marching cubes onto the level set; the error is squared in each


def segments(radius: float, error: float) -> int:
    """How many chords a circle needs so that none is farther from it than the error (derived).

    A multiple of four, so that the bounding box is the circle's.
    """
    return max(12, 4 * math.ceil(math.pi / math.acos(1 - min(error / radius, 0.5)) / 4))


def circle(radius: float, error: float, centre: Place = (0.0, 0.0)) -> Array:
    """Points (n, 2) on a circle, counter-clockwise."""
    angle = 2 * np.pi * np.arange(count := segments(radius, error)) / count
    points: Array = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) + np.asarray(centre)
    return points


def arc(centre: Place, radius: float, start: float, end: float, error: float) -> Array:
    """Points (n, 2) on an arc from one angle to another, in degrees, ends included."""
    count = max(3, math.ceil(segments(radius, error) * abs(end - start) / 360) + 1)
    angle = np.radians(np.linspace(start, end, count))
    points: Array = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) + np.asarray(centre)
    return points


def spiral(count: int) -> Array:
    """Evenly spread unit vectors (count, 3): a Fibonacci lattice."""
    height = 1 - (2 * np.arange(count) + 1) / count
    turn = math.pi * (1 + math.sqrt(5)) * np.arange(count)
    around = np.sqrt(1 - height**2)
    return np.stack([around * np.cos(turn), around * np.sin(turn), height], axis=1)


def prism(outline: Array, low: float, high: float, twist: float = 0.0, layers: int = 1) -> Surface:
    """The outline (n, 2), counter-clockwise and star-shaped about the origin, swept from z = low to high.

    ``twist`` (radians) turns it about z on the way, in that many layers.
    """
    count = len(outline)
    rings = []
    for share in np.linspace(0, 1, layers + 1):
        cos, sin = math.cos(twist * share), math.sin(twist * share)
        turned = outline @ np.array([[cos, sin], [-sin, cos]])
        rings.append(np.column_stack([turned, np.full(count, low + share * (high - low))]))
    vertices = np.concatenate([*rings, [[0, 0, low], [0, 0, high]]])
    bottom, top = (layers + 1) * count, (layers + 1) * count + 1
    this, following = np.arange(count), np.roll(np.arange(count), -1)
    last = layers * count
    return Surface(
        vertices,
        np.concatenate(
            [
                _bands(layers + 1, count),
                np.stack([np.full(count, bottom), following, this], axis=1),
                np.stack([np.full(count, top), last + this, last + following], axis=1),
            ]
        ),
    )


def box(low: Place, high: Place) -> Surface:
    """A box from its lowest to its highest corner."""
    mesh = trimesh.creation.box(bounds=np.array([low, high], dtype=np.float64))
    return Surface(np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int64))


def cylinder(start: Place, end: Place, radius: float, error: float) -> Surface:
    """A straight cylinder between the middles of its two flat ends."""
    axis = np.asarray(end, dtype=np.float64) - np.asarray(start)
    length = float(np.linalg.norm(axis))
    axis /= length
    generic = turned(GENERIC * float(1 + axis @ [1, 2, 3]), "z")
    return moved(prism(circle(radius, error), 0, length), np.column_stack([*_across(axis), axis]) @ generic, start)


def ball(radius: float, error: float, centre: Place = (0.0, 0.0, 0.0)) -> Surface:
    """A ball with meridians and parallels."""
    half = arc((0, 0), radius, -90, 90, error / 2)
    half[[0, -1], 0] = 0
    return moved(revolved(half, error / 2), np.eye(3), centre)


def star_shaped(radius: Callable[[Array], Array], divisions: int) -> Surface:
    """The surface at distance radius(directions (N, 3)) (N,) from the origin, on an icosahedron divided so often."""
    sphere = trimesh.creation.icosphere(divisions)
    directions = np.asarray(sphere.vertices, dtype=np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Surface(radius(directions)[:, None] * directions, np.asarray(sphere.faces, dtype=np.int64))


def revolved(profile: Array, error: float) -> Surface:
    """The profile (n, 2) of (distance from z, z), turned about z; the error is that of the circles alone.

    It either begins and ends on the axis, the inside to its left, or is a closed curve off the axis, counter-clockwise
    and without a repeated point.
    """
    closed = profile[0, 0] > 0
    count = segments(float(profile[:, 0].max()), error)
    angle = 2 * np.pi * np.arange(count) / count
    body = profile if closed else profile[1:-1]
    x, y = np.outer(body[:, 0], np.cos(angle)), np.outer(body[:, 0], np.sin(angle))
    rings = np.stack([x, y, np.repeat(body[:, 1:], count, axis=1)], axis=-1)
    vertices, cells = rings.reshape(-1, 3), _bands(len(body), count, closed)
    if closed:
        return Surface(vertices, cells)
    return _capped(vertices, cells, count, [0, 0, profile[0, 1]], [0, 0, profile[-1, 1]])


def tube(path: Array, radius: float | Array, error: float, closed: bool = False) -> Surface:
    """A round tube about a path (n, 3); an open one ends in half-balls.

    Args:
        path: points of the axis, dense enough for half of the error; a closed one does not repeat its first point.
        radius: of the tube, for all or (n,) for each point.
        error: half of it is for the circles, the other half for the path.
        closed: whether the last point is followed by the first.
    """
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(path))
    count = segments(float(radii.max()), error / 2)
    tangents = (np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)) if closed else np.gradient(path, axis=0)
    tangents = tangents / np.linalg.norm(tangents, axis=1, keepdims=True)
    first, _ = _across(tangents[0])
    frames = [first]
    for tangent in tangents[1:]:  # the last direction, turned no more than it must be
        across = frames[-1] - (frames[-1] @ tangent) * tangent
        frames.append(across / np.linalg.norm(across))
    one = np.array(frames)
    if closed:  # what the frame has turned by after a round is taken back evenly
        back = one[-1] - (one[-1] @ tangents[0]) * tangents[0]
        turn = math.atan2(float(np.cross(one[0], back) @ tangents[0]), float(one[0] @ back))
        angle = -turn * np.arange(len(path))[:, None] / len(path)
        one = np.cos(angle) * one + np.sin(angle) * np.cross(tangents, one)
    other = np.cross(tangents, one)
    if not closed:
        rounds = np.radians(np.linspace(0, 90, max(3, count // 4 + 1)))[1:-1]
        start, end = rounds[::-1], rounds
        centres = [path[0] - radii[0] * np.sin(a) * tangents[0] for a in start] + [*path]
        centres += [path[-1] + radii[-1] * np.sin(a) * tangents[-1] for a in end]
        widths = np.concatenate([radii[0] * np.cos(start), radii, radii[-1] * np.cos(end)])
        path, extra = np.array(centres), len(rounds)
        poles = centres[extra] - radii[0] * tangents[0], centres[-extra - 1] + radii[-1] * tangents[-1]
        one, other = (np.concatenate([[v[0]] * extra, v, [v[-1]] * extra]) for v in (one, other))
        radii = widths
    angle = 2 * np.pi * np.arange(count) / count
    round_ = np.cos(angle)[None, :, None] * one[:, None] + np.sin(angle)[None, :, None] * other[:, None]
    vertices = (path[:, None] + radii[:, None, None] * round_).reshape(-1, 3)
    cells = _bands(len(path), count, closed)
    return Surface(vertices, cells) if closed else _capped(vertices, cells, count, *poles)


def sheet(middle: Array, thickness: float) -> Surface:
    """A sheet of constant thickness about the grid of points (m, n, 3) in its middle, with flat rims."""
    rows, columns = middle.shape[:2]
    normals = np.cross(np.gradient(middle, axis=0), np.gradient(middle, axis=1))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    upper, lower = middle + 0.5 * thickness * normals, middle - 0.5 * thickness * normals
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    top = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    around = np.concatenate([index[:-1, 0], index[-1, :-1], index[:0:-1, -1], index[0, :0:-1]])
    following, below = np.roll(around, -1), rows * columns
    rim = [[following, around, below + around], [following, below + around, below + following]]
    cells = np.concatenate([top, below + top[:, ::-1], *(np.stack(part, axis=1) for part in rim)])
    return Surface(np.concatenate([upper.reshape(-1, 3), lower.reshape(-1, 3)]), cells)


def level_set(
    field: Callable[[torch.Tensor], torch.Tensor], low: Place, high: Place, cell: float
) -> Surface:
    """Where a smooth field (N, 3) -> (N,), negative inside, is zero: marching cubes, and its vertices moved onto it.

    A triangle in a cube of side ``cell`` is less than 3 cell² / 8 radius from a surface with that least radius of
    curvature (derived: its corners are on a circle of at most half the cube's diagonal).
    """
    lower, upper = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    surface = extract_surface(field, lower, upper, math.ceil(float((upper - lower).max()) / cell))
    moved_chunks = []
    for points in torch.split(torch.from_numpy(surface.vertices), CHUNK):
        for _ in range(NEWTON_STEPS):
            value, gradient = value_and_gradient(field, points)
            points = (points - (value / (gradient**2).sum(dim=1))[:, None] * gradient).detach()
        moved_chunks.append(points.numpy())
    return replace(surface, vertices=np.concatenate(moved_chunks))


def together(*parts: Surface) -> Surface:
    """Surfaces that do not touch, as one."""
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    cells = [part.cells + start for part, start in zip(parts, starts[:-1], strict=True)]
    return Surface(np.concatenate([part.vertices for part in parts]), np.concatenate(cells))


def inside_out(surface: Surface) -> Surface:
    """The same surface as the wall of a hollow."""
    return replace(surface, cells=surface.cells[:, ::-1])


def moved(surface: Surface, turn: Array, by: Place) -> Surface:
    """The vertices x of a surface at turn (3, 3) x + by (3,)."""
    return replace(surface, vertices=surface.vertices @ turn.T + np.asarray(by))


def turned(degrees: float, axis: Literal["x", "y", "z"]) -> Array:
    """The rotation (3, 3) about an axis."""
    a = math.radians(degrees)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = np.eye(3)
    rotation[[i, j], [i, j]] = math.cos(a)
    rotation[i, j], rotation[j, i] = -math.sin(a), math.sin(a)
    return rotation


def union(*parts: Surface) -> Surface:
    """Everything that is in any of the parts, one after the other (CGAL's exact Boolean operations).

    Parts that do not touch each other are best given ``together``, as one.
    """
    result = parts[0]
    for part in parts[1:]:
        result = _boolean(result, part, "union")
    return result


def without(body: Surface, *parts: Surface) -> Surface:
    """What is in the body and in none of the parts, which do not touch each other."""
    return _boolean(body, together(*parts), "minus")


def common(first: Surface, second: Surface) -> Surface:
    """What is in both."""
    return _boolean(first, second, "intersect")


def _boolean(first: Surface, second: Surface, operation: str) -> Surface:
    vertices, cells, _ = igl.copyleft.cgal.mesh_boolean(
        first.vertices, first.cells, second.vertices, second.cells, operation
    )
    cells = np.asarray(cells, dtype=np.int64)
    # which triangle comes first is left to chance: each now begins with its lowest vertex, and they are sorted
    cells = cells[np.arange(len(cells))[:, None], (cells.argmin(axis=1)[:, None] + np.arange(3)) % 3]
    return _welded(Surface(np.asarray(vertices, dtype=np.float64), cells[np.lexsort(cells.T[::-1])]))


def _welded(surface: Surface) -> Surface:
    """Without edges shorter than WELDED, which the operations leave where flat faces are not flat to the last bit."""
    pairs = cKDTree(surface.vertices).query_pairs(WELDED, output_type="ndarray")
    count = len(surface.vertices)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    joined = connected_components(graph, directed=False)[1]
    _, first = np.unique(joined, return_index=True)
    cells = joined[surface.cells].astype(np.int64)
    kept = (cells != np.roll(cells, 1, axis=1)).all(axis=1)
    return Surface(surface.vertices[first], cells[kept])


def _bands(rings: int, count: int, closed: bool = False) -> npt.NDArray[np.int64]:
    """Triangles between rings of so many vertices each, which turn counter-clockwise about the way along them."""
    this, following = np.arange(count), np.roll(np.arange(count), -1)
    bands = []
    for k in range(rings if closed else rings - 1):
        low, high = k * count, (k + 1) % rings * count
        bands.append(np.stack([low + this, low + following, high + following], axis=1))
        bands.append(np.stack([low + this, high + following, high + this], axis=1))
    return np.concatenate(bands)


def _capped(
    vertices: Array,
    cells: npt.NDArray[np.int64],
    count: int,
    first: Place,
    last: Place,
) -> Surface:
    """Rings of ``count`` vertices closed by a vertex at either end."""
    pole, top = len(vertices), len(vertices) - count
    this, following = np.arange(count), np.roll(np.arange(count), -1)
    start = np.stack([np.full(count, pole), following, this], axis=1)
    end = np.stack([np.full(count, pole + 1), top + this, top + following], axis=1)
    return Surface(np.concatenate([vertices, [first, last]]), np.concatenate([cells, start, end]))


def _across(axis: Array) -> tuple[Array, Array]:
    """Two unit vectors that make a right-handed frame with a unit axis (3,)."""
    other = np.eye(3)[np.abs(axis).argmin()]
    first = np.cross(other, axis)
    first /= np.linalg.norm(first)
    return first, np.cross(axis, first)
