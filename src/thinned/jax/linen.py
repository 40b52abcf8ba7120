"""Addresses for models of Flax Linen: every nn.Dropout by its path, and no keys passed around.

A module of Linen is a description, of which nothing is changed: its calls of nn.Dropout are met on
the way (nn.intercept_methods). In a lifted transform that splits its keys, nn.scan or nn.vmap, the
key tells one layer from the next.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from thinned.address import Address
from thinned.backends.jax.address import Halves, at_one_of, words_of
from thinned.checks import message

__all__ = ["Adopted", "adopt"]


def adopt(model: nn.Module, *, separator: str = ".") -> Adopted:
    """A Linen model whose dropout draws at an address: `apply(variables, x, at=...)`.

    Each `nn.Dropout` draws at a site named by its path, "encoder.Dropout_0". Within nn.scan and
    nn.vmap that split the stream "dropout" each layer draws masks of its own; nn.remat changes
    none. Within nn.jit, whose keys Flax changes, masks are others, and replay as all do. Code that
    draws keys itself, attention and subclasses of nn.Dropout among it, gets keys made of the
    address. The model is not changed.

    Parameters
    ----------
    model : nn.Module of flax.linen.
    separator : what stands between the parts of a site's name.

    Returns
    -------
    Adopted. What it does not have, it takes from the model: init, tabulate and the like.

    Raises
    ------
    TypeError if model is no module of Linen.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, thinned, thinned.jax.linen
    >>> from flax import linen as nn
    >>> drop = nn.Dropout(0.5, deterministic=False)
    >>> model = thinned.jax.linen.adopt(nn.Sequential([nn.Dense(4), drop]))
    >>> x = jnp.ones((2, 3))
    >>> variables = model.init(jax.random.key(0), x)
    >>> at = thinned.Address(seed=0, step=7)
    >>> bool((model.apply(variables, x, at=at) == model.apply(variables, x, at=at)).all())
    True
    """
    if not isinstance(model, nn.Module):
        got = f"a {type(model).__module__.partition('.')[0]} {type(model).__name__}"
        raise TypeError(message("adopt", "model", "a module of flax.linen", got))
    return Adopted(model, separator)


class Adopted:
    """What `adopt` returns.

    Attributes
    ----------
    model : the nn.Module.
    """

    def __init__(self, model: nn.Module, separator: str) -> None:
        self.model = model
        self._separator = separator

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # of a copy that is only being made
            raise AttributeError(name)
        return getattr(self.model, name)

    def init(self, rngs: Any, *args: Any, **how: Any) -> Any:
        """As the model's init, which needs no key for "dropout" here."""
        if not isinstance(rngs, dict):
            rngs = {"params": rngs}
        rngs = {"dropout": jax.random.key(0), **rngs}
        return self.model.init(rngs, *args, **how)

    def apply(self, variables: Any, *args: Any, at: Address, rngs: Any = None, **how: Any) -> Any:
        """As the model's apply, with the masks of an address in place of a key for "dropout".

        at : Address, whose site is not looked at; it may be traced, and mapped over by jax.vmap.
        rngs : keys for other streams.

        Raises
        ------
        TypeError if at is no Address, or rngs has a key for "dropout".
        """
        if not isinstance(at, Address):
            raise TypeError(message("apply", "at", "a thinned.Address", type(at).__name__))
        if rngs is not None and "dropout" in rngs:
            remedy = "Masks come from `at`; thinned.jax.address makes an address of a key."
            raise TypeError(message("apply", "rngs", "without a key for 'dropout'", "one", remedy))
        streams = {**(rngs or {}), "dropout": _key_of(at)}
        roots = {name: _data(key) for name, key in streams.items()}

        def addressed(
            call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
        ) -> Any:
            if type(context.module) is not nn.Dropout or context.method_name != "__call__":
                return call(*args, **kwargs)
            return _dropped(context.module, at, roots, self._separator, call, *args, **kwargs)

        with nn.intercept_methods(addressed):
            return self.model.apply(variables, *args, rngs=streams, **how)


def _dropped(
    layer: nn.Dropout,
    at: Address,
    roots: dict[str, Any],
    separator: str,
    call: Any,
    inputs: Any,
    deterministic: bool | None = None,
    rng: Any = None,
) -> Any:
    """A layer's call: at its site, by its number, in its lane of a lifted transform."""
    from thinned.methods.bernoulli import dropout

    off = nn.merge_param("deterministic", layer.deterministic, deterministic)
    if off or layer.rate == 0.0 or rng is not None:
        return call(inputs, deterministic=deterministic, rng=rng)
    stream = layer.rng_collection
    layer.make_rng(stream)  # which counts the call, and refuses a stream that is not there
    scope: Any = layer.scope
    if stream not in scope.rngs:  # Flax takes the parameters' stream then
        stream = "params"
    site = separator.join(scope.path)
    at = at.replace(site=site, call=scope.rng_counters[stream] - 1)
    if stream in roots:
        at = _in_lane(at, _data(scope.rngs[stream].rng), roots[stream])
    return dropout(inputs, layer.rate, at, shared_axes=tuple(layer.broadcast_dims))


def _in_lane(at: Address, key: Any, root: Any) -> Address:
    """The address of one lane of a lifted transform, whose key differs from the root's there."""
    if key is root:
        return at
    lane = key.reshape(-1) ^ root.reshape(-1)
    folded = at
    for i in range(0, lane.size, 2):
        number: Any = Halves(lane[i + 1], lane[i])
        folded = folded.fold_in(number)
    return at_one_of(jnp.all(lane == 0), at, folded)


def _key_of(at: Address) -> Any:
    """The key of an address, for code that draws its own: another for each step and call."""
    low, high, _, step, call = (jnp.asarray(word, jnp.uint32) for word in words_of(at))
    key = jax.random.wrap_key_data(jnp.stack([high, low]), impl="threefry2x32")
    return jax.random.fold_in(jax.random.fold_in(key, step), call)


def _data(key: Any) -> Any:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(key) if typed else key
