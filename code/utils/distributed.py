"""Where a run computes: the one file that knows about devices, processes of one run (ranks) and threads."""

import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from phase_recon.utils.errors import UserError

# Ranks wait for each other at every step, so also while rank 0 saves or draws a preview; for longer, one hangs.
PATIENCE = timedelta(minutes=10)
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
            "ROLE_NAME", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # fmt: skip
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Value = TypeVar("Value")


class Stop(Protocol):
    """What carries the number of a signal that asks to stop, or 0."""

    signal: int


@dataclass(frozen=True)
class Ranks:
    """The processes that torchrun started for one run, of which this is one; without torchrun, the only one.

    All hold the same weights and draw the same batch, and each computes on its share of it. The terms of a loss
    are means over the batch, so the mean of the ranks' gradients is the gradient of the whole batch (derived).
    Each method but ``check_share`` must be called by all ranks alike; each raises a UserError if another rank has
    ended or hangs.

    Attributes:
        rank: 0 to size - 1; rank 0 alone writes and prints.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def check_share(self, key: str, count: int) -> None:
        """Raise a UserError if a key's count cannot be dealt evenly: means of unequal shares are not exact."""
        if count % self.size:
            raise UserError(
                f"{key}: {count} cannot be dealt evenly to {self.size} processes: set it to a multiple, such as "
                f"{count + self.size - count % self.size}"
            )

    def agree(self, progress: float, stop: Stop) -> float:
        """Rank 0's progress, the same for all; infinity if a rank is to stop, and then all have its signal.

        A signal that comes after a rank has been asked counts at the next time, for the others know nothing of it.
        """
        if self.size == 1:
            return math.inf if stop.signal else progress
        shared = torch.tensor([progress if self.first else 0.0, float(stop.signal)], dtype=torch.float64)
        self._together(lambda: dist.all_reduce(shared, dist.ReduceOp.MAX))
        if shared[1] > 0:
            stop.signal = int(shared[1])
            return math.inf
        return float(shared[0])

    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace the gradients by their means over the ranks, in one buffer."""
        given = [parameter for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not given:
            return
        flat = self.mean(torch.cat([parameter.grad.reshape(-1) for parameter in given if parameter.grad is not None]))
        parts = torch.split(flat, [parameter.numel() for parameter in given])
        for parameter, part in zip(given, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the ranks."""
        if self.size == 1:
            return values
        total = values.clone()
        self._together(lambda: dist.all_reduce(total))
        return total / self.size

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of rank 0, so that unlike processors start from the same bits."""
        for tensor in tensors if self.size > 1 else ():
            self._together(lambda tensor=tensor: dist.broadcast(tensor.detach(), 0))

    def from_first(self, value: Value) -> Value:
        """The value that rank 0 gives; what the others give is ignored."""
        held = [value]
        if self.size > 1:
            self._together(lambda: dist.broadcast_object_list(held, 0))
        return held[0]

    def wait(self) -> None:
        """Until all ranks have come here."""
        self.mean(torch.zeros(1))

    def _together(self, call: Any) -> None:
        try:
            call()
        except RuntimeError as error:  # of both backends, for a peer that is gone and for one that is late
            why = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise UserError(
                f"rank {self.rank}: another process of this run has ended, or did not answer for "
                f"{PATIENCE.seconds // 60} minutes; the last checkpoint is whole: go on with the same command and "
                f"--is_continue ({why[0]})"
            ) from None


ALONE = Ranks()


def rank_and_size() -> tuple[int, int]:
    """The number of this process among those that torchrun started, and their number; 0 and 1 without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def join_ranks() -> Ranks:
    """Meet the other processes that torchrun started, by gloo for the CPU and nccl for GPUs.

    Raises:
        UserError: they do not answer.
    """
    rank, size = rank_and_size()
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            dist.init_process_group(backend, timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"rank {rank} of {size}: cannot meet the others ({error}): start it by torchrun") from None
    return Ranks(rank, size)


def leave_ranks() -> None:
    """Part from the other ranks in good order."""
    if dist.is_initialized():
        dist.destroy_process_group()


def choose_device(gpu: str) -> tuple[torch.device, str]:
    """The device that ``--gpu`` asks for, and one line that says which it is.

    Args:
        gpu: "auto" (the freest GPU, else the CPU), "cpu", "ignore" (whatever CUDA_VISIBLE_DEVICES leaves as
            the first GPU, else the CPU), or the number of a GPU. Under torchrun, auto and ignore give each of
            the processes of a machine a GPU of its own.

    Raises:
        UserError: no such GPU, fewer than processes, or not one of these words.
    """
    count = torch.cuda.device_count()
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if gpu == "cpu" or (gpu in ("auto", "ignore") and count == 0):
        why = "" if gpu == "cpu" else " (no usable GPU found)"
        return torch.device("cpu"), f"device: CPU, {torch.get_num_threads()} threads{why}"
    if ranks_here > 1 and gpu in ("auto", "ignore"):
        if count < ranks_here:
            raise UserError(
                f"torchrun started {ranks_here} processes here, but there are {count} usable GPUs: give "
                f"--nproc_per_node={count} to torchrun, or --gpu cpu"
            )
        index = local_rank()
    elif gpu == "auto":
        index = _freest_gpu()
    elif gpu == "ignore":
        index = 0
    elif gpu.isdecimal():
        index = int(gpu)
        if ranks_here > 1:
            raise UserError(f"--gpu {gpu}: one GPU for the {ranks_here} processes of torchrun; leave --gpu out")
    else:
        raise UserError(f"--gpu {gpu}: expected auto, cpu, ignore or the number of a GPU")
    if index >= count:
        raise UserError(f"--gpu {index}: this machine has {count} usable GPUs; use --gpu auto or --gpu cpu")
    return torch.device("cuda", index), f"device: GPU {index}, {torch.cuda.get_device_name(index)}"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 at twice the speed of float32, or more."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    able = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def wait_for(device: torch.device) -> None:
    """Until a device has done what it was given, as a clock that is read needs it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Repeated(Generic[Value]):
    """Work that is done again and again, such as a step of a training.

    On a GPU it is recorded, as a CUDA graph, and from then on launched as one: a small network's step is four hundred
    launches, which take the processor several times as long as the GPU.

    Args:
        work: called with what is ``fixed``, then the numbers. To be recorded it must wait for the device nowhere, and
            ask for nothing by chance but from the generator; its result is overwritten by the next call.
        device: where it computes.
        generator: on that device.
        recorded: whether it may be recorded.
    """

    UNRECORDED = 3  # times that it is done as it is: what is made when it is first needed must not be in the recording

    def __init__(
        self, work: Callable[..., Value], device: torch.device, generator: torch.Generator, recorded: bool = True
    ) -> None:
        self.work, self.device, self.generator, self.recorded = work, device, generator, recorded
        self._fixed: tuple[Any, ...] = ()
        self._done = 0
        self._numbers: list[Tensor] = []
        self._graph: Any = None
        self._result: Any = None

    def __call__(self, fixed: tuple[Any, ...], *numbers: float) -> Value:
        """Do the work once.

        Args:
            fixed: what is mostly equal to the last time's; if not, the work is recorded anew.
            numbers: what is another each time; as many as the first time. The work has them as floats or, on a GPU, as
                tensors of one number, which a recording reads each time.

        Raises:
            UserError: it cannot be recorded.
        """
        if self.device.type != "cuda":
            return self.work(*fixed, *numbers)
        with torch.cuda.device(self.device):
            if fixed != self._fixed:
                self._fixed, self._done, self._graph, self._result = fixed, 0, None, None
            self._numbers = self._numbers or [torch.empty((), device=self.device) for _ in numbers]
            for place, number in zip(self._numbers, numbers, strict=True):
                place.fill_(number)
            if not self.recorded:
                return self.work(*fixed, *self._numbers)
            if self._done < self.UNRECORDED:
                return self._unrecorded()
            if self._graph is None:
                self._record()
            self._graph.replay()
            return self._result  # type: ignore[no-any-return]

    def _unrecorded(self) -> Value:
        self._done += 1
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # as recording wants it
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            result = self.work(*self._fixed, *self._numbers)
        torch.cuda.current_stream().wait_stream(aside)
        return result

    def _record(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(self.generator)
        try:
            with torch.cuda.graph(self._graph):
                self._result = self.work(*self._fixed, *self._numbers)
        except RuntimeError as error:
            why = str(error).strip().splitlines()[:1] or ["no reason given"]
            raise UserError(
                f"train.compile: steps cannot be recorded on this GPU ({why[0]}): set it to false, and they take longer"
            ) from None
        # recording sets the generator's count to zero, on a stream of its own: the first replay must not come before
        torch.cuda.synchronize(self.device)


def local_rank() -> int:
    """The number of this process among those that torchrun started on this machine; 0 without it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def gpu_of_slot(gpu: str, slot: int) -> str:
    """The ``--gpu`` of the job in a slot, 0 and up: with auto, the slots take the machine's GPUs in turn.

    Jobs that start at the same moment would otherwise all find the same one the freest.
    """
    count = torch.cuda.device_count()
    return str(slot % count) if gpu == "auto" and count else gpu


def environment_of_job(jobs: int) -> dict[str, str]:
    """The environment of one of ``jobs`` processes side by side: a share of the threads, and no rank of torchrun.

    What is shared out is OMP_NUM_THREADS if it is set, and else the processors that this process may use.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, (int(given) if given.isdecimal() else processors) // jobs)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in LAUNCHER and not name.startswith("TORCHELASTIC_")
    }
    return kept | dict.fromkeys(THREADS, str(threads))


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


@contextmanager
def subnormals_as_zero() -> Iterator[None]:
    """Let float32 below 1e-38 count as zero on the CPU: some take a hundred times as long for each, and where u is
    close to ±1 many of a step's derivatives are so small (a loss of cross entropies ran at half the speed).

    The threads that share a tensor's work take this over from the one that starts them, with its first large tensor:
    what is asked for later holds for the asking thread alone.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
