"""What a layer does between its matrix products, up and back: by torch, or by kernels.c in a third of the time.

φ is the softplus of sharpness β, or the ReLU for β = 0; a bar marks the derivative of the loss in the barred thing.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from utils.compiled import load_compiled, openmp
from utils.errors import UserError

LINEAR_ABOVE = 40.0  # of beta·z, where the softplus and z differ by less than double precision sees
SOURCE = Path(__file__).with_name("kernels.c")
BLOCK = 64  # rows of a sum in kernels.c
GRAIN = 1 << 15  # numbers of an array from which threads are worth their start, as in torch


class Kernels:
    """By torch: the readable reference, for any device and precision."""

    fused = False

    def rise(self, z: Tensor, bias: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """h = φ(z + b) and s = φ'(z + b), both (N, n), for z (N, n), which is lost, and b (n,)."""
        z += bias
        if beta == 0:
            return relu(z), (z > 0).to(z.dtype)
        return softplus(z, beta, LINEAR_ABOVE), z.mul_(beta).sigmoid_()

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
            z_bar.addcmul_(p * p_bar, 1 - s, value=beta)
        return z_bar, z_bar.sum(0)


class CompiledKernels(Kernels):
    """The same to rounding by kernels.c, for a softplus in single precision on the CPU; by torch for the rest.

    Raises:
        UserError: it cannot be compiled here, or computes something else; the text says what to do.
    """

    fused = True

    def __init__(self) -> None:
        self._check()

    @property
    def library(self) -> ctypes.CDLL:
        """kernels.c as it was compiled here; no part of what is pickled."""
        return _library()

    def rise(self, z: Tensor, bias: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """As by torch."""
        if not (beta > 0 and _suit(z, bias)):
            return super().rise(z, bias, beta)
        h = torch.empty_like(z)
        self.library.rise(z.data_ptr(), bias.data_ptr(), h.data_ptr(), *z.shape, beta, _threads(z))
        return h, z

    def bend(
        self, h_bar: Tensor, s: Tensor, beta: float, p: Tensor | None = None, p_bar: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As by torch."""
        factors = [] if p is None or p_bar is None else [p, p_bar]
        if not (beta > 0 and _suit(h_bar, s, *factors)):
            return super().bend(h_bar, s, beta, p, p_bar)
        z_bar = torch.empty_like(h_bar)
        sums = h_bar.new_empty(-(-len(h_bar) // BLOCK), h_bar.shape[1])
        pointers = [factor.data_ptr() for factor in factors] or [0, 0]
        self.library.bend(
            h_bar.data_ptr(), s.data_ptr(), *pointers, z_bar.data_ptr(), sums.data_ptr(), *h_bar.shape, beta,
            _threads(h_bar),
        )  # fmt: skip
        return z_bar, sums.sum(0)

    def _check(self) -> None:
        """Compare with torch on arrays that all threads share, and whose last block is short."""
        beta, rows, columns = 100.0, 17 * BLOCK + 5, 37
        z, h_bar, p, p_bar = torch.linspace(-0.2, 0.2, 4 * rows * columns).reshape(4, rows, columns).sin()
        bias = torch.linspace(-0.1, 0.1, columns)
        s = torch.sigmoid(beta * z)
        results = [
            (*way.rise(z.clone(), bias, beta), *way.bend(h_bar, s, beta, p, p_bar), *way.bend(h_bar, s, beta))
            for way in (Kernels(), self)
        ]
        if not all(torch.allclose(ours, plain, rtol=1e-4, atol=1e-4) for plain, ours in zip(*results, strict=True)):
            raise UserError(f"{SOURCE.name}: computes something else than torch as it was compiled here")


def _suit(*arrays: Tensor) -> bool:
    return all(array.is_cpu and array.dtype == torch.float32 and array.is_contiguous() for array in arrays)


def _threads(array: Tensor) -> int:
    return torch.get_num_threads() if array.numel() >= GRAIN else 1


@functools.cache
def _library() -> ctypes.CDLL:
    library = load_compiled(SOURCE)
    array, size, real, count = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_float, ctypes.c_int
    library.use_openmp.argtypes = [array] * 3
    library.rise.argtypes = [array] * 3 + [size, size, real, count]
    library.bend.argtypes = [array] * 6 + [size, size, real, count]
    for function in (library.use_openmp, library.rise, library.bend):
        function.restype = None
    library.use_openmp(*(openmp() or [None] * 3))
    return library
