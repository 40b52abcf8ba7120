"""The backend that is made of Keras's own operations, on the arrays of whatever Keras runs on.

TensorFlow's have no other. Those of NumPy, PyTorch and JAX have kernels, and are asked here only
to show that one file serves them all.
"""

import keras
import numpy as np
import pytest

import thinned
from thinned.backends import found
from thinned.backends.keras import KerasBackend, WordAddress
from thinned.methods import find

AT = thinned.Address(seed=2**50 + 3, site="operations", step=7, call=2)
BACKEND = keras.config.backend()
# JAX has no integers of 64 bits, unless it is told to.
ROWS = ["alpha_dropout", "drop_path", "gaussian_dropout", "locked_dropout", "spatial_dropout"]
ROWS += ["uniform_dropout", "vanilla_dropout", "drop_key", "hidden_key"]  # two with a large fill
ROWS += [] if BACKEND == "jax" else ["k_of_n_dropout", "random_erasing", "nested_dropout"]


def read(x):
    return np.asarray(keras.ops.convert_to_numpy(x), np.float64)


@pytest.fixture(autouse=True)
def _of_operations(monkeypatch):
    kind = type(keras.ops.convert_to_tensor(np.zeros(2, np.float32)))
    if kind is np.ndarray:  # which is what is expected, too
        kind = Ours
    monkeypatch.setitem(found.FOUND, kind, KerasBackend((kind,)))


class Ours(np.ndarray):
    """NumPy's, as another class."""


def array(x):
    made = keras.ops.convert_to_tensor(x)
    return made.view(Ours) if type(made) is np.ndarray else made


@pytest.mark.parametrize("p", [0.0, 0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("shared", [(), (0,), (1,), (0, 2)])
def test_masks_are_numpys(p, shared):
    x = np.random.default_rng(0).standard_normal((5, 7, 9)).astype(np.float32)
    for mirror in (False, True):
        how = {"shared_axes": shared, "mirror": mirror}
        y = thinned.dropout(array(x), p, AT, **how)
        np.testing.assert_array_equal(read(y), thinned.dropout(x, p, AT, **how))


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_numpys(name):
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    y = find(name).function(array(x), 0.3, AT)
    wanted = find(name).function(x, 0.3, AT)
    np.testing.assert_allclose(read(y), wanted, rtol=3e-6, atol=5e-6)


def test_noise_that_is_added_and_folded_seeds():
    x = np.zeros((6, 7), np.float32)
    for at in (AT, AT.fold_in(2**40 + 9)):
        for mirror in (False, True):
            y = thinned.gaussian_noise(array(x), at, std=0.5, mirror=mirror)
            wanted = thinned.gaussian_noise(x, at, std=0.5, mirror=mirror)
            np.testing.assert_allclose(read(y), wanted, atol=5e-6)
    words = WordAddress.of(AT.seed & 0xFFFFFFFF, AT.seed >> 32, AT.site, AT.step, AT.call)
    folded = words.fold_in(2**40 + 9)
    seed = AT.fold_in(2**40 + 9).seed
    for word, number in zip(folded[:2], (seed & 0xFFFFFFFF, seed >> 32), strict=True):
        assert int(read(word)) & 0xFFFFFFFF == number


def test_what_it_does_not_take_is_told():
    x = array(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="dropout: window must be None for arrays of TensorFlow's"):
        thinned.dropout(x, 0.5, AT, window=thinned.Window(3))
    with pytest.raises(TypeError, match="dropout: out must be None"):
        thinned.dropout(x, 0.5, AT, out=x)
    with pytest.raises(TypeError, match="dropout: x must be of type float16, bfloat16"):
        thinned.dropout(array(np.ones((2, 3), np.int32)), 0.5, AT)
    with pytest.raises(TypeError, match=r"dropout: at must be a thinned\.Address"):
        thinned.dropout(x, 0.5, 7)
