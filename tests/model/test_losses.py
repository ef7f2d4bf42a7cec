"""The losses of other publications against closed forms: spheres, planes and paraboloids, in 2D and 3D."""

import math

import pytest
import torch

from conftest import ROOT, TINY, Field
from phase_recon.model.base import derivative
from phase_recon.model.batch import Batch, UnsignedDistances
from phase_recon.model.loss.base import at_progress, joint_mean, mean_over_omega
from phase_recon.model.loss.digs import DigsLoss
from phase_recon.model.loss.hotspot import HotspotLoss
from phase_recon.model.loss.igr import IgrLoss
from phase_recon.model.loss.nsh import NshLoss, determinant
from phase_recon.model.loss.occupancy import OccupancyLoss
from phase_recon.model.loss.phase import PhaseLoss
from phase_recon.model.loss.sal import SalLoss
from phase_recon.model.loss.sald import SaldLoss
from phase_recon.model.loss.siren import SirenLoss
from phase_recon.model.loss.steik import SteikLoss
from phase_recon.model.loss.viscoreg import ViscoregLoss
from phase_recon.model.network import ImplicitNet
from phase_recon.model.siren import SirenNet
from phase_recon.reconstruction.build_model import check_model
from phase_recon.utils.config_files import load_config
from phase_recon.utils.errors import UserError

RADIUS = 0.7
DIMENSIONS = pytest.mark.parametrize("d", [2, 3])
NORMALS = pytest.mark.parametrize("normals", [True, False])
FOUR_TERMS = pytest.mark.parametrize("kind", [SirenLoss, DigsLoss, SteikLoss])
DISTANCES = [IgrLoss, SirenLoss, DigsLoss, SteikLoss, HotspotLoss, ViscoregLoss, NshLoss, SalLoss, SaldLoss]
ALL = [*DISTANCES, OccupancyLoss]


def sphere(slope=1.0):
    return Field(lambda x: slope * (torch.linalg.vector_norm(x, dim=-1) - RADIUS))


def directions(count, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, d, generator=generator, dtype=torch.float64), dim=-1)


def batch(d, normals=True, radii=(0.2, 0.5, 1.4), **fields):
    """Points on the sphere, points of Ω at given radii with equal weights, near ones at 0.6 to 0.9, and these with
    their distances to the sphere.
    """
    unit, radii = directions(8, d), torch.tensor(radii, dtype=torch.float64)
    about = torch.linspace(0.6, 0.9, 8, dtype=torch.float64).unsqueeze(-1) * unit
    height = torch.linalg.vector_norm(about, dim=-1) - RADIUS
    given = {
        "points": RADIUS * unit,
        "normals": unit if normals is True else normals,
        "balls": RADIUS * unit.unsqueeze(1),
        "omega": radii.unsqueeze(-1) * directions(len(radii), d, seed=1),
        "weights": torch.full_like(radii, 5.0),
        "beyond": radii > 1,
        "near": about,
        "unsigned": UnsignedDistances(about, height.abs(), height.sign().unsqueeze(-1) * unit),
    }
    given |= fields
    return Batch(**{"volume": given["weights"].mean().item(), **given})


def numbers(terms):
    return {name: term.item() for name, term in terms.items()}


# on a signed distance


@DIMENSIONS
@NORMALS
def test_igr_of_a_signed_distance_is_zero(d, normals):
    expected = {"surface": 0.0, "eikonal": 0.0} | ({"normals": 0.0} if normals else {})
    assert numbers(IgrLoss()(sphere(), batch(d, normals or None))) == pytest.approx(expected, abs=1e-12)


@DIMENSIONS
@NORMALS
@FOUR_TERMS
def test_four_terms_of_a_signed_distance_are_zero_but_for_the_one_off_the_surface(kind, d, normals):
    terms = numbers(kind()(sphere(), batch(d, normals or None, radii=(0.5, 0.69, 0.72))))
    off = 100 * (math.exp(-20) + math.exp(-1) + math.exp(-2)) / 3
    expected = {"surface": 0.0, "eikonal": 0.0, "off": off} | ({"normals": 0.0} if normals else {})
    assert {name: terms[name] for name in expected} == pytest.approx(expected, abs=1e-10)
    assert set(terms) - set(expected) <= {"divergence"}


@DIMENSIONS
def test_divergence_of_a_signed_distance_is_the_mean_curvature_of_its_level_sets(d):
    terms = DigsLoss(divergence=10)(sphere(), batch(d, radii=(0.2, 0.5, 1.4)))
    mean = (d - 1) * (1 / 0.2 + 1 / 0.5 + 1 / 1.4) / 3
    assert terms["divergence"].item() == pytest.approx(10 * mean)


def test_divergence_is_cut_below_and_above():
    """2 / r at r = 0.02 and r = 40 is 100 and 0.05: cut to 50 and 0.1."""
    terms = DigsLoss(divergence=1)(sphere(), batch(3, radii=(0.02, 40.0)))
    assert terms["divergence"].item() == pytest.approx((50 + 0.1) / 2)


@DIMENSIONS
def test_second_derivative_along_the_gradient_of_a_signed_distance_is_zero(d):
    assert SteikLoss()(sphere(), batch(d))["divergence"].item() == pytest.approx(0.0, abs=1e-10)


@DIMENSIONS
def test_occupancy_of_a_steep_distance_is_the_mean_of_its_logarithms(d):
    """The logit k (|x| - R) at R ± t is ± k t: both halves are the mean of log(1 + exp(-k t))."""
    k, steps = 40.0, [0.1 * (i + 0.5) / 8 for i in range(8)]
    terms = numbers(OccupancyLoss(offset=0.1)(sphere(k), batch(d, radii=(0.2, 0.5, 1.4))))
    half = sum(math.log1p(math.exp(-k * t)) for t in steps) / 16
    beyond = math.log1p(math.exp(-k * 0.7)) / 3  # one of three points of Ω is
    assert terms == pytest.approx({"inside": half, "outside": half, "beyond": beyond})


@DIMENSIONS
def test_hotspot_of_a_signed_distance_is_the_heat_of_the_sphere(d):
    """‖∇f‖ = 1, so that the integrand is exp(-2λ|f|) · 2, and half of it counts: 5 · mean exp(-2λ|r - R|) here."""
    terms = numbers(HotspotLoss(heat=(3.0,), lambda_=(10.0,))(sphere(), batch(d, radii=(0.5, 0.69, 0.72))))
    heat = 3 * 5 * (math.exp(-4) + math.exp(-0.2) + math.exp(-0.4)) / 3
    assert terms == pytest.approx({"boundary": 0.0, "eikonal": 0.0, "heat": heat}, abs=1e-12)


@DIMENSIONS
def test_viscoreg_of_a_signed_distance_is_the_viscosity_of_its_curvature(d):
    """‖∇f‖ - 1 - ε Δf = -ε (d - 1) / r."""
    terms = numbers(ViscoregLoss(off=0, viscosity=(0.1,))(sphere(), batch(d, radii=(0.2, 0.5, 1.4))))
    mean = (d - 1) * (1 / 0.2 + 1 / 0.5 + 1 / 1.4) / 3
    assert terms == pytest.approx({"surface": 0.0, "off": 0.0, "eikonal": 50 * 0.1 * mean}, abs=1e-10)


@DIMENSIONS
@NORMALS
def test_a_signed_distance_has_a_singular_hessian(d, normals):
    terms = numbers(NshLoss(off=0)(sphere(), batch(d, normals or None)))
    expected = dict.fromkeys(("surface", "off", "eikonal", "singular"), 0.0) | ({"normals": 0.0} if normals else {})
    assert terms == pytest.approx(expected, abs=1e-9)


@DIMENSIONS
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_signed_distance_of_either_sign_has_the_unsigned_one_and_its_gradients(d, sign):
    assert numbers(SalLoss()(sphere(sign), batch(d))) == pytest.approx({"distance": 0.0}, abs=1e-12)
    terms = numbers(SaldLoss()(sphere(sign), batch(d)))
    assert terms == pytest.approx({"distance": 0.0, "gradients": 0.0}, abs=1e-12)


# HotSpot is PHASE's energy in terms of w, and its minimiser is a distance in the limit alone


@DIMENSIONS
def test_the_heat_of_hotspot_is_half_of_phase_s_energy(d):
    lambda_, data = 7.0, batch(d)
    heat = HotspotLoss(heat=(1.0,), lambda_=(lambda_,))(sphere(1.3), data)["heat"].item()
    energy = numbers(PhaseLoss(epsilon=lambda_**-2, output="w")(sphere(1.3), data))
    assert heat == pytest.approx(0.5 * (energy["gradient"] + energy["potential"]))


LAMBDA = 10.0


def outside_a_ball(x):
    """w = r - R + log(r / R) / λ, from the solution R / r · exp(-λ (r - R)) of the screened Poisson equation."""
    r = torch.linalg.vector_norm(x, dim=-1)
    return r - RADIUS + torch.log(r / RADIUS) / LAMBDA


def test_the_heat_about_a_ball_solves_the_screened_poisson_equation():
    """Δh = λ² h for h = exp(-λ w); and ‖∇w‖ is 1 + 1 / (λ r), which is 1 for λ → ∞ only."""
    x = (1.1 * directions(5, 3)).requires_grad_(True)
    heat = torch.exp(-LAMBDA * outside_a_ball(x))
    gradient = derivative(heat, x)
    laplacian = sum(derivative(gradient[:, i], x)[:, i] for i in range(3))
    torch.testing.assert_close(laplacian, LAMBDA**2 * heat)
    slope = torch.linalg.vector_norm(derivative(outside_a_ball(x), x), dim=-1)
    torch.testing.assert_close(slope, torch.full_like(slope, 1 + 1 / (LAMBDA * 1.1)))


def test_the_heat_term_prefers_that_solution_to_the_distance():
    """∫ over r > R, 4πr² dr: less for w than for r - R, and than for anything between or beyond (checked at two)."""
    r = RADIUS + (torch.arange(4000, dtype=torch.float64) + 0.5) / 1000
    x = torch.stack([r, torch.zeros_like(r), torch.zeros_like(r)], dim=-1)
    data = batch(3, omega=x, weights=4 * math.pi * r.square() * 4)

    def heat(share):
        field = Field(lambda x: (1 - share) * sphere()(x) + share * outside_a_ball(x))
        return HotspotLoss(heat=(1.0,), lambda_=(LAMBDA,))(field, data)["heat"].item()

    assert heat(1.0) < min(heat(0.0), heat(0.5), heat(1.5))


# off it


@DIMENSIONS
def test_hotspot_of_half_the_distance(d):
    """Slope ½: |½ - 1| = ½ everywhere; 0.1 off the sphere |f| is 0.05; the integrand is exp(-λ |r - R|) (¼ + 1)."""
    data = batch(d, radii=(0.5,), points=(RADIUS + 0.1) * directions(8, d))
    terms = numbers(HotspotLoss(boundary=(2.0,), eikonal=(3.0,), heat=(4.0,), lambda_=(5.0,))(sphere(0.5), data))
    heat = 4 * 0.5 * 5 * math.exp(-1.0) * 1.25
    assert terms == pytest.approx({"boundary": 0.1, "eikonal": 1.5, "heat": heat})


@DIMENSIONS
def test_viscoreg_of_half_the_distance(d):
    """½ - 1 - ε ½ (d - 1) / r in Ω and |½ - 1| at the points; without ε one mean over both, 1/2."""
    data = batch(d, radii=(0.5, 1.0))
    in_omega = sum(0.5 + 0.2 * 0.5 * (d - 1) / r for r in (0.5, 1.0)) / 2
    terms = ViscoregLoss(eikonal=10, viscosity=(0.2,))(sphere(0.5), data)
    assert terms["eikonal"].item() == pytest.approx(10 * (in_omega + 0.5))
    assert ViscoregLoss(eikonal=10, viscosity=(0.0,))(sphere(0.5), data)["eikonal"].item() == pytest.approx(5.0)


@DIMENSIONS
def test_the_hessian_of_a_paraboloid_is_not_singular(d):
    """f = |x|²: det H = 2^d."""
    terms = NshLoss(singular=(3.0,))(Field(lambda x: x.square().sum(-1)), batch(d))
    assert terms["singular"].item() == pytest.approx(3 * 0.5 * 2**d)


def test_the_determinant_tells_the_axes_apart():
    """f = x² y at (1, 2): H = ((4, 2), (2, 0)), det H = -4."""
    near = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    terms = NshLoss(singular=(1.0,))(Field(lambda x: x[..., 0] ** 2 * x[..., 1]), batch(2, near=near))
    assert terms["singular"].item() == pytest.approx(0.5 * 4)


@DIMENSIONS
def test_determinants_are_those_of_torch_and_have_derivatives_where_they_are_zero(d):
    matrices = torch.randn(6, d, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(determinant(matrices), torch.linalg.det(matrices))
    zero = torch.zeros(1, d, d, dtype=torch.float64, requires_grad=True)
    determinant(zero).sum().backward()
    assert zero.grad is not None
    assert (zero.grad == 0).all()


@DIMENSIONS
def test_sal_and_sald_of_twice_the_distance(d):
    """| |2h| - h | = h; |2n - n| is the sum of the components' sizes of n."""
    data = batch(d)
    h = data.unsigned.distances.mean().item()
    sizes = data.unsigned.gradients.abs().sum(-1).mean().item()
    assert SalLoss()(sphere(2.0), data)["distance"].item() == pytest.approx(h)
    terms = numbers(SaldLoss(gradients=0.5)(sphere(-2.0), data))
    assert terms == pytest.approx({"distance": h, "gradients": 0.5 * sizes})


@DIMENSIONS
def test_igr_of_twice_the_distance(d):
    """Slope 2 everywhere: E (2 - 1)² = 1, ‖∇f - n‖ = 1, and 0.1 off the sphere |f| is 0.2."""
    data = batch(d, points=(RADIUS + 0.1) * directions(8, d))
    terms = numbers(IgrLoss(lambda_=0.3, normals_lambda=0.5)(sphere(2.0), data))
    assert terms == pytest.approx({"surface": 0.2, "eikonal": 0.3, "normals": 0.5})


def test_igr_takes_the_mean_over_near_and_uniform_points_together():
    """f = x² has slope 2|x|: (2|x| - 1)² at near 1, 1, 1 and uniform 0, of the whole mean (3 · 1 + 1 · 1) / 4."""
    field = Field(lambda x: x[..., 0] ** 2)
    one = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    data = batch(2, near=one.expand(3, 2), omega=0.25 * one, weights=torch.ones(1, dtype=torch.float64))
    eikonal = IgrLoss(lambda_=1)(field, data)["eikonal"].item()
    assert eikonal == pytest.approx((3 * 1 + 1 * 0.25) / 4)


def test_each_loss_asks_for_the_points_that_it_looks_at():
    assert [loss for loss in ALL if loss.near] == [IgrLoss, NshLoss]
    assert [loss for loss in ALL if loss.unsigned] == [SalLoss, SaldLoss]


def test_igr_without_its_normal_term():
    assert set(IgrLoss(normals_lambda=0)(sphere(), batch(3))) == {"surface", "eikonal"}


@DIMENSIONS
@FOUR_TERMS
def test_weights_of_half_the_distance(kind, d):
    """Slope ½ everywhere: |½ - 1| = ½ at the data and in Ω; 0.1 off the sphere |f| is 0.05; the angle is zero."""
    data = batch(d, points=(RADIUS + 0.1) * directions(8, d))
    weights = {"surface": 2.0, "normals": 3.0, "off": 0.0, "eikonal": 5.0}
    terms = numbers(kind(**weights)(sphere(0.5), data))
    expected = {"surface": 2 * 0.05, "normals": 0.0, "off": 0.0, "eikonal": 2.5}
    assert {name: terms[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("kind", "turned"), [(SirenLoss, 200.0), (DigsLoss, 0.0), (SteikLoss, 0.0)])
def test_normals_that_point_inward(kind, turned):
    """1 - cos 180° = 2 for SIREN; DiGS and StEik take normals as lines. At 60° both see 1 - ½."""
    normals = directions(8, 3)
    assert kind()(sphere(), batch(3, normals=-normals))["normals"].item() == pytest.approx(turned, abs=1e-9)
    points = torch.tensor([[RADIUS, 0.0]], dtype=torch.float64)
    normals = torch.tensor([[0.5, math.sqrt(0.75)]], dtype=torch.float64)
    assert kind()(sphere(), batch(2, points=points, normals=normals))["normals"].item() == pytest.approx(50)


@DIMENSIONS
def test_second_order_terms_of_a_paraboloid(d):
    """f = |x|²: Δf = 2d; ∇fᵀ H ∇f / ‖∇f‖² = 2, up to 1e-5 beside ‖∇f‖² = 4 r²."""
    field, data = Field(lambda x: x.square().sum(-1)), batch(d, radii=(0.5, 1.0))
    assert DigsLoss(divergence=3)(field, data)["divergence"].item() == pytest.approx(3 * 2 * d)
    along = (2 / (1 + 1e-5) + 2 / (1 + 1e-5 / 4)) / 2
    assert SteikLoss(divergence=3)(field, data)["divergence"].item() == pytest.approx(3 * along)


def test_second_order_terms_tell_the_axes_apart():
    """f = x² y at (1, 2): ∇f = (4, 1), H = ((4, 2), (2, 0)): Δf = 4, ∇fᵀ H ∇f = 80, ‖∇f‖² = 17."""
    field, one = Field(lambda x: x[..., 0] ** 2 * x[..., 1]), torch.ones(1, dtype=torch.float64)
    data = batch(2, omega=torch.tensor([[1.0, 2.0]], dtype=torch.float64), weights=one)
    assert DigsLoss(divergence=1)(field, data)["divergence"].item() == pytest.approx(4)
    assert SteikLoss(divergence=1)(field, data)["divergence"].item() == pytest.approx(80 / (17 + 1e-5))


def test_means_over_omega_do_not_depend_on_the_density_of_its_points():
    """Values 1 and 3, the second drawn three times as often as it should: the mean is 2 all the same."""
    data = batch(2, weights=torch.tensor([3.0, 1.0, 1.0, 1.0]), volume=1.5)
    values = torch.tensor([1.0, 3.0, 3.0, 3.0])
    assert mean_over_omega(values, data).item() == pytest.approx(2)
    assert joint_mean(torch.tensor([8.0, 10.0]), values, data).item() == pytest.approx((2 * 9 + 4 * 2) / 6)


@pytest.mark.parametrize("kind", ALL)
def test_the_shares_of_ranks_average_to_the_whole(kind):
    """Of a batch whose halves have weights of other sums: the terms, and with them the gradient of every step."""
    data = batch(3, radii=(0.2, 0.5, 0.6, 0.9, 1.2, 1.4), weights=torch.tensor([1.0, 2, 3, 4, 5, 9]).double())
    whole, *halves = (numbers(kind()(sphere(1.5), part)) for part in (data, data.share(0, 2), data.share(1, 2)))
    if kind is OccupancyLoss:  # its steps along the normals are even within each share
        whole, *halves = ({"beyond": terms["beyond"]} for terms in (whole, *halves))
    assert {name: (halves[0][name] + halves[1][name]) / 2 for name in whole} == pytest.approx(whole)
    assert halves[0] != pytest.approx(halves[1])


@FOUR_TERMS
def test_without_normals_a_field_and_its_negative_cost_the_same(kind):
    data = batch(3, normals=None)
    assert numbers(kind()(sphere(), data)) == pytest.approx(numbers(kind()(sphere(-1.0), data)))


@pytest.mark.parametrize("kind", [DigsLoss, SteikLoss])
def test_the_second_order_term_is_annealed_to_zero(kind):
    loss, data = kind(), batch(3)
    weights = [loss.at(progress).divergence for progress in (0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 1.0, 1.2)]
    assert weights == pytest.approx([100, 100, 100, 50, 25, 0, 0, 0])
    assert loss.at(0.3).surface == 3000
    late, early = loss.at(0.9)(sphere(), data), loss(sphere(), data)
    assert late["divergence"].item() == 0
    assert list(late) == list(early)  # the log has the same columns throughout
    for name in set(early) - {"divergence"}:
        torch.testing.assert_close(late[name], early[name])
    assert kind(constant_until=0.3, zero_from=0.3).at(0.3).divergence == 0


def test_a_course_is_linear_between_its_values():
    shares = (-0.1, 0.0, 0.25, 0.5, 0.6, 1.0, 1.2)
    assert [at_progress((4.0, 8.0, 3.0), share) for share in shares] == pytest.approx([4, 4, 6, 8, 7, 3, 3])
    assert [at_progress((5.0,), share) for share in shares] == [5.0] * 7


def test_the_weights_of_hotspot_take_their_course():
    """Of their code: λ from 4 to 30 and the eikonal weight from 1 to 10 after a fifth, the heat to 0.1 after four."""
    loss = HotspotLoss()
    moments = [loss.at(share) for share in (0.0, 0.2, 0.6, 0.8, 0.9, 1.0)]
    assert [m.lambda_[0] for m in moments] == pytest.approx([4, 4, 17, 23.5, 26.75, 30])
    assert [m.eikonal[0] for m in moments] == pytest.approx([1, 1, 5.5, 7.75, 8.875, 10])
    assert [m.heat[0] for m in moments] == pytest.approx([20, 20, 20, 20, 10.05, 0.1])
    assert {m.boundary for m in moments} == {(350.0,)}


def test_viscosity_and_the_weight_of_the_hessian_fall():
    shares = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
    viscosity = [ViscoregLoss().at(share).viscosity[0] for share in shares]
    assert viscosity == pytest.approx([0.5, 0.45, 0.4, 0.04, 0.005, 0, 0])
    singular = [NshLoss().at(share).singular[0] for share in shares]
    assert singular == pytest.approx([3, 3, 3, 0.001, 0.0007, 0.0004, 0.00025])


# what a run asks of a loss


@pytest.mark.parametrize("kind", DISTANCES)
def test_what_is_learnt_is_the_distance(kind):
    loss, x = kind(), torch.tensor([-1.5, -0.2, 0.0, 0.3, 2.0])
    assert loss.distance(x) is x
    assert loss.output_for(x) is x
    slope = x.unsqueeze(-1)
    assert loss.distance_gradient(x, slope) is slope
    torch.testing.assert_close(loss.phase(x), torch.tensor([-1.0, -0.2, 0.0, 0.3, 1.0]))
    assert loss.level(0.3) == 0.3
    assert loss.for_noise(0.1) == loss


@pytest.mark.parametrize("count", [1, 2, 100, 2048])
def test_the_offsets_of_an_occupancy_are_even_and_do_not_follow_the_order_of_the_points(count):
    """The points lie on the x axis in their order; each is labelled at x ± t (0, 0, 1)."""
    asked = []

    def field(x):
        asked.append(x[:, 2])
        return x[:, 2]

    points = torch.linspace(-1, 1, count)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    up = torch.tensor([0.0, 0.0, 1.0]).expand(count, 3)
    omega, every = torch.zeros(4, 3), torch.ones(4)
    OccupancyLoss(offset=1.0)(field, Batch(points, up, None, omega, every, 1.0, beyond=every > 0))
    shares = asked[1]
    torch.testing.assert_close(shares.sort().values, (torch.arange(count) + 0.5) / count)
    if count >= 100:
        assert abs(float(torch.corrcoef(torch.stack([shares, points[:, 0]]))[0, 1])) < 0.1


def test_an_occupancy_is_one_half_at_the_surface():
    loss, logit = OccupancyLoss(offset=0.1), torch.tensor([-math.log(3), 0.0, math.log(3)], dtype=torch.float64)
    torch.testing.assert_close(loss.phase(logit), torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64))  # 2 · ¾ - 1
    torch.testing.assert_close(loss.distance(logit), 0.1 * logit)
    torch.testing.assert_close(loss.output_for(loss.distance(logit)), logit)
    torch.testing.assert_close(loss.distance_gradient(logit, logit), 0.1 * logit)
    assert loss.level(0.5) == pytest.approx(0.1 * math.log(3))


@DIMENSIONS
@NORMALS
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("network", [ImplicitNet, SirenNet])
def test_every_parameter_has_a_finite_gradient(kind, network, d, normals):
    if kind.needs_normals and not normals:
        pytest.skip("has no meaning without normals")
    torch.manual_seed(0)
    net = network(d, (8, 8, 8))
    data = vars(batch(d))
    real = {name: t.float() for name, t in data.items() if torch.is_tensor(t) and t.is_floating_point()}
    about = data["unsigned"]
    data = {**data, **real, "unsigned": UnsignedDistances(*(part.float() for part in vars(about).values()))}
    terms = kind()(net, Batch(**{**data, "normals": data["normals"] if normals else None}))
    torch.stack(list(terms.values())).sum().backward()
    gradients = [p.grad for p in net.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert all(g.abs().max() > 0 for g in gradients[:-1])


# errors


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (IgrLoss, {"lambda_": -1.0}, "lambda: must be 0 or above, got -1.0"),
        (SirenLoss, {"off": math.nan}, "off: must be 0 or above, got nan"),
        (
            DigsLoss,
            {"surface": -1.0, "divergence": -2.0},
            "surface: must be 0 or above, got -1.0\ndivergence: must be 0 or above, got -2.0",
        ),
        (DigsLoss, {"constant_until": 2.0}, "constant_until: expected a share of the run, 0 to 1, got 2.0"),
        (SteikLoss, {"zero_from": 0.1}, "zero_from: expected constant_until (0.2) or more, got 0.1"),
        (OccupancyLoss, {"offset": 0.0}, "offset: must be above 0, got 0.0"),
        (HotspotLoss, {"lambda_": ()}, "lambda: expected one or more values of 0 or above, got []"),
        (HotspotLoss, {"heat": (1.0, -1.0)}, "heat: expected one or more values of 0 or above, got [1.0, -1.0]"),
        (
            ViscoregLoss,
            {"off": -1.0, "viscosity": (math.nan,)},
            "off: must be 0 or above, got -1.0\nviscosity: expected one or more values of 0 or above, got [nan]",
        ),
        (NshLoss, {"singular": (-3.0,)}, "singular: expected one or more values of 0 or above, got [-3.0]"),
        (SaldLoss, {"gradients": -1.0}, "gradients: must be 0 or above, got -1.0"),
    ],
)
def test_errors_name_the_value(kind, options, text):
    with pytest.raises(ValueError) as caught:
        kind(**options)
    assert str(caught.value) == text


CONFS = ["igr", "siren", "digs", "steik", "occupancy", "hotspot", "viscoreg", "nsh", "sal", "sald"]


@pytest.mark.parametrize("name", CONFS)
def test_a_configuration_per_loss_with_the_defaults_of_the_publication(name):
    config = load_config(ROOT / "code" / "confs" / f"{name}.conf", (), check_model)
    assert config.network.loss["type"] == name
    assert (config.train.start, config.train.optimizer) == ("network", "adam")
    (kind,) = (loss for loss in ALL if loss.__name__.lower() == f"{name}loss")
    given = {key: value for key, value in config.network.loss.items() if key != "type"}
    given = {"lambda_" if key == "lambda" else key: value for key, value in given.items()}
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    assert kind(**given) == kind(**({"surface": 2000.0} if name == "steik" else {}))


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (("type=digs", "inputs.beta=0"), r"loss\.type: digs needs second derivatives.*beta = 100, or .*SirenNet"),
        (("type=steik", "inputs.beta=0"), r"network\.loss\.type: steik needs second derivatives"),
        (("type=nsh", "inputs.beta=0"), r"network\.loss\.type: nsh needs second derivatives"),
        (("type=viscoreg", "inputs.beta=0"), r"network\.loss\.type: viscoreg needs second derivatives"),
        (("type=hotspot", "loss.lambda=4"), r"loss\.lambda = 4: expected a list \[ \]"),
        (("type=occupancy",), r"network\.has_normals: the occupancy loss needs normals; set it to true"),
        (("type=siren", "output=u"), r"network\.output: only the phase loss can learn u; remove it for siren"),
        (("type=base",), r"network\.loss\.type: .*no class BaseLoss"),
        (("type=igr", "loss.mu=1"), r"loss\.mu: unknown key.*; igr has keys of its own: .*code/confs/igr\.conf"),
        (("type=foo",), r"no module model\.loss\.foo; expected one of base, digs, .*viscoreg$"),
    ],
)
def test_what_a_loss_cannot_work_with_is_refused_at_the_start(overrides, text):
    kind, *others = overrides
    keys = [f"network.loss.{kind}", *(f"network.{key}" for key in others)]
    with pytest.raises(UserError, match=text) as caught:
        load_config(TINY, keys, check_model)
    assert "\n" not in str(caught.value)


def test_a_configuration_of_igr_runs_once_its_loss_is_named(tmp_path):
    path = tmp_path / "setup.conf"
    path.write_text("""
train { d_in = 3, weight_decay = 0, network_class = model.network.ImplicitNet
    learning_rate_schedule = [{ "Type" : "Step", "Initial" : 0.005, "Interval" : 2000, "Factor" : 0.5 }] }
network {
    inputs { dims = [ 8, 8, 8 ], skip_in = [], geometric_init = True, radius_init = 1, beta = 100 }
    sampler { sampler_type = NormalPerPoint, properties { global_sigma = 1.8 } }
    loss { lambda = 0.2, normals_lambda = 3 }
}
""")
    config = load_config(path, ("network.loss.type=igr",), check_model)
    assert config.network.loss == {"type": "igr", "lambda": 0.2, "normals_lambda": 3}
    (warning,) = config.warnings
    assert "global_sigma" in warning
    assert "points about the data are drawn where the loss asks for them" in warning
    assert "normals_lambda" not in warning
