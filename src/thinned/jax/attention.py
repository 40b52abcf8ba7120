"""Attention with dropout on its weights; neither the weights nor their mask are held as a whole."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinned import checks, reference
from thinned.address import Address
from thinned.backends.jax.backend import backend
from thinned.checks import message, real
from thinned.foreign_arguments import answering
from thinned.jax.blocks import Inputs, Plan, attend
from thinned.methods.placing import draw_for

__all__ = ["dot_product_attention"]

WHO = "dot_product_attention"


@answering
def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    p: Any = 0.0,
    at: Address | None = None,
    training: bool = True,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: Any = None,
    key_value_seq_lengths: Any = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
    precision: Any = None,
    shared_axes: int | tuple[int, ...] = (),
    window: Any = None,
    mirror: bool = False,
) -> Any:
    """`jax.nn.dot_product_attention` whose weights are dropped with probability p.

    out = dropout(softmax(scale q k' + bias)) v, kept weights times 1 / (1 - p).

    Forward and backward go block by block: neither the weights nor their mask are kept, and the
    backward pass makes both again. Derivatives of any order, vmap, scan and shardings work as for
    other code of JAX's.

    Parameters
    ----------
    query : array, shape (B, T, N, H) or (T, N, H): float16, bfloat16, float32 or float64.
    key, value : arrays of the same type, shapes (B, S, K, H) and (B, S, K, V), or without B. Each
        of the K heads serves N / K heads of the query.
    bias : array or None. Added to the scores, of a shape that broadcasts to (B, N, T, S).
    mask : bool array or None, of such a shape, too. True takes part.
    p : float in [0, 1], which may be traced. p = 1 gives zeros; 0, where it is known, what
        jax.nn.dot_product_attention gives.
    at : Address or None. That of the weights' mask, whose logical shape is (B, N, T, S), or
        (N, T, S): the masks are those of thinned.torch's scaled_dot_product_attention. None only
        where nothing is dropped.
    training : bool. False is attention without dropout, as JAX's own.
    scale : float or None for 1 / sqrt(H).
    is_causal : bool. Token i attends to tokens 0 to i.
    query_seq_lengths, key_value_seq_lengths : int arrays, shape (B,), or None. How many tokens take
        part; rows beyond them give zeros.
    local_window_size : int, (left, right) or None. How many tokens beside its own one sees.
    implementation : None or "xla". "cudnn" only where nothing is dropped, because its masks are not
        ours.
    return_residual : bool. Whether log(sum(exp(scores))), (B, T, N), is returned beside the output.
    precision : of the products, as in jax.numpy.einsum.
    shared_axes : axes of the weights along which one draw is shared.
    window : Window, what `thinned.jax.window` gives, or None. Where these weights sit in the
        logical ones.
    mirror : bool. As in `thinned.dropout`.

    Returns
    -------
    array, shape (B, T, N, V) or (T, N, V), of query's type. A row that has nothing to attend to
    is the mean of all values, as in jax.nn.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or shapes do not fit. TypeError if at is None where
    something is dropped, query is not floating, or types differ.

    References
    ----------
    Vaswani et al., 2017, arXiv:1706.03762; recomputation after Rabe and Staats, 2021,
    arXiv:2112.05682.

    Examples
    --------
    >>> import jax.numpy as jnp, thinned, thinned.jax
    >>> q = k = v = jnp.ones((2, 5, 4, 8))
    >>> at = thinned.Address(seed=0, site="attention", step=7)
    >>> thinned.jax.dot_product_attention(q, k, v, p=0.5, at=at).shape
    (2, 5, 4, 8)
    """
    given = _given(query, key, value, bias, mask, query_seq_lengths, key_value_seq_lengths)
    is_causal = checks.flag(WHO, "is_causal", is_causal)
    near = _near(local_window_size)
    known = not backend.traced(p)
    p = checks.probability(WHO, p) if known else p
    nothing = not checks.flag(WHO, "training", training) or (known and p == 0.0)
    if scale is not None:
        scale = real(WHO, "scale", scale, "a float or None")
    if implementation not in (None, "xla", "cudnn"):
        raise ValueError(message(WHO, "implementation", "None, 'xla' or 'cudnn'", implementation))
    ndim = np.ndim(query)
    shape = (given.q.shape[0], given.q.shape[2], given.q.shape[1], given.k.shape[1])[4 - ndim :]
    draw = times = None
    if not nothing:
        if implementation == "cudnn":
            remedy = "cuDNN drops by masks of its own."
            requirement = "None or 'xla' where weights are dropped"
            raise ValueError(message(WHO, "implementation", requirement, "'cudnn'", remedy))
        draw = draw_for(WHO, shape, p, at, shared_axes, window, mirror, backend)
        draw = draw._replace(place=_of_four_axes(draw.place))
        times = reference.scale_for(p) if known else backend.rate(p)[1]
    elif given.v.shape[-1] == given.q.shape[-1] and precision is None:
        plainly: Any = jax.nn.dot_product_attention  # whose types are for other words
        return plainly(
            query, key, value, bias, mask, scale=scale, is_causal=is_causal,
            query_seq_lengths=given.q_lengths, key_value_seq_lengths=given.kv_lengths,
            local_window_size=near, implementation=implementation,
            return_residual=return_residual,
        )  # fmt: skip
    if scale is None:
        scale = 1.0 / math.sqrt(given.q.shape[-1]) if given.q.shape[-1] else 1.0
    plan = Plan(draw, times, scale, is_causal, near, precision, bool(return_residual))
    out, residual = attend(given, plan)
    if ndim == 3:
        out, residual = out[0], None if residual is None else residual[0]
    return (out, residual) if return_residual else out


def _given(
    query: Any, key: Any, value: Any, bias: Any, mask: Any, q_lengths: Any, kv_lengths: Any
) -> Inputs:
    """All as arrays of four axes, checked."""
    named = {"query": query, "key": key, "value": value}
    arrays = {name: jnp.asarray(x) for name, x in named.items()}
    q, k, v = arrays.values()
    backend.require_floating(WHO, q, "query")
    for name, x in arrays.items():
        if x.ndim not in (3, 4) or x.ndim != q.ndim:
            requirement = "of shape (B, T, N, H) or (T, N, H), as query"
            raise ValueError(message(WHO, name, requirement, f"shape {tuple(x.shape)}"))
        if x.dtype != q.dtype:
            raise TypeError(message(WHO, name, f"of query's type {q.dtype}", str(x.dtype)))
    q, k, v = (x if x.ndim == 4 else x[None] for x in (q, k, v))
    if k.shape[0] != q.shape[0] or k.shape[3] != q.shape[3]:
        requirement = f"of shape ({q.shape[0]}, S, K, {q.shape[3]})"
        raise ValueError(message(WHO, "key", requirement, f"shape {tuple(k.shape)}"))
    if not k.shape[2] or q.shape[2] % k.shape[2]:
        requirement = f"of a number of heads that divides query's {q.shape[2]}"
        raise ValueError(message(WHO, "key", requirement, f"{k.shape[2]} heads"))
    if v.shape[:3] != k.shape[:3]:
        requirement = f"of key's {k.shape[1]} tokens and {k.shape[2]} heads"
        raise ValueError(message(WHO, "value", requirement, f"shape {tuple(v.shape)}"))
    whole = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    bias, mask = _beside("bias", bias, whole), _beside("mask", mask, whole)
    if mask is not None and mask.dtype != bool:
        remedy = "Numbers to be added to the scores are `bias`."
        raise TypeError(message(WHO, "mask", "of type bool", str(mask.dtype), remedy))
    lengths = [
        _lengths("query_seq_lengths", q_lengths, whole[0]),
        _lengths("key_value_seq_lengths", kv_lengths, whole[0]),
    ]
    return Inputs(q, k, v, bias, mask, *lengths)


def _beside(name: str, x: Any, whole: tuple[int, ...]) -> Any:
    if x is None:
        return None
    x = jnp.asarray(x)
    fits = x.ndim <= 4 and all(
        m in (1, n) for m, n in zip(x.shape, whole[4 - x.ndim :], strict=True)
    )
    if not fits:
        requirement = f"of a shape that broadcasts to {whole}"
        raise ValueError(message(WHO, name, requirement, f"shape {tuple(x.shape)}"))
    return x.reshape(*(1,) * (4 - x.ndim), *x.shape)


def _lengths(name: str, x: Any, batch: int) -> Any:
    if x is None:
        return None
    x = jnp.asarray(x)
    if x.shape != (batch,) or not jnp.issubdtype(x.dtype, jnp.integer):
        got = f"shape {tuple(x.shape)} and type {x.dtype}"
        raise ValueError(message(WHO, name, f"integers of shape ({batch},)", got))
    return x.astype(jnp.int32)


def _near(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    two = (size, size) if isinstance(size, int) else tuple(size)
    if len(two) != 2:
        raise ValueError(message(WHO, "local_window_size", "an int or two", size))
    left, right = (checks.integer(WHO, "local_window_size", n, 0, 2**31) for n in two)
    return left, right


def _of_four_axes(place: Any) -> Any:
    """The placement of weights (N, T, S) as that of (1, N, T, S)."""
    if len(place.shape) == 4:
        return place
    placed = getattr(place, "placed", place)
    steps = (0, *placed.strides)
    wide = placed.__class__((1, *placed.shape), placed.offset, steps, placed.in_order, steps)
    return place._replace(placed=wide) if hasattr(place, "placed") else wide
