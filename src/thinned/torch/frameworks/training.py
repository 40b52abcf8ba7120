"""A training: the model is adopted while a trainer trains it, and plain before and after.

Trainers save the model as others load it, so the clock stays out of its state_dict: what a
checkpoint needs of it are two numbers, and each trainer has a place of its own for those.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from thinned import checks
from thinned.checks import message
from thinned.schedules.composed import schedule_of
from thinned.torch.adoption.adopt import adopt, release
from thinned.torch.adoption.report import Report
from thinned.torch.clock import optimizers
from thinned.torch.clock.clock import Clock, was_skipped
from thinned.torch.clock.ranks import require_choice

__all__ = ["Training", "TrainingCallback"]

_NEVER = 2**32 - 1


class Training:
    """What the callbacks share.

    report : Report or None. That of the latest training, also when it is over.
    """

    def __init__(self, seed: Any, schedule: Any, ranks: Any) -> None:
        self.seed = checks.integer("Dropout", "seed", seed, 0, 2**64)
        require_choice("Dropout", ranks)
        self.schedule, self.ranks = _checked(schedule), ranks
        self.report: Report | None = None
        self._model: nn.Module | None = None
        self._steps: _Steps | None = None
        self._drawn = 0
        self._last: dict[str, int] = {}

    @property
    def shown(self) -> str:
        """The callback as it is typed."""
        given = {"schedule": self.schedule, "ranks": self.ranks}
        words = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        return f"Dropout({', '.join([f'seed={self.seed}', *words])})"

    @property
    def clock(self) -> Clock | None:
        """The model's clock while it trains."""
        return None if self._model is None or self.report is None else self.report.clock

    # ------------------------------------------------------------------------------ begin and end

    def begin(
        self,
        model: nn.Module,
        taken: Iterable[Optimizer],
        steps: int | None,
        ranks: str | None,
        saved: Any,
        trained: int,
        each: bool = True,
    ) -> Report:
        """Adopt the model.

        taken : the optimizers whose steps are the clock's.
        steps : all steps of the training, for schedules; None where they are not known.
        ranks : what processes hold where the user did not say it.
        saved : what `state` gave when the checkpoint was written that this training goes on from;
            None where there is none.
        trained : the steps that were taken before, where nothing was saved.
        each : whether each step of an optimizer is one of the clock; else `tick_if_taken` ticks.
        """
        self.leave()
        step = self._step_of(saved, trained)
        self.report = adopt(
            model,
            seed=self.seed,
            ranks=self.ranks if self.ranks is not None else ranks,
            schedule=self.schedule,
            steps=None if self.schedule is None else steps,
        )
        self._model = model
        self.report.clock.keep_apart()
        self.report.clock.step = step
        self._steps = _Steps(self.report.clock, taken, each)
        self.drawing()
        return self.report

    def _step_of(self, saved: Any, trained: int) -> int:
        if saved is None:
            return trained
        try:
            seed, step = saved["seed"], saved["step"]
        except (TypeError, KeyError):
            raise ValueError(
                message("Dropout", "the checkpoint's clock", "a seed and a step", repr(saved))
            ) from None
        if seed != self.seed:
            raise ValueError(
                f"Dropout: the checkpoint was trained with seed={seed}, got seed={self.seed}. Pass "
                "the checkpoint's seed to go on with its masks."
            )
        return checks.integer("Dropout", "the checkpoint's step", step, 0, _NEVER)

    def leave(self) -> None:
        """Release the model of a training that broke off."""
        self._last = self.state
        model, self._model, self._steps = self._model, None, None
        if model is not None:
            release(model)

    def end(self) -> None:
        """Release the model. A training that is over does not fail because that cannot be done."""
        try:
            self.leave()
        except ValueError as error:
            warnings.warn(f"Dropout: the trained model stays adopted. {error}", stacklevel=2)

    # ----------------------------------------------------------------------------- while it trains

    def drawing(self) -> None:
        """A step begins."""
        if self.report is not None and self._steps is not None:
            self._drawn, self._steps.called = self.report.clock.step, False

    def require_tick(self, skipped: bool) -> None:
        """A step is over. An optimizer that is none of PyTorch's did not say so."""
        if self._steps is not None and not self._steps.called and not skipped:
            self._steps.clock.tick()

    def tick_if_taken(self) -> None:
        """A batch is over in which any of several optimizers may have stepped."""
        if self._steps is not None and self._steps.taken:
            self._steps.taken = False
            self._steps.clock.tick()

    @property
    def state(self) -> dict[str, int]:
        """Seed and step, to be saved; when it is over, those of its end. {} before the first."""
        clock = self.clock
        return self._last if clock is None else {"seed": clock.seed, "step": clock.step}

    def rates(self) -> dict[str, float]:
        """p on the step that was drawn last, by the schedule's patterns; where the sites of one
        differ, as over depth, the lowest and the highest."""
        found: dict[str, float] = {}
        if self.report is None:
            return found
        rules = self.report.clock.rules
        for pattern in self.schedule or ():
            at = [rule(self._drawn) for site, rule in rules.items() if fnmatchcase(site, pattern)]
            name = f"dropout/{pattern}"
            if min(at) == max(at):
                found[name] = at[0]
            else:
                found[f"{name}/lowest"], found[f"{name}/highest"] = min(at), max(at)
        return found


class TrainingCallback:
    """What the callbacks of all trainers have for their users."""

    def __init__(self, seed: int = 0, schedule: Any = None, *, ranks: str | None = None) -> None:
        self._training = Training(seed, schedule, ranks)

    def __repr__(self) -> str:
        return self._training.shown

    @property
    def report(self) -> Report | None:
        return self._training.report


class _Steps:
    """Follows optimizers for a clock, and knows whether one of them called.

    A clock that follows by itself would not tell a step that was skipped from one of an optimizer
    that has no hooks.
    """

    def __init__(self, clock: Clock, taken: Iterable[Optimizer], each: bool) -> None:
        self.clock, self.number, self.each = clock, clock.number, each
        self.called = self.taken = False
        optimizers.follow(self, taken)

    def stepped(self, optimizer: Optimizer) -> None:
        self.called = True
        if self.each:
            self.clock.stepped(optimizer)
        elif not was_skipped(optimizer):
            self.taken = True

    def has_model(self) -> bool:
        return True

    def parameters(self) -> Iterable[nn.Parameter]:
        return self.clock.parameters()


def _checked(schedule: Any) -> Mapping[str, Any] | None:
    if schedule is None:
        return None
    if not isinstance(schedule, Mapping) or not all(isinstance(key, str) for key in schedule):
        remedy = 'For one schedule everywhere: {"*": schedule}.'
        requirement = "a dict from patterns of site names to schedules"
        raise TypeError(message("Dropout", "schedule", requirement, checks.shown(schedule), remedy))
    for pattern, one in schedule.items():
        schedule_of(f"Dropout: schedule of {pattern!r}", one)
    return dict(schedule)
