"""A bank of fixed masks instead of fresh ones: Masksembles."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinned import checks, reference
from thinned.address import Address
from thinned.backends import backend_of
from thinned.backends.base import device_of
from thinned.checks import message, shown, written
from thinned.foreign_arguments import answering
from thinned.methods.arguments import number, require_alike
from thinned.methods.table import Moments, Paper, method
from thinned.window import Window

__all__ = ["masksembles", "masksembles_bank"]

DURASOV = Paper(
    "Durasov, Bagautdinov, Baque, Fua", 2020, "Masksembles for uncertainty estimation",
    "arXiv:2012.08334",
)  # fmt: skip

# Draws of a bank until one covers the features exactly; one in 3 to one in 50 does.
TRIES = 2000
# Words to a draw of a bank, at most: it takes half a second then.
PLACES = 2**20


def _sizes(features: int, n: int, scale: float) -> tuple[int, int]:
    """Ones in each mask, and positions that they are drawn from, so that n masks are expected to
    use `features` of the positions."""
    used = 1.0 if scale == 1.0 else -scale * math.expm1(n * math.log1p(-1.0 / scale))
    ones = round(features / used)
    if not ones:
        requirement = f"small enough for a mask to keep one of {features} features"
        remedy = f"{n} masks at this scale take {used:.3g} times the features of one."
        raise ValueError(message("masksembles_bank", "scale", requirement, f"{scale:g}", remedy))
    if n == 1:  # which uses what it takes, of however many
        return ones, ones
    most = int(min(math.ceil(min(ones * scale, PLACES)) + features, max(PLACES // n, features)))

    def uses(t: int) -> float:
        """Positions of t that the masks are expected to use, which grows with t."""
        return t * (1.0 - (1.0 - ones / t) ** n)

    enough = bisect_left(range(most), 0, lo=ones, key=lambda t: int(uses(t) >= features) - 1)
    nearest = range(max(ones, enough - 1), min(enough, most) + 1)
    return ones, min(nearest, key=lambda t: abs(uses(t) - features))


@answering
def masksembles_bank(
    features: int, at: Address, *, n: int = 4, scale: float = 2.0
) -> NDArray[np.bool_]:
    """A bank of n masks for Masksembles, each with the same number of ones.

    Each mask takes m of about m s positions, every choice equally likely; positions that none of
    the masks takes fall away, and banks are drawn until exactly `features` are left. The masks
    overlap the less, the larger s: two share m / s ones on average. With s = 1 all are the same,
    full one: a single network; with s going to infinity none share any: an ensemble.

    Parameters
    ----------
    features : int >= 1. Units, or channels, of the layer.
    at : Address. Equal addresses give equal banks; bank number d is drawn at `at.fold_in(d)`.
    n : int >= 1. How many masks.
    scale : float >= 1. The paper's S. m is the integer nearest to features / (s (1 - (1 - 1/s)^n)).

    Returns
    -------
    boolean array of NumPy, shape (n, features): True is kept. Each feature is kept by one mask at
    least.

    Raises
    ------
    ValueError if a number is out of its range, or the features are too few for masks at this scale.
    TypeError if a number is none.

    References
    ----------
    Durasov et al., 2020, arXiv:2012.08334, whose code varies the scale as well until the number of
    features fits.

    Examples
    --------
    >>> import thinned
    >>> thinned.masksembles_bank(8, thinned.Address(seed=1), n=2).astype(int)
    array([[1, 1, 0, 1, 0, 1, 1, 0],
           [0, 1, 1, 0, 1, 0, 1, 1]])
    """
    who = "masksembles_bank"
    features = checks.integer(who, "features", features, 1, 2**31)
    n = checks.integer(who, "n", n, 1, 2**16)
    scale = number(who, "scale", scale, 1.0)
    if not isinstance(at, Address):
        remedy = "Give the bank its address: thinned.Address(seed=0, site='fc1')."
        raise TypeError(message(who, "at", "a thinned.Address", type(at).__name__, remedy))
    if n * features > PLACES // 2:
        requirement = f"at most {PLACES // 2 // n} for {n} masks"
        remedy = "Draw a bank of fewer features, and repeat it along the features' axis."
        raise ValueError(message(who, "features", requirement, features, remedy))
    ones, positions = _sizes(features, n, scale)
    index = np.arange(n * positions, dtype=np.uint64).reshape(n, positions)
    for d in range(TRIES):
        words = reference.words(at if d == 0 else at.fold_in(d), index).astype(np.int64)
        order = np.argsort(-words, axis=1, kind="stable")
        bank: NDArray[np.bool_] = np.argsort(order, axis=1, kind="stable") < ones
        bank = bank[:, bank.any(axis=0)]
        if bank.shape[1] == features:
            return bank
    raise ValueError(
        f"{who}: {n} masks of {ones} ones at scale {scale:g} do not cover {features} features "
        "exactly. Take a smaller scale or fewer masks."
    )


@method(
    title="Masksembles",
    rank="second",
    target="units",
    formula="y = x m_i,  row r of N takes mask i = floor(r n / N) of a bank of n fixed masks",
    shared="all rows of a chunk of the batch, and the axes after the features'",
    scale="1: nothing is rescaled",
    inference="the same as training",
    papers=(DURASOV,),
    aliases={"masksembles": ("Masksembles1D", "Masksembles2D")},
    moments=Moments("x m_i: nothing is drawn in a call", "0"),
    module="Masksembles",
    apart="Calls draw nothing: the masks are fixed, and the function takes no address.",
    picture=lambda p, at: masksembles_bank(40, at),
    note="An ensemble for the price of one network: repeat a batch n times for n predictions, and "
    "their spread is a sign of uncertainty, to be calibrated (docs/members.md).",
)
def masksembles(x: Any, bank: Any, *, axis: int = 1, window: Window | None = None) -> Any:
    """Apply a fixed bank of masks, one per chunk of the batch, in training and in evaluation.

    y = x m_i where row r of a batch of N takes mask i = floor(r n / N): the first N / n rows the
    first mask, and so on. Nothing is drawn and nothing rescaled.

    Parameters
    ----------
    x : array, shape (N, ...), floating, with the features along `axis`. N is a multiple of the
        number of masks. Never modified.
    bank : boolean array of x's kind, shape (n, features): `masksembles_bank`, or your own masks.
    axis : int. The axis of the features; not 0, which is that of the samples.
    window : Window or None. Where x sits in a larger logical batch, whose rows count then; it needs
        a global_shape, and must hold the whole features' axis.

    Returns
    -------
    array of x's kind, shape and dtype; dropped elements are zero for any input.

    Raises
    ------
    ValueError if N is no multiple of n, the bank has another number of features than x, the axis
    does not exist or is 0, or the window does not fit. TypeError if x is not floating or the bank
    not boolean.

    References
    ----------
    Durasov et al., 2020, arXiv:2012.08334.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> bank = np.array([[True, True, False], [False, True, True]])
    >>> thinned.masksembles(np.ones((4, 3)), bank)
    array([[1., 1., 0.],
           [1., 1., 0.],
           [0., 1., 1.],
           [0., 1., 1.]])
    """
    who = "masksembles"
    backend = backend_of(who, x)
    backend.require_floating(who, x)
    xp, shape, given = backend.namespace, tuple(x.shape), x.dtype
    if len(shape) < 2:
        raise ValueError(message(who, "x", "of shape (N, ...), a batch", f"shape {shape}"))
    along = checks.integer(who, "axis", axis, -len(shape), len(shape)) % len(shape)
    if along == 0:
        requirement = "another axis than 0, along which the samples lie"
        raise ValueError(message(who, "axis", requirement, axis))
    bank, x = require_alike(who, "bank", bank, "x", x), backend.plain(x)
    if bank.dtype != xp.bool:
        got = f"{type(bank).__name__} of {getattr(bank, 'dtype', 'no type')}"
        raise TypeError(message(who, "bank", "a boolean array of x's kind", got))
    if len(bank.shape) != 2 or bank.shape[1] != shape[along] or not bank.shape[0]:
        requirement = f"of shape (n, {shape[along]}), a mask in each row"
        raise ValueError(message(who, "bank", requirement, f"shape {tuple(bank.shape)}"))
    n, rows, start = bank.shape[0], shape[0], 0
    if window is not None:
        if not isinstance(window, Window):
            got = shown(window)
            raise TypeError(message(who, "window", "a thinned.Window", got))
        if window.global_shape is None:
            requirement = "given its global_shape, whose rows are shared out to the masks"
            raise ValueError(message(who, "window", requirement, written(window)))
        window.require_whole(who, shape, (along,))
        start, rows = window.start[0], window.global_shape[0]  # type: ignore[index]
    if rows % n:
        requirement = f"a multiple of the {n} masks"
        remedy = f"For {n} predictions of each sample repeat the batch {n} times."
        raise ValueError(message(who, "the number of rows", requirement, rows, remedy))
    row = xp.arange(start, start + shape[0], dtype=xp.int64, device=device_of(x))
    mask = xp.take(bank, row // max(1, rows // n), axis=0)
    form = tuple(m if a in (0, along) else 1 for a, m in enumerate(shape))
    zero = xp.zeros((), dtype=x.dtype, device=device_of(x))
    y = xp.where(xp.reshape(mask, form), x, zero)
    return y if y.dtype == given else xp.astype(y, given)
