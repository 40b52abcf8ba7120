"""The target: a quantity, or classes with rows enough for a test part and five folds."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import listed, quoted
from thinned.fit.doubt import count, option
from thinned.fit.kinds import LARGEST, LARGEST_TARGET, check_values
from thinned.fit.source import TableFile

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FEWEST_IN_CLASS",
    "MOST_NUMBERED_CLASSES",
    "Goal",
    "Task",
    "goals_of",
    "target_columns",
]

Task = Literal["classification", "regression"]

# Whole numbers with at most this many different values are taken for classes, if there are rows
# enough for that many.
MOST_NUMBERED_CLASSES = 20
# A test part of a fifth must leave every class enough rows for five folds.
FEWEST_IN_CLASS = 7
# Rarer classes are left out where no larger share of the rows is lost with them.
RARE_SHARE = 0.1


@dataclass(frozen=True)
class Goal:
    """One target: `target` has the numbers of its classes, or values in its units.

    kind : of its column, as `kind_of` says it.
    """

    name: str
    kind: str
    task: Task
    classes: tuple[Any, ...]
    target: NDArray[Any]


def target_columns(source: TableFile, targets: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns to predict, after looking for each; without any, the default."""
    names = list(source.frame.columns)
    if not targets:
        if "target" in names:
            return ("target",)
        source.notes.append(
            f"No target was named: the last column, {quoted(names[-1])}, is predicted."
        )
        return (str(names[-1]),)
    for target in targets:
        if target not in names:
            near = difflib.get_close_matches(target, names, 1)
            hint = (
                f"did you mean {quoted(near[0])}?" if near else f"the columns are {listed(names)}."
            )
            raise source.error(f"no column {quoted(target)}; {hint}")
    twice = [name for name in targets if targets.count(name) > 1]
    if twice:
        raise source.error(f"the target {quoted(twice[0])} is named twice.")
    return tuple(targets)


def goals_of(
    source: TableFile, columns: Mapping[str, tuple[str, pd.Series]], task: str
) -> tuple[list[Goal], NDArray[np.intp]]:
    """What each target is, and the positions of the rows that are learned from: those with a value
    of every target whose classes are not too rare.

    columns : kind and values of each target, by its name.
    """
    for name, (kind, values) in columns.items():
        check_target(source, name, kind, values, task)
    tasks = {
        name: task_of(source, name, kind, values, task) for name, (kind, values) in columns.items()
    }
    known = np.all([values.notna().to_numpy() for _, values in columns.values()], axis=0)
    _note_unknown(source, tuple(columns), known)
    while True:
        found = {
            name: learnable(
                source, name, kind, values if known.all() else values.where(known), tasks[name]
            )
            for name, (kind, values) in columns.items()
        }
        # A class too rare takes its rows from the other targets too, whose classes may become so.
        left = np.zeros(len(known), bool)
        left[_in_all([rows for _, _, rows in found.values()])] = True
        if all(len(rows) == left.sum() for _, _, rows in found.values()):
            break
        known = left
    goals = [
        Goal(name, columns[name][0], tasks[name], classes, y)
        for name, (classes, y, _) in found.items()
    ]
    return goals, np.flatnonzero(left)


def _in_all(parts: Sequence[NDArray[np.intp]]) -> NDArray[np.intp]:
    rows = parts[0]
    for other in parts[1:]:
        rows = np.intersect1d(rows, other)
    return rows


def _note_unknown(source: TableFile, names: tuple[str, ...], known: NDArray[np.bool_]) -> None:
    n = int((~known).sum())
    if not n:
        return
    which = f"The target {quoted(names[0])} has no value"
    if len(names) > 1:
        which = "One of the targets, or more, has no value"
    source.notes.append(
        f"{which} in {count(n, 'row')}, the first {source.row(int(np.flatnonzero(~known)[0]))}: "
        "not learned from, and predicted in predictions.csv, where the target is empty."
    )


def check_target(source: TableFile, name: str, kind: str, values: pd.Series, task: str) -> None:
    """Refuse a target that cannot be learned from, whatever its values are."""
    known = values.dropna()
    if not len(known):
        told = [note for note in source.notes if note.startswith(f"Column {quoted(name)} ")]
        raise source.error(" ".join([f"the target {quoted(name)} is empty.", *told]))
    if kind == "date":
        raise source.error(f"the target {quoted(name)} holds dates; name another with --target.")
    if kind != "numeric" and task == "regression":
        raise source.error(
            f"the target {quoted(name)} holds {quoted(known.iloc[0])} in "
            f"{source.row(int(known.index[0]))}; regression needs numbers."
        )
    if kind != "numeric" and source.text is not None and len(known) < len(values):
        _check_words(source, name, values)


def _check_words(source: TableFile, name: str, values: pd.Series) -> None:
    """Ask about cells of a target of classes that say "None", "NA" and the like."""
    spelled = source.spelled(name)
    words = spelled[values.isna() & spelled.notna()]
    if len(words):
        more = f" and {len(words) - 1} more" if len(words) > 1 else ""
        word = words.iloc[0]
        raise source.error(
            f"the target {quoted(name)} holds {quoted(word)} in {source.row(int(words.index[0]))}"
            f"{more}, which can be a class or say that there is none; write "
            f"{option(name, 'text')} if it is a class, --missing {quoted(word)} if there is none."
        )


def task_of(source: TableFile, name: str, kind: str, values: pd.Series, task: str) -> Task:
    """Classification or regression, where the user left it open."""
    if task != "auto":
        return cast(Task, task)
    if kind != "numeric":
        return "classification"
    check_values(source, name, values.to_numpy(np.float64))
    values = values.dropna()
    different = values.nunique()
    few = different <= min(MOST_NUMBERED_CLASSES, len(values) // FEWEST_IN_CLASS)
    if few and (values == values.round()).all():
        if source.sha256 is not None:
            source.notes.append(
                f"The target {quoted(name)} holds {different} different whole numbers, taken for "
                "classes; --task regression takes them for quantities."
            )
        return "classification"
    return "regression"


def learnable(
    source: TableFile, name: str, kind: str, values: pd.Series, task: Task
) -> tuple[tuple[Any, ...], NDArray[Any], NDArray[np.intp]]:
    """The classes, none in regression; for each row that is learned from the number of its class,
    or its value; and the positions of these rows.

    Rows without a target are not learned from, nor are those of a few classes that are too rare.
    """
    rows = np.flatnonzero(values.notna().to_numpy())
    if kind == "numeric":
        most = LARGEST_TARGET if task == "regression" else LARGEST
        check_values(source, name, values.to_numpy(np.float64), most)
    known = values.iloc[rows]
    if task == "classification":
        classes, codes = _classes(known, kind)
        return _without_rare(source, name, kind, classes, codes, rows)
    y = known.to_numpy(np.float64)
    if np.ptp(y) == 0.0:
        raise source.error(f"the target {quoted(name)} has the same value in every row.")
    return (), y, rows


def _classes(values: pd.Series, kind: str) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    """The classes in order, and the number of each row's class."""
    import pandas as pd

    codes, labels = pd.factorize(values.to_numpy(), sort=True)  # without sorting all of them
    classes = tuple(label.item() if hasattr(label, "item") else label for label in labels)
    if kind == "numeric":
        whole = all(float(one).is_integer() and abs(one) < 2**53 for one in classes)
        classes = tuple(map(int if whole else float, classes))
    return classes, codes.astype(np.int64)


def _without_rare(
    source: TableFile,
    name: str,
    kind: str,
    classes: tuple[Any, ...],
    codes: NDArray[np.int64],
    rows: NDArray[np.intp],
) -> tuple[tuple[Any, ...], NDArray[np.int64], NDArray[np.intp]]:
    """Leave out the classes with too few rows, where these are few; else refuse them."""
    if len(classes) == 1:
        raise source.error(
            f"the target {quoted(name)} has one class only, {quoted(classes[0])}; "
            "there is nothing to tell apart."
        )
    counts = np.bincount(codes)
    rare = np.flatnonzero(counts < FEWEST_IN_CLASS)
    if not rare.size:
        return classes, codes, rows
    n = int(counts[rare[0]])
    if counts[rare].sum() > RARE_SHARE * len(codes) or len(classes) - rare.size < 2:
        where = source.row(int(rows[np.flatnonzero(codes == rare[0])[0]]))
        hint = "; --task regression takes the values for quantities" if kind == "numeric" else ""
        raise source.error(
            f"class {quoted(classes[rare[0]])} of the target {quoted(name)} has {n} "
            f"row{'s' * (n > 1)} ({'first ' * (n > 1)}{where}); with a test part and five folds "
            f"every class needs at least {FEWEST_IN_CLASS}{hint}."
        )
    source.notes.append(
        f"Classes that are too rare are left out with their rows "
        f"({count(int(counts[rare].sum()), 'row')}): {listed([classes[i] for i in rare])}. With a "
        f"test part and five folds every class needs at least {FEWEST_IN_CLASS} rows."
    )
    stays = ~np.isin(codes, rare)
    left = np.setdiff1d(np.arange(len(classes)), rare)
    return tuple(classes[i] for i in left), np.searchsorted(left, codes[stays]), rows[stays]
