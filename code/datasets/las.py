"""Points from LAS and LAZ files of airborne and other laser scanners, by laspy; COPC is a LAZ file, too."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.columns import CLASS, COLOURS, NORMALS, STATION, standard
from phase_recon.datasets.foreign import one_line
from phase_recon.datasets.table import BLOCK_ROWS, MAX_VALUES, Table
from phase_recon.utils.errors import UserError

# what is checked of the header before laspy sees it (LAS 1.4 R15, ASPRS 2019, table 3)
HEADER = np.dtype({
    "names": ["minor", "size", "start", "records", "format", "record", "count", "count_14"],
    "formats": ["u1", "<u2", "<u4", "<u4", "u1", "<u2", "<u4", "<u8"],
    "offsets": [25, 94, 96, 100, 104, 105, 107, 247],
    "itemsize": 375,
})  # fmt: skip
LEAST_HEADER, LEAST_POINT = 227, 20  # bytes
RECORD_HEADER = 54  # bytes of the head of a variable length record
COMPRESSED = 0x80  # bit of the point format that says LAZ
LASZIP_ITEMS = 34  # byte of the description of the compression (LASzip's record) where its items begin
LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}  # of the items of layered chunks: point, colour, colour and infrared, wave packet
BYTES_14 = 14  # the item of extra bytes, with a layer for each
PART_BYTES = 64 << 20  # of point records that are read at a time


def read_las(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read coordinates (integers times scale plus offset, exactly), colours, classes, the numbers of the
    stations, and normals among extra bytes.

    Points that are marked as withheld are left out: the format says that they are to be treated as deleted.
    Raises UserError for a file that is not sound or promises more than it holds.
    """
    import laspy

    size = _check_header(handle, path)
    handle.seek(0)
    # in one thread: a damaged file makes the threads of the parallel one abort the whole process
    options = {"closefd": False, "read_evlrs": False, "laz_backend": laspy.LazBackend.Lazrs}
    with one_line(path), laspy.open(handle, **options) as reader:
        header = reader.header
        names = list(header.point_format.dimension_names)
        if header.point_count * 3 > MAX_VALUES:
            raise UserError(
                f"{path} promises {header.point_count} points: expected at most {MAX_VALUES} numbers; cut it into parts"
            )
        if header.are_points_compressed:
            _check_chunks(handle, header, size, path)
        extra = {standard(name): name for name in names if standard(name) in NORMALS}
        colours = {name: name for name in COLOURS if name in names}
        read = 0
        for points in reader.chunk_iterator(max(1, min(BLOCK_ROWS, PART_BYTES // header.point_format.size))):
            with np.errstate(all="ignore"):  # a damaged scale overflows
                columns: dict[str, npt.NDArray[Any]] = {name: np.asarray(points[name]) for name in "xyz"}
            columns |= {name: np.asarray(points[theirs]) for name, theirs in (colours | extra).items()}
            columns[CLASS] = np.asarray(points["classification"])
            columns[STATION] = np.asarray(points["point_source_id"])
            read += len(points)
            table = Table(columns, header.point_count)
            yield table.keep(~np.asarray(points["withheld"], dtype=np.bool_), "marked as withheld")
    if read != header.point_count or not read:
        raise UserError(f"{path} is cut short: it ends after {read} of {header.point_count} points; copy it again")


def _check_header(handle: BinaryIO, path: Path) -> int:
    """Refuse a header whose sizes do not fit the file, before anything is allocated; returns the file's size."""
    size = os.fstat(handle.fileno()).st_size
    head = handle.read(HEADER.itemsize)
    if not head.startswith(b"LASF"):
        raise UserError(f"{path} does not begin with 'LASF': give it the extension of its format")
    if len(head) < LEAST_HEADER:
        raise UserError(f"{path} is cut short: its header has {len(head)} bytes; copy or export it again")

    fields = np.frombuffer(head.ljust(HEADER.itemsize, b"\0"), HEADER)
    header = {name: int(fields[name][0]) for name in HEADER.names or ()}
    count = header["count"]
    sound = LEAST_HEADER <= header["size"] <= header["start"] <= size and header["record"] >= LEAST_POINT
    sound &= header["size"] + header["records"] * RECORD_HEADER <= header["start"]
    if header["minor"] >= 4:
        count = header["count_14"] or count
    if not header["format"] & COMPRESSED:
        sound &= header["start"] + count * header["record"] <= size
    if not sound or not count:
        raise UserError(
            f"{path} has a header that promises {count} points, or other sizes, that do not fit its {size} bytes: "
            "copy or export it again"
        )
    return size


def _check_chunks(handle: BinaryIO, header: Any, size: int, path: Path) -> None:
    """Refuse compressed points that do not fit the file by their own word, by which lazrs allocates.

    In a layered chunk (Isenburg, LASzip native compressor for LAS 1.4) the first point is followed by the number of
    points and the bytes of each layer, 32 bits each, and then by the layers.
    """
    record = header.vlrs[header.vlrs.index("LasZipVlr")].record_data
    count = int.from_bytes(record[LASZIP_ITEMS - 2 : LASZIP_ITEMS], "little")
    items = np.frombuffer(record, "<u2", 3 * count, LASZIP_ITEMS).reshape(-1, 3)[:, :2].tolist()  # kind and bytes
    sound = sum(width for _, width in items) == header.point_format.size
    layers = sum(LAYERS.get(kind, width if kind == BYTES_14 else 0) for kind, width in items)
    before = handle.tell()
    handle.seek(header.offset_to_point_data)
    end = int.from_bytes(handle.read(8), "little", signed=True)  # where the table of chunks begins
    place = handle.tell()
    if end == -1:  # a writer that could not go back has put it at the end
        handle.seek(-8, os.SEEK_END)
        end = int.from_bytes(handle.read(8), "little", signed=True)
    sound &= place <= end <= size - 8
    if sound:
        handle.seek(end)
        version, chunks = np.frombuffer(handle.read(8), "<u4").tolist()
        sound = version == 0 and chunks <= min(header.point_count, 8 * size)
    while layers and sound and place < end:
        handle.seek(place + header.point_format.size + 4)
        widths = np.frombuffer(handle.read(4 * layers).ljust(4 * layers, b"\xff"), "<u4")
        place = handle.tell() + int(widths.sum(dtype=np.uint64))
        sound = place <= size
    handle.seek(before)
    if not sound:
        raise UserError(f"{path} has compressed points that do not fit its {size} bytes: copy or export it again")
