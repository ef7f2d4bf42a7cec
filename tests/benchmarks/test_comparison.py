"""The page of losses: what is asked of compare.py, who is best where, and that ours stands where it loses."""

import numpy as np
import pytest

from phase_recon.benchmarks import comparison
from phase_recon.reconstruction.compare import CONFIGURATIONS, configuration
from phase_recon.utils.build import find_class
from phase_recon.utils.hocon import parse, read_file


def row(method, chamfer, eikonal=0.1):
    if chamfer is None:
        return {"method": method, "failed": "no surface"}
    figures = {"d_C": chamfer, "d_H": 10 * chamfer, "eikonal_box": eikonal, "components": 1, "seconds": 9}
    return {"method": method, **figures}


@pytest.fixture
def page(tmp_path, monkeypatch, capsys):
    """Run comparison.py with rows that are made up: IGR is nearer than PHASE, and SAL fails."""
    asked = []

    def measure_all(options, path, cloud, target, folder):
        asked.append((options, path, cloud, folder))
        return [row("phase", 0.002, 0.3), row("igr", 0.001), row("sal", None), row("Screened Poisson", 0.0005)]

    def measured(method, path, cloud, target_path, target, records):
        assert "train.detail=true" in method.command[-1]
        return {key: value for key, value in row("phase", 0.0008, 0.3).items() if key != "method"}

    monkeypatch.setattr(comparison, "measure_all", measure_all)
    monkeypatch.setattr(comparison, "measured", measured)

    def call(*arguments):
        words = ["--out", str(tmp_path / "out"), "--docs", str(tmp_path / "docs"), "--gpu", "cpu", *arguments]
        status = comparison.main(words)
        return status, capsys.readouterr(), asked, tmp_path / "docs" / "COMPARISON.md"

    return call


def test_the_page_says_who_is_best_and_where_ours_stands(page):
    status, _, asked, path = page("--clouds", "blades_2d-noisy", "--steps", "20,40")
    assert status == 1  # SAL failed
    lines = path.read_text().splitlines()
    for steps in (20, 40):
        # Poisson is no loss, and PHASE with detail is not the loss alone
        assert (
            f"| blades_2d-noisy | {steps} | igr, 0.001 | 2 of 2, 0.002 | igr, 0.01 | 2 of 2, 0.02 | igr, 0.1 "
            "| 2 of 2, 0.3 | sal |" in lines
        )
        assert f"## blades_2d-noisy, {steps} steps" in lines
    assert any(line.startswith("| phase, with detail | 0.0008 |") for line in lines)
    assert [options.steps for options, *_ in asked] == [20, 40]
    options, cloud_path, cloud, _ = asked[0]
    assert cloud.points.shape[1] == 2
    assert cloud_path.is_file()
    assert options.target.is_file()
    assert {"train.detail=false", "train.points_batch=1024"} <= set(options.set)


def test_all_losses_that_need_no_normals_are_compared():
    """Every configuration but PHASE's own published one, and those whose loss needs normals."""
    kinds = {path.stem: parse(read_file(path), str(path)).tree["network"]["loss"]["type"]
             for path in CONFIGURATIONS.glob("*.conf")}  # fmt: skip
    free = {name for name, kind in kinds.items()
            if not find_class(f"model.loss.{kind}.{kind.capitalize()}Loss").needs_normals}  # fmt: skip
    assert set(comparison.LOSSES) == free - {"published"} | {"phase"}
    assert np.all([configuration(name, False, None).is_file() for name in comparison.LOSSES])


def test_an_unknown_cloud_is_said(page):
    status, said, _, _ = page("--clouds", "bunny")
    assert status == 2
    assert said.err.startswith("error: --clouds bunny: expected some of gear-noisy") or "'bunny'" in said.err
