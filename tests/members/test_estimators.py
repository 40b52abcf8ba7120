"""The thinned networks of the estimators, and of what `thinned fit` saved."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_diabetes, load_digits
from sklearn.preprocessing import scale

import thinned
from thinned.cli import main
from thinned.fit.saved import load_model, save_model
from thinned.members import perceptron

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SMALL = {"hidden_layer_sizes": (16, 12), "max_iter": 4, "batch_size": 64, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    how = {**SMALL, "max_iter": 15, "learning_rate_init": 0.005}
    return thinned.DropoutMLPClassifier(p=(0.1, 0.3, 0.2), **how).fit(x / 16, y), x / 16


@pytest.fixture(scope="module")
def patients():
    x, y = load_diabetes(return_X_y=True)
    x, y = scale(x), scale(y)
    return thinned.DropoutMLPRegressor(p=0.2, activation="tanh", **SMALL).fit(x, y), x


def by_hand(model, x, k, share, seed=0, mirror=False):
    """Scores of member k, elementwise on whole layers."""
    shared = (0,) if share == "member" else ()
    y = x
    for i, (weight, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        at = thinned.Address(seed, model.sites_[i]).fold_in(k)
        y = thinned.dropout(y, model.p_[i], at, shared_axes=shared, mirror=mirror)
        y = y @ weight.astype(x.dtype) + bias
        if i < len(model.coefs_) - 1:
            y = np.maximum(y, 0) if model.activation == "relu" else np.tanh(y)
    return y


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def check_members(model, x, share):
    answer = model.predict_members(x, 6, seed=3, share=share, keep=True, antithetic=True)
    for k in range(6):
        expected = by_hand(model, x, k // 2, share, 3, k % 2 == 1)
        expected = softmax(expected) if hasattr(model, "classes_") else expected[:, 0]
        np.testing.assert_allclose(answer.outputs[k], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", ["member", "row"])
@pytest.mark.parametrize("which", ["digits", "patients"])
def test_members_are_what_their_masks_say(which, share, request):
    check_members(*request.getfixturevalue(which), share)


@pytest.mark.parametrize("share", ["member", "row"])
def test_rows_by_the_block_are_the_rows_of_the_pool(digits, share, monkeypatch):
    monkeypatch.setattr(perceptron, "ROWS", 100)
    check_members(*digits, share)


def test_a_member_that_forgets_its_scale_is_caught(digits, monkeypatch):
    monkeypatch.setattr(
        perceptron.Perceptron, "_thin", lambda self, x, places: self._elementwise(x, places, 0)
    )
    with pytest.raises(AssertionError):
        check_members(*digits, "member")


def test_classes(digits):
    model, x = digits
    answer = model.predict_members(x, 8)
    assert answer.probabilities.shape == (1797, 10)
    assert answer.execution == "thin"
    np.testing.assert_allclose(answer.probabilities.sum(1), 1)
    np.testing.assert_array_equal(model.predict_proba(x, members=8), answer.mean)
    np.testing.assert_array_equal(model.predict_std(x, 8), answer.std)
    assert not np.allclose(model.predict_proba(x), answer.mean)
    for share in ("member", "row"):
        dense = model.predict_members(x[:50], 8, share=share)
        thin = model.predict_members(sparse.csr_array(x[:50]), 8, share=share)
        np.testing.assert_allclose(thin.mean, dense.mean, atol=1e-12)
    wrong = answer.mean.argmax(1) != load_digits().target
    assert answer.mutual_information[wrong].mean() > answer.mutual_information[~wrong].mean()


def test_targets(patients):
    model, x = patients
    answer = model.predict_members(x, 8, until=0.5, quantiles=0.5)
    assert answer.mean.shape == (442,)
    assert answer.quantiles[0.5].shape == (442,)
    assert answer.predictive_entropy is None
    two = thinned.DropoutMLPRegressor(p=0.2, **SMALL).fit(x, np.stack([x[:, 0], x[:, 1]], 1))
    assert two.predict_std(x, 4).shape == (442, 2)


def test_what_is_wrong_is_said(digits):
    model, x = digits
    with pytest.raises(ValueError, match=r"DropoutMLPClassifier\.predict_members: members must be"):
        model.predict_members(x, 1)
    plain = thinned.DropoutMLPClassifier(p=0, **SMALL).fit(x, load_digits().target)
    with pytest.raises(ValueError, match=r"all 4 members gave the same .* Fit with p > 0"):
        plain.predict_members(x, 4)


# ----------------------------------------------------------------------------- thinned predict


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Folders by task; and the same at p = 0."""
    folder = tmp_path_factory.mktemp("fitted")
    found = {}
    for data in ("digits", "diabetes"):
        out = folder / data
        how = ["--p", "0,0.2", "--hidden", "16", "--epochs", "3", "--repeats", "1", "--quiet"]
        assert main.main(["fit", data, "--out", str(out), *how]) == 0
        model = replace(load_model(out), twin=None)  # the network above 0 beside one at 0
        for p in (0.0, 0.2):  # whichever was better here
            model.training["p"] = p
            found[data, p] = folder / f"{data}-{p}"
            found[data, p].mkdir()
            save_model(model, found[data, p])
    return found


@pytest.mark.long
def test_members_on_the_command_line(fitted, tmp_path, capsys):
    def predicted(data, *how):
        out = tmp_path / "out.csv"
        arguments = ["predict", str(fitted[data, 0.2]), data, "--out", str(out), "--overwrite"]
        assert main.main([*arguments, *how]) == 0
        return pd.read_csv(out)

    plain, asked = predicted("digits"), predicted("digits", "--members", "16")
    new = ["std", "entropy", "mutual information"]
    assert list(asked) == [*plain, *new]
    shares = asked.filter(like="probability").to_numpy()
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1)
    np.testing.assert_allclose(asked["entropy"], entropy, atol=1e-4)
    assert (asked["mutual information"] <= asked["entropy"]).all()
    assert asked[new].min().min() >= 0
    other = predicted("digits", "--members", "16", "--seed", "1")
    assert (other["std"] != asked["std"]).any()
    pd.testing.assert_frame_equal(predicted("digits", "--members", "16"), asked)
    asked = predicted("diabetes", "--members", "16")
    assert list(asked) == ["row", "target", "prediction", "std"]
    assert 1 < asked["std"].mean() < asked["prediction"].mean()
    out = tmp_path / "none.csv"
    arguments = ["predict", str(fitted["digits", 0.0]), "digits", "--members", "4"]
    assert main.main([*arguments, "--out", str(out)]) == 2
    assert "--members: this model was fitted at p = 0" in capsys.readouterr().err
    assert not out.exists()
