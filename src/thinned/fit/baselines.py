"""What simple models make of the same splits: a score says little until one knows theirs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thinned.fit.compare import mean, paired
from thinned.fit.metrics import METRICS, Metric
from thinned.fit.network import MEASURES, measures
from thinned.fit.results import Baseline, Mean
from thinned.fit.scores import standard_errors
from thinned.fit.target import Task
from thinned.fit.threads import one_blas_thread

__all__ = ["BASELINES", "TELLING", "BaselineJob", "Scored", "called", "found", "score", "splits_of"]

Array = NDArray[Any]
Name = Literal["constant", "linear", "trees"]

BASELINES: tuple[Name, ...] = ("constant", "linear", "trees")
# Trees that boosting grows at the most: a round takes one for each class.
MOST_ROUNDS, MOST_TREES, FEWEST_ROUNDS = 100, 1000, 20
# scikit-learn's least number of rows in a leaf is for large tables: this share of smaller ones.
LEAF, LEAF_SHARE = 20, 0.1
STEPS_OF_SOLVER = 200


@dataclass(frozen=True)
class BaselineJob:
    """A fit of a simple model, on what a network gets too: see `training.Job`.

    with_errors : whether the scores get standard errors, over rows.
    """

    key: tuple[int, int]
    name: Name
    task: Task
    n_classes: int
    inputs: tuple[Array, Array]
    target: tuple[Array, Array]
    seed: int
    with_errors: bool = False
    weights: tuple[Array, Array] | None = None


@dataclass(frozen=True)
class Scored:
    """The `MEASURES` on the rows that were not trained on, and their errors where asked for."""

    key: tuple[int, int]
    measured: tuple[float, ...]
    errors: dict[str, float]


# Rows that trees learn from: they make copies in float64, several times what networks hold.
MOST_TREE_ROWS = 100_000


def splits_of(name: Name, folds: int, splits: int) -> int:
    """How many of the splits a baseline is run on: trees, which take long, on one repeat alone."""
    return min(folds, splits) if name == "trees" else splits


def called(name: str, task: Task) -> str:
    """What a baseline is, in a table."""
    classes = task == "classification"
    return {
        "constant": "no inputs: the classes' shares" if classes else "no inputs: the mean",
        "linear": "linear: logistic regression" if classes else "linear: ridge regression",
        "trees": "boosted trees",
    }[name]


def score(job: BaselineJob) -> Scored:
    """Fit on the first part of the rows, and score on the second."""
    with one_blas_thread():
        outputs = _outputs(job)
    target = job.target[1]
    of_rows = None if job.weights is None else job.weights[1]
    measured = list(measures(job.task, outputs, target, of_rows))
    errors = standard_errors(job.task, outputs, target, of_rows) if job.with_errors else {}
    if job.name == "constant" and job.task == "regression":
        # The constant that is least off in absolute value is the median, not the mean.
        off = np.abs(target - _median(job))
        measured[MEASURES[job.task].index("mae")] = float(np.average(off, weights=of_rows))
        if job.with_errors and len(off) > 1:
            errors["mae"] = float(off.std(ddof=1) / np.sqrt(len(off)))
    elif job.name == "constant" and job.with_errors:
        # Whatever the rows are, a constant finds one class and has no order.
        errors |= {"balanced_accuracy": 0.0, "auc": 0.0}
    return Scored(job.key, tuple(map(float, measured)), errors)


def _median(job: BaselineJob) -> float:
    """Of the target that is trained on, each row counting as often as its weight says."""
    if job.weights is None:
        return float(np.median(job.target[0]))
    order = np.argsort(job.target[0])
    half = np.cumsum(job.weights[0][order])
    return float(job.target[0][order][np.searchsorted(half, half[-1] / 2)])


def _outputs(job: BaselineJob) -> Array:
    """Logarithms of the classes' probabilities, or values, shape (rows, 1)."""
    (x, other), y = job.inputs, job.target[0]
    classes = job.task == "classification"
    weights = None if job.weights is None else job.weights[0]
    if job.name == "constant":
        shares: Any = [np.average(y, weights=weights)]
        if classes:
            counts = np.bincount(y, weights, job.n_classes)
            shares = counts / counts.sum()
        found = np.tile(shares, (len(other), 1))
    else:
        # Solvers take the target as float32 and the trees their gradients: a quantity near 1e70
        # would be infinite there. A power of two, in front, changes no digit of the others.
        power = 0 if classes else int(np.frexp(np.abs(y).max())[1])
        if not classes:
            y = np.ldexp(y, -power)
        if job.name == "trees" and len(x) > MOST_TREE_ROWS:
            some = np.random.default_rng(job.seed).permutation(len(x))[:MOST_TREE_ROWS]
            x, y = x[some], y[some]
            weights = None if weights is None else weights[some]
        model = _model(job, len(x))
        with warnings.catch_warnings():
            _overlook(warnings)
            model.fit(x, y, sample_weight=weights)
        if classes:
            found = model.predict_proba(other)
        else:
            found = np.ldexp(model.predict(other)[:, None].astype(np.float64), power)
        if classes and found.shape[1] < job.n_classes:  # some class has no row in this part
            every = np.zeros((len(other), job.n_classes))
            every[:, model.classes_] = found
            found = every
    found = np.asarray(found, np.float64)
    # A probability of 0 for what happens is an infinite loss: none is smaller than a float32's.
    return np.log(np.maximum(found, np.finfo(np.float32).tiny)) if classes else found


def _overlook(filters: Any) -> None:
    """A linear model a few steps from its optimum is a baseline all the same."""
    from sklearn.exceptions import ConvergenceWarning

    filters.simplefilter("ignore", ConvergenceWarning)


def _model(job: BaselineJob, rows: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge

    classes = job.task == "classification"
    if job.name == "linear":
        return LogisticRegression(max_iter=STEPS_OF_SOLVER) if classes else Ridge()
    outputs = job.n_classes if job.n_classes > 2 else 1
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return kind(
        max_iter=min(MOST_ROUNDS, max(MOST_TREES // outputs, FEWEST_ROUNDS)),
        min_samples_leaf=min(LEAF, max(1, int(rows * LEAF_SHARE))),
        random_state=job.seed,
    )


def found(
    name: Name,
    task: Task,
    metric: Metric,
    scored: Array,
    test: Scored,
    ours: Array,
    folds: int,
) -> Baseline:
    """A baseline beside the network, on the splits that both were run on.

    scored, ours : (splits, measures). Of the baseline, and of the saved model's p.
    """
    names = MEASURES[task]
    m = names.index(metric.name)
    n = len(scored)
    against = paired(ours[:n, m], scored[:, m], folds)
    verdict: Literal["beaten", "as well", "better"] = "as well"
    if against.clear:
        verdict = "beaten" if metric.cost(against.difference) < 0 else "better"
    if name == "constant" and verdict == "as well" and _tells(task, scored, ours[:n], folds):
        verdict = "beaten"
    validation: dict[str, Mean] = {one: mean(scored[:, i]) for i, one in enumerate(names)}
    return Baseline(
        name=name,
        splits=n,
        validation=validation,
        test=dict(zip(names, test.measured, strict=True)),
        errors=test.errors,
        against=against,
        found=verdict,
    )


# Measures by which a network may tell rows apart, though the one that decides does not show it
# clearly: the order of the rows (the ROC curve); squared errors in proportion to the variance of
# each fold, so that none rules; absolute errors, which no single row rules.
TELLING: dict[Task, tuple[str, ...]] = {"classification": ("auc",), "regression": ("r2", "mae")}


def _tells(task: Task, constant: Array, ours: Array, folds: int) -> bool:
    """Whether a network is clearly better than a constant in one of the measures of `TELLING`."""
    tries = 1 + len(TELLING[task])
    for name in TELLING[task]:
        m = MEASURES[task].index(name)
        difference = paired(ours[:, m], constant[:, m], folds, tries)
        if difference.clear and METRICS[task][name].cost(difference.difference) < 0:
            return True
    return False
