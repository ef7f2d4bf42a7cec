"""The points of a step: unbiased integrals over Ω, the density itself, and batches that hang together."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from phase_recon.model.batch import EstimatedNormals, together
from phase_recon.model.sampling import (
    EXACT_WITHIN,
    MAX_NODES,
    Clearance,
    OmegaDensity,
    Sampler,
    neighbour_distance,
    unsigned_distances,
)

CPU = torch.device("cpu")
WIDTH = 0.2
BOXES = {  # corners of Ω, neither centred nor cubic
    2: (np.array([-1.5, -1.2]), np.array([1.1, 1.6])),
    3: (np.array([-1.5, -1.2, -1.0]), np.array([1.1, 1.3, 1.2])),
}


def cloud(d, n=400, radius=0.7, seed=0):
    """Points of a circle or sphere about the origin."""
    x = np.random.default_rng(seed).standard_normal((n, d))
    return radius * x / np.linalg.norm(x, axis=1, keepdims=True)


def draw(d, near_fraction, count, seed=0, points=None, width=WIDTH):
    density = OmegaDensity(cloud(d) if points is None else points, *BOXES[d], near_fraction, width)
    x, weights = density.sample(count, torch.Generator().manual_seed(seed))
    return x.double().numpy(), weights.double().numpy()


# integrands (points) -> values, each with its integral over the box from corner to corner


def constant(x):
    return np.ones(len(x))


def volume(lower, upper):
    return np.prod(upper - lower)


def polynomial(x):
    return x[:, 0] ** 2 + 2 * x[:, 1]


def integral_of_polynomial(lower, upper):
    """The means of x² and y over the box, times its volume."""
    mean_of_square = (upper[0] ** 3 - lower[0] ** 3) / (3 * (upper[0] - lower[0]))
    return (mean_of_square + (upper[1] + lower[1])) * volume(lower, upper)


CENTRE, SPREAD = np.array([-1.1, 1.0, 0.9]), 0.25  # in a corner, away from the cloud


def bump(x):
    return np.exp(-(((x - CENTRE[: x.shape[1]]) / SPREAD) ** 2).sum(1))


def integral_of_bump(lower, upper):
    sides = [
        SPREAD * math.sqrt(math.pi) / 2 * (math.erf((b - c) / SPREAD) - math.erf((a - c) / SPREAD))
        for a, b, c in zip(lower, upper, CENTRE, strict=False)
    ]
    return math.prod(sides)


@pytest.mark.parametrize(
    ("integrand", "integral"),
    [(constant, volume), (polynomial, integral_of_polynomial), (bump, integral_of_bump)],
    ids=["constant", "polynomial", "bump"],
)
@pytest.mark.parametrize("near_fraction", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("d", [2, 3])
def test_integrals_over_omega_are_unbiased(d, near_fraction, integrand, integral):
    x, weights = draw(d, near_fraction, 300_000, seed=5)
    values = weights * integrand(x)
    standard_error = values.std() / math.sqrt(len(values))
    assert values.mean() == pytest.approx(integral(*BOXES[d]), rel=1e-6, abs=4 * standard_error)
    assert standard_error < 0.08 * abs(integral(*BOXES[d]))  # so that the line above says something


@pytest.mark.parametrize("d", [2, 3])
def test_integrals_vary_less_than_by_chance(d):
    """Of the band about the cloud, where the energy is; independent points have their standard error."""
    integrals, errors = [], []
    for seed in range(40):
        x, weights = draw(d, 0.5, 2000, seed)
        values = weights * np.exp(-10 * np.abs(np.linalg.norm(x, axis=1) - 0.7)) * (x[:, 0] > 0.3)
        integrals.append(values.mean())
        errors.append(values.std() / math.sqrt(2000))
    assert np.std(integrals) < (0.5 if d == 2 else 0.7) * np.mean(errors)


@pytest.mark.parametrize("near_fraction", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("d", [2, 3])
def test_points_stay_in_omega_and_weights_in_their_bounds(d, near_fraction):
    x, weights = draw(d, near_fraction, 50_000)
    lower, upper = BOXES[d]
    assert x.shape == (50_000, d)
    assert weights.shape == (50_000,)
    assert (x >= lower - 1e-6).all()
    assert (x <= upper + 1e-6).all()
    assert (x.min(0) < lower + 0.02 * (upper - lower)).all()
    assert (x.max(0) > upper - 0.02 * (upper - lower)).all()
    assert (weights > 0).all()
    assert (weights <= volume(lower, upper) / (1 - near_fraction) * (1 + 1e-6)).all()


@pytest.mark.parametrize("d", [2, 3])
def test_uniform_points_have_equal_weights(d):
    _, weights = draw(d, 0.0, 100)
    assert weights == pytest.approx(volume(*BOXES[d]))


@pytest.mark.parametrize("near_fraction", [0.5, 0.9])
def test_density_of_one_point_is_the_formula_and_voxels_are_hit_as_often(near_fraction):
    """A box 2 × 2 of 8 × 8 voxels, the point in voxel (2, 5); every voxel's mass from a plain double loop."""
    lower, upper, width, voxel = np.full(2, -1.0), np.full(2, 1.0), 0.5, 0.25
    density = OmegaDensity(np.array([[-0.4, 0.3]]), lower, upper, near_fraction, width)
    near = np.empty((8, 8))
    for i in range(8):
        for j in range(8):
            distance = max(0.0, math.hypot(i - 2, j - 5) * voxel - voxel)
            near[i, j] = math.exp(-2 * distance / width)
    mass = (1 - near_fraction) / 64 + near_fraction * near / near.sum()

    count = 100_000
    points, weights = density.sample(count, torch.Generator().manual_seed(1))
    i, j = np.floor((points.numpy() + 1) / voxel).astype(int).clip(0, 7).T
    np.testing.assert_allclose(weights.numpy(), voxel**2 / mass[i, j], rtol=1e-5)
    hits = np.zeros((8, 8))
    np.add.at(hits, (i, j), 1)
    expected = count * mass
    chi_square = ((hits - expected) ** 2 / expected).sum()
    assert expected.min() > 20
    assert chi_square < 63 + 4 * math.sqrt(2 * 63)  # mean and standard deviation of χ² with 63 degrees


@pytest.mark.parametrize("d", [2, 3])
def test_near_points_gather_about_the_data(d):
    points = cloud(d, n=4000)
    tree = cKDTree(points)
    near, far = (tree.query(draw(d, f, 20_000, points=points)[0])[0] < 2 * WIDTH for f in (0.9, 0.0))
    # exp(-2 · 2) of the near share is beyond two widths of a flat cloud, less or more by the voxels
    assert near.mean() > 0.9 * (1 - 2 * math.exp(-4)) * 0.9
    assert near.mean() > 1.2 * far.mean()
    assert (~near).mean() > 0.3 * (1 - 0.9) * (~far).mean()  # the rest of Ω is still seen


def test_points_outside_omega_do_no_harm():
    x, weights = draw(2, 0.5, 1000, points=np.array([[9.0, 0.0], [0.0, -9.0]]))
    assert np.isfinite(x).all()
    assert np.isfinite(weights).all()


def test_the_density_is_seeded_and_survives_a_move():
    density = OmegaDensity(cloud(2), *BOXES[2], 0.5, WIDTH)
    first, again, other = (density.sample(20, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    moved = density.to(torch.device("cpu")).sample(20, torch.Generator().manual_seed(3))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert torch.equal(first[0], moved[0])
    assert not torch.equal(first[0], other[0])


# the clearance


@pytest.mark.parametrize("d", [2, 3])
def test_the_clearance_is_the_distance_to_the_cloud(d):
    """At random places of Ω, which is neither centred nor cubic; to half a cell where it is interpolated by cubes."""
    points = cloud(d, 3000)
    lower, upper = BOXES[d]
    x = lower + (upper - lower) * np.random.default_rng(1).random((500, d))
    exact = np.linalg.norm(x[:, None] - points, axis=-1).min(axis=1)
    off = np.abs(Clearance(points, lower, upper, CPU)(torch.tensor(x, dtype=torch.float32)).numpy() - exact)
    edge = (np.prod(upper - lower) / MAX_NODES) ** (1 / d)
    assert off.max() < edge
    assert off[exact < EXACT_WITHIN - edge].mean() < 0.1 * edge


def test_the_clearance_reaches_the_corners_of_omega():
    points = np.array([[-1.5, -1.2, -1.0], [1.1, 1.3, 1.2]])
    clearance = Clearance(points, *BOXES[3], CPU)
    corners = torch.tensor(np.array(list(itertools.product(*points.T))), dtype=torch.float32)
    exact = torch.cdist(corners, torch.tensor(points, dtype=torch.float32)).amin(1)
    torch.testing.assert_close(clearance(corners), exact, rtol=0, atol=1e-5)


def test_a_batch_has_a_clearance_where_it_is_asked_for():
    points = cloud(3, 200)
    aware = sampler(clearance=Clearance(points, *BOXES[3], CPU), spacing=0.3)
    batch = aware.draw(torch.Generator().manual_seed(0), hole_weight=0.5)
    exact = torch.cdist(batch.omega, torch.tensor(points, dtype=torch.float32)).amin(1)
    assert (batch.clearance - exact).abs().max() < 0.03
    assert batch.spacing == batch.share(0, 2).spacing == 0.3
    assert batch.hole_weight == batch.share(0, 2).hole_weight == 0.5
    torch.testing.assert_close(batch.share(1, 2).clearance, batch.clearance[35:])
    without = aware.draw(torch.Generator().manual_seed(0))
    assert without.clearance is None
    assert torch.equal(without.omega, batch.omega)
    assert sampler().draw(torch.Generator().manual_seed(0), hole_weight=0.5).clearance is None


# batches


def sampler(d=3, n=200, normals=True, **sizes):
    points = cloud(d, n)
    unit = torch.tensor(points / 0.7, dtype=torch.float32)
    settings = {"points_batch": 30, "pts_per_ball": 8, "ball_radius": 0.05, "pts_in_omega": 70}
    return Sampler(
        points=torch.tensor(points, dtype=torch.float32),
        normals=unit if normals else None,
        omega=OmegaDensity(points, *BOXES[d], 0.5, WIDTH),
        **(settings | sizes),
    )


@pytest.mark.parametrize("d", [2, 3])
def test_shapes_of_a_batch(d):
    batch = sampler(d).draw(torch.Generator().manual_seed(0))
    drawn = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    shapes = {name: tuple(tensor.shape) for name, tensor in drawn.items()}
    assert shapes == {
        "points": (30, d),
        "normals": (30, d),
        "balls": (30, 8, d),
        "omega": (70, d),
        "weights": (70,),
        "beyond": (70,),
    }
    assert {tensor.dtype for name, tensor in drawn.items() if name != "beyond"} == {torch.float32}
    assert sampler(d, normals=False).draw(torch.Generator().manual_seed(0)).normals is None


def test_places_that_are_empty_are_drawn_beside_the_rest():
    """Each as often as any other; what else a batch has stays the same."""
    places = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.0, 0.2]])
    plain, batch = (
        one.draw(torch.Generator().manual_seed(0)) for one in (sampler(), sampler(empty=places, points_batch=30))
    )
    assert plain.empty is None
    assert batch.empty.shape == (30, 3)
    assert {tuple(row) for row in batch.empty.tolist()} == {tuple(row) for row in places.tolist()}
    assert torch.equal(batch.omega, plain.omega)
    assert torch.equal(batch.share(1, 2).empty, batch.empty[15:])
    assert together([batch, batch]).empty.shape == (60, 3)
    assert together([batch, plain]).empty is None  # what not all shapes know is left out


def test_points_that_join_are_drawn_like_the_others():
    """Of 200 and 100 more at the origin a third is these; their estimated normals are not to be trusted."""
    more, up = torch.zeros(100, 3), torch.tensor([[0.0, 0.0, 1.0]]).expand(100, 3)
    known = EstimatedNormals(torch.zeros(200, 3), torch.ones(200), torch.ones(200, dtype=torch.bool))
    few = sampler(estimated=known, spread=torch.linspace(1e-3, 2e-3, 200), points_batch=6000)
    batch = few.joined(more, up).draw(torch.Generator().manual_seed(0))
    joined = (batch.points == 0).all(-1)
    assert int(joined.sum()) == pytest.approx(2000, abs=20)  # two of them for each, to the parts that two share
    assert (batch.normals[joined] == up[0]).all()
    assert (batch.estimated.directions[joined] == up[0]).all()
    assert torch.equal(batch.estimated.trust, (~joined).float())
    assert torch.equal(batch.estimated.oriented, ~joined)
    assert batch.near[joined].std() == pytest.approx(1.5e-3, rel=0.05)
    plain = sampler(normals=False).joined(more, up).draw(torch.Generator().manual_seed(0))
    assert plain.normals is plain.estimated is plain.near is None


def test_batches_follow_the_generator():
    one, two = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    first, second = sampler().draw(one), sampler().draw(one)
    for expected in (first, second):
        got = sampler().draw(two)
        drawn = {name: value for name, value in vars(expected).items() if isinstance(value, torch.Tensor)}
        assert all(torch.equal(tensor, getattr(got, name)) for name, tensor in drawn.items())
    assert not torch.equal(first.points, second.points)
    assert not torch.equal(first.omega, second.omega)


def test_points_keep_their_normals_and_balls():
    """The normals of the sphere are its points over the radius, so a wrong pair shows."""
    batch = sampler(points_batch=500).draw(torch.Generator().manual_seed(2))
    torch.testing.assert_close(0.7 * batch.normals, batch.points)
    reach = torch.linalg.vector_norm(batch.balls - batch.points.unsqueeze(1), dim=-1)
    assert reach.max() <= 0.05 * (1 + 1e-5)
    assert reach.max() > 0.9 * 0.05


def test_balls_of_no_size_are_not_drawn():
    batch = sampler(ball_radius=0.0).draw(torch.Generator().manual_seed(2))
    assert batch.balls is None
    assert batch.share(0, 2).balls is None


def test_a_batch_larger_than_the_cloud():
    few = sampler(n=3, points_batch=50)
    batch = few.draw(torch.Generator().manual_seed(1))
    assert batch.points.shape == (50, 3)
    matches = (batch.points.unsqueeze(1) == few.points).all(-1)  # (50, 3)
    assert matches.any(1).all()  # nothing but points of the cloud,
    assert matches.any(0).all()  # and each of them


def test_every_point_is_drawn_equally_often():
    counts = torch.zeros(10)
    tiny = sampler(n=10, points_batch=20_000, pts_in_omega=1, pts_per_ball=1)
    batch = tiny.draw(torch.Generator().manual_seed(1))
    for i, point in enumerate(tiny.points):
        counts[i] = (batch.points == point).all(-1).sum()
    assert counts.sum() == 20_000
    assert ((counts - 2000).abs() <= 1).all()


def test_a_batch_covers_the_cloud_evenly():
    """A point of each of 30 parts of 10 along the curve, each of the 10 about as often; patches of the sphere are hit
    as often as their share, and not more or less by chance.
    """
    even, generator = sampler(n=300), torch.Generator().manual_seed(0)
    place = torch.empty(300, dtype=torch.long)
    place[even.order] = torch.arange(300)
    hits, above = torch.zeros(300), []
    for _ in range(500):
        drawn = even.draw(generator).points
        chosen = (drawn.unsqueeze(1) == even.points).all(-1).nonzero()[:, 1]
        assert torch.equal(place[chosen] // 10, torch.arange(30))
        hits[chosen] += 1
        above.append((drawn[:, 2] > 0).double().mean().item())
    assert ((hits - 50).abs() < 4.5 * math.sqrt(500 * 0.1 * 0.9)).all()
    share = (even.points[:, 2] > 0).double().mean().item()
    assert np.mean(above) == pytest.approx(share, abs=0.01)
    assert np.std(above) < 0.5 * math.sqrt(share * (1 - share) / 30)


# what some losses ask for besides


@pytest.mark.parametrize("d", [2, 3])
def test_the_spread_is_the_distance_to_the_50th_neighbour(d):
    cloud = np.random.default_rng(0).random((120, d))
    distances = np.sort(np.linalg.norm(cloud[:, None] - cloud, axis=-1), axis=1)
    np.testing.assert_allclose(neighbour_distance(cloud), distances[:, 50])  # 0 is the point itself
    few = np.linalg.norm(cloud[:20, None] - cloud[:20], axis=-1)
    np.testing.assert_allclose(neighbour_distance(cloud[:20]), few.max(axis=1))  # the last there is


def test_points_are_drawn_as_often_as_their_areas_are_large():
    """Of 100 points the last 20 stand for four times as much: 80 of 160, so half of the draws, all but exactly."""
    points = np.stack([np.linspace(-0.5, 0.5, 100), np.zeros(100)], axis=-1)
    areas = torch.tensor([1.0] * 80 + [4.0] * 20)
    uneven = sampler(2, 100, normals=False, areas=areas, points_batch=1000)
    uneven = replace(uneven, points=torch.tensor(points, dtype=torch.float32))
    drawn = uneven.draw(torch.Generator().manual_seed(0)).points[:, 0]
    assert abs(int((drawn > 0.3).sum()) - 500) <= 2
    counts = torch.bincount(((drawn + 0.5) * 99).round().long(), minlength=100)
    assert (counts[:80] - 6.25).abs().max() < 2
    assert (counts[80:] - 25).abs().max() < 2
    joined = uneven.joined(torch.ones(40, 2), torch.ones(40, 2))  # 40 of 200
    drawn = joined.draw(torch.Generator().manual_seed(0)).points[:, 0]
    assert abs(int((drawn > 0.9).sum()) - 200) <= 2


def test_near_points_are_gaussian_about_their_own_point():
    cloud = torch.tensor([[-0.5, 0.0], [0.5, 0.0]])
    spread = torch.tensor([0.01, 0.1])
    omega = OmegaDensity(cloud.numpy().astype(float), np.full(2, -1.0), np.full(2, 1.0), 0.0, 0.1)
    sampler = Sampler(cloud, None, omega, 4000, 1, 0.0, 50, spread=spread)
    batch = sampler.draw(torch.Generator().manual_seed(0))
    assert batch.near is not None
    offset = batch.near - batch.points
    for point, sigma in zip(cloud, spread, strict=True):
        here = offset[(batch.points == point).all(-1)]
        assert here.std(dim=0).tolist() == pytest.approx([sigma.item()] * 2, rel=0.06)
        assert here.mean(dim=0).abs().max() < 0.1 * sigma
    plain = Sampler(cloud, None, omega, 4000, 1, 0.0, 50).draw(torch.Generator().manual_seed(0))
    assert plain.near is None
    assert torch.equal(plain.omega, batch.omega)


@pytest.mark.parametrize("d", [2, 3])
def test_unsigned_distances_are_those_to_the_nearest_point(d):
    points = cloud(d, 60)
    about = unsigned_distances(points, CPU, seed=0, count=300)
    offsets = about.points.numpy()[:, None] - points  # to every point of the cloud, by brute force
    nearest = np.linalg.norm(offsets, axis=-1).argmin(1)
    step = offsets[np.arange(600), nearest]
    np.testing.assert_allclose(about.distances.numpy(), np.linalg.norm(step, axis=1), atol=1e-5)
    np.testing.assert_allclose(about.gradients * about.distances[:, None], step, atol=1e-5)
    again, other = (unsigned_distances(points, CPU, seed, count=300) for seed in (0, 1))
    assert torch.equal(again.points, about.points)
    assert not torch.equal(other.points, about.points)


def test_half_of_them_are_near_and_half_have_a_spread_of_one():
    """About two points, each the last neighbour of the other, 0.02 away."""
    points = np.array([[0.0, 0.0], [0.02, 0.0]])
    about = unsigned_distances(points, CPU, seed=0, count=4000)
    near, far = about.points.numpy()[:4000], about.points.numpy()[4000:]
    assert near[:, 1].std() == pytest.approx(0.02, rel=0.05)
    assert far.std(axis=0) == pytest.approx([1, 1], rel=0.05)


def test_a_batch_has_as_many_near_as_far():
    points = torch.tensor(cloud(3), dtype=torch.float32)
    omega = OmegaDensity(cloud(3), *BOXES[3], 0.5, WIDTH)
    about = unsigned_distances(cloud(3), CPU, seed=0, count=500)
    batch = Sampler(points, None, omega, 40, 1, 0.0, 10, unsigned=about).draw(torch.Generator().manual_seed(0))
    assert batch.unsigned is not None
    rows = [(about.points == point).all(-1).nonzero().item() for point in batch.unsigned.points]
    assert sum(row < 500 for row in rows) == 20
    assert torch.equal(batch.unsigned.distances, about.distances[rows])
    assert torch.equal(batch.unsigned.gradients, about.gradients[rows])
    first, second = batch.share(0, 2).unsigned, batch.share(1, 2).unsigned
    assert first is not None
    assert second is not None
    assert torch.equal(torch.cat([first.distances, second.distances]), batch.unsigned.distances)


def test_points_beyond_the_cloud_s_box_are_told():
    cloud = torch.tensor([[-0.5, -0.25], [0.5, 0.25]])
    omega = OmegaDensity(cloud.numpy().astype(float), np.full(2, -1.0), np.full(2, 1.0), 0.0, 0.1)
    batch = Sampler(cloud, None, omega, 4, 1, 0.0, 500).draw(torch.Generator().manual_seed(0))
    assert batch.beyond is not None
    within = (batch.omega.abs() <= torch.tensor([0.5, 0.25])).all(-1)
    assert torch.equal(batch.beyond, ~within)
    assert batch.beyond.double().mean().item() == pytest.approx(1 - 0.5 / 4, abs=0.05)
