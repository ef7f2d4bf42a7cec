"""Momentum, learning rate and Fourier features by the noise and the spacing, where the configuration has null."""

import inspect
from dataclasses import replace

import numpy as np

from phase_recon.model.loss.phase import certainty
from phase_recon.model.optimizer import MOMENTUM
from phase_recon.utils.build import find_class
from phase_recon.utils.config import Config

FEWEST_FREQUENCIES = 2  # k of the Fourier features, at least
MOST_FREQUENCIES = 6  # and at most, as published
WAVE = 3.0  # × spacing: the shortest wave of the features spans at least this, or it would follow each point
NOISY_WAVE = 12.0  # the same where there is noise, unless the network then misses the coarse start
NOISE_FREE_MOMENTUM = 0.99  # Muon's where there is no noise: it comes nearer in as many steps
RATE = 0.002  # the learning rate at the start
LEAST_RATE = 0.65  # × RATE: what is left of it where there is much noise, in which a higher one loses what is thin
LEAST_SPACING = 1e-9  # where all points are in few places


def adapt(config: Config, spacing: float, noise: float) -> Config:
    """The configuration with values by the cloud for momentum, learning rate and Fourier features, where left open.

    Args:
        config: any.
        spacing: of the cloud, normalised.
        noise: standard deviation of the points that are trained on about the surface; 0 where they show none.
    """
    if config.train.momentum is None:
        config = replace(config, train=replace(config.train, momentum=MOMENTUM if noise else NOISE_FREE_MOMENTUM))
    (schedule,) = config.train.learning_rate_schedule
    if schedule.Initial is None:
        initial = max(RATE * max(certainty(noise), LEAST_RATE), schedule.Final or 0.0)
        schedule = replace(schedule, Initial=initial)
        config = replace(config, train=replace(config.train, learning_rate_schedule=(schedule,)))
    if not leaves_frequencies_open(config):
        return config
    return with_frequencies(config, _frequencies(NOISY_WAVE if noise else WAVE, spacing))


def most_frequencies(config: Config, spacing: float) -> int:
    """The most frequencies of the Fourier features that a noisy cloud may be given; 0 where none is to be chosen."""
    has_features = config.network.inputs.get("use_FFM", True)
    return _frequencies(WAVE, spacing) if has_features and leaves_frequencies_open(config) else 0


def leaves_frequencies_open(config: Config) -> bool:
    """Whether the network takes a number of frequencies, and none is given."""
    inputs = config.network.inputs
    parameters = inspect.signature(find_class(config.train.network_class)).parameters
    return "k" in parameters and inputs.get("k") is None


def _frequencies(wave: float, spacing: float) -> int:
    """As many frequencies as the shortest wave, 4 / 2^(k-1), spans so many spacings."""
    k = np.floor(np.log2(4 / (wave * max(spacing, LEAST_SPACING)))) + 1
    return int(np.clip(k, FEWEST_FREQUENCIES, MOST_FREQUENCIES))


def with_frequencies(config: Config, k: int | None) -> Config:
    """The configuration with k frequencies of the Fourier features; None leaves them open."""
    return replace(config, network=replace(config.network, inputs={**config.network.inputs, "k": k}))
