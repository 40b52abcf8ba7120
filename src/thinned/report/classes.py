"""The pictures of a classification: which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thinned.fit.results import Result
from thinned.pages.colours import ACCENT, INK, NONE, SURFACE
from thinned.pages.document import clean
from thinned.report.svg import Picture, canvas, inline

__all__ = ["confusion", "found_by_class", "told_apart"]

# More classes than these have no numbers in the cells, and no names.
MOST_NUMBERED, MOST_NAMED = 12, 40
# Inches from one class to the next where there are many, so that names do not touch.
PITCH = 0.145
# Letters of a name in a picture.
LETTERS = 14


def told_apart(names: Sequence[str]) -> list[str]:
    """Names cut to `LETTERS`, where they differ: of those that are alike at both ends, what is
    between.
    """
    short = [clean(name, LETTERS) for name in names]
    for one in {one for one in short if short.count(one) > 1}:
        alike = [name for name, cut in zip(names, short, strict=True) if cut == one]
        pairs = enumerate(zip(min(alike), max(alike), strict=False))
        start = next((at for at, (a, b) in pairs if a != b), len(min(alike)))
        start = alike[0].rfind(" ", 0, start) + 1 or start  # whole words
        for place, cut in enumerate(short):
            if cut == one and names[place][start:]:
                rest = names[place][start:]
                tail = rest if len(rest) < LETTERS else f"{rest[: LETTERS - 2]}…"
                short[place] = f"…{tail}" if start else tail
    return short


def confusion(result: Result) -> Picture:
    """Classes as they are against classes as predicted, on the test part."""
    from matplotlib.patches import Rectangle

    counts = result.predictions.confusion
    assert counts is not None
    n = len(counts)
    names = told_apart([clean(name) for name in result.data.classes])
    longest = max(map(len, names)) if n <= MOST_NAMED else 0
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    height = 3.9 if n <= MOST_NUMBERED else 3.9 + 0.03 * longest
    with canvas(4.2, height) as (figure, axes):
        axes.grid(visible=False)
        axes.set_xlim(-0.5, n - 0.5)
        axes.set_ylim(n - 0.5, -0.5)
        axes.set_aspect("equal")
        for i, j in zip(*np.nonzero(counts), strict=True):
            share = shares[i, j]
            axes.add_patch(
                Rectangle(
                    (j - 0.46, i - 0.46),
                    0.92,
                    0.92,
                    facecolor=ACCENT if i == j else NONE,
                    alpha=0.18 + 0.82 * share,
                    linewidth=0,
                )
            )
            if n <= MOST_NUMBERED:
                axes.text(
                    j,
                    i,
                    str(counts[i, j]),
                    ha="center",
                    va="center_baseline",
                    fontsize=9,
                    color=SURFACE if share > 0.5 else INK,
                )
        shown = names if n <= MOST_NAMED else []
        size = 9 if n <= MOST_NUMBERED else min(7.5, 190 / n)
        axes.set_yticks(range(len(shown)), shown, fontsize=size)
        slant: dict[str, Any] = {}
        if n > MOST_NUMBERED:  # an upright name is no wider than its column
            slant = {"rotation": 90}
        elif max(map(len, names)) > 4:
            slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(shown)), shown, fontsize=size, **slant)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title("Confusion matrix (rows of the test part)")
        right = int(np.trace(counts))
        wrong = counts.copy()
        np.fill_diagonal(wrong, 0)
        i, j = np.unravel_index(int(wrong.argmax()), wrong.shape)
        worst = (
            f" Most often mistaken: {names[i]} for {names[j]}, {wrong[i, j]} times."
            if wrong.any()
            else ""
        )
        svg = inline(
            figure,
            "confusion",
            "Confusion matrix of the test part",
            f"{right} of {counts.sum()} rows are classified rightly.{worst}",
            len(result.levels),
        )
    return Picture(
        svg, "Counts of test rows; the stronger a cell, the larger its share of its true class."
    )


def found_by_class(result: Result) -> Picture:
    """For each class, the share of its test rows that the model found."""
    counts = result.predictions.confusion
    assert counts is not None
    n = len(counts)
    rows = counts.sum(axis=1)
    shares = np.diag(counts) / np.maximum(rows, 1)
    names = told_apart([clean(name) for name in result.data.classes])
    height = max(3.9, 1.0 + PITCH * n) if n <= MOST_NAMED else 3.9
    with canvas(4.2, height) as (figure, axes):
        axes.barh(range(n), 100 * shares, color=ACCENT, height=0.72, alpha=0.9)
        axes.barh(
            range(n), 100 * (1 - shares), left=100 * shares, color=NONE, height=0.72, alpha=0.3
        )
        axes.set_ylim(n - 0.5, -0.5)
        axes.set_xlim(0, 100)
        shown = n if n <= MOST_NAMED else 0
        size = 9 if n <= MOST_NUMBERED else 7.5
        axes.set_yticks(range(shown), names[:shown], fontsize=size)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        if n <= MOST_NUMBERED:
            for i in range(n):
                axes.annotate(
                    f"{counts[i, i]} of {rows[i]}",
                    (0, i),
                    (5, 0),
                    textcoords="offset points",
                    va="center_baseline",
                    fontsize=8.5,
                    color=SURFACE if shares[i] > 0.25 else INK,
                )
        axes.set_xlabel("rows found (% of the class)")
        axes.set_ylabel("true class")
        axes.set_title("Rows found, by class (test part)")
        svg = inline(
            figure,
            "found",
            "Share of each class's test rows that were found",
            "; ".join(f"{names[i]}: {counts[i, i]} of {rows[i]}" for i in range(n)),
            len(result.levels),
        )
    return Picture(svg, "Of the test rows of each class, how many the model names rightly.")
