"""Points from mesh files: the vertices of OBJ, OFF, STL and glTF, in the order of the file.

Only the vertices are wanted, so the first three are read here: mesh libraries merge them by an absolute tolerance,
reorder them, follow material files and guess encodings. glTF, which has none of these, is read by trimesh.
"""

import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from phase_recon.datasets.columns import AXES, COLOURS, NORMALS
from phase_recon.datasets.foreign import one_line
from phase_recon.datasets.table import Table, as_utf8, line_blocks, parse_rows, shorten, to_double
from phase_recon.utils.archive import check_gltf
from phase_recon.utils.arrays import unique_rows
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import offset_of_mesh, read_offset
from phase_recon.utils.memory import BYTES_PER_TEXT_BYTE, require_memory

READING_GLTF = 4  # bytes of memory per byte of a glTF file: itself, trimesh's copies, and the points
STL_HEADER_BYTES = 84  # 80 of free text, then the number of facets
STL_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def read_obj(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read the vertices (v), their colours if behind them, and their normals (vn) if there is one for each.

    Materials are never looked at. Normals that the faces share out otherwise than one to a vertex are left
    out, and the note says so.

    Raises:
        UserError: a line is no vertex or normal, with its number.
    """
    vertices: list[bytes] = []
    normals: list[bytes] = []
    faces, one_each = False, True
    for block in _text_blocks(handle, path):
        for line in block:
            match line.split(None, 1):
                case [b"v", _]:
                    vertices.append(line)
                case [b"vn", _]:
                    normals.append(line)
                case [b"f", corners]:
                    faces = True
                    one_each = one_each and all(map(_same_indices, corners.split()))
    if not vertices:
        raise UserError(f"{path} holds no vertices: expected lines 'v x y z'")
    width = len(vertices[0].split())
    names = AXES + COLOURS if width == 7 else AXES
    if width < 4:
        raise UserError(f"{path} has a vertex that is not 'v x y z': {shorten(vertices[0])}")
    columns = [
        parse_rows(
            vertices,
            width=width,
            used=range(1, 1 + len(names)),
            where=f"{path}, vertex",
            first=1,
        )
    ]
    notes = _mesh_note(len(vertices)) if faces else ()
    if normals and one_each and len(normals) == len(vertices):
        columns.append(parse_rows(normals, width=4, used=(1, 2, 3), where=f"{path}, vertex normal", first=1))
        names = (*names, *NORMALS)
    elif normals:
        notes = (*notes, "its normals are not one to a vertex and were left out")
    yield Table(dict(zip(names, np.hstack(columns).T, strict=True)), len(vertices), notes)


def _same_indices(corner: bytes) -> bool:
    """Whether a face's corner (v, v/vt, v//vn or v/vt/vn) takes the normal of its vertex's own number."""
    vertex, *rest = corner.split(b"/")
    return len(rest) < 2 or (vertex == rest[1] and not vertex.startswith(b"-"))


def read_off(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read the vertices of a text OFF file, with normals where the keyword is NOFF (Geomview's manual).

    Raises:
        UserError: it is no text OFF file, or is cut short.
    """
    lines = [line.split(b"#", 1)[0] for block in _text_blocks(handle, path) for line in block]
    lines = [line for line in lines if line.strip()]
    head = re.match(rb"\s*(?:ST)?C?(N?)OFF\s+(\d{1,18})\s+(\d{1,18})\b", b" ".join(lines[:2]))
    if head is None:
        raise UserError(f"{path} does not begin as a text OFF file: expected 'OFF' and its counts of things")
    count = int(head[2])
    keyword_alone = len(lines[0].split()) == 1
    rows = lines[1 + keyword_alone :][:count]
    if len(rows) < count or count == 0:
        raise UserError(f"{path} holds {len(rows)} of {count} vertices: copy or export it again")
    names = AXES + NORMALS if head[1] else AXES
    width = len(rows[0].split())
    if width < len(names):
        raise UserError(f"{path} has a vertex of fewer than {len(names)} numbers: {shorten(rows[0])}")
    values = parse_rows(rows, width=width, used=range(len(names)), where=f"{path}, vertex", first=1)
    yield Table(dict(zip(names, values.T, strict=True)), count, _mesh_note(count) if int(head[3]) else ())


def read_stl(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read the corners of the facets of a binary or text STL file, each place once.

    Raises:
        UserError: it is no STL file, or is cut short.
    """
    size = os.fstat(handle.fileno()).st_size
    start = handle.read(STL_HEADER_BYTES)
    facets = int.from_bytes(start[80:], "little")
    # binary files may begin with "solid" too, so the size is asked first
    if size >= STL_HEADER_BYTES and size == STL_HEADER_BYTES + facets * STL_FACET.itemsize:
        corners = to_double(np.fromfile(handle, STL_FACET, facets)["corners"].reshape(-1, 3))
    elif as_utf8(handle).read(STL_HEADER_BYTES).lstrip().startswith(b"solid"):
        lines = [line for block in _text_blocks(handle, path) for line in block if line.lstrip().startswith(b"vertex")]
        corners = parse_rows(lines, width=4, used=(1, 2, 3), where=f"{path}, vertex", first=1)
    else:
        raise UserError(
            f"{path} has {size} bytes, which fits neither a text STL ('solid ...') nor the {facets} facets "
            "its header promises: copy or export it again"
        )
    if len(corners) == 0:
        raise UserError(f"{path} holds no facets: expected a mesh")
    first = np.sort(unique_rows(corners)[0])
    table = Table(dict(zip(AXES, corners[first].T, strict=True)), len(first), _mesh_note(len(first)))
    yield _moved_back(table, path)


def read_gltf(handle: BinaryIO, path: Path) -> Iterator[Table]:
    """Read the points, or the vertices of the meshes, of a glTF scene with their colours, each where the scene has it.

    A .gltf file may name files of data that lie beside it.

    Raises:
        UserError: it is no glTF scene, holds no points, or needs more memory than there is.
    """
    import trimesh

    require_memory(READING_GLTF * os.fstat(handle.fileno()).st_size, f"{path}", "thin the cloud")
    content = handle.read()
    beside = _Beside(path)
    with one_line(path):
        check_gltf(content, beside.size + len(content), path)
        scene = trimesh.load_scene(
            io.BytesIO(content),
            file_type=path.suffix.lower().removeprefix("."),
            resolver=beside,
            process=False,
            skip_materials=True,
        )
        tables = []
        for node in scene.graph.nodes_geometry:
            transform, name = scene.graph[node]
            shape: Any = scene.geometry[name]
            is_path = hasattr(shape, "entities")  # lines, such as the edges of CAD, show no surface
            if is_path or not len(shape.vertices):
                continue
            points = np.asarray(shape.vertices, dtype=np.float64) @ transform[:3, :3].T + transform[:3, 3]
            columns: dict[str, npt.NDArray[Any]] = dict(zip(AXES, points.T, strict=True))
            if shape.visual.kind == "vertex":
                columns |= dict(zip(COLOURS, np.asarray(shape.visual.vertex_colors)[:, :3].T, strict=True))
            notes = _mesh_note(len(points)) if hasattr(shape, "faces") else ()
            tables.append(Table(columns, None, notes))
    if not tables:
        raise UserError(f"{path} holds no points and no meshes: expected a scene with some")
    yield from (_moved_back(table, path) for table in tables)


def _moved_back(table: Table, path: Path) -> Table:
    """The points of one of our meshes in single precision by the offset that lies beside it; others stay."""
    offset = read_offset(path)
    if offset is None:
        return table
    moved = {axis: to_double(table.columns[axis]) + by for axis, by in zip(AXES, offset, strict=True)}
    note = f"the offset in {offset_of_mesh(path).name} was added"
    return Table({**table.columns, **moved}, table.total, (*table.notes, note), table.dropped)


class _Beside(Mapping[str, bytes]):
    """The files of data that a .gltf file may name: ordinary ones, in its own folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        files = [] if path.suffix.lower() == ".glb" else list(path.parent.glob("*.bin"))
        self.names = [file.name for file in files if file.is_file()]
        self.size = sum((path.parent / name).stat().st_size for name in self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> bytes:
        name = unquote(name)  # as glTF has it
        file = self.path.parent / name
        if name not in self.names or file.is_symlink():
            raise UserError(f"{self.path} names {shorten(name)}: expected a .bin file beside it; save it as .glb")
        require_memory(READING_GLTF * file.stat().st_size, f"{file}", "thin the cloud")
        return file.read_bytes()


def _mesh_note(count: int) -> tuple[str, ...]:
    return (f"points are the {count} vertices of a mesh",)


def _text_blocks(handle: BinaryIO, path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a text of which all is needed at once, if it fits into the memory."""
    require_memory(BYTES_PER_TEXT_BYTE * os.fstat(handle.fileno()).st_size, f"{path}", "thin the mesh")
    yield from line_blocks(as_utf8(handle), f"{path}")
