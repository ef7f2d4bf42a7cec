"""Points from a PLY file: vertices with normals, colours and sensor positions, text or binary of either byte order.

Read here rather than by a library because the mesh libraries drop the normals or the precision. Nothing is
allocated before the header's promises are held against the size of the file.
"""

import mmap
import os
import re
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.columns import COLOURS, OPACITY, known_columns
from phase_recon.datasets.table import (
    BLOCK_ROWS,
    MAX_VALUES,
    UTF8_MARK,
    Table,
    line_blocks,
    parse_rows,
    shorten,
    to_double,
)
from phase_recon.utils.errors import UserError

MAX_HEADER_BYTES = 1 << 16
ROWS_OF_TEXT = 100_000  # that are put together at a time, where vertices have lists

# the format's two sets of type names (Turk 1994, and the later one that tells the sizes)
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
STRUCT_CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I"}  # the struct module's, of lengths
BYTE_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}

# 3D Gaussian splatting (Kerbl et al. 2023) stores the logit of the opacity, and the colour as the constant of
# spherical harmonics
GAUSSIAN = {"opacity", "scale_0", "rot_0"}
HARMONIC = {"f_dc_0": "red", "f_dc_1": "green", "f_dc_2": "blue"}
HARMONIC_CONSTANT = 0.5 / np.sqrt(np.pi)


@dataclass(frozen=True)
class _Property:
    name: str
    kind: str  # numpy's code of a value, without byte order
    count_kind: str | None = None  # that of a list's length; None for a single value


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        return any(p.count_kind for p in self.properties)

    def least_bytes(self, ascii_text: bool) -> int:
        """How many bytes the rows take at least: every list empty, every number of one digit."""
        sizes = (2 if ascii_text else np.dtype(p.count_kind or p.kind).itemsize for p in self.properties)
        return self.count * sum(sizes)


def read_ply(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read the vertices' coordinates, normals, colours and sensor positions, as far as there; lists are skipped.

    Of 3D Gaussians these are the centres, their colours and opacities.
    Raises UserError for a header that is not PLY, names no vertices or promises more than the file holds.
    """
    order, elements = _read_header(handle, path)
    vertex = next((e for e in elements if e.name == "vertex"), None)
    if vertex is None or vertex.count == 0:
        raise UserError(f"{path} holds no vertices: expected 'element vertex' with a count above 0")
    names = ["" if p.count_kind else p.name for p in vertex.properties]
    gaussian = set(names) >= GAUSSIAN
    if gaussian:
        names = [HARMONIC.get(name, name) for name in names]
    places = known_columns(f"{path}", names)
    if gaussian:
        places[OPACITY] = names.index(OPACITY)

    if vertex.count * len(places) > MAX_VALUES:
        raise UserError(
            f"{path} promises {vertex.count} vertices: expected at most {MAX_VALUES} numbers; cut it into parts"
        )
    # the last line of a text may lack its end
    needed = sum(e.least_bytes(order == "") for e in elements) - (order == "")
    held = os.fstat(handle.fileno()).st_size - handle.tell()
    if needed > held:
        raise UserError(
            f"{path} is cut short: its header promises {vertex.count} vertices and at least {needed} bytes, "
            f"{held} are there; copy or export it again"
        )

    before = elements[: elements.index(vertex)]
    notes = []
    if any(e.name == "face" and e.count for e in elements):
        notes.append(f"points are the {vertex.count} vertices of a mesh")
    if gaussian:
        notes.append("points are the centres of 3D Gaussians")
    read = _text_vertices if order == "" else _list_vertices if vertex.has_lists else _binary_vertices
    for columns in read(handle, path, before, vertex, places, order):
        yield Table(_splats(columns) if gaussian else columns, vertex.count, tuple(notes))


def _splats(columns: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Turn what 3D Gaussian splatting stores into opacities and colours from 0 to 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        plain = {OPACITY: 1 / (1 + np.exp(-to_double(columns[OPACITY])))}
        for colour in COLOURS:
            if colour in columns:
                plain[colour] = np.clip(0.5 + HARMONIC_CONSTANT * to_double(columns[colour]), 0, 1)
    return columns | plain


def _read_header(handle: BinaryIO, path: Path) -> tuple[str, list[_Element]]:
    """Read up to end_header: the byte order ("" for text) and the elements in the order of the file."""
    head = handle.read(MAX_HEADER_BYTES)
    first = re.match(rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r?\n|\r)", head)
    if first is None:
        raise UserError(f"{path} does not begin with 'ply': give it the extension of its format")
    newline = b"\r" if first[1] == b"\r" else b"\n"
    order: str | None = None
    elements: list[_Element] = []
    start = first.end()
    while (end := head.find(newline, start)) >= 0:
        line = head[start:end]
        start = end + 1
        match line.decode("ascii", "replace").split():
            case ["end_header"] if order is not None:
                handle.seek(start)
                return order, elements
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", kind, _] if kind in BYTE_ORDERS:
                order = BYTE_ORDERS[kind]
            case ["element", name, count] if count.isdigit() and len(count) < 20:
                elements.append(_Element(name, int(count)))
            case ["property", kind, name] if elements and kind in TYPES:
                elements[-1].properties.append(_Property(name, TYPES[kind]))
            case ["property", "list", length, kind, name] if (
                elements and kind in TYPES and TYPES.get(length, "f")[0] != "f"
            ):
                elements[-1].properties.append(_Property(name, TYPES[kind], TYPES[length]))
            case _:
                raise UserError(f"{path} has a PLY header line that cannot be understood: {shorten(line)}")
    raise UserError(f"{path} has a PLY header without its end ('end_header'): copy or export it again")


# ------------------------------------------------------------------------------------------------ text


def _text_vertices(
    handle: BinaryIO,
    path: Path,
    before: list[_Element],
    vertex: _Element,
    places: dict[str, int],
    order: str,
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Read the vertices as rows of text, behind the rows of the elements ``before``."""
    skip = sum(e.count for e in before if e.properties)
    lines = _lines(handle, path, skip)
    read = 0
    for rows in _rows_by_values(lines, vertex) if vertex.has_lists else _rows_by_lines(lines, vertex):
        values = parse_rows(
            rows[: vertex.count - read],
            width=len(vertex.properties),
            used=list(places.values()),
            where=f"{path}, vertex",
            first=read + 1,
        )
        if len(values):
            yield dict(zip(places, values.T, strict=True))
        read += len(values)
        if read == vertex.count:
            return
    raise _cut_short(path, read, vertex)


def _lines(handle: BinaryIO, path: Path, skip: int) -> Iterator[list[bytes]]:
    """Yield blocks of the lines that are not blank, without the first ``skip`` and without a byte-order mark."""
    for block in line_blocks(handle, f"{path}"):
        lines = [line.removeprefix(UTF8_MARK) for line in block if line.strip()]
        yield lines[skip:]
        skip = max(skip - len(lines), 0)


def _rows_by_lines(blocks: Iterator[list[bytes]], element: _Element) -> Iterator[list[bytes]]:
    """Yield rows of one value for each property, although a row may go over several lines, or a line hold several rows.

    A row with too many values is given as it is, for the parser to refuse.
    """
    width = len(element.properties)
    fields: list[bytes] = []  # of a row that is not complete
    for lines in blocks:
        if not fields and all(len(line.split()) == width for line in lines):
            yield lines
            continue
        rows = []
        for line in lines:
            fields += line.split()
            if len(fields) >= width:
                step = width if len(fields) % width == 0 else len(fields)
                rows += [b" ".join(fields[i : i + step]) for i in range(0, len(fields), step)]
                fields = []
        yield rows


def _rows_by_values(blocks: Iterator[list[bytes]], element: _Element) -> Iterator[list[bytes]]:
    """Yield rows with lists, of which only the lengths are given, value by value wherever the lines end."""
    values = (value for lines in blocks for line in lines for value in line.split())
    rows: list[bytes] = []
    for _ in range(element.count):
        row: list[bytes] = []
        for p in element.properties:
            value = next(values, None)
            if value is None:
                yield rows
                return
            row.append(value)
            if p.count_kind:
                if not value.isdigit():
                    yield [*rows, b" ".join(row)]  # which the parser refuses
                    return
                deque(islice(values, int(value[:9])), maxlen=0)  # passes over the list
        rows.append(b" ".join(row))
        if len(rows) == ROWS_OF_TEXT:
            yield rows
            rows = []
    yield rows


# ------------------------------------------------------------------------------------------------ binary


def _binary_vertices(
    handle: BinaryIO,
    path: Path,
    before: list[_Element],
    vertex: _Element,
    places: dict[str, int],
    order: str,
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Read the vertices as records of bytes, behind the elements ``before``."""
    _skip_elements(handle, before, order)
    # fields are named by their place: a file may repeat a name that nobody reads
    record = np.dtype([(str(i), order + p.kind) for i, p in enumerate(vertex.properties)])
    held = max(os.fstat(handle.fileno()).st_size - handle.tell(), 0)
    if held < record.itemsize * vertex.count:
        raise _cut_short(path, held // record.itemsize, vertex)
    for start in range(0, vertex.count, BLOCK_ROWS):
        records = np.fromfile(handle, record, min(BLOCK_ROWS, vertex.count - start))
        yield {name: _native(records[str(place)]) for name, place in places.items()}


def _list_vertices(
    handle: BinaryIO,
    path: Path,
    before: list[_Element],
    vertex: _Element,
    places: dict[str, int],
    order: str,
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Read vertices with lists, which are as long as they say themselves."""
    _skip_elements(handle, before, order)
    row = _ListRow(vertex, order)
    start = handle.tell()
    with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        content = np.frombuffer(data, np.uint8)
        try:
            for first in range(0, vertex.count, BLOCK_ROWS):
                count = min(BLOCK_ROWS, vertex.count - first)
                rows, start = row.offsets(data, start, count)
                if len(rows) < count:
                    raise _cut_short(path, first + len(rows), vertex)
                offsets = np.array(rows, dtype=np.int64)
                columns = {}
                for name, place in places.items():
                    kind = np.dtype(order + vertex.properties[place].kind)
                    lists, shift = row.places[place]
                    where = offsets[:, lists, None] + shift + np.arange(kind.itemsize)
                    columns[name] = _native(content[where].view(kind)[:, 0])
                yield columns
        finally:
            del content  # the map cannot be closed while it is looked at


class _ListRow:
    """Where the values of a row with lists are."""

    def __init__(self, element: _Element, order: str) -> None:
        self.places: list[tuple[int, int]] = []  # of each property: lists before it, and bytes behind the last of them
        self.lists: list[tuple[int, struct.Struct, int]] = []  # bytes before the length, the length, bytes of an item
        shift = 0
        for p in element.properties:
            self.places.append((len(self.lists), shift))
            if p.count_kind is None:
                shift += np.dtype(p.kind).itemsize
            else:
                length = struct.Struct(order + STRUCT_CODES[p.count_kind])
                self.lists.append((shift, length, np.dtype(p.kind).itemsize))
                shift = 0
        self.rest = shift

    def offsets(self, data: mmap.mmap, start: int, count: int) -> tuple[list[list[int]], int]:
        """Where each row begins, and where it goes on behind each of its lists; and where the last row ends.

        Fewer rows than ``count`` are given where the data ends.
        """
        offsets: list[list[int]] = []
        place, size = start, len(data)
        for _ in range(count):
            row = [place]
            for shift, length, item in self.lists:
                place += shift
                if place + length.size > size:
                    return offsets, size
                place += length.size + item * max(length.unpack_from(data, place)[0], 0)
                row.append(place)
            place += self.rest
            if place > size:
                return offsets, size
            offsets.append(row)
        return offsets, place


def _cut_short(path: Path, there: int, vertex: _Element) -> UserError:
    return UserError(
        f"{path} is cut short: it ends after {there} of {vertex.count} vertices; copy or export it again"
    )


def _native(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same numbers in the machine's own byte order, as an array of their own."""
    return column.astype(column.dtype.newbyteorder("="))


def _skip_elements(handle: BinaryIO, elements: list[_Element], order: str) -> None:
    for element in elements:
        if element.has_lists:
            _skip_lists(handle, element, order)
        else:
            handle.seek(element.least_bytes(ascii_text=False), os.SEEK_CUR)


def _skip_lists(handle: BinaryIO, element: _Element, order: str) -> None:
    """Pass over the rows of an element with lists, whose length only the rows themselves tell."""
    kinds = [
        (np.dtype(order + p.kind).itemsize, np.dtype(order + p.count_kind) if p.count_kind else None)
        for p in element.properties
    ]
    for _ in range(element.count):
        for size, length_kind in kinds:
            length = 1
            if length_kind is not None:
                data = handle.read(length_kind.itemsize)
                if len(data) < length_kind.itemsize:
                    return  # beyond the end of the file: the caller finds the vertices missing
                length = max(int(np.frombuffer(data, length_kind)[0]), 0)
            handle.seek(size * length, os.SEEK_CUR)


# ------------------------------------------------------------------------------------------------ writing


def ply_of_columns(columns: Mapping[str, npt.NDArray[np.float64]]) -> bytes:
    """A binary ply of points, which this reader reads back: a column (N,) in double precision under each name."""
    table = np.column_stack(list(columns.values())).astype("<f8")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    header += [f"property double {name}" for name in columns]
    return "\n".join([*header, "end_header\n"]).encode() + table.tobytes()
