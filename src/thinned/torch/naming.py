"""What the modules of a model are called, and what their code calls."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, cast

import torch
from torch import nn

from thinned.torch.addressed import ADDRESSED, Addressed
from thinned.torch.calls import REACHED
from thinned.torch.sited import Sited

__all__ = ["called_in", "has_own_code", "is_script", "modules_by_name", "unwrapped"]

# Children under which wrappers keep the module itself: no part of its name.
_WRAPPED = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
# These call it "module", which is a fine name for a child of anything else.
_CONTAINERS = (
    nn.parallel.DistributedDataParallel,
    nn.DataParallel,
    torch.optim.swa_utils.AveragedModel,
)

# Names of functions that draw what dropout may be made of, and that are not reached.
_MISSED = {
    "bernoulli", "binomial", "cauchy_", "exponential_", "flash_attn_func", "geometric_",
    "log_normal_", "multinomial", "native_dropout", "normal", "normal_", "rand", "rand_like",
    "randint", "randint_like", "randn", "randn_like", "random_", "rsample", "uniform_",
}  # fmt: skip
# Of this library: what draws by itself and is seen by nobody. Functions elsewhere in it are told
# an address by whoever calls them.
_DRAWING = ("thinned.torch.functional", "thinned.torch.attention")
_LISTED = (list, tuple, set, dict)


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
        if is_script(module):
            return
        wraps = _inner(module)
        for child_name, child in module._modules.items():
            if child is None:
                continue
            longer = f"{name}.{child_name}" if name else child_name
            visit(child, name if child is wraps else longer, (*above, module))

    visit(model, "", ())
    return found


def is_script(module: nn.Module) -> bool:
    """Whether a module is TorchScript's, whose calls no Python sees."""
    return isinstance(module, torch.jit.ScriptModule)


def has_own_code(module: nn.Module) -> bool:
    """Whether a module's forward was written outside PyTorch."""
    if _inner(module) is not None:
        return False
    if isinstance(module, torch.fx.GraphModule):
        return True
    forward: Any = module.__dict__.get("forward", type(module).forward)
    home = getattr(forward, "__module__", "") or ""
    return not home.startswith("torch.")


def called_in(module: nn.Module) -> tuple[frozenset[str], frozenset[str]]:
    """What the code of a module calls that is reached, and what is not, read from its bytecode.

    Read are its forward and what that calls: methods of the module, functions of its file and of
    others. Modules that it keeps in plain lists, where PyTorch does not find them, are looked for.
    """
    found = set(_called_in_class(cast(Any, type(module))))
    own = module.__dict__.get("forward")
    own = getattr(own, "__func__", own)
    if isinstance(own, types.FunctionType):
        found |= set(
            _names(own.__code__, own.__globals__, set(), _methods(cast(Any, type(module))))
        )
    found |= set(_unregistered(module))
    return (
        frozenset(name for name, reached in found if reached),
        frozenset(name for name, reached in found if not reached),
    )


Found = tuple[str, bool]  # a name for the report, and whether it is reached
Methods = dict[str, list[types.FunctionType]]


@cache
def _called_in_class(kind: Any) -> frozenset[Found]:
    methods, seen = _methods(kind), set[Any]()
    found: set[Found] = set()
    for forward in methods.get("forward", ())[:1]:
        found.update(_names(forward.__code__, forward.__globals__, seen, methods))
    return frozenset(found)


@cache
def _methods(kind: Any) -> Methods:
    """The functions of a class and of those above it, by name: super() calls others than self."""
    found: Methods = {}
    for base in kind.__mro__:
        if base in (nn.Module, object):
            continue
        for name, method in vars(base).items():
            function = getattr(method, "__func__", getattr(method, "fget", method))
            if isinstance(function, types.FunctionType):
                found.setdefault(name, []).append(function)
    return found


def _unregistered(module: nn.Module) -> Iterator[Found]:
    """Dropout modules in lists and the like, which are no children of the module."""
    for value in module.__dict__.values():
        held: Iterable[Any] = value.values() if isinstance(value, dict) else value
        if not isinstance(value, _LISTED) or value is module._modules:
            continue
        for one in held:
            if not isinstance(one, nn.Module):
                continue
            for part in one.modules():
                name = type(part).__name__
                if isinstance(part, (Addressed, Sited)) or type(part).__module__.startswith(
                    "thinned."
                ):
                    if getattr(part, "site", None) is None:
                        yield f"thinned.torch.{name} in a plain list, not an nn.ModuleList,", False
                elif isinstance(part, tuple(ADDRESSED)):
                    yield f"{name} in a plain list", True


def _names(
    code: types.CodeType, scope: dict[str, Any], seen: set[Any], methods: Methods
) -> Iterator[Found]:
    """What is of interest in a function and in the methods and functions that it calls."""
    if code in seen:
        return
    seen.add(code)
    before = target = None
    for step in dis.get_instructions(code):
        name = step.argval if isinstance(step.argval, str) else ""
        if step.opname == "LOAD_GLOBAL":
            target = scope.get(name)
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            target = getattr(target, name, None)
            for method in methods.get(name, ()):
                yield from _names(method.__code__, method.__globals__, seen, methods)
        else:
            if step.opname == "LOAD_CONST" and isinstance(target, types.ModuleType):
                yield from _told(name, getattr(target, name, None))  # getattr(F, "dropout")
            before, target = step, None
            continue
        # self.dropout(x) calls a module, F.dropout(x) a function.
        if not _is_self(before):
            yield from _told(name, target)
        if isinstance(target, types.FunctionType) and not _home(target).startswith(
            ("torch.", "thinned.")
        ):
            yield from _names(target.__code__, target.__globals__, seen, {})
        before = step
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant, scope, seen, methods)


def _told(name: str, target: Any) -> Iterator[Found]:
    """What a name stands for that code reads; target: the object behind it, if that is known."""
    home = _home(target)
    if isinstance(target, type):
        if home.startswith("torch.distributions"):
            yield f"torch.distributions.{name}", False
        elif target in ADDRESSED:
            yield name, True
    elif home.startswith("thinned."):
        if name in REACHED and home in _DRAWING:
            yield f"{home}.{name} (unless given at=)", False
    elif name in REACHED:
        yield name, True
    elif name in _MISSED:
        yield name, False


def _home(target: Any) -> str:
    return getattr(target, "__module__", None) or ""


def _is_self(step: dis.Instruction | None) -> bool:
    if step is None or not step.opname.startswith("LOAD_FAST"):
        return False
    return step.argval == "self" or (isinstance(step.argval, tuple) and step.argval[-1] == "self")
