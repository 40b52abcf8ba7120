"""Thin execution: a perceptron whose rows share their masks computes only the units that it keeps.

A program of XLA's has arrays of known lengths, and so the number of kept units must be known: that
of exact k-of-n dropout is. Which units they are may be traced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from thinned import checks, reference
from thinned.address import Address
from thinned.backends.jax.backend import backend
from thinned.checks import message
from thinned.foreign_arguments import answering
from thinned.methods.draws import Draws

__all__ = [
    "Kept",
    "bernoulli_units",
    "exact_units",
    "is_elementwise",
    "kept_units",
    "room_for",
    "thin_mlp",
]

Activation = Callable[[Any], Any]


class Kept(NamedTuple):
    """The units of a layer that a thinned network keeps.

    units : int32, shape (k,); ascending where alive is None. of : int, how many there are. scale :
        float, of / k, or 1 / (1 - p) where alive is given; 1 where none is kept.
    alive : None where all of `units` are kept; else bool, shape (k,): which of them are. The others
        fill up a length that is known.
    """

    units: Any
    of: int
    scale: Any
    alive: Any = None

    def on(self, h: Any) -> Any:
        """What dropout makes of the thin activations h, shape (..., k)."""
        h = h if self.alive is None else jnp.where(self.alive, h, jnp.zeros((), h.dtype))
        return h * jnp.asarray(self.scale, h.dtype)

    def on_whole(self, h: Any) -> Any:
        """What dropout makes of all activations h, shape (..., of)."""
        alive: Any = True if self.alive is None else self.alive
        is_kept = jnp.zeros(self.of, bool).at[self.units].set(alive)
        return jnp.where(is_kept, h, jnp.zeros((), h.dtype)) * jnp.asarray(self.scale, h.dtype)

    def columns(self, weight: Any) -> Any:
        """Of the weights into the layer, shape (..., of), those of the kept units: (..., k)."""
        # By rows of the transposed: the gradient goes back into columns one number at a time, and
        # into rows a row at a time, ten times as fast.
        return self._taken(weight, -1)

    def rows(self, weight: Any) -> Any:
        """Of the weights out of the layer, shape (of, ...), those of the kept units: (k, ...)."""
        return self._taken(weight, 0)

    def _taken(self, weight: Any, axis: int) -> Any:
        if jnp.ndim(weight) == 0 or weight.shape[axis] != self.of:
            shape = jnp.shape(weight)
            requirement = f"of {self.of} units along axis {axis}"
            raise ValueError(message("Kept", "weight", requirement, f"shape {shape}"))
        how: Any = {
            "mode": "promise_in_bounds",
            "unique_indices": True,
            "indices_are_sorted": self.alive is None,
        }
        rows = jnp.moveaxis(jnp.asarray(weight), axis, 0).at[self.units].get(**how)
        return jnp.moveaxis(rows, 0, axis)


@answering
def kept_units(n: int, p: float, at: Address, *, mirror: bool = False) -> Kept:
    """The units that `thinned.k_of_n_dropout(x, p, at, shared_axes=...)` keeps of n, where all rows
    of x share one draw.

    Parameters
    ----------
    n : int >= 1. Units of the layer.
    p : float in [0, 1], known while a program is traced. k = n - round(p n) are kept.
    at : Address, which may be traced.
    mirror : bool. The antithetic draw.

    Returns
    -------
    Kept. `kept.columns(w1)` and `kept.rows(w2)` are the weights of the thinned network, whose
    activations are to be multiplied by `kept.scale`.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if p is traced, or at is no Address.

    Examples
    --------
    >>> import thinned, thinned.jax
    >>> kept = thinned.jax.kept_units(6, 0.5, thinned.Address(seed=0, site="fc1"))
    >>> kept.units, kept.scale
    (Array([0, 2, 4], dtype=int32), 2.0)
    """
    return _kept("kept_units", n, p, at, mirror)


def _kept(who: str, n: int, p: Any, at: Address, mirror: bool) -> Kept:
    n, p = checks.integer(who, "n", n, 1, 2**31), _rate(who, p)
    draws = Draws(who, jnp.zeros(n), p, at, True, None, mirror)
    k = n - round(p * n)
    # Of equal words the one with the lower index counts as larger; and so does it here.
    units = lax.top_k(draws.words(()), k)[1]
    return Kept(jnp.sort(units.astype(jnp.int32)), n, n / k if k else 1.0)


# Bits of the chance that a draw keeps more units than there is room for, and is NaN.
_SAFE = 64


def room_for(n: int, p: float) -> int:
    """The most units that Bernoulli draws keep of n, but for a chance of at most 2^-64: the length
    that a thin array has whatever is drawn.

    By Chernoff's bound, P(kept >= k) <= exp(-n D(k / n || 1 - p)), D the relative entropy.
    """
    q = 1.0 - p
    if q in (0.0, 1.0):
        return round(q * n)
    most = _SAFE * math.log(2.0) / n
    low, high = math.floor(q * n), n  # the bound holds at high + 1
    while low < high:
        middle = (low + high) // 2
        share = (middle + 1) / n
        rest = 0.0 if share >= 1.0 else (1.0 - share) * math.log((1.0 - share) / p)
        is_safe = share > 1.0 or share * math.log(share / q) + rest >= most
        low, high = (low, middle) if is_safe else (middle + 1, high)
    return low


def bernoulli_units(who: str, n: int, p: float, at: Address) -> Kept:
    """The units that `thinned.keep_mask(n, p, at)` keeps, in an array of a known length.

    Where more of them are kept than it has room for, a chance of at most 2^-64, scale is NaN.
    """
    draws = Draws(who, jnp.zeros(n), p, at, True)
    mask, room = draws.keep(), room_for(n, p)
    # Kept units first, both parts in order: by numbers that are all different.
    order = jnp.where(mask, 0, n) + jnp.arange(n)
    units = jnp.sort(order)[:room]
    units = jnp.where(units < n, units, units - n)
    count = mask.sum()
    scale = backend.or_nan(at, jnp.where(count <= room, reference.scale_for(p), jnp.nan))
    return Kept(units.astype(jnp.int32), n, scale, jnp.arange(room) < count)


def exact_units(who: str, n: int, p: float, at: Address) -> Kept:
    """The units that exact k-of-n dropout keeps, where all rows share one draw."""
    kept = _kept(who, n, p, at, False)
    return kept._replace(scale=backend.or_nan(at, jnp.asarray(kept.scale, jnp.float32)))


def _rate(who: str, p: Any) -> float:
    if backend.traced(p):
        remedy = "The lengths of arrays depend on it: pass p as a Python float."
        raise TypeError(message(who, "p", "known while a program is traced", "a tracer", remedy))
    return checks.probability(who, p)


@answering
def thin_mlp(
    x: Any,
    layers: Sequence[tuple[Any, Any]],
    p: float | Sequence[float],
    at: Address,
    *,
    activation: Activation | Sequence[Activation] = jax.nn.relu,
    sites: Sequence[str | int] | None = None,
    training: bool = True,
    mirror: bool = False,
) -> Any:
    """A perceptron with exact k-of-n dropout on its hidden layers, all rows sharing their masks,
    that computes only the units it keeps, forward and backward.

    h_i = k_of_n_dropout(f(h_(i-1) W_i + b_i), p_i, at.replace(site=i), shared_axes=rows) and
    y = h W + b: equal to this formula to rounding, gradients included. At p = 0.5 a product
    between two hidden layers costs a quarter. What is not kept has a gradient of zero; parameters
    and gradients have their full size.

    Parameters
    ----------
    x : array, shape (..., features), floating.
    layers : the layers' weights and biases, (W, b) with W of shape (in, out), b of (out,) or None;
        the last pair is the output's.
    p : float in [0, 1], or one for each hidden layer; known while a program is traced. The share
        of units that is dropped.
    at : Address, which may be traced: a new step is no new program. Hidden layer i draws at
        at.replace(site=i), or at its name in `sites`.
    activation : f, elementwise, or one for each hidden layer.
    sites : names or numbers of the hidden layers' sites. Default: 0, 1, 2, ...
    training : bool. False is the whole network, without dropout.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array, shape (..., out of the last layer).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, shapes do not fit, or an activation mixes units, as a
    norm or softmax does: what such a function makes of the kept units depends on the dropped ones.
    TypeError if p is traced, or x is not floating.

    References
    ----------
    Graham, Reizenstein and Robinson, 2015, arXiv:1502.02478, who share masks over batches on GPUs.

    Examples
    --------
    >>> import jax.numpy as jnp, thinned, thinned.jax
    >>> layers = [(jnp.ones((3, 8)), jnp.zeros(8)), (jnp.ones((8, 2)), jnp.zeros(2))]
    >>> thinned.jax.thin_mlp(jnp.ones((1, 3)), layers, 0.5, thinned.Address(seed=0))
    Array([[24., 24.]], dtype=float32)
    """
    who = "thin_mlp"
    if not isinstance(x, (jax.Array, np.ndarray)):
        raise TypeError(message(who, "x", "a NumPy or JAX array", type(x).__name__))
    backend.require_floating(who, x)
    pairs = _pairs(who, x, layers)
    hidden = len(pairs) - 1
    rates = [_rate(who, one) for one in _each(who, "p", p, hidden)]
    functions = _each(who, "activation", activation, hidden)
    places = list(range(hidden)) if sites is None else _each(who, "sites", sites, hidden)
    if not isinstance(at, Address):
        raise TypeError(message(who, "at", "a thinned.Address", type(at).__name__))
    is_on = checks.flag(who, "training", training)
    for f in {id(f): f for f in functions}.values():
        require_elementwise(who, f)
    h, before = jnp.asarray(x), None
    for i, (weight, bias) in enumerate(pairs):
        if before is not None:
            weight = before.rows(weight)
        dropped = is_on and i < hidden and rates[i] != 0
        before = None
        if dropped:
            here = at.replace(site=places[i])
            before = _kept(who, weight.shape[1], rates[i], here, mirror)
            weight = before.columns(weight)
            bias = None if bias is None else before.columns(bias)
            before = before._replace(scale=backend.or_nan(here, jnp.asarray(before.scale, h.dtype)))
        h = h @ weight
        h = h if bias is None else h + bias
        if i < hidden:
            h = functions[i](h)
        if before is not None:
            h = before.on(h)
    return h


def _pairs(who: str, x: Any, layers: Any) -> list[tuple[Any, Any]]:
    """ValueError unless each layer takes what the one before gives."""
    try:
        pairs = [(jnp.asarray(w), None if b is None else jnp.asarray(b)) for w, b in layers]
    except (TypeError, ValueError):
        requirement = "pairs (W, b) of arrays, b may be None"
        raise TypeError(message(who, "layers", requirement, type(layers).__name__)) from None
    if not pairs:
        raise ValueError(message(who, "layers", "at least one pair (W, b)", "none"))
    width = jnp.shape(x)[-1] if jnp.ndim(x) else None
    for i, (weight, bias) in enumerate(pairs):
        fits = weight.ndim == 2 and weight.shape[0] == width
        if not fits:
            requirement = f"of shape ({width}, out), as what comes before it"
            raise ValueError(message(who, f"layers[{i}][0]", requirement, weight.shape))
        width = weight.shape[1]
        if bias is not None and bias.shape != (width,):
            raise ValueError(message(who, f"layers[{i}][1]", f"of shape ({width},)", bias.shape))
    return pairs


def _each(who: str, name: str, given: Any, count: int) -> list[Any]:
    """One for each hidden layer: the same for all, or those of a list or tuple."""
    if not isinstance(given, (list, tuple)):
        return [given] * count
    if len(given) != count:
        requirement = f"one, or one for each of {count} hidden layers"
        raise ValueError(message(who, name, requirement, f"{len(given)}"))
    return list(given)


# No two alike, of both signs, and far from what functions saturate at.
_PROBE = np.array([-1.7, 0.3, -0.4, 1.1, 0.8, -2.1, 0.05], np.float32)


def is_elementwise(f: Activation, keeps_zero: bool = False) -> bool:
    """Whether a function treats each unit by itself, by what it makes of some units alone and among
    others; and, asked for, whether it keeps 0. True where that is traced, and cannot be seen."""
    with jax.ensure_compile_time_eval():
        some = jnp.asarray(_PROBE)
        try:
            whole, alone, zero = f(some), f(some[::2]), f(jnp.zeros(1))
        except (TypeError, ValueError):  # of an array for each unit, say
            return False
        if any(isinstance(y, jax.core.Tracer) for y in (whole, alone, zero)):
            return True
        if jnp.shape(whole) != some.shape or jnp.shape(alone) != some[::2].shape:
            return False
        is_alike = bool(jnp.allclose(whole[::2], alone, rtol=1e-6, atol=1e-6))
        return is_alike and (not keeps_zero or bool(jnp.all(zero == 0)))


def require_elementwise(who: str, f: Any) -> None:
    if not callable(f):
        raise TypeError(message(who, "activation", "a function", type(f).__name__))
    if not is_elementwise(f):
        name = getattr(f, "__name__", type(f).__name__)
        remedy = "Use dropout on whole arrays: thinned.k_of_n_dropout(h, p, at, shared_axes=(0,))."
        raise ValueError(
            message(who, "activation", "a function of each unit by itself", name, remedy)
        )
