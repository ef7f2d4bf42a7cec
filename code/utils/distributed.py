"""Devices, the processes of one run (ranks) and threads: no other module deals with them."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from phase_recon.utils.errors import UserError
from phase_recon.utils.memory import processors

TIMEOUT = timedelta(minutes=10)  # for the other ranks: much longer than rank 0 needs for a checkpoint or a preview
# environment variables that torchrun sets
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
            "ROLE_NAME", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # fmt: skip
# environment variables that set the number of threads of torch, numpy and scipy
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
AMPERE = (8, 0)  # compute capability of the first NVIDIA GPUs with fast bfloat16
BFLOAT16_SETS = ("avx512_bf16", "amx_bf16")  # instruction sets of CPUs with fast bfloat16, as torch names them
Value = TypeVar("Value")


class Stop(Protocol):
    """An object with the number of the signal that asked to stop, or 0."""

    signal: int


@dataclass(frozen=True)
class Ranks:
    """The processes (ranks) that torchrun started for one run; without torchrun, there is only this one.

    All have the same weights and draw the same batch, and each computes on an equal part of it. The terms of a loss
    are means over the batch, so the mean of the ranks' gradients is the gradient of the whole batch (derived).
    All ranks must call each method, except ``check_share``. Each raises a UserError if another rank has ended or does
    not answer.

    Attributes:
        rank: the number of this process, 0 to size - 1; only rank 0 writes and prints.
        size: the number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes and prints."""
        return self.rank == 0

    def check_share(self, key: str, count: int) -> None:
        """Check that the points of a batch can be divided equally: the mean of unequal parts' means would be wrong.

        Args:
            key: the configuration's key, for the error.
            count: its value.

        Raises:
            UserError: the count is no multiple of the number of processes.
        """
        if count % self.size:
            raise UserError(
                f"{key}: {count} cannot be divided equally among {self.size} processes: set it to a multiple, such as "
                f"{count + self.size - count % self.size}"
            )

    def agree(self, progress: float, stop: Stop) -> float:
        """The progress of rank 0, for all ranks; infinity if a signal asked any rank to stop.

        Then ``stop`` has that signal on all ranks. A signal that arrives after a rank's call counts at the next call,
        as the other ranks do not know of it yet.
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
        """Replace the parameters' gradients by their means over the ranks, sent as one array."""
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
        """Overwrite tensors with those of rank 0: different processors may have rounded them differently."""
        for tensor in tensors if self.size > 1 else ():
            self._together(lambda tensor=tensor: dist.broadcast(tensor.detach(), 0))

    def from_first(self, value: Value) -> Value:
        """The argument of rank 0, on all ranks; the arguments of other ranks are ignored."""
        held = [value]
        if self.size > 1:
            self._together(lambda: dist.broadcast_object_list(held, 0))
        return held[0]

    def wait(self) -> None:
        """Return when all ranks have called this."""
        self.mean(torch.zeros(1))

    def _together(self, call: Any) -> None:
        """Call a function of torch.distributed; its errors become a UserError."""
        try:
            call()
        except RuntimeError as error:  # raised by both backends, if a process has ended and if one is late
            why = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise UserError(
                f"rank {self.rank}: another process of this run has ended, or did not answer for "
                f"{TIMEOUT.seconds // 60} minutes; the last checkpoint is complete: continue with the same command and "
                f"--is-continue ({why[0]})"
            ) from None


ALONE = Ranks()


def rank_and_size() -> tuple[int, int]:
    """The number of this process among those of torchrun, and how many they are; 0 and 1 without torchrun."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def join_ranks() -> Ranks:
    """Connect with the other processes that torchrun started, by gloo for the CPU and nccl for GPUs.

    Raises:
        UserError: they do not answer.
    """
    rank, size = rank_and_size()
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            dist.init_process_group(backend, timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"rank {rank} of {size}: cannot reach the others ({error}): start it by torchrun") from None
    return Ranks(rank, size)


def leave_ranks() -> None:
    """Disconnect from the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()


def check_gpu(gpu: str) -> None:
    """Refuse a ``--gpu`` that no process of this machine could use; no GPU is touched.

    Raises:
        UserError: there is no such GPU, or the word is unknown.
    """
    if gpu in ("auto", "cpu", "ignore"):
        return
    if not gpu.isdecimal():
        raise UserError(f"--gpu {gpu}: expected auto, cpu, ignore or the number of a GPU")
    if int(gpu) >= (count := torch.cuda.device_count()):
        raise UserError(f"--gpu {int(gpu)}: this machine has {count} usable GPUs; use --gpu auto or --gpu cpu")


def choose_device(gpu: str) -> tuple[torch.device, str]:
    """The device that ``--gpu`` names, and a line of text that describes it.

    Args:
        gpu: "auto": the GPU with the most free memory, or the CPU if there is no GPU. "cpu". "ignore": the first GPU of
            CUDA_VISIBLE_DEVICES, or the CPU if there is none. Or the number of a GPU. With torchrun, auto and ignore
            give each process of a machine its own GPU.

    Raises:
        UserError: there is no such GPU, there are fewer GPUs than processes, or the word is unknown.
    """
    keep_to_processors()
    check_gpu(gpu)
    count = torch.cuda.device_count()
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if gpu == "cpu" or (gpu in ("auto", "ignore") and count == 0):
        why = "" if gpu == "cpu" else " (no usable GPU found)"
        return torch.device("cpu"), f"device: CPU, threads: {torch.get_num_threads()}{why}"
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
    else:
        index = int(gpu)
        if ranks_here > 1:
            raise UserError(f"--gpu {gpu}: one GPU for the {ranks_here} processes of torchrun; leave --gpu out")
    return torch.device("cuda", index), f"device: GPU {index}, {torch.cuda.get_device_name(index)}"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices in bfloat16 at least twice as fast as in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    able = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(able.get(name, False) for name in BFLOAT16_SETS)


def wait_for(device: torch.device) -> None:
    """Return when a device has finished its work; needed before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Repeated(Generic[Value]):
    """Work that is repeated many times, such as a step of a training.

    On a GPU it is recorded as a CUDA graph, and from then on launched at once. A small network's step has four hundred
    launches, which alone take the processor several times as long as the computation takes the GPU.

    Args:
        work: a function of the ``fixed`` arguments and the numbers. To be recorded, it must never wait for the device,
            and draw random numbers only from the generator. The next call overwrites its result.
        device: where it computes.
        generator: on that device.
        recorded: whether it may be recorded.
    """

    WARM_UP = 3  # calls before the recording, which must not contain what happens only once

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
            fixed: arguments that rarely change; if they differ from the last call's, the work is recorded again.
            numbers: arguments that change with each call; always equally many. The work gets them as floats or, on a
                GPU, as tensors (), which the recording reads at each call.

        Raises:
            UserError: the work cannot be recorded.
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
            if self._done < self.WARM_UP:
                return self._unrecorded()
            if self._graph is None:
                self._record()
            self._graph.replay()
            return self._result  # type: ignore[no-any-return]

    def _unrecorded(self) -> Value:
        """Do the work without a recording, on a stream of its own, as torch requires before a recording."""
        self._done += 1
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            result = self.work(*self._fixed, *self._numbers)
        torch.cuda.current_stream().wait_stream(aside)
        return result

    def _record(self) -> None:
        """Record the work.

        Raises:
            UserError: it cannot be recorded.
        """
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(self.generator)
        try:
            with torch.cuda.graph(self._graph):
                self._result = self.work(*self._fixed, *self._numbers)
        except RuntimeError as error:
            why = str(error).strip().splitlines()[:1] or ["no reason given"]
            raise UserError(
                f"train.compile: steps cannot be recorded on this GPU ({why[0]}): set it to false, at slower steps"
            ) from None
        # the recording resets the generator on a stream of its own, which must be finished before the first replay
        torch.cuda.synchronize(self.device)


def local_rank() -> int:
    """The number of this process among those of torchrun on this machine; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def gpu_of_slot(gpu: str, slot: int) -> str:
    """The ``--gpu`` for the job in a slot (0 and up): with auto, the slots use the machine's GPUs in turn.

    Otherwise, jobs that start at the same moment would all choose the same GPU.
    """
    count = torch.cuda.device_count()
    return str(slot % count) if gpu == "auto" and count else gpu


def environment_of_job(jobs: int) -> dict[str, str]:
    """The environment variables for each of ``jobs`` simultaneous processes: without torchrun's, and with its threads.

    The threads are OMP_NUM_THREADS if it is set, else as many as this process may use processors, divided by ``jobs``.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = max(1, (int(given) if given.isdecimal() else processors()) // jobs)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in LAUNCHER and not name.startswith("TORCHELASTIC_")
    }
    return kept | dict.fromkeys(THREADS, str(threads))


def keep_to_processors() -> None:
    """Let torch have no more threads than this process can keep busy, unless OMP_NUM_THREADS says how many.

    By itself torch takes as many as the machine has processors, in a container that may have the time of two, too.
    """
    if "OMP_NUM_THREADS" not in os.environ and (count := processors()) < torch.get_num_threads():
        torch.set_num_threads(count)


def _freest_gpu() -> int:
    """The number of the GPU with the most free memory, among those that torch sees (CUDA_VISIBLE_DEVICES)."""
    import GPUtil

    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # by which GPUtil numbers them
    try:
        found = GPUtil.getGPUs()
    except (ValueError, IndexError):  # nvidia-smi has printed something else than its table, such as of a lost GPU
        found = []
    free = {name: gpu.memoryFree for gpu in found for name in (str(gpu.id), gpu.uuid)}
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name for name in free if name.isdecimal()] if seen is None else [name.strip() for name in seen.split(",")]
    count = min(len(names), torch.cuda.device_count())  # CUDA ends its list at the first name that is none
    return max(range(count), key=lambda number: free.get(names[number], 0.0), default=0)
