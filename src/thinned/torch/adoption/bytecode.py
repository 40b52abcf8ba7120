"""What the code of a module calls, read from its bytecode: which dropout, and which other draws.

Read is the module's forward and whatever that may call, by way of decorators, closures, partial
functions, tables of functions, methods of the module and of other objects. Objects are looked up
where they lie, and nothing of the model's is run: properties and __getattr__ are not asked.
"""

from __future__ import annotations

import functools
import random
import re
import sys
import types
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from thinned.torch.adoption.branches import Instruction, asked_in, steps_of
from thinned.torch.adoption.dataflow import flow_of
from thinned.torch.adoption.functional_calls import REACHED, AdoptedForward
from thinned.torch.adoption.gates import GATES, Gate, function_read
from thinned.torch.adoption.lookups import (
    Made,
    content,
    looked_up,
    named_generator,
    parts,
    probability_of,
    static,
    table_parts,
)
from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.site import ADDRESSED, Addressed
from thinned.torch.adoption.watching import MISSED
from thinned.torch.compat.covers import cover_behind, uncovered
from thinned.torch.dropin.modules import _DropIn

__all__ = ["NOISY", "Rate", "Reading", "has_own_forward", "hooked", "read", "read_hooks"]

# torch.nn's modules that draw and are not dropout.
NOISY = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)

# Of this library: code that draws by itself, unseen. Functions elsewhere in it get
# an address from their callers.
# Files of Thinned whose functions draw -> where users import them from.
_DRAWING = {
    "thinned.torch.dropin.functional": "thinned.torch.functional",
    "thinned.torch.attention.functional": "thinned.torch",
}
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
# What generators do beside drawing.
_STILL = ("seed", "get_state", "set_state", "getstate", "setstate", "bit_generator", "spawn")

# The forwards of torch.nn's dropout, which subclasses call by super().
_FORWARDS = {kind.forward: getattr(ADDRESSED[kind], "kind", "") for kind in ADDRESSED}

# The functions whose numbers may become gates; those among them that are methods of tensors.
_GATES = frozenset(GATES.values())
_METHODS = frozenset({"bernoulli", "normal_", "uniform_"})

_CONTAINERS = (list, tuple, set, frozenset, dict)
_HELD = (nn.ModuleList, nn.ModuleDict)
# Two of them are two instructions in one, from Python 3.13 on.
_STORES = ("STORE_FAST", "STORE_FAST_LOAD_FAST", "STORE_FAST_STORE_FAST")
# The methods of a class that run when an instance is made and used.
_RUN = ("__init__", "__post_init__", "__call__", "forward", "__enter__", "__exit__", "__iter__",
        "__next__")  # fmt: skip
_ELSEWHERE = frozenset([""])
_RATE = re.compile(r"drop|(^|_)(p|rate|prob)($|_)", re.IGNORECASE)


class Rate(NamedTuple):
    """A number in the code that looks like a probability to drop.

    asked : whether it is read only where self.training is true.
    """

    name: str
    p: float
    asked: bool


class Reading(NamedTuple):
    """Names of what is called: dropout that adoption reaches, and draws that it does not.

    asleep : those of the reached that are called where self.training is true.
    asks : whether the code branches on self.training.
    lent : dropout modules whose p the code reads, and hands on to a function perhaps.
    numbers : the attributes of the module itself that are read and hold a number in [0, 1].
    against : those that single numbers are compared with for gates; "" for a gate made otherwise.
    takes_from_one : whether a difference from 1 is reckoned somewhere, as 1 - p is.
    gates : what the code makes of numbers that it draws, by the function's name; None stands for
        what is no gate.
    """

    reached: frozenset[str]
    missed: frozenset[str]
    rates: frozenset[Rate]
    asleep: frozenset[str]
    asks: bool
    gates: dict[str, frozenset[Gate | None]]
    lent: frozenset[nn.Module]
    numbers: frozenset[str]
    against: frozenset[str]
    takes_from_one: bool


def read(module: nn.Module, registered: Iterable[nn.Module] = ()) -> Reading:
    """What a module's forward calls, and the forward hooks of the modules directly in it.

    registered : the modules of the whole model, which are read by themselves.
    """
    reader = _Reader(module, registered)
    for value in list(module.__dict__.values()):
        if value is not module._modules and isinstance(value, _CONTAINERS):
            reader.listed(value)
    forward = _forward_of(module)
    if not reader._named("", forward):
        reader.look(forward, module)
    for child in _called_by(module):
        for hook in own_hooks(child):
            reader.look(hook)
    for listed in (module, *module._modules.values()):
        if isinstance(listed, _HELD):
            reader.look(_own_iteration(listed), listed)
    return reader.read()


def _own_iteration(module: nn.Module) -> Any:
    """How a list of modules is gone through, where that was written outside PyTorch: LayerDrop may
    leave out some."""
    found = static(type(module), "__iter__")
    return None if _foreign(home_of(found)) else found


def _forward_of(module: nn.Module) -> Any:
    """The forward of a module's own, which an adopted one has still."""
    found = module.__dict__.get("forward")
    while isinstance(cover := cover_behind(found), AdoptedForward):
        found = cover.before
    return type(module).forward if found is None else found


def _called_by(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that a module's forward calls, as far as their places tell."""
    for child in module._modules.values():
        if isinstance(child, _HELD):
            yield from _called_by(child)
        elif child is not None:
            yield child


def hooked(module: nn.Module) -> bool:
    """Whether a module that a forward calls directly has forward hooks of somebody's own."""
    return any(own_hooks(child) for child in _called_by(module))


def read_hooks(module: nn.Module) -> Reading:
    """What the forward hooks of a module call, which run outside of its forward."""
    reader = _Reader(module, ())
    for hook in own_hooks(module):
        reader.look(hook)
    return reader.read()


def own_hooks(module: nn.Module) -> list[Any]:
    """The forward hooks of a module that were written outside PyTorch and this library."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return [hook for hook in hooks if any(not _foreign(home) for home in _homes(hook))]


def has_own_forward(module: nn.Module) -> bool:
    """Whether a part of a module's forward was written outside PyTorch.

    Decorators that copy a function's names hide where it was written: every layer is looked at.
    """
    if type(module).__call__ is not nn.Module.__call__:
        return True
    homes = list(_homes(_forward_of(module)))
    return not homes or any(not home.startswith("torch.") for home in homes)


def _homes(value: Any) -> Iterator[str]:
    """The files, as modules' names, of a function and of what its decorators wrap."""
    seen = 0
    while value is not None and seen < 64:  # a wrapper may wrap itself
        seen += 1
        if isinstance(value, types.MethodType):
            value = value.__func__
        elif isinstance(value, functools.partial):
            yield "functools.partial"
            value = value.func
        else:
            yield home_of(value)
            value = _wrapped(value)


def _wrapped(value: Any) -> Any:
    """What a decorator says that it wraps."""
    held = getattr(value, "__dict__", None)
    return None if held is None else held.get("__wrapped__")


def home_of(value: Any) -> str:
    """Where something was written; functools.wraps has no say in it."""
    scope = getattr(value, "__globals__", None)
    if isinstance(scope, dict):
        return str(scope.get("__name__") or "")
    home = getattr(value, "__module__", None)
    return home if isinstance(home, str) else type(value).__module__


def _foreign(home: str) -> bool:
    """Whether code of this home is not read: its functions are known by name, or harmless."""
    top = home.partition(".")[0]
    return top in ("torch", "thinned", "numpy") or top in sys.stdlib_module_names


# ------------------------------------------------------------------------------------- the reading


@cache
def _methods(kind: Any) -> dict[str, list[types.FunctionType]]:
    """The functions of a class and of those above it, by name: super() calls others than self."""
    found: dict[str, list[types.FunctionType]] = {}
    for base in kind.__mro__:
        if base not in ADDRESSED and (base is object or _foreign(base.__module__)):
            continue
        for name, method in vars(base).items():
            function = getattr(method, "__func__", getattr(method, "fget", method))
            if isinstance(function, types.FunctionType):
                found.setdefault(name, []).append(function)
    return found


class _Reader:
    def __init__(self, module: nn.Module, registered: Iterable[nn.Module]) -> None:
        self.module, self.registered = module, set(registered) | set(module.modules())
        self.reached: set[str] = set()
        self.missed: set[str] = set()
        self.rates: set[Rate] = set()
        self.asleep: set[str] = set()
        self.asks = False
        self.gates: dict[str, set[Gate | None]] = {}
        self.lent: set[nn.Module] = set()
        self.numbers: set[str] = set()
        self.against: set[str] = set()
        self.takes_from_one = False
        self.seen: set[Any] = set()
        self.words: set[str] = set()
        self.kept: list[Any] = []  # so that no number of an object is used twice

    def read(self) -> Reading:
        return Reading(
            frozenset(self.reached),
            frozenset(self.missed),
            frozenset(self.rates),
            frozenset(self.asleep),
            self.asks,
            {name: frozenset(gates) for name, gates in self.gates.items()},
            frozenset(self.lent),
            frozenset(self.numbers),
            frozenset(self.against),
            self.takes_from_one,
        )

    def look(self, value: Any, owner: Any = None, called: bool = True) -> None:
        """Something that code reads, and so may call. owner: what it is bound to.

        called : whether a class is called here, and not just named.
        """
        key = (id(value), id(owner), called)
        if value is None or key in self.seen:
            return
        self.seen.add(key)
        self.kept += [value, owner]
        if isinstance(value, types.FunctionType):
            self._function(value, owner)
        elif isinstance(value, types.MethodType):
            cover = cover_behind(value)
            owner = value.__self__ if cover is None else cover.module
            self.look(value.__func__ if cover is None else uncovered(owner, value), owner)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                self._held(part)
        elif isinstance(value, (staticmethod, classmethod, property, functools.cached_property)):
            names = ("__func__", "fget", "func")
            self.look(next(getattr(value, n) for n in names if hasattr(value, n)), owner)
        elif isinstance(value, _CONTAINERS):
            for part in table_parts(value, vars(self.module), self.words):
                self._held(part)
            self.seen.discard(key)  # other code may read other entries of it
        elif isinstance(value, nn.Module):
            self._unregistered(value, "that is registered nowhere", "that is registered nowhere")
        elif isinstance(value, type):
            self._class(value, called)
        elif not isinstance(value, (types.ModuleType, Tensor, str, int, float)):
            self._object(value)
        self.look(_wrapped(value), owner)

    def _held(self, value: Any) -> None:
        """What something that may be called holds, and so may call."""
        if not self._named("", value):
            self.look(value, called=False)  # a table of classes is searched for types too

    def _function(self, function: types.FunctionType, owner: Any) -> None:
        cells = [content(cell) for cell in function.__closure__ or ()]
        given = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        for value in (*cells, *given):
            if not isinstance(value, type):
                self._held(value)
        if not _foreign(home_of(function)):
            function_read(function)
            scope = dict(zip(function.__code__.co_freevars, cells, strict=True))
            self._code(function.__code__, function.__globals__, scope, owner)

    def _class(self, kind: type, called: bool) -> None:
        if called and not _foreign(kind.__module__):
            for name in _RUN:
                for base in kind.__mro__:
                    if name in vars(base) and not _foreign(base.__module__):
                        self.look(vars(base)[name], Made(kind))

    def _object(self, value: Any) -> None:
        """An object that may be called or entered; a decorator's of the standard library holds
        what it decorates."""
        kind = type(value)
        if kind.__module__ in ("contextlib", "functools"):
            for held in getattr(value, "__dict__", {}).values():
                self._held(held)
        elif not _foreign(kind.__module__):
            for name in ("__call__", "__enter__", "__exit__"):
                found = static(kind, name)
                if found is not None and home_of(found) != "builtins":
                    self.look(found, value)

    def _code(
        self, code: types.CodeType, scope: dict[str, Any], cells: dict[str, Any], owner: Any
    ) -> None:
        self.words.update(one for one in code.co_consts if isinstance(one, str))
        first = code.co_varnames[:1] if code.co_argcount and owner is not None else ()
        local: dict[str, Any] = dict.fromkeys(first, owner)
        # Whether it is a method of the module: a function inside a decorator is unbound.
        own = bool(code.co_argcount) and self._local(code.co_varnames[0], local) is self.module
        before = target = imported = None
        self.asks = self.asks or asked_in(code)[0]
        self.takes_from_one = self.takes_from_one or flow_of(code).takes_from_one
        above = False  # whether super() is being called
        for step in steps_of(code):
            op, name = step.op, step.name
            if not own:
                step = step._replace(against=_ELSEWHERE)
            if op == "LOAD_GLOBAL":
                target, above = scope.get(name), above or name == "super"
                self._read(name, None, target, step)
            elif op in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
                target = cells.get(name, local.get(name))
                self._read(name, None, target, step)
            elif op.startswith("LOAD_FAST"):
                target = self._local(name, local)
            elif op in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
                if above and op != "LOAD_ATTR":
                    above, target = False, None
                    self._above(name, owner)
                else:
                    held, target = target, looked_up(target, name)
                    self._attribute(name, held, target, step, before)
            elif op == "IMPORT_NAME":
                target = imported = sys.modules.get(name)
            elif op == "IMPORT_FROM":
                target = looked_up(imported, name)
                if target is None and imported is not None:
                    whole = getattr(imported, "__name__", "")
                    target = imported if whole.endswith(f".{name}") else None
                self._read(name, imported, target, step._replace(called=True))
            elif op in _STORES:
                stored, *loaded = name if isinstance(name, tuple) else (name,)
                if target is not None:
                    local[stored] = target
                target = self._local(loaded[0], local) if op == "STORE_FAST_LOAD_FAST" else None
            else:
                if op == "LOAD_CONST":
                    self._constant(name, target, step)
                if op not in ("PUSH_NULL", "SWAP", "POP_TOP"):
                    target = None
            before = step
        inner = {**cells, **local}
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, scope, inner, None)

    def _above(self, name: str, owner: Any) -> None:
        """super().name: one of the methods of this name, of this class or of one above it."""
        kind = owner.kind if isinstance(owner, Made) else type(owner)
        for method in _methods(kind).get(name, ()):
            if not self._named("", method):
                self.look(method, owner)

    def _local(self, name: Any, local: dict[str, Any]) -> Any:
        name = name[-1] if isinstance(name, tuple) else name
        # Functions that are given the module call it so.
        return local.get(name, self.module if name in ("self", "module") else None)

    def _constant(self, value: Any, target: Any, step: Instruction) -> None:
        if isinstance(value, str) and isinstance(target, types.ModuleType):
            step = step._replace(called=True)
            self._read(value, target, looked_up(target, value), step)  # getattr(F, "dropout")
        elif isinstance(value, float) and step.asked and 0.0 < value < 1.0:
            self.rates.add(Rate(f"{value:g}", value, True))

    def _attribute(
        self, name: str, held: Any, value: Any, step: Instruction, before: Instruction | None
    ) -> None:
        if isinstance(held, _GENERATORS) and name not in _STILL:
            self.missed.add(f"{named_generator(held)}.{name}")
            return
        number = probability_of(value)
        if number is not None and held is self.module:
            self.numbers.add(name)
        if number is not None and _RATE.search(name):
            self.rates.add(Rate(name, number, step.asked))
        if name == "p" and isinstance(held, nn.Module) and held is not self.module:
            self.lent |= {held} if isinstance(held, tuple(ADDRESSED)) else set()
        if isinstance(held, nn.Module) and value is held._modules.get(name) is not None:
            return  # a part of the model, which is read by itself, and so is its forward
        elsewhere = isinstance(held, nn.Module) and held is not self.module
        if elsewhere and held in self.registered and name in ("forward", "__call__"):
            return
        if value is None:
            if not _is_self(before):  # for an unknown object the name may help
                self._named(name, None, True, step.asked, step.gate, step.against)
            return
        self._read(name, held, value, step)

    def _read(self, name: str, held: Any, value: Any, step: Instruction) -> None:
        if self._named(name, value, step.called, step.asked, step.gate, step.against):
            return
        bound = held if held is not None and not isinstance(held, types.ModuleType) else None
        if isinstance(held, type):
            bound = None
            self.look(held)  # autograd's Function.apply runs what the class has
        if isinstance(value, (types.FunctionType, staticmethod, property)):
            self.look(value, None if isinstance(value, staticmethod) else bound)
        else:
            self.look(value, None, step.called)

    def _named(
        self,
        name: str,
        value: Any,
        called: bool = True,
        asked: bool = False,
        gate: Gate | None = None,
        against: frozenset[str] = _ELSEWHERE,
    ) -> bool:
        """What a name stands for that code reads; value: the object behind it, if it is known.

        Returns whether it drops or draws.
        """
        found = list(_draws(name, value, called))
        for which, reached in found:
            if which in _GATES:
                reached = reached or (gate is not None and (value is not None or which in _METHODS))
                self.gates.setdefault(which, set()).add(gate if reached else None)
                self.against |= against
            (self.reached if reached else self.missed).add(which)
            if reached and asked:
                self.asleep.add(which)
        return bool(found)

    def listed(self, held: Any) -> None:
        """Modules in lists and the like, which PyTorch does not find."""
        for one in parts(held):
            if isinstance(one, nn.Module):
                self._unregistered(one, "in a plain list", "in a plain list, not an nn.ModuleList,")

    def _unregistered(self, module: nn.Module, where: str, ours: str) -> None:
        for part in module.modules():
            name, key = type(part).__name__, (id(part), "part")
            if part in self.registered or key in self.seen:
                continue
            self.seen.add(key)
            if isinstance(part, (Addressed, Sited, _DropIn)):
                if getattr(part, "site", None) is None:
                    self.missed.add(f"thinned.torch.{name} {ours}")
            elif isinstance(part, tuple(ADDRESSED)):
                self.reached.add(f"{name} {where}")
            elif isinstance(part, NOISY):
                self.missed.add(name)
            if has_own_forward(part):
                self.look(_forward_of(part), part)


def _draws(name: str, value: Any, called: bool) -> Iterator[tuple[str, bool]]:
    """The names for the report of what drops or draws, and whether adoption reaches it."""
    own = str(getattr(value, "__name__", "") or "").partition(".")[0]
    home = home_of(value) if value is not None else ""
    if isinstance(value, type):
        yield from _draws_of_class(value, own, home) if called else ()
    elif isinstance(value, types.FunctionType) and value in _FORWARDS:
        yield _FORWARDS[value], True
    elif isinstance(getattr(value, "__self__", None), _GENERATORS):
        if own not in _STILL:
            yield f"{named_generator(value.__self__)}.{own}", False
    elif own == "default_rng" and home.startswith("numpy"):
        yield "numpy.random.default_rng", False
    elif home.startswith("thinned."):
        if own in REACHED and home in _DRAWING:
            yield f"{_DRAWING[home]}.{own} (unless given at=)", False
    elif value is None or (callable(value) and _foreign(home)):
        # By both: PyTorch hides some of its functions behind one called "fn".
        for known in dict.fromkeys((own, name)):
            if known in REACHED or known in MISSED:
                yield known, known in REACHED


def _draws_of_class(kind: type, name: str, home: str) -> Iterator[tuple[str, bool]]:
    if home.startswith("torch.distributions"):
        yield f"torch.distributions.{name}", False
    elif kind in ADDRESSED or kind in NOISY:
        yield name, kind in ADDRESSED
    elif home.startswith("thinned.torch") and issubclass(kind, (_DropIn, Sited)):
        yield f"thinned.torch.{name} made in the code", False


def _is_self(step: Instruction | None) -> bool:
    if step is None or not step.op.startswith("LOAD_FAST"):
        return False
    return step.name == "self" or (isinstance(step.name, tuple) and step.name[-1] == "self")
