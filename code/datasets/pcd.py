"""Points from the Point Cloud Library's PCD files: text, binary and compressed binary, organised or not."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.columns import COLOURS, SENSORS, known_columns
from phase_recon.datasets.table import BLOCK_ROWS, MAX_VALUES, Table, line_blocks, parse_rows, shorten
from phase_recon.utils.errors import UserError
from phase_recon.utils.memory import require_memory

MAX_HEADER_BYTES = 1 << 16
KINDS = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}  # TYPE, and the SIZE that it may have
NO_VIEWPOINT = (0.0, 0.0, 0.0)  # every program writes it that knows of none
LZF_FACTOR = 100  # LZF packs at most 264 bytes into 3


@dataclass(frozen=True)
class _Header:
    names: tuple[str, ...]
    kinds: tuple[np.dtype[Any], ...]
    counts: tuple[int, ...]  # values of each field
    points: int
    viewpoint: tuple[float, ...]  # x y z of the sensor
    data: str

    @property
    def record(self) -> np.dtype[Any]:
        """One point in a binary file. Fields are named by their place: a name may be repeated, as "_" is."""
        return np.dtype([
            (str(i), kind, (count,)) for i, (kind, count) in enumerate(zip(self.kinds, self.counts, strict=True))
        ])


def read_pcd(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read coordinates, normals, colours (packed ones, too) and the sensor's position.

    The sensor is at the VIEWPOINT, in the frame of the points, or at each point's vp_x vp_y vp_z. A VIEWPOINT of
    0 0 0 says nothing. Its rotation is not needed: points are in the frame of the file.
    Raises UserError for a header that is not PCD or promises more than the file holds.
    """
    header = _read_header(handle, path)
    places = known_columns(f"{path}", header.names)
    packed = next((i for i, name in enumerate(header.names) if name.lower() in ("rgb", "rgba")), None)
    used = dict(places)
    if packed is not None and header.kinds[packed].itemsize == 4:
        used["packed"] = packed
    wrong = [name for name, place in used.items() if header.counts[place] != 1]
    if wrong:
        raise UserError(f"{path} has several values in the field {wrong[0]}: expected one (COUNT 1)")
    if header.points * len(used) > MAX_VALUES:
        raise UserError(
            f"{path} promises {header.points} points: expected at most {MAX_VALUES} numbers; cut it into parts"
        )

    read = {"ascii": _text, "binary": _binary, "binary_compressed": _compressed}[header.data]
    for columns in read(handle, path, header, used):
        if "packed" in columns:
            word = columns.pop("packed").view(np.uint32)
            for name, shift in zip(COLOURS, (16, 8, 0), strict=True):
                columns[name] = (word >> shift & 255).astype(np.uint8)
        if header.viewpoint != NO_VIEWPOINT and SENSORS[0] not in columns:
            columns |= {
                name: np.full(len(columns["x"]), value) for name, value in zip(SENSORS, header.viewpoint, strict=True)
            }
        yield Table(columns, header.points)


def _read_header(handle: BinaryIO, path: Path) -> _Header:
    entries: dict[str, list[str]] = {}
    while "DATA" not in entries and handle.tell() < MAX_HEADER_BYTES:
        line = handle.readline(MAX_HEADER_BYTES)
        if not line:
            break
        key, *values = line.decode("ascii", "replace").split("#")[0].split() or [""]
        if key:
            entries[key.upper()] = values
    if "FIELDS" not in entries or "DATA" not in entries:
        raise UserError(f"{path} does not begin as a PCD file, with FIELDS, SIZE, TYPE and DATA: export it again")
    try:
        names = tuple(entries["FIELDS"])
        sizes = [int(size) for size in entries["SIZE"]]
        counts = tuple(int(count) for count in entries.get("COUNT", ["1"] * len(names)))
        kinds = tuple(
            np.dtype(f"<{kind.lower()}{size}") for kind, size in zip(entries["TYPE"], sizes, strict=True)
            if size in KINDS[kind]
        )
        width, height = (int(entries.get(key, ["1"])[0]) for key in ("WIDTH", "HEIGHT"))
        points = int(entries["POINTS"][0]) if "POINTS" in entries else width * height
        viewpoint = tuple(float(value) for value in entries.get("VIEWPOINT", ["0"] * 3)[:3])
        (data,) = entries["DATA"]
        if not len(names) == len(kinds) == len(counts) or min(counts) < 0 or max(counts) > MAX_HEADER_BYTES:
            raise ValueError("as many sizes, types and counts as fields")
        if len(viewpoint) < 3 or data not in ("ascii", "binary", "binary_compressed"):
            raise ValueError("a viewpoint of seven numbers, and known data")
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise UserError(
            f"{path} has a PCD header that cannot be understood ({shorten(str(error), 60)}): export it again"
        ) from error
    if points <= 0:
        raise UserError(f"{path} holds no points: expected POINTS above 0")
    return _Header(names, kinds, counts, points, viewpoint, data)


def _text(
    handle: BinaryIO, path: Path, header: _Header, used: dict[str, int]
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Read a point per line."""
    first = np.concatenate([[0], np.cumsum(header.counts)])  # value of each field in a line
    read = 0
    for lines in line_blocks(handle, f"{path}"):
        rows = [line for line in lines if line.strip()][: header.points - read]
        values = parse_rows(
            rows,
            width=int(first[-1]),
            used=[int(first[place]) for place in used.values()],
            where=f"{path}, point",
            first=read + 1,
        )
        columns: dict[str, npt.NDArray[Any]] = dict(zip(used, values.T, strict=True))
        if "packed" in columns:  # a number that means its own bits
            kind = header.kinds[used["packed"]]
            with np.errstate(all="ignore"):
                columns["packed"] = columns["packed"].astype(kind if kind.kind == "f" else np.int64)
            columns["packed"] = columns["packed"].astype(kind, copy=False)
        if len(values):
            yield columns
        read += len(values)
    if read < header.points:
        raise _cut_short(path, read, header)


def _binary(
    handle: BinaryIO, path: Path, header: _Header, used: dict[str, int]
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Read the points as records."""
    record = header.record
    held = os.fstat(handle.fileno()).st_size - handle.tell()
    if held < header.points * record.itemsize:
        raise _cut_short(path, held // record.itemsize, header)
    for start in range(0, header.points, BLOCK_ROWS):
        records = np.fromfile(handle, record, min(BLOCK_ROWS, header.points - start))
        yield {name: np.ascontiguousarray(records[str(place)][:, 0]) for name, place in used.items()}


def _compressed(
    handle: BinaryIO, path: Path, header: _Header, used: dict[str, int]
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Read the points as one block that LZF packed, each field for itself."""
    import lzf

    packed, unpacked = np.frombuffer(handle.read(8).ljust(8, b"\0"), "<u4").tolist()
    held = os.fstat(handle.fileno()).st_size - handle.tell()
    needed = header.points * header.record.itemsize
    if packed > held:
        raise UserError(f"{path} is cut short: {held} of {packed} compressed bytes are there; copy or export it again")
    if unpacked != needed or unpacked > LZF_FACTOR * packed:
        raise UserError(
            f"{path} promises {header.points} points of {header.record.itemsize} bytes, but {packed} bytes that "
            f"unpack to {unpacked}: export it again"
        )
    require_memory(2 * unpacked, f"{path} ({header.points} points)", "save it as binary")
    try:
        content = lzf.decompress(handle.read(packed), unpacked)
    except Exception as error:  # damaged data
        raise _damaged(path) from error
    if content is None or len(content) != unpacked:
        raise _damaged(path)
    sizes = [kind.itemsize * count for kind, count in zip(header.kinds, header.counts, strict=True)]
    starts = header.points * np.concatenate([[0], np.cumsum(sizes)])
    for start in range(0, header.points, BLOCK_ROWS):
        count = min(BLOCK_ROWS, header.points - start)
        yield {
            name: np.frombuffer(
                content, header.kinds[place], count, int(starts[place]) + start * header.kinds[place].itemsize
            )
            for name, place in used.items()
        }


def _cut_short(path: Path, there: int, header: _Header) -> UserError:
    return UserError(f"{path} is cut short: it ends after {there} of {header.points} points; copy or export it again")


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} has compressed data that cannot be unpacked: copy or export it again")
