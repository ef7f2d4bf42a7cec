"""The published method's table: the path ends at our default, a stopped table goes on, and the page says what it is."""

import json
import re

import numpy as np
import pytest

from phase_recon.benchmarks import reproduce
from phase_recon.benchmarks.solids import ball
from phase_recon.surface.files import write_surface
from phase_recon.utils.config_files import differences, load_config
from phase_recon.utils.locations import CONFIGURATIONS, ROOT


def options_of(**changed):
    known = {"network": "8x512", "steps": 10_000, "batch": 16_384, "resolution": 512, "seeds": [0], "tables": "",
             "only": "", "gpu": "cpu"}  # fmt: skip
    return type("Options", (), known | changed)()


def configured(options, setting):
    keys = reproduce.size_keys(options) | dict(setting.keys)
    return load_config(CONFIGURATIONS / "published.conf", [f"{key}={json.dumps(value)}" for key, value in keys.items()])


def test_the_published_size_is_published_conf():
    assert not differences(reproduce.published(options_of()), load_config(CONFIGURATIONS / "published.conf"))


@pytest.mark.parametrize("size", [{}, {"network": "4x256", "steps": 300, "batch": 512}])
def test_the_path_adds_every_difference_once_and_ends_at_the_default(size):
    options, ours = options_of(**size), load_config(ROOT / "setup.conf")
    keys = [key for part in reproduce.PATH.values() for key in part]
    assert len(keys) == len(set(keys))
    path = [setting for setting in reproduce.settings(options) if setting.table == "path"]
    left = [len(differences(configured(options, setting), ours)) for setting in path]
    assert left == sorted(left, reverse=True)
    no_part_of_a_method = {"train.expname", "train.input_path"}
    assert set(differences(configured(options, path[-1]), ours)) <= no_part_of_a_method


def test_the_grid_changes_one_value_about_the_centre():
    options = options_of()
    centre = reproduce.published(options)
    grid = [setting for setting in reproduce.settings(options) if setting.table == "grid"]
    changed = [differences(centre, configured(options, setting)) for setting in grid]
    assert [set(one) for one in changed[:9]] == [{"train.ball_sigma"}] * 3 + [{"network.loss.lambda"}] * 3 + [
        {"network.loss.mu"}
    ] * 3
    for one, rate in ((changed[9], 0.0001), (changed[10], 0.005)):
        (schedule,) = one.pop("train.learning_rate_schedule")
        assert (schedule["Initial"], schedule["Interval"], one) == (pytest.approx(rate), 2000, {})
    assert len(changed) == 13
    assert changed[-2:] == [{"train.points_batch": n, "train.pts_in_omega": n} for n in (4096, 32768)]


def test_every_row_has_a_folder_of_its_own(tmp_path, monkeypatch):
    """run.py takes names of letters, digits and .,=_- alone."""
    names = []

    def measured(case, method, seed, command, out):
        names.append(command[command.index("--expname") + 1])
        return {"case": case.name, "method": method, "seed": seed, "failed": "not run"}

    monkeypatch.setattr(reproduce, "measured", measured)
    options = options_of(out=tmp_path)
    found = list(reproduce.settings(options))
    for setting in found:
        reproduce.run(setting, reproduce.Case("dc", tmp_path / "dc.ply", tmp_path / "dc_gt.ply"), 0, options)
    assert len(set(names)) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9_.=-]+", name) for name in names)
    assert "dc-grid-lambda_=_0.1-0" in names


def row(setting, chamfer, scan="dc", seed=0, table="published"):
    size = {"table": table, "setting": setting, "scan": scan, "seed": seed, "commit": "abc", "machine": "CPU, load 3"}
    figures = {"components": 1.0, "euler_characteristic": -14.0, "cloud_to_surface_max": 1.0, "seconds": 9.0}
    return size | ({"failed": "/a/b.ply: no surface"} if chamfer is None else figures | {
        "d_C": chamfer, "d_H": 10 * chamfer})  # fmt: skip


def test_the_page_sets_rows_beside_the_published_ones_and_over_the_row_above():
    options = options_of(network="4x256")
    wanted = list(reproduce.settings(options))
    rows = [row(reproduce.FEATURES, 0.4), row("without", None), row("λ = 1", 0.2, table="grid"),
            row("w in place of u", 0.2, table="path"), row("Muon", 0.3, table="path")]  # fmt: skip
    text = reproduce.page_of(rows, wanted, ["dc"], options)
    lines = text.splitlines()
    assert "**This is not the published size**" in text
    assert f"**{len(wanted) - 5} of {len(wanted)} runs are still missing;**" in text
    assert "commit abc on CPU" in text
    assert "| dc | PHASE+FF, published | 0.19 | 4.65 |  |  |  |  |" in lines
    assert "| dc | with Fourier features | 0.4 | 4 | 1 | -14 | 1 | 9 |" in lines
    assert "| dc | without | failed: b.ply: no surface |  |  |  |  |  |" in lines
    assert "| the centre | 0.4 | 4 |" in lines
    assert "| λ = 1 | 0.2 (0.50) | 2 (0.50) |" in lines
    # these two rows are equally near; the next test has some that are not
    assert "Nearest to the published PHASE+FF, by both ratios: dc: " in text
    assert "| + w in place of u | `output` | 0.2 (0.50) | 2 (0.50) |" in lines
    assert "| + a learning rate that falls along a cosine | `learning_rate_schedule` | not run yet |  |" in lines
    published = reproduce.page_of(rows, wanted, ["dc"], options_of())
    assert "**These are runs of the published size.**" in published


def test_the_nearest_row_is_found():
    wanted = [reproduce.START, reproduce.Setting("grid", "λ = 1")]
    rows = [row(reproduce.FEATURES, 0.19), row("λ = 1", 0.46, table="grid")]  # d_H 1.9 and 4.6; published .19 and 4.65
    assert reproduce._nearest(rows, wanted, "dc") == "λ = 1"  # a factor of 2.42 and 1.01, against 1 and 2.45
    assert reproduce._nearest(rows, wanted, "unknown") is None


def test_a_tiny_table_is_made_and_goes_on_where_it_was(tmp_path, capsys):
    data = tmp_path / "scans"
    data.mkdir()
    direction = np.random.default_rng(0).standard_normal((500, 3))
    points = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    np.savez(data / "ball.npz", points=points)
    write_surface(data / "ball_gt.ply", ball(1.0, 0.1))
    words = [str(data), "--network", "2x48", "--steps", "2", "--batch", "64", "--resolution", "16", "--gpu", "cpu",
             "--tables", "published", "--out", str(tmp_path / "out"), "--docs", str(tmp_path / "docs")]  # fmt: skip
    assert reproduce.main(words) == 0
    figures = json.loads((tmp_path / "out" / "reproduction.json").read_text())
    assert [(row["setting"], row["scan"], row["seed"], row["steps"]) for row in figures] == [
        ("with Fourier features", "ball", 0, 2), ("without", "ball", 0, 2)
    ]  # fmt: skip
    assert all(row["d_C"] > 0 and row["commit"] and "device: CPU" in row["machine"] for row in figures)
    page = (tmp_path / "docs" / "REPRODUCTION.md").read_text()
    assert "| ball | without |" in page
    runs = sorted((tmp_path / "out" / "exps").glob("*/*"))
    figures[0]["commit"] = "an earlier one"
    (tmp_path / "out" / "reproduction.json").write_text(json.dumps(figures))
    assert reproduce.main(words) == 0
    assert sorted((tmp_path / "out" / "exps").glob("*/*")) == runs  # nothing was done again
    assert json.loads((tmp_path / "out" / "reproduction.json").read_text()) == figures
    assert "commit an earlier one on" in (tmp_path / "docs" / "REPRODUCTION.md").read_text()
    capsys.readouterr()


@pytest.mark.parametrize(("chamfer", "status"), [(0.1, 0), (None, 1)])
def test_a_quick_look_goes_beside_its_runs_and_a_failed_run_is_told_by_the_status(
    tmp_path, monkeypatch, chamfer, status
):
    np.savez(tmp_path / "dc.npz", points=np.eye(3))
    write_surface(tmp_path / "dc_gt.ply", ball(1.0, 0.3))

    def run(setting, case, seed, options):
        return row(setting.name, chamfer, table=setting.table) | {"steps": 2, "keys": {}, "size": {}}

    monkeypatch.setattr(reproduce, "run", run)
    pages = []
    monkeypatch.setattr(reproduce, "write_text", lambda path, text: pages.append(path))
    words = [str(tmp_path), "--tables", "published", "--gpu", "cpu", "--out", str(tmp_path / "out")]
    assert reproduce.main([*words, "--quick"]) == status
    assert set(pages) == {tmp_path / "out" / "REPRODUCTION.md"}
    pages.clear()
    assert reproduce.main(words) == status
    assert set(pages) == {ROOT / "docs" / "REPRODUCTION.md"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--network", "8"), "--network '8': expected layers x width, such as 8x512"),
        (("--tables", "all"), "--tables 'all': expected some of published, grid, path"),
        ((), "no scan with its _gt mesh and no mesh to sample"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, words, text):
    if words[:1] == ("--network",):
        np.savez(tmp_path / "a.npz", points=np.eye(3))
        write_surface(tmp_path / "a_gt.ply", ball(1.0, 0.3))
    assert reproduce.main([str(tmp_path), *words, "--out", str(tmp_path / "o"), "--docs", str(tmp_path / "d")]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1
