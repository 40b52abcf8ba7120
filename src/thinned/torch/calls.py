"""Functional calls: F.dropout and its kin, as an adopted module's own code makes them.

A module with code of its own is given a forward that runs the old one under a mode, which sees
every function of PyTorch that is called there. A module inside it has a mode of its own, so that
the innermost module names the site.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from thinned import checks
from thinned.torch import attending, recurrent
from thinned.torch.addressed import Site
from thinned.torch.clock import HEAD, Clock

__all__ = ["REACHED", "AdoptedForward", "Calls"]

# The function of PyTorch -> the kind of dropout. torch's own names take `train`, functional's
# `training`; both stand third.
_KINDS: dict[Any, str] = {
    functional.dropout: "dropout",
    functional.dropout1d: "dropout1d",
    functional.dropout2d: "dropout2d",
    functional.dropout3d: "dropout3d",
    functional.alpha_dropout: "alpha_dropout",
    functional.feature_alpha_dropout: "feature_alpha_dropout",
    torch.dropout: "dropout",
    torch.alpha_dropout: "alpha_dropout",
    torch.feature_alpha_dropout: "feature_alpha_dropout",
    torch.dropout_: "dropout",
    torch.alpha_dropout_: "alpha_dropout",
    torch.feature_alpha_dropout_: "feature_alpha_dropout",
}
_IN_PLACE = (torch.dropout_, torch.alpha_dropout_, torch.feature_alpha_dropout_)
# Where `training` is left out, these do nothing and the others drop.
_AWAKE_IF_TOLD = (functional.alpha_dropout, functional.feature_alpha_dropout)

# The names under which source code calls what is reached here.
REACHED = frozenset(
    {f.__name__ for f in (*_KINDS, *recurrent.KINDS)}
    | {"scaled_dot_product_attention", "multi_head_attention_forward", "bernoulli_"}
)


class Calls(TorchFunctionMode):
    """Draws at `site` for every function that drops. own: the site's p, not the call's."""

    def __init__(self, site: Site, own: bool) -> None:
        super().__init__()
        self.site, self.own = site, own

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _KINDS:
            return self._dropout(func, *args, **kwargs)
        awake = self.site.clock.awake
        if func is functional.scaled_dot_product_attention:
            if awake is not None and (len(args) > 4 or "dropout_p" in kwargs):
                awake.told(self.site, kwargs["dropout_p"] if "dropout_p" in kwargs else args[4])
            return self._attention(*args, **kwargs)
        if func is functional.multi_head_attention_forward and (
            awake is not None or kwargs.get("training", True)
        ):
            own = self.own or self.site.rule is not None
            p = None if own else checks.probability("dropout", args[10])
            if p != 0.0:
                return attending.multi_head(self.site, p, *args, **kwargs)
        if func in recurrent.KINDS and _drops_between_layers(args):
            return recurrent.layers(self.site, func, args)
        if func is Tensor.bernoulli_ and kwargs.get("generator") is None:
            return self._bernoulli(*args, **kwargs)
        return func(*args, **kwargs)

    def _dropout(
        self,
        func: Any,
        input: Tensor,
        p: float = 0.5,
        training: bool | None = None,
        inplace: bool = False,
        train: bool | None = None,
    ) -> Any:
        if training is None:
            training = train if train is not None else func not in _AWAKE_IF_TOLD
        if not training and self.site.clock.awake is None:
            return func(input, p, False)
        given = None if self.own else checks.probability("dropout", p)
        return self.site.draw(input, _KINDS[func], inplace or func in _IN_PLACE, given)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **other: Any,
    ) -> Any:
        p = checks.probability("scaled_dot_product_attention", dropout_p)
        if p == 0.0:
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask, 0.0, is_causal, **other
            )
        return attending.attend(self.site, p, query, key, value, attn_mask, is_causal, **other)

    def _bernoulli(self, x: Tensor, p: Any = 0.5, **_: Any) -> Tensor:
        """Stochastic depth as timm and torchvision write it: a gate drawn into a fresh tensor."""
        if isinstance(p, Tensor) or not x.is_floating_point():
            return x.bernoulli_(p)
        # Kept elements of a tensor of ones are 1 / p > 0; p is here the probability to keep.
        kept = self.site.draw(torch.ones_like(x), p=1.0 - p)
        return x.copy_(kept > 0)


def _drops_between_layers(args: tuple[Any, ...]) -> bool:
    """Whether a recurrent network of these arguments drops: p > 0, training, several layers."""
    count, p, training = args[4:7] if isinstance(args[3], bool) else args[5:8]
    return bool(count > 1 and p > 0.0 and training)


class AdoptedForward:
    """The forward of a module in an adopted model: the one that was there, its calls addressed.

    site : Site or None. None only begins the counting in compiled graphs, see `Clock.live`.

    A module is given the bound method, and not a callable object: Dynamo takes the one for the code
    that it is, so that equal layers share a program, and the other for a constant. Bound to this
    object, and not to the module, it can be pickled.
    """

    def __init__(
        self, module: nn.Module, clock: Clock, site: Site | None, own: bool = False
    ) -> None:
        self.module, self.clock, self.site, self.own = module, clock, site, own
        self.before: Callable[..., Any] | None = module.__dict__.get("forward")

    @property
    def method(self) -> types.MethodType:
        """`forward` with the signature of the old one, which trainers read."""
        return types.MethodType(_signed(self.before or type(self.module).forward), self)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        clock = self.clock
        if clock.awake is not None:
            return self._addressed(args, kwargs)
        if not self.module.training:
            return self._run(args, kwargs)
        if not torch.compiler.is_compiling() or clock.live is not None:
            return self._addressed(args, kwargs)
        clock.live = clock.snapshot()
        try:
            return self._addressed(args, kwargs)
        finally:
            clock.counts = clock.live[HEAD:].clone()
            clock.live = None

    def _addressed(self, args: Any, kwargs: Any) -> Any:
        if self.site is None:
            return self._run(args, kwargs)
        with Calls(self.site, self.own):
            return self._run(args, kwargs)

    def _run(self, args: Any, kwargs: Any) -> Any:
        if self.before is not None:
            return self.before(*args, **kwargs)
        return type(self.module).forward(self.module, *args, **kwargs)


@cache
def _signed(original: Callable[..., Any]) -> Callable[..., Any]:
    """AdoptedForward.forward, one function for each that it stands for."""
    forward = AdoptedForward.forward
    signed: Any = types.FunctionType(forward.__code__, globals(), "forward")
    signature = inspect.signature(original)
    if inspect.ismethod(original):  # binding takes one parameter away, and this one lacks it
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        signature = signature.replace(parameters=[own, *signature.parameters.values()])
    signed.__signature__ = signature
    return signed  # type: ignore[no-any-return]
