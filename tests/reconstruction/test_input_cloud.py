"""What is read as the cloud of a run, and what is said of it: its normals, its vertices, points on a mesh."""

import json
import math
import re

import numpy as np
import pytest
import trimesh

from conftest import TINY, Command
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.reconstruction.given_normals import examine
from phase_recon.reconstruction.input_cloud import describe, load_cloud, sampled
from phase_recon.reconstruction.target import read_target
from phase_recon.surface.files import write_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.config_files import load_config
from phase_recon.utils.errors import UserError


def test_a_cloud_is_described_with_all_that_came_with_it(tmp_path):
    angle = np.arange(40) / 40 * 2 * math.pi
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.savez(tmp_path / "a.npz", points=points, colours=np.full((40, 3), 200), sensors=points * 2)
    cloud, config = load_cloud(load_config(TINY, [f'train.input_path = "{tmp_path / "a.npz"}"']), print)
    assert describe(cloud, config) == [
        f"cloud: {tmp_path / 'a.npz'}, 40 points in 2D, with colours, sensor positions, without normals"
    ]


def ball(count: int) -> tuple[np.ndarray, np.ndarray]:
    unit = np.random.default_rng(0).standard_normal((count, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    normals = unit / [3.0, 2.0, 2.0]
    return unit * [3.0, 2.0, 2.0] + 100, normals / np.linalg.norm(normals, axis=1, keepdims=True)


def test_good_normals_look_trustworthy_whichever_way_they_all_point():
    points, normals = ball(3000)
    for sign, where in ((1, "outward"), (-1, "inward")):
        found = examine(PointCloud(points, sign * normals))
        assert found.trustworthy
        assert found.fitting > 0.99
        assert found.wrong < 0.01
        assert found.outward == (sign > 0)
        assert found.sentence(False) == (
            "the file's normals look trustworthy: 100% are perpendicular to the surface that the points show, and they "
            f"point {where}; they are not used; --normals uses them"
        )
        assert found.sentence(True).endswith("; they are used")


def test_normals_on_both_sides_do_not():
    points, normals = ball(3000)
    turned = np.where(np.random.default_rng(1).random(3000) < 0.2, -1, 1)[:, None]
    found = examine(PointCloud(points, normals * turned))
    assert not found.trustworthy
    assert found.wrong == pytest.approx(0.2, abs=0.03)
    assert re.fullmatch(
        r"the file's normals do not look trustworthy: about (19|2\d)% point to the wrong side of the surface; they are "
        "used; --no-normals does without them", found.sentence(True)
    )  # fmt: skip


def test_random_normals_do_not():
    points, _ = ball(3000)
    normals = np.random.default_rng(2).standard_normal((3000, 3))
    found = examine(PointCloud(points, normals / np.linalg.norm(normals, axis=1, keepdims=True)))
    assert found.fitting == pytest.approx(1 - 0.85, abs=0.03)  # |cos| of a random direction is uniform
    assert found.sentence(False).endswith("% are perpendicular to the surface that the points show; they are not used")
    assert examine(PointCloud(points)) is None


def test_normals_of_a_curve():
    angle = np.random.default_rng(0).random(500) * 2 * math.pi
    normals = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = examine(PointCloud(5 * normals, normals))
    assert found.trustworthy
    assert found.outward


def test_points_on_the_faces_of_a_mesh(command: Command, tmp_path):
    path = tmp_path / "box.obj"
    trimesh.creation.box((2, 2, 2)).export(path)
    cloud = sampled(path, 6000)
    assert cloud.points.shape == cloud.normals.shape == (6000, 3)
    np.testing.assert_allclose(np.abs(cloud.points).max(axis=1), 1)
    np.testing.assert_allclose((cloud.points * cloud.normals).sum(axis=1), 1)
    on_top = (cloud.points[:, 2] > 1 - 1e-9).sum()
    assert 900 < on_top < 1100  # a sixth of the area
    assert cloud.note == "points are 6000 drawn on the 12 faces of a mesh"
    np.testing.assert_array_equal(sampled(path, 6000).points, cloud.points)

    keys = ("--set", "plot.save_html=false", "--set", "plot.allow_open=true")
    done = command(path, "--sample", 500, "--steps", 1, *keys)
    assert done.status == 0, done.err
    assert f"cloud: {path}, 500 points in 3D, with normals\nnote: points are 500 drawn on the 12 faces" in done.out
    assert load_config(done.folder / "config.conf").train.sample == 500
    again = command("--eval", path, *keys)
    assert again.status == 0, again.err


def test_sampled_points_have_the_colours_of_the_corners_nearest_to_them(tmp_path):
    mesh = trimesh.creation.box()
    mesh.visual.vertex_colors = np.where(mesh.vertices[:, :1] > 0, [[255, 0, 0, 255]], [[0, 0, 255, 255]])
    mesh.export(tmp_path / "box.ply")
    cloud = sampled(tmp_path / "box.ply", 500)
    left = cloud.points[:, 0] < 0
    assert 200 < left.sum() < 300
    np.testing.assert_array_equal(cloud.colours[left], np.broadcast_to([0, 0, 255], (left.sum(), 3)))
    np.testing.assert_array_equal(cloud.colours[~left], np.broadcast_to([255, 0, 0], ((~left).sum(), 3)))


def test_a_target_in_gltf_is_refused_and_not_taken_for_a_cloud(command: Command, clouds, tmp_path):
    for name, content in trimesh.creation.box().scene().export(file_type="gltf").items():
        (tmp_path / name).write_bytes(content)
    done = command(clouds[1], "--target", tmp_path / "model.gltf")
    assert (done.status, done.err.count("\n")) == (2, 1)
    says = "model.gltf: a target in .gltf has its faces in another file; save a mesh as .glb, points as .ply\n"
    assert done.err.endswith(says)


def test_what_has_no_faces_is_not_sampled(tmp_path, clouds):
    with pytest.raises(UserError, match=r"^--sample: .*circle.xyz is no mesh; expected one of \.ply, \.obj, "):
        sampled(clouds[0], 100)
    trimesh.PointCloud(np.eye(3)).export(tmp_path / "points.ply")
    with pytest.raises(UserError, match=r"points\.ply has no faces to draw points on; leave --sample out"):
        sampled(tmp_path / "points.ply", 100)


def test_a_mesh_is_taken_by_its_vertices_and_the_run_says_so(tmp_path):
    from phase_recon.reconstruction.input_cloud import describe

    path = tmp_path / "ball.obj"
    trimesh.creation.icosphere(2).export(path)
    config = load_config(TINY, [f"train.input_path={json.dumps(str(path))}"])
    cloud, config = load_cloud(config, pytest.fail)
    assert "note: points are the 162 vertices of a mesh; --sample N takes N points on its faces instead" in [
        line.split("; its normals")[0] for line in describe(cloud, config)
    ]


def test_targets_that_show_nothing_are_refused(tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    with pytest.raises(UserError, match=r"none\.npy: holds no points; give a target that has some"):
        read_target(tmp_path / "none.npy", 3)
    line = Surface(np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]], dtype=float), np.array([[0, 1, 2]]))
    write_surface(tmp_path / "line.ply", line)
    with pytest.raises(UserError, match=r"line\.ply: all of its cells are degenerate, of no size; export it again"):
        read_target(tmp_path / "line.ply", 3)


def test_vertices_of_a_target_that_no_face_names_do_not_count(tmp_path):
    corners = np.array([[0, 0, 0], [5, 5, 0], [6, 5, 0], [5, 6, 0]], dtype=float)
    write_surface(tmp_path / "t.ply", Surface(corners, np.array([[1, 2, 3]])))
    target = read_target(tmp_path / "t.ply", 3)
    np.testing.assert_array_equal(target.vertices, corners[1:])
    np.testing.assert_array_equal(target.cells, [[0, 1, 2]])
