"""Addresses for code that threads JAX's random keys, and places in arrays for shard_map."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from thinned.address import Address
from thinned.backends.jax.address import Halves, is_traced, words_of
from thinned.backends.jax.backend import PartOf
from thinned.checks import message
from thinned.foreign_arguments import answering

__all__ = ["address", "key_of", "window"]


@answering
def address(key: Any, site: int | str = 0, step: Any = 0, call: Any = 0) -> Address:
    """An address made of a key of jax.random's, so that code which threads keys can stay as it is.

    The seed is the key's first 64 bits, which is all that a threefry key has. The other words of a
    longer key are folded into the seed. Equal keys give equal masks, and split keys give others.

    Parameters
    ----------
    key : one key of any implementation: jax.random.key(0), or an older one, of uint32 words. It
        may be traced, and mapped over by vmap.
    site : int or str. Which place in the network: one key may serve them all.
    step, call : ints, which may be traced; 0 where the key changes with each step.

    Returns
    -------
    Address.

    Raises
    ------
    TypeError if `key` is no key, or more than one. ValueError as Address.

    Examples
    --------
    >>> import jax, thinned.jax
    >>> thinned.jax.address(jax.random.key(7), site="fc1")
    Address(seed=7, site='fc1', step=0, call=0)
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        words: Any = jax.random.key_data(key)
    else:
        words = key
    fits = getattr(words, "ndim", None) == 1 and words.dtype == np.uint32 and words.shape[0] >= 2
    if not fits or words.shape[0] % 2:
        got = type(key).__name__
        if isinstance(key, (jax.Array, np.ndarray)):
            got += f" of shape {key.shape}"
        remedy = "Make one: jax.random.key(0); map over many by jax.vmap."
        raise TypeError(message("address", "key", "one key of jax.random", got, remedy))
    if not is_traced(words):
        words = np.asarray(words)
    pairs = [Halves(words[i + 1], words[i]) for i in range(0, words.shape[0], 2)]
    at = Address(pairs[0], site, step, call)  # type: ignore[arg-type]
    for pair in pairs[1:]:
        at = at.fold_in(pair)  # type: ignore[arg-type]
    return at


def key_of(at: Address) -> Any:
    """A key made of an address, for code that draws by keys: each step and call has another."""
    low, high, _, step, call = (jnp.asarray(word, jnp.uint32) for word in words_of(at))
    key = jax.random.wrap_key_data(jnp.stack([high, low]), impl="threefry2x32")
    return jax.random.fold_in(jax.random.fold_in(key, step), call)


@answering
def window(x: Any, spec: PartitionSpec) -> Any:
    """Where x lies in the whole array, in the body of a `jax.shard_map`.

    There a function sees its device's part alone. With this window it draws that part of the mask
    of the whole array. Without it, every device would draw the same mask, that of an array as
    small as its part.

    Parameters
    ----------
    x : array: the part at hand.
    spec : PartitionSpec: how the whole is divided, as in the shard_map's `in_specs`.

    Returns
    -------
    What `window=` takes in thinned's functions on arrays of JAX's.

    Raises
    ------
    TypeError if `spec` is no PartitionSpec. ValueError if it names more axes than x has.

    Examples
    --------
    >>> import jax, thinned.jax
    >>> from jax.sharding import PartitionSpec as P
    >>> def body(x, at):
    ...     return thinned.dropout(x, 0.5, at, window=thinned.jax.window(x, P("data")))
    """
    if not isinstance(spec, PartitionSpec):
        got = type(spec).__name__
        raise TypeError(message("window", "spec", "a jax.sharding.PartitionSpec", got))
    if len(spec) > len(x.shape):
        requirement = f"of at most {len(x.shape)} axes, as x"
        raise ValueError(message("window", "spec", requirement, str(spec)))
    start: list[Any] = [0] * len(x.shape)
    whole = list(x.shape)
    for axis, names in enumerate(spec):
        if names is not None and names != ():
            whole[axis] *= lax.axis_size(names)
            start[axis] = lax.axis_index(names).astype(jnp.uint32) * np.uint32(x.shape[axis])
    return PartOf(tuple(start), tuple(whole))
