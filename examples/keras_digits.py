"""Keras on digits: trained, saved in the middle, resumed, and the same as if never stopped.

    KERAS_BACKEND=jax python examples/keras_digits.py

Keras runs on JAX, PyTorch or TensorFlow. The data are scikit-learn's 8 x 8 digits.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

import thinned.keras


def network() -> keras.Model:
    """Convolutions with whole channels dropped, then a layer with dropout."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.SpatialDropout2D(0.1),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10),
        ]
    )


def prepared() -> keras.Model:
    """The network with fixed first weights, its dropout at addresses."""
    keras.utils.set_random_seed(0)
    model = network()
    print(thinned.keras.adopt(model, seed=1), end="\n\n")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"])
    return model


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    labels = labels.astype(np.int32)  # JAX has no integers of 64 bits
    train, test = slice(0, 1400), slice(1400, None)

    def fit(model: keras.Model, epochs: int) -> None:
        model.fit(
            images[train], labels[train], epochs=epochs, batch_size=64, shuffle=False, verbose=0
        )

    whole = prepared()
    fit(whole, 6)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.keras"
        stopped = prepared()
        fit(stopped, 3)
        stopped.save(path)
        resumed = keras.models.load_model(path)
    fit(resumed, 3)
    pairs = zip(whole.get_weights(), resumed.get_weights(), strict=True)
    print("resumed, bit for bit the run that never stopped:", all((a == b).all() for a, b in pairs))
    print(f"test accuracy {whole.evaluate(images[test], labels[test], verbose=0)[1]:.3f}")


if __name__ == "__main__":
    main()
