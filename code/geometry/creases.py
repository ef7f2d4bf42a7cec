"""Points of the creases and corners of a noisy cloud, where smooth faces of its surface meet (derived).

Points seldom fall on a crease, and a surface through those about it cuts the corner. But the neighbours of a point near
a crease lie on two planes, or three at a corner, as their normals tell them apart, and the crease is where these meet
(the idea of feature-sensitive contouring, Kobbelt et al. 2001, and edge-aware resampling, Huang et al. 2013). Two
planes fit the neighbours on a round body too, here and there, so a crease is believed only where most of the points
about it, whose neighbours' normals turn, see one.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import TINY, closeness
from phase_recon.utils.arrays import unit
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CreaseSettings:
    """When faces meet in a crease. Measured on boxes, CAD parts and round bodies with noise.

    Attributes:
        neighbours: points of a neighbourhood that shows the faces.
        spacing_others: the distance to so many other points is the unit of the distances below.
        least_turn: cosine of the least angle between two faces, 35°.
        normals_weight: weight of the neighbours' normals beside their positions in fitting a plane.
        normals_off: of 2 - 2 cosine: a normal so far off counts as much as one standard deviation of the noise.
        normals_rounds: rounds in which faces are found by normals alone.
        least_on_edge: least neighbours on each of two faces.
        least_at_corner: least neighbours on each of three faces.
        likely: largest deviation of the neighbours off their planes, × the noise.
        beyond: largest share of a face's points on the wrong side of another face.
        beyond_least: points that a face must have off another one.
        line_width: × spacing: distance off a line within which other places hold a place on a crease.
        line_alike: least cosine between the directions of two places on one crease.
        line_holding: other places that must hold one.
        line_nearest: nearest places that are asked.
        corner_width: × spacing: distance within which other places hold a corner.
        corner_holding: other places that must hold a corner.
        about: × spacing: radius about a place in which the points are asked.
        seen_by: least share of the points there, of those whose normals turn, that see a crease.
    """

    neighbours: int = 48
    spacing_others: int = 16
    least_turn: float = 0.82
    normals_weight: float = 0.1
    normals_off: float = 0.1
    normals_rounds: int = 4
    least_on_edge: int = 5
    least_at_corner: int = 4
    likely: float = 1.15
    beyond: float = 0.15
    beyond_least: int = 2
    line_width: float = 0.12
    line_alike: float = 0.8
    line_holding: int = 4
    line_nearest: int = 64
    corner_width: float = 0.4
    corner_holding: int = 2
    about: float = 3.0
    seen_by: float = 0.35

    def least(self, faces: int) -> int:
        """The least neighbours on each of two or three faces."""
        return self.least_on_edge if faces == 2 else self.least_at_corner


def find_creases(
    projections: Array, points: Array, normals: Array, noise: float, settings: CreaseSettings | None = None
) -> Array:
    """Points (M, d) on the creases and corners of a cloud; none where it is round, or has fewer than 48 points.

    Args:
        projections: the points as they were projected onto their quadrics (N, d).
        points: the points before that (N, d).
        normals: unit normals of the quadrics (N, d), of any sign.
        noise: standard deviation of the points about the surface, above 0.
        settings: when faces meet in a crease.
    """
    s, d = settings or CreaseSettings(), projections.shape[1]
    if len(projections) < s.neighbours:
        return np.empty((0, d))
    distance, index = cKDTree(projections).query(projections, k=s.neighbours, workers=threads())
    spacing = float(np.median(distance[:, s.spacing_others]))
    turning = np.flatnonzero(np.abs(np.einsum("nkc,nc->nk", normals[index], normals)).min(axis=1) < s.least_turn)
    if not len(turning):
        return np.empty((0, d))
    index, distance = index[turning], distance[turning]
    near, directions = points[index] - projections[turning, None], normals[index]
    weight = closeness(distance)
    seen, places, seers = np.zeros(len(turning), dtype=bool), [], []
    for faces in range(2, d + 1):
        meets, step, along = _meeting(near, directions, weight, faces, noise, spacing, s)
        place = projections[turning[meets]] + step[meets]
        if faces < d:
            held = _held_on_a_line(place, along[meets], spacing, s)
        else:
            held, place = _held_at_a_corner(place, spacing, s)
        seers.append(np.flatnonzero(meets)[held])
        places.append(place[held])
        seen[seers[-1]] = True
    seers_at, here = projections[turning[np.concatenate(seers)]], projections[turning]
    seeing, all_turning = (
        cKDTree(some).query_ball_point(seers_at, s.about * spacing, workers=threads(), return_length=True)
        for some in (here[seen], here)
    )
    return np.asarray(np.concatenate(places)[seeing > s.seen_by * all_turning])


def _meeting(
    near: Array, normals: Array, weight: Array, faces: int, noise: float, spacing: float, s: CreaseSettings
) -> tuple[Mask, Array, Array]:
    """Where planes through the neighbours of some points meet.

    Args:
        near: the neighbours (N, K, d), seen from each point.
        normals: their unit normals (N, K, d), of any sign.
        weight: their weights (N, K).
        faces: how many planes, 2 or 3.
        noise: standard deviation of the points.
        spacing: of the cloud.
        s: when faces meet.

    Returns:
        Whether they do (N,); the nearest place where they do (N, d), seen from the point; and the direction of the
        crease (N, d), if they are two in space.
    """
    own, others = np.arange(faces), ~np.eye(faces, dtype=bool)
    # the faces by normals alone: the point's own, then the one that agrees the least with those before
    centres = normals[:, :1]
    for _ in range(faces - 1):
        closest = np.abs(np.einsum("nkc,nmc->nkm", normals, centres)).max(axis=2)
        farthest = np.take_along_axis(normals, closest.argmin(axis=1)[:, None, None], axis=1)
        centres = np.concatenate([centres, farthest], axis=1)
    for _ in range(s.normals_rounds):
        closest = np.abs(np.einsum("nkc,nmc->nkm", normals, centres)).argmax(axis=2)
        member = (closest[:, :, None] == own) * weight[:, :, None]
        centres = np.linalg.eigh(np.einsum("nkm,nkc,nkd->nmcd", member, normals, normals))[1][..., -1]
    # and by the planes through them
    for last in (False, True):
        planes, height = _planes(near, normals, member, s)
        off = np.einsum("nkc,nmc->nkm", near, planes) - height[:, None]
        if not last:
            turned = 2 - 2 * np.abs(np.einsum("nkc,nmc->nkm", normals, planes))
            closest = ((off / noise) ** 2 / 2 + turned / s.normals_off).argmin(axis=2)
            member = (closest[:, :, None] == own) * weight[:, :, None]
    gram = np.einsum("nac,nbc->nab", planes, planes)
    freedom = 1 - near.shape[2] * faces / near.shape[1]
    deviation = np.sqrt((member * off**2).sum(axis=(1, 2)) / (weight.sum(axis=1) * freedom))
    meets = ((member > 0).sum(axis=1).min(axis=1) >= s.least(faces)) & (deviation < s.likely * noise)
    meets &= np.abs(gram[:, others]).max(axis=1) < s.least_turn
    # the points of one plane stand on one side of another
    counted = (member > 0).astype(np.float64)
    sides = [np.einsum("nka,nkb->nab", sign * off > noise, counted)[:, others] for sign in (1, -1)]
    one_side = (np.minimum(*sides) <= s.beyond * np.maximum(*sides)) & (np.maximum(*sides) >= s.beyond_least)
    meets &= one_side.all(axis=1)
    # and reach to where they meet
    system = gram + 1e-9 * np.eye(faces)
    step = np.einsum("nac,na->nc", planes, np.linalg.solve(system, height[..., None])[..., 0])
    away = np.where(member > 0, np.linalg.norm(near - step[:, None], axis=2)[:, :, None], np.inf).min(axis=1)
    meets &= (np.linalg.norm(step, axis=1) < spacing) & (away.max(axis=1) < spacing)
    along = np.cross(planes[:, 0], planes[:, 1]) if planes.shape[2] == 3 else step
    return meets, step, unit(along)


def _planes(near: Array, normals: Array, member: Array, s: CreaseSettings) -> tuple[Array, Array]:
    """Unit normals (N, m, d) and distances from the origin (N, m) of planes through neighbours (N, K, d), weighted
    (N, K, m): least squares of the positions, with a little of those of the normals.
    """
    total = np.maximum(member.sum(axis=1), TINY)
    middle = np.einsum("nkm,nkc->nmc", member, near) / total[..., None]
    rest = near[:, :, None] - middle[:, None]
    spread = np.einsum("nkm,nkmc,nkmd->nmcd", member, rest, rest)
    size = np.maximum(np.trace(spread, axis1=2, axis2=3), TINY)
    turned = np.einsum("nkm,nkc,nkd->nmcd", member, normals, normals) / total[..., None, None]
    planes = np.linalg.eigh(spread / size[..., None, None] - s.normals_weight * turned)[1][..., 0]
    return planes, np.einsum("nmc,nmc->nm", planes, middle)


def _held_on_a_line(places: Array, along: Array, spacing: float, s: CreaseSettings) -> Mask:
    """Which places (N, d) on creases, along directions (N, d), are on a line with enough others."""
    if len(places) <= s.line_holding:
        return np.zeros(len(places), dtype=bool)
    count = min(s.line_nearest, len(places))
    distance, index = cKDTree(places).query(places, k=count, workers=threads())
    step = places[index] - places[:, None]
    ahead = np.einsum("nkc,nc->nk", step, along)
    other = (distance < spacing) & (index != np.arange(len(places))[:, None])
    alike = np.abs(np.einsum("nkc,nc->nk", along[index], along)) > s.line_alike
    lined = other & alike & (distance**2 - ahead**2 < (s.line_width * spacing) ** 2)
    return np.asarray((lined.sum(axis=1) >= s.line_holding) & (2 * lined.sum(axis=1) >= other.sum(axis=1)))


def _held_at_a_corner(places: Array, spacing: float, s: CreaseSettings) -> tuple[Mask, Array]:
    """Which corners (N, d) others agree with, and the mean of those that do (N, d)."""
    spots = cKDTree(places).query_ball_point(places, s.corner_width * spacing) if len(places) else []
    held = np.array([len(those) > s.corner_holding for those in spots], dtype=bool)
    return held, np.array([places[those].mean(axis=0) for those in spots]).reshape(places.shape)
