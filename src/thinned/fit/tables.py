"""DATA as a table: columns of numbers, texts and yes-or-no, and a target that can be learned."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError, listed, quoted
from thinned.fit.choices import Choices, check_names
from thinned.fit.dates import FORMS
from thinned.fit.detection import found, plainly_numbers
from thinned.fit.doubt import option
from thinned.fit.files import STANDARD_INPUT, read
from thinned.fit.kinds import Column, Kind, as_kind, kind_of
from thinned.fit.readings import Reading, applied
from thinned.fit.remarks import alike, note_alike, note_classes
from thinned.fit.selection import selected
from thinned.fit.source import TableFile
from thinned.fit.structure import group_numbers, times_of, weights_of
from thinned.fit.sums import note_sums
from thinned.fit.target import Goal, Task, goals_of, target_columns
from thinned.fit.together import Together, together

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DATASETS",
    "Column",
    "Kind",
    "Problem",
    "Task",
    "features_for",
    "load",
    "loaded",
    "open_data",
    "problems_of",
]

DATASETS = ("digits", "wine", "breast_cancer", "diabetes")

# A test part of a fifth must leave the table enough rows for five folds.
FEWEST_ROWS = 13


@dataclass
class Problem:
    """What there is to learn: features by row, and one target each. Several targets are as many
    problems, whose features, rows and order are the same.

    `features` has a column of float64 (NaN is missing) for each numeric column, and one of str
    (None is missing) for each other. `target` holds class numbers, or values in the target's units.
    `data` is the name of the file or the data set, and `typed` what was given for it.
    `readings` say how texts were read, and `choices` what the user said about the columns.
    `groups` number the groups that rows belong to, `times` put the rows in order, and `weights`,
    with a mean of 1, say how much each counts, where there are such columns.
    `places` are the positions of the rows in the data, and `unknown` has the features of the rows
    without a target, its index being their positions.
    `together` has all targets where there are several, of which one network learns all.
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
    places: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    unknown: pd.DataFrame | None = None
    groups: NDArray[np.intp] | None = None
    times: NDArray[np.float64] | None = None
    weights: NDArray[np.float64] | None = None
    together: Together | None = None

    @property
    def rows(self) -> int:
        return len(self.target)

    @property
    def strata(self) -> NDArray[np.intp] | None:
        """What splits keep in proportion; None where no target has classes."""
        if self.together is not None:
            return self.together.strata
        return self.target if self.task == "classification" else None

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of all targets."""
        return (self.target_name,) if self.together is None else self.together.names

    @property
    def tasks(self) -> str:
        """What all targets are, as --task says it."""
        return self.task if self.together is None else self.together.task or "auto"

    def taken(self, rows: NDArray[np.intp]) -> Problem:
        """The same for some of the rows."""
        return replace(
            self,
            features=self.features.iloc[rows].reset_index(drop=True),
            target=self.target[rows],
            places=self.places[rows],
            groups=None if self.groups is None else self.groups[rows],
            times=None if self.times is None else self.times[rows],
            weights=None if self.weights is None else self.weights[rows],
            together=None if self.together is None else self.together.taken(rows),
        )


def open_data(
    data: str,
    as_text: frozenset[str] = frozenset(),
    missing: tuple[str, ...] = (),
    encoding: str | None = None,
) -> TableFile:
    """DATA as the user names it: one of scikit-learn's data sets, a file, or "-"."""
    if data in DATASETS:
        return _dataset(data)
    path = Path(data)
    if path == STANDARD_INPUT:
        return read(path, as_text, missing, encoding)
    try:
        there = path.exists()
    except OSError as reason:  # a name too long, a loop of links
        raise InputError(f"{data}: cannot be read ({reason.strerror}).") from None
    if not there:
        near = difflib.get_close_matches(data, DATASETS, 1)
        hint = f"did you mean {near[0]}?" if near else f"data sets by name: {', '.join(DATASETS)}."
        raise InputError(f"{data}: no such file; {hint}")
    return read(path, as_text, missing, encoding)


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
    return loaded(data, () if target is None else (target,), task, choices)[0]


def loaded(
    data: str, targets: Sequence[str], task: str = "auto", choices: Choices | None = None
) -> list[Problem]:
    """`load` for several targets: a problem for each."""
    choices = choices or Choices()
    source = open_data(data, missing=choices.missing, encoding=choices.encoding)
    return problems_of(source, data, targets, task, choices)


def problems_of(
    source: TableFile,
    typed: str,
    targets: Sequence[str],
    task: str,
    choices: Choices,
    beside: Collection[str] = (),
) -> list[Problem]:
    """What `load` makes of a table that was read: a problem for each target.

    typed : how the user named it. beside : columns that new data will not have.
    """
    source.frame = source.frame.reset_index(drop=True)
    targets = target_columns(source, targets)
    names = list(source.frame.columns)
    _check_choices(choices, targets, names)
    groups = None if choices.groups is None else group_numbers(source, choices.groups)
    weights = None if choices.weights is None else weights_of(source, choices.weights)
    apart = {*choices.drop, *filter(None, (choices.groups, choices.weights))}
    source.frame = source.frame.drop(columns=list(apart))
    names_read = list(source.frame.columns)
    readings = found(source, names_read, choices.kinds, targets)
    for one in readings:
        if one.column in targets and one.dated:
            clock = FORMS[one.form].clock
            more = f", or write {option(one.column, 'duration')} if they are lengths of time"
            what = "times of day" if clock else "dates"
            raise source.error(
                f"the target {quoted(one.column)} holds {what}; name another with --target"
                f"{more if clock else ''}."
            )
    applied(source, readings)
    times = None if choices.time is None else times_of(source, choices.time, readings)
    _check_number(source, len(source.frame))
    columns = {name: kind_of(source, name) for name in targets}
    if weights is not None and not weights.all():
        columns = {
            name: (kind, values.where(weights > 0, np.nan if kind == "numeric" else None))
            for name, (kind, values) in columns.items()
        }
        source.notes.append(
            f"Rows to which {quoted(choices.weights)} gives a weight of 0 count as rows without a "
            "target."
        )
    goals, rows = goals_of(source, columns, task)
    _check_number(source, len(rows), " with a target")
    for goal in goals:
        if goal.kind == "text":
            _check_differ(source, goal)
            note_alike(source, goal.name, columns[goal.name][1])
        note_classes(source, goal)
    unlearned = {*targets, *beside}
    unlearned |= {part for one in readings if one.column in beside for part in one.makes}
    others = [one for one in source.frame.columns if one not in unlearned]
    made = {part for one in readings if one.dated for part in one.makes}
    kept, frame = selected(source, others, goals, rows, choices.keep, made)
    if not kept:
        why = f" {source.notes[-1]}" if others else ""
        what = f"target{'s' * (len(targets) > 1)} {listed(targets)}"
        raise source.error(f"there is no column to learn from beside the {what}.{why}")
    note_sums(source, targets, made)
    unknown = ~np.all([values.notna().to_numpy() for _, values in columns.values()], axis=0)
    features = frame if len(rows) == len(frame) else frame.iloc[rows].reset_index(drop=True)
    problems = []
    for goal in goals:
        # The columns that a date becomes can be left out one by one.
        learned = {goal.name, *(column.name for column in kept)}
        used = tuple(one for one in readings if learned & {one.column, *one.makes})
        learned |= {one.column for one in used}
        problems.append(
            Problem(
                data=source.name,
                typed=typed,
                features=features,
                columns=kept,
                left_out=tuple(one for one in names if one not in learned),
                target_name=goal.name,
                task=goal.task,
                target=goal.target,
                classes=goal.classes,
                sha256=source.sha256,
                notes=list(source.notes),
                readings=used,
                choices=choices,
                places=rows,
                groups=None if groups is None else groups[rows],
                times=None if times is None else times[rows],
                weights=None if weights is None else weights[rows] / weights[rows].mean(),
                unknown=frame[unknown],
                together=together(goals),
            )
        )
    return problems


def _check_differ(source: TableFile, goal: Goal) -> None:
    """Refuse classes that are one word, written in several ways."""
    if len({alike(one) for one in goal.classes}) < 2:
        raise source.error(
            f"the target {quoted(goal.name)} has one class, written in several ways: "
            f"{listed(goal.classes, 3)}; there is nothing to tell apart."
        )


def _check_number(source: TableFile, rows: int, which: str = "") -> None:
    if rows < FEWEST_ROWS:
        raise source.error(
            f"{rows} row{'s' * (rows != 1)}{which} {'is' if rows == 1 else 'are'} fewer than five "
            f"folds beside a test part need; at least {FEWEST_ROWS} are needed."
        )


def _check_choices(choices: Choices, targets: Collection[str], names: list[str]) -> None:
    """Options name columns that are there, and do not contradict each other."""
    check_names("--type", list(choices.kinds), names)
    for flag, those in (("--keep", choices.keep), ("--drop", choices.drop)):
        check_names(flag, those, names)
        if both := set(targets) & set(those):
            raise InputError(f"{flag}: {quoted(min(both))} is {_target(targets)}.")
    columns = (choices.groups, choices.time, choices.weights)
    for flag, one in zip(("--groups", "--time", "--weights"), columns, strict=True):
        if one is None:
            continue
        check_names(flag, [one], names)
        if one in targets:
            raise InputError(f"{flag}: {quoted(one)} is {_target(targets)}.")
        if one in choices.drop or (flag != "--time" and one in choices.keep):
            raise InputError(f"{flag}: {quoted(one)} is named by --keep or --drop too.")
    if choices.weights is not None and choices.weights in (choices.groups, choices.time):
        raise InputError(f"--weights: {quoted(choices.weights)} is named by another option too.")
    if choices.groups is not None and choices.time is not None:
        raise InputError("--groups and --time: only one of them can say what is held out.")
    both = set(choices.keep) & set(choices.drop)
    if both:
        raise InputError(f"--keep and --drop: both name the column {quoted(min(both))}.")


def _target(targets: Collection[str]) -> str:
    return "a target" if len(targets) > 1 else "the target"


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
    # The target of new data is only shown.
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
