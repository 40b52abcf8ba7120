"""Noise on weights: weight drop, DropConnect, Mixout."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from thinned.address import Address
from thinned.checks import message, written
from thinned.laws import BERNOULLI, PLAIN_BERNOULLI
from thinned.methods.arguments import one_of, require_alike
from thinned.methods.draws import Draws
from thinned.methods.recurrent import MERITY
from thinned.methods.table import Moments, Paper, Sample, _normal, inverted, method
from thinned.window import Window

__all__ = ["connect_options", "drop_connect", "mixout", "require_layer", "weight_drop"]

WAN = Paper(
    "Wan, Zeiler, Zhang, LeCun, Fergus", 2013,
    "Regularization of neural networks using DropConnect", "ICML 2013, PMLR 28(3), 1058-1066",
)  # fmt: skip
LEE = Paper(
    "Lee, Cho, Kang", 2020,
    "Mixout: effective regularization to finetune large-scale pretrained language models",
    "arXiv:1909.11299",
)  # fmt: skip

# Masks of DropConnect made at one time: 2^22 connections are 16 MB in binary32.
CONNECTIONS = 2**22
# The trapezoidal rule over an activation, in standard deviations: 97 nodes. tanh at one of 5 is
# exact to 1e-6 with it, a kink to .0006 deviations. Gauss and Hermite's rule of 32 nodes, at a
# third of the price, was off by .004 at tanh.
STEP, END = 0.125, 6.0


# ------------------------------------------------------------------------------------- weight drop


@method(
    title="Weight drop",
    rank="second",
    target="weights",
    formula="w' = w m / (1 - p),  m ~ Bernoulli(1 - p), one draw per weight, once per forward",
    law=BERNOULLI,
    shared="everything that uses the weight: the batch, and every time step",
    moments=inverted("w"),
    papers=(MERITY,),
    aliases={
        "awd-lstm-lm": ("WeightDrop",),
        "fastai": ("WeightDropout",),
        "PyTorch-NLP": ("torchnlp.nn.WeightDrop",),
    },
    in_torch=("weight_drop", "LSTM", "GRU"),
    sample=Sample(independent=(0, 1), splits=(0, 1)),
    takes=("complex", "sparse", "rates"),
    note="For the hidden-to-hidden weights of an LSTM, where noise on states would harm its "
    'memory: thinned.torch.weight_drop(module, "weight_hh_l0", p).',
)
def weight_drop(
    w: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop weights, once per forward pass (DropConnect as in AWD-LSTM).

    w' = w m / (1 - p),  m ~ Bernoulli(1 - p), one draw per weight.

    Parameters
    ----------
    w : array, any shape, floating: a weight. Never modified.
    p : float in [0, 1]. Probability of dropping a weight; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives w itself.
    window, mirror : as in `thinned.dropout`; a window gives the position of the shard w in the
        whole weight.

    Returns
    -------
    array of w's kind, shape and dtype. E[w'] = w for p < 1; Var[w'] = w^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if w is not floating.

    References
    ----------
    Merity et al., 2018, arXiv:1708.02182, section 2. Scaled by 1 / (1 - p) as in the authors' code.
    """
    draws = Draws("weight_drop", w, p, at, training, window, mirror)
    return draws.noise(w) if draws.training else w


# ------------------------------------------------------------------------------------------ Mixout


def _mixed(w: Any, u: Any, p: float, **_: Any) -> tuple[Any, Any]:
    return (w, (w - u) ** 2 * (p / (1.0 - p))) if p < 1.0 else (u, 0.0 * u)


@method(
    title="Mixout",
    rank="second",
    target="weights",
    formula="w' = u + (w - u) m / (1 - p),  m ~ Bernoulli(1 - p), u the pretrained weight",
    law=BERNOULLI,
    shared="everything that uses the weight",
    fill="u, the pretrained weight",
    moments=Moments("w", "(w - u)^2 p / (1 - p)", _mixed),
    papers=(LEE,),
    aliases={"mixout (the authors')": ("MixLinear", "mixout")},
    in_torch=("mixout",),
    sample=Sample(
        arrays=_normal((6, 5), (6, 5)),
        independent=(0, 1),
        splits=(0, 1),
        p_one="finite",
        linear=False,
        dropped=None,
        dropped_as=lambda w, u, p: u,
    ),
    takes=("rates",),
    note="For fine-tuning a large pretrained network on little data: a dropped weight becomes its "
    "pretrained value instead of 0. thinned.torch.mixout(module, name, p) stores u.",
)
def mixout(
    w: Any,
    u: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Replace weights by their pretrained values, at random, and keep the expectation.

    w' = u + (w - u) m / (1 - p),  m ~ Bernoulli(1 - p), one draw per weight.

    Parameters
    ----------
    w : array, any shape, floating: the weight. Never modified.
    u : array of w's shape: the pretrained weight. With u = 0 it is weight drop.
    p : float in [0, 1]. Probability of replacing a weight; p = 1 gives u.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives w itself.
    window, mirror : as in `thinned.dropout`. w and u are the same shard.

    Returns
    -------
    array of w's kind, shape and dtype. E[w'] = w for p < 1; Var[w'] = (w - u)^2 p / (1 - p). The
    gradient of w is that of w' times m / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or u has another shape. TypeError if w is not floating
    or u no array of its library.

    References
    ----------
    Lee et al., 2020, arXiv:1909.11299, equation 5.
    """
    draws = Draws("mixout", w, p, at, training, window, mirror)
    u = require_alike("mixout", "u", u, "w", w)
    if tuple(u.shape) != draws.shape:
        raise ValueError(message("mixout", "u", f"of w's shape {draws.shape}", tuple(u.shape)))
    return draws.noise(w, fill=u) if draws.training else w


# ------------------------------------------------------------------------------------- DropConnect


def _connected(x: Any, weight: Any, bias: Any, p: float, **_: Any) -> tuple[Any, Any]:
    q = 1.0 - p
    mean, square = x @ weight.T, x**2 @ weight.T**2
    return (q * mean, p * q * square) if bias is None else (
        q * (mean + bias), p * q * (square + bias**2)
    )  # fmt: skip


def connect_options(who: str, activation: Any, inference: Any) -> None:
    """An error unless DropConnect knows both: what comes behind the sum, and how it is averaged."""
    one_of(who, "inference", inference, ("gaussian", "mean"))
    known = isinstance(activation, str) and activation == "relu"
    if not (known or activation is None or callable(activation)):
        got, remedy = written(activation), "Pass another activation as a function."
        raise ValueError(message(who, "activation", "'relu', a callable or None", got, remedy))


def _connections(p: float, at: Address) -> Any:
    """The masks of four examples, a weight of shape (8, 10) each."""
    keep = Draws("drop_connect", np.ones((4, 10)), p, at).keep(shape=(4, 80))
    return keep.reshape(4, 8, 10)


@method(
    title="DropConnect",
    rank="second",
    target="weights",
    formula="y = a((M W) x + m b),  M, m ~ Bernoulli(1 - p), a mask per example;  "
    "evaluation: the mean of a under N(q (W x + b), p q (W^2 x^2 + b^2)),  q = 1 - p",
    law=PLAIN_BERNOULLI,
    shared="none: one draw per example and connection",
    scale="1 in training",
    inference="the activation's mean under the Gaussian of the sum's moments, or at its mean",
    moments=Moments("(1 - p) (W x + b)", "p (1 - p) (W^2 x^2 + b^2)", _connected),
    papers=(WAN,),
    module="DropConnect",
    in_torch=("DropConnectLinear", "drop_connect"),
    check=connect_options,
    picture=_connections,
    sample=Sample(
        arrays=_normal((6, 5), (3, 5), (3,)),
        independent=(0, 1),
        dropped=None,
        keeps_shape=False,
        evaluation=lambda x, weight, bias, p, **_: (1.0 - p) * (x @ weight.T + bias),
    ),
    note="A generalisation of dropout that costs one mask per example and connection; rarely used "
    "today. EfficientNet's code uses the name drop_connect for drop_path. For one mask per batch "
    "use thinned.torch.drop_connect(module, name, p) or weight_drop.",
)
def drop_connect(
    x: Any,
    weight: Any,
    bias: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    activation: str | Callable[[Any], Any] | None = None,
    inference: str = "gaussian",
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """A linear layer in which every example drops different connections, and biases too.

    y = a((M W) x + m b),  M, m ~ Bernoulli(1 - p), without rescaling.

    Masks are made for a few examples at a time and then freed, so memory does not grow with the
    batch; the backward pass makes them again. A compiled graph makes them all at once.

    Parameters
    ----------
    x : array, shape (..., in), floating. Never modified.
    weight : array, shape (out, in).
    bias : array, shape (out,), or None.
    p : float in [0, 1]. Probability of dropping a connection; p = 1 gives a(0).
    at : Address. Connection (n, o, i) takes the draw of element (n, o in + i) of an array of shape
        (N, out in), and bias (n, o) that of an array (N, out) at at.fold_in(1).
    training : bool. False takes the mean over masks, as `inference` says.
    activation : "relu", a callable or None (the identity). a: a callable takes and gives an array.
    inference : "gaussian" or "mean". "gaussian" treats the sum over connections as normal, with its
        mean q (W x + b) and variance p q (W^2 x^2 + b^2), and averages a under it: in closed form
        for None and "relu", else by the trapezoidal rule on 97 nodes, where the paper draws
        samples. "mean" takes a at the mean of the sum. Without activation the two are the same.
    window, mirror : as in `thinned.dropout`; the window is x's, and must hold whole rows.

    Returns
    -------
    array of x's kind and dtype, shape (..., out). Before the activation E[y] = (1 - p)(W x + b) and
    Var[y] = p (1 - p)(W^2 x^2 + b^2).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, shapes do not fit, a window splits the last axis, or
    an option is unknown. TypeError if x is not floating, or another array is of another library.

    References
    ----------
    Wan et al., 2013, ICML; their p is the probability to keep.
    """
    draws = Draws("drop_connect", x, p, at, training, window, mirror)
    require_layer(draws, weight, bias)
    connect_options("drop_connect", activation, inference)
    if not draws.training:
        return _averaged(draws, x, weight, bias, activation, inference == "mean")
    xp, rows = draws.xp, max(1, CONNECTIONS // max(1, math.prod(weight.shape) * _inner(draws)))
    if draws.backend.compiling() or len(draws.shape) == 1 or draws.shape[0] <= rows:
        sums = _sums(draws, x, weight, bias)
    else:
        parts = []
        for first in range(0, draws.shape[0], rows):
            part = x[first : first + rows]
            place = _moved(window, first)
            some = Draws("drop_connect", part, p, at, training, place, mirror)
            parts.append(draws.backend.remade(partial(_sums, some), part, weight, bias))
        sums = xp.concat(parts, axis=0)
    return xp.astype(_activated(xp, activation, sums), x.dtype)


def require_layer(draws: Draws, weight: Any, bias: Any) -> None:
    """An error unless weight (out, in) and bias (out,) or None are arrays that fit x (..., in)."""
    who, shape = draws.who, draws.shape
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None or name == "weight":
            draws.alike(name, array)
    if not shape:
        raise ValueError(message(who, "x", "of shape (..., in)", "an array without axes"))
    if len(weight.shape) != 2 or weight.shape[1] != shape[-1]:
        got = tuple(weight.shape)
        raise ValueError(message(who, "weight", f"of shape (out, {shape[-1]}) as x has it", got))
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        got = tuple(bias.shape)
        raise ValueError(message(who, "bias", f"of shape ({weight.shape[0]},) or None", got))


def _inner(draws: Draws) -> int:
    """Rows of x behind one entry of its leading axis."""
    return math.prod(draws.shape[1:-1])


def _moved(window: Window | None, first: int) -> Window:
    """The window of what begins `first` entries further along the leading axis."""
    if window is None:
        return Window(first)
    assert isinstance(window.start, tuple)
    return replace(window, start=(window.start[0] + first, *window.start[1:]))


def _sums(draws: Draws, x: Any, weight: Any, bias: Any) -> Any:
    """(M W) x + m b, in the type of the arithmetic."""
    xp, lead = draws.xp, draws.shape[:-1]
    outputs, inputs = weight.shape
    draws.require_whole(len(lead))
    keep = xp.reshape(draws.keep(shape=(*lead, outputs * inputs)), (*lead, outputs, inputs))
    wide, w = draws.wide(x), draws.wide(weight)
    kept = xp.where(keep, w, xp.zeros_like(w))
    sums = xp.matmul(kept, wide[..., None])[..., 0]
    if bias is None:
        return sums
    b = draws.wide(bias)
    return sums + xp.where(draws.keep(shape=(*lead, outputs), number=1), b, xp.zeros_like(b))


def _activated(xp: Any, activation: Any, y: Any) -> Any:
    if activation is None:
        return y
    return xp.where(y < 0, xp.zeros_like(y), y) if activation == "relu" else _of(activation, y)


def _of(activation: Any, y: Any) -> Any:
    """What a caller's activation makes of y: an array of y's shape."""
    found = activation(y)
    got = getattr(found, "shape", None)
    if got is None or tuple(got) != tuple(y.shape):
        requirement = f"a function that keeps the shape {tuple(y.shape)}"
        given = f"one that gives {type(found).__name__ if got is None else tuple(got)}"
        raise TypeError(message("drop_connect", "activation", requirement, given))
    return found


def _averaged(draws: Draws, x: Any, weight: Any, bias: Any, activation: Any, plain: bool) -> Any:
    """The evaluation: a at the mean, or its mean under the Gaussian."""
    xp, p, q = draws.xp, draws.p, 1.0 - draws.p
    wide, w = draws.wide(x), draws.wide(weight)
    turned = xp.permute_dims(w, (1, 0))
    mean = xp.matmul(wide, turned)
    if bias is not None:
        mean = mean + draws.wide(bias)
    mean = q * mean
    if activation is None or plain:
        return xp.astype(_activated(xp, activation, mean), x.dtype)
    variance = xp.matmul(wide * wide, turned * turned)
    if bias is not None:
        variance = variance + draws.wide(bias) ** 2
    variance = p * q * variance
    # The root of 0 has no derivative; where nothing varies, a is taken at the mean.
    varies = variance > 0
    std = xp.sqrt(xp.where(varies, variance, xp.ones_like(variance)))
    if activation == "relu":
        z = mean / std
        density = xp.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
        average = mean * draws.backend.normal_cdf(z) + std * density
    else:
        average = sum(share * _of(activation, mean + node * std) for node, share in _nodes())
    return xp.astype(xp.where(varies, average, _activated(xp, activation, mean)), x.dtype)


@lru_cache(maxsize=1)
def _nodes() -> tuple[tuple[float, float], ...]:
    """Nodes and weights for the mean over a standard normal variable."""
    nodes = np.arange(-END, END + STEP / 2, STEP)
    weights = np.exp(-0.5 * nodes**2)
    return tuple(zip(nodes.tolist(), (weights / weights.sum()).tolist(), strict=True))
