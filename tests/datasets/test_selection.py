"""What is read of a file: a box, one point per voxel, classes, opacity; answers by hand or by a double loop."""

from pathlib import Path

import numpy as np
import pytest

from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.datasets.readers import read_table
from phase_recon.datasets.selection import Selection
from phase_recon.utils import memory
from phase_recon.utils.errors import UserError

POINTS = np.random.default_rng(2).uniform(-2, 2, (400, 3))


@pytest.fixture(params=["a.npy", "a.xyz"])
def cloud(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same points, of which the text is read in many parts."""
    monkeypatch.setattr("phase_recon.datasets.table.BLOCK_BYTES", 1000)
    path = tmp_path / request.param
    if path.suffix == ".npy":
        np.save(path, POINTS)
    else:
        np.savetxt(path, POINTS, fmt="%.17g")
    return path


def refusal(path: Path, selection: Selection) -> str:
    with pytest.raises(UserError) as caught:
        load_point_cloud(path, selection=selection)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_crop_keeps_the_ends(cloud: Path) -> None:
    low, high = np.sort(POINTS[:2, 0])
    read = load_point_cloud(cloud, selection=Selection(crop=(low, high, None, 1.5, None, None)))
    x, y, _ = POINTS.T
    kept = (x >= low) & (x <= high) & (y <= 1.5)
    np.testing.assert_array_equal(read.points, POINTS[kept])
    assert kept[:2].sum() == (POINTS[:2, 1] <= 1.5).sum()
    assert read.note == f"left out: {np.count_nonzero(~kept)} points outside the crop"


def test_voxels_keep_their_first_points(cloud: Path) -> None:
    taken, first = set(), []
    for i, point in enumerate(POINTS):
        cell = tuple(int(np.floor(x / 0.75)) for x in point)
        if cell not in taken:
            taken.add(cell)
            first.append(i)
    assert len(first) < 200
    read = load_point_cloud(cloud, selection=Selection(voxel=0.75))
    np.testing.assert_array_equal(read.points, POINTS[first])
    assert read.note == f"left out: {400 - len(first)} points beyond one per voxel"


def test_voxels_at_large_coordinates(tmp_path: Path) -> None:
    shift = np.array([4e5, 5e6, 0])
    np.save(tmp_path / "a.npy", POINTS + shift)
    np.save(tmp_path / "b.npy", POINTS)
    selection = Selection(voxel=0.5)  # which divides the shift
    far, near = (load_point_cloud(tmp_path / name, selection=selection).points for name in ("a.npy", "b.npy"))
    np.testing.assert_allclose(far - shift, near, atol=1e-8)


def test_classes_and_opacity_by_name(tmp_path: Path) -> None:
    classes = np.arange(400) % 7
    np.savetxt(tmp_path / "a.csv", np.c_[POINTS, classes], header="x,y,z,Classification", delimiter=",", comments="")
    table = read_table(tmp_path / "a.csv", Selection(classes=(2, 6)))
    np.testing.assert_array_equal(table.columns["classification"], classes[np.isin(classes, [2, 6])])
    np.save(tmp_path / "a.npy", POINTS)
    assert "has no classes: leave out --classes (train.classes)" in refusal(tmp_path / "a.npy", Selection(classes=(2,)))
    assert "has no opacities, as 3D Gaussians have" in refusal(tmp_path / "a.npy", Selection(min_opacity=0.5))


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, POINTS)
    assert "3D points but --crop (train.crop) has 4 ends: expected 6" in refusal(path, Selection(crop=(0, 1, 0, 1)))
    assert "cells of --voxel 1e-07 (train.voxel): give larger cells" in refusal(path, Selection(voxel=1e-7))
    text = refusal(path, Selection(crop=(9, None, None, None, None, None)))
    assert "holds 0 points (left out: 400 points outside the crop): expected 10 or more" in text


def test_what_is_cropped_needs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phase_recon.datasets.table.BLOCK_BYTES", 1000)
    monkeypatch.setattr(memory, "available_memory", lambda: 100 * 3 * memory.BYTES_PER_NUMBER)  # of a hundred points
    np.savetxt(tmp_path / "a.xyz", POINTS)
    assert "read less of it: train.voxel or train.crop (--voxel, --crop)" in refusal(tmp_path / "a.xyz", Selection())
    crop = (-2.0, -1.6, None, None, None, None)
    assert len(load_point_cloud(tmp_path / "a.xyz", selection=Selection(crop=crop)).points) < 100
    assert "read less of it" in refusal(tmp_path / "a.xyz", Selection(crop=(-2, 1, None, None, None, None)))
