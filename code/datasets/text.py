"""Points as text: rows of numbers in columns, with or without a header line (.xyz .txt .csv .pts)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from phase_recon.datasets.table import (
    BEHIND_COUNT,
    POSITIONAL,
    POSITIONAL_TEXT,
    Table,
    is_number,
    known_columns,
    line_blocks,
    parse_rows,
    shorten,
    standard,
)
from phase_recon.utils.errors import UserError

UNCOUNTED = f"{POSITIONAL_TEXT}, or a header line that names them"
# other programs write intensities and colours there, not normals
COUNTED = (
    "x y z alone behind the count of points, with intensity, or with intensity and red green blue; or a header line "
    "that names the columns in the place of the count"
)


@dataclass(frozen=True)
class _Layout:
    """How the rows of one file are laid out: the header, told once from its first lines."""

    delimiter: bytes | None  # None is white space
    width: int  # fields in a row
    places: dict[str, int]  # name -> field, for the columns that describe points
    header_lines: int  # lines before the first row
    rows: int | None  # how many rows the file says it has (.pts)
    named: bool  # whether the file names its columns


def read_text(handle: BinaryIO, path: Path) -> Table:
    """Read rows separated by spaces, tabs, commas or semicolons, comments behind # or //.

    A header line (also one in a comment, as some programs write it) names the columns; without one their
    number tells what they are: 2, 3, 4 or 6. A .pts file may begin with the number of its points, and then have
    intensities and colours.
    Raises UserError for anything else, naming the line.
    """
    layout: _Layout | None = None
    parts, number = [], 1
    for raw in line_blocks(handle, path):
        if number == 1 and raw:
            raw[0] = raw[0].removeprefix(b"\xef\xbb\xbf")
        if layout is None and any(b"\0" in line for line in raw):
            raise UserError(
                f"{path} is a binary file (or UTF-16), expected rows of numbers as UTF-8 text: give it the "
                "extension of its format, or save it as text"
            )
        lines = [_without_comment(line) if b"#" in line or b"//" in line else line for line in raw]
        skipped = 0
        if layout is None:
            layout = _find_layout(raw, lines, path)
            skipped = layout.header_lines if layout else len(lines)
        if layout is not None:
            parts.append(
                parse_rows(
                    lines[skipped:],
                    width=layout.width,
                    used=list(layout.places.values()),
                    where=f"{path}, line",
                    first=number + skipped,
                    delimiter=layout.delimiter,
                )
            )
        number += len(raw)
    if layout is None:
        raise UserError(f"{path} holds no rows of numbers: expected {POSITIONAL_TEXT}")
    values = np.concatenate(parts)
    if layout.rows is not None and layout.rows != len(values):
        raise UserError(
            f"{path} says it has {layout.rows} points but holds {len(values)}: it may be cut short; "
            "mend the count or remove its line"
        )
    return Table(values, tuple(layout.places), named=layout.named)


def _without_comment(line: bytes) -> bytes:
    return line.split(b"#", 1)[0].split(b"//", 1)[0]


def _split(line: bytes) -> tuple[bytes | None, list[bytes]]:
    """Tell the separator of a line, and its fields. One only: in 1,5;2,5 the comma is a decimal comma."""
    delimiter = b";" if b";" in line else b"," if b"," in line else None
    return delimiter, line.split(delimiter)


def _names(fields: Sequence[bytes]) -> list[str]:
    return [field.strip().strip(b"\"'").decode("utf-8", "replace") for field in fields]


def _find_layout(raw: Sequence[bytes], lines: Sequence[bytes], path: Path) -> _Layout | None:
    """Tell the layout from the first row and the lines before it; None while there are only comments."""
    commented: list[str] = []
    rows: int | None = None
    for i, line in enumerate(lines):
        if not line.strip():
            names = _names(_split(raw[i].strip().lstrip(b"#/").strip())[1])
            if {"x", "y"} <= set(map(standard, names)):
                commented = names
            continue
        delimiter, fields = _split(line)
        if not any(map(is_number, fields)):
            return _Layout(delimiter, len(fields), _header(path, i, line, fields), i + 1, rows, named=True)
        if path.suffix.lower() == ".pts" and rows is None and len(fields) == 1 and fields[0].isdigit():
            rows = int(fields[0][:18])
            continue
        named = len(commented) == len(fields)
        known, expected = (POSITIONAL, UNCOUNTED) if rows is None else (BEHIND_COUNT, COUNTED)
        if named:
            places = known_columns(path, commented)
        elif len(fields) in known:
            places = {name: place for place, name in enumerate(known[len(fields)]) if name}
        else:
            plural = "" if len(fields) == 1 else "s"
            raise UserError(
                f"{path} has {len(fields)} column{plural} (line {i + 1}: {shorten(line)}): expected {expected}"
            )
        return _Layout(delimiter, len(fields), places, i, rows, named)
    return None


def _header(path: Path, index: int, line: bytes, fields: Sequence[bytes]) -> dict[str, int]:
    names = _names(fields)
    if not {"x", "y"} <= set(map(standard, names)):
        if all(is_number(field.replace(b",", b".")) for field in fields if field.strip()):
            raise UserError(f"{path}, line {index + 1} has decimal commas: {shorten(line)}; write decimal points")
        raise UserError(
            f"{path}, line {index + 1} is neither a row of numbers nor a header that names x and y: "
            f"{shorten(line)}; expected {POSITIONAL_TEXT}"
        )
    return known_columns(path, names)
