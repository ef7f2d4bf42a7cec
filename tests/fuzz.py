"""Damage valid input of every kind, byte by byte, and hold the program to its promise: a result, or one line.

    python tests/fuzz.py --inputs 20000 --seed 7     many inputs; the status is 0 where nothing was found
    python tests/fuzz.py --seed 7 --replay 1234      one of them again, with its traceback and its file kept

Input number i of a seed is always the same. Inputs run in a child process: one that dies is a finding and is
started again behind the input that it died of. In the child every input has ``SECONDS``, and ``MEMORY_BASE`` plus
``MEMORY_FACTOR`` times its size beyond what the program itself takes. Whoever writes to a file elsewhere, starts a
process or opens a connection is found by Python's audit events. Linux only.
"""

import argparse
import contextlib
import faulthandler
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "code"), str(ROOT / "tests")]

from phase_recon.utils.errors import UserError

SECONDS = 10
MEMORY_BASE, MEMORY_FACTOR = 512 << 20, 64
MOST_BYTES = 200_000  # of an input, so that a batch stays quick
TOKENS = (
    b"-1", b"0", b"1e400", b"-1e400", b"nan", b"inf", b"0x10", b"1_000", b"1e-400", b"99999999999999999999",
    b"4294967295", b"2147483648", b"1000000000000",
    b"\n", b"\r", b"\0", b" ", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28", b'"', b'"""',
    b"{", b"}", b"[", b"]", b"${HOME}", b"+=", b"include \"/etc/hostname\"\n", b"../", b"__class__", b"#", b"//", b"\\",
    b",", b";", b"=", b"\x1b[31m", b"\xe2\x80\xa8", b"null", b"true",
)  # fmt: skip
WORDS = tuple(
    value.to_bytes(size, order)  # type: ignore[arg-type]
    for value in (0, 1, 0x7F, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**63)
    for size in (4, 8)
    if value < 256**size
    for order in ("little", "big")
)


@dataclass(frozen=True)
class Subject:
    """A valid input: which attempt reads it, the name of its file, its bytes."""

    kind: str
    name: str
    content: bytes


@dataclass
class Findings:
    """What came of a batch: how many results and refusals by kind, and what broke the promise."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------ valid inputs


def corpus() -> list[Subject]:
    """Small valid inputs of every format that the program reads."""
    import torch
    import trimesh

    from phase_recon.datasets.pointcloud import PointCloud
    from phase_recon.reconstruction.training import fit
    from phase_recon.surface.files import write_surface
    from phase_recon.surface.surface import Surface
    from phase_recon.utils.config_files import load_config
    from phase_recon.utils.experiment import Experiment

    rng = np.random.default_rng(7)
    points = rng.normal(size=(24, 3)).round(6)
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    colours = rng.integers(0, 256, (24, 3))
    ball = trimesh.creation.icosphere(subdivisions=1)
    curve = Surface(normals[:, :2], np.stack([np.arange(24), np.roll(np.arange(24), -1)], axis=1))

    def rows(values: Any, separator: str = " ") -> bytes:
        return "".join(separator.join(f"{v:.9g}" for v in row) + "\n" for row in values.tolist()).encode()

    def arrays(save: Callable[..., None], *plain: Any, **named: Any) -> bytes:
        buffer = io.BytesIO()
        save(buffer, *plain, **named)
        return buffer.getvalue()

    def exported(kind: str, **options: Any) -> bytes:
        data = ball.export(file_type=kind, **options)
        return data.encode() if isinstance(data, str) else bytes(data)

    both = np.hstack([points, normals])
    clouds = {
        "a.xyz": b"# scan\n" + rows(both),
        "b.txt": rows(points[:, :2], "\t"),
        "c.csv": b"x,y,z,red,green,blue\n" + rows(np.hstack([points, colours]), ","),
        "d.pts": b"24\n" + rows(points),
        "e.npy": arrays(np.save, points),
        "f.npz": arrays(np.savez, points=points, normals=normals),
        "g.npz": arrays(np.savez_compressed, xyz=points.astype("f4"), rgb=colours.astype("u1")),
        "h.ply": exported("ply", encoding="ascii", vertex_normal=True),
        "i.ply": exported("ply"),
        "j.ply": _big_endian_ply(points),
        "k.obj": exported("obj"),
        "l.off": exported("off"),
        "m.stl": exported("stl"),
        "n.stl": exported("stl_ascii"),
        "o.glb": exported("glb"),
        "p.ply": _listed_ply(points),
        "q.pcd": _pcd(points, "ascii"),
        "r.pcd": _pcd(points, "binary"),
        "s.pcd": _pcd(points, "binary_compressed"),
        "t.ptx": b"6\n4\n" + rows(np.eye(4)[[3, 0, 1, 2], :3]) + rows(np.eye(4)) + rows(np.c_[points, points[:, 0]]),
        "u.las": _las(points, compress=False, version="1.2", point_format=3),
        "v.laz": _las(points, compress=True, version="1.2", point_format=3),
        "w.laz": _las(points, compress=True, version="1.4", point_format=7),
        "x.e57": _e57(points),
    }
    subjects = [Subject("cloud", name, content) for name, content in clouds.items()]

    with tempfile.TemporaryDirectory() as folder:
        for name, surface in (("p.ply", curve), ("q.npz", curve), ("r.npz", Surface(ball.vertices, ball.faces))):
            write_surface(Path(folder) / name, surface, "made for damage")
            subjects.append(Subject("target", name, (Path(folder) / name).read_bytes()))
        targets = {name: clouds[name] for name in ("h.ply", "i.ply", "j.ply", "k.obj", "l.off", "m.stl", "n.stl")}
        for name, content in (targets | {"o.glb": exported("glb")}).items():
            subjects.append(Subject("target", name, content))

        torch.set_num_threads(1)
        config = load_config(ROOT / "tests" / "data" / "tiny.conf", ["train.nepoch=2", "train.start=network"])
        run = Experiment.create(Path(folder), "fuzz")
        fit(config, PointCloud(_circle()), torch.device("cpu"), lambda line: None, experiment=run)
        subjects.append(Subject("checkpoint", "s.pth", (run.folder / "checkpoints" / "latest.pth").read_bytes()))

    configurations = ("setup.conf", "tests/data/tiny.conf", "tests/data/fork_family.conf", "code/confs/published.conf")
    for number, name in enumerate(configurations):
        text = re.sub(rb"(?m)^\s*#.*\n", b"", (ROOT / name).read_bytes())  # damage to comments teaches nothing
        subjects.append(Subject("configuration", f"{number}.conf", text))
    lines = (
        "--input a.xyz --nepoch 5 --points_batch 64 --seed 3 --gpu cpu --expname run",
        "--input a.xyz --set train.seed=3 --set network.inputs.dims=[16,16] --set plot.up=y --exps_dir out",
        "--eval --expname tiny --exps_dir runs --timestamp 2020 --checkpoint 2 --target i.ply --query a.xyz",
        "--is_continue --expname tiny --exps_dir runs --nepoch 9 --set network.loss.lambda=2 --conf t.conf",
    )
    subjects += [Subject("arguments", "arguments", line.replace(" ", "\n").encode()) for line in lines]
    return subjects


def _circle() -> Any:
    angle = 2 * np.pi * np.arange(60) / 60
    return np.stack([3 * np.cos(angle), 3 * np.sin(angle)], axis=1)


def _big_endian_ply(points: Any) -> bytes:
    names = "".join(f"property double {axis}\n" for axis in "xyz")
    faces = "element face 2\nproperty list uchar int vertex_indices\n"
    head = f"ply\nformat binary_big_endian 1.0\nelement vertex {len(points)}\n{names}{faces}end_header\n"
    cells = b"".join(b"\3" + np.array(cell, ">i4").tobytes() for cell in ((0, 1, 2), (2, 1, 3)))
    return head.encode() + points.astype(">f8").tobytes() + cells


def _listed_ply(points: Any) -> bytes:
    """Vertices with a list before and behind the coordinates."""
    names = "".join(f"property float {axis}\n" for axis in "xyz")
    lists = "property list uchar int a\n", "property list uint double b\n"
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{names.join(lists)}end_header\n"
    data = b"".join(b"\1\5\0\0\0" + p.astype("<f4").tobytes() + b"\1\0\0\0" + bytes(8) for p in points)
    return head.encode() + data


def _pcd(points: Any, data: str) -> bytes:
    import lzf

    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 1 2 3 1 0 0 0\nPOINTS {len(points)}\nDATA {data}\n"
    ).encode()
    if data == "ascii":
        return head + "".join(f"{x:g} {y:g} {z:g} 1118481\n" for x, y, z in points.tolist()).encode()
    words = np.c_[points.astype("<f4").view("<u4"), np.full(len(points), 1118481, "<u4")]
    if data == "binary":
        return head + words.tobytes()
    content = words.T.tobytes()
    packed = lzf.compress(content)
    return head + np.array([len(packed), len(content)], "<u4").tobytes() + packed


def _las(points: Any, compress: bool, **options: Any) -> bytes:
    import laspy

    header = laspy.LasHeader(**options)
    header.scales = [1e-6] * 3
    data = laspy.LasData(header)
    data.x, data.y, data.z = points.T
    data.classification[:] = 2
    buffer = io.BytesIO()
    data.write(buffer, do_compress=compress)
    return buffer.getvalue()


def _e57(points: Any) -> bytes:
    import pye57

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.e57"
        file = pye57.E57(str(path), mode="w")
        columns = dict(zip(("cartesianX", "cartesianY", "cartesianZ"), points.T, strict=True))
        file.write_scan_raw(columns, rotation=np.array([1.0, 0, 0, 0]), translation=np.array([1.0, 2, 3]))
        file.close()
        return path.read_bytes()


# ------------------------------------------------------------------------------------------------ damage


def damaged(subjects: list[Subject], seed: int, number: int) -> Subject:
    """Input ``number`` of a seed: one of the subjects with one to three kinds of damage."""
    rng = np.random.default_rng([seed, number])
    kinds = sorted({subject.kind for subject in subjects})
    shares = {"cloud": 0.4, "target": 0.25, "configuration": 0.15, "arguments": 0.1, "checkpoint": 0.1}
    kind = str(rng.choice(kinds, p=[shares[k] for k in kinds]))
    alike = [subject for subject in subjects if subject.kind == kind]
    subject = alike[rng.integers(len(alike))]
    other = alike[rng.integers(len(alike))].content
    content = subject.content
    for _ in range(rng.integers(1, 4)):
        if content[:2] == b"PK" and rng.random() < 0.7:
            content = _damage_member(rng, content)
        else:
            content = _damage(rng, content, other)
    return Subject(kind, subject.name, content[:MOST_BYTES])


def _damage(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """One mutation; half of the places are in the first 200 bytes, where headers are."""
    data = bytearray(content)
    if not data:
        return bytes(rng.bytes(8))
    place = int(rng.integers(min(200, len(data)) if rng.random() < 0.5 else len(data)))
    length = int(rng.integers(1, 64))
    match rng.integers(10):
        case 0:
            data[place] ^= 1 << int(rng.integers(8))
        case 1:
            data[place] = int(rng.integers(256))
        case 2:
            del data[place:]
        case 3:
            del data[place : place + length]
        case 4:
            data[place:place] = data[place : place + length] * int(rng.choice([1, 1, 2, 300]))
        case 5:
            there = int(rng.integers(len(data)))
            data[place], data[there] = data[there], data[place]
        case 6:
            data[place:place] = TOKENS[rng.integers(len(TOKENS))]
        case 7:
            numbers = list(re.finditer(rb"\d+", content))
            if numbers:
                chosen = numbers[rng.integers(len(numbers[:40]) if rng.random() < 0.5 else len(numbers))]
                data[chosen.start() : chosen.end()] = TOKENS[rng.integers(13)]
        case 8:
            word = WORDS[rng.integers(len(WORDS))]
            data[place : place + len(word)] = word
        case 9:
            data[place:] = other[int(rng.integers(len(other))) :]
    return bytes(data)


def _damage_member(rng: np.random.Generator, content: bytes) -> bytes:
    """Damage one file within a zip archive and pack it again with a sound checksum."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            items = [(item, archive.read(item)) for item in archive.infolist()]
    except Exception:  # damaged before
        return _damage(rng, content, content)
    if not items:
        return content
    # the description (data.pkl, the npy header) is one of many members and matters most
    chosen = next((i for i, (item, _) in enumerate(items) if item.filename.endswith("data.pkl")), 0)
    if rng.random() < 0.3:
        chosen = int(rng.integers(len(items)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, (item, inner) in enumerate(items):
            kept = _damage(rng, inner, inner) if i == chosen else inner
            archive.writestr(item.filename, kept, compress_type=item.compress_type)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------ attempts


def attempt(subject: Subject, folder: Path) -> str:
    """Read the input as the program would; returns "result" or "refused".

    Raises whatever else the program raises, and AssertionError where a result or a refusal is not a sound one.
    """
    path = folder / subject.name
    path.write_bytes(subject.content)
    try:
        ATTEMPTS[subject.kind](path)
    except UserError as error:
        _check_refusal(error, subject)
        return "refused"
    finally:
        path.unlink(missing_ok=True)
    return "result"


def _check_refusal(error: UserError, subject: Subject) -> None:
    text = str(error)
    lines = text.split("\n")
    several = " problems in the configuration" in lines[0]
    assert several or len(lines) == 1, f"not one line: {text!r}"
    assert all(line.isprintable() for line in lines), f"not printable: {text!r}"
    assert len(text) < 20_000, f"{len(text)} characters: {text[:200]!r}"
    if subject.kind != "arguments":
        assert subject.name in lines[0], f"does not name the file: {text!r}"
    cause: BaseException | None = error
    while cause is not None:
        assert not isinstance(cause, MemoryError), f"memory beyond the bound: {text!r}"
        cause = cause.__cause__ or cause.__context__


def _cloud(path: Path) -> None:
    from phase_recon.datasets.pointcloud import load_point_cloud

    cloud = load_point_cloud(path)
    assert np.isfinite(cloud.points).all()
    assert cloud.points.shape[1] in (2, 3)


def _target(path: Path) -> None:
    from phase_recon.surface.files import read_surface

    surface = read_surface(path)
    assert surface.vertices.ndim == 2
    assert surface.cells.shape[1:] == (surface.dimension,)
    assert not len(surface.cells) or 0 <= surface.cells.min() <= surface.cells.max() < len(surface.vertices)


def _configuration(path: Path) -> None:
    from phase_recon.reconstruction.build_model import check_model
    from phase_recon.utils.config_files import load_config, to_hocon

    config = load_config(path, (), check_model)
    to_hocon(config)


def _checkpoint(path: Path) -> None:
    """Ask the field, then go on for a step."""
    import torch

    from phase_recon.datasets.pointcloud import PointCloud
    from phase_recon.reconstruction.build_model import check_model
    from phase_recon.reconstruction.field import field_from_checkpoint
    from phase_recon.reconstruction.training import fit
    from phase_recon.utils.checkpoint import read_checkpoint
    from phase_recon.utils.config_files import override

    checkpoint = read_checkpoint(path)
    field_from_checkpoint(checkpoint, torch.device("cpu"), str(path)).u(_circle())
    small = ["points_batch=4", "pts_in_omega=4", "pts_per_ball=1", "time_budget=null"]
    small.append(f"nepoch={checkpoint['epoch'] + 1}")
    config = override(checkpoint["config"], [f"train.{text}" for text in small], check_model, str(path))
    try:
        fit(config, PointCloud(_circle()), torch.device("cpu"), lambda line: None, checkpoint=checkpoint)
    except UserError as error:  # which file it is, the command has said before
        raise UserError(f"{path}: {error}") from error


def _arguments(path: Path) -> None:
    """Everything up to the making of the run's folder."""
    from phase_recon.reconstruction import run
    from phase_recon.utils.experiment import Experiment

    class Accepted(Exception):
        """Raised where the run's folder would be made."""

    def made(*_: object) -> Experiment:
        raise Accepted

    arguments = [a.decode("utf-8", "surrogateescape").replace("\0", "") for a in path.read_bytes().split(b"\n")]
    Experiment.create = made  # type: ignore[assignment]
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run.main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    except Accepted:
        status = 0
    assert status in (0, 2), status
    if status == 2:
        *warnings, last = err.getvalue().rstrip("\n").split("\n  ")[0].split("\n")
        assert all(line.startswith("warning: ") for line in warnings), err.getvalue()
        assert last.startswith("error: "), err.getvalue()
        raise UserError(err.getvalue().rstrip("\n").removeprefix("error: ").split("\nerror: ")[-1])


ATTEMPTS: dict[str, Callable[[Path], None]] = {
    "cloud": _cloud,
    "target": _target,
    "configuration": _configuration,
    "checkpoint": _checkpoint,
    "arguments": _arguments,
}


# ------------------------------------------------------------------------------------------------ the child


class Watch:
    """Notes what the program must never do with an input, by Python's audit events."""

    FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect")

    def __init__(self, folder: Path) -> None:
        own = (folder, ROOT, sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))
        self.own = (*(os.path.realpath(p) for p in own), "/dev/null")
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by Python for every event."""
        if not self.on:
            return
        if event in self.FORBIDDEN:
            self.seen.append(f"{event} {arguments[:2]}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            name = os.fsdecode(arguments[0])
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            # reading what a user's own arguments name is no fault
            if writes and not os.path.realpath(name).startswith(self.own):
                self.seen.append(f"opened {name!r} to write")

    @contextlib.contextmanager
    def over(self, subject: Subject) -> Iterator[None]:
        """Watch while an input is read; AssertionError for what was seen."""
        self.seen.clear()
        self.on = True
        try:
            yield
        finally:
            self.on = False
        assert not self.seen, f"{subject.name}: {self.seen}"


def child(seed: int, first: int, last: int) -> None:
    """Try inputs first to last - 1 and print a line of JSON before and after each."""
    import resource

    folder = Path(tempfile.mkdtemp(prefix="fuzz_"))
    os.chdir(folder)
    try:
        subjects = corpus()
        for subject in subjects:  # everything is imported, and what is valid is accepted
            outcome = attempt(subject, folder)
            assert subject.kind == "arguments" or outcome == "result", subject.name
        for subject in subjects:  # what arguments may name is there
            if subject.name in ("a.xyz", "i.ply"):
                (folder / subject.name).write_bytes(subject.content)
        shutil.copy(ROOT / "tests" / "data" / "tiny.conf", folder / "t.conf")
        watch = Watch(folder)
        for number in range(first, last):
            subject = damaged(subjects, seed, number)
            place = folder / "input"
            place.mkdir(exist_ok=True)
            print(json.dumps({"number": number, "kind": subject.kind, "name": subject.name}), flush=True)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            bound = in_use + MEMORY_BASE + MEMORY_FACTOR * len(subject.content)
            resource.setrlimit(resource.RLIMIT_AS, (bound, resource.RLIM_INFINITY))
            try:
                with watch.over(subject):
                    outcome = attempt(subject, place)
                report = {"outcome": outcome}
            except BaseException as error:
                frames = traceback.extract_tb(error.__traceback__)[-3:]
                where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
                report = {"failure": f"{type(error).__name__}: {str(error)[:300]} ({where})"}
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(report), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ the parent


def hunt(seed: int, inputs: int, script: str = __file__) -> Findings:
    """Try inputs 0 to inputs - 1 of a seed in child processes, each going on where the one before died.

    ``script`` is what the children run, with the arguments of this file.
    """
    findings, number = Findings(), 0
    while number < inputs:
        with tempfile.TemporaryFile("w+") as complaints:
            command = [sys.executable, "-W", "error", script, "--seed", str(seed), "--child", str(number), str(inputs)]
            trying: dict[str, Any] = {}
            one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=one_thread
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    told = json.loads(line)
                    if "number" in told:
                        trying, number = told, told["number"] + 1
                        continue
                    if "outcome" in told:
                        findings.outcomes[f"{trying['kind']} {told['outcome']}"] += 1
                    else:
                        findings.failures.append(f"{_which(seed, trying)}: {told['failure']}")
                    trying = {}
            status = process.returncode
            complaints.seek(0)
            last_words = " | ".join(complaints.read().splitlines()[:6])
        if trying:
            findings.failures.append(f"{_which(seed, trying)}: the process ended with {status}: {last_words}")
        elif status:
            raise RuntimeError(f"the child could not begin: {last_words}")
    return findings


def _which(seed: int, trying: dict[str, Any]) -> str:
    return f"--seed {seed} --replay {trying['number']} ({trying['kind']} {trying['name']})"


def main() -> int:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", type=int, help="the number of one input")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.seed, *options.child)
        return 0
    if options.replay is not None:
        subject = damaged(corpus(), options.seed, options.replay)
        kept = Path(tempfile.mkdtemp(prefix="fuzz_")) / subject.name
        kept.write_bytes(subject.content)
        print(f"{subject.kind}: {kept}")
        print(attempt(subject, Path(tempfile.mkdtemp())))
        return 0
    started = time.monotonic()
    findings = hunt(options.seed, options.inputs)
    for failure in findings.failures:
        print(failure)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(findings.outcomes.items()))
    print(
        f"seed {options.seed}: {options.inputs} inputs in {time.monotonic() - started:.0f} s; {counts}; "
        f"failures {len(findings.failures)}"
    )
    return 1 if findings.failures else 0


if __name__ == "__main__":
    sys.exit(main())
