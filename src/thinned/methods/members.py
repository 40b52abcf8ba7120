"""Members of an ensemble drawn against each other: stratified masks. Pairs have `mirror`."""

from __future__ import annotations

from typing import Any

from thinned import checks
from thinned.address import Address
from thinned.laws import BERNOULLI
from thinned.methods.draws import Draws
from thinned.methods.table import INVERTED, Paper, Sample, method
from thinned.window import Window

__all__ = ["stratified_dropout"]

CRANLEY = Paper(
    "Cranley, Patterson", 1976,
    "Randomization of number theoretic methods for multiple integration",
    "SIAM Journal on Numerical Analysis 13, 904-914",
)  # fmt: skip
HAMMERSLEY = Paper(
    "Hammersley, Morton", 1956, "A new Monte Carlo technique: antithetic variates",
    "Mathematical Proceedings of the Cambridge Philosophical Society 52, 449-475",
)  # fmt: skip

WHOLE = 2**32


@method(
    title="Antithetic and stratified members",
    rank="second",
    target="units",
    formula="y = x m / (1 - p),  m = [(u + k / K) mod 1 >= p]  for member k of K, u uniform; "
    "antithetic pair (mirror=True of every method): u and 1 - u",
    law=BERNOULLI,
    moments=INVERTED,
    papers=(CRANLEY, HAMMERSLEY),
    source="This library, for masks of dropout. The papers define both for integrals.",
    aliases={
        "Monte Carlo": (
            "antithetic", "antithetic variates", "mirror", "stratified", "stratified sampling",
        ),
    },
    sample=Sample(options={"member": 1, "members": 3}, independent=(0, 1), splits=(0, 1)),
    takes=("complex",),
    note="For a mean over K thinned networks with less noise than K independent masks give. For K "
    "= 2 at p = .5 the masks are complements of each other, as with mirror.",
)  # fmt: skip
def stratified_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    member: int,
    members: int,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Dropout with K members at one address, which drop each element equally often.

    y = x m / (1 - p);  m = 0 where (u + k / K) mod 1 < p, u the element's uniform draw.

    Each member alone is dropout: u + k / K is as uniform as u. Together they drop every element
    round(K p) times, plus or minus one; independent masks do so only on average. The
    shift is round(k 2^32 / K), and all comparisons are of integers.

    Parameters
    ----------
    x : array, any shape, floating. Never modified.
    p : float in [0, 1]. Probability of dropping an element; p = 1 gives zeros.
    at : Address. The same for all members; member 0 draws what `thinned.dropout` draws there.
    training : bool. False gives x itself.
    member : int in [0, members). k.
    members : int in [1, 2^32). K.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = x for p < 1; Var[y] = x^2 p / (1 - p); the mean
    of y over the K members has at most the variance caused by plus or minus one drop.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or member or members is out of range. TypeError if x
    is not floating, or they are no integers.

    References
    ----------
    The shifted lattice is Cranley and Patterson's, 1976; its pair is Hammersley and Morton's
    antithetic variate, 1956. Their use for dropout's masks is this library's own.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> at, x = thinned.Address(seed=1), np.ones(8)
    >>> for k in range(2):
    ...     print(thinned.stratified_dropout(x, 0.5, at, member=k, members=2))
    [0. 0. 0. 0. 2. 2. 2. 0.]
    [2. 2. 2. 2. 0. 0. 0. 2.]
    """
    who = "stratified_dropout"
    draws = Draws(who, x, p, at, training, window, mirror)
    members = checks.integer(who, "members", members, 1, WHOLE)
    member = checks.integer(who, "member", member, 0, members)
    if not draws.training:
        return x
    if member == 0:
        return draws.noise(x)
    threshold, scale = draws.rate()
    return draws.select(x, _outside(draws, WHOLE - _shift(member, members), threshold), scale)


def _shift(member: int, members: int) -> int:
    """member / members of 2^32, to the nearest; in integers, so that no large one is rounded."""
    return (2 * member * WHOLE + members) // (2 * members)


def _outside(draws: Draws, start: int, length: Any) -> Any:
    """Where u lies outside of [start, start + length) mod 2^32: two keep masks of the same draws.

    length may be a 0-d array in a compiled program, so both cases are written as one choice.
    """
    xp, end = draws.xp, start + length
    wraps = end > WHOLE
    if isinstance(wraps, bool):
        end = end - WHOLE if wraps else end
    else:
        end = xp.where(wraps, end - WHOLE, end)
    from_start, from_end = (
        draws.backend.keep(draws.draw(t, reduced=False), draws.x) for t in (start, end)
    )
    if isinstance(wraps, bool):
        return from_end & ~from_start if wraps else from_end | ~from_start
    return from_end & ~from_start | ~wraps & (from_end | ~from_start)
