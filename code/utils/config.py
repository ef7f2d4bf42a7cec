"""The configuration: its keys, defaults and ranges. It is read from HOCON, and checked completely before any work.

The dataclasses below define the defaults; setup.conf repeats them and explains every key.
"""

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from typing_extensions import TypeVar

from phase_recon.utils.build import build
from phase_recon.utils.errors import UserError
from phase_recon.utils.hocon import merge, parse, read_file, write
from phase_recon.utils.overrides import Override, meant_key


def _require(*rules: tuple[bool, str]) -> None:
    """Raise a ValueError with one line for each rule that does not hold."""
    broken = [text for holds, text in rules if not holds]
    if broken:
        raise ValueError("\n".join(broken))


def _is_path(text: str | None) -> bool:
    """Whether it can name a file at all, or is None."""
    return text is None or (text != "" and "\0" not in text)


@dataclass(frozen=True)
class LearningRate:
    """The schedule of the learning rate, with IGR's key names.

    Step: Initial, times Factor after every Interval steps. Cosine: from Initial to Final along half a cosine wave; a
    run of more than Restart steps has a warm restart there. The rate rises from 0 in the share Warmup of the wave.
    Initial = None means that the noise of the cloud sets it.

    Raises:
        ValueError: a line "key: what is wrong" for each key that is missing, has no meaning or is out of range.
    """

    Type: Literal["Step", "Cosine"]
    Initial: float | None = None
    Interval: int | None = None
    Factor: float | None = None
    Final: float | None = None
    Restart: int | None = None
    Warmup: float | None = None

    def __post_init__(self) -> None:
        initial, interval, factor, final, restart = self.Initial, self.Interval, self.Factor, self.Final, self.Restart
        warmup = self.Warmup
        step, most = self.Type == "Step", math.inf if initial is None else initial
        _require(
            (initial is None or initial > 0, f"Initial: expected more than 0, got {initial}"),
            (not step or initial is not None, "Initial: missing; Step begins with it"),
            (not step or interval is not None, "Interval: missing; Step lowers the rate at every Interval"),
            (not step or factor is not None, "Factor: missing; Step multiplies the rate by Factor"),
            (not step or final is None, "Final: has no meaning for Step; remove it"),
            (not step or restart is None, "Restart: has no meaning for Step; remove it"),
            (not step or warmup is None, "Warmup: has no meaning for Step; remove it"),
            (step or final is not None, "Final: missing; Cosine ends at Final"),
            (step or interval is None, "Interval: has no meaning for Cosine; remove it"),
            (step or factor is None, "Factor: has no meaning for Cosine; remove it"),
            (interval is None or interval >= 1, f"Interval: expected at least 1 step, got {interval}"),
            (factor is None or 0 < factor <= 1, f"Factor: expected more than 0, at most 1, got {factor}"),
            (final is None or 0 <= final <= most, f"Final: expected 0 to Initial, got {final}"),
            (restart is None or restart >= 1, f"Restart: expected at least 1 step, got {restart}"),
            (warmup is None or 0 <= warmup < 1, f"Warmup: expected a share from 0 to below 1, got {warmup}"),
        )


@dataclass(frozen=True)
class TrainConfig:
    """The section ``train``: the data, its preprocessing, the training and what is saved during it.

    Attributes:
        schedules: the number of entries of ``learning_rate_schedule``.

    Raises:
        ValueError: a line "key: what is wrong" for each value out of range.
    """

    schedules: ClassVar[int] = 1

    expname: str | None = None
    exps_dir: str | None = None
    input_path: str | None = None
    sample: int | None = None
    d_in: int | None = None
    drop_invalid: bool = False
    crop: tuple[float | None, ...] | None = None
    voxel: float | None = None
    classes: tuple[int, ...] | None = None
    min_opacity: float | None = None
    sensor: tuple[float, ...] | None = None
    stations: str | None = None
    seed: int = 0
    nepoch: int = 1000
    time_budget: float | None = None
    points_batch: int = 1024
    pts_per_ball: int = 1
    ball_sigma: float = 0.0
    pts_in_omega: int = 1024
    bounding_box_scale: float = 1.5
    drop_outliers: bool = True
    smooth_points: bool = True
    estimate_normals: bool = True
    weigh_by_area: bool = True
    find_creases: bool = True
    fill_openings: bool = True
    ease_gaps: bool = True
    hold_gaps: bool = True
    detail: bool = True
    start: Literal["winding", "network"] = "winding"
    optimizer: Literal["adam", "muon"] = "muon"
    momentum: float | None = None
    learning_rate_schedule: tuple[LearningRate, ...] = (LearningRate("Cosine", Final=2e-5, Restart=5000, Warmup=0.05),)
    weight_decay: float = 0.0
    clip_gradient: float | None = None
    network_class: str = "model.network.ImplicitNet"
    status_frequency: int = 50
    checkpoint_frequency: int = 500
    checkpoint_minutes: float | None = None
    plot_frequency: int = 1000
    tensorboard: bool = False
    mend: bool = True
    compile: bool = True
    bfloat16: bool = True
    on_save_error: Literal["stop", "continue"] = "stop"

    def __post_init__(self) -> None:
        name, budget, clip, ball = self.expname, self.time_budget, self.clip_gradient, self.ball_sigma
        schedules, minutes, kept = len(self.learning_rate_schedule), self.checkpoint_minutes, self.momentum
        is_folder = name is None or (bool(name.strip()) and name not in (".", "..") and not re.search(r"[/\\\0]", name))
        sample = self.sample
        ends, voxel, opacity = self.crop or (), self.voxel, self.min_opacity
        sides = zip(ends[::2], ends[1::2], strict=False)
        in_order = all(low is None or high is None or low < high for low, high in sides)
        read = [key for key in ("crop", "voxel", "classes", "min_opacity", "sensor", "stations")
                if getattr(self, key) not in (None, ())]
        entries = {1: "exactly one entry", 2: "two entries, for the network and for the latent codes"}[self.schedules]
        _require(
            (is_folder, f"expname: expected a folder's name without / or \\, got {name!r}"),
            (_is_path(self.exps_dir), f"exps_dir: expected a folder or null, got {self.exps_dir!r}"),
            (_is_path(self.input_path), f"input_path: expected a file or null, got {self.input_path!r}"),
            (sample is None or sample >= 10, f"sample: expected at least 10 points or null, got {sample}"),
            (sample is None or not read, f"sample: has no meaning with {', '.join(read)}; leave one of them out"),
            (self.d_in in (None, 2, 3), f"d_in: expected 2, 3 or null, got {self.d_in}"),
            (self.crop is None or len(ends) in (4, 6), f"crop: expected 4 or 6 ends, or null, got {len(ends)}"),
            (in_order, "crop: expected each lower end below its upper one"),
            (voxel is None or voxel > 0, f"voxel: expected more than 0 or null, got {voxel}"),
            (opacity is None or 0 <= opacity <= 1, f"min_opacity: expected 0 to 1 or null, got {opacity}"),
            (self.sensor is None or len(self.sensor) in (2, 3), f"sensor: expected 3 coordinates, got {self.sensor}"),
            (_is_path(self.stations), f"stations: expected a file or null, got {self.stations!r}"),
            (not (self.sensor and self.stations), "sensor: one or the other, this or stations; leave one of them out"),
            (0 <= self.seed < 2**63, f"seed: expected 0 to 2^63 - 1, got {self.seed}"),
            (budget is None or budget > 0, f"time_budget: expected more than 0 minutes, got {budget}"),
            *(self._at_least(1, key) for key in ("nepoch", "points_batch", "pts_per_ball", "pts_in_omega")),
            (ball >= 0, f"ball_sigma: expected at least 0, got {ball}"),
            self._at_least(0, "weight_decay"),
            self._at_least(1, "bounding_box_scale"),
            (kept is None or 0 <= kept < 1, f"momentum: expected 0 to below 1 or null, got {kept}"),
            (schedules == self.schedules, f"learning_rate_schedule: expected {entries}, got {schedules}"),
            (minutes is None or minutes > 0, f"checkpoint_minutes: expected more than 0 or null, got {minutes}"),
            (clip is None or clip > 0, f"clip_gradient: expected more than 0 or null, got {clip}"),
            *(self._at_least(0, f"{kind}_frequency") for kind in ("status", "checkpoint", "plot")),
        )

    def _at_least(self, lowest: int, key: str) -> tuple[bool, str]:
        value = getattr(self, key)
        return value >= lowest, f"{key}: expected at least {lowest}, got {value}"


LEAST_RESOLUTION = 256  # cells of the grid where plot.resolution is null, at least,
MOST_RESOLUTION = 1024  # and at most: a finer grid would take minutes


@dataclass(frozen=True)
class PlotConfig:
    """The section ``plot``: how the surface is extracted, and what is written.

    Raises:
        ValueError: a line "key: what is wrong" for each value out of range.
    """

    resolution: int | None = None
    mc_value: float = 0.0
    is_uniform_grid: bool = True
    verbose: bool = False
    save_html: bool = True
    save_ply: bool = True
    mesh_format: Literal["ply", "obj", "stl", "glb"] = "ply"
    curve_format: Literal["ply", "svg", "npz"] = "ply"
    allow_open: bool = False
    overwrite: bool = True
    trim: float | Literal["auto", "open", "closed"] = "auto"
    keep_components: int | None = None
    least_component: float = 0.01
    preview_resolution: int = 64
    up: Literal["y", "z"] = "z"

    @property
    def expects_open(self) -> bool:
        """Whether the cloud is said to be open, so that a surface that leaves Ω is no failure."""
        return self.allow_open or self.trim not in ("auto", "closed")

    def __post_init__(self) -> None:
        keep, preview, cells, trim = self.keep_components, self.preview_resolution, self.resolution, self.trim
        _require(
            (cells is None or 8 <= cells <= 2048, f"resolution: expected 8 to 2048 or null, got {cells}"),
            (-1 < self.mc_value < 1, f"mc_value: expected a level between -1 and 1, got {self.mc_value}"),
            (isinstance(trim, str) or trim > 0, f"trim: expected more than 0, auto, open or closed, got {trim}"),
            (keep is None or keep >= 1, f"keep_components: expected at least 1 or null, got {keep}"),
            (0 <= self.least_component <= 1, f"least_component: expected 0 to 1, got {self.least_component}"),
            (8 <= preview <= 2048, f"preview_resolution: expected 8 to 2048, got {preview}"),
        )


@dataclass(frozen=True)
class SamplerProperties:
    """The section ``network.sampler.properties``: the density of the points in Ω.

    Raises:
        ValueError: a line "key: what is wrong" for each value out of range.
    """

    near_fraction: float = 0.5
    near_width: float = 0.1

    def __post_init__(self) -> None:
        share, width = self.near_fraction, self.near_width
        _require(
            (0 <= share < 1, f"near_fraction: expected 0 to less than 1, got {share}"),
            (width > 0, f"near_width: expected more than 0, got {width}"),
        )


@dataclass(frozen=True)
class SamplerConfig:
    """The section ``network.sampler``: how the points in Ω are drawn."""

    sampler_type: Literal["Uniform", "NearData"] = "NearData"
    properties: SamplerProperties = SamplerProperties()


@dataclass(frozen=True)
class NetworkConfig:
    """The section ``network``: the network, its loss and its sampler.

    The keys of ``inputs`` and ``loss`` are the parameters of the classes that train.network_class and loss.type name.
    They are checked when these are built.

    Raises:
        ValueError: loss.type is no text.
    """

    has_normals: bool = False
    output: Literal["u", "w"] = "w"
    inputs: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    sampler: SamplerConfig = SamplerConfig()

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", {"type": "phase", **self.loss})
        kind = self.loss["type"]
        _require((isinstance(kind, str), f"loss: expected type to name a loss, such as phase, got {kind!r}"))


@dataclass(frozen=True)
class Config:
    """The whole configuration.

    ``warnings`` holds at most one line, with the given keys of related programs that have no meaning here.

    Attributes:
        sections: the classes of the sections.
        idle: keys of configurations of IGR and its forks that have no meaning here, with the reason.
    """

    sections: ClassVar[Mapping[str, type]] = {"train": TrainConfig, "plot": PlotConfig, "network": NetworkConfig}
    idle: ClassVar[Mapping[str, str]] = {
        "train.preprocess": "clouds are always centred and scaled",
        "train.dataset": "the data is what input_path names",
        "train.dataset_path": "the data is what input_path names",
        "train.latent_size": "one shape has no latent code",
        "network.sampler.properties.global_sigma": "Ω is the bounding box times bounding_box_scale",
        "network.sampler.properties.local_sigma": "the points near the data are set by ball_sigma",
        "network.loss.normals_lambda": "the normal term's weight is mu",
        "network.loss.latent_lambda": "one shape has no latent code",
    }

    train: TrainConfig = TrainConfig()
    plot: PlotConfig = PlotConfig()
    network: NetworkConfig = field(default_factory=NetworkConfig)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dicts, lists and scalars with the file's key names; ``config_from_dict`` reads it."""
        sections = asdict(self)
        del sections["warnings"]
        train = sections["train"]
        train["learning_rate_schedule"] = [
            {key: value for key, value in entry.items() if value is not None or key == "Initial"}  # which may be open
            for entry in train["learning_rate_schedule"]
        ]
        return sections


OR_NULL = re.compile(",? or null")  # in what a key expects; a flag is left out instead
Kind = TypeVar("Kind", bound=Config, default=Config)  # of configuration
Checks = Callable[[Any, list[str]], None]


def load_config(
    path: Path,
    overrides: Sequence[str | Override] = (),
    checks: Checks | None = None,
    kind: type[Kind] = Config,  # type: ignore[assignment]
) -> Kind:
    """Read a configuration file and check it completely.

    Args:
        path: HOCON file.
        overrides: HOCON texts such as ``train.seed=3``, which replace values of the file, in this order.
            Errors call them --set, but for an ``Override``, which names its flag.
        checks: a function of the configuration and a list, to which it appends further problems, in the form that
            ``build`` uses. Values that are wrong already have been replaced by defaults then.
        kind: the class of the configuration, whose fields are the keys.

    Raises:
        UserError: the file cannot be read or is not HOCON, or a list of all problems in it.
    """
    document = parse(read_file(path), str(path))
    lines = {key: f"line {line}" for key, line in document.lines.items()}
    tree, places = _with_overrides(kind, document.tree, overrides, "--set")
    tree, idle = _without_family_keys(tree, kind.idle)
    idle += _without_idle_skips(tree)
    warnings = (f"{path}: keys without meaning here: {'; '.join(idle)}",) if idle else ()
    return _checked(kind, tree, str(path), warnings, lines | places, checks)


def config_from_dict(
    tree: Mapping[str, Any],
    source: str = "checkpoint",
    kind: type[Kind] = Config,  # type: ignore[assignment]
) -> Kind:
    """The configuration of a kind from nested dicts as its ``to_dict`` gives them; ``source`` names them in errors.

    Raises:
        UserError: a key is unknown, or a value has a wrong type or is out of range.
    """
    return _checked(kind, tree, source)


def override(
    tree: Mapping[str, Any],
    overrides: Sequence[str | Override],
    checks: Checks | None = None,
    source: str = "checkpoint",
    place: str = "--set",
    kind: type[Kind] = Config,  # type: ignore[assignment]
) -> Kind:
    """The configuration from nested dicts, with HOCON texts that replace values of it.

    Args:
        tree: nested dicts as ``Config.to_dict`` gives them.
        overrides: the texts, in their order.
        checks: as for ``load_config``.
        source: the name of the dicts in errors.
        place: the name of the texts in errors; empty if all keys come from them.
        kind: the class of the configuration.

    Raises:
        UserError: as ``load_config``.
    """
    merged, places = _with_overrides(kind, tree, overrides, place)
    return _checked(kind, merged, source, (), places, checks)


def differences(config: Config, other: Config) -> dict[str, Any]:
    """The values of ``other`` that differ from those of ``config``, by dotted key."""

    def flat(tree: Mapping[str, Any], above: str) -> dict[str, Any]:
        parts = [
            flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
            for key, value in tree.items()
        ]
        return {key: value for part in parts for key, value in part.items()}

    before, now = flat(config.to_dict(), ""), flat(other.to_dict(), "")
    return {key: now.get(key) for key in {**before, **now} if before.get(key) != now.get(key)}


def to_hocon(config: Config) -> str:
    """The whole configuration as HOCON text, which ``load_config`` reads back equal."""
    return write(config.to_dict())


def _with_overrides(
    kind: type[Config], tree: Mapping[str, Any], overrides: Sequence[str | Override], place: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The tree with values replaced by HOCON texts, in order; and for each of their keys, ``place`` or its flag."""
    merged, places = dict(tree), dict[str, str]()
    for item in overrides:
        text, where = item if isinstance(item, Override) else (item, place)
        source = f"{where} {text!r}".strip()
        if where == "--set" and not re.search("[={:]", text):
            raise UserError(f"{source}: expected KEY=VALUE, such as --set train.seed=3")
        given = parse(text, source)
        if not given.tree:
            raise UserError(f"{source}: expected KEY=VALUE, such as --set train.seed=3")
        for key in given.lines:
            section = any(other.startswith((f"{key}.", f"{key}[")) for other in given.lines)
            if not section and key not in kind.idle and (meant := meant_key(key, tree, kind.sections)):
                raise UserError(f"{source}: unknown key; did you mean {meant}?")
        merged = merge(merged, given.tree)
        places |= dict.fromkeys(given.lines, where)
    return merged, places


def _checked(
    kind: type[Kind],
    tree: Mapping[str, Any],
    source: str,
    warnings: tuple[str, ...] = (),
    places: Mapping[str, str] | None = None,
    checks: Checks | None = None,
) -> Kind:
    problems: list[str] = []
    config = build(kind, tree, "", problems, warnings=warnings)
    if config is not None and checks is not None:
        checks(config, problems)
    if config is None or problems:
        raise _error(source, problems, places or {})
    return config


def _error(source: str, problems: Sequence[str], places: Mapping[str, str]) -> UserError:
    """One error with all problems, each with its line in the file where that is known."""
    texts = []
    for problem in problems:
        key = re.split(": | = ", problem)[0]
        place = places.get(key) or places.get(key.split("[")[0])
        if place and place.startswith("--") and place != "--set":  # a flag needs no key beside it, and has no null
            texts.append(place + OR_NULL.sub("", problem.removeprefix(key)))
        else:
            texts.append(f"{place}: {problem}" if place else problem)
    if len(texts) == 1:  # the command line's own mistake is not the file's
        return UserError(texts[0] if texts[0].startswith("--") else f"{source}: {texts[0]}")
    return UserError(f"{source}: {len(texts)} problems in the configuration", *texts)


def _without_family_keys(
    tree: dict[str, Any], idle_keys: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """The tree without idle keys, and a text for each one that was in it, with the reason."""
    tree = copy.deepcopy(tree)
    is_phase = _section(tree, "network.loss").get("type", "phase") == "phase"
    idle = []
    for path, reason in idle_keys.items():
        parent, _, key = path.rpartition(".")
        section = _section(tree, parent)
        if key in section and (is_phase or parent != "network.loss"):  # another loss may have such a weight
            del section[key]
            idle.append(f"{path} ({reason})")
    sampler = _section(tree, "network.sampler")
    if sampler.get("sampler_type") == "NormalPerPoint":
        sampler["sampler_type"] = "Uniform"
        reason = "read as Uniform: the family's PHASE drew Ω uniformly whatever it said"
        if not is_phase:
            reason = "read as Uniform: points about the data are drawn where the loss asks for them"
        idle.append(f"network.sampler.sampler_type = NormalPerPoint ({reason})")
    return tree, idle


def _without_idle_skips(tree: dict[str, Any]) -> list[str]:
    """Remove skips into layers that there are none of, as IGR's code never comes to them; a text for each of them."""
    inputs = _section(tree, "network.inputs")
    dims, skips = inputs.get("dims"), inputs.get("skip_in")
    if not isinstance(dims, list) or not isinstance(skips, list) or not all(type(i) is int for i in skips):
        return []
    idle = [i for i in skips if i > len(dims)]
    inputs["skip_in"] = [i for i in skips if i not in idle]
    return [f"network.inputs.skip_in = {i} (the output is layer {len(dims)}, the last)" for i in idle]


def _section(tree: dict[str, Any], path: str) -> dict[str, Any]:
    """The section at a dotted path; an empty one if there is none."""
    for name in path.split("."):
        below = tree.get(name)
        tree = below if isinstance(below, dict) else {}
    return tree
