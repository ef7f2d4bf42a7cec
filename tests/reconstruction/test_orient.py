"""The command that writes a cloud with oriented normals: on a sphere and a circle, whose normals are known."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from conftest import CENTRES, RADIUS, TINY
from phase_recon.datasets.ply import ply_of_columns
from phase_recon.datasets.pointcloud import load_point_cloud
from phase_recon.reconstruction import run
from phase_recon.reconstruction.input_cloud import load_cloud
from phase_recon.reconstruction.orient import main
from phase_recon.utils.config_files import load_config
from phase_recon.utils.errors import UserError


@pytest.mark.parametrize("kind", [0, 1], ids=["2D", "3D"])
def test_a_cloud_is_written_with_outward_normals(clouds, kind, tmp_path: Path, capsys):
    output = tmp_path / "normals.ply"
    assert main([str(clouds[kind]), "-o", str(output)]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"oriented: {output}")
    read = load_point_cloud(output)
    np.testing.assert_array_equal(read.points, load_point_cloud(clouds[kind]).points)
    np.testing.assert_allclose(read.normals, (read.points - CENTRES[kind]) / RADIUS, atol=0.02)
    assert b"property double confidence" in output.read_bytes()[:400]


def test_a_part_of_a_cloud_is_oriented(clouds, tmp_path: Path):
    output, middle = tmp_path / "n.ply", CENTRES[1][2] - 10
    assert main([str(clouds[1]), "-o", str(output), f"--crop=,,,,{middle}", "--voxel=2"]) == 2
    assert main([str(clouds[1]), "-o", str(output), f"--crop=,,,,{middle},"]) == 0
    every, read = load_point_cloud(clouds[1]).points, load_point_cloud(output).points
    np.testing.assert_array_equal(read, every[every[:, 2] >= middle])


def test_it_is_a_command_of_run_py_too_and_writes_beside_nothing(clouds, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run.main(["orient", str(clouds[1])]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sphere_oriented.ply"]


def test_a_folder_that_is_not_there_is_made(clouds, tmp_path: Path):
    output = tmp_path / "new" / "below" / "n.ply"
    assert main([str(clouds[1]), "-o", str(output)]) == 0
    assert output.is_file()


def test_what_is_there_is_replaced_unless_that_is_forbidden(clouds, tmp_path: Path, capsys):
    output = tmp_path / "n.ply"
    output.write_text("mine")
    assert main([str(clouds[1]), "-o", str(output), "--set", "plot.overwrite=false"]) == 2
    said = capsys.readouterr().err
    assert said == f"error: --output {output}: is there, and plot.overwrite = false; move it, or give another name\n"
    assert output.read_text() == "mine"
    assert main([str(clouds[1]), "-o", str(output)]) == 0
    assert f"note: {output} is there, and will be replaced" in capsys.readouterr().out


def test_a_folder_of_the_name_of_a_command_does_not_hide_it(clouds, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orient").mkdir()
    assert run.main(["orient", str(clouds[1])]) == 0


def test_what_is_wrong_is_said_in_a_line(clouds, tmp_path: Path, capsys):
    for arguments, says in (
        ([tmp_path / "none.xyz"], "none.xyz: no such file"),
        ([clouds[1], "-o", tmp_path / "x.obj"], "oriented points are written as .ply, not as .obj"),
        ([clouds[1], "--crop", "1,0,,,,"], "--crop: expected"),
    ):
        assert main([str(argument) for argument in arguments]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1


def test_a_cloud_too_noisy_for_normals_is_not_said_to_enclose_nothing(tmp_path: Path, capsys):
    random = np.random.default_rng(0)
    points = random.standard_normal((1500, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    np.savetxt(tmp_path / "noisy.xyz", points + 0.12 * random.standard_normal((1500, 3)))
    assert main([str(tmp_path / "noisy.xyz"), "-o", str(tmp_path / "n.ply")]) == 2
    said = capsys.readouterr().err
    assert "noisy.xyz: shows no normals: its points are too few or too noisy for their spacing; more or better" in said


def positions_of(count):
    """Of a sphere's points (count, 3) of radius 2, their stations' numbers, and the stations: six about it."""
    height = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (1 + 5**0.5) * np.arange(count)
    points = 2 * np.stack([*(np.sqrt(1 - height**2) * f(turn) for f in (np.cos, np.sin)), height], axis=1)
    around = np.arange(4) * np.pi / 2
    ring = 9 * np.stack([np.cos(around), np.sin(around), 0 * around], axis=1)
    stations = np.concatenate([ring, [[0, 0, 9], [0, 0, -9]]])
    number = np.argmin(np.linalg.norm(points[:, None] - stations, axis=2), axis=1)
    return points, number + 7, stations


def test_stations_are_joined_by_their_numbers(tmp_path, capsys):
    points, number, stations = positions_of(600)
    rows = np.column_stack([points, number])
    np.savetxt(tmp_path / "scan.csv", rows, "%.9g", ",", header="x,y,z,station", comments="")
    table = np.column_stack([np.arange(7, 13), stations])[::-1]
    np.savetxt(tmp_path / "stations.csv", table, "%.9g", ",", header="station,x,y,z", comments="")
    keys = [f'train.input_path = "{tmp_path / "scan.csv"}"', f'train.stations = "{tmp_path / "stations.csv"}"']
    cloud, _ = load_cloud(load_config(TINY, keys), print)
    np.testing.assert_allclose(cloud.sensors, stations[number - 7], atol=1e-8)

    given = ["--stations", str(tmp_path / "stations.csv"), "-o", str(tmp_path / "o.ply")]
    assert main([str(tmp_path / "scan.csv"), *given]) == 0
    assert "warning" not in capsys.readouterr().out
    table_as_ply = tmp_path / "stations.ply"
    names = ("station", "x", "y", "z")
    table_as_ply.write_bytes(before := ply_of_columns(dict(zip(names, table.T, strict=True))))
    onto_it = [str(tmp_path / "scan.csv"), "--stations", str(table_as_ply), "-o", str(table_as_ply)]
    for command, what in ((main, "cloud with normals"), (run.main, "surface")):
        assert command(onto_it) == 2
        said = f"error: --output {table_as_ply}: is the table of stations itself; give the {what} another name\n"
        assert capsys.readouterr().err == said
    assert table_as_ply.read_bytes() == before
    (tmp_path / "none.csv").write_text("x,y,z,station\n")
    assert main([str(tmp_path / "scan.csv"), "--stations", str(tmp_path / "none.csv")]) == 2
    assert "none.csv: holds no stations: expected a row station,x,y,z for each" in capsys.readouterr().err
    # the stations of each point in another order
    mixed = np.column_stack([points, np.random.default_rng(0).permutation(number)])
    np.savetxt(tmp_path / "scan.csv", mixed, "%.9g", ",", header="x,y,z,station", comments="")
    assert main([str(tmp_path / "scan.csv"), *given]) == 0
    out = capsys.readouterr().out
    assert "of the points face the sensor that is said to have seen them, and the cloud hides others from it" in out


@pytest.mark.parametrize(
    ("table", "column", "text"),
    [
        ("station,x,y,z\n7,1,2,3\n", "station", "lists no station 8, 9, 10, 11, 12, of which"),
        ("station,x,y,z\n7,1,2,3\n7,1,2,3\n", "station", "lists a station twice: keep one row of each"),
        ("x,y,z\n1,2,3\n", "station", "names no column station: expected a first line station,x,y,z"),
        ("station,x,y\n1,2,3\n", "station", "holds 2D positions, but"),
        ("station,x,y,z\n7,1,2,3\n", "place", "has no column that tells the station of each point: name one station"),
    ],
)
def test_stations_that_do_not_fit(tmp_path, table, column, text):
    points, number, _ = positions_of(60)
    rows = np.column_stack([points, number])
    np.savetxt(tmp_path / "scan.csv", rows, "%.9g", ",", header=f"x,y,z,{column}", comments="")
    (tmp_path / "stations.csv").write_text(table)
    with pytest.raises(UserError) as refused:
        load_point_cloud(tmp_path / "scan.csv", stations=tmp_path / "stations.csv")
    assert text in str(refused.value)


def test_points_without_a_station_are_counted(tmp_path):
    rows = [f"{x},{y},{z},{'' if k < 3 else 7}" for k, (x, y, z) in enumerate(positions_of(60)[0].tolist())]
    (tmp_path / "scan.csv").write_text("\n".join(["x,y,z,station", *rows]))
    (tmp_path / "stations.csv").write_text("station,x,y,z\n7,1,2,3\n")
    with pytest.raises(UserError, match=r"scan\.csv: 3 of 60 points have no station: give them one, or remove them$"):
        load_point_cloud(tmp_path / "scan.csv", stations=tmp_path / "stations.csv")


def test_a_station_may_have_a_name_where_nobody_asks_for_it(tmp_path):
    points = positions_of(60)[0]
    rows = [f"{x},{y},{z},S1" for x, y, z in points.tolist()]
    (tmp_path / "scan.csv").write_text("\n".join(["x,y,z,station", *rows]))
    assert len(load_point_cloud(tmp_path / "scan.csv").points) == 60


def test_one_sensor_for_all_points_tells_the_sides_of_an_open_sheet(tmp_path, capsys):
    """A cap that is seen from above has its upper side outside, and one that is seen from below its lower."""
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 2000))
    np.savetxt(tmp_path / "cap.xyz", np.stack([x, y, 0.3 * (x**2 + y**2)], axis=1))
    for sign in (1, -1):
        assert main([str(tmp_path / "cap.xyz"), f"--sensor=0,0,{9 * sign}", "-o", str(tmp_path / "o.ply")]) == 0
        data = trimesh.load(tmp_path / "o.ply").metadata["_ply_raw"]["vertex"]["data"]
        assert (np.sign(data["nz"]) == sign).all()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["train.sensor=[1]"], "--set: train.sensor: expected 2 or 3 coordinates, got (1.0,)"),
        (["train.sensor=[1, 2]"], "has 2 coordinates, but"),
        (["train.sensor=[1, 2, 3]", "train.stations=a.csv"], "one or the other, this or stations"),
        (["train.sensor=[1, 2, 3]", "network.has_normals=true"], "--sensor (train.sensor): has no meaning with"),
        (["train.sensor=[1, 2, 3]", "train.sample=50"], "sample: has no meaning with sensor; leave one of them out"),
    ],
)
def test_a_sensor_that_means_nothing(clouds, settings, text):
    with pytest.raises(UserError) as refused:
        load_cloud(load_config(TINY, [f'train.input_path = "{clouds[1]}"', *settings]), print)
    assert text in str(refused.value)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_run_leaves_the_cloud_with_the_normals_it_found(command, clouds, shapes, kind):
    folder = command(clouds[kind], "--set", "train.start=winding", "--set", "train.estimate_normals=true").folder
    oriented = load_point_cloud(folder / "evaluation" / "10" / "oriented.ply")
    np.testing.assert_array_equal(oriented.points, shapes[kind])
    np.testing.assert_allclose(oriented.normals, (shapes[kind] - CENTRES[kind]) / RADIUS, atol=0.02)
    assert b"property double confidence" in (folder / "evaluation" / "10" / "oriented.ply").read_bytes()[:400]


def test_normals_that_were_given_are_not_written_again(command, shapes, tmp_path):
    points = shapes[1]
    np.savez(tmp_path / "a.npz", points=points, normals=points - points.mean(axis=0))
    done = command(tmp_path / "a.npz", "--normals")
    assert done.status == 0, done.err
    assert "oriented" not in done.out
    assert not list(done.folder.rglob("oriented.ply"))
