"""The surface in gaps of the cloud, on circles and spheres of known radius that lack a part."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from phase_recon.geometry.points import Normalisation
from phase_recon.model.loss.phase import HOLE_BEGINS, WIDEST_HOLE, PhaseLoss
from phase_recon.reconstruction.field import NeuralField
from phase_recon.reconstruction.hole_holding import HeldGaps, HoleHoldingSettings
from phase_recon.utils.distributed import ALONE

S = HoleHoldingSettings()
FIRST, LAST = S.held_at - S.averaged + 1, S.held_at
RADIUS, HALF = 0.9, 0.1  # of the ball, and of the gap about its pole


class Ball(torch.nn.Module):
    """w of a ball of a learned radius at points (..., d)."""

    def __init__(self) -> None:
        super().__init__()
        self.radius = torch.nn.Parameter(torch.tensor(RADIUS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(x, dim=-1) - self.radius

    def value_and_gradient(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self(x), torch.nn.functional.normalize(x, dim=-1)


def ball(d: int) -> NeuralField:
    box = np.full(d, 1.5)
    return NeuralField(Ball(), PhaseLoss(), Normalisation(np.zeros(d), 1.0), -box, box, torch.device("cpu"))


def cloud(d: int, count: int = 80_000) -> tuple[np.ndarray, float]:
    """Points of the ball's surface but for a gap about its last axis, and the distance to the 16th neighbour."""
    x = np.random.default_rng(0).standard_normal((count, d))
    x *= RADIUS / np.linalg.norm(x, axis=1, keepdims=True)
    kept = (x[:, -1] < 0) | (np.linalg.norm(x[:, :-1], axis=1) > HALF)
    area = 4 * np.pi * RADIUS**2 if d == 3 else 2 * np.pi * RADIUS
    return x[kept], float(np.sqrt(16 * area / (np.pi * count)) if d == 3 else 8 * area / count)


def watch(held: HeldGaps, field: NeuralField, radii: list[float]) -> list[bool]:
    """What is said after each of the steps that end with the last one, with these radii of the ball."""
    said = []
    for epoch, radius in zip(range(LAST - len(radii) + 1, LAST + 1), radii, strict=True):
        with torch.no_grad():
            field.network.radius.fill_(radius)
        said.append(held.after(epoch, field, ALONE))
    return said


def test_the_energy_in_gaps_falls_with_the_cube_of_the_steps():
    assert [S.weight(epoch) for epoch in (0, 1500, 3000, 15_000)] == [1, 1, 1 / 8, pytest.approx(1e-3)]
    total = sum(S.weight(epoch) for epoch in range(1500, 200_000))  # 1500 ∫_1^∞ t^-3 dt
    assert total == pytest.approx(750, rel=2e-3)


@pytest.mark.parametrize("d", [2, 3])
def test_a_gap_is_held_where_the_mean_of_the_last_weights_has_it(d):
    """Radii of 0.94 and 0.86 in turn are 0.9 on the mean. The points are on the ball, in the gap, half as dense."""
    points, reach = cloud(d)
    held, field = HeldGaps(points, reach), ball(d)
    # the step before the first does not count
    said = watch(held, field, [7.0] + [0.94, 0.86] * (S.averaged // 2))
    assert said == [False] * S.averaged + [True]
    state = held.state_dict()
    x, normals = state["points"].double().numpy(), state["normals"].double().numpy()
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), RADIUS, atol=2e-6)
    np.testing.assert_allclose(normals, x / RADIUS, atol=1e-5)
    nearest = cKDTree(points).query(x)[0]
    assert nearest.min() > HOLE_BEGINS * reach
    open_radius = HALF - HOLE_BEGINS * reach  # of the flat part that is far from the rim
    size = np.pi * open_radius**2 if d == 3 else 2 * open_radius
    whole = 4 * np.pi * RADIUS**2 if d == 3 else 2 * np.pi * RADIUS
    expected = 0.5 * 80_000 * size / whole
    assert held.count == pytest.approx(expected, rel=0.05 + 4 / np.sqrt(expected))


def test_a_surface_that_no_point_is_near_is_not_held():
    """A small second ball is a bubble; and an opening wider than WIDEST_HOLE is not guessed at."""
    points, reach = cloud(3)
    held, field = HeldGaps(points[points[:, 2] < 0], reach), ball(3)
    assert watch(held, field, [RADIUS])[0]
    height = held.state_dict()["points"][:, 2].numpy()
    assert height.min() > 0
    assert height.max() < WIDEST_HOLE  # of an arc, which is longer than its chord

    class Two(Ball):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bubble = torch.linalg.vector_norm(x - torch.tensor([0.0, 0.0, 0.96]), dim=-1) - 0.03
            return torch.minimum(super().forward(x), bubble)

    pole, reach = cloud(3)
    held, field = HeldGaps(pole, reach), replace(field, network=Two())
    assert watch(held, field, [RADIUS])[0]
    height = torch.linalg.vector_norm(held.state_dict()["points"], dim=1)
    torch.testing.assert_close(height, torch.full_like(height, RADIUS), rtol=0, atol=1e-4)


def test_a_surface_that_misses_points_is_not_held_near_them():
    """A lid over the mouth of a hollow, whose floor was scanned, and a gap on the other side."""
    points, reach = cloud(3)
    points = points[(points[:, 2] > 0) | (np.linalg.norm(points[:, :2], axis=1) > HALF)]
    floor = points[points[:, 2] > 0][:500] * 0
    floor[:, :2] = np.random.default_rng(0).uniform(-HALF, HALF, (500, 2)) / 2
    floor[:, 2] = RADIUS - 0.1
    held = HeldGaps(np.concatenate([points, floor]), reach)
    assert watch(held, ball(3), [RADIUS])[0]
    height = held.state_dict()["points"][:, 2]
    assert len(height) > 20
    assert height.max() < 0


def test_a_cloud_with_a_dense_spot_is_held_by_no_more_points_than_it_has():
    points, _ = cloud(3)
    held = HeldGaps(np.concatenate([points[::40], points[:3000] * [1e-4, 1e-4, 0] + [0, 0, -RADIUS]]), 1e-4)
    watch(held, ball(3), [RADIUS])  # at the density of the spot there would be 10^9
    assert 0 < held.count <= 5000


def test_nothing_is_held_without_gaps_or_without_a_surface():
    points, reach = cloud(3, 5000)
    whole = HeldGaps(np.concatenate([points, points * [1, 1, -1]]), reach)
    assert watch(whole, ball(3), [RADIUS]) == [False]
    assert watch(HeldGaps(points[:1].repeat(30, axis=0), 0.0), ball(3), [RADIUS]) == [False]
    none = HeldGaps(points, reach)
    assert watch(none, ball(3), [-1.0]) == [False]
    assert whole.count == none.count == 0


def test_a_run_that_goes_on_knows_the_mean_and_the_points():
    points, reach = cloud(3)
    whole, field = HeldGaps(points, reach), ball(3)
    radii = list(np.linspace(0.85, 0.95, S.averaged))
    watch(whole, field, radii)
    states = []
    for stop in (100, S.averaged):
        first = HeldGaps(points, reach)
        for epoch, radius in zip(range(FIRST, FIRST + stop), radii, strict=False):
            with torch.no_grad():
                field.network.radius.fill_(radius)
            first.after(epoch, field, ALONE)
        second = HeldGaps(points, reach)
        second.load_state_dict(first.state_dict(), field.network)
        watch(second, field, radii[stop:])
        states.append(second.state_dict())
    for state in states:
        assert torch.equal(state["points"], whole.state_dict()["points"])
        assert torch.equal(state["normals"], whole.state_dict()["normals"])
    with pytest.raises(ValueError, match="another network"):
        HeldGaps(points, reach).load_state_dict(
            {"mean": {"radius": torch.zeros(2)}, "points": None, "normals": None}, field.network
        )
    HeldGaps(points, reach).load_state_dict(None, field.network)  # of a version that held none
