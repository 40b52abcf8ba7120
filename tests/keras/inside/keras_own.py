"""Keras's own tests of its layers of noise, as its package ships them, on the layers by address."""

import importlib

import pytest
from keras.src import testing

import thinned.keras

ROOM = "keras.src.layers.regularization"
FILES = ("dropout", "spatial_dropout", "gaussian_dropout", "gaussian_noise", "alpha_dropout")
OURS = {
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout",
    "GaussianNoise", "AlphaDropout",
}  # fmt: skip
taken = set()


class Rebound:
    """Keras's layers, with those by address in the place of their own."""

    def __init__(self, layers):
        self._layers = layers

    def __getattr__(self, name):
        if name not in OURS:
            return getattr(self._layers, name)
        taken.add(name)
        return getattr(thinned.keras, name)


for _file in FILES:
    _module = importlib.import_module(f"{ROOM}.{_file}_test")
    _module.layers = Rebound(_module.layers)
    for _name, _value in vars(_module).items():
        if isinstance(_value, type) and issubclass(_value, testing.TestCase):
            globals()[_name] = _value
del _value


def test_every_layer_was_taken():
    """Runs last, as the file's own: the classes above stand in the module before it."""
    if not taken:
        pytest.fail("no test of Keras's asked for a layer")
    assert taken == OURS
