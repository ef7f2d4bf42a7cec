"""Ctrl-C and SIGTERM: as a request to stop after the current step, or as an exception that ends the program.

And what is said of a process that a signal ended.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived outside of ``deferred_signals``."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise ``Terminated``, as Ctrl-C raises KeyboardInterrupt, so that files can be cleaned up."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        previous = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not in the main thread, as below
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class StopRequest:
    """The number of the signal that arrived, or 0."""

    signal: int = 0

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as shells count: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


@contextmanager
def deferred_signals(second_acts: bool = True) -> Iterator[StopRequest]:
    """Record the first SIGINT or SIGTERM in the yielded object; a second one acts at once, as without this.

    Args:
        second_acts: whether it does. False for processes of torchrun: they may receive one Ctrl-C twice, from the
            terminal and from torchrun, which also kills processes that do not end.
    """
    request = StopRequest()
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = number
        if second_acts:
            restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread, where Python cannot handle signals
        pass
    try:
        yield request
    finally:
        restore()


def killed_by(status: int) -> str:
    """What ended a process with a negative status, in words."""
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"killed by {name}" + (": out of memory, or by hand" if name == "SIGKILL" else "")
