"""Members of a model: where its layers draw while thinned networks predict.

Network k draws at Address(fold_in(seed, k), site, step 0, call). Its layers are awake in evaluation
too: what is set here is read by the layers of NNX, Linen and Equinox while a program is traced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinned.address import Address, Mirrored
from thinned.backends.jax.address import Halves, at_one_of
from thinned.backends.jax.backend import PartOf
from thinned.jax.lanes import number_in_vmap

__all__ = ["Awake", "Row", "awake", "awake_row", "being_asked", "in_lane", "mirrored"]


class Row(NamedTuple):
    """A sample that is run by itself, and stands for a row of a batch: its number, which may be
    traced, and how many rows there are."""

    number: Any
    rows: int

    def window(self, shape: tuple[int, ...]) -> PartOf:
        """Where an array (1, ...) of this sample lies in that of the batch."""
        start = (jnp.asarray(self.number, jnp.uint32), *(0,) * (len(shape) - 1))
        return PartOf(start, (self.rows, *shape[1:]))


class Awake(NamedTuple):
    """at : the member's address, whose site is not looked at. counts : the calls of each site.
    row : what is run, where each row has draws of its own and is run by itself; else None. step :
    at which sites that follow a schedule have their p.
    """

    at: Address
    counts: dict[Any, int]
    row: Row | None = None
    step: Any = 0

    def address(self, site: Any) -> Address:
        """That of the site's next call, which is counted."""
        call = self.counts.get(site, 0)
        self.counts[site] = call + 1
        return self.at.replace(site=site, call=call)


_awake: ContextVar[Awake | None] = ContextVar("awake", default=None)


def awake() -> Awake | None:
    """The member that is being asked; None while none is."""
    return _awake.get()


def awake_row() -> Row | None:
    """The row that is being asked by itself; None while none is."""
    asked = _awake.get()
    return None if asked is None else asked.row


@contextmanager
def being_asked(at: Address, row: Row | None = None, step: Any = 0) -> Iterator[Awake]:
    """All layers called within are those of this member."""
    before = _awake.set(Awake(at, {}, row, step))
    try:
        yield _awake.get()  # type: ignore[misc]
    finally:
        _awake.reset(before)


def mirrored(at: Address) -> Address:
    """The same address, at which draws are mirrors; its coordinates may be traced."""
    made = object.__new__(Mirrored)
    for name in ("seed", "site", "step", "call", "_name", "known"):
        object.__setattr__(made, name, getattr(at, name))
    return made


def in_lane(at: Address, key: Any) -> Address:
    """The address with the number folded in of the lane of a vmap over keys, where there is one:
    code that splits its key, one for each token say, has draws of their own in mind."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    number = number_in_vmap([jax.random.key_data(key) if typed else key])
    lane: Any = Halves(number - 1, jnp.zeros_like(number))
    return at_one_of(number == 0, at, at.fold_in(lane))
