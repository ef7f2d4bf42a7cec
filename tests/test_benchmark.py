"""The benchmark's cases and tables; what it runs is tested with those commands."""

import numpy as np
import pytest
import trimesh

from reconstruction.benchmark import Case, _summary, find_cases
from utils.errors import UserError


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    np.savetxt(folder / "scan.xyz", trimesh.creation.icosphere(2).vertices)
    trimesh.creation.icosphere(2).export(folder / "scan_gt.off")
    trimesh.creation.box().export(folder / "box.obj")
    return folder


def test_scans_have_their_truth_and_meshes_are_sampled(data, tmp_path):
    cases = list(find_cases(data, tmp_path / "out", "500:0,100:0.01"))
    clouds = tmp_path / "out" / "clouds"
    assert cases == [
        Case("box-500-0", clouds / "box-500-0.npz", data / "box.obj"),
        Case("box-100-0.01", clouds / "box-100-0.01.npz", data / "box.obj"),
        Case("scan", data / "scan.xyz", data / "scan_gt.off"),
    ]
    exact, noisy = (np.load(case.cloud) for case in cases[:2])
    np.testing.assert_allclose(np.abs(exact["points"]).max(axis=1), 0.5)  # on a face of the unit cube
    off = np.abs(np.abs(noisy["points"]).max(axis=1) - 0.5)
    assert 0.002 < off.mean() < 0.02  # noise of 0.01 of the radius √3/2
    assert (np.abs((exact["points"] * exact["normals"]).sum(axis=1) - 0.5) < 1e-12).all()


def test_clouds_are_the_same_every_time(data, tmp_path):
    first, second = (next(find_cases(data, tmp_path / name, "50:0.01")).cloud for name in ("a", "b"))
    np.testing.assert_array_equal(np.load(first)["points"], np.load(second)["points"])


def test_a_summary_gives_the_median_and_the_worst():
    assert _summary([1.0, 3.0, 2.0], "d_C") == "2 (worst 3)"
    assert _summary([0.9, 0.7, 0.8], "iou") == "0.8 (worst 0.7)"
    assert _summary([], "d_C") == ""


def test_malformed_clouds_are_refused(data, tmp_path):
    with pytest.raises(UserError, match=r"--clouds 'many': expected points:noise, such as 5000:0\.005"):
        list(find_cases(data, tmp_path / "out", "many"))
