"""The configuration: defaults, ranges, overrides, and the files that come with the project."""

import json
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from phase_recon.utils.config import Config, LearningRate, PlotConfig, TrainConfig
from phase_recon.utils.config_files import config_from_dict, differences, load_config, to_hocon
from phase_recon.utils.errors import UserError
from phase_recon.utils.hocon import parse
from phase_recon.utils.overrides import Override, values_of

ROOT = Path(__file__).resolve().parents[2]
FREE_FORM = {"network.inputs", "network.loss"}


@pytest.fixture
def conf(tmp_path):
    """Writes a configuration file and gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "a.conf"
        path.write_text(text)
        return path

    return write


def refusal(path: Path, *args: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, *args)
    return str(caught.value).removeprefix(f"{path}: ")


def schema_keys(cls: Any, prefix: str = "") -> set[str]:
    keys = set()
    for entry in fields(cls):
        default = getattr(cls(), entry.name)
        below = is_dataclass(default)
        keys |= schema_keys(type(default), f"{prefix}{entry.name}.") if below else {prefix + entry.name}
    return keys - {"warnings"}


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        path = prefix + key
        deeper = isinstance(value, dict) and path not in FREE_FORM
        flat |= leaves(value, f"{path}.") if deeper else {path: value}
    return flat


def test_empty_file_is_all_defaults(conf):
    assert load_config(conf("")) == Config()


def test_setup_conf_has_every_key_with_its_default():
    config = load_config(ROOT / "setup.conf")
    written = leaves(parse((ROOT / "setup.conf").read_text(), "setup.conf").tree)
    defaults = leaves(Config().to_dict())
    assert set(written) == schema_keys(Config) == set(defaults)
    for key in set(defaults) - FREE_FORM - {"train.input_path"}:
        assert written[key] == defaults[key], key
        assert type(written[key]) is type(defaults[key]), key
    assert config.warnings == ()


def test_setup_conf_explains_every_key_and_keeps_the_order():
    text = (ROOT / "setup.conf").read_text()
    lines = text.splitlines()
    in_list = {"Type", "Initial", "Final", "Restart", "Warmup"}  # explained with the list's own key
    keys = [
        i for i, line in enumerate(lines) if re.match(r"\s*\w+ =", line) and line.split()[0] not in in_list
    ]
    assert len(keys) > 40
    for i in keys:
        assert lines[i - 1].strip().startswith("#"), lines[i]
    assert list(parse(text, "setup.conf").tree) == ["train", "plot", "network"]


def test_published_conf():
    config = load_config(ROOT / "code" / "confs" / "published.conf")
    assert (config.network.inputs["dims"], config.network.inputs["skip_in"]) == ([512] * 8, [4])
    assert (config.network.output, config.train.optimizer) == ("u", "adam")
    assert (config.network.sampler.sampler_type, config.network.loss["epsilon"]) == ("Uniform", 0.01)
    assert config.train.learning_rate_schedule[0].Type == "Step"
    assert config.warnings == ()


def test_fork_family_conf_loads_with_one_warning():
    path = ROOT / "tests" / "data" / "fork_family.conf"
    config = load_config(path)
    (warning,) = config.warnings
    assert warning == (
        f"{path}: keys without meaning here: "
        "network.sampler.properties.global_sigma (Ω is the bounding box times bounding_box_scale); "
        "network.loss.normals_lambda (the normal term's weight is mu); "
        "network.sampler.sampler_type = NormalPerPoint "
        "(read as Uniform: the family's PHASE drew Ω uniformly whatever it said)"
    )
    assert config.train.learning_rate_schedule == (LearningRate("Step", 0.005, 2000, 0.5),)
    assert config.network.inputs["geometric_init"] is True
    assert config.network.inputs["use_FFM"] is False
    assert config.network.loss == {"type": "phase", "lambda": 0.1, "mu": 0.1, "epsilon": 0.01}
    assert config.network.sampler.sampler_type == "Uniform"
    assert (config.plot.save_html, config.plot.verbose, config.plot.resolution) == (True, False, 100)


def test_shapespace_keys_of_the_family_do_not_raise(conf):
    text = """train { preprocess = True, latent_size = 256, dataset_path = /x/, dataset = datasets.a.B }
    network { sampler.properties { local_sigma = 0.01 }, loss.latent_lambda = 1e-3 }"""
    (warning,) = load_config(conf(text)).warnings
    for key in ("preprocess", "latent_size", "dataset_path", "dataset", "local_sigma", "latent_lambda"):
        assert key in warning


def test_another_loss_keeps_a_weight_of_that_name(conf):
    config = load_config(conf("network.loss { type = igr, normals_lambda = 1 }"))
    assert config.network.loss == {"type": "igr", "normals_lambda": 1}
    assert config.warnings == ()


def test_loss_type_defaults_to_phase(conf):
    assert load_config(conf("network.loss.lambda = 3")).network.loss == {"type": "phase", "lambda": 3}
    assert refusal(conf("network.loss.type = 3")) == (
        "line 1: network.loss: expected type to name a loss, such as phase, got 3"
    )


def test_all_problems_at_once_with_their_lines(conf):
    path = conf(
        "train {\n  points_batch = many\n  bal_sigma = 1\n  d_in = 4\n}\nplot.mc_value = 1\nextra = 2\n"
    )
    assert refusal(path).splitlines() == [
        "5 problems in the configuration",
        "  line 2: train.points_batch = 'many': expected a whole number",
        "  line 3: train.bal_sigma: unknown key; did you mean train.ball_sigma?",
        "  line 4: train.d_in: expected 2, 3 or null, got 4",
        "  line 6: plot.mc_value: expected a level between -1 and 1, got 1.0",
        "  line 7: extra: unknown key; expected one of train, plot, network",
    ]


def test_one_problem_is_one_line(conf):
    message = refusal(conf("\nnetwork.sampler.properties.near_fraction = 1"))
    assert message == "line 2: network.sampler.properties.near_fraction: expected 0 to less than 1, got 1.0"


RANGES = [
    ("train", "expname", ["", " ", ".", "..", "a/b", "a\\b"], [None, "3d", "a.b", "ü 1"]),
    ("train", "exps_dir", [""], [None, "x/y"]),
    ("train", "input_path", [""], [None, "x.ply"]),
    ("train", "sample", [9], [None, 10]),
    ("train", "d_in", [1, 4], [None, 2, 3]),
    ("train", "seed", [-1, 2**63], [0, 2**63 - 1]),
    ("train", "nepoch", [0], [1]),
    ("train", "time_budget", [0.0, -1.0], [None, 0.5]),
    ("train", "points_batch", [0], [1]),
    ("train", "pts_per_ball", [0], [1]),
    ("train", "ball_sigma", [-1e-9], [0.0]),
    ("train", "pts_in_omega", [0], [1]),
    ("train", "bounding_box_scale", [0.99], [1.0]),
    ("train", "weight_decay", [-0.1], [0.0]),
    ("train", "clip_gradient", [0.0], [None, 1.0]),
    ("train", "status_frequency", [-1], [0]),
    ("train", "checkpoint_frequency", [-1], [0]),
    ("train", "checkpoint_minutes", [0.0, -1.0], [None, 0.5]),
    ("train", "plot_frequency", [-1], [0]),
    ("train", "momentum", [-0.1, 1.0], [None, 0.0, 0.99]),
    ("train", "learning_rate_schedule", [(), (LearningRate("Cosine", 1.0, Final=0.1),) * 2], []),
    ("plot", "resolution", [7, 2049], [8, 2048]),
    ("plot", "mc_value", [-1.0, 1.0], [-0.99, 0.99]),
    ("plot", "keep_components", [0], [None, 1]),
    ("plot", "preview_resolution", [7, 2049], [8]),
]


@pytest.mark.parametrize(("section", "key", "bad", "good"), RANGES, ids=[row[1] for row in RANGES])
def test_ranges(section, key, bad, good):
    cls: Any = {"train": TrainConfig, "plot": PlotConfig}[section]
    for value in bad:
        with pytest.raises(ValueError, match=f"^{key}: expected [^\n]*, got [^\n]*$"):
            cls(**{key: value})
    for value in good:
        assert getattr(cls(**{key: value}), key) == value


@pytest.mark.parametrize(
    ("schedule", "problems"),
    [
        ({"Type": "Step", "Initial": 1.0, "Interval": 10, "Factor": 0.5}, []),
        ({"Type": "Cosine", "Initial": 1.0, "Final": 0.0}, []),
        ({"Type": "Cosine", "Final": 0.0}, []),
        (
            {"Type": "Step", "Final": 0.1, "Restart": 5, "Warmup": 0.1},
            [
                "Initial: missing; Step begins with it",
                "Interval: missing; Step lowers the rate at every Interval",
                "Factor: missing; Step multiplies the rate by Factor",
                "Final: has no meaning for Step; remove it",
                "Restart: has no meaning for Step; remove it",
                "Warmup: has no meaning for Step; remove it",
            ],
        ),
        (
            {"Type": "Cosine", "Initial": 1.0, "Interval": 1, "Factor": 1.0},
            [
                "Final: missing; Cosine ends at Final",
                "Interval: has no meaning for Cosine; remove it",
                "Factor: has no meaning for Cosine; remove it",
            ],
        ),
        (
            {"Type": "Step", "Initial": -1.0, "Interval": 0, "Factor": 2.0},
            [
                "Initial: expected more than 0, got -1.0",
                "Interval: expected at least 1 step, got 0",
                "Factor: expected more than 0, at most 1, got 2.0",
            ],
        ),
        ({"Type": "Cosine", "Initial": 1.0, "Final": 0.0, "Restart": 1, "Warmup": 0.0}, []),
        (
            {"Type": "Cosine", "Final": 0.0, "Warmup": 1.0},
            ["Warmup: expected a share from 0 to below 1, got 1.0"],
        ),
        (
            {"Type": "Cosine", "Initial": 0.1, "Final": 0.2, "Restart": 0},
            ["Final: expected 0 to Initial, got 0.2", "Restart: expected at least 1 step, got 0"],
        ),
    ],
)
def test_schedules(conf, schedule, problems):
    path = conf("train.learning_rate_schedule = [" + json.dumps(schedule) + "]")
    if not problems:
        (built,) = load_config(path).train.learning_rate_schedule
        assert {key: getattr(built, key) for key in schedule} == schedule
        return
    message = refusal(path)
    assert [line.partition("[0].")[2] for line in message.splitlines() if "[0]." in line] == problems


def test_overrides_are_hocon_merged_in_order(conf):
    path = conf("train { seed = 1, nepoch = 5 }\nnetwork.inputs { dims = [8, 8], k = 3 }")
    overrides = [
        "train.seed=2",
        "train { seed = 3, clip_gradient = 0.5 }",
        "network.inputs.dims=[4]",
        "train.expname=3d",
    ]
    config = load_config(path, overrides)
    assert (config.train.seed, config.train.nepoch, config.train.clip_gradient) == (3, 5, 0.5)
    assert config.network.inputs == {"dims": [4], "k": 3}
    assert config.train.expname == "3d"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.seed=x", "--set: train.seed = 'x': expected a whole number"),
        ("train.sed=1", "--set: train.sed: unknown key; did you mean train.seed?"),
        ("", "--set '': expected KEY=VALUE, such as --set train.seed=3"),
        ("train.seed", "--set 'train.seed': expected KEY=VALUE, such as --set train.seed=3"),
    ],
)  # fmt: skip
def test_wrong_overrides(conf, override, message):
    assert refusal(conf("train.seed = 1"), [override]) == message


def test_checks_are_gathered_with_the_rest(conf):
    seen = []

    def checks(config: Config, problems: list[str]) -> None:
        seen.append(config)
        problems.append("network.inputs.dims: expected something else")

    path = conf("train.nepoch = x\ntrain.seed = 7\nnetwork.inputs {\n  dims = [1] }")
    assert refusal(path, (), checks).splitlines()[1:] == [
        "  line 1: train.nepoch = 'x': expected a whole number",
        "  line 4: network.inputs.dims: expected something else",
    ]
    assert seen[0].network.inputs == {"dims": [1]}
    assert (seen[0].train.nepoch, seen[0].train.seed) == (Config().train.nepoch, 7)


def test_dict_and_back():
    config = load_config(ROOT / "tests" / "data" / "fork_family.conf")
    tree = config.to_dict()
    assert tree["network"]["loss"]["lambda"] == 0.1
    assert tree["train"]["learning_rate_schedule"] == [
        {"Type": "Step", "Initial": 0.005, "Interval": 2000, "Factor": 0.5}
    ]
    assert json.loads(json.dumps(tree)) == tree
    restored = config_from_dict(tree)
    assert (restored.train, restored.plot, restored.network) == (config.train, config.plot, config.network)


def test_dict_with_unknown_key():
    tree = Config().to_dict()
    tree["plot"]["zoom"] = 1
    with pytest.raises(UserError, match=r"^latest\.pth: plot\.zoom: unknown key"):
        config_from_dict(tree, "latest.pth")


@pytest.mark.parametrize("name", ["setup.conf", "code/confs/published.conf", "tests/data/fork_family.conf"])
def test_hocon_and_back(conf, name):
    config = load_config(ROOT / name)
    restored = load_config(conf(to_hocon(config)))
    assert restored.to_dict() == config.to_dict()
    assert restored.warnings == ()


def test_missing_file_is_an_error(tmp_path):
    assert refusal(tmp_path / "b.conf") == "no such configuration file; check the path"


def test_reading_a_configuration_does_not_import_torch():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import phase_recon.utils.config; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(ROOT / "code")], check=False).returncode == 0


def test_values_of_a_text_are_those_of_its_keys_in_any_form_of_hocon():
    assert values_of("train { expname = museum, nepoch: 3 }") == {"train.expname": "museum", "train.nepoch": 3}
    assert values_of(Override("network.loss.heat = [1, 2]", "--set")) == {"network.loss.heat": [1, 2]}
    assert values_of("train.seed") == {}  # no HOCON


def test_differences_are_dotted_keys_with_the_other_values():
    other = replace(Config(), train=replace(Config().train, seed=3))
    assert differences(Config(), other) == {"train.seed": 3}
    with_k = replace(other, network=replace(other.network, inputs={"k": 5}))
    assert differences(other, with_k) == {"network.inputs.k": 5}
    assert differences(with_k, other) == {"network.inputs.k": None}
    assert differences(other, other) == {}
