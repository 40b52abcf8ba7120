"""Where a model can run thin: a layer, elementwise functions, dropout, such functions, a layer."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn import functional

from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.site import ADDRESSED
from thinned.torch.dropin import modules
from thinned.torch.thinning.graph import traced

__all__ = ["DROPOUTS", "LAYERS", "Found", "regions_in"]

# A layer -> the axis of its units, counted from the end, so that a batch may be missing.
LAYERS: dict[type[nn.Module], int] = {nn.Linear: -1, nn.Conv1d: -2, nn.Conv2d: -3}
# The same -> the dropout that drops whole units of it.
_UNITS = {
    nn.Linear: (nn.Dropout, modules.Dropout),
    nn.Conv1d: (nn.Dropout1d, modules.Dropout1d),
    nn.Conv2d: (nn.Dropout2d, modules.Dropout2d),
}
DROPOUTS = tuple(ADDRESSED)

# f(s x) = s f(x) for s > 0, so that a scale may be moved past them.
_HOMOGENEOUS = (nn.Identity, nn.ReLU, nn.LeakyReLU)
# f(0) = 0 as well, and each unit by itself: a dropped unit stays 0 after them, as if not computed.
_ZERO_KEPT = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Tanh, nn.Hardswish, nn.Softsign, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink,
)  # fmt: skip
_ELEMENTWISE = (
    *_ZERO_KEPT, nn.Sigmoid, nn.Hardsigmoid, nn.Hardtanh, nn.LogSigmoid, nn.Softplus, nn.Threshold,
)  # fmt: skip
# One channel by itself, 0 where the channel is 0, and homogeneous.
_POOLING: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.Conv1d: (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
    nn.Conv2d: (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
}

_ZERO_KEPT_CALLS: set[Any] = {
    functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.selu,
    functional.celu, functional.gelu, functional.silu, functional.mish, functional.hardswish,
    functional.softsign, functional.tanhshrink, torch.relu, torch.tanh, functional.tanh,
    torch.square, torch.abs, operator.neg, "relu", "tanh", "square", "abs",
}  # fmt: skip
_ELEMENTWISE_CALLS: set[Any] = {
    *_ZERO_KEPT_CALLS, torch.sigmoid, functional.sigmoid, functional.softplus, "sigmoid",
}  # fmt: skip
_HOMOGENEOUS_CALLS: set[Any] = {functional.relu, torch.relu, functional.leaky_relu, "relu"}


class Found(NamedTuple):
    """A region. scope: the module in whose forward it lies, as it was looked at.

    homogeneous : whether a scale at the dropout may be moved into the consumer's weight.
    """

    producer: nn.Module
    dropout: nn.Module
    consumer: nn.Module
    scope: nn.Module
    axis: int
    homogeneous: bool


def regions_in(model: nn.Module) -> tuple[list[Found], dict[nn.Module, str]]:
    """The regions of a model that is not adopted, and of every other dropout module why not."""
    search = _Search(model)
    search.transformers()
    search.look(model, "")
    for module in model.modules():
        if isinstance(module, (*DROPOUTS, Sited)) and module not in search.dropouts:
            search.reasons.setdefault(module, "nothing that could be traced calls it")
    return search.found, search.reasons


class _Search:
    def __init__(self, model: nn.Module) -> None:
        self.raw = dict(model.named_modules(remove_duplicate=False))
        self.times = Counter(self.raw.values())
        self.found: list[Found] = []
        self.dropouts: set[nn.Module] = set()
        self.reasons: dict[nn.Module, str] = {}
        # A copy is traced: its modules are changed, and code that keeps what it computes keeps
        # proxies. Its parameters are the model's own.
        own = {id(t): t for t in model.parameters()}
        try:
            self.copy: nn.Module | None = copy.deepcopy(model, own)
        except Exception as error:  # whatever a model's own __deepcopy__ raises
            self.copy, self.failed = None, f"the model cannot be copied: {_first_line(error)}"

    def add(self, region: Found) -> None:
        self.found.append(region)
        self.dropouts.add(region.dropout)
        self.reasons.pop(region.dropout, None)

    # ------------------------------------------------------------------------- known by their parts

    def transformers(self) -> None:
        for layer in self.raw.values():
            if type(layer) not in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer):
                continue
            known: Any = layer
            if known.dropout in self.dropouts:
                continue
            for name in ("dropout1", "dropout2", "dropout3"):
                if hasattr(known, name):
                    self.reasons[getattr(known, name)] = "its output is added to the whole trunk"
            activation = known.activation
            plain = activation in _ELEMENTWISE_CALLS or type(activation) in _ELEMENTWISE
            parts = (known.linear1, known.dropout, known.linear2)
            why = "" if plain else "its activation is none that is known to be elementwise"
            for part in parts:
                why = why or self.unfit(part)
            if not why and type(known.dropout) not in _UNITS[nn.Linear]:
                why = "it is no nn.Dropout"
            if why:
                self.reasons[known.dropout] = why
            else:
                self.add(Found(*parts, layer, -1, True))

    def unfit(self, module: nn.Module) -> str:
        """Why a module may not be given another forward; nothing if it may."""
        name = next(name for name, other in self.raw.items() if other is module)
        hooks = (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
        if any(hooks):
            return f"{name!r} has hooks, which would see a thin array"
        if "forward" in module.__dict__:
            return f"{name!r} has a forward of its own"
        if self.times[module] > 1:
            return f"{name!r} has several places in the model"
        if isinstance(module, tuple(LAYERS)) and type(module) not in LAYERS:
            return f"{name!r} is a {type(module).__name__}: parametrised, or a subclass"
        return ""

    # ----------------------------------------------------------------------------------- by tracing

    def look(self, module: nn.Module, name: str) -> None:
        """Trace a module; where that fails, its children."""
        if self.copy is None:
            for dropout in self.raw.values():
                self.reasons.setdefault(dropout, self.failed)
            return
        if not any(isinstance(inner, DROPOUTS) for inner in module.modules()):
            return
        if not isinstance(module, DROPOUTS):
            try:
                graph = traced(self.copy.get_submodule(name))
            except Exception as error:  # a model's own code may raise anything when traced
                for child in module.children():
                    if isinstance(child, DROPOUTS) and child not in self.dropouts:
                        where = name or "the model"
                        why = f"the code of {where} cannot be traced: {_first_line(error)}"
                        self.reasons.setdefault(child, why)
            else:
                _Graph(self, graph, module, name).search()
        for child_name, child in module.named_children():
            if any(i not in self.dropouts and i not in self.reasons for i in _dropouts_of(child)):
                self.look(child, f"{name}.{child_name}" if name else child_name)


def _dropouts_of(module: nn.Module) -> Iterator[nn.Module]:
    return (inner for inner in module.modules() if isinstance(inner, DROPOUTS))


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


class _Graph:
    """The search in one traced module."""

    def __init__(self, search: _Search, graph: fx.Graph, scope: nn.Module, prefix: str) -> None:
        self.all, self.graph, self.scope = search, graph, scope
        self.prefix = f"{prefix}." if prefix else ""
        self.calls = Counter(n.target for n in graph.nodes if n.op == "call_module")

    def module(self, node: fx.Node) -> nn.Module | None:
        if node.op != "call_module":
            return None
        found: nn.Module = self.all.raw[self.prefix + str(node.target)]
        return found

    def search(self) -> None:
        for node in self.graph.nodes:
            dropout = self.module(node)
            if not isinstance(dropout, DROPOUTS) or dropout in self.all.dropouts:
                continue
            region = self.region(node, dropout)
            if isinstance(region, str):
                self.all.reasons[dropout] = region
            else:
                self.all.add(region)

    def region(self, node: fx.Node, dropout: nn.Module) -> Found | str:
        """The region around a dropout, or why there is none."""
        first = self._before(node)
        if isinstance(first, str):
            return first
        producer = self.module(first)
        assert producer is not None
        kind = type(producer)
        if kind not in LAYERS:
            return self.all.unfit(producer)
        if type(dropout) not in _UNITS.get(kind, ()):
            return (
                f"a {type(dropout).__name__} behind a {kind.__name__} drops no whole units; "
                f"{_UNITS[kind][0].__name__} does"
            )
        behind = self._behind(node, kind)
        if isinstance(behind, str):
            return behind
        last, homogeneous = behind
        consumer = self.module(last)
        assert consumer is not None
        if type(consumer) is not kind:
            if why := self.all.unfit(consumer):
                return why
            return f"behind a {kind.__name__} comes {self._called(last)}, of another kind"
        for part in (first, node, last):
            if self.calls[part.target] > 1:
                return f"{self.prefix}{part.target} is called more than once"
            if why := self.all.unfit(self.module(part) or dropout):
                return why
        for layer, at in ((producer, first), (consumer, last)):
            if getattr(layer, "groups", 1) != 1:
                return f"{self._called(at)} has groups"
        return Found(producer, dropout, consumer, self.scope, LAYERS[kind], homogeneous)

    def _before(self, node: fx.Node) -> fx.Node | str:
        """The layer from which a dropout's input comes."""
        passed: list[fx.Node] = []
        while True:
            if len(node.args) < 1 or not isinstance(node.args[0], fx.Node):
                return f"{self._called(node)} takes no single array"
            node = node.args[0]
            if len(node.users) > 1:
                return f"the output of {self._called(node)} is used more than once"
            module = self.module(node)
            if isinstance(module, tuple(LAYERS)):
                for other in passed:
                    why = self._not_through(other, type(module), _ELEMENTWISE, _ELEMENTWISE_CALLS)
                    if why:
                        return why
                return node
            if why := self._not_through(node, None, _ELEMENTWISE, _ELEMENTWISE_CALLS):
                return why
            passed.append(node)

    def _behind(self, node: fx.Node, kind: type[nn.Module]) -> tuple[fx.Node, bool] | str:
        """The layer that a dropout's output goes to, and whether a scale may be moved there."""
        same = True
        while True:
            if len(node.users) != 1:
                return f"the output of {self._called(node)} is used more than once"
            before, node = node, next(iter(node.users))
            if not node.args or node.args[0] is not before or before in node.kwargs.values():
                return f"its output goes to {self._called(node)}"
            module = self.module(node)
            if isinstance(module, tuple(LAYERS)):
                return node, same
            if why := self._not_through(node, kind, _ZERO_KEPT, _ZERO_KEPT_CALLS):
                return why
            same = same and _homogeneous(module, node, kind)

    def _not_through(
        self, node: fx.Node, kind: Any, allowed: tuple[Any, ...], calls: set[Any]
    ) -> str:
        """Why a thin array may not pass a node; nothing if it may. kind None: of any layer."""
        if node.op in ("placeholder", "output"):
            return f"no layer lies between it and the {node.op.replace('placeholder', 'input')}"
        module = self.module(node)
        if module is not None:
            kinds = _POOLING.values() if kind is None else [_POOLING.get(kind, ())]
            pools = [pool for some in kinds for pool in some]
            if type(module) in allowed:
                return self.all.unfit(module) if "forward" in module.__dict__ else ""
            if type(module) in pools and not getattr(module, "return_indices", False):
                return ""
            return f"{self._called(node)} lies between, which is not known to be elementwise"
        others = [*node.args[1:], *node.kwargs.values()]
        if node.target in calls and not any(isinstance(other, fx.Node) for other in others):
            return ""
        return f"{self._called(node)} lies between, which is not known to be elementwise"

    def _called(self, node: fx.Node) -> str:
        module = self.module(node)
        if module is not None:
            return f"{type(module).__name__} {self.prefix + str(node.target)!r}"
        if node.op in ("placeholder", "output"):
            return "the input" if node.op == "placeholder" else "the output"
        target: Callable[..., Any] | str = node.target
        return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def _homogeneous(module: nn.Module | None, node: fx.Node, kind: type[nn.Module]) -> bool:
    """Whether f(s x) = s f(x) for every s > 0, of a step that a thin array may pass."""
    if module is not None:
        return type(module) in (*_HOMOGENEOUS, *_POOLING.get(kind, ()))
    return node.target in _HOMOGENEOUS_CALLS
