"""What a Keras user touches: layers by address, and addresses for a model's own layers.

`thinned.keras.Dropout` and the others take the place of Keras's; `adopt` gives the dropout that a
model has its addresses. Masks are the same whether Keras runs on JAX, PyTorch, NumPy or TensorFlow.
"""

try:
    import keras as _keras  # noqa: F401 - asked for here, to say what to do where it does not load
except ImportError as error:
    missing = (error.name or "keras").partition(".")[0]
    if missing == "keras":
        raise ImportError('thinned.keras needs Keras: pip install "thinned[keras]".') from error
    raise ImportError(
        f"thinned.keras: Keras is set to run on {missing}, which is not installed. Set the "
        "environment variable KERAS_BACKEND to jax, torch or numpy before Keras is imported, or "
        f"install {missing}."
    ) from error

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
