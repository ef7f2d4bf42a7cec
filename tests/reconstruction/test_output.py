"""-o/--output: what it means, and what is refused before the training."""

import shutil

import numpy as np
import pytest

from conftest import Command
from phase_recon.reconstruction import output
from phase_recon.reconstruction.output import output_file
from phase_recon.utils.errors import UserError


def test_what_output_means(tmp_path):
    scan = tmp_path / "scan.ply"
    scan.write_text("")
    assert output_file(tmp_path / "m.OBJ", scan, "ply", "ply", 3) == tmp_path / "m.OBJ"
    assert output_file(tmp_path / "new", scan, "glb", "ply", 3) == tmp_path / "new" / "scan.glb"
    assert output_file(tmp_path / "new", scan, "glb", "svg", 2) == tmp_path / "new" / "scan.svg"
    (tmp_path / "a.folder").mkdir()
    assert output_file(tmp_path / "a.folder", scan, "stl", "ply", 3) == tmp_path / "a.folder" / "scan.stl"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.folder", "scan.ply"]  # nothing is made yet


@pytest.mark.parametrize(
    ("given", "d", "text"),
    [
        ("m.svg", 3, "a mesh is written as .ply, .obj, .stl, .glb, not as .svg"),
        ("m.obj", 2, "a curve in 2D is written as .ply, .svg, .npz, not as .obj"),
        ("scan.ply", 3, "is the cloud itself; give the surface another name"),
        ("none/m.ply", 3, "there is no folder {folder}/none; make it first"),
        (".", 3, "is the cloud itself; give the surface another name"),
        ("scan.ply/m.ply", 3, "there is no folder {folder}/scan.ply; make it first"),
        ("scan.ply/meshes", 3, "{folder}/scan.ply cannot be written (Not a directory); choose another folder"),
    ],
)
def test_outputs_that_are_refused(given, d, text, tmp_path):
    scan = tmp_path / "scan.ply"
    scan.write_text("points")
    with pytest.raises(UserError) as refused:
        output_file(tmp_path / given, scan, "ply", "ply", d)
    assert str(refused.value) == f"--output {tmp_path / given}: {text.format(folder=tmp_path)}"


def test_an_output_that_is_a_link_is_followed_and_a_protected_one_refused(command: Command, clouds, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.ply").write_text("old")
    (tmp_path / "link.ply").symlink_to(tmp_path / "there" / "a.ply")
    assert command(clouds[0], "-o", tmp_path / "link.ply", "--steps", 2).status == 0
    assert (tmp_path / "link.ply").is_symlink()
    assert (tmp_path / "there" / "a.ply").read_bytes().startswith(b"ply\n")


def test_a_write_protected_output_is_refused(clouds, tmp_path, monkeypatch):
    path = tmp_path / "a.ply"
    path.write_text("mine")
    monkeypatch.setattr(output.os, "access", lambda *_: False)  # who runs the tests may be root, who may do all
    with pytest.raises(UserError, match=r"--output .*a\.ply: is write-protected; give the surface another name"):
        output_file(path, clouds[1], "ply", "ply", 3)


def test_an_output_of_another_kind_is_refused_before_anything_is_read(command: Command, tmp_path):
    done = command("nothing.ply", "-o", tmp_path / "m.xyz")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert done.err.endswith(
        "m.xyz: expected a file that ends in .ply, .obj, .stl, .glb, or in 2D in .ply, .svg, .npz; a name without "
        "extension is a folder\n"
    )


def test_an_output_is_kept_where_that_is_asked(command: Command, clouds, tmp_path):
    curve = tmp_path / "mine.ply"
    curve.write_text("old")
    done = command(clouds[0], "-o", curve, "--set", "plot.overwrite=false")
    assert (done.status, curve.read_text()) == (2, "old")
    said = "is there, and plot.overwrite = false; move it, or give another name"
    assert done.err == f"error: --output {curve}: {said}\n"
    assert not (tmp_path / "exps").exists()


def test_an_output_is_none_of_the_files_that_are_read(command: Command, clouds, trained, tmp_path):
    target = shutil.copy(trained[0] / "evaluation" / "250" / "surface.ply", tmp_path / "truth.ply")
    done = command(clouds[0], "-o", target, "--target", target)
    assert done.err == f"error: --output {target}: is the target itself; give the surface another name\n"
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a.xyz", "b.xyz"):
        shutil.copy(clouds[0], scans / name)
    done = command(scans, "-o", scans)
    assert done.status == 2
    assert done.err.startswith(f"error: --output {scans}: is the folder of the clouds, which surfaces could")


def test_an_offset_beside_a_format_that_has_none_stays(tmp_path):
    for name in ("a.ply", "a.ply.offset.txt", "a.stl", "a.stl.offset.txt"):
        (tmp_path / name).write_text("mine")
    assert [line.split()[1] for line in output.replacing(tmp_path / "a.ply", may_replace=True)] == [
        str(tmp_path / "a.ply")
    ]
    assert len(output.replacing(tmp_path / "a.stl", may_replace=True)) == 2


def test_a_surface_in_another_format_does_not_stay_beside_a_new_one(command: Command, clouds, tmp_path):
    found = command(clouds[1], "--steps", 3, "--set", "plot.mesh_format=obj")
    assert found.status == 0
    folder = found.folder / "evaluation" / "3"
    assert (folder / "surface.obj").is_file()
    done = command(clouds[1], "--eval", "--set", "plot.save_ply=false")
    assert (folder / "surface.obj").is_file()  # none was asked for
    assert f"note: {folder / 'surface.obj'}, of an earlier evaluation, stays\n" in done.out
    done = command(clouds[1], "--eval")
    assert f"note: {folder / 'surface.obj'}, of an earlier evaluation, is removed\n" in done.out
    assert sorted(path.name for path in folder.glob("surface.*") if path.suffix not in (".png", ".html")) == [
        "surface.ply"
    ]


def test_the_same_command_with_eval_may_name_its_stations_again(command: Command, tmp_path, monkeypatch):
    random = np.random.default_rng(0).standard_normal((300, 3))
    table = np.append(random / np.linalg.norm(random, axis=1, keepdims=True), np.ones((300, 1)), axis=1)
    np.savetxt(tmp_path / "scan.csv", table, "%.9g", ",", header="x,y,z,station", comments="")
    (tmp_path / "stations.csv").write_text("station,x,y,z\n1,0,0,9\n")
    (tmp_path / "others.csv").write_text("station,x,y,z\n1,0,0,8\n")
    monkeypatch.chdir(tmp_path)
    given = "scan.csv", "--stations", "stations.csv"
    assert command(*given, "--steps", 3).status == 0
    again = command(*given, "--eval")
    assert again.status == 0, again.err
    (changed,) = (line for line in command(*given, "--is-continue", "--steps", 5).out.splitlines() if "changed" in line)
    assert changed == "changed from here on: train.nepoch = 5"
    other = command("scan.csv", "--stations", "others.csv", "--eval")
    assert "--stations cannot be other than in the training" in other.err
