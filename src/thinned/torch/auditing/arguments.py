"""What modules were told of dropout, and whether their code ever asks for it: read from attributes,
signatures and bytecode, none of which is run."""

from __future__ import annotations

import dis
import inspect
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from torch import nn

__all__ = ["DROPPING", "KEEPING", "gives_what_it_keeps", "numbers_of", "told", "unasked", "unread"]

# Names of a probability to keep, and of one to drop.
_PROBABILITY = r"(?:_?(?:prob|p|rate|ratio|probability))?$"
KEEPING = re.compile(rf"(?i)(?:^|_)(?:p_?)?(?:keep|retain)(?:ing|ed)?{_PROBABILITY}")
DROPPING = re.compile(rf"(?i)^(?:p_?drop(?:out)?$|(?:\w+_)?drop(?:out|_?path)?{_PROBABILITY})")
_OWN = ("torch.nn", "torch.ao", "thinned.")
# Calls by which code may read any local name; the last one is Lightning's.
_ALL_NAMES = frozenset({"locals", "vars", "eval", "exec", "save_hyperparameters"})


def numbers_of(modules: Iterable[nn.Module]) -> dict[nn.Module, dict[str, Any]]:
    """The numbers and switches that modules hold, by attribute; the mode apart."""
    return {
        module: {
            name: value
            for name, value in module.__dict__.items()
            if name != "training" and type(value) in (float, int, bool)
        }
        for module in modules
    }


def _is_users(module: nn.Module) -> bool:
    return not type(module).__module__.startswith(_OWN)


def _constructor(module: nn.Module) -> FunctionType | None:
    """The constructor of a module of the user's, without its decorators; None for another's."""
    init = inspect.unwrap(type(module).__init__)
    return init if _is_users(module) and isinstance(init, FunctionType) else None


def _is_rate(value: Any) -> bool:
    return isinstance(value, float) and 0.0 < value < 1.0


def unasked(module: nn.Module) -> Iterator[str]:
    """Parameters of a module's constructor that are named like a rate, are not 0 unless told, and
    that the constructor never reads."""
    init = _constructor(module)
    if init is None:
        return
    read = _read_by(init.__code__)
    if (read | _attributes_in(init.__code__)) & _ALL_NAMES:
        return
    for name, parameter in inspect.signature(init).parameters.items():
        plain = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        above = parameter.default is parameter.empty or _is_rate(parameter.default)
        if plain and above and DROPPING.match(name) and name not in read:
            yield name


def told(module: nn.Module) -> Iterator[tuple[str, float]]:
    """Attributes of a module that are named like a rate and are one."""
    if _is_users(module):
        for name, value in module.__dict__.items():
            if _is_rate(value) and DROPPING.match(name):
                yield name, value


def unread(name: str, modules: Iterable[nn.Module]) -> bool:
    """Whether no code of these modules' classes reads an attribute of this name."""
    kinds = {kind for module in modules for kind in type(module).__mro__}
    return not any(
        name in _attributes_read(kind) for kind in kinds if not kind.__module__.startswith(_OWN)
    )


@lru_cache(maxsize=1024)
def _attributes_read(kind: type) -> frozenset[str]:
    found: set[str] = set()
    for value in kind.__dict__.values():
        for function in _functions(value):
            found |= _attributes_in(function.__code__)
    return frozenset(found)


def _functions(value: Any) -> Iterator[FunctionType]:
    parts = [value, getattr(value, "__func__", None), getattr(value, "__wrapped__", None)]
    if isinstance(value, property):
        parts += [value.fget, value.fset]
    yield from (part for part in parts if isinstance(part, FunctionType))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _attributes_in(code: CodeType) -> set[str]:
    """Attributes that are read, and texts, by which getattr may read them."""
    found: set[str] = set()
    for inner in _codes(code):
        found |= {c for c in inner.co_consts if isinstance(c, str) and len(c) < 80}
        for step in dis.get_instructions(inner):
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(step.argval, str):
                found.add(step.argval)
    return found


@lru_cache(maxsize=1024)
def _read_by(code: CodeType) -> frozenset[str]:
    """The local and global names that code reads, its inner functions' among them."""
    found = {*code.co_cellvars}
    for inner in _codes(code):
        found |= {*inner.co_freevars}
        for step in dis.get_instructions(inner):
            if "LOAD" in step.opname and "ATTR" not in step.opname:
                names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
                found |= {name for name in names if isinstance(name, str)}
    return frozenset(found)


def gives_what_it_keeps(module: nn.Module) -> str:
    """The parameter of a module's constructor that is a probability to keep and is passed on as it
    is, "" for none: it is read, and nothing is subtracted from anything."""
    init = _constructor(module)
    if init is None:
        return ""
    names = list(inspect.signature(init).parameters)
    keeping = [name for name in names if KEEPING.search(name)]
    if len(keeping) != 1 or any(DROPPING.match(name) for name in names):
        return ""
    subtracts = any(
        step.opname == "BINARY_OP" and step.argrepr.startswith("-")
        for step in dis.get_instructions(init.__code__)
    )
    return keeping[0] if keeping[0] in _read_by(init.__code__) and not subtracts else ""
