"""audit: run a model, and tell what is wrong with its dropout."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from thinned import checks
from thinned.backends.torch.internals import is_compiled
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.torch.adoption.names import modules_by_name, unwrapped
from thinned.torch.auditing.arguments import numbers_of
from thinned.torch.auditing.cost import Off, UnmeasuredError, measured
from thinned.torch.auditing.observer import Observer, tensors_in
from thinned.torch.auditing.restore import clock_of, kept_as_it_was
from thinned.torch.auditing.result import ModelAudit
from thinned.torch.auditing.rules import Observed, findings_of
from thinned.torch.auditing.sites import sites_of_runs
from thinned.torch.clock.checkpoints import RecomputeError

__all__ = ["audit"]


@answering
def audit(
    model: nn.Module,
    inputs: Any,
    *,
    loss: Callable[[Any], Tensor] | None = None,
    steps: int = 2,
    batch_axis: int = 0,
    measure: bool = True,
) -> ModelAudit:
    """Run a model and tell where its dropout is wrong.

    The model is run in evaluation twice and in training `steps` times, forward and backward, under
    hooks and under a mode that sees every operation: modules of torch.nn and of thinned.torch,
    functional calls, attention, recurrent layers, and what others wrote themselves. Then everything
    is as it was before, to the last bit: parameters, buffers, gradients, modes, hooks, the clock of
    an adopted model, the generators of PyTorch, NumPy and Python. So it is if the model raises.

    Parameters
    ----------
    model : torch.nn.Module, adopted or not, or a wrapper of one, whose inner model is run. Compiled
        parts are run uncompiled; lazy layers get their weights, as by any first run.
    inputs : tensor, tuple of arguments or dict of keyword arguments. A batch of several rows: with
        one row nothing can be said of rows that share a mask. They are copied for each run.
    loss : function of the model's output to a scalar, or None for the sum of its floating tensors.
        What is recomputed in the backward pass, too, is seen.
    steps : int >= 2. Training steps to run; an adopted model's clock ticks after each.
    batch_axis : int >= 0. The axis of the masks along which the rows of a batch lie. A site of an
        adopted model knows its own.
    measure : bool. Measure what dropout costs, on copies of the model, in some 30 more steps.

    Returns
    -------
    ModelAudit: `findings` and `sites`, a table when printed, HTML by `to_html()`.

    Raises
    ------
    TypeError if model is no module or inputs hold no tensor. Whatever the model itself raises.

    References
    ----------
    Li et al., 2019, arXiv:1801.05134, on the variance shift between dropout and BatchNorm.

    Examples
    --------
    >>> import torch, thinned.torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5))
    >>> report = thinned.torch.adopt(model, seed=0)  # so that it drops the same everywhere
    >>> print(thinned.torch.audit(model, torch.ones(16, 8), measure=False))
    No findings: 1 site, 2 training steps, 2 evaluations.
    <BLANKLINE>
    site  p    dropped  draws
    1     0.5  0.5273   256
    """
    steps = checks.integer("audit", "steps", steps, 2, 2**16)
    axis = checks.integer("audit", "batch_axis", batch_axis, 0, 64)
    model = _built(checked("audit", model, inputs), inputs)
    measure = checks.flag("audit", "measure", measure)
    if loss is not None:
        checks.function("audit", "loss", loss, "the output")
    seen = observed(model, inputs, loss, steps, axis)
    cost, unmeasured = None, ""
    if measure:
        drawn = [one for run in seen.trainings for one in run.seen]
        functional = any(one.site != one.module for one in drawn)

        def step(one: nn.Module) -> None:
            _step(one, inputs, loss)

        try:
            with kept_as_it_was(model):
                cost = measured(model, step, functional)
        except UnmeasuredError as error:
            unmeasured = str(error)
    return ModelAudit(findings_of(seen), sites_of_runs(seen), steps, cost, measure, unmeasured)


def checked(who: str, model: Any, inputs: Any) -> nn.Module:
    """The model itself, without what wraps it; TypeError for what cannot be run."""
    if not isinstance(model, nn.Module):
        raise TypeError(message(who, "model", "a torch.nn.Module", type(model).__name__))
    given = tensors_in(inputs)
    if not given:
        what = "a tensor, a tuple of arguments or a dict of keyword arguments"
        raise TypeError(message(who, "inputs", what, f"{type(inputs).__name__} without a tensor"))
    for tensor in given:
        if tensor.is_meta or tensor.is_nested:
            got = "one on the meta device" if tensor.is_meta else "a nested one"
            raise TypeError(message(who, "inputs", "tensors of values in one shape", got))
    return unwrapped(model)


def _built(model: nn.Module, inputs: Any) -> nn.Module:
    """The model, whose lazy layers have their weights: one evaluation gives them, as the first run
    of a model does."""
    tensors = (*model.parameters(), *model.buffers())
    if any(is_lazy(t) for t in tensors):
        modes = [(module, module.training) for module in model.modules()]
        with torch.random.fork_rng(), torch.no_grad():
            _run(model.eval(), inputs)
        for module, mode in modes:
            module.training = mode
    return model


def observed(
    model: nn.Module,
    inputs: Any,
    loss: Callable[[Any], Tensor] | None,
    steps: int,
    axis: int = 0,
) -> Observed:
    """All runs of an audit, without judgement; steps 0 leaves training out."""
    seen = Observed(model, modules_by_name(model), _rows(inputs, axis))
    others = _other_axes(inputs, axis)

    def observer(**options: Any) -> Observer:
        return Observer(model, rows=seen.rows, axis=axis, others=others, **options)

    with kept_as_it_was(model), _plainly(model):
        if steps:
            with kept_as_it_was(model):
                model.train()
                with observer() as seen.first, torch.no_grad():
                    _run(model, inputs)
                seen.numbers = numbers_of(seen.names)
        model.eval()
        seen.awake = {
            names[0] for m, names in seen.names.items() if m.training and not list(m.children())
        }
        for _ in range(2):
            with observer(compare=True) as run, torch.no_grad():
                _watched(seen, model, inputs, "After a forward in evaluation")
            seen.evaluations.append(run)
        model.train()
        clock = clock_of(model)
        for _ in range(steps):
            with observer() as run:
                output = _watched(seen, model, inputs, "After a forward in training")
                _backward(seen, output, loss)
                run.uses.finish(output)
            if not seen.trainings:
                seen.numbers_after = numbers_of(seen.names)
                seen.shapes = _shapes_of(seen.names)
            seen.trainings.append(run)
            if clock is not None:
                clock.tick()
        if any(run.variances.reached for run in seen.trainings):
            seen.noisy = _noisy(model, inputs, observer, clock)
            seen.still = _still(seen, model, inputs, observer)
        _interrupted(seen, model, inputs, observer)
    return seen


def _shapes_of(modules: Iterable[nn.Module]) -> dict[nn.Module, set[tuple[int, ...]]]:
    """The shapes of the tensors that modules hold beside their parameters."""
    return {
        module: {
            tuple(held.shape)
            for held in (*vars(module).values(), *module._buffers.values())
            if isinstance(held, Tensor)
        }
        for module in modules
    }


# Forwards in training that the variances at BatchNorm are averaged over, besides the steps.
_FORWARDS = 14


def _noisy(model: nn.Module, inputs: Any, observer: Any, clock: Any) -> list[Observer]:
    """More forwards in training: enough masks to know a mean variance to some percent."""
    runs = []
    for _ in range(_FORWARDS):
        with observer() as run, torch.no_grad():
            _run(model, inputs)
        runs.append(run)
        if clock is not None:
            clock.tick()
    return runs


def _still(seen: Observed, model: nn.Module, inputs: Any, observer: Any) -> Observer | None:
    """A forward in evaluation whose BatchNorms take the batch's statistics, as in training.

    What comes to a layer then differs from training by dropout alone. Modules that normalise in
    their own code are in training mode, their functional dropout with p = 0. None where something
    drops all the same, or the model does not run so.
    """
    model.eval()
    sites = {site for run in seen.trainings for site in run.variances.of}
    for module, names in seen.names.items():
        norm = isinstance(module, nn.modules.batchnorm._NormBase)
        if norm or f"{names[0]}/batch_norm" in sites:
            module.training = True
    run: Observer
    try:
        with observer() as run, torch.no_grad(), Off(on=False):
            _run(model, inputs)
    except Exception:  # a batch of one row for each channel, say: evaluation may go another way
        return None
    return None if any(one.p is not None for one in run.seen) else run


def _interrupted(seen: Observed, model: nn.Module, inputs: Any, observer: Any) -> None:
    """Raise where a forward had changed modes, to see whether it puts them back."""
    for training, runs in ((False, seen.evaluations), (True, seen.trainings)):
        stops = {run.switched for run in runs if run.switched is not None}
        if not stops or seen.left:
            continue
        model.train(training)
        with (
            contextlib.suppress(Exception),  # what a model makes of an exception is its affair
            observer(stop_at=min(stops)),
            torch.no_grad(),
        ):
            mode = "training" if training else "evaluation"
            _watched(seen, model, inputs, f"After an exception in a forward in {mode}")


def _watched(seen: Observed, model: nn.Module, inputs: Any, when: str) -> Any:
    """The model's output; the modes that it left changed are noted, and put back."""
    modes = {module: module.training for module in seen.names}
    try:
        return _run(model, inputs)
    finally:
        left = [seen.names[m][0] for m, mode in modes.items() if m.training is not mode]
        if left and (left, when) not in seen.left:
            seen.left.append((left, when))
        for module, mode in modes.items():
            module.training = mode


def _run(model: nn.Module, inputs: Any) -> Any:
    given = _copied(inputs)
    if isinstance(given, dict):
        return model(**given)
    return model(*given) if isinstance(given, (tuple, list)) else model(given)


def _copied(held: Any) -> Any:
    """The same with every tensor copied: a model may write into its inputs."""
    if isinstance(held, Tensor):
        return held.detach().clone().requires_grad_(held.requires_grad)
    if isinstance(held, dict):
        return {key: _copied(value) for key, value in held.items()}
    if isinstance(held, tuple) and hasattr(held, "_fields"):
        return type(held)(*map(_copied, held))
    return type(held)(map(_copied, held)) if type(held) in (tuple, list) else held


def _step(model: nn.Module, inputs: Any, loss: Callable[[Any], Tensor] | None) -> None:
    with torch.enable_grad():
        total = _total(_run(model, inputs), loss)
        if total is not None:
            total.backward()


def _total(output: Any, loss: Callable[[Any], Tensor] | None) -> Tensor | None:
    if loss is not None:
        total = loss(output)
        if not isinstance(total, Tensor) or total.numel() != 1:
            got = f"{type(total).__name__} of shape {tuple(getattr(total, 'shape', ()))}"
            raise TypeError(message("audit", "loss(output)", "a scalar tensor", got))
        return total if total.requires_grad else None
    parts = [t for t in tensors_in(output) if t.requires_grad and t.is_floating_point()]
    return sum((part.sum() for part in parts[1:]), parts[0].sum()) if parts else None


def _backward(seen: Observed, output: Any, loss: Callable[[Any], Tensor] | None) -> None:
    try:
        total = _total(output, loss)
        if total is not None:
            total.backward()
    except RecomputeError as error:
        seen.refused = error
    except Exception as error:
        if "modified by an inplace operation" in str(error):
            seen.overwritten = error
        elif loss is None:  # the sum of the outputs is our own idea, and no loss of the model's
            warnings.warn(
                f"audit: the backward pass of the sum of the outputs raised {error!r}; what it "
                "recomputes was not seen. Pass loss=.",
                stacklevel=4,
            )
        else:
            raise


def _rows(inputs: Any, axis: int) -> int:
    first = next((t for t in tensors_in(inputs) if t.dim() > axis), None)
    return 0 if first is None else int(first.shape[axis])


def _other_axes(inputs: Any, axis: int) -> tuple[int, ...]:
    """Lengths of what may be the batch as well: the second axis of sequences."""
    found = set()
    for tensor in tensors_in(inputs):
        if tensor.dim() > 2 or (tensor.dim() == 2 and not tensor.is_floating_point()):
            found |= {int(n) for n in tensor.shape[:2]}
    return tuple(found)


@contextlib.contextmanager
def _plainly(model: nn.Module) -> Iterator[None]:
    """Eagerly, with gradients, and on CUDA by kernels whose draws can be seen."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.inference_mode(False))
        if any(is_compiled(m) for m in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if any(p.is_cuda for p in model.parameters()):
            attention = torch.nn.attention
            stack.enter_context(attention.sdpa_kernel(attention.SDPBackend.MATH))
            if any(isinstance(m, (nn.LSTM, nn.GRU, nn.RNN)) for m in model.modules()):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
