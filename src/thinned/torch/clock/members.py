"""Members of an adopted model: whose draws its sites make while thinned networks predict.

Number k of the networks that share a model's weights draws at Address(fold_in(seed, k), site,
step 0, call), the call being that of the site within one forward. The clock stands still meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Protocol

from torch import Tensor

from thinned.address import Address, Mirrored
from thinned.torch.clock.ranks import ALONE, Ranks
from thinned.torch.clock.reading import Moment, require_call
from thinned.torch.clock.rows import NO_ROWS, window_of
from thinned.torch.compat.shard import Shard
from thinned.torch.dropin import kinds
from thinned.window import Repeated, Window

__all__ = ["Awake", "DrawingSite", "Key"]

Key = tuple[str, int]  # a site and the number of its call within a forward


class DrawingSite(Protocol):
    """What members ask of a site."""

    name: str

    @property
    def p(self) -> float | None: ...


class Awake:
    """What takes the place of a clock while members predict.

    share : "member": all rows take the same draws. "row": each row its own, by its number.
    pool : the rows of all batches together, -1 where that is not known.

    Attributes
    ----------
    seen : of each call of a site in this forward the shape it drew for and the axis of its rows.
    entries : what an array's axis of rows holds of each row; 0 where it holds no rows. Found out
        by `observed`; while it is None, sites draw for whatever they are given as it is.
    axes : where rows lie along another axis than the site says, that axis.
    quiet : functional sites that were told p = 0, and by which function.
    told_p : of functional sites the p above 0 that they were told.
    ever : the sites that drew since it was forgotten what draws, in any forward.
    decided, decides : while it is looked who draws, what the numbers are by which code goes one way
        or another for the whole batch, and whether there were any; None to draw them.
    slept : sites that were called in this forward and, by what members are, drew nothing.
    """

    # For each forward that shows where rows lie: the number of rows, and whether it differs from
    # the number of tokens of each.
    looks: ClassVar[Sequence[tuple[int, bool]]] = ((2, False), (3, False))
    # Whether tokens share their draws as well as rows.
    over_tokens = False
    slept: Set[str] = frozenset()

    def __init__(self, share: str, pool: int) -> None:
        self.share, self.pool = share, pool
        self.seed, self.mirrored, self.first, self.rows = 0, False, 0, 0
        self.seen: dict[Key, tuple[tuple[int, ...], int]] = {}
        self.entries: dict[Key, int] | None = None
        self.axes: dict[Key, int] = {}
        self.quiet: dict[str, str] = {}
        self.told_p: dict[str, set[float]] = {}
        self.ever: set[str] = set()
        self.decided: float | None = None
        self.decides = False
        self._counts: dict[str, int] = {}

    def begin(self, seed: int, mirrored: bool, first: int, rows: int) -> None:
        """The next forward is that of this member on rows first, first + 1, ... of the pool."""
        self.seed, self.mirrored, self.first, self.rows = seed, mirrored, first, rows
        self.seen, self._counts = {}, {}

    def forget(self) -> None:
        """What was observed so far is not so: other draws are awake now."""
        self.entries, self.axes, self.quiet, self.told_p = None, {}, {}, {}
        self.ever, self.decides = set(), False

    def observed(self, *looks: dict[Key, Any]) -> None:
        """Where rows lie, from what each of the forwards that `looks` asks for has seen."""
        (n, _), (m, _) = self.looks
        first, second = looks
        self.entries = {} if self.entries is None else self.entries
        for key in first.keys() & second.keys():
            (shape, axis), (other, _) = first[key], second[key]
            if not 0 <= axis < len(shape) or len(shape) != len(other):
                continue
            grown = [i for i, (a, b) in enumerate(zip(shape, other, strict=True)) if a != b]
            rowed = [i for i in grown if shape[i] * m == other[i] * n and shape[i] % n == 0]
            if axis not in grown and len(rowed) == 1:
                (self.axes[key],) = rowed  # code that turns its arrays: (tokens, rows, units)
            if axis in rowed or key in self.axes:
                self.entries[key] = shape[self.axes.get(key, axis)] // n
            elif axis not in grown:
                self.entries[key] = 0

    def untold(self, few: dict[Key, Any]) -> set[str]:
        """Sites of which `observed` could not tell where rows lie. few : what one forward saw."""
        assert self.entries is not None
        some = {key: 0 <= axis < len(shape) for key, (shape, axis) in few.items()}
        return {key[0] for key, has_rows in some.items() if has_rows and key not in self.entries}

    def is_folded(self, key: Key) -> bool:
        """Whether the array of a site's call holds several entries of each row along one axis."""
        return self.entries is not None and self.entries.get(key, 1) > 1

    def told(self, site: DrawingSite, what: str, p: Any) -> None:
        """A function was given this p: where 0, it may be more in training."""
        if not p:
            self.quiet.setdefault(site.name, what)
        else:
            self.told_p.setdefault(site.name, set()).add(float(p))

    def forward(self) -> AbstractContextManager[None]:
        """Entered for each forward of an adopted module."""
        return nullcontext()

    # ---------------------------------------------------------------------------------- the draws

    def sleeps(self, site: DrawingSite, shape: tuple[int, ...], p: float | None) -> bool:
        """Whether a member draws nothing for this array at the site's next call, which is then
        counted. p : as in `draw`."""
        return False

    def entries_of(self, site: DrawingSite, shape: tuple[int, ...], axis: int) -> int:
        """How many entries of each row lie one after the other on axis 0 of the array of the site's
        next call, where rows share their draws; 1 where each row has its own."""
        shared = self.share == "member" and self._axis(site, axis) == 0
        return self._entries(site, shape, 0) if shared else 1

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
        """x as dropout of this kind leaves it at the site's next call."""
        p = site.p if p is None else p
        assert p is not None
        axis = self._axis(site, axis)
        entries = self._entries(site, tuple(x.shape), axis)
        shape = x.shape
        if self.share == "member" and axis >= 0 and entries > 1:
            # Several entries to a row, one after the other: rows and entries get an axis each.
            wide, entries = x.unflatten(axis, (self.rows, entries)), 1
            own = (axis,) if axis in shared else ()
            shared = tuple(i + (i >= axis) for i in shared) + own
        else:
            wide = x
        at, window = self._placed(site, tuple(wide.shape), axis, entries, None)
        y = kinds.forward(wide, p, kind, at, shared, window).reshape(shape)
        # Written by PyTorch, which counts what is written: the prefix asks for it.
        return x.copy_(y) if inplace else y

    def place(self, site: DrawingSite, shape: tuple[int, ...], axis: int, shard: Any = None) -> Any:
        """Address and window of the site's next call."""
        axis = self._axis(site, axis)
        entries = self._entries(site, shape if shard is None else shard.shape, axis)
        return self._placed(site, shape, axis, entries, shard)

    def place_by_rows(self, site: DrawingSite, shape: tuple[int, ...]) -> Any:
        """Address and window of the site's next call, of an array (rows, entries of each, ...)."""
        return self._placed(site, shape, 0, 1, None)

    def _placed(
        self, site: DrawingSite, shape: tuple[int, ...], axis: int, entries: int, shard: Any
    ) -> Any:
        at = self._address(site)
        self.seen[site.name, at.call] = shape, axis
        if self.entries is None or axis == NO_ROWS or entries == 0:
            return at, None if shard is None else Window(shard.start, shard.shape)
        return at, self._window(site, shape, axis, entries, shard)

    def next_call(self, site: DrawingSite) -> int:
        return self._counts.get(site.name, 0)

    def _address(self, site: DrawingSite) -> Address:
        """That of the site's next call, which is counted."""
        call = self.next_call(site)
        self.ever.add(site.name)
        require_call(call, site.name)
        self._counts[site.name] = call + 1
        kind: type[Address] = Mirrored if self.mirrored else Address
        return kind(self.seed, site.name, 0, call)

    def _axis(self, site: DrawingSite, axis: int) -> int:
        """Along which axis the rows lie in the array of the site's next call."""
        if not self.axes:
            return axis
        return self.axes.get((site.name, self.next_call(site)), axis)

    def _entries(self, site: DrawingSite, shape: tuple[int, ...], axis: int) -> int:
        """What the array of the site's next call holds of each row along its axis of rows."""
        if self.entries is None or not 0 <= axis < len(shape):
            return 1
        known = self.entries.get((site.name, self.next_call(site)))
        if known == 0:
            return 0
        entries, rest = divmod(shape[axis], self.rows)
        if rest or (known is not None and known != entries):
            raise RuntimeError(
                f"thinned: site {site.name!r} draws for an array of shape {shape}, whose axis "
                f"{axis} does not hold the batch's {self.rows} rows, or as many entries of each as "
                "in other batches: which draws are a row's cannot be said. Pass batch_size=1, "
                "by which all are those of one row."
            )
        return entries

    def _window(
        self,
        site: DrawingSite,
        shape: tuple[int, ...],
        axis: int,
        entries: int,
        shard: Shard | None,
    ) -> Window | None:
        moment = Moment(self.seed, 0, 0, 0, self.first, self.rows, self.pool, _ALONE)
        if self.share == "row" and axis > 0 and self.pool < 0:
            raise RuntimeError(
                f"thinned: the rows of site {site.name!r} lie on axis {axis}, where the number of "
                "all rows enters a row's masks, and this DataLoader does not tell it. Pass rows as "
                "tensors, or share='member'."
            )
        if self.share == "row" or not 0 <= axis < len(shape):  # the latter raises the error
            return window_of(site.name, moment, shape, axis, shard)
        if entries > 1 and shape[axis] != self.rows:
            raise RuntimeError(
                f"thinned: site {site.name!r} draws for an array of shape {shape} with {entries} "
                "entries of each row along one axis, whose draws rows cannot share here. Pass "
                "share='row'."
            )
        if shard is None:
            return Repeated((0,) * len(shape), None, (axis,))
        return Repeated(shard.start, shard.shape, (axis,))


# Every process uses its own pool, and asks nothing of the others.
_ALONE = Ranks(ALONE, 0, 1, 1)
