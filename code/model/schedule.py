"""The course of the learning rate."""

import math
from dataclasses import dataclass

LOWEST_STEP_RATE = 5e-6  # learning rate below which the schedule Step does not fall, as in IGR
RESTART_HEIGHT = 0.5  # × initial: learning rate at which the schedule Cosine restarts


@dataclass(frozen=True)
class Step:
    """Learning rate = max(initial · factor^⌊epoch / interval⌋, 5e-6), as in IGR.

    Args:
        initial: the rate at the first step.
        interval: steps between two changes.
        factor: what the rate is multiplied by at each change.
    """

    initial: float
    interval: int
    factor: float

    def __call__(self, epoch: int, progress: float) -> float:
        """The learning rate at a step; ``progress``, the finished share of the run, has no influence."""
        return max(self.initial * self.factor ** (epoch // self.interval), LOWEST_STEP_RATE)


@dataclass(frozen=True)
class Cosine:
    """The learning rate falls from initial to final along half a cosine wave; a long run has one warm restart.

    Args:
        initial: the rate where the wave begins.
        final: the rate at the end of a wave.
        restart: the step of the warm restart (Loshchilov & Hutter 2017). A run of at most that many steps has one wave.
            A longer run ends its first wave there, and begins a second one at half of ``initial``; that height is less
            if fewer than ``restart`` steps remain, so that one more step in a run changes little (derived). None means
            one wave for runs of any length.
        warm_up: share of the first wave in which the rate rises from 0, in proportion, to what the wave is by then. The
            first steps of Adam and Muon do not shrink with the gradient, and are alike in all weights: at the full rate
            the very first moves the field of a network that begins near the answer by a fifth of the radius.
    """

    initial: float
    final: float
    restart: int | None = None
    warm_up: float = 0.0

    def __call__(self, epoch: int, progress: float) -> float:
        """The learning rate at a step, when the share ``progress`` (0 to 1) of the run is finished."""
        if self.restart is None:
            return self._first_wave(progress)
        if epoch < self.restart:
            return self._first_wave(max(progress, epoch / self.restart))
        # the run's length in steps, and the progress at the restart, if all steps take the same time
        length, begun = epoch / progress, progress * self.restart / epoch
        height = RESTART_HEIGHT * self.initial * min(length / self.restart - 1, 1.0)
        return self._wave(max(height, self.final), (progress - begun) / (1 - begun)) if begun < 1 else self.final

    def _first_wave(self, share: float) -> float:
        """The learning rate at a share of the first wave, which alone has a rise."""
        risen = 1.0 if share >= self.warm_up else share / self.warm_up
        return risen * self._wave(self.initial, share)

    def _wave(self, height: float, share: float) -> float:
        """The learning rate at a share (0 to 1, or more for the end) of a wave that begins at ``height``."""
        return self.final + (height - self.final) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
