"""Attention: its weights (attention dropout), whole heads (DropHead), its keys (DropKey)."""

from __future__ import annotations

import math
from typing import Any

from thinned import checks
from thinned.address import Address
from thinned.checks import message
from thinned.laws import BERNOULLI, PLAIN_BERNOULLI
from thinned.methods.arguments import MOST_AXES
from thinned.methods.draws import Draws
from thinned.methods.table import Moments, Paper, Sample, inverted, method
from thinned.window import Window

__all__ = ["attention_dropout", "drop_head", "drop_key", "hidden_key"]

VASWANI = Paper(
    "Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin", 2017,
    "Attention is all you need", "arXiv:1706.03762",
)  # fmt: skip
RADFORD = Paper(
    "Radford, Narasimhan, Salimans, Sutskever", 2018,
    "Improving language understanding by generative pre-training", "OpenAI",
)  # fmt: skip
ZHOU = Paper(
    "Zhou, Ge, Xu, Wei, Zhou", 2020,
    "Scheduled DropHead: a regularization method for transformer models", "arXiv:2004.13342",
)  # fmt: skip
WANG = Paper(
    "Wang, Chen, Jiang, Xue, Kong, Wu", 2024, "LoRA meets dropout under a unified framework",
    "arXiv:2403.00812",
)  # fmt: skip
LI = Paper(
    "Li, Hu, Nie, Han, Jiang, Guo, Liu", 2023, "DropKey for vision transformer", "arXiv:2208.02646"
)


@method(
    title="Attention dropout",
    rank="first",
    target="attention weights",
    formula="y = w m / (1 - p),  m ~ Bernoulli(1 - p),  w = softmax(q k' / sqrt(d))",
    law=BERNOULLI,
    moments=inverted("w"),
    papers=(VASWANI, RADFORD),
    source="The first paper's code. Its text drops sublayers' outputs and embeddings only; the "
    "second names attention dropout.",
    aliases={
        "PyTorch": (
            "nn.MultiheadAttention(dropout)",
            "functional.scaled_dot_product_attention(dropout_p)",
        ),
        "Keras": ("MultiHeadAttention(dropout)",),
        "timm": ("attn_drop",),
        "transformers": ("attention_probs_dropout_prob",),
    },
    module="AttentionDropout",
    sample=Sample(shape=(3, 4, 3, 5), independent=(0, 1, 2, 3), splits=(0, 1, 2, 3)),
    takes=("complex", "sparse", "rates"),
    note="The default in transformers, p = .1. Rows of the result no longer sum to 1; with "
    "drop_key they do.",
)
def attention_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop attention weights after the softmax.

    y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per weight.

    A row of y sums to 1 only on average: its sum has variance sum_j x_j^2 p / (1 - p).

    Parameters
    ----------
    x : array, shape (..., queries, keys), floating: softmax's rows. Never modified.
    p : float in [0, 1]. Probability of dropping a weight; p = 1 gives zeros.
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
    Vaswani et al., 2017, arXiv:1706.03762: in their code, not in the text. Named in Radford et al.,
    2018, Improving language understanding by generative pre-training.
    """
    draws = Draws("attention_dropout", x, p, at, training, window, mirror)
    if not draws.training:
        return x
    return draws.noise(x)


def _head_moments(x: Any, p: float, head_axis: int = 1) -> tuple[Any, Any]:
    """E[m H / K] and Var[m H / K], K heads kept of H: K = 0 gives 0."""
    n, q = x.shape[head_axis], 1.0 - p
    chance = [math.comb(n, k) * q**k * p ** (n - k) for k in range(n + 1)]
    mean = 1.0 - chance[0]
    square = n * sum(chance[k] / k for k in range(1, n + 1))
    return x * mean, x**2 * (square - mean**2)


def _head_axis(who: str, head_axis: Any, axes: int = MOST_AXES) -> int:
    found = checks.integer(who, "head_axis", head_axis, -axes, axes) % axes
    if found == 0:
        remedy = "Samples lie on axis 0: give heads of one sample as x[None]."
        raise ValueError(message(who, "head_axis", "any axis but 0", 0, remedy))
    return found


@method(
    title="DropHead",
    rank="first",
    target="attention heads",
    formula="y = x m H / K,  m ~ Bernoulli(1 - p) for each head,  K = sum of m over the H heads",
    law=PLAIN_BERNOULLI,
    shared="all axes but the samples' and the heads'",
    scale="H / K, and zeros where K = 0",
    moments=Moments(
        "x (1 - p^H)",
        "x^2 (H E[1 / K; K > 0] - (1 - p^H)^2),  K ~ Binomial(H, 1 - p)",
        _head_moments,
    ),
    papers=(ZHOU,),
    module="DropHead",
    check=_head_axis,
    sample=Sample(
        shape=(4, 5, 3, 2), independent=(0, 1), coupled=(1,), splits=(0, 2, 3), draws=4000
    ),
    takes=("complex", "rates"),
    note="For transformers with many heads that come to depend on a few. In the paper p falls and "
    "rises again over training (thinned.schedules).",
)
def drop_head(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    head_axis: int = 1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop whole attention heads, and scale the rest by the number of kept heads.

    y = x m H / K,  m ~ Bernoulli(1 - p), one draw per sample and head; K of the sample's H heads
    are kept, and where K is 0 the sample is all zeros.

    Parameters
    ----------
    x : array, shape (N, H, ...), floating: the heads' outputs, samples on axis 0. Never modified.
    p : float in [0, 1]. Probability of dropping a head; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    head_axis : int. The axis of the heads, any but 0.
    window, mirror : as in `thinned.dropout`. No window may split the heads, because they are
        counted.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x (1 - p^H);
    Var[y] = x^2 (H E[1 / K; K > 0] - (1 - p^H)^2).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, head_axis is 0 or no axis of x, or the window splits
    the heads. TypeError if x is not floating.

    References
    ----------
    Zhou et al., 2020, arXiv:2004.13342.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> at = thinned.Address(seed=0, site="heads")
    >>> thinned.drop_head(np.ones((2, 4, 1, 1)), 0.5, at)[:, :, 0, 0]
    array([[2., 0., 0., 2.],
           [2., 2., 0., 0.]])
    """
    draws = Draws("drop_head", x, p, at, training, window, mirror)
    axes = len(draws.shape)
    if axes < 2:
        got = f"shape {draws.shape}"
        raise ValueError(message("drop_head", "x", "of shape (N, H, ...)", got))
    head_axis = _head_axis("drop_head", head_axis, axes)
    draws.require_whole(head_axis)
    if not draws.training:
        return x
    xp = draws.xp
    keep = draws.keep(shared_axes=tuple(i for i in range(axes) if i not in (0, head_axis)))
    kept = xp.sum(xp.astype(keep, xp.int32), axis=head_axis, keepdims=True)
    # With none kept nothing is selected, and 1 stands in for a division by 0.
    kept = xp.astype(xp.where(kept == 0, xp.ones_like(kept), kept), xp.float64)
    return draws.select(x, keep, draws.shape[head_axis] / kept)


# A dropped logit. exp of it is 0 beside any kept logit above -3e4; it is a number in float16, where
# a bias of the same size may still be added to it; and it is exact in every type: -15 * 2^11.
DROPPED = -30720.0


def _key_moments(x: Any, p: float) -> tuple[Any, Any]:
    return (1.0 - p) * x + p * DROPPED, p * (1.0 - p) * (x - DROPPED) ** 2


@method(
    title="DropKey",
    rank="first",
    target="attention logits",
    formula="y = x where m, else -30720 (softmax's zero),  m ~ Bernoulli(1 - p);  before softmax",
    law=PLAIN_BERNOULLI,
    scale="1: softmax normalises the rest",
    fill="-30720, whose softmax is 0",
    moments=Moments("(1 - p) x - 30720 p", "p (1 - p) (x + 30720)^2", _key_moments),
    papers=(LI,),
    module="DropKey",
    sample=Sample(
        shape=(3, 4, 3, 5), independent=(0, 1, 2, 3), splits=(0, 1, 2, 3), p_one="finite",
        linear=False, dropped=None, dropped_as=DROPPED,
    ),
    takes=("rates",),
    note="In place of attention dropout in vision transformers, where rows must sum to 1. In the "
    "paper p falls with depth.",
)  # fmt: skip
def drop_key(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop keys before attention's softmax, so that the remaining weights sum to 1.

    y = x where m, else -30720,  m ~ Bernoulli(1 - p), one draw per query and key;
    the weights are softmax(y).

    The softmax of -30720 is exactly 0 beside a kept logit above -30600, and so is that of a key
    that was masked with -inf, which stays -inf. Where every key of a row is dropped all are equal,
    and the softmax is uniform over the keys that are not masked: no NaN. In float16 too.

    Parameters
    ----------
    x : array, shape (..., queries, keys), floating: logits, scaled, above -30600 or -inf where a
        key is masked. Never modified.
    p : float in [0, 1]. Probability of dropping a key for a query; p = 1 gives uniform weights.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself: nothing was rescaled.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype: logits. Logits below -30720 are never raised. E[y] =
    (1 - p) x - 30720 p.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN. TypeError if x is not floating.

    References
    ----------
    Li et al., 2023, arXiv:2208.02646, who add -1e12 to dropped logits, which float16 cannot
    represent.
    """
    draws = Draws("drop_key", x, p, at, training, window, mirror)
    if not draws.training:
        return x
    return _without_keys(draws, x)


def _without_keys(draws: Draws, x: Any, shared_axes: tuple[int, ...] = ()) -> Any:
    y = draws.noise(x, scale=1.0, fill=DROPPED, shared_axes=shared_axes)
    # A masked key stays masked when it is dropped; of a NaN the comparison is false, and y rules.
    return draws.typed(draws.xp.where(draws.x < DROPPED, draws.x, y), x.dtype)


@method(
    title="HiddenKey",
    rank="second",
    target="columns of attention logits",
    formula="y = x where m, else -30720 (softmax's zero),  m ~ Bernoulli(1 - p), one draw per key;"
    "  before softmax",
    law=PLAIN_BERNOULLI,
    shared="the queries: a key that is dropped is so for all of them",
    scale="1: softmax normalises the rest",
    fill="-30720, whose softmax is 0",
    moments=Moments("(1 - p) x - 30720 p", "p (1 - p) (x + 30720)^2", _key_moments),
    papers=(WANG,),
    source="The paper's form by columns, on logits as in drop_key. Its other two parts are methods "
    "of their own: dropout on the hidden states, and the divergence of r_drop. The authors publish "
    "no code; code of others for ESM3 that follows the paper draws alike, for each sample, head "
    "and key, and rescales nothing. It writes -inf, of which a row without any key is NaN.",
    aliases={"the paper's other parts": ("column-wise DropKey",)},
    module="HiddenKey",
    sample=Sample(
        shape=(3, 2, 4, 5),
        independent=(0, 1, 3),
        splits=(0, 1, 2, 3),
        p_one="finite",
        linear=False,
        dropped=None,
        dropped_as=DROPPED,
    ),
    takes=("rates",),
    note="For fine-tuning with low-rank adapters, together with dropout on the hidden states and, "
    "where its second pass is affordable, r_drop.",
)
def hidden_key(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop keys for all queries at once, before attention's softmax (column-wise DropKey).

    y = x where m, else -30720,  m ~ Bernoulli(1 - p), one draw per key;
    the weights are softmax(y).

    Dropped logits behave as in `drop_key`: they weigh exactly 0 beside a kept one,
    and where every key is dropped the softmax is uniform over the keys that are not masked.

    Parameters
    ----------
    x : array, shape (..., queries, keys), floating: logits, scaled, above -30600 or -inf where a
        key is masked. Never modified.
    p : float in [0, 1]. Probability of dropping a key; p = 1 gives uniform weights.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself: nothing was rescaled.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype: logits. E[y] = (1 - p) x - 30720 p.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or x has fewer than two axes. TypeError if x is not
    floating.

    References
    ----------
    Wang et al., 2024, arXiv:2403.00812, who use it with dropout on each element of the hidden
    states and the two-way divergence of two passes: `thinned.dropout` and `thinned.r_drop`.
    """
    draws = Draws("hidden_key", x, p, at, training, window, mirror)
    axes = len(draws.shape)
    if axes < 2:
        got = f"shape {draws.shape}"
        raise ValueError(message("hidden_key", "x", "of shape (..., queries, keys)", got))
    if not draws.training:
        return x
    return _without_keys(draws, x, (axes - 2,))
