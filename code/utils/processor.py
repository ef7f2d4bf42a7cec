"""Settings of the CPU that make steps faster: freed memory is kept, and subnormal numbers count as zero."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

KEPT_BYTES = 1 << 30  # freed memory that the C library keeps, more than a step uses


def keep_freed_memory() -> None:
    """Let the C library keep the memory that each step frees and allocates again (Linux with glibc).

    By default it returns the memory to the kernel, which then clears every page at each step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
        mallopt(trim_threshold, KEPT_BYTES)
        mallopt(mmap_threshold, KEPT_BYTES)


@contextmanager
def subnormals_as_zero() -> Iterator[None]:
    """Treat float32 numbers below 1e-38 (subnormals) as zero on the CPU.

    Some processors need a hundred times as long for each, and where u is close to ±1 many derivatives of a step are so
    small: with a cross entropy as the loss, steps took twice as long.
    torch's threads copy this setting from the thread that starts them, at its first large tensor. So enter this context
    before; a later change affects only the thread that makes it.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def subnormals_kept() -> Iterator[None]:
    """Within ``subnormals_as_zero``, numbers as usual in this thread: for all that is not a step.

    scipy's cKDTree splits points that share the coordinate 0 at the next number above it, a subnormal. Where that is
    zero, it never gets smaller parts, and the process dies of its full stack.
    """
    as_zero = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(False)
    try:
        yield
    finally:
        torch.set_flush_denormal(as_zero)
