"""Encodings against their formulae and automatic differentiation."""

import math

import pytest
import torch

from phase_recon.model.encodings import FourierFeatureMapping


def points(*shape, seed=1):
    return 3 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.5


@pytest.mark.parametrize(("d", "k"), [(2, 1), (3, 1), (2, 6), (3, 6)])
def test_fourier_features_raw_x_first_then_waves(d, k):
    mapping = FourierFeatureMapping(k)
    x = points(4, d)
    features = mapping.double()(x)
    assert features.shape[-1] == d * (1 + 2 * k)
    torch.testing.assert_close(features[:, :d], x, rtol=0, atol=0)
    for point, row in zip(x.tolist(), features.tolist(), strict=True):
        angles = [2**j * math.pi / 2 * c for j in range(k) for c in point]
        waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert row[d:] == pytest.approx(waves, abs=1e-5)  # the frequencies were made in single precision


def test_no_period_of_the_features_fits_inside_the_domain():
    """Ω is at most 3 wide in 3D and 4 in 2D: no shift below 4 may bring all the waves back."""
    mapping = FourierFeatureMapping(6)
    assert 2 * math.pi / mapping.frequencies.min().item() >= 4 - 1e-6
    x = points(50, 1)
    waves = mapping(x)[:, 1:]
    for shift in torch.arange(0.25, 4.0, 0.25).tolist():
        assert (mapping(x + shift)[:, 1:] - waves).abs().amax(-1).min() > 0.1


@pytest.mark.parametrize("d", [2, 3])
def test_pull_back_is_the_chain_rule(d):
    mapping = FourierFeatureMapping(4).double()
    x = points(3, 5, d).requires_grad_(True)
    features = mapping(x)
    outer = points(*features.shape, seed=2)
    (expected,) = torch.autograd.grad((features * outer).sum(), x)
    torch.testing.assert_close(mapping.pull_back(features.detach(), outer), expected)


def test_no_frequency_is_refused():
    with pytest.raises(ValueError, match="k: must be at least 1, got 0"):
        FourierFeatureMapping(0)
