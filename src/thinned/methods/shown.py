"""What a row shows of itself: a picture of its mask, and its moments measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.methods.table import Method

__all__ = ["Measured", "in_characters", "measured", "tiles"]

AT = Address(seed=0, site="shown")
_TILES, _SIDE = 6, 40  # so many, and so many elements of each, are shown at most
_FLAT = (8, 40)  # for a method of two axes, whatever their lengths

DROPPED, SHADES = "·", "░▒▓█"


def tiles(row: Method, at: Address = AT) -> list[NDArray[np.float64]] | None:
    """What training leaves of ones: 2-d arrays, one for each index of the leading axes.

    None where the method takes no floating array whose shape it keeps.
    """
    sample = row.sample
    if sample is None or not sample.keeps_shape:
        return None
    x, *rest = sample.inputs()
    if x.dtype.kind != "f" or x.ndim == 0:
        return None
    ones = np.ones(_FLAT if sample.arrays is None and x.ndim == 2 else x.shape)
    y = np.asarray(row.function(ones, *rest, sample.p, at, **sample.options), np.float64)
    y = np.where(y == sample.dropped_as, 0.0, y)
    if y.ndim == 1:
        y = y[None]
    whole = y.reshape(-1, *y.shape[-2:])[:_TILES, :_SIDE, :_SIDE]
    return list(whole)


def in_characters(row: Method) -> str:
    """The tiles side by side: · where dropped, darker for larger. Empty where there are none."""
    found = tiles(row)
    if not found:
        return ""
    top = max(float(np.abs(tile).max()) for tile in found) or 1.0

    def character(value: float) -> str:
        if value == 0:
            return DROPPED
        return SHADES[min(int(abs(value) / top * len(SHADES)), len(SHADES) - 1)]

    lines = ["".join(map(character, line)) for line in found[0]]
    for tile in found[1:]:
        lines = [a + "  " + "".join(map(character, b)) for a, b in zip(lines, tile, strict=True)]
    return "\n".join(lines)


class Measured(NamedTuple):
    """Mean and variance of one output, averaged over its elements: measured, and by the formula."""

    p: float
    draws: int
    mean: float
    mean_formula: float
    variance: float
    variance_formula: float


def measured(row: Method, draws: int | None = None) -> Measured | None:
    """The row's moments on its sample, over so many addresses; None where it has no formula."""
    sample = row.sample
    if sample is None or row.moments is None:
        return None
    arrays: tuple[Any, ...] = sample.inputs()
    n = draws or sample.draws
    y = np.stack(
        [
            np.asarray(
                row.function(*arrays, sample.p, Address(seed, "shown"), **sample.options),
                np.float64,
            )
            for seed in range(n)
        ]
    )
    mean, variance = row.moments.of(*arrays, p=sample.p, **sample.options)
    mean, variance = (np.broadcast_to(m, y.shape[1:]) for m in (mean, variance))
    # Signs would cancel in an average over elements: each is taken in the direction of its mean.
    sign = np.where(mean < 0, -1.0, 1.0)
    return Measured(
        sample.p,
        n,
        float((y.mean(0) * sign).mean()),
        float((mean * sign).mean()),
        float(y.var(0, ddof=1).mean()),
        float(variance.mean()),
    )
