"""Prediction: what many thinned networks say of each row, and how far they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.checks import message
from thinned.members.statistics import Quantiles, RunningMoments, entropy

__all__ = ["TASKS", "Gathered", "Prediction", "joined", "require_task"]

Array = NDArray[np.float64]

# What a network's outputs are. The caller says it; it is never guessed from their shape.
TASKS = (None, "regression", "mean_variance", "classification", "binary", "probabilities")
CLASSES = ("classification", "binary", "probabilities")


@dataclass(frozen=True)
class Prediction:
    """What M thinned networks say of N rows. Arrays are NumPy's, in binary64.

    Attributes
    ----------
    mean : (N, ...). The mean over members: of the outputs, or, with classes, of probabilities.
    std : (N, ...). Standard deviation between members (unbiased variance, ddof = 1). Its size
        depends on p and need not shrink with more data; in regression it leaves out the noise in y.
    standard_error : (N, ...). Monte Carlo error of `mean`, as an estimate of the mean over all
        thinned networks (not of the truth): std / sqrt(M). With antithetic members it is that of
        the mean of M / 2 pairs.
    quantiles : dict from each probability that was asked for to an array (N, ...), over members.
    probabilities : (N, ..., C), or None without classes. `mean`.
    predictive_entropy : (N, ...), or None. -sum p ln p of the mean probabilities.
    expected_entropy : the mean over members of the entropy of each.
    mutual_information : predictive - expected entropy >= 0: how much members disagree.
    variation_ratio : 1 - the share of members whose most probable class is the commonest one.
    epistemic, aleatoric : (N, ...), or None unless the model gives a variance. The variance between
        the members' means, and the mean of their variances. The predictive variance is the sum.
        `epistemic` depends on p and need not vanish with more data, as `std`.
    outputs : (M, N, ...), or None unless keep=True. What `mean` is the mean of, member by member.
    members, seed, share, antithetic, task : the request. `members` counts those that answered.
    until, reached : the bound on standard_error, and whether it was met in every row; else None.
    unit : "nats" or "bits", of the entropies and the mutual information.
    execution : "thin" where members ran at their true, smaller size, else "elementwise".
    prefix : names of the modules before the first draw, computed once a batch for all members.
    not_reached : what may be dropout and could not be woken, with the reason.
    """

    mean: Array
    std: Array
    standard_error: Array
    members: int
    seed: int
    share: str
    task: str | None = None
    antithetic: bool = False
    quantiles: Mapping[float, Array] = field(default_factory=dict)
    probabilities: Array | None = None
    predictive_entropy: Array | None = None
    expected_entropy: Array | None = None
    mutual_information: Array | None = None
    variation_ratio: Array | None = None
    epistemic: Array | None = None
    aleatoric: Array | None = None
    outputs: Array | None = None
    until: float | None = None
    reached: bool | None = None
    unit: str = "nats"
    execution: str = "elementwise"
    prefix: tuple[str, ...] = ()
    not_reached: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.mean)

    def to_bits(self) -> Prediction:
        """The same with entropies and mutual information in bits: divided by ln 2."""
        if self.unit == "bits":
            return self
        return replace(
            self,
            unit="bits",
            predictive_entropy=_bits(self.predictive_entropy),
            expected_entropy=_bits(self.expected_entropy),
            mutual_information=_bits(self.mutual_information),
        )

    def __repr__(self) -> str:
        """A few lines: arrays of many rows are no message."""
        pairs = " in antithetic pairs" if self.antithetic else ""
        head = f"Prediction of {len(self)} rows by {self.members} members{pairs}: "
        lines = [head + f"seed={self.seed}, share={self.share!r}, {self.execution}"]
        if self.until is not None:
            said = "reached" if self.reached else "NOT reached"
            lines.append(f"  until={self.until:g}: {said} in every row")
        shown = ["mean", "std", "standard_error", "predictive_entropy", "expected_entropy"]
        shown += ["mutual_information", "variation_ratio", "epistemic", "aleatoric"]
        for name in shown:
            value = getattr(self, name)
            if value is not None and value.size:
                unit = f" {self.unit}" if "entropy" in name or "information" in name else ""
                lines.append(
                    f"  {name} {value.shape}: {value.min():.4g} to {value.max():.4g}, "
                    f"mean {value.mean():.4g}{unit}"
                )
        if self.prefix:
            lines.append(f"  once a batch: {', '.join(self.prefix)}")
        lines += [f"  not reached: {what}" for what in self.not_reached]
        return "\n".join(lines)


def _bits(nats: Array | None) -> Array | None:
    return None if nats is None else nats / math.log(2.0)


def require_task(who: str, task: Any) -> None:
    """ValueError unless `task` is one of TASKS."""
    if not isinstance(task, str | None) or task not in TASKS:
        known = ", ".join(repr(name) for name in TASKS)
        raise ValueError(message(who, "task", f"one of {known}", repr(task)))


class Gathered:
    """Statistics of the members' answers on one batch, as they come."""

    def __init__(
        self,
        who: str,
        task: str | None,
        antithetic: bool,
        keep: bool,
        quantiles: Sequence[float],
        class_axis: int = -1,
    ) -> None:
        self.who, self.task, self.antithetic = who, task, antithetic
        self.class_axis, self.all = class_axis, RunningMoments()
        self.pairs, self.halves = RunningMoments(), RunningMoments()
        self.entropies, self.variances = RunningMoments(), RunningMoments()
        self.votes: Any = 0
        self.kept: list[Array] | None = [] if keep else None
        self.sketch = Quantiles(quantiles) if quantiles else None
        self._partner: Array | None = None
        self._first: Array | None = None
        self.equal = True

    def add(self, output: Any) -> None:
        """What one more member says: an array (rows, ...), or two of them for "mean_variance"."""
        if self.task == "mean_variance":
            output, variance = self._two(output)
            self.variances.add(variance)
        y = self._read(output)
        if self._first is None:
            self._first = y
        elif y.shape != self._first.shape:
            remedy = "Pass output=, a function that takes from them what all members have."
            got = f"{self._first.shape} and {y.shape}"
            raise ValueError(message(self.who, "the members' results", "of one shape", got, remedy))
        elif self.equal:
            self.equal = bool(np.array_equal(self._first, y, equal_nan=True))
        self.all.add(y)
        if self.antithetic:
            self._pair(y)
        if self.task in CLASSES:
            self.entropies.add(entropy(y))
            top = y.argmax(axis=-1)
            self.votes = self.votes + (np.arange(y.shape[-1]) == top[..., None])
        if self.sketch is not None:
            self.sketch.add(y)
        if self.kept is not None:
            self.kept.append(y)

    def _two(self, output: Any) -> tuple[Any, Array]:
        if not isinstance(output, (tuple, list)) or len(output) != 2:
            got = type(output).__name__
            raise TypeError(
                message(self.who, "the output", "(mean, variance) for task='mean_variance'", got)
            )
        variance = np.asarray(output[1], np.float64)
        if variance.size and not variance.min() >= 0.0:
            remedy = "A logarithm of it? Take its exponential."
            got = f"{variance.min():g}"
            raise ValueError(message(self.who, "the variance", "not negative", got, remedy))
        return output[0], variance

    def _read(self, output: Any) -> Array:
        """The output as what is averaged: a probability for each class last, or as it is."""
        y = np.asarray(output, np.float64)
        if self.task not in CLASSES:
            return y
        if self.task == "binary":
            y = y[..., 0] if y.ndim > 1 and y.shape[-1] == 1 else y
            # Of both signs, so that neither overflows.
            e = np.exp(-np.abs(y))
            one = np.where(y >= 0, 1.0, e) / (1.0 + e)
            return np.stack([1.0 - one, one], axis=-1)
        if y.ndim < 2 or y.shape[self.class_axis] < 2:
            remedy = "For one logit a row: task='binary'."
            got = f"shape {y.shape}"
            raise ValueError(
                message(self.who, "the output", "of at least two classes a row", got, remedy)
            )
        y = np.moveaxis(y, self.class_axis, -1)
        if self.task == "classification":
            y = np.exp(y - y.max(axis=-1, keepdims=True))
            return np.asarray(y / y.sum(axis=-1, keepdims=True))
        if y.min() < 0.0 or np.abs(y.sum(axis=-1) - 1.0).max() > 1e-3:
            remedy = "Of logits: task='classification'."
            raise ValueError(
                message(self.who, "the output", "probabilities that sum to 1", "others", remedy)
            )
        return y

    def _pair(self, y: Array) -> None:
        if self._partner is None:
            self._partner = y
            return
        self.pairs.add((self._partner + y) / 2.0)
        self.halves.add(((self._partner - y) / 2.0) ** 2)
        self._partner = None

    @property
    def variance(self) -> Array:
        """Between members. Of pairs: that of their means and that around them, since the two sum to
        a member's own, whatever the members of a pair have in common."""
        if self.antithetic:
            found: Array = self.pairs.variance + self.halves.mean
            return found
        return self.all.variance

    @property
    def standard_error(self) -> Array:
        """Of the mean; of independent pairs where members come in pairs."""
        seen = self.pairs if self.antithetic else self.all
        if seen.count < 2:
            return np.full(np.shape(seen.mean), np.inf)
        found: Array = np.sqrt(seen.variance / seen.count)
        return found


def joined(batches: Sequence[Gathered], **asked: Any) -> Prediction:
    """The prediction of all batches' rows."""
    first = batches[0]
    shapes = {np.shape(b.all.mean)[1:] for b in batches}
    if len(shapes) > 1:
        got = f"{len(shapes)} shapes of a row: {', '.join(map(str, sorted(shapes)[:4]))}"
        remedy = "Pad all batches to one length (padding='max_length')."
        raise ValueError(message(first.who, "the model's results", "of one shape", got, remedy))

    def rows(values: Sequence[Any], axis: int = 0) -> Array:
        found: Array = np.concatenate([np.asarray(v) for v in values], axis=axis)
        return found

    mean = rows([b.all.mean for b in batches])
    found: dict[str, Any] = {}
    if first.task in CLASSES:
        total = entropy(mean)
        expected = rows([b.entropies.mean for b in batches])
        found = {
            "probabilities": mean,
            "predictive_entropy": total,
            "expected_entropy": expected,
            # Never negative but by rounding.
            "mutual_information": np.maximum(total - expected, 0.0),
            "variation_ratio": 1.0 - rows([b.votes.max(axis=-1) / b.all.count for b in batches]),
        }
    variance = rows([b.variance for b in batches])
    if first.task == "mean_variance":
        found = {"epistemic": variance, "aleatoric": rows([b.variances.mean for b in batches])}
    if first.sketch is not None:
        kept = first.kept is not None
        p = first.sketch.probabilities
        parts = [
            np.quantile(np.stack(b.kept or []), p, axis=0)  # exact, where all is there
            if kept
            else b.sketch.values()  # type: ignore[union-attr]
            for b in batches
        ]
        found["quantiles"] = dict(zip(p, rows(parts, axis=1), strict=True))
    if first.kept is not None:
        found["outputs"] = rows([np.stack(b.kept or []) for b in batches], axis=1)
    return Prediction(
        mean=mean,
        std=np.sqrt(variance),
        standard_error=rows([b.standard_error for b in batches]),
        members=first.all.count,
        task=first.task,
        antithetic=first.antithetic,
        **found,
        **asked,
    )
