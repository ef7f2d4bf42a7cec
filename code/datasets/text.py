"""Points as text: rows of numbers in columns, with or without a header line (.xyz .txt .csv .pts and others)."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from phase_recon.datasets.columns import (
    CLASS,
    GUESSED_ROWS,
    POSITIONAL_TEXT,
    STATION,
    guess_columns,
    known_columns,
    standard,
)
from phase_recon.datasets.table import Table, as_utf8, is_number, line_blocks, parse_rows, shorten
from phase_recon.utils.errors import UserError

NAMED = (STATION, CLASS)  # columns that may hold names in place of numbers; they are then left out
DECIMAL_COMMA = re.compile(rb"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
QUOTED_NUMBER = re.compile(rb'"[-+]?[.,]?\d')


@dataclass(frozen=True)
class _Layout:
    """How the rows of one file are laid out, told from its first lines."""

    delimiter: bytes | None  # None is white space
    decimal_comma: bool  # whether 1,5 is one and a half
    width: int  # fields in a row
    places: dict[str, int]  # name → field, for the columns that describe points
    header_lines: int  # lines before the first row
    rows: int | None  # how many rows the file says it has
    note: str | None  # of columns that were left out


def read_text(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read rows separated by spaces, tabs, commas or semicolons, comments behind # or //.

    A header line (also one in a comment, as some programs write it) names the columns; without one they are
    told by ``guess_columns``. A line with the number of points may stand before the rows. Numbers may be in double
    quotes. Text is UTF-8, or UTF-16 with a byte-order mark.
    Raises UserError for anything else, naming the line.
    """
    layout: _Layout | None = None
    trailing, quoted = b"", False
    number, read = 1, 0
    size = os.fstat(handle.fileno()).st_size
    for raw in line_blocks(as_utf8(handle), f"{path}"):
        if layout is None and any(b"\0" in line for line in raw):
            raise UserError(
                f"{path} is a binary file, expected rows of numbers as text: give it the extension of its format, or "
                "save it as text"
            )
        lines = [_without_comment(line) if b"#" in line or b"//" in line else line for line in raw]
        skipped = 0
        quoted = quoted or (layout is None and any(map(QUOTED_NUMBER.search, lines[:GUESSED_ROWS])))
        if quoted:
            raw, lines = list(map(_unquoted, raw)), list(map(_unquoted, lines))
        trailing = _trailing(lines) if layout is None and not trailing else trailing
        if trailing:
            lines = [line.rstrip().removesuffix(trailing) for line in lines]
        if layout is None:
            layout = _find_layout([line.rstrip().removesuffix(trailing) for line in raw], lines, path)
            skipped = layout.header_lines if layout else len(lines)
        if layout is not None:
            rows = lines[skipped:]
            values = parse_rows(
                [row.replace(b",", b".") for row in rows] if layout.decimal_comma else rows,
                width=layout.width,
                used=list(layout.places.values()),
                where=f"{path}, line",
                first=number + skipped,
                delimiter=layout.delimiter,
            )
            total = layout.rows
            if total is None:  # by the length of the lines so far
                total = len(values) * size // max(sum(map(len, raw)) + len(raw), 1)  # a block may end within a line
            columns = dict(zip(layout.places, values.T, strict=True))
            yield Table(columns, total, () if layout.note is None else (layout.note,))
            read += len(values)
        number += len(raw)
    if layout is None:
        raise UserError(f"{path} holds no rows of numbers: expected {POSITIONAL_TEXT}")
    if layout.rows is not None and layout.rows != read:
        raise UserError(
            f"{path} says it has {layout.rows} points but holds {read}: it may be cut short; "
            "mend the count or remove its line"
        )


def _trailing(lines: Sequence[bytes]) -> bytes:
    """The separator with which each of the first lines ends, as some programs write it; nothing if not all do."""
    first = [line.rstrip() for line in lines[:GUESSED_ROWS] if line.strip()]
    ends = {line[-1:] for line in first}
    return ends.pop() if len(first) > 1 and ends in ({b","}, {b";"}) else b""


def _unquoted(line: bytes) -> bytes:
    """A line without quotes; a comma between two of them, which separates, is a semicolon: others may be decimal."""
    return line.replace(b'","', b";").replace(b'"', b"") if b'"' in line else line


def _without_comment(line: bytes) -> bytes:
    return line.split(b"#", 1)[0].split(b"//", 1)[0]


def _split(line: bytes) -> tuple[bytes | None, list[bytes]]:
    """Tell the separator of a line, and its fields."""
    words = line.split()
    if b";" in line:
        delimiter: bytes | None = b";"
    elif len(words) > 1 and all(b"," not in word or DECIMAL_COMMA.fullmatch(word) for word in words):
        delimiter = None
    else:
        delimiter = b"," if b"," in line else None
    return delimiter, line.split(delimiter)


def _names(fields: Sequence[bytes]) -> list[str]:
    return [field.strip().strip(b"\"'").decode("utf-8", "replace") for field in fields]


def _find_layout(raw: Sequence[bytes], lines: Sequence[bytes], path: Path) -> _Layout | None:
    """Tell the layout from the first row and the lines before it; None while there are only comments."""
    commented: list[str] = []
    rows: int | None = None
    header: int | None = None  # the line that counts the columns
    for i, line in enumerate(lines):
        if not line.strip():
            names = _names(_split(raw[i].strip().lstrip(b"#/").strip())[1])
            if {"x", "y"} <= set(map(standard, names)):
                commented = names
            continue
        delimiter, fields = _split(line)
        decimal_comma = _has_decimal_comma(lines[i : i + GUESSED_ROWS], delimiter)
        if decimal_comma:
            fields = [field.replace(b",", b".") for field in fields]
        if not any(map(is_number, fields)):
            places = _header(path, i, line, fields)
            following = [row for row in lines[i + 1 : i + 1 + GUESSED_ROWS] if row.strip()]
            decimal_comma = _has_decimal_comma(lines[i + 1 : i + 1 + GUESSED_ROWS], delimiter)
            named = [(name, place) for name, place in places.items() if name in NAMED]
            texts = [name for name, place in named if not _has_numbers(following, delimiter, place)]
            places = {name: place for name, place in places.items() if name not in texts}
            return _Layout(delimiter, decimal_comma, len(fields), places, i + 1, rows, None)
        if rows is None and len(fields) == 1 and fields[0].strip().isdigit() and _is_count(lines[i + 1 :]):
            rows = int(fields[0].strip()[:18])
            continue
        if header is None and _counts_columns(fields, lines[i + 1 :]):
            header = i
            continue
        if len(commented) == len(fields):
            return _Layout(delimiter, decimal_comma, len(fields), known_columns(f"{path}", commented), i, rows, None)
        first = lines[i : i + GUESSED_ROWS]
        sample = parse_rows(
            [row.replace(b",", b".") for row in first] if decimal_comma else first,
            width=len(fields),
            used=range(len(fields)),
            where=f"{path}, line",
            first=i + 1,
            delimiter=delimiter,
        )
        solid = path.suffix.lower() == ".pts" or rows is not None
        places, note = guess_columns(sample, f"{path} (line {i + 1}: {shorten(line)})", solid=solid)
        notes = [f"line {header + 1}, which counts the columns, was left out"] if header is not None else []
        note = "; ".join([*notes, *([note] if note else [])]) or None
        return _Layout(delimiter, decimal_comma, len(fields), places, i, rows, note)
    return None


def _has_decimal_comma(rows: Sequence[bytes], delimiter: bytes | None) -> bool:
    """Whether some rows have numbers with decimal commas, and none with points; one of whole numbers does not tell."""
    if delimiter == b",":
        return False
    fields = [field.strip() for row in rows for field in row.split(delimiter)]
    return any(map(DECIMAL_COMMA.fullmatch, fields)) and not any(b"." in field for field in fields)


def _has_numbers(rows: Sequence[bytes], delimiter: bytes | None, place: int) -> bool:
    """Whether that field is a number wherever rows fill it, and some do, if there are any."""
    fields = [fields[place].strip() for row in rows if len(fields := row.split(delimiter)) > place]
    return not fields or (any(fields) and all(is_number(field) for field in fields if field))


def _is_count(following: Sequence[bytes]) -> bool:
    """Whether the next row has several fields, so that a lone number before it is the count of rows."""
    return len(_split(next((row for row in following if row.strip()), b""))[1]) > 1


def _counts_columns(fields: Sequence[bytes], following: Sequence[bytes]) -> bool:
    """Whether a line is 0, 1, 2 … before a row of coordinates: names of pandas, perhaps behind an empty one."""
    counted = [field.strip() for field in fields[fields[0].strip() == b"" :]]
    row = next((row for row in following if row.strip()), b"")
    is_header = len(counted) > 1 and counted == [b"%d" % k for k in range(len(counted))]
    return is_header and b"." in row and len(_split(row)[1]) == len(fields)


def _header(path: Path, index: int, line: bytes, fields: Sequence[bytes]) -> dict[str, int]:
    names = _names(fields)
    if not {"x", "y"} <= set(map(standard, names)):
        raise UserError(
            f"{path}, line {index + 1} is neither a row of numbers nor a header that names x and y: "
            f"{shorten(line)}; expected {POSITIONAL_TEXT}"
        )
    return known_columns(f"{path}, line {index + 1}", names)
