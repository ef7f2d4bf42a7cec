"""The neural field: an IGR multilayer perceptron, with Fourier features if asked.

``ImplicitNet`` maps points (..., d) to one number each (...), and offers the same number together with its
gradient in a single forward graph, so that a loss on gradients costs one backward pass instead of two.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, relu, softplus

from phase_recon.model.kernels import LINEAR_ABOVE, Kernels

SQRT_HALF = math.sqrt(0.5)
# beyond these lies nothing but mistakes: a layer of 4 GiB; waves that single precision cannot tell from noise
MOST_LAYERS, WIDEST, MOST_FREQUENCIES = 100, 1 << 15, 20
PUBLISHED_K = 6
RIDGE = 1e-4  # of the fit to the sphere: weights of the size that the theorem gives stay

Field = Callable[[Tensor], Tensor]


def value_and_gradient(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """The field's value (...) and its gradient (..., d) at points x (..., d), by automatic differentiation.

    The readable reference for any field; both results stay differentiable in the field's parameters.
    A network's own ``value_and_gradient`` is the faster way and is held equal to this one by a test.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = field(x)
        gradient = derivative(value, x)
    return value, gradient


def derivative(value: Tensor, x: Tensor) -> Tensor:
    """The gradient (..., d) of values (...) in the points x (..., d) they were computed from, by automatic
    differentiation; it can be differentiated again, in x and in parameters.
    """
    gradient: Tensor = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    return gradient


class FourierFeatureMapping(nn.Module):
    """x -> [x, sin(2^j π/2 x), cos(2^j π/2 x)] for j = 0 … k-1: (..., d) to (..., d (1 + 2k)).

    The slowest wave has period 4, and Ω is no wider (at most 3 in 3D, 4 in 2D): no ghost copies of the
    surface can appear. The raw x is among the features, first.

    Args:
        k: number of frequencies, at least 1.
    """

    frequencies: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"k: must be at least 1, got {k}")
        self.register_buffer("frequencies", torch.tensor([0.5 * math.pi * 2**i for i in range(k)]), persistent=False)

    def width(self, d: int) -> int:
        """The number of features of a point in d dimensions."""
        return d * (1 + 2 * len(self.frequencies))

    def forward(self, x: Tensor) -> Tensor:
        """Map points (..., d) to features (..., d (1 + 2k))."""
        angles = x @ self._slopes(x)
        return torch.cat([x, angles.sin(), angles.cos()], dim=-1)

    def pull_back(self, features: Tensor, gradient: Tensor) -> Tensor:
        """The gradient in x (..., d) from the gradient in the features (..., d (1 + 2k)) (chain rule).

        Args:
            features: what ``forward`` gave; they hold the sines and cosines that the derivatives need.
            gradient: derivative of something in each feature.
        """
        d = features.shape[-1] // (1 + 2 * len(self.frequencies))
        x, sines, cosines = torch.split(features, [d, *[d * len(self.frequencies)] * 2], dim=-1)
        slopes = self._slopes(x).T
        of_features = torch.cat([torch.ones_like(x), cosines, -sines], dim=-1)
        identity = torch.eye(d, dtype=slopes.dtype, device=slopes.device)
        return (gradient * of_features) @ torch.cat([identity, slopes, slopes])

    def _slopes(self, x: Tensor) -> Tensor:
        """The derivatives (d, k d) of the angles in x (..., d); products with them are faster than loops over d."""
        return torch.kron(self.frequencies.to(x), torch.eye(x.shape[-1], dtype=x.dtype, device=x.device))


class ImplicitNet(nn.Module):
    """The IGR network (Gropp et al. 2020, section 5): linear layers lin0, lin1, … with softplus between.

    Args:
        d_in: dimension of the points, 2 or 3.
        dims: widths of the hidden layers.
        skip_in: indices of the layers that see the (mapped) input again, joined to the layer before;
            1 to len(dims) - 1: neither the first layer nor the output.
        geometric_init: start at about ‖x‖ - radius_init (Atzmon & Lipman 2020, SAL, Theorem 1); the
            weights of sines and cosines start at zero, so that this holds with Fourier features too.
        radius_init: radius of the sphere at the start, in normalised units.
        beta: sharpness of the softplus; 0 means ReLU.
        use_FFM: whether the input passes through ``FourierFeatureMapping(k)``.
        k: its number of frequencies; None is 6, as published.

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
    ) -> None:
        super().__init__()
        k = PUBLISHED_K if k is None else k
        features = d_in * (1 + 2 * k) if use_FFM else d_in
        _check(dims, skip_in, radius_init, beta, k if use_FFM else 1, features)
        self.embed = FourierFeatureMapping(k) if use_FFM else None
        self.skip_in = tuple(skip_in)
        self.beta = beta
        self.kernels = Kernels()
        self.depth = len(dims) + 1
        ins = [features, *dims]
        outs = [*dims, 1]
        for i in self.skip_in:
            outs[i - 1] -= features
        for i, (n_in, n_out) in enumerate(zip(ins, outs, strict=True)):
            setattr(self, f"lin{i}", nn.Linear(n_in, n_out))
        if geometric_init and not self.layers()[0].weight.is_meta:  # on that device there are no values
            self._start_at_sphere(d_in, features, radius_init)

    @torch.no_grad()
    def _start_at_sphere(self, d: int, features: int, radius: float) -> None:
        *hidden, last = self.layers()
        for i, layer in enumerate(hidden):
            nn.init.zeros_(layer.bias)
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / layer.out_features))
            if i == 0:
                layer.weight[:, d:] = 0.0
            elif i in self.skip_in:
                layer.weight[:, layer.in_features - features + d :] = 0.0
        nn.init.constant_(last.weight, math.sqrt(math.pi / last.in_features))
        nn.init.constant_(last.bias, -radius)
        # The theorem holds for infinite width and a ReLU; at the widths and softness in use the shape is
        # off by a third of its radius. A ridge regression of the last layer alone takes out most of that.
        x = nn.functional.normalize(torch.randn(4096, d), dim=-1) * torch.rand(4096, 1) * 2 * radius
        h = self._last_hidden(x if self.embed is None else self.embed(x))
        columns = torch.cat([h, torch.ones(4096, 1)], dim=-1).double()
        misfit = x.norm(dim=-1) - radius - self(x)
        gram = columns.T @ columns + 4096 * RIDGE * torch.eye(columns.shape[-1])
        step = torch.linalg.solve(gram, columns.T @ misfit.double()).float()
        last.weight.add_(step[:-1])
        last.bias.add_(step[-1])

    def layers(self) -> list[nn.Linear]:
        """The linear layers from input to output."""
        return [self.get_submodule(f"lin{i}") for i in range(self.depth)]  # type: ignore[misc]

    @property
    def twice_differentiable(self) -> bool:
        """Whether the field has second derivatives in x; those of a ReLU network are zero."""
        return self.beta > 0

    def hidden_matrices(self) -> list[Tensor]:
        """The weights between hidden layers, those that a matrix optimiser such as Muon is meant for."""
        return [layer.weight for layer in self.layers()[1:-1]]

    def forward(self, x: Tensor) -> Tensor:
        """The field at points x (..., d): (...)."""
        *_, last = self.layers()
        features: Tensor = x if self.embed is None else self.embed(x)
        h = self._last_hidden(features.reshape(-1, features.shape[-1]))
        return linear(h, last.weight, last.bias).reshape(x.shape[:-1])

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The field (...) and its gradient (..., d) at x (..., d), both differentiable in the parameters.

        Once, and not in x: the backward pass knows nothing else, and asking for more is an error.
        """
        x = x.detach()
        features: Tensor = x if self.embed is None else self.embed(x)
        parameters = [p for layer in self.layers() for p in (layer.weight, layer.bias)]
        flat = features.reshape(-1, features.shape[-1])
        value, gradient = _ValueAndGradient.apply(  # type: ignore[no-untyped-call]
            flat, self.skip_in, self.beta, self.kernels, *parameters
        )
        value, gradient = value.reshape(x.shape[:-1]), gradient.reshape(features.shape)
        return value, gradient if self.embed is None else self.embed.pull_back(features, gradient)

    def _last_hidden(self, features: Tensor) -> Tensor:
        """What the last hidden layer gives (N, n) for features (N, m)."""
        *hidden, _ = self.layers()
        h = features
        fused = self.kernels.fused and self.beta > 0 and not features.requires_grad
        for i, layer in enumerate(hidden):
            if i in self.skip_in:
                h = torch.cat([h, features], dim=-1) * SQRT_HALF
            if fused:
                h = _Softplus.apply(h @ layer.weight.T, layer.bias, self.beta, self.kernels)  # type: ignore[no-untyped-call]
            else:
                z = linear(h, layer.weight, layer.bias)
                h = softplus(z, self.beta, LINEAR_ABOVE) if self.beta else relu(z)
        return h


class _Softplus(torch.autograd.Function):
    """φ(z + b) (N, n) for z (N, n), which is lost, and b (n,); what the backward pass needs comes with it."""

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
    """Value (N,) and gradient (N, m) of the layers at features (N, m), with the backward pass written out.

    Up:    z_i = W_i h_i + b_i,   h_{i+1} = φ(z_i),   s_i = φ'(z_i),   value = W_L h_L + b_L
    Down:  g_L = W_L,   p_i = g_{i+1} ∘ s_i,   g_i = W_iᵀ p_i,   gradient = g_0
    The backward pass retraces down, then up, where z_i has a part in h_{i+1} and in p_i (``Kernels.bend``). Autograd
    would do the same in three times as many passes over memory.
    A bar marks the derivative of the loss in the barred thing.
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
                h = torch.cat([h, features], dim=-1).mul_(SQRT_HALF)
                kept = kernels.kept(h)
            inputs.append(kept)
            h, slope, kept = kernels.rise_and_keep(h @ weights[i].T, biases[i], beta)
            s.append(slope)
        inputs.append(kept)
        value = torch.addmv(biases[-1], h, weights[-1][0])
        through_skips = torch.zeros_like(features)
        for i in reversed(range(depth)):
            damped, kept = kernels.damp(g, s[i])
            p.append(kept)
            g = (weights[i].T @ damped.T).T.contiguous() if i == 0 else damped @ weights[i]  # narrow ones are faster so
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
                g_bar = torch.cat([g_bar, gradient_bar], dim=-1).mul_(SQRT_HALF)
            weights_bar.append((g_bar.T @ p[i]).T)
            p_bar.append(g_bar @ weights[i].T)
            g_bar = kernels.damp_bar(p_bar[i], s[i])
        weights_bar.append((g_bar.sum(0) + value_bar @ h[-1]).unsqueeze(0))
        biases_bar.append(value_bar.sum().reshape(1))
        h_bar = value_bar.unsqueeze(-1) * weights[-1]
        for i in reversed(range(depth)):
            z_bar, bias_bar = kernels.bend(h_bar, s[i], ctx.beta, p[i], p_bar[i])
            weights_bar[i].T.addmm_(h[i].T, z_bar)
            biases_bar.append(bias_bar)
            if i > 0:
                h_bar = z_bar @ weights[i][:, : s[i - 1].shape[-1]]  # without the columns of a skip
                if i in skip_in:
                    h_bar.mul_(SQRT_HALF)
        both = zip(weights_bar, reversed(biases_bar), strict=True)
        return None, None, None, None, *(bar.to(saved[0].dtype) for pair in both for bar in pair)


def _check(
    dims: Sequence[int], skip_in: Sequence[int], radius: float, beta: float, k: int, features: int
) -> None:
    problems = []
    if not dims or min(dims) < 1:
        problems.append(f"dims: expected at least one hidden layer, each at least 1 wide, got {list(dims)}")
    elif len(dims) > MOST_LAYERS or max(dims) > WIDEST:
        problems.append(
            f"dims: expected at most {MOST_LAYERS} layers of at most {WIDEST}, got {len(dims)} of up to {max(dims)}"
        )
    if len(set(skip_in)) < len(skip_in):
        problems.append(f"skip_in: expected each layer once, got {list(skip_in)}")
    for i in skip_in:
        if not 1 <= i < len(dims):
            problems.append(
                f"skip_in: {i} is not between 1 and {len(dims) - 1}: a skip goes into a hidden layer after "
                "the first, never into the output"
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
    if k > MOST_FREQUENCIES:
        problems.append(f"k: expected at most {MOST_FREQUENCIES}, got {k}")
    if problems:
        raise ValueError("\n".join(problems))
