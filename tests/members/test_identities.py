"""What is known exactly: all thinned networks of small ones, and the statistics of some of them."""

import itertools
import math

import numpy as np
import pytest
from libraries import library
from scipy import stats
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from thinned.members import predict
from thinned.members.prediction import Gathered, joined
from thinned.members.statistics import Quantiles, RunningMoments, entropy

from .models import everything, rows

torch = library("torch")
nn = library("torch.nn")


def networks(n, p):
    """The multipliers of all 2^n thinned networks, and the probability of each."""
    keep = np.array(list(itertools.product([0.0, 1.0], repeat=n)))
    weight = np.prod(np.where(keep == 1, 1 - p, p), axis=1)
    return keep / (1 - p), weight


def linear(n=10, outputs=1, p=0.5, seed=0):
    """Dropout and one linear layer, in binary64."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Dropout(p), nn.Linear(n, outputs)).double()


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# -------------------------------------------------------------------------- all 2^n are enumerated


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_a_linear_prediction_has_the_mean_and_variance_of_the_formula(p):
    model, x = linear(p=p), rows(5, 10).double()
    noise, weight = networks(10, p)
    w = model[1].weight.detach().numpy()[0]
    y = (x.numpy()[:, None] * noise) @ w + model[1].bias.item()
    mean = y @ weight
    np.testing.assert_allclose(mean, model.eval()(x).detach().numpy()[:, 0], rtol=1e-12)
    variance = (y - mean[:, None]) ** 2 @ weight
    np.testing.assert_allclose(variance, p / (1 - p) * (x.numpy() ** 2) @ w**2, rtol=1e-12)


def test_statistics_of_all_members_are_those_of_the_enumeration():
    model, x = linear(), rows(5, 10).double()
    noise, _ = networks(10, 0.5)
    gathered = Gathered("test", None, False, True, (0.5,))
    for m in noise:
        gathered.add(model[1](x * torch.from_numpy(m)).detach())
    answer = joined([gathered], seed=0, share="member")
    w = model[1].weight.detach().numpy()[0]
    exact = (x.numpy() ** 2) @ w**2
    np.testing.assert_allclose(answer.std[:, 0] ** 2 * 1023 / 1024, exact, rtol=1e-10)
    np.testing.assert_allclose(answer.mean, model.eval()(x).detach(), rtol=1e-10)
    np.testing.assert_allclose(answer.quantiles[0.5], np.median(answer.outputs, axis=0))


def test_dropout_on_inputs_is_ridge_on_diabetes():
    x, y = load_diabetes(return_X_y=True)
    y, p = y - y.mean(), 0.5
    noise, weight = networks(10, p)

    def loss(w):
        """The mean over all 1,024 thinned networks of the squared loss."""
        return ((y[:, None] - (x[:, None] * noise) @ w) ** 2).sum(0) @ weight

    best = Ridge(alpha=p / (1 - p), fit_intercept=False).fit(x, y).coef_
    assert loss(best) == pytest.approx(1700059.1029, abs=5e-4)
    penalty = (x**2).sum(0) @ best**2
    assert loss(best) == pytest.approx(((y - x @ best) ** 2).sum() + penalty, rel=1e-12)
    for step in np.eye(10):
        assert min(loss(best + step), loss(best - step)) > loss(best)


def test_the_normalised_geometric_mean_is_the_whole_network():
    model, x = linear(outputs=4), rows(3, 10).double()
    noise, weight = networks(10, 0.5)
    w, b = model[1].weight.detach().numpy(), model[1].bias.detach().numpy()
    z = (x.numpy()[:, None] * noise) @ w.T + b  # (rows, networks, outputs)
    whole = x.numpy() @ w.T + b
    geometric = np.exp(np.einsum("rno,n->ro", np.log(softmax(z)), weight))
    np.testing.assert_allclose(
        geometric / geometric.sum(1, keepdims=True), softmax(whole), rtol=1e-10
    )
    yes, no = (np.exp(np.log(1 / (1 + np.exp(s * z))).transpose(0, 2, 1) @ weight) for s in (-1, 1))
    np.testing.assert_allclose(yes / (yes + no), 1 / (1 + np.exp(-whole)), rtol=1e-10)
    # A plain mean of probabilities is another number: the identity could fail.
    plain = np.einsum("rno,n->ro", softmax(z), weight)
    assert np.abs(plain - softmax(whole)).max() > 1e-3


def test_predictive_entropy_is_expected_entropy_and_mutual_information():
    gathered = Gathered("test", "probabilities", False, False, ())
    for p in ((0.9, 0.1), (0.1, 0.9)):
        gathered.add(np.array([p]))
    answer = joined([gathered], seed=0, share="member")
    found = [answer.predictive_entropy, answer.expected_entropy, answer.mutual_information]
    np.testing.assert_allclose(np.ravel(found), [0.693147, 0.325083, 0.368064], atol=5e-7)
    assert answer.variation_ratio == 0.5
    bits = answer.to_bits()
    assert (bits.unit, bits.to_bits()) == ("bits", bits)
    assert bits.predictive_entropy == pytest.approx(1.0)
    # And on a network, with the sum exact but for rounding.
    answer = predict(everything(), rows(), members=16, task="classification")
    total = answer.expected_entropy + answer.mutual_information
    np.testing.assert_allclose(answer.predictive_entropy, total, atol=1e-12)
    np.testing.assert_allclose(answer.predictive_entropy, entropy(answer.probabilities))
    assert answer.mutual_information.min() > 0


def test_weight_scaling_is_the_mean_over_members_of_a_linear_layer():
    model, x = linear(outputs=3, p=0.3), rows(4, 10).double()
    answer = predict(model, x, members=4000)
    away = np.abs(answer.mean - model.eval()(x).detach().numpy()) / answer.standard_error
    assert away.max() < 4.5
    assert away.mean() > 0.2


# ------------------------------------------------------------- the standard error is honest


def coverage(antithetic, p=0.3, members=16, pools=1500):
    """How often the true mean lies in the 90% interval that the standard error gives.

    Each row has masks of its own, and so is a pool by itself.
    """
    model = linear(8, p=p)
    x = rows(1, 8).double()
    exact = model.eval()(x).item()
    answer = predict(model, x.expand(pools, 8), members=members, share="row", antithetic=antithetic)
    groups = members // 2 if antithetic else members
    bound = stats.t.ppf(0.95, groups - 1) * answer.standard_error
    return float((np.abs(answer.mean - exact) < bound).mean())


def check_honest(antithetic):
    # 1,500 trials at .9: a standard deviation of .0077; the sums of 8 terms are not quite normal.
    assert coverage(antithetic) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("antithetic", [False, True])
def test_means_are_within_their_standard_error_as_often_as_they_should(antithetic):
    check_honest(antithetic)


def test_an_error_over_members_instead_of_pairs_is_caught(monkeypatch):
    wrong = property(lambda g: np.sqrt(g.all.variance / g.all.count))
    monkeypatch.setattr(Gathered, "standard_error", wrong)
    check_honest(False)
    with pytest.raises(AssertionError):
        check_honest(True)


def test_the_spread_between_members_does_not_depend_on_pairs():
    model, x = linear(8, p=0.3), rows(1, 8).double()
    w = model[1].weight.detach().numpy()[0]
    exact = math.sqrt(0.3 / 0.7 * float((x.numpy()[0] ** 2) @ w**2))
    for antithetic in (False, True):
        pool = x.expand(800, 8)
        answer = predict(model, pool, members=8, share="row", antithetic=antithetic)
        assert np.mean(answer.std**2) ** 0.5 == pytest.approx(exact, rel=0.02)


# ------------------------------------------------------------------------------- until, antithetic


def test_until_stops_when_every_row_is_known_well_enough():
    model, x = everything(), rows()
    all_of_them = predict(model, x, members=512)
    bound = 0.1
    assert all_of_them.standard_error.max() < bound
    answer = predict(model, x, members=512, until=bound)
    assert answer.reached
    assert answer.members % 8 == 0
    assert answer.members < 512
    assert answer.standard_error.max() < bound
    before = predict(model, x, members=answer.members - 8)
    assert before.standard_error.max() >= bound
    assert predict(model, x, members=512, until=bound, batch_size=3).members == answer.members
    # Of many members only those are made that run: a list of these would take days.
    assert predict(model, x, members=2**31 - 2, until=bound).members == answer.members
    short = predict(model, x, members=12, until=1e-6)
    assert (short.reached, short.members) == (False, 12)
    assert "NOT reached" in repr(short)


def test_pairs_save_members_where_answers_are_nearly_linear():
    model, x = linear(p=0.3), rows(6, 10).double()
    plain = predict(model, x, members=400)
    pairs = predict(model, x, members=400, antithetic=True)
    assert (pairs.standard_error < 0.9 * plain.standard_error).all()
    # At p = .5 a mirror is the complement, and the mean of a pair of linear answers is exact.
    model[0].p = 0.5
    exact = predict(model, x, members=4, antithetic=True)
    np.testing.assert_allclose(exact.mean, model.eval()(x).detach(), rtol=1e-12)
    np.testing.assert_allclose(exact.standard_error, 0.0, atol=1e-12)
    assert exact.std.min() > 0.01


# ----------------------------------------------------------------------------------- what is given


def test_what_a_task_makes_of_outputs():
    model, x = everything(), rows()
    logits = predict(model, x, members=6, keep=True).outputs
    p = predict(model, x, members=6, task="classification", keep=True)
    np.testing.assert_allclose(p.outputs, softmax(logits), atol=1e-12)
    np.testing.assert_allclose(p.probabilities, softmax(logits).mean(0), atol=1e-12)
    np.testing.assert_allclose(p.std, softmax(logits).std(0, ddof=1), atol=1e-12)
    np.testing.assert_allclose(p.standard_error, p.std / math.sqrt(6), atol=1e-12)
    top = softmax(logits).argmax(-1)
    ratio = [1 - np.bincount(column).max() / 6 for column in top.T]
    np.testing.assert_allclose(p.variation_ratio, ratio)
    one = predict(model, x, members=6, task="binary", output=lambda y: y[:, :1], keep=True)
    np.testing.assert_allclose(one.outputs[..., 1], 1 / (1 + np.exp(-logits[..., 0])), atol=1e-12)
    maps = predict(
        model, x, members=6, task="classification", class_axis=1,
        output=lambda y: y[:, :, None].expand(-1, 3, 4),
    )  # fmt: skip
    np.testing.assert_allclose(maps.probabilities[:, 2], p.probabilities, atol=1e-12)
    assert maps.predictive_entropy.shape == (10, 4)
    with pytest.raises(ValueError, match="task='binary'"):
        predict(model, x, task="classification", output=lambda y: y[:, :1])


def test_epistemic_and_aleatoric_parts():
    def two(y):
        return y[:, 0], y[:, 1].exp()

    answer = predict(everything(), rows(), members=8, task="mean_variance", output=two, keep=True)
    both = predict(everything(), rows(), members=8, keep=True).outputs
    np.testing.assert_allclose(answer.epistemic, both[..., 0].var(0, ddof=1))
    np.testing.assert_allclose(answer.aleatoric, np.exp(both[..., 1]).mean(0), rtol=1e-6)
    with pytest.raises(ValueError, match="variance must be not negative"):
        predict(
            everything(), rows(), task="mean_variance", output=lambda y: (y[:, 0], -y[:, 1].exp())
        )


# ------------------------------------------------------------------------------------- statistics


def check_moments():
    values = np.random.default_rng(0).normal(1e9, 1e-3, (50, 4))
    one, two, rest = RunningMoments(), RunningMoments(), RunningMoments()
    for i, y in enumerate(values):
        one.add(y)
        (two if i < 20 else rest).add(y)
    two.join(rest)
    for found in (one, two):
        np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-15)
        np.testing.assert_allclose(found.variance, values.var(0, ddof=1), rtol=1e-3)
    empty = RunningMoments()
    empty.join(RunningMoments())
    empty.join(one)
    np.testing.assert_array_equal(empty.mean, one.mean)


def test_moments_do_not_cancel_and_can_be_joined():
    check_moments()


def test_moments_by_squares_are_caught(monkeypatch):
    def add(self, y):
        self.count += 1
        self.mean = self.mean + (y - self.mean) / self.count
        self.squares = getattr(self, "squares", 0.0) + y**2
        self.m2 = self.squares - self.count * self.mean**2

    monkeypatch.setattr(RunningMoments, "add", add)
    with pytest.raises(AssertionError):
        check_moments()


def test_quantiles_in_constant_memory():
    rng = np.random.default_rng(0)
    p = (0.05, 0.25, 0.5, 0.9)
    values = rng.gamma(2.0, size=(4000, 3))
    sketch = Quantiles(p)
    for i, y in enumerate(values):
        sketch.add(y)
        if i in (0, 3, 4):
            exact = np.quantile(values[: i + 1], p, axis=0)
            if i < 4:
                np.testing.assert_allclose(sketch.values(), exact)
    # In ranks: where the estimates lie among the values.
    ranks = (values[None] <= sketch.values()[:, None]).mean(axis=1)
    np.testing.assert_allclose(ranks, np.broadcast_to(np.array(p)[:, None], ranks.shape), atol=0.02)
    ends = Quantiles((0.0, 1.0))
    for y in values:
        ends.add(y)
    np.testing.assert_array_equal(ends.values(), [values.min(0), values.max(0)])
    kept = predict(everything(), rows(), members=40, quantiles=p, keep=True)
    np.testing.assert_allclose(list(kept.quantiles.values()), np.quantile(kept.outputs, p, axis=0))
    sketched = predict(everything(), rows(), members=40, quantiles=p)
    assert np.abs(sketched.quantiles[0.5] - kept.quantiles[0.5]).max() < kept.std.max() / 2


def test_a_prediction_says_what_it_is():
    told = repr(predict(everything(), rows(), members=4, task="classification"))
    assert told.startswith("Prediction of 10 rows by 4 members: seed=0, share='member'")
    assert "mutual_information (10,)" in told
    assert "once a batch: first, norm" in told
