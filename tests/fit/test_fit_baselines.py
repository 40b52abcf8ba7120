"""Simple models beside the network: what they score, and what is said of them."""

import numpy as np
import pandas as pd
import pytest

from thinned.fit import baselines
from thinned.fit.baselines import BASELINES, BaselineJob, _outputs, found, score, splits_of
from thinned.fit.engines.local import Local
from thinned.fit.job import result_of
from thinned.fit.metrics import METRICS
from thinned.fit.network import MEASURES
from thinned.fit.results import FitSettings
from thinned.fit.search import Search
from thinned.fit.tables import load

LOSS = METRICS["classification"]["loss"]


def job(name, task, x, y, n_classes=0, part=0.25):
    cut = int(len(y) * (1 - part))
    inputs = x[:cut].astype(np.float32), x[cut:].astype(np.float32)
    return BaselineJob((0, 0), name, task, n_classes, inputs, (y[:cut], y[cut:]), 0, True)


def scored(name, task, *data, **options):
    one = score(job(name, task, *data, **options))
    assert set(one.errors) == set(MEASURES[task])
    return dict(zip(MEASURES[task], one.measured, strict=True))


def test_the_constants_are_the_shares_the_mean_and_the_median():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), (rng.random(200) < 0.2).astype(int)
    said = scored("constant", "classification", x, y, 2)
    share, held = y[:150].mean(), y[150:]
    loss = -(held * np.log(share) + (1 - held) * np.log(1 - share)).mean()
    assert said["loss"] == pytest.approx(loss)
    assert said["accuracy"] == pytest.approx((held == 0).mean())
    assert (said["balanced_accuracy"], said["auc"]) == (0.5, 0.5)
    assert said["average_precision"] == pytest.approx(held.mean())
    y = rng.exponential(size=200)
    said = scored("constant", "regression", x, y)
    assert said["loss"] == pytest.approx(((y[150:] - y[:150].mean()) ** 2).mean())
    assert said["mae"] == pytest.approx(np.abs(y[150:] - np.median(y[:150])).mean())


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_linear_and_trees_learn_what_is_theirs(task):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 4))
    straight, bent = x @ [2.0, -1.0, 0.5, 0.0], np.sign(x[:, 0] * x[:, 1]) * 2
    for y, better, worse in ((straight, "linear", "trees"), (bent, "trees", "linear")):
        y = y + 0.5 * rng.normal(size=400)
        target, n = (y, 0) if task == "regression" else ((y > 0).astype(int), 2)
        losses = {name: scored(name, task, x, target, n)["loss"] for name in BASELINES}
        assert losses[better] < losses[worse]
        assert losses[better] < 0.6 * losses["constant"]


def test_few_rows_grow_trees_too():
    x = np.linspace(-1, 1, 40)[np.random.default_rng(0).permutation(40), None]
    assert scored("trees", "regression", x, np.sign(x[:, 0]))["r2"] > 0.8


def test_a_class_without_rows_in_a_part_is_no_fault():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 2))
    y = np.r_[np.arange(30) % 2, np.full(10, 2)]
    for name in BASELINES:
        said = scored(name, "classification", x, y, 3)
        assert all(np.isfinite(list(said.values())))
        assert said["loss"] > 50  # what came was held for impossible


def test_trees_learn_from_so_many_rows_at_the_most(monkeypatch):
    """Of many rows as of few drawn from them; all others learn from all."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 2))
    y = np.sign(x[:, 0])
    whole = {name: scored(name, "regression", x, y) for name in BASELINES}
    seen = []
    model = baselines._model

    def noted(job, rows):
        seen.append((job.name, rows))
        return model(job, rows)

    monkeypatch.setattr(baselines, "_model", noted)
    monkeypatch.setattr(baselines, "MOST_TREE_ROWS", 100)
    some = {name: scored(name, "regression", x, y) for name in BASELINES}
    assert dict(seen)["trees"] == 100
    assert dict(seen)["linear"] > 100
    assert some["linear"] == whole["linear"]
    assert some["trees"]["r2"] > 0.8


def test_simple_models_that_time_has_ended_are_compared_on_their_splits():
    rng = np.random.default_rng(3)
    names = MEASURES["classification"]
    ours = np.full((10, len(names)), 0.5) + 0.02 * rng.normal(size=(10, len(names)))
    data = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2, 2
    test = score(job("constant", "classification", *data))
    for name in BASELINES:
        said = found(name, "classification", LOSS, ours[:2] + 0.1, test, ours, 5)
        assert said.splits == 2


def test_trees_run_on_one_repeat():
    assert [splits_of(name, 5, 15) for name in BASELINES] == [15, 15, 5]


def verdict(off, name="linear", more=None):
    """Of a network whose loss is off by so much, on ten splits. more : by how much its AUC is."""
    rng = np.random.default_rng(3)
    names = MEASURES["classification"]
    theirs = np.full((10, len(names)), 0.5) + 0.02 * rng.normal(size=(10, len(names)))
    ours = theirs + 0.01 * rng.normal(size=theirs.shape)
    ours[:, 0] += off
    ours[:, names.index("auc")] += more or 0.0
    data = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2, 2
    test = score(job("constant", "classification", *data))
    return found(name, "classification", LOSS, theirs, test, ours, 5)


@pytest.mark.parametrize(
    ("off", "said"), [(-0.1, "beaten"), (0.1, "better"), (-0.002, "as well"), (0.002, "as well")]
)
@pytest.mark.parametrize("name", ["constant", "linear"])
def test_a_baseline_is_beaten_only_where_it_is_clear(name, off, said):
    one = verdict(off, name)
    assert one.found == said
    assert one.against.clear == (said != "as well")
    assert one.against.difference == pytest.approx(off, abs=0.01)


def test_a_network_that_orders_the_rows_does_better_than_no_inputs():
    """Where one class is rare the loss alone shows little."""
    assert verdict(-0.002, "constant", more=0.2).found == "beaten"
    assert verdict(-0.002, "constant", more=-0.2).found == "as well"
    assert verdict(-0.002, "linear", more=0.2).found == "as well"
    assert verdict(0.1, "constant", more=0.2).found == "better"


def test_a_fold_of_large_values_hides_no_network():
    """One fold's squared errors are a thousand times the others': their mean says nothing."""
    rng = np.random.default_rng(0)
    scale = np.array([1000.0, 1.0, 2.0, 1.5, 1.0])
    theirs, tells, not_ = (
        np.column_stack([scale * part, np.sqrt(scale * part), 1 - part, 1 + rng.normal(size=5)])
        for part in (1 + rng.uniform(0, 0.01, 5), rng.uniform(0.15, 0.3, 5), rng.normal(1, 0.1, 5))
    )
    data = (
        np.random.default_rng(0).normal(size=(40, 2)),
        np.random.default_rng(1).normal(size=40),
        0,
    )
    test = score(job("constant", "regression", *data))
    metric = METRICS["regression"]["loss"]
    told, nothing = (
        found("constant", "regression", metric, theirs, test, ours, 5) for ours in (tells, not_)
    )
    assert not told.against.clear
    assert (told.found, nothing.found) == ("beaten", "as well")


# ------------------------------------------------------------------------------------ whole tables

QUICK = FitSettings(p=(0.0, 0.2), hidden=(16,), epochs=60, repeats=1, seed=0)


def result(tmp_path, frame, target="y", **settings):
    frame.to_csv(tmp_path / "data.csv", index=False)
    problem = load(str(tmp_path / "data.csv"), target)
    search = Search(problem, FitSettings(**{**vars(QUICK), **settings}), engine=Local(1))
    search.run()
    return result_of(problem, search)


def noise(rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        rng.normal(size=(rows, columns)), columns=[f"x{i}" for i in range(columns)]
    )
    return frame, rng


NOTHING = "A model without inputs does as well."


@pytest.mark.parametrize("kind", ["two classes", "unbalanced", "quantity", "outliers"])
def test_a_table_without_signal_says_so(tmp_path, kind):
    frame, rng = noise(150, 4)
    frame["y"] = {
        "two classes": rng.choice(["yes", "no"], 150),
        "unbalanced": np.where(rng.random(150) < 0.15, "yes", "no"),
        "quantity": rng.normal(size=150),
        "outliers": rng.standard_cauchy(150),
    }[kind]
    said = result(tmp_path, frame)
    assert NOTHING in said.headline


def test_a_straight_line_is_beaten_by_no_network(tmp_path):
    frame, rng = noise(200, 4)
    frame["y"] = frame @ [3.0, -2.0, 1.0, 0.0] + 0.1 * rng.normal(size=200)
    said = result(tmp_path, frame, hidden=(64,), epochs=200)
    assert "A linear model does " in said.headline
    assert "without inputs" not in said.headline
    against = {one.name: one.found for one in said.baselines}
    assert against["constant"] == "beaten"
    assert against["linear"] in ("better", "as well")


def test_a_rare_class_with_a_signal_is_not_called_nothing(tmp_path):
    frame, rng = noise(500, 4)
    risk = 1 / (1 + np.exp(3.6 - 1.6 * frame["x0"] - 1.2 * frame["x1"]))
    frame["y"] = np.where(rng.random(500) < risk, "ill", "well")
    said = result(tmp_path, frame, repeats=2)
    assert said.data.unbalanced
    assert "without inputs" not in said.headline


def test_each_sentence_is_in_the_numbers(tmp_path):
    frame, rng = noise(200, 4)
    frame["y"] = np.where(frame["x0"] + 0.5 * rng.normal(size=200) > 0, "a", "b")
    said = result(tmp_path, frame, epochs=30)
    text = " ".join(said.sentences)
    for one in said.baselines:
        n = one.splits
        ours = np.array([s.validation["loss"][said.levels.index(said.best)] for s in said.splits])
        mean = one.validation["loss"].value
        assert one.against.difference == pytest.approx(ours[:n].mean() - mean)
        assert ("clearly better" in text) == any(
            b.against.clear and b.against.difference < 0 for b in said.baselines
        )
    assert (said.gap.clear) == ("did not clearly change" not in text)


@pytest.mark.parametrize("name", ["linear", "trees"])
@pytest.mark.parametrize("power", [-560, 200])
def test_the_unit_of_a_quantity_changes_nothing(name, power):
    """Solvers work in float32, where a quantity near 2^200 is infinite and one near 2^-560 is 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    y = x[:, 0] * 3 + rng.normal(size=400) + 150

    def outputs(target):
        inputs, parts = (x[:300], x[300:]), (target[:300], target[300:])
        return _outputs(BaselineJob((0, 0), name, "regression", 1, inputs, parts, 0))

    np.testing.assert_array_equal(outputs(np.ldexp(y, power)), np.ldexp(outputs(y), power))
