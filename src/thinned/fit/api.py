"""`thinned.fit.fit`: the main job for a table that a program holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from thinned import checks
from thinned.checks import message
from thinned.fit.choices import Choices, read_encoding, read_types
from thinned.fit.engines import check_engine, engine_for
from thinned.fit.frames import as_frame, categories, table_of, with_column
from thinned.fit.job import WIDEST
from thinned.fit.kept import Kept
from thinned.fit.metrics import metric_for
from thinned.fit.outcome import Result
from thinned.fit.outcomes import Results, results_from
from thinned.fit.own import Own, own_of
from thinned.fit.plan import read_duration
from thinned.fit.rate import Rate, in_order, per_layer
from thinned.fit.results import FitSettings, Result as Found
from thinned.fit.running import Watch
from thinned.fit.several import Pages, run_each
from thinned.fit.spoken import in_arguments, naming_arguments
from thinned.fit.tables import Problem, loaded, problems_of
from thinned.fit.tune import Tuning, read_tune
from thinned.foreign_arguments import answering
from thinned.numpy.settings import number

__all__ = ["fit"]

WHO = "thinned.fit.fit"
# What a column can be besides learned from and predicted.
BESIDE = ("groups", "time", "weights")


@answering
def fit(
    data: Any,
    target: Any = None,
    *,
    task: str = "auto",
    types: Mapping[str, str] | None = None,
    missing: Sequence[str] = (),
    encoding: str | None = None,
    keep: Sequence[str] = (),
    drop: Sequence[str] = (),
    groups: Any = None,
    time: Any = None,
    weights: Any = None,
    network: str | None = None,
    p: Sequence[float | tuple[float, ...]] = (0.0, 0.1, 0.2, 0.3, 0.5),
    hidden: Sequence[int] = (256, 256),
    epochs: int | None = None,
    repeats: int = 3,
    seed: int = 0,
    metric: str = "loss",
    rows: int = 0,
    learning_rate: float = 0.001,
    tune: Sequence[str] | None = None,
    trials: int = 20,
    aside: int = 0,
    time_limit: float | str | None = None,
    jobs: int | None = None,
    engine: str | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Any = False,
) -> Result | Results:
    """Say what dropout does for a table: cross-validate every p, refit at the best.

    The same job as the command `thinned fit`, with the same answers: docs/fit.md says what is done.

    Parameters
    ----------
    data : a pandas DataFrame; a data frame of another library with the Arrow interface, such as
        polars; a dict of columns; an array of shape (rows, columns), whose columns are then called
        x0, x1, ...; the path of a file; or "digits", "wine", "breast_cancer", "diabetes".
        It is not changed. Columns of a data frame that are categories by their type count as texts.
    target : the name of the column to predict, or one value for each row: an array, a Series, a
        list. Several, of which one network learns all, are a list of names of columns, or a data
        frame with a column for each. Default: the column called "target", else the last one.
    task : "auto", "classification" or "regression". "auto" takes texts, booleans, and whole numbers
        with at most 20 different values, for classes.
    types : the kind of a column, by its name: "number", "grouped", "date", "day/month/year",
        "month/day/year", "duration" or "text".
    missing : texts that count as missing.
    encoding : of a file of separated text, as "cp1251". Default: found out.
    keep, drop : columns that are learned from, or left out, whatever they hold.
    groups : the name of a column, or one value for each row. Rows with equal values are all
        trained on, or all looked at. The column is not learned from.
    time : the name of a column of dates or numbers, or one for each row. What is looked at is
        always later than what is trained on. Values that are given are not learned from.
    weights : the name of a column, or one number for each row: how much it counts, in training and
        in every score. The column is not learned from.
    network : "train.py:model": a function of yours that builds the network, model(inputs, outputs)
        -> torch.nn.Module, in place of the perceptron. The file is run. docs/fit.md says more.
    p : probabilities to drop, each in [0, 1), which are compared with each other and with 0. A
        tuple among them has one for each hidden layer, or one for the input before these.
    hidden : units of each hidden layer.
    epochs : the maximum number of epochs. Default: as the number of rows asks for.
    repeats : int in [1, 1000]. How often the five folds are drawn.
    seed : int in [0, 2^32), of every draw.
    metric : the measure that chooses epochs and p, and by which they are compared: "loss",
        "accuracy", "rmse" and so on, as docs/fit.md lists them.
    rows : int. Learn from a sample of this many rows; 0 is all.
    learning_rate : float > 0, of Adam.
    tune : of "p", "width", "depth" and "learning_rate", what Optuna chooses in `trials` trials, on
        rows that are set aside.
    aside : int. Set this many rows aside, and choose one p above 0 on them by successive halving; 0
        compares all.
    time_limit : seconds, or a text such as "10m", in which it is to end. What has to be left out
        for that is said in a note, and the settings say what was done.
    jobs : int >= 1, processes that train. Default: one for each core. It changes no number.
    engine : "dask", "dask://host:port", "ray" or "ray://host:port", where networks are trained; it
        changes no number either. Default: joblib's current backend, so that
        `joblib.parallel_config` decides; without one, processes on this machine.
    resume : the path of a folder in which each finished training is kept until the end. A run that
        was ended before goes on from there, and its numbers are the same.
    progress : True shows a bar on stderr. A function is called with (trainings done, of).

    Returns
    -------
    Result: the verdict and its numbers, the report, and `model`, a scikit-learn estimator. Of
    several targets `Results`, a mapping from their names to a Result each.

    Raises
    ------
    InputError, a ValueError, with one sentence if the table cannot be learned from. TypeError,
    ValueError if another argument cannot be used.

    Examples
    --------
    >>> import thinned.fit
    >>> from sklearn.datasets import load_iris
    >>> frame = load_iris(as_frame=True).frame
    >>> result = thinned.fit.fit(frame, target="target", p=(0, 0.2), hidden=(16,), epochs=5,
    ...                          repeats=1, jobs=1)
    >>> result.predict(frame).shape
    (150,)
    """
    start = monotonic()
    with naming_arguments():
        own = None if network is None else own_of(network)
    settings = _settings(p, hidden, epochs, repeats, seed, rows, aside, own)
    rate = number(WHO, "learning_rate", learning_rate, 0, open_low=True)
    settings = replace(settings, learning_rate=rate, metric=metric)
    tuning = None
    if tune is not None:
        names = checks.items(WHO, "tune", [tune] if isinstance(tune, str) else tune, "names")
        with naming_arguments():
            tuned = read_tune(",".join(map(str, names)))
        tuning = Tuning(tuned, checks.integer(WHO, "trials", trials, 1, 100_001))
        with naming_arguments():
            tuning.check(settings)
    until = None if time_limit is None else start + _seconds(time_limit)
    if jobs is not None:
        jobs = checks.integer(WHO, "jobs", jobs, 1, 2**16)
    if engine is not None:
        with naming_arguments():
            check_engine(engine)
    if task not in ("auto", "classification", "regression"):
        requirement = "'auto', 'classification' or 'regression'"
        raise ValueError(message(WHO, "task", requirement, checks.shown(task)))
    with naming_arguments():
        choices = replace(_choices(types, missing, keep, drop), encoding=read_encoding(encoding))
        problems = problems_from(data, target, task, choices, groups, time, weights)
        for kind, notes in [(problem.task, problem.notes) for problem in problems]:
            metric_for(kind, metric)
            notes[:] = map(in_arguments, notes)
    columns = {"groups": groups, "time": time, "weights": weights}
    given = {k for k, v in columns.items() if not (v is None or isinstance(v, str))}
    if target is not None and _names(data, target) is None:
        given.add("target")

    from thinned.report import page, page_of_targets

    pages = Pages(
        lambda found: page(found, _again(found, given)),
        lambda found: page_of_targets(found, _again(found[0], given)),
    )
    watch = Watch(progress=_told(progress))
    several = len(problems) > 1
    with naming_arguments(), _kept(resume, several) as kept, engine_for(engine, jobs) as where:
        over = where if kept is None else kept.over(where)
        found = results_from(
            lambda made: run_each(problems, settings, made, pages, watch, over, until, tuning), own
        )
        if kept is not None:
            kept.clear()
        return found


@contextmanager
def _kept(resume: str | os.PathLike[str] | None, several: bool) -> Iterator[Kept | None]:
    """What keeps trainings: in a folder for later, or until the end where several targets share
    them."""
    if resume is not None or not several:
        yield None if resume is None else Kept(Path(resume))
        return
    with TemporaryDirectory(prefix="thinned-") as folder:
        yield Kept(Path(folder) / "jobs")


def problems_from(
    data: Any,
    target: Any,
    task: str,
    choices: Choices,
    groups: Any = None,
    time: Any = None,
    weights: Any = None,
) -> list[Problem]:
    """What there is to learn in data of any kind, for each target: see `fit`."""
    names = None if target is None else _names(data, target)
    columns = {"groups": groups, "time": time, "weights": weights}
    given = {k: v for k, v in columns.items() if not (v is None or isinstance(v, str))}
    if isinstance(data, (str, os.PathLike)):
        if names is None and target is not None:
            given = {"target": target, **given}
        for name, values in given.items():
            requirement = "a column's name where data is a file"
            raise TypeError(message(WHO, name, requirement, type(values).__name__))
        return loaded(os.fspath(data), names or (), task, replace(choices, **columns))
    frame = as_frame(WHO, data)
    if names is None and target is not None:
        frame, names = _with_targets(frame, target)
    known = {*choices.kinds, *choices.drop, *(names or ())}
    known |= {v for v in columns.values() if isinstance(v, str)}
    types = tuple(f"{one}=text" for one in categories(data) if one not in known)
    for name, values in given.items():
        frame, columns[name] = with_column(WHO, frame, name, values)
    source = table_of(WHO, frame, choices.missing)
    choices = replace(choices, types=(*choices.types, *types), **columns)
    beside = {columns[name] for name in given}
    return problems_of(source, source.name, names or (), task, choices, beside)


def _names(data: Any, target: Any) -> tuple[str, ...] | None:
    """The names of the columns that are the targets; None where they are given as values."""
    if isinstance(target, str):
        return (target,)
    texts = isinstance(target, (list, tuple)) and all(isinstance(one, str) for one in target)
    if not texts or not target:
        return None
    # As many texts as rows are values: one for each.
    rows = None if isinstance(data, (str, os.PathLike)) else len(as_frame(WHO, data))
    return None if len(target) == rows else tuple(target)


def _with_targets(frame: Any, target: Any) -> tuple[Any, tuple[str, ...]]:
    """The table with the values of one target, or of each column of a data frame."""
    if not hasattr(target, "columns"):
        frame, name = with_column(WHO, frame, "target", target)
        return frame, (name,)
    names = []
    values = as_frame(WHO, target)
    for name in values.columns:
        frame, found = with_column(WHO, frame, "target", values[name])
        names.append(found)
    return frame, tuple(names)


def _choices(
    types: Mapping[str, str] | None,
    missing: Sequence[str],
    keep: Sequence[str],
    drop: Sequence[str],
) -> Choices:
    if types is not None and not isinstance(types, Mapping):
        raise TypeError(
            message(WHO, "types", "a dict such as {'when': 'date'}", type(types).__name__)
        )
    typed = read_types([f"{name}={kind}" for name, kind in (types or {}).items()])
    lists = {
        name: tuple(
            str(one)
            for one in checks.items(
                WHO, name, [value] if isinstance(value, str) else value, "a list of texts"
            )
        )
        for name, value in (("missing", missing), ("keep", keep), ("drop", drop))
    }
    return Choices(typed, lists["missing"], lists["keep"], lists["drop"])


def _seconds(time_limit: Any) -> float:
    if isinstance(time_limit, str):
        with naming_arguments():
            return read_duration(time_limit)
    return number(WHO, "time_limit", time_limit, 0, open_low=True)


def _settings(
    p: Any,
    hidden: Any,
    epochs: Any,
    repeats: Any,
    seed: Any,
    rows: Any,
    aside: Any,
    own: Own | None,
) -> FitSettings:
    units = [hidden] if isinstance(hidden, Real) else hidden
    sizes = checks.items(WHO, "hidden", units, "a list of numbers of units")
    if not sizes:
        raise ValueError(message(WHO, "hidden", "a list with at least one number of units", "none"))
    values = [p] if isinstance(p, Real) else p
    found: set[Rate] = {0.0}
    for i, one in enumerate(checks.items(WHO, "p", values, "a list of probabilities")):
        found.add(_rate(one, f"p[{i}]", len(sizes) if own is None else None))
    if len(found) < 2:
        raise ValueError(
            message(WHO, "p", "a list with at least one p above 0, to compare with none", p)
        )
    if epochs is not None:
        epochs = checks.integer(WHO, "epochs", epochs, 1, 100_001)
    return FitSettings(
        p=in_order(found),
        network=own,
        hidden=()
        if own is not None
        else tuple(
            checks.integer(WHO, f"hidden[{i}]", size, 1, WIDEST + 1) for i, size in enumerate(sizes)
        ),
        epochs=epochs or 0,
        repeats=checks.integer(WHO, "repeats", repeats, 1, 1001),
        seed=checks.integer(WHO, "seed", seed, 0, 2**32),
        rows=checks.integer(WHO, "rows", rows, 0, 2**42),
        aside=checks.integer(WHO, "aside", aside, 0, 2**42),
    )


def _rate(given: Any, name: str, hidden: int | None) -> Rate:
    """One p, or one for each layer."""
    if isinstance(given, tuple | list):
        rates = tuple(_probability(one, f"{name}[{i}]") for i, one in enumerate(given))
        rate = per_layer(rates, hidden)
        if rate is None:
            requirement = f"one p, or one for each of the {hidden} hidden layers and the input"
            raise ValueError(message(WHO, name, requirement, f"{len(rates)} of them"))
        return rate
    return _probability(given, name)


def _probability(given: Any, name: str) -> float:
    value = checks.probability(WHO, given, name)
    if value == 1.0:
        raise ValueError(message(WHO, name, "a float in [0, 1)", 1))
    return value + 0.0


def _told(progress: Any) -> Any:
    from thinned.members.progress import shown

    @contextmanager
    def told(total: int) -> Iterator[Callable[[], None]]:
        with shown(WHO, progress) as tell:
            done = 0

            def advance() -> None:
                nonlocal done
                done += 1
                if tell is not None:
                    tell(done, total)

            yield advance

    return told


def _again(found: Found, given: Collection[str]) -> list[str]:
    """The call that does it again, in pieces that belong together.

    given : arguments that were values, one for each row.
    """
    settings, choices = found.settings, found.data.choices
    data = repr(found.data.typed) if found.data.sha256 else found.data.name
    targets = found.data.targets
    said: dict[str, Any] = {"target": list(targets) if len(targets) > 1 else targets[0]}
    said["task"] = found.data.tasks
    if choices.types:
        said["types"] = choices.kinds
    for name in ("missing", "keep", "drop"):
        if getattr(choices, name):
            said[name] = list(getattr(choices, name))
    if settings.network is not None:
        said["network"] = f"{settings.network.path}:{settings.network.function}"
    for name in BESIDE:
        if getattr(choices, name) is not None:
            said[name] = getattr(choices, name)
    for name in (
        "p",
        "hidden",
        "epochs",
        "repeats",
        "seed",
        "metric",
        "rows",
        "learning_rate",
        "aside",
    ):
        if getattr(settings, name) or name == "seed":  # 0 rows are all
            said[name] = getattr(settings, name)
    pairs = [f"{k}={k if k in given else repr(v)}" for k, v in said.items()]
    return [f"thinned.fit.fit({data},", *(f"{pair}," for pair in pairs[:-1]), f"{pairs[-1]})"]
