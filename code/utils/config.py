"""The configuration: its keys, defaults and ranges, which ``utils.config_files`` reads and checks before any work.

The dataclasses below define the defaults; setup.conf repeats them and explains every key.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from phase_recon.utils.errors import raise_problems


def _require(*rules: tuple[bool, str]) -> None:
    """Raise a ValueError with one line for each rule that does not hold."""
    raise_problems(text for holds, text in rules if not holds)


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
    nepoch: int = 1500
    time_budget: float | None = None
    points_batch: int = 256
    pts_per_ball: int = 1
    ball_sigma: float = 0.0
    pts_in_omega: int = 256
    bounding_box_scale: float = 1.5
    drop_outliers: bool = True
    smooth_points: bool = True
    estimate_normals: bool = True
    weigh_by_area: bool = True
    find_creases: bool = True
    fill_openings: bool = True
    ease_gaps: bool = True
    hold_gaps: bool = True
    keep_hollows: bool = True
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
    plot_frequency: int = 1500
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
            (self.crop is None or len(ends) in (4, 6),
             f"crop: expected 4 or 6 ends, or null, got {len(ends)}: {list(ends)}"),
            (in_order, "crop: expected each lower end below its upper one"),
            (voxel is None or voxel > 0, f"voxel: expected more than 0 or null, got {voxel}"),
            (opacity is None or 0 <= opacity <= 1, f"min_opacity: expected 0 to 1 or null, got {opacity}"),
            (self.sensor is None or len(self.sensor) in (2, 3),
             f"sensor: expected 2 or 3 coordinates, got {self.sensor}"),
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
FINEST_GRID = 2048  # cells that one may ask for


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
            (
                cells is None or 8 <= cells <= FINEST_GRID,
                f"resolution: expected 8 to {FINEST_GRID} or null, got {cells}",
            ),
            (-1 < self.mc_value < 1, f"mc_value: expected a level between -1 and 1, got {self.mc_value}"),
            (isinstance(trim, str) or trim > 0, f"trim: expected more than 0, auto, open or closed, got {trim}"),
            (keep is None or keep >= 1, f"keep_components: expected at least 1 or null, got {keep}"),
            (0 <= self.least_component <= 1, f"least_component: expected 0 to 1, got {self.least_component}"),
            (
                8 <= preview <= FINEST_GRID,
                f"preview_resolution: expected 8 to {FINEST_GRID}, got {preview}",
            ),
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
