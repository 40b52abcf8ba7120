"""What `thinned fit` found, as plain values that the report and the terminal read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thinned.fit.choices import Choices
from thinned.fit.model import Answers
from thinned.fit.tables import Column, Task
from thinned.fit.uncertainty import Uncertainty

__all__ = [
    "Comparison",
    "Data",
    "FitSettings",
    "Level",
    "Mean",
    "Predictions",
    "Refit",
    "Result",
    "ShownMask",
    "Split",
    "Verdict",
    "metrics",
]

Verdict = Literal["helped", "no clear difference", "hurt"]


@dataclass(frozen=True)
class FitSettings:
    """How it was run. `p` is sorted and starts with 0, which the others are compared with.

    rows : of a sample, 0 for all. aside : rows that p was chosen on, and nothing else.
    """

    p: tuple[float, ...]
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

    @property
    def splits(self) -> int:
        return self.folds * self.repeats


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


@dataclass(frozen=True)
class Mean:
    """A mean over the splits, and its standard error (standard deviation / sqrt(splits))."""

    value: float
    error: float


@dataclass(frozen=True)
class Split:
    """One of the folds x repeats: the seed its networks share, at every p, and what they scored.

    validation[measure] and training[measure] hold a value for each p, at that p's epochs.
    """

    repeat: int
    fold: int
    random_state: int
    validation: dict[str, list[float]]
    training: dict[str, list[float]]


@dataclass(frozen=True)
class Level:
    """One p, over all splits.

    `epochs` is the look with the lowest mean validation loss; `validation`, `training` and `gap`
    (validation loss minus training loss) are taken there, `last_loss` and `last_gap` at the last
    epoch. The curves have a value for each of the result's looks.
    """

    p: float
    epochs: int
    validation: dict[str, Mean]
    training: dict[str, Mean]
    gap: Mean
    last_loss: Mean
    last_gap: Mean
    validation_curve: tuple[Mean, ...]
    training_curve: tuple[Mean, ...]


@dataclass(frozen=True)
class Comparison:
    """The best p above 0 against p = 0: validation losses, split by split.

    `difference` is loss(p) - loss(0), negative where dropout is better. `error` is its standard
    error, corrected for splits whose training rows overlap: with plain independence the variance
    over the n splits would be divided by n, here by 1 / (1 / n + validation rows / training rows).
    `bound` is how large a difference must be to be clear: error times Student's t, two-sided 5 %
    shared among the ps that were tried.

    References
    ----------
    Nadeau and Bengio, 2003, Machine Learning 52, 239-281.
    """

    p: float
    difference: float
    error: float
    bound: float
    verdict: Verdict


@dataclass(frozen=True)
class Refit:
    """A network trained on all rows but the test part, for the epochs of its p."""

    p: float
    epochs: int
    random_state: int
    training: dict[str, float]
    test: dict[str, float]

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
    # Of the saved model; None where it was fitted at p = 0.
    uncertainty: Uncertainty | None = None

    def refit(self, p: float) -> Refit:
        """The refit at this p: there is one at 0 and one at the best p above it."""
        return next(refit for refit in self.refits if refit.p == p)


def metrics(result: Result) -> dict[str, Any]:
    """What metrics.json holds: all but predictions and masks; nothing that changes by the hour."""
    facts = asdict(result)
    for name in ("predictions", "masks", "best", "uncertainty"):
        del facts[name]
    del facts["data"]["typed"]  # the same data in another folder has the same numbers
    confusion = result.predictions.confusion
    return {
        "format": "thinned.fit",
        "format_version": 1,
        "best_p": result.best.p,
        "test": result.refit(result.best.p).test,
        "verdict": result.comparison.verdict,
        **facts,
        "confusion": None if confusion is None else confusion.tolist(),
    }
