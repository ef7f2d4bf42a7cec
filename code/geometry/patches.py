"""Patches of a sheet that are the wrong way round: where most of what is known of two patches contradicts their votes.

An open sheet has no inside, and the coarse normals have it one way round here, the other way there. Two witnesses tell
that two points have the same side of their normals: that they are neighbours on one sheet, whose normals turn slowly;
and what sees both of them, as that stands outside of both. The second tells across sharp edges and cliffs, too, where
normals say little. All is derived.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from phase_recon.geometry.visibility import Space, rays_out
from phase_recon.utils.arrays import thinned
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.integer]


@dataclass(frozen=True)
class PatchSettings:
    """When a patch is taken to be the wrong way round. Chosen on 20 clouds, open and closed, and checked on others.

    Attributes:
        compared: points, at most, of which it is compared what sees them,
        companions: each with so many of the nearest of these,
        rays: if so many rays get out from both, at least.
        sure: 0 to 1: from which on it is sure whether two points have the same side.
        border: sure pairs between two patches whose votes say otherwise, at least, and
        by_sight: share of all pairs between the two that they must be, for the two to be one sheet; and
        by_sheet: the same of neighbours, many of which are across a sharp edge, where nothing is sure.
    """

    compared: int = 3000
    companions: int = 6
    rays: int = 8
    sure: float = 0.25
    border: int = 10
    by_sight: float = 0.75
    by_sheet: float = 0.4


@dataclass(frozen=True)
class Pairs:
    """Pairs of points, and whether the two have the same side of their normals.

    Attributes:
        first: of each pair (P,), an index of a point.
        second: the other (P,).
        same: -1 to 1 (P,): surely opposite sides, nothing known, surely the same.
        standing: for each point (N,), the one among the pairs that stands for it.
        share: of the pairs between two patches, that must be sure for the two to be one sheet.
    """

    first: Indices
    second: Indices
    same: Array
    standing: Indices
    share: float


def of_one_sheet(links: csr_array, s: PatchSettings) -> Pairs:
    """The pairs of neighbours on one sheet, from the matrix (N, N) of ``orientation.sheet_links``."""
    pairs = links.tocoo()
    upper = pairs.row < pairs.col
    return Pairs(pairs.row[upper], pairs.col[upper], -pairs.data[upper], np.arange(links.shape[0]), s.by_sheet)


def seen_together(space: Space, points: Array, normals: Array, opposite: Array, s: PatchSettings) -> Pairs:
    """Some points of a cloud with those of them that are near, by the rays that get out from both.

    From the directions that see two points of a closed surface, both show their outer side; an open sheet shows its one
    side to these, the other to those.

    Args:
        space: about the cloud.
        points: the cloud (N, d).
        normals: unit normals there (N, d), of any sign.
        opposite: steps (N, d) to another sheet that is near, zero without one.
        s: the settings.
    """
    asked = thinned(np.arange(len(points)), s.compared)
    out = rays_out(space, points[asked], normals[asked], opposite[asked])
    tree = cKDTree(points[asked])
    count = min(s.companions, len(asked) - 1)
    near = tree.query(points[asked], np.arange(2, count + 2), workers=threads())[1]  # the first is the point itself
    rays = np.abs(out).sum(axis=1, dtype=np.int64)
    both = np.einsum("nr,nkr->nk", out, out[near], dtype=np.float64)
    cosine = both / np.sqrt(np.maximum(rays[:, None] * rays[near], 1))
    same = np.where(np.minimum(rays[:, None], rays[near]) >= s.rays, cosine, 0.0)
    standing = asked[tree.query(points, workers=threads())[1]]
    return Pairs(np.repeat(asked, count), asked[near].ravel(), same.ravel(), standing, s.by_sight)


def odd_patches(pairs: Pairs, votes: Array, s: PatchSettings) -> Mask:
    """Which points (N,) lie on patches whose votes contradict those of the rest of their sheet.

    A patch is what sure pairs whose votes agree with them hold together. Where most pairs between two patches are sure,
    and the votes say otherwise, the two are one sheet: all but the larger part of it, by votes, is odd. Where bodies
    touch each other, or a fold touches itself, few pairs are so.

    Args:
        pairs: what is known of two points each.
        votes: for the sides of the points' normals (N,).
        s: the settings.
    """
    agreement = pairs.same * np.where(votes[pairs.first] * votes[pairs.second] < 0, -1.0, 1.0)
    alike, against = agreement > s.sure, agreement < -s.sure
    graph = coo_array((np.ones(alike.sum()), (pairs.first[alike], pairs.second[alike])), shape=(len(votes),) * 2)
    count, patch = connected_components(graph, directed=False)
    ends = np.sort(np.stack([patch[pairs.first], patch[pairs.second]], axis=1), axis=1)
    apart = ends[:, 0] != ends[:, 1]
    borders, border = np.unique(ends[apart], axis=0, return_inverse=True)
    conflicts = np.bincount(border.ravel(), against[apart], len(borders))
    length = np.bincount(border.ravel(), minlength=len(borders))
    joined = (conflicts >= s.border) & (conflicts >= pairs.share * length)
    support = np.bincount(patch[pairs.standing], np.abs(votes), count)
    sheet, sign = np.arange(count), np.ones(count)
    for a, b in borders[joined][np.argsort(-conflicts[joined], kind="stable")]:
        if sheet[a] != sheet[b]:
            other = sheet == sheet[b]
            sign[other] *= -sign[a] * sign[b]
            sheet[other] = sheet[a]
    balance = np.bincount(sheet, sign * support, count)[sheet]
    return np.asarray((sign * balance < 0)[patch[pairs.standing]])
