"""How a run is going: its clock, the progress bar, and the means of the loss that are logged and shown."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from phase_recon.reconstruction.health import SMALLER_STEP, Failure
from phase_recon.utils.distributed import Ranks
from phase_recon.utils.experiment import Experiment

Announce = Callable[[str], None]

# × a time budget, and seconds: so long are the steps, though what came before them took longer than was left
LEAST_SHARE, LEAST_SECONDS = 1 / 3, 10.0


@dataclass
class Clock:
    """How much of a run is over: steps of nepoch, or seconds of a budget if there is one.

    Attributes:
        nepoch: steps of the whole run.
        budget: seconds of the whole training, or None.
        before: seconds used before this process took over.
        start: when this process started, by ``time.monotonic``.
        spent: seconds of the budget that were over when the run started anew, else 0.
        period: minutes between two times that ``struck`` is true; None for never.
        least: seconds of steps that a run has, whatever its budget.
    """

    nepoch: int
    budget: float | None
    before: float
    start: float
    spent: float = 0.0
    period: float | None = None
    least: float = 0.0

    def __post_init__(self) -> None:
        self._counted = self.seconds
        self._begun = 0, 0.0  # the step and the second at which the steps of this process began

    def begin_steps(self, epoch: int) -> float:
        """Note that the steps begin now: what came before them says nothing of how long they take.

        Returns:
            The seconds by which the budget grew, so that a run that begins has ``least`` for its steps.
        """
        self._begun = epoch, self.seconds
        if self.budget is None or epoch > 0:
            return 0.0
        missing = max(self.seconds + self.least - self.budget, 0.0)
        self.budget += missing
        return missing

    @property
    def seconds(self) -> float:
        """Seconds of the run, those of earlier processes included."""
        return self.before + time.monotonic() - self.start

    def progress(self, epoch: int) -> float:
        """The share of the run that is over before a step: 0 at the start, 1 and above at the end."""
        if self.budget is None:
            return epoch / self.nepoch
        return (self.seconds - self.spent) / max(self.budget - self.spent, 1e-9)

    def state(self, epoch: int) -> str:
        """How far the run is, for a user: "40% done after 11 s, about 17 s to the last step"."""
        share = self.progress(epoch)
        if share >= 1:
            return f"100% done after {self.seconds:.0f} s"
        if self.budget is None:
            first, then = self._begun
            left = (self.seconds - then) / max(epoch - first, 1) * (self.nepoch - epoch)
        else:
            left = self.budget - self.seconds
        return f"{share:.0%} done after {self.seconds:.0f} s, about {left:.0f} s to the last step"

    def struck(self) -> bool:
        """Whether the period is over; if it is, the next one begins."""
        if self.period is None or self.seconds - self._counted < 60 * self.period:
            return False
        self._counted = self.seconds
        return True


class Status:
    """Sums the terms of the steps since the last report on the device, so that the loop never waits for it."""

    def __init__(
        self,
        clock: Clock,
        bar: Any,
        announce: Announce,
        experiment: Experiment | None,
        writer: Any,
        epoch: int,
        write: Callable[[Callable[[], object]], None],
        ranks: Ranks,
    ) -> None:
        self.clock, self.bar, self.announce = clock, bar, announce
        self.experiment, self.writer, self.write, self.ranks = experiment, writer, write, ranks
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.last = epoch
        self.shown = 0.0

    def add(self, terms: dict[str, Tensor]) -> None:
        """Count the terms of one step."""
        self.names = list(terms)
        values = torch.stack([term.detach() for term in terms.values()])
        self.sums = values if self.sums is None else self.sums + values

    @property
    def pending(self) -> bool:
        """Whether steps have been counted that no report has shown."""
        return self.sums is not None

    def state_dict(self) -> dict[str, Any]:
        """What has been counted and not reported, for a checkpoint."""
        return {"names": self.names, "sums": self.sums, "last": self.last} if self.pending else {}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Count on from what a checkpoint holds, so that the log of a run in two parts is that of one in one."""
        if state:
            self.names, self.sums, self.last = state["names"], state["sums"].to(device), state["last"]

    def check(self, epoch: int) -> dict[str, float]:
        """The means since the last report.

        Raises:
            Failure: one of them is NaN or infinite.
        """
        if self.sums is None:
            return {}
        means = dict(zip(self.names, (self.ranks.mean(self.sums) / (epoch - self.last)).tolist(), strict=True))
        for name, value in means.items():
            if not math.isfinite(value):
                raise Failure(
                    f"the loss term '{name}' became {value} between steps {self.last} and {epoch}: the last "
                    f"checkpoint before is kept; {SMALLER_STEP}"
                )
        return means

    def report(self, epoch: int, rate: float) -> None:
        """Log the means and show them."""
        means = self.check(epoch)
        loss = sum(means.values())
        record = {"epoch": epoch, "loss": loss, **means, "lr": rate, "time": round(self.clock.seconds, 3)}
        if (experiment := self.experiment) is not None:
            self.write(lambda: experiment.log(record))
        if self.writer is not None:
            for name in ("loss", *means, "lr"):
                self.writer.add_scalar(name, record[name], epoch)
            self.writer.flush()
        shown = {"loss": f"{loss:.4f}", **{name: f"{value:.4f}" for name, value in means.items()}}
        self.bar.set_postfix(shown, refresh=False)
        if self.bar.disable and self.clock.seconds - self.shown > 10:  # no terminal: a line now and then
            self.shown = self.clock.seconds
            terms = ", ".join(f"{name} {value}" for name, value in shown.items())
            self.announce(f"step {epoch}: {self.clock.state(epoch)}; {terms}")
        elif self.clock.budget is not None:
            self.bar.update(round(min(self.clock.seconds, self.clock.budget)) - self.bar.n)
        self.sums, self.last = None, epoch


def progress_bar(clock: Clock, epoch: int, shown: bool) -> Any:
    """A progress bar on a terminal, over steps or seconds; elsewhere, and if not to be shown, it draws nothing."""
    disable = None if shown else True
    if clock.budget is None:
        return tqdm(total=clock.nepoch, initial=epoch, unit="step", disable=disable, dynamic_ncols=True)
    return tqdm(total=round(clock.budget), unit="s", disable=disable, dynamic_ncols=True)


@contextmanager
def tensorboard(experiment: Experiment | None, announce: Announce) -> Iterator[Any]:
    """A writer for TensorBoard in a run's folder, closed at the end; None without a run or without TensorBoard."""
    if experiment is None:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        announce("train.tensorboard = true, but TensorBoard is not installed: pip install tensorboard")
        yield None
        return
    with SummaryWriter(str(experiment.folder / "tensorboard")) as writer:
        yield writer
