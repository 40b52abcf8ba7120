"""The attention of Flax's modules, NNX's and Linen's, with masks by address."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinned.address import Address
from thinned.jax.attention import dot_product_attention

__all__ = ["Drawing", "attention_fn", "with_address"]


class Drawing(NamedTuple):
    """What a layer hands to its attention_fn in place of a key."""

    at: Address
    p: Any


def attention_fn(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    broadcast_dropout: bool = True,
    dropout_rng: Any = None,
    dropout_rate: Any = 0.0,
    deterministic: bool = False,
    dtype: Any = None,
    precision: Any = None,
    module: Any = None,
    **how: Any,
) -> Any:
    """`nnx.dot_product_attention` that takes a Drawing as its dropout_rng. With a key, or where
    nothing is dropped, it is that function itself.

    broadcast_dropout shares the draws of all samples and heads, as there.
    """
    from flax import nnx
    from flax.nnx.nn.attention import dot_product_attention_weights

    given = (query, key, value, bias, mask)
    if deterministic or not isinstance(dropout_rng, Drawing):
        return nnx.dot_product_attention(
            *given, broadcast_dropout, dropout_rng, dropout_rate, deterministic, dtype, precision,
            module, **how,
        )  # fmt: skip
    shown = None if module is None else dot_product_attention_weights
    return with_address(
        *given,
        dropout_rng.at,
        dropout_rng.p,
        broadcast_dropout,
        dtype,
        precision,
        module,
        shown,
        **how,
    )


def with_address(
    query: Any,
    key: Any,
    value: Any,
    bias: Any,
    mask: Any,
    at: Address,
    rate: Any,
    broadcast: bool,
    dtype: Any,
    precision: Any,
    module: Any,
    weights_of: Any,
    is_causal: bool = False,
    **how: Any,
) -> Any:
    """Flax's attention with the masks of `at`.

    weights_of : Flax's function of the weights, where they have to be there as a whole: the module
        shows them, or makes the products itself. None to go block by block.
    """
    kind = jnp.result_type(query, key, value) if dtype is None else dtype
    query, key, value = (x.astype(kind) for x in (query, key, value))
    if weights_of is not None:
        causal = {"is_causal": True} if is_causal else {}
        weights = weights_of(
            query, key, bias, mask, deterministic=True, dtype=dtype, precision=precision,
            module=module, **causal, **how,
        )  # fmt: skip
        return _product(weights, value, at, rate, broadcast, precision)
    lead = query.shape[:-3]
    whole = (*lead, query.shape[-2], query.shape[-3], key.shape[-3])
    q, k, v = (_flat(x, len(lead)) for x in (query, key, value))
    out = dot_product_attention(
        q,
        k,
        v,
        _flat_beside(bias, whole),
        _flat_beside(None if mask is None else mask.astype(bool), whole),
        p=rate,
        at=at,
        is_causal=is_causal,
        precision=precision,
        shared_axes=tuple(range(q.ndim - 2)) if broadcast else (),
    )
    return out.reshape(*lead, *out.shape[-3:])


def _flat(x: Any, lead: int) -> Any:
    """With all axes of samples as one."""
    return x.reshape(-1, *x.shape[lead:]) if lead > 1 else x


def _flat_beside(x: Any, whole: tuple[int, ...]) -> Any:
    """A bias or mask for weights of shape `whole`, where these have one axis of samples at most."""
    lead = len(whole) - 3
    if x is None or lead <= 1 or x.ndim <= 3:
        return x
    own = x.shape[-3:]
    if math.prod(x.shape[:-3]) == 1:
        return x.reshape(1, *own)
    return jnp.broadcast_to(x, (*whole[:lead], *own)).reshape(-1, *own)


def _product(
    weights: Any, value: Any, at: Address, rate: Any, broadcast: bool, precision: Any
) -> Any:
    from thinned.methods.bernoulli import dropout

    shared = tuple(range(weights.ndim - 2)) if broadcast else ()
    weights = dropout(weights, rate, at, training=True, shared_axes=shared)
    groups = weights.shape[-3] // value.shape[-2]
    value = value if groups == 1 else jnp.repeat(value, groups, -2)
    out: jax.Array = jnp.einsum("...hqk,...khd->...qhd", weights, value, precision=precision)
    return out
