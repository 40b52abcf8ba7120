"""Which lane of jax.vmap is at hand."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

__all__ = ["number_in_vmap"]


@custom_vmap
def number_in_vmap(leaves: list[Any]) -> Any:
    """Of the vmaps over these arrays: 1 for the first lane, 2 for the second and so on; 0 outside
    of every such vmap."""
    return jnp.uint32(0)


@number_in_vmap.def_vmap
def _number_in_vmap(size: int, batched: list[Any], leaves: list[Any]) -> tuple[Any, bool]:
    # What one layer holds may be mapped over again, by a vmap further out.
    one = [
        leaf[0] if is_batched else leaf for leaf, is_batched in zip(leaves, *batched, strict=True)
    ]
    outer = jnp.maximum(number_in_vmap(one), 1) - 1
    return outer * np.uint32(size) + jnp.arange(1, size + 1, dtype=jnp.uint32), True
