"""What a network computes before its first dropout: the same for every member, so done once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thinned.backends.torch.internals import pytree
from thinned.torch.compat.covers import Cover, cover_behind
from thinned.torch.thinning.layers import ThinLayer

__all__ = ["Prefix"]

Key = tuple[int, int]  # a module's number, and the number of its call within a forward


@dataclass
class _Kept:
    """What a call of a module gave, and how often modules were called inside of it."""

    leaves: list[Any]
    tree: Any
    versions: list[int]
    inside: dict[int, int]
    copied: bool

    def given(self) -> Any:
        leaves = [v.clone() if self.copied and isinstance(v, Tensor) else v for v in self.leaves]
        return pytree.tree_unflatten(leaves, self.tree)

    def whole(self) -> bool:
        """Whether it has not been written into since."""
        return self.copied or self.versions == _versions(self.leaves)


class Prefix:
    """The results of all module calls that end before a forward's first draw.

    Kept during the forward of one member on a batch, and given in those of the others: no module is
    asked again for what cannot differ. Calls are seen, and not a graph of the code, so that any
    Python in between may do what it wants. What is written into afterwards, in place, is noticed by
    its version and handed out as a copy from then on.

    drawn : says whether something was drawn in this forward.
    """

    def __init__(self, model: nn.Module, drawn: Callable[[], bool]) -> None:
        scripted = torch.jit.ScriptModule
        self._modules = [m for m in model.modules() if m is not model]
        self._modules = [m for m in self._modules if not isinstance(m, scripted)]
        self._names = {id(m): name for name, m in model.named_modules()}
        self.drawn = drawn
        self._kept: dict[Key, _Kept] = {}
        self._counts: dict[int, int] = {}
        self._copied: set[Key] = set()
        self._recording = False
        self.used: set[str] = set()

    @contextmanager
    def installed(self) -> Iterator[Prefix]:
        """The modules' forwards go by way of this object."""
        covers = [_Seen(module, self, n) for n, module in enumerate(self._modules)]
        for cover in covers:
            cover.lay()
        try:
            yield self
        finally:
            for cover in covers:
                cover.lift()

    def batch(self) -> None:
        """Another batch begins: nothing is known of it."""
        self._kept, self._recording = {}, True

    def begin(self) -> None:
        """A forward begins."""
        self._counts = {}

    def end(self) -> None:
        """A forward has ended: what was written into is not what it was."""
        spoilt = [key for key, kept in self._kept.items() if not kept.whole()]
        self._copied.update(spoilt)
        for key in spoilt:
            del self._kept[key]
        self._recording = bool(spoilt)

    def call(self, number: int, run: Callable[[Any, Any], Any], args: Any, kwargs: Any) -> Any:
        """What a module's call gives, by running it or as it is known already."""
        call = self._counts.get(number, 0)
        self._counts[number] = call + 1
        if self.drawn():
            return run(args, kwargs)
        key = number, call
        kept = self._kept.get(key)
        if kept is not None:
            for inner, times in kept.inside.items():
                self._counts[inner] = self._counts.get(inner, 0) + times
            self.used.add(self._names[id(self._modules[number])])
            return kept.given()
        if not self._recording:
            return run(args, kwargs)
        earlier, counts = set(self._kept), dict(self._counts)
        y = run(args, kwargs)
        if not self.drawn():
            self._keep(key, y, earlier, counts)
        return y

    def _keep(self, key: Key, y: Any, earlier: set[Key], counts: dict[int, int]) -> None:
        leaves, tree = pytree.tree_flatten(y)
        if not all(_plain(leaf) for leaf in leaves):
            return
        # The outer call stands for those inside of it.
        for inner in set(self._kept) - earlier:
            del self._kept[inner]
        inside = {n: c - counts.get(n, 0) for n, c in self._counts.items() if c != counts.get(n, 0)}
        copied = key in self._copied
        if copied:
            leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._kept[key] = _Kept(leaves, tree, _versions(leaves), inside, copied)


class _Seen(Cover):
    """A module's forward, which goes by way of the results that are kept."""

    signed = Cover.forward  # which costs nothing: it is laid for each question

    def __init__(self, module: nn.Module, prefix: Prefix, number: int) -> None:
        super().__init__(module)
        self.prefix, self.number = prefix, number
        top = cover_behind(module.__dict__.get("forward"))
        self.thin: ThinLayer | None = None
        if isinstance(top, ThinLayer) and top.takes is None and top.gives is not None:
            self.thin = top

    def covered(self, args: Any, kwargs: Any) -> Any:
        thin, prefix = self.thin, self.prefix
        if thin is None or prefix.drawn():
            return prefix.call(self.number, self.run, args, kwargs)
        # A layer whose dropped units are not computed: before the first draw all of them are, once
        # for all members, and each member takes its own.
        y = prefix.call(self.number, partial(Cover.run, thin), args, kwargs)
        region: Any = thin.gives
        kept = region.begin(y)
        return y if kept is None else _taken(y, kept, region.axis)


def _taken(y: Tensor, kept: Tensor, axis: int) -> Tensor:
    """The kept units, which lie on this axis, counted from the end."""
    # Of a matrix index_select takes columns 30 times slower on a CPU.
    if y.dim() == 2 and axis == -1:
        return y.gather(1, kept.expand(len(y), -1))
    return y.index_select(axis, kept)


def _plain(leaf: Any) -> bool:
    if isinstance(leaf, Tensor):
        # The former does not count what is written into it. The latter belongs to a graph of one
        # forward, which the code itself differentiates: forces of an energy.
        return not (leaf.is_inference() or leaf.requires_grad)
    return leaf is None or isinstance(leaf, (bool, int, float, str))


def _versions(leaves: list[Any]) -> list[int]:
    return [leaf._version for leaf in leaves if isinstance(leaf, Tensor)]
