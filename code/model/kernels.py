"""The elementwise part of a layer, forward and backward: by torch, or by kernels.c in a third of the time.

φ is the softplus log(1 + exp(β z)) / β, or the ReLU for β = 0. The bar of a quantity is the derivative of the loss in
it. N counts points, n the units of a layer. ``_ValueAndGradient`` in network.py says where each method is used.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from phase_recon.utils.compiled import load_compiled, openmp
from phase_recon.utils.errors import UserError

LINEAR_ABOVE = 40.0  # β z above which the softplus is taken as z: they differ by less than double precision resolves
SOURCE = Path(__file__).with_name("kernels.c")  # the C source
BLOCK = 64  # rows that kernels.c sums at a time; BLOCK there
GRAIN = 1 << 15  # numbers in an array from which several threads are faster than one; torch's own limit


class Kernels:
    """The readable reference by torch, for any device and precision.

    Args:
        half: whether the factors of the backward pass's matrix products are rounded to bfloat16, which some processors
            multiply at twice the speed. Values and gradients in x do not change. The gradients in the parameters
            change by about 0.3 %, less than by the random choice of a step's points.
    """

    fused = False

    def __init__(self, half: bool = False) -> None:
        self.half = half

    def kept(self, x: Tensor) -> Tensor:
        """x rounded for the backward pass: to bfloat16 if ``half``, or x itself."""
        return x.bfloat16() if self.half else x

    def rise(self, z: Tensor, bias: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """h = φ(z + b) and s = φ'(z + b), both (N, n), for z (N, n) and b (n,). z is overwritten."""
        z += bias
        if beta == 0:
            return relu(z), (z > 0).to(z.dtype)
        return softplus(z, beta, LINEAR_ABOVE), z.mul_(beta).sigmoid_()

    def rise_and_keep(self, z: Tensor, bias: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        """h and s, as ``rise`` gives them, and ``kept(h)``."""
        h, s = self.rise(z, bias, beta)
        return h, s, self.kept(h)

    def damp(self, g: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """p = g ∘ s (N, n), and ``kept(p)``."""
        p = g * s
        return p, self.kept(p)

    def damp_bar(self, p_bar: Tensor, s: Tensor) -> Tensor:
        """g_bar = p_bar ∘ s (N, n), from p = g ∘ s; p_bar and the result are rounded as ``kept`` does."""
        return (p_bar * s).to(p_bar.dtype)

    def bend(
        self, h_bar: Tensor, s: Tensor, beta: float, p: Tensor | None = None, p_bar: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """z_bar (N, n) and its sum over the points (n,), where the loss depends on z through h = φ(z) and p = g ∘ s.

        z_bar = h_bar ∘ s + φ'' ∘ g ∘ p_bar. As φ'' = β s (1 - s), the second term is β (1 - s) ∘ p ∘ p_bar (derived).

        Args:
            h_bar: the derivative of the loss in h (N, n).
            s: φ' (N, n), as ``rise`` gave it.
            beta: β; 0 for the ReLU.
            p: p (N, n), or None where the loss depends on h alone.
            p_bar: the derivative of the loss in p (N, n), or None where p is None.
        """
        z_bar = h_bar * s
        if p is not None and p_bar is not None and beta > 0:
            z_bar += beta * (1 - s) * p * p_bar
        return z_bar.to(h_bar.dtype), z_bar.sum(0)


class CompiledKernels(Kernels):
    """The same results, but for rounding, by kernels.c.

    It computes a softplus in single precision on the CPU, from dense arrays; for all else, each method falls back on
    ``Kernels``.

    Args:
        half: as for ``Kernels``.

    Raises:
        UserError: kernels.c cannot be compiled here, or its results differ from torch's; the text says what to do.
    """

    fused = True

    def __init__(self, half: bool = False) -> None:
        super().__init__(half)
        self._check()

    @property
    def library(self) -> ctypes.CDLL:
        """The compiled kernels.c; a property, so that pickling this object leaves it out."""
        return _library()

    def rise(self, z: Tensor, bias: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """See ``Kernels``."""
        return self._rise(z, bias, beta, None) if beta > 0 and _suit(z, bias) else super().rise(z, bias, beta)

    def rise_and_keep(self, z: Tensor, bias: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Kernels``."""
        if not (self.half and beta > 0 and _suit(z, bias)):
            return super().rise_and_keep(z, bias, beta)
        kept = torch.empty_like(z, dtype=torch.bfloat16)
        return *self._rise(z, bias, beta, kept), kept

    def _rise(self, z: Tensor, bias: Tensor, beta: float, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        h = torch.empty_like(z)
        self.library.rise(*_pointers(z, bias, h, kept), *z.shape, beta, _threads(z))
        return h, z

    def damp(self, g: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Kernels``."""
        if not (self.half and g.shape == s.shape and _suit(g, s)):
            return super().damp(g, s)
        p, kept = torch.empty_like(s), torch.empty_like(s, dtype=torch.bfloat16)
        self.library.damp(*_pointers(g, s, p, kept), *s.shape, _threads(s))
        return p, kept

    def damp_bar(self, p_bar: Tensor, s: Tensor) -> Tensor:
        """See ``Kernels``."""
        if not (_suit(p_bar, kind=torch.bfloat16) and _suit(s)):
            return super().damp_bar(p_bar, s)
        g_bar = torch.empty_like(p_bar)
        self.library.damp_bar(*_pointers(p_bar, s, g_bar), *s.shape, _threads(s))
        return g_bar

    def bend(
        self, h_bar: Tensor, s: Tensor, beta: float, p: Tensor | None = None, p_bar: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Kernels``."""
        given = [h_bar] if p is None or p_bar is None else [h_bar, p, p_bar]
        half = len(given) == 3 and _suit(*given, kind=torch.bfloat16)
        if not (beta > 0 and _suit(s) and (half or _suit(*given))):
            return super().bend(h_bar, s, beta, p, p_bar)
        z_bar = torch.empty_like(h_bar)
        sums = s.new_empty(-(-len(s) // BLOCK), s.shape[1])
        self.library.bend(*_pointers(h_bar, s, p, p_bar, z_bar, sums), *s.shape, beta, half, _threads(s))
        return z_bar, sums.sum(0)

    def _check(self) -> None:
        """Compare with torch on arrays that several threads share, and whose last block is not full.

        Raises:
            UserError: the results differ by more than rounding.
        """
        beta, rows, columns = 100.0, 17 * BLOCK + 5, 37
        z, h_bar, p, p_bar = torch.linspace(-0.2, 0.2, 4 * rows * columns).reshape(4, rows, columns).sin()
        bias = torch.linspace(-0.1, 0.1, columns)
        s = torch.sigmoid(beta * z)
        results = [
            (
                *way.rise_and_keep(z.clone(), bias, beta),
                *way.damp(h_bar, s),
                way.damp_bar(way.kept(p_bar), s),
                *way.bend(way.kept(h_bar), s, beta, way.kept(p), way.kept(p_bar)),
                *way.bend(h_bar, s, beta),
            )
            for way in (Kernels(self.half), self)
        ]
        off = 1e-2 if self.half else 1e-4  # a unit in the last place of bfloat16
        if not all(torch.allclose(ours, plain, rtol=off, atol=1e-4) for plain, ours in zip(*results, strict=True)):
            raise UserError(
                f"{SOURCE.name}: compiled on this machine, its results differ from torch's; set CC to another compiler"
            )


def _suit(*arrays: Tensor, kind: torch.dtype = torch.float32) -> bool:
    """Whether kernels.c can read all of these arrays."""
    return all(array.is_cpu and array.dtype == kind and array.is_contiguous() for array in arrays)


def _pointers(*arrays: Tensor | None) -> list[int]:
    """The addresses of the arrays, and 0 for None."""
    return [0 if array is None else array.data_ptr() for array in arrays]


def _threads(array: Tensor) -> int:
    """The number of threads for an array of this size."""
    return torch.get_num_threads() if array.numel() >= GRAIN else 1


@functools.cache
def _library() -> ctypes.CDLL:
    """kernels.c, compiled and loaded, with its functions' types declared."""
    library = load_compiled(SOURCE)
    array, size, real, count = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_float, ctypes.c_int
    library.use_openmp.argtypes = [array] * 3
    library.rise.argtypes = [array] * 4 + [size, size, real, count]
    library.damp.argtypes = [array] * 4 + [size, size, count]
    library.damp_bar.argtypes = [array] * 3 + [size, size, count]
    library.bend.argtypes = [array] * 6 + [size, size, real, count, count]
    for function in (library.use_openmp, library.rise, library.damp, library.damp_bar, library.bend):
        function.restype = None
    library.use_openmp(*(openmp() or [None] * 3))
    return library
