"""The target: a quantity, or classes with rows enough for a test part and five folds."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import listed, quoted
from thinned.fit.kinds import check_values
from thinned.fit.source import TableFile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FEWEST_IN_CLASS", "Task", "check_target", "classes_of", "target_column", "task_of"]

Task = Literal["classification", "regression"]

# Whole numbers with at most this many different values are taken for classes, if there are rows
# enough for so many.
MOST_NUMBERED_CLASSES = 20
# A test part of a fifth must leave every class enough rows for five folds.
FEWEST_IN_CLASS = 7


def target_column(source: TableFile, target: str | None) -> str:
    names = list(source.frame.columns)
    if target is None:
        if "target" in names:
            return "target"
        source.notes.append(
            f"No target was named: the last column, {quoted(names[-1])}, is predicted."
        )
        return str(names[-1])
    if target not in names:
        near = difflib.get_close_matches(target, names, 1)
        hint = f"did you mean {quoted(near[0])}?" if near else f"the columns are {listed(names)}."
        raise source.error(f"no column {quoted(target)}; {hint}")
    return target


def check_target(source: TableFile, name: str, kind: str, values: pd.Series, task: str) -> None:
    missing = np.flatnonzero(values.isna().to_numpy())
    if missing.size == len(values):
        raise source.error(f"the target {quoted(name)} is empty.")
    if missing.size:
        others = f" ({missing.size} rows in all)" if missing.size > 1 else ""
        raise source.error(
            f"the target {quoted(name)} has no value in {source.row(int(missing[0]))}{others}."
        )
    if kind == "date":
        raise source.error(f"the target {quoted(name)} holds dates; name another with --target.")
    if kind != "numeric" and task == "regression":
        raise source.error(
            f"the target {quoted(name)} holds {quoted(values.iloc[0])} in {source.row(0)}; "
            "regression needs numbers."
        )


def task_of(source: TableFile, name: str, kind: str, values: pd.Series, task: str) -> Task:
    if task != "auto":
        return cast(Task, task)
    if kind != "numeric":
        return "classification"
    check_values(source, name, values.to_numpy(np.float64))
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


def classes_of(
    source: TableFile, name: str, kind: str, values: pd.Series
) -> tuple[tuple[Any, ...], NDArray[Any]]:
    """The classes in order, and the number of each row's class."""
    if kind == "numeric":
        check_values(source, name, values.to_numpy(np.float64))
        whole = (values == values.round()).all() and values.abs().max() < 2**53
        values = values.map(int if whole else float)
    labels, codes = np.unique(values.to_numpy(), return_inverse=True)
    classes = tuple(label.item() if hasattr(label, "item") else label for label in labels)
    if len(classes) == 1:
        raise source.error(
            f"the target {quoted(name)} has one class only, {quoted(classes[0])}; "
            "there is nothing to tell apart."
        )
    counts = np.bincount(codes)
    rare = np.flatnonzero(counts < FEWEST_IN_CLASS)
    if rare.size:
        n = int(counts[rare[0]])
        where = source.row(int(np.flatnonzero(codes == rare[0])[0]))
        hint = "; --task regression takes the values for quantities" if kind == "numeric" else ""
        raise source.error(
            f"class {quoted(classes[rare[0]])} of the target {quoted(name)} has {n} "
            f"row{'s' * (n > 1)} ({'first ' * (n > 1)}{where}); with a test part and five folds "
            f"every class needs at least {FEWEST_IN_CLASS}{hint}."
        )
    return classes, codes.astype(np.int64)
