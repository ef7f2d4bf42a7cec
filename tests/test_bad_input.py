"""What a user may get wrong: one line that says what to mend, status 2, and nothing written."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Command, Outcome
from phase_recon.utils.config_files import load_config


@pytest.fixture
def refused(command: Command, tmp_path: Path):
    """Run a command that must fail without a trace; gives its error without "error: "."""

    def call(*arguments: object) -> str:
        before = contents(tmp_path / "exps")
        done: Outcome = command(*arguments)
        assert done.status == 2, done.out
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1, done.err
        assert done.err.endswith("\n")
        assert "Traceback" not in done.out + done.err
        assert contents(tmp_path / "exps") == before
        return done.err.removeprefix("error: ").rstrip("\n")

    return call


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        path: (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns) for path in folder.rglob("*")
    }


def table(points: np.ndarray) -> bytes:
    return "".join(" ".join(f"{x:.9g}" for x in row) + "\n" for row in points).encode()


BALL = np.random.default_rng(0).normal(size=(40, 3))
NAN_ROWS = BALL.copy()
NAN_ROWS[[3, 17], 1] = np.nan
PLY = (
    b"ply\nformat ascii 1.0\nelement vertex 20\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    + table(BALL[:20])
)

FILES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "empty": ("a.xyz", b"", ("empty",)),
    "garbage": ("a.xyz", b"dear sir\nplease find enclosed\n", ("line 1",)),
    "garbage within": ("a.xyz", table(BALL) + b"1 2 three\n", ("line 41",)),
    "binary": ("a.xyz", bytes(range(256)) * 10, ("text",)),
    "unknown kind": ("a.docx", b"PK", (".docx", ".xyz")),
    "ply cut short": ("a.ply", PLY[: PLY.index(b"end_header") + 60], ("20",)),
    "ply without vertices": (
        "a.ply", PLY[: PLY.index(b"element")] + b"element face 0\nend_header\n", ("vertex",),
    ),
    "not a ply": ("a.ply", b"1 2 3\n", ("ply",)),
    "NaN": ("a.xyz", table(NAN_ROWS), ("2 of 40 rows", "first in row 4: y", "--set train.drop_invalid=true")),
    "nine points": ("a.xyz", table(BALL[:9]), ("9 points", "10 or more")),
    "equal points": ("a.xyz", table(np.tile([1.0, 2.0, 3.0], (40, 1))), ("40 points are equal",)),
    "a line": ("a.xyz", table(np.outer(BALL[:, 0], [1, 2, 3])), ("one straight line", "volume")),
    "a line in 2D": ("a.xyz", table(np.outer(BALL[:, 0], [1, 2])), ("one straight line", "area")),
    "a plane": ("a.xyz", table(BALL[:, :2] @ [[1, 0, 1], [0, 1, 1]]), ("one plane",)),
    "one column": ("a.xyz", table(BALL[:, :1]), ("1 column",)),
    "thirty columns": ("a.xyz", table(np.tile(BALL, (1, 10))), ("30 columns", "a header line that names them")),
    "rows of different lengths": ("a.xyz", table(BALL) + b"1 2\n", ("line 41",)),
    "npz without arrays": ("a.npz", b"PK\x05\x06" + bytes(18), (".npz",)),
    "not an npy": ("a.npy", b"1 2 3\n", (".npy",)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_cloud(refused, tmp_path, name):
    file, content, texts = FILES[name]
    path = tmp_path / file
    path.write_bytes(content)
    error = refused("--input", path)
    assert str(path) in error
    for text in texts:
        assert text in error, error


def test_normals_are_looked_at_where_they_are_used(refused, tmp_path):
    path = tmp_path / "a.xyz"
    path.write_bytes(table(np.hstack([BALL, BALL * (np.arange(40) != 5)[:, None]])))
    error = refused("--input", path, "--set", "network.has_normals=true")
    assert f"{path} has 1 of 40 normals of length zero" in error


def test_rows_that_are_not_finite_can_be_dropped(command, tmp_path):
    path = tmp_path / "a.xyz"
    path.write_bytes(table(NAN_ROWS))
    sets = ("--set", "train.drop_invalid=true", "--set", "plot.allow_open=true")
    done = command("--input", path, "--nepoch", 1, *sets)
    assert done.status == 0, done.err
    assert f"{path}, 38 points in 3D" in done.out
    assert "note: left out: 2 points with NaN or infinity" in done.out


def test_a_file_there_is_not_and_a_folder_without_clouds(refused, tmp_path):
    assert "no such file" in refused("--input", tmp_path / "nothing.xyz")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty: names no clouds; expected files with" in refused("--input", tmp_path / "empty")
    assert refused() == "train.input_path: not set; give the point cloud: phase-recon CLOUD, or --input PATH"


def test_a_pickle_in_an_npy_is_not_run(refused, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'mark'}",)

    path = tmp_path / "a.npy"
    np.save(path, np.array([Payload()], dtype=object), allow_pickle=True)
    assert str(path) in refused("--input", path)
    path.write_bytes(pickle.dumps(Payload()))
    assert str(path) in refused("--input", path)
    assert not (tmp_path / "mark").exists()


def test_another_dimension_than_the_file_s(refused, clouds):
    error = refused("--input", clouds[1], "--set", "train.d_in=2")
    assert "3D" in error
    assert "train.d_in = 2" in error
    assert "train.d_in = 3" in refused("--input", clouds[0], "--set", "train.d_in=3")


def test_normals_that_are_not_there(refused, clouds):
    assert "has no normals, but network.has_normals = true asks for them: set it to false" in refused(
        "--input", clouds[0], "--set", "network.has_normals=true"
    )


@pytest.mark.parametrize(
    ("setting", "texts"),
    [
        ("train.nepok=3", ("train.nepok: unknown key", "did you mean train.nepoch")),
        ("network.inputs.dim=[3]", ("network.inputs.dim", "did you mean network.inputs.dims")),
        ("network.loss.epsilom=0.1", ("network.loss.epsilom", "did you mean network.loss.epsilon")),
        ("train.points_batch=many", ("train.points_batch = 'many'", "whole number")),
        ("train.points_batch=1.5", ("train.points_batch = 1.5", "whole number")),
        ("network.has_normals=perhaps", ("network.has_normals = 'perhaps'",)),
        ("network.loss.epsilon=-0.01", ("network.loss.epsilon", "above 0", "-0.01")),
        ("network.inputs.dims=[]", ("network.inputs.dims", "at least one hidden layer")),
        ("network.inputs.skip_in=[0]", ("network.inputs.skip_in", "expected 1 to 2, got 0")),
        ("network.output=v", ("network.output = 'v'", "u", "w")),
        ("train.network_class=model.network.Implicit", ("train.network_class", "ImplicitNet")),
        ("train.network_class=os.system", ("train.network_class", "'os.system'")),
        ("train.network_class=utils.errors.UserError", ("train.network_class", "utils.errors.UserError")),
        ("network.loss.type=nothing", ("network.loss.type", "nothing")),
        ("plot.resolution=4", ("plot.resolution", "8 to 2048", "4")),
        ("plot.mc_value=1", ("plot.mc_value", "between -1 and 1")),
        ("train.expname=../../x", ("train.expname", "a folder's name")),
        ("train.time_budget=0", ("train.time_budget", "more than 0")),
        ("train.nepoch=", ("train.nepoch",)),
        ("train", ("train",)),
    ],
)
def test_a_key_or_value_that_means_nothing(refused, clouds, setting, texts):
    error = refused("--input", clouds[0], "--set", setting)
    assert "--set" in error
    for text in texts:
        assert text in error, error


def test_a_configuration_file_that_is_wrong(refused, clouds, tmp_path):
    path = tmp_path / "a.conf"
    assert refused("--input", clouds[0], "--conf", path) == (
        f"{path}: no such configuration file; give the path of one, setup.conf, or a name: digs, hotspot, igr, nsh, "
        "occupancy, published, sal, sald, siren, steik, viscoreg"
    )
    path.write_text("train {\n  nepoch = 5\n  seed = -1\n}\n")
    assert f"{path}: line 3: train.seed" in refused("--input", clouds[0], "--conf", path)
    path.write_text("train {\n  nepoch = 5\n")
    assert f"{path}: " in refused("--input", clouds[0], "--conf", path)


def test_everything_wrong_is_said_at_once(command, clouds, tmp_path):
    done = command("--input", clouds[0], "--set", "train.seed=-1", "--set", "plot.resolution=1")
    assert done.status == 2
    assert done.err.startswith("error: the command line: 2 problems in the configuration\n")
    assert "train.seed" in done.err
    assert "plot.resolution" in done.err
    assert not (tmp_path / "exps").exists()


def test_folders_that_cannot_be_made(refused, clouds, tmp_path):
    (tmp_path / "file").write_text("in the way")
    error = refused("--input", clouds[0], "--exps_dir", tmp_path / "file" / "exps")
    assert "cannot be made" in error
    assert "--exps-dir" in error
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the trained circle, where `command` looks for it."""
    folder = tmp_path / "exps" / "tiny" / trained[0].name
    shutil.copytree(trained[0], folder)
    return folder


@pytest.mark.parametrize("what", ["--eval", "--is_continue"])
@pytest.mark.parametrize(
    ("content", "text"), [(b"", "cut short"), (b"hello\n", "not a checkpoint"), (None, "cut short")]
)
def test_a_checkpoint_that_is_none(refused, run, clouds, what, content, text):
    path = run / "checkpoints" / "latest.pth"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    error = refused(what, "--input", clouds[0], "--nepoch", 300)
    assert error.startswith(f"{path}: not a checkpoint")
    assert text in error
    assert "--checkpoint N" in error


def test_a_checkpoint_of_another_network(refused, run, clouds):
    path = run / "checkpoints" / "latest.pth"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["config"]["network"]["inputs"]["dims"] = [16, 20]
    torch.save(checkpoint, path)
    assert "weights of another network" in refused("--eval")
    assert "has the weights of another network" in refused("--is_continue", "--input", clouds[0], "--nepoch", 300)


@pytest.mark.parametrize("setting", ["network.inputs.dims=[16, 20]", "train.optimizer=adam"])
def test_continuing_with_another_network_or_optimizer(refused, run, clouds, setting):
    error = refused("--is_continue", "--input", clouds[0], "--nepoch", 300, "--set", setting)
    assert error.startswith("the checkpoint of step 250 has the weights of another network, or the state of another")


def test_continuing_with_another_cloud(refused, run, clouds, tmp_path):
    other = tmp_path / "other.xyz"
    other.write_bytes(table(np.loadtxt(clouds[0])[1:]))
    error = refused("--is_continue", "--checkpoint", 100, "--input", other, "--nepoch", 300)
    assert f"{other}: not the cloud" in error  # and the log still goes up to 250


def test_a_cloud_of_another_dimension_than_the_checkpoint(refused, run, clouds):
    assert f"{clouds[1]}: is 3D, but the run is 2D" in refused("--eval", "--input", clouds[1])


def test_files_to_measure_or_ask_that_cannot_be_read(refused, run, clouds, tmp_path):
    assert "no such file" in refused("--eval", "--target", tmp_path / "nothing.ply")
    assert "no such file" in refused("--eval", "--query", tmp_path / "nothing.xyz")
    assert "3D" in refused("--eval", "--query", clouds[1])


def test_results_are_kept_where_asked(refused, command, run):
    error = refused("--eval", "--set", "plot.overwrite=false")
    assert str(run / "evaluation" / "250") in error
    assert "--set plot.overwrite=true" in error
    assert command("--eval", "--checkpoint", 100, "--set", "plot.overwrite=false").status == 0
    assert load_config(run / "config.conf").plot.overwrite


def test_no_surface_is_an_error_that_says_so(command, run):
    done = command("--eval", "--set", "plot.mc_value=0.9999999999")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "no level set" in done.err or "leaves the box" in done.err
