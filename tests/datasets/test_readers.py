"""Every format, as we and as other programs write it; and what is said of files that cannot be read."""

import io
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import trimesh

from phase_recon.datasets.pointcloud import PointCloud, load_point_cloud
from phase_recon.datasets.readers import READERS
from phase_recon.datasets.table import MAX_VALUES
from phase_recon.utils.errors import UserError

Array = npt.NDArray[np.float64]

RNG = np.random.default_rng(7)
N = 20
POINTS = RNG.normal(size=(N, 3))
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
COLOURS = RNG.integers(2, 256, (N, 3)).astype(np.uint8)
PLY_TYPES = {"x": "f8", "y": "f8", "z": "f8", "nx": "f4", "ny": "f4", "nz": "f4"} | dict.fromkeys(
    ("red", "green", "blue"), "u1"
)


def rows(values: Array, separator: str = " ", end: str = "\n") -> bytes:
    return "".join(separator.join(f"{v:.17g}" for v in row) + end for row in values.tolist()).encode()


def load(folder: Path, name: str, content: bytes, **options: object) -> PointCloud:
    (folder / name).write_bytes(content)
    return load_point_cloud(folder / name, **options)  # type: ignore[arg-type]


def error(folder: Path, name: str, content: bytes | None = None) -> str:
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_point_cloud(folder / name)
    text = str(caught.value)
    assert "\n" not in text
    assert name in text
    assert len(text) - len(str(folder)) < 350
    return text


def ply(order: str = "<", before: bytes = b"", before_rows: bytes = b"") -> bytes:
    kinds = {"f8": "double", "f4": "float", "u1": "uchar"}
    form = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    names = "".join(f"property {kinds[kind]} {name}\n" for name, kind in PLY_TYPES.items()).encode()
    head = f"ply\nformat {form} 1.0\ncomment end_header is below\n".encode() + before
    head += f"element vertex {N}\n".encode() + names + b"end_header\n" + before_rows
    table = np.hstack([POINTS, NORMALS, COLOURS])
    if order == "":
        return head + rows(table)
    record = np.empty(N, [(name, order + kind) for name, kind in PLY_TYPES.items()])
    for name, column in zip(PLY_TYPES, table.T, strict=True):
        record[name] = column
    return head + record.tobytes()


def npy(array: npt.NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(compress: bool = False, **arrays: npt.NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def exported(kind: str) -> bytes:
    data = trimesh.creation.icosphere(subdivisions=1).export(file_type=kind)
    return data.encode() if isinstance(data, str) else data


class TestText:
    @pytest.mark.parametrize("separator", [" ", "\t", ",", ";", ", ", "   "])
    @pytest.mark.parametrize("end", ["\n", "\r\n", " \n\n"])
    def test_separators_and_ends(self, tmp_path: Path, separator: str, end: str) -> None:
        cloud = load(tmp_path, "a.txt", rows(POINTS, separator, end))
        np.testing.assert_array_equal(cloud.points, POINTS)
        assert cloud.normals is None

    def test_two_and_four_columns_are_2d(self, tmp_path: Path) -> None:
        flat = NORMALS[:, :2] / np.linalg.norm(NORMALS[:, :2], axis=1, keepdims=True)
        np.testing.assert_array_equal(load(tmp_path, "a.xyz", rows(POINTS[:, :2])).points, POINTS[:, :2])
        cloud = load(tmp_path, "a.xyz", rows(np.hstack([POINTS[:, :2], flat])))
        np.testing.assert_array_equal(cloud.points, POINTS[:, :2])
        np.testing.assert_allclose(cloud.normals, flat, rtol=1e-14)

    def test_comments_mark_and_no_last_newline(self, tmp_path: Path) -> None:
        lines = rows(POINTS).rstrip().split(b"\n")
        lines[3] += b"  # outlier?"
        content = b"\xef\xbb\xbf# made by hand\n\n// of x and y\n" + b"\n".join(lines)
        np.testing.assert_array_equal(load(tmp_path, "a.xyz", content).points, POINTS)

    @pytest.mark.parametrize("start", [b"", b"# ", b"//", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("colours", [b"red,green,blue", b'"R","G","B"'])
    def test_names_are_used(self, tmp_path: Path, start: bytes, colours: bytes) -> None:
        values = np.hstack([COLOURS, np.arange(N)[:, None], POINTS[:, ::-1], NORMALS])
        content = start + colours + b",label,Z,Y,X,Nx,Ny,Nz\n" + rows(values, ",")
        cloud = load(tmp_path, "a.csv", content)
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_allclose(cloud.normals, NORMALS, rtol=1e-14)
        np.testing.assert_array_equal(cloud.colours, COLOURS)

    def test_unused_columns_may_hold_anything(self, tmp_path: Path) -> None:
        content = b"x;y;kind\n" + b"".join(b"%.17g;%.17g;leaf 1_a\n" % tuple(p) for p in POINTS[:, :2])
        np.testing.assert_array_equal(load(tmp_path, "a.csv", content).points, POINTS[:, :2])

    def test_six_columns_named_as_colours(self, tmp_path: Path) -> None:
        cloud = load(tmp_path, "a.txt", b"//X Y Z R G B\n" + rows(np.hstack([POINTS, COLOURS / 255])))
        assert cloud.normals is None
        np.testing.assert_array_equal(cloud.colours, COLOURS)

    def test_numpy_writes_with_a_commented_header(self, tmp_path: Path) -> None:
        np.savetxt(tmp_path / "a.csv", POINTS, delimiter=",", header="x,y,z", fmt="%.18e")
        np.testing.assert_array_equal(load_point_cloud(tmp_path / "a.csv").points, POINTS)

    def test_pts_count(self, tmp_path: Path) -> None:
        np.testing.assert_array_equal(load(tmp_path, "a.pts", b"20\r\n" + rows(POINTS)).points, POINTS)
        assert "says it has 21 points but holds 20" in error(tmp_path, "a.pts", b"21\n" + rows(POINTS))
        intensity = np.hstack([POINTS, COLOURS[:, :1]])
        cloud = load(tmp_path, "a.pts", b"20\n" + rows(intensity))
        np.testing.assert_array_equal(cloud.points, POINTS)
        assert cloud.normals is None
        assert cloud.colours is None
        scanner = load(tmp_path, "a.pts", b"20\n" + rows(np.hstack([intensity, COLOURS])))
        np.testing.assert_array_equal(scanner.points, POINTS)
        np.testing.assert_array_equal(scanner.colours, COLOURS)
        six = load(tmp_path, "a.pts", b"20\n" + rows(np.hstack([POINTS, COLOURS])))
        np.testing.assert_array_equal(six.colours, COLOURS)
        assert six.normals is None
        for name in ("a.pts", "a.txt"):
            uncounted = load(tmp_path, name, rows(np.hstack([POINTS, 0.5 * NORMALS[:, :1], COLOURS])))
            np.testing.assert_array_equal(uncounted.colours, COLOURS)
            assert uncounted.note == "column 4 without a name left out"

    def test_colours_before_a_single_column_of_whole_numbers(self, tmp_path: Path) -> None:
        """As CloudCompare writes a classification or an intensity behind the colours; these go together."""
        grey = np.linspace(20, 200, len(POINTS))[:, None]
        colours = np.round(grey + np.array([0.0, 10.0, 20.0]))
        other = np.arange(len(POINTS))[:, None] % 7
        cloud = load(tmp_path, "a.txt", rows(np.hstack([POINTS, colours, other])))
        np.testing.assert_array_equal(cloud.colours, colours)
        assert cloud.note == "column 7 without a name left out"

    def test_colours_before_two_columns_of_whole_numbers_and_behind_normals(self, tmp_path: Path) -> None:
        """An intensity and a class behind the colours; and an intensity behind normals and colours."""
        grey = np.linspace(20, 200, len(POINTS))[:, None]
        colours = np.round(grey + np.array([0.0, 10.0, 20.0]))
        other = np.arange(len(POINTS))[:, None] * 7 % 11
        eight = load(tmp_path, "a.txt", rows(np.hstack([POINTS, colours, other, other % 3])))
        np.testing.assert_array_equal(eight.colours, colours)
        ten = load(tmp_path, "a.txt", rows(np.hstack([POINTS, NORMALS, colours, other])))
        np.testing.assert_array_equal(ten.colours, colours)
        np.testing.assert_allclose(ten.normals, NORMALS, atol=1e-12)

    @pytest.mark.parametrize("index", [False, True])
    def test_names_that_only_count_the_columns_are_no_point(self, tmp_path: Path, index: bool) -> None:
        """As pandas writes an array."""
        table = np.hstack([np.arange(len(POINTS))[:, None], POINTS]) if index else POINTS
        lines = [",".join(f"{x:.18e}" if k or not index else f"{x:.0f}" for k, x in enumerate(row)) for row in table]
        head = b",0,1,2\n" if index else b"0,1,2\n"
        cloud = load(tmp_path, "a.csv", head + "\n".join(lines).encode())
        np.testing.assert_array_equal(cloud.points, POINTS)
        counts = "; the first column counts the rows and was left out" if index else ""
        assert cloud.note == f"line 1, which counts the columns, was left out{counts}"
        whole = np.round(50 * POINTS)
        whole[0] = 0, 1, 2
        np.testing.assert_array_equal(load(tmp_path, "a.csv", rows(whole)).points, whole)  # a point

    def test_colours_of_16_bits(self, tmp_path: Path) -> None:
        wide = 257 * COLOURS.astype(int)
        cloud = load(tmp_path, "a.csv", b"x,y,z,r,g,b\n" + rows(np.hstack([POINTS, wide])).replace(b" ", b","))
        np.testing.assert_array_equal(cloud.colours, COLOURS)

    def test_colours_that_nobody_filled_are_none(self, tmp_path: Path) -> None:
        black = rows(np.hstack([POINTS, 0 * COLOURS])).replace(b" ", b",")
        cloud = load(tmp_path, "a.csv", b"x,y,z,red,green,blue\n" + black)
        assert cloud.colours is None
        assert cloud.note == "the colours are all zero and were left out"

    def test_paraview_names_its_columns(self, tmp_path: Path) -> None:
        header = b'"Points:0","Points:1","Points:2","curvature"\n'
        content = rows(np.hstack([POINTS, COLOURS[:, :1]])).replace(b" ", b",")
        np.testing.assert_array_equal(load(tmp_path, "a.csv", header + content).points, POINTS)

    def test_empty_fields_are_rows_where_nothing_was_measured(self, tmp_path: Path) -> None:
        measured = rows(np.append(POINTS, np.ones((len(POINTS), 1)), axis=1), ",")
        content = b"x,y,z,t,\n" + measured.replace(b"\n", b",\n,,,1,\n")
        cloud = load(tmp_path, "a.csv", content)
        np.testing.assert_array_equal(cloud.points, POINTS)
        assert cloud.note == f"left out: {len(POINTS)} points without coordinates (NaN)"
        broken = content.replace(b",,,1,", b",,oops,1,", 1)
        assert "line 3 is not a row of numbers: ',,oops,1'" in error(tmp_path, "a.csv", broken)

    def test_classes_may_be_numbers_first_and_names_later(self, tmp_path: Path) -> None:
        lines = [f"{x:.17g},{y:.17g},{z:.17g},{'tree' if i > 9 else 5}" for i, (x, y, z) in enumerate(POINTS)]
        cloud = load(tmp_path, "a.csv", "\n".join(["x,y,z,class", *lines]).encode())
        np.testing.assert_array_equal(cloud.points, POINTS)

    def test_blocks_join_without_loss(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("phase_recon.datasets.table.BLOCK_BYTES", 256)
        content = b"# " + 90 * b"x" + b"\n\n" + rows(POINTS)
        np.testing.assert_array_equal(load(tmp_path, "a.xyz", content).points, POINTS)
        np.testing.assert_array_equal(load(tmp_path, "a.ply", ply("")).points, POINTS)
        broken = rows(POINTS) + b"oops 1 2\n"
        assert "line 21 is not a row of numbers: 'oops 1 2'" in error(tmp_path, "a.xyz", broken)
        assert "has a line of over" in error(tmp_path, "a.xyz", b"1 " * 300)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "is empty: expected points"),
            (b"\n# nothing\n", "holds no rows of numbers"),
            (b"hello world\n1 2\n", "line 1 is neither a row of numbers nor a header that names x and y"),
            (
                rows(POINTS) + b"1 2 " + 99 * b"w",
                "line 21 is not a row of numbers: '1 2 " + 36 * "w" + "...'",
            ),
            (rows(POINTS) + b"1 2\n" + rows(POINTS), "line 21 has 2 values where 3 were expected: '1 2'"),
            (b"1\n" * 20, "(line 1: '1') has 1 column: expected 2 columns (x y), 3"),
            (b"x,y,z,x\n", "names the column x twice"),
            (b"x,y,nx\n" + rows(POINTS, ","), "has nx but not ny: give all or none"),
            (rows(POINTS[:9]), "holds 9 points: expected 10 or more"),
            (np.arange(99.0).tobytes(), "is a binary file, expected rows of numbers as text"),
            (b"\x93\xfe\x01\xff\n", "line 1 is neither a row of numbers"),
        ],
    )
    def test_errors(self, tmp_path: Path, content: bytes, says: str) -> None:
        assert says in error(tmp_path, "scan.xyz", content)


class TestFiles:
    def test_missing_suggests_the_nearest(self, tmp_path: Path) -> None:
        (tmp_path / "armadillo.xyz").write_bytes(rows(POINTS))
        assert error(tmp_path, "armadilo.xyz").endswith(f"did you mean {tmp_path / 'armadillo.xyz'}?")
        assert error(tmp_path, "q.ply").endswith("no such file: check the path")
        assert "nor is there a folder" in error(tmp_path, "no/where/scan.xyz")

    def test_what_is_not_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "scan.xyz").mkdir()
        assert "is a folder: name one file in it" in error(tmp_path, "scan.xyz")
        os.mkfifo(tmp_path / "pipe.xyz")
        assert "is not an ordinary file" in error(tmp_path, "pipe.xyz")

    def test_extension(self, tmp_path: Path) -> None:
        known = f"expected one of {', '.join(READERS)}"
        assert f"has the extension '.doc': {known}" in error(tmp_path, "scan.doc", b"1 2 3")
        assert f"has no extension: {known}" in error(tmp_path, "scan", b"1 2 3")
        np.testing.assert_array_equal(load(tmp_path, "SCAN.XYZ", rows(POINTS)).points, POINTS)

    def test_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        (tmp_path / "scan.xyz").write_bytes(rows(POINTS))
        # the super-user, as whom tests may run, is let in everywhere
        monkeypatch.setattr(Path, "open", refuse)
        assert "permission denied; change its permissions" in error(tmp_path, "scan.xyz")


class TestNumpy:
    @pytest.mark.parametrize("kind", ["<f8", ">f8", "<f4", "<f2", "<i4", "u1"])
    def test_npy(self, tmp_path: Path, kind: str) -> None:
        array = np.round(np.abs(POINTS) * 50).astype(kind)
        np.testing.assert_array_equal(load(tmp_path, "a.npy", npy(array)).points, array.astype(float))
        fortran = load(tmp_path, "a.npy", npy(np.asfortranarray(array))).points
        np.testing.assert_array_equal(fortran, array.astype(float))

    @pytest.mark.parametrize("points", ["points", "xyz", "vertices", "pos"])
    @pytest.mark.parametrize(("normals", "colours"), [("normals", "colors"), ("n", "rgb")])
    def test_npz(self, tmp_path: Path, points: str, normals: str, colours: str) -> None:
        arrays = {"other": np.zeros(1), points: POINTS, normals: NORMALS * 3, colours: COLOURS}
        cloud = load(tmp_path, "a.npz", npz(compress=True, **arrays))
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_allclose(cloud.normals, NORMALS, rtol=1e-14)
        np.testing.assert_array_equal(cloud.colours, COLOURS)

    def test_of_several_arrays_that_may_be_the_points_the_first_name_counts(self, tmp_path: Path) -> None:
        cloud = load(tmp_path, "a.npz", npz(vertices=POINTS[:5], points=POINTS))
        np.testing.assert_array_equal(cloud.points, POINTS)

    @pytest.mark.parametrize("name", ["sensors", "sensor_position", "sensor_positions"])
    def test_sensor_positions(self, tmp_path: Path, name: str) -> None:
        cloud = load(tmp_path, "a.npz", npz(points=POINTS, **{name: 9 * POINTS}))
        np.testing.assert_array_equal(cloud.sensors, 9 * POINTS)
        flat = load(tmp_path, "a.npz", npz(points=POINTS[:, :2], **{name: 9 * POINTS[:, :2]}))
        np.testing.assert_array_equal(flat.sensors, 9 * POINTS[:, :2])
        assert "has sensors of shape (5, 3): expected (20, 3)" in error(
            tmp_path, "a.npz", npz(points=POINTS, **{name: POINTS[:5]})
        )

    @pytest.mark.parametrize("place", [[1.0, 2.0, 9.0], [[1.0, 2.0, 9.0]]])
    def test_one_sensor_of_all_points(self, tmp_path: Path, place: list) -> None:
        cloud = load(tmp_path, "a.npz", npz(points=POINTS, sensor_position=np.array(place)))
        np.testing.assert_array_equal(cloud.sensors, np.tile([1.0, 2.0, 9.0], (len(POINTS), 1)))
        assert "has sensors of shape (1, 3): expected (20, 2)" in error(
            tmp_path, "a.npz", npz(points=POINTS[:, :2], sensor_position=np.array(place))
        )

    def test_one_array_of_any_name(self, tmp_path: Path) -> None:
        cloud = load(tmp_path, "a.npz", npz(arr_0=np.hstack([POINTS, NORMALS])))
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_allclose(cloud.normals, NORMALS, rtol=1e-14)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (npz(a=POINTS, b=POINTS), "holds the arrays 'a, b': expected one of points, xyz, vertices, pos"),
            (npz(xyz=POINTS, n=NORMALS[:5]), "has normals of shape (5, 3): expected (20, 3)"),
            (npz(xyz=np.hstack([POINTS, NORMALS]), n=NORMALS), "normals beside its points and in an array"),
            (npz(points=np.zeros((20, 1))), "(points) has 1 column: expected"),
            (npz(points=POINTS)[:300], "is not a sound npz archive"),
            (npz(points=np.array([{}])), "(array 'points') holds pickled Python objects"),
        ],
    )
    def test_npz_errors(self, tmp_path: Path, content: bytes, says: str) -> None:
        assert says in error(tmp_path, "a.npz", content)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (npy(np.array([[1, None]])), "holds pickled Python objects, which are not read"),
            (npy(POINTS + 0j), "type 'complex128': expected numbers"),
            (npy(POINTS[0]), "has shape '(3,)'"),
            (npy(np.zeros((20, 1))), "has 1 column: expected"),
            (npy(POINTS)[:-1], "is cut short: its shape (20, 3) needs 480 bytes"),
            (rows(POINTS), "is not an array in numpy's format"),
            (npy(POINTS).replace(b"(20, 3)", b"(99999999999, 3)"), f"at most {MAX_VALUES} are read"),
        ],
    )
    def test_npy_errors(self, tmp_path: Path, content: bytes, says: str) -> None:
        assert says in error(tmp_path, "a.npy", content)

    def test_bomb(self, tmp_path: Path) -> None:
        header = npy(np.zeros((1, 3)))[:128].replace(b"(1, 3), }", b"(10000000000, 3), }")
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("points.npy", header + bytes(10**7))
        start = time.monotonic()
        assert f"promises 30000000000 numbers: at most {MAX_VALUES}" in error(tmp_path, "a.npz")
        assert time.monotonic() - start < 1


class TestPly:
    @pytest.mark.parametrize("order", ["", "<", ">"])
    def test_points_normals_colours(self, tmp_path: Path, order: str) -> None:
        cloud = load(tmp_path, "a.ply", ply(order))
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-7)
        np.testing.assert_array_equal(cloud.colours, COLOURS)
        assert cloud.note is None

    @pytest.mark.parametrize("names", ["vx vy vz", "sensor_x sensor_y sensor_z"])
    def test_sensor_positions(self, tmp_path: Path, names: str) -> None:
        lines = "".join(f"property double {name}\n" for name in ["x", "y", "z", *names.split()])
        head = f"ply\nformat ascii 1.0\nelement vertex {N}\n{lines}end_header\n".encode()
        np.testing.assert_array_equal(
            load(tmp_path, "a.ply", head + rows(np.hstack([POINTS, 9 * POINTS]))).sensors, 9 * POINTS
        )
        some = 9 * POINTS
        some[3] = np.nan
        cloud = load(tmp_path, "a.ply", head + rows(np.hstack([POINTS, some])))
        assert cloud.sensors is None
        assert cloud.note == "1 of 20 sensor positions are NaN or infinite: all are left out"

    @pytest.mark.parametrize("order", ["", "<", ">"])
    def test_vertices_behind_other_elements(self, tmp_path: Path, order: str) -> None:
        head = (
            b"element camera 2\nproperty float f\nproperty short id\n"
            b"element face 2\nproperty uchar tag\nproperty list uint8 int32 vertex_indices\n"
        )
        if order:
            faces = b"".join(b"\7" + bytes([n]) + np.arange(n, dtype=order + "i4").tobytes() for n in (3, 4))
            data = bytes(2 * 6) + faces
        else:
            data = b"1.5 1\n2.5 2\n7 3 0 1 2\n7 4 0 1 2 3\n"
        cloud = load(tmp_path, "a.ply", ply(order, head, data))
        np.testing.assert_array_equal(cloud.points, POINTS)
        assert cloud.note == "points are the 20 vertices of a mesh"

    def test_windows_line_ends_in_text(self, tmp_path: Path) -> None:
        cloud = load(tmp_path, "a.ply", ply("").replace(b"\n", b"\r\n"))
        np.testing.assert_array_equal(cloud.points, POINTS)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (ply("<")[:-1], "is cut short: its header promises 20 vertices and at least 780 bytes, 779 are"),
            (ply("").rsplit(b"\n", 6)[0], "is cut short: it ends after 15 of 20 vertices"),
            (ply("<").replace(b"vertex 20", b"vertex 1000000000000"), "promises 1000000000000 vertices"),
            (ply("").replace(b"vertex 20", b"vertex 50000000"), "is cut short: its header promises 50000000"),
            (ply("").replace(b"vertex 20", b"vertex 0"), "holds no vertices"),
            (ply("").replace(b"element vertex", b"element point"), "holds no vertices"),
            (ply("").replace(b"double x", b"double a"), "names the columns 'a y z"),
            (ply("").replace(b"double x", b"list uchar int x"), "names the columns 'y z nx"),
            (ply("").replace(b"double x", b"quad x"), "cannot be understood: 'property quad x'"),
            (ply("").replace(b"double x", b"double y"), "names the column y twice"),
            (ply("").replace(b"end_header", b"comment"), "has a PLY header"),
            (b"ply\nformat ascii 1.0\nelement vertex 20\n", "PLY header without its end"),
            (rows(POINTS), "does not begin with 'ply'"),
            (ply("").replace(b"end_header\n", b"end_header\nx "), "vertex 1 has 10 values where 9"),
        ],
    )
    def test_errors(self, tmp_path: Path, content: bytes, says: str) -> None:
        assert says in error(tmp_path, "a.ply", content)

    def test_cut_short_among_lists(self, tmp_path: Path) -> None:
        head = b"element face 1\nproperty list uint int vertex_indices\n"
        content = ply("<", head, np.array([10**9], "<u4").tobytes())
        assert "ends after 0 of 20 vertices" in error(tmp_path, "a.ply", content)


class TestMeshes:
    def test_obj_keeps_order_normals_and_ignores_materials(self, tmp_path: Path) -> None:
        (tmp_path / "m.mtl").mkdir()  # would fail if opened
        body = "mtllib m.mtl\n" + "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in POINTS.tolist())
        body += "".join(f"vn {x!r} {y!r} {z!r}\n" for x, y, z in (2 * NORMALS).tolist()) + "vt 0 0\n"
        cloud = load(tmp_path, "a.obj", (body + "usemtl q\nf 1/1/1 2/1/2 3//3\n").encode())
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_allclose(cloud.normals, NORMALS, rtol=1e-14)
        assert cloud.note == "points are the 20 vertices of a mesh"
        for mixed in ("f 1//2 2//1 3//3\n", "f 1//1 2//2 3//3\nvn 0 0 1\n", "f -1//-1 -2//-2 -3//-3\n"):
            cloud = load(tmp_path, "a.obj", (body + mixed).encode())
            assert cloud.normals is None
            assert cloud.note is not None
            assert cloud.note.endswith("mesh; its normals are not one to a vertex and were left out")

    def test_obj_colours_behind_the_vertices(self, tmp_path: Path) -> None:
        body = b"".join(
            b"v %.17g %.17g %.17g %.6f %.6f %.6f\n" % tuple(r) for r in np.c_[POINTS, COLOURS / 255]
        )
        cloud = load(tmp_path, "a.obj", body)
        np.testing.assert_array_equal(cloud.colours, COLOURS)
        assert cloud.note is None

    def test_off_with_normals_and_comments(self, tmp_path: Path) -> None:
        body = b"# hand-made\nNOFF # normals\n20 1 0\n" + rows(np.hstack([POINTS, NORMALS])) + b"3 0 1 2\n"
        cloud = load(tmp_path, "a.off", body)
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_allclose(cloud.normals, NORMALS, rtol=1e-14)
        np.testing.assert_array_equal(load(tmp_path, "a.off", b"OFF 20 0 0\n" + rows(POINTS)).points, POINTS)

    @pytest.mark.parametrize("header", [b"", b"x ; y ; z\n"])
    def test_decimal_commas_below_a_row_of_whole_numbers(self, tmp_path: Path, header: bytes) -> None:
        lines = "\n".join(" ; ".join(f"{value:.6f}".replace(".", ",") for value in row) for row in POINTS)
        cloud = load(tmp_path, "a.csv", header + b"0 ; 0 ; 1\n" + lines.encode())
        np.testing.assert_allclose(cloud.points, np.r_[[[0, 0, 1]], POINTS], atol=1e-6)

    @pytest.mark.parametrize("header", [b"", b"x,y,z,\n"])
    def test_lines_that_end_with_a_separator(self, tmp_path: Path, header: bytes) -> None:
        lines = b"".join(b"%.17g,%.17g,%.17g,\n" % tuple(row) for row in POINTS)
        np.testing.assert_array_equal(load(tmp_path, "a.csv", header + lines).points, POINTS)

    def test_the_name_of_a_text_stl_is_no_vertex(self, tmp_path: Path) -> None:
        content = trimesh.exchange.stl.export_stl_ascii(trimesh.creation.icosphere(subdivisions=1))
        named = content.replace("solid", "solid vertex_model", 1).encode()
        assert len(load(tmp_path, "a.stl", named).points) == 42

    @pytest.mark.parametrize("size", [1.0, 1e-9])
    def test_stl_keeps_each_place_once_at_any_size(self, tmp_path: Path, size: float) -> None:
        mesh = trimesh.creation.icosphere(subdivisions=1)
        mesh.apply_scale(size)
        for kind in ("stl", "stl_ascii"):
            data = mesh.export(file_type=kind)
            cloud = load(tmp_path, "a.stl", data.encode() if isinstance(data, str) else data)
            assert cloud.points.shape == (42, 3)
            assert cloud.note == "points are the 42 vertices of a mesh"
            distances = np.linalg.norm(cloud.points[:, None] - mesh.vertices[None], axis=-1)
            assert distances.min(axis=1).max() < 1e-6 * size

    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("a.obj", b"o empty\n", "holds no vertices: expected lines 'v x y z'"),
            ("a.obj", b"v 1 2\n" * 20, "has a vertex that is not 'v x y z': 'v 1 2'"),
            ("a.obj", b"v 1 2 3\n" * 20 + b"v 1 2 z", "vertex 21 is not a row of numbers: 'v 1 2 z'"),
            ("a.off", rows(POINTS), "does not begin as a text OFF file"),
            ("a.off", b"OFF\n21 0 0\n" + rows(POINTS), "holds 20 of 21 vertices"),
            ("a.off", b"OFF\n20 0 0\n" + rows(POINTS[:, :2]), "a vertex of fewer than 3 numbers"),
            ("a.stl", exported("stl")[:-1], "fits neither a text STL ('solid ...') nor the 80 facets"),
            ("a.stl", b"solid\nendsolid\n", "holds no facets"),
            ("a.stl", b"solid\nvertex 1 2\n", "vertex 1 has 3 values where 4 were expected"),
        ],
    )
    def test_errors(self, tmp_path: Path, name: str, content: bytes, says: str) -> None:
        assert says in error(tmp_path, name, content)


class TestOtherPrograms:
    @pytest.mark.parametrize("kind", ["ply", "obj", "off", "xyz"])
    def test_trimesh(self, tmp_path: Path, kind: str) -> None:
        mesh = trimesh.creation.icosphere(subdivisions=2, radius=3.0)
        path = tmp_path / f"a.{kind}"
        if kind == "xyz":
            trimesh.PointCloud(mesh.vertices).export(path)
        else:
            mesh.export(path)
        np.testing.assert_allclose(load_point_cloud(path).points, mesh.vertices, atol=1e-6)

    def test_trimesh_text_ply_with_normals(self, tmp_path: Path) -> None:
        mesh = trimesh.creation.icosphere(subdivisions=1)
        data = trimesh.exchange.ply.export_ply(mesh, encoding="ascii", vertex_normal=True)
        cloud = load(tmp_path, "a.ply", data)
        np.testing.assert_allclose(cloud.points, mesh.vertices, atol=1e-7)
        np.testing.assert_allclose(cloud.normals, mesh.vertex_normals, atol=1e-6)

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("ply", {}),
            ("ply", {"write_ascii": True}),
            ("xyz", {}),
            ("xyzn", {}),
            ("xyzrgb", {}),
            ("pts", {}),
        ],
    )
    def test_open3d(self, tmp_path: Path, kind: str, options: dict[str, bool]) -> None:
        try:
            import open3d
        except (ImportError, OSError) as missing:
            pytest.skip(f"open3d cannot be imported: {missing}")
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(POINTS * 1e6))
        cloud.normals = open3d.utility.Vector3dVector(NORMALS)
        if kind in ("ply", "xyzrgb"):
            cloud.colors = open3d.utility.Vector3dVector(COLOURS / 255)
        written = tmp_path / f"a.{kind}"
        assert open3d.io.write_point_cloud(str(written), cloud, **options)
        content = written.read_bytes()
        name = "a.xyz" if kind.startswith("xyz") else written.name
        if kind == "xyzrgb":
            content = b"x y z r g b\n" + content  # 0 to 1, of which nothing in the file tells
        read = load(tmp_path, name, content)
        # its text PLY has six digits, its other files have double precision
        digits = {"rtol": 1e-5} if options else {"rtol": 0, "atol": 1e-4}
        np.testing.assert_allclose(read.points, POINTS * 1e6, **digits)
        if kind in ("ply", "xyzn"):
            np.testing.assert_allclose(read.normals, NORMALS, atol=1e-5 if options else 1e-7)
        if kind in ("ply", "xyzrgb"):
            np.testing.assert_array_equal(read.colours, COLOURS)


SOUND = {
    "a.xyz": b"# made\n" + rows(np.hstack([POINTS, NORMALS])),
    "b.csv": b"x,y,z,r,g,b\n" + rows(np.hstack([POINTS, COLOURS]), ","),
    "c.pts": b"20\n" + rows(POINTS),
    "d.npy": npy(POINTS),
    "e.npz": npz(points=POINTS, normals=NORMALS),
    "f.npz": npz(compress=True, points=POINTS, colors=COLOURS),
    "g.ply": ply(""),
    "h.ply": ply("<", b"element face 1\nproperty list uchar int i\n", b"\1\0\0\0\0"),
    "i.ply": ply(">"),
    "j.obj": exported("obj"),
    "k.off": exported("off"),
    "l.stl": exported("stl"),
    "m.stl": exported("stl_ascii"),
}


@pytest.mark.parametrize("name", SOUND)
def test_damaged_bytes_give_a_cloud_or_a_user_error(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(sum(name.encode()))
    sound = SOUND[name]
    assert len(load(tmp_path, name, sound).points) >= N
    refusals = []
    for i in range(120):
        data = bytearray(sound)
        # headers are short and matter most, so half of the places are in the first 200 bytes
        place = int(rng.integers(min(200, len(data)) if i % 2 else len(data)))
        match i % 5:
            case 0:
                del data[place:]
            case 1:
                data[place] = rng.integers(256)
            case 2:
                del data[place : place + int(rng.integers(1, 9))]
            case 3:
                data[place:place] = rng.choice(
                    [b"9999999", b"-1", b"\n", b"\0", b"nan ", b"1e999", b"\xff'(["]
                )
            case 4:
                data[place : place + 8] = rng.bytes(8)
        try:
            cloud = load(tmp_path, name, bytes(data), drop_invalid=bool(i % 3))
        except UserError as told:
            refusals.append(str(told))
        else:
            assert np.isfinite(cloud.points).all()
    assert len(refusals) >= 20
    assert not any("\n" in text for text in refusals)
