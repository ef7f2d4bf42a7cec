"""Small functions on arrays: a space-filling order, thinning, rows without repeats, colours, unit vectors."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ROUNDED = 1e-3  # × largest colour: so far beyond the ends a colour may be that was computed


def along_curve(points: Array) -> npt.NDArray[np.int64]:
    """The indices (N,) that sort points (N, d) along a Z-order curve (Morton 1966): successive ones are mostly near."""
    d = points.shape[1]
    bits = 30 // d
    lower = points.min(axis=0)
    size = float((points.max(axis=0) - lower).max()) or 1.0
    code = np.zeros(len(points), dtype=np.uint32)
    for axis in range(d):
        cell = ((points[:, axis] - lower[axis]) / size * (2**bits - 1)).astype(np.uint32)
        for bit in range(bits):
            code |= (cell >> bit & 1) << (bit * d + axis)
    return np.argsort(code)


def thinned(points: Array, count: int) -> Array:
    """At most ``count`` of the points (N, ...), in their order: a random choice, which is always the same."""
    if len(points) <= count:
        return points
    return points[np.sort(np.random.default_rng(0).choice(len(points), count, replace=False))]


def different(points: Array) -> Array:
    """Each of some points (N, d) once, in their order (M, d): corners of a mesh's triangles come many times."""
    offsets = points - points[:1]  # far off the origin, sums would lose digits
    along = offsets @ np.random.default_rng(0).normal(size=points.shape[1])  # equal points are at equal places
    return points[np.sort(np.unique(along, return_index=True)[1])]


def eight_bit(colours: Array, types: Iterable[np.dtype[Any]]) -> npt.NDArray[np.uint8] | None:
    """Colours (N, 3) that run to 1, to 255 or, in 16 bits, to 65535, from 0 to 255; None where they are none of that.

    Args:
        colours: as numbers.
        types: those of the three columns in their file.
    """
    types = list(types)
    whole = all(kind.kind in "iu" for kind in types)
    largest = colours.max(initial=0)
    in_text = all(kind == np.float64 for kind in types) and largest > 1 and np.array_equal(colours, np.round(colours))
    wide = in_text or (whole and all(kind.itemsize == 2 for kind in types))
    most = 65535 if wide and largest > 255 else 1 if not whole and largest <= 1 + ROUNDED else 255
    beyond = 0.0 if whole else ROUNDED * most
    if not (colours.min(initial=0) >= -beyond and largest <= most + beyond):
        return None
    return np.asarray(np.round(np.clip(colours, 0, most) * (255 / most)).astype(np.uint8))


def unique_rows(rows: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The different ones of some rows (N, c), in lexicographic order.

    It is what ``np.unique(rows, axis=0, return_index=True, return_inverse=True)`` gives, in half of the time.

    Returns:
        The index of the first row of each kind (M,), and the kind of each row (N,).
    """
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    kind = np.empty(len(rows), dtype=np.int64)
    kind[order] = np.cumsum(begins) - 1
    return order[begins], kind


def ratio(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """a / b (...) where b > 0, and 0 elsewhere."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return np.asarray(np.divide(a, b, out=np.zeros(b.shape), where=b > 0))


def unit(vectors: Array) -> npt.NDArray[np.float64]:
    """The vectors (..., d) at length 1; a zero vector stays zero."""
    return np.asarray(vectors * ratio(1.0, np.linalg.norm(vectors, axis=-1, keepdims=True)))
