"""Layers for Flax NNX: one class for each row of the catalogue that has one array in and out.

They take batches, with channels along the last axis unless told otherwise, as Flax's layers do; and
keys of `rngs`, an address, or, in an adopted model, its clock.
"""

from __future__ import annotations

from typing import Any

from thinned.backends.jax.address import register_with_flax
from thinned.jax.nnx.adoption import adopt, release
from thinned.jax.nnx.clock import Calls, Clock, Clocks, tick
from thinned.jax.nnx.layers import Dropout, Layer, MultiHeadAttention, made
from thinned.jax.nnx.thinning import thin

__all__ = [
    "Calls",
    "Clock",
    "Clocks",
    "Dropout",
    "Layer",
    "MultiHeadAttention",
    "adopt",
    "made",
    "release",
    "thin",
    "tick",
]

register_with_flax()  # Flax may have come after the part that knows JAX


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in made():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return made()[name]
