"""A PyTorch model whose dropout is awake and nothing else: for the time of a question."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from thinned.torch.addressed import ADDRESSED, Addressed
from thinned.torch.adoption import _MARK, Row, adopt, release
from thinned.torch.awake import Awake
from thinned.torch.naming import modules_by_name
from thinned.torch.sited import Sited

__all__ = ["missed", "thin_twin", "woken"]

_DROPS = (nn.MultiheadAttention, nn.LSTM, nn.GRU, nn.RNN)


@contextmanager
def woken(model: nn.Module, awake: Awake) -> Iterator[tuple[Row, ...]]:
    """The model, unwrapped, in evaluation, its dropout drawing as `awake` says; what was adopted.

    Afterwards all is as before, whatever is raised: flags, clock, generators, and a model that was
    not adopted is not.
    """
    holders = [module for module in model.modules() if _MARK in module.__dict__]
    if len(holders) > 1:
        raise ValueError(
            "predict: two parts of the model were adopted apart, and sites of one name in both "
            "would draw the same masks. Call release on them, and adopt the whole."
        )
    flags = [(module, module.training) for module in model.modules()]
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(sorted(devices)))
        if not holders:
            adopt(model)
            stack.callback(release, model)
        adoption = (holders or [model])[0].__dict__[_MARK]
        if adoption.clock.awake is not None:
            raise RuntimeError("predict: the model is being asked already.")
        stack.callback(_restore, flags)
        for module, _ in flags:
            module.training = _drops(module)
        stack.callback(setattr, adoption.clock, "awake", None)
        adoption.clock.awake = awake
        # PyTorch's fused forms of attention, of encoder layers in evaluation, know no dropout.
        fused = torch.backends.mha.get_fastpath_enabled()
        stack.callback(torch.backends.mha.set_fastpath_enabled, fused)
        torch.backends.mha.set_fastpath_enabled(False)
        if "torch._dynamo" in sys.modules:  # a compiled program asks the clock, which stands still
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.no_grad())
        yield adoption.rows + _outside(model, holders)


def _restore(flags: list[tuple[nn.Module, bool]]) -> None:
    for module, training in flags:
        module.training = training


def _drops(module: nn.Module) -> bool:
    """Whether a module's training flag says nothing but that it drops."""
    if isinstance(module, (Addressed, Sited, *_DROPS)):
        return True
    forward = module.__dict__.get("forward")
    # A subclass with torch.nn's own forward, whose call an adopted model sees.
    plain = any(isinstance(module, k) and type(module).forward is k.forward for k in ADDRESSED)
    return plain and hasattr(getattr(forward, "__self__", None), "site")


def _outside(model: nn.Module, holders: list[nn.Module]) -> tuple[Row, ...]:
    """Dropout outside of the part that was adopted."""
    if not holders or holders[0] is model:
        return ()
    inside = set(holders[0].modules())
    why = "not reached: outside of the part that was adopted. Adopt the whole model"
    rows = []
    for module, (name, *_) in modules_by_name(model).items():
        p = getattr(module, "dropout" if isinstance(module, _DROPS) else "p", 0.0)
        dropout = isinstance(module, (*ADDRESSED, Sited, *_DROPS))
        if module not in inside and dropout and not (isinstance(p, (int, float)) and p == 0):
            rows.append(Row(name, type(module).__name__, None, why, reached=False))
    return tuple(rows)


def missed(rows: tuple[Row, ...], awake: Awake, generator_used: bool) -> tuple[str, ...]:
    """What may be dropout and drew nothing in the forward that has just ended."""
    drew = {site for site, _ in awake.seen}
    found = []
    for row in rows:
        only_attention = row.done.startswith("calls of scaled_dot_product_attention addressed")
        if not row.reached:
            found.append(f"{row.site}: {row.done}")
        elif row.site in awake.quiet:
            found.append(
                f"{row.site}: scaled_dot_product_attention was given dropout_p=0, and what it is "
                "in training only the model's code knows. Write dropout_p=self.p, and adopt"
            )
        elif row.site not in drew and row.p != 0.0 and not only_attention:
            found.append(
                f"{row.site}: drew nothing: not called, or by code that asks self.training itself"
            )
    if generator_used:
        found.append("something in the model draws from PyTorch's generator")
    return tuple(found)


def thin_twin(model: nn.Module, awake: Awake) -> nn.Module | str:
    """A thin model with the same tensors, or why there is none.

    Only where its draws are those that rows share anyway: the batch's units, one draw for each.
    """
    from thinned.torch.thinning import regions_of, thin

    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    if hooked:
        return "a module has forward hooks, which would see thin arrays"
    adoption = model.__dict__.get(_MARK)
    if adoption is not None and regions_of(model):
        return "the model is thin already"
    if any(_MARK in m.__dict__ for m in model.modules()) and adoption is None:
        return "only a part of the model is adopted"
    tensors: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    if adoption is not None:
        tensors.pop(id(adoption.clock.buffer), None)  # the twin's clock is its own
    try:
        twin: nn.Module = copy.deepcopy(model, tensors)
        if adoption is not None:
            release(twin)
        thin(twin)
    except Exception as error:  # a model's own __deepcopy__ may raise anything
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    for placed in regions_of(twin):
        # Of (N, T, F) a member has a draw for each step and unit, a thin network one for the unit.
        shape, axis = awake.seen.get((placed.region.site.name, 0), ((), 0))
        if axis != 0 or len(shape) + placed.region.axis != 1:
            return f"site {placed.region.site.name!r} draws for an array of shape {shape}"
    return twin


def generator_states(model: nn.Module) -> list[Tensor]:
    """The states of the generators that a forward may draw from."""
    states = [torch.get_rng_state()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    return states + [torch.cuda.get_rng_state(device) for device in devices]
