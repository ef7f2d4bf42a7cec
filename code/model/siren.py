"""The neural field with sines between its layers: SIREN (Sitzmann et al. 2020), with its own start or those of DiGS.

``SirenNet`` maps points (..., d) to one number each (...), like ``model.network.ImplicitNet``, and has derivatives
of every order.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

ROOT = 1e-8  # beside |z| under the root, which would otherwise be infinitely steep at 0
LOW_SHARE = 0.25  # of the first layer's units that a multifrequency start keeps slow
FAINT = 0.0005  # the weight of the others in the second layer


class SirenNet(nn.Module):
    """Linear layers lin0, lin1, … with sin(ω₀ ·) between.

    Args:
        d_in: dimension of the points, 2 or 3.
        dims: widths of the hidden layers.
        omega_0: ω₀, the frequency; 30 in the publication.
        init: siren: the publication's, uniform weights of a size that keeps the activations' distribution
            (section 3.2); it is no surface yet. geometric, multifrequency: those of DiGS (Ben-Shabat et al. 2022,
            section 3.4), near a sphere, inside negative; with multifrequency, fast waves wait in the first layer.
            The output z of these two is sign(z) √|z| - radius_init, times scale_init, during the training as well.
        radius_init: of that output; 1.6 in DiGS. The sphere's radius is 0.9 of it with geometric (2√2/π, derived), and
            about 0.4 of it with multifrequency and layers of 256, more where they are narrower.
        scale_init: of that output; 0.1 in the runs of DiGS.

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
                self._start_as_siren()
            else:
                self._start_at_sphere()
            if init == "multifrequency":
                self._add_frequencies()

    def _start_as_siren(self) -> None:
        """Weights as in the authors' code; biases as PyTorch's layers start."""
        first, *others = self.layers()
        nn.init.uniform_(first.weight, -1.0 / first.in_features, 1.0 / first.in_features)
        for layer in others:
            bound = math.sqrt(6.0 / layer.in_features) / self.omega_0
            nn.init.uniform_(layer.weight, -bound, bound)

    def _start_at_sphere(self) -> None:
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
        """A quarter of the first layer stays slow and goes on; the rest is ω₀ times as fast and hardly heard yet."""
        first, second, *_ = self.layers()
        slow = int(LOW_SHARE * first.out_features)
        _uniform(first.weight, math.sqrt(3.0 / first.in_features))
        first.weight[:slow] /= self.omega_0
        _uniform(second.weight, FAINT * math.sqrt(3.0 / second.in_features))
        _uniform(second.weight[:slow, :slow], math.sqrt(3.0 / second.in_features) / self.omega_0)

    def layers(self) -> list[nn.Linear]:
        """The linear layers from input to output."""
        return [self.get_submodule(f"lin{i}") for i in range(self.depth)]  # type: ignore[misc]

    @property
    def twice_differentiable(self) -> bool:
        """Whether the field has second derivatives in x."""
        return True

    def hidden_matrices(self) -> list[Tensor]:
        """The weights between hidden layers, those that a matrix optimiser such as Muon is meant for."""
        return [layer.weight for layer in self.layers()[1:-1]]

    def forward(self, x: Tensor) -> Tensor:
        """The field at points x (..., d): (...)."""
        *hidden, last = self.layers()
        h = x
        for layer in hidden:
            h = torch.sin(self.omega_0 * linear(h, layer.weight, layer.bias))
        return self._output(linear(h, last.weight, last.bias).squeeze(-1))

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The field (...) and its gradient (..., d) at x (..., d), both differentiable in the parameters.

        The layers' derivatives ω₀ cos are multiplied back through the weights as part of the forward graph, so that a
        loss on gradients costs one backward pass.
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
            g = g * (0.5 * self.sphere[1] / torch.sqrt(z.abs() + ROOT)).unsqueeze(-1)
        return self._output(z), g

    def _output(self, z: Tensor) -> Tensor:
        """The field (...) from the last layer (...)."""
        if self.sphere is None:
            return z
        radius, scale = self.sphere
        return scale * (torch.sign(z) * torch.sqrt(z.abs() + ROOT) - radius)


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
    if problems:
        raise ValueError("\n".join(problems))
