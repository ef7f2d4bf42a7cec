"""Files as they come: layouts, line ends, encodings and conventions that public bug reports are about."""

from pathlib import Path

import numpy as np
import pytest

from phase_recon.datasets.pointcloud import PointCloud, load_point_cloud, point_cloud
from phase_recon.datasets.selection import Selection
from phase_recon.utils.errors import UserError

RNG = np.random.default_rng(5)
N = 40
POINTS = RNG.normal(size=(N, 3)).round(6)
NORMALS = (POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)).round(6)
COLOURS = RNG.integers(0, 256, (N, 3))
COLOURS[0] = 255
XYZ = "".join(f"property double {axis}\n" for axis in "xyz")
RGB = "".join(f"property uchar {colour}\n" for colour in ("red", "green", "blue"))


def ply(properties: str, form: str = "ascii") -> str:
    return f"ply\nformat {form} 1.0\nelement vertex {N}\n{properties}end_header\n"


def rows(values: object, separator: str = " ", end: str = "\n") -> str:
    return "".join(separator.join(f"{v:.9g}" for v in row) + end for row in np.asarray(values).tolist())


def load(folder: Path, name: str, content: str | bytes, **options: object) -> PointCloud:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return load_point_cloud(folder / name, **options)  # type: ignore[arg-type]


class TestPlyLists:
    """Scanners' software lists the views or a descriptor of each point."""

    @pytest.mark.parametrize("size", ["uint", "uchar", "short"])
    @pytest.mark.parametrize("before", [False, True])
    @pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
    def test_are_passed_over(self, tmp_path: Path, size: str, before: bool, form: str) -> None:
        lists = [RNG.normal(size=i % 6) for i in range(N)]
        parts = [f"property list {size} double feature\n", XYZ]
        properties = "".join(parts if before else parts[::-1]) + RGB
        if form == "ascii":
            texts = [f"{len(values)} {' '.join(map(str, values))}" for values in lists]
            body = "".join(
                " ".join([*((text, p) if before else (p, text)), c]) + "\n"
                for text, p, c in zip(texts, rows(POINTS).splitlines(), rows(COLOURS).splitlines(), strict=True)
            ).encode()
        else:
            order = "<" if form == "binary_little_endian" else ">"
            code = order + {"uint": "u4", "uchar": "u1", "short": "i2"}[size]
            blocks = [np.array(len(v), code).tobytes() + v.astype(order + "f8").tobytes() for v in lists]
            body = b"".join(
                b"".join((block, p) if before else (p, block)) + c
                for block, p, c in zip(
                    blocks,
                    [p.astype(order + "f8").tobytes() for p in POINTS],
                    [c.astype("u1").tobytes() for c in COLOURS],
                    strict=True,
                )
            )
        cloud = load(tmp_path, "a.ply", ply(properties, form).encode() + body)
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_array_equal(cloud.colours, COLOURS)

    @pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
    def test_cut_short_or_longer_than_the_file(self, tmp_path: Path, form: str) -> None:
        head = ply(XYZ + "property list uint uchar views\n", form)
        body = (
            "".join(f"{p} 0\n" for p in rows(POINTS).splitlines()).encode()
            if form == "ascii"
            else b"".join(p.tobytes() + bytes(4) for p in POINTS)
        )
        assert len(load(tmp_path, "a.ply", head.encode() + body).points) == N
        for longer in (b"9" * 8, b"\xff\xff\xff\x7f"):
            place = body.index(b"\n") - 1 if form == "ascii" else 24
            broken = body[:place] + longer + body[place + (1 if form == "ascii" else 4) :]
            with pytest.raises(UserError, match=r"a\.ply.*(is cut short|values where)"):
                load(tmp_path, "a.ply", head.encode() + broken)


class TestLineLayouts:
    def test_a_vertex_on_two_lines_or_all_on_one(self, tmp_path: Path) -> None:
        pairs = zip(rows(POINTS, end=" \n").splitlines(), rows(COLOURS).splitlines(), strict=True)
        content = ply(XYZ + RGB) + "".join(f"{p}\n{c} \n" for p, c in pairs)
        cloud = load(tmp_path, "a.ply", content)
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_array_equal(cloud.colours, COLOURS)
        on_one = ply(XYZ) + rows(POINTS).replace("\n", " ")
        np.testing.assert_array_equal(load(tmp_path, "a.ply", on_one).points, POINTS)

    def test_rows_that_are_too_long_are_refused(self, tmp_path: Path) -> None:
        """Read value by value, they would give another cloud."""
        with pytest.raises(UserError, match="vertex 1 has 4 values where 3 were expected"):
            load(tmp_path, "a.ply", ply(XYZ) + rows(np.c_[POINTS, COLOURS[:, 0]]))

    @pytest.mark.parametrize("end", ["\r\n", "\r", "\n\r\n"])
    def test_line_ends(self, tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for block in (1 << 20, 97):  # a block may end between CR and LF
            monkeypatch.setattr("phase_recon.datasets.table.BLOCK_BYTES", block)
            for name, content in (("a.ply", ply(XYZ) + rows(POINTS)), ("a.xyz", rows(POINTS))):
                cloud = load(tmp_path, name, content.replace("\n", end))
                np.testing.assert_array_equal(cloud.points, POINTS)

    def test_a_blank_line_and_a_mark_behind_the_header(self, tmp_path: Path) -> None:
        for between in ("\r\n", "\ufeff", "\n \n"):
            cloud = load(tmp_path, "a.ply", ply(XYZ) + between + rows(POINTS))
            np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_array_equal(load(tmp_path, "a.ply", "\ufeff" + ply(XYZ) + rows(POINTS)).points, POINTS)

    @pytest.mark.parametrize("end", ["\r\n", "\r"])
    def test_line_ends_of_a_binary_ply(self, tmp_path: Path, end: str) -> None:
        points = POINTS.copy()
        points[0] = np.frombuffer(b"\n\r\n\r\n\r\n?" * 3, "<f8")  # numbers that look like line ends
        head = ply(XYZ, "binary_little_endian").replace("\n", end).encode()
        np.testing.assert_array_equal(load(tmp_path, "a.ply", head + points.tobytes()).points, points)

    def test_normals_in_bytes_do_not_keep_the_points_from_being_read(self, tmp_path: Path) -> None:
        record = np.empty(N, [("p", ">f8", 3), ("n", "u1", 3)])
        record["p"], record["n"] = POINTS, np.round(127 * NORMALS + 128)
        normals = "".join(f"property uchar n{axis}\n" for axis in "xyz")
        content = ply(XYZ + normals, "binary_big_endian").encode() + record.tobytes()
        np.testing.assert_array_equal(load(tmp_path, "a.ply", content, normals=False).points, POINTS)
        with pytest.raises(UserError, match="normals in bytes"):
            load(tmp_path, "a.ply", content)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("block", [1 << 20, 101])
    def test_utf_16(self, tmp_path: Path, encoding: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("phase_recon.datasets.table.BLOCK_BYTES", block)
        mark = "" if encoding == "utf-16" else "\ufeff"
        content = (mark + "// Größe\r\n" + rows(POINTS, end="\r\n")).encode(encoding)
        np.testing.assert_array_equal(load(tmp_path, "a.txt", content).points, POINTS)


    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_meshes_of_text(self, tmp_path: Path, encoding: str) -> None:
        """The first vertex is behind the byte-order mark, and with it the normals are one to a vertex."""
        lines = rows(POINTS).splitlines()
        normals = rows(NORMALS).splitlines()
        obj = "".join(f"v {line}\n" for line in lines) + "".join(f"vn {line}\n" for line in normals)
        read = load(tmp_path, "a.obj", obj.encode(encoding))
        np.testing.assert_array_equal(read.points, POINTS)
        assert read.normals is not None
        off = f"OFF\n{N} 0 0\n" + "".join(f"{line}\n" for line in lines)
        np.testing.assert_array_equal(load(tmp_path, "a.off", off.encode(encoding), normals=False).points, POINTS)
        stl = "solid a\n" + "".join(f"vertex {line}\n" for line in lines) + "endsolid a\n"
        assert len(load(tmp_path, "a.stl", stl.encode(encoding), normals=False).points) == N


class TestDialectsOfText:
    INTENSITY = RNG.uniform(0, 1, (N, 1)).round(6)

    @pytest.mark.parametrize(
        ("name", "parts"),
        [
            ("recap.pts", "picc"),
            ("recap.txt", "picc"),
            ("a.xyz", "pc"),
            ("a.xyzrgb", "pC"),
            ("a.xyz", "pi"),
            ("a.pts", "pi"),
            ("a.xyz", "pcn"),
            ("a.asc", "pnc"),
            ("a.dat", "pin"),
            ("a.xyzn", "pn"),
            ("a.npts", "pn"),
            ("a.3d", "p"),
            ("a.tsv", "p"),
            ("a.xyz", "#pc"),
        ],
    )
    def test_columns_without_names(self, tmp_path: Path, name: str, parts: str) -> None:
        blocks = {
            "p": POINTS, "i": self.INTENSITY, "c": COLOURS, "C": COLOURS / 255, "n": NORMALS,
            "#": np.arange(1, N + 1)[:, None],
        }  # fmt: skip
        cloud = load(tmp_path, name, rows(np.hstack([blocks[part] for part in dict.fromkeys(parts)])))
        np.testing.assert_array_equal(cloud.points, POINTS)
        assert (cloud.normals is not None) == ("n" in parts)
        if "n" in parts:
            np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-5)
        assert (cloud.colours is not None) == ("c" in parts.lower())
        if cloud.colours is not None:
            np.testing.assert_array_equal(cloud.colours, COLOURS)
        if "i" in parts:
            assert cloud.note == "column 4 without a name left out"
        if "#" in parts:
            assert cloud.note == "the first column counts the rows and was left out"

    @pytest.mark.parametrize("count", ["", f"{N}\n"])
    def test_cloudcompare_names_its_columns_before_the_count(self, tmp_path: Path, count: str) -> None:
        values = np.hstack([POINTS, (COLOURS / 255).round(9), self.INTENSITY, NORMALS])
        header = "//X;Y;Z;Rf;Gf;Bf;Intensity (0.01);Nx;Ny;Nz\n"
        cloud = load(tmp_path, "a.pts", header + count + rows(values, ";"))
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-5)
        np.testing.assert_array_equal(cloud.colours, COLOURS)

    @pytest.mark.parametrize("separator", [";", " ", "\t", "; "])
    @pytest.mark.parametrize("header", ["", "x;y;z\n"])
    def test_decimal_commas(self, tmp_path: Path, separator: str, header: str) -> None:
        content = header.replace(";", separator) + rows(POINTS, separator).replace(".", ",")
        np.testing.assert_array_equal(load(tmp_path, "a.txt", content).points, POINTS)

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize("point", [".", ","])
    @pytest.mark.parametrize("header", ["", '"x","y","z"\n'])
    def test_numbers_in_quotes(self, tmp_path: Path, separator: str, point: str, header: str) -> None:
        lines = [separator.join(f'"{value:.17g}"'.replace(".", point) for value in row) for row in POINTS]
        content = header.replace(",", separator) + "\n".join(lines) + "\n"
        np.testing.assert_array_equal(load(tmp_path, "a.csv", content).points, POINTS)

    @pytest.mark.parametrize(
        ("classes", "kept"),
        [("2,,3,2", N // 2), ("2,ground,3,2", None), (",,,", None)],  # half are 2; as text, and empty, it is no column
    )
    def test_a_class_is_missing_in_some_rows(self, classes: str, kept: int | None, tmp_path: Path) -> None:
        lines = [f"{x},{y},{z},{classes.split(',')[k % 4]}" for k, (x, y, z) in enumerate(POINTS.tolist())]
        content = "\n".join(["x,y,z,class", *lines])
        if kept is None:
            with pytest.raises(UserError, match="has no classes"):
                load(tmp_path, "a.csv", content, selection=Selection(classes=(2,)))
        else:
            assert len(load(tmp_path, "a.csv", content, selection=Selection(classes=(2,))).points) == kept

    def test_decimal_commas_in_a_ply_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"vertex 1 is not a row of numbers.*use decimal points"):
            load(tmp_path, "a.ply", ply(XYZ) + rows(POINTS).replace(".", ","))


class TestGaussians:
    """3D Gaussian splatting's .ply: normals of zeros, logits of the opacity, colours as spherical harmonics."""

    OPACITY = RNG.normal(size=N)

    def content(self) -> bytes:
        names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "rot_0"]
        harmonics = (COLOURS / 255 - 0.5) * 2 * np.sqrt(np.pi)
        values = np.hstack([POINTS, np.zeros((N, 3)), harmonics, self.OPACITY[:, None], np.ones((N, 2))])
        head = ply("".join(f"property float {name}\n" for name in names), "binary_little_endian")
        return head.encode() + values.astype("<f4").tobytes()

    def test_centres_and_colours(self, tmp_path: Path) -> None:
        cloud = load(tmp_path, "a.ply", self.content(), normals=False, selection=Selection(min_opacity=0.0))
        np.testing.assert_allclose(cloud.points, POINTS, atol=1e-6)
        np.testing.assert_array_equal(cloud.colours, COLOURS)
        assert cloud.note == "points are the centres of 3D Gaussians; the normals are all zero or NaN and are ignored"

    @pytest.mark.parametrize(("asked", "least"), [(None, 0.5), (0.25, 0.25)])
    def test_min_opacity(self, asked: float | None, least: float, tmp_path: Path) -> None:
        cloud = load(tmp_path, "a.ply", self.content(), normals=False, selection=Selection(min_opacity=asked))
        faint = 1 / (1 + np.exp(-self.OPACITY.astype("f4").astype(float))) < least
        np.testing.assert_allclose(cloud.points, POINTS[~faint], atol=1e-6)
        assert cloud.note is not None
        assert cloud.note.endswith(f"left out: {faint.sum()} points of opacity below {least:g} (--min-opacity)")


class TestTextAtItsEnds:
    @pytest.mark.parametrize("block", [64, 256, 1000])
    def test_a_last_line_without_an_end_over_two_blocks(
        self, tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("phase_recon.datasets.table.BLOCK_BYTES", block)
        text = rows(POINTS).rstrip("\n")
        for spaces in range(block):  # so that a block ends in each place of the last line
            cloud = load(tmp_path, "a.xyz", "\n" * spaces + text)
            np.testing.assert_array_equal(cloud.points, POINTS)

    def test_a_commented_header_ends_like_its_rows(self, tmp_path: Path) -> None:
        content = "# y,x,z,\n" + rows(POINTS, ",", ",\n")
        np.testing.assert_array_equal(load(tmp_path, "a.csv", content).points, POINTS[:, [1, 0, 2]])

    def test_an_opacity_that_is_of_no_gaussian_says_nothing(self, tmp_path: Path) -> None:
        content = "x,y,z,opacity\n" + rows(np.c_[POINTS, np.zeros(N)], ",")
        np.testing.assert_array_equal(load(tmp_path, "a.csv", content).points, POINTS)

    def test_the_note_on_a_counter_names_what_else_is_left_out(self, tmp_path: Path) -> None:
        content = rows(np.c_[np.arange(N), POINTS, 7.5 * np.ones(N)])
        cloud = load(tmp_path, "a.xyz", content)
        np.testing.assert_array_equal(cloud.points, POINTS)
        note = "the first column counts the rows and was left out; of the others, column 4 without a name left out"
        assert cloud.note == note


class TestUnmeasured:
    def test_pixels_at_the_origin_may_have_normals_that_are_nan(self, tmp_path: Path) -> None:
        nothing = np.tile([0, 0, 0, np.nan, np.nan, np.nan], (12, 1))
        content = "x,y,z,nx,ny,nz\n" + rows(np.r_[np.c_[POINTS, NORMALS], nothing], ",")
        cloud = load(tmp_path, "a.csv", content, normals=True)
        np.testing.assert_array_equal(cloud.points, POINTS)

    def test_a_ptx_that_is_mostly_empty(self, tmp_path: Path) -> None:
        head = "1000\n1\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
        content = head + rows(POINTS) + "0 0 0\n" * (1000 - N)
        np.testing.assert_array_equal(load(tmp_path, "a.ptx", content).points, POINTS)


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> list[str]:
        raise PermissionError

    monkeypatch.setattr("phase_recon.datasets.readers.os.listdir", refuse)
    with pytest.raises(UserError, match=r"b\.xyz: no such file: check the path"):
        load_point_cloud(tmp_path / "b.xyz")


def test_what_a_masked_array_hides_is_not_there() -> None:
    hidden = np.ma.masked_array(POINTS, mask=np.arange(N)[:, None] < [3, 3, 3])
    np.testing.assert_array_equal(point_cloud(hidden).points, POINTS[3:])
