"""The field's answers are in the input's units: about a sphere they are known in closed form."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import Array, Command
from phase_recon.datasets.pointcloud import PointCloud
from phase_recon.geometry.points import Normalisation
from phase_recon.model.base import value_and_gradient
from phase_recon.model.loss.phase import PhaseLoss
from phase_recon.reconstruction import field as field_module
from phase_recon.reconstruction.field import NeuralField, field_from_checkpoint, load_field
from phase_recon.reconstruction.meshing import surface_of
from phase_recon.utils.checkpoint import read_checkpoint
from phase_recon.utils.config import PlotConfig
from phase_recon.utils.errors import UserError

EPSILON = 0.01
NORMALISED_RADIUS = 0.5


class SphereNetwork(nn.Module):
    """The exact w of a sphere of radius 0.5, or the exact u."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        w = x.norm(dim=-1) - NORMALISED_RADIUS
        return w if self.output == "w" else w.sign() * (1 - torch.exp(-w.abs() / math.sqrt(EPSILON)))

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        w = x.norm(dim=-1, keepdim=True) - NORMALISED_RADIUS
        direction = x / x.norm(dim=-1, keepdim=True)
        steepness = 1.0 if self.output == "w" else torch.exp(-w.abs() / math.sqrt(EPSILON)) / math.sqrt(EPSILON)
        return self(x), steepness * direction


def sphere_field(output: str, centre: Array, scale: float) -> NeuralField:
    d = len(centre)
    return NeuralField(
        SphereNetwork(output),
        PhaseLoss(epsilon=EPSILON, output=output),  # type: ignore[arg-type]
        Normalisation(centre, scale),
        np.full(d, -1.5),
        np.full(d, 1.5),
        torch.device("cpu"),
    )


@pytest.mark.parametrize("output", ["u", "w"])
@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (1e7, 40.0), (-3.0, 1e-6)])
def test_u_w_and_gradient_are_those_of_a_sphere_in_the_input_s_units(output, d, offset, scale):
    centre = offset + np.arange(d, dtype=float)
    field = sphere_field(output, centre, scale)
    assert field.dimension == d
    direction = np.random.default_rng(0).normal(size=(50, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    length = scale * np.linspace(0.2, 0.8, 50)
    distance = length - scale * NORMALISED_RADIUS
    points = centre + length[:, None] * direction
    # single precision in the unit ball, and what double precision leaves of the points at the offset
    tolerance = 3e-5 * scale + 4 * np.spacing(abs(offset) + d)
    np.testing.assert_allclose(field.w(points), distance, atol=tolerance)
    phase = np.sign(distance) * (1 - np.exp(-np.abs(distance) / scale / math.sqrt(EPSILON)))
    np.testing.assert_allclose(field.u(points), phase, atol=10 * tolerance / scale)
    np.testing.assert_allclose(field.gradient(points), direction, atol=1e-3)
    assert field.w(points).dtype == field.u(points).dtype == field.gradient(points).dtype == np.float64


def test_many_points_are_answered_in_parts_with_the_same_answers(monkeypatch):
    field = sphere_field("w", np.zeros(3), 2.0)
    points = np.random.default_rng(1).normal(size=(100, 3))
    whole = field.u(points), field.w(points), field.gradient(points)
    monkeypatch.setattr(field_module, "CHUNK", 7)
    for part, expected in zip((field.u(points), field.w(points), field.gradient(points)), whole, strict=True):
        np.testing.assert_array_equal(part, expected)
    assert field.w(points[:0]).shape == (0,)


@pytest.mark.parametrize("shape", [(3,), (5, 2), (5, 4), (2, 5, 3)])
def test_points_of_another_shape_are_refused(shape):
    with pytest.raises(UserError, match=r"points: expected shape \(N, 3\), got"):
        sphere_field("w", np.zeros(3), 1.0).w(np.zeros(shape))


def test_normalised_answers_are_w_for_either_output():
    x = torch.tensor([[0.5, 0.0], [0.0, 0.6], [0.1, 0.0]])
    for output in ("u", "w"):
        field = sphere_field(output, np.array([7.0, 8.0]), 9.0)
        value, gradient = field.normalised_value_and_gradient(x)
        torch.testing.assert_close(field.normalised(x), torch.tensor([0.0, 0.1, -0.4]), atol=1e-5, rtol=0)
        torch.testing.assert_close(value, field.normalised(x))
        expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=0)
        assert not value.requires_grad


def test_load_field_takes_a_run_or_a_checkpoint(trained, shapes):
    for folder, points in zip(trained, shapes, strict=True):
        field = load_field(folder)
        same = load_field(str(folder / "checkpoints" / "250.pth"))
        earlier = load_field(folder / "checkpoints" / "100.pth")
        np.testing.assert_array_equal(field.w(points), same.w(points))
        assert not np.array_equal(field.w(points), earlier.w(points))
        assert field.dimension == points.shape[1]
        centre = points.mean(axis=0, keepdims=True)
        assert field.u(centre)[0] < -0.9
        assert field.u(centre + 28)[0] > 0.9  # within Ω's corner
        assert np.abs(field.w(points)).mean() < 1  # of a radius of 20


def test_load_field_of_what_is_no_run_says_so(trained, tmp_path):
    for folder in (tmp_path, trained[0].parent):
        with pytest.raises(UserError, match=rf"^{folder}: has no checkpoint: give a run's folder, <exp"):
            load_field(folder)
    with pytest.raises(UserError, match=r"x\.pth: no such file"):
        load_field(tmp_path / "x.pth")


def test_weights_of_another_network_are_refused(trained):
    checkpoint: dict[str, Any] = read_checkpoint(trained[0] / "checkpoints" / "latest.pth")
    checkpoint["config"]["network"]["inputs"]["dims"] = [16, 17]
    with pytest.raises(UserError, match=r"here: holds the weights of another network.*--checkpoint N"):
        field_from_checkpoint(checkpoint, torch.device("cpu"), "here")


@pytest.mark.parametrize("kind", [0, 1], ids=["2D", "3D"])
def test_query_writes_what_the_field_answers(command: Command, trained, shapes, tmp_path, kind):
    folder = trained[kind]
    points = shapes[kind].mean(axis=0) + np.random.default_rng(2).uniform(-25, 25, size=(5, shapes[kind].shape[1]))
    np.savetxt(tmp_path / "asked.xyz", points, fmt="%.17g")
    done = command(
        "--eval", "--exps_dir", folder.parents[1], "--expname", folder.parent.name, "--query", tmp_path / "asked.xyz"
    )
    assert done.status == 0, done.err
    field = load_field(folder)
    with np.load(folder / "evaluation" / "250" / "query.npz") as answers:
        assert set(answers) == {"points", "u", "w", "gradient"}
        np.testing.assert_array_equal(answers["points"], points)
        np.testing.assert_array_equal(answers["u"], field.u(points))
        np.testing.assert_array_equal(answers["w"], field.w(points))
        np.testing.assert_array_equal(answers["gradient"], field.gradient(points))


@pytest.mark.parametrize("output", ["u", "w"])
@pytest.mark.parametrize("d", [2, 3])
def test_the_walls_of_omega_are_outside_whatever_sign_the_network_has(output, d):
    right = sphere_field(output, np.arange(d, dtype=float), 4.0)
    assert right.outward() is right

    class Negative(SphereNetwork):
        def forward(self, x: Tensor) -> Tensor:
            return -super().forward(x)

        def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
            value, gradient = SphereNetwork(self.output).value_and_gradient(x)
            return -value, -gradient

    wrong = replace(right, network=Negative(output))
    turned = wrong.outward()
    points = np.random.default_rng(0).uniform(-3, 5, (20, d))
    np.testing.assert_array_equal(wrong.w(points), -right.w(points))
    for question in ("u", "w", "gradient"):
        np.testing.assert_array_equal(getattr(turned, question)(points), getattr(right, question)(points))
    x = torch.rand(7, d) - 0.5
    torch.testing.assert_close(turned.normalised_value_and_gradient(x), right.normalised_value_and_gradient(x))
    assert turned.outward() is turned


def test_a_sheet_through_the_walls_keeps_its_sides():
    class Sheet(SphereNetwork):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1] - 0.4  # most of the walls are inside

    field = replace(sphere_field("w", np.zeros(3), 1.0), network=Sheet("w"))
    assert field.outward() is field


def test_where_the_walls_are_inside_as_of_a_room_the_other_sign_is_wrong():
    ball = sphere_field("w", np.zeros(3), 1.0)
    assert ball.outward().sign == 1
    assert replace(ball, sign=-1.0).outward().sign == 1
    room = replace(ball, walls_inside=True)
    assert room.outward().sign == -1
    assert replace(room, sign=-1.0).outward().sign == -1


class BallAndSheet(nn.Module):
    """The w of a ball below a sheet, beyond which is inside, too: a field that went wrong where no point is."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.minimum(x.norm(dim=-1) - NORMALISED_RADIUS, 0.8 - x[..., -1])

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return value_and_gradient(self, x)


@pytest.mark.parametrize("d", [2, 3])
def test_a_sheet_that_no_point_shows_is_left_out_and_does_not_end_the_extraction(d: int):
    field = replace(sphere_field("w", np.zeros(d), 1.0), network=BallAndSheet())
    plot = PlotConfig(trim="closed", resolution=64)
    points = np.random.default_rng(0).standard_normal((400, d))
    points *= NORMALISED_RADIUS / np.linalg.norm(points, axis=1, keepdims=True)
    surface = surface_of(field, PointCloud(points), plot)
    assert surface.is_closed()
    assert surface.components()[0] == 1
    both = np.concatenate([points, np.append(np.random.default_rng(1).uniform(-0.5, 0.5, (200, d - 1)),
                                             np.full((200, 1), 0.8), axis=1)])  # fmt: skip
    with pytest.raises(UserError, match=r"^the surface leaves the box at its lower x, upper x"):
        surface_of(field, PointCloud(both), plot)


def test_no_places_have_no_answers(trained):
    for folder in trained:
        field = load_field(folder)
        none = np.empty((0, field.dimension))
        assert field.u(none).shape == field.w(none).shape == (0,)
        assert field.gradient(none).shape == none.shape


class BallAndBubble(nn.Module):
    """The w of a ball of radius 0.3 at x = -0.7, and of one of 0.6 at 0.7, which no point shows."""

    def forward(self, x: Tensor) -> Tensor:
        first = torch.eye(x.shape[-1])[0]
        return torch.minimum((x + 0.7 * first).norm(dim=-1) - 0.3, (x - 0.7 * first).norm(dim=-1) - 0.6)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return value_and_gradient(self, x)


def test_the_components_that_are_kept_are_the_largest_of_those_that_points_show() -> None:
    field = replace(sphere_field("w", np.zeros(3), 1.0), network=BallAndBubble())
    points = np.random.default_rng(0).standard_normal((400, 3))
    points = 0.3 * points / np.linalg.norm(points, axis=1, keepdims=True) - [0.7, 0, 0]
    lines: list[str] = []
    surface = surface_of(field, PointCloud(points), PlotConfig(resolution=64, keep_components=1), lines.append)
    assert surface.measure() == pytest.approx(4 * math.pi * 0.09, rel=0.01)
    alone = surface_of(field, None, PlotConfig(resolution=64, keep_components=1), lines.append)
    assert alone.measure() == pytest.approx(4 * math.pi * 0.36, rel=0.01)
    assert lines[-1] == "left out 1 smaller component (plot.keep_components = 1)"
