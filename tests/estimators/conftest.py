"""The data that the estimators are tested on."""

import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.preprocessing import scale


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:400] / 16, y[:400]


@pytest.fixture(scope="module")
def diabetes():
    x, y = load_diabetes(return_X_y=True)
    return scale(x), scale(y)
