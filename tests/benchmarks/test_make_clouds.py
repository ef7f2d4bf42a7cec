"""The command that writes clouds and truths."""

import csv
import sys

import numpy as np
import pytest

from phase_recon.benchmarks.make_clouds import main
from phase_recon.benchmarks.shapes import SHAPES
from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.reconstruction.benchmark import Case, find_cases
from phase_recon.surface.files import read_surface


@pytest.fixture
def make(tmp_path, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["make_clouds.py", *(str(a) for a in arguments)])
        return main(), capsys.readouterr()

    return call


def test_clouds_and_truths_are_cases_of_the_benchmark(make, tmp_path):
    folder = tmp_path / "new" / "clouds"
    status, _ = make(folder, "--shapes", "plate,nested_2d", "--kinds", "noisy,scan")
    assert status == 0
    assert list(find_cases(folder, tmp_path / "out", "10:0")) == [
        Case("nested_2d-noisy", folder / "nested_2d-noisy.npz", folder / "nested_2d_gt.ply"),
        Case("plate-noisy", folder / "plate-noisy.npz", folder / "plate_gt.ply"),
        Case("plate-scan", folder / "plate-scan.npz", folder / "plate_gt.ply"),
    ]
    truth = read_surface(folder / "plate_gt.ply")
    np.testing.assert_array_equal(truth.vertices, SHAPES["plate"].surface().vertices)
    scan = np.load(folder / "plate-scan.npz")
    assert scan["sensor_position"].shape == scan["points"].shape == scan["normals"].shape
    with (folder / "clouds.csv").open(newline="") as file:
        plate, other, ring = csv.DictReader(file)
    assert (plate["cloud"], plate["split"], plate["noise"], plate["points"]) == (
        "plate-noisy", "development", "0.005", "5000"
    )  # fmt: skip
    assert 0.01 < float(plate["spacing"]) < 0.03
    assert (other["kind"], ring["euler_characteristic"], ring["components"]) == ("scan", "0", "3")


def test_the_table_keeps_the_clouds_of_earlier_calls_that_are_there(make, tmp_path):
    for shape in ("plate", "nested_2d", "star_2d"):
        make(tmp_path, "--shapes", shape, "--kinds", "noisy")
    (tmp_path / "plate-noisy.npz").unlink()
    make(tmp_path, "--shapes", "star_2d", "--kinds", "noisy")
    with (tmp_path / "clouds.csv").open(newline="") as file:
        assert [row["cloud"] for row in csv.DictReader(file)] == ["nested_2d-noisy", "star_2d-noisy"]


def test_ply_holds_the_same_numbers(make, tmp_path):
    assert make(tmp_path / "a", "--shapes", "plate", "--kinds", "scan")[0] == 0
    assert make(tmp_path / "b", "--shapes", "plate", "--kinds", "scan", "--ply")[0] == 0
    first = load_point_cloud(tmp_path / "a" / "plate-scan.npz")
    second = load_point_cloud(tmp_path / "b" / "plate-scan.ply")
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_allclose(first.normals, second.normals, atol=1e-15)


def test_sensor_positions_can_be_left_out_and_nothing_else_changes(make, tmp_path):
    make(tmp_path / "a", "--shapes", "plate", "--kinds", "scan")
    make(tmp_path / "b", "--shapes", "plate", "--kinds", "scan", "--no-sensors")
    told, untold = (np.load(tmp_path / name / "plate-scan.npz") for name in "ab")
    assert set(told) - set(untold) == {"sensor_position"}
    np.testing.assert_array_equal(told["points"], untold["points"])


def test_another_seed_has_another_name(make, tmp_path):
    make(tmp_path, "--shapes", "plate", "--kinds", "noisy", "--seed", 2)
    make(tmp_path, "--shapes", "plate", "--kinds", "noisy")
    first, second = (np.load(tmp_path / name)["points"] for name in ("plate-noisy-2.npz", "plate-noisy.npz"))
    assert (first != second).any()


def test_nested_shapes_are_not_scanned_and_the_split_chooses(make, tmp_path):
    make(tmp_path, "--shapes", "box_in_box,plate", "--kinds", "scan,coarse", "--split", "checking")
    assert {path.name for path in tmp_path.glob("*.npz")} == {"box_in_box-coarse.npz"}


def test_the_list_names_all(make):
    status, said = make("--list")
    assert status == 0
    assert all(name in said.out for name in (*SHAPES, "stereo", "scan_side"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: a folder is needed"),
        (("x", "--shapes", "teapot"), "error: --shapes 'teapot': expected some of bracket, "),
        (("x", "--kinds", "scan,blurred"), "error: --kinds 'blurred': expected some of exact, noisy, "),
        (("x", "--seed", "-1"), "error: --seed '-1': expected whole numbers from 0 on"),
    ],
)
def test_mistakes_are_said_in_a_line(make, arguments, message):
    status, said = make(*arguments)
    assert status == 2
    assert said.err.startswith(message)
    assert said.err.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_said(make, tmp_path):
    (tmp_path / "file").write_text("")
    status, said = make(tmp_path / "file" / "below", "--shapes", "plate")
    assert status == 2
    assert "cannot be made (Not a directory); choose another folder" in said.err
