"""The orientation of normals: which side of each point is outside, and of which points that is sure.

The winding number (``winding``) gives coarse normals, and each votes for the side of the points about it. Where a sheet
was scanned from one side only, such as the floor of a cup seen from above, the winding number takes either side of it
for the inside. So votes are spread along the sheets of the surface, from the walls of the cup to its floor. Where they
leave a side open, it is asked from where the point can be seen (``visibility``). On a thin wall outside is away from
its other sheet, whatever the winding number says, which no grid resolves there.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import cg
from scipy.spatial import cKDTree

from phase_recon.geometry.neighbours import on_opposite_sheet
from phase_recon.geometry.patches import PatchSettings, odd_patches, of_one_sheet, seen_together
from phase_recon.geometry.visibility import Space, seen_sheets, seen_sides, steps_aside, way_of
from phase_recon.geometry.winding import CoarseNormals
from phase_recon.utils.arrays import ratio, thinned, unit
from phase_recon.utils.threads import threads

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Pairs = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class OrientationSettings:
    """How votes are spread and how sure they make a side. Measured on clouds with known normals.

    Attributes:
        neighbours: other points to which a point lends its vote, where they are on one sheet.
        own_vote: weight of a point's own vote beside one such neighbour: votes reach ten times as far as neighbours.
        wall_vote: the same on a thin wall whose sheets two quadrics show: few votes are wrong there, but many a
            neighbour is taken for one on the other sheet.
        beside_vote: the same on another thin wall. Deep in a narrow gap few points show the sheets, and one may see
            out through a body.
        asked: points that are asked from where they can be seen, at most: of those whose side the votes leave open,
            and of those beside another sheet.
        patches: which patches of a sheet are the wrong way round.
        seen_vote: votes that this is worth, as it speaks for the points about that are not asked.
        wall_asked: of the points asked near a point, so many tell whether it is on a thin wall.
        wall_share: share of them that must.
        facing_asked: nearest points of which those on the other sheet tell whether there are two sheets in fact:
        facing_share: share of them whose coarse normals must be opposite.
        open: of the spread votes, 0 to 1, below which it is asked from where a point can be seen.
        by_votes: pairs of the spread votes, and the probability that a side with these is right.
        by_normal: pairs of the cosine between the normal and the coarse normal, and the same. Where they are at odds,
            the grid does not resolve the surface.
        by_wall: the same on a thin wall, whose side does not hang on the coarse normal: opposite ones are of a sheet
            that the winding number has the wrong way round, and those at right angles are of an edge.
        precision: relative residual at which the equations of the votes are solved.
    """

    neighbours: int = 10
    own_vote: float = 0.01
    wall_vote: float = 0.3
    beside_vote: float = 0.1
    patches: PatchSettings = field(default_factory=PatchSettings)
    asked: int = 1500
    seen_vote: float = 5.0
    wall_asked: int = 8
    wall_share: float = 0.25
    facing_asked: int = 24
    facing_share: float = 0.5
    open: float = 0.35
    by_votes: Pairs = ((0.0, 0.6), (0.2, 0.8), (0.3, 0.9), (0.4, 0.975), (0.45, 0.99), (0.6, 0.998), (0.8, 0.9998))
    by_normal: Pairs = ((-1.0, 0.95), (0.5, 0.96), (0.85, 0.99), (0.95, 0.9998))
    by_wall: Pairs = ((-0.5, 0.998), (-0.3, 0.97), (0.3, 0.97), (0.5, 0.99), (0.85, 0.998), (0.95, 0.9998))
    precision: float = 1e-3


def orient(
    coarse: CoarseNormals,
    points: Array,
    normals: Array,
    opposite: Array | None = None,
    settings: OrientationSettings | None = None,
) -> tuple[Array, Array]:
    """Turn normals (N, d) at points (N, d) to the outside; and the probability (N,) that this is right.

    The coarse normal nearest to a point votes for its side, the more the closer it is to the normal, and the votes are
    spread along the sheets. Where the votes of a patch contradict those of the sheet about it, the sheet tells the side
    of the patch. A side is as sure as the weaker of its two witnesses, the votes and the coarse normal; one that was
    seen needs no other.

    Args:
        coarse: the coarse normals of the cloud.
        points: the cloud (N, d), normalised.
        normals: unit normals there (N, d), of any sign.
        opposite: step (N, d) from each point to another sheet that is near, zero without one; None without any.
        settings: how votes are spread.
    """
    s = settings or OrientationSettings()
    space, nearest = Space(points), coarse.at(points)
    opposite = np.zeros_like(points) if opposite is None else opposite_in_fact(points, nearest, opposite, s)
    cosine = (normals * nearest).sum(axis=-1)
    outside = outside_of_walls(space, points, normals, opposite, s)
    walls = outside != 0
    own = np.where(walls, outside, cosine * np.abs(cosine))
    weight = np.where(walls, np.where(opposite.any(axis=1), s.wall_vote, s.beside_vote), s.own_vote)
    links = sheet_links(points, normals, opposite, s)
    votes = spread_votes(links, own, weight, s)
    untold = thinned(np.flatnonzero(np.abs(votes) <= s.open), s.asked)
    seen = seen_sides(space, points[untold], normals[untold])
    if seen.any():
        own[untold[seen != 0]] = s.seen_vote * seen[seen != 0]
        votes = spread_votes(links, own, weight, s, votes)
    told = np.zeros(len(points), dtype=bool)  # by the rest of their sheet
    for pairs in (seen_together(space, points, normals, opposite, s.patches), of_one_sheet(links, s.patches)):
        odd = odd_patches(pairs, votes, s.patches)
        if odd.any():
            own[odd] = -votes[odd]
            told ^= odd
            votes = spread_votes(links, own, weight, s, np.where(odd, -votes, votes))
    turn = np.where(votes < 0, -1.0, 1.0)
    by_normal = np.where(walls, probability(turn * cosine, s.by_wall), probability(turn * cosine, s.by_normal))
    by_normal[told | (np.abs(votes) > 1)] = 1.0  # the latter no coarse normals give
    return turn[:, None] * normals, np.minimum(probability(np.abs(votes), s.by_votes), by_normal)


def probability(evidence: Array, pairs: Pairs) -> Array:
    """The probability (N,) of evidence (N,): linear between pairs of the two, constant beyond them."""
    known, probabilities = np.array(pairs).T
    return np.asarray(np.interp(evidence, known, probabilities))


def opposite_in_fact(points: Array, coarse: Array, opposite: Array, s: OrientationSettings) -> Array:
    """The steps (N, d) from points (N, d) to another sheet where the coarse normals (N, d) say so too; zero elsewhere.

    Where a scan's views were put together badly, two of them lie beside each other like the sides of a thin wall. But
    they are one sheet, and have one normal.
    """
    near = np.flatnonzero(opposite.any(axis=1))
    if not len(near):
        return opposite
    count = min(s.facing_asked, len(points) - 1)
    others = cKDTree(points).query(points[near], k=np.arange(2, count + 2), workers=threads())[1]
    behind = on_opposite_sheet(points[others] - points[near][:, None], opposite[near])
    facing = np.einsum("nkc,nc->nk", coarse[others], coarse[near]) < 0
    share = ratio((behind & facing).sum(axis=1), behind.sum(axis=1))
    believed = opposite.copy()
    believed[near[share < s.facing_share]] = 0.0
    return believed


def outside_of_walls(space: Space, points: Array, normals: Array, opposite: Array, s: OrientationSettings) -> Array:
    """The outer side of thin walls as a side of the normals (N, d) at points (N, d): 1 or -1 (N,); 0 where no wall is.

    A point is on one if it can be seen from the side away from another sheet: from one that is known to be a step
    (N, d) away, or from one beside it that can be seen from its own far side, too. As one may see into a vessel here
    but not there, some of the nearest points tell: those on the same sheet by having the same outer side, those on the
    other sheet by having the opposite one.
    """
    known = np.asarray(opposite.any(axis=1))
    steps = opposite.copy()
    steps[~known] = steps_aside(space, points[~known], normals[~known])
    near = np.flatnonzero(steps.any(axis=1))
    outside = np.zeros(len(points))
    if len(near):
        asked = thinned(near, s.asked)
        seen = seen_sheets(space, asked, normals, steps[asked])
        walls = np.where(known[asked], seen[:, 0], seen.all(axis=1))
        nearest = np.arange(1, min(s.wall_asked, len(asked)) + 1)
        telling = cKDTree(points[asked]).query(points[near], nearest, workers=threads())[1]
        outer = -unit(steps)
        alike = np.einsum("nkd,nd->nk", outer[asked][telling], outer[near])
        behind = on_opposite_sheet(points[asked][telling] - points[near][:, None], steps[near])
        near = near[(walls[telling] * np.where(behind, -alike, alike)).mean(axis=1) > s.wall_share]
        outside[near] = -way_of(normals[near], steps[near])
    return outside


def sheet_links(points: Array, normals: Array, opposite: Array | None, s: OrientationSettings) -> csr_array:
    """The links between neighbours on one sheet: the matrix (N, N) of ``spread_votes`` but for its weights (derived).

    The f that makes Σ w_ij (f_i - s_ij f_j)² over pairs of neighbours, and Σ v_i (f_i - votes_i)² with the weights v_i
    of votes, as small as can be, solves a linear system. s_ij = ±1 turns the one normal to the other, and w_ij is how
    much both points seem to be on one sheet: their normals agree, and are at right angles to the step from point to
    point. Two sheets nearer to each other than their points are taken for one. Opposite votes then cancel, and no side
    is sure. But where another sheet is known, a step (N, d) away, the neighbours on it point the other way.
    """
    count = min(s.neighbours, len(points) - 1)
    others = np.arange(2, count + 2)  # the first is the point itself
    near = cKDTree(points).query(points, k=others, workers=threads())[1]
    offsets = points[near] - points[:, None]
    step = unit(offsets)
    behind = np.zeros(near.shape, dtype=bool) if opposite is None else on_opposite_sheet(offsets, opposite)
    cosine = np.einsum("nkc,nc->nk", normals[near], normals)
    climb = np.maximum(np.einsum("nkc,nc->nk", step, normals) ** 2, np.einsum("nkc,nkc->nk", step, normals[near]) ** 2)
    weight = (cosine * np.where(behind, 1.0, 1 - climb)) ** 2
    sign = np.where(behind, -1.0, 1.0) * np.sign(cosine)
    pairs = np.repeat(np.arange(len(points)), count), near.ravel()
    alike, known = (csr_array((values.ravel(), pairs), shape=(len(points),) * 2) for values in (weight * sign, weight))
    diagonal = (known.sum(axis=0) + known.sum(axis=1)) / 2
    return csr_array(diags_array(diagonal) - (alike + alike.T) / 2)


def spread_votes(
    links: csr_array, votes: Array, weight: Array | float, s: OrientationSettings, guess: Array | None = None
) -> Array:
    """Votes (N,) of some weight (N,) for the side of each normal, spread along the ``sheet_links``.

    A guess (N,) that is near the answer saves time.
    """
    system = csr_array(links + diags_array(np.broadcast_to(weight, len(votes))))
    jacobi = diags_array(1 / system.diagonal())
    return np.asarray(cg(system, weight * votes, guess, rtol=s.precision, M=jacobi)[0])
