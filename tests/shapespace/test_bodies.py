"""The family made by formulas: distances by hand, one topology, none alike, and the files of the command."""

import math

import numpy as np
import pytest
import torch

from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.shapespace.bodies import _capsule, _turned, body, cloud_of, write_bodies
from phase_recon.surface.files import read_surface
from phase_recon.utils.errors import UserError


def test_the_distance_from_a_capsule():
    """Of the segment from 0 to (2, 0, 0), radius 0.5: beside it, beyond its end, and inside."""
    x = torch.tensor([[1.0, 3.0, 0.0], [5.0, 4.0, 0.0], [-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    distance = _capsule(x, np.zeros(3), np.array([2.0, 0.0, 0.0]), 0.5)
    assert distance.tolist() == pytest.approx([2.5, 4.5, 0.5, -0.5])


def test_limbs_turn_down_forward_and_outward():
    np.testing.assert_allclose(_turned(0, 0, 1), [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(_turned(90, 0, 1), [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(_turned(0, 90, -1), [-1, 0, 0], atol=1e-12)


def test_bodies_have_one_topology_and_stand_in_one_place():
    for index in range(6):
        surface = body(index).surface(72)
        assert surface.components()[0] == 1
        assert surface.euler_characteristic() == 2
        assert np.abs(surface.vertices).max() < 1.2
        top = surface.vertices[:, 2].max()
        assert top == pytest.approx(0.96, abs=0.02)  # the head


def test_two_hundred_bodies_are_all_different_and_made_again_alike():
    many = [body(index) for index in range(200)]
    assert len(set(many)) == 200
    assert body(17) == many[17]
    assert body(17, seed=1) != many[17]


def test_a_cloud_lies_on_its_body_and_its_normals_point_outward():
    shape = body(3)
    points, normals = cloud_of(shape, 500, noise=0.0, seed=0)
    x = torch.from_numpy(points)
    assert shape.distance(x).abs().max() < 0.01
    assert (shape.distance(x + 0.02 * torch.from_numpy(normals)) > 0).all()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    noisy, _ = cloud_of(shape, 500, noise=0.01, seed=0)
    assert (noisy - points).std() == pytest.approx(0.01, rel=0.1)


def test_what_is_written(tmp_path):
    write_bodies(tmp_path, 2, 1, count=50, noise=0.0, seed=0)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["test/body_0002.npz", "train/body_0000.npz", "train/body_0001.npz", "truth/body_0002.ply"]
    cloud = load_point_cloud(tmp_path / "test" / "body_0002.npz")
    assert cloud.points.shape == (50, 3)
    assert cloud.normals is not None
    assert read_surface(tmp_path / "truth" / "body_0002.ply").euler_characteristic() == 2


def test_a_family_is_not_mixed_with_another_split_of_it(tmp_path):
    assert write_bodies(tmp_path, 2, 1, 50, 0.0, 0) == 0
    assert write_bodies(tmp_path, 2, 1, 50, 0.0, 0) == 3  # the same again
    with pytest.raises(UserError, match=r"train: holds other shapes, such as body_0001\.npz; give another --out"):
        write_bodies(tmp_path, 1, 2, 50, 0.0, 0)
    (tmp_path / "test" / "body_0002.npz").unlink()
    with pytest.raises(UserError, match=r"truth: holds other shapes, such as body_0002\.ply; give another --out"):
        write_bodies(tmp_path, 2, 0, 50, 0.0, 0)
    with pytest.raises(UserError, match="--seed: expected 0 or more, got -1"):
        write_bodies(tmp_path, 1, 0, 50, 0.0, -1)
    with pytest.raises(UserError, match=r"^--noise: expected 0 or more, got nan$"):
        write_bodies(tmp_path, 1, 0, 50, math.nan, 0)


def test_a_family_without_shapes_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"bodies: expected at least 1 for training and 10 points, got 0 and 50"):
        write_bodies(tmp_path, 0, 1, count=50, noise=0.0, seed=0)
