"""What counts as a failure of a field, on analytic ones: sure signs only, and no alarm at valid shapes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from phase_recon.geometry.points import Normalisation
from phase_recon.model.loss.phase import PhaseLoss
from phase_recon.reconstruction.field import NeuralField
from phase_recon.reconstruction.health import surface_leaves, surface_lost

Values = Callable[[torch.Tensor], torch.Tensor]


class Analytic(torch.nn.Module):
    """A function of points (..., d) in the network's place; w itself."""

    def __init__(self, values: Values) -> None:
        super().__init__()
        self.values = values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.values(x)

    def value_and_gradient(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            value = self.values(x)
            (slope,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), slope


def field(values: Values, d: int = 3, half: float = 1.5) -> NeuralField:
    box = np.full(d, half)
    frame = Normalisation(np.zeros(d), 1.0)
    return NeuralField(Analytic(values), PhaseLoss(), frame, -box, box, torch.device("cpu"))


def ball(radius: float) -> Values:
    return lambda x: torch.linalg.vector_norm(x, dim=-1) - radius


def on_ball(radius: float, d: int) -> torch.Tensor:
    directions = torch.randn((500, d), generator=torch.Generator().manual_seed(0))
    return radius * torch.nn.functional.normalize(directions, dim=-1)


def flat(height: float) -> torch.Tensor:
    """500 points at a height over the xy plane."""
    points = 2 * torch.rand((500, 3), generator=torch.Generator().manual_seed(0)) - 1
    points[:, 2] = height
    return points


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("radius", [1.0, 0.7, 0.01])  # the last is far smaller than a cell of 3/32
@pytest.mark.parametrize("off", [0.0, 0.003, -0.003])  # points may all be outside or inside
def test_a_surface_is_found_whatever_its_size(d, radius, off):
    assert surface_lost(field(ball(radius), d), on_ball(radius + off, d)) is None
    assert surface_leaves(field(ball(radius), d)) is None


@pytest.mark.parametrize("height", [0.0, 0.0005, 0.002, -0.002])
def test_a_sheet_thinner_than_a_cell_is_a_surface(height):
    def sheet(x: torch.Tensor) -> torch.Tensor:
        return (x[..., 2] - 0.047).abs() - 0.001  # between the nodes 0 and 3/32

    assert surface_lost(field(sheet), flat(0.047 + height)) is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (lambda x: 0.1 + 0 * x[..., 0], "no surface is left: the field is positive everywhere"),
        (lambda x: -0.1 + 0 * x[..., 0], "no surface is left: the field is negative everywhere"),
        (lambda x: ball(1.0)(x).abs() + 0.01, "positive everywhere"),  # a fold that does not reach the points
        (ball(1.5 * 3**0.5 + 0.1), "negative everywhere"),  # all of Ω is inside
        (lambda x: x[..., 0] / 0, "not finite"),
    ],
)
def test_a_field_of_one_sign_has_lost_its_surface(values, text):
    assert text in str(surface_lost(field(values), on_ball(1.0, 3)))


def test_the_level_that_is_asked_for_counts():
    shallow = field(lambda x: ball(1.0)(x).clamp(min=-0.05))
    assert surface_lost(shallow, on_ball(1.0, 3), -0.04) is None
    assert "positive" in str(surface_lost(shallow, on_ball(1.0, 3), -0.1))
    assert surface_leaves(field(ball(1.4)), 0.05) is None
    assert surface_leaves(field(ball(1.4)), 0.2)


def test_walls_that_a_surface_goes_through_are_named():
    assert surface_leaves(field(lambda x: x[..., 0] - 1.49)) == (
        "the surface leaves Ω at its lower y, upper y, lower z, upper z side"
    )
    assert str(surface_leaves(field(ball(1.6), d=2))).endswith("at its lower x, upper x, lower y, upper y side")
    cup = field(lambda x: torch.maximum(ball(1.45)(x), -ball(1.4)(x + 0.1)))  # thin, open, close to the walls
    assert surface_leaves(cup) is None


def test_a_shape_turned_inside_out_does_not_leave():
    assert surface_leaves(field(lambda x: -ball(1.0)(x))) is None
