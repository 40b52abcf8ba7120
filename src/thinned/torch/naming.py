"""What the modules of a model are called, and what their code calls."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import torch
from torch import nn

from thinned.torch.calls import REACHED

__all__ = ["MISSED", "called_in", "has_own_code", "modules_by_name", "unwrapped"]

# Children under which wrappers keep the module itself: no part of its name.
_WRAPPED = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
# These call it "module", which is a fine name for a child of anything else.
_CONTAINERS = (
    nn.parallel.DistributedDataParallel,
    nn.DataParallel,
    torch.optim.swa_utils.AveragedModel,
)

# Names of functions that draw what dropout may be made of, and that are not reached.
_OURS = "thinned.torch.functional"
MISSED = frozenset(
    {"rand", "rand_like", "bernoulli", "native_dropout", "flash_attn_func", f"a call of {_OURS}"}
)


def _inner(module: nn.Module) -> nn.Module | None:
    """The module that a wrapper wraps; None for one that is no wrapper."""
    names: tuple[str, ...] = _WRAPPED
    if isinstance(module, _CONTAINERS):
        names = ("module", *_WRAPPED)
    for name in names:
        if name in module._modules:
            return module._modules[name]
    return None


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, under whatever wraps it."""
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def modules_by_name(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module of an unwrapped model and its names, wrappers' parts of them left out.

    A module that several others share has several, the first one first.
    """
    found: dict[nn.Module, list[str]] = {}

    def visit(module: nn.Module, name: str, above: tuple[nn.Module, ...]) -> None:
        names = found.setdefault(module, [])
        if name in names or module in above:
            return
        names.append(name)
        wraps = _inner(module)
        for child_name, child in module._modules.items():
            if child is None:
                continue
            longer = f"{name}.{child_name}" if name else child_name
            visit(child, name if child is wraps else longer, (*above, module))

    visit(model, "", ())
    return found


def has_own_code(module: nn.Module) -> bool:
    """Whether a module's forward was written outside PyTorch."""
    if _inner(module) is not None:
        return False
    forward: Any = module.__dict__.get("forward", type(module).forward)
    home = getattr(forward, "__module__", "") or ""
    return not home.startswith("torch.")


def called_in(module: nn.Module) -> frozenset[str]:
    """Which of the names REACHED and MISSED the code of a module calls, read from its bytecode."""
    found = set(_called_in_class(cast(Any, type(module))))
    own = module.__dict__.get("forward")
    code = getattr(getattr(own, "__func__", own), "__code__", None)
    if code is not None:
        found |= set(_names(code, {}, set()))
    return frozenset(found)


@cache
def _called_in_class(kind: Any) -> frozenset[str]:
    found: set[str] = set()
    seen: set[Any] = set()
    for base in kind.__mro__:
        if base.__module__.startswith("torch.") or base is object:
            continue
        for method in vars(base).values():
            if isinstance(method, types.FunctionType):
                found.update(_names(method.__code__, method.__globals__, seen))
    return frozenset(found)


def _names(code: types.CodeType, scope: dict[str, Any], seen: set[Any]) -> Iterator[str]:
    """Names of interest in a function and in the functions of its file and others that it calls."""
    if code in seen:
        return
    seen.add(code)
    before = target = None
    for step in dis.get_instructions(code):
        name = step.argval if isinstance(step.argval, str) else ""
        if step.opname == "LOAD_GLOBAL":
            target = scope.get(name)
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            target = getattr(target, name, None)
        else:
            before, target = step, None
            continue
        home = getattr(target, "__module__", None) or ""
        # self.dropout(x) calls a module, F.dropout(x) a function.
        if name in REACHED | MISSED and not _is_self(before):
            yield f"a call of {_OURS}" if home == _OURS else name
        elif isinstance(target, types.FunctionType) and not home.startswith(("torch.", "thinned.")):
            yield from _names(target.__code__, target.__globals__, seen)
        before = step
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant, scope, seen)


def _is_self(step: dis.Instruction | None) -> bool:
    if step is None or not step.opname.startswith("LOAD_FAST"):
        return False
    return step.argval == "self" or (isinstance(step.argval, tuple) and step.argval[-1] == "self")
