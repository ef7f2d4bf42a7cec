"""Which side is inside, found without normals: normals of a cloud that agree with its winding number.

The winding number of a closed surface is a half on the surface, one inside and nothing outside, and its gradient is
along the normals. Asking for both at once finds normals that agree all over a cloud, through gaps and noise (Lin, Shi
& Liu 2024, "Fast and globally consistent normal orientation based on the winding number normal consistency"). Here
the winding number lives on a grid, where it is the solution of a Poisson equation (Kazhdan et al. 2006), by sine
transforms.

Where a sheet was scanned from one side only, such as the floor of a cup seen from above, the winding number takes
either side of it for the inside. What it says is therefore a vote, and points vote together along the sheets they are
on, from the walls of the cup to its floor.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dstn, idstn, next_fast_len
from scipy.sparse import csr_array, diags_array, eye_array, kron, vstack
from scipy.sparse.linalg import cg
from scipy.spatial import cKDTree

from phase_recon.geometry.visibility import seen_sides
from phase_recon.utils.general import beyond, ratio, thinned, unit

Array = npt.NDArray[np.float64]

NODES = 80  # along the longest side of Ω
POINTS = 20_000  # of the cloud, at most: the grid holds no more detail
ROUNDS = 40
WIDEST, NARROWEST = 2.5, 0.5  # width of the smoothing, from the first to the last round, in cells
HALF = 0.5  # the winding number on the surface
NEIGHBOURS = 10  # to which a point lends its vote, where they are on one sheet
OWN = 0.01  # weight of a point's own vote beside one such neighbour: votes reach ten times as far as neighbours are
ON_WALLS = 0.3  # on a thin wall, where few votes are wrong, but many a neighbour is taken to be on the other sheet
CLOSE = 0.85  # cosine between a direction and the coarse normal, either way round, where the grid resolves the surface
LOOKED_AT = 1500  # points whose side the votes leave open, at most, that are asked from where they can be seen
SEEN = 5.0  # votes that this is worth: it speaks for the points about it that are not asked
TELLING, WALL = 8, 0.25  # of those asked near a point, how many tell whether it is on a wall, and the share that must
SURE = 0.35  # of the votes, -1 to 1, above which a side is believed; measured on clouds with known normals


@dataclass(frozen=True)
class Sides:
    """The coarse normals of a cloud.

    Attributes:
        points: points of the cloud (K, d).
        normals: unit normals there (K, d), outward, as smooth as a grid is coarse; zero where there is none.
    """

    points: Array
    normals: Array

    def oriented(
        self, points: Array, directions: Array, steps: Array | None = None
    ) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Turn directions (N, d) at points (N, d) to the outside; and whether (N,) that is sure.

        The coarse normal nearest to a point votes for the side, the more the closer it is to the direction, and the
        votes of a sheet are taken together. Sure is a side with most of the votes, and where the coarse normal is along
        the direction: where they are at odds, the grid does not resolve the surface.

        Thin walls it never does. Where another sheet is near, a step (N, d) away (zero or None: there is none), and
        the points can be seen from the other side, a wall is between, and outside is away from it.
        """
        steps = np.zeros_like(points) if steps is None else steps
        normals = self.normals[cKDTree(self.points).query(points, workers=-1)[1]]
        cosine = (directions * normals).sum(axis=-1)
        walls = on_walls(points, directions, steps)
        own = np.where(walls, -np.sign((directions * steps).sum(axis=-1)), cosine * np.abs(cosine))
        weight = np.where(walls, ON_WALLS, OWN)
        links = sheets(points, directions, steps)
        votes = together(links, own, weight)
        open_ones = thinned(np.flatnonzero(np.abs(votes) <= SURE), LOOKED_AT)
        seen = seen_sides(points, points[open_ones], directions[open_ones])
        if seen.any():
            own[open_ones[seen != 0]] = SEEN * seen[seen != 0]
            votes = together(links, own, weight, votes)
        sure = (np.abs(votes) > SURE) & ((np.abs(cosine) > CLOSE) | walls)
        sure |= np.abs(votes) > 1  # which no coarse normals give
        return np.where(votes < 0, -1.0, 1.0)[:, None] * directions, sure


def on_walls(points: Array, directions: Array, steps: Array) -> npt.NDArray[np.bool_]:
    """Which of some points (N, d), with directions (N, d), are on a wall between their sheet and another, a step (N, d)
    away. It is not a gap if one sees them from the other side; as one may see into a vessel here but not there, some of
    the nearest, on both sheets, tell.
    """
    near = np.flatnonzero(steps.any(axis=1))
    walls = np.zeros(len(points), dtype=bool)
    if len(near):
        asked = thinned(near, LOOKED_AT)
        seen = seen_sides(points, points[asked], directions[asked], steps[asked]) != 0
        nearest = np.arange(1, min(TELLING, len(asked)) + 1)
        walls[near] = seen[cKDTree(points[asked]).query(points[near], nearest, workers=-1)[1]].mean(axis=1) > WALL
    return walls


def sheets(points: Array, directions: Array, steps: Array | None = None) -> csr_array:
    """The sheets of a cloud with directions (N, d) at its points (N, d), either way round, for ``together`` (derived).

    The f that makes Σ w_ij (f_i - s_ij f_j)² over pairs of neighbours, and Σ v_i (f_i - votes_i)² with the weights v_i
    of votes, as small as can be, solves a system: this is its matrix (N, N) without these weights. s_ij = ±1 turns the
    one direction to the other, and w_ij is how much both seem to be on one sheet, which is where the directions agree
    and are at right angles to the step from point to point. Two sheets nearer to each other than their points are taken
    for one: opposite votes then cancel, and no side is sure. But where it is known that there is another, a step (N, d)
    away (zero or None: there is none), the neighbours on it point the other way.
    """
    count = min(NEIGHBOURS, len(points) - 1)
    near = cKDTree(points).query(points, k=np.arange(2, count + 2), workers=-1)[1]  # the first is itself
    offsets = points[near] - points[:, None]
    step = unit(offsets)
    behind = np.zeros(near.shape, dtype=bool) if steps is None else beyond(offsets, steps)
    cosine = np.einsum("nkc,nc->nk", directions[near], directions)
    climb = np.maximum(
        np.einsum("nkc,nc->nk", step, directions) ** 2, np.einsum("nkc,nkc->nk", step, directions[near]) ** 2
    )
    weight = (cosine * np.where(behind, 1.0, 1 - climb)) ** 2
    sign = np.where(behind, -1.0, 1.0) * np.sign(cosine)
    pairs = np.repeat(np.arange(len(points)), count), near.ravel()
    alike, known = (
        csr_array((values.ravel(), pairs), shape=(len(points),) * 2) for values in (weight * sign, weight)
    )
    diagonal = (known.sum(axis=0) + known.sum(axis=1)) / 2
    return csr_array(diags_array(diagonal) - (alike + alike.T) / 2)


def together(links: csr_array, votes: Array, weight: Array | float, known: Array | None = None) -> Array:
    """Votes (N,) of some weight (N,) for the side of each direction, taken together along the ``sheets``; ``known``
    ones (N,) that may be near these save time.
    """
    system = csr_array(links + diags_array(np.broadcast_to(weight, len(votes))))
    return np.asarray(cg(system, weight * votes, known, rtol=1e-3, M=diags_array(1 / system.diagonal()))[0])


def coarse_sides(points: Array, lower: Array, upper: Array) -> Sides | None:
    """The sides of a cloud (N, d) in the box from ``lower`` to ``upper`` (d,), or None where it encloses nothing."""
    points = thinned(points, POINTS)
    normals = consistent_normals(points, lower, upper)
    return None if normals is None else Sides(points, normals)


def consistent_normals(points: Array, lower: Array, upper: Array) -> Array | None:
    """Unit normals (N, d) of a cloud, outward, as smooth as the grid is coarse; zero where there is none.

    Args:
        points: the cloud (N, d), normalised.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).

    Returns:
        The normals, or None where the cloud encloses nothing.
    """
    grid = WindingGrid(points, lower, upper)
    normals = np.zeros_like(points)
    for width in np.linspace(WIDEST, NARROWEST, ROUNDS) * grid.cell:
        # towards a winding number of one half at every point: a step of steepest descent
        winding = grid.winding(normals, width)
        step = grid.transposed(HALF - grid.at_points(winding), width)
        effect = grid.winding(step, width)
        length = ratio(np.sum(step**2), np.sum(grid.at_points(effect) ** 2))
        normals = normals + length * step
        # along its gradient, with the lengths as they are
        gradient = grid.gradient_at_points(winding + length * effect)
        normals = -unit(gradient) * np.linalg.norm(normals, axis=1, keepdims=True)
    winding = grid.winding(normals, NARROWEST * grid.cell)
    if winding.max() <= np.median(grid.at_points(winding)):
        return None
    return unit(normals)


class WindingGrid:
    """The winding number of points with normals on a grid in Ω, zero on the walls; linear between nodes.

    Args:
        points: (N, d), normalised, in Ω.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).
    """

    def __init__(self, points: Array, lower: Array, upper: Array) -> None:
        size = upper - lower
        self.cell = float(size.max()) / (NODES - 1)
        counts = np.ceil(size / self.cell - 1e-9).astype(np.int64) + 1
        self.shape = tuple(next_fast_len(n + 1, real=True) - 1 for n in counts.tolist())  # a transform is of 2 (n + 1)
        self.d = len(size)
        origin = (lower + upper) / 2 - (np.array(self.shape) - 1) / 2 * self.cell
        self.ticks = [low + self.cell * np.arange(n) for low, n in zip(origin, self.shape, strict=True)]
        place = (points - origin) / self.cell
        first = np.clip(np.floor(place), 0, np.array(self.shape) - 2).astype(np.int64)
        share = place - first
        corners = [np.array(corner) for corner in np.ndindex((2,) * self.d)]
        nodes = [np.ravel_multi_index(tuple((first + corner).T), self.shape) for corner in corners]
        weights = [np.where(corner, share, 1 - share).prod(axis=1) for corner in corners]
        rows = np.tile(np.arange(len(points)), len(corners))
        whole = (len(points), int(np.prod(self.shape)))
        self.interpolation = csr_array((np.concatenate(weights), (rows, np.concatenate(nodes))), shape=whole)
        # central differences along each axis, with zero beyond the walls
        self.gradient = vstack([self.interpolation @ self._difference(axis) for axis in range(self.d)]).tocsr()
        # the eigenvalues of minus the Laplacian for the sine transform
        waves = [(2 * np.sin(0.5 * np.pi * np.arange(1, n + 1) / (n + 1)) / self.cell) ** 2 for n in self.shape]
        self.eigenvalues = np.sum(np.meshgrid(*waves, indexing="ij"), axis=0)
        self._width, self._response = np.nan, np.empty(0, dtype=np.float32)

    @property
    def nodes(self) -> Array:
        """The nodes of the grid (M, d), in the order of its values."""
        return np.stack(np.meshgrid(*self.ticks, indexing="ij"), axis=-1).reshape(-1, self.d)

    def winding(self, normals: Array, width: float) -> Array:
        """χ with -Δχ = ∇·(the normals, each spread over ``width``): its shape is the grid's."""
        return self._solve(-self._per_volume(self.gradient.T @ normals.T.ravel()), width)

    def transposed(self, values: Array, width: float) -> Array:
        """The transpose of normals (N, d) -> winding numbers at the points (N,)."""
        return -self.gradient_at_points(self._solve(self._per_volume(self.interpolation.T @ values), width))

    def at_points(self, values: Array) -> Array:
        """Grid values at the points (N,)."""
        return np.asarray(self.interpolation @ values.ravel())

    def gradient_at_points(self, values: Array) -> Array:
        """The gradient of grid values at the points (N, d)."""
        return np.asarray(self.gradient @ values.ravel()).reshape(self.d, -1).T

    def _per_volume(self, values: Array) -> Array:
        """Sums at the nodes (M,) as a density on the grid."""
        return values.reshape(self.shape) / self.cell**self.d

    def _difference(self, axis: int) -> csr_array:
        """The matrix (M, M) of central differences along an axis."""
        before, after = (int(np.prod(part)) for part in (self.shape[:axis], self.shape[axis + 1 :]))
        n = self.shape[axis]
        along = diags_array([-0.5 / self.cell, 0.5 / self.cell], offsets=[-1, 1], shape=(n, n))
        return kron(kron(eye_array(before), along), eye_array(after), format="csr")

    def _solve(self, source: Array, width: float) -> Array:
        """The f of -Δf = source, smoothed by a Gaussian of this width; in single precision, which is twice as fast."""
        waves = dstn(source.astype(np.float32), type=1, workers=-1, overwrite_x=True)
        waves *= self._response_to(width)
        return np.asarray(idstn(waves, type=1, workers=-1, overwrite_x=True), dtype=np.float64)

    def _response_to(self, width: float) -> npt.NDArray[np.float32]:
        """What each wave of a source is multiplied by; kept, as a round asks for one width three times."""
        if width != self._width:
            green = np.exp(-0.5 * width**2 * self.eigenvalues) / self.eigenvalues
            self._width, self._response = width, green.astype(np.float32)
        return self._response
