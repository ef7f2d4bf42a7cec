"""Holes right through a ring, filled by a field that is known by formula."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.outside import Outside, OutsideSettings
from phase_recon.geometry.points import Source
from phase_recon.reconstruction import openings
from phase_recon.reconstruction.detail import correction_of
from phase_recon.reconstruction.field import DetailedField
from phase_recon.reconstruction.openings import OpeningSettings, filled_openings, opened
from phase_recon.reconstruction.preprocess import prepare
from phase_recon.utils.config_files import load_config
from phase_recon.utils.locations import find_configuration

THICK = 0.3  # radius of the ring's tube


def ring_cloud(hole: float, count: int = 6000, noise: float = 0.0) -> PointCloud:
    """Points of a torus whose hole has this radius."""
    random = np.random.default_rng(0)
    around, across = random.uniform(0, 2 * np.pi, (2, 2 * count))
    kept = random.uniform(0, hole + 2 * THICK, 2 * count) < hole + THICK + THICK * np.cos(across)
    around, across = around[kept][:count], across[kept][:count]
    tube = THICK + noise * random.standard_normal(len(around))
    from_axis = hole + THICK + tube * np.cos(across)
    return PointCloud(np.stack([from_axis * np.cos(around), from_axis * np.sin(around), tube * np.sin(across)], axis=1))


class Filled:
    """The signed distance to a torus, but slightly negative in its hole up to a radius and a height, if they are given.

    It is asked as a trained field, normalised.
    """

    sign = 1.0

    def __init__(self, scene, hole, radius=0.0, height=0.0):
        self.scale, centre = scene.domain.normalisation.scale, scene.domain.normalisation.centre
        self.centre, self.hole, self.radius, self.height = torch.from_numpy(centre).float(), hole, radius, height
        self.dimension = 3

    def normalised(self, x):
        place = x * self.scale + self.centre
        from_axis = place[:, :2].norm(dim=1)
        distance = torch.hypot(from_axis - self.hole - THICK, place[:, 2]) - THICK
        plug = (from_axis < self.radius) & (place[:, 2].abs() < self.height) & (distance > 0)
        return torch.where(plug, -0.002, distance / self.scale)

    def normalised_value_and_gradient(self, x):
        x = x.detach().requires_grad_(True)
        value = self.normalised(x)
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]


def scene_of(cloud: PointCloud, *overrides: str):
    return prepare(load_config(find_configuration("setup.conf"), list(overrides)), cloud)


@pytest.fixture(scope="module")
def scene():
    return scene_of(ring_cloud(0.1))


def on_axis(scene, height=0.1, count=21):
    places = np.zeros((count, 3))
    places[:, 2] = np.linspace(-height, height, count)
    return scene.domain.normalisation.apply(places)


def test_a_filled_hole_is_opened_and_nothing_else_is_changed(scene):
    field = Filled(scene, 0.1, radius=0.1, height=0.08)
    correction, count = opened(field, scene)
    assert count == 1
    both = DetailedField(field, correction)
    axis = torch.tensor(on_axis(scene, 0.07), dtype=torch.float32)
    assert field.normalised(axis).max() < 0
    assert both.normalised(axis).min() > 0.01
    points = torch.tensor(scene.points.positions, dtype=torch.float32)
    assert both.normalised(points).abs().max() < 0.01
    away = points[points[:, :2].norm(dim=1) > 0.5]
    assert len(away) > 1000
    assert not correction.value(away).any()


def test_the_body_about_an_opening_stays_as_it_is_on_a_coarse_grid_too(scene, monkeypatch):
    coarse = partial(openings.outside_of, settings=OutsideSettings(most_nodes=60_000))
    monkeypatch.setattr(openings, "outside_of", coarse)
    field = Filled(scene, 0.1, radius=0.1, height=0.08)
    correction, count = opened(field, scene)
    angle, depth = np.meshgrid(np.linspace(0, 2 * np.pi, 100), [0.05, 0.1, 0.2, 0.3])
    within = (0.1 + depth.ravel())[:, None] * np.stack([np.cos(angle.ravel()), np.sin(angle.ravel())], axis=1)
    places = scene.domain.normalisation.apply(np.append(within, np.zeros((len(within), 1)), axis=1))
    body = torch.tensor(places, dtype=torch.float32)
    assert (count, correction.grids[0].spacing > 0.05) == (1, True)
    changed = DetailedField(field, correction).normalised(body) - field.normalised(body)
    assert changed.abs().max() < 0.01  # with nothing told of the body 0.035


def test_where_nothing_is_filled_nothing_is_added(scene):
    correction, count = opened(Filled(scene, 0.1), scene)
    assert (correction.grids, count) == ((), 0)


def test_what_is_as_small_as_noise_stays(scene):
    assert opened(Filled(scene, 0.1, radius=0.01, height=0.01), scene)[1] == 0
    smaller = OpeningSettings(smallest=0.01)
    assert opened(Filled(scene, 0.1, radius=0.02, height=0.02), scene, smaller)[1] == 1


def test_what_leads_nowhere_stays_as_it_would_become_a_bubble(scene):
    field = Filled(scene, 0.1, radius=0.1, height=0.08)
    sealed = Filled(scene, 0.1, radius=10.0, height=10.0)
    assert opened(field, scene)[1] == 1
    assert opened(sealed, scene)[1] == 0


def test_a_wide_hole_is_left_to_the_loss():
    wide = scene_of(ring_cloud(0.4))
    assert opened(Filled(wide, 0.4, radius=0.4, height=0.1), wide)[1] == 0
    wider = OpeningSettings(widest_least=0.5)
    assert opened(Filled(wide, 0.4, radius=0.4, height=0.1), wide, wider)[1] == 1


def test_a_wide_hole_of_which_a_part_is_sure_is_no_narrow_one(monkeypatch):
    """Its width is that of all that seems to be outside. In a narrow one, only what surely is outside is opened."""

    def near_points(outside: Outside, some: np.ndarray) -> np.ndarray:
        return cKDTree(outside.points).query(outside.places[some])[0] < 0.04

    monkeypatch.setattr(Outside, "surely", near_points)
    wide, narrow = scene_of(ring_cloud(0.4)), scene_of(ring_cloud(0.1))
    assert opened(Filled(wide, 0.4, radius=0.4, height=0.1), wide)[1] == 0
    filled = Filled(narrow, 0.1, radius=0.1, height=0.1)
    places = filled_openings(filled, narrow, OpeningSettings())[0]
    monkeypatch.undo()
    assert 0 < len(places) < len(filled_openings(filled, narrow, OpeningSettings())[0])


@pytest.mark.parametrize(
    "unknown",
    [
        {"normals": "none"},  # no normals
        {"coarse_surface": None},  # mixed normals, or a cloud that encloses nothing
    ],
)
def test_without_known_sides_nothing_is_opened(scene, unknown):
    assert opened(Filled(scene, 0.1, radius=0.1, height=0.08), replace(scene, **unknown))[1] == 0


def test_where_few_sides_are_sure_nothing_is_opened(scene):
    unsure = replace(scene, points=replace(scene.points, outward=np.full(len(scene.points), 0.9)))
    assert opened(Filled(scene, 0.1, radius=0.1, height=0.08), unsure)[1] == 0


def test_a_lid_that_closes_a_hole_of_the_cloud_is_kept(scene):
    """Points that were added on a lid are no reason to open it elsewhere, and are not asked to be on the surface."""
    lid = scene.points[np.arange(200)]
    lid = replace(lid, positions=on_axis(scene, 0.05, 200), source=np.full(200, Source.HOLE, dtype=np.uint8))
    closed = replace(scene, points=scene.points + lid)
    correction, _ = opened(Filled(scene, 0.1, radius=0.1, height=0.08), closed)
    near = torch.tensor(on_axis(scene, 0.05), dtype=torch.float32)
    assert not any(len(grid.nodes) and correction.value(near).abs().max() > 0.03 for grid in correction.grids)


def test_the_detail_is_found_about_the_opened_field(scene):
    said: list[str] = []
    field = Filled(scene, 0.1, radius=0.1, height=0.08)
    correction = correction_of(field, scene, said.append)
    assert said[0].startswith("detail: outside, the network had filled places near the points; it is open there now")
    assert correction is not None
    axis = torch.tensor(on_axis(scene, 0.07), dtype=torch.float32)
    assert DetailedField(field, correction).normalised(axis).min() > 0.01
