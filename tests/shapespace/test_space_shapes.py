"""Which files are shapes, and the frame that they share."""

import json

import numpy as np
import pytest
from ellipsoids import WIDTHS, configured, ellipsoid, write, write_all

from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.shapespace.dfaust import process_scans
from phase_recon.shapespace.shapes import find_shapes, load_shapes
from phase_recon.surface.files import write_surface
from phase_recon.surface.surface import Surface
from phase_recon.utils.errors import UserError


@pytest.fixture(scope="module")
def ellipsoids(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("ellipsoids"))


def silent(line):
    pass


def test_a_folder_of_clouds(ellipsoids):
    names = [f"e{number}" for number in range(7)]
    assert list(find_shapes(str(ellipsoids), None)) == names
    assert list(find_shapes(str(ellipsoids / "e3.npz"), None)) == ["e3"]
    assert list(find_shapes(str(ellipsoids / "e[12].npz"), None)) == ["e1", "e2"]


def test_names_tell_files_of_one_name_apart(tmp_path):
    for part in ("a", "b"):
        write(tmp_path / part / "x.npz", ellipsoid(1.0))
    assert list(find_shapes(str(tmp_path), None)) == ["a/x", "b/x"]


def tetrahedron():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    return Surface(vertices + np.array([5, 0, 0]), np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))


@pytest.fixture
def processed(tmp_path):
    """Two scans of one person in two actions, processed as D-FAUST's."""
    for action, name in (("hips", "hips.000001"), ("jump", "jump.000007")):
        path = tmp_path / "scans" / "50002" / action / f"{name}.ply"
        path.parent.mkdir(parents=True)
        write_surface(path, tetrahedron())
    assert process_scans(tmp_path / "scans", tmp_path / "processed", samples=400) == (2, 0)
    return tmp_path / "processed"


def test_scans_are_processed_into_points_and_normals_about_their_mean(processed, tmp_path):
    file = processed / "50002" / "hips" / "hips.000001.npy"
    rows = np.load(file)
    assert rows.shape == (400, 6)
    np.testing.assert_allclose(rows[:, :3].mean(axis=0), 0, atol=1e-12)
    beside = np.load(file.with_name("hips.000001_normalization.npy"), allow_pickle=True).item()  # as IGR reads it
    assert beside["scale"] == 1
    x = rows[:, :3] + beside["center"] - [5, 0, 0]
    on = np.stack([x[:, 0], x[:, 1], x[:, 2], (1 - x.sum(1)) / np.sqrt(3)])  # the distances from the four faces
    np.testing.assert_allclose(np.abs(on).min(axis=0), 0, atol=1e-6)
    outward = np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, -1], np.full(3, 1 / np.sqrt(3))])
    np.testing.assert_allclose(rows[:, 3:], outward[np.abs(on).argmin(axis=0)], atol=1e-6)
    assert process_scans(tmp_path / "scans", processed, samples=400) == (0, 2)  # they are there


def test_processed_scans_are_shapes_and_a_split_names_some(processed, tmp_path):
    assert list(find_shapes(str(processed), None)) == ["hips/hips.000001", "jump/jump.000007"]
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"scans": {"50002": {"jump": ["jump.000007"]}}}))
    (name, file), *others = find_shapes(str(processed), str(split)).items()
    assert (name, others) == ("50002/jump/jump.000007", [])
    assert load_point_cloud(file).normals is not None


@pytest.mark.parametrize(
    ("split", "text"),
    [
        ({"scans": {"a": {"b": ["none"]}}}, r"data_split: .*names 1 files that are not there, such as .*none\.npy"),
        ({"scans": {}}, r"data_split: .*names no shapes"),
        (["scans"], r"data_split: .*cannot be read as a split \(expected \{\"scans\": "),
    ],
)
def test_a_split_that_is_none_is_refused(processed, tmp_path, split, text):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(split))
    with pytest.raises(UserError, match=text):
        find_shapes(str(processed), str(path))


def test_what_is_no_scan_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no scans: expected <person>/<action>/<name>\.ply"):
        process_scans(tmp_path, tmp_path / "out")


def test_all_shapes_are_in_one_frame(ellipsoids):
    """The widest, 1.2, has distance 1 from the middle of them all; the others keep their size beside it."""
    shapes = load_shapes(configured(ellipsoids), silent)
    assert shapes.names == [f"e{number}" for number in range(7)]
    assert shapes.domain.normalisation.scale == pytest.approx(1.2, abs=0.01)
    for scene, width in zip(shapes.scenes, WIDTHS, strict=True):
        extent = np.abs(scene.points.positions).max(axis=0)
        assert extent == pytest.approx([width / 1.2, 1 / 1.2, 1 / 1.2], abs=0.03)
        assert scene.domain is shapes.domain
    np.testing.assert_allclose(shapes.domain.upper, 1.5 * np.array([1, 1 / 1.2, 1 / 1.2]), atol=0.02)


def test_lengths_of_a_cloud_follow_into_the_frame(tmp_path):
    """The same cloud alone and beside one of twice its size: its spacing is half as long there."""
    small = ellipsoid(1.0)
    write(tmp_path / "one" / "a.npz", small)
    write(tmp_path / "two" / "a.npz", small)
    big = ellipsoid(1.0, seed=1)
    write(tmp_path / "two" / "b.npz", type(big)(2 * big.points, big.normals))
    alone, beside = (load_shapes(configured(tmp_path / name), silent) for name in ("one", "two"))
    assert beside.scenes[0].scale.spacing == pytest.approx(alone.scenes[0].scale.spacing / 2, rel=0.01)
    assert alone.fingerprint != beside.fingerprint


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda folder: np.savetxt(folder / "a.xyz", ellipsoid(1.0).points), r"a\.xyz: has no normals, but"),
        (lambda folder: None, r"names no clouds; expected files with one of"),
    ],
)
def test_shapes_that_cannot_be_used(tmp_path, make, text):
    make(tmp_path)
    with pytest.raises(UserError, match=text):
        load_shapes(configured(tmp_path), silent)


def test_curves_and_surfaces_do_not_mix(tmp_path):
    write(tmp_path / "a.npz", ellipsoid(1.0))
    write(tmp_path / "b.npz", ellipsoid(1.0, d=2))
    with pytest.raises(UserError, match=r"holds clouds of 2 and of 3 dimensions: keep one kind"):
        load_shapes(configured(tmp_path), silent)
