"""Which layer of a stack is at hand: stacks of layers whose state has leading axes, in Flax NNX.

`nnx.vmap` builds a stack by running a constructor once for all its layers, and `nnx.scan` or
`nnx.vmap` runs it a layer at a time. An address that knows nothing of it would be the same in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from thinned.address import Address
from thinned.backends.jax.fold_in import folded
from thinned.jax.lanes import number_in_vmap

__all__ = ["folded_words", "lanes_of", "number_of", "own_axes_folded"]

# Layers whose parameter has a known number of axes, so that what it has more are a stack's.
_PARAMETERS: dict[type[nnx.Module], tuple[str, int]] = {
    nnx.Linear: ("kernel", 2),
    nnx.Embed: ("embedding", 2),
    nnx.LayerNorm: ("scale", 1),
    nnx.RMSNorm: ("scale", 1),
    nnx.BatchNorm: ("scale", 1),
}
# Modules that only hold others: what they hold counts as a neighbour of their neighbours.
_CONTAINERS = (nnx.Sequential, nnx.List, nnx.Dict)


def number_of(model: nnx.Module) -> Any:
    """Where a constructor is run by vmap: 1 for the first layer of the stack, 2 for the second and
    so on. 0 elsewhere, and where nothing in the model differs from layer to layer."""
    leaves = [_words(leaf) for leaf in jax.tree.leaves(nnx.state(model))]
    traced = [leaf for leaf in leaves if isinstance(leaf, jax.core.Tracer)]
    return number_in_vmap(traced) if traced else 0


def _words(leaf: Any) -> Any:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def folded_words(words: Any, number: Any) -> Any:
    """The two words of a seed, of the layers with these numbers: folded in, but for number 0."""
    plain = jnp.asarray(words, jnp.uint32)

    def one(number: Any) -> Any:
        low, high = folded((plain[0], plain[1]), (number - 1, jnp.zeros_like(number)))
        return jnp.where(number == 0, plain, jnp.stack([low, high]))

    number = jnp.asarray(number, jnp.uint32)
    return jax.vmap(one)(number.reshape(-1)).reshape(*number.shape, 2)


def lanes_of(path: tuple[Any, ...], module: Any, modules: dict[tuple[Any, ...], Any]) -> Any:
    """The leading axes of the stack that a dropout layer of a finished model stands in.

    They are read off the keys of its own `rngs`, or off the layers beside it.
    """
    stream = module.rngs
    if isinstance(stream, nnx.RngStream):
        key = stream.key.get_value()
        is_raw = not jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        return key.shape[: key.ndim - is_raw]
    for depth in range(len(path) - 1, -1, -1):
        for beside in _beside(path[:depth], modules):
            name, axes = _PARAMETERS[type(beside)]
            parameter = getattr(beside, name, None)
            if parameter is not None:
                shape = parameter.get_value().shape
                return shape[: len(shape) - axes]
    return ()


def _beside(path: tuple[Any, ...], modules: dict[tuple[Any, ...], Any]) -> Iterator[Any]:
    """The layers of known parameters in the module at a path, under containers too."""
    for other, module in modules.items():
        above = [other[:n] for n in range(len(path) + 1, len(other))]
        is_inside = len(other) > len(path) and other[: len(path)] == path
        contained = all(isinstance(modules.get(p), _CONTAINERS) for p in above if p in modules)
        if type(module) in _PARAMETERS and is_inside and contained:
            yield module


def own_axes_folded(who: str, site: Any, at: Address, axes: tuple[str, ...] | None) -> Address:
    """An address inside of pmap and shard_map: folded with the index along `axes`, or refused."""
    if axes is None:
        mapped = jax.sharding.get_abstract_mesh().manual_axes
        if mapped:
            raise ValueError(
                f"{who}: site {str(site)!r} is called inside of pmap or shard_map over "
                f"{', '.join(map(repr, mapped))}, where every device would draw the same mask. Say "
                "along which axes the devices hold other rows, by the axis_name of pmap or the "
                "names of the mesh: adopt(model, axes=('data',)); axes=() where all hold the same."
            )
        return at
    for name in axes:
        if _is_mapped(name):
            index: Any = lax.axis_index(name)
            at = at.fold_in(index)
    return at


def _is_mapped(name: str) -> bool:
    """Whether this code runs inside of a map over the axis of this name."""
    try:
        lax.axis_size(name)
    except NameError:  # JAX's word for it
        return False
    return True
