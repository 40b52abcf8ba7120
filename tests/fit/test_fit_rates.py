"""Rates of single layers, weights of rows, and a search that time ends."""

import json
import time
from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as theirs

import thinned.fit
from thinned.errors import InputError
from thinned.fit.api import problems_from
from thinned.fit.choices import Choices
from thinned.fit.engines.local import Local
from thinned.fit.importance import weighted_mean
from thinned.fit.network import MEASURES, log_softmax, measures
from thinned.fit.rate import along, each_layer, read_p, spelled
from thinned.fit.results import FitSettings
from thinned.fit.search import Search
from thinned.fit.training import train

# ------------------------------------------------------------------------------------------- rates


def test_rates_of_layers():
    assert read_p("0.1,0.3x0.5") == (0.0, 0.1, (0.0, 0.3, 0.5))
    assert read_p("0.2x0.3x0.5, 0.4 x 0.4 x 0.4") == (0.0, (0.2, 0.3, 0.5), 0.4)
    assert read_p("0x0.5", 1) == (0.0, (0.0, 0.5))
    assert [spelled(p) for p in (0.1, (0.0, 0.3, 0.5), (0.2, 0.3, 0.5), (0.0, 0.5))] == [
        "0.1", "0.3x0.5", "0.2x0.3x0.5", "0x0.5",
    ]  # fmt: skip
    assert each_layer(0.5, 3) == (0.5, 0.5, 0.5)
    assert along([0.0, 0.2]) == [0.0, 0.2]
    assert along([0.0, (0.0, 0.9)]) == [0.0, 1.0]
    for text in ("0.3x0.5", "0.1x0.2x0.3x0.4"):
        with pytest.raises(InputError, match="rates; with --hidden of 1 layers write 2"):
            read_p(text if len(text) > 7 else "0.1x0.2x0.3", 1)
    with pytest.raises(InputError, match="is no number"):
        read_p("0.1x")


def frame(rows=80):
    x = np.random.default_rng(0).normal(size=(rows, 3))
    made = pd.DataFrame(x, columns=list("abc"))
    return made.assign(
        y=np.where(x[:, 0] > 0, "u", "v"), w=1.0 + np.arange(rows) % 3, q=x[:, 0] - x[:, 1]
    )


def test_a_fit_with_rates_of_layers(here, command):
    frame().to_csv("t.csv", index=False)
    options = ["--drop", "q", "--drop", "w", "--target", "y", "--hidden", "6,6", "--epochs", "3"]
    options += ["--repeats", "1", "--quiet"]
    with joblib.parallel_config(backend="threading", n_jobs=1):
        assert command("fit", "t.csv", *options, "--p", "0.3x0.5", "--out", "o") == (0, "", "")
    found = json.loads((here / "o" / "metrics.json").read_text(encoding="utf-8"))
    assert found["settings"]["p"] == [0.0, [0.0, 0.3, 0.5]]
    report = (here / "o" / "report.html").read_text(encoding="utf-8")
    assert "0.3x0.5" in report
    assert "--p 0,0.3x0.5" in report
    result = thinned.fit.load(here / "o")
    # A row for which no hidden unit says anything has no spread.
    assert (result.table(frame(), members=4)["std"] > 0).mean() > 0.9
    assert "0.3x0.5" in command("compare", "o", "o")[1] or not found["best_p"]


# ----------------------------------------------------------------------------------------- weights


def test_a_weight_counts_a_row_so_many_times():
    rng = np.random.default_rng(3)
    times = rng.integers(1, 4, 60)
    logits, target = rng.normal(size=(60, 3)), rng.integers(0, 3, 60)
    ours = measures("classification", logits, target, times.astype(float))
    again = measures("classification", np.repeat(logits, times, 0), np.repeat(target, times))
    np.testing.assert_allclose(ours, again, rtol=1e-12)
    value, y = rng.normal(size=(60, 1)), rng.normal(size=60)
    ours = measures("regression", value, y, times.astype(float))
    again = measures("regression", np.repeat(value, times, 0), np.repeat(y, times))
    np.testing.assert_allclose(ours, again, rtol=1e-12)
    share = np.exp(log_softmax(logits[:, :2]))
    two = measures("classification", logits[:, :2], target % 2, times.astype(float))
    few = 0 if (target % 2 == 0).sum() < (target % 2 == 1).sum() else 1
    area = theirs.roc_auc_score(target % 2 == few, share[:, few], sample_weight=times)
    assert two[MEASURES["classification"].index("auc")] == pytest.approx(area, rel=1e-12)


def weighted(weights, target="q"):
    data = frame().drop(columns=["w", "y"])
    with joblib.parallel_config(backend="threading", n_jobs=1):
        return thinned.fit.fit(
            data, target=target, weights=weights, p=(0, 0.2), hidden=(6,), epochs=2, repeats=1
        )  # fmt: skip


@pytest.mark.long
def test_equal_weights_change_nothing_and_others_do():
    none, equal, other = weighted(None), weighted(np.full(80, 3.0)), weighted(frame()["w"])
    losses = [[s["validation"]["loss"] for s in one.metrics["splits"]] for one in (none, equal)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert other.metrics["levels"] != none.metrics["levels"]
    assert other.metrics["baselines"] != none.metrics["baselines"]


def test_rows_of_weight_0_are_as_rows_without_a_target():
    weights = np.arange(80) % 4 * 1.0
    problem = problems_from(frame(), "q", "auto", Choices(drop=("w",)), weights=weights)[0]
    assert problem.rows == 60
    assert problem.weights.mean() == pytest.approx(1.0)
    assert len(problem.unknown) == 20
    assert any("weight of 0" in note for note in problem.notes)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.full(80, -1.0), "a weight must be 0 or more"),
        (["a"] * 80, "cannot weigh rows by it"),
        (np.zeros(80), "a weight of 0 in every row"),
        ([1.0] * 79 + [None], "which has no weight"),
    ],
)
def test_weights_that_are_none(weights, said):
    with pytest.raises(InputError, match=said):
        problems_from(frame(), "q", "auto", Choices(drop=("w",)), weights=weights)[0]


# -------------------------------------------------------------------------------------------- time


class Slow:
    """An engine whose clock runs out after so many trainings."""

    workers = 1

    def __init__(self, n, clock):
        self.n, self.clock = n, clock

    def run(self, do, jobs, count):
        for job in jobs:
            if do is train and self.n == 0 and len(job.key) == 2:
                self.clock[0] = 1e12
            self.n -= do is train
            yield do(job)
            if do is train and len(job.key) == 1:
                self.clock[0] = 0.0


@pytest.fixture
def searched(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])

    def search(n, **how):
        clock[0] = 0.0
        problem = problems_from(frame(), "q", "auto", Choices(drop=("w", "y")))[0]
        settings = replace(FitSettings((0.0, 0.2), (6,), 3, 2, 0), **how)
        made = Search(problem, settings, engine=Slow(n, clock), until=100.0)
        made.run()
        return made

    return search


def test_time_leaves_whole_repeats(searched):
    whole = searched(1000)
    assert whole.settings.repeats == 2
    assert not any("time" in note for note in whole.problem.notes)
    half = searched(15)  # of 20, and so seven splits at both ps
    assert (half.settings.repeats, half.settings.splits, len(half.splits)) == (1, 5, 5)
    assert [s.validation for s in half.splits] == [s.validation for s in whole.splits[:5]]
    assert any("the first 5 of 10 splits were finished" in n for n in half.problem.notes)


def test_less_than_a_repeat_is_judged_by_the_splits_there_are(searched):
    few = searched(7, repeats=1)
    assert (few.settings.splits, len(few.splits)) == (3, 3)
    assert few.comparison.bound > 0
    assert all(np.isfinite(one.validation["loss"].value) for one in few.levels)


def test_two_splits_are_trained_however_late_it_is(searched):
    least = searched(1)
    assert (least.settings.splits, len(least.splits)) == (2, 2)
    assert any("the first 2 of 10 splits were finished" in n for n in least.problem.notes)


def test_a_training_that_time_ends_is_not_kept(tmp_path):
    from thinned.fit.kept import Kept

    problem = problems_from(frame(), "q", "auto", Choices(drop=("w", "y")))[0]
    settings = FitSettings((0.0, 0.2), (6,), 3, 1, 0)
    search = Search(problem, settings)
    search._split()
    job = replace(next(iter(search._jobs())), until=0.0)
    kept = Kept(tmp_path / "kept").over(Local())
    with joblib.parallel_config(backend="threading", n_jobs=1):
        (trained,) = kept.run(train, [job], 1)
    assert not trained.finished
    assert trained.epochs == 1
    assert not kept.holds


def test_importance_weighs_rows():
    counts = np.array([1.0, 0.0, 3.0])
    mean, error = weighted_mean(np.array([2.0, 100.0, 6.0]), counts)
    assert mean == 5.0
    assert error == pytest.approx(np.sqrt(1.5 * ((0.25 * 3) ** 2 + 0.75**2)))
    alike, spread = weighted_mean(np.array([1.0, 2.0, 4.0]), np.ones(3))
    assert alike == pytest.approx(7 / 3)
    assert spread == pytest.approx(np.std([1, 2, 4], ddof=1) / np.sqrt(3))
