"""Small estimators, and when two of them have learnt the same."""

import numpy as np

from thinned import DropoutMLPClassifier, DropoutMLPRegressor

SMALL = {"hidden_layer_sizes": (16, 12), "max_iter": 4, "batch_size": 64, "random_state": 0}


def classifier(**parameters):
    return DropoutMLPClassifier(**{**SMALL, **parameters})


def regressor(**parameters):
    return DropoutMLPRegressor(**{**SMALL, **parameters})


def assert_same(a, b):
    for x, y in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_array_equal(x, y)


def assert_different(a, b):
    assert (a.coefs_[0] != b.coefs_[0]).any()
