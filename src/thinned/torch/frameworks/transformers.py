"""Dropout as a callback of transformers' Trainer."""

from __future__ import annotations

from importlib import import_module
from typing import Any

try:
    import_module("accelerate")  # which the Trainer cannot do without
    from transformers.trainer_callback import TrainerCallback
except ImportError as error:
    raise ImportError(
        "thinned.torch.transformers needs transformers and accelerate: "
        "pip install transformers accelerate."
    ) from error

from thinned.torch.clock.optimizers import optimizers_of
from thinned.torch.frameworks.training import TrainingCallback

__all__ = ["Dropout"]

# What the clock is called among the states of callbacks in a checkpoint's trainer_state.json.
_STATE = "thinned_clock"


class Dropout(TrainingCallback, TrainerCallback):
    """Addressed dropout for a model that transformers' Trainer trains.

    From the beginning of `Trainer.train()` to its end the model is adopted: every dropout that
    `thinned.torch.adopt` reaches draws the mask of (seed, site, step, call). A step of the clock is
    an optimizer step that was really taken; the micro-batches accumulated for one have masks of
    their own. Seed and step are saved with each checkpoint, in its trainer_state.json, so that
    `train(resume_from_checkpoint=...)` draws on as if it had not been stopped. The model's own
    files stay those of a plain model, and it is one again when the training is over.

    Parameters
    ----------
    seed : int in [0, 2^64). The random field of the model's masks.
    schedule : dict from patterns of site names to schedules, or None. As in `adopt`, with the
        training's max_steps for all steps. What p was on the step before is logged beside the loss.
    ranks : "split", "independent", "replicated" or None. What the processes hold, as in `adopt`.
        None is "split" for the Trainer's data parallelism, by which each process has its part of
        one batch; for other parallelism it must be given unless the data are DTensors.

    Attributes
    ----------
    report : thinned.torch.Report or None. What the latest training reached; None before the first.

    Raises
    ------
    TypeError, ValueError for what `adopt` refuses, when the training begins. ValueError then for a
    checkpoint of another seed too.

    Examples
    --------
    >>> from thinned.torch.transformers import Dropout
    >>> Dropout(seed=7)
    Dropout(seed=7)
    """

    # The Trainer calls these. By now the model is on its device, in its wrappers and loaded from
    # the checkpoint, and the optimizer is the one that steps.

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        try:
            taken = optimizers_of(optimizer)
        except TypeError:  # none of PyTorch's: `on_optimizer_step` ticks
            taken = []
        saved = state.stateful_callbacks.get(_STATE)
        ranks = _ranks(args)
        self._training.begin(model, taken, max(state.max_steps, 1), ranks, saved, state.global_step)
        self._save(state)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._training.drawing()

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        self._training.require_tick(bool(getattr(optimizer, "step_was_skipped", False)))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._save(state)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        rates = self._training.rates()
        logs.update(rates)
        if state.log_history and "loss" in state.log_history[-1]:  # which has a copy of logs
            state.log_history[-1].update(rates)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._training.end()

    def _save(self, state: Any) -> None:
        state.stateful_callbacks[_STATE] = self._training.state


def _ranks(args: Any) -> str | None:
    """What the Trainer's processes hold: parts of one batch, unless it splits more than batches."""
    mesh = getattr(args, "parallelism_config", None)
    sizes = [getattr(mesh, f"{kind}_size", 1) for kind in ("tp", "cp", "sp")]
    return "split" if max(sizes) == 1 else None
