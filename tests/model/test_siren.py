"""The sine network against automatic differentiation, its starts against their publications' distributions."""

import math

import pytest
import torch

from phase_recon.model.base import derivative, value_and_gradient
from phase_recon.model.siren import SirenNet

STARTS = ["siren", "geometric", "multifrequency"]


def network(d, dims=(32, 32, 32), seed=0, **options):
    torch.manual_seed(seed)
    return SirenNet(d, dims, **options).double()


def points(*shape, seed=1):
    return 3 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.5


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("init", STARTS)
def test_fast_value_and_gradient_equal_automatic_differentiation(d, init):
    net, x = network(d, init=init, omega_0=7.0), points(11, d)
    fast, slow = net.value_and_gradient(x), value_and_gradient(net, x)
    assert fast[0].shape == (11,)
    assert fast[1].shape == (11, d)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    weights = torch.linspace(-1.0, 1.5, d, dtype=torch.float64)
    parameters = list(net.parameters())

    def of(value, gradient):
        total = (value.square() + ((gradient * weights).sum(-1) - 1).square()).sum()
        return torch.autograd.grad(total, parameters)

    torch.testing.assert_close(of(*fast), of(*slow), rtol=1e-8, atol=1e-9)


def test_any_leading_shape():
    net, x = network(2), points(3, 4, 2)
    value, gradient = net.value_and_gradient(x)
    assert (value.shape, gradient.shape) == ((3, 4), (3, 4, 2))
    torch.testing.assert_close(value[1, 2], net(x[1, 2]))


def test_one_unit_by_hand():
    """f = 2 sin(30 (0.1 x - 0.2 y + 0.01)) + 0.5, its gradient and its Laplacian at (0.3, 0.1)."""
    net = network(2, (1,))
    with torch.no_grad():
        net.lin0.weight.copy_(torch.tensor([[0.1, -0.2]]))
        net.lin0.bias.fill_(0.01)
        net.lin1.weight.fill_(2.0)
        net.lin1.bias.fill_(0.5)
    x = torch.tensor([[0.3, 0.1]], dtype=torch.float64, requires_grad=True)
    value, gradient = net.value_and_gradient(x)
    angle = 30 * 0.02
    assert value.item() == pytest.approx(2 * math.sin(angle) + 0.5)
    assert gradient.tolist()[0] == pytest.approx([2 * 3 * math.cos(angle), -2 * 6 * math.cos(angle)])
    laplacian = sum(derivative(gradient[:, i], x)[:, i] for i in (0, 1)).item()
    assert laplacian == pytest.approx(-2 * math.sin(angle) * (3**2 + 6**2))


@pytest.mark.parametrize("d", [2, 3])
def test_the_siren_start_is_uniform_in_the_published_bounds(d):
    first, *others = network(d, (256, 256)).layers()
    for layer, bound in [(first, 1 / d), *((layer, math.sqrt(6 / 256) / 30) for layer in others)]:
        assert layer.weight.abs().max() <= bound * (1 + 1e-6)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_activations_keep_their_distribution_with_depth():
    """Section 3.2 of the publication: without biases, before each sine from the second on, variance one."""
    net, h = network(3, (256,) * 5), points(2000, 3) / 1.5
    for i, layer in enumerate(net.layers()[:-1]):
        z = 30 * h @ layer.weight.T
        assert i == 0 or 0.8 < z.std().item() < 1.2
        h = torch.sin(z)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_geometric_start_is_a_sphere_of_the_derived_radius(d, seed):
    """π² r² / 8 = 1.6² at r = 1.44; inside negative; with slope 0.1 π / √8."""
    net = network(d, (512, 512, 512), seed, init="geometric")
    way = torch.nn.functional.normalize(points(100, d), dim=-1)
    radius = 1.6 * math.sqrt(8) / math.pi
    assert net(0.5 * way).max() < 0
    assert net(0.6 * radius * way).max() < 0
    assert net(1.4 * radius * way).min() > 0
    assert net(radius * way).mean().abs() < 0.01
    rise = (net(1.2 * way) - net(0.8 * way)).mean() / 0.4
    assert rise.item() == pytest.approx(0.1 * math.pi / math.sqrt(8), rel=0.15)


@pytest.mark.parametrize("d", [2, 3])
def test_the_multifrequency_start_is_about_a_sphere_with_fast_waves_in_wait(d):
    net = network(d, (256,) * 5, init="multifrequency")
    way = torch.nn.functional.normalize(points(100, d), dim=-1)
    assert net(0.2 * way).max() < 0
    assert net(1.0 * way).min() > 0
    slow, fast = net.layers()[0].weight.abs().max(dim=1).values.tensor_split([64])
    assert slow.max() <= math.sqrt(3 / d) / 30 * (1 + 1e-6) < fast.median()
    assert fast.max() <= math.sqrt(3 / d) * (1 + 1e-6)
    waiting = net.layers()[1].weight[:, 64:].abs().max()
    assert 0 < waiting < 0.01 * net.layers()[1].weight[:64, :64].abs().max() * 30


def test_matrices_between_hidden_layers():
    net = network(3, (8, 8, 8))
    assert [tuple(w.shape) for w in net.hidden_matrices()] == [(8, 8), (8, 8)]
    assert net.twice_differentiable


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dims": ()}, "dims: expected 1 or more hidden layers with init = siren, each at least 1 wide, got []"),
        ({"dims": (0,)}, "dims: expected 1 or more hidden layers with init = siren, each at least 1 wide, got [0]"),
        (
            {"dims": (8, 8), "init": "multifrequency"},
            "dims: expected 3 or more hidden layers with init = multifrequency, each at least 1 wide, got [8, 8]",
        ),
        ({"dims": (8, 9), "init": "geometric"}, "dims: init = geometric wants all of the same width, got [8, 9]"),
        (
            {"dims": (3, 3, 3), "init": "multifrequency"},
            "dims: init = multifrequency wants at least 4 units in a layer, got [3, 3, 3]",
        ),
        (
            {"omega_0": 0.0, "radius_init": -1.0, "scale_init": 0.0},
            "omega_0: must be above 0, got 0.0\nradius_init: must be above 0, got -1.0\n"
            "scale_init: must be above 0, got 0.0",
        ),
    ],
)
def test_errors_name_the_value(options, text):
    with pytest.raises(ValueError) as caught:
        SirenNet(3, **options)
    assert str(caught.value) == text
