"""What the classics refuse, and in which words."""

import math

import numpy as np
import pytest
from libraries import library

import thinned
from thinned.methods import classic

torch = library("torch")

AT = thinned.Address(seed=31, site="shelf", step=2)
X, W = np.ones((6, 5)), np.ones((4, 5))
BAD = [
    (
        lambda: classic.standout(X, X[:5], 0.5, AT),
        ValueError,
        "standout: s must be of shape (6, 5)",
    ),
    (lambda: classic.standout(X, [[0.0]], 0.5, AT), TypeError, "standout: s must be a numpy array"),
    (
        lambda: classic.standout(X, torch.zeros(6, 5), 0.5, AT),
        TypeError,
        "standout: s must be an array of x's library (ndarray), got Tensor",
    ),
    (
        lambda: classic.standout(X, X, 0.5, AT, alpha=math.nan),
        ValueError,
        "standout: alpha must be a finite number, got nan",
    ),
    (
        lambda: classic.excitation_dropout(X[0], X[0], 0.5, AT),
        ValueError,
        "excitation_dropout: x must be of shape (N, units, ...), got an array of shape (5,)",
    ),
    (
        lambda: classic.shakeout(X, W.T, 0.5, AT),
        ValueError,
        "shakeout: weight must be of shape (5, 5), got (5, 4)",
    ),
    (
        lambda: classic.shakeout(X, W[0], 0.5, AT),
        ValueError,
        "shakeout: weight must be of shape (outputs, 5), got (5,)",
    ),
    (
        lambda: classic.shakeout(X, W, 0.5, AT, c=-1),
        ValueError,
        "shakeout: c must be a finite number of at least 0, got -1",
    ),
    (
        lambda: classic.bridgeout(X[None], W, 0.5, AT),
        ValueError,
        "bridgeout: x must be of shape (N, inputs), got an array of shape (1, 6, 5)",
    ),
    (
        lambda: classic.bridgeout(X, W, 0.5, AT, norm=0),
        ValueError,
        "bridgeout: norm must be a finite number above 0, got 0",
    ),
    (
        lambda: classic.bridgeout(X, W, 0.5, AT, per_batch=1),
        TypeError,
        "bridgeout: per_batch must be True or False, got 1",
    ),
    (
        lambda: classic.shake_drop(X, 0.5, AT, level="row"),
        ValueError,
        "shake_drop: level must be 'batch', 'image', 'channel' or 'pixel', got 'row'",
    ),
    (
        lambda: classic.shake_drop(X[0], 0.5, AT, level="channel"),
        ValueError,
        "shake_drop: x must be of shape (N, C, ...) for channels, got an array of shape (5,)",
    ),
    (
        lambda: classic.shake_drop(X, 0.5, AT, alpha=(1, -1)),
        ValueError,
        "shake_drop: alpha must be (low, high) in this order, got (1, -1)",
    ),
    (
        lambda: classic.shake_drop(X, 0.5, AT, beta=0.5),
        ValueError,
        "shake_drop: beta must be two numbers (low, high), got 0.5",
    ),
    (
        lambda: classic.shake_drop(X, 0.5, AT, beta=("a", 1)),
        TypeError,
        "shake_drop: an end of beta must be a finite number, got 'a' (str)",
    ),
    (
        lambda: classic.shake_shake(X, X[:5], AT),
        ValueError,
        "shake_shake: other must be of shape (6, 5), got (5, 5)",
    ),
    (
        lambda: classic.shake_shake(X, X, AT, backward="other"),
        ValueError,
        "shake_shake: backward must be 'shake', 'even' or 'keep', got 'other'",
    ),
    (
        lambda: classic.shake_shake(np.float64(1.0), np.float64(1.0), AT),
        ValueError,
        "shake_shake: x must be of shape (N, ...), got an array without axes",
    ),
    (
        lambda: classic.drop_attention(X, 0.5, AT, by="row"),
        ValueError,
        "drop_attention: by must be 'element' or 'column', got 'row'",
    ),
    (
        lambda: classic.drop_attention(X, 0.5, AT, width=6),
        ValueError,
        "drop_attention: width must be an integer in [1, 6), got 6",
    ),
    (
        lambda: classic.drop_attention(X[0], 0.5, AT),
        ValueError,
        "drop_attention: x must be of shape (..., queries, keys), got an array of shape (5,)",
    ),
    (
        lambda: classic.spectral_dropout(X, 0.5, AT, tau=-1),
        ValueError,
        "spectral_dropout: tau must be a finite number of at least 0, got -1",
    ),
    (
        lambda: classic.spectral_dropout(X, 0.5, AT, axis=2),
        ValueError,
        "spectral_dropout: axis must be an integer in [-2, 2), got 2",
    ),
    (
        lambda: classic.information_dropout(X, W, AT),
        ValueError,
        "information_dropout: alpha must be of shape (6, 5), got (4, 5)",
    ),
    (
        lambda: classic.information_cost(X, largest=0.0),
        ValueError,
        "information_cost: largest must be a finite number above 0, got 0",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[text[:48] for *_, text in BAD])
def test_bad_input_is_refused(call, kind, text):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).startswith(text)
    assert str(caught.value).endswith(".")
