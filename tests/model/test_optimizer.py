"""Adam and Muon against torch's own, step by step."""

import copy
import io
import math

import pytest
import torch

from phase_recon.model.network import ImplicitNet
from phase_recon.model.optimizer import Muon, Optimizers, _orthogonal


def network(seed=0):
    torch.manual_seed(seed)
    return ImplicitNet(2, (8, 8, 8), geometric_init=False).double()


def loss(net, seed):
    """Another loss at each step, as in training."""
    x = torch.randn((20, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    value, gradient = net.value_and_gradient(x)
    return ((value - x[:, 0] * x[:, 1]).square() + 0.1 * (gradient.norm(dim=-1) - 1).square()).mean()


def weights(net):
    return [p.detach().clone() for p in net.parameters()]


def run(net, optimizers, seeds, rate=1e-2):
    for seed in seeds:
        optimizers.step(loss(net, seed), rate)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_torch_s_adam(weight_decay):
    net, twin = network(), network()
    ours = Optimizers(net, "adam", weight_decay=weight_decay)
    theirs = torch.optim.Adam(twin.parameters(), lr=1.0, weight_decay=weight_decay)
    for seed, rate in enumerate([1e-2, 3e-3, 1e-2, 1e-4]):
        ours.step(loss(net, seed), rate)
        theirs.param_groups[0]["lr"] = rate
        theirs.zero_grad()
        loss(twin, seed).backward()
        theirs.step()
        for p, q in zip(net.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def test_first_step_of_adam_by_hand():
    """Its first step is rate · g / (|g| + 1e-8): the sign of the gradient."""
    net = network()
    before = weights(net)
    run(net, Optimizers(net, "adam"), [0], rate=0.01)
    for p, old in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.01 * p.grad / (p.grad.abs() + 1e-8))


def test_muon_takes_the_hidden_matrices_and_leaves_the_rest_to_adam():
    net, twin = network(), network()
    before = weights(net)
    run(net, Optimizers(net, "muon"), [0])
    run(twin, Optimizers(twin, "adam"), [0])
    for (name, p), q, old in zip(net.named_parameters(), twin.parameters(), before, strict=True):
        assert not torch.equal(p, old)
        assert torch.equal(p, q) == (name not in ("lin1.weight", "lin2.weight"))


def test_muon_s_step_is_nearly_orthogonal_and_has_adam_s_size():
    """Singular values about 1 (0.7 to 1.2: Jordan et al. 2024), times rate · 0.2 √8 for an 8 × 8 matrix."""
    net = network()
    before = net.lin1.weight.detach().clone()
    run(net, Optimizers(net, "muon"), [0], rate=0.01)
    moved = torch.linalg.svdvals(before - net.lin1.weight.detach()) / (0.01 * 0.2 * math.sqrt(8))
    assert moved.median() == pytest.approx(1.0, abs=0.35)
    assert moved.max() < 1.3


@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (64, 48)])
@pytest.mark.parametrize("least", [1.0, 0.01, 1e-9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_come_near_to_one(shape, least, dtype):
    """Those above 0.003 of the norm come to between 0.7 and 1.2 (Jordan et al. 2024), but for rounding.

    None goes beyond, and none is turned by more than the rounding of what is as small. With a least of 1e-9 most are
    small; with 1 all are equal.
    """
    size = min(shape)
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(n)))[0] for n in shape)
    left, right, values = left[:, :size], right[:, :size], torch.logspace(0, math.log10(least), size)
    made = left.T @ _orthogonal((left * values @ right.T)[None].to(dtype))[0].float() @ right
    became = torch.diag(made)
    assert became[values > 0.003 * values.norm()].min() > 0.65
    assert became.max() < 1.25
    assert torch.allclose(made, torch.diag(became), atol=0.15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_single_singular_value_stays_bounded(dtype):
    """The whole norm is one value, which rounding in bfloat16 may carry beyond one."""
    for seed in range(20):
        u, v = torch.randn(2, 128, 1, generator=torch.Generator().manual_seed(seed)).unbind()
        made = _orthogonal((u @ v.T)[None].to(dtype)).float()
        assert torch.linalg.matrix_norm(made, 2).item() == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_weight_decay_is_off_unless_asked_for(name):
    """Where the loss does not depend on the network, nothing may move; the decay moves by hand values.

    Adam's first step takes the penalty's gradient 0.5 p, Muon's decay is p (1 - rate · 0.5) by itself.
    """
    net = network()
    before = weights(net)
    Optimizers(net, name).step(0.0 * loss(net, 0), 0.1)
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    Optimizers(net, name, weight_decay=0.5).step(0.0 * loss(net, 0), 0.1)
    for (label, p), old in zip(net.named_parameters(), before, strict=True):
        penalty = old - 0.1 * 0.5 * old / (0.5 * old.abs() + 1e-8)
        by_muon = name == "muon" and label in ("lin1.weight", "lin2.weight")
        torch.testing.assert_close(p.detach(), old * (1 - 0.1 * 0.5) if by_muon else penalty)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_rate_zero_changes_nothing(name):
    net = network()
    before = weights(net)
    run(net, Optimizers(net, name, weight_decay=0.1), range(3), rate=0.0)
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_gradients_are_of_this_step_alone():
    net = network()
    optimizers = Optimizers(net, "adam")
    for _ in range(2):
        optimizers.step(loss(net, 0), 0.0)
        once = [g.clone() for g in torch.autograd.grad(loss(net, 0), list(net.parameters()))]
        torch.testing.assert_close([p.grad for p in net.parameters()], once)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_clipping_bounds_the_norm_of_the_whole_gradient(name):
    net = network()
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(1e3 * loss(net, 0), list(net.parameters()))])
    norm = gradient.norm().item()
    for clip, expected in ((0.5, 0.5), (2 * norm, norm), (None, norm)):
        Optimizers(net, name, clip_gradient=clip).step(1e3 * loss(net, 0), 0.0)
        clipped = torch.cat([p.grad.flatten() for p in net.parameters()])
        assert clipped.norm().item() == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(clipped / clipped.norm(), gradient / norm)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_states_saved_and_loaded_go_on_bit_for_bit(name):
    net = network()
    optimizers = Optimizers(net, name)
    run(net, optimizers, range(4))
    file = io.BytesIO()
    torch.save({"network": net.state_dict(), "optimizers": optimizers.state_dict()}, file)
    run(net, optimizers, range(4, 8))

    file.seek(0)
    saved = torch.load(file)  # weights only: nothing but tensors and plain data may be in it
    resumed = network(seed=9)
    resumed.load_state_dict(saved["network"])
    fresh = copy.deepcopy(resumed)
    states = Optimizers(resumed, name)
    states.load_state_dict(saved["optimizers"])
    run(resumed, states, range(4, 8))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), resumed.parameters(), strict=True))
    run(fresh, Optimizers(fresh, name), range(4, 8))  # and the state is needed for that
    assert not torch.equal(net.lin1.weight, fresh.lin1.weight)


def test_states_of_another_optimiser_are_refused():
    net = network()
    with pytest.raises(ValueError):
        Optimizers(net, "adam").load_state_dict(Optimizers(net, "muon").state_dict())


@pytest.mark.parametrize(("member", "name"), [(0, "square"), (0, "steps"), (1, "means 0")])
def test_states_that_lack_something_are_refused(member, name):
    net = network()
    optimizers = Optimizers(net, "muon")
    run(net, optimizers, range(1))
    states = copy.deepcopy(optimizers.state_dict())
    del states[member][name]
    with pytest.raises(ValueError, match="another optimiser"):
        Optimizers(net, "muon").load_state_dict(states)


def test_a_state_is_taken_up_as_a_copy():
    net = network()
    saved = Optimizers(net, "muon")
    run(net, saved, range(1))
    states = copy.deepcopy(saved.state_dict())
    before = copy.deepcopy(states)
    optimizers = Optimizers(net, "muon")
    optimizers.load_state_dict(states)
    run(net, optimizers, range(1, 3))
    torch.testing.assert_close(states, before, rtol=0, atol=0)


def test_a_parameter_without_a_gradient_stays():
    net = network()
    net.unused = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    run(net, Optimizers(net, "muon"), range(2))
    assert torch.equal(net.unused.detach(), torch.ones(3, dtype=torch.float64))


def test_muon_without_hidden_matrices_is_adam():
    torch.manual_seed(0)
    net = ImplicitNet(2, (8,), geometric_init=False).double()
    optimizers = Optimizers(net, "muon")
    assert len(optimizers.state_dict()) == 1
    before = loss(net, 0).item()
    run(net, optimizers, [0] * 5, rate=1e-3)
    assert loss(net, 0).item() < before


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_descent_descends(name):
    net = network()
    before = loss(net, 0).item()
    run(net, Optimizers(net, name), [0] * 30)
    assert loss(net, 0).item() < 0.8 * before


@pytest.mark.parametrize("momentum", [0.95, 0.5])
def test_matrices_taken_together_move_as_one_by_one(momentum):
    """PyTorch's own Muon takes them one by one: square, wide and tall ones, two of each, over some steps."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(12, 12), (8, 20), (12, 12), (20, 8), (8, 20), (20, 8)]
    first = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(matrix.clone()) for matrix in first] for _ in range(2))
    member = Muon(ours, 0.1, momentum, half=True)  # as torch's does
    reference = torch.optim.Muon(
        theirs, lr=0.01, weight_decay=0.1, momentum=momentum, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        member.step(0.01)
        reference.step()
    for a, b, start in zip(ours, theirs, first, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-4)  # bfloat16 has three digits
        assert (a - start).abs().max() > 0.01
