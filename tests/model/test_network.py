"""The network against automatic differentiation, finite differences, and the sphere that it starts as."""

import itertools
import math

import pytest
import torch

from phase_recon.model.base import value_and_gradient
from phase_recon.model.network import ImplicitNet

DIMS = (24,) * 5
SKIPS = [(), (1,), (2, 4), (5,), (1, 5)]  # layer 5 is the output


def network(d, dims=DIMS, seed=0, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    return ImplicitNet(d, dims, **{"use_FFM": False, **options}).to(dtype)


def points(*shape, seed=1):
    return 3 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.5


def loss(value, gradient):
    """Uses both, each point weighted differently, so that no part of either can be mixed up unseen."""
    weights = torch.linspace(0.5, 2.0, len(value), dtype=value.dtype)
    slope = torch.linspace(-1.0, 1.5, gradient.shape[-1], dtype=value.dtype)
    return (weights * (value.square() + ((gradient * slope).sum(-1) - 1).square())).sum()


# value and gradient

OPTIONS = [
    *itertools.product([2, 3], [DIMS], [False, True], SKIPS, [100.0, 0.0]),
    *itertools.product([2, 3], [(7,)], [False, True], [()], [100.0, 0.0]),
    *itertools.product([2, 3], [(17,)], [False, True], [(1,)], [100.0, 0.0]),
]


@pytest.mark.parametrize(("d", "dims", "features", "skip", "beta"), OPTIONS)
def test_fast_value_and_gradient_equal_automatic_differentiation(d, dims, features, skip, beta):
    # ordinary initialisation: the sphere's has zero columns, which would hide a mistake there
    net = network(d, dims, skip_in=skip, beta=beta, use_FFM=features, k=2, geometric_init=False)
    x = points(11, d)
    fast = net.value_and_gradient(x)
    slow = value_and_gradient(net, x)
    assert fast[0].shape == (11,)
    assert fast[1].shape == (11, d)
    torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-12)
    parameters = list(net.parameters())
    of_fast = torch.autograd.grad(loss(*fast), parameters)
    # the last bias shifts the value only, so every parameter is in the reference's graph too
    of_slow = torch.autograd.grad(loss(*slow), parameters)
    torch.testing.assert_close(of_fast, of_slow, rtol=1e-9, atol=1e-11)
    assert all(g.abs().max() > 0 for g in of_fast)


def test_fast_gradient_when_the_loss_uses_the_value_or_the_gradient_alone():
    net = network(2, skip_in=(2,), geometric_init=False)
    x = points(9, 2)
    for part in (0, 1):
        fast = net.value_and_gradient(x)[part].square().sum()
        slow = value_and_gradient(net, x)[part].square().sum()
        weights = [layer.weight for layer in net.layers()]
        torch.testing.assert_close(
            torch.autograd.grad(fast, weights), torch.autograd.grad(slow, weights), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize(
    ("d", "features", "skip", "beta"),
    [(2, True, (2, 4), 100.0), (3, False, (1,), 0.0), (2, True, (3, 5), 100.0)],
)
def test_gradient_in_x_and_in_the_parameters_against_finite_differences(d, features, skip, beta):
    net = network(d, skip_in=skip, beta=beta, use_FFM=features, k=2, geometric_init=False)
    x, h = points(7, d), 1e-6
    with torch.no_grad():
        columns = [(net(x + h * e) - net(x - h * e)) / (2 * h) for e in torch.eye(d, dtype=torch.float64)]
    torch.testing.assert_close(net.value_and_gradient(x)[1], torch.stack(columns, -1), rtol=1e-6, atol=1e-7)

    grads = torch.autograd.grad(loss(*net.value_and_gradient(x)), list(net.parameters()))
    generator = torch.Generator().manual_seed(3)
    ways = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in net.parameters()]

    def moved(step):
        with torch.no_grad():
            for p, way in zip(net.parameters(), ways, strict=True):
                p.add_(step * way)
            return loss(*net.value_and_gradient(x))

    difference = (moved(h) - moved(-2 * h)) / (2 * h)  # from +h to -h
    expected = sum((g * way).sum() for g, way in zip(grads, ways, strict=True))
    torch.testing.assert_close(expected, difference, rtol=1e-5, atol=1e-6)


class LinearEncoding(torch.nn.Module):
    """x A (..., m) with a trainable A (d, m): the simplest encoding whose features require a gradient."""

    def __init__(self, d, m):
        super().__init__()
        self.matrix = torch.nn.Parameter(points(d, m, seed=5))

    def forward(self, x):
        return x @ self.matrix

    def pull_back(self, features, gradient):
        return gradient @ self.matrix.T


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("beta", [100.0, 0.0])
@pytest.mark.parametrize("d", [2, 3])
def test_an_encoding_with_parameters_gets_its_whole_gradient(d, beta, skip):
    """Its features act through the value and the gradient; ``pull_back`` alone would give a part of it."""
    net = network(4, skip_in=skip, beta=beta, geometric_init=False)
    net.embed = LinearEncoding(d, 4)
    x = points(11, d)
    fast, slow = net.value_and_gradient(x), value_and_gradient(net, x)
    torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-12)
    parameters = [net.embed.matrix, *(layer.weight for layer in net.layers())]
    for measure in (loss, lambda value, _: value.square().sum(), lambda _, gradient: gradient.square().sum()):
        of_fast = torch.autograd.grad(measure(*fast), parameters, retain_graph=True)
        of_slow = torch.autograd.grad(measure(*slow), parameters, retain_graph=True)
        torch.testing.assert_close(of_fast, of_slow, rtol=1e-9, atol=1e-11)
        assert of_fast[0].abs().max() > 0


@pytest.mark.parametrize("features", [False, True])
def test_derivatives_that_the_fast_way_does_not_know_are_refused(features):
    """They would be wrong without a word: in x, and a second time in the parameters."""
    net = network(2, use_FFM=features, k=2)
    x = points(5, 2).requires_grad_(True)
    value, gradient = net.value_and_gradient(x)
    for result in (value, gradient):
        with pytest.raises(RuntimeError, match="not have been used in the graph"):
            torch.autograd.grad(result.sum(), x)
    (first,) = torch.autograd.grad(loss(value, gradient), net.lin1.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


@pytest.mark.parametrize("features", [False, True])
def test_leading_dimensions_are_kept(features):
    net = network(3, (16, 16, 16), use_FFM=features, k=2, skip_in=() if features else (1,))
    x = points(2, 3, 4, 3)
    value, gradient = net.value_and_gradient(x)
    assert net(x).shape == value.shape == (2, 3, 4)
    assert gradient.shape == (2, 3, 4, 3)
    torch.testing.assert_close(value.flatten(), net(x.reshape(-1, 3)))
    torch.testing.assert_close(gradient.reshape(-1, 3), net.value_and_gradient(x.reshape(-1, 3))[1])
    one_value, one_gradient = net.value_and_gradient(x[1, 2, 3])
    assert one_value.shape == ()
    torch.testing.assert_close((one_value, one_gradient), (value[1, 2, 3], gradient[1, 2, 3]))


def test_value_and_gradient_of_a_known_field():
    x = points(5, 2)
    value, gradient = value_and_gradient(lambda x: x[..., 0] ** 2 + 3 * x[..., 1], x)
    torch.testing.assert_close(value, x[:, 0] ** 2 + 3 * x[:, 1])
    torch.testing.assert_close(gradient, torch.stack([2 * x[:, 0], torch.full((5,), 3.0).double()], -1))


# layers


def test_layers_are_named_lin_and_nothing_else_is_stored():
    net = network(3, (32, 32, 32), skip_in=(1,), use_FFM=True, k=2)
    assert list(net.state_dict()) == [f"lin{i}.{part}" for i in range(4) for part in ("weight", "bias")]
    # 15 features; the layer before the skip is narrower by them, so that its sum with them is 32
    assert [tuple(layer.weight.shape) for layer in net.layers()] == [(17, 15), (32, 32), (32, 32), (1, 32)]


def test_hidden_matrices_leave_out_the_first_and_the_last_layer():
    net = network(2, (8, 8, 8))
    matrices = net.hidden_matrices()
    assert [id(m) for m in matrices] == [id(net.lin1.weight), id(net.lin2.weight)]
    assert network(2, (8,)).hidden_matrices() == []


def test_one_relu_layer_by_hand():
    net = network(2, (2,), beta=0.0)
    for layer, weight, bias in zip(net.layers(), [[[1, 2], [-1, 0]], [[3, 4]]], [[0.5, 0], [-1]], strict=True):
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    x = torch.tensor([[1.0, 1.0], [-2.0, 0.5]], dtype=torch.float64)  # layer: (3.5, 0) and (0, 2)
    value, gradient = net.value_and_gradient(x)
    assert net(x).tolist() == value.tolist() == [9.5, 7.0]
    assert gradient.tolist() == [[3.0, 6.0], [-4.0, 0.0]]


def test_softplus_is_the_sharpness_that_was_asked_for():
    net = network(2, (1,), beta=5.0)
    for layer, weight, bias in zip(net.layers(), [[[1, 0]], [[1]]], [[0], [0]], strict=True):
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    x = torch.tensor([[0.0, 0.0], [0.3, 7.0]], dtype=torch.float64)
    expected = torch.tensor([math.log(2) / 5, math.log1p(math.exp(1.5)) / 5], dtype=torch.float64)
    torch.testing.assert_close(net(x), expected)


# Fourier features


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_a_network_with_features_is_not_periodic(shift):
    net = network(2, (32, 32), use_FFM=True, k=6, geometric_init=False)
    x = points(100, 2)
    with torch.no_grad():
        assert (net(x + shift) - net(x)).abs().median() > 1e-2 * net(x).std()


# the sphere at the start


@pytest.mark.parametrize("radius", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("skip", [(), (2,), (4,), (2, 4)])
@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("d", [2, 3])
def test_the_start_is_a_sphere(d, features, skip, radius):
    """Within a tenth of the radius on average; the theorem alone, without the fit, is off by a third."""
    net = network(d, (64,) * 4, skip_in=skip, use_FFM=features, k=4, radius_init=radius, dtype=torch.float32)
    generator = torch.Generator().manual_seed(4)
    away = torch.nn.functional.normalize(torch.randn(500, d, generator=generator), dim=-1)
    corners = torch.tensor(list(itertools.product([-1.5, 1.5], repeat=d)))
    box = 3 * torch.rand(4000, d, generator=generator) - 1.5
    with torch.no_grad():
        on = net(radius * away)
        assert on.abs().mean() < 0.1 * radius
        assert on.abs().max() < 0.3 * radius
        assert net(torch.zeros(d)) < -0.5 * radius
        assert (net(corners) > 0).all()
        assert (net(box[box.norm(dim=-1) > 1.25 * radius]) > 0).all()
        assert (net(box[box.norm(dim=-1) < 0.75 * radius]) < 0).all()


@pytest.mark.parametrize("d", [2, 3])
def test_waves_start_without_weight(d):
    net = network(d, (64,) * 3, skip_in=(1, 2, 3), use_FFM=True, k=3)
    m = d * 7
    assert (net.lin0.weight[:, d:] == 0).all()
    assert (net.lin0.weight[:, :d] != 0).all()
    for layer in (net.lin1, net.lin2):
        assert (layer.weight[:, 64 - m + d :] == 0).all()
        assert (layer.weight[:, : 64 - m + d] != 0).all()
    assert (net.lin3.weight[:, 64 - m :] == 0).all()  # of the output nothing but what the hidden layers give
    assert (net.lin3.weight[:, : 64 - m] != 0).all()


def test_a_skip_into_the_output_by_hand():
    """One ReLU of x + 2 y, and the output 3 h + 4 x + 5 y of what the skip joins, all divided by √2."""
    net = network(2, (3,), skip_in=(1,), beta=0.0)
    net.lin0.load_state_dict({"weight": torch.tensor([[1, 2]]), "bias": torch.tensor([0])})
    net.lin1.load_state_dict({"weight": torch.tensor([[3, 4, 5]]), "bias": torch.tensor([7])})
    value, gradient = net.value_and_gradient(torch.tensor([[1.0, 1.0], [-3.0, 1.0]], dtype=torch.float64))
    root = math.sqrt(2)
    torch.testing.assert_close(value, torch.tensor([18 / root + 7, -7 / root + 7]).double())
    torch.testing.assert_close(gradient, torch.tensor([[7 / root, 11 / root], [4 / root, 5 / root]]).double())


def test_without_geometric_init_the_layers_are_as_torch_makes_them():
    net = network(2, (8, 8), geometric_init=False)
    torch.manual_seed(0)
    for layer, (n_in, n_out) in zip(net.layers(), [(2, 8), (8, 8), (8, 1)], strict=True):
        torch.testing.assert_close(layer.weight, torch.nn.Linear(n_in, n_out).double().weight, rtol=0, atol=0)


# errors


@pytest.mark.parametrize(
    ("dims", "options", "text"),
    [
        ((), {}, "dims: expected at least one hidden layer, each at least 1 wide, got []"),
        ((8, 0), {}, "dims: expected at least one hidden layer, each at least 1 wide, got [8, 0]"),
        (
            (8, 8, 8),
            {"skip_in": [0]},
            "skip_in: expected 1 to 3, got 0: the first layer sees the input anyway, and layer 3 is the output",
        ),
        (
            (8, 8, 8),
            {"skip_in": [4]},
            "skip_in: expected 1 to 3, got 4: the first layer sees the input anyway, and layer 3 is the output",
        ),
        (
            (14, 32),
            {"skip_in": [1], "use_FFM": True, "k": 3},
            "skip_in: layer 1 joins 14 features, so the layer before must be wider than that, got 14",
        ),
        ((8,), {"radius_init": 0.0}, "radius_init: must be above 0, got 0.0"),
        ((8,), {"beta": -1.0}, "beta: must be 0 (ReLU) or above, got -1.0"),
        ((8,), {"use_FFM": True, "k": 0}, "k: must be at least 1, got 0"),
    ],
)
def test_errors_name_the_argument(dims, options, text):
    with pytest.raises(ValueError) as caught:
        ImplicitNet(2, dims, **options)
    assert str(caught.value) == text


def test_all_errors_come_at_once():
    with pytest.raises(ValueError) as caught:
        ImplicitNet(2, (8, 8), skip_in=[3], radius_init=-1.0, beta=-2.0)
    assert [line.split(":")[0] for line in str(caught.value).split("\n")] == ["skip_in", "radius_init", "beta"]


def test_k_is_not_looked_at_without_features():
    assert network(2, (8,), k=0).embed is None


# latent codes


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("skip", [(), (1,), (1, 2)])
def test_a_code_has_the_gradient_of_automatic_differentiation(d, features, skip):
    """Of a loss on value and gradient, in the code and in every parameter."""
    torch.manual_seed(0)
    net = ImplicitNet(d, (40, 40, 40), skip, use_FFM=features, k=2, latent_size=3).double()
    code = torch.randn(3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(7, d, dtype=torch.float64)
    found = []
    for value, gradient in (net.value_and_gradient(x, code), value_and_gradient(lambda x: net(x, code), x)):
        loss = value.square().sum() + (gradient * torch.arange(1.0, d + 1)).square().sum()
        found.append(torch.autograd.grad(loss, [code, *net.parameters()], allow_unused=True))
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, torch.zeros_like(fast) if slow is None else slow)
    assert found[0][0].abs().max() > 0


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("skip", [(), (2,)])
def test_no_code_is_the_zero_code_and_starts_at_the_sphere(d, skip):
    torch.manual_seed(0)
    net = ImplicitNet(d, (64, 64, 64), skip, radius_init=0.5, latent_size=8)
    direction = torch.nn.functional.normalize(torch.randn(50, d), dim=-1)
    with torch.no_grad():
        assert (net(0.3 * direction) < 0).all()
        assert (net(0.7 * direction) > 0).all()
        torch.testing.assert_close(net(direction), net(direction, torch.zeros(8)))
        assert (net(direction) - net(direction, torch.ones(8))).abs().max() > 0.01
