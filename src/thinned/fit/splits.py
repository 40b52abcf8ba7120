"""Which rows are held out, and which are trained on and looked at in each split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, quoted
from thinned.fit.results import FitSettings
from thinned.fit.tables import Problem

__all__ = ["FEWEST_GROUPS", "Splits", "folds_of", "splits_of"]

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
    from sklearn.model_selection import train_test_split

    strata = problem.strata
    train_rows, test_rows = train_test_split(
        np.arange(problem.rows),
        test_size=settings.test_share,
        random_state=settings.seed,
        stratify=strata,
    )
    train_rows.sort()
    test_rows.sort()
    target = problem.target if strata is None else strata
    folds = _row_folds(problem, settings).split(train_rows, target[train_rows])
    parts = [(train_rows[a], train_rows[b]) for a, b in folds]
    if problem.together is not None:  # whose classes are in proportion but for the rarest
        for rows, _ in [(train_rows, test_rows), *parts]:
            _check_classes(problem, rows, "rows")
    return Splits(train_rows, test_rows, parts)


def _row_folds(problem: Problem, settings: FitSettings) -> Any:
    from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

    kind: Any = RepeatedKFold if problem.strata is None else RepeatedStratifiedKFold
    return kind(n_splits=settings.folds, n_repeats=settings.repeats, random_state=settings.seed)


def folds_of(problem: Problem, settings: FitSettings) -> list[tuple[Rows, Rows]]:
    """Folds of all rows, without a test part. Raises as `splits_of`."""
    if problem.times is not None:
        order = np.argsort(problem.times, kind="stable")
        return _blocks(problem, settings, order, problem.times[order])
    rows = np.arange(problem.rows)
    if problem.groups is not None:
        _check_groups(problem, problem.groups, settings.folds)
        return _folds(problem, settings, problem.groups, rows, settings.seed)
    target = problem.target if problem.strata is None else problem.strata
    return list(_row_folds(problem, settings).split(rows, target))


# ------------------------------------------------------------------------------------------ groups


def _of_groups(problem: Problem, settings: FitSettings, groups: Rows) -> Splits:
    name = quoted(problem.choices.groups)
    _check_groups(problem, groups, FEWEST_GROUPS)
    everything = np.arange(problem.rows)
    train_rows, test_rows = _folds(problem, settings, groups, everything, settings.seed)[0]
    parts = []
    for repeat in range(settings.repeats):
        seed = (settings.seed + 1 + repeat) % 2**32
        parts += _folds(problem, settings, groups, train_rows, seed)
    if problem.task == "classification":
        for rows, _ in [(train_rows, test_rows), *parts]:
            _check_classes(problem, rows, f"groups of {name}")
    return Splits(train_rows, test_rows, parts)


def _folds(
    problem: Problem, settings: FitSettings, groups: Rows, rows: Rows, seed: int
) -> list[tuple[Rows, Rows]]:
    """Five folds of these rows, by groups; of classes, with shares that are as even as they can
    be."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    kind: Any = GroupKFold if problem.strata is None else StratifiedGroupKFold
    folds = kind(n_splits=settings.folds, shuffle=True, random_state=seed)
    target = problem.target if problem.strata is None else problem.strata
    return [(rows[a], rows[b]) for a, b in folds.split(rows, target[rows], groups[rows])]


def _check_groups(problem: Problem, groups: Rows, fewest: int) -> None:
    n = len(np.unique(groups))
    if n < fewest:
        raise InputError(
            f"{problem.data}: column {quoted(problem.choices.groups)} has {n} "
            f"group{'s' * (n != 1)}, fewer than five folds beside a test part need; at least "
            f"{fewest} are needed."
        )


def _check_classes(problem: Problem, rows: Rows, where: str) -> None:
    absent = np.setdiff1d(np.arange(len(problem.classes)), problem.target[rows])
    if absent.size:
        raise InputError(
            f"{problem.data}: class {quoted(problem.classes[absent[0]])} of the target "
            f"{quoted(problem.target_name)} is in too few {where}: some training part has "
            "no row of it."
        )


# -------------------------------------------------------------------------------------------- time


def _in_time(problem: Problem, settings: FitSettings, times: NDArray[np.float64]) -> Splits:
    """Rows in the order of time. The last fifth is the test part; the others make blocks, and each
    split trains on a run of them and looks at the next. The run moves on and does not grow: then as
    many rows are trained on in each split, as in folds."""
    order = np.argsort(times, kind="stable")
    moments = times[order]
    n_train = _cut(moments, round(problem.rows * (1 - settings.test_share)))
    if n_train == problem.rows:
        raise _too_few(problem, moments, 2 * settings.folds - 1)
    parts = _blocks(problem, settings, order[:n_train], moments[:n_train])
    _check_in_time(problem, order[:n_train])
    return Splits(np.sort(order[:n_train]), np.sort(order[n_train:]), parts)


def _blocks(
    problem: Problem, settings: FitSettings, order: Rows, moments: NDArray[np.float64]
) -> list[tuple[Rows, Rows]]:
    """Splits of rows that are in the order of time."""
    folds, n = settings.folds, len(order)
    blocks = 2 * folds - 1
    edges = [0, *(_cut(moments, round(n * i / blocks)) for i in range(1, blocks)), n]
    if min(np.diff(edges)) < 1:
        raise _too_few(problem, moments, blocks)
    parts = [
        (
            np.sort(order[edges[i] : edges[i + folds - 1]]),
            np.sort(order[edges[i + folds - 1] : edges[i + folds]]),
        )
        for i in range(folds)
    ]
    for rows, _ in parts:
        _check_in_time(problem, rows)
    return parts


def _too_few(problem: Problem, moments: NDArray[np.float64], blocks: int) -> InputError:
    n = len(np.unique(moments))
    return InputError(
        f"{problem.data}: column {quoted(problem.choices.time)} has {n} different "
        f"time{'s' * (n != 1)}; these are too few, or too many rows have the same, for {blocks} "
        "parts one after the other and a test part."
    )


def _check_in_time(problem: Problem, rows: Rows) -> None:
    if problem.task == "classification" and len(np.unique(problem.target[rows])) < 2:
        raise InputError(
            f"{problem.data}: in the order of {quoted(problem.choices.time)} some training part "
            "has rows of one class only; there is nothing to tell apart."
        )


def _cut(moments: NDArray[np.float64], place: int) -> int:
    """The place nearest to this one that parts no equal moments; moments are ascending."""
    if not 0 < place < len(moments) or moments[place - 1] != moments[place]:
        return place
    low = int(np.searchsorted(moments, moments[place], "left"))
    high = int(np.searchsorted(moments, moments[place], "right"))
    return low if place - low <= high - place and low else high
