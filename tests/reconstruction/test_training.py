"""Training: the same run twice is the same to the last bit, in one piece or in two; stopping loses nothing."""

import math
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from conftest import ROOT, TINY, records, tiny_arguments
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.coarse_surface import CoarseSurfaceSettings
from phase_recon.geometry.winding import WindingSettings
from phase_recon.model import sampling
from phase_recon.model.loss.phase import PhaseLoss
from phase_recon.model.optimizer import Optimizers
from phase_recon.reconstruction import state
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.field import NeuralField
from phase_recon.reconstruction.hole_holding import HoleHoldingSettings
from phase_recon.reconstruction.progress import Announce
from phase_recon.reconstruction.run import main
from phase_recon.reconstruction.scene import PreprocessSettings
from phase_recon.reconstruction.training import fit, seconds_of_steps
from phase_recon.utils.checkpoint import read_checkpoint
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import load_config
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.locations import find_configuration
from torture import equal

# grids that take seconds less
COARSE = PreprocessSettings(winding=WindingSettings(nodes=24), coarse_surface=CoarseSurfaceSettings(nodes=24))
STEP = "train.learning_rate_schedule=[{Type=Step, Initial=0.005, Interval=7, Factor=0.5}]"  # whatever nepoch is


def tiny(*overrides: str) -> Config:
    return load_config(TINY, overrides, check_model)


def train(
    config: Config,
    cloud: PointCloud,
    folder: Path,
    checkpoint: dict[str, Any] | None = None,
    device: torch.device | None = None,
    announce: Announce = lambda line: None,
    **settings: Any,
) -> Experiment:
    experiment = Experiment.create(folder, "run")
    settings |= {"experiment": experiment, "checkpoint": checkpoint}
    fit(config, cloud, device or torch.device("cpu"), announce, **settings)
    return experiment


def same_state(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(equal(a[key], b[key]) for key in ("epoch", "network", "optimizers", "generator"))


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def cloud(request, shapes) -> PointCloud:
    return PointCloud(shapes[request.param - 2])


@pytest.fixture
def circle(shapes) -> PointCloud:
    return PointCloud(shapes[0])


def test_a_run_of_another_kind_of_device_goes_on_with_new_random_numbers(tmp_path, circle):
    """The generators of a CPU and of a GPU have states of other sizes, and draw other numbers."""
    checkpoint = train(tiny(STEP), circle, tmp_path).load_checkpoint()
    checkpoint["generator"] = checkpoint["generator"][:16].clone()
    lines: list[str] = []
    run = train(tiny(STEP, "train.nepoch=20"), circle, tmp_path, checkpoint, announce=lines.append)
    assert run.load_checkpoint()["epoch"] == 20
    assert lines[-1] == "note: the run was on another kind of device: its random numbers begin anew here"


@pytest.mark.parametrize("eased", [True, False])
def test_gaps_are_eased_from_a_step_on(monkeypatch, circle, eased):
    """At step 2 of 1 the energy's weight there is (1/2)^3."""
    asked: list[float | None] = []
    terms = PhaseLoss.__call__

    def watched(loss, field, batch):
        asked.append(None if batch.clearance is None else batch.hole_weight)
        return terms(loss, field, batch)

    monkeypatch.setattr(PhaseLoss, "__call__", watched)
    keys = ("train.nepoch=4", f"train.ease_gaps={str(eased).lower()}")
    holding = HoleHoldingSettings(fade_from=1)
    fit(tiny(*keys), circle, torch.device("cpu"), lambda line: None, holding=holding)
    assert asked == [None, None, *((1 / 8, pytest.approx(1 / 27)) if eased else (None, None))]


def test_the_tree_for_gaps_is_built_while_subnormal_numbers_are_kept(monkeypatch, circle):
    """With them taken as zero, scipy's tree of points that share the coordinate 0 ends the process."""
    kept: list[bool] = []

    class Watched(cKDTree):
        def __init__(self, points):
            kept.append(sys.float_info.min / 2 > 0)
            super().__init__(points)

    monkeypatch.setattr(sampling, "cKDTree", Watched)
    holding = HoleHoldingSettings(fade_from=1)
    fit(tiny("train.nepoch=4"), circle, torch.device("cpu"), lambda line: None, holding=holding)
    assert kept
    assert all(kept)


def test_gaps_are_held_by_points_from_a_step_on(tmp_path):
    """An arc of 0.2 is missing. A run that goes on between, or after, ends at the same bits."""
    settings = {"holding": HoleHoldingSettings(held_at=12, averaged=4), "preprocessing": COARSE}
    angle = np.linspace(0.1, 2 * np.pi - 0.1, 2000)
    cloud = PointCloud(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    keys = (STEP, "train.start=winding", "train.fill_openings=false", "train.mend=false")
    lines: list[str] = []
    whole = Experiment.create(tmp_path, "run")
    fit(tiny(*keys, "train.nepoch=20"), cloud, torch.device("cpu"), lines.append, experiment=whole, **settings)
    (held,) = (line for line in lines if "hold" in line)
    count = re.fullmatch(r"step 12: (\d+) points hold the surface in gaps of the cloud .train.hold_gaps.", held)
    assert count
    saved = whole.load_checkpoint()
    assert len(saved["gaps"]["points"]) == int(count[1]) > 0
    for stop in (10, 15):
        first = train(tiny(*keys, f"train.nepoch={stop}"), cloud, tmp_path, **settings)
        again = train(tiny(*keys, "train.nepoch=20"), cloud, tmp_path, first.load_checkpoint(), **settings)
        assert same_state(again.load_checkpoint(), saved)
    not_held = tiny(*keys, "train.nepoch=20", "train.hold_gaps=false")
    without = train(not_held, cloud, tmp_path, **settings).load_checkpoint()
    assert without["gaps"] is None
    assert not same_state(without, saved)


@pytest.mark.parametrize(("misfit", "k"), [(1.0, 2), (-1.0, 4)], ids=["good enough", "never"])
def test_a_network_that_misses_the_start_gets_more_frequencies_and_goes_on_with_them(monkeypatch, tmp_path, misfit, k):
    """By the noise it gets 2, by the spacing alone it could have 4."""
    monkeypatch.setattr(state, "MISFIT", misfit)
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 500))
    angle = np.linspace(0, 2 * np.pi, 500, endpoint=False)
    cloud = PointCloud(((1 + noise[0]) * [np.cos(angle), np.sin(angle)]).T)
    keys = (STEP, "network.inputs.use_FFM=true", "train.start=winding", "train.mend=false")
    keys += ("train.estimate_normals=true", "train.smooth_points=true")
    whole = train(tiny(*keys, "train.nepoch=12"), cloud, tmp_path, preprocessing=COARSE).load_checkpoint()
    assert whole["config"]["network"]["inputs"]["k"] == k
    assert whole["network"]["lin0.weight"].shape[1] == 2 * (1 + 2 * k)
    first = train(tiny(*keys, "train.nepoch=6"), cloud, tmp_path, preprocessing=COARSE).load_checkpoint()
    again = train(tiny(*keys, "train.nepoch=12"), cloud, tmp_path, first, preprocessing=COARSE)
    assert same_state(again.load_checkpoint(), whole)


def test_a_run_without_fourier_features_is_not_gone_on_with_as_one_with_them(tmp_path, circle):
    checkpoint = train(tiny(STEP, "network.inputs.use_FFM=false"), circle, tmp_path).load_checkpoint()
    with pytest.raises(UserError, match="has the weights of another network"):
        train(tiny(STEP, "network.inputs.use_FFM=true", "train.nepoch=20"), circle, tmp_path, checkpoint)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_ten_steps_and_ten_more_are_twenty_to_the_last_bit(tmp_path, cloud, optimizer):
    keys = (STEP, f"train.optimizer={optimizer}", "train.status_frequency=1", "network.inputs.dims=[16,16,16]")
    # at its end, after ten steps, the circle still leaves Ω: mending that would be another run
    keys += ("train.start=winding", "train.estimate_normals=true", "train.mend=false")
    whole = train(tiny(*keys, "train.nepoch=20"), cloud, tmp_path, preprocessing=COARSE)
    first = train(tiny(*keys, "train.nepoch=10"), cloud, tmp_path, preprocessing=COARSE)
    second = train(tiny(*keys, "train.nepoch=20"), cloud, tmp_path, first.load_checkpoint(), preprocessing=COARSE)
    assert same_state(second.load_checkpoint(), whole.load_checkpoint())
    assert not same_state(first.load_checkpoint() | {"epoch": 20}, whole.load_checkpoint())

    def losses(run: Experiment) -> list[list[float]]:
        return [[value for key, value in record.items() if key != "time"] for record in run.records()]

    assert losses(first) + losses(second) == losses(whole)
    assert len(losses(whole)) == 20


def test_points_that_fill_openings_are_announced(circle):
    lines: list[str] = []
    keys = ("train.start=winding", "train.nepoch=1")
    cloud = PointCloud(circle.points[circle.points[:, 0] < np.quantile(circle.points[:, 0], 0.7)])
    any_size = PreprocessSettings(coarse_surface=CoarseSurfaceSettings(largest=np.inf))
    fit(tiny(*keys), cloud, torch.device("cpu"), lines.append, preprocessing=any_size)
    assert lines[0].startswith("estimated noise: ")
    said = re.fullmatch(
        r"\d+ points added to close holes of the cloud \(holes: 1; area: (\S+) in all; "
        r"farthest from a point: (\S+); train\.fill_openings\)",
        lines[1],
    )
    assert said
    length, farthest = map(float, said.groups())
    assert length / 2 < farthest < length  # half of the gap, whose ends begin a little beyond the points
    lines.clear()
    lines.clear()
    fit(tiny(*keys, "train.fill_openings=false"), cloud, torch.device("cpu"), lines.append)
    assert not any("points are added" in line for line in lines)


def test_a_needle_is_refused():
    """An ellipsoid 1 : 0.01 : 0.01; at 1 : 0.1 : 0.01 it is thin, which is only warned of."""
    unit = np.random.default_rng(0).standard_normal((500, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    config = tiny("train.nepoch=1")
    text = r"^points: the cloud is a needle, 0.0\d+ by 0.0\d+ thick and 1.98 long: .* stretch it across"
    with pytest.raises(UserError, match=text):
        fit(config, PointCloud(unit * [1, 0.01, 0.01]), torch.device("cpu"), lambda line: None)
    lines: list[str] = []
    fit(config, PointCloud(unit * [1, 0.1, 0.01]), torch.device("cpu"), lines.append)
    assert any(line.startswith("warning: the cloud is 0.0") for line in lines)


def test_a_cloud_that_is_flat_without_its_outliers_is_refused():
    plane = np.column_stack([np.random.default_rng(0).uniform(size=(300, 2)), np.zeros(300)])
    cloud = PointCloud(np.append(plane, [[0.5, 0.5, 0.7]], axis=0))
    text = r"^points: the points that are no outliers lie in one plane: .* if the 1 others belong to the shape, --set"
    with pytest.raises(UserError, match=text):
        fit(tiny("train.nepoch=1"), cloud, torch.device("cpu"), lambda line: None)


def test_a_thin_cloud_is_warned_of(circle):
    lines: list[str] = []
    fit(tiny("train.nepoch=1"), PointCloud(circle.points * [1, 0.01]), torch.device("cpu"), lines.append)
    assert lines[1].startswith("warning: the cloud is 0.4 thick at most, 0.02 of its radius: a body so thin may come")
    lines.clear()
    fit(tiny("train.nepoch=1"), circle, torch.device("cpu"), lines.append)
    assert not any("thin" in line for line in lines)


def test_a_checkpoint_is_named_after_the_step_it_holds(tmp_path, circle):
    run = train(tiny(STEP, "train.nepoch=7", "train.checkpoint_frequency=3"), circle, tmp_path)
    folder = run.folder / "checkpoints"
    assert {path.stem for path in folder.iterdir()} == {"3", "6", "7", "latest"}
    for epoch in (3, 6, 7):
        alone = train(tiny(STEP, f"train.nepoch={epoch}"), circle, tmp_path)
        assert same_state(run.load_checkpoint(str(epoch)), alone.load_checkpoint())
    assert (folder / "latest.pth").read_bytes() == (folder / "7.pth").read_bytes()


def test_checkpoints_come_by_the_minute_too(tmp_path, circle):
    always = train(tiny(STEP, "train.nepoch=3", "train.checkpoint_minutes=1e-9"), circle, tmp_path / "always")
    assert {path.stem for path in (always.folder / "checkpoints").iterdir()} == {"1", "2", "3", "latest"}
    never = train(tiny(STEP, "train.nepoch=3", "train.checkpoint_minutes=1000"), circle, tmp_path / "never")
    assert {path.stem for path in (never.folder / "checkpoints").iterdir()} == {"3", "latest"}


def test_a_checkpoint_describes_itself(tmp_path, circle):
    config = tiny("train.nepoch=1", "network.inputs.k=3", "train.momentum=0.9")
    data = train(config, circle, tmp_path).load_checkpoint()
    assert data["config"] == config.to_dict()
    assert data["d"] == 2
    assert data["cloud"]["points"] == 200
    assert data["normalisation"]["centre"] == pytest.approx([5, -3])
    assert data["normalisation"]["scale"] == pytest.approx(20)
    assert data["omega"]["upper"] == pytest.approx([1.5, 1.5], rel=1e-3)  # 200 points miss the poles by 1e-4
    assert not any(name.startswith("module.") for name in data["network"])


def test_the_log_holds_the_means_since_the_line_before(tmp_path, circle):
    keys = (STEP, "train.nepoch=6")
    each = train(tiny(*keys, "train.status_frequency=1"), circle, tmp_path).records()
    pairs = train(tiny(*keys, "train.status_frequency=2"), circle, tmp_path).records()
    terms = ("reconstruction", "gradient", "potential", "normals")
    assert [record["epoch"] for record in pairs] == [2, 4, 6]
    for i, record in enumerate(pairs):
        assert set(record) == {"epoch", "loss", *terms, "lr", "time"}
        for term in terms:
            assert record[term] == pytest.approx((each[2 * i][term] + each[2 * i + 1][term]) / 2, rel=1e-6)
        assert record["loss"] == pytest.approx(sum(record[term] for term in terms))
    assert [record["time"] for record in pairs] == sorted(record["time"] for record in pairs)
    # the rate at the line's step, the first of which is number 0
    assert [record["lr"] for record in each] == pytest.approx([0.005] * 6)


def test_the_learning_rate_follows_the_cosine_down_to_final(tmp_path, circle):
    run = train(tiny("train.nepoch=8", "train.status_frequency=4"), circle, tmp_path)
    half_wave = [0.00005 + 0.00495 * (1 + math.cos(math.pi * step / 8)) / 2 for step in (3, 7)]
    assert [record["lr"] for record in run.records()] == pytest.approx(half_wave)


class Seen(Exception):
    """Enough steps were seen."""


def test_the_first_steps_keep_the_surface_that_the_training_starts_from(circle):
    """The points lie on it. Without a warm-up of the learning rate they come to be a twentieth of the radius off it."""

    def farthest(warm_up: float) -> float:
        schedule = f"{{Type=Cosine, Final=0.00002, Restart=5000, Warmup={warm_up}}}"
        overrides = ["train.plot_frequency=1", f"train.learning_rate_schedule=[{schedule}]"]
        config = load_config(ROOT / "setup.conf", overrides, check_model)
        off: list[float] = []

        def preview(field: NeuralField, step: int) -> None:
            off.append(float(np.abs(field.w(circle.points)).mean()) / field.normalisation.scale)
            if step == 10:
                raise Seen

        with pytest.raises(Seen):
            fit(config, circle, torch.device("cpu"), lambda line: None, preview=preview, preprocessing=COARSE)
        return max(off)

    assert farthest(0.05) < 0.1 * farthest(0.0)


def test_a_loss_that_diverges_stops_the_run_and_keeps_the_checkpoint(tmp_path, circle):
    good = train(tiny(STEP, "train.nepoch=5"), circle, tmp_path)
    before = (good.folder / "checkpoints" / "latest.pth").read_bytes()
    config = tiny(STEP.replace("0.005", "1e30"), "train.nepoch=20")
    with pytest.raises(UserError, match=r"the loss term '\w+' became (nan|inf) between steps 5 and 10") as caught:
        fit(
            config, circle, torch.device("cpu"), lambda line: None,
            experiment=good, checkpoint=good.load_checkpoint(),
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert "Initial" in str(caught.value)
    folder = good.folder / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"5.pth", "latest.pth"}
    assert (folder / "latest.pth").read_bytes() == before


@pytest.mark.parametrize("term", ["reconstruction", "potential"])
def test_a_term_that_is_not_a_number_is_named_at_the_next_checkpoint(monkeypatch, tmp_path, circle, term):
    build = state.build_model

    def broken(*arguments: Any) -> Any:
        network, loss = build(*arguments)

        class Losing(PhaseLoss):
            def __call__(self, field: Any, batch: Any) -> dict[str, torch.Tensor]:
                terms = super().__call__(field, batch)
                return terms | {term: terms[term].detach() * math.nan}  # spares the weights

        return network, Losing(**vars(loss))

    monkeypatch.setattr(state, "build_model", broken)
    keys = ("train.nepoch=9", "train.checkpoint_frequency=2", "train.status_frequency=0")
    with pytest.raises(UserError, match=rf"'{term}' became nan between steps 0 and 2"):
        train(tiny(*keys), circle, tmp_path)
    assert list((tmp_path / "run").glob("*/checkpoints/*")) == []


def test_mu_zero_leaves_the_normal_term_out(tmp_path, cloud):
    run = train(tiny("network.loss.mu=0"), cloud, tmp_path)
    assert [record["epoch"] for record in run.records()] == [5, 10]
    assert "normals" not in run.records()[0]


def test_fewer_points_than_the_batch_are_enough(tmp_path, shapes):
    run = train(tiny("train.points_batch=64"), PointCloud(shapes[0][::16]), tmp_path)
    assert run.load_checkpoint()["epoch"] == 10
    assert run.load_checkpoint()["cloud"]["points"] == 13


def test_normals_are_used_when_asked_for_and_must_be_there(tmp_path, circle):
    with pytest.raises(UserError, match="has_normals = true, but the cloud has no normals"):
        train(tiny("network.has_normals=true"), circle, tmp_path)
    outward = (circle.points - [5, -3]) / 20
    runs = [
        train(tiny(f"network.has_normals={used}", STEP), replace(circle, normals=outward), tmp_path)
        for used in ("true", "false")
    ]
    assert not same_state(runs[0].load_checkpoint(), runs[1].load_checkpoint())


def test_a_seed_is_a_run(tmp_path, cloud):
    first, again, other = (
        train(tiny(f"train.seed={seed}"), cloud, tmp_path).load_checkpoint() for seed in (3, 3, 4)
    )
    assert same_state(first, again)
    assert not equal(first["network"], other["network"])


def test_another_cloud_is_not_gone_on_with(tmp_path, circle):
    run = train(tiny(), circle, tmp_path)
    moved = PointCloud(circle.points + np.array([0, 1e-9]))
    for other in (moved, PointCloud(circle.points[:-1])):
        with pytest.raises(UserError, match=r"^the points: not the cloud .*200 points.*--is-continue"):
            train(tiny("train.nepoch=20"), other, tmp_path, run.load_checkpoint())


def test_a_run_of_another_frame_is_not_gone_on_with(tmp_path, circle):
    """One that was started with a stray, by a version that did not leave it out."""
    stray = circle.points.mean(axis=0, keepdims=True) + np.array([0.0, 100.0])
    cloud = PointCloud(np.concatenate([circle.points, stray]))
    run = train(tiny("train.drop_outliers=false"), cloud, tmp_path)
    with pytest.raises(UserError, match=r"is scaled otherwise .* --set train\.drop_outliers=false"):
        train(tiny("train.nepoch=20"), cloud, tmp_path, run.load_checkpoint())
    train(tiny("train.nepoch=20", "train.drop_outliers=false"), cloud, tmp_path, run.load_checkpoint())


def test_and_neither_is_one_that_left_outliers_out(tmp_path, circle):
    stray = circle.points.mean(axis=0, keepdims=True) + np.array([0.0, 100.0])
    cloud = PointCloud(np.concatenate([circle.points, stray]))
    run = train(tiny(), cloud, tmp_path)
    with pytest.raises(UserError, match=r"is scaled otherwise .* --set train\.drop_outliers=true"):
        train(tiny("train.nepoch=20", "train.drop_outliers=false"), cloud, tmp_path, run.load_checkpoint())


def test_previews_come_between_the_steps_but_not_after_the_last(circle):
    seen = []
    config = tiny("train.plot_frequency=5", "train.nepoch=15")
    fit(config, circle, torch.device("cpu"), lambda line: None, preview=lambda field, epoch: seen.append(epoch))
    assert seen == [5, 10]


def test_a_time_budget_rules_and_the_rate_ends_low(tmp_path, circle, ticking):
    config = tiny("train.time_budget=0.02", "train.nepoch=1", "train.status_frequency=1")
    run = train(config, circle, tmp_path, started=ticking)
    last = run.records()[-1]
    assert last["time"] == pytest.approx(1.2, abs=0.1)
    assert last["epoch"] > 10
    assert 0.00005 <= last["lr"] < 0.0005
    assert last["epoch"] == run.load_checkpoint()["epoch"]


def test_only_the_loss_that_gets_a_correction_leaves_it_time():
    phase, igr = (
        load_config(find_configuration(name), ["train.time_budget=2", "train.detail=true"])
        for name in ("setup.conf", "igr")
    )
    assert seconds_of_steps(igr, 300_000, 12.0) == 108
    assert 60 <= seconds_of_steps(phase, 300_000, 12.0) < 108
    assert seconds_of_steps(phase, 10**9, 12.0) == 60  # 0.4 of the time at most
    assert seconds_of_steps(load_config(TINY, ["train.time_budget=null"]), 1000, 12.0) is None


def test_a_time_budget_spent_before_the_first_step_still_gives_a_third_of_it_to_the_steps(circle, ticking):
    said: list[str] = []
    _, steps = fit(tiny("train.time_budget=0.02"), circle, torch.device("cpu"), said.append, started=ticking - 55)
    assert steps > 0
    late = (
        r"note: what comes before the steps took 5\d s of the 0\.02 minutes of train\.time_budget, so the run takes "
        r"longer than that; --minutes 1\.6 would do"
    )
    assert [line for line in said if re.fullmatch(late, line)]


def test_a_time_budget_counts_what_an_earlier_process_used(tmp_path, circle):
    checkpoint = train(tiny(), circle, tmp_path).load_checkpoint()
    checkpoint["seconds"] = 3599.0
    run = train(tiny("train.time_budget=60", "train.status_frequency=1"), circle, tmp_path, checkpoint)
    assert run.records()[0]["lr"] < 0.0001  # at its end
    assert 3600 <= run.load_checkpoint()["seconds"] < 3610


LONG = ("--nepoch", 800, "--set", "train.status_frequency=50")  # long enough to be stopped within


def untimed(folder: Path) -> list[dict[str, Any]]:
    return [record | {"time": 0} for record in records(folder)]


@pytest.fixture(scope="module")
def uninterrupted(clouds, tmp_path_factory) -> Path:
    exps = tmp_path_factory.mktemp("uninterrupted")
    assert main(tiny_arguments(exps, ("--input", clouds[0], *LONG))) == 0
    return Experiment.find(exps, "tiny").folder


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_continuing_ends_as_if_nothing_had_been(
    tmp_path, clouds, command, uninterrupted, number, status
):
    arguments = tiny_arguments(tmp_path / "exps", ("--input", clouds[0], *LONG))
    process = subprocess.Popen(
        [sys.executable, "code/reconstruction/run.py", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not list(tmp_path.glob("exps/tiny/*/log.jsonl")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "Traceback" not in err
    (folder,) = (tmp_path / "exps" / "tiny").iterdir()
    stopped = read_checkpoint(folder / "checkpoints" / "latest.pth")["epoch"]
    assert 50 <= stopped < 800
    assert f"stopped at step {stopped} and saved" in out
    assert not list((folder / "evaluation").iterdir())

    assert command("--input", clouds[0], *LONG, "--is_continue").status == 0
    last = "checkpoints/latest.pth"
    assert same_state(read_checkpoint(folder / last), read_checkpoint(uninterrupted / last))
    assert untimed(folder) == untimed(uninterrupted)


def test_signals_are_python_s_again_after_the_training(tmp_path, circle):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(tiny(), circle, tmp_path)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_mended_run_keeps_the_frequencies_that_its_start_was_given(monkeypatch, tmp_path):
    """A network that never hits its start has 4 in place of 2; the run fails at step 8, and goes on from step 5."""
    monkeypatch.setattr(state, "MISFIT", -1.0)

    class Brittle(Optimizers):
        def step(self, loss: torch.Tensor, learning_rate: float) -> None:
            breaks = learning_rate > 0.003 and self.members[0].state["steps"] >= 7
            super().step(loss * torch.nan if breaks else loss, learning_rate)

    noise = np.random.default_rng(0).normal(0, 0.01, (2, 500))
    angle = np.linspace(0, 2 * np.pi, 500, endpoint=False)
    cloud = PointCloud(((1 + noise[0]) * [np.cos(angle), np.sin(angle)]).T)
    keys = ("train.learning_rate_schedule=[{Type=Step, Initial=0.004, Interval=1000, Factor=1}]", "train.nepoch=12",
            "train.checkpoint_frequency=5", "train.status_frequency=1", "train.optimizer=adam", "train.start=winding",
            "train.estimate_normals=true", "train.smooth_points=true", "network.inputs.use_FFM=true")  # fmt: skip
    fitted = state._fit_values

    def sturdy(*arguments: Any) -> None:
        monkeypatch.setattr(state, "Optimizers", Optimizers)
        fitted(*arguments)
        monkeypatch.setattr(state, "Optimizers", Brittle)

    monkeypatch.setattr(state, "_fit_values", sturdy)
    monkeypatch.setattr(state, "Optimizers", Brittle)
    checkpoint = train(tiny(*keys), cloud, tmp_path, preprocessing=COARSE).load_checkpoint()
    assert checkpoint["epoch"] == 12
    assert checkpoint["mending"]["since"] == 5
    assert checkpoint["config"]["network"]["inputs"]["k"] == 4
