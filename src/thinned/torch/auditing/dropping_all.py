"""Calls that drop everything, by p = 1 or True: they draw nothing that shows in a dispatch mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from thinned.torch.adoption.functional_calls import PLACES, AdoptedForward, is_awake, p_of_call

__all__ = ["Hearing"]


class Hearing:
    """Tells `heard(p)` of each call that drops with p = 1, while it listens to a model.

    A mode hears the calls. In an adopted model the innermost mode is that of the module's site,
    and nothing beyond it sees the call: there the forward that is wrapped is run under a mode of
    its own.
    """

    def __init__(self, modules: Any, heard: Callable[[Any], None]) -> None:
        self.modules, self.heard = modules, heard
        self._mode: _Mode | None = None
        self._wrapped: list[tuple[AdoptedForward, Any]] = []

    def begin(self) -> None:
        self._mode = _Mode(self.heard)
        self._mode.__enter__()  # type: ignore[no-untyped-call]  # PyTorch gives modes no types
        for module in self.modules:
            ours = getattr(module.__dict__.get("forward"), "__self__", None)
            if isinstance(ours, AdoptedForward) and ours.site is not None:
                self._wrapped.append((ours, ours.__dict__.get("_run")))
                ours.__dict__["_run"] = self._heard_run(ours._run)

    def end(self) -> None:
        for ours, before in self._wrapped:
            ours.__dict__.pop("_run")
            if before is not None:
                ours.__dict__["_run"] = before
        self._wrapped.clear()
        assert self._mode is not None
        self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # nor here

    def _heard_run(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def heard_run(args: Any, kwargs: Any) -> Any:
            with _Mode(self.heard):
                return run(args, kwargs)

        return heard_run


class _Mode(TorchFunctionMode):
    def __init__(self, heard: Callable[[Any], None]) -> None:
        super().__init__()
        self.heard = heard

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in PLACES and func is not Tensor.bernoulli_ and is_awake(func, args, kwargs):
            p = p_of_call(func, args, kwargs)
            if _is_one(p):
                self.heard(p)
        return func(*args, **kwargs)


def _is_one(p: Any) -> bool:
    if isinstance(p, Tensor):
        return p.numel() == 1 and bool(p.detach() == 1)
    return p is not None and bool(p == 1)
