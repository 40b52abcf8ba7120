"""The main job: hold out, cross-validate every p, refit, and look at the test part once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned import reference
from thinned.fit import baselines
from thinned.fit.compare import carried_on, compare, judged, level, paired
from thinned.fit.conformal import with_scores
from thinned.fit.encoding import Encoder, fitted
from thinned.fit.engines import Engine
from thinned.fit.engines.local import Local
from thinned.fit.epochs import constant_cost, looks_for
from thinned.fit.metrics import metric_for
from thinned.fit.model import Model, Twin
from thinned.fit.network import MEASURES, measures
from thinned.fit.rate import spelled
from thinned.fit.results import FitSettings, Predictions, Refit, ShownMask, Split
from thinned.fit.scores import standard_errors
from thinned.fit.splits import splits_of
from thinned.fit.tables import Problem
from thinned.fit.threads import one_blas_thread
from thinned.fit.training import Job, Trained, job_of, train
from thinned.methods.bernoulli import keep_mask

__all__ = ["Search", "number_of_fits", "random_state"]

Array = NDArray[Any]

# Shares of a limited time: for the splits, until the refits are done, and until the last simple
# model is begun. The rest is for those that were begun and the report.
SEARCHED, REFITTED, COMPARED = 0.65, 0.8, 0.9
# Splits that are always trained, since without them no difference has an error.
FEWEST_SPLITS = 2


def number_of_fits(settings: FitSettings) -> int:
    """Trainings that a search runs: each p on each split, and the refits with and without."""
    return len(settings.p) * settings.splits + 2


def random_state(settings: FitSettings, split: int | None) -> int:
    """The estimators' random_state on a split; None is the refit. The same at every p."""
    if split is None:
        return settings.seed
    return reference.fold_in(settings.seed, split + 1) % 2**32


class Search:
    """Runs the trainings and keeps what they found.

    Parameters
    ----------
    problem : Problem.
    settings : FitSettings.
    advance : called with no argument after each training.
    engine : Engine, where trainings run. Default: a process to a core. Results do not depend on it.
    until : seconds since 1970, or None. What is not finished when this comes near is left out.

    Attributes
    ----------
    looks : the epochs after which networks are measured.
    levels, splits, comparison, best : as in `Result`, after `run`.
    gap : the paired difference of the gaps between validation and training loss, best p above 0
        minus p = 0.
    baselines : the `Baseline`s.
    refits : the `Refit`s at p = 0 and at the best p above 0.
    model : the network refitted at the best p, with its way from and to the table.
    predictions : the model's, on the test part.
    seconds : that all of it took.
    masks : of the first batch of the refit at the best p above 0.
    """

    def __init__(
        self,
        problem: Problem,
        settings: FitSettings,
        advance: Callable[[], None] = lambda: None,
        engine: Engine | None = None,
        until: float | None = None,
    ) -> None:
        self.problem, self.settings, self.advance = problem, settings, advance
        self.until, self.begun = until, time.time()
        self.engine = engine or Local()
        self.looks = looks_for(settings.epochs)
        self.metric = metric_for(problem.task, settings.metric)

    def run(self) -> None:
        """All of it, in order."""
        start = time.monotonic()
        self._split()
        with one_blas_thread():
            self._cross_validate()
            self._refit()
            self._compare_with_baselines()
        self.seconds = time.monotonic() - start

    # ------------------------------------------------------------------------------------- splits

    def _split(self) -> None:
        found = splits_of(self.problem, self.settings)
        self.train_rows, self.test_rows = found.train_rows, found.test_rows
        self.parts = found.parts

    def _encoded(self, rows: Array, other: Array) -> tuple[tuple[Array, Array], Encoder]:
        """Inputs of both parts, by an encoder that has seen the first part only."""
        frame = self.problem.features
        encoder = fitted(frame, self.problem.columns, rows)
        return (encoder.encode(frame, rows), encoder.encode(frame, other)), encoder

    # ----------------------------------------------------------------------------------- training

    def _jobs(self) -> Iterator[Job]:
        until = self._until(SEARCHED)
        for s, parts in enumerate(self.parts):
            if s >= FEWEST_SPLITS and until is not None and time.time() > until:
                return
            inputs, _ = self._encoded(*parts)
            for i in range(len(self.settings.p)):
                yield self._job((i, s), parts, inputs, s, self.looks)

    def _job(
        self,
        key: tuple[int, ...],
        parts: tuple[Array, Array],
        inputs: tuple[Array, Array],
        split: int | None,
        looks: tuple[int, ...],
    ) -> Job:
        """The training at the p of the key's first number."""
        least = split is not None and split < FEWEST_SPLITS
        return job_of(
            self.problem,
            self.settings,
            parts,
            inputs,
            key=key,
            p=self.settings.p[key[0]],
            random_state=random_state(self.settings, split),
            looks=looks,
            # Without these splits there is no result, however late it is.
            until=None if least else self._until(REFITTED if split is None else SEARCHED),
        )

    def _weights(self, *parts: Array) -> Any:
        """Those of the rows of each part; None where all rows count the same."""
        weights = self.problem.weights
        return None if weights is None else tuple(weights[rows] for rows in parts)

    def _train_all(self, jobs: Iterable[Job], count: int) -> Iterator[Trained]:
        for trained in self.engine.run(train, jobs, count):
            self.advance()
            yield trained

    def _cross_validate(self) -> None:
        settings, problem = self.settings, self.problem
        names = MEASURES[problem.task]
        # measured[p, split, part, look, measure]; part 0 was trained on, part 1 was not.
        measured = np.full(
            (len(settings.p), settings.splits, 2, len(self.looks), len(names)), np.nan
        )
        finished = np.zeros(measured.shape[:2], bool)
        for trained in self._train_all(self._jobs(), len(settings.p) * settings.splits):
            measured[trained.key] = trained.measured
            finished[trained.key] = trained.finished
        if not finished.all():
            n = self._leave_out(np.asarray(finished.all(axis=0)))
            settings, measured = self.settings, measured[:, :n]
        constant = constant_cost(self.metric, problem.task, problem.target[self.train_rows])
        self.levels = tuple(
            level(p, measured[i], self.looks, names, self.metric, settings.folds, constant)
            for i, p in enumerate(settings.p)
        )
        self.best = min(
            self.levels,
            key=lambda one: self.metric.cost(one.validation[settings.metric].value),
        )
        chosen = [judged(one, names, self.metric, settings.folds) for one in measured]
        every = np.arange(settings.splits)
        at_chosen = np.stack(
            [carried_on(one)[every, :, k] for one, k in zip(measured, chosen, strict=True)]
        )
        self.scored = at_chosen[self.levels.index(self.best), :, 1]
        decisive = at_chosen[:, :, 1, names.index(settings.metric)]
        self.comparison = compare(settings.p, decisive, settings.folds, self.metric)
        gaps = at_chosen[:, :, 1, 0] - at_chosen[:, :, 0, 0]
        rival = settings.p.index(self.comparison.p)
        self.gap = paired(gaps[rival], gaps[0], settings.folds)
        self.splits = tuple(
            Split(
                repeat=s // settings.folds,
                fold=s % settings.folds,
                rows=self._hash_of(self.parts[s]),
                random_state=random_state(settings, s),
                training={name: at_chosen[:, s, 0, m].tolist() for m, name in enumerate(names)},
                validation={name: at_chosen[:, s, 1, m].tolist() for m, name in enumerate(names)},
                epochs=tuple(self.looks[k[s]] for k in chosen),
            )
            for s in range(settings.splits)
        )

    def _leave_out(self, finished: Array) -> int:
        """Judge only the first splits that were finished at every p, whole repeats if there is one.

        Time ended the others, whatever they scored; and a split counts at all ps or at none, so the
        comparison stays paired. With fewer splits its bound is wider.
        """
        settings = self.settings
        n = len(finished) if finished.all() else int(finished.argmin())
        if n >= settings.folds:
            n -= n % settings.folds
        self.problem.notes.append(
            f"The time ended the search: the first {n} of {settings.splits} splits were finished "
            "at "
            "every p, and count; the others do not."
        )
        repeats = max(n // settings.folds, 1)
        whole = n % settings.folds == 0
        self.settings = replace(settings, repeats=repeats, judged=0 if whole else n)
        self.parts = self.parts[:n]
        return n

    def _until(self, share: float) -> float | None:
        """When this share of the time is over."""
        if self.until is None:
            return None
        return self.begun + share * (self.until - self.begun)

    def _hash_of(self, parts: tuple[Array, Array]) -> str:
        """What tells whether two splits have the same rows on both sides."""
        digest = hashlib.sha256()
        for rows in parts:
            digest.update(f"{len(rows)}:".encode())
            digest.update(self.problem.places[rows].astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    # -------------------------------------------------------------------------------------- refit

    def _refit(self) -> None:
        target = self.problem.target
        parts = self.train_rows, self.test_rows
        inputs, encoder = self._encoded(*parts)
        pair = [0, self.settings.p.index(self.comparison.p)]
        epochs = {i: self.levels[i].epochs for i in pair}
        jobs = [self._job((i,), parts, inputs, None, (epochs[i],)) for i in pair]
        networks = {one.key[0]: one for one in self._train_all(jobs, len(jobs))}
        models = {i: self._model(i, encoder, networks[i]) for i in pair}
        for i in pair:
            if not networks[i].finished:
                self.problem.notes.append(
                    f"The time ended the refit at p = {spelled(self.settings.p[i])} after "
                    f"{networks[i].epochs} of {epochs[i]} epochs."
                )
        self.refits = tuple(self._scored(i, models[i]) for i in pair)
        self.model = models[self.settings.p.index(self.best.p)]
        if not self.best.p:  # its members are those of the refit that has some
            some = models[pair[1]]
            self.model = replace(self.model, twin=Twin(some.network, some.training))
        self.predictions = self._predicted()
        (weights,) = self._weights(self.test_rows) or (None,)
        self.model = with_scores(
            self.model, self.predictions.answers, target[self.test_rows], weights
        )
        self.masks = tuple(
            ShownMask(site, repr(at), p, shape, keep_mask(shape, p, at))
            for site, at, p, shape in networks[pair[1]].masks
        )

    def _model(self, i: int, encoder: Encoder, trained: Trained) -> Model:
        problem, settings = self.problem, self.settings
        return Model(
            task=problem.task,
            target=problem.target_name,
            classes=problem.classes,
            columns=problem.columns,
            left_out=problem.left_out,
            encoder=encoder,
            network=trained.network,
            readings=problem.readings,
            missing=problem.choices.missing,
            training={
                "p": list(p) if isinstance(p := settings.p[i], tuple) else p,
                "epochs": trained.epochs,
                "random_state": random_state(settings, None),
                "hidden_layer_sizes": list(settings.hidden),
                "batch_size": settings.batch_size,
                "learning_rate_init": settings.learning_rate,
                "weight_decay": settings.weight_decay,
            },
        )

    def _scored(self, i: int, model: Model) -> Refit:
        names = MEASURES[self.problem.task]
        training, test = (
            dict(zip(names, self._measured(model, rows), strict=True))
            for rows in (self.train_rows, self.test_rows)
        )
        return Refit(
            p=self.settings.p[i],
            epochs=model.training["epochs"],
            random_state=random_state(self.settings, None),
            training=training,
            test=test,
            errors=self._errors(model),
        )

    def _errors(self, model: Model) -> dict[str, float]:
        outputs = model.answers(self.problem.features.iloc[self.test_rows]).outputs
        target, weights = self.problem.target[self.test_rows], self._weights(self.test_rows)
        return standard_errors(self.problem.task, outputs, target, weights and weights[0])

    def _measured(self, model: Model, rows: Array) -> Any:
        outputs = model.answers(self.problem.features.iloc[rows]).outputs
        weights = self._weights(rows)
        return measures(
            self.problem.task, outputs, self.problem.target[rows], weights and weights[0]
        )

    # ---------------------------------------------------------------------------------- baselines

    def _compare_with_baselines(self) -> None:
        problem, settings = self.problem, self.settings
        counts = {
            name: baselines.splits_of(name, settings.folds, settings.splits)
            for name in baselines.BASELINES
        }
        names = MEASURES[problem.task]
        scored = {name: np.full((n, len(names)), np.nan) for name, n in counts.items()}
        tested = {}
        jobs = self._baseline_jobs(counts)
        for one in self.engine.run(baselines.score, jobs, sum(counts.values()) + len(counts)):
            name = baselines.BASELINES[one.key[0]]
            if one.key[1] < 0:
                tested[name] = one
            else:
                scored[name][one.key[1]] = one.measured
        for name, measured in scored.items():
            known = np.isfinite(measured[:, 0])
            n = len(known) if known.all() else int(known.argmin())
            scored[name] = measured[:n]
            if n < len(known):
                self.problem.notes.append(
                    f"The time ended the simple models: {name}, on the first {n} of {len(known)} "
                    "splits."
                )
        if len(self.train_rows) * (1 - 1 / settings.folds) > baselines.MOST_TREE_ROWS:
            self.problem.notes.append(
                f"Boosted trees learn from {baselines.MOST_TREE_ROWS:,} rows of each split, drawn "
                "from those that the networks are trained on."
            )
        self.baselines = tuple(
            baselines.found(
                name, problem.task, self.metric, scored[name], tested[name], self.scored,
                settings.folds,
            )
            for name in counts
        )  # fmt: skip

    def _baseline_jobs(self, counts: dict[baselines.Name, int]) -> Iterator[baselines.BaselineJob]:
        """At -1 those on all training rows, for the test part, and those on the splits."""
        problem, target, until = self.problem, self.problem.target, self._until(COMPARED)
        parts = [(-1, (self.train_rows, self.test_rows)), *enumerate(self.parts)]
        for s, (rows, other) in parts:
            if s >= FEWEST_SPLITS and until is not None and time.time() > until:
                return
            inputs, _ = self._encoded(rows, other)
            for i, (name, n) in enumerate(counts.items()):
                if s < n:
                    yield baselines.BaselineJob(
                        (i, s), name, problem.task, len(problem.classes), inputs,
                        (target[rows], target[other]), self.settings.seed, with_errors=s < 0,
                        weights=self._weights(rows, other),
                    )  # fmt: skip

    # ----------------------------------------------------------------------------------- outcomes

    def _predicted(self) -> Predictions:
        problem, rows = self.problem, self.test_rows
        answers = self.model.answers(problem.features.iloc[rows])
        target = problem.target[rows]
        confusion = None
        if problem.task == "classification":
            n = len(problem.classes)
            pairs = target * n + answers.prediction
            confusion = np.bincount(pairs, minlength=n * n).reshape(n, n)
        return Predictions(problem.places[rows].astype(np.int64) + 1, target, answers, confusion)
