"""Which clouds a command is given: folders, globs and lists, without the surfaces that runs of ours left."""

from pathlib import Path

import numpy as np
import pytest
from test_batch import put

from phase_recon.reconstruction.batch_clouds import common_folder, find_clouds, names_many
from phase_recon.reconstruction.output import MADE_BY
from phase_recon.surface.files import write_surface
from phase_recon.surface.surface import Surface, transform
from phase_recon.utils.errors import UserError


def test_what_names_many_clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan[1].ply").write_text("")
    (tmp_path / "@x.ply").write_text("")
    assert [names_many(given, tmp_path) for given in ("*.ply", "@list.txt", str(tmp_path))] == [True] * 3
    assert [names_many(given, tmp_path) for given in ("scan[1].ply", "@x.ply", "no.ply", None)] == [False] * 4


def test_folders_globs_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    own = ("b.ply", "a.xyz", "notes.md", ".hidden.ply", "in/c.npy", "config.conf", "exps/compare-a/table.csv")
    a_run = ("run/config.conf", "run/x/surface.ply", "run/checkpoints/1.pth")
    for name in (*own, *a_run, "many/config.conf", "many/a/cloud.json", "many/a/surface.ply"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "in" / "list.txt").write_text("# of today\nc.npy\n\n../b.ply\nnot there.ply\nc.npy\n")

    def found(given: str) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in find_clouds(given, tmp_path, tmp_path / "exps")]

    assert found(str(tmp_path)) == ["a.xyz", "b.ply", "in/c.npy", "in/list.txt"]
    for above in (tmp_path, tmp_path.parent):  # as with --exps-dir .
        assert find_clouds(str(tmp_path / "in"), tmp_path, above)[0] == tmp_path / "in" / "c.npy"
    assert found("*.*y*") == ["a.xyz", "b.ply"]
    assert found("**/*.ply") == ["b.ply", "many/a/surface.ply", "run/x/surface.ply"]
    assert found("@in/list.txt") == ["in/c.npy", "b.ply", "in/not there.ply"]
    (tmp_path / "in" / "list.txt").write_text("c.npy\n", encoding="utf-8-sig")  # as Windows' editor does
    assert found("@in/list.txt") == ["in/c.npy"]
    for name in ("scan[1].ply", "scan1.ply", "@x.ply"):  # as a shell hands them over
        (tmp_path / name).write_text("")
        assert found(name) == [name]


@pytest.mark.parametrize(("given", "said"), [
    ("", "CLOUD is empty: give the path of a cloud, a folder, a glob or @list"),
    ("@list.txt", r"list\.txt: names the folder .*in: a list has a file on each line; or give the folder"),
])  # fmt: skip
def test_what_names_no_clouds_is_said(given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "list.txt").write_text("in\n")
    with pytest.raises(UserError, match=said):
        find_clouds(given, tmp_path)


def test_surfaces_of_any_format_in_a_folder_below_are_no_clouds(tmp_path: Path):
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float)
    body = Surface(corners, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
    meshes = tmp_path / "scans" / "meshes"
    meshes.mkdir(parents=True)
    put(tmp_path / "scans", a="1 2 3")
    for kind in ("ply", "obj", "stl", "glb", "npz"):
        write_surface(meshes / f"{kind}.{kind}", transform(body, 1.0, np.full(3, 1e7)), f"{MADE_BY}, in its unit")
    assert (meshes / "stl.stl.offset.txt").is_file()
    assert find_clouds(str(tmp_path / "scans"), tmp_path) == [tmp_path / "scans" / "a.xyz"]
    (meshes / "mine.stl").write_bytes(b"a mesh of mine")
    assert find_clouds(str(tmp_path / "scans"), tmp_path)[1:] == [meshes / "mine.stl"]
    (meshes / "mine.stl").unlink()
    assert len(find_clouds(str(meshes), tmp_path)) == 5  # nothing else is there


def test_files_on_two_drives_have_no_common_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "is_relative_to", lambda self, other: False)
    with pytest.raises(UserError, match=r"b\.ply: is on another drive than .*a\.ply; give the clouds of a drive at a "):
        common_folder([Path("/c/a.ply"), Path("/d/b.ply")])
