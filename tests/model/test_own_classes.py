"""A network and a loss of one's own: one file each, found by name, and every mistake in them said in one line."""

import sys

import numpy as np
import pytest
import torch

import phase_recon.model
import phase_recon.model.loss
from conftest import TINY, Command
from phase_recon.model.base import Network, value_and_gradient
from phase_recon.model.loss.base import checked
from phase_recon.model.loss.igr import IgrLoss
from phase_recon.reconstruction.build_model import check_model
from phase_recon.reconstruction.field import load_field
from phase_recon.utils.config_files import load_config
from phase_recon.utils.errors import UserError

NETWORK = """
import torch
from phase_recon.model.base import Network
class Radial(Network):
    def __init__(self, d_in: int, centres: int = 20):
        super().__init__()
        self.centres = torch.nn.Parameter(torch.randn(centres, d_in))
        self.weights = torch.nn.Parameter(torch.zeros(centres))
        self.turn = torch.nn.Parameter(torch.eye(d_in).T)  # whose numbers lie in another order
        self.register_buffer("used", torch.ones(centres, dtype=torch.bool))
        self.register_buffer("halved", torch.full((1,), 0.5, dtype=torch.float16))
    def forward(self, x):
        far = (x.unsqueeze(-2) - self.centres[self.used] @ self.turn).square().sum(-1)
        return x.norm(dim=-1) - 0.5 + (torch.exp(-far) * self.weights).sum(-1)
class Bare(torch.nn.Module):
    pass
"""
OWN = ("train.network_class=model.radial.Radial", "train.start=network", "network.inputs=null", "network.inputs={}")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a module of one's own into the package model, or model.loss."""

    def write(name, text):
        package = phase_recon.model.loss if name.startswith("loss.") else phase_recon.model
        folder = tmp_path / package.__name__.rpartition(".")[2]
        folder.mkdir(exist_ok=True)
        (folder / f"{name.rpartition('.')[2]}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        monkeypatch.delitem(sys.modules, f"phase_recon.model.{name}", raising=False)

    return write


def test_a_network_needs_a_forward_alone(own, command: Command, tmp_path, shapes):
    """It trains, goes on, is meshed and is asked, by Muon's default too, though it has no matrix for it."""
    own("radial", NETWORK)
    np.savetxt(tmp_path / "cloud.xyz", shapes[1])
    more = (*OWN, "train.optimizer=muon", "plot.resolution=24", "plot.allow_open=true")
    sets = [part for key in more for part in ("--set", key)]
    done = command(tmp_path / "cloud.xyz", "--steps", 20, *sets)
    assert done.status == 0, done.err
    done = command(tmp_path / "cloud.xyz", "--steps", 30, "--is-continue", *sets)
    assert done.status == 0, done.err
    field = load_field(done.folder)
    assert field.gradient(shapes[1][:5]).shape == (5, 3)


def test_the_gradient_that_every_network_has_is_that_of_a_formula():
    class Square(Network):
        def forward(self, x):
            return x.square().sum(-1)

    x = torch.rand(7, 3)
    value, gradient = Square().value_and_gradient(x)
    assert torch.equal(value, x.square().sum(-1))
    assert torch.allclose(gradient, 2 * x)
    assert torch.equal(value_and_gradient(Square(), x)[1], gradient)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ((), None),
        (("network.inputs.centres=5",), None),
        (("network.inputs.dims=[3]",), "dims: unknown key; .*--set network.inputs=null --set 'network"),
        (("train.network_class=model.radial.Bare",), "Bare: is no network; let the class extend model.base"),
        (("train.network_class=model.broken.Net",), r"broken cannot be imported \(SyntaxError.*line 1.*mend"),
        (("train.network_class=model.lost.Net",), r"model.lost cannot be imported \(ModuleNotFoundError.*no_such"),
        (("network.loss=null", "network.loss={type=own}"), None),
        (("network.loss.type=own",), "own has keys of its own: --set network.loss=null --set 'network.loss={ ... }'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(own, keys, text):
    own("radial", NETWORK)
    own("broken", "def (")
    own("lost", "import no_such_package")
    own("loss.own", "from phase_recon.model.loss.base import DistanceLoss\nclass OwnLoss(DistanceLoss):\n    pass\n")
    keys = (*OWN, "network.loss.epsilon=0.01", *keys)
    if text is None:
        load_config(TINY, keys, check_model)
        return
    with pytest.raises(UserError, match=text) as caught:
        load_config(TINY, keys, check_model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        (torch.ones(3), "IgrLoss: gave Tensor in place of its terms; return {name: tensor, ...}"),
        ({}, "IgrLoss: gave dict in place of its terms; return {name: tensor, ...}"),
        ({"a": 1.0}, "IgrLoss: the term 'a' is a float; expected a tensor of one number"),
        ({"a": torch.ones(3, 1)}, "IgrLoss: the term 'a' has the shape (3, 1); expected one number: take its mean"),
    ],
)
def test_terms_are_numbers_by_name(terms, text):
    with pytest.raises(UserError) as caught:
        checked(terms, IgrLoss())
    assert str(caught.value) == text
    fine = {"a": torch.tensor(1.0)}
    assert checked(fine, IgrLoss()) is fine
