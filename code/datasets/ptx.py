"""Points from Leica's PTX files: scans as text, each with its scanner's place and the way into the common frame.

A scan is: the numbers of its columns and rows, the scanner's place (1 line), its axes (3), a matrix (4), and a line
'x y z intensity', or with 'red green blue' behind, for each pixel. 0 0 0 is a pixel where nothing was measured.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.columns import AXES, COLOURS, SENSORS
from phase_recon.datasets.table import Table, line_blocks, parse_rows, shorten
from phase_recon.utils.errors import UserError

HEADER_LINES = 10
HEADER_WIDTHS = (1, 1, 3, 3, 3, 3, 4, 4, 4, 4)  # numbers in each of them
WIDTHS = {3: AXES, 4: AXES, 6: AXES + COLOURS, 7: AXES + COLOURS}  # fields of a row; colours are the last three
BYTES_OF_A_ROW = 6  # at least: "0 0 0" and its end


def read_ptx(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read the points of all scans in the common frame, and where their scanners stood.

    Raises UserError for a header or a row that is not as the format says, and for a file that is cut short.
    """
    size = os.fstat(handle.fileno()).st_size
    number, left, total = 0, 0, 0  # line; rows of the scan that are not read yet; rows promised so far
    head: list[bytes] = []
    frame = np.eye(4)
    width: int | None = None
    for block in line_blocks(handle, f"{path}"):
        place = 0
        while place < len(block):
            if left:
                lines = block[place : place + left]
                count = sum(1 for line in lines if line.strip())
                if count:
                    width = width or len(next(line for line in lines if line.strip()).split())
                    yield _points(lines, width, frame, total, f"{path}, line", number + 1)
                left -= count
                number += len(lines)
                place += len(lines)
                continue
            line = block[place]
            place, number = place + 1, number + 1
            if not line.strip():
                continue
            head.append(line)
            if len(head) < HEADER_LINES:
                continue
            left, frame = _read_header(head, path, number)
            head, width = [], None
            total += left
            if total * BYTES_OF_A_ROW > size:
                raise UserError(f"{path} is cut short: it promises {total} rows in {size} bytes; export it again")
    if left or head or not total:
        raise UserError(f"{path} is cut short: it ends after {total - left} of {total} rows; copy or export it again")


def _read_header(lines: list[bytes], path: Path, last: int) -> tuple[int, npt.NDArray[np.float64]]:
    """Tell how many rows follow, and the matrix from the scanner's frame to the common one, for rows (x, y, z, 1)."""
    numbers = []
    for line, width, number in zip(lines, HEADER_WIDTHS, range(last - HEADER_LINES + 1, last + 1), strict=True):
        try:
            row = [float(field) for field in line.split()]
        except ValueError:
            row = []
        if len(row) != width or not np.isfinite(row).all():
            raise UserError(
                f"{path}, line {number} of a scan's head is {shorten(line)}: expected {width} "
                f"number{'s' * (width > 1)}, as PTX has it"
            )
        numbers.append(row)
    columns, rows = numbers[0][0], numbers[1][0]
    if columns < 1 or rows < 1 or columns % 1 or rows % 1:
        raise UserError(
            f"{path}, line {last - HEADER_LINES + 1}: a scan of {columns:g} × {rows:g} points has none; "
            "expected 1 × 1 or more: export it again"
        )
    return int(columns) * int(rows), np.array(numbers[6:])


def _points(
    lines: list[bytes], width: int, frame: npt.NDArray[np.float64], total: int, where: str, first: int
) -> Table:
    if width not in WIDTHS:
        raise UserError(f"{where} {first} has {width} values: expected x y z intensity, or with red green blue behind")
    names = WIDTHS[width]
    used = [*range(3), *range(width - 3, width)][: len(names)]
    values = parse_rows(lines, width=width, used=used, where=where, first=first)
    measured = np.logical_or.reduce(values[:, :3] != 0, axis=1)
    with np.errstate(all="ignore"):
        values[:, :3] = values[:, :3] @ frame[:3, :3] + frame[3, :3]
    columns = dict(zip(names, values.T, strict=True))
    columns |= {name: np.full(len(values), frame[3, i]) for i, name in enumerate(SENSORS)}
    return Table(columns, total).keep(measured, "where nothing was measured (0 0 0)")
