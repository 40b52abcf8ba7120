"""What a Keras user touches: layers by address, and addresses for a model's own layers.

`thinned.keras.Dropout` and the others take the place of Keras's; `adopt` gives the dropout that a
model has its addresses. Masks are the same whether Keras runs on JAX, PyTorch, NumPy or TensorFlow.
"""

from typing import Any

from thinned.keras import layers
from thinned.keras.adoption import addresses, adopt, release, rewind
from thinned.keras.layers import (
    AlphaDropout,
    DropBlock2D,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from thinned.methods.foreign import no_name

__all__ = [
    "AlphaDropout",
    "DropBlock2D",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "addresses",
    "adopt",
    "layers",
    "release",
    "rewind",
]

layers.made()  # so that Keras knows every layer by name when it loads a model


def __getattr__(name: str) -> Any:
    if name not in layers.made():
        raise AttributeError(no_name(__name__, name, (*__all__, *layers.made())))
    return layers.made()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *layers.made()})
