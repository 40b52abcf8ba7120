"""Words: tokens replaced one by one (word dropout), or by vocabulary row (embedding dropout)."""

from __future__ import annotations

from typing import Any

from thinned import checks
from thinned.address import Address
from thinned.checks import message, written
from thinned.laws import BERNOULLI, PLAIN_BERNOULLI
from thinned.methods.arguments import id_outside
from thinned.methods.draws import Draws
from thinned.methods.recurrent import GAL, MERITY
from thinned.methods.table import Moments, Paper, Sample, inverted, method
from thinned.window import Window

__all__ = ["embedding_dropout", "word_dropout"]

IYYER = Paper(
    "Iyyer, Manjunatha, Boyd-Graber, Daumé", 2015,
    "Deep unordered composition rivals syntactic methods for text classification", "ACL 2015",
)  # fmt: skip
BOWMAN = Paper(
    "Bowman, Vilnis, Vinyals, Dai, Jozefowicz, Bengio", 2016,
    "Generating sentences from a continuous space", "arXiv:1511.06349",
)  # fmt: skip


def _token_moments(x: Any, p: float, unk: int, **_: Any) -> tuple[Any, Any]:
    return (1.0 - p) * x + p * unk, p * (1.0 - p) * (x - unk) ** 2.0


def _check(who: str, unk: Any, spare: Any, low: int = -(2**63), high: int = 2**64) -> list[int]:
    """The ids to spare; unk must be an id in [low, high)."""
    checks.integer(who, "unk", unk, low, high)
    if not isinstance(spare, (tuple, list)):
        raise TypeError(message(who, "spare", "a tuple of ids", written(spare)))
    return [checks.integer(who, "an id in spare", i, -(2**63), 2**63) for i in spare]


@method(
    title="Word dropout",
    rank="second",
    target="tokens",
    formula="y = x where m, else unk,  m ~ Bernoulli(1 - p);  x are token ids",
    law=PLAIN_BERNOULLI,
    scale="1: ids are not scaled",
    fill="unk, the id of the unknown word",
    moments=Moments("(1 - p) x + p unk", "p (1 - p) (x - unk)^2", _token_moments),
    papers=(BOWMAN, IYYER),
    module="WordDropout",
    check=_check,
    sample=Sample(
        shape=(6, 5),
        arrays=lambda rng: (rng.integers(1, 50, (6, 5)),),
        options={"unk": 0},
        independent=(0, 1),
        splits=(0, 1),
        p_one="zeros",
        grad=False,
        dtypes=(),
    ),
    takes=("rates",),
    note="For language models and text classifiers that rely on single words. The decoder of a "
    "variational autoencoder needs a high p, .3 and more.",
)
def word_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    unk: int,
    spare: tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Replace tokens by the unknown word.

    y = x where m, else unk,  m ~ Bernoulli(1 - p), one draw per token.

    Parameters
    ----------
    x : array, shape (N, L) or any, of integers: token ids. Never modified.
    p : float in [0, 1]. Probability of replacing a token; p = 1 replaces all.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself.
    unk : int. The id of the unknown word.
    spare : tuple of ints. Ids that are never replaced: padding, the beginning of a sentence.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or x's type cannot hold unk. TypeError if x is not of
    integers, or unk or an id to spare is none.

    References
    ----------
    Bowman et al., 2016, arXiv:1511.06349, with the unknown word; Iyyer et al., 2015, ACL, who
    omit the words from an average.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.word_dropout(np.arange(1, 9), 0.5, thinned.Address(seed=1), unk=0)
    array([0, 0, 0, 0, 5, 6, 7, 0])
    """
    draws = Draws("word_dropout", x, p, at, training, window, mirror, integers=True)
    xp = draws.xp
    limits = xp.iinfo(x.dtype)
    ids = _check("word_dropout", unk, spare, int(limits.min), int(limits.max) + 1)
    if not draws.training:
        return x
    keep = draws.keep()
    for spared in ids:
        keep = keep | (draws.x == spared)
    return draws.typed(xp.where(keep, draws.x, xp.full_like(draws.x, int(unk))), x.dtype)


@method(
    title="Embedding dropout",
    rank="second",
    target="vocabulary rows",
    formula="y = W m / (1 - p),  m ~ Bernoulli(1 - p), one draw per row of the embedding W",
    law=BERNOULLI,
    shared="all axes but the first: a word is dropped everywhere or nowhere",
    moments=inverted("W"),
    papers=(GAL, MERITY),
    aliases={"awd-lstm-lm": ("embedded_dropout",), "fastai": ("EmbeddingDropout",)},
    module="EmbeddingDropout",
    sample=Sample(shape=(8, 5), independent=(0,)),
    takes=("complex", "sparse", "rates"),
    note="For recurrent language models, p = .1, together with locked dropout.",
)
def embedding_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    tokens: Any = None,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop whole words from an embedding, the same ones wherever they occur.

    y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per row of x; with tokens, the rows of y at
    these indices.

    Parameters
    ----------
    x : array, shape (V, D), floating: the embedding's weight. Never modified.
    p : float in [0, 1]. Probability of dropping a word; p = 1 gives zeros.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives x itself, or its rows.
    tokens : array of integers in [0, V), any shape, of x's kind, or None. None returns the whole
        weight. Tokens are looked up without a pass over it. Their range is not checked in a
        compiled program; on an accelerator the check waits for them.
    window, mirror : as in `thinned.dropout`; the window is that of x.

    Returns
    -------
    array of x's kind and dtype, of its shape, or of shape tokens.shape + (D,). E[y] = x for p < 1;
    Var[y] = x^2 p / (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or x has no axis; or tokens are given and x has not
    two axes. TypeError if x is not floating, or tokens are not integers. IndexError if a token is
    outside of [0, V).

    References
    ----------
    Gal and Ghahramani, 2016, arXiv:1512.05287; Merity et al., 2018, arXiv:1708.02182.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> at = thinned.Address(seed=0)
    >>> thinned.embedding_dropout(np.ones((4, 2)), 0.5, at, tokens=np.array([0, 1, 0]))
    array([[2., 2.],
           [0., 0.],
           [2., 2.]])
    """
    who = "embedding_dropout"
    draws = Draws(who, x, p, at, training, window, mirror)
    axes = len(draws.shape)
    if not axes:
        raise ValueError(message(who, "x", "of shape (V, D)", "an array without axes"))
    others = tuple(range(1, axes))
    if tokens is None:
        return draws.noise(x, shared_axes=others) if draws.training else x
    if axes != 2:
        raise ValueError(message(who, "x", "of shape (V, D)", f"shape {draws.shape}"))
    tokens = draws.alike("tokens", tokens)
    draws.backend.require_integers(who, tokens, "tokens", "an array of integers")
    tokens = draws.xp.astype(tokens, draws.xp.int64)  # PyTorch takes an index of bytes for a mask
    draws.require_whole(0)
    wrong = id_outside(draws.backend, tokens, draws.shape[0])
    if wrong is not None:
        raise IndexError(message(who, "a token", f"in [0, {draws.shape[0]})", wrong))
    rows = draws.x[tokens]
    if not draws.training:
        return draws.typed(rows, x.dtype)
    keep = draws.keep(shared_axes=others)
    return draws.typed(draws.select(rows, keep[tokens], draws.rate()[1]), x.dtype)
