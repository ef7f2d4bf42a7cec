"""Where a run computes: the one file that knows about devices and processors."""

import ctypes
import sys

import torch

from utils.errors import UserError


def choose_device(gpu: str) -> tuple[torch.device, str]:
    """The device that ``--gpu`` asks for, and one line that says which it is.

    Args:
        gpu: "auto" (the freest GPU, else the CPU), "cpu", "ignore" (whatever CUDA_VISIBLE_DEVICES leaves as
            the first GPU, else the CPU), or the number of a GPU.

    Raises:
        UserError: no such GPU, or not one of these words.
    """
    count = torch.cuda.device_count()
    if gpu == "cpu" or (gpu in ("auto", "ignore") and count == 0):
        why = "" if gpu == "cpu" else " (no usable GPU found)"
        return torch.device("cpu"), f"device: CPU, {torch.get_num_threads()} threads{why}"
    if gpu == "auto":
        index = _freest_gpu()
    elif gpu == "ignore":
        index = 0
    elif gpu.isdecimal():
        index = int(gpu)
    else:
        raise UserError(f"--gpu {gpu}: expected auto, cpu, ignore or the number of a GPU")
    if index >= count:
        raise UserError(f"--gpu {index}: this machine has {count} usable GPUs; use --gpu auto or --gpu cpu")
    return torch.device("cuda", index), f"device: GPU {index}, {torch.cuda.get_device_name(index)}"


def _freest_gpu() -> int:
    import GPUtil

    free = GPUtil.getAvailable(order="memory", limit=1, maxLoad=1.0, maxMemory=1.0)
    return int(free[0]) if free else 0


def keep_freed_memory() -> None:
    """Let the C library keep the megabytes that each step frees and asks for again (Linux with glibc).

    By default it returns them to the kernel, which then clears every page anew, at each step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 30)
