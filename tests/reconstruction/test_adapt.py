"""Values that are left open follow from the cloud's spacing and noise: features, momentum, learning rate."""

from dataclasses import replace

import pytest

from conftest import TINY
from phase_recon.reconstruction.adapt import adapt, most_frequencies
from phase_recon.reconstruction.build_model import check_model
from phase_recon.utils.config_files import load_config


def configured(*keys):
    return load_config(TINY, ("train.estimate_normals=true", *keys), check_model)


@pytest.mark.parametrize(
    ("reach", "k"),
    [
        (0.0, 6),
        (0.0416, 6),  # their shortest wave is 4/32 = 0.125, not less than 3 · 0.0416 = 0.1248
        (0.0418, 5),
        (0.1, 4),  # 4/8 = 0.5 spans 0.3, 4/16 does not
        (0.4, 2),
        (9.0, 2),
    ],
)
def test_as_many_fourier_features_as_the_spacing_bears(reach, k):
    config = configured("network.inputs.use_FFM=true", "train.momentum=0.9")
    rest = adapt(config, reach, 0.0)
    assert rest.network.inputs["k"] == k
    assert adapt(config, reach, 1e-4) == adapt(config, 4 * reach, 0.0)  # two fewer
    assert most_frequencies(config, reach) == k
    assert replace(rest, network=replace(rest.network, inputs=config.network.inputs)) == config


def test_a_number_of_fourier_features_that_is_given_stays():
    config = configured("network.inputs.k=3", "train.momentum=0.9")
    assert adapt(config, 0.0, 0.0) == config
    assert most_frequencies(config, 0.0) == 0
    assert most_frequencies(configured("network.inputs.use_FFM=false"), 0.0) == 0


def test_the_momentum_is_by_the_noise_unless_it_is_given():
    asked = [configured(), configured("train.momentum=0.9")]
    assert [adapt(config, 0.1, noise).train.momentum for config in asked for noise in (0.0, 1e-4)] == [
        0.99, 0.95, 0.9, 0.9
    ]  # fmt: skip


def test_the_learning_rate_is_by_the_noise_unless_it_is_given():
    """0.002 up to a noise of 0.0019, and then as much less as there is more, down to 0.0013."""

    def initial(config, noise):
        return adapt(config, 0.1, noise).train.learning_rate_schedule[0].Initial

    config = configured("train.learning_rate_schedule=[{Type=Cosine, Final=0.00002, Restart=9}]")
    rates = [initial(config, noise) for noise in (0.0, 0.001, 0.0019, 0.0038 / 1.5, 0.0038, 1.0)]
    assert rates == pytest.approx([0.002, 0.002, 0.002, 0.0015, 0.0013, 0.0013])
    schedule = adapt(config, 0.1, 1.0).train.learning_rate_schedule[0]
    assert (schedule.Type, schedule.Final, schedule.Restart) == ("Cosine", 2e-5, 9)
    asked = configured("train.learning_rate_schedule=[{Type=Cosine, Initial=0.01, Final=0.00002}]")
    assert initial(asked, 1.0) == 0.01


def test_a_network_without_fourier_features_gets_none():
    sines = ("train.network_class=model.siren.SirenNet", "network.inputs=null", "network.inputs={dims:[8,8]}")
    config = configured(*sines, "train.momentum=0.9")
    assert adapt(config, 0.1, 0.0) == config


