"""A model's twin: modules of its own around the same parameters, run while others run the model.

What a question does to a model (flags, forwards, a clock that stands still) is done to the twin,
which no other object has. torch.nn.DataParallel's replicas are made in this way too.
"""

from __future__ import annotations

import copy
import sys
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from thinned.backends.torch.internals import is_compiled
from thinned.torch.clock.clock import BUFFER, Clock

__all__ = ["twin_of"]

_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_HELD = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def twin_of(model: nn.Module) -> nn.Module:
    """The same network as other modules, which no one else holds.

    Parameters are the model's own. Buffers are copied, so that code that writes into them in
    evaluation writes beside the model. An adopted model's twin is adopted, with a clock of its own
    that follows no optimizer. Whatever leads to a module of the model leads to its twin: lists,
    methods, hooks of the model's own modules, closures. All else is shared. What torch.compile made
    of a module is left out: the twin runs eagerly.
    """
    return _Twins(model).made[id(model)]  # type: ignore[no-any-return]


class _Twins:
    def __init__(self, model: nn.Module) -> None:
        self.made: dict[int, Any] = {}  # by the id of the one that stood there
        for buffer in model.buffers():
            self.made[id(buffer)] = _copied(buffer)
        modules = list(model.modules())
        # All shells first, so that no model is too deep, and what leads back finds its twin.
        for module in modules:
            self._shell(module)
        for module in modules:
            self._held(module)
        for module in modules:
            self._fill(module)

    def of(self, held: Any) -> Any:
        """What stands in the twin for what the model holds."""
        if isinstance(held, _ATOMS):
            return held
        if id(held) in self.made:
            return self.made[id(held)]
        if isinstance(held, Tensor):
            return held
        for kinds, make in _MAKERS:
            if isinstance(held, kinds):
                return make(self, held)
        if _is_ours(held) or self._leads(held):
            return self._object(held)
        return held

    def _leads(self, held: Any) -> bool:
        """Whether an object has a module of the model among its attributes, or lists of some."""
        if isinstance(held, (type, types.ModuleType)):
            return False
        return any(map(self._has, getattr(held, "__dict__", {}).values()))

    def _has(self, value: Any) -> bool:
        if isinstance(value, dict):
            value = tuple(value.values())
        some = value if isinstance(value, (list, tuple)) else (value,)
        return any(isinstance(one, nn.Module) and id(one) in self.made for one in some)

    # ------------------------------------------------------------------------------------- modules

    def _shell(self, module: nn.Module) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            # Its flag is all that a question would change of it.
            self.made[id(module)] = copy.deepcopy(module) if module.training else module
        else:
            # Not by its class, for torch.fx makes a class anew for each instance.
            self.made[id(module)] = object.__new__(type(module))

    def _held(self, module: nn.Module) -> None:
        shell = self.made[id(module)]
        if not isinstance(module, torch.jit.ScriptModule):
            shell.__dict__.update({name: self.of(module.__dict__[name]) for name in _HELD})

    def _fill(self, module: nn.Module) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            return
        shell = self.made[id(module)]
        for name, value in module.__dict__.items():
            if name not in _HELD:
                shell.__dict__[name] = self.of(value)
        if "torch._dynamo" in sys.modules:
            shell.__dict__.update(self._eager(shell))

    def _eager(self, shell: nn.Module) -> Iterator[tuple[str, Any]]:
        """What a compiled module runs instead of its program."""
        if is_compiled(shell):
            yield "forward", shell._modules["_orig_mod"]
        if shell.__dict__.get("_compiled_call_impl") is not None:
            yield "_compiled_call_impl", None
        for kind in type(shell).__mro__:
            if kind.__module__.startswith("torch.") or kind is object:
                continue
            for name, method in vars(kind).items():
                eager = getattr(method, "_torchdynamo_orig_callable", None)
                if eager is not None and name not in shell.__dict__:
                    yield name, types.MethodType(eager, shell)

    def _unregistered(self, module: nn.Module) -> nn.Module:
        """A module in a plain list, say, of which the model does not know."""
        self._shell(module)
        self._held(module)
        self._fill(module)
        return self.made[id(module)]  # type: ignore[no-any-return]

    # ------------------------------------------------------------------------- what leads there

    def _dict(self, held: dict[Any, Any]) -> Any:
        plain = type(held) in (dict, OrderedDict)  # most are, and empty
        new = self.made[id(held)] = held.copy() if plain else copy.copy(held)
        for key, value in held.items():
            new[key] = self.of(value)
        return new

    def _list(self, held: Any) -> Any:
        new = self.made[id(held)] = copy.copy(held)
        for index, value in enumerate(held):
            new[index] = self.of(value)
        return new

    def _set(self, held: Any) -> Any:
        return type(held)(map(self.of, held))

    def _tuple(self, held: Any) -> Any:
        values = [self.of(value) for value in held]
        if all(value is before for value, before in zip(values, held, strict=True)):
            return held
        return type(held)._make(values) if hasattr(held, "_make") else type(held)(values)

    def _method(self, held: types.MethodType) -> Any:
        owner: Any = held.__self__
        # What somebody else's object remembers of the model, it is to go on remembering.
        if id(owner) not in self.made and not _is_ours(owner):
            return held
        return types.MethodType(held.__func__, self.of(owner))

    def _partial(self, held: partial[Any]) -> Any:
        return partial(self.of(held.func), *self._tuple(held.args), **self._dict(held.keywords))

    def _weak(self, held: weakref.ref[Any]) -> Any:
        found = held()
        return weakref.ref(self.made[id(found)]) if id(found) in self.made else held

    def _function(self, held: types.FunctionType) -> Any:
        eager = getattr(held, "_torchdynamo_orig_callable", None)
        if eager is not None:
            return self.of(eager)
        before = [_content(cell) for cell in held.__closure__ or ()]
        cells = [self.of(v) if self._is_held(v) else v for v in before]
        if all(value is other for value, other in zip(cells, before, strict=True)):
            return held
        closure = tuple(map(types.CellType, cells))
        new = types.FunctionType(
            held.__code__, held.__globals__, held.__name__, held.__defaults__, closure
        )
        new.__dict__.update(held.__dict__)
        new.__kwdefaults__ = held.__kwdefaults__
        return new

    def _is_held(self, value: Any) -> bool:
        """Whether what a closure holds is a module of the model, or a method: its forward, say."""
        return isinstance(value, types.MethodType) or (
            isinstance(value, nn.Module) and self._has(value)
        )

    def _clock(self, held: Clock) -> Clock:
        model = self.of(held._model)
        new = self.made[id(held)] = Clock(model, held.seed, held._ranks, held._group)
        new.names, new.rules = list(held.names), dict(held.rules)
        model._buffers[BUFFER] = _copied(held.buffer)
        return new

    def _object(self, held: Any) -> Any:
        new = self.made[id(held)] = object.__new__(type(held))
        ours = _is_ours(held)
        state = held.__getstate__() if ours else vars(held)
        state = {k: self.of(v) if ours or self._has(v) else v for k, v in state.items()}
        if ours and hasattr(held, "__setstate__"):
            held.__class__.__setstate__(new, state)
        else:
            new.__dict__.update(state)
        return new


_MAKERS: tuple[tuple[Any, Callable[[_Twins, Any], Any]], ...] = (
    (nn.Module, _Twins._unregistered),
    (dict, _Twins._dict),
    ((list, deque), _Twins._list),
    ((set, frozenset), _Twins._set),
    (tuple, _Twins._tuple),
    (types.MethodType, _Twins._method),
    (types.FunctionType, _Twins._function),
    (partial, _Twins._partial),
    (weakref.ref, _Twins._weak),
    (Clock, _Twins._clock),
)


def _copied(buffer: Tensor) -> Tensor:
    lazy: bool = is_lazy(buffer)
    copied: Tensor = buffer if lazy else buffer.detach().clone()
    return copied


def _is_ours(held: Any) -> bool:
    return type(held).__module__.startswith("thinned.") and hasattr(held, "__dict__")


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
