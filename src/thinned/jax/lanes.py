"""The number of the lane in jax.vmap: which of the mapped entries a function is run for."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

__all__ = ["number_in_vmap"]


@custom_vmap
def number_in_vmap(leaves: list[Any]) -> Any:
    """1 in the first lane of a vmap that maps over these arrays, 2 in the second, and so on; 0
    where no vmap maps over them. Within several vmaps the lanes are numbered through."""
    return jnp.uint32(0)


@number_in_vmap.def_vmap
def _number_in_vmap(size: int, batched: list[Any], leaves: list[Any]) -> tuple[Any, bool]:
    # An outer vmap may map over the same arrays: ask again, with one lane of this one.
    one = [
        leaf[0] if is_batched else leaf for leaf, is_batched in zip(leaves, *batched, strict=True)
    ]
    outer = jnp.maximum(number_in_vmap(one), 1) - 1
    return outer * np.uint32(size) + jnp.arange(1, size + 1, dtype=jnp.uint32), True
