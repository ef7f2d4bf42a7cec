"""What a layer does between its matrix products, up and back: by torch, or by kernels.c in a third of the time.

φ is the softplus of sharpness β, or the ReLU for β = 0; a bar marks the derivative of the loss in the barred thing.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from phase_recon.utils.compiled import load_compiled, openmp
from phase_recon.utils.errors import UserError

LINEAR_ABOVE = 40.0  # of beta·z, where the softplus and z differ by less than double precision sees
SOURCE = Path(__file__).with_name("kernels.c")
BLOCK = 64  # rows of a sum in kernels.c
GRAIN = 1 << 15  # numbers of an array from which threads are worth their start, as in torch


class Kernels:
    """By torch: the readable reference, for any device and precision.

    Args:
        half: whether what the backward pass multiplies is rounded to bfloat16, whose products some processors have at
            twice the speed. Values and gradients in x stay as they are; those in the parameters are off by some 0.3 %,
            less than by the choice of a step's points.
    """

    fused = False

    def __init__(self, half: bool = False) -> None:
        self.half = half

    def kept(self, x: Tensor) -> Tensor:
        """x as the backward pass multiplies it."""
        return x.bfloat16() if self.half else x

    def rise(self, z: Tensor, bias: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """h = φ(z + b) and s = φ'(z + b), both (N, n), for z (N, n), which is lost, and b (n,)."""
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
        """The part of p = g ∘ s in g_bar: p_bar ∘ s (N, n), for p_bar that is kept, as the result is."""
        return (p_bar * s).to(p_bar.dtype)

    def bend(
        self, h_bar: Tensor, s: Tensor, beta: float, p: Tensor | None = None, p_bar: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """z_bar (N, n) and its sum over the points (n,), where the loss depends on z through h and p = g ∘ s.

        z_bar = h_bar ∘ s + φ'' ∘ g ∘ p_bar, and φ'' = β s (1 - s), so the last is β (1 - s) ∘ p ∘ p_bar (derived).

        Args:
            h_bar: (N, n).
            s: φ' (N, n), as ``rise`` gave it.
            beta: β.
            p: (N, n), or None where the loss depends on h alone.
            p_bar: (N, n), with p.
        """
        z_bar = h_bar * s
        if p is not None and p_bar is not None and beta > 0:
            z_bar += beta * (1 - s) * p * p_bar
        return z_bar.to(h_bar.dtype), z_bar.sum(0)


class CompiledKernels(Kernels):
    """The same to rounding by kernels.c, for a softplus in single precision on the CPU; by torch for the rest.

    Args:
        half: as for ``Kernels``.

    Raises:
        UserError: it cannot be compiled here, or computes something else; the text says what to do.
    """

    fused = True

    def __init__(self, half: bool = False) -> None:
        super().__init__(half)
        self._check()

    @property
    def library(self) -> ctypes.CDLL:
        """kernels.c as it was compiled here; no part of what is pickled."""
        return _library()

    def rise(self, z: Tensor, bias: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """As by torch."""
        return self._rise(z, bias, beta, None) if beta > 0 and _suit(z, bias) else super().rise(z, bias, beta)

    def rise_and_keep(self, z: Tensor, bias: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        """As by torch."""
        if not (self.half and beta > 0 and _suit(z, bias)):
            return super().rise_and_keep(z, bias, beta)
        kept = torch.empty_like(z, dtype=torch.bfloat16)
        return *self._rise(z, bias, beta, kept), kept

    def _rise(self, z: Tensor, bias: Tensor, beta: float, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        h = torch.empty_like(z)
        self.library.rise(*_pointers(z, bias, h, kept), *z.shape, beta, _threads(z))
        return h, z

    def damp(self, g: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """As by torch."""
        if not (self.half and g.shape == s.shape and _suit(g, s)):
            return super().damp(g, s)
        p, kept = torch.empty_like(s), torch.empty_like(s, dtype=torch.bfloat16)
        self.library.damp(*_pointers(g, s, p, kept), *s.shape, _threads(s))
        return p, kept

    def damp_bar(self, p_bar: Tensor, s: Tensor) -> Tensor:
        """As by torch."""
        if not (_suit(p_bar, kind=torch.bfloat16) and _suit(s)):
            return super().damp_bar(p_bar, s)
        g_bar = torch.empty_like(p_bar)
        self.library.damp_bar(*_pointers(p_bar, s, g_bar), *s.shape, _threads(s))
        return g_bar

    def bend(
        self, h_bar: Tensor, s: Tensor, beta: float, p: Tensor | None = None, p_bar: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As by torch."""
        given = [h_bar] if p is None or p_bar is None else [h_bar, p, p_bar]
        half = len(given) == 3 and _suit(*given, kind=torch.bfloat16)
        if not (beta > 0 and _suit(s) and (half or _suit(*given))):
            return super().bend(h_bar, s, beta, p, p_bar)
        z_bar = torch.empty_like(h_bar)
        sums = s.new_empty(-(-len(s) // BLOCK), s.shape[1])
        self.library.bend(*_pointers(h_bar, s, p, p_bar, z_bar, sums), *s.shape, beta, half, _threads(s))
        return z_bar, sums.sum(0)

    def _check(self) -> None:
        """Compare with torch on arrays that all threads share, and whose last block is short."""
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
        off = 1e-2 if self.half else 1e-4  # one in the last place
        if not all(torch.allclose(ours, plain, rtol=off, atol=1e-4) for plain, ours in zip(*results, strict=True)):
            raise UserError(f"{SOURCE.name}: computes something else than torch as it was compiled here")


def _suit(*arrays: Tensor, kind: torch.dtype = torch.float32) -> bool:
    return all(array.is_cpu and array.dtype == kind and array.is_contiguous() for array in arrays)


def _pointers(*arrays: Tensor | None) -> list[int]:
    return [0 if array is None else array.data_ptr() for array in arrays]


def _threads(array: Tensor) -> int:
    return torch.get_num_threads() if array.numel() >= GRAIN else 1


@functools.cache
def _library() -> ctypes.CDLL:
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
