"""Functional calls: F.dropout and its kin, as an adopted module's own code makes them.

A module with code of its own is given a forward that runs the old one under a mode, which sees
every function of PyTorch that is called there. A module inside it has a mode of its own, so that
the innermost module names the site.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import BaseTorchFunctionMode, TorchFunctionMode

from thinned import checks
from thinned.methods.draws import Draws
from thinned.torch import attending, checkpointing, older, recurrent
from thinned.torch.addressed import Site
from thinned.torch.attempts import Attempt
from thinned.torch.checkpointing import Running
from thinned.torch.clock import Clock
from thinned.torch.moment import HEAD
from thinned.torch.recording import require_no_proxy
from thinned.torch.sharded import is_sharded

__all__ = ["REACHED", "AdoptedForward", "Calls", "EncoderForward"]

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
    torch.feature_dropout: "feature_dropout",
    torch.dropout_: "dropout",
    torch.alpha_dropout_: "alpha_dropout",
    torch.feature_alpha_dropout_: "feature_alpha_dropout",
    torch.feature_dropout_: "feature_dropout",
}
for _name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
    _packet = getattr(torch.ops.aten, _name)
    _KINDS[_packet] = _KINDS[_packet.default] = _name
_IN_PLACE = (
    torch.dropout_,
    torch.alpha_dropout_,
    torch.feature_alpha_dropout_,
    torch.feature_dropout_,
)
# Where `training` is left out, these do nothing and the others drop.
_AWAKE_IF_TOLD = (functional.alpha_dropout, functional.feature_alpha_dropout)

# The names under which source code calls what is reached here.
REACHED = frozenset(
    {f.__name__.partition(".")[0] for f in (*_KINDS, *recurrent.KINDS)}
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
            p = None if own else _checked("dropout", args[10])
            if isinstance(p, Tensor) or p != 0.0:
                require_no_proxy(args[0], self.site.name)
                return attending.multi_head(self.site, p, *args, **kwargs)
        if func in recurrent.KINDS:
            drops = _drops_between_layers(args)
            if drops:
                require_no_proxy(args[0], self.site.name)
            if drops or (func is torch.lstm and torch.compiler.is_compiling()):
                return recurrent.layers(self.site if drops else None, func, args)
        if func is Tensor.bernoulli_ and kwargs.get("generator") is None:
            return self._bernoulli(*args, **kwargs)
        return func(*args, **kwargs)

    def _drawing(self, x: Any) -> None:
        """Before a functional call draws for x."""
        require_no_proxy(x, self.site.name)
        if not torch.compiler.is_compiling():
            forward = checkpointing.running(self.site.clock, self.site.index)
            if forward is not None:
                forward.require_seen_again(self.site.name, AdoptedForward.forward.__code__)

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
        self._drawing(input)
        given = None if self.own else _checked("dropout", p)
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
        p = _checked("scaled_dot_product_attention", dropout_p)
        if not isinstance(p, Tensor) and p == 0.0:
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask, 0.0, is_causal, **other
            )
        self._drawing(query)
        return attending.attend(self.site, p, query, key, value, attn_mask, is_causal, **other)

    def _bernoulli(self, x: Tensor, p: Any = 0.5, **_: Any) -> Tensor:
        """Stochastic depth as timm and torchvision write it: a gate drawn into a fresh tensor."""
        self._drawing(x)
        if isinstance(p, Tensor) and p.dim() == 0 and not torch.compiler.is_compiling():
            p = p.item()
        if isinstance(p, Tensor):
            return x.copy_(self._each(x, p))
        if not x.is_floating_point():
            return x.copy_(self._bernoulli(torch.empty_like(x, dtype=torch.float32), p))
        # Kept elements of a tensor of ones are 1 / p > 0; p is here the probability to keep.
        kept = self.site.draw(torch.ones_like(x), p=1.0 - p)
        return x.copy_(kept > 0)

    def _each(self, x: Tensor, p: Tensor) -> Tensor:
        """Where a gate is open whose elements have a probability each."""
        if is_sharded(x) or is_sharded(p):
            raise NotImplementedError(
                "thinned: bernoulli_ with a tensor of probabilities cannot be drawn for a DTensor. "
                "Pass a number, or keep the gate a plain tensor."
            )
        like = torch.empty_like(x, dtype=torch.float32)
        at, window, _ = self.site.located(tuple(x.shape))
        uniform: Tensor = Draws("bernoulli_", like, 0.5, at, True, window).uniform()
        return uniform < p


def _drops_between_layers(args: tuple[Any, ...]) -> bool:
    """Whether a recurrent network of these arguments drops: p > 0, training, several layers."""
    count, p, training = args[4:7] if isinstance(args[3], bool) else args[5:8]
    return bool(count > 1 and p > 0.0 and training)


def _checked(who: str, p: Any) -> Any:
    """The p of a call. A tensor whose value a compiler cannot know is looked at when it is run."""
    if isinstance(p, Tensor) and torch.compiler.is_compiling():
        return p
    return checks.probability(who, p)


@older.forward_of_a_module
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
        # In one function: Dynamo leaves it to eager code as a whole where its graph breaks within.
        clock = self.clock
        if not torch.compiler.is_compiling():
            with Attempt():
                return self._forward(args, kwargs)
        if clock.live is not None or clock.awake is not None or not self.module.training:
            return self._forward(args, kwargs)
        clock.live = clock.snapshot()
        after = clock.counts  # if this fails
        try:
            result = self._addressed(args, kwargs)
            after = clock.live[HEAD:].clone()
            return result
        finally:
            clock.counts = after
            clock.live = None

    def _forward(self, args: Any, kwargs: Any) -> Any:
        if self.clock.awake is None and not self.module.training:
            return self._run(args, kwargs)
        return self._addressed(args, kwargs)

    def _addressed(self, args: Any, kwargs: Any) -> Any:
        if self.site is None:
            return self._run(args, kwargs)
        if torch.compiler.is_compiling():
            with Calls(self.site, self.own):
                return self._run(args, kwargs)
        seen = partial(Calls, self.site, self.own)
        with seen(), Running(self.clock, self.site.index, seen):
            return self._run(args, kwargs)

    def _run(self, args: Any, kwargs: Any) -> Any:
        if self.before is not None:
            return self.before(*args, **kwargs)
        return type(self.module).forward(self.module, *args, **kwargs)


class EncoderForward(AdoptedForward):
    """The forward of one of torch.nn's transformer encoders, in evaluation with a part awake.

    PyTorch then has a fused form of the whole layer, which asks the layer's own flag and no other:
    dropout that was switched on inside it would draw nothing, in silence. Under any mode that sees
    functions it goes the plain way.
    """

    def _run(self, args: Any, kwargs: Any) -> Any:
        if self.module.training or not any(part.training for part in self.module.modules()):
            return super()._run(args, kwargs)
        with BaseTorchFunctionMode():
            return super()._run(args, kwargs)


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
