"""Members of a model of sequences: their masks are the same for all rows and for all tokens.

A text that a network writes token by token comes in forwards of other shapes than that text as a
whole: with a cache, of one token each. So of the array that a site draws for, no axis may enter the
mask whose length depends on how many rows or tokens there are. What is left are units, channels,
heads: the network that drops them is one for any text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor

from thinned.torch.clock.members import Awake, DrawingSite, Key
from thinned.torch.dropin import kinds
from thinned.window import Repeated

__all__ = ["SequencesAwake"]


class Lies(NamedTuple):
    """Where rows and tokens lie in the array of a site's call, of `axes` axes.

    shared : the axes that hold rows or tokens. split : of axes that hold as many entries of each
    row, whatever the text, that number. asleep : whether tokens lie along several axes.
    """

    axes: int
    shared: tuple[int, ...]
    split: dict[int, int]
    asleep: bool


class SequencesAwake(Awake):
    """What takes the place of a clock: its draws are shared over rows and tokens.

    Attributes
    ----------
    lies : where rows and tokens lie, by site and call; None as long as that is not observed.
    slept : the sites that were called for pairs of tokens in this forward, and drew nothing.
    """

    # The number of rows, and whether it differs from the text's length.
    looks = ((2, False), (3, False), (2, True))
    over_tokens = True

    def __init__(self) -> None:
        super().__init__("sequence", -1)
        self.lies: dict[Key, Lies] | None = None
        self.slept: set[str] = set()
        self._depth = 0

    def another(self) -> SequencesAwake:
        """For another network of the same model, with what was observed of it."""
        new = SequencesAwake()
        new.lies = self.lies
        return new

    def begin(self, seed: int, mirrored: bool, first: int, rows: int) -> None:
        super().begin(seed, mirrored, first, rows)
        self.slept = set()

    def forget(self) -> None:
        super().forget()
        self.lies = None

    def observed(self, *looks: dict[Key, Any]) -> None:
        (n, _), (m, _), _ = self.looks
        self.lies = {} if self.lies is None else self.lies
        for key in set.intersection(*map(set, looks)):
            few, more, other = (look[key][0] for look in looks)
            found = _lies(few, more, other, n, m)
            if found is not None:
                self.lies[key] = found

    def untold(self, few: dict[Key, Any]) -> set[str]:
        assert self.lies is not None
        return {key[0] for key in few if key not in self.lies}

    def is_folded(self, key: Key) -> bool:
        return self.lies is not None and key in self.lies and bool(self.lies[key].split)

    @contextmanager
    def forward(self) -> Iterator[None]:
        """A forward of an adopted module. In the outermost one calls count from 0."""
        if self.lies is not None and self._depth == 0:
            self.begin(self.seed, self.mirrored, 0, 0)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    # ---------------------------------------------------------------------------------- the draws

    def sleeps(self, site: DrawingSite, shape: tuple[int, ...], p: float | None) -> bool:
        if self.lies is None or not self._lie(site, shape).asleep:
            return False
        self._address(site)
        if site.p if p is None else p:
            self.slept.add(site.name)
        return True

    def draw(
        self,
        site: DrawingSite,
        x: Tensor,
        kind: str,
        inplace: bool,
        p: float | None,
        axis: int,
        shared: tuple[int, ...],
    ) -> Tensor:
        if self.lies is None:
            return super().draw(site, x, kind, inplace, p, axis, shared)
        shape = tuple(x.shape)
        if self.sleeps(site, shape, p):
            return x
        lies = self._lie(site, shape)
        at = self._address(site)
        self.seen[site.name, at.call] = shape, axis
        p = site.p if p is None else p
        assert p is not None
        lengths, own = list[int](), list[int]()
        for i, n in enumerate(shape):
            if i in lies.split:  # rows, and the entries of each, which are the same for all rows
                own += [len(lengths)] + ([len(lengths) + 1] if i in shared else [])
                lengths += [-1, lies.split[i]]
            else:
                own += [len(lengths)] if i in shared or i in lies.shared else []
                lengths.append(n)
        y = kinds.forward(x.reshape(lengths), p, kind, at, tuple(own), None).reshape(shape)
        return x.copy_(y) if inplace else y

    def place(self, site: DrawingSite, shape: tuple[int, ...], axis: int, shard: Any = None) -> Any:
        if self.lies is None:
            return super().place(site, shape, axis, shard)
        lies = self._lie(site, shape)
        if lies.asleep or lies.split:
            raise RuntimeError(
                f"thinned: site {site.name!r} draws for an array of shape {shape} by itself, whose "
                "draws rows and tokens cannot share. Ask with share='member' or 'row' (predict), "
                "or leave its dropout out."
            )
        at = self._address(site)
        self.seen[site.name, at.call] = shape, axis
        start, whole = ((0,) * len(shape), None) if shard is None else (shard.start, shard.shape)
        return at, Repeated(start, whole, lies.shared)

    def entries_of(self, site: DrawingSite, shape: tuple[int, ...], axis: int) -> int:
        return 1

    def _lie(self, site: DrawingSite, shape: tuple[int, ...]) -> Lies:
        """Where rows and tokens lie in the array of the site's next call."""
        assert self.lies is not None
        call = self.next_call(site)
        found = self.lies.get((site.name, call))
        fits = found is not None and found.axes == len(shape)
        if found is None or not fits or any(shape[i] % n for i, n in found.split.items()):
            raise RuntimeError(
                f"thinned: call {call} of site {site.name!r} draws for an array of shape {shape}, "
                "and in the forwards that showed where rows and tokens lie it did not. Ask with "
                "arguments of the kind that the model is called with."
            )
        return found


def _lies(
    few: tuple[int, ...], more: tuple[int, ...], other: tuple[int, ...], n: int, m: int
) -> Lies | None:
    """From the shapes for n and m rows, and for another text of n rows; None where the number of
    axes is not the same, or one depends on that of rows and does not hold as many entries of each.
    """
    if not len(few) == len(more) == len(other):
        return None
    shared, split, of_tokens = list[int](), dict[int, int](), 0
    for i, (a, b, c) in enumerate(zip(few, more, other, strict=True)):
        of_tokens += a != c
        if a == b and a == c:
            continue
        if a != b and (a % n or a * m != b * n):
            return None
        if a == c and a > n:
            split[i] = a // n
        else:
            shared.append(i)
    return Lies(len(few), tuple(shared), split, of_tokens > 1)
