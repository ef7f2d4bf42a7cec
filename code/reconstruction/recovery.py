"""A run that fails: when a failure counts (``health`` tells what one is), and what is done about the first.

Only sure signs count. A loss that is not finite is one at any time; a field without any surface is one after the
first quarter of a run, before which the start may still be found; a surface through the walls of Ω may draw back
as long as the run goes on, so it is one at the end only, and never where plot.allow_open or plot.trim lets it be,
nor where a time budget is over and no good state had half of it.
"""

import copy
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from phase_recon.model.loss.phase import PhaseLoss
from phase_recon.reconstruction.field import NeuralField
from phase_recon.reconstruction.health import Failure, surface_leaves, surface_lost
from phase_recon.utils.config import Config, TrainConfig
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment

SETTLED = 0.25  # share of a run after which a field without a surface has lost it
HALF = 0.5  # share of the time that makes a state worth more than an error
SMALLER = 0.3  # factor on the learning rate of a run that is mended
LOWER_RATE = "lower learning_rate_schedule's Initial"
MORE_PULL = f"raise network.loss.lambda, or {LOWER_RATE}"  # of PHASE, whose λ draws the field to the points
MORE_ROOM = "enlarge Ω by --set train.bounding_box_scale={:g}; of an open cloud, such as terrain, give --trim open"


@dataclass(frozen=True)
class Mending:
    """What was done to a run that had failed; a run that never did has the values here.

    Attributes:
        seed: of the network's start and of everything random.
        reason: the failure; empty for a run that never did.
        since: the step from which it went on; 0 is a start anew.
        factor: on the learning rate.
        spent: seconds of a time budget that were over when it started anew.
    """

    seed: int
    reason: str = ""
    since: int = 0
    factor: float = 1.0
    spent: float = 0.0

    @property
    def action(self) -> str:
        """What was done, in words."""
        step = f"{self.factor:g} of the learning rate"
        return f"from step {self.since} with {step}" if self.since else f"from the start with seed {self.seed}, {step}"


@dataclass
class Course:
    """How a run is going: whether it was mended, and the last state worth going back to.

    Attributes:
        mending: what was done, if anything.
        allowed: whether a failure may be mended.
        open_allowed: whether a surface that leaves Ω is a result.
        box_scale: train.bounding_box_scale of the run.
        good: the newest checkpoint whose field was healthy, or None.
    """

    mending: Mending
    allowed: bool
    open_allowed: bool = False
    box_scale: float = TrainConfig.bounding_box_scale
    good: dict[str, Any] | None = None

    @property
    def may_mend(self) -> bool:
        """Whether a failure now would be the first, and mended."""
        return self.allowed and not self.mending.reason

    def examine(
        self,
        field: NeuralField,
        points: Tensor,
        level: float,
        epoch: int,
        progress: float,
        seconds: float | None = None,
    ) -> bool:
        """Whether a field is fit to go back to; see the top of this file for what is a failure when.

        Args:
            field: the field after ``epoch`` steps.
            points: the cloud (N, d), normalised.
            level: the signed distance at which the surface lies, normalised.
            epoch: steps so far.
            progress: the share of the run that is over.
            seconds: of the run so far, where it ends by the clock: then nothing is left at its end for more steps.

        Raises:
            Failure: no surface is left; or the run is at its end, the surface leaves Ω, and that can be mended. Where
                it cannot, the field is a result, and it is the extraction that says what it lacks.
        """
        if lost := surface_lost(field, points, level):
            if progress >= SETTLED:
                remedy = MORE_PULL if isinstance(field.loss, PhaseLoss) else LOWER_RATE
                raise Failure(f"{lost}, at step {epoch}: the last checkpoint before is kept; {remedy}")
            return False
        leaves = surface_leaves(field, level)
        may_mend = self.may_mend and (seconds is None or self._worth(seconds))
        if leaves and progress >= 1 and may_mend and not self.open_allowed:
            raise Failure(f"{leaves}, at step {epoch}: {MORE_ROOM.format(2 * self.box_scale)}")
        return not leaves

    def saved(self, state: dict[str, Any], healthy: bool) -> dict[str, Any]:
        """A checkpoint, with what a later process must know to mend as this one would; kept if it is healthy.

        Its key "good" is the step of the newest healthy one, or None.
        """
        state = {**state, "mending": asdict(self.mending), "good": state["epoch"]}
        if healthy and self.may_mend:
            self.good = copy.deepcopy(state)  # the tensors are those that training changes
        return {**state, "good": None if self.good is None else self.good["epoch"]}

    def mend(self, failure: Failure, seconds: float, over: bool) -> dict[str, Any] | None:
        """Turn to the last good checkpoint with a smaller step, or without one to the start, with another seed too.

        Args:
            failure: what went wrong; raised again where it is not the first, or may not be mended.
            seconds: of the run so far.
            over: whether a time budget leaves nothing for more steps; the last good state is then the result, unless
                it had less than half of the time.

        Returns:
            The checkpoint to go on from, or None for a start anew.
        """
        if self.mending.reason:
            raise Failure(f"{failure} (the run had failed before and was mended: {self.mending.action})")
        if not self.allowed or (over and not self._worth(seconds)):
            raise failure
        mending = replace(self.mending, reason=str(failure), factor=SMALLER)
        if self.good is None:
            self.mending = replace(mending, seed=(mending.seed + 1) % 2**63, spent=seconds)
        else:
            self.mending = replace(mending, since=self.good["epoch"])
        return self.good

    def _worth(self, seconds: float) -> bool:
        """Whether the last good state had enough of so many seconds to be a result."""
        return self.good is not None and bool(self.good["seconds"] >= HALF * seconds)


def course_of(
    config: Config, checkpoint: dict[str, Any] | None, experiment: Experiment | None, alone: bool = True
) -> Course:
    """The course of a run that begins, or goes on from a checkpoint; a good one before that is read again.

    Args:
        config: the configuration.
        checkpoint: where the run goes on, or None.
        experiment: where its checkpoints are, or None.
        alone: False for a run of several processes, which is not mended, only ended.
    """
    before = checkpoint or {}
    mending = Mending(**before.get("mending", {"seed": config.train.seed}))
    allowed = config.train.mend and alone
    course = Course(mending, allowed, config.plot.expects_open, config.train.bounding_box_scale)
    good = before.get("good")
    if course.may_mend and good is not None and good == before["epoch"]:
        course.good = copy.deepcopy(checkpoint)
    elif course.may_mend and good is not None and experiment is not None:
        with suppress(UserError):  # it was removed: a failure would be mended from the start
            course.good = experiment.load_checkpoint(str(good))
    return course
