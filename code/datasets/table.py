"""What every reader gives: named columns of numbers. And the reading of lines and rows they share."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from phase_recon.utils.errors import UserError
from phase_recon.utils.memory import READING_TEXT, require_memory

MAX_VALUES = 600_000_000  # 100 million points with normals, 4.8 GB; what promises more is refused unread
BLOCK_BYTES = 4 << 20  # text is read in blocks of this size, so memory is that of the numbers

AXES = ("x", "y", "z")
NORMALS = ("nx", "ny", "nz")
COLOURS = ("red", "green", "blue")
SENSORS = ("sensor_x", "sensor_y", "sensor_z")  # where the point was seen from
VIEWS = {"vx": "sensor_x", "vy": "sensor_y", "vz": "sensor_z"}  # the short names of the same
PARAVIEW = {"points:0": "x", "points:1": "y", "points:2": "z"}
ALIASES = {"r": "red", "g": "green", "b": "blue", **PARAVIEW, **VIEWS}

# columns without names: their number tells what they are
POSITIONAL = {2: AXES[:2], 3: AXES, 4: AXES[:2] + NORMALS[:2], 6: AXES + NORMALS}
BEHIND_COUNT = {2: AXES[:2], 3: AXES, 4: (*AXES, ""), 7: (*AXES, "", *COLOURS)}  # of a .pts; "" is the intensity
POSITIONAL_TEXT = "2 columns (x y), 3 (x y z), 4 (x y nx ny) or 6 (x y z nx ny nz)"


@dataclass(frozen=True)
class Table:
    """The columns of a file that describe points, as they stand in it.

    values (N, C) float64; names: C of AXES, NORMALS, COLOURS and SENSORS, each at most once, x and y always;
    note: what the user should know of the reading, or None; named: whether the file itself gives the names.
    """

    values: npt.NDArray[np.float64]
    names: tuple[str, ...]
    note: str | None = None
    named: bool = True


def standard(name: str) -> str:
    """The standard spelling of a column's name."""
    return ALIASES.get(name.lower(), name.lower())


def known_columns(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Map those of the columns' names that describe points, in their standard spelling, to their places.

    Raises UserError where x or y is missing or a name comes twice.
    """
    spelt = [standard(name) for name in names]
    places = {name: i for i, name in enumerate(spelt) if name in AXES + NORMALS + COLOURS + SENSORS}
    for name in places:
        if spelt.count(name) > 1:
            raise UserError(f"{path} names the column {name} twice: keep one of them")
    if not {"x", "y"} <= places.keys():
        raise UserError(
            f"{path} names the columns {shorten(' '.join(names))}: expected x and y among them "
            "(and z, nx, ny, nz where there are such)"
        )
    return places


def line_blocks(handle: BinaryIO, path: Path) -> Iterator[list[bytes]]:
    """Yield the rest of the file as lists of whole lines, each list of about BLOCK_BYTES.

    Raises UserError for a line longer than a block, and for a text whose numbers the memory cannot hold.
    """
    require_memory(READING_TEXT * os.fstat(handle.fileno()).st_size, f"{path}", "thin the cloud")
    rest = b""
    while block := handle.read(BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if not lines and len(rest) >= BLOCK_BYTES:
            raise UserError(f"{path} has a line of over {BLOCK_BYTES >> 20} MB: expected rows of numbers")
        yield lines
    yield [rest]


def parse_rows(
    lines: Sequence[bytes],
    *,
    width: int,
    used: Sequence[int],
    where: str,
    first: int,
    delimiter: bytes | None = None,
) -> npt.NDArray[np.float64]:
    """Turn lines of ``width`` fields into numbers, (n, len(used)); blank lines and unused fields are skipped.

    Delimiter None is white space. ``where`` and ``first`` (the number of the first line) name the place in
    the UserError that a bad row raises.
    """
    rows = [line for line in lines if line.strip()]
    if not rows:
        return np.empty((0, len(used)))
    try:
        # loadtxt itself does not mind ragged rows when columns are picked
        if {len(row.split(delimiter)) for row in rows} != {width}:
            raise ValueError("ragged rows")
        return _to_numbers(rows, used, delimiter)
    except ValueError:
        raise _bad_row(lines, width, used, where, first, delimiter) from None


def _to_numbers(
    rows: Sequence[bytes], used: Sequence[int], delimiter: bytes | None
) -> npt.NDArray[np.float64]:
    separator = delimiter.decode() if delimiter else None
    return np.loadtxt(rows, delimiter=separator, usecols=tuple(used), comments=None, ndmin=2)


def _bad_row(
    lines: Sequence[bytes], width: int, used: Sequence[int], where: str, first: int, delimiter: bytes | None
) -> UserError:
    """Find the first line that is not a row: the slow way, once something is known to be wrong."""
    for number, line in enumerate(lines, first):
        count = len(line.split(delimiter))
        if not line.strip():
            continue
        if count != width:
            return UserError(
                f"{where} {number} has {count} values where {width} were expected: {shorten(line)}; "
                "give every row the same number of values"
            )
        try:
            _to_numbers([line], used, delimiter)
        except ValueError:
            return UserError(
                f"{where} {number} is not a row of numbers: {shorten(line)}; use decimal points, one kind of "
                "separator (space, tab, comma or semicolon) and # or // before comments"
            )
    raise AssertionError("rows that cannot be read together can each be read alone")


def to_double(array: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Widen numbers read from bytes; signalling NaNs pass without the warning they cause."""
    with np.errstate(invalid="ignore"):
        return array.astype(np.float64, order="C")


def is_number(field: bytes) -> bool:
    """Whether the field reads as a number; nan and inf do."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def shorten(text: bytes | str, length: int = 40) -> str:
    """Quote the text for a message of one line: at most ``length`` characters, the unprintable escaped."""
    if isinstance(text, bytes):
        text = text[: 4 * length].decode("utf-8", "replace")
    text = text.strip()
    return ascii(text if len(text) <= length else text[:length] + "...")
