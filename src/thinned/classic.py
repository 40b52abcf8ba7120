"""The textbook interfaces of dropout, exact to their definitions. Lists are welcome here.

Three conventions are in use. They differ in what the number means and in who rescales:

==========================  ==================  =============  ==================  ==============
function                    its number          kept where     training gives      testing gives
==========================  ==================  =============  ==================  ==============
stochastic_deactivation     p, chance to drop   u >= p         x m / (1 - p)       x
dropout_forward             p, chance to keep   u < p          x m / p             x
vanilla_dropout             keep, to keep       u < keep       x m                 x keep
==========================  ==================  =============  ==================  ==============

with m = 1 for a kept element and 0 for a dropped one, u uniform on [0, 1). To move between them:

- The chance to drop and the chance to keep add up to 1: keep = 1 - p.
- The first two are one law, *inverted* dropout: the mean of their output is x already in training.
  `thinned.dropout(x, p, at)` is the same law, with p as in the first and an address for a seed.
- The vanilla output is keep times the inverted one, in training (mean x keep) and in testing. A
  network trained the vanilla way becomes an inverted one when the weights that read the dropped
  layer are multiplied by keep, and the other way round when they are divided by it.
- One seed gives different masks: the first drops the low end of u, the other two drop the high end.

In all of them a dropped element is zero whatever stood there, NaN and infinity included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned import checks
from thinned.backends.numpy import as_array
from thinned.checks import message, written
from thinned.foreign_arguments import answering
from thinned.methods import foreign

__all__ = ["dropout_backward", "dropout_forward", "stochastic_deactivation", "vanilla_dropout"]

Array = NDArray[Any]

# From here on neighbouring binary64 numbers are more than 1e-4 apart: there is nothing to round,
# and numpy.round, which multiplies by 10^4 first, would only disturb them.
COARSE = 2.0**40


if not TYPE_CHECKING:  # a type checker would accept every name

    def __getattr__(name: str) -> Any:
        raise AttributeError(foreign.no_name(__name__, name, __all__))


@answering
def stochastic_deactivation(
    x: Any, grad: Any, p: float, training: bool, seed: int
) -> dict[str, Any]:
    """Dropout of a layer's values and, with the same mask, of their gradients (p = chance to drop).

    y = x m / (1 - p),  m = [u >= p],  u = numpy.random.RandomState(seed).rand(*x.shape).

    In the terms of `dropout_forward` its p is 1 - p here; in those of `vanilla_dropout`, keep is
    1 - p and the output is divided by keep.

    Parameters
    ----------
    x : array or nested list of real numbers, any shape. Never modified.
    grad : the same, of x's shape: the gradient that arrives at the output.
    p : float in [0, 1]. Probability of dropping an element; p = 1 gives zeros.
    training : bool. False passes both through.
    seed : int in [0, 2^32). Equal seeds give equal masks.

    Returns
    -------
    dict with "output" and "grad_output": nested lists of x's shape, rounded to 4 decimals.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, x is ragged, or the shapes differ. TypeError if x or
    grad does not hold real numbers.

    Examples
    --------
    >>> from thinned.classic import stochastic_deactivation as deactivate
    >>> deactivate([1, 2, 3, 4], grad=[0.1, 0.2, 0.3, 0.4], p=0.5, training=True, seed=42)
    {'output': [0.0, 4.0, 6.0, 8.0], 'grad_output': [0.0, 0.4, 0.6, 0.8]}
    """
    who = "stochastic_deactivation"
    values = _numbers(who, "x", x).astype(np.float64)
    slopes = _numbers(who, "grad", grad).astype(np.float64)
    if slopes.shape != values.shape:
        raise ValueError(message(who, "grad", f"of x's shape {values.shape}", slopes.shape))
    p = checks.probability(who, p)
    seed = checks.integer(who, "seed", seed, 0, 2**32)
    if checks.flag(who, "training", training):
        keep = np.asarray(np.random.RandomState(seed).random_sample(values.shape) >= p)
        values, slopes = _divided(values, keep, 1.0 - p), _divided(slopes, keep, 1.0 - p)
    return {"output": _rounded(values), "grad_output": _rounded(slopes)}


@answering
def dropout_forward(x: Any, dropout_param: Mapping[str, Any]) -> tuple[Array, Any]:
    """Forward pass of inverted dropout, as the CS231n assignment has it (p = chance to KEEP).

    y = x * mask,  mask = [u < p] / p.

    To drop with probability p_drop, as `thinned.dropout` and `stochastic_deactivation` count, give
    p = 1 - p_drop. The training output of `vanilla_dropout` is p times this one.

    Parameters
    ----------
    x : array or nested list of real numbers, any shape. Never modified. Integers count as float64.
    dropout_param : dict with
        "p" : float in (0, 1]. Probability of keeping an element; p = 1 drops nothing.
        "mode" : "train", or "test", which passes x through and draws nothing.
        "seed" : int in [0, 2^32), optional. Makes the draw reproducible, by a generator of its own:
        NumPy's global one stays where it is. Without it, or with None, the draw comes from NumPy's
        global generator, so that numpy.random.seed rules it.

    Returns
    -------
    out : array of x's shape and floating dtype; x itself in test mode. E[out] = x.
    cache : (dropout_param, mask), for `dropout_backward`: a copy of the parameters, so that a later
        change of mode cannot reach this pass, and the float64 mask (None in test mode).

    Raises
    ------
    ValueError if p is outside (0, 1] or NaN, the mode is another, a key is missing, or x is ragged.
    TypeError if x does not hold real numbers.

    Examples
    --------
    >>> from thinned.classic import dropout_forward
    >>> dropout_forward([1.0, 2.0, 3.0, 4.0], {"p": 0.5, "mode": "train", "seed": 42})[0]
    array([2., 0., 0., 0.])
    """
    who = "dropout_forward"
    values = _numbers(who, "x", x)
    mode = _mode(who, dropout_param)
    if "p" not in dropout_param:
        raise ValueError(f"{who}: dropout_param has no 'p'. Add the probability to keep.")
    p = checks.probability(who, dropout_param["p"])
    if p == 0.0:
        remedy = "Here p is the probability to keep; p = 1 drops nothing."
        raise ValueError(message(who, "p", "a float in (0, 1]", "0", remedy))
    seed = dropout_param.get("seed")
    if seed is not None:
        seed = checks.integer(who, "seed", seed, 0, 2**32)
    if mode == "test":
        return values, (dict(dropout_param), None)
    # The legacy generators are the definition here: the assignment's numbers are theirs.
    source = np.random if seed is None else np.random.RandomState(seed)
    u = np.asarray(source.random_sample(values.shape))
    mask = (u < p) / p
    return _masked(values, mask), (dict(dropout_param), mask)


@answering
def dropout_backward(dout: Any, cache: tuple[Mapping[str, Any], Any]) -> Array:
    """Backward pass of `dropout_forward`: the gradient takes the mask that the values took.

    dx = dout * mask.

    Nothing is drawn here. For the other two conventions: `stochastic_deactivation` returns its
    gradient with its output, and that of `vanilla_dropout` is p times this one.

    Parameters
    ----------
    dout : array or nested list of real numbers, of the forward output's shape. Never modified.
    cache : what `dropout_forward` returned beside its output.

    Returns
    -------
    array of dout's shape and floating dtype; dout itself where the forward pass ran in test mode.

    Raises
    ------
    ValueError if the shapes of dout and the mask differ. TypeError if cache is no such pair.

    Examples
    --------
    >>> from thinned.classic import dropout_backward, dropout_forward as forward
    >>> dropout_backward([1, 1], forward([3, 4], {"p": 0.5, "mode": "train", "seed": 42})[1])
    array([2., 0.])
    """
    who = "dropout_backward"
    slopes = _numbers(who, "dout", dout)
    if not isinstance(cache, (tuple, list)) or len(cache) != 2:
        remedy = "Pass the second value that dropout_forward returned."
        raise TypeError(
            message(who, "cache", "the pair (dropout_param, mask)", _kind(cache), remedy)
        )
    dropout_param, mask = cache
    if _mode(who, dropout_param) == "test":
        return slopes
    if mask is None:
        raise ValueError(
            f"{who}: the cache has mode 'train' but no mask. Run dropout_forward again."
        )
    mask = _numbers(who, "the mask in cache", mask)
    if slopes.shape != mask.shape:
        raise ValueError(message(who, "dout", f"of the mask's shape {mask.shape}", slopes.shape))
    return _masked(slopes, mask)


@answering
def vanilla_dropout(
    x: Any,
    keep: float,
    training: bool,
    rng: np.random.Generator | np.random.RandomState | None,
) -> Array:
    """Dropout as first published: no scaling in training, output times `keep` at test time.

    training:  y = x m,  m = [u < keep],  u = rng.random(x.shape);    testing:  y = keep x.

    Divided by keep, both are inverted dropout: what `dropout_forward` gives for p = keep and
    `stochastic_deactivation` for p = 1 - keep; `thinned.vanilla_dropout` takes p = 1 - keep too,
    and an address. The gradient with respect to x is the same function
    of the arriving gradient, with an rng in the same state.

    Parameters
    ----------
    x : array or nested list of real numbers, any shape. Never modified. Integers count as float64.
    keep : float in [0, 1]. Probability of keeping an element; keep = 0 gives zeros.
    training : bool. False draws nothing, and leaves rng where it is.
    rng : numpy.random.Generator or RandomState. May be None with training=False.

    Returns
    -------
    array of x's shape and floating dtype. E[y] = keep x in training, y = keep x in testing.

    Raises
    ------
    ValueError if keep is outside [0, 1] or NaN, or x is ragged. TypeError if x does not hold real
    numbers or rng is something else: a seed, or the module numpy.random.

    References
    ----------
    Hinton et al., 2012, arXiv:1207.0580; Srivastava et al., 2014, JMLR 15, 1929-1958.

    Examples
    --------
    >>> from thinned.classic import vanilla_dropout
    >>> vanilla_dropout([1.0, 2.0, 3.0, 4.0], keep=0.5, training=False, rng=None) / 0.5
    array([1., 2., 3., 4.])
    """
    who = "vanilla_dropout"
    values = _numbers(who, "x", x)
    keep = checks.probability(who, keep, "keep")
    training = checks.flag(who, "training", training)
    if not isinstance(rng, (np.random.Generator, np.random.RandomState)) and (
        training or rng is not None
    ):
        remedy = "Pass numpy.random.default_rng(seed)."
        raise TypeError(
            message(who, "rng", "a numpy.random.Generator or RandomState", _kind(rng), remedy)
        )
    if rng is None or not training:
        return _masked(values, np.full(values.shape, keep))
    return _masked(values, np.asarray(rng.random(values.shape) < keep).astype(np.float64))


def _numbers(who: str, name: str, value: Any) -> Array:
    """`value` as a floating array: floating types stay, integers become float64."""
    requirement = "an array or a nested list of real numbers"
    array = as_array(who, name, value, requirement)
    if array.dtype.kind in "iu":
        return array.astype(np.float64)
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array
    got = _kind(value) if array.ndim == 0 else f"{_kind(value)} of type {array.dtype.name}"
    raise TypeError(message(who, name, requirement, got))


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _mode(who: str, dropout_param: Any) -> str:
    if not isinstance(dropout_param, Mapping):
        requirement = "a dict with the keys 'p' and 'mode'"
        raise TypeError(message(who, "dropout_param", requirement, _kind(dropout_param)))
    if "mode" not in dropout_param:
        raise ValueError(f"{who}: dropout_param has no 'mode'. Add 'train' or 'test'.")
    mode = dropout_param["mode"]
    if not isinstance(mode, str) or mode not in ("train", "test"):
        raise ValueError(message(who, "mode", "'train' or 'test'", written(mode)))
    return mode


def _divided(x: Array, keep: Array, divisor: float) -> Array:
    """x / divisor where kept, 0 elsewhere. With nothing kept, a divisor of 0 is never used."""
    with np.errstate(over="ignore"):  # infinity is the value then
        return np.divide(x, divisor, out=np.zeros_like(x), where=keep)


def _masked(x: Array, mask: Array) -> Array:
    """x * mask in the wider of their types, rounded to x's; 0, never NaN, where the mask is 0."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.where(mask != 0.0, x * mask, 0.0).astype(x.dtype)


def _rounded(x: Array) -> Any:
    fine = np.abs(x) < COARSE
    x[fine] = np.round(x[fine], 4)
    return (x + 0.0).tolist()  # + 0.0 turns a negative zero into the plain one
