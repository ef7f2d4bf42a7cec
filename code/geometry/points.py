"""The records that flow through the geometry: points with all that is known of them, and the box they lie in."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]


SURE = 0.99  # the probability that a normal points outward from which on that is built upon
UNKNOWN = 0.5  # that probability, where nothing is known of it


@dataclass(frozen=True)
class Normalisation:
    """The similarity that puts a cloud into the unit ball: (x - centre) / scale, in double precision."""

    centre: Array  # (d,), the middle of the bounding box
    scale: float  # the bounding radius: the largest distance of a point from the centre

    @classmethod
    def fit(cls, points: Array) -> Self:
        """Fit to points (N, d) that are not all equal."""
        low, high = points.min(axis=0), points.max(axis=0)
        centre = low + (high - low) / 2
        return cls(centre, float(np.linalg.norm(points - centre, axis=1).max()))

    def apply(self, x: npt.ArrayLike) -> Array:
        """Take points (..., d) from the input's units into the unit ball."""
        return (np.asarray(x, dtype=np.float64) - self.centre) / self.scale

    def invert(self, x: npt.ArrayLike) -> Array:
        """Take points (..., d) from the unit ball back to the input's units."""
        return np.asarray(x, dtype=np.float64) * self.scale + self.centre

    def to_dict(self) -> dict[str, Any]:
        """Give plain lists and floats, for a checkpoint."""
        return {"centre": self.centre.tolist(), "scale": self.scale}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Take what to_dict gave."""
        return cls(np.asarray(plain["centre"], dtype=np.float64), float(plain["scale"]))


@dataclass(frozen=True)
class Domain:
    """The box Ω in which the field is learned, in normalised coordinates, and their relation to the input's frame.

    Attributes:
        normalisation: from the input's frame to this one.
        lower: corner of Ω (d,).
        upper: the opposite corner (d,).
    """

    normalisation: Normalisation
    lower: Array
    upper: Array


class Source(IntEnum):
    """Where a point that is trained on comes from."""

    MEASURED = 0
    CREASE = 1  # added where smooth faces meet
    HOLE = 2  # added on the surface that closes a hole of the cloud


@dataclass(frozen=True)
class OrientedPoints:
    """Points with all that is known of each of them, in normalised coordinates.

    Attributes:
        positions: (N, d).
        normals: unit normals (N, d); zero where none is known.
        confidence: how far each normal can be trusted (N,), 0 to 1.
        outward: the probability that each normal points outward (N,); 1/2 where nothing is known of it.
        area: the area (2D: length) that each point stands for (N,), relative to that of most points.
        opposite: the step (N, d) to another sheet of the surface that is near, as on a thin wall; zero without one.
        source: ``Source`` of each point (N,).
        raw_index: the row (N,) of the input that a measured point comes from; -1 for others.
    """

    positions: Array
    normals: Array
    confidence: Array
    outward: Array
    area: Array
    opposite: Array
    source: npt.NDArray[np.uint8]
    raw_index: Index

    @classmethod
    def bare(
        cls,
        positions: Array,
        normals: Array | None = None,
        source: Source = Source.MEASURED,
        raw_index: Index | None = None,
    ) -> Self:
        """Points (N, d) of which no more is known than normals (N, d), which are not trusted, and the source."""
        count = len(positions)
        return cls(
            positions=positions,
            normals=np.zeros_like(positions) if normals is None else normals,
            confidence=np.zeros(count),
            outward=np.full(count, UNKNOWN),
            area=np.ones(count),
            opposite=np.zeros_like(positions),
            source=np.full(count, source, dtype=np.uint8),
            raw_index=np.full(count, -1, dtype=np.int64) if raw_index is None else raw_index,
        )

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, chosen: Index | Mask) -> Self:
        """Some of the points, by index or mask."""
        return self._each(lambda name: getattr(self, name)[chosen])

    def __add__(self, more: Self) -> Self:
        """These points and, behind them, more."""
        return self._each(lambda name: np.concatenate([getattr(self, name), getattr(more, name)]))

    @property
    def measured(self) -> Self:
        """The points that come from the cloud; those that were added are left out."""
        return self[self.source == Source.MEASURED]

    @property
    def oriented(self) -> Mask:
        """Whether each normal surely points outward (N,); else its sign is to be taken as by chance."""
        return self.outward >= SURE

    def with_given(self, normals: Array | None) -> Self:
        """These points with the given normals of the input's rows (N, d), which are trusted; unchanged without any."""
        if normals is None:
            return self
        every = np.ones(len(self))
        return replace(self, normals=normals[self.raw_index], confidence=every, outward=every)

    def count(self, source: Source) -> int:
        """How many points come from a source."""
        return int((self.source == source).sum())

    def _each(self, values: Callable[[str], Any]) -> Self:
        return replace(self, **{item.name: values(item.name) for item in fields(self)})
