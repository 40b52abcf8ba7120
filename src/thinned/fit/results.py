"""What `thinned fit` found, as plain values that the report and the terminal read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thinned.fit.choices import Choices
from thinned.fit.importance import Importance
from thinned.fit.metrics import UNBALANCED, Metric, metric_for
from thinned.fit.model import Answers
from thinned.fit.overview import ColumnFacts
from thinned.fit.own import Own
from thinned.fit.rate import Rate
from thinned.fit.tables import Column, Task
from thinned.fit.uncertainty import Uncertainty

__all__ = [
    "Baseline",
    "Comparison",
    "Data",
    "FitSettings",
    "Level",
    "Mean",
    "Paired",
    "Predictions",
    "Refit",
    "Result",
    "ShownMask",
    "Split",
    "Took",
    "Verdict",
    "metrics",
]

Verdict = Literal["helped", "no clear difference", "hurt"]


@dataclass(frozen=True)
class FitSettings:
    """How it was run. `p` is sorted and starts with 0, which the others are compared with.

    rows : of a sample, 0 for all. aside : rows that p was chosen on, and nothing else.
    metric : the measure that chooses epochs and p, and by which they are compared.
    network : what builds the network, where it is not the perceptron of `hidden`.
    judged : splits that there was time for, the first ones; 0 is all of them.
    """

    p: tuple[Rate, ...]
    hidden: tuple[int, ...]
    epochs: int
    repeats: int
    seed: int
    rows: int = 0
    aside: int = 0
    folds: int = 5
    test_share: float = 0.2
    batch_size: int = 32
    learning_rate: float = 0.001
    weight_decay: float = 0.0
    metric: str = "loss"
    network: Own | None = None
    judged: int = 0

    @property
    def splits(self) -> int:
        return self.judged or self.folds * self.repeats


@dataclass(frozen=True)
class Data:
    """What it was run on. `rows` and `test_rows` count; `sha256` is the file's.

    typed : str. How the user named it, of which `name` is the last part.
    choices : what the user said about the columns.
    """

    name: str
    typed: str
    sha256: str | None
    rows: int
    test_rows: int
    columns: tuple[Column, ...]
    left_out: tuple[str, ...]
    inputs: int
    target: str
    task: Task
    classes: tuple[Any, ...]
    notes: tuple[str, ...]
    choices: Choices = field(default_factory=Choices)
    overview: tuple[ColumnFacts, ...] = ()
    # Rows of each class, in the order of `classes`; mean, spread and ends of a quantity.
    class_rows: tuple[int, ...] = ()
    spread: dict[str, float] = field(default_factory=dict)
    # All that one network has learned, in the order in which they were named, and what they are;
    # "auto" where some are classes and some are quantities.
    targets: tuple[str, ...] = ()
    tasks: str = "auto"

    @property
    def unbalanced(self) -> bool:
        """Whether a class has three times as many rows as another, or more."""
        return bool(self.class_rows) and max(self.class_rows) >= UNBALANCED * min(self.class_rows)


@dataclass(frozen=True)
class Mean:
    """A mean over the splits, and its standard error (standard deviation / sqrt(splits))."""

    value: float
    error: float


@dataclass(frozen=True)
class Split:
    """One of the folds x repeats: the seed its networks share, at every p, and what they scored.

    validation[measure] and training[measure] hold a value for each p, at the p's entry of `epochs`,
    which the other folds of the repeat have chosen. `rows` is a hash of the rows on both sides, by
    their place in the data.
    """

    repeat: int
    fold: int
    rows: str
    random_state: int
    validation: dict[str, list[float]]
    training: dict[str, list[float]]
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Level:
    """One p, over all splits.

    `epochs` is the look at which the smoothed mean over the splits is best; `finished` says whether
    it is so before the training was cut short. `validation`, `training` and `gap` (validation loss
    minus training loss) are taken at each split's own epochs, `last_loss` and `last_gap` at
    `last_epoch`, the last that any split came to: a training that patience has ended counts with
    what it was then. The curves have a value for each of the
    result's looks up to there.
    """

    p: Rate
    epochs: int
    validation: dict[str, Mean]
    training: dict[str, Mean]
    gap: Mean
    last_epoch: int
    last_loss: Mean
    last_gap: Mean
    validation_curve: tuple[Mean, ...]
    training_curve: tuple[Mean, ...]
    finished: bool = True


@dataclass(frozen=True)
class Paired:
    """A difference over the same splits: one kind of model minus another.

    `error` is its standard error, corrected for splits whose training rows overlap: with plain
    independence the variance over the n splits would be divided by n, here by 1 / (1 / n +
    validation rows / training rows). `bound` is how large a difference must be to be clear: error
    times Student's t, two-sided 5 %, shared among as many comparisons as there are.

    References
    ----------
    Nadeau and Bengio, 2003, Machine Learning 52, 239-281.
    """

    difference: float
    error: float
    bound: float

    @property
    def clear(self) -> bool:
        return abs(self.difference) > self.bound


@dataclass(frozen=True)
class Comparison:
    """The best p above 0 against p = 0: validation values of `metric`, split by split.

    `difference`, `error` and `bound` are those of `Paired`, the difference being value(p) -
    value(0); with a Bonferroni correction for the number of ps.
    """

    p: Rate
    difference: float
    error: float
    bound: float
    verdict: Verdict
    metric: str = "loss"


@dataclass(frozen=True)
class Baseline:
    """A simple model on the same splits and the same inputs.

    splits : how many of the splits it was run on, the first ones.
    against : the saved model's p minus this, in the measure that decides.
    found : "beaten" where the network is clearly better, "better" where this is, else "as well".
    """

    name: str
    splits: int
    validation: dict[str, Mean]
    test: dict[str, float]
    errors: dict[str, float]
    against: Paired
    found: Literal["beaten", "as well", "better"]


@dataclass(frozen=True)
class Refit:
    """A network trained on all rows but the test part, for the epochs of its p.

    errors : standard errors of the test scores, over the rows of the test part.
    """

    p: Rate
    epochs: int
    random_state: int
    training: dict[str, float]
    test: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Test loss minus training loss."""
        return self.test["loss"] - self.training["loss"]


@dataclass(frozen=True)
class Predictions:
    """For the test part: row numbers in the data (from 1), what is there, what the model says.

    confusion[i, j] counts rows of class i that the model takes for class j.
    """

    rows: NDArray[np.int64]
    target: NDArray[Any]
    answers: Answers
    confusion: NDArray[np.int64] | None


@dataclass(frozen=True)
class ShownMask:
    """The masks of one batch at one site of a network: keep[row, unit], True where kept."""

    site: str
    address: str
    p: float
    shape: tuple[int, int]
    keep: NDArray[np.bool_]


@dataclass(frozen=True)
class Took:
    """seconds : from the start of the trainings to the end. machine : what it ran on."""

    seconds: float
    machine: str


@dataclass(frozen=True)
class Result:
    """All of it. `best` is the level with the lowest mean validation loss, which the model has."""

    settings: FitSettings
    data: Data
    looks: tuple[int, ...]
    levels: tuple[Level, ...]
    splits: tuple[Split, ...]
    comparison: Comparison
    best: Level
    refits: tuple[Refit, ...]
    predictions: Predictions
    masks: tuple[ShownMask, ...]
    headline: str
    sentences: tuple[str, ...]
    versions: dict[str, str] = field(default_factory=dict)
    # The paired difference of the gaps, best p above 0 minus p = 0.
    gap: Paired | None = None
    baselines: tuple[Baseline, ...] = ()
    importance: tuple[Importance, ...] = ()
    # Of the saved model.
    uncertainty: Uncertainty | None = None
    # How long it took, and on what: in took.json.
    took: Took | None = None

    @property
    def metric(self) -> Metric:
        """The measure that decides."""
        return metric_for(self.data.task, self.settings.metric)

    def refit(self, p: Rate) -> Refit:
        """The refit at this p: there is one at 0 and one at the best p above it."""
        return next(refit for refit in self.refits if refit.p == p)


def metrics(result: Result) -> dict[str, Any]:
    """What metrics.json holds: all but predictions and masks; nothing that changes by the hour."""
    facts = asdict(result)
    for name in ("predictions", "masks", "best", "uncertainty", "took"):
        del facts[name]
    if (own := result.settings.network) is not None:  # its code is not kept, nor where it was
        facts["settings"]["network"] = {"called": own.called, "sha256": own.sha256}
    del facts["data"]["typed"]  # the same data in another folder has the same numbers
    confusion = result.predictions.confusion
    return {
        "format": "thinned.fit",
        "format_version": 3,
        "best_p": result.best.p,
        "test": result.refit(result.best.p).test,
        "verdict": result.comparison.verdict,
        **facts,
        "conformal": _conformal(result.uncertainty),
        "confusion": None if confusion is None else confusion.tolist(),
    }


def _conformal(found: Uncertainty | None) -> dict[str, Any] | None:
    """The level of intervals or sets, and how strange the truth may be; null if not to be known."""
    if found is None:
        return None
    bounds = found.bounds
    return {"level": bounds.level, "limit": bounds.limit if bounds.known else None}
