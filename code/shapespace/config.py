"""The configuration of a shape space: that of a single shape, in the same words, and what many shapes need besides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import torch

from phase_recon.reconstruction.adapt import adapt
from phase_recon.reconstruction.build_model import build_model
from phase_recon.utils.config import Config, LearningRate, NetworkConfig, PlotConfig, TrainConfig
from phase_recon.utils.config_files import config_from_dict, load_config, override
from phase_recon.utils.errors import raise_problems
from phase_recon.utils.locations import PACKAGE, find_configuration
from phase_recon.utils.overrides import Override

SETUP = PACKAGE / "shapespace" / "setup.conf"  # explains what setup.conf does not
RATES = (LearningRate("Cosine", 4e-3, Final=2e-5), LearningRate("Cosine", 1e-2, Final=1e-4))
LATENT_LAMBDA = 1e-3  # weight of the mean length of the codes (Gropp et al. 2020)
# keys that a single shape has, and the only value that they can have here
FIXED = {"start": "network", "plot_frequency": 0, "sensor": None, "stations": None} | dict.fromkeys(
    ("fill_openings", "ease_gaps", "hold_gaps", "keep_hollows", "detail", "mend"), False
)


@dataclass(frozen=True)
class SpaceTrain(TrainConfig):
    """What is fitted, for how long and how; shapes_batch, points_batch and pts_in_omega are of a step."""

    schedules: ClassVar[int] = 2

    expname: str = "shapespace"
    nepoch: int = 4000
    points_batch: int = 128
    pts_in_omega: int = 128
    start: Literal["winding", "network"] = "network"
    fill_openings: bool = False
    ease_gaps: bool = False
    hold_gaps: bool = False
    keep_hollows: bool = False
    detail: bool = False
    mend: bool = False
    plot_frequency: int = 0
    learning_rate_schedule: tuple[LearningRate, ...] = RATES
    data_split: str | None = None
    latent_size: int = 32
    shapes_batch: int = 16
    fit_steps: int = 400
    fit_rate: float = 0.01
    refine_steps: int = 0

    def __post_init__(self) -> None:
        problems = []
        try:
            super().__post_init__()
        except ValueError as error:
            problems = str(error).splitlines()
        for key in ("latent_size", "shapes_batch", "fit_steps"):
            if getattr(self, key) < 1:
                problems.append(f"{key}: expected at least 1, got {getattr(self, key)}")
        if self.refine_steps < 0:
            problems.append(f"refine_steps: expected 0 or more, got {self.refine_steps}")
        if not self.fit_rate > 0:
            problems.append(f"fit_rate: expected more than 0, got {self.fit_rate}")
        for key, value in FIXED.items():
            if getattr(self, key) != value:
                problems.append(f"{key}: has no meaning for many shapes; remove it")
        for entry in self.learning_rate_schedule:
            if entry.Initial is None:
                problems.append("learning_rate_schedule: Initial: expected a number; many shapes leave none open")
        raise_problems(problems)


@dataclass(frozen=True)
class SpaceNetwork(NetworkConfig):
    """The field, its loss and its samples; ``loss`` has latent_lambda besides the loss's own keys."""

    has_normals: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        weight = self.loss.get("latent_lambda", LATENT_LAMBDA)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
            raise ValueError(f"loss: expected latent_lambda of 0 or above, got {weight!r}")


@dataclass(frozen=True)
class SpacePlot(PlotConfig):
    """How surfaces are extracted; the space knows what closes them where a cloud shows nothing."""

    trim: float | Literal["auto", "open", "closed"] = "closed"

    def __post_init__(self) -> None:
        super().__post_init__()
        of_previews = (("preview_resolution", PlotConfig().preview_resolution), ("verbose", PlotConfig().verbose))
        changed = (key for key, value in of_previews if getattr(self, key) != value)
        raise_problems(f"{key}: has no meaning for many shapes; remove it" for key in changed)


@dataclass(frozen=True)
class SpaceConfig(Config):
    """The whole configuration of a shape space."""

    sections: ClassVar[Mapping[str, type]] = {
        **Config.sections, "train": SpaceTrain, "plot": SpacePlot, "network": SpaceNetwork,
    }  # fmt: skip
    idle: ClassVar[Mapping[str, str]] = {
        key: reason for key, reason in Config.idle.items() if "latent" not in key
    }

    train: SpaceTrain = SpaceTrain()
    plot: SpacePlot = SpacePlot()
    network: SpaceNetwork = field(default_factory=SpaceNetwork)

    @property
    def latent_lambda(self) -> float:
        """The weight of the mean length of the codes."""
        return float(self.network.loss.get("latent_lambda", LATENT_LAMBDA))

    @property
    def single(self) -> Config:
        """What one of the shapes is prepared, drawn and built by."""
        train = {item.name: getattr(self.train, item.name) for item in fields(TrainConfig)}
        train["learning_rate_schedule"] = self.train.learning_rate_schedule[:1]
        loss = {key: value for key, value in self.network.loss.items() if key != "latent_lambda"}
        network = {item.name: getattr(self.network, item.name) for item in fields(NetworkConfig)}
        plot = PlotConfig(**{item.name: getattr(self.plot, item.name) for item in fields(PlotConfig)})
        return Config(TrainConfig(**train), plot, NetworkConfig(**{**network, "loss": loss}))


def adapted(config: SpaceConfig, spacing: float, noise: float) -> SpaceConfig:
    """The configuration with values by the shapes for momentum and Fourier features, where left open; see ``adapt``."""
    single = adapt(config.single, spacing, noise)
    train = replace(config.train, momentum=single.train.momentum)
    return replace(config, train=train, network=replace(config.network, inputs=single.network.inputs))


def check_space(config: SpaceConfig, problems: list[str]) -> None:
    """Append what is wrong with the configured network and loss; nothing of their size is allocated."""
    with torch.device("meta"):
        build_model(config.single, config.train.d_in or 3, problems, config.train.latent_size)


def load_space_config(name: str, overrides: Sequence[str | Override]) -> SpaceConfig:
    """The configuration of a file, as given or found as by run.py, with HOCON texts merged over it.

    Raises:
        UserError: as ``load_config``.
    """
    return load_config(find_configuration(name), overrides, check_space, SpaceConfig)


def space_config_from_dict(tree: Mapping[str, Any], source: str) -> SpaceConfig:
    """The configuration that a checkpoint holds; ``source`` names it in errors."""
    return config_from_dict(tree, source, SpaceConfig)


def override_space(tree: Mapping[str, Any], overrides: Sequence[str | Override]) -> SpaceConfig:
    """The configuration that a checkpoint holds, with HOCON texts merged over it."""
    return override(tree, overrides, check_space, "checkpoint", "--set", SpaceConfig)
