"""DATA as a table: columns of numbers, texts and yes-or-no, and a target that can be learned."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, listed, quoted
from thinned.fit.choices import Choices, check_names
from thinned.fit.dates import two_digit_years
from thinned.fit.detection import found, plainly_numbers
from thinned.fit.files import read
from thinned.fit.kinds import LARGEST_TARGET, Column, Kind, as_kind, check_values, kind_of
from thinned.fit.readings import Reading, applied
from thinned.fit.source import TableFile
from thinned.fit.target import Task, check_target, classes_of, target_column, task_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DATASETS", "Column", "Kind", "Problem", "Task", "features_for", "load", "open_data"]

DATASETS = ("digits", "wine", "breast_cancer", "diabetes")

# A test part of a fifth must leave the table enough rows for five folds.
FEWEST_ROWS = 13
# A text column with more different values than this, most of them in one row only, names its rows.
MANY_TEXTS, IDENTIFIER_SHARE = 50, 0.5


@dataclass
class Problem:
    """What there is to learn: features by row, and one target each.

    `features` has a column of float64 (NaN is missing) for each numeric column, and one of str
    (None is missing) for each other. `target` holds class numbers, or values in the target's units.
    `data` is the name of the file or the data set, and `typed` what was given for it.
    `readings` say how texts were read, and `choices` what the user said about the columns.
    """

    data: str
    typed: str
    features: pd.DataFrame
    columns: tuple[Column, ...]
    left_out: tuple[str, ...]
    target_name: str
    task: Task
    target: NDArray[Any]
    classes: tuple[Any, ...] = ()
    sha256: str | None = None
    notes: list[str] = field(default_factory=list)
    readings: tuple[Reading, ...] = ()
    choices: Choices = field(default_factory=Choices)

    @property
    def rows(self) -> int:
        return len(self.target)


def open_data(
    data: str, as_text: frozenset[str] = frozenset(), missing: tuple[str, ...] = ()
) -> TableFile:
    """DATA as the user names it: one of scikit-learn's data sets, or a CSV or Parquet file."""
    if data in DATASETS:
        return _dataset(data)
    path = Path(data)
    try:
        there = path.exists()
    except OSError as reason:  # a name too long, a loop of links
        raise InputError(f"{data}: cannot be read ({reason.strerror}).") from None
    if not there:
        near = difflib.get_close_matches(data, DATASETS, 1)
        hint = f"did you mean {near[0]}?" if near else f"data sets by name: {', '.join(DATASETS)}."
        raise InputError(f"{data}: no such file; {hint}")
    return read(path, as_text, missing)


def load(
    data: str, target: str | None = None, task: str = "auto", choices: Choices | None = None
) -> Problem:
    """Read DATA and check that a network can be trained and cross-validated on it.

    Parameters
    ----------
    data : str. Name of a data set, or path of a file.
    target : str or None. The column to predict; None takes the one called "target", else the last.
    task : "auto", "classification" or "regression". "auto" takes texts, yes-or-no, and whole
        numbers with at most 20 different values, of 7 rows each on average, for classes.
    choices : Choices or None. What the user says about the columns.

    Raises
    ------
    InputError with one sentence.
    """
    choices = choices or Choices()
    source = open_data(data, missing=choices.missing)
    source.frame = source.frame.reset_index(drop=True)
    name = target_column(source, target)
    names = list(source.frame.columns)
    check_names("--type", list(choices.kinds), names)
    readings = found(source, names, choices.kinds)
    if any(one.dated and one.column == name for one in readings):
        raise source.error(f"the target {quoted(name)} holds dates; name another with --target.")
    applied(source, readings)
    rows = len(source.frame)
    if rows < FEWEST_ROWS:
        raise source.error(
            f"{rows} row{'s are' if rows != 1 else ' is'} fewer than five folds beside a test part "
            f"need; at least {FEWEST_ROWS} are needed."
        )
    kind, values = kind_of(source, name)
    check_target(source, name, kind, values, task)
    chosen = task_of(source, name, kind, values, task)
    features = source.frame.drop(columns=[name])
    kept, frame = _features(source, features)
    if not kept:
        raise source.error(f"there is no column to learn from beside the target {quoted(name)}.")
    # Of a column of dates, what it becomes can be left out in part.
    learned = {name, *(column.name for column in kept)}
    used = tuple(one for one in readings if learned & {one.column, *one.makes})
    learned |= {one.column for one in used}
    classes: tuple[Any, ...] = ()
    if chosen == "classification":
        classes, y = classes_of(source, name, kind, values)
    else:
        y = values.to_numpy(np.float64)
        check_values(source, name, y, LARGEST_TARGET)
        if np.ptp(y) == 0.0:
            raise source.error(f"the target {quoted(name)} has the same value in every row.")
    return Problem(
        data=source.name,
        typed=data,
        features=frame,
        columns=kept,
        left_out=tuple(one for one in names if one not in learned),
        target_name=name,
        task=chosen,
        target=y,
        classes=classes,
        sha256=source.sha256,
        notes=source.notes,
        readings=used,
        choices=choices,
    )


def features_for(
    source: TableFile,
    columns: tuple[Column, ...],
    may_have: frozenset[str],
    readings: Iterable[Reading] = (),
) -> pd.DataFrame:
    """The columns a model was fitted on, from new data, in the model's order and kinds.

    `may_have` names columns that the new data may have besides: the target, those left out.
    `readings` are the model's.
    """
    import pandas as pd

    there = list(source.frame.columns)
    readings = list(readings)
    origin = {made: one.column for one in readings for made in one.makes}
    needed = list(dict.fromkeys(origin.get(column.name, column.name) for column in columns))
    missing = [name for name in needed if name not in there]
    known = {*needed, *may_have}
    unexpected = [name for name in there if name not in known]
    if missing or unexpected:
        parts = [f"missing {listed(missing)}"] if missing else []
        parts += [f"unexpected {listed(unexpected)}"] if unexpected else []
        raise source.error(f"the columns are not the model's: {'; '.join(parts)}.")
    source.frame = source.frame.reset_index(drop=True)
    # What the target is of new data is only shown.
    used = [one if one.column in needed else replace(one, lenient=True) for one in readings]
    plain = [c.name for c in columns if c.kind == "numeric" and c.name not in origin]
    applied(source, [*used, *filter(None, (plainly_numbers(source, name) for name in plain))])
    out = {column.name: as_kind(source, column) for column in columns}
    return pd.DataFrame(out)


# ----------------------------------------------------------------------------------------- reading


def _dataset(name: str) -> TableFile:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = bunch.frame
    if name in ("wine", "breast_cancer"):
        frame["target"] = np.asarray(bunch.target_names).astype(str)[bunch.target].astype(object)
    return TableFile(name, frame)


def _features(source: TableFile, features: pd.DataFrame) -> tuple[tuple[Column, ...], pd.DataFrame]:
    import pandas as pd

    kept: list[Column] = []
    out: dict[str, Any] = {}
    left_out: dict[str, list[str]] = {}
    for name in features.columns:
        kind, cells = kind_of(source, name)
        reason = _useless(kind, cells)
        if reason:
            left_out.setdefault(reason, []).append(name)
            continue
        if kind == "numeric":
            check_values(source, name, cells.to_numpy(np.float64))
        kept.append(Column(name, cast(Kind, kind)))
        out[name] = cells
    for reason, names in left_out.items():
        what = "Column" if len(names) == 1 else "Columns"
        source.notes.append(f"{what} left out: {listed(names)} ({reason}).")
    return tuple(kept), pd.DataFrame(out)


def _useless(kind: str, cells: pd.Series) -> str:
    """Why a column has nothing to learn from, or an empty string."""
    known = cells.dropna()
    different = known.nunique()
    if not len(known):
        return "no value in any row"
    if kind == "date":
        return "lengths of time; make numbers of them (days, seconds) to use it"
    if different == 1 and (kind == "numeric" or len(known) == len(cells)):
        return "the same value in every row"
    if kind == "text":
        if two_digit_years(known):
            return "dates whose years have two digits; write all four to use it"
        if different > MANY_TEXTS and different > IDENTIFIER_SHARE * len(known):
            return f"{different} different texts in {len(known)} rows, which name rows"
    return ""
