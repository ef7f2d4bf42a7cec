"""The neural field with sine activations: SIREN (Sitzmann et al. 2020), with its own or DiGS's initialisation.

``SirenNet`` maps points (..., d) to one value each (...), like ``model.network.ImplicitNet``, and has derivatives
of every order.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from phase_recon.model.base import Network
from phase_recon.utils.errors import raise_problems

SMALLEST_ROOT = 1e-8  # added to |z| under the square root, whose slope at 0 would be infinite
LOW_SHARE = 0.25  # share of the first layer's units that have low frequencies with multifrequency, as in DiGS's code
HIGH_WEIGHT = 0.0005  # × usual size: initial weights of the other units in the second layer, as in DiGS's code


class SirenNet(Network):
    """Linear layers lin0, lin1, … with the activation sin(ω₀ z) between them.

    Args:
        d_in: dimension of the points, 2 or 3.
        dims: widths of the hidden layers.
        omega_0: ω₀, the frequency; 30 in the publication.
        init: the initialisation. siren: the publication's (section 3.2), uniform weights whose size keeps the
            distribution of the activations from layer to layer; the field has no meaningful surface yet.
            geometric, multifrequency: those of DiGS (Ben-Shabat et al. 2022, section 3.4); the field is near that of a
            sphere, negative inside. With multifrequency, the first layer also has high frequencies, with small weights.
            With these two, the output is scale_init (sign(z) √|z| - radius_init) for the last layer's z, always.
        radius_init: the radius in that formula; 1.6 in DiGS. The sphere's radius is 0.9 of it with geometric (2√2/π,
            derived), and about 0.4 of it with multifrequency and layers of 256, more with narrower layers.
        scale_init: the scale in that formula; 0.1 in the runs of DiGS.

    Raises:
        ValueError: a line "name: what is wrong" for each argument out of range.
    """

    def __init__(
        self,
        d_in: int,
        dims: Sequence[int] = (256, 256, 256, 256),
        omega_0: float = 30.0,
        init: Literal["siren", "geometric", "multifrequency"] = "siren",
        radius_init: float = 1.6,
        scale_init: float = 0.1,
    ) -> None:
        super().__init__()
        _check(dims, omega_0, init, radius_init, scale_init)
        self.omega_0 = omega_0
        self.depth = len(dims) + 1
        self.sphere = None if init == "siren" else (radius_init, scale_init)
        for i, (n_in, n_out) in enumerate(zip([d_in, *dims], [*dims, 1], strict=True)):
            setattr(self, f"lin{i}", nn.Linear(n_in, n_out))
        with torch.no_grad():
            if init == "siren":
                self._initialise_siren()
            else:
                self._initialise_sphere()
            if init == "multifrequency":
                self._add_frequencies()

    def _initialise_siren(self) -> None:
        """Weights as in the authors' code; biases as PyTorch initialises them."""
        first, *others = self.layers()
        nn.init.uniform_(first.weight, -1.0 / first.in_features, 1.0 / first.in_features)
        for layer in others:
            bound = math.sqrt(6.0 / layer.in_features) / self.omega_0
            nn.init.uniform_(layer.weight, -bound, bound)

    def _initialise_sphere(self) -> None:
        """Small weights, so that sin z ≈ z and ‖h‖ ≈ ‖x‖; then n - Σ cos(π h_i / 2) ≈ π² ‖h‖² / 8."""
        *hidden, before_last, last = self.layers()
        for layer in hidden:
            n = layer.out_features
            _uniform(layer.weight, math.sqrt(3.0 / n) / self.omega_0)
            _uniform(layer.bias, 1.0 / (1000 * n * self.omega_0))
        n = before_last.out_features
        before_last.weight.copy_((0.5 * math.pi * torch.eye(n) + 0.001 * torch.randn(n, n)) / self.omega_0)
        before_last.bias.copy_((0.5 * math.pi + 0.001 * torch.randn(n)) / self.omega_0)
        last.weight.copy_(-1.0 + 0.00001 * torch.randn(1, n))
        nn.init.constant_(last.bias, n)

    def _add_frequencies(self) -> None:
        """Give the first layer, but for a quarter of it, ω₀ times higher frequencies, with small weights after it."""
        first, second, *_ = self.layers()
        low = int(LOW_SHARE * first.out_features)
        _uniform(first.weight, math.sqrt(3.0 / first.in_features))
        first.weight[:low] /= self.omega_0
        _uniform(second.weight, HIGH_WEIGHT * math.sqrt(3.0 / second.in_features))
        _uniform(second.weight[:low, :low], math.sqrt(3.0 / second.in_features) / self.omega_0)

    def layers(self) -> list[nn.Linear]:
        """The linear layers from input to output."""
        return [self.get_submodule(f"lin{i}") for i in range(self.depth)]  # type: ignore[misc]

    def hidden_matrices(self) -> list[Tensor]:
        """The weight matrices (n, m) between hidden layers, for which a matrix optimiser such as Muon is made."""
        return [layer.weight for layer in self.layers()[1:-1]]

    def forward(self, x: Tensor) -> Tensor:
        """The field's value (...) at points x (..., d)."""
        *hidden, last = self.layers()
        h = x
        for layer in hidden:
            h = torch.sin(self.omega_0 * linear(h, layer.weight, layer.bias))
        return self._output(linear(h, last.weight, last.bias).squeeze(-1))

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The field's value (...) and gradient (..., d) at points x (..., d), both differentiable in the parameters.

        The forward graph contains the gradient: the layers' derivatives ω₀ cos(ω₀ z) times the weights, from the last
        layer to the first. So a loss on gradients costs one backward pass.
        """
        *hidden, last = self.layers()
        h, slopes = x, []
        for layer in hidden:
            z = self.omega_0 * linear(h, layer.weight, layer.bias)
            h = torch.sin(z)
            slopes.append(self.omega_0 * torch.cos(z))
        z = linear(h, last.weight, last.bias).squeeze(-1)
        g = last.weight[0].expand_as(h)
        for layer, slope in zip(reversed(hidden), reversed(slopes), strict=True):
            g = (g * slope) @ layer.weight
        if self.sphere is not None:
            g = g * (0.5 * self.sphere[1] / torch.sqrt(z.abs() + SMALLEST_ROOT)).unsqueeze(-1)
        return self._output(z), g

    def _output(self, z: Tensor) -> Tensor:
        """The field's value (...) from the last layer's z (...)."""
        if self.sphere is None:
            return z
        radius, scale = self.sphere
        return scale * (torch.sign(z) * torch.sqrt(z.abs() + SMALLEST_ROOT) - radius)


def _uniform(tensor: Tensor, bound: float) -> None:
    nn.init.uniform_(tensor, -bound, bound)


def _check(dims: Sequence[int], omega_0: float, init: str, radius: float, scale: float) -> None:
    problems = []
    least = {"siren": 1, "geometric": 2, "multifrequency": 3}[init]
    if len(dims) < least or min(dims) < 1:
        problems.append(f"dims: expected {least} or more hidden layers with init = {init}, each at least 1 wide, "
                        f"got {list(dims)}")
    elif init != "siren" and len(set(dims)) > 1:
        problems.append(f"dims: init = {init} wants all of the same width, got {list(dims)}")
    elif init == "multifrequency" and dims[0] < 4:
        problems.append(f"dims: init = multifrequency wants at least 4 units in a layer, got {list(dims)}")
    for name, value in (("omega_0", omega_0), ("radius_init", radius), ("scale_init", scale)):
        if not value > 0:
            problems.append(f"{name}: must be above 0, got {value}")
    raise_problems(problems)
