"""Points from a PLY file: the vertices with their normals and colours, text or binary of either byte order.

Read here rather than by a library because the mesh libraries drop the normals or the precision. Nothing is
allocated before the header's promises are held against the size of the file.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.table import MAX_VALUES, Table, known_columns, line_blocks, parse_rows, shorten, to_double
from phase_recon.utils.errors import UserError
from phase_recon.utils.memory import READING, require_memory

MAX_HEADER_BYTES = 1 << 16

# the format's two sets of type names (Turk 1994, and the later one that tells the sizes)
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
BYTE_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


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


def read_ply(handle: BinaryIO, path: Path) -> Table:
    """Read the vertices' coordinates, normals, colours and sensor positions, as far as there; the note tells of faces.

    Raises UserError for a header that is not PLY, names no vertices or promises more than the file holds.
    """
    order, elements = _read_header(handle, path)
    vertex = next((e for e in elements if e.name == "vertex"), None)
    if vertex is None or vertex.count == 0:
        raise UserError(f"{path} holds no vertices: expected 'element vertex' with a count above 0")
    if vertex.has_lists:
        raise UserError(f"{path} has a list among its vertex properties: save it with plain properties only")
    places = known_columns(path, [p.name for p in vertex.properties])

    if vertex.count * len(places) > MAX_VALUES:
        raise UserError(f"{path} promises {vertex.count} vertices: expected at most {MAX_VALUES} numbers")
    # the last line of a text may lack its end
    needed = sum(e.least_bytes(order == "") for e in elements) - (order == "")
    held = os.fstat(handle.fileno()).st_size - handle.tell()
    if needed > held:
        raise UserError(
            f"{path} is cut short: its header promises {vertex.count} vertices and at least {needed} bytes, "
            f"{held} are there; copy or export it again"
        )

    require_memory(READING * vertex.count * len(places), f"{path} ({vertex.count} points)", "thin the cloud")
    before = elements[: elements.index(vertex)]
    if order == "":
        values = _ascii_vertices(handle, path, sum(e.count for e in before if e.properties), vertex, places)
    else:
        values = _binary_vertices(handle, path, before, vertex, places, order)
    meshed = any(e.name == "face" and e.count for e in elements)
    note = f"points are the {vertex.count} vertices of a mesh" if meshed else None
    return Table(values, tuple(places), note)


def _read_header(handle: BinaryIO, path: Path) -> tuple[str, list[_Element]]:
    """Read up to end_header: the byte order ("" for text) and the elements in the order of the file."""
    if handle.readline(MAX_HEADER_BYTES).strip() != b"ply":
        raise UserError(f"{path} does not begin with 'ply': give it the extension of its format")
    order: str | None = None
    elements: list[_Element] = []
    while handle.tell() < MAX_HEADER_BYTES:
        line = handle.readline(MAX_HEADER_BYTES)
        match line.decode("ascii", "replace").split():
            case ["end_header"] if order is not None:
                return order, elements
            case ["format", kind, _] if kind in BYTE_ORDERS:
                order = BYTE_ORDERS[kind]
            case ["comment" | "obj_info", *_]:
                pass
            case ["element", name, count] if count.isdigit() and len(count) < 20:
                elements.append(_Element(name, int(count)))
            case ["property", kind, name] if elements and kind in TYPES:
                elements[-1].properties.append(_Property(name, TYPES[kind]))
            case ["property", "list", length, kind, name] if (
                elements and kind in TYPES and TYPES.get(length, "f")[0] != "f"
            ):
                elements[-1].properties.append(_Property(name, TYPES[kind], TYPES[length]))
            case _ if line:
                raise UserError(f"{path} has a PLY header line that cannot be understood: {shorten(line)}")
            case _:
                break
    raise UserError(f"{path} has a PLY header without its end ('end_header'): copy or export it again")


def _ascii_vertices(
    handle: BinaryIO, path: Path, skip: int, vertex: _Element, places: dict[str, int]
) -> npt.NDArray[np.float64]:
    """Read the vertices as rows of text, behind ``skip`` rows of other elements."""
    parts, read = [], -skip
    for block in line_blocks(handle, path):
        lines = [line for line in block if line.strip()]
        rows = lines[max(-read, 0) : vertex.count - read]
        parts.append(
            parse_rows(
                rows,
                width=len(vertex.properties),
                used=list(places.values()),
                where=f"{path}, vertex",
                first=max(read, 0) + 1,
            )
        )
        read += len(lines)
        if read >= vertex.count:
            break
    if read < vertex.count:
        raise UserError(
            f"{path} is cut short: it ends after {max(read, 0)} of {vertex.count} vertices; "
            "copy or export it again"
        )
    return np.concatenate(parts)


def _binary_vertices(
    handle: BinaryIO,
    path: Path,
    before: list[_Element],
    vertex: _Element,
    places: dict[str, int],
    order: str,
) -> npt.NDArray[np.float64]:
    """Read the vertices as records of bytes, behind the elements ``before``."""
    for element in before:
        if element.has_lists:
            _skip_lists(handle, element, order)
        else:
            handle.seek(element.least_bytes(ascii_text=False), os.SEEK_CUR)
    # fields are named by their place: a file may repeat a name that nobody reads
    record = np.dtype([(str(i), order + p.kind) for i, p in enumerate(vertex.properties)])
    held = max(os.fstat(handle.fileno()).st_size - handle.tell(), 0)
    if held < record.itemsize * vertex.count:
        raise UserError(
            f"{path} is cut short: it ends after {held // record.itemsize} of {vertex.count} vertices; "
            "copy or export it again"
        )
    records = np.fromfile(handle, record, vertex.count)
    values = np.empty((vertex.count, len(places)))
    for column, place in enumerate(places.values()):
        values[:, column] = to_double(records[str(place)])
    return values


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
