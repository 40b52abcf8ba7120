"""What a row shows of itself: a picture of its mask, and its moments measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.methods.table import Method

__all__ = ["Measured", "caption", "in_characters", "measured", "place", "tiles", "without_picture"]

_TILES, _SIDE = 6, 40  # the most that are shown, and the most elements of each
_FLAT = (8, 40)  # for a method of two axes, whatever their lengths
_P = 0.3  # where the mask of a row without a sample is shown

DROPPED, SHADES = "·", "░▒▓█"


def place(row: Method) -> Address:
    """Where the row's picture is drawn: at a site of its name, so that no two show one mask."""
    return Address(seed=0, site=row.name)


def tiles(row: Method, at: Address | None = None) -> list[NDArray[np.float64]] | None:
    """What training leaves of ones: 2-d arrays, one for each index of the leading axes, 0 exactly
    where an element was dropped. None for a method that drops no elements of an array.
    """
    sample = row.sample
    at = place(row) if at is None else at
    if row.picture is not None:
        y = np.asarray(row.picture(_P if sample is None else sample.p, at), np.float64)
        return _cut(y)
    if sample is None or not sample.keeps_shape:
        return None
    x, *rest = sample.inputs()
    flat = sample.arrays is None and x.ndim == 2
    arrays = (np.ones(_FLAT if flat else x.shape, x.dtype), *rest)
    y = np.asarray(row.call(arrays, sample.p, at, **sample.options), np.float64)
    gone = sample.dropped_as
    if callable(gone):
        gone = gone(*arrays, p=sample.p, **sample.options)
    # What a dropped element becomes may be rounded on the way.
    return _cut(np.where(np.isclose(y, gone, rtol=1e-12, atol=0.0), 0.0, y))


def _cut(y: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return list(y.reshape(-1, *y.shape[-2:])[:_TILES, :_SIDE, :_SIDE])


def caption(row: Method, dropped: str, several: str = "") -> str:
    """What the picture shows. `dropped` says how a dropped element looks in it, where there is one,
    and `several` what each part is, where there are several.
    """
    sample = row.sample
    p = "" if not row.has_p else f" at p = {_P if sample is None else sample.p:g}"
    shown = "Output for an input of ones" if row.picture is None else "Mask"
    found = tiles(row) or []
    told = [dropped] if any((tile == 0.0).any() for tile in found) else []
    told += [several] if several and len(found) > 1 else []
    return f"{shown}{p} ({'; '.join(told)})" if told else f"{shown}{p}"


def without_picture(row: Method) -> str:
    """Why there is none, in a sentence."""
    return (
        row.apart or "The noise acts on sums over many inputs, not on single elements of an array."
    )


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
    """Mean and variance of one output, averaged over its elements: measured, and by the formula,
    which is None where there is no closed form."""

    p: float
    draws: int
    mean: float
    mean_formula: float | None
    variance: float
    variance_formula: float | None


def measured(row: Method, draws: int | None = None) -> Measured | None:
    """The row's moments on its sample, over its number of addresses; None without a sample."""
    sample = row.sample
    if sample is None:
        return None
    arrays: tuple[Any, ...] = sample.inputs()
    n = draws or sample.draws
    ats = (Address(seed, "shown") for seed in range(n))
    y = np.stack(
        [np.asarray(row.call(arrays, sample.p, at, **sample.options), np.float64) for at in ats]
    )
    found, spread = y.mean(0), float(y.var(0, ddof=1).mean())
    if row.moments.of is None:
        return Measured(sample.p, n, float(abs(found).mean()), None, spread, None)
    mean, variance = row.moments.of(*arrays, p=sample.p, **sample.options)
    mean, variance = (np.broadcast_to(m, y.shape[1:]) for m in (mean, variance))
    # Signs would cancel in an average over elements: each is taken in the direction of its mean.
    sign = np.where(mean < 0, -1.0, 1.0)
    return Measured(
        sample.p,
        n,
        float((found * sign).mean()),
        float((mean * sign).mean()),
        spread,
        float(variance.mean()),
    )
