"""Modules that draw: at a fresh seed for each call, or, in an adopted model, at their site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thinned import checks
from thinned.address import Address, address_of_seed
from thinned.backends.torch import wire
from thinned.backends.torch.address import GraphAddress
from thinned.backends.torch.internals import is_batched
from thinned.backends.torch.spec import Coordinates
from thinned.backends.torch.values import has_values, recorded
from thinned.torch.adoption.site import Site, p_of, set_p
from thinned.torch.compat.dtensor import is_sharded, on_shards
from thinned.torch.compat.fx_leaf import Leaf
from thinned.torch.compat.shard import Shard
from thinned.torch.dropin.seeds import _halves, seed_for
from thinned.window import Window

__all__ = ["Sited", "fresh_address", "put"]


def put(module: nn.Module, name: str, value: Any) -> None:
    """Set a property of a module that is being made. A module or a Parameter is refused by the
    property's own check; torch.nn.Module would register it and never ask the property."""
    object.__setattr__(module, name, value)


class Sited(Leaf, nn.Module):
    """A module whose draws have an address: what `adopt` can reach without changing its class.

    Alone, it draws a fresh 64-bit seed for each call from PyTorch's default generator. A subclass
    calls `located` once for each call of its own.

    Attributes
    ----------
    p : float in [0, 1]. May be set; a compiled adopted model does not compile again for it. A
        module that learns its noise gives None to Sited and says so by `own_p`.
    site : Site or None. Put there by `adopt`.
    several : bool. Whether `own_p` None means that the module has several rates that no schedule
        moves, instead of learned noise.
    """

    site: Site | None = None
    several = False

    def __init__(self, p: float | None = 0.5) -> None:
        super().__init__()
        if p is not None:
            put(self, "p", p)

    @property
    def p(self) -> float:
        return p_of(self, "_p")

    @p.setter
    def p(self, p: float) -> None:
        set_p(self, "_p", checks.probability(type(self).__name__, p))

    @property
    def quiet_p(self) -> Any:
        """p for an evaluation, which may need it though nothing is drawn. In a compiled program a
        schedule moves it, and it is a 0-d tensor there."""
        site = self.site
        if site is None or site.rule is None or not torch.compiler.is_compiling():
            return self.own_p
        return site.p_in_graph()

    @property
    def own_p(self) -> float | None:
        """The p that a site keeps for the module: its p, or None: see `several`."""
        return self.p

    @property
    def batch_axis(self) -> int:
        """The axis of the first array along which the rows of the batch lie; NO_ROWS where the
        array is a weight, whose draws belong to the whole batch."""
        return 0

    def located(self, x: Tensor, shard: Shard | None = None) -> tuple[Any, Window | None, Any]:
        """Address, window and p for the draws of this call on x; p a 0-d tensor in a graph."""
        if self.site is not None:
            return self.site.located(tuple(x.shape), self.batch_axis, shard)
        window = None if shard is None else Window(shard.start, shard.shape)
        return fresh_address(type(self).__name__, x), window, self.own_p

    def on_shard(self, x: Tensor, draw: Callable[[Tensor, Any, Any, Any], Tensor]) -> Tensor:
        """`draw(x, at, window, p)`, on the shard at hand where x is a DTensor."""
        if not is_sharded(x):
            return draw(x, *self.located(x))

        def local(part: Tensor, shard: Shard) -> Tensor:
            return draw(part, *self.located(part, shard))

        return on_shards(x, local)


def fresh_address(who: str, x: Tensor) -> Any:
    """An address of 64 fresh bits from PyTorch's default generator, for draws on x."""
    seed = seed_for(x)
    if not isinstance(seed, Tensor):
        return address_of_seed(seed)
    if recorded():
        words = wire.pack_address(Coordinates(*_halves(seed), 0, 0, 0))
        return GraphAddress(words, wire.pack(()))
    if is_batched(seed):
        raise RuntimeError(
            f"{who}: torch.func.vmap with randomness='different' cannot give each entry a mask "
            "of its own here. Call the function of the method with at=at.fold_in(i) for each, "
            "or use randomness='same'."
        )
    return Address(int(seed.item()) & 0xFFFFFFFFFFFFFFFF if has_values(x) else 0)
