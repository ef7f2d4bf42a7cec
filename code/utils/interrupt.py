"""Ctrl-C and SIGTERM: a request to stop after the step at hand, or an exception that leaves at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM came where nothing asked for it to be deferred."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise ``Terminated``, as Ctrl-C raises KeyboardInterrupt, so that files are left in order."""

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
    """What arrived: ``signal`` is 0 until a signal does."""

    signal: int = 0

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as shells count: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


@contextmanager
def deferred_signals(second_acts: bool = True) -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM in the yielded object; a second one acts at once.

    Args:
        second_acts: False for a process of torchrun, which hands on what its processes may have received already,
            and itself kills them where they do not leave.
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
    except ValueError:  # not in the main thread, where Python takes no signals: the caller's affair
        pass
    try:
        yield request
    finally:
        restore()
