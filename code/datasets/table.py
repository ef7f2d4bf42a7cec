"""What every reader gives, parts of a Table; and the reading of lines and rows of text that readers share."""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO, Self, cast

import numpy as np
import numpy.typing as npt

from phase_recon.utils.errors import UserError, counted

MAX_VALUES = 600_000_000  # numbers: 100 million points with normals, 4.8 GB; a file that promises more is refused
BLOCK_BYTES = 4 << 20  # bytes of text that are read at a time; a line must be shorter
BLOCK_ROWS = 1_000_000  # rows of binary files that are read at a time: 50 MB with normals

UTF8_MARK = codecs.BOM_UTF8
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Table:
    """Rows of a file that describe points, or a part of them.

    columns: the numbers of each column (N,), in the type of the file, by their standard names
        (``columns.KNOWN``); x and y always;
    total: how many rows the file promises in all, or None where it does not say;
    notes: what the user should know of the reading;
    dropped: how many rows were left out, by the reason ("marked as withheld").
    """

    columns: dict[str, npt.NDArray[Any]]
    total: int | None = None
    notes: tuple[str, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.columns["x"])

    @property
    def axes(self) -> list[str]:
        """The coordinates that there are: x y, or x y z."""
        return [axis for axis in "xyz" if axis in self.columns]

    def stack(self, names: Iterable[str]) -> npt.NDArray[np.float64]:
        """Give the named columns side by side (N, C), in double precision."""
        return np.stack([to_double(self.columns[name]) for name in names], axis=-1)

    def keep(self, kept: npt.NDArray[np.bool_], reason: str) -> Self:
        """Leave out the rows where ``kept`` (N,) is false, and count them under the reason."""
        if kept.all():
            return self
        columns = {name: column[kept] for name, column in self.columns.items()}
        count = int(np.count_nonzero(~kept))
        dropped = self.dropped | {reason: self.dropped.get(reason, 0) + count}
        return type(self)(columns, self.total, self.notes, dropped)


def join(parts: Sequence[Table]) -> Table:
    """Put the parts of a file below each other; a column that not all parts have is left out, with a note."""
    common = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    some = sorted({name for part in parts for name in part.columns} - {*common})
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in common}
    notes = [note for part in parts for note in part.notes]
    if some:
        notes.append(f"{', '.join(some)} are not in all parts of the file and were left out")
    dropped: dict[str, int] = {}
    for part in parts:
        for reason, count in part.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return Table(columns, parts[0].total, tuple(dict.fromkeys(notes)), dropped)


def as_utf8(handle: BinaryIO) -> BinaryIO:
    """Give the text of a file from its beginning as UTF-8, without a byte-order mark."""
    handle.seek(0)
    start = handle.read(len(UTF8_MARK))
    if start.startswith(UTF16_MARKS):
        handle.seek(0)
        return cast("BinaryIO", codecs.EncodedFile(handle, "utf-8", "utf-16", errors="replace"))
    handle.seek(len(UTF8_MARK) if start == UTF8_MARK else 0)
    return handle


def line_blocks(handle: BinaryIO, where: str) -> Iterator[list[bytes]]:
    """Yield the rest of the file as lists of whole lines, each list of about BLOCK_BYTES.

    Lines end with LF, CR LF or CR. Raises UserError for a line longer than a block.
    """
    rest = b""
    while block := handle.read(BLOCK_BYTES):
        if block.endswith(b"\r"):
            block += handle.read(1)  # the LF of a CR LF
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = (rest + block).split(b"\n")
        if not lines and len(rest) >= BLOCK_BYTES:
            raise UserError(f"{where} has a line of over {BLOCK_BYTES >> 20} MB: expected rows of numbers")
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

    An empty field between separators is NaN, as spreadsheets and pandas write it. Delimiter None is white space.
    ``where`` and ``first`` (the number of the first line) name the place in the UserError that a bad row raises.
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
    read = partial(np.loadtxt, delimiter=separator, usecols=tuple(used), comments=None, ndmin=2)
    try:
        return read(rows)
    except ValueError:
        if delimiter is None:
            raise
        return read([_filled(row, delimiter) for row in rows])


def _filled(row: bytes, delimiter: bytes) -> bytes:
    return delimiter.join(field if field.strip() else b"nan" for field in row.split(delimiter))


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
                f"{where} {number} has {counted(count, 'value')} where {width} were expected: {shorten(line)}; "
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


def to_double(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
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
