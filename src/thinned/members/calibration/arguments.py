"""What the scores take: checked, and in binary64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinned import checks
from thinned.backends.numpy import as_array
from thinned.checks import message

__all__ = ["Array", "classes", "floats", "level", "same_length"]

Array = NDArray[np.float64]


def floats(who: str, name: str, values: ArrayLike) -> Array:
    requirement = "an array of numbers"
    given = as_array(who, name, values, requirement)
    if given.dtype.kind not in "biufO" and given.dtype.name != "bfloat16":
        raise TypeError(message(who, name, requirement, given.dtype.name))
    try:
        found = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        got = f"{type(values).__name__} of objects"
        raise TypeError(message(who, name, requirement, got)) from None
    if not np.isfinite(found).all():
        raise ValueError(message(who, name, "finite", "a NaN or an infinity"))
    if not found.size:
        raise ValueError(f"{who}: {name} is empty.")
    return found


def classes(who: str, probabilities: ArrayLike, labels: Any) -> tuple[Array, NDArray[np.intp]]:
    """Probabilities as (N, C) and labels as (N,), both checked."""
    p = floats(who, "probabilities", probabilities)
    if p.ndim == 1:
        p = np.stack([1.0 - p, p], axis=1)
    if p.ndim != 2 or p.shape[1] < 2:
        raise ValueError(message(who, "probabilities", "of shape (N, C) or (N,)", p.shape))
    if p.min() < 0.0 or abs(p.sum(1) - 1.0).max() > 1e-3:
        remedy = "Pass probabilities, not logits."
        raise ValueError(message(who, "probabilities", "rows in [0, 1] of sum 1", "others", remedy))
    y = as_array(who, "labels", labels, f"integers of shape ({len(p)},)")
    if y.dtype.kind not in "iub" or y.shape != (len(p),):
        got = f"{y.dtype} of shape {y.shape}"
        raise TypeError(message(who, "labels", f"integers of shape ({len(p)},)", got))
    if y.min() < 0 or y.max() >= p.shape[1]:
        requirement = f"in [0, {p.shape[1]})"
        raise ValueError(message(who, "labels", requirement, f"{y.min()} to {y.max()}"))
    return p, y.astype(np.intp)


def same_length(who: str, **arrays: ArrayLike) -> list[Array]:
    found = [floats(who, name, values) for name, values in arrays.items()]
    for name, values in zip(arrays, found, strict=True):
        if values.shape != found[0].shape:
            first = next(iter(arrays))
            requirement = f"of {first}'s shape {found[0].shape}"
            raise ValueError(message(who, name, requirement, values.shape))
    return found


def level(who: str, name: str, value: float) -> float:
    value = checks.probability(who, value, name)
    if not 0.0 < value < 1.0:
        raise ValueError(message(who, name, "inside (0, 1)", f"{value:g}"))
    return value
