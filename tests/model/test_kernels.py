"""The compiled kernels against torch, which is their reference; what becomes of a run that cannot have them."""

import math
import pickle

import pytest
import torch

from conftest import TINY
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.model import kernels as module
from phase_recon.model import optimizer
from phase_recon.model.batch import Batch
from phase_recon.model.kernels import CompiledKernels, Kernels
from phase_recon.model.loss.phase import PhaseLoss
from phase_recon.model.network import ImplicitNet
from phase_recon.model.optimizer import Optimizers
from phase_recon.reconstruction.build_model import check_model, kernels_for
from phase_recon.reconstruction.training import fit
from phase_recon.utils.config_files import load_config
from phase_recon.utils.errors import UserError

CPU = torch.device("cpu")
SHAPES = [(1, 1), (5, 7), (64, 16), (65, 33), (700, 89)]  # blocks and vectors that are full, and that are not


@pytest.fixture(scope="module")
def compiled() -> CompiledKernels:
    return CompiledKernels()


def random(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("beta", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_rise_is_the_softplus_and_its_slope(compiled, shape, beta):
    z, bias = random(*shape, scale=5 / beta), random(shape[1], seed=1, scale=1 / beta)
    h, s = compiled.rise(z.clone(), bias, beta)
    exact_h, exact_s = Kernels().rise(z.double(), bias.double(), beta)
    # the rounding of beta (z + b), up to 30, comes before the exponential
    torch.testing.assert_close(h.double(), exact_h, rtol=4e-6, atol=0)
    torch.testing.assert_close(s.double(), exact_s, rtol=4e-6, atol=0)


def test_exponential_and_logarithm_are_as_precise_as_they_say(compiled):
    """Where beta and the bias round nothing off: log(1 + e^z) and 1 / (1 + e^-z) for all z at which they are normal."""
    z = torch.linspace(-87, 20, 100_001).reshape(1, -1)
    h, s = compiled.rise(z.clone(), torch.zeros(z.shape[1]), 1.0)
    exact = z.double()
    torch.testing.assert_close(h.double(), torch.log1p(exact.exp()), rtol=4e-7, atol=0)
    torch.testing.assert_close(s.double(), 1 / (1 + (-exact).exp()), rtol=4e-7, atol=0)


def test_extreme_numbers_come_out_as_from_torch(compiled):
    z = torch.tensor([[1e4, -1e4, 3e38, -3e38, math.inf, -math.inf, math.nan, 0.0, -0.0, 1e-40, 0.88, -0.88]])
    bias = torch.zeros(z.shape[1])
    ours, plain = (kernels.rise(z.clone(), bias, 100.0) for kernels in (compiled, Kernels()))
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-37, equal_nan=True)
    s, one = plain[1], torch.ones_like(z)
    ours, plain = (kernels.bend(z, s, 100.0, one, 1e-3 * z) for kernels in (compiled, Kernels()))
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-37, equal_nan=True)


@pytest.mark.parametrize("curved", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_bend_is_as_by_torch(compiled, shape, curved):
    h_bar, s, p, p_bar = (random(*shape, seed=seed) for seed in range(4))
    given = (h_bar, s.sigmoid(), 100.0, *((p, p_bar) if curved else ()))
    before = h_bar.clone()
    torch.testing.assert_close(compiled.bend(*given), Kernels().bend(*given), rtol=1e-4, atol=1e-3 if curved else 1e-5)
    assert torch.equal(h_bar, before)


@pytest.mark.parametrize("half", [False, True])
def test_threads_change_nothing(half):
    kernels = CompiledKernels(half)
    z, s = (random(1000, 100, seed=seed) for seed in range(2))
    h_bar, p, p_bar = (kernels.kept(random(1000, 100, seed=seed)) for seed in range(2, 5))
    bias = random(100, seed=5)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(
                (
                    *kernels.rise_and_keep(z.clone(), bias, 100.0),
                    *kernels.damp(z, s),
                    kernels.damp_bar(p_bar, s),
                    *kernels.bend(h_bar, s, 100.0, p, p_bar),
                )
            )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("beta", [100.0, 0.0])
def test_what_the_kernels_are_not_made_for_goes_to_torch(compiled, beta):
    """Double precision, arrays that are not dense, and the ReLU."""
    dense = random(6, 8) if beta == 0 else random(6, 8).double()
    for z in (dense, random(8, 6).T):
        bias = torch.zeros(z.shape[1], dtype=z.dtype)
        ours, plain = (
            (*kernels.rise(z.clone(), bias, beta), *kernels.bend(z, z, beta, z, z)) for kernels in (compiled, Kernels())
        )
        assert all(map(torch.equal, ours, plain))


# in bfloat16


def test_rounding_to_bfloat16_is_torch_s(compiled):
    """Of all upper halves of a float, with lower ones at and beside the middle; NaN, infinities and -0 among them."""
    upper = torch.arange(-(2**15), 2**15, dtype=torch.int32).repeat_interleave(5) * 2**16
    lower = torch.tensor([0, 1, 2**15 - 1, 2**15, 2**15 + 1], dtype=torch.int32).repeat(2**16)
    x = (upper + lower).view(torch.float32).reshape(1, -1)
    p, kept = CompiledKernels(half=True).damp(x, torch.ones_like(x))
    torch.testing.assert_close(p, x, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(kept, x.bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_half_of_the_width_is_as_by_torch(shape):
    """To one in the last place, where a sum of two is rounded."""
    z, s, *others = (random(*shape, seed=seed) for seed in range(5))
    bias = random(shape[1], seed=5)
    h_bar, p, p_bar = (other.bfloat16() for other in others)
    for ours, plain in zip(
        *(
            [
                *kernels.rise_and_keep(z.clone(), bias, 20.0),
                *kernels.damp(z, s),
                kernels.damp_bar(p_bar, s),
                *kernels.bend(h_bar, s.sigmoid(), 20.0, p, p_bar),
            ]
            for kernels in (CompiledKernels(half=True), Kernels(half=True))
        ),
        strict=True,
    ):
        assert ours.dtype == plain.dtype
        one = 2.0**-7 if ours.dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(ours, plain, rtol=one, atol=2e-3)


@pytest.mark.parametrize("make", [Kernels, CompiledKernels])
@pytest.mark.parametrize("skip_in", [(), (2,), (2, 4)])
def test_bfloat16_rounds_the_gradients_in_the_weights_alone(make, skip_in):
    x = random(500, 3)
    torch.manual_seed(0)
    network = ImplicitNet(3, (64,) * 4, skip_in, k=2)
    results = []
    for kernels in (make(), make(half=True)):
        network.kernels = kernels
        value, gradient = network.value_and_gradient(x)
        loss = value.abs().mean() + (gradient.norm(dim=-1) - 1).square().mean()
        results.append((value, gradient, torch.autograd.grad(loss, list(network.parameters()))))
    (value, gradient, exact), (same, also, rounded) = results
    assert torch.equal(value, same)
    assert torch.equal(gradient, also)
    for whole, half in zip(exact, rounded, strict=True):
        assert half.dtype == torch.float32
        assert (half - whole).norm() < 0.01 * whole.norm()
    assert not torch.equal(exact[0], rounded[0])


# in the network


def pair(d, compiled, **options):
    """Two equal networks, the second with compiled kernels."""
    networks = []
    for kernels in (Kernels(), compiled):
        torch.manual_seed(0)
        networks.append(ImplicitNet(d, (24,) * 4, **{"geometric_init": False, "k": 2, **options}))
        networks[-1].kernels = kernels
    return networks


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("skip_in", [(), (2,), (2, 4)])
@pytest.mark.parametrize("beta", [100.0, 20.0, 0.0])
def test_values_and_gradients_are_the_same_both_ways(compiled, d, features, skip_in, beta):
    x = random(70, 3, d)
    results = []
    for network in pair(d, compiled, use_FFM=features, skip_in=skip_in, beta=beta):
        value, gradient = network.value_and_gradient(x)
        alone = network(x)
        loss = alone.square().sum() + (value * gradient.square().sum(-1)).sum()
        results.append([alone, value, gradient, *torch.autograd.grad(loss, list(network.parameters()))])
    for plain, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=2e-5 * float(plain.detach().abs().max()))


def test_derivatives_in_x_are_still_by_automatic_differentiation(compiled):
    """Of the field alone, and twice: some losses take second derivatives."""
    x = random(10, 2).requires_grad_(True)
    results = []
    for network in pair(2, compiled):
        (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        results.append([gradient, *torch.autograd.grad(gradient.square().sum(), x)])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_a_second_derivative_in_the_parameters_is_refused(compiled):
    """It would be wrong without a word."""
    network = pair(2, compiled)[1]
    (first,) = torch.autograd.grad(network(random(5, 2)).sum(), network.lin1.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(("half", "off"), [(False, 1e-3), (True, 0.02)])
def test_steps_go_the_same_way(half, off):
    points, omega = 0.5 * torch.nn.functional.normalize(random(300, 3), dim=-1), random(300, 3, seed=1)
    batch = Batch(points, None, None, omega, torch.full((300,), 27.0), 27.0)
    losses = []
    for network in pair(3, CompiledKernels(half), geometric_init=True):
        optimizers, course = Optimizers(network, "muon"), []
        for _ in range(8):
            total = torch.stack(list(PhaseLoss()(network, batch).values())).sum()
            optimizers.step(total, 1e-3)
            course.append(total.item())
        losses.append(course)
    assert losses[0] == pytest.approx(losses[1], rel=off)
    assert losses[0][-1] < 0.9 * losses[0][0]


# in a run


@pytest.mark.parametrize("able", [False, True])
def test_what_gains_by_it_is_compiled_and_in_bfloat16(monkeypatch, able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    problems: list[str] = []

    def chosen(*keys, device="cpu"):
        kernels = kernels_for(load_config(TINY, keys), torch.device(device), problems)
        return kernels.fused, kernels.half

    assert chosen() == (True, able)
    assert chosen("train.compile=false") == (False, able)
    assert chosen("train.bfloat16=false") == (True, False)
    assert chosen("train.network_class=model.siren.SirenNet") == chosen(device="meta") == (False, False)
    assert problems == []


@pytest.mark.parametrize(("able", "keys", "used"), [
    (True, (), torch.bfloat16), (False, (), torch.float32), (True, ("train.bfloat16=false",), torch.float32)
])  # fmt: skip
def test_the_optimiser_of_a_run_multiplies_in_what_is_fast(monkeypatch, shapes, able, keys, used):
    """On a processor without products in bfloat16 a step would take three times as long."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    seen = set()
    monkeypatch.setattr(optimizer, "_orthogonal", lambda x: seen.add(x.dtype) or x)
    config = load_config(TINY, ["train.optimizer=muon", "train.compile=false", "train.nepoch=2", *keys], check_model)
    fit(config, PointCloud(shapes[0]), CPU, lambda line: None)
    assert seen == {used}


@pytest.mark.parametrize("key", ["train.compile=true", "train.compile=false"])
def test_a_run_without_a_compiler_says_so_once_and_goes_on(monkeypatch, shapes, key):
    module._library.cache_clear()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    lines: list[str] = []
    fit(load_config(TINY, [key, "train.nepoch=2"], check_model), PointCloud(shapes[0]), CPU, lines.append)
    said = [line for line in lines if "compile" in line]
    expected = (
        "note: steps are slower than they could be: there is no C compiler (cc, gcc or clang); install one, or name it "
        "in CC (train.compile)"
    )
    assert said == ([expected] if key.endswith("true") else [])


def test_a_library_that_computes_something_else_is_refused(monkeypatch, tmp_path):
    source = tmp_path / "kernels.c"
    source.write_text(module.SOURCE.read_text().replace("0.499999940f", "0.6f"))
    monkeypatch.setattr(module, "SOURCE", source)
    monkeypatch.setenv("PHASE_CACHE", str(tmp_path))
    module._library.cache_clear()
    try:
        with pytest.raises(UserError, match=r"^kernels\.c: compiled on this machine, its results differ from torch's"):
            CompiledKernels()
    finally:
        module._library.cache_clear()


def test_a_network_with_compiled_kernels_can_be_pickled(compiled):
    network = ImplicitNet(3, [16, 16], use_FFM=False)
    network.kernels = compiled
    again = pickle.loads(pickle.dumps(network))
    x = torch.randn(5, 3)
    assert torch.equal(again(x), network(x))
