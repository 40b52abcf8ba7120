"""Keras's own draws, of which those from a site go by its address.

Keras's dropout layers, the cells of its recurrent layers, its attention and layers of other
packages ask one module for what they draw, and say by their generator from where. So a site is all
that adopt needs to put anywhere, and code that is not known here is reached as Keras's own is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

import keras
import numpy as np

from thinned.checks import message
from thinned.keras.internals import DRAWS, DropoutRNNCell
from thinned.keras.rematerialized import in_training, refuse_cells
from thinned.keras.site import Site, next_address
from thinned.methods.bernoulli import dropout
from thinned.methods.draws import NO_P, Draws
from thinned.methods.gaussian import gaussian_noise

__all__ = ["install", "shared_axes"]


def shared_axes(who: str, noise_shape: Sequence[Any] | None, shape: Any) -> tuple[int, ...]:
    """The axes along which Keras's `noise_shape` has one draw for all, of an array of this shape.

    noise_shape : lengths; None, or an array that a program's run fills, is x's own.
    shape : lengths, None where they are not known.

    Raises
    ------
    ValueError if a length is neither 1 nor x's.
    """
    if noise_shape is None:
        return ()
    shape = tuple(shape)
    asked: list[int | None] = [1] * (len(shape) - len(noise_shape))
    asked += [int(n) if isinstance(n, (int, np.integer)) else None for n in noise_shape]
    if len(asked) != len(shape) or any(
        n not in (None, 1, length) and length is not None
        for n, length in zip(asked, shape, strict=True)
    ):
        requirement = f"1, None or x's length along each axis of {shape}"
        raise ValueError(message(who, "noise_shape", requirement, tuple(noise_shape)))
    return tuple(axis for axis, n in enumerate(asked) if n == 1 and shape[axis] != 1)


# The largest number below 1 of the types of 16 bits.
_BELOW_ONE = {"float16": 1.0 - 2.0**-11, "bfloat16": 1.0 - 2.0**-8}


def _dropout(inputs: Any, rate: Any, noise_shape: Any = None, seed: Any = None) -> Any:
    x = keras.ops.convert_to_tensor(inputs)
    shared = shared_axes("dropout", noise_shape, x.shape)
    return dropout(x, rate, next_address(seed), shared_axes=shared)


def _normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
    wide = "float64" if dtype == "float64" else "float32"
    z = gaussian_noise(keras.ops.zeros(shape, wide), next_address(seed), std=1.0)
    return keras.ops.cast(z * stddev + mean, dtype)


def _uniform(
    shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
    wide = "float64" if dtype == "float64" else "float32"
    at = next_address(seed)
    u = Draws("uniform", keras.ops.zeros(shape, wide), NO_P, at).uniform()
    if dtype in _BELOW_ONE:  # where what is nearest to 1 would be 1 itself
        u = keras.ops.minimum(u, _BELOW_ONE[dtype])
    return keras.ops.cast(keras.ops.cast(u, wide) * (maxval - minval) + minval, dtype)


_OURS = {"dropout": _dropout, "normal": _normal, "uniform": _uniform}


def install() -> None:
    """Let Keras's draws ask whether their generator is a site, once."""
    for name, ours in _OURS.items():
        plain = getattr(DRAWS, name)
        if not hasattr(plain, "__thinned__"):
            setattr(DRAWS, name, _either(ours, plain))
    masks = DropoutRNNCell._create_dropout_mask
    if not hasattr(masks, "__thinned__"):
        DropoutRNNCell._create_dropout_mask = _only_in_training(masks)


def _only_in_training(plain: Any) -> Any:
    """Recurrent layers draw masks in evaluation too, which no cell then asks for: a site would go
    on, and training after an evaluation would have other masks than without it."""

    @wraps(plain)
    def create(cell: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(cell.seed_generator, Site) and not in_training():
            return None
        if isinstance(cell.seed_generator, Site):
            refuse_cells()
        return plain(cell, *args, **kwargs)

    create.__thinned__ = True  # type: ignore[attr-defined]
    return create


def _either(ours: Any, plain: Any) -> Any:
    @wraps(plain)
    def draw(*args: Any, **kwargs: Any) -> Any:
        seed = kwargs.get("seed", args[-1] if args else None)
        return (ours if isinstance(seed, Site) else plain)(*args, **kwargs)

    draw.__thinned__ = True  # type: ignore[attr-defined]
    return draw
