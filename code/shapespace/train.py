"""The auto-decoder's training (Park et al. 2019, DeepSDF; Gropp et al. 2020, section 5.2).

Each step looks at some of the shapes, and moves the network and their codes.
"""

import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from phase_recon.model.batch import together
from phase_recon.model.latent import CodedNet
from phase_recon.model.loss.base import Loss, checked
from phase_recon.model.optimizer import Adam, Optimizers
from phase_recon.model.sampling import Sampler
from phase_recon.reconstruction.build_model import in_bfloat16
from phase_recon.reconstruction.health import SMALLER_STEP, Failure
from phase_recon.reconstruction.progress import Announce, Clock, Status, progress_bar, tensorboard
from phase_recon.reconstruction.state import write_or_warn
from phase_recon.reconstruction.training import Interrupted, is_due, schedule_of
from phase_recon.shapespace.config import SpaceConfig, adapted
from phase_recon.shapespace.shapes import Shapes
from phase_recon.shapespace.space import Space, new_space
from phase_recon.utils.config_files import to_hocon
from phase_recon.utils.distributed import ALONE, Ranks
from phase_recon.utils.errors import UserError
from phase_recon.utils.experiment import Experiment
from phase_recon.utils.interrupt import deferred_signals
from phase_recon.utils.processor import subnormals_as_zero


class Training:
    """What the steps change: the weights, the codes, and what their optimisers and the generator remember.

    Args:
        config: any that has been checked and adapted to the shapes.
        shapes: the training shapes.
        device: where to compute.
        ranks: the processes that share each step.
        problems: why steps are slower than they could be is appended.
    """

    def __init__(
        self, config: SpaceConfig, shapes: Shapes, device: torch.device, ranks: Ranks, problems: list[str]
    ) -> None:
        t = config.train
        torch.manual_seed(t.seed)
        self.shapes, self.ranks, self.epoch = shapes, ranks, 0
        self.space = new_space(config, shapes.names, shapes.domain, shapes.noise, device, problems)
        self.codes = self.space.codes.requires_grad_()
        self.optimizers = Optimizers(
            self.space.network, t.optimizer, t.weight_decay, t.clip_gradient, ranks.average_gradients, t.momentum,
            in_bfloat16(config.single, device),
        )  # fmt: skip
        self.of_codes = Adam([self.codes], 0.0)
        self.generator = torch.Generator(device).manual_seed(t.seed)
        self.samplers: list[Sampler] = shapes.samplers(config, self.space.loss, device)

    def chosen(self) -> list[int]:
        """The shapes of the step to come: each once in a pass over all, in an order that the pass and the seed give."""
        t, count = self.space.config.train, len(self.shapes.names)
        places = range(self.epoch * t.shapes_batch, (self.epoch + 1) * t.shapes_batch)
        orders: dict[int, list[int]] = {}
        for number in {place // count for place in places}:
            generator = torch.Generator().manual_seed((t.seed + number) % 2**63)
            orders[number] = torch.randperm(count, generator=generator).tolist()
        return [orders[place // count][place % count] for place in places]

    def step(self, loss: Loss, rate: float, rate_of_codes: float) -> dict[str, Tensor]:
        """One step; returns the terms of the loss, means over the step's shapes, and that of the codes' lengths."""
        chosen, ranks = self.chosen(), self.ranks
        batch = together([self.samplers[index].draw(self.generator).share(ranks.rank, ranks.size) for index in chosen])
        codes = self.codes[chosen]
        terms = dict(checked(loss(CodedNet(self.space.network, codes), batch), loss))
        terms["codes"] = self.space.config.latent_lambda * torch.linalg.vector_norm(codes, dim=-1).mean()
        self.codes.grad = None
        self.optimizers.step(torch.stack(list(terms.values())).sum(), rate)
        ranks.average_gradients([self.codes])
        self.of_codes.step(rate_of_codes)
        self.epoch += 1
        return {name: term.detach() for name, term in terms.items()}

    def checkpoint(self, seconds: float, status: Status) -> dict[str, Any]:
        """What ``resume`` needs to go on from here, and ``space_from_checkpoint`` to use the space."""
        space, domain = self.space, self.space.domain
        return {
            "epoch": self.epoch,
            "seconds": seconds,
            "config": space.config.to_dict(),
            "d": len(domain.lower),
            "network": {name: value.cpu().contiguous() for name, value in space.network.state_dict().items()},
            "codes": self.codes.detach().cpu(),
            "names": space.names,
            "noise": self.shapes.noise,
            "optimizers": [*self.optimizers.state_dict(), self.of_codes.state],
            "generator": self.generator.get_state(),
            "status": status.state_dict(),
            "normalisation": domain.normalisation.to_dict(),
            "omega": {"lower": domain.lower.tolist(), "upper": domain.upper.tolist()},
            "cloud": self.shapes.fingerprint,
        }

    def resume(self, checkpoint: dict[str, Any]) -> None:
        """Take up the state that a checkpoint holds.

        Raises:
            UserError: it is not of these shapes, this network or this optimiser.
        """
        if checkpoint["cloud"] != self.shapes.fingerprint or checkpoint.get("names") != self.space.names:
            raise UserError(
                f"train.input_path: {self.space.config.train.input_path} does not hold the shapes that this run was "
                "started with: start a new run without --is-continue"
            )
        try:
            self.space.network.load_state_dict(checkpoint["network"])
            *of_network, of_codes = checkpoint["optimizers"]
            self.optimizers.load_state_dict(of_network)
            shapes = {name: value.shape for name, value in of_codes.items()}
            if shapes != {name: value.shape for name, value in self.of_codes.state.items()}:
                raise ValueError
            device = self.space.device
            self.of_codes.state = {name: value.to(device) for name, value in of_codes.items()}
            with torch.no_grad():
                self.codes.copy_(checkpoint["codes"])
            self.generator.set_state(checkpoint["generator"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):  # by what is wrong with them
            raise UserError(
                f"the checkpoint of step {checkpoint['epoch']} has the weights of another network, or the state of "
                "another optimizer or device, than configured: go on with what it was saved with"
            ) from None
        self.epoch = checkpoint["epoch"]


def fit_space(
    config: SpaceConfig,
    shapes: Shapes,
    device: torch.device,
    announce: Announce,
    *,
    experiment: Experiment | None = None,
    checkpoint: dict[str, Any] | None = None,
    started: float | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Space, int]:
    """Train a space on shapes; returns it with the number of steps it has had.

    Args:
        config: everything that can be set.
        shapes: the training shapes.
        device: where to compute.
        announce: receives the lines a user should see.
        experiment: where checkpoints and the log go; None writes nothing.
        checkpoint: the state to go on from, or None to begin.
        started: when the command started (``time.monotonic``), for a time budget; now if None.
        ranks: the processes that share each step; all but the first are given no experiment.

    Raises:
        UserError: the checkpoint does not belong to these shapes; the loss is no longer finite; a batch cannot be dealt
            evenly to the ranks; a file cannot be written.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved if there is an experiment.
    """
    for key in ("points_batch", "pts_in_omega"):
        ranks.check_share(f"train.{key}", getattr(config.train, key))
    config, problems = adapted(config, shapes.spacing, shapes.noise_shown), list[str]()
    t = config.train
    training = Training(config, shapes, device, ranks, problems)
    for problem in problems:
        announce(f"note: steps are slower than they could be: {problem} (train.compile)")
    if checkpoint is not None:
        training.resume(checkpoint)
    if experiment is not None:
        experiment.write_configuration(to_hocon(config))
        if checkpoint is not None and (aside := experiment.set_aside(training.epoch)) is not None:
            announce(f"what later steps had left is now in {aside}")
        if checkpoint is not None:
            experiment.rewind_log(training.epoch)
    ranks.copy_first([*training.optimizers.parameters, training.codes])

    seconds = 0.0 if checkpoint is None else checkpoint["seconds"]
    budget = None if t.time_budget is None else 60 * t.time_budget
    started = time.monotonic() if started is None else started
    clock = Clock(t.nepoch, budget, seconds, started, 0.0, t.checkpoint_minutes)
    schedules = [schedule_of(entry) for entry in t.learning_rate_schedule]

    write = partial(write_or_warn, on_save_error=t.on_save_error, announce=announce)
    with (
        subnormals_as_zero(),
        deferred_signals(second_acts=ranks.size == 1) as stop,
        progress_bar(clock, training.epoch, ranks.first) as bar,
        tensorboard(experiment if t.tensorboard else None, announce) as writer,
    ):
        status, begun = Status(clock, bar, announce, experiment, writer, training.epoch, write, ranks), training.epoch
        if checkpoint is not None:
            status.load_state_dict(checkpoint.get("status", {}), device)
        rate = 0.0

        def save(last: bool = False) -> None:
            status.check(training.epoch)
            parameters = [*training.space.network.parameters(), training.codes]
            if not all(bool(parameter.isfinite().all()) for parameter in parameters):
                raise Failure(f"the weights became NaN or infinite at step {training.epoch}; {SMALLER_STEP}")
            saved = training.checkpoint(clock.seconds, status)
            if experiment is not None and last:
                experiment.save_checkpoint(saved)
            elif experiment is not None:
                write(lambda: experiment.save_checkpoint(saved))

        while (progress := ranks.agree(clock.progress(training.epoch), stop)) < 1:
            timed = t.checkpoint_minutes is not None and ranks.from_first(clock.struck())
            if training.epoch > begun and (timed or is_due(training.epoch, t.checkpoint_frequency)):
                save()
            rate, rate_of_codes = (schedule(training.epoch, progress) for schedule in schedules)
            status.add(training.step(training.space.loss.at(progress), rate, rate_of_codes))
            bar.update(training.epoch - bar.n if clock.budget is None else 0)
            if is_due(training.epoch, t.status_frequency):
                status.report(training.epoch, rate)
        if training.epoch == 0 and not stop.signal:
            raise UserError(
                f"--minutes {t.time_budget:g} (train.time_budget): they were over before the first step; give more"
            )
        if status.pending and not stop.signal:  # a run that goes on later reports them when they are due
            status.report(training.epoch, rate)
        save(last=True)
        ranks.wait()  # one that leaves before the first has saved would have it ended
        if stop.signal:
            raise Interrupted(stop.exit_status, training.epoch)
    return replace(training.space, codes=training.codes.detach()), training.epoch
