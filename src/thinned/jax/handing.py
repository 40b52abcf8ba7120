"""What a thin layer drew, on its way to the dropout and to the layer behind it.

It is handed over while the model's code runs, within one program: no layer of a model's own tree
needs to know another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from thinned.address import Address
from thinned.backends.jax.internals import outermost_program
from thinned.jax.thinning import Kept, bernoulli_units, exact_units

__all__ = [
    "Region",
    "address_in_scope",
    "give",
    "in_scope",
    "is_in_scope",
    "pending",
    "require_untold",
    "take",
]


@dataclass(frozen=True)
class Region:
    """A layer of so many units, the dropout of these, and the layer that takes them.

    site : of the dropout. exact : whether exactly k of n are kept, or each with probability 1 - p.
    """

    producer: str
    site: str
    consumer: str
    units: int
    p: float
    exact: bool

    def draw(self, at: Address) -> Kept:
        draw = exact_units if self.exact else bernoulli_units
        return draw(f"thin site {self.site!r}", self.units, self.p, at)

    def __str__(self) -> str:
        return f"from {self.producer!r} to {self.consumer!r}"


class _Store(threading.local):
    """drawn : by the region, what was drawn and in which program. depth : of the thin models whose
    code is running. at : where the innermost of them draws, if it was told."""

    def __init__(self) -> None:
        self.drawn: dict[Region, tuple[Any, Kept]] = {}
        self.depth = 0
        self.at: Address | None = None


_store = _Store()


@contextmanager
def in_scope(at: Address | None = None) -> Iterator[None]:
    """While a thin model's own code runs, drawing at this address, if its layers have no clocks.
    Elsewhere they compute all of their units: what calls them there may do anything with these.

    Raises
    ------
    RuntimeError where a region began and did not end.
    """
    before, _store.drawn = _store.drawn, {}
    outer, _store.at = _store.at, at
    _store.depth += 1
    try:
        yield
        if _store.drawn:
            region = next(iter(_store.drawn))
            raise RuntimeError(
                f"thinned: the thin region {region} began and did not end: the model's code went "
                f"another way than when it was looked at. {REMEDY}"
            )
    finally:
        _store.depth -= 1
        _store.drawn, _store.at = before, outer


REMEDY = "Thin it with an input like this one, or with execution='elementwise'."


def is_in_scope() -> bool:
    return _store.depth > 0


def address_in_scope(site: int | str) -> Address | None:
    """Where a site of the running thin model draws; None where it was not told."""
    return None if _store.at is None else _store.at.replace(site=site)


def give(region: Region, kept: Kept) -> None:
    _store.drawn[region] = outermost_program(), kept


def pending(region: Region) -> Kept | None:
    """What the region's layer drew; None if it did not."""
    found = _store.drawn.get(region)
    if found is None:
        return None
    program, kept = found
    if program is not outermost_program():
        raise RuntimeError(
            f"thinned: a checkpoint or another transformation begins or ends inside the thin "
            f"region {region}. Apply it to the region as a whole. {REMEDY}"
        )
    return kept


def require_untold(region: Region, how: dict[str, Any]) -> None:
    """RuntimeError where a call of a region's dropout says how to draw: its layer has drawn."""
    told = [name for name, value in how.items() if value is not None]
    if told:
        raise RuntimeError(
            f"thinned: the dropout of the thin region {region} was called with {told[0]}=, which "
            "came too late: the layer before it has drawn. Switch the whole model, by model.train()"
            " and model.eval() or eqx.nn.inference_mode, or leave it as adopt does."
        )


def take(region: Region) -> Kept | None:
    """The same, at the region's end."""
    kept = pending(region)
    _store.drawn.pop(region, None)
    return kept
