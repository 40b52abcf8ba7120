"""A library that thinned has never met, added as docs/develop.md says: every row must run on it.

It is the array API's strict namespace, which has the functions of the standard and none besides, so
that a method which asks for more than the standard fails here.
"""

import array_api_strict as xp
import numpy as np
import pytest

import thinned
from thinned.backends.base import Backend
from thinned.backends.found import FOUND, known
from thinned.checks import message

from .trying import AT, ROWS, call, name_of

Array = type(xp.asarray(0))
FLOATING = (xp.float32, xp.float64)


class StrictBackend(Backend):
    """All that a library which runs eagerly has to say."""

    namespace = xp

    def holds(self, kind):
        return issubclass(kind, Array)

    def require_floating(self, who, x, name="x"):
        if x.dtype not in FLOATING:
            raise TypeError(message(who, name, "of type float32 or float64", x.dtype))
        self.require_dense(who, x, name)

    def require_integers(self, who, x, name, requirement="of an integer type"):
        if not xp.isdtype(x.dtype, "integral"):
            raise TypeError(message(who, name, requirement, x.dtype))
        self.require_dense(who, x, name)

    def require_real(self, who, x, name):
        if not xp.isdtype(x.dtype, ("bool", "integral", "real floating")):
            raise TypeError(message(who, name, "an array of real numbers", x.dtype))
        self.require_dense(who, x, name)

    def require_out(self, who, x, out):
        if not isinstance(out, Array) or out.shape != x.shape or out.dtype != x.dtype:
            raise TypeError(message(who, "out", "an array of x's shape and type", out))

    def from_numpy(self, values, like):
        return xp.asarray(values)

    def to_numpy(self, x):
        return np.asarray(x)

    def copy(self, x, out):
        out[...] = x
        return out


@pytest.fixture(autouse=True, scope="module")
def _strict():
    known(StrictBackend(), Array)
    yield
    del FOUND[Array]


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_every_row_is_numpys(row):
    arrays = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in row.sample.inputs(0)]
    expected = call(row, arrays)
    found = call(row, [xp.asarray(a) for a in arrays])
    assert type(found) is Array
    np.testing.assert_allclose(np.asarray(found), expected, rtol=2e-6, atol=4e-6)


def test_a_mask_and_its_gradient():
    x = xp.ones((4, 33), dtype=xp.float64)
    keep = thinned.keep_mask(x.shape, 0.4, AT)
    y = thinned.dropout(x, 0.4, AT)
    assert np.array_equal(np.asarray(y), keep / 0.6)
    out = xp.zeros_like(x)
    assert thinned.dropout(x, 0.4, AT, out=out) is out
    assert np.array_equal(np.asarray(out), keep / 0.6)


def test_refusals_are_sentences():
    with pytest.raises(TypeError, match=r"dropout: x must be of type float32 or float64"):
        thinned.dropout(xp.asarray([1, 2]), 0.5, AT)
