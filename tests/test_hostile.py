"""Attacks with a name: each is refused in one line, runs nothing, and takes no time or memory to speak of."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import CENTRES, RADIUS
from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.reconstruction.field import load_field
from phase_recon.surface.files import read_surface
from phase_recon.utils import memory
from phase_recon.utils.checkpoint import read_checkpoint
from phase_recon.utils.config_files import load_config
from phase_recon.utils.errors import UserError
from phase_recon.utils.hocon import MAX_BYTES


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    text = str(caught.value)
    assert text.isprintable()
    return text


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def npy(shape: str, kind: str = "<f8", data: bytes = b"") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


class Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


# ------------------------------------------------------------------------------------------ clouds and meshes


@pytest.mark.parametrize("read", [load_point_cloud, read_surface])
@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
def test_a_ply_that_promises_a_million_million_vertices(tmp_path, read, form):
    names = "".join(f"property double {axis}\n" for axis in "xyz")
    head = f"ply\nformat {form} 1.0\nelement vertex 1000000000000\n{names}end_header\n1 2 3\n"
    assert "a.ply" in refusal(read, written(tmp_path / "a.ply", head.encode()))


@pytest.mark.parametrize(
    ("shape", "kind", "says"),
    [
        ("(99999999999999, 3)", "<f8", "promises"),
        ("(-5, 3)", "<f8", "has shape '(-5, 3)'"),
        ("(18446744073709551617, 3)", "<f8", "promises"),
        ("(40, 3)", "|O", "pickled Python objects"),
        ("(40, 3)", "<c16", "complex128"),
        ("(" * 400 + ")" * 400, "<f8", "not an array in numpy's format"),
        ("(40, 3)", "<f8", "cut short"),
    ],
)
def test_headers_of_npy(tmp_path, shape, kind, says):
    assert says in refusal(load_point_cloud, written(tmp_path / "a.npy", npy(shape, kind)))


def las(count: int, compressed: bool = False, layer: int = 0) -> bytes:
    """A LAS 1.4 file by laspy, with another count of points or another size of the first chunk's first layer."""
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(version="1.4", point_format=6)
    data = laspy.LasData(header)
    data.x, data.y, data.z = np.random.default_rng(0).normal(size=(3, 40))
    buffer = io.BytesIO()
    data.write(buffer, do_compress=compressed)
    content = bytearray(buffer.getvalue())
    content[247:255] = count.to_bytes(8, "little")
    if layer:
        # behind the place of the table of chunks, the first point and the number of points
        place = int.from_bytes(content[96:100], "little") + 8 + header.point_format.size + 4
        content[place : place + 4] = layer.to_bytes(4, "little")
    return bytes(content)


PCD = (
    "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 {count}\nWIDTH {points}\nHEIGHT 1\n"
    "POINTS {points}\nDATA {data}\n"
)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.las", las(10**12), "promises 1000000000000 points"),
        ("a.laz", las(10**12, compressed=True), "promises 1000000000000 points"),
        ("a.laz", las(40, compressed=True, layer=2**31), "compressed points that do not fit"),
        ("a.pcd", PCD.format(count=1, points=10**12, data="ascii").encode(), "promises 1000000000000 points"),
        ("a.pcd", PCD.format(count=1, points=10**7, data="binary").encode(), "is cut short: it ends after 0 of"),
        ("a.pcd", PCD.format(count=10**9, points=40, data="binary").encode(), "cannot be understood"),
        (
            "a.pcd",
            PCD.format(count=1, points=10**8, data="binary_compressed").encode() + b"\4\0\0\0\0\x8c\x86\x47" + bytes(4),
            "promises 100000000 points of 12 bytes, but 4 bytes that unpack to 1200000000",
        ),
        ("a.ptx", b"100000000\n100000000\n" + b"0 0 0\n" * 4 + b"0 0 0 0\n" * 4 + b"1 2 3 4\n", "is cut short"),
        ("a.gltf", b'{"asset": {"version": "2.0"}, "accessors": [{"count": 1000000000000}]}', "more than its bytes"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1000000000000\nproperty list int int x\nproperty float x\n"
                  b"property float y\nend_header\n1 2 3\n", "promises 1000000000000 vertices"),
    ],
)  # fmt: skip
def test_scanners_files_that_promise_more_than_they_hold(tmp_path, name, content, says):
    assert says in refusal(load_point_cloud, written(tmp_path / name, content))


def test_a_gltf_cannot_name_a_file_elsewhere(tmp_path):
    os.mkfifo(tmp_path / "pipe.bin")
    (tmp_path / "link.bin").symlink_to("/dev/zero")
    for name in ("../a.bin", "/dev/zero", "pipe.bin", "link.bin", "http://localhost/a.bin"):
        tree = f'{{"asset": {{"version": "2.0"}}, "buffers": [{{"uri": "{name}", "byteLength": 9}}]}}'
        assert "a.gltf" in refusal(load_point_cloud, written(tmp_path / "a.gltf", tree.encode()))


@pytest.mark.parametrize(("read", "name"), [(load_point_cloud, "points"), (read_surface, "vertices")])
def test_an_archive_that_unpacks_to_gigabytes(tmp_path, read, name):
    """A bomb of 300 MB in 300 kB; the sizes in the archive's list are looked at, nothing is unpacked."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{name}.npy", "w") as member:
        member.write(npy("(12500000, 3)"))
        for _ in range(300):
            member.write(bytes(10**6))
    assert path.stat().st_size < 10**6
    assert "would unpack to 300000" in refusal(read, path)


def test_two_members_of_one_name(tmp_path):
    """Which of two a reader takes differs between readers: what was checked need not be what is read."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("points.npy", npy("(1, 3)", data=bytes(24)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("points.npy", npy("(1, 3)", data=bytes(24)))
    assert "two files of one name" in refusal(load_point_cloud, path)


@pytest.mark.parametrize("read", [load_point_cloud, read_surface])
def test_pickles_in_arrays_run_nothing(tmp_path, read):
    mark = tmp_path / "mark"
    buffer = io.BytesIO()
    np.savez(buffer, points=np.array([Payload(mark)], dtype=object), vertices=np.array([Payload(mark)], dtype=object))
    assert "a.npz" in refusal(read, written(tmp_path / "a.npz", buffer.getvalue()))
    assert "a.npz" in refusal(read, written(tmp_path / "a.npz", pickle.dumps(Payload(mark))))
    assert not mark.exists()


def test_a_mesh_cannot_name_another_file(tmp_path):
    """An obj's material library, were it followed, would be a pipe that never answers."""
    os.mkfifo(tmp_path / "m.mtl")
    body = b"mtllib m.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    assert len(read_surface(written(tmp_path / "a.obj", body)).cells) == 1


def test_what_is_no_ordinary_file_is_not_opened(tmp_path):
    pipe = tmp_path / "a.npz"
    os.mkfifo(pipe)
    (tmp_path / "zero.xyz").symlink_to("/dev/zero")
    (tmp_path / "loop.xyz").symlink_to(tmp_path / "loop.xyz")
    (tmp_path / "b.conf").symlink_to("/dev/zero")
    assert "not an ordinary file" in refusal(load_point_cloud, pipe)
    assert "not an ordinary file" in refusal(load_point_cloud, tmp_path / "zero.xyz")
    assert "loop.xyz" in refusal(load_point_cloud, tmp_path / "loop.xyz")
    assert "no such file" in refusal(read_surface, pipe)
    assert "no such file" in refusal(read_checkpoint, pipe)
    assert "not an ordinary file" in refusal(load_config, tmp_path / "b.conf")
    assert "is a folder" in refusal(load_config, tmp_path)


SPIRAL = [(float(np.cos(t)), float(np.sin(t)), t / 9) for t in range(12)]


@pytest.mark.parametrize("number", ["1e400", "nan", "-inf", "0x10", "1_000", "1,5", "١"])
def test_numbers_that_are_none(tmp_path, number):
    rows = [[repr(x) for x in row] for row in SPIRAL]
    rows[7][1] = number
    path = written(tmp_path / "a.xyz", "\n".join(map(" ".join, rows)).encode())
    assert " 8" in refusal(load_point_cloud, path)  # the line, or the row of the values


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xef\xbb\xbf", "no rows of numbers"),
        ("1 2 3\n".encode("utf-16") * 20, "'\\ufeff1 2 3'"),
        (b"1 2 3\n" * 5 + b"\0\0\0\n" + b"1 2 3\n" * 9, "binary file"),
        (b"1 " * 5_000_000, "a line of over 4 MB"),
        (b"\x1b[2J\x1b[31m red\n", "\\x1b[2J"),
    ],
)  # fmt: skip
def test_texts_that_are_none(tmp_path, content, says):
    assert says in refusal(load_point_cloud, written(tmp_path / "a.xyz", content))


def test_windows_line_ends_and_a_mark_are_read(tmp_path):
    content = b"\xef\xbb\xbf" + "\r\n".join(" ".join(map(repr, row)) for row in SPIRAL).encode()
    np.testing.assert_array_equal(load_point_cloud(written(tmp_path / "a.xyz", content)).points, SPIRAL)


def test_a_name_cannot_break_the_line_or_steer_the_terminal(tmp_path):
    text = refusal(load_point_cloud, tmp_path / "a\n\x1b[31mb.xyz")
    assert "a\\n\\x1b[31mb.xyz" in text


# ------------------------------------------------------------------------------------------ configurations


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('include "/etc/passwd"', "include"),
        ('include url("http://localhost/")', "include"),
        ('train { include required(file("b.conf")) }', "include"),
        ("train.expname = ${HOME}", "substitutions"),
        ("train.expname = ${?HOME}", "substitutions"),
        ("a = x\nb = ${a}${a}\nc = ${b}${b}", "substitutions"),
        ("a " * 3 + "{" * 40_000 + "}" * 40_000, "nested"),
        ("#" * MAX_BYTES + "\na = 1", "too large"),
        ("train.expname = ../../x", "a folder's name"),
        ("train.network_class = os.system", "model package"),
        ("train.network_class = model.network.nn.Module", "no module"),
        ("train.network_class = model.network.__loader__", "no class"),
        ("train.network_class = model.__class__.__base__", "expected a class"),
        ("train.network_class = model.network._ValueAndGradient", "no class"),
        ("network.loss.type = ../../evil", "network.loss.type"),
        ("network.loss.type = __init__", "network.loss.type"),
        ("network.inputs.dims = [1000000000, 1000000000]", "at most 32768"),
        ("network.inputs.k = 1000000000", "at most 20"),
        ("train.points_batch = 1000000000000", "GiB of memory"),
    ],
)
def test_configurations(tmp_path, text, says):
    from phase_recon.reconstruction.build_model import check_model

    path = written(tmp_path / "a.conf", text.encode())
    with pytest.raises(UserError) as caught:
        load_config(path, (), check_model)
    assert says in str(caught.value)


# ------------------------------------------------------------------------------------------ checkpoints


def grid(**changes: Any) -> dict[str, Any]:
    """A sound grid of a correction in 2D."""
    nodes = torch.tensor([[-1, 5], [0, 0]], dtype=torch.int32)
    return {"spacing": 0.1, "nodes": nodes, "coefficients": torch.tensor([1.0, -2.0]), **changes}


def test_a_checkpoint_with_a_sound_correction_passes(stored):
    checkpoint, path = stored
    torch.save({**checkpoint, "detail": [grid()]}, path)
    np.testing.assert_array_equal(load_field(path).spacing_at(np.array([[0.04, 0.0], [0.0, 0.06]])), [0.1, np.inf])


@pytest.fixture
def stored(trained, tmp_path) -> tuple[dict, Path]:
    """What a real checkpoint holds, and where to put a changed one."""
    return torch.load(trained[0] / "checkpoints" / "latest.pth", weights_only=True), tmp_path / "a.pth"


def test_a_sound_checkpoint_passes(stored):
    checkpoint, path = stored
    torch.save(checkpoint, path)
    assert load_field(path).dimension == 2


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("normalisation", "scale"), float("nan")),
        (("normalisation", "scale"), -1.0),
        (("normalisation", "scale"), "1"),
        (("normalisation", "centre"), [0.0, float("inf")]),
        (("normalisation", "centre"), [0.0] * 10),
        (("omega", "lower"), [1e300, 0.0]),
        (("omega", "upper"), [-9.0, -9.0]),
        (("omega",), [1, 2]),
        (("d",), 3),
        (("d",), 10**9),
        (("epoch",), -1),
        (("epoch",), "latest"),
        (("seconds",), float("inf")),
        (("config",), []),
        (("generator",), torch.zeros(5000)),
        (("network", "lin0.weight"), torch.zeros(1).expand(10**6, 10**6)),
        (("network", "lin0.weight"), [1.0]),
        (("optimizers",), {"state": 1}),
        (("cloud",), None),
        (("status",), {"names": []}),
        (("status",), {"names": ["loss"], "sums": torch.zeros(2), "last": 0}),
        (("mending",), {"seeds": 3}),
        (("mending",), {"seed": "x", "reason": "", "since": 0, "factor": 1.0, "spent": 0.0}),
        (("mending",), {"seed": 0, "reason": "", "since": 10**9, "factor": 1.0, "spent": 0.0}),
        (("good",), "latest"),
        (("walls_inside",), 1),
        (("gaps",), 3),
        (("gaps", "mean"), [1.0]),
        (("gaps", "points"), torch.zeros(5, 3)),
        (("gaps", "normals"), torch.zeros(1).expand(10**6, 2)),
        (("detail",), {}),
        (("detail",), []),
        (("detail",), [3]),
        (("detail",), [grid(spacing=0.0)]),
        (("detail",), [grid(spacing=float("nan"))]),
        (("detail",), [grid()] * 17),
        (("detail",), [grid(nodes=torch.zeros(2, 3, dtype=torch.int32))]),
        (("detail",), [grid(nodes=torch.tensor([[0, 1], [0, 1]], dtype=torch.int32))]),
        (("detail",), [grid(nodes=torch.tensor([[0, 1], [0, 0]], dtype=torch.int32))]),
        (("detail",), [grid(nodes=torch.tensor([[0, 0], [0, -(2**31)]], dtype=torch.int32))]),
        (("detail",), [grid(nodes=torch.zeros(0, 2, dtype=torch.int32), coefficients=torch.zeros(0))]),
        (("detail",), [grid(coefficients=torch.tensor([1.0, float("inf")]))]),
        (("detail",), [grid(coefficients=torch.zeros(1).expand(10**9))]),
        (("detail",), [grid(coefficients=torch.zeros(2, dtype=torch.float64))]),
        (("detail",), [{**grid(), "more": 1}]),
    ],
)
def test_values_of_a_checkpoint(stored, keys, value):
    checkpoint, path = stored
    *above, last = keys
    section = checkpoint
    for key in above:
        section = section[key]
    section[last] = value
    torch.save(checkpoint, path)
    text = refusal(load_field, path)
    assert str(path) in text
    assert "is not what a run saves" in text


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("dims", [10**9], "at most 32768"),
        ("dims", [30_000] * 90, "weights of another network"),  # 300 GB, never allocated
        ("dims", "wide", "network.inputs.dims"),
        ("k", 10**12, "at most 20"),
    ],
)
def test_the_configuration_of_a_checkpoint(stored, key, value, says):
    checkpoint, path = stored
    checkpoint["config"]["network"]["inputs"] |= {key: value, "use_FFM": True}
    torch.save(checkpoint, path)
    assert says in refusal(load_field, path)


def test_a_checkpoint_runs_nothing_and_allocates_nothing(stored):
    checkpoint, path = stored
    mark = path.with_name("mark")
    torch.save(checkpoint | {"cloud": Payload(mark)}, path)
    assert "which is not run" in refusal(load_field, path)
    assert not mark.exists()
    # torch's weights-only reader lets this through, and makes as many bytes as it says
    torch.save(checkpoint | {"cloud": bytearray(5)}, path)
    assert "bytearray" in refusal(load_field, path)


def test_a_bomb_within_a_checkpoint(stored):
    checkpoint, path = stored
    torch.save(checkpoint, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/99", "w") as member:
        for _ in range(300):
            member.write(bytes(10**6))
    assert "would unpack to 300" in refusal(load_field, path)


def test_a_tensor_larger_than_its_data(stored):
    """The description says more numbers than the file's part has."""
    checkpoint, path = stored
    torch.save(checkpoint, path)
    with zipfile.ZipFile(path) as archive:
        parts = {item.filename: archive.read(item) for item in archive.infolist()}
    (name,) = (name for name in parts if name.endswith("data.pkl"))
    size = checkpoint["generator"].numel()
    claimed = b"M" + size.to_bytes(2, "little")  # BININT2
    assert claimed in parts[name]
    parts[name] = parts[name].replace(claimed, b"J" + (10**9).to_bytes(4, "little"))  # BININT
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    assert str(path) in refusal(load_field, path)


# ------------------------------------------------------------------------------------------ sizes


def test_what_does_not_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    for name, content in (("a.xyz", b"1 2 3\n" * 99), ("a.npy", npy("(40, 3)", data=bytes(960)))):
        error = refusal(load_point_cloud, written(tmp_path / name, content))
        assert "GiB of memory" in error
        assert error.endswith("(--voxel, --crop)" if name == "a.xyz" else "thin it")


@pytest.mark.parametrize("kind", [0, 1], ids=["2D", "3D"])
@pytest.mark.parametrize(("scale", "shift"), [(1e-30, 0.0), (1e-9, 0.0), (1e30, 0.0), (1.0, 1e7)])
def test_sizes_and_places_of_any_order(command, shapes, tmp_path, kind, scale, shift):
    """A circle and a sphere come out as such, whatever their unit and offset."""
    centred = shapes[kind] - CENTRES[kind]
    np.save(tmp_path / "a.npy", scale * centred + shift)
    done = command("--input", tmp_path / "a.npy", "--nepoch", 150)
    assert done.status == 0, done.err
    surface = read_surface(next(done.folder.glob("evaluation/*/surface.ply")))
    radii = np.linalg.norm((surface.vertices - shift) / scale, axis=1)
    assert abs(radii.mean() - RADIUS) < 0.1 * RADIUS
    assert surface.is_closed()
