"""Dropout along time: one mask for all steps, the candidate update alone, states that stay.

Functions for cells of one's own. `thinned.torch.LSTM` and `thinned.torch.GRU` are layers that have
all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.laws import BERNOULLI, PLAIN_BERNOULLI
from thinned.methods.arguments import MOST_AXES
from thinned.methods.draws import Draws
from thinned.methods.table import INVERTED, Moments, Paper, Sample, inverted, method
from thinned.window import Window

__all__ = ["locked_dropout", "recurrent_dropout", "zoneout"]

GAL = Paper(
    "Gal, Ghahramani", 2016,
    "A theoretically grounded application of dropout in recurrent neural networks",
    "arXiv:1512.05287",
)  # fmt: skip
MERITY = Paper(
    "Merity, Keskar, Socher", 2018, "Regularizing and optimizing LSTM language models",
    "arXiv:1708.02182",
)  # fmt: skip
SEMENIUTA = Paper(
    "Semeniuta, Severyn, Barth", 2016, "Recurrent dropout without memory loss", "arXiv:1603.05118"
)
KRUEGER = Paper(
    "Krueger, Maharaj, Kramár, Pezeshki, Ballas, Ke, Goyal, Bengio, Courville, Pal", 2017,
    "Zoneout: regularizing RNNs by randomly preserving hidden activations", "arXiv:1606.01305",
)  # fmt: skip


def _batch_axis(options: Mapping[str, Any]) -> int:
    return 1 if options["time_axis"] == 0 else 0


@method(
    title="Variational RNN dropout",
    rank="second",
    target="units",
    formula="y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw for all time steps",
    law=BERNOULLI,
    shared="the time axis: a unit of a sequence is dropped in all its steps",
    moments=INVERTED,
    papers=(GAL, MERITY),
    aliases={
        "AWD-LSTM": ("LockedDropout",),
        "flair": ("LockedDropout",),
        "PyTorch-NLP": ("LockedDropout",),
        "AllenNLP": ("InputVariationalDropout",),
        "fastai": ("RNNDropout",),
        "MXNet": ("VariationalDropoutCell",),
    },
    module="LockedDropout",
    in_torch=("LSTM", "GRU"),
    check=lambda who, time_axis: checks.integer(who, "time_axis", time_axis, 0, MOST_AXES),
    sample=Sample(shape=(4, 5, 3), independent=(0, 2), splits=(0, 2)),
    batch_axis=_batch_axis,
    takes=("complex", "sparse", "rates"),
    note="Between the layers of a recurrent network, on its input and on its output. Plain "
    "dropout there draws a new mask at each time step.",
)
def locked_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    time_axis: int = 1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop units of sequences with one mask for all time steps (variational RNN dropout).

    y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per sequence and unit.

    Parameters
    ----------
    x : array, shape (N, T, ...), or (T, N, ...) with time_axis=0, floating. Never modified. The
        mask is the same for both layouts.
    p : float in [0, 1]. Probability of dropping a unit; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    time_axis : int >= 0. The axis along which a draw is shared. With 0 the sequences of the batch
        lie along axis 1, else along axis 0.
    window : Window or None. Where x sits in a larger logical array; ignored along time_axis.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x for p < 1; Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, x has fewer than two axes, or time_axis is none of
    them. TypeError if x is not floating.

    References
    ----------
    Gal and Ghahramani, 2016, arXiv:1512.05287; Merity et al., 2018, arXiv:1708.02182, call it
    "locked". One mask serves all gates here, as in Merity et al. and in the tied form of Gal and
    Ghahramani; their untied form has a mask of the input for each gate. thinned.torch.LSTM and GRU
    have the untied form for the hidden state (recurrent="gal"), but not for the input.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.locked_dropout(np.ones((1, 3, 4)), 0.5, thinned.Address(seed=4))
    array([[[2., 0., 0., 2.],
            [2., 0., 0., 2.],
            [2., 0., 0., 2.]]])
    """
    who = "locked_dropout"
    draws = Draws(who, x, p, at, training, window, mirror)
    n = len(draws.shape)
    if n < 2:
        requirement = "of shape (N, T, ...), or (T, N, ...) with time_axis=0"
        remedy = "Give a sequence without a batch an axis of length 1 for it."
        raise ValueError(message(who, "x", requirement, f"shape {draws.shape}", remedy))
    axis = checks.integer(who, "time_axis", time_axis, 0, n)
    if not draws.training:
        return x
    return draws.noise(x, shared_axes=(axis,))


@method(
    title="Recurrent dropout",
    rank="second",
    target="candidate updates",
    formula="c = f c + i g m / (1 - p),  m ~ Bernoulli(1 - p), anew for each step",
    law=BERNOULLI,
    moments=inverted("g"),
    papers=(SEMENIUTA,),
    aliases={"TensorFlow": ("LayerNormBasicLSTMCell(dropout_keep_prob=...)",)},
    module="RecurrentDropout",
    in_torch=("LSTM", "GRU"),
    sample=Sample(independent=(0, 1), splits=(0, 1)),
    takes=("complex", "sparse", "rates"),
    note="For custom cells; thinned.torch.LSTM and GRU have it built in. Keras uses the name "
    "recurrent_dropout for masks on the state itself, as in Gal and Ghahramani.",
)
def recurrent_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop elements of a gated cell's candidate update only.

    y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per element; then c = f c + i y in an LSTM,
    h = z h + (1 - z) y in a GRU. A cell's memory is never erased; some additions to it are dropped.

    Parameters
    ----------
    x : array, any shape, floating: the candidate update g of one step (or of several). Never
        modified. A step's address is at.fold_in(t), or a call of its own.
    p : float in [0, 1]. Probability of dropping an element; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x for p < 1; Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if x is not floating.

    References
    ----------
    Semeniuta, Severyn and Barth, 2016, arXiv:1603.05118. Here the scale is applied in training, as
    everywhere in this catalogue.
    """
    draws = Draws("recurrent_dropout", x, p, at, training, window, mirror)
    if not draws.training:
        return x
    return draws.noise(x)


def _expected(x: Any, h_previous: Any, p: float) -> Any:
    return (1.0 - p) * x + p * h_previous


def _zoneout_moments(x: Any, h_previous: Any, p: float, **_: Any) -> tuple[Any, Any]:
    return _expected(x, h_previous, p), p * (1.0 - p) * (x - h_previous) ** 2


def _states(rng: Any) -> tuple[Any, ...]:
    return rng.standard_normal((6, 5)), rng.standard_normal((6, 5))


@method(
    title="Zoneout",
    rank="second",
    target="states",
    formula="y = m x + (1 - m) h_previous,  m ~ Bernoulli(1 - p)",
    law=PLAIN_BERNOULLI,
    scale="1",
    fill="h_previous, the state of the step before",
    inference="the expectation, (1 - p) x + p h_previous",
    moments=Moments(
        "(1 - p) x + p h_previous", "p (1 - p) (x - h_previous)^2", _zoneout_moments
    ),
    papers=(KRUEGER,),
    aliases={"MXNet": ("ZoneoutCell",)},
    module="Zoneout",
    in_torch=("LSTM", "GRU"),
    sample=Sample(
        arrays=_states, independent=(0, 1), splits=(0, 1), p_one="finite", dropped=None,
        linear=False, evaluation=_expected, dropped_as=lambda x, h_previous, p: h_previous,
    ),
    takes=("rates",),
    note="Keeps memory and gradients alive over many steps, where dropout of a state would cut "
    "them. thinned.torch.LSTM and GRU have it built in.",
)  # fmt: skip
def zoneout(
    x: Any,
    h_previous: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Keep the previous value of some units of a recurrent state.

    y = m x + (1 - m) h_previous,  m ~ Bernoulli(1 - p), one draw per element;
    evaluation: y = (1 - p) x + p h_previous.

    Parameters
    ----------
    x : array, any shape, floating: the new state. Never modified.
    h_previous : array of x's shape: the state of the step before.
    p : float in [0, 1]. Probability of keeping a unit's previous value; p = 1 gives h_previous.
    at : Address. Equal addresses give equal masks on every backend. A step's is at.fold_in(t), or a
        call of its own.
    training : bool. False gives the expectation.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = (1 - p) x + p h_previous;
    Var[y] = p (1 - p) (x - h_previous)^2.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or the two shapes differ. TypeError if x is not
    floating, or h_previous no array of its library.

    References
    ----------
    Krueger et al., 2017, arXiv:1606.01305. In an LSTM, h and c have separate masks, and the new h
    is computed from c before its zoneout.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> new, old = np.ones(4), np.zeros(4)
    >>> thinned.zoneout(new, old, 0.25, thinned.Address(seed=1), training=False)
    array([0.75, 0.75, 0.75, 0.75])
    """
    draws = Draws("zoneout", x, p, at, training, window, mirror)
    h_previous = draws.alike("h_previous", h_previous)
    if tuple(h_previous.shape) != draws.shape:
        got = f"shape {tuple(h_previous.shape)}"
        raise ValueError(message("zoneout", "h_previous", f"of x's shape {draws.shape}", got))
    p, xp = draws.p, draws.xp
    if draws.training:
        return draws.noise(x, scale=1.0, fill=h_previous)
    if isinstance(p, float) and p in (0.0, 1.0):
        return x if p == 0.0 else xp.astype(h_previous, x.dtype)
    return xp.astype(draws.wide(x) * (1.0 - p) + draws.wide(h_previous) * p, x.dtype)
