"""Low-rank adapters beyond dropout on their input: whole ranks, whole updates, rows and columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned.address import Address
from thinned.checks import message
from thinned.laws import BERNOULLI, PLAIN_BERNOULLI
from thinned.methods.arguments import require_unit_axis
from thinned.methods.draws import Draws
from thinned.methods.layers import adapted, alpha_of
from thinned.methods.table import INVERTED, PLAIN, Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["module_dropout", "rank_dropout", "sparse_lora_dropout"]

LIN = Paper(
    "Lin, Ma, Chu, Jin, Yang, Wang, Mei", 2024,
    "LoRA dropout as a sparsity regularizer for overfitting control", "arXiv:2404.09610",
)  # fmt: skip


@method(
    title="Rank dropout",
    rank="second",
    target="ranks of a low-rank update",
    formula="y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per sample and rank;  x = A h",
    law=BERNOULLI,
    shared="all axes but the samples' and the rank's",
    moments=INVERTED,
    papers=(),
    source="The code of kohya's sd-scripts (rank_dropout), which LyCORIS took over; there the "
    "scale is an option, off by default. No paper defines it.",
    aliases={
        "sd-scripts": ("rank_dropout", "network_args rank_dropout"),
        "LyCORIS": ("LoConModule",),
    },
    module="RankDropout",
    check=lambda who, rank_axis: require_unit_axis(who, "rank_axis", rank_axis),
    sample=Sample(shape=(6, 4, 5), independent=(0, 2), splits=(0, 1, 2)),
    takes=("complex", "sparse", "rates"),
    note="Between the two factors of an adapter, so that no rank carries the update alone; p = .1 "
    "to .3 in image models.",
)
def rank_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    rank_axis: int = -1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop ranks of a low-rank update, for each sample.

    y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per sample and rank.

    Parameters
    ----------
    x : array, shape (N, ..., R), floating: what the first factor gives, A h. Never modified.
    p : float in [0, 1]. Probability of dropping a rank; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    rank_axis : int. The axis of the ranks, any but 0: -1 behind a linear layer, 1 behind a
        convolution with its channels first.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x for p < 1; Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, x has fewer than two axes, or rank_axis is 0 or no
    axis of x. TypeError if x is not floating.

    References
    ----------
    The code of kohya's sd-scripts, where a scale of the update has the 1 / (1 - p).

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.rank_dropout(np.ones((2, 4)), 0.5, thinned.Address(seed=0, site="lora"))
    array([[0., 2., 0., 0.],
           [0., 0., 2., 2.]])
    """
    who = "rank_dropout"
    draws = Draws(who, x, p, at, training, window, mirror)
    axes = len(draws.shape)
    if axes < 2:
        raise ValueError(message(who, "x", "of shape (N, ..., R)", f"shape {draws.shape}"))
    ranks = require_unit_axis(who, "rank_axis", rank_axis, axes)
    if not draws.training:
        return x
    return draws.noise(x, shared_axes=tuple(a for a in range(1, axes) if a != ranks))


def _gates(p: float, at: Address) -> Any:
    """The gate of six steps, each before a batch of 4 rows."""
    steps = [module_dropout(np.ones((4, 3)), p, at.replace(step=i)) for i in range(6)]
    return np.stack(steps)


@method(
    title="Module dropout",
    rank="second",
    target="low-rank updates",
    formula="y = x m,  m ~ Bernoulli(1 - p), one gate for the call;  x the update B A h",
    law=PLAIN_BERNOULLI,
    shared="all axes: the update is there or not",
    scale="1",
    moments=PLAIN,
    papers=(),
    source="The code of kohya's sd-scripts (module_dropout), which LyCORIS took over. Neither "
    "rescales. No paper defines it.",
    aliases={"sd-scripts": ("module_dropout",), "LyCORIS": ("module_dropout",)},
    module="ModuleDropout",
    picture=_gates,
    sample=Sample(shape=(4, 3), independent=()),
    takes=("complex", "sparse"),
    note="So that each adapter of a network does its part without the others. In evaluation all "
    "updates are there at full size: with p = .5 twice what training saw on average.",
)
def module_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop the whole update of an adapter, and leave the layer as it was.

    y = x m,  m ~ Bernoulli(1 - p), one gate for the call; nothing is rescaled.

    Parameters
    ----------
    x : array, any shape, floating: the update, before it is added. Never modified.
    p : float in [0, 1]. Probability of dropping it; p = 1 gives zeros.
    at : Address. Equal addresses give equal gates on every backend; the gate is its element 0.
    training : bool. False gives x itself.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = (1 - p) x; Var[y] = p (1 - p) x^2.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if x is not floating.

    References
    ----------
    The code of kohya's sd-scripts. `thinned.stochastic_depth` is the same gate with the scale of
    evaluation.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> at = thinned.Address(seed=0)
    >>> [float(thinned.module_dropout(np.ones(1), 0.5, at.replace(step=i))[0]) for i in range(4)]
    [1.0, 1.0, 0.0, 0.0]
    """
    draws = Draws("module_dropout", x, p, at, training, window, mirror)
    if not draws.training:
        return x
    return draws.noise(x, scale=1.0, shared_axes=tuple(range(len(draws.shape))))


def _sparse_moments(
    x: Any, weight: Any, down: Any, up: Any, p: float, alpha: float | None = None, **_: Any
) -> tuple[Any, Any]:
    plain = x @ weight.T
    if p == 1.0:
        return plain, 0.0 * plain
    update = x @ down.T @ up.T * ((down.shape[0] if alpha is None else alpha) / down.shape[0])
    share = (up @ down) * ((down.shape[0] if alpha is None else alpha) / down.shape[0])
    noise = (x**2) @ (share**2).T * (p / (1.0 - p))
    # Two independent factors with mean 1: the rows' on a sum with the columns' noise in it.
    return plain + update, (noise + update**2) / (1.0 - p) - update**2


def _sparse_sample(rng: np.random.Generator) -> tuple[Any, ...]:
    return tuple(rng.standard_normal(s) for s in ((6, 5), (4, 5), (2, 5), (4, 2)))


def _whole(
    x: NDArray[Any], weight: NDArray[Any], down: NDArray[Any], up: NDArray[Any], p: float,
    alpha: float | None = None, **_: Any,
) -> Any:  # fmt: skip
    rank = down.shape[0]
    return x @ weight.T + x @ down.T @ up.T * ((rank if alpha is None else alpha) / rank)


def _entries(p: float, at: Address) -> Any:
    """The entries of an update that stay, 24 outputs of 40 inputs."""
    draws = Draws("sparse_lora_dropout", np.ones((1, 40)), p, at)
    return draws.keep(shape=(24,), number=1)[:, None] & draws.keep(shape=(40,))


@method(
    title="LoRA dropout as a sparsity regularizer",
    rank="second",
    target="rows and columns of a low-rank update",
    formula="y = W x + (alpha / rank) (m' / q) B A (m / q) x,  m, m' ~ Bernoulli(q),  q = 1 - p: "
    "one draw per input and one per output, for the whole batch",
    law=BERNOULLI,
    shared="the batch: it is the weights that are thinned, 1 - (1 - p)^2 of their entries",
    inference="nothing is dropped",
    moments=Moments(
        "(W + (alpha / rank) B A) x",
        "(s_i + u_i^2) / q - u_i^2,  u = (alpha / rank) B A x,  s_i the variance of lora_dropout",
        _sparse_moments,
    ),
    papers=(LIN,),
    source="The masks are the paper's: on the inputs of A and on the outputs of B, none on the "
    "rank. The scale, which keeps the expectation, is that of every row here.",
    picture=_entries,
    check=lambda who, alpha, bias: alpha_of(who, alpha, 1),
    sample=Sample(
        arrays=_sparse_sample,
        options={"alpha": 3.0},
        splits=(0,),
        p_one="finite",
        evaluation=_whole,
        linear=False,
        dropped=None,
        dtypes=("float32", "float64"),
        keeps_shape=False,
    ),
    note="For adapters of high rank on little data. Its members (one address each) are the paper's "
    "ensemble at test time.",
)
def sparse_lora_dropout(
    x: Any,
    weight: Any,
    down: Any,
    up: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    alpha: float | None = None,
    bias: Any = None,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Apply a frozen linear layer and its low-rank update, of which rows and columns are dropped.

    y = W x + b + (alpha / rank) (m' / q) B A (m / q) x,  q = 1 - p,  one draw m per input and one
    m' per output, for the whole batch.

    Parameters
    ----------
    x : array, shape (..., inputs), floating. Never modified.
    weight : array, shape (outputs, inputs). W; its path has no noise.
    down : array, shape (rank, inputs). A.
    up : array, shape (outputs, rank). B.
    p : float in [0, 1]. Probability of dropping an input of A, and of dropping an output of B: an
        entry of B A goes with probability 1 - (1 - p)^2. p = 1 leaves W x + b.
    at : Address. The inputs take draw 0, the outputs draw 1.
    training : bool. False drops nothing.
    alpha : float, finite, or None. None is the rank: the update is then B A itself.
    bias : array, shape (outputs,), or None. b.
    window : Window or None. Where x sits in a larger batch; it must hold whole rows.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array, shape (..., outputs), of x's kind, in the type that `lora_dropout` gives. E[y] = (W +
    (alpha / rank) B A) x + b for p < 1.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, the shapes do not fit, alpha is not finite, or a
    window splits the inputs. TypeError if x is not floating, or another array is none of its
    library.

    References
    ----------
    Lin et al., 2024, arXiv:2404.09610.
    """
    who = "sparse_lora_dropout"
    draws = Draws(who, x, p, at, training, window, mirror)

    lead = tuple(range(len(draws.shape) - 1))

    def columns(x: Any) -> Any:
        draws.require_whole(len(lead))
        return draws.select(x, draws.keep(shared_axes=lead), draws.rate()[1])

    def rows(update: Any) -> Any:
        keep = draws.keep(None, lead, tuple(update.shape), number=1)
        return draws.select(update, keep, draws.rate()[1])

    return adapted(draws, x, weight, down, up, alpha, bias, columns, rows)
