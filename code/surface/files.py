"""Surfaces to files and back: ply, obj, stl, glb for meshes; ply, svg, npz for curves; npz for both."""

from __future__ import annotations

import codecs
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh

from phase_recon.surface.surface import Surface, offset_of, polylines, transform
from phase_recon.utils.archive import check_archive, check_gltf, read_array
from phase_recon.utils.arrays import eight_bit, unique_rows
from phase_recon.utils.errors import UserError
from phase_recon.utils.files import offset_of_mesh, read_offset, write_whole

Bytes = Callable[[Surface, str], bytes]
SINGLE = (".stl", ".glb")  # in single precision
FAR_IN_FILES = 4.0  # × extent: farther from the origin, vertices of a fine mesh become equal in single precision


def write_surface(path: Path | str, surface: Surface, metadata_comment: str | None = None) -> str | None:
    """Write a surface in the format its extension names; the file appears whole or not at all.

    Double precision, with normals and colours where the format has them (.stl and .svg do not). .stl and
    .glb are single precision: of a surface far from the origin they hold the vertices less an offset, a round
    number. The note returned says so, and the offset is written beside the mesh, to <name>.offset.txt. The
    comment is kept whole by .ply, .obj, .svg, .npz; .stl holds its first 68 characters, .glb its first line.

    Raises UserError for an extension that cannot hold the surface, or a file that cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    writers = CURVE_WRITERS if surface.dimension == 2 else MESH_WRITERS
    if kind not in writers:
        name = "curve" if surface.dimension == 2 else "mesh"
        known = [other for other in writers if other != ".npz" or name == "curve"]  # of a mesh it is for programs
        raise UserError(
            f"{path}: a {name} cannot be written as {kind or 'a file without extension'}; "
            f"use one of {', '.join(known)}"
        )
    single = kind in SINGLE and len(surface.vertices) > 0
    offset = offset_of(surface.vertices, FAR_IN_FILES) if single else np.zeros(surface.dimension)
    beside = offset_of_mesh(path)
    if single:  # first of all that of another surface of this name: cut off in between, an offset is missing, not wrong
        beside.unlink(missing_ok=True)
    if not offset.any():
        write_whole(path, writers[kind](surface, metadata_comment or ""))
        return None
    text = " ".join(f"{x:.17g}" for x in offset)
    write_whole(path, writers[kind](transform(surface, 1.0, -offset), metadata_comment or ""))
    write_whole(beside, f"{text}\n".encode())
    return (
        f"{path}: {kind} is single precision, so its vertices are less the offset {text}, which {beside.name} holds; "
        ".ply needs none"
    )


def read_surface(path: Path | str) -> Surface:
    """Read a mesh from .ply, .obj, .off, .stl or .glb, or a curve from our own .ply; .npz for both.

    A file without faces gives cells of shape (0, d): it is a cloud. Polygons are cut into triangles, and
    vertices that .obj, .stl and .glb repeat are joined. The offset that ``write_surface`` left beside a file is added.
    Raises UserError for a missing or broken file.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in READ_KINDS:
        raise UserError(f"{path}: surfaces are read from {', '.join(READ_KINDS)}; convert the file")
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of a surface ({', '.join(READ_KINDS)})")
    try:
        surface = _read_npz(path) if kind == ".npz" else _read_mesh(path)
        if kind in SINGLE and (offset := read_offset(path)) is not None:
            surface = transform(surface, 1.0, offset)
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); change its permissions") from error
    except Exception as error:  # readers of other people's files fail in many ways
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: not a readable {kind} surface ({reason}); export it again") from error
    vertices, cells = surface.vertices, surface.cells
    if vertices.ndim != 2 or vertices.shape[1] not in (2, 3) or cells.shape != (len(cells), vertices.shape[1]):
        raise UserError(
            f"{path}: has vertices of shape {vertices.shape} and faces of shape {cells.shape}: expected points in 2D "
            "with segments, or in 3D with triangles; export it again"
        )
    if not np.isfinite(vertices).all():
        raise UserError(f"{path}: some vertices are not finite; export it again")
    if cells.size and not (cells.min() >= 0 and cells.max() < len(surface.vertices)):
        raise UserError(f"{path}: some faces name vertices that do not exist; export it again")
    return surface


def _ply(surface: Surface, comment: str) -> bytes:
    """Binary little-endian PLY; a curve has edges and z = 0."""
    d, count = surface.dimension, len(surface.vertices)
    deep = np.zeros((count, 3))
    deep[:, :d] = surface.vertices
    columns = dict(zip("xyz", deep.T, strict=True))
    if surface.normals is not None:
        deep = np.zeros((count, 3))
        deep[:, :d] = surface.normals
        columns |= dict(zip(("nx", "ny", "nz"), deep.T, strict=True))
    if surface.colours is not None:
        columns |= dict(zip(("red", "green", "blue"), surface.colours.T, strict=True))
    types = {name: "u1" if name in ("red", "green", "blue") else "<f8" for name in columns}
    vertices = np.empty(count, dtype=list(types.items()))
    for name, column in columns.items():
        vertices[name] = column

    header = ["ply", "format binary_little_endian 1.0"]
    header += [f"comment {line}" for line in comment.splitlines()]
    header += [f"element vertex {count}"]
    header += [f"property {'uchar' if kind == 'u1' else 'double'} {name}" for name, kind in types.items()]
    if d == 2:
        cells = surface.cells.astype("<i4")
        header += [f"element edge {len(cells)}", "property int vertex1", "property int vertex2"]
    else:
        cells = np.empty(len(surface.cells), dtype=[("count", "u1"), ("vertices", "<i4", 3)])
        cells["count"], cells["vertices"] = 3, surface.cells
        header += [f"element face {len(cells)}", "property list uchar int vertex_indices"]
    text = "\n".join([*header, "end_header\n"])
    return text.encode("ascii", errors="replace") + vertices.tobytes() + cells.tobytes()


def _obj(surface: Surface, comment: str) -> bytes:
    """Text OBJ with every digit; colours follow the coordinates, 0 to 1."""
    lines = [f"# {line}" for line in comment.splitlines()]
    if surface.colours is None:
        lines += [f"v {x:.17g} {y:.17g} {z:.17g}" for x, y, z in surface.vertices.tolist()]
    else:
        rows = zip(surface.vertices.tolist(), (surface.colours / 255.0).tolist(), strict=True)
        lines += [f"v {x:.17g} {y:.17g} {z:.17g} {r:.6g} {g:.6g} {b:.6g}" for (x, y, z), (r, g, b) in rows]
    cells = (surface.cells + 1).tolist()
    if surface.normals is None:
        lines += [f"f {a} {b} {c}" for a, b, c in cells]
    else:
        lines += [f"vn {x:.9g} {y:.9g} {z:.9g}" for x, y, z in surface.normals.tolist()]
        lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in cells]
    return ("\n".join(lines) + "\n").encode()


def _stl(surface: Surface, comment: str) -> bytes:
    """Binary STL; its header, 80 bytes that must not begin like that of a text, has the comment."""
    content = surface.to_trimesh().export(file_type="stl")
    assert isinstance(content, bytes)
    header = f"binary STL, {' '.join(comment.split())}".encode("ascii", errors="replace")
    return header[:80].ljust(80) + content[80:]


def _glb(surface: Surface, comment: str) -> bytes:
    """Binary glTF, of which the comment's first line is the generator."""

    def name(tree: dict[str, Any]) -> None:
        tree["asset"]["generator"] = comment.partition("\n")[0] or tree["asset"]["generator"]

    content = surface.to_trimesh().export(file_type="glb", tree_postprocessor=name)
    assert isinstance(content, bytes)
    return content


def _svg(surface: Surface, comment: str) -> bytes:
    """One path, filled by even-odd if it is closed, y up; coordinates are the input's, with every digit."""
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    margin = 0.05 * float((high - low).max())
    left, top = low[0] - margin, -high[1] - margin
    width, height = (high - low + 2 * margin).tolist()
    parts = []
    for line in polylines(surface):
        closed = line[0] == line[-1]
        points = surface.vertices[line[:-1] if closed else line]
        parts.append("M " + " L ".join(f"{x:.17g},{-y:.17g}" for x, y in points.tolist()) + " Z" * closed)
    fill = "#cfd8dc" if surface.is_closed() else "none"
    safe = comment.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="{left:.17g} {top:.17g} {width:.17g} {height:.17g}">\n'
        f"<desc>{safe}</desc>\n"
        f'<path fill="{fill}" stroke="#263238" stroke-width="{0.05 * margin:.6g}" fill-rule="evenodd"\n'
        f'd="{" ".join(parts)}"/>\n</svg>\n'
    ).encode()


def _npz(surface: Surface, comment: str) -> bytes:
    """The arrays under their own names."""
    arrays: dict[str, Any] = {"vertices": surface.vertices, "cells": surface.cells}
    arrays["comment"] = np.array(comment)
    arrays |= {
        name: array
        for name, array in (("normals", surface.normals), ("colours", surface.colours))
        if array is not None
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


CURVE_WRITERS: dict[str, Bytes] = {".ply": _ply, ".svg": _svg, ".npz": _npz}
MESH_WRITERS: dict[str, Bytes] = {
    ".ply": _ply,
    ".obj": _obj,
    ".stl": _stl,
    ".glb": _glb,
    ".npz": _npz,
}
READ_KINDS = (".ply", ".obj", ".off", ".stl", ".glb", ".npz")


MOST_NUMBERS = 1_500_000_000  # of an array: half a billion vertices


def holds_surface(path: Path) -> bool:
    """Whether a file of one of READ_KINDS is read as a surface: all but an .npz that has no vertices or no cells."""
    if path.suffix.lower() != ".npz":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return {"vertices.npy", "cells.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return True  # whose reader says what is wrong


def _read_npz(path: Path) -> Surface:
    """Our own npz."""
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
        arrays = {}
        for name, row in (("vertices", "2D or 3D rows"), ("cells", "rows"), ("normals", "rows"), ("colours", "rows")):
            if f"{name}.npy" in archive.namelist():
                size = archive.getinfo(f"{name}.npy").file_size
                with archive.open(f"{name}.npy") as member:
                    arrays[name] = read_array(member, size, f"{path} (array {name})", MOST_NUMBERS, row)
    if missing := {"vertices", "cells"} - arrays.keys():
        raise UserError(f"{path}: holds no array {' and no array '.join(sorted(missing))}; export it again")
    return Surface(
        arrays["vertices"].astype(np.float64),
        arrays["cells"].astype(np.int64),
        arrays["normals"].astype(np.float64) if "normals" in arrays else None,
        arrays["colours"].astype(np.uint8) if "colours" in arrays else None,
    )


def _read_mesh(path: Path) -> Surface:
    """Any mesh that trimesh reads, and our own curves.

    trimesh is given the bytes, not the path, so that it cannot follow names in it to other files, nor ask for more
    bytes than there are.
    """
    kind = path.suffix.lower()
    if kind == ".ply":
        return _read_ply(path)
    content = path.read_bytes()
    if kind == ".glb":
        check_gltf(content, len(content), path)
    if kind in (".obj", ".off"):  # of which trimesh would lose the first line
        content = content.removeprefix(codecs.BOM_UTF8)
    mesh = trimesh.load_mesh(io.BytesIO(content), file_type=kind.removeprefix("."), process=False, skip_materials=True)
    vertices, cells = np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int64).reshape(-1, 3)
    visual: Any = mesh.visual
    colours = visual.vertex_colors[:, :3] if visual.kind == "vertex" else None
    if kind != ".off":
        first, place = unique_rows(vertices)
        vertices = vertices[first]
        cells = place[cells]
        colours = None if colours is None else colours[first]
    return Surface(vertices, cells, None, None if colours is None else np.asarray(colours, dtype=np.uint8))


def _read_ply(path: Path) -> Surface:
    """A mesh, a curve of ours (edges, z = 0) or a cloud, with normals and colours.

    trimesh keeps the file's columns beside the mesh, and drops the normals from the mesh itself.
    """
    content = io.BytesIO(path.read_bytes())  # textures would have trimesh number the vertices anew
    loaded = trimesh.load(content, file_type="ply", process=False, fix_texture=False, skip_materials=True)
    raw = loaded.metadata["_ply_raw"]
    columns = raw["vertex"]["data"]

    def gather(*names: str) -> npt.NDArray[np.float64] | None:
        known = columns.keys() if isinstance(columns, dict) else columns.dtype.names
        if not set(names) <= set(known):
            return None
        return np.stack([np.asarray(columns[n], dtype=np.float64).ravel() for n in names], axis=1)

    vertices, normals = gather("x", "y", "z"), gather("nx", "ny", "nz")
    if vertices is None:
        raise ValueError("no x, y, z")
    if len(vertices) != raw["vertex"]["length"]:
        raise ValueError(f"{len(vertices)} of {raw['vertex']['length']} vertices are there")
    rgb = gather("red", "green", "blue")
    types = [np.asarray(columns[name]).dtype for name in ("red", "green", "blue")] if rgb is not None else []
    colours = None if rgb is None else eight_bit(rgb, types)
    if "edge" in raw and not (vertices[:, 2]).any():
        edges = raw["edge"]["data"]
        cells = np.stack([np.asarray(edges[n], dtype=np.int64) for n in ("vertex1", "vertex2")], axis=1)
        return Surface(vertices[:, :2], cells, None if normals is None else normals[:, :2], colours)
    faces = loaded.faces if isinstance(loaded, trimesh.Trimesh) else np.empty((0, 3))
    return Surface(vertices, np.asarray(faces, dtype=np.int64), normals, colours)
