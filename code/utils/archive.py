"""Untrusted arrays in numpy's formats (npy, npz) and glTF: nothing in them is run, memory is taken for real data only.

An array is read after its header has been compared with the number of bytes that follow; an archive after the unpacked
size has been compared with the file's size.
"""

import json
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from phase_recon.utils.errors import UserError
from phase_recon.utils.memory import BYTES_PER_NUMBER, require_memory

COMPRESSED = {"KHR_draco_mesh_compression", "EXT_meshopt_compression"}  # extensions of glTF that are not read
UNPACKED_BASE = 256 << 20  # bytes that an archive of any size may unpack to
UNPACKED_FACTOR = 64  # × size of the archive, added to that: numbers shrink to a half or a tenth, zip bombs to 1/1000


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive with two members of one name, or that would unpack to far more than its size.

    Args:
        archive: the open archive.
        path: its file.

    Raises:
        UserError: the archive is refused; the text names the path.
    """
    members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
        raise UserError(f"{path} is a zip archive that holds two files of one name: save it again")
    size = path.stat().st_size
    unpacked = sum(member.file_size for member in members)
    if unpacked > UNPACKED_BASE + UNPACKED_FACTOR * size:
        raise UserError(
            f"{path} has {size} bytes but would unpack to {unpacked}: expected at most {UNPACKED_FACTOR} times "
            "its size; save it again, not compressed"
        )


def read_array(
    handle: IO[bytes], size: int, where: str, most: int, expected: str, row: bool = False
) -> npt.NDArray[Any]:
    """Read one array (N, M) of real numbers in npy format, without pickle.

    Args:
        handle: a file, positioned at the array.
        size: the number of bytes in the file.
        where: the name of the array in errors.
        most: the largest allowed number of values.
        expected: the accepted shapes, for the error.
        row: whether an array (M,) is taken too, as one row (1, M).

    Raises:
        UserError: the array is not in npy format, does not hold real numbers of at most 64 bits in two dimensions,
            has more than ``most`` values, is cut short, or does not fit into the machine's memory.
    """
    try:
        version = np.lib.format.read_magic(handle)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = read_header(handle)
    except Exception as error:  # the header is a Python literal: damaged, it raises almost anything
        raise UserError(f"{where} is not an array in numpy's format: save it with numpy.save") from error
    if dtype.hasobject:
        raise UserError(f"{where} holds pickled Python objects, which are not read: save an array of numbers")
    if row and len(shape) == 1:
        shape = (1, *shape)
    if dtype.kind not in "fiu" or dtype.itemsize > 8 or len(shape) != 2 or min(shape) < 0:
        raise UserError(
            f"{where} has shape '{str(shape)[:60]}' and type '{str(dtype)[:60]}': expected numbers of at most 64 bits "
            f"in {expected}"
        )
    values = math.prod(shape)
    if values > most:
        raise UserError(f"{where} promises {values} numbers: at most {most} are read; thin it")
    require_memory(BYTES_PER_NUMBER * values, where, "thin it")
    needed = values * dtype.itemsize
    if needed > size - handle.tell():
        raise UserError(f"{where} is cut short: its shape {shape} needs {needed} bytes; save it again")
    content = handle.read(needed)
    if len(content) < needed:
        raise UserError(f"{where} is cut short: {len(content)} of {needed} bytes are there; save it again")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")


def check_gltf(content: bytes, size: int, path: Path) -> None:
    """Refuse a glTF file (text, or the binary .glb) that would be read as zeros.

    Its accessors promise more rows than there are bytes, as they need no data to be filled with zeros; or its data are
    compressed.

    Args:
        content: of the file.
        size: bytes of the file and of those that it names.
        path: what to call it in errors.

    Raises:
        UserError: that; or whatever json raises for a file that is damaged.
    """
    text = content
    if content[:4] == b"glTF":
        # magic, version, length; length and type of the first chunk, which is the text; 4 bytes each
        text = content[20 : 20 + int.from_bytes(content[12:16], "little")]
    tree = json.loads(text)
    if compressed := COMPRESSED & set(tree.get("extensionsRequired", [])):
        raise UserError(f"{path}: is compressed ({', '.join(sorted(compressed))}); export it without compression")
    for accessor in tree.get("accessors", []):
        if not 0 <= accessor["count"] <= size:
            promised = f"{accessor['count']} vertices or faces"
            raise UserError(f"{path}: promises {promised}, more than its bytes; export it again")
