"""A p that is tried: one probability for every layer, or one for each."""

from __future__ import annotations

import re
from typing import Any

from thinned.errors import InputError, short

__all__ = [
    "Rate",
    "along",
    "as_rate",
    "each_layer",
    "in_order",
    "mean_of",
    "per_layer",
    "read_p",
    "spelled",
]

# One p for the input and all hidden layers, or one for each of them.
Rate = float | tuple[float, ...]

_BETWEEN = re.compile(r"\s*[x\N{MULTIPLICATION SIGN}]\s*")


def spelled(p: Rate) -> str:
    """A rate as it is typed: 0.3, or 0.1x0.3x0.5, without the input's where nothing is dropped
    there."""
    if isinstance(p, float | int):
        return f"{p:g}"
    return "x".join(f"{one:g}" for one in (p[1:] if len(p) > 2 and not p[0] else p))


def as_rate(said: Any) -> Rate:
    """The rate that a file holds as a number or a list of them."""
    return tuple(said) if isinstance(said, list | tuple) else float(said)


def each_layer(p: Rate, layers: int) -> tuple[float, ...]:
    """The p of each layer."""
    return tuple(p) if isinstance(p, tuple | list) else (float(p),) * layers


def mean_of(p: Rate) -> float:
    """The mean over layers, by which rates are put in order."""
    return sum(p) / len(p) if isinstance(p, tuple | list) else float(p)


def along(ps: list[Rate]) -> list[float]:
    """Where rates stand on an axis: by their size, or one after the other where some are of single
    layers."""
    if any(isinstance(p, tuple) for p in ps):
        return [float(i) for i in range(len(ps))]
    return [mean_of(p) for p in ps]


def in_order(found: set[Rate]) -> tuple[Rate, ...]:
    """Rates from none to the most."""
    return tuple(sorted(found, key=lambda p: (mean_of(p), isinstance(p, tuple), p)))


def per_layer(rates: tuple[float, ...], hidden: int | None) -> Rate | None:
    """The rate that these are in a network of this many hidden layers: one for each of them, or one
    for the input before them. None where there are too few or too many.

    hidden : None in a network of another kind, whose places of dropout have one each.
    """
    if hidden is not None and len(rates) == hidden > 1:
        rates = (0.0, *rates)
    elif hidden is not None and len(rates) != hidden + 1:
        return None
    return rates[0] if len(set(rates)) == 1 else rates


def read_p(text: str, hidden: int | None = 2) -> tuple[Rate, ...]:
    """The rates of "0,0.1,0.3x0.5": from the least to the greatest, once each, with 0 among them.

    hidden : how many hidden layers the network has.

    Raises
    ------
    InputError.
    """
    found: set[Rate] = {0.0}
    for part in text.split(","):
        rates = tuple(_number(one, part) for one in _BETWEEN.split(part))
        if len(rates) == 1:
            found.add(rates[0])
            continue
        rate = per_layer(rates, hidden)
        if rate is None:
            raise InputError(
                f"--p: {short(part.strip())} has {len(rates)} rates; with --hidden of {hidden} "
                "layers "
                f"write {f'{hidden}, one after each hidden layer, or ' if hidden != 1 else ''}"
                f"{(hidden or 0) + 1}, the first for the input."
            )
        found.add(rate)
    if len(found) < 2:
        raise InputError("--p: at least one p above 0 is needed, to compare with none.")
    return in_order(found)


def _number(text: str, part: str) -> float:
    try:
        p = float(text)
    except ValueError:
        raise InputError(
            f"--p: {short(text.strip()) or 'an empty place'} is no number; write 0,0.1,0.5."
        ) from None
    if not 0 <= p < 1:
        hint = " Did you pass a percentage?" if 1 < p <= 100 else ""
        raise InputError(f"--p: every p must be in [0, 1), got {short(part.strip())}.{hint}")
    return p + 0.0  # a negative zero becomes 0
