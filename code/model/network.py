"""The neural field: the multilayer perceptron of IGR, with Fourier features if asked.

``ImplicitNet`` maps points (..., d) to one value each (...). Its ``value_and_gradient`` gives the value and the
gradient in one forward graph, so that a loss on gradients costs one backward pass instead of two.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, relu, softplus

from phase_recon.model.base import Network
from phase_recon.model.encodings import FourierFeatureMapping
from phase_recon.model.kernels import LINEAR_ABOVE, Kernels
from phase_recon.utils.errors import raise_problems

SQRT_HALF = math.sqrt(0.5)  # factor at a skip connection, as in IGR: keeps the size of what two inputs add up to
MAX_LAYERS = 100  # hidden layers: a larger number is a mistake
MAX_WIDTH = 1 << 15  # units in a layer: the matrix between two such layers takes 4 GiB
MAX_FREQUENCIES = 20  # of the Fourier features: single precision cannot resolve faster waves
PUBLISHED_K = 6  # frequencies of the Fourier features (Lipman 2021)
RIDGE = 1e-4  # weight of the ridge regression to the sphere: small, so that the other weights keep the theorem's size
SPHERE_SAMPLES = 4096  # points of that regression: many more than the unknowns, which are as many as the last width


class ImplicitNet(Network):
    """The IGR network (Gropp et al. 2020, section 5): linear layers lin0, lin1, … with softplus between.

    Args:
        d_in: dimension of the points, 2 or 3.
        dims: widths of the hidden layers.
        skip_in: indices of the layers that get the (mapped) input again, joined to the output of the layer before and
            divided by √2: 1 to len(dims), the output layer. The layer before is narrower by as much, as in IGR.
        geometric_init: whether the network is initialised as about ‖x‖ - radius_init (Atzmon & Lipman 2020, SAL,
            Theorem 1). The weights of sines and cosines are initialised to zero, so that this holds with Fourier
            features too.
        radius_init: radius of that sphere, in normalised units.
        beta: sharpness β of the softplus log(1 + exp(β z)) / β; 0 means ReLU.
        use_FFM: whether the input passes through ``FourierFeatureMapping(k)``.
        k: its number of frequencies; None means 6, as published.
        latent_size: numbers of a latent code, which every layer that gets the input gets too; 0 for a network of one
            shape. The sphere is that of the zero code (Gropp et al. 2020, section 5.2; Park et al. 2019, DeepSDF).

    Raises:
        ValueError: a line "name: what is wrong" for each argument out of range.
    """

    def __init__(
        self,
        d_in: int,
        dims: Sequence[int] = (128, 128, 128, 128),
        skip_in: Sequence[int] = (),
        geometric_init: bool = True,
        radius_init: float = 0.5,
        beta: float = 100.0,
        use_FFM: bool = True,
        k: int | None = None,
        latent_size: int = 0,
    ) -> None:
        super().__init__()
        k = PUBLISHED_K if k is None else k
        mapped = d_in * (1 + 2 * k) if use_FFM else d_in
        features = mapped + latent_size
        _check(dims, skip_in, radius_init, beta, k if use_FFM else 1, features)
        self.embed = FourierFeatureMapping(k) if use_FFM else None
        self.skip_in = tuple(skip_in)
        self.beta = beta
        self.latent_size = latent_size
        self.kernels = Kernels()
        self.depth = len(dims) + 1
        ins = [features, *dims]
        outs = [*dims, 1]
        for i in self.skip_in:
            outs[i - 1] -= features
        for i, (n_in, n_out) in enumerate(zip(ins, outs, strict=True)):
            setattr(self, f"lin{i}", nn.Linear(n_in, n_out))
        if geometric_init and not self.layers()[0].weight.is_meta:  # the meta device has no values
            self._initialise_sphere(d_in, mapped, radius_init)

    @torch.no_grad()
    def _initialise_sphere(self, d: int, mapped: int, radius: float) -> None:
        """Set all weights so that the field is about ‖x‖ - radius; ``mapped`` is the width of the mapped input."""
        features = mapped + self.latent_size
        *hidden, last = self.layers()
        for i, layer in enumerate(hidden):
            nn.init.zeros_(layer.bias)
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / layer.out_features))
            if i == 0:
                layer.weight[:, d:mapped] = 0.0
            elif i in self.skip_in:
                first = layer.in_features - features
                layer.weight[:, first + d : first + mapped] = 0.0
        n = last.in_features
        if len(hidden) in self.skip_in:  # what the output layer sees of the input itself starts without weight
            n -= features
            nn.init.zeros_(last.weight[:, n:])
        scale = SQRT_HALF if len(hidden) in self.skip_in else 1.0
        nn.init.constant_(last.weight[:, :n], math.sqrt(math.pi / n) / scale)
        nn.init.constant_(last.bias, -radius)
        # The theorem holds for infinite width and ReLU. At the widths and the β in use, the sphere is off by a third
        # of its radius. A ridge regression of the last layer alone removes most of that error.
        count = SPHERE_SAMPLES
        x = nn.functional.normalize(torch.randn(count, d), dim=-1) * torch.rand(count, 1) * 2 * radius
        h = self._before_last(self._features(x, None))[:, :n]
        columns = torch.cat([h, torch.ones(count, 1)], dim=-1).double()
        residual = x.norm(dim=-1) - radius - self(x)
        gram = columns.T @ columns + count * RIDGE * torch.eye(columns.shape[-1])
        step = torch.linalg.solve(gram, columns.T @ residual.double()).float()
        last.weight[:, :n] += step[:-1]
        last.bias.add_(step[-1])

    def layers(self) -> list[nn.Linear]:
        """The linear layers from input to output."""
        return [self.get_submodule(f"lin{i}") for i in range(self.depth)]  # type: ignore[misc]

    @property
    def twice_differentiable(self) -> bool:
        """Whether the field has second derivatives in x; those of a ReLU network are zero everywhere."""
        return self.beta > 0

    def hidden_matrices(self) -> list[Tensor]:
        """The weight matrices (n, m) between hidden layers, for which a matrix optimiser such as Muon is made."""
        return [layer.weight for layer in self.layers()[1:-1]]

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """The field's value (...) at points x (..., d), of a latent code; None is the zero code.

        It is that of all points (latent_size,), or of each, in a shape that expands to (..., latent_size).
        """
        *_, last = self.layers()
        features = self._features(x, code)
        h = self._before_last(features.reshape(-1, features.shape[-1]))
        return linear(h, last.weight, last.bias).reshape(x.shape[:-1])

    def value_and_gradient(self, x: Tensor, code: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The field's value (...) and gradient (..., d) at points x (..., d), of a latent code as in ``forward``.

        Both are differentiable once, in the code and in the parameters, those of the encoding included. They are not
        differentiable in x, nor twice: torch raises a RuntimeError where a loss asks for that.
        """
        features = self._features(x.detach(), code)
        parameters = [p for layer in self.layers() for p in (layer.weight, layer.bias)]
        flat = features.reshape(-1, features.shape[-1])
        value, gradient = _ValueAndGradient.apply(  # type: ignore[no-untyped-call]
            flat, self.skip_in, self.beta, self.kernels, *parameters
        )
        mapped = features.shape[-1] - self.latent_size
        value, gradient = value.reshape(x.shape[:-1]), gradient.reshape(features.shape)[..., :mapped]
        return value, gradient if self.embed is None else self.embed.pull_back(features[..., :mapped], gradient)

    def _features(self, x: Tensor, code: Tensor | None) -> Tensor:
        """What the layers get of points x (..., d): the mapped input and, behind it, the latent code."""
        mapped: Tensor = x if self.embed is None else self.embed(x)
        if not self.latent_size:
            return mapped
        code = x.new_zeros(self.latent_size) if code is None else code
        return torch.cat([mapped, code.expand(*mapped.shape[:-1], -1)], dim=-1)

    def _before_last(self, features: Tensor) -> Tensor:
        """The output layer's input (N, n) for features (N, m)."""
        *hidden, _ = self.layers()
        h = features
        fused = self.kernels.fused and self.beta > 0 and not features.requires_grad
        for i, layer in enumerate(hidden):
            if i in self.skip_in:
                h = _joined(h, features)
            if fused:
                h = _Softplus.apply(h @ layer.weight.T, layer.bias, self.beta, self.kernels)  # type: ignore[no-untyped-call]
            else:
                z = linear(h, layer.weight, layer.bias)
                h = softplus(z, self.beta, LINEAR_ABOVE) if self.beta else relu(z)
        return _joined(h, features) if len(hidden) in self.skip_in else h


def _joined(h: Tensor, features: Tensor) -> Tensor:
    """What a skip gives (N, n + m) of the layer before (N, n) and the features (N, m)."""
    return torch.cat([h, features], dim=-1).mul_(SQRT_HALF)


class _Softplus(torch.autograd.Function):
    """The activation φ(z + b) (N, n) for z (N, n) and b (n,), with its backward pass. z is overwritten."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, bias: Tensor, beta: float, kernels: Kernels) -> Tensor:
        h, s = kernels.rise(z, bias, beta)
        ctx.save_for_backward(s)
        ctx.beta, ctx.kernels = beta, kernels
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, h_bar: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.kernels.bend(h_bar, *ctx.saved_tensors, ctx.beta), None, None


class _ValueAndGradient(torch.autograd.Function):
    """Value (N,) and gradient (N, m) of the layers at features (N, m), with the backward pass written out (derived).

    Up:    z_i = W_i h_i + b_i,   h_{i+1} = φ(z_i),   s_i = φ'(z_i),   value = W_L h_L + b_L
    Down:  g_L = W_L,   p_i = g_{i+1} ∘ s_i,   g_i = W_iᵀ p_i,   gradient = g_0
    The backward pass reverses Down, then Up; in the latter z_i acts through h_{i+1} and through p_i (``Kernels.bend``).
    Autograd gives the same result with three times as many passes over memory.
    The bar of a quantity is the derivative of the loss in it, such as z_bar. It is given for all parameters, and for
    the features (h_bar at layer 0, plus the part of each skip) where these require it.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, skip_in: tuple[int, ...], beta: float, kernels: Kernels, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        weights, biases = parameters[::2], parameters[1::2]
        depth, m = len(weights) - 1, features.shape[-1]
        inputs, s, p = [], [], []
        h, kept, g = features, kernels.kept(features), weights[-1]
        for i in range(depth):
            if i in skip_in:
                h = _joined(h, features)
                kept = kernels.kept(h)
            inputs.append(kept)
            h, slope, kept = kernels.rise_and_keep(h @ weights[i].T, biases[i], beta)
            s.append(slope)
        through_skips = torch.zeros_like(features)
        if depth in skip_in:  # the output layer's
            h = _joined(h, features)
            kept = kernels.kept(h)
            g = g * SQRT_HALF
            through_skips += g[:, -m:]
            g = g[:, :-m]
        inputs.append(kept)
        value = torch.addmv(biases[-1], h, weights[-1][0])
        for i in reversed(range(depth)):
            damped, kept = kernels.damp(g, s[i])
            p.append(kept)
            g = (weights[i].T @ damped.T).T.contiguous() if i == 0 else damped @ weights[i]  # faster for few columns
            if i in skip_in:
                g.mul_(SQRT_HALF)
                through_skips += g[:, -m:]
                g = g[:, :-m]
        ctx.skip_in, ctx.beta, ctx.kernels, ctx.depth = skip_in, beta, kernels, depth
        ctx.save_for_backward(*weights, *inputs, *s, *reversed(p))
        return value, g + through_skips if skip_in else g

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, value_bar: Tensor, gradient_bar: Tensor) -> tuple[Tensor | None, ...]:
        depth, skip_in, kernels = ctx.depth, ctx.skip_in, ctx.kernels
        saved = list(ctx.saved_tensors)
        weights, h = [kernels.kept(w) for w in saved[: depth + 1]], saved[depth + 1 : 2 * depth + 2]
        s, p = saved[2 * depth + 2 : 3 * depth + 2], saved[3 * depth + 2 :]
        value_bar, gradient_bar = kernels.kept(value_bar), kernels.kept(gradient_bar)
        weights_bar, biases_bar, p_bar = [], [], []
        g_bar = gradient_bar
        for i in range(depth):
            if i in skip_in:
                g_bar = _joined(g_bar, gradient_bar)
            weights_bar.append((g_bar.T @ p[i]).T)
            p_bar.append(g_bar @ weights[i].T)
            g_bar = kernels.damp_bar(p_bar[i], s[i])
        if depth in skip_in:
            g_bar = _joined(g_bar, gradient_bar)
        weights_bar.append((g_bar.sum(0) + value_bar @ h[-1]).unsqueeze(0))
        biases_bar.append(value_bar.sum().reshape(1))
        h_bar = value_bar.unsqueeze(-1) * weights[-1]
        features_bar = torch.zeros_like(gradient_bar) if ctx.needs_input_grad[0] else None
        if depth in skip_in:
            width = s[-1].shape[-1]
            if features_bar is not None:
                features_bar.add_(h_bar[:, width:], alpha=SQRT_HALF)
            h_bar = h_bar[:, :width] * SQRT_HALF
        for i in reversed(range(depth)):
            z_bar, bias_bar = kernels.bend(h_bar, s[i], ctx.beta, p[i], p_bar[i])
            weights_bar[i].T.addmm_(h[i].T, z_bar)
            biases_bar.append(bias_bar)
            width = s[i - 1].shape[-1] if i > 0 else 0  # the columns after it are those of the features
            if i > 0:
                h_bar = z_bar @ weights[i][:, :width]
                if i in skip_in:
                    h_bar.mul_(SQRT_HALF)
            if features_bar is not None and (i == 0 or i in skip_in):
                features_bar.add_(z_bar @ weights[i][:, width:], alpha=SQRT_HALF if i > 0 else 1.0)
        both = zip(weights_bar, reversed(biases_bar), strict=True)
        bars = [bar.to(saved[0].dtype) for pair in both for bar in pair]
        return None if features_bar is None else features_bar.to(saved[0].dtype), None, None, None, *bars


def _check(
    dims: Sequence[int], skip_in: Sequence[int], radius: float, beta: float, k: int, features: int
) -> None:
    problems = []
    if not dims or min(dims) < 1:
        problems.append(f"dims: expected at least one hidden layer, each at least 1 wide, got {list(dims)}")
    elif len(dims) > MAX_LAYERS or max(dims) > MAX_WIDTH:
        problems.append(
            f"dims: expected at most {MAX_LAYERS} layers of at most {MAX_WIDTH}, got {len(dims)} of up to {max(dims)}"
        )
    if len(set(skip_in)) < len(skip_in):
        problems.append(f"skip_in: expected each layer once, got {list(skip_in)}")
    for i in skip_in:
        if not 1 <= i <= len(dims):
            problems.append(
                f"skip_in: expected 1 to {len(dims)}, got {i}: the first layer sees the input anyway, and layer "
                f"{len(dims)} is the output"
            )
        elif dims[i - 1] <= features:
            problems.append(
                f"skip_in: layer {i} joins {features} features, so the layer before must be wider "
                f"than that, got {dims[i - 1]}"
            )
    if radius <= 0:
        problems.append(f"radius_init: must be above 0, got {radius}")
    if beta < 0:
        problems.append(f"beta: must be 0 (ReLU) or above, got {beta}")
    if k < 1:
        problems.append(f"k: must be at least 1, got {k}")
    if k > MAX_FREQUENCIES:
        problems.append(f"k: expected at most {MAX_FREQUENCIES}, got {k}")
    raise_problems(problems)
