"""The search: parts that do not overlap, nothing leaked, the same addresses at every p."""

import json
from dataclasses import replace

import numpy as np
import pytest

import thinned
from thinned.fit import search as search_module, training
from thinned.fit.compare import compare, level, mean, paired
from thinned.fit.encoding import column_transformer
from thinned.fit.engines.local import Local
from thinned.fit.job import result_of
from thinned.fit.metrics import METRICS
from thinned.fit.network import MEASURES, Network, measures, probabilities
from thinned.fit.results import FitSettings, metrics
from thinned.fit.search import Search, number_of_fits, random_state
from thinned.fit.tables import load
from thinned.fit.training import estimator_for, train

SETTINGS = FitSettings(p=(0.0, 0.2, 0.5), hidden=(16,), epochs=3, repeats=2, seed=5)


@pytest.fixture(scope="module")
def wine():
    return load("wine")


@pytest.fixture(scope="module")
def diabetes():
    return load("diabetes")


def prepared(problem, settings=SETTINGS):
    search = Search(problem, settings, engine=Local(1))
    search._split()
    return search


@pytest.fixture(scope="module")
def ran(wine):
    search = Search(wine, SETTINGS, engine=Local(1))
    search.run()
    return search


# ------------------------------------------------------------------------------------------ parts


@pytest.mark.parametrize("data", ["wine", "diabetes"])
def test_test_rows_are_in_no_split_and_every_other_row_is_validated_once_a_repeat(data):
    search = prepared(load(data))
    held_out = set(search.test_rows)
    every = set(range(search.problem.rows))
    assert len(held_out) == -(-search.problem.rows // 5)
    for repeat in range(SETTINGS.repeats):
        validated = []
        for rows, other in search.parts[repeat * 5 : repeat * 5 + 5]:
            assert not set(rows) & set(other)
            assert set(rows) | set(other) == every - held_out
            validated += list(other)
        assert sorted(validated) == sorted(every - held_out)
    assert [list(a) for a, _ in search.parts[:5]] != [list(a) for a, _ in search.parts[5:]]


def test_parts_keep_the_classes_shares(wine):
    search = prepared(wine)
    whole = np.bincount(wine.target) / wine.rows
    for rows in (search.test_rows, *(other for _, other in search.parts)):
        assert np.abs(np.bincount(wine.target[rows]) / len(rows) - whole).max() < 0.05


def test_every_p_has_the_same_splits_inputs_and_addresses(wine):
    jobs = list(prepared(wine)._jobs())
    assert len(jobs) + 2 == number_of_fits(SETTINGS) == 3 * 10 + 2
    by_split = {}
    for job in jobs:
        by_split.setdefault(job.key[1], []).append(job)
    seeds = set()
    for s, same in by_split.items():
        assert [job.p for job in same] == list(SETTINGS.p)
        assert {job.random_state for job in same} == {random_state(SETTINGS, s)}
        seeds.add(same[0].random_state)
        for job in same[1:]:
            for a, b in zip(job.inputs + job.target, same[0].inputs + same[0].target, strict=True):
                np.testing.assert_array_equal(a, b)
    assert len(seeds) == 10  # splits differ in theirs


def test_what_is_dropped_at_a_p_is_dropped_at_every_larger_one(wine):
    first = [job for job in prepared(wine)._jobs() if job.key[1] == 0]
    keep = {}
    for job in first:
        for site, at, p, shape in train(job).masks:
            keep[job.p, site] = thinned.keep_mask(shape, p, at)
    for site in ("input", "hidden.1"):
        assert keep[0.0, site].all()
        assert not (keep[0.5, site] & ~keep[0.2, site]).any()
        assert keep[0.5, site].sum() < keep[0.2, site].sum()


# ---------------------------------------------------------------------------------------- leakage


def leaks(search):
    """Whether scaling knew of rows that were not trained on: then training means are not 0."""
    numbers = [c.kind == "numeric" for c in search.problem.columns]
    assert all(numbers)
    worst = max(np.abs(job.inputs[0].mean(axis=0)).max() for job in search._jobs())
    return worst > 1e-3


def test_scaling_is_learned_from_the_training_rows_alone(diabetes):
    assert not leaks(prepared(diabetes))


def test_scaling_learned_from_all_rows_is_caught(diabetes, monkeypatch):
    def leaky(self, rows, other):
        transformer = column_transformer(self.problem.columns).fit(self.problem.features)
        frame = self.problem.features
        parts = (transformer.transform(frame.iloc[part]) for part in (rows, other))
        return tuple(part.astype(np.float32) for part in parts), transformer

    monkeypatch.setattr(Search, "_encoded", leaky)
    assert leaks(prepared(diabetes))


def test_rows_held_out_change_nothing_that_is_trained(diabetes):
    search = prepared(diabetes)
    other = load("diabetes")
    other.features.iloc[search.test_rows] = 1e6
    for a, b in zip(search._jobs(), prepared(other)._jobs(), strict=True):
        for part in range(2):
            np.testing.assert_array_equal(a.inputs[part], b.inputs[part])


# ------------------------------------------------------------------------------------- evaluation


def awake(job):
    """Whether what is measured is not the whole network: then it differs from predict_proba."""
    from sklearn.metrics import accuracy_score, log_loss

    found = train(job).measured
    estimator = estimator_for(job.task, job.p, job.random_state, job.settings)
    for _ in range(job.looks[-1]):
        estimator.partial_fit(job.inputs[0], job.target[0], classes=np.arange(job.n_classes))
    for part in range(2):
        share = estimator.predict_proba(job.inputs[part])
        loss = log_loss(job.target[part], share)
        right = accuracy_score(job.target[part], share.argmax(axis=1))
        if abs(found[part, -1, 0] - loss) > 1e-5 or found[part, -1, 1] != right:
            return True
    return False


@pytest.fixture
def job(wine):
    return next(job for job in prepared(wine)._jobs() if job.p == 0.5)


def test_nothing_is_dropped_in_evaluation(job):
    assert not awake(job)


def test_dropout_alive_in_evaluation_is_caught(job, monkeypatch):
    whole = Network.outputs

    def alive(self, inputs):
        at = thinned.Address(seed=1)
        return whole(self, thinned.dropout(inputs, p=0.2, at=at))

    monkeypatch.setattr(training.Network, "outputs", alive)
    assert awake(job)


def test_regression_scores_are_in_the_targets_units(diabetes):
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    job = next(prepared(diabetes)._jobs())
    trained = train(job)
    said = trained.network.outputs(job.inputs[1])[:, 0]
    loss, rmse, r2, mae = trained.measured[1, -1]
    assert loss == pytest.approx(mean_squared_error(job.target[1], said))
    assert rmse == pytest.approx(loss**0.5)
    assert r2 == pytest.approx(r2_score(job.target[1], said))
    assert mae == pytest.approx(mean_absolute_error(job.target[1], said))
    assert 50 < rmse < 300  # the target goes from 25 to 346


def test_log_loss_is_not_clipped_and_not_infinite():
    logits = np.array([[0.0, 200.0], [0.0, 3000.0]], np.float32)
    loss, accuracy, *_ = measures("classification", logits, np.array([0, 0]))
    assert loss == pytest.approx(1600.0)
    assert accuracy == 0.0
    np.testing.assert_allclose(probabilities(logits).sum(axis=1), 1.0)


# ---------------------------------------------------------------------------------------- results


def test_results_do_not_depend_on_the_number_of_processes(ran, wine):
    twice = Search(wine, SETTINGS, engine=Local(2))
    twice.run()
    a, b = (
        json.dumps(metrics(result_of(wine, search)), allow_nan=False) for search in (ran, twice)
    )
    assert a == b
    for one, other in zip(ran.model.network.weights, twice.model.network.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_result(ran, wine):
    other = Search(wine, replace(SETTINGS, p=(0.0, 0.2), repeats=1, seed=6), engine=Local(1))
    other.run()
    assert other.levels[0].validation != ran.levels[0].validation


def test_progress_is_told_of_every_training(wine):
    told = []
    settings = replace(SETTINGS, p=(0.0, 0.2), repeats=1, epochs=1)
    Search(wine, settings, lambda: told.append(1), engine=Local(1)).run()
    assert len(told) == number_of_fits(settings) == 12


def test_the_best_p_has_the_lowest_mean_validation_loss(ran):
    losses = [one.validation["loss"].value for one in ran.levels]
    assert ran.best.validation["loss"].value == min(losses)
    for i, one in enumerate(ran.levels):
        assert one.epochs in ran.looks
        assert len(one.validation_curve) == ran.looks.index(one.last_epoch) + 1
        assert all(split.epochs[i] in ran.looks for split in ran.splits)
        values = [split.validation["loss"][i] for split in ran.splits]
        assert one.validation["loss"].value == pytest.approx(np.mean(values))
        assert one.validation["loss"].error == pytest.approx(np.std(values, ddof=1) / 10**0.5)
        gaps = [s.validation["loss"][i] - s.training["loss"][i] for s in ran.splits]
        assert one.gap.value == pytest.approx(np.mean(gaps))


def test_the_refits_are_what_the_estimator_says_on_the_test_part(ran, wine):
    from sklearn.metrics import accuracy_score, log_loss

    assert [refit.p for refit in ran.refits] == [0.0, ran.comparison.p]
    transformer = column_transformer(wine.columns)
    x = transformer.fit_transform(wine.features.iloc[ran.train_rows])
    x_test = transformer.transform(wine.features.iloc[ran.test_rows])
    y, y_test = wine.target[ran.train_rows], wine.target[ran.test_rows]
    for refit in ran.refits:
        estimator = estimator_for("classification", refit.p, SETTINGS.seed, SETTINGS)
        for _ in range(refit.epochs):
            estimator.partial_fit(x.astype(np.float32), y, classes=np.arange(3))
        share = estimator.predict_proba(x_test.astype(np.float32))
        assert refit.test["loss"] == pytest.approx(log_loss(y_test, share), abs=1e-5)
        assert refit.test["accuracy"] == accuracy_score(y_test, share.argmax(axis=1))
        assert refit.gap == refit.test["loss"] - refit.training["loss"]


def test_the_masks_shown_are_those_that_were_drawn(ran):
    assert [m.site for m in ran.masks] == ["input", "hidden.1"]
    for shown in ran.masks:
        at = eval(shown.address, {"Address": thinned.Address})
        assert at == thinned.Address(SETTINGS.seed, shown.site, 0)
        np.testing.assert_array_equal(shown.keep, thinned.keep_mask(shown.shape, shown.p, at))
        assert shown.p == ran.comparison.p


def test_the_confusion_matrix_counts_the_predictions(ran, wine):
    counts = ran.predictions.confusion
    assert counts.sum() == len(ran.test_rows)
    for i in range(3):
        for j in range(3):
            both = (ran.predictions.target == i) & (ran.predictions.answers.prediction == j)
            assert counts[i, j] == both.sum()


def test_a_fault_in_a_training_ends_the_search(wine, monkeypatch):
    def broken(job):
        raise RuntimeError("planted")

    monkeypatch.setattr(search_module, "train", broken)
    with pytest.raises(RuntimeError, match="planted"):
        Search(wine, SETTINGS, engine=Local(1)).run()


# ------------------------------------------------------------------------------------- statements


def test_mean_and_standard_error():
    found = mean(np.array([1.0, 2.0, 3.0, 6.0]))
    assert found.value == 3.0
    assert found.error == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2)


LOSS = METRICS["classification"]["loss"]
ACCURACY = METRICS["classification"]["accuracy"]


def curves(validation, training, accuracy):
    """measured[split, part, look, measure] of five splits that are alike."""
    names = MEASURES["classification"]
    measured = np.zeros((5, 2, len(validation), len(names)))
    measured[:, 1, :, 0], measured[:, 0, :, 0] = validation, training
    measured[:, 1, :, 1] = accuracy
    return measured, names


def test_a_level_stops_where_its_smoothed_validation_loss_is_lowest():
    measured, names = curves(
        [3.0, 2.0, 1.0, 2.0, 3.0], [2, 1, 0.5, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4, 0.5]
    )
    found = level(0.5, measured, (2, 4, 6, 8, 10), names, LOSS, 5, 1.0)
    assert found.epochs == 6
    assert found.finished
    assert found.validation["loss"].value == 1.0
    assert found.validation["accuracy"].value == pytest.approx(0.3)
    assert found.gap.value == 0.5
    assert (found.last_epoch, found.last_loss.value, found.last_gap.value) == (10, 3.0, 2.8)
    # By another measure the same curves end elsewhere, and not before they were cut short.
    found = level(0.5, measured, (2, 4, 6, 8, 10), names, ACCURACY, 5, 1.0)
    assert found.epochs == 10
    assert not found.finished


def test_a_split_that_patience_ended_does_not_end_the_others():
    measured, names = curves([3.0, 2.0, 1.0, 2.0, 3.0], [0.0] * 5, [0.0] * 5)
    measured[2, :, 2:] = np.nan
    found = level(0.5, measured, (2, 4, 6, 8, 10), names, LOSS, 5, 1.0)
    assert (found.last_epoch, len(found.validation_curve)) == (10, 5)
    assert found.validation_curve[2].value == pytest.approx((4 * 1.0 + 2.0) / 5)
    assert found.epochs == 6
    measured[:, :, 4] = np.nan
    assert level(0.5, measured, (2, 4, 6, 8, 10), names, LOSS, 5, 1.0).last_epoch == 8


def test_the_comparison_by_hand():
    from scipy.stats import t

    losses = np.array([[1.0, 2, 3, 4, 5], [0.5, 1.6, 2.4, 3.5, 4.6], [2.0, 3, 4, 5, 6]])
    found = compare((0.0, 0.1, 0.5), losses, 5, LOSS)
    off = losses[1] - losses[0]
    assert found.p == 0.1
    assert found.difference == pytest.approx(off.mean())
    # Nadeau and Bengio: 1/n + validation rows / training rows, here 1/5 + 1/4.
    assert found.error == pytest.approx(np.sqrt((1 / 5 + 1 / 4) * off.var(ddof=1)))
    assert found.bound == pytest.approx(found.error * t.ppf(1 - 0.05 / 2 / 2, 4))
    assert found.verdict == "helped"


@pytest.mark.parametrize(
    ("off", "verdict"),
    [(-1.0, "helped"), (-0.05, "no clear difference"), (0.05, "no clear difference"), (1, "hurt")],
)
def test_verdicts(off, verdict):
    rng = np.random.default_rng(0)
    none = rng.normal(size=15)
    losses = np.stack([none, none + off + 0.1 * rng.normal(size=15)])
    assert compare((0.0, 0.3), losses, 5, LOSS).verdict == verdict
    other = {"helped": "hurt", "hurt": "helped"}.get(verdict, verdict)
    assert compare((0.0, 0.3), losses, 5, ACCURACY).verdict == other


def test_more_tries_need_a_larger_difference():
    rng = np.random.default_rng(0)
    none = rng.normal(size=15)
    one = none - 0.06 + 0.1 * rng.normal(size=15)
    few = compare((0.0, 0.3), np.stack([none, one]), 5, LOSS)
    many = compare((0.0, 0.3, *range(9)), np.stack([none, one, *[none + 9] * 9]), 5, LOSS)
    assert few.difference == many.difference
    assert few.bound < many.bound
    assert paired(one, none, 5).bound == few.bound


def test_the_gaps_are_compared_by_the_same_test(ran):
    i = SETTINGS.p.index(ran.comparison.p)
    gaps = np.array(
        [[s.validation["loss"][k] - s.training["loss"][k] for s in ran.splits] for k in (i, 0)]
    )
    assert ran.gap == paired(*gaps, SETTINGS.folds)
