"""DATA as a table: columns of numbers, texts and yes-or-no, and a target that can be learned."""

from __future__ import annotations

import difflib
import numbers
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, listed, quoted
from thinned.fit.files import TableFile, read

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DATASETS", "Column", "Kind", "Problem", "Task", "features_for", "load", "open_data"]

DATASETS = ("digits", "wine", "breast_cancer", "diabetes")

Kind = Literal["numeric", "text", "bool"]
Task = Literal["classification", "regression"]

# Whole numbers with at most this many different values are taken for classes, if there are rows
# enough for so many.
MOST_NUMBERED_CLASSES = 20
# A test part of a fifth must leave every class (or the table) enough rows for five folds.
FEWEST_IN_CLASS, FEWEST_ROWS = 7, 13
# A text column with more different values than this, most of them in one row only, names its rows.
MANY_TEXTS, IDENTIFIER_SHARE = 50, 0.5
# Squares of larger numbers, summed over a column, leave the range of binary64. A quantity that is
# predicted is squared twice: in the loss, and in the variance of the losses.
LARGEST, LARGEST_TARGET = 1e100, 1e70


@dataclass(frozen=True)
class Column:
    """One column that the network sees."""

    name: str
    kind: Kind


@dataclass
class Problem:
    """What there is to learn: features by row, and one target each.

    `features` has a column of float64 (NaN is missing) for each numeric column, and one of str
    (None is missing) for each other. `target` holds class numbers, or values in the target's units.
    `data` is the name of the file or the data set, and `typed` what was given for it.
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

    @property
    def rows(self) -> int:
        return len(self.target)


def open_data(data: str, as_text: frozenset[str] = frozenset()) -> TableFile:
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
    return read(path, as_text)


def load(data: str, target: str | None = None, task: str = "auto") -> Problem:
    """Read DATA and check that a network can be trained and cross-validated on it.

    Parameters
    ----------
    data : str. Name of a data set, or path of a file.
    target : str or None. The column to predict; None takes the one called "target", else the last.
    task : "auto", "classification" or "regression". "auto" takes texts, yes-or-no, and whole
        numbers with at most 20 different values, of 7 rows each on average, for classes.

    Raises
    ------
    InputError with one sentence.
    """
    source = open_data(data)
    name = _target_column(source, target)
    source.frame = source.frame.reset_index(drop=True)
    rows = len(source.frame)
    if rows < FEWEST_ROWS:
        raise source.error(
            f"{rows} row{'s are' if rows != 1 else ' is'} fewer than five folds beside a test part "
            f"need; at least {FEWEST_ROWS} are needed."
        )
    kind, values = _kind(source, name)
    _check_target(source, name, kind, values, task)
    chosen = _task(source, name, kind, values, task)
    features = source.frame.drop(columns=[name])
    kept, frame, left_out = _features(source, features)
    if not kept:
        raise source.error(f"there is no column to learn from beside the target {quoted(name)}.")
    classes: tuple[Any, ...] = ()
    if chosen == "classification":
        classes, y = _classes(source, name, kind, values)
    else:
        y = values.to_numpy(np.float64)
        _check_values(source, name, y, LARGEST_TARGET)
        if np.ptp(y) == 0.0:
            raise source.error(f"the target {quoted(name)} has the same value in every row.")
    return Problem(
        data=source.name,
        typed=data,
        features=frame,
        columns=kept,
        left_out=left_out,
        target_name=name,
        task=chosen,
        target=y,
        classes=classes,
        sha256=source.sha256,
        notes=source.notes,
    )


def features_for(
    source: TableFile, columns: tuple[Column, ...], may_have: frozenset[str]
) -> pd.DataFrame:
    """The columns a model was fitted on, from new data, in the model's order and kinds.

    `may_have` names columns that the new data may have besides: the target, those left out.
    """
    import pandas as pd

    there = list(source.frame.columns)
    missing = [column.name for column in columns if column.name not in there]
    known = {column.name for column in columns} | may_have
    unexpected = [name for name in there if name not in known]
    if missing or unexpected:
        parts = [f"missing {listed(missing)}"] if missing else []
        parts += [f"unexpected {listed(unexpected)}"] if unexpected else []
        raise source.error(f"the columns are not the model's: {'; '.join(parts)}.")
    source.frame = source.frame.reset_index(drop=True)
    out = {column.name: _as_kind(source, column) for column in columns}
    return pd.DataFrame(out)


# ----------------------------------------------------------------------------------------- reading


def _dataset(name: str) -> TableFile:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = bunch.frame
    if name in ("wine", "breast_cancer"):
        frame["target"] = np.asarray(bunch.target_names).astype(str)[bunch.target].astype(object)
    return TableFile(name, frame)


def _target_column(source: TableFile, target: str | None) -> str:
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


# ------------------------------------------------------------------------------------------- kinds


def _kind(source: TableFile, name: str) -> tuple[Kind | Literal["date"], pd.Series]:
    """What a column holds, and its cells: float64, or objects with None where one is missing."""
    import pandas as pd

    cells = source.frame[name]
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(cells.dtype.categories.dtype)
    kind = cells.dtype.kind
    if pd.api.types.is_bool_dtype(cells.dtype) and kind != "O":
        return "bool", _texts(cells)
    if pd.api.types.is_numeric_dtype(cells.dtype) and kind != "c":
        return "numeric", _floats(source, name, cells)
    if kind in "Mm":
        return "date", cells
    known = cells.dropna()
    if known.map(lambda cell: isinstance(cell, str)).all():
        return "text" if len(known) else "numeric", _texts(cells)
    if known.map(lambda cell: isinstance(cell, (bool, np.bool_))).all():
        return "bool", _texts(cells)
    if known.map(lambda cell: isinstance(cell, (numbers.Real, Decimal))).all():
        return "numeric", _floats(source, name, cells)
    if known.map(lambda cell: isinstance(cell, date)).all():
        return "date", cells
    odd = known[~known.map(lambda cell: isinstance(cell, (str, numbers.Real)))]
    odd = odd if len(odd) else known
    raise source.error(
        f"column {quoted(name)}, {source.row(int(odd.index[0]))}: cannot read a cell of type "
        f"{type(odd.iloc[0]).__name__} beside the others; cells must be numbers, texts or booleans."
    )


def _floats(source: TableFile, name: str, cells: pd.Series) -> pd.Series:
    try:
        return cells.astype("float64")
    except OverflowError:  # an integer of more than 308 digits
        large = cells.map(lambda cell: isinstance(cell, int) and abs(cell) > LARGEST)
        row = int(np.flatnonzero(large)[0])
        raise source.error(
            f"column {quoted(name)}, {source.row(row)} holds an integer too large to work with."
        ) from None


def _texts(cells: pd.Series) -> pd.Series:
    import pandas as pd

    out = cells.astype(object)
    known = out.notna()
    texts = [_text(cell) if there else None for cell, there in zip(out, known, strict=True)]
    return pd.Series(texts, index=cells.index, dtype=object)


def _text(cell: Any) -> str:
    # Whole numbers become floats where one of them is missing; as texts they stay what they were.
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def _features(
    source: TableFile, features: pd.DataFrame
) -> tuple[tuple[Column, ...], pd.DataFrame, tuple[str, ...]]:
    import pandas as pd

    kept: list[Column] = []
    out: dict[str, Any] = {}
    left_out: dict[str, list[str]] = {}
    for name in features.columns:
        kind, cells = _kind(source, name)
        reason = _useless(kind, cells)
        if reason:
            left_out.setdefault(reason, []).append(name)
            continue
        if kind == "numeric":
            _check_values(source, name, cells.to_numpy(np.float64))
        kept.append(Column(name, cast(Kind, kind)))
        out[name] = cells
    for reason, names in left_out.items():
        what = "Column" if len(names) == 1 else "Columns"
        source.notes.append(f"{what} left out: {listed(names)} ({reason}).")
    return (
        tuple(kept),
        pd.DataFrame(out),
        tuple(name for names in left_out.values() for name in names),
    )


def _useless(kind: str, cells: pd.Series) -> str:
    """Why a column has nothing to learn from, or an empty string."""
    known = cells.dropna()
    different = known.nunique()
    if not len(known):
        return "no value in any row"
    if kind == "date":
        return "dates or times; make numbers of them (a year, a weekday) to use it"
    if different == 1 and (kind == "numeric" or len(known) == len(cells)):
        return "the same value in every row"
    if kind == "text":
        if known.str.match(r"\d{4}-\d{2}-\d{2}").all():
            return "dates; make numbers of them (a year, a weekday) to use it"
        if different > MANY_TEXTS and different > IDENTIFIER_SHARE * len(known):
            return f"{different} different texts in {len(known)} rows, which name rows"
    return ""


def _as_kind(source: TableFile, column: Column) -> pd.Series:
    """A column of new data in the kind it had when the model was fitted."""
    import pandas as pd

    cells = source.frame[column.name]
    known = cells.dropna()
    if not len(known):
        empty = np.nan if column.kind == "numeric" else None
        return pd.Series([empty] * len(cells), dtype=float if column.kind == "numeric" else object)
    kind, values = _kind(source, column.name)
    if column.kind == "numeric":
        if kind == "date":
            raise source.error(f"column {quoted(column.name)} was numeric and now holds dates.")
        if kind != "numeric":
            parsed = pd.to_numeric(known.astype(object), errors="coerce")
            wrong = known[parsed.isna()] if kind == "text" else known
            if not len(wrong):
                return cast("pd.Series", parsed.reindex(cells.index).astype(float))
            raise source.error(
                f"column {quoted(column.name)} was numeric when the model was fitted; "
                f"{source.row(int(wrong.index[0]))} holds {quoted(wrong.iloc[0])}."
            )
        _check_values(source, column.name, values.to_numpy(np.float64))
        return values
    texts = _texts(cells)
    if column.kind == "bool":
        said = texts.map(lambda cell: _truth(cell) if isinstance(cell, str) else None)
        wrong = texts[texts.notna() & said.isna()]
        if len(wrong):
            raise source.error(
                f"column {quoted(column.name)} was true or false when the model was fitted; "
                f"{source.row(int(wrong.index[0]))} holds {quoted(wrong.iloc[0])}."
            )
        return said.astype(object).where(said.notna(), None)
    return texts


def _truth(text: str) -> str | None:
    return {"true": "True", "1": "True", "1.0": "True"}.get(
        text.lower(), {"false": "False", "0": "False", "0.0": "False"}.get(text.lower())
    )


def _check_values(
    source: TableFile, name: str, values: NDArray[np.float64], largest: float = LARGEST
) -> None:
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(np.abs(values) > largest)
    if wrong.size:
        what = "an infinite number" if np.isinf(values[wrong[0]]) else f"{values[wrong[0]]:g}"
        why = "" if np.isinf(values[wrong[0]]) else ", too large a number to work with"
        raise source.error(f"column {quoted(name)}, {source.row(int(wrong[0]))} holds {what}{why}.")


# ------------------------------------------------------------------------------------------ target


def _check_target(source: TableFile, name: str, kind: str, values: pd.Series, task: str) -> None:
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


def _task(source: TableFile, name: str, kind: str, values: pd.Series, task: str) -> Task:
    if task != "auto":
        return cast(Task, task)
    if kind != "numeric":
        return "classification"
    _check_values(source, name, values.to_numpy(np.float64))
    different = values.nunique()
    few = different <= min(MOST_NUMBERED_CLASSES, len(values) // FEWEST_IN_CLASS)
    if few and (values == values.round()).all():
        if source.name not in DATASETS:
            source.notes.append(
                f"The target {quoted(name)} holds {different} different whole numbers, taken for "
                "classes; --task regression takes them for quantities."
            )
        return "classification"
    return "regression"


def _classes(
    source: TableFile, name: str, kind: str, values: pd.Series
) -> tuple[tuple[Any, ...], NDArray[Any]]:
    """The classes in order, and the number of each row's class."""
    if kind == "numeric":
        _check_values(source, name, values.to_numpy(np.float64))
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
