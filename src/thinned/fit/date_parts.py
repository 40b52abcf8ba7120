"""The columns of numbers that a column of dates, or of times of day, becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.dates import Form

__all__ = ["part_names", "parts"]


def part_names(name: str, form: Form) -> tuple[str, ...]:
    """The columns that a column of dates, or of times of day, can become."""
    if not form.cycles:
        return (f"{name}: year",)
    pairs = [f"{name}: {cycle} ({wave})" for cycle in form.cycles for wave in ("sine", "cosine")]
    return tuple(pairs if form.clock else [f"{name}: days", f"{name}: year", *pairs])


def parts(name: str, days: NDArray[np.float64], form: Form) -> dict[str, NDArray[np.float64]]:
    """The columns of `part_names`. days : since 1970-01-01, or the part of a day; NaN if missing.

    Days and years are numbers. Months, weekdays and hours go round: each becomes a point on a
    circle, its sine and cosine. So December is beside January, Sunday beside Monday.
    """
    there = np.isfinite(days)
    known = np.where(there, days, 0.0)
    whole = np.floor(known)
    dates: Any = whole.astype(np.int64).astype("datetime64[D]")
    months = dates.astype("datetime64[M]").astype(np.int64)
    turns = {
        "month": months % 12 / 12,
        "weekday": (whole + 3) % 7 / 7,  # 1970-01-01 was a Thursday; 0 is Monday
        "hour": known - whole,
    }
    out = {} if form.clock else {f"{name}: days": known, f"{name}: year": 1970.0 + months // 12}
    if not form.cycles:  # a year alone, which its first day stands for
        del out[f"{name}: days"]
    for cycle in form.cycles:
        angle = 2 * np.pi * turns[cycle]
        out |= {
            f"{name}: {cycle} (sine)": np.sin(angle),
            f"{name}: {cycle} (cosine)": np.cos(angle),
        }
    return {part: np.where(there, values, np.nan) for part, values in out.items()}
