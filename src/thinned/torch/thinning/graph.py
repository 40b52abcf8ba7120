"""The graph of a module's code, recorded without a change to anything but the module.

torch.fx's own Tracer patches the calls and attributes of every module of the process while it runs,
those of other threads too. What is changed here is the copy that is traced.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import fx, nn

from thinned.backends.torch.internals import is_compiled
from thinned.torch.adoption.module import Sited
from thinned.torch.adoption.site import ADDRESSED
from thinned.torch.compat.generators import OwnDraws

__all__ = ["traced"]


def traced(module: nn.Module) -> fx.Graph:
    """What a module's forward calls in training, its arguments with defaults left out.

    Leaves are torch.nn's modules but nn.Sequential, and what drops. The module is left changed and
    of no other use than to be traced: give it a copy. Whatever its code raises is passed on, and so
    is what torch.fx raises where code asks for values.
    """
    module.train()
    recorder = _Recorder(module)
    for name, inner in module.named_modules():
        # Where torch.compile puts what a module's call runs, so that no hook sees a proxy.
        inner._compiled_call_impl = recorder.call(name, inner)
    args, kwargs = recorder.arguments(module)
    with OwnDraws():
        result = module.forward(*args, **kwargs)
    recorder.create_node("output", "output", (recorder.create_arg(result),), {})
    return recorder.graph


class _Recorder(fx.Tracer):
    """The part of torch.fx that makes nodes of calls with proxies. Its `trace` is not used."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root = root
        self.graph = fx.Graph(tracer_cls=type(self))
        self.tensor_attrs = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (*ADDRESSED, Sited)):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call(self, name: str, module: nn.Module) -> Callable[..., Any] | None:
        """What a module's call is while it is recorded; None for its own."""
        if is_compiled(module):
            return partial(_refuse, name)
        if not name or not self.is_leaf_module(module, name):
            return None
        return partial(self._leaf, name)

    def _leaf(self, name: str, *args: Any, **kwargs: Any) -> fx.Proxy:
        return self.create_proxy("call_module", name, args, kwargs)

    def arguments(self, module: nn.Module) -> tuple[list[fx.Proxy], dict[str, fx.Proxy]]:
        """A proxy for each argument that has no default: a proxy is not None."""
        args, kwargs = [], {}
        for name, parameter in inspect.signature(module.forward).parameters.items():
            if parameter.default is not parameter.empty or parameter.kind is parameter.VAR_KEYWORD:
                continue
            proxy = self.create_proxy("placeholder", name, (), {})
            if parameter.kind is parameter.KEYWORD_ONLY:
                kwargs[name] = proxy
            else:
                args.append(proxy)
        return args, kwargs


def _refuse(name: str, *args: Any, **kwargs: Any) -> None:
    raise RuntimeError(f"{name!r} was compiled by torch.compile")
