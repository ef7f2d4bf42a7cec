"""Surfaces to files and back, and into the hands of other programs."""

import re
from dataclasses import replace
from pathlib import Path

import igl
import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from test_extract import LOWER, UPPER, ball, canonical, full_surface, octahedron

from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.surface.extract import extract_surface
from phase_recon.surface.files import read_surface, write_surface
from phase_recon.surface.surface import Surface, transform
from phase_recon.utils.arrays import unit
from phase_recon.utils.errors import UserError


@pytest.mark.parametrize(("d", "kind"), [(3, ".ply"), (2, ".ply"), (3, ".npz"), (2, ".npz")])
def test_files_return_every_bit(tmp_path, d, kind):
    surface = full_surface(d)
    assert write_surface(tmp_path / f"s{kind}", surface, "made by a test\nsecond line é") is None
    back = read_surface(tmp_path / f"s{kind}")
    for name in ("vertices", "cells", "normals", "colours"):
        np.testing.assert_array_equal(getattr(back, name), getattr(surface, name))
        assert getattr(back, name).dtype == getattr(surface, name).dtype
    assert [p.name for p in tmp_path.iterdir()] == [f"s{kind}"]  # no temporary file stays


@pytest.mark.parametrize(("kind", "tolerance"), [(".obj", 0.0), (".stl", 1e-7), (".glb", 1e-7)])
def test_mesh_formats_keep_the_shape(tmp_path, kind, tolerance):
    surface = full_surface(3)
    assert write_surface(tmp_path / f"s{kind}", surface, "comment") is None
    back = read_surface(tmp_path / f"s{kind}")
    gap, match = cKDTree(surface.vertices).query(back.vertices)
    assert gap.max() <= tolerance
    np.testing.assert_array_equal(canonical(match[back.cells]), canonical(surface.cells))
    assert back.is_closed()  # repeated vertices are joined
    if kind != ".stl":
        np.testing.assert_allclose(back.colours.astype(int), surface.colours[match].astype(int), atol=1)


def test_obj_normals(tmp_path):
    surface = full_surface(3)
    write_surface(tmp_path / "s.obj", surface)
    lines = (tmp_path / "s.obj").read_text().splitlines()
    normals = np.array([line.split()[1:] for line in lines if line.startswith("vn ")], dtype=float)
    np.testing.assert_allclose(normals, surface.normals, atol=1e-8)
    assert next(line for line in lines if line.startswith("f ")).count("//") == 3


@pytest.mark.parametrize(
    ("kind", "values"),
    [("uchar", [[255, 0, 51]]), ("float", [[1.0, 0.0, 0.2]]), ("ushort", [[65535, 0, 13107]])],
)
def test_a_textured_ply_with_colours_of_any_type_is_read(tmp_path, kind, values):
    """Texture coordinates of each corner, as MeshLab writes them, and a vertex that no face has."""
    header = ["ply", "format ascii 1.0", "comment TextureFile none.png", "element vertex 5"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property {kind} {name}" for name in ("red", "green", "blue")]
    header += ["element face 4", "property list uchar int vertex_indices", "property list uchar float texcoord"]
    header += ["end_header"]
    corners = np.array([[9, 9, 9], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    cells = np.array([[1, 3, 2], [1, 2, 4], [2, 3, 4], [3, 1, 4]])
    rows = [" ".join(map(str, [*corner, *values[0]])) for corner in corners]
    rows += [f"3 {a} {b} {c} 6 " + " ".join(str(0.1 * (i + a)) for i in range(6)) for a, b, c in cells]
    (tmp_path / "a.ply").write_text("\n".join([*header, *rows, ""]))
    surface = read_surface(tmp_path / "a.ply")
    np.testing.assert_array_equal(surface.vertices, corners)
    np.testing.assert_array_equal(surface.cells, cells)
    np.testing.assert_array_equal(surface.colours, np.tile([255, 0, 51], (5, 1)))


def test_ply_is_read_by_others(tmp_path):
    surface = full_surface(3)
    write_surface(tmp_path / "s.ply", surface, "seed 7")
    other = trimesh.load(tmp_path / "s.ply", process=False)
    np.testing.assert_array_equal(other.vertices, surface.vertices)
    np.testing.assert_array_equal(other.visual.vertex_colors[:, :3], surface.colours)
    assert other.is_watertight
    assert b"\ncomment seed 7\n" in (tmp_path / "s.ply").read_bytes()[:200]


@pytest.mark.parametrize("kind", [".stl", ".glb"])
@pytest.mark.parametrize("extents", [3, 90])
def test_single_precision_leaves_a_fine_mesh_closed(tmp_path, kind, extents):
    """At 90 extents from the origin single precision is 8e-6 extents, and vertices 3e-6 apart would become one."""
    ring = np.stack([np.cos([0, 2, 4]), np.sin([0, 2, 4]), np.zeros(3)], axis=1) / 2
    vertices = np.concatenate([ring, [[0, 0, 0.5], [3e-6, 0, 0.5]]])  # two tips, joined by a short edge
    cells = np.array([[0, 2, 1], [0, 1, 4], [1, 3, 4], [1, 2, 3], [2, 0, 3], [0, 4, 3]])
    surface = Surface(vertices + extents, cells)
    assert surface.is_closed()
    write_surface(tmp_path / f"s{kind}", surface)
    back = read_surface(tmp_path / f"s{kind}")
    assert len(back.vertices) == 5
    assert back.is_closed()


@pytest.mark.parametrize("kind", [".ply", ".obj", ".stl", ".glb"])
def test_a_closed_surface_is_closed_to_every_reader(tmp_path, kind):
    """As files are read by default: trimesh merges equal vertices, libigl and open3d take them as they are."""
    surface = extract_surface(octahedron, LOWER, UPPER, 64)
    surface = replace(surface, normals=unit(np.sign(surface.vertices)))
    path = tmp_path / f"s{kind}"
    write_surface(path, transform(surface, 25.0, np.array([40.0, -7.0, 3.0])))
    mesh = trimesh.load(path, force="mesh")
    mesh.merge_vertices(merge_norm=True)  # glb and stl repeat vertices
    assert mesh.is_watertight
    assert mesh.euler_number == 2
    if kind in (".ply", ".obj"):
        vertices, faces = igl.read_triangle_mesh(str(path))
        assert len(igl.boundary_facets(faces)[0]) == 0
        assert igl.doublearea(vertices, faces).min() > 0
    try:
        import open3d
    except (ImportError, OSError):
        return
    other = open3d.io.read_triangle_mesh(str(path)).merge_close_vertices(0.0)
    other.remove_duplicated_vertices()
    assert other.is_edge_manifold(allow_boundary_edges=False)
    assert other.is_vertex_manifold()


@pytest.mark.parametrize("kind", [".ply", ".obj", ".npz"])
def test_geographic_coordinates_survive(tmp_path, kind):
    offset = np.array([1e7, 2e7, 5e6])
    unit = full_surface(3)
    write_surface(tmp_path / f"s{kind}", transform(unit, 1e-3, offset))  # a millimetre ball, in metres
    back = read_surface(tmp_path / f"s{kind}")
    assert len(back.vertices) == len(unit.vertices)
    gap = cKDTree(unit.vertices * 1e-3).query(back.vertices - offset)[0]
    assert gap.max() < 1e-6 * 1e-3 + 2 * np.spacing(2e7)


@pytest.mark.parametrize("kind", [".stl", ".glb"])
def test_single_precision_gets_an_offset(tmp_path, kind):
    path, place = tmp_path / f"s{kind}", np.array([1e7, 123.4, -5e6])
    near = full_surface(3)  # of radius 0.6
    note = write_surface(path, transform(near, 1.0, place))
    beside = tmp_path / f"s{kind}.offset.txt"
    offset = np.array(beside.read_text().split(), dtype=float)
    assert np.abs(place - offset).max() <= 1
    assert note.startswith(f"{path}: {kind} is single precision, so its vertices are less the offset 10000000 ")
    assert note.endswith(f"which {beside.name} holds; .ply needs none")
    gap = cKDTree(near.vertices).query(read_surface(path).vertices - place)[0]
    assert gap.max() < 1e-6
    cloud = load_point_cloud(path)
    assert cKDTree(near.vertices).query(cloud.points - place)[0].max() < 1e-6
    assert f"the offset in {beside.name} was added" in cloud.note
    assert write_surface(path, near) is None  # which needs none
    assert not beside.exists()


def test_an_offset_that_is_none_is_refused(tmp_path):
    path = tmp_path / "s.stl"
    write_surface(path, transform(full_surface(3), 1.0, np.array([1e7, 0, 0])))
    beside = tmp_path / "s.stl.offset.txt"
    for text in ("10000000 0", "1 2 x", "nan 0 0"):
        beside.write_text(text)
        with pytest.raises(UserError, match=re.escape(f"{beside}: expected three numbers, the offset of the mesh")):
            read_surface(path)


def test_svg(tmp_path):
    ring = extract_surface(lambda x: (ball(0.6)(x)).abs() - 0.2, LOWER[:2], UPPER[:2], 20)
    write_surface(tmp_path / "s.svg", transform(ring, 1.0, np.array([0.0, 5.0])), "a < b")
    text = (tmp_path / "s.svg").read_text()
    assert text.count("M ") == 2
    assert text.count(" Z") == 2
    assert 'fill-rule="evenodd"' in text
    assert "<desc>a &lt; b</desc>" in text
    path = text.split('d="')[1].split('"')[0]
    points = np.array([p.split(",") for p in path.split() if "," in p], dtype=float)
    assert len(points) == len(ring.vertices)
    np.testing.assert_allclose(points[:, 1].mean(), -5.0, atol=1e-3)  # y up


def test_write_errors(tmp_path):
    with pytest.raises(
        UserError, match=r"s\.svg: a mesh cannot be written as \.svg; use one of \.ply, \.obj"
    ):
        write_surface(tmp_path / "s.svg", full_surface(3))
    with pytest.raises(
        UserError, match=r"s\.stl: a curve cannot be written as \.stl; use one of \.ply, \.svg"
    ):
        write_surface(tmp_path / "s.stl", full_surface(2))
    with pytest.raises(UserError, match=r"missing/s\.ply: cannot be written \(No such file or directory\)"):
        write_surface(tmp_path / "missing" / "s.ply", full_surface(3))


def test_read_errors(tmp_path):
    with pytest.raises(UserError, match=r"none\.ply: no such file; give the path of a surface"):
        read_surface(tmp_path / "none.ply")
    with pytest.raises(UserError, match=r"a\.doc: surfaces are read from \.ply, \.obj, \.off"):
        read_surface(tmp_path / "a.doc")
    for kind in (".ply", ".off", ".glb", ".npz"):
        (tmp_path / f"broken{kind}").write_bytes(b"not a mesh at all")
        with pytest.raises(UserError, match=rf"broken\{kind}: not a readable \{kind} surface \(.+\); export"):
            read_surface(tmp_path / f"broken{kind}")
    write_surface(tmp_path / "bad.npz", Surface(np.eye(3), np.array([[0, 1, 3]])))
    with pytest.raises(UserError, match=r"bad\.npz: some faces name vertices that do not exist"):
        read_surface(tmp_path / "bad.npz")
    write_surface(tmp_path / "nan.ply", Surface(np.full((3, 3), np.nan), np.array([[0, 1, 2]])))
    with pytest.raises(UserError, match=r"nan\.ply: some vertices are not finite"):
        read_surface(tmp_path / "nan.ply")


def test_a_truncated_ply_is_an_error(tmp_path):
    write_surface(tmp_path / "s.ply", full_surface(3))
    whole = (tmp_path / "s.ply").read_bytes()
    for size in (300, len(whole) // 3, len(whole) - 10):
        (tmp_path / "s.ply").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"not a readable \.ply surface"):
            read_surface(tmp_path / "s.ply")


def test_files_of_others(tmp_path):
    (tmp_path / "quad.off").write_text("OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n")
    square = read_surface(tmp_path / "quad.off")
    assert square.cells.shape == (2, 3)
    assert square.measure() == pytest.approx(1.0)
    ascii_ply = "ply\nformat ascii 1.0\nelement vertex 3\n" + "".join(
        f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz")
    )
    rows = "0 0 0 0 0 1\n1 0 0 0 0 1\n0 1 0 0 0 1\n"
    (tmp_path / "cloud.ply").write_text(f"{ascii_ply}end_header\n{rows}")
    cloud = read_surface(tmp_path / "cloud.ply")
    assert (cloud.vertices.shape, cloud.cells.shape) == ((3, 3), (0, 3))
    np.testing.assert_array_equal(cloud.normals, [[0, 0, 1]] * 3)
    faces = "element face 1\nproperty list uchar int vertex_indices\n"
    (tmp_path / "mesh.ply").write_text(f"{ascii_ply}{faces}end_header\n{rows}3 0 1 2\n")
    mesh = read_surface(str(Path(tmp_path / "mesh.ply")))
    np.testing.assert_array_equal(mesh.cells, [[0, 1, 2]])
    np.testing.assert_array_equal(mesh.normals, [[0, 0, 1]] * 3)


def test_an_open_curve_is_not_filled_in_svg(tmp_path):
    line = Surface(np.array([[0.0, 0], [1, 0], [1, 1]]), np.array([[0, 1], [1, 2]]))
    write_surface(tmp_path / "s.svg", line)
    assert 'fill="none"' in (tmp_path / "s.svg").read_text()


@pytest.mark.parametrize("kind", [".stl", ".glb"])
def test_single_precision_says_what_made_it(tmp_path, kind):
    write_surface(tmp_path / f"s{kind}", full_surface(3), "solid work of mine")
    content = (tmp_path / f"s{kind}").read_bytes()
    assert b"solid work of mine" in content[:400]
    assert not content.startswith(b"solid")  # which begins a text STL
    assert len(read_surface(tmp_path / f"s{kind}").cells) == len(full_surface(3).cells)
