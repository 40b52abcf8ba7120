"""How long to train: the looks, the end of a training, and choices on other rows."""

import numpy as np
import pytest

from thinned.fit.epochs import (
    PATIENCE,
    Patience,
    chosen_elsewhere,
    constant_cost,
    is_over,
    looks_for,
    lowest,
    smoothed,
)
from thinned.fit.metrics import METRICS


@pytest.mark.parametrize(
    ("epochs", "looks"), [(1, (1,)), (3, (1, 2, 3)), (10, tuple(range(1, 11)))]
)
def test_few_epochs_are_all_looked_at(epochs, looks):
    assert looks_for(epochs) == looks


@pytest.mark.parametrize("epochs", [40, 84, 300, 10_000])
def test_looks_are_spaced_by_a_factor(epochs):
    looks = np.array(looks_for(epochs))
    assert looks[-1] == epochs
    assert looks[0] <= max(1, epochs / 35)
    assert 14 <= len(looks) <= 20
    factors = looks[1:] / looks[:-1]
    assert factors[looks[:-1] > 10].max() < 1.35


def test_smoothing_by_hand():
    np.testing.assert_allclose(smoothed(np.array([4.0, 0.0, 8.0])), [3.0, 3.0, 6.0])
    np.testing.assert_allclose(smoothed(np.array([[2.0]])), [[2.0]])


def test_one_lucky_look_is_not_the_lowest():
    curve = np.array([[9.0, 5.0, 3.0, 2.0, 2.0, 2.1, 3.0, 1.9, 4.0]])
    assert curve.argmin() == 7
    assert lowest(curve) == 4


def test_a_training_ends_when_looks_bring_nothing():
    falling = list(np.geomspace(1.0, 0.1, 12))
    assert not is_over(falling, 1.0)
    assert not is_over([*falling, *[0.1] * (PATIENCE - 1)], 1.0)
    assert is_over([*falling, *[0.1] * (PATIENCE + 1)], 1.0)
    assert is_over([*falling, *np.linspace(0.1, 0.5, PATIENCE + 2)], 1.0)
    assert not is_over([1.0] * PATIENCE, 1.0)  # too few looks to say
    # Less than a thousandth of what a constant scores is nothing.
    tiny = list(np.geomspace(1e-3, 1e-6, 12))
    assert is_over(tiny, 10.0)
    assert not is_over(tiny, 1e-3)


def test_patience_waits_for_the_loss_and_for_the_measure_that_decides():
    names = list(METRICS["classification"])
    target = np.arange(100) % 2
    looks = 12
    measured = np.zeros((looks, len(names)))
    measured[:, 0] = 0.7  # the loss stays, and accuracy rises
    measured[:, 1] = np.linspace(0.5, 0.9, looks)
    assert Patience("classification", "loss", target, 50).ends(measured, 20)
    assert not Patience("classification", "accuracy", target, 50).ends(measured, 20)
    assert Patience("classification", "auc", target, 50).ends(measured, 20)
    assert not Patience("classification", "loss", target, 50).ends(measured, 19)  # 950 steps


def test_what_a_constant_costs():
    classes, quantity = METRICS["classification"], METRICS["regression"]
    y = np.array([0, 0, 0, 1])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert constant_cost(classes["loss"], "classification", y) == pytest.approx(entropy)
    assert constant_cost(classes["auc"], "classification", y) == 1.0
    values = np.array([1.0, 3.0, 5.0, 7.0])
    assert constant_cost(quantity["loss"], "regression", values) == pytest.approx(5.0)
    assert constant_cost(quantity["rmse"], "regression", values) == pytest.approx(5**0.5)


def own_luck(choose):
    """How much lower than its true mean a loss looks that was judged at the chosen looks: curves
    that are noise around a constant, where no look is better than another."""
    rng = np.random.default_rng(0)
    costs = rng.normal(size=(300, 10, 20))
    chosen = [choose(one) for one in costs]
    judged = [one[np.arange(10), at] for one, at in zip(costs, chosen, strict=True)]
    return -np.mean(judged)


def test_a_split_is_judged_at_a_look_that_it_has_not_chosen():
    assert abs(own_luck(lambda costs: chosen_elsewhere(costs, 5))) < 0.03


def test_a_look_that_the_split_chose_itself_is_caught():
    assert own_luck(lambda costs: np.full(10, costs.mean(axis=0).argmin())) > 0.4
    assert own_luck(lambda costs: costs.argmin(axis=1)) > 1.5


def test_the_choice_is_the_other_folds_of_the_same_repeat():
    rng = np.random.default_rng(1)
    costs = rng.normal(size=(10, 8))
    found = chosen_elsewhere(costs, 5)
    for s in range(10):
        others = [i for i in range(s - s % 5, s - s % 5 + 5) if i != s]
        assert found[s] == lowest(costs[others])
        changed = costs.copy()
        changed[s] = rng.normal(size=8) * 100
        assert chosen_elsewhere(changed, 5)[s] == found[s]
