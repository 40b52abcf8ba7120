"""Calls that drop everything, by p = 1 or True: they draw nothing that shows in a dispatch mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thinned.backends.torch.values import inlined
from thinned.torch.adoption.functional_calls import PLACES, AdoptedForward, is_awake, p_of_call
from thinned.torch.auditing.uses import Uses
from thinned.torch.compat.covers import Cover, covers_of

__all__ = ["Hearing"]


class Hearing:
    """Tells `heard(p)` of each call that drops with p = 1, while it listens to a model.

    A mode hears the calls. In an adopted model the innermost mode is that of the module's site,
    and nothing beyond it sees the call: there what it runs is covered by a mode of its own.
    """

    def __init__(self, modules: Any, heard: Callable[[Any], None], uses: Uses) -> None:
        self.modules, self.heard, self.uses = modules, heard, uses
        self._mode: _Mode | None = None
        self._covers: list[_HeardForward] = []

    def begin(self) -> None:
        self._mode = _Mode(self.heard, self.uses)
        self._mode.__enter__()  # type: ignore[no-untyped-call]  # PyTorch gives modes no types
        for module in self.modules:
            for ours in covers_of(module):
                if isinstance(ours, AdoptedForward) and ours.site is not None:
                    self._covers.append(_HeardForward(module, self.heard, self.uses))
                    self._covers[-1].lay(beneath=ours)

    def end(self) -> None:
        for cover in self._covers:
            cover.lift()
        self._covers.clear()
        assert self._mode is not None
        self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # nor here


class _HeardForward(Cover):
    """What an adopted module's forward runs, under a mode within that of its site."""

    def __init__(self, module: nn.Module, heard: Callable[[Any], None], uses: Uses) -> None:
        super().__init__(module)
        self.heard, self.uses = heard, uses

    def covered(self, args: Any, kwargs: Any) -> Any:
        with _Mode(self.heard, self.uses):
            return self.run(args, kwargs)


class _Mode(TorchFunctionMode):
    def __init__(self, heard: Callable[[Any], None], uses: Uses) -> None:
        super().__init__()
        self.heard, self.uses = heard, uses

    @inlined
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in PLACES and func is not Tensor.bernoulli_ and is_awake(func, args, kwargs):
            p = p_of_call(func, args, kwargs)
            if _is_one(p):
                self.heard(p)
        return self.uses.called(lambda: func(*args, **kwargs), func, args, kwargs)


def _is_one(p: Any) -> bool:
    if isinstance(p, Tensor):
        return p.numel() == 1 and bool(p.detach() == 1)
    return p is not None and bool(p == 1)
