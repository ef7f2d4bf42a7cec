"""The same code on a CUDA GPU: the terms and gradients of the CPU, no waiting for the device, the same bits twice.

Where there is none, these are skipped.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import STEP, same_state, tiny, train

from conftest import ROOT, tiny_arguments
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.model.batch import EstimatedNormals, UnsignedDistances
from phase_recon.model.kernels import Kernels
from phase_recon.model.loss.base import Loss
from phase_recon.model.optimizer import Optimizers
from phase_recon.model.sampling import Clearance, OmegaDensity, Sampler, neighbour_distance, unsigned_distances
from phase_recon.reconstruction.api import reconstruct
from phase_recon.reconstruction.build_model import build_model, check_model, kernels_for
from phase_recon.reconstruction.hole_holding import HoleHoldingSettings
from phase_recon.reconstruction.run import main
from phase_recon.reconstruction.training import fit
from phase_recon.utils.config import Config
from phase_recon.utils.config_files import load_config
from phase_recon.utils.distributed import Repeated, choose_device
from phase_recon.utils.errors import UserError

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")

PEERS = ["siren", "igr", "digs", "steik", "occupancy", "hotspot", "viscoreg", "nsh", "sal", "sald"]
LOSSES = ["setup", *PEERS, "published"]


def configured(name: str, *keys: str) -> Config:
    path = ROOT / "setup.conf" if name == "setup" else ROOT / "code" / "confs" / f"{name}.conf"
    needed = ["network.has_normals=true"] if name == "occupancy" else []
    return load_config(path, [*needed, *keys], check_model)


def sampler(points, config: Config, device: torch.device, loss: Loss) -> Sampler:
    """All that a loss may ask for: normals of a sphere, given or estimated, balls, points near the data, clearance."""

    def tensor(values):
        return torch.tensor(values, dtype=torch.float32, device=device)

    normals = tensor(points / np.linalg.norm(points, axis=1, keepdims=True))
    sure = torch.ones(len(points), device=device)
    lower, upper = np.full(3, -1.5), np.full(3, 1.5)
    return Sampler(
        points=tensor(points),
        normals=normals if config.network.has_normals else None,
        omega=OmegaDensity(points, lower, upper, 0.5, 0.1).to(device),
        points_batch=512,
        pts_per_ball=1,
        ball_radius=config.train.ball_sigma,
        pts_in_omega=512,
        estimated=None if config.network.has_normals else EstimatedNormals(normals, sure, sure > 0),
        spread=tensor(neighbour_distance(points)) if loss.near else None,
        unsigned=unsigned_distances(points, device, seed=0, count=2000) if loss.unsigned else None,
        clearance=Clearance(points, lower, upper, device),
        spacing=0.1,
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_has_the_terms_of_the_cpu_and_never_waits_for_the_device(name, shapes):
    config, steps = configured(name), 3
    points = (shapes[1] - shapes[1].mean(0)) / 20
    devices = torch.device("cpu"), choose_device("auto")[0]
    found = []
    for device in devices:
        torch.manual_seed(0)
        model = build_model(config, 3, [])
        assert model is not None
        network, loss = model[0].to(device), model[1]
        if hasattr(network, "kernels"):
            network.kernels = kernels_for(config, device, [])
        optimizers = Optimizers(network, config.train.optimizer, config.train.weight_decay, clip_gradient=10.0)
        drawn = sampler(points, config, devices[0], loss)
        generator = torch.Generator().manual_seed(1)
        batches = [drawn.draw(generator, 0.3) for _ in range(steps)]  # the same for both
        terms = []
        for batch in batches:
            batch = type(batch)(**{key: on(value, device) for key, value in vars(batch).items()})
            terms.append(loss.at(0.1)(network, batch))
            optimizers.step(torch.stack(list(terms[-1].values())).sum(), 1e-4)
        found.append([{key: value.item() for key, value in each.items()} for each in terms])
        if device.type == "cuda":
            own, generator = sampler(points, config, device, loss), torch.Generator(device).manual_seed(1)
            own.draw(generator, 0.3)  # the first makes the tables
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
            try:
                for _ in range(steps):
                    terms = loss.at(0.1)(network, own.draw(generator, 0.3))
                    optimizers.step(torch.stack(list(terms.values())).sum(), 1e-4)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    for ours, theirs in zip(*found, strict=True):
        assert theirs == pytest.approx(ours, rel=2e-2, abs=1e-4)  # the CPU may compute in bfloat16, as Muon does
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-3, abs=1e-4)


def on(value, device):
    if isinstance(value, EstimatedNormals | UnsignedDistances):
        return type(value)(*(part.to(device) for part in vars(value).values()))
    return value.to(device) if isinstance(value, torch.Tensor) else value


def test_a_run_twice_has_the_same_bits(shapes):
    config = configured("setup", "train.nepoch=60")
    device = choose_device("auto")[0]
    fields = [fit(config, PointCloud(shapes[1]), device, lambda line: None)[0] for _ in range(2)]
    one, two = (field.network.state_dict() for field in fields)
    assert device.type == "cuda"
    assert all(part.device.type == "cuda" for part in one.values())
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("name", ["setup", "published", "siren", "igr"])
def test_recorded_steps_have_the_same_bits(shapes, name):
    """Through the start, both weights of the energy in gaps, and points that join the cloud."""
    holding = HoleHoldingSettings(fade_from=15, held_at=40, averaged=10)
    points = shapes[1][np.abs(shapes[1][:, 0] - shapes[1][:, 0].mean()) > 2]  # a gap about the middle
    states = []
    for recorded in ("true", "false"):
        keys = ["train.nepoch=60", f"train.compile={recorded}", "plot.allow_open=true", "train.mend=false"]
        small = ["network.inputs.dims=[64,64,64]", "train.points_batch=512", "train.pts_in_omega=512"]
        skip = [] if name == "siren" else ["network.inputs.skip_in=[]"]
        config = configured(name, *keys, *small, *skip)
        field, _ = fit(config, PointCloud(points), choose_device("auto")[0], lambda line: None, holding=holding)
        states.append(field.network.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_what_is_recorded_is_done_with_the_numbers_of_each_time():
    device = choose_device("auto")[0]
    generator, calls = torch.Generator(device).manual_seed(3), []

    def work(sign: int, number: torch.Tensor) -> torch.Tensor:
        calls.append(sign)
        return sign * number + torch.rand((), device=device, generator=generator)

    repeated = Repeated(work, device, generator)
    found = [repeated((sign,), number).item() for sign in (1, -1) for number in range(10)]
    generator.manual_seed(3)
    drawn = [torch.rand((), device=device, generator=generator).item() for _ in range(20)]
    assert found == pytest.approx([sign * n + drawn.pop(0) for sign in (1, -1) for n in range(10)], abs=1e-6)
    assert calls == [1] * 4 + [-1] * 4  # three times as it is, and once for the recording


def test_what_cannot_be_recorded_says_so():
    device = choose_device("auto")[0]
    generator = torch.Generator(device).manual_seed(3)
    repeated = Repeated(lambda number: number.item(), device, generator)
    assert [repeated((), 2.0) for _ in range(Repeated.WARM_UP)] == [2.0] * 3
    with pytest.raises(UserError, match=r"^train.compile: steps cannot be recorded on this GPU \(.+\): set"):
        repeated((), 2.0)


def test_a_backward_pass_in_bfloat16_is_off_by_no_more_than_a_hundredth(shapes):
    device = choose_device("auto")[0]
    config = configured("setup")
    assert kernels_for(config, device, []).half
    points, found = (shapes[1] - shapes[1].mean(0)) / 20, []
    for kernels in (kernels_for(config, device, []), Kernels()):
        torch.manual_seed(0)
        model = build_model(config, 3, [])
        assert model is not None
        network, loss = model[0].to(device), model[1]
        network.kernels = kernels
        batch = sampler(points, config, device, loss).draw(torch.Generator(device).manual_seed(1), 0.3)
        terms = loss(network, batch)
        torch.stack(list(terms.values())).sum().backward()
        found.append((terms, [parameter.grad for parameter in network.parameters()]))
    (ours, rough), (theirs, exact) = found
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    for one, other in zip(rough, exact, strict=True):
        assert (one - other).norm() <= 0.01 * other.norm()


def test_a_sphere_comes_out_as_on_the_cpu(shapes):
    """The start is a sphere of the points, and 300 steps of the default network keep it within a hundredth."""
    for gpu in ("auto", "cpu"):
        surface = reconstruct(shapes[1], overrides={"train.nepoch": 300}, gpu=gpu)
        field = surface.field
        radii = np.linalg.norm(surface.vertices - shapes[1].mean(0), axis=1)
        assert np.abs(radii / 20 - 1).max() < 0.01
        assert field.w(shapes[1].mean(0)[None]) < -5


def test_a_run_goes_on_and_is_measured_on_either_device(clouds, tmp_path: Path, capsys):
    """GPU, then CPU, then GPU again; the checkpoint of each is read by the next."""

    def command(*arguments: object) -> str:
        assert main(tiny_arguments(tmp_path, arguments)) == 0
        return capsys.readouterr().out

    out = command("--input", clouds[1], "--expname", "run", "--gpu", "auto", "--nepoch", 40)
    assert "device: GPU" in out
    out = command("--expname", "run", "--is_continue", "--nepoch", 60)
    assert "device: CPU" in out
    assert "its random numbers begin anew here" in out
    out = command("--expname", "run", "--is_continue", "--nepoch", 80, "--gpu", "0")
    assert "its random numbers begin anew here" in out
    for gpu in ("0", "cpu"):
        command("--expname", "run", "--eval", "--gpu", gpu)
    (metrics,) = tmp_path.glob("run/*/evaluation/80/metrics.json")
    assert json.loads(metrics.read_text())


def test_going_on_on_the_same_gpu_has_the_same_bits(shapes, tmp_path: Path):
    device, cloud = choose_device("auto")[0], PointCloud(shapes[1])
    whole = train(tiny(STEP, "train.nepoch=40"), cloud, tmp_path, device=device)
    first = train(tiny(STEP, "train.nepoch=20"), cloud, tmp_path, device=device)
    second = train(tiny(STEP, "train.nepoch=40"), cloud, tmp_path, first.load_checkpoint(), device)
    assert same_state(whole.load_checkpoint(), second.load_checkpoint())
