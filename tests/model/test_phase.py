"""The PHASE loss against its closed forms: planes and spheres, whose exact solutions are known."""

import math
from dataclasses import replace

import pytest
import torch

from conftest import Field
from phase_recon.model.batch import Batch, EstimatedNormals
from phase_recon.model.loss.phase import PhaseLoss, _in_hole, double_well, gradient_of_w, u_from_w, w_from_u

EPSILON = 0.01
WIDTH = 0.1  # √ε


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(d=2, n=6, normals=True, seed=0):
    """Random points everywhere: for identities that hold whatever the points are."""
    points = random(n, d, seed=seed)
    unit = torch.nn.functional.normalize(random(n, d, seed=seed + 1), dim=-1)
    return Batch(
        points=points,
        normals=unit if normals else None,
        balls=points.unsqueeze(1) + 0.05 * random(n, 4, d, seed=seed + 2),
        omega=random(9, d, seed=seed + 3),
        weights=random(9, seed=seed + 4).abs() + 0.5,
        volume=1.0,
    )


def changed(batch, **fields):
    return Batch(**{**vars(batch), **fields})


def unit_normal(d):
    return torch.tensor([0.6, 0.8] if d == 2 else [2 / 3, -1 / 3, 2 / 3], dtype=torch.float64)


def plane(d, output, epsilon=EPSILON):
    """The exact minimiser about the plane n·x = 0.2, as u or as w."""

    def w(x):
        return x @ unit_normal(d) - 0.2

    if output == "w":
        return Field(w)

    def u(x):  # written anew, so that the loss's own formulas are held against something
        s = w(x)
        inner, outer = torch.exp(s / math.sqrt(epsilon)) - 1, 1 - torch.exp(-s / math.sqrt(epsilon))
        return torch.where(s > 0, outer, inner)

    return Field(u)


def smooth(x):
    """A wavy field w with both signs, a few widths √ε in size."""
    waves = torch.tensor([1.3, -0.7, 0.9], dtype=torch.float64)[: x.shape[-1]]
    return 0.15 * torch.sin(x @ waves + 0.4) + 0.05 * (x * x).sum(-1).cos() + 0.013


BOTH = pytest.mark.parametrize("output", ["u", "w"])
DIMENSIONS = pytest.mark.parametrize("d", [2, 3])


@BOTH
def test_what_is_known_to_be_empty_costs_as_far_as_it_is_inside(output):
    """At half of the places u = -(1 - 1/e), at the others it is positive, which costs nothing."""
    half = WIDTH if output == "w" else 1 - math.exp(-1)
    data = changed(batch(), balls=None, empty=torch.tensor([[-1.0, 0], [1, 0], [2, 0], [-3, 0]], dtype=torch.float64))
    field = Field(lambda x: half * torch.sign(x[..., 0]) + 0 * x[..., 1])
    terms = PhaseLoss(lambda_=7.0, output=output)(field, data)
    torch.testing.assert_close(terms["empty"].item(), 7 * 0.5 * (1 - math.exp(-1)))
    assert "empty" not in PhaseLoss(output=output)(field, changed(data, empty=None))


# the exact solution for a plane


@BOTH
@DIMENSIONS
@pytest.mark.parametrize("epsilon", [0.01, 0.04])
def test_distance_of_the_exact_solution_is_the_distance(d, output, epsilon):
    loss = PhaseLoss(epsilon=epsilon, output=output)
    x = 0.4 * random(50, d)
    value, gradient = plane(d, output, epsilon).value_and_gradient(x)
    torch.testing.assert_close(loss.distance(value), x @ unit_normal(d) - 0.2, rtol=1e-9, atol=1e-12)
    expected = unit_normal(d).expand(50, d)
    torch.testing.assert_close(loss.distance_gradient(value, gradient), expected, rtol=1e-9, atol=1e-12)


@BOTH
@DIMENSIONS
@pytest.mark.parametrize("with_normals", [True, False])
def test_normal_term_of_the_exact_solution_is_zero(d, output, with_normals):
    points = 0.3 * random(20, d)
    normals = unit_normal(d).expand(20, d) if with_normals else None
    terms = PhaseLoss(output=output)(plane(d, output), changed(batch(d), points=points, normals=normals))
    assert terms["normals"].item() == pytest.approx(0.0, abs=1e-9)


@BOTH
@DIMENSIONS
def test_energy_of_a_slab_is_the_closed_form(d, output):
    """∫_{-L}^{L} 2 exp(-2|s|/√ε) ds = 2√ε (1 - exp(-2L/√ε)) per unit of area, half of it from each term."""
    half, area, count = 0.15, 1.7, 20000
    s = (torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 * half - half
    omega = (s + 0.2).unsqueeze(-1) * unit_normal(d)
    weights = torch.full((count,), 2 * half * area, dtype=torch.float64)
    slab = changed(batch(d), omega=omega, weights=weights)
    terms = PhaseLoss(output=output, epsilon=EPSILON)(plane(d, output), slab)
    expected = 2 * WIDTH * area * (1 - math.exp(-2 * half / WIDTH))
    assert terms["gradient"].item() == pytest.approx(expected / 2, rel=1e-6)
    assert terms["potential"].item() == pytest.approx(expected / 2, rel=1e-6)


@BOTH
@DIMENSIONS
def test_energy_of_a_sphere_tends_to_twice_its_area(d, output):
    """With s = r - R: 2·area·√ε in 2D and 2·area·√ε (1 + ε/2R²) in 3D, up to exp(-2R/√ε)."""
    radius, reach, count = 0.8, 2.0, 40000
    r = (torch.arange(count, dtype=torch.float64) + 0.5) / count * reach
    omega = torch.nn.functional.normalize(random(count, d), dim=-1) * r.unsqueeze(-1)
    shell = 2 * math.pi * r if d == 2 else 4 * math.pi * r**2
    area = 2 * math.pi * radius if d == 2 else 4 * math.pi * radius**2
    ratios = []
    for epsilon in (0.04, 0.01, 0.0025):

        def formula(x, epsilon=epsilon):
            w = torch.linalg.vector_norm(x, dim=-1) - radius
            return w if output == "w" else u_from_w(w, epsilon)

        around = changed(batch(d), omega=omega, weights=shell * reach)
        terms = PhaseLoss(epsilon=epsilon, output=output)(Field(formula), around)
        ratio = ((terms["gradient"] + terms["potential"]) / (2 * area * math.sqrt(epsilon))).item()
        exact = 1.0 if d == 2 else 1 + epsilon / (2 * radius**2)
        assert ratio == pytest.approx(exact, abs=2 * math.exp(-2 * radius / math.sqrt(epsilon)) + 1e-4)
        ratios.append(ratio)
    assert ratios[-1] == pytest.approx(1.0, abs=2.5e-3)  # ε/2R² = 0.002


@DIMENSIONS
def test_the_exact_solution_solves_the_euler_lagrange_equation(d):
    """-εΔu + u - sign(u) = 0 off the surface."""
    x = (0.4 * random(30, d)).requires_grad_(True)
    u = u_from_w(plane(d, "w")(x), EPSILON)
    (gradient,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    laplacian = sum(torch.autograd.grad(gradient[:, j].sum(), x, create_graph=True)[0][:, j] for j in range(d))
    residual = -EPSILON * laplacian + u - torch.sign(u)
    torch.testing.assert_close(residual, torch.zeros(30, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (EPSILON * laplacian).abs().max() > 0.1  # the equation is not met by zeros


# the terms, one by one


@DIMENSIONS
@pytest.mark.parametrize("normals", [True, False])
def test_u_and_w_give_the_same_four_terms(d, normals):
    data = batch(d, normals=normals)
    of_w = PhaseLoss(3.0, 0.7, 0.02, "w")(Field(smooth), data)
    of_u = PhaseLoss(3.0, 0.7, 0.02, "u")(Field(lambda x: u_from_w(smooth(x), 0.02)), data)
    assert list(of_w) == list(of_u) == ["reconstruction", "gradient", "potential", "normals"]
    for name in of_w:
        torch.testing.assert_close(of_w[name], of_u[name], rtol=1e-10, atol=1e-13)
        assert of_w[name] > 1e-3


@DIMENSIONS
@pytest.mark.parametrize("normals", [True, False])
def test_terms_equal_a_plain_double_loop(d, normals):
    """Every term from single numbers, so that no shape can be broadcast against another unseen."""
    lambda_, mu, epsilon = 3.0, 0.7, 0.02
    data = batch(d, n=5, normals=normals)

    def field(x):
        return 0.4 * torch.sin(x.sum(-1)) + 0.1 * x[..., 0]

    reconstruction, misfit, kinetic, potential = 0.0, 0.0, 0.0, 0.0
    for i in range(5):
        reconstruction += abs(sum(field(y).item() for y in data.balls[i]) / 4) / 5
        x = data.points[i].tolist()
        u = 0.4 * math.sin(sum(x)) + 0.1 * x[0]
        gradient_u = [0.4 * math.cos(sum(x)) + (0.1 if j == 0 else 0.0) for j in range(d)]
        gradient_w = [math.sqrt(epsilon) * g / (1 - abs(u)) for g in gradient_u]
        if normals:
            n = data.normals[i].tolist()
            misfit += math.sqrt(sum((n[j] - gradient_w[j]) ** 2 for j in range(d))) / 5
        else:
            misfit += (1 - math.sqrt(sum(g * g for g in gradient_w))) ** 2 / 5
    for x, weight in zip(data.omega.tolist(), data.weights.tolist(), strict=True):
        u = 0.4 * math.sin(sum(x)) + 0.1 * x[0]
        gradient_u = [0.4 * math.cos(sum(x)) + (0.1 if j == 0 else 0.0) for j in range(d)]
        kinetic += weight * epsilon * sum(g * g for g in gradient_u) / 9
        potential += weight * (u * u - 2 * abs(u) + 1) / 9

    terms = PhaseLoss(lambda_, mu, epsilon, "u")(Field(field), data)
    expected = {
        "reconstruction": lambda_ * reconstruction,
        "gradient": kinetic,
        "potential": potential,
        "normals": mu * misfit,
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-12)


@BOTH
def test_the_absolute_value_is_outside_the_mean_of_a_ball(output):
    """Where u is antisymmetric in each ball the term is zero, although |u| is not."""
    offsets = torch.cat([random(8, 2), -random(8, 2)])
    balls = 0.1 * offsets.expand(3, 16, 2)
    field = Field(lambda x: 0.5 * x[..., 0])
    terms = PhaseLoss(output=output)(field, changed(batch(), balls=balls))
    assert terms["reconstruction"].item() == pytest.approx(0.0, abs=1e-15)
    assert PhaseLoss(output=output).phase(field(balls)).abs().mean() > 0.01


@BOTH
@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_without_balls_the_points_themselves_count(output, mu):
    """As with balls of one point each, which is the centre."""
    data = batch(3, n=5)
    field, loss = Field(lambda x: 0.4 * torch.sin(x.sum(-1))), PhaseLoss(mu=mu, output=output)
    alone = loss(field, changed(data, balls=None))
    assert alone == loss(field, changed(data, balls=data.points.unsqueeze(1)))
    assert set(alone) == {"reconstruction", "gradient", "potential", *(["normals"] if mu else [])}


def test_where_the_surface_lies_in_a_hole():
    """At 0.03 from the surface, with a spacing of 0.02: a hole begins 1.25 spacings from the cloud, is certain
    from 1.9 on, and fades from 0.11 to none at 0.13.
    """
    beside = torch.tensor([0.0, 0.025, 0.0315, 0.038, 0.1, 0.12, 0.13, 0.5], dtype=torch.float64)
    hole = _in_hole(torch.full_like(beside, -0.03), torch.hypot(beside, torch.tensor(0.03)), 0.02)
    torch.testing.assert_close(hole, torch.tensor([0, 0, 0.5, 1, 1, 0.5, 0, 0], dtype=torch.float64))
    assert _in_hole(torch.tensor(0.03), torch.tensor(0.02), 0.02) == 0.0  # clearances are interpolated, not exact


@BOTH
def test_eased_points_of_omega_count_less_in_the_energy_alone(output):
    data = batch(3, n=5)
    field, loss = Field(lambda x: 0.01 * torch.sin(x.sum(-1))), PhaseLoss(output=output)
    plain = loss(field, data)
    eased, dense = (
        loss(field, changed(data, clearance=torch.full((9,), far, dtype=torch.float64), spacing=0.02, hole_weight=0.2))
        for far in (0.08, 0.02)
    )
    for name, term in plain.items():
        share = 0.2 if name in ("gradient", "potential") else 1.0
        torch.testing.assert_close(eased[name], share * term)
        torch.testing.assert_close(dense[name], term)


def test_reconstruction_by_hand():
    """Balls of means 0.2 and -0.4 under λ = 5: 5 · (0.2 + 0.4) / 2 = 1.5; their signs must not cancel."""
    u = torch.tensor([[0.5, -0.1], [-0.6, -0.2]], dtype=torch.float64)
    data = changed(batch(), balls=u.unsqueeze(-1).expand(2, 2, 2))
    terms = PhaseLoss(lambda_=5.0, output="u")(Field(lambda x: x[..., 0]), data)
    assert terms["reconstruction"].item() == pytest.approx(1.5)


@BOTH
@DIMENSIONS
def test_normals_known_up_to_sign_cost_a_distance_nothing(d, output):
    """At full trust either way round is right; without any it is the slope's length alone, as published."""
    points, sides = 0.3 * random(20, d), torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(10)
    data = changed(batch(d, normals=False), points=points)
    for trust in (0.0, 0.5, 1.0):
        known = EstimatedNormals(
            sides[:, None] * unit_normal(d),
            torch.full((20,), trust, dtype=torch.float64),
            torch.zeros(20, dtype=torch.bool),
        )
        terms = PhaseLoss(output=output)(plane(d, output), changed(data, estimated=known))
        assert terms["normals"].item() == pytest.approx(0.0, abs=1e-9)


def test_normals_known_up_to_sign_by_hand():
    """∇w = (2, 0) at four points. Its length alone costs (1 - 2)² = 1. Against the lines ±(1, 0) it costs
    min(1, 3) = 1, and against ±(0, 1) √5. Trust 0 takes the first, 1 the second, ¼ a quarter of the way.
    """
    field = Field(lambda x: 2 * x[..., 0])
    one, two = [1.0, 0.0], [0.0, 1.0]
    lines = EstimatedNormals(
        torch.tensor([one, [-1.0, 0.0], two, two], dtype=torch.float64),
        torch.tensor([1.0, 1.0, 0.0, 0.25], dtype=torch.float64),
        torch.zeros(4, dtype=torch.bool),
    )
    data = changed(batch(n=4, normals=False), estimated=lines)
    expected = (1 + 1 + 1 + (0.75 * 1 + 0.25 * math.sqrt(5))) / 4
    assert PhaseLoss(mu=2.0)(field, data)["normals"].item() == pytest.approx(2 * expected)
    known = replace(lines, oriented=torch.ones(4, dtype=torch.bool))  # -(1, 0) is 3 away if its side is sure
    expected = (1 + 3 + 1 + (0.75 * 1 + 0.25 * math.sqrt(5))) / 4
    assert PhaseLoss(mu=2.0)(field, changed(data, estimated=known))["normals"].item() == pytest.approx(2 * expected)
    published = PhaseLoss(mu=2.0)(field, changed(data, estimated=None))
    untrusted = replace(lines, trust=torch.zeros(4, dtype=torch.float64))
    assert PhaseLoss(mu=2.0)(field, changed(data, estimated=untrusted)) == published
    oriented = changed(data, normals=-lines.directions)  # normals that are given rule
    expected = (3 + 1 + 2 * math.sqrt(5)) / 4
    assert PhaseLoss(mu=2.0)(field, oriented)["normals"].item() == pytest.approx(2 * expected)


def test_normal_term_is_of_w_not_of_u():
    """u = 0.5 + x with ε = 0.01: at x = 0, ∇w = 0.1 · 1 / 0.5 = 0.2, against the normal (1, 0) 0.8 is left."""
    data = changed(
        batch(),
        points=torch.zeros(1, 2, dtype=torch.float64),
        normals=torch.tensor([[1.0, 0.0]], dtype=torch.float64),
    )
    field = Field(lambda x: 0.5 + x[..., 0])
    assert PhaseLoss(mu=2.0, output="u")(field, data)["normals"].item() == pytest.approx(2 * 0.8)
    without = PhaseLoss(mu=2.0, output="u")(field, changed(data, normals=None))
    assert without["normals"].item() == pytest.approx(2 * 0.8**2)


@BOTH
def test_energy_is_taken_in_omega_and_the_rest_at_the_data(output):
    loss, field, data = PhaseLoss(output=output), Field(smooth), batch()
    before = loss(field, data)
    elsewhere = loss(field, changed(data, omega=data.omega + 0.3))
    moved = loss(field, changed(data, points=data.points + 0.3, balls=data.balls + 0.3))
    for name in ("gradient", "potential"):
        assert elsewhere[name] != before[name]
        assert moved[name] == before[name]
    for name in ("reconstruction", "normals"):
        assert elsewhere[name] == before[name]
        assert moved[name] != before[name]


@BOTH
def test_weights_scale_the_integral_and_lambda_and_mu_their_means(output):
    field, data = Field(smooth), batch()
    once = PhaseLoss(2.0, 0.5, EPSILON, output)(field, data)
    twice = PhaseLoss(2.0, 0.5, EPSILON, output)(field, changed(data, weights=2 * data.weights))
    heavy = PhaseLoss(6.0, 1.0, EPSILON, output)(field, data)
    ratios = {name: ((twice[name] / once[name]).item(), (heavy[name] / once[name]).item()) for name in once}
    assert ratios == {
        "reconstruction": pytest.approx((1, 3)),
        "gradient": pytest.approx((2, 1)),
        "potential": pytest.approx((2, 1)),
        "normals": pytest.approx((1, 2)),
    }


@pytest.mark.parametrize(("normals", "mu"), [(True, 10.0), (False, 1.0)])
def test_an_open_mu_is_ten_for_given_normals_and_one_without(normals, mu):
    data = batch(normals=normals)
    left_open = PhaseLoss()(Field(smooth), data)["normals"].item()
    assert left_open == pytest.approx(PhaseLoss(mu=mu)(Field(smooth), data)["normals"].item())


@BOTH
@pytest.mark.parametrize("normals", [True, False])
def test_mu_zero_leaves_the_normal_term_out(output, normals):
    terms = PhaseLoss(mu=0.0, output=output)(Field(smooth), batch(normals=normals))
    assert list(terms) == ["reconstruction", "gradient", "potential"]


def test_double_well():
    """(|u| - 1)², whose log transform is a distance; not (u² - 1)², which is 0.5625 at ½."""
    u = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, -2.0])
    assert double_well(u).tolist() == [0.0, 0.25, 1.0, 0.25, 0.0, 0.25, 1.0]


# the log transform


def test_u_and_w_are_each_other_s_inverse():
    w = torch.linspace(-1.0, 1.0, 41, dtype=torch.float64)
    torch.testing.assert_close(w_from_u(u_from_w(w, EPSILON), EPSILON), w, rtol=1e-9, atol=1e-15)
    u = torch.linspace(-0.999, 0.999, 41, dtype=torch.float64)
    torch.testing.assert_close(u_from_w(w_from_u(u, EPSILON), EPSILON), u, rtol=1e-12, atol=1e-15)


def test_log_transform_by_hand():
    """One width √ε away from the surface |u| is 1 - 1/e."""
    u = torch.tensor([1 - math.exp(-1), math.exp(-1) - 1, 0.0, math.exp(-2) - 1], dtype=torch.float64)
    w = torch.tensor([0.2, -0.2, 0.0, -0.4], dtype=torch.float64)
    torch.testing.assert_close(w_from_u(u, 0.04), w)
    torch.testing.assert_close(u_from_w(w, 0.04), u)


@DIMENSIONS
def test_gradient_of_w(d):
    slope = random(4, d)
    torch.testing.assert_close(gradient_of_w(torch.zeros(4).double(), slope, 0.04), 0.2 * slope)
    u = torch.tensor([0.3, -0.3, 0.9, -0.99], dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(w_from_u(u, 0.04).sum(), u)
    torch.testing.assert_close(gradient_of_w(u, slope, 0.04), derivative.unsqueeze(-1) * slope)


def test_level_is_the_distance_of_a_phase():
    loss = PhaseLoss(epsilon=0.04)
    assert loss.level(0.0) == 0.0
    assert loss.level(1 - math.exp(-1)) == pytest.approx(0.2)
    assert loss.level(math.exp(-3) - 1) == pytest.approx(-0.6)


# what the cloud and the run set


def test_lambda_falls_with_noise_unless_it_is_given():
    assert PhaseLoss().for_noise(0.0).lambda_ == 30
    assert PhaseLoss().for_noise(2.25 * 0.0019).lambda_ == pytest.approx(30 / 3.375)  # 2.25^1.5 = 1.5^3
    assert PhaseLoss().for_noise(1.0).lambda_ == 6
    assert PhaseLoss(lambda_=3.0).for_noise(0.0).lambda_ == 3


def test_epsilon_falls_by_a_constant_factor_until_half_of_the_run():
    loss = PhaseLoss(epsilon=0.01, epsilon_start=0.04)
    assert [loss.at(progress).epsilon for progress in (0.0, 0.25, 0.5, 0.9)] == pytest.approx([0.04, 0.02, 0.01, 0.01])
    assert PhaseLoss(epsilon=0.01).at(0.0).epsilon == 0.01


# what training needs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normals", [True, False])
@pytest.mark.parametrize("peak", [1.0, -1.0, 1.5, -1.5])
def test_u_past_one_stays_finite(peak, normals, dtype):
    """A network that gives u may leave (-1, 1), where the logarithm is of zero or less."""
    scale = torch.tensor(1.0, dtype=dtype, requires_grad=True)
    field = Field(lambda x: scale * (peak + 0 * x[..., 0]) + 1e-8 * x[..., 1])
    data = batch(normals=normals)
    data = Batch(**{name: t.to(dtype) if isinstance(t, torch.Tensor) else t for name, t in vars(data).items()})
    terms = PhaseLoss(output="u")(field, data)
    assert all(torch.isfinite(term) for term in terms.values())
    sum(terms.values()).backward()
    assert torch.isfinite(scale.grad)
    assert torch.isfinite(PhaseLoss(output="u").distance(field(data.points))).all()


@BOTH
@pytest.mark.parametrize("normals", [True, False])
def test_the_whole_loss_has_a_gradient_in_every_parameter(output, normals):
    """The normal and gradient terms hold ∇u, so this is a second derivative; checked by differences too."""
    coefficients = torch.tensor([0.2, 0.5, -0.3, 0.1], dtype=torch.float64, requires_grad=True)
    data, loss = batch(normals=normals), PhaseLoss(epsilon=0.5, output=output)

    def total(c):
        formula = Field(lambda x: 0.4 * torch.tanh(c[0] + x @ c[1:3] + c[3] * x[..., 0] * x[..., 1]))
        return sum(loss(formula, data).values())

    total(coefficients).backward()
    h, c = 1e-6, coefficients.detach()
    steps = h * torch.eye(4, dtype=torch.float64)
    differences = torch.stack([(total(c + e) - total(c - e)).detach() / (2 * h) for e in steps])
    torch.testing.assert_close(coefficients.grad, differences, rtol=1e-6, atol=1e-7)
    assert (coefficients.grad != 0).all()


# errors


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lambda_": 0.0}, "lambda: must be above 0, got 0.0"),
        ({"mu": -1.0}, "mu: must be 0 or above, got -1.0"),
        ({"epsilon": 0.0}, "epsilon: must be above 0, got 0.0"),
        ({"epsilon": float("nan")}, "epsilon: must be above 0, got nan"),
        (
            {"lambda_": -1.0, "mu": -2.0, "epsilon": -3.0},
            "lambda: must be above 0, got -1.0\nmu: must be 0 or above, got -2.0\nepsilon: must be above 0, got -3.0",
        ),
        ({"epsilon_start": 0.001}, "epsilon_start: expected epsilon (0.01) or more, got 0.001"),
        (
            {"epsilon_start": 0.1, "output": "u"},
            "epsilon_start: wants network.output = w; the meaning of u changes with ε",
        ),
    ],
)
def test_errors_name_the_value(options, text):
    with pytest.raises(ValueError) as caught:
        PhaseLoss(**options)
    assert str(caught.value) == text
