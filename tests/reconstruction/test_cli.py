"""The command line from end to end: what is written, where, in which units, and what wins over what."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_commands import raising

from conftest import CENTRES, RADIUS, ROOT, TINY, Command, records, tiny_arguments
from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.reconstruction import evaluation, training
from phase_recon.reconstruction.field import load_field
from phase_recon.reconstruction.run import main
from phase_recon.reconstruction.target import read_target
from phase_recon.surface.files import read_surface
from phase_recon.utils.checkpoint import read_checkpoint
from phase_recon.utils.config import PlotConfig
from phase_recon.utils.config_files import load_config
from phase_recon.utils.errors import UserError

FILES = ("surface.ply", "surface.html", "surface.png", "cuts.png", "losses.png", "metrics.json")
SMALL = (  # a large network for a moment, at a rate that leaves it the sphere that it starts as
    "--points_batch", 32, "--set", "train.pts_in_omega=32", "--set", "train.pts_per_ball=1",
    "--set", "plot.resolution=16", "--set", "train.status_frequency=1",
    "--set", "train.learning_rate_schedule=[{Type=Step, Initial=1e-7, Interval=1, Factor=1}]",
)  # fmt: skip


@pytest.fixture(params=[0, 1], ids=["2D", "3D"])
def kind(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def run(trained: tuple[Path, Path], tmp_path: Path, kind: int) -> Path:
    """A copy of a trained run, at exps/tiny/<time>, where `command` looks for it."""
    folder = tmp_path / "exps" / "tiny" / trained[kind].name
    shutil.copytree(trained[kind], folder)
    return folder


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The million samples of the benchmarks take seconds."""
    monkeypatch.setattr(evaluation, "SAMPLES", 100_000)


def metrics(folder: Path, epoch: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "evaluation" / str(epoch) / "metrics.json").read_text())
    return content


def test_help_comes_at_once_and_without_torch(process: Command):
    script = f"""
import runpy, sys
sys.argv = ["run.py", "--help"]
try:
    runpy.run_path({str(ROOT / "code/reconstruction/run.py")!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code
heavy = {{"torch", "numpy", "scipy", "trimesh", "matplotlib", "pyhocon"}} & set(sys.modules)
assert not heavy, heavy
"""
    started = time.monotonic()
    done = process("-c", script, script="-I", tiny=False)
    assert time.monotonic() - started < 1
    assert (done.status, done.err) == (0, "")
    for flag in (
        "--eval", "--is-continue", "--input", "--output", "--target", "--query", "--conf", "--quality", "--nepoch",
        "--steps", "--minutes", "--resolution", "--normals", "--sample", "--seed", "--points-batch", "--set", "--jobs",
        "--gpu", "--device", "--expname", "--exps-dir", "--timestamp", "--checkpoint", "--version", "--debug",
        "--crop", "--voxel", "--classes", "--min-opacity",
    ):  # fmt: skip
        assert flag in done.out


def test_a_run_leaves_everything_it_names(trained: tuple[Path, Path], kind: int):
    folder = trained[kind]
    assert {path.name for path in folder.iterdir()} == {
        "config.conf", "checkpoints", "plots", "evaluation", "log.jsonl",
    }  # fmt: skip
    assert {path.stem for path in (folder / "checkpoints").iterdir()} == {"100", "200", "250", "latest"}
    assert {path.name for path in (folder / "plots").iterdir()} == {"200.png", "200.ply"}
    assert [path.name for path in (folder / "evaluation").iterdir()] == ["250"]
    assert {path.name for path in (folder / "evaluation" / "250").iterdir()} >= set(FILES)
    for name in FILES:
        assert (folder / "evaluation" / "250" / name).stat().st_size > 200, name
    for name in ("surface.png", "cuts.png", "losses.png"):
        assert (folder / "evaluation" / "250" / name).read_bytes().startswith(b"\x89PNG")
    assert [record["epoch"] for record in records(folder)] == list(range(5, 251, 5))


def test_the_configuration_of_a_run_reads_back_as_what_was_used(trained: tuple[Path, Path], kind: int):
    config = load_config(trained[kind] / "config.conf")
    assert config.train.nepoch == 250
    used = read_checkpoint(trained[kind] / "checkpoints" / "latest.pth")["config"]
    assert used["network"]["inputs"].pop("k") == (3, 2)[kind]  # left open, and set by the spacing of the cloud
    assert used["train"]["momentum"] == 0.99  # by its noise, of which there is none
    used["train"]["momentum"] = None
    assert config.to_dict() == used
    assert Path(str(config.train.input_path)).is_absolute()


def test_the_surface_is_in_the_frame_of_the_input(trained: tuple[Path, Path], shapes: Any, kind: int):
    surface = read_surface(trained[kind] / "evaluation" / "250" / "surface.ply")
    assert surface.dimension == kind + 2
    for corner in (np.min, np.max):
        np.testing.assert_allclose(corner(surface.vertices, 0), corner(shapes[kind], 0), atol=0.15 * RADIUS)
    lengths = np.linalg.norm(surface.vertices - CENTRES[kind], axis=1)
    assert abs(lengths.mean() - RADIUS) < 0.05 * RADIUS
    assert surface.is_closed()
    inward = surface.vertices[surface.cells].mean(axis=1) - CENTRES[kind]
    assert ((surface.cell_vectors() * inward).sum(axis=1) > 0).mean() > 0.99  # normals point outward


def test_the_metrics_are_those_of_the_surface(trained: tuple[Path, Path], kind: int):
    found = metrics(trained[kind], 250)
    assert found["epoch"] == 250
    assert (found["components"], found["closed"]) == (1, True)
    assert found["euler_characteristic"] == 2 * kind  # a circle has 0, a sphere 2
    assert found["scale"] == pytest.approx(RADIUS, rel=0.01)
    assert Path(found["input"]["path"]).is_file()
    assert 0 < found["input"]["cloud_to_surface_mean"] < 0.05 * RADIUS
    assert found["input"]["cloud_to_surface_mean"] <= found["input"]["cloud_to_surface_max"] < 0.2 * RADIUS


@pytest.mark.usefixtures("few_samples")
def test_eval_meshes_the_step_asked_for_against_a_target(command: Command, run: Path, kind: int):
    target = run / "evaluation" / "250" / "surface.ply"
    done = command("--eval", "--checkpoint", 100, "--target", target)
    assert done.status == 0, done.err
    assert f"evaluating step 100 of {run}" in done.out
    assert {path.name for path in (run / "evaluation").iterdir()} == {"100", "250"}
    found = metrics(run, 100)
    assert found["epoch"] == 100
    assert found["target"]["path"] == str(target)
    assert 0 < found["target"]["d_C"] < found["target"]["d_H"] < RADIUS
    assert f"d_C {found['target']['d_C']:.4g}" in done.out
    for line in done.out.split("\n\n")[1].splitlines():
        assert Path(line.split(maxsplit=1)[1]).is_file()
    again = command("--eval", "--checkpoint", 100)
    assert f"note: metrics.json no longer compares with {target}: give it with --target" in again.out
    assert "target" not in metrics(run, 100)
    assert "no longer compares" not in command("--eval", "--checkpoint", 100).out


@pytest.mark.usefixtures("few_samples")
def test_an_evaluation_that_is_cut_off_is_made_again(command: Command, run: Path, monkeypatch: pytest.MonkeyPatch):
    """The measurements of the mesh before do not stand beside the new one."""
    record = run / "evaluation" / "250" / "metrics.json"
    assert record.exists()

    def full(*arguments: Any, **keywords: Any) -> None:
        raise UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "render_surface", full)
        assert command("--eval").status == 2
    assert not record.exists()
    assert command("--eval", "--set", "plot.overwrite=false").status == 0
    assert metrics(run, 250)["epoch"] == 250


@pytest.mark.usefixtures("few_samples")
def test_eval_measures_against_points_too(command: Command, run: Path, clouds: tuple[Path, Path], kind: int):
    assert command("--eval", "--target", clouds[kind]).status == 0
    found = metrics(run, 250)
    assert found["target"]["d_C"] == pytest.approx(found["input"]["d_C"], rel=0.05)  # the cloud is the input


def test_a_target_is_an_npz_of_points_or_of_a_surface(
    command: Command, run: Path, clouds: Any, tmp_path: Path, kind: int
):
    points = load_point_cloud(clouds[kind]).points
    np.savez(tmp_path / "cloud.npz", points=points)
    done = command("--eval", "--target", tmp_path / "cloud.npz")
    assert done.status == 0, done.err
    np.savez(tmp_path / "vertices.npz", vertices=points)  # another name for points
    assert command("--eval", "--target", tmp_path / "vertices.npz").status == 0
    np.savez(tmp_path / "surface.npz", vertices=points, cells=np.full((1, points.shape[1]), len(points)))
    done = command("--eval", "--target", tmp_path / "surface.npz")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "surface.npz" in done.err


def test_a_target_that_is_a_cloud_in_the_form_of_a_mesh(command: Command, run: Path, clouds: Any, tmp_path: Path):
    points = load_point_cloud(clouds[0]).points
    header = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\nproperty float x\nproperty float y\nend_header\n"
    np.savetxt(tmp_path / "flat.ply", points, header=header.strip(), comments="")
    for path, dimension, count in ((tmp_path / "flat.ply", 2, len(points)),):
        target = read_target(path, dimension)
        assert target.vertices.shape == (count, dimension)
        assert not len(target.cells)


def test_a_target_of_another_dimension_is_refused(command: Command, run: Path, trained: tuple[Path, Path], kind: int):
    done = command("--eval", "--target", trained[1 - kind] / "evaluation" / "250" / "surface.ply")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert f"is {3 - kind}D" in done.err


def test_the_finest_word_wins(command: Command, clouds: tuple[Path, Path]):
    done = command(
        "--input", clouds[0], "--nepoch", 5, "--seed", 3, "--set", "train.nepoch=2", "--set", "train.seed=4",
        "--set", "network.inputs.dims=[24, 24, 24]", "--set", "plot.curve_format=svg", "--set", "plot.save_html=false",
    )  # fmt: skip
    assert done.status == 0, done.err
    config = load_config(done.folder / "config.conf")
    assert (config.train.nepoch, config.train.seed) == (2, 4)
    assert config.network.inputs["dims"] == [24, 24, 24]
    checkpoint = read_checkpoint(done.folder / "checkpoints" / "2.pth")
    assert checkpoint["network"]["lin2.weight"].shape == (24, 24)
    written = {path.name for path in (done.folder / "evaluation" / "2").iterdir()}
    assert "surface.svg" in written
    assert "surface.html" not in written


def test_a_part_of_a_cloud_is_read(command: Command, clouds: tuple[Path, Path], shapes: Any):
    middle = float(np.median(shapes[1][:, 2]))
    below = np.count_nonzero(shapes[1][:, 2] < middle)
    done = command("--input", clouds[1], f"--crop=,,,,{middle!r},", "--voxel", 1e-3, "--nepoch", 1, *SMALL)
    assert f"left out: {below} points outside the crop" in done.out
    train = load_config(done.folder / "config.conf").train
    assert (train.crop, train.voxel, train.classes) == ((None, None, None, None, middle, None), 1e-3, None)
    for flags, says in (
        (("--classes", "2,6"), "has no classes: leave out --classes (train.classes)"),
        (("--min-opacity", 0.5), "has no opacities, as 3D Gaussians have"),
        (("--crop", "0;1"), "--crop: expected numbers with commas between them, got '0;1'"),
        (("--crop", "0,1"), "--crop: expected 4 or 6 ends, got 2"),
        (("--voxel", 0), "--voxel: expected more than 0, got 0"),
    ):
        refused = command("--input", clouds[1], *flags)
        assert refused.status == 2
        assert says in refused.err


def test_continue_goes_up_to_nepoch_with_the_configuration_of_the_run(command: Command, clouds: tuple[Path, Path]):
    """And with those keys of plot that the training uses."""
    plot = ("--set", "plot.up=y", "--set", "plot.least_component=0.5")
    started = command("--input", clouds[0], "--set", "network.inputs.dims=[12, 12]", *plot, "--nepoch", 5)
    done = command("--is_continue", "--nepoch", 15, "--trim", "closed")
    assert done.status == 0, done.err
    assert f"continuing {started.folder} from step 5" in done.out
    assert done.folder == started.folder
    checkpoint = read_checkpoint(done.folder / "checkpoints" / "latest.pth")
    assert checkpoint["epoch"] == 15
    assert checkpoint["config"]["network"]["inputs"]["dims"] == [12, 12]
    used = checkpoint["config"]["plot"]
    assert (used["up"], used["trim"], used["least_component"]) == ("y", "closed", PlotConfig().least_component)
    assert 'changed from here on: train.nepoch = 15, plot.trim = "closed"\n' in done.out
    assert [record["epoch"] for record in records(done.folder)] == [5, 10, 15]

    nothing = command("--is_continue", "--nepoch", 15)
    assert nothing.status == 2
    assert nothing.err == (
        f"error: {done.folder}: step 15 of 15 is done; --steps N continues up to step N, --minutes M up to M minutes "
        "in all\n"
    )


def test_continue_from_an_earlier_checkpoint_rewinds_the_log(command: Command, clouds: tuple[Path, Path]):
    keys = ("--input", clouds[0], "--nepoch", 20, "--set", "train.checkpoint_frequency=5")
    folder = command(*keys).folder
    before = records(folder)
    assert command(*keys, "--is_continue", "--checkpoint", 10).status == 0
    after = records(folder)
    assert [{**record, "time": 0} for record in after] == [{**record, "time": 0} for record in before]


def test_a_run_that_was_cut_off_before_its_detail_says_so_and_goes_on(
    command: Command, clouds: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    keys = ("--input", clouds[0], "--nepoch", 10, "--set", "train.detail=true")
    with monkeypatch.context() as patch:
        patch.setattr(training, "correction_of", lambda *_: raising(MemoryError())(None))
        cut_off = command(*keys)
    assert "out of memory" in cut_off.err
    done = command("--eval")
    assert done.status == 0, done.err
    said = "warning: the run was cut off after its last step, and lacks the detail that is solved for then: the same"
    assert said in done.out
    metrics = cut_off.folder / "evaluation" / "10" / "metrics.json"
    assert not json.loads(metrics.read_text())["ended"]
    with pytest.warns(UserWarning, match="lacks the detail that is solved for then: --is-continue does it"):
        load_field(cut_off.folder)
    more = command("--is-continue")
    assert more.status == 0, more.err
    assert "detail: " in more.out
    assert json.loads(metrics.read_text())["ended"]
    assert read_checkpoint(cut_off.folder / "checkpoints" / "latest.pth")["stage"] == "end"
    assert "step 10 of 10 is done" in command("--is-continue").err
    assert said not in command("--eval").out


def test_continue_from_an_earlier_checkpoint_loses_nothing(command: Command, clouds: tuple[Path, Path]):
    keys = ("--input", clouds[0], "--set", "train.checkpoint_frequency=5")
    folder = command(*keys, "--nepoch", 20).folder
    before, log = (folder / "checkpoints" / "20.pth").read_bytes(), (folder / "log.jsonl").read_bytes()
    done = command("--is_continue", "--checkpoint", 10, "--nepoch", 12, "--set", "network.loss.epsilon=0.02")
    assert done.status == 0, done.err
    assert "changed from here on: train.nepoch = 12, network.loss.epsilon = 0.02" in done.out
    (aside,) = (folder / "replaced").iterdir()
    assert f"what later steps had left is now in {aside}" in done.out
    assert {path.relative_to(aside).as_posix() for path in aside.rglob("*") if path.is_file()} >= {
        "checkpoints/15.pth", "checkpoints/20.pth", "evaluation/20/metrics.json", "log.jsonl",
    }  # fmt: skip
    assert ((aside / "checkpoints" / "20.pth").read_bytes(), (aside / "log.jsonl").read_bytes()) == (before, log)
    assert {path.stem for path in (folder / "checkpoints").iterdir()} == {"5", "10", "12", "latest"}
    config = load_config(folder / "config.conf")
    assert (config.train.nepoch, config.network.loss["epsilon"]) == (12, 0.02)
    assert "replaced" not in command("--is_continue", "--nepoch", 14).out
    assert read_checkpoint(folder / "checkpoints" / "latest.pth")["config"]["network"]["loss"]["epsilon"] == 0.02


def test_of_two_runs_of_one_name_the_one_of_the_cloud_is_evaluated(command: Command, clouds: Any, tmp_path: Path):
    """Two clouds of one name in two folders share the name of their runs."""
    points = load_point_cloud(clouds[0]).points
    files = []
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
        files.append(tmp_path / f"{number}" / "scan.xyz")
        np.savetxt(files[-1], number * points)
    small = ("--steps", 2, "--expname", "scan", "--set", "plot.save_html=false")
    runs = [command(file, *small).folder for file in files]
    done = command(files[0], "--eval", "--expname", "scan")
    assert f"of {runs[0]}\n" in done.out
    assert "note: the run was trained on" not in done.out
    other = tmp_path / "other.xyz"
    np.savetxt(other, points)
    done = command(other, "--eval", "--expname", "scan")
    assert f"of {runs[1]}\n" in done.out  # the newest
    says = f"note: the run was trained on {files[1]}; its surface is cut, coloured and measured by this cloud"
    assert says in done.out


def test_a_run_of_another_cloud_of_that_name_is_not_meant(command: Command, clouds: Any, tmp_path: Path):
    points = load_point_cloud(clouds[0]).points
    files = [tmp_path / "one" / "scan.xyz", tmp_path / "two" / "scan.xyz"]
    for number, file in enumerate(files):
        file.parent.mkdir()
        np.savetxt(file, (1 + number) * points)
    unnamed = ("--set", "train.expname=null", "--set", "plot.save_html=false")
    run = command(files[0], "--steps", 2, *unnamed).folder
    mesh = (run / "evaluation" / "2" / "surface.ply").read_bytes()
    done = command(files[1], "--eval", *unnamed)
    says = (
        f"{files[1]}: there is no run of it; {run}, of that name, was trained on {files[0]}: train first, or give "
        "--expname scan to measure that run by this cloud"
    )
    assert (done.status, done.err) == (2, f"error: {says}\n")
    assert (run / "evaluation" / "2" / "surface.ply").read_bytes() == mesh
    files[0].rename(tmp_path / "one" / "moved.xyz")  # it is still not of the other
    assert command(files[1], "--eval", *unnamed).err == f"error: {says}\n"
    assert (run / "evaluation" / "2" / "surface.ply").read_bytes() == mesh
    np.savetxt(files[1], points)  # a copy of it
    done = command(files[1], "--eval", *unnamed)
    assert (done.status, "note: the run was trained on" in done.out) == (0, False)


def test_a_key_of_the_run_s_own_loss_can_change(command: Command, clouds: Any):
    """setup.conf's loss has no such key."""
    base = (clouds[0], "--expname", "own", "--set", "plot.save_html=false")
    assert command(*base, "--steps", 2, "--set", "network.loss={type=hotspot}").status == 0
    done = command(*base, "--is-continue", "--steps", 4, "--set", "network.loss.heat=[0.5]")
    assert (done.status, done.err) == (0, "")
    assert "changed from here on: " in done.out


def test_a_run_goes_on_with_its_own_seed(command: Command, run: Path):
    done = command("--is-continue", "--nepoch", 1000, "--seed", 7)
    says = "--is-continue: --seed (train.seed) is of the start of a run, which goes on with its own; leave it out"
    assert (done.status, done.err) == (2, f"error: {says}\n")


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["--set", "network.loss.epsilon=0.1"], "network.loss.epsilon"),
        (["--seed", 7, "--nepoch", 3], "--seed, --steps/--nepoch"),
        (["--minutes", 3], "--minutes"),
        (["--set", "network.has_normals=true"], "network.has_normals"),
    ],
)
def test_eval_refuses_what_it_cannot_change(command: Command, run: Path, arguments, keys):
    done = command("--eval", *arguments)
    assert (done.status, done.err) == (
        2, f"error: --eval: {keys} cannot be other than in the training; leave it out, or train again with it\n"
    )  # fmt: skip


def test_eval_with_a_preset_names_the_flag_and_the_one_that_is_meant(command: Command, run: Path):
    assert command("--eval", "--quality", "fine").err == (
        "error: --eval: --quality cannot be other than in the training; give --resolution, which may be other, "
        "without it, or train again with it\n"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--eval"], "/exps/tiny: no such experiment to load; the experiments there are: none"),
        (["--is_continue"], "/exps/tiny: no such experiment to load"),
        (["--eval", "--is_continue"], "one or the other"),
        (["--eval", "--set", "train { expname = museum }"], "/exps/museum: no such experiment to load"),
        (["--nepoch", "5", "--minutes", "1"], "--steps and --minutes: one or the other"),
        (["--steps", "5", "--set", "train { time_budget: 1 }"], "--steps and --set train.time_budget: one or the"),
    ],
)
def test_what_there_is_nothing_for_is_an_error(command: Command, tmp_path: Path, arguments: list[str], text: str):
    done = command(*arguments)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert text in done.err
    assert not (tmp_path / "exps").exists()


def test_a_checkpoint_there_is_not_is_named_with_those_there_are(command: Command, run: Path):
    done = command("--eval", "--checkpoint", 101)
    assert done.status == 2
    assert "101.pth: no such checkpoint; the checkpoints there are: latest, 100, 200, 250" in done.err
    done = command("--eval", "--checkpoint", run / "checkpoints" / "100.pth")
    says = f"--checkpoint {run / 'checkpoints' / '100.pth'}: expected the number of a step, or latest; the checkpoints "
    assert (done.status, done.err) == (2, f"error: {says}there are: latest, 100, 200, 250\n")
    done = command("--eval", "--timestamp", "yesterday")
    assert f"yesterday: no such run; the runs there are: {run.name}" in done.err


@pytest.mark.parametrize(
    ("gpu", "text"), [("99", "--gpu 99: this machine has"), ("fast", "--gpu fast: expected auto, cpu, ignore")]
)
def test_a_gpu_there_is_not_is_an_error(command: Command, clouds: tuple[Path, Path], tmp_path: Path, gpu, text):
    done = command("--input", clouds[0], "--gpu", gpu)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert text in done.err
    assert not (tmp_path / "exps").exists()


def test_the_device_is_named(command: Command, clouds: tuple[Path, Path]):
    assert "device: CPU, threads: 1" in command("--input", clouds[0], "--nepoch", 1, "--gpu", "cpu").out


@pytest.mark.parametrize("start", ["code", "elsewhere"])
def test_it_runs_from_any_folder(process: Command, clouds: tuple[Path, Path], tmp_path: Path, start: str):
    if start == "code":  # a path of the project's root, from its folder code
        cwd, script, cloud = ROOT / "code", "reconstruction/run.py", "data/two_shapes_2d.xyz"
    else:  # a path of the folder at hand
        cwd, script, cloud = tmp_path, str(ROOT / "code" / "reconstruction" / "run.py"), "here.xyz"
        shutil.copy(clouds[0], tmp_path / cloud)
    done = process("--input", cloud, "--nepoch", 1, "--set", "train.start=winding", cwd=cwd, script=script)
    assert (done.status, done.err) == (0, "")
    assert (done.folder / "evaluation" / "1" / "surface.ply").is_file()
    assert done.folder.is_relative_to(tmp_path / "exps")


def test_a_relative_folder_of_results_is_the_one_at_hand(
    command: Command, clouds: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert command("--input", clouds[0], "--nepoch", 1, "--exps_dir", "mine").folder.parents[1] == tmp_path / "mine"


def test_open3d_is_not_needed(process: Command, clouds: tuple[Path, Path], tmp_path: Path):
    script = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "open3d":
            raise ImportError("open3d is hidden")
sys.meta_path.insert(0, Blocker())
sys.path.insert(0, {str(ROOT / "code")!r})
from phase_recon.reconstruction.run import main
from phase_recon.reconstruction.target import read_target
arguments = {tiny_arguments(tmp_path / "exps", ("--input", clouds[1], "--nepoch", 1))!r}
sys.exit(main(arguments))
"""
    done = process("-c", script, script="-I", tiny=False)
    assert (done.status, done.err) == (0, "")


def test_minutes_are_for_the_whole_command(process: Command, clouds: tuple[Path, Path]):
    started = time.monotonic()
    done = process("--input", clouds[0], "--minutes", 0.3, "--set", "train.status_frequency=1")
    assert done.status == 0, done.err
    assert time.monotonic() - started < 36  # 18, with as much again for a machine that is busy
    log = records(done.folder)
    assert log[-1]["epoch"] > 10
    assert log[-1]["lr"] < 0.0005  # from 0.005 down to nearly 0.00005
    assert log[-1]["time"] == pytest.approx(13.5, abs=3)  # a quarter is left for what comes after

    steps = log[-1]["epoch"]
    again = process("--is_continue")
    assert (again.status, again.err) == (
        2,
        f"error: {done.folder}: step {steps} ended its 0.3 minutes; --steps N continues up to step N, --minutes M up "
        "to M minutes in all\n",
    )
    more = process("--is_continue", "--nepoch", steps + 3)
    assert more.status == 0, more.err
    assert f"with the configuration it has (but plot, which is that of {TINY}, without plot.up, plot.trim, " in more.out
    checkpoint = read_checkpoint(done.folder / "checkpoints" / "latest.pth")
    assert (checkpoint["epoch"], checkpoint["config"]["train"]["time_budget"]) == (steps + 3, None)


def test_a_configuration_of_the_forks_of_igr_runs_with_one_warning(command: Command, clouds: tuple[Path, Path]):
    conf = ROOT / "tests" / "data" / "fork_family.conf"
    done = command("--conf", conf, "--input", clouds[1], "--nepoch", 2, "--set", "train.start=network", *SMALL)
    assert done.status == 0, done.err
    (line,) = done.err.splitlines()
    assert line.startswith(f"warning: {conf}: keys without meaning here: ")
    assert "network.loss.normals_lambda" in line
    checkpoint = read_checkpoint(done.folder / "checkpoints" / "2.pth")
    shape = {name: tuple(value.shape) for name, value in checkpoint["network"].items()}
    assert shape["lin0.weight"] == (512, 3)
    assert shape["lin3.weight"] == (509, 512)  # the fourth sees the input again
    assert shape["lin8.weight"] == (1, 512)
    assert (done.folder / "evaluation" / "2" / "surface.ply").is_file()


def test_the_published_configuration_runs(command: Command, clouds: tuple[Path, Path]):
    done = command("--conf", ROOT / "code" / "confs" / "published.conf", "--input", clouds[1], "--nepoch", 1, *SMALL)
    assert (done.status, done.err) == (0, "")
    assert done.folder.parent.name == "sphere"
    (record,) = records(done.folder)
    assert record["lr"] == 5e-6  # the floor of Step
    config = read_checkpoint(done.folder / "checkpoints" / "1.pth")["config"]
    assert (config["network"]["output"], config["train"]["optimizer"]) == ("u", "adam")


def test_debug_shows_the_traceback(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        main(tiny_arguments(tmp_path / "exps", ("--debug", "--input", tmp_path / "nothing.xyz")))
