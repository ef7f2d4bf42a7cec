"""Files of scanners and of other programs: written by their own libraries, or by hand as the format's page has it."""

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import trimesh

from phase_recon.datasets.e57 import _pose
from phase_recon.datasets.pointcloud import PointCloud, load_point_cloud
from phase_recon.datasets.readers import CONVERSIONS, READERS, read_table
from phase_recon.utils.errors import UserError

Array = npt.NDArray[np.float64]

RNG = np.random.default_rng(11)
N = 30
POINTS = RNG.normal(size=(N, 3)).round(3)
UTM = np.array([4e5, 5e6, 0])  # where airborne scans are
ASIDE = np.array([5, 0, 0])
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
COLOURS = RNG.integers(0, 256, (N, 3))
COLOURS[0] = 255


def rows(values: Any) -> bytes:
    return "".join(" ".join(f"{v:.9g}" for v in row) + "\n" for row in np.asarray(values).tolist()).encode()


def load(folder: Path, name: str, content: bytes) -> PointCloud:
    (folder / name).write_bytes(content)
    return load_point_cloud(folder / name)


def error(folder: Path, name: str, content: bytes | None = None) -> str:
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_point_cloud(folder / name)
    text = str(caught.value)
    assert "\n" not in text
    assert name in text
    return text


# ------------------------------------------------------------------------------------------------ pcd


def pcd(
    data: str,
    fields: str = "x y z rgb normal_x normal_y normal_z",
    version: str = "0.7",
    viewpoint: str = "0 0 0 1 0 0 0",
    colour_kind: str = "F",
    values: Array = POINTS,
    height: int = 1,
) -> bytes:
    """As the Point Cloud Library writes it."""
    words = (COLOURS[:, 0] << 16 | COLOURS[:, 1] << 8 | COLOURS[:, 2]).astype("<u4")
    names = fields.split()
    columns = {"x": values[:, 0], "y": values[:, 1], "z": values[:, 2]}
    columns |= {f"normal_{axis}": NORMALS[:, i] for i, axis in enumerate("xyz")}
    kinds = ["U" if name == "rgba" else colour_kind if name == "rgb" else "F" for name in names]
    head = (
        f"# .PCD v{version} - Point Cloud Data file format\nVERSION {version}\nFIELDS {fields}\n"
        f"SIZE {' '.join(['4'] * len(names))}\nTYPE {' '.join(kinds)}\nCOUNT {' '.join(['1'] * len(names))}\n"
        f"WIDTH {N // height}\nHEIGHT {height}\nVIEWPOINT {viewpoint}\nPOINTS {N}\nDATA {data}\n"
    ).encode()
    arrays = [words if name in ("rgb", "rgba") else columns[name].astype("<f4") for name in names]
    if data == "ascii":
        texts = [
            [str(w) for w in (a if kind == "U" else a.view("<f4") if a.dtype == "<u4" else a)]
            for a, kind in zip(arrays, kinds, strict=True)
        ]
        return head + "\n".join(map(" ".join, zip(*texts, strict=True))).encode() + b"\n"
    if data == "binary":
        return head + np.rec.fromarrays(arrays).tobytes()
    import lzf

    content = b"".join(a.tobytes() for a in arrays)
    packed = lzf.compress(content, len(content) * 2)
    return head + np.array([len(packed), len(content)], "<u4").tobytes() + packed


class TestPcd:
    @pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
    @pytest.mark.parametrize("colour", ["rgb", "rgba"])
    @pytest.mark.parametrize("version", ["0.7", ".7"])
    def test_points_normals_and_packed_colours(self, tmp_path: Path, data: str, colour: str, version: str) -> None:
        cloud = load(tmp_path, "a.pcd", pcd(data, f"x y z {colour} normal_x normal_y normal_z", version))
        np.testing.assert_allclose(cloud.points, POINTS, atol=1e-6)  # single precision
        np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-6)
        np.testing.assert_array_equal(cloud.colours, COLOURS)
        assert cloud.sensors is None

    @pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
    def test_organised_clouds_and_the_viewpoint(self, tmp_path: Path, data: str) -> None:
        values = POINTS.copy()
        values[[2, 9]] = np.nan
        content = pcd(data, "x y z", viewpoint="1 2.5 -3 1 0 0 0", values=values, height=5)
        cloud = load(tmp_path, "a.pcd", content)
        np.testing.assert_allclose(cloud.points, np.delete(POINTS, [2, 9], axis=0), atol=1e-6)
        np.testing.assert_array_equal(cloud.sensors, np.tile([1, 2.5, -3], (N - 2, 1)))
        assert cloud.note == "left out: 2 points without coordinates (NaN)"

    def test_fields_of_several_values_are_passed_over(self, tmp_path: Path) -> None:
        record = np.zeros(N, [("f", "<f4", 5), ("x", "<f8"), ("y", "<f8"), ("_", "u1", 3), ("z", "<f8")])
        for axis, column in zip("xyz", POINTS.T, strict=True):
            record[axis] = column
        head = (
            "VERSION 0.7\nFIELDS f x y _ z\nSIZE 4 8 8 1 8\nTYPE F F F U F\nCOUNT 5 1 1 3 1\n"
            f"WIDTH {N}\nHEIGHT 1\nPOINTS {N}\nDATA binary\n"
        )
        np.testing.assert_array_equal(load(tmp_path, "a.pcd", head.encode() + record.tobytes()).points, POINTS)
        text = [[*[0] * 5, *p[:2], *[0] * 3, p[2]] for p in POINTS.tolist()]
        content = head.replace("binary", "ascii").encode() + rows(text)
        np.testing.assert_array_equal(load(tmp_path, "a.pcd", content).points, POINTS)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (rows(POINTS), "does not begin as a PCD file"),
            (pcd("binary")[:-1], "is cut short: it ends after 29 of 30 points"),
            (pcd("ascii").rsplit(b"\n", 2)[0], "is cut short: it ends after 29 of 30 points"),
            (pcd("binary").replace(b"POINTS 30", b"POINTS 99999999999"), "promises 99999999999 points"),
            (pcd("binary").replace(b"POINTS 30", b"POINTS 0"), "holds no points"),
            (pcd("binary").replace(b"SIZE 4", b"SIZE 3"), "PCD header that cannot be understood"),
            (pcd("binary").replace(b"COUNT 1", b"COUNT 2"), "several values in the field x"),
            (pcd("binary").replace(b"FIELDS x", b"FIELDS a"), "names the columns 'a y z"),
            (pcd("binary_compressed")[:-1], "is cut short:"),
            (pcd("binary_compressed").replace(b"POINTS 30", b"POINTS 31"), "but"),
        ],
    )
    def test_errors(self, tmp_path: Path, content: bytes, says: str) -> None:
        assert says in error(tmp_path, "a.pcd", content)

    @pytest.mark.parametrize("options", [{}, {"write_ascii": True}, {"compressed": True}])
    def test_open3d(self, tmp_path: Path, options: dict[str, bool]) -> None:
        try:
            import open3d
        except (ImportError, OSError) as missing:
            pytest.skip(f"open3d cannot be imported: {missing}")
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(POINTS))
        cloud.normals = open3d.utility.Vector3dVector(NORMALS)
        cloud.colors = open3d.utility.Vector3dVector(COLOURS / 255)
        assert open3d.io.write_point_cloud(str(tmp_path / "a.pcd"), cloud, **options)
        read = load_point_cloud(tmp_path / "a.pcd")
        np.testing.assert_allclose(read.points, POINTS, atol=1e-5)
        np.testing.assert_allclose(read.normals, NORMALS, atol=1e-5)
        np.testing.assert_array_equal(read.colours, COLOURS)


# ------------------------------------------------------------------------------------------------ ptx


def ptx(scans: list[tuple[Array, Array, Array]], colours: bool = False) -> bytes:
    """Scans of points in their scanners' frames, each with its rotation and place."""
    text = b""
    for points, rotation, place in scans:
        text += f"{len(points) // 5}\n5\n".encode() + rows([place]) + rows(rotation)
        text += rows(np.c_[rotation, np.zeros(3)]) + rows([[*place, 1]])
        behind = [np.full(len(points), 0.5), *COLOURS.T] if colours else [np.full(len(points), 0.5)]
        text += rows(np.c_[points, np.stack(behind, axis=1)])
    return text


class TestPtx:
    TURN = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # of rows: x → y, y → -x

    @pytest.mark.parametrize("colours", [False, True])
    @pytest.mark.parametrize("block", [1 << 22, 50])
    def test_scans_are_brought_together(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colours: bool, block: int
    ) -> None:
        monkeypatch.setattr("phase_recon.datasets.table.BLOCK_BYTES", block)
        second = POINTS.copy()
        second[[1, 4, 17]] = 0
        content = ptx([(POINTS, np.eye(3), np.zeros(3)), (second, self.TURN, np.array([100.0, 50, 2]))], colours)
        cloud = load(tmp_path, "a.ptx", content)
        turned = np.stack([100 - POINTS[:, 1], 50 + POINTS[:, 0], 2 + POINTS[:, 2]], axis=1)
        np.testing.assert_allclose(cloud.points, np.r_[POINTS, np.delete(turned, [1, 4, 17], axis=0)], atol=1e-12)
        np.testing.assert_array_equal(cloud.sensors, np.repeat([[0, 0, 0], [100, 50, 2]], [N, N - 3], axis=0))
        assert (cloud.note or "").startswith("left out: 3 points where nothing was measured (0 0 0)")
        if colours:
            np.testing.assert_array_equal(cloud.colours, np.r_[COLOURS, np.delete(COLOURS, [1, 4, 17], axis=0)])

    def test_errors(self, tmp_path: Path) -> None:
        sound = ptx([(POINTS, np.eye(3), np.zeros(3))])
        assert "it ends after 29 of 30 rows" in error(tmp_path, "a.ptx", sound[:-1].rsplit(b"\n", 1)[0])
        assert "promises 6000000000 rows" in error(tmp_path, "a.ptx", b"1200000000" + sound[1:])
        text = error(tmp_path, "a.ptx", b"0.5 1 2\n" + sound)
        assert "line 1 of a scan's head is '0.5 1 2': expected 1 number" in text
        assert "line 12 is not a row of numbers" in error(tmp_path, "a.ptx", _line(sound, 12, b"1 2 x 4"))
        assert "line 12 has 2 values" in error(tmp_path, "a.ptx", _line(sound, 12, b"1 2"))


def _line(content: bytes, number: int, line: bytes) -> bytes:
    lines = content.split(b"\n")
    lines[number - 1] = line
    return b"\n".join(lines)


# ------------------------------------------------------------------------------------------------ las, laz


def las(path: Path, point_format: int = 3, version: str = "1.2", wide: bool = False, **columns: Any) -> Path:
    """As laspy writes it."""
    import laspy

    header = laspy.LasHeader(point_format=point_format, version=version)
    header.scales, header.offsets = [1e-3] * 3, [4e5, 5e6, 0]
    for name in ("nx", "ny", "nz"):
        if name in columns:
            header.add_extra_dim(laspy.ExtraBytesParams(name, "f4"))
    data = laspy.LasData(header)
    data.x, data.y, data.z = (POINTS + UTM).T
    data.red, data.green, data.blue = (COLOURS * 257 if wide else COLOURS).T
    for name, column in columns.items():
        data[name] = column
    data.write(path)
    return path


class TestLas:
    @pytest.mark.parametrize("name", ["a.las", "a.laz", "A.LAZ"])
    @pytest.mark.parametrize(("point_format", "version"), [(3, "1.2"), (7, "1.4"), (8, "1.4")])
    @pytest.mark.parametrize("wide", [False, True])
    def test_coordinates_are_exact_and_colours_of_8_or_16_bits(
        self, tmp_path: Path, name: str, point_format: int, version: str, wide: bool
    ) -> None:
        cloud = load_point_cloud(las(tmp_path / name, point_format, version, wide))
        # what the format stores: integers, times the scale, plus the offset
        stored = np.round(POINTS / 1e-3) * 1e-3 + UTM
        np.testing.assert_array_equal(cloud.points, stored)
        np.testing.assert_array_equal(cloud.colours, COLOURS)
        assert cloud.note is None

    def test_withheld_points_normals_and_classes(self, tmp_path: Path) -> None:
        withheld = np.arange(N) % 10 == 3
        columns = dict(zip(("nx", "ny", "nz"), NORMALS.T, strict=True))
        path = las(tmp_path / "a.laz", classification=np.arange(N) % 5, withheld=withheld, **columns)
        cloud = load_point_cloud(path)
        np.testing.assert_allclose(cloud.normals, NORMALS[~withheld], atol=1e-6)
        assert cloud.note == "left out: 3 points marked as withheld"
        np.testing.assert_array_equal(read_table(path).columns["classification"], (np.arange(N) % 5)[~withheld])

    def test_several_parts_are_one_cloud(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = las(tmp_path / "a.laz", 7, "1.4")
        whole = load_point_cloud(path)
        monkeypatch.setattr("phase_recon.datasets.las.BLOCK_ROWS", 7)
        np.testing.assert_array_equal(load_point_cloud(path).points, whole.points)

    @pytest.mark.parametrize("name", ["a.las", "a.laz"])
    def test_errors(self, tmp_path: Path, name: str) -> None:
        sound = las(tmp_path / name).read_bytes()
        assert "does not begin with 'LASF'" in error(tmp_path, name, rows(POINTS))
        assert "its header has 100 bytes" in error(tmp_path, name, sound[:100])
        assert "promises 0 points" in error(tmp_path, name, b"LASF" + bytes(371))
        assert name in error(tmp_path, name, sound[:-200])
        many = bytearray(sound)
        many[107:111] = b"\xff\xff\xff\xff"
        assert "promises 4294967295 points" in error(tmp_path, name, bytes(many))


# ------------------------------------------------------------------------------------------------ e57


def e57(path: Path, scans: int = 1, pose: bool = True) -> Path:
    """As pye57 writes it: each scan turned by a right angle about z, and moved."""
    pye57 = pytest.importorskip("pye57")
    file = pye57.E57(str(path), mode="w")
    for number in range(scans):
        half = np.sqrt(0.5)
        data = dict(zip(("cartesianX", "cartesianY", "cartesianZ"), POINTS.T, strict=True))
        data |= dict(zip(("colorRed", "colorGreen", "colorBlue"), COLOURS.T, strict=True))
        data["cartesianInvalidState"] = (np.arange(N) % 10 == 3).astype(np.int8)
        place = np.array([10.0 * number, 2, 3])
        file.write_scan_raw(data, rotation=np.array([half, 0, 0, half]), translation=place)
    file.close()
    return path


class TestE57:
    @pytest.mark.parametrize("block", [10**6, 7])
    def test_scans_are_brought_together(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
    ) -> None:
        path = e57(tmp_path / "a.e57", scans=2)
        monkeypatch.setattr("phase_recon.datasets.e57.BLOCK_ROWS", block)
        cloud = load_point_cloud(path)
        valid = np.arange(N) % 10 != 3
        turned = np.stack([-POINTS[:, 1], POINTS[:, 0], POINTS[:, 2]], axis=1)[valid] + [0, 2, 3]
        # pye57 writes single precision
        np.testing.assert_allclose(cloud.points, np.r_[turned, turned + 2 * ASIDE], atol=1e-6)
        np.testing.assert_array_equal(cloud.colours, np.tile(COLOURS[valid], (2, 1)))
        np.testing.assert_allclose(cloud.sensors, np.repeat([[0, 2, 3], [10, 2, 3]], valid.sum(), axis=0))
        assert (cloud.note or "").startswith("left out: 6 points marked as invalid")

    def test_a_pose_that_moves_nothing_tells_no_sensor_but_of_a_scan_in_rows_and_columns(self) -> None:
        class Node(dict[str, Any]):
            isDefined = dict.__contains__

            def value(self) -> float:
                return float(self["value"])

        def numbers(names: str, values: Any) -> Node:
            return Node({name: Node(value=value) for name, value in zip(names, values, strict=True)})

        still = Node(pose=Node(rotation=numbers("wxyz", (1, 0, 0, 0)), translation=numbers("xyz", (0, 0, 0))))
        moved = Node(pose=Node(rotation=numbers("wxyz", (1, 0, 0, 0)), translation=numbers("xyz", (0, 0, 2))))
        assert _pose(still, False)[1] is None
        np.testing.assert_array_equal(_pose(still, True)[1], [0, 0, 0])
        np.testing.assert_array_equal(_pose(moved, False)[1], [0, 0, 2])
        assert _pose(Node(), True)[1] is None

    def test_errors(self, tmp_path: Path) -> None:
        sound = e57(tmp_path / "a.e57").read_bytes()
        assert "does not begin with 'ASTM-E57'" in error(tmp_path, "a.e57", rows(POINTS))
        assert "is not a sound .e57 file" in error(tmp_path, "a.e57", sound[:-1024])
        assert "is not a sound .e57 file" in error(tmp_path, "a.e57", sound[:600] + b"\0\0\0\0" + sound[604:])

    def test_the_package_is_named_where_it_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pye57" else found(name))
        text = error(tmp_path, "a.e57", b"ASTM-E57")
        assert text.endswith("a.e57: .e57 needs a package that is not installed: pip install pye57")


# ------------------------------------------------------------------------------------------------ glTF


class TestGltf:
    def scene(self) -> trimesh.Scene:
        cloud = trimesh.PointCloud(POINTS, colors=np.c_[COLOURS, np.full(N, 255)].astype(np.uint8))
        scene = trimesh.Scene()
        scene.add_geometry(cloud, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
        return scene

    def test_points_are_moved_as_the_scene_says(self, tmp_path: Path) -> None:
        cloud = load(tmp_path, "a.glb", self.scene().export(file_type="glb"))
        np.testing.assert_allclose(cloud.points, POINTS + ASIDE, atol=1e-6)
        np.testing.assert_array_equal(cloud.colours, COLOURS)
        assert cloud.note is None

    def test_files_beside_a_gltf(self, tmp_path: Path) -> None:
        for name, content in self.scene().export(file_type="gltf").items():
            (tmp_path / name).write_bytes(content)
        np.testing.assert_allclose(load_point_cloud(tmp_path / "model.gltf").points, POINTS + ASIDE, atol=1e-6)
        tree = json.loads((tmp_path / "model.gltf").read_text())
        for place in ("../secret.bin", "/etc/hostname", "elsewhere.bin"):
            for buffer in tree["buffers"]:
                buffer["uri"] = place
            assert "expected a .bin file beside it" in error(tmp_path, "a.gltf", json.dumps(tree).encode())

    def test_compressed_data_are_not_read_as_zeros(self, tmp_path: Path) -> None:
        tree = json.loads(self.scene().export(file_type="gltf")["model.gltf"])
        tree["extensionsRequired"] = ["KHR_draco_mesh_compression"]
        told = error(tmp_path, "a.gltf", json.dumps(tree).encode())
        assert told.endswith("a.gltf: is compressed (KHR_draco_mesh_compression); export it without compression")

    def test_data_within_a_gltf(self, tmp_path: Path) -> None:
        files = self.scene().export(file_type="gltf")
        tree = json.loads(files["model.gltf"])
        for buffer in tree["buffers"]:
            data = base64.b64encode(files[buffer["uri"]]).decode()
            buffer["uri"] = f"data:application/octet-stream;base64,{data}"
        cloud = load(tmp_path, "a.gltf", json.dumps(tree).encode())
        np.testing.assert_allclose(cloud.points, POINTS + ASIDE, atol=1e-6)

    def test_meshes_give_their_vertices(self, tmp_path: Path) -> None:
        ball = trimesh.creation.icosphere(subdivisions=1)
        cloud = load(tmp_path, "a.glb", ball.export(file_type="glb"))
        np.testing.assert_allclose(cloud.points, ball.vertices, atol=1e-6)
        assert cloud.note == "points are the 42 vertices of a mesh"

    def test_errors(self, tmp_path: Path) -> None:
        sound = self.scene().export(file_type="glb")
        assert "is not a sound .glb file" in error(tmp_path, "a.glb", rows(POINTS))
        assert "is not a sound .glb file" in error(tmp_path, "a.glb", sound[:-200])
        empty = b'{"asset": {"version": "2.0"}, "scenes": [{"nodes": []}]}'
        assert "holds no points" in error(tmp_path, "a.gltf", empty)
        many = sound.replace(f'"count":{N}'.encode(), b'"count":9' + b"9" * (len(str(N)) - 1), 1)
        tree = json.loads(self.scene().export(file_type="gltf")["model.gltf"])
        tree["accessors"][0]["count"] = 10**12
        assert "promises 1000000000000 vertices" in error(tmp_path, "a.gltf", json.dumps(tree).encode())
        assert "a.glb" in error(tmp_path, "a.glb", many)


def test_formats_of_other_programs_are_told_how_to_convert(tmp_path: Path) -> None:
    assert not CONVERSIONS.keys() & READERS.keys()
    assert error(tmp_path, "a.rcp", b"x").endswith(
        "a.rcp: .rcp is not read: export it from the scanner's program as .e57, .ptx or .las"
    )
    assert "draco_decoder -i FILE.drc -o FILE.ply" in error(tmp_path, "a.drc", b"DRACO")


def test_the_page_on_formats_lists_them_all() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "FORMATS.md").read_text()
    listed = [name for row in page.splitlines() if row.startswith("| `.") for name in row.split("`")[1].split()]
    assert sorted(listed) == sorted(READERS)
