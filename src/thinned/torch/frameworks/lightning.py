"""Dropout as a callback of Lightning's Trainer."""

from __future__ import annotations

import math
import sys
from importlib import import_module
from typing import Any

from torch import nn

from thinned.torch.adoption.functional_calls import AdoptedForward
from thinned.torch.adoption.report import Report
from thinned.torch.adoption.site import Site
from thinned.torch.clock.optimizers import optimizers_of
from thinned.torch.frameworks.training import TrainingCallback

__all__ = ["Dropout"]

_MODULES = ("lightning.pytorch", "pytorch_lightning")
_STEP = "training_step"


def _bases() -> tuple[type, ...]:
    """The callbacks of the Lightnings that are loaded, or of the first one that is installed: one
    library under two names, whose classes are not each other's."""
    loaded = [name for name in _MODULES if name in sys.modules]
    if loaded:
        return tuple(import_module(name).Callback for name in loaded)
    for name in _MODULES:
        try:
            return (import_module(name).Callback,)
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):
                raise
    raise ImportError("thinned.torch.lightning needs Lightning: pip install lightning.")


_Callback: Any = type("_Callback", _bases(), {})


class Dropout(TrainingCallback, _Callback):  # type: ignore[misc]  # known when this runs
    """Addressed dropout for a model that Lightning's Trainer trains.

    While `Trainer.fit()` trains it, the model is adopted: every dropout that `thinned.torch.adopt`
    reaches, and calls of dropout in `training_step`'s own code, draw the mask of (seed, site, step,
    call). A step of the clock is a step that the optimizer really took, in automatic and manual
    optimization; of several optimizers, a batch in which one of them stepped. The batches that are
    accumulated for a step have masks of their own. Seed and step are saved with each checkpoint,
    among the states of callbacks, so that `fit(ckpt_path=...)` draws on as if it had not been
    stopped. The checkpoint's state_dict stays that of a plain model, which loads it strictly, and
    the model is one again when the training is over.

    Parameters
    ----------
    seed : int in [0, 2^64). The random field of the model's masks.
    schedule : dict from patterns of site names to schedules, or None. As in `adopt`, with the
        trainer's estimated_stepping_batches for all steps. p is logged with each batch.
    ranks : "split", "independent", "replicated" or None. What the processes hold, as in `adopt`.
        None is "split", by which each process has its part of one batch, for all strategies but
        those that split more than batches.

    Attributes
    ----------
    report : thinned.torch.Report or None. What the latest training reached; None before the first.

    Raises
    ------
    TypeError, ValueError for what `adopt` refuses, when the training begins. ValueError then for a
    checkpoint of another seed too.

    Examples
    --------
    >>> from thinned.torch.lightning import Dropout
    >>> Dropout(seed=7)
    Dropout(seed=7)
    """

    def __init__(self, seed: int = 0, schedule: Any = None, *, ranks: str | None = None) -> None:
        super().__init__(seed, schedule, ranks=ranks)
        self._loaded: dict[str, int] | None = None
        self._by_batch = self._by_hand = False
        self._steps_before = 0
        self._covered: tuple[nn.Module, Any] | None = None

    @property
    def state_key(self) -> str:
        return "thinned.torch.lightning.Dropout"

    def state_dict(self) -> dict[str, Any]:
        return dict(self._training.state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = dict(state_dict) or None

    # By on_train_start the model has all of its layers and is loaded, wrapped and on its device,
    # and the optimizers are those that step.

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._leave()
        optimizers = list(trainer.optimizers)
        try:
            taken = [one for optimizer in optimizers for one in optimizers_of(optimizer)]
        except TypeError:  # none of PyTorch's: the trainer's count tells
            taken = []
        self._by_batch, self._by_hand = len(optimizers) > 1, not taken
        trained = trainer.global_step // max(len(optimizers), 1)
        saved, self._loaded = self._loaded, None
        if saved is None and trained:
            saved = self._training.state or None  # fit goes on where it ended
        report = self._training.begin(
            pl_module,
            taken,
            steps=None if self._training.schedule is None else _steps(trainer),
            ranks=_ranks(trainer),
            saved=saved,
            trained=trained,
            each=not self._by_batch,
        )
        self._cover(pl_module, report)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self._training.drawing()
        self._steps_before = trainer.global_step

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._by_hand:
            self._training.require_tick(trainer.global_step == self._steps_before)
        elif self._by_batch:
            self._training.tick_if_taken()
        rates = self._training.rates()
        if rates and not getattr(trainer, "barebones", False):
            pl_module.log_dict(rates, on_step=True, on_epoch=False)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._end()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._end()

    # ------------------------------------------------------------------------------- training_step

    def _cover(self, module: nn.Module, report: Report) -> None:
        """Address what training_step calls itself, beside the model's forwards."""
        before = getattr(module, _STEP)
        if hasattr(before, "_torchdynamo_orig_callable"):  # no mode of ours reaches into a program
            return
        site = Site(report.clock, f"{_STEP}/dropout")
        report.clock.noticed.kinds[site.name] = type(module).__name__
        cover = AdoptedForward(module, report.clock, site)
        cover.before = before
        self._covered = module, module.__dict__.get(_STEP)
        module.__dict__[_STEP] = cover.signed

    def _uncover(self) -> None:
        if self._covered is None:
            return
        (module, before), self._covered = self._covered, None
        if before is None:
            module.__dict__.pop(_STEP, None)
        else:
            module.__dict__[_STEP] = before

    def _leave(self) -> None:
        self._uncover()
        self._training.leave()

    def _end(self) -> None:
        self._uncover()
        self._training.end()


def _steps(trainer: Any) -> int | None:
    """All steps of the training; None where it is unknown."""
    steps = trainer.estimated_stepping_batches
    return int(steps) if 0 < steps < math.inf else None


def _ranks(trainer: Any) -> str | None:
    """What the processes hold: parts of one batch, unless the strategy splits more than batches."""
    return None if "ModelParallel" in type(trainer.strategy).__name__ else "split"
