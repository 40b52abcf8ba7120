"""Which rows are held out, and which are trained on and looked at in each split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, quoted
from thinned.fit.results import FitSettings
from thinned.fit.tables import Problem

__all__ = ["FEWEST_GROUPS", "Splits", "splits_of"]

Rows = NDArray[np.intp]

# A test part of a fifth must leave enough groups for five folds of more than one.
FEWEST_GROUPS = 12


@dataclass(frozen=True)
class Splits:
    """Positions of rows, ascending. `parts` has rows to train on, and rows to look at, for each
    fold of each repeat: always a quarter as many to look at as to train on, more or less."""

    train_rows: Rows
    test_rows: Rows
    parts: list[tuple[Rows, Rows]]


def splits_of(problem: Problem, settings: FitSettings) -> Splits:
    """The splits of a search.

    Rows of a group are never on both sides. In time, what is looked at always comes after what is
    trained on, and the test part after everything.

    Raises
    ------
    InputError if there are too few groups, or too few moments.
    """
    if problem.groups is not None:
        return _of_groups(problem, settings, problem.groups)
    if problem.times is not None:
        return _in_time(problem, settings, problem.times)
    return _of_rows(problem, settings)


def _of_rows(problem: Problem, settings: FitSettings) -> Splits:
    from sklearn.model_selection import (
        RepeatedKFold,
        RepeatedStratifiedKFold,
        train_test_split,
    )

    classes = problem.task == "classification"
    train_rows, test_rows = train_test_split(
        np.arange(problem.rows),
        test_size=settings.test_share,
        random_state=settings.seed,
        stratify=problem.target if classes else None,
    )
    train_rows.sort()
    test_rows.sort()
    folds = (RepeatedStratifiedKFold if classes else RepeatedKFold)(
        n_splits=settings.folds, n_repeats=settings.repeats, random_state=settings.seed
    )
    target = problem.target[train_rows]
    parts = [(train_rows[a], train_rows[b]) for a, b in folds.split(target, target)]
    return Splits(train_rows, test_rows, parts)


# ------------------------------------------------------------------------------------------ groups


def _of_groups(problem: Problem, settings: FitSettings, groups: Rows) -> Splits:
    name = quoted(problem.choices.groups)
    n = len(np.unique(groups))
    if n < FEWEST_GROUPS:
        raise InputError(
            f"{problem.data}: column {name} has {n} group{'s' * (n != 1)}, fewer than five folds "
            f"beside a test part need; at least {FEWEST_GROUPS} are needed."
        )
    everything = np.arange(problem.rows)
    train_rows, test_rows = _folds(problem, settings, groups, everything, settings.seed)[0]
    parts = []
    for repeat in range(settings.repeats):
        seed = (settings.seed + 1 + repeat) % 2**32
        parts += _folds(problem, settings, groups, train_rows, seed)
    if problem.task == "classification":
        for rows, _ in [(train_rows, test_rows), *parts]:
            _check_classes(problem, rows, name)
    return Splits(train_rows, test_rows, parts)


def _folds(
    problem: Problem, settings: FitSettings, groups: Rows, rows: Rows, seed: int
) -> list[tuple[Rows, Rows]]:
    """Five folds of these rows, by groups; of classes, with shares that are as even as they can
    be."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    kind: Any = StratifiedGroupKFold if problem.task == "classification" else GroupKFold
    folds = kind(n_splits=settings.folds, shuffle=True, random_state=seed)
    target = problem.target[rows]
    return [(rows[a], rows[b]) for a, b in folds.split(target, target, groups[rows])]


def _check_classes(problem: Problem, rows: Rows, name: str) -> None:
    absent = np.setdiff1d(np.arange(len(problem.classes)), problem.target[rows])
    if absent.size:
        raise InputError(
            f"{problem.data}: class {quoted(problem.classes[absent[0]])} of the target "
            f"{quoted(problem.target_name)} is in too few groups of {name}: some training part has "
            "no row of it."
        )


# -------------------------------------------------------------------------------------------- time


def _in_time(problem: Problem, settings: FitSettings, times: NDArray[np.float64]) -> Splits:
    """Rows in the order of time. The last fifth is the test part; the others make blocks, and each
    split trains on a run of them and looks at the next. The run moves on and does not grow: then as
    many rows are trained on in each split, as in folds."""
    name = quoted(problem.choices.time)
    order = np.argsort(times, kind="stable")
    moments = times[order]
    folds = settings.folds
    blocks = 2 * folds - 1
    n_train = _cut(moments, round(problem.rows * (1 - settings.test_share)))
    ends = [_cut(moments[:n_train], round(n_train * i / blocks)) for i in range(1, blocks)]
    edges = [0, *ends, n_train]
    if not 0 < n_train < problem.rows or min(np.diff(edges)) < 1:
        n = len(np.unique(moments))
        raise InputError(
            f"{problem.data}: column {name} has {n} different time{'s' * (n != 1)}; these are too "
            f"few, or too many rows have the same, for {blocks} parts one after the other and a "
            "test part."
        )
    parts = [
        (
            np.sort(order[edges[i] : edges[i + folds - 1]]),
            np.sort(order[edges[i + folds - 1] : edges[i + folds]]),
        )
        for i in range(folds)
    ]
    if problem.task == "classification":
        for rows, _ in [(order[:n_train], order[n_train:]), *parts]:
            if len(np.unique(problem.target[rows])) < 2:
                raise InputError(
                    f"{problem.data}: some training part in the order of {name} has rows of one "
                    "class only; there is nothing to tell apart."
                )
    return Splits(np.sort(order[:n_train]), np.sort(order[n_train:]), parts)


def _cut(moments: NDArray[np.float64], place: int) -> int:
    """The place nearest to this one that parts no equal moments; moments are ascending."""
    if not 0 < place < len(moments) or moments[place - 1] != moments[place]:
        return place
    low = int(np.searchsorted(moments, moments[place], "left"))
    high = int(np.searchsorted(moments, moments[place], "right"))
    return low if place - low <= high - place and low else high
