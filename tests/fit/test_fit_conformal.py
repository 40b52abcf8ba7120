"""Intervals and sets: they hold the truth as often as they say, and refuse what they cannot say."""

import numpy as np
import pytest

from thinned.errors import InputError
from thinned.fit.conformal import bounded, fewest_rows, limit, sets, strangeness, with_scores
from thinned.fit.model import Answers, Model
from thinned.fit.network import Network, probabilities
from thinned.members.calibration.conformal import conformal_quantile


def model(task, scores, scale=1.0):
    network = Network((), (), 0.0, scale)
    classes = ("a", "b", "c") if task == "classification" else ()
    return Model(task, "y", classes, (), (), None, network, {}, strangeness=scores)


def draw(task, rng, n, scale=1.0):
    """Answers of a model that is far from right, and the truth."""
    if task == "regression":
        true = scale * rng.standard_t(3, size=n)
        return Answers(true[:, None], true * 0.3), true
    true = rng.integers(3, size=n)
    logits = rng.normal(size=(n, 3)) + np.eye(3)[true]
    return Answers(logits, logits.argmax(axis=1), probabilities(logits)), true


def coverage(task, level, rows=40, repeats=400, scale=1.0):
    """How often the truth of new rows is held, over many test parts of this size."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(repeats):
        known, true = draw(task, rng, rows, scale)
        made = model(task, strangeness(model(task, None, scale), known, true), scale)
        answers, truth = draw(task, rng, 50, scale)
        found = bounded(made, answers, level)
        if task == "regression":
            held += ((found.more["low"] <= truth) & (truth <= found.more["high"])).tolist()
        else:
            held += found.sets[np.arange(50), truth].tolist()
    return np.mean(held)


@pytest.mark.parametrize("level", [0.75, 0.9])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_truth_is_held_as_often_as_is_said(task, level):
    found = coverage(task, level)
    assert level - 0.01 < found < level + 0.05


@pytest.mark.parametrize("scale", [1e60, 1e-60])
def test_the_targets_unit_does_not_matter(scale):
    assert 0.89 < coverage("regression", 0.9, repeats=100, scale=scale) < 0.96


def test_a_quantile_of_the_rows_without_the_new_one_is_caught(monkeypatch):
    monkeypatch.setattr(
        "thinned.fit.conformal.conformal_quantile", lambda s, a, w: float(np.quantile(s, 1 - a))
    )
    assert coverage("regression", 0.9, rows=12) < 0.88


def test_sets_are_never_empty_and_hold_the_likeliest():
    shares = np.array([[0.4, 0.35, 0.25], [0.98, 0.01, 0.01], [0.2, 0.3, 0.5]])
    np.testing.assert_array_equal(sets(shares, 0.1).sum(axis=1), [1, 1, 1])
    np.testing.assert_array_equal(
        sets(shares, 0.65), [[True, True, False], [True, False, False], [False, False, True]]
    )


def test_too_few_rows_are_a_sentence():
    assert [fewest_rows(level) for level in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    made = model("regression", np.arange(5.0))
    assert limit(made, 0.8) == 4.0
    with pytest.raises(InputError) as caught:
        bounded(made, Answers(np.zeros((1, 1)), np.zeros(1)), 0.9)
    assert str(caught.value) == (
        "--level 0.9: this takes 9 rows in the test part, and the model was fitted with 5, which "
        "allow 0.833 at the most."
    )


def test_a_model_without_scores_is_a_sentence():
    with pytest.raises(InputError, match="kept nothing to tell intervals by"):
        bounded(model("regression", None), Answers(np.zeros((1, 1)), np.zeros(1)), 0.9)


def test_scores_are_rounded_up_to_what_is_saved():
    true = np.array([0.1, 0.2, 1 / 3])
    found = strangeness(model("regression", None), Answers(np.zeros((3, 1)), np.zeros(3)), true)
    np.testing.assert_array_equal(found, found.astype(np.float32))
    assert (found >= true).all()
    np.testing.assert_allclose(found, true, rtol=1e-6)


# ------------------------------------------------------------------------------------------ weights


def population(rng, n):
    """Values whose noise grows with x, and a model that says x; rows are met evenly in x."""
    x = rng.random(n)
    return x, x + (0.1 + x) * rng.normal(size=n)


def sample(rng, n):
    """Rows that were asked the rarer, the larger their x; and weights that make up for it."""
    x, y = population(rng, 20 * n)
    share = 1.1 - x
    taken = rng.random(len(x)) < share
    return x[taken][:n], y[taken][:n], 1 / share[taken][:n]


def answers_of(x):
    return Answers(x[:, None], x)


def held(weighted, level=0.9, rows=60, repeats=300):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(repeats):
        x, y, weights = sample(rng, rows)
        made = with_scores(
            model("regression", None), answers_of(x), y, weights if weighted else None
        )
        x, y = population(rng, 50)
        bounds = bounded(made, answers_of(x), level).more
        found += ((bounds["low"] <= y) & (y <= bounds["high"])).tolist()
    return np.mean(found)


def test_weights_make_up_for_how_rows_were_drawn():
    assert held(False) < 0.86  # most of the rows are those with little noise
    assert 0.9 <= held(True) < 0.96


@pytest.mark.parametrize("n", [1, 9, 10, 19, 57])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_equal_weights_are_none(n, level):
    scores = np.random.default_rng(n).random(n).round(1)
    for weight in (1.0, 0.3, 7e30):
        weights = np.full(n, weight)
        assert conformal_quantile(scores, 1 - level, weights) == conformal_quantile(
            scores, 1 - level
        )


def test_a_weighted_quantile_by_hand():
    scores, weights = np.array([3.0, 1.0, 2.0, 4.0]), np.array([2.0, 1.0, 1.0, 4.0])
    # Of 12 with the new row's 4: 1 up to the score 1, 2 up to 2, 4 up to 3, 8 up to 4.
    found = [conformal_quantile(scores, 1 - level / 12, weights) for level in (1, 2, 3, 4, 5, 8, 9)]
    assert found == [1.0, 2.0, 3.0, 3.0, 4.0, 4.0, np.inf]
    assert conformal_quantile(np.zeros(0), 0.1, np.zeros(0)) == np.inf


def test_rows_that_weigh_too_little_are_a_sentence():
    weights = np.array([1.0, *[0.1] * 60])
    made = with_scores(
        model("regression", None), Answers(np.zeros((61, 1)), np.zeros(61)), np.ones(61), weights
    )
    with pytest.raises(InputError) as caught:
        bounded(made, Answers(np.zeros((1, 1)), np.zeros(1)), 0.9)
    assert str(caught.value) == (
        "--level 0.9: this takes 9 rows that weigh as much as the heaviest one in the test part, "
        "and the model was fitted with 7, which allow 0.875 at the most."
    )


def test_weights_of_any_size_are_kept_as_shares_of_the_heaviest():
    for weights in ([1e300, 1e-300, 5e299], [3e-320, 1e-320, 2e-320]):
        made = with_scores(
            model("regression", None),
            Answers(np.zeros((3, 1)), np.zeros(3)),
            np.array([3.0, 1.0, 2.0]),
            np.array(weights),
        )
        np.testing.assert_array_equal(made.strangeness, [1.0, 2.0, 3.0])
        assert made.score_weights[2] == 1.0
        assert (made.score_weights > 0).all()
