"""How many threads are to compute, and a loop over them."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def threads() -> int:
    """How many threads this process is to keep busy: torch's, by OMP_NUM_THREADS or ``keep_to_processors``.

    scipy, asked for "all", takes as many as the machine has processors, also where a container has the time of two, and
    in each of several jobs.
    """
    return torch.get_num_threads()


def in_threads(function: Callable[[Part], Result], parts: Iterable[Part], most: int | None = None) -> list[Result]:
    """The results of a function for each of the parts, in their order, computed on as many threads as torch has.

    This is faster for functions that consist of large operations of numpy and scipy, which run in parallel. ``most``
    bounds the threads of those that take much memory.
    """
    with ThreadPoolExecutor(threads() if most is None else min(threads(), most)) as pool:
        return list(pool.map(function, parts))
