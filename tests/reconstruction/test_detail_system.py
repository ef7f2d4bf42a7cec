"""The linear system of the detail: its solution is the least of the energy, whole or in blocks."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from waves import bumps, data_of, on_sphere

from conftest import spline_at
from phase_recon.model.grid import nodes_about
from phase_recon.reconstruction import detail_system
from phase_recon.reconstruction.detail import point_distance
from phase_recon.reconstruction.detail_system import Data, solve


def test_the_solution_is_the_least_of_the_three_terms():
    directions = on_sphere(200, 3)
    points = bumps(directions)[:, None] * directions
    generator = np.random.default_rng(3)
    data = Data(
        points, generator.normal(size=200), generator.normal(size=(200, 3)), on_sphere(200, 3, 4), generator.random(200)
    )
    spacing, lambda_, noise = 0.3, 0.5, 0.06
    before = detail_system.STEPS, detail_system.TOLERANCE
    detail_system.STEPS, detail_system.TOLERANCE = 2000, 1e-7
    try:
        nodes, system = detail_system.system_of(data, spacing, lambda_, noise)
        coefficients = system.solution()
    finally:
        detail_system.STEPS, detail_system.TOLERANCE = before
    np.testing.assert_array_equal(nodes, nodes_about(np.rint(points / spacing).astype(int), 1))

    c = torch.from_numpy(coefficients.astype(np.float64)).requires_grad_(True)
    apart = torch.from_numpy(points[:, None, :] / spacing - nodes[None])  # (N, M, 3), by definition of the spline
    t, signs = apart.abs(), torch.sign(apart)
    b = torch.where(t < 0.5, 0.75 - t**2, torch.where(t < 1.5, 0.5 * (1.5 - t) ** 2, 0 * t))
    slope = signs * torch.where(t < 0.5, -2 * t, torch.where(t < 1.5, t - 1.5, 0 * t)) / spacing
    value = b.prod(-1) @ c
    along = [torch.stack([slope[..., a] if a == axis else b[..., a] for a in range(3)]) for axis in range(3)]
    gradient = torch.stack([factors.prod(0) @ c for factors in along], -1)
    trust = torch.from_numpy(data.trust)
    off = torch.from_numpy(data.gradients - data.normals) + gradient
    energy = ((torch.from_numpy(data.values) + value) ** 2).sum()
    nu = lambda_ * spacing**2 + noise**2
    energy = energy + nu * (trust * off.square().sum(-1)).sum()
    index = {tuple(node): number for number, node in enumerate(nodes.tolist())}
    axes = np.eye(3, dtype=int)
    bending = torch.zeros((), dtype=torch.float64)
    for node in index:
        for i in range(3):
            for j in range(3):  # ∂²g / ∂x_i ∂x_j in differences, each of the nine entries of the Hessian once
                steps = ([-axes[i], 0 * axes[i], axes[i]] if i == j else
                         [0 * axes[i], axes[i], axes[j], axes[i] + axes[j]])  # fmt: skip
                near = [index.get(tuple((np.array(node) + step).tolist())) for step in steps]
                if None not in near:
                    factors = torch.tensor([1.0, -2.0, 1.0] if i == j else [1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
                    bending = bending + (factors @ c[near]) ** 2
    energy = energy + lambda_ * bending  # κ s^(d - 4) with κ = λ s^(4 - d)
    force = torch.autograd.grad(energy, c)[0]
    start = torch.autograd.grad(((torch.from_numpy(data.values) + b.prod(-1) @ c) ** 2).sum(), c)[0]
    assert float(force.abs().max()) < 1e-3 * float(start.abs().max())


def test_blocks_give_what_the_whole_gives(monkeypatch):
    directions = on_sphere(4000, 3)
    data = data_of(bumps(directions)[:, None] * directions)
    spacing = point_distance(data.points)
    whole = solve(data, spacing, 0.1, 0.0)
    monkeypatch.setattr(detail_system, "BLOCK_POINTS", 1500)
    assert len(detail_system.boxes(data.points, 0.0)) == 4
    parts = solve(data, spacing, 0.1, 0.0)
    for one, other in zip(whole.grids, parts.grids, strict=True):
        np.testing.assert_array_equal(one.nodes, other.nodes)
    np.testing.assert_allclose(spline_at(parts, data.points)[0], spline_at(whole, data.points)[0], atol=2e-4)


def test_boxes_of_a_flat_floor_with_a_mast_come_to_an_end(monkeypatch):
    """More than half of the points are at the least height, which is the median, too."""
    monkeypatch.setattr(detail_system, "BLOCK_POINTS", 100)
    random = np.random.default_rng(0)
    floor = np.c_[random.uniform(-1, 1, (300, 2)), np.zeros(300)]
    mast = np.c_[0.01 * random.uniform(-1, 1, (200, 2)), random.uniform(0, 9, 200)]
    points = np.r_[floor, mast]
    inside = [((points >= box.lower) & (points < box.upper)).all(axis=1) for box in detail_system.boxes(points, 0.0)]
    assert (np.sum(inside, axis=0) == 1).all()
    assert max(part.sum() for part in inside) <= 100


def test_boxes_fill_space_and_hold_each_point_once(monkeypatch):
    monkeypatch.setattr(detail_system, "BLOCK_POINTS", 100)
    points = on_sphere(1000, 3)
    inside = [((points >= box.lower) & (points < box.upper)).all(axis=1) for box in detail_system.boxes(points, 0.0)]
    assert (np.sum(inside, axis=0) == 1).all()
    assert max(part.sum() for part in inside) <= 100


def test_each_box_knows_the_points_within_a_margin_about_it(monkeypatch):
    monkeypatch.setattr(detail_system, "BLOCK_POINTS", 100)
    points, margin = on_sphere(1000, 3), 0.1
    for box in detail_system.boxes(points, margin):
        about = ((points >= box.lower - margin) & (points < box.upper + margin)).all(axis=1)
        np.testing.assert_array_equal(np.sort(box.about), np.flatnonzero(about))


def test_the_correction_dies_out_away_from_the_points():
    directions = on_sphere(3000, 3)
    half = directions[directions[:, 0] > 0]
    data = data_of(0.62 * half)
    spacing = point_distance(data.points)
    found = solve(data, spacing, 0.1, 0.0)
    places = np.random.default_rng(1).uniform(-8, 8, (3000, 3))
    reach = np.sqrt(3) * 4 * spacing  # half a cell, a ring, and 1.5 for a spline are less
    far = cKDTree(data.points).query(places)[0] > reach
    assert far.sum() > 500
    assert not spline_at(found, places)[0][far].any()
    assert np.median(spline_at(found, 0.62 * half)[0]) == pytest.approx(-0.02, abs=2e-3)


def test_noise_does_not_make_the_field_flat():
    """The least weight of the normals is the noise's square: with none, a field that is zero everywhere fits best."""
    directions = on_sphere(2000, 3)
    noise = 0.01
    data = data_of((0.6 + noise * np.random.default_rng(5).normal(size=2000))[:, None] * directions)
    spacing = point_distance(data.points)
    places = 0.6 * on_sphere(500, 3, seed=1)
    found = [spline_at(solve(data, spacing, 1e-4, sigma), places)[1] for sigma in (0.0, noise)]
    slopes = [(gradient * places / 0.6).sum(axis=1) for gradient in found]
    flat, whole = (np.median(1 + slope) for slope in slopes)  # of the field along the normals: 1 is right
    assert flat < 0.7 < whole
