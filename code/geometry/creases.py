"""Where the smooth pieces of a noisy cloud's surface meet: points of its creases and corners (derived).

Points seldom fall on a crease, and a surface through those about it cuts the corner. But the neighbours of a point near
a crease lie on two planes, or three at a corner, as their normals tell them apart, and the crease is where these meet
(the idea of feature-sensitive contouring, Kobbelt et al. 2001, and edge-aware resampling, Huang et al. 2013). Two
planes fit the neighbours on a round body too, here and there, so a crease is believed only where most of the points
about it, whose neighbours' normals turn, see one.
"""

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from phase_recon.utils.general import unit

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NEIGHBOURS, REACH = 48, 16  # so many show the planes; a crease is no farther than the second of them
FALL = -2.0  # of the logarithm of a neighbour's weight, at the farthest
TURN = 0.82  # cosine of the least angle between two planes that meet, 35°
NORMALS = 0.1  # weight of the neighbours' normals beside their places, in fitting a plane
APART = 0.1  # of 2 - 2 cosine: as far off a plane by its normal as by one deviation of the noise
LEAST = {2: 5, 3: 4}  # neighbours on each of so many planes, at least
LIKELY = 1.15  # deviation of the neighbours off their planes, at most, in those of the noise
STRAY = 0.15  # of a plane's points off another one, the share on its other side, at most
LINE, ALIKE, HOLDING = 0.12, 0.8, 4  # distance off a line in reaches, and cosine to it, of so many that hold a crease
SPOT, AGREEING = 0.4, 2  # distance in reaches of so many others that hold a corner
ABOUT, MOST = 3.0, 0.35  # reaches about a place, and the share of the points there that must see a crease
NEAREST = 64  # of the crease points that may hold one


def creases(feet: Array, points: Array, normals: Array, noise: float) -> Array:
    """Points (M, d) on the creases and corners of a cloud; none where it is round, or has fewer than 48 points.

    Args:
        feet: the points as they were moved onto local quadrics (N, d).
        points: as they were before (N, d).
        normals: unit normals of the quadrics (N, d), either way round.
        noise: standard deviation of the points about the surface, above 0.
    """
    d = feet.shape[1]
    if len(feet) < NEIGHBOURS:
        return np.empty((0, d))
    distance, index = cKDTree(feet).query(feet, k=NEIGHBOURS, workers=-1)
    reach = float(np.median(distance[:, REACH]))
    turning = np.flatnonzero(np.abs(np.einsum("nkc,nc->nk", normals[index], normals)).min(axis=1) < TURN)
    if not len(turning):
        return np.empty((0, d))
    index, distance = index[turning], distance[turning]
    near, directions = points[index] - feet[turning, None], normals[index]
    weight = np.exp(FALL * (distance / distance[:, -1:]) ** 2)
    seen, places, seers = np.zeros(len(turning), dtype=bool), [], []
    for pieces in range(2, d + 1):
        meets, step, along = _meeting(near, directions, weight, pieces, noise, reach)
        place = feet[turning[meets]] + step[meets]
        if pieces < d:
            held = _on_a_line(place, along[meets], reach)
        else:
            held, place = _in_a_spot(place, reach)
        seers.append(np.flatnonzero(meets)[held])
        places.append(place[held])
        seen[seers[-1]] = True
    seers_at, here = feet[turning[np.concatenate(seers)]], feet[turning]
    seeing, all_turning = (
        cKDTree(some).query_ball_point(seers_at, ABOUT * reach, workers=-1, return_length=True)
        for some in (here[seen], here)
    )
    return np.asarray(np.concatenate(places)[seeing > MOST * all_turning])


def _meeting(
    near: Array, normals: Array, weight: Array, pieces: int, noise: float, reach: float
) -> tuple[Mask, Array, Array]:
    """Whether planes through the neighbours (N, K, d) of some points meet near these (N,), the nearest place where they
    do (N, d), seen from the point, and the direction along which (N, d), if they are two in space.
    """
    own, others = np.arange(pieces), ~np.eye(pieces, dtype=bool)
    # the pieces by normals alone: the point's own, the one that agrees the least, the one that does with neither
    centres = normals[:, :1]
    for _ in range(pieces - 1):
        closest = np.abs(np.einsum("nkc,nmc->nkm", normals, centres)).max(axis=2)
        farthest = np.take_along_axis(normals, closest.argmin(axis=1)[:, None, None], axis=1)
        centres = np.concatenate([centres, farthest], axis=1)
    for _ in range(4):
        closest = np.abs(np.einsum("nkc,nmc->nkm", normals, centres)).argmax(axis=2)
        member = (closest[:, :, None] == own) * weight[:, :, None]
        centres = np.linalg.eigh(np.einsum("nkm,nkc,nkd->nmcd", member, normals, normals))[1][..., -1]
    # and by the planes through them
    for last in (False, True):
        planes, height = _planes(near, normals, member)
        off = np.einsum("nkc,nmc->nkm", near, planes) - height[:, None]
        if not last:
            turned = 2 - 2 * np.abs(np.einsum("nkc,nmc->nkm", normals, planes))
            closest = ((off / noise) ** 2 / 2 + turned / APART).argmin(axis=2)
            member = (closest[:, :, None] == own) * weight[:, :, None]
    gram = np.einsum("nac,nbc->nab", planes, planes)
    freedom = 1 - near.shape[2] * pieces / near.shape[1]
    deviation = np.sqrt((member * off**2).sum(axis=(1, 2)) / (weight.sum(axis=1) * freedom))
    meets = ((member > 0).sum(axis=1).min(axis=1) >= LEAST[pieces]) & (deviation < LIKELY * noise)
    meets &= np.abs(gram[:, others]).max(axis=1) < TURN
    # the points of one plane stand on one side of another
    counted = (member > 0).astype(np.float64)
    sides = [np.einsum("nka,nkb->nab", sign * off > noise, counted)[:, others] for sign in (1, -1)]
    meets &= ((np.minimum(*sides) <= STRAY * np.maximum(*sides)) & (np.maximum(*sides) >= 2)).all(axis=1)
    # and reach to where they meet
    system = gram + 1e-9 * np.eye(pieces)
    step = np.einsum("nac,na->nc", planes, np.linalg.solve(system, height[..., None])[..., 0])
    away = np.where(member > 0, np.linalg.norm(near - step[:, None], axis=2)[:, :, None], np.inf).min(axis=1)
    meets &= (np.linalg.norm(step, axis=1) < reach) & (away.max(axis=1) < reach)
    along = np.cross(planes[:, 0], planes[:, 1]) if planes.shape[2] == 3 else step
    return meets, step, unit(along)


def _planes(near: Array, normals: Array, member: Array) -> tuple[Array, Array]:
    """Unit normals (N, m, d) and distances from the origin (N, m) of planes through neighbours (N, K, d), weighted
    (N, K, m): least squares of the places, with a little of those of the normals.
    """
    total = np.maximum(member.sum(axis=1), np.finfo(np.float64).tiny)
    middle = np.einsum("nkm,nkc->nmc", member, near) / total[..., None]
    rest = near[:, :, None] - middle[:, None]
    spread = np.einsum("nkm,nkmc,nkmd->nmcd", member, rest, rest)
    size = np.maximum(np.trace(spread, axis1=2, axis2=3), np.finfo(np.float64).tiny)
    turned = np.einsum("nkm,nkc,nkd->nmcd", member, normals, normals) / total[..., None, None]
    planes = np.linalg.eigh(spread / size[..., None, None] - NORMALS * turned)[1][..., 0]
    return planes, np.einsum("nmc,nmc->nm", planes, middle)


def _on_a_line(places: Array, along: Array, reach: float) -> Mask:
    """Which of some places (N, d) on creases, along directions (N, d), others hold: those on a line with it."""
    if len(places) <= HOLDING:
        return np.zeros(len(places), dtype=bool)
    count = min(NEAREST, len(places))
    distance, index = cKDTree(places).query(places, k=count, workers=-1)
    step = places[index] - places[:, None]
    ahead = np.einsum("nkc,nc->nk", step, along)
    other = (distance < reach) & (index != np.arange(len(places))[:, None])
    alike = np.abs(np.einsum("nkc,nc->nk", along[index], along)) > ALIKE
    lined = other & alike & (distance**2 - ahead**2 < (LINE * reach) ** 2)
    return np.asarray((lined.sum(axis=1) >= HOLDING) & (2 * lined.sum(axis=1) >= other.sum(axis=1)))


def _in_a_spot(places: Array, reach: float) -> tuple[Mask, Array]:
    """Which of some corners (N, d) others agree with, and the mean of those that do (N, d)."""
    spots = cKDTree(places).query_ball_point(places, SPOT * reach) if len(places) else []
    held = np.array([len(those) > AGREEING for those in spots], dtype=bool)
    return held, np.array([places[those].mean(axis=0) for those in spots]).reshape(places.shape)
