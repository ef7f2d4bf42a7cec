"""What a new user types: clouds by position, -o, presets, flags in both spellings, and what is said of mistakes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, TINY, Command
from phase_recon.datasets.readers import READERS
from phase_recon.model.network import ImplicitNet
from phase_recon.reconstruction import batch, flags, forecast, output
from phase_recon.reconstruction.batch_clouds import common_folder
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.commands import Parser, command_name, common_flag
from phase_recon.reconstruction.detail import seconds_for
from phase_recon.reconstruction.findings import noise_in_words
from phase_recon.reconstruction.flags import QUALITIES, check_flags, overrides, parser
from phase_recon.reconstruction.names import named
from phase_recon.reconstruction.progress import Clock
from phase_recon.reconstruction.target import read_target
from phase_recon.surface.files import CURVE_WRITERS, MESH_WRITERS, read_surface
from phase_recon.utils.config_files import load_config
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.locations import CONFIGURATIONS, find_configuration


def texts(*words: str) -> list[str]:
    return [item if isinstance(item, str) else item.text for item in overrides(parser("").parse_args(list(words)))]


# flags


def test_flags_are_written_with_dashes_or_underscores_and_files_stand_anywhere():
    for words in (
        ["a.ply", "--exps-dir=x", "--points-batch", "3", "-o", "m.ply", "b.ply"],
        ["--exps_dir=x", "a.ply", "b.ply", "--points_batch", "3", "--output", "m.ply"],
    ):
        options = parser("").parse_args(words)
        assert (options.clouds, options.exps_dir, options.points_batch) == (["a.ply", "b.ply"], Path("x"), 3)
        assert options.output == Path("m.ply")
    assert parser("").parse_args(["--is_continue"]).is_continue
    assert parser("").parse_args(["--set", "train.expname=a_b"]).set == ["train.expname=a_b"]


def test_names_of_one_thing():
    assert texts("--steps", "7") == texts("--nepoch", "7") == ["train.time_budget = null", "train.nepoch = 7"]
    assert parser("").parse_args(["--device", "cpu"]).gpu == parser("").parse_args(["--gpu", "cpu"]).gpu == "cpu"
    assert texts("scan.ply") == texts("--input", "scan.ply") == ['train.input_path = "scan.ply"']


def test_letters_of_any_language_stay_as_they_are():
    assert texts("Büste 像.ply") == ['train.input_path = "Büste 像.ply"']
    config = load_config(find_configuration("setup.conf"), texts("Büste 像.ply", "--exps-dir", "/tmp/größe"))
    assert (config.train.input_path, config.train.exps_dir) == ("Büste 像.ply", "/tmp/größe")


def test_presets_set_length_and_resolution_and_give_way_to_what_is_said_besides():
    for name, quality in QUALITIES.items():
        assert texts("--quality", name) == [
            *(["plot.resolution = null"] if quality.resolution is None else []),
            "train.time_budget = null", f"train.nepoch = {quality.steps}",
            *([] if quality.resolution is None else [f"plot.resolution = {quality.resolution}"]),
        ]  # fmt: skip
    words = ["--quality", "fine", "--resolution", "64", "--steps", "9"]
    config = load_config(TINY, [*overrides(parser("").parse_args(words))])
    assert (config.train.nepoch, config.plot.resolution) == (9, 64)
    config = load_config(TINY, [*overrides(parser("").parse_args(["--quality", "draft", "--minutes", "3"]))])
    assert (config.train.time_budget, config.plot.resolution) == (3.0, 128)
    standard = load_config(ROOT / "setup.conf")
    assert QUALITIES["standard"].steps == standard.train.nepoch
    assert QUALITIES["standard"].resolution == standard.plot.resolution


def test_normals_are_a_flag_and_its_opposite():
    assert texts("--normals") == ["network.has_normals = true"]
    assert texts("--no-normals") == ["network.has_normals = false"]
    assert texts() == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--minuts", "3"], "--minuts: no such flag; did you mean --minutes?; --help lists what there is"),
        (["--exps-dri=x"], "--exps-dri: no such flag; did you mean --exps-dir?; --help lists what there is"),
        (["--qqq"], "--qqq: no such flag; --help lists what there is"),
        (["--steps", "many"], "--steps/--nepoch: expected a whole number, got 'many'; --help lists what there is"),
        (["--minutes", "x"], "--minutes: expected a number, got 'x'; --help lists what there is"),
        (["--minutes"], "--minutes: expected one argument; --help lists what there is"),
        (["--sensor", "-1,0,2"], "--sensor: expected one argument; a value that begins with a minus needs =, as in "),
        (["--quality", "best"], "--quality: invalid choice: 'best' (choose from "),
    ],
)
def test_mistaken_flags(words, text):
    with pytest.raises(UserError) as refused:
        parser("").parse_args(words)
    assert str(refused.value).startswith(text)


@pytest.mark.parametrize("name", ["digs", "siren", "setup"])
def test_one_wrong_value_is_one_problem(name: str):
    """The network is asked for its keys by the class that the configuration names, whatever else is wrong."""
    flags = overrides(parser("").parse_args(["--steps", "0"]))
    with pytest.raises(UserError) as refused:
        load_config(find_configuration(f"{name}.conf"), flags, check_model)
    assert str(refused.value) == "--steps/--nepoch: expected at least 1, got 0"


def test_an_output_without_a_cloud_is_refused_and_a_configuration_may_name_the_cloud():
    for words in ((), ("--expname", "x")):
        with pytest.raises(UserError, match=r"^--output m.ply: of which cloud\? Name it: phase-recon CLOUD -o m.ply$"):
            check_flags(parser("").parse_args(["-o", "m.ply", *words]), 1)
    for words in (["a.xyz"], ["--conf", "mine"], ["--eval"], ["--set", "train.input_path=a.xyz"]):
        check_flags(parser("").parse_args(["-o", "m.ply", *words]), 1)


def test_a_name_that_hocon_would_take_for_nothing_stays_a_name():
    assert texts("--expname", "null", "--steps", "3") == [
        "train.time_budget = null", "train.nepoch = 3", 'train.expname = "null"',
    ]  # fmt: skip


def test_a_command_is_called_what_its_user_typed(monkeypatch):
    for started, name in (
        (["/usr/bin/phase-recon", "compare"], "phase-recon compare"),
        (["code/reconstruction/run.py", "compare"], "python code/reconstruction/run.py compare"),
        (["code/reconstruction/compare.py", "x"], "python code/reconstruction/compare.py"),
        (["/usr/bin/phase-recon-compare"], "phase-recon-compare"),
    ):
        monkeypatch.setattr(sys, "argv", started)
        assert command_name("compare.py", "phase-recon-compare") == name
    for started, name in (
        (["/usr/bin/phase-recon"], "phase-recon"), (["code/reconstruction/run.py"], "python code/reconstruction/run.py")
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", started)
        assert command_name("run.py", "phase-recon") == name
        made = Parser("CLOUD", "Do.\n\n    python code/reconstruction/run.py x", script="run.py", console="phase-recon")
        help_text = made.format_help()
        assert help_text.startswith(f"usage: {name} CLOUD\n\nDo.\n\n    {name} x\n")
        assert "exit statuses:\n  0    done\n" in help_text


def test_common_flags_have_one_name_in_all_commands():
    made = Parser()
    for name in ("minutes", "seed", "set", "gpu", "exps-dir", "expname", "steps"):
        common_flag(made, name)
    words = "--minutes 2 --seed 3 --set a=1 --device cpu --exps_dir x --expname n --nepoch 4"
    assert vars(made.parse_args(words.split())) == {
        "minutes": 2.0, "seed": 3, "set": ["a=1"], "gpu": "cpu", "exps_dir": Path("x"), "expname": "n", "steps": 4,
    }  # fmt: skip


def test_the_help_names_the_formats_that_there_are():
    assert flags.READ.split() == list(READERS)
    assert tuple(flags.WRITTEN.split()) == output.MESHES == tuple(kind for kind in MESH_WRITERS if kind != ".npz")
    assert tuple(flags.CURVES.split()) == output.CURVES == tuple(CURVE_WRITERS)
    help_text = parser("From a point cloud to a surface.").format_help()
    assert help_text.splitlines()[0].endswith("CLOUD [-o MESH] [--quality draft|standard|fine] [more flags, see below]")
    for part in ("files read:     .xyz", "files written:  .ply", "results:        -o, and always", "exit statuses:"):
        assert part in help_text
    assert "  draft        500 steps, resolution 128, 20 to 40 s" in help_text


@pytest.mark.parametrize(("script", "module"), [("compare.py", "compare"), ("benchmark.py", "benchmark")])
def test_help_of_the_other_commands(script, module, capsys):
    from phase_recon.reconstruction.run import main

    for words in (["compare", "--help"], ["benchmark", "--help"]):
        if words[0] == module:
            with pytest.raises(SystemExit) as end:
                main(words)
            assert end.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: phase-recon-{module} ")
    assert f"    phase-recon-{module} " in said
    assert "exit statuses:" in said
    for flag in ("--minutes", "--seed", "--set", "--gpu", "--device", "--exps-dir", "--version", "--debug"):
        assert flag in said


@pytest.mark.parametrize("words", [[], ["a.xyz", "--input", "b.xyz"]])
def test_a_comparison_is_of_one_cloud(words, capsys):
    from phase_recon.reconstruction.run import main

    assert main(["compare", *words, "--gpu", "cpu"]) == 2
    assert capsys.readouterr().err == "error: give one point cloud: phase-recon compare CLOUD, or --input PATH\n"


def test_the_version(capsys):
    with pytest.raises(SystemExit):
        parser("").parse_args(["--version"])
    assert re.fullmatch(r"phase-recon \d+\.\d+\.\d+\n", capsys.readouterr().out)


# keys


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("epsilon=0.01", "network.loss.epsilon"), ("loss.epsilon=0.01", "network.loss.epsilon"),
        ("train.epsilon=0.01", "network.loss.epsilon"), ("resolutoin=64", "plot.resolution"),
        ("nepoch=3", "train.nepoch"), ("dims=[8]", "network.inputs.dims"), ("lambda=3", "network.loss.lambda"),
        ("near_width=3", "network.sampler.properties.near_width"), ("type=igr", "network.loss.type"),
    ],
)  # fmt: skip
def test_a_key_without_its_section(setting, key):
    with pytest.raises(UserError) as refused:
        load_config(TINY, [setting])
    assert str(refused.value) == f"--set {setting!r}: unknown key; did you mean {key}?"


def test_what_no_key_sets_is_not_advised():
    """The size of a latent code is an argument of the network, which the program sets."""
    with pytest.raises(UserError, match=r"latent_size") as refused:
        load_config(TINY, ["latent_size=3"])
    assert "network.inputs.latent_size" not in str(refused.value)


def test_a_wrong_flag_is_not_blamed_on_the_configuration(command: Command, clouds):
    done = command(clouds[0], "--nepoch", 0)
    assert (done.status, done.err) == (2, "error: --steps/--nepoch: expected at least 1, got 0\n")
    done = command(clouds[0], "--minutes", -1, "--set", "train.seed=-1")
    assert done.err.splitlines()[1:] == [
        "  --set: train.seed: expected 0 to 2^63 - 1, got -1",
        "  --minutes: expected more than 0 minutes, got -1.0",
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--resolution", 0], "--resolution: expected 8 to 2048, got 0"),
        (["--sample", 3], "--sample: expected at least 10 points, got 3"),
        (["--min-opacity", 2], "--min-opacity: expected 0 to 1, got 2.0"),
        (["--set", "plot.resolution=0"], "--set: plot.resolution: expected 8 to 2048 or null, got 0"),
        (["--set", "seed"], "--set 'seed': expected KEY=VALUE, such as --set train.seed=3"),
        (["--set", ""], "--set '': expected KEY=VALUE, such as --set train.seed=3"),
        (["--set", "network.loss"], "--set 'network.loss': expected KEY=VALUE, such as --set train.seed=3"),
    ],
)
def test_a_value_is_refused_in_the_words_it_was_given_in(command: Command, clouds, words, text):
    assert command(clouds[0], *words).err == f"error: {text}\n"


def test_configurations_have_names(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("siren", "siren.conf", "code/confs/siren.conf"):
        assert find_configuration(name).resolve() == CONFIGURATIONS / "siren.conf"
    monkeypatch.setattr("phase_recon.utils.locations.ROOT", tmp_path)  # as where the package is installed
    assert find_configuration("code/confs/siren.conf") == CONFIGURATIONS / "siren.conf"
    (tmp_path / "siren").write_text("")
    assert find_configuration("siren") == Path("siren")
    with pytest.raises(UserError, match=r"^code/sirene: no such configuration file; .* a name: digs, hotspot, igr, "):
        find_configuration("code/sirene")


# names of runs


@pytest.mark.parametrize(
    ("given", "name"),
    [("a/scan one.ply", "scan_one"), ("scans", "scans"), ("scans/*.ply", "scans"), ("scans/**/x?.ply", "scans"),
     ("@list.txt", "list"), ("b.tar.ply", "b.tar")],
)  # fmt: skip
def test_a_run_is_called_as_its_cloud(given, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    config = load_config(TINY, [f"train.input_path={json.dumps(given)}", "train.expname=null"])
    assert named(config).train.expname == name
    assert named(load_config(TINY, ["train.expname=mine"])).train.expname == "mine"


# -o


def test_a_name_that_is_not_utf_8_is_refused(command: Command, tmp_path):
    done = command(tmp_path / "B\udcfcste.ply")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert done.err.endswith("ste.ply: its name has bytes that are not UTF-8; rename it\n")


def test_a_cloud_in_obj_is_a_target(command: Command, clouds, tmp_path):
    points = np.loadtxt(clouds[1])
    (tmp_path / "a.obj").write_text("".join(f"v {x} {y} {z}\n" for x, y, z in points))
    target = read_target(tmp_path / "a.obj", 3)
    assert len(target.cells) == 0
    np.testing.assert_allclose(target.vertices, points)


def test_a_target_elsewhere_is_said(command: Command, clouds, tmp_path):
    np.savetxt(tmp_path / "far.xyz", np.loadtxt(clouds[0]) + 1e6)
    done = command(clouds[0], "--target", tmp_path / "far.xyz", "--steps", 2)
    assert done.status == 0
    assert f"warning: {tmp_path / 'far.xyz'} and the cloud have no place in common: are they in one frame" in done.out


def test_files_and_folders_may_have_any_name(command: Command, clouds, tmp_path):
    folder = tmp_path / "Möbel [neu] 像"
    folder.mkdir()
    shutil.copy(clouds[0], folder / "Büste{1}.xyz")
    done = command(folder / "Büste{1}.xyz", "-o", folder / "ü.ply", "--exps-dir", folder / "Läufe", "--steps", 2)
    assert done.status == 0, done.err
    assert (folder / "ü.ply").is_file()
    assert done.folder.parent.parent == folder / "Läufe"


def test_a_cloud_by_position_with_output_and_target(command: Command, clouds, trained, tmp_path):
    target, curve = trained[0] / "evaluation" / "250" / "surface.ply", tmp_path / "mine.svg"
    curve.write_text("old")
    done = command(clouds[0], "-o", curve, "--target", target, "--set", "train.expname=null")
    assert done.status == 0, done.err
    assert curve.read_text().startswith("<svg") or "<svg" in curve.read_text()
    assert f"note: {curve} is there, and will be replaced" in done.out
    assert done.folder.parent.name == "circle"  # the file's stem
    metrics = json.loads((done.folder / "evaluation" / "10" / "metrics.json").read_text())
    assert metrics["target"]["d_C"] > 0
    lines = done.out.splitlines()
    assert re.fullmatch(r"plan: 10 steps, then the curve at resolution 16; about \d+ s in all", lines[0])
    assert lines[1] == f"cloud: {clouds[0]}, 200 points in 2D, without normals"
    assert f"output:   {curve}" in lines
    assert any(line.startswith("estimated noise: ") for line in lines)
    said = r"^surface: closed, 1 connected component; the points are \S+ from it on average, \S+ at most$"
    assert re.search(said, done.out, re.MULTILINE)

    again = command(clouds[0], "--set", "train.expname=null", "--eval", "-o", tmp_path / "new" / "folder")
    assert again.status == 0, again.err
    assert len(read_surface(tmp_path / "new" / "folder" / "circle.ply").cells)


@pytest.mark.parametrize("flag", ["--target", "--query"])
def test_what_is_measured_at_the_end_is_looked_at_first(command: Command, clouds, tmp_path, flag):
    done = command(clouds[0], flag, tmp_path / "gone.ply")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "gone.ply: no such file" in done.err
    assert not (tmp_path / "exps").exists()


def test_a_run_that_fails_before_its_first_step_leaves_no_folder(command: Command, tmp_path):
    unit = np.random.default_rng(0).standard_normal((500, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    np.savetxt(tmp_path / "needle.xyz", unit * [1, 0.01, 0.01])
    done = command(tmp_path / "needle.xyz")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"error: {tmp_path / 'needle.xyz'}: the cloud is a needle, ")
    assert not (tmp_path / "exps").exists()
    (tmp_path / "exps").mkdir()
    assert command(tmp_path / "needle.xyz").status == 2
    assert list((tmp_path / "exps").iterdir()) == []  # which the user had made


def test_only_a_run_that_left_nothing_is_discarded(tmp_path):
    made = [Experiment.create(tmp_path / "exps", "a") for _ in range(2)]
    for experiment in made:
        experiment.write_configuration("train.seed = 1\n")
    made[1].log({"epoch": 1})
    for experiment in made:
        experiment.discard()
    assert not made[0].folder.exists()
    assert made[1].log_path.is_file()
    assert (made[1].folder / "config.conf").is_file()


# many clouds


def test_several_files_are_found_again_by_their_folder(tmp_path, monkeypatch):
    assert common_folder([tmp_path / "a" / "x.ply", tmp_path / "b" / "c" / "y.ply"]) == tmp_path
    assert common_folder([tmp_path / "a" / "x.ply", tmp_path / "a" / "y.ply"]) == tmp_path / "a"


def test_several_clouds_share_their_runs_with_their_folder_and_their_surfaces_are_copied(
    command: Command, clouds, tmp_path
):
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a.xyz", "b.xyz"):
        shutil.copy(clouds[0], scans / name)
    keys = ("--set", "train.expname=null", "--set", "plot.save_html=false", "--steps", 2)
    done = command(scans / "a.xyz", scans / "b.xyz", "-o", tmp_path / "curves", *keys)
    assert done.status == 0, done.out
    folder = Path(re.search(r"^runs: (.*?), 2 clouds", done.out, re.MULTILINE)[1])
    assert folder.parent.name == "scans"
    assert sorted(path.name for path in (tmp_path / "curves").iterdir()) == ["a.ply", "b.ply"]
    assert len(read_surface(tmp_path / "curves" / "a.ply").cells)
    assert f"output:   {tmp_path / 'curves'}" in done.out
    again = command(scans, "-o", tmp_path / "again", *keys)
    assert "2 clouds, 2 done before" in again.out
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["a.ply", "b.ply"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a.xyz", "gone.xyz"], "gone.xyz: no such file; check the path, or give -o gone.xyz if the surface"),
        (["a.xyz", "b.xyz", "-o", "m.ply"], "--output m.ply: many clouds need a folder; give a name without extension"),
        (["a.xyz", "b.xyz", "--target", "t.ply"], "--target and --query are for one cloud: give one"),
        (["a.xyz", "b.xyz", "--eval"], "many clouds with --eval, --is-continue or --timestamp"),
        (["a.xyz", "--input", "b.xyz"], "--input b.xyz and a.xyz: give the cloud once"),
    ],
)
def test_many_clouds_that_are_refused(command: Command, tmp_path, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    for name in ("a.xyz", "b.xyz"):
        (tmp_path / name).write_text("0 0\n")
    done = command(*words)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert text in done.err
    assert not (tmp_path / "exps").exists()


def test_a_job_of_many_is_given_what_run_py_knows():
    """The stand-in of test_batch takes any flag; the real command must know them."""
    source = Path(batch.__file__).read_text()
    known = {flag for action in parser("")._actions for flag in action.option_strings}
    assert set(re.findall(r'"(--[a-z-]+)"', source)) <= known


# what is said of a run


def test_noise_in_words():
    assert noise_in_words(1e-8, 50.0, False) == "estimated noise: below what can be measured"
    assert noise_in_words(0.004, 50.0, True) == (
        "estimated noise: 0.2 in the units of the cloud, 0.004 of its radius; the points are moved towards the surface "
        "(train.smooth_points)"
    )


def test_how_far_a_run_is(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 1010.0)
    assert Clock(100, None, before=10.0, start=1000.0).state(40) == "40% done after 20 s, about 30 s to the last step"
    assert Clock(100, 50.0, before=0.0, start=1000.0).state(40) == "20% done after 10 s, about 40 s to the last step"
    assert Clock(100, None, before=0.0, start=1000.0).state(100) == "100% done after 10 s"


def test_a_run_that_begins_late_still_has_the_least_seconds_for_its_steps(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 1010.0)
    late, soon, later = (Clock(100, 12.0, 0.0, 1000.0, least=least) for least in (5.0, 1.0, 5.0))
    assert (late.begin_steps(0), late.budget) == (3.0, 15.0)
    assert (soon.begin_steps(0), soon.budget) == (0.0, 12.0)
    assert (later.begin_steps(40), later.budget) == (0.0, 12.0)  # one that goes on has had steps
    assert Clock(100, None, 0.0, 1000.0, least=5.0).begin_steps(0) == 0.0


def test_a_forecast_grows_with_the_steps_and_the_network():
    import torch

    cpu = torch.device("cpu")

    def seconds(*keys: str, shape: tuple[int, int] = (20000, 3)) -> float:
        return forecast.seconds_of_run(load_config(ROOT / "setup.conf", keys), cpu, shape)

    rest = seconds("train.nepoch=1")
    assert seconds("train.nepoch=2001") - rest == pytest.approx(2 * (seconds("train.nepoch=1001") - rest))
    many = ("train.points_batch=1024", "train.pts_in_omega=1024")  # points, whose operations then take most of a step
    assert seconds(*many, "network.inputs.dims=[512,512,512,512]") > 5 * seconds(*many)
    assert seconds("train.time_budget=3") == 180
    detail = [seconds(f"train.detail={on}", shape=(10**6, 3)) for on in ("true", "false")]
    assert detail[0] - detail[1] == pytest.approx(seconds_for(10**6))
    assert forecast.in_words(12) == "about 10 s"
    assert forecast.in_words(89) == "about 90 s"
    assert forecast.in_words(100) == "about 2 min"
    assert forecast.in_words(3 * 3600) == "about 3 h"


# without the packages


@pytest.mark.parametrize(
    "script",
    ["run.py", "compare.py", "benchmark.py", "poisson.py", "bench_step.py", "bench_detail.py", "bench_start.py"],
)
def test_missing_packages_are_one_line(script, tmp_path):
    """Python alone, with nothing installed: -S leaves the packages of the environment out."""
    path = ROOT / "code" / "reconstruction" / script
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(path), "x.ply"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {sys.executable} lacks the packages torch, numpy, ")
    assert done.stderr.endswith(
        "embreex: start the command with the Python of the environment that was set up (.venv/bin/python), or install "
        "what it needs: python -m pip install -r requirements.txt\n"
    )


# configurations of the family


def test_a_fork_with_a_skip_into_the_output_trains(command: Command, clouds, tmp_path):
    """Five layers of 256 and skip_in = [5], as the public fork ships it."""
    conf = tmp_path / "fork.conf"
    text = (ROOT / "tests" / "data" / "fork_family.conf").read_text()
    text = text.replace("[ 512, 512, 512, 512, 512, 512, 512, 512 ]", "[256, 256, 256, 256, 256]")
    conf.write_text(text.replace("skip_in = [4]", "skip_in = [5]"))
    small = [word for key in ("train.pts_in_omega=32", "train.pts_per_ball=1", "plot.resolution=16", "plot.mc_value=0",
                              "train.learning_rate_schedule=[{Type=Step, Initial=1e-7, Interval=1, Factor=1}]",
                              "train.start=network", "plot.save_html=false") for word in ("--set", key)]  # fmt: skip
    done = command(clouds[1], "--conf", conf, "--steps", 2, "--points-batch", 32, *small)
    assert done.status == 0, done.err
    (line,) = done.err.splitlines()
    assert line.startswith(f"warning: {conf}: keys without meaning here: ")
    assert "network.inputs.skip_in" not in line


def test_a_skip_into_a_layer_that_is_none_is_left_out_with_a_warning():
    config = load_config(TINY, ["network.inputs.dims=[8,8]", "network.inputs.skip_in=[1,5]"])
    assert config.network.inputs["skip_in"] == [1]
    assert config.warnings == (
        f"{TINY}: keys without meaning here: network.inputs.skip_in = 5 (the output is layer 2, the last)",
    )
    with pytest.raises(ValueError, match="skip_in: expected 1 to 2, got 5"):
        ImplicitNet(3, (8, 8), skip_in=(5,))
