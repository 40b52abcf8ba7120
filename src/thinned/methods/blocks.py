"""Contiguous blocks of a map: DropBlock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from thinned import checks
from thinned.address import Address
from thinned.backends.base import device_of
from thinned.checks import message
from thinned.methods.arguments import one_of
from thinned.methods.draws import Draws
from thinned.methods.spatial import channel_of, require_channel
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["drop_block", "exact_gamma", "paper_gamma"]

GHIASI = Paper(
    "Ghiasi, Lin, Le", 2018, "DropBlock: a regularization method for convolutional networks",
    "arXiv:1810.12890",
)  # fmt: skip

GAMMAS = ("exact", "paper")
RESCALES = ("sample", "batch")

# Steps of Newton's method from the right end. The function it solves is nearly linear: of 6,000
# cases, p from 1e-12 to 1 - 1e-12 on maps of 1 to 3 axes, the worst needed 8 to come to rest.
NEWTON = 9


def _coverage(maps: Sequence[int], block: Sequence[int]) -> tuple[list[float], list[float]]:
    """The numbers n of seeds that cover an element of the map, and the share of elements of each.

    Along one axis an element is covered from as many places as blocks over it fit; along several
    these numbers multiply.
    """
    share: dict[int, float] = {1: 1.0}
    for length, b in zip(maps, block, strict=True):
        longer: dict[int, float] = {}
        length = int(length)  # of a compiler's symbol: it is counted through
        for i in range(length):
            n = min(i, length - b) - max(0, i - b + 1) + 1
            longer[n] = longer.get(n, 0.0) + 1.0
        before, share = share, {}
        for m, part in before.items():
            for n, count in longer.items():
                share[m * n] = share.get(m * n, 0.0) + part * count / length
    return [float(n) for n in share], list(share.values())


@lru_cache(maxsize=1024)
def exact_gamma(p: float, maps: tuple[int, ...], block: tuple[int, ...]) -> float:
    """Probability of a seed at which the mean share of dropped elements is p.

    Solves mean over elements of (1 - gamma)^n = 1 - p, n the seeds that cover the element, in
    t = ln(1 - gamma): the logarithm of the left side is convex and nearly linear in t, so that
    Newton's method from t = 0 comes down to the root without a step too far.

    Parameters
    ----------
    p : float in [0, 1].
    maps, block : tuples of ints. Lengths of the map and of the block along each spatial axis.

    Returns
    -------
    float in [0, p].
    """
    if p in (0.0, 1.0):
        return p
    n, share = _coverage(maps, block)
    wanted, t = math.log1p(-p), 0.0
    for _ in range(NEWTON):
        # Less 1, so that a small p keeps its digits.
        dropped = math.fsum([w * math.expm1(k * t) for k, w in zip(n, share, strict=True)])
        rise = math.fsum([w * k * math.exp(k * t) for k, w in zip(n, share, strict=True)])
        t = min(0.0, t - (math.log1p(dropped) - wanted) * (1.0 + dropped) / rise)
    return -math.expm1(t)


def _exact_gamma_of_array(xp: Any, p: Any, maps: Sequence[int], block: Sequence[int]) -> Any:
    """The same for a p that is a 0-d array in a compiled program."""
    n, share = _coverage(maps, block)
    n, share = (xp.asarray(values, dtype=xp.float64) for values in (n, share))
    p = xp.astype(p, xp.float64)
    wanted = xp.log1p(-xp.where(p == 1.0, 0.5, p))
    t = 0.0 * wanted
    for _ in range(NEWTON):
        dropped = xp.sum(share * xp.expm1(n * t))
        rise = xp.sum(share * n * xp.exp(n * t))
        step = t - (xp.log1p(dropped) - wanted) * (1.0 + dropped) / rise
        t = xp.where(step < 0.0, step, 0.0 * step)
    return xp.where((p == 0.0) | (p == 1.0), p, -xp.expm1(t))


def paper_gamma(p: Any, maps: Sequence[int], block: Sequence[int]) -> Any:
    """Equation 1 of the paper: p |map| / (|block| times the places where a block fits).

    It counts an element that two blocks cover twice, and so drops less than p.
    """
    places = [n - b + 1 for n, b in zip(maps, block, strict=True)]
    return p * (math.prod(maps) / (math.prod(block) * math.prod(places)))


def _length(who: str, length: Any) -> int:
    return checks.integer(who, "block_size", length, 1, 2**31)


def _check(
    who: str, block_size: Any, gamma: Any, shared_channels: Any, rescale: Any, with_noise: Any,
    channel_axis: Any,
) -> None:  # fmt: skip
    for length in block_size if isinstance(block_size, (tuple, list)) else (block_size,):
        _length(who, length)
    one_of(who, "gamma", gamma, GAMMAS)
    one_of(who, "rescale", rescale, RESCALES)
    checks.flag(who, "shared_channels", shared_channels)
    checks.flag(who, "with_noise", with_noise)
    require_channel(who, channel_axis)


def _block(who: str, block_size: Any, maps: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of the block along the map's axes."""
    if isinstance(block_size, (tuple, list)):
        if len(block_size) != len(maps):
            requirement = f"one integer, or one for each of the {len(maps)} spatial axes"
            raise ValueError(message(who, "block_size", requirement, tuple(block_size)))
        lengths = tuple(block_size)
    else:
        lengths = (block_size,) * len(maps)
    block = tuple(_length(who, b) for b in lengths)
    if any(b > n for b, n in zip(block, maps, strict=True)):
        requirement = f"no larger than the map, which is {' x '.join(map(str, maps))}"
        got = " x ".join(map(str, block))
        remedy = "Take a smaller block here, or drop no blocks on maps as small as this."
        raise ValueError(message(who, "block_size", requirement, got, remedy))
    return block


def _spread(xp: Any, keep: Any, spatial: Sequence[int], block: Sequence[int]) -> Any:
    """False wherever a block lies that begins at a False of `keep`: axis after axis, as is right
    also where the array is divided among devices along others."""
    for axis, b in zip(spatial, block, strict=True):
        before, n = (slice(None),) * axis, keep.shape[axis]
        covered = 1
        while covered < b:
            more = min(covered, b - covered)
            first = keep[(*before, slice(0, more))]
            nothing = first | ~first  # True, and divided as keep is
            moved = xp.concat([nothing, keep[(*before, slice(0, n - more))]], axis=axis)
            keep, covered = keep & moved, covered + more
    return keep


def _spread_in_line(xp: Any, keep: Any, spatial: Sequence[int], block: Sequence[int]) -> Any:
    """The same where an array is one line of memory, in fewer and longer steps.

    A step along an axis is a step through memory. Blocks fit, so that none runs over the end of a
    row into the next: the whole batch is one line of bytes, which is put together with itself
    moved, by 1, 2, 4, ... places. What lies before the first element is True.
    """
    lengths = tuple(keep.shape)
    strides = [math.prod(lengths[axis + 1 :]) for axis in spatial]
    before = sum((b - 1) * stride for b, stride in zip(block, strides, strict=True))
    line = xp.reshape(keep, (-1,))
    ones = xp.ones((before,), dtype=line.dtype, device=device_of(line))
    line = xp.concat([ones, line])
    for b, stride in zip(block, strides, strict=True):
        covered = 1
        while covered < b:
            more = min(covered, b - covered)
            step = more * stride
            line = line[step:] & line[: line.shape[0] - step]
            covered += more
    return xp.reshape(line, lengths)


@method(
    title="DropBlock",
    rank="first",
    target="blocks of units",
    formula="y = x m numel / kept,  m = 0 in every block that begins at a seed, seeds ~ "
    "Bernoulli(gamma) where a whole block fits",
    shared="the elements of a block; all channels with shared_channels=True",
    scale="numel / kept, counted in each sample or over the batch",
    moments=Moments(
        "about x k / (mean of k),  k = (1 - gamma)^n the probability of being kept, n the number "
        "of seeds that cover the element; exactly x where all n are equal. No closed form, "
        "because the scale is random too",
        "about x^2 k (1 - k) / (mean of k)^2; the more blocks fit into a sample, the more accurate",
    ),
    papers=(GHIASI,),
    aliases={
        "torchvision": (
            "ops.DropBlock2d", "ops.DropBlock3d", "ops.drop_block2d", "ops.drop_block3d",
        ),
        "timm": ("DropBlock2d", "drop_block_2d", "drop_block_fast_2d"),
        "KerasCV": ("DropBlock2D",),
    },
    module="DropBlock",
    check=_check,
    sample=Sample(
        shape=(3, 2, 6, 5), options={"block_size": (2, 3)}, dropped=None, splits=(0,), draws=500
    ),
    takes=("complex",),
    note="For convolutions, where spatial dropout removes too much and dropout too little. The "
    "paper raises p from 0 over training.",
)  # fmt: skip
def drop_block(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    block_size: int | tuple[int, ...] = 7,
    gamma: str = "exact",
    shared_channels: bool = False,
    rescale: str = "sample",
    with_noise: bool = False,
    channel_axis: int = 1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop contiguous blocks of feature maps (DropBlock).

    y = x m numel(m) / sum(m), where m is 0 in every block that begins at a seed, and seeds are
    drawn with probability gamma wherever a whole block fits into the map.

    gamma="exact" solves mean over ij of [1 - (1 - gamma)^n_ij] = p, with n_ij the seeds whose block
    covers element ij, so that the mean share of dropped elements is p. The paper's gamma,
    p H W / (b^2 (H - b + 1)(W - b + 1)), counts elements covered by two blocks twice, and drops
    less unless only one block fits. Some libraries allow seeds at every place of the map, with the
    same gamma and with blocks cut off at the border. They drop more, and on small maps nearly all.

    Mean share dropped over 2,000 draws of 64 maps each, blocks of 7 x 7:

    =======  ===  ======  ======  ================
    map      p    exact   paper   seeds everywhere
    =======  ===  ======  ======  ================
    7 x 7    0.1  0.1000  0.1000  0.9297
    7 x 7    0.3  0.3011  0.3011  0.9995
    14 x 14  0.1  0.0995  0.0923  0.2093
    14 x 14  0.3  0.2994  0.2427  0.5020
    28 x 28  0.1  0.0998  0.0937  0.1329
    28 x 28  0.3  0.2999  0.2500  0.3476
    =======  ===  ======  ======  ================

    Parameters
    ----------
    x : array, shape (N, C, L), (N, C, H, W) or (N, C, D, H, W), floating; channels elsewhere by
        channel_axis. Never modified.
    p : float in [0, 1]. Mean share of elements dropped (with gamma="paper": as above); p = 1 gives
        zeros with gamma="exact".
    at : Address. Equal addresses give equal masks on every backend. A seed's draw is that of the
        element at which its block begins.
    training : bool. False gives x itself.
    block_size : int, or a tuple with one for each spatial axis, elements; even ones too. 1 drops
        single elements.
    gamma : "exact" or "paper".
    shared_channels : bool. One mask for all channels of a sample.
    rescale : "sample" or "batch". Where the dropped elements are counted for the scale: in each
        sample, which makes samples independent, or in the whole batch, as in the paper's code.
        No window may split what is counted.
    with_noise : bool. Put standard normal noise (draw 1) into the blocks, and rescale nothing, as
        timm's option of this name does.
    channel_axis : int. 1 is channels first, -1 channels last.
    window : Window or None. Where x sits in a larger logical array; it must hold whole samples.
    mirror : bool. The antithetic draw.

    Returns
    -------
    array of x's kind, shape and dtype. The scale makes the mean of the mask 1 in each sample (or in
    the batch), so that E[y] is near x; elements at the border, which fewer blocks cover, are kept
    more often than those in the middle. Where everything is dropped, zeros.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, the block is larger than the map, an option is
    unknown, x is no batch of maps, the channel axis does not exist, or the window splits what must
    be whole. TypeError if x is not floating.

    References
    ----------
    Ghiasi, Lin and Le, 2018, arXiv:1810.12890.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> at = thinned.Address(seed=9)
    >>> thinned.drop_block(np.ones((1, 1, 4, 4)), 0.25, at, block_size=2)[0, 0]
    array([[2., 2., 0., 0.],
           [2., 2., 0., 0.],
           [2., 2., 0., 0.],
           [2., 2., 0., 0.]])
    """
    who = "drop_block"
    draws = Draws(who, x, p, at, training, window, mirror)
    shape = draws.shape
    channel = channel_of(who, shape, channel_axis, range(3, 6))
    spatial = tuple(axis for axis in range(1, len(shape)) if axis != channel)
    maps = tuple(shape[axis] for axis in spatial)
    block = _block(who, block_size, maps)
    _check(who, block_size, gamma, shared_channels, rescale, with_noise, channel_axis)
    if not draws.training:
        return x
    draws.require_whole(*range(0 if rescale == "batch" else 1, len(shape)))
    xp = draws.xp
    if gamma == "paper":
        rate = paper_gamma(draws.p, maps, block)
    elif isinstance(draws.p, float) and not draws.backend.compiling():
        rate = exact_gamma(draws.p, maps, block)
    else:
        rate = _exact_gamma_of_array(xp, xp.asarray(draws.p), maps, block)
    seedless = draws.keep(rate, (channel,) if shared_channels else ())
    in_line = draws.backend.lies_in_line
    spread = _spread_in_line if in_line else _spread
    seedless = draws.backend.undivided(seedless, spatial)
    keep = spread(xp, seedless | _fitless(xp, x, spatial, block), spatial, block)
    if with_noise:
        return draws.select(x, keep, 1.0, draws.gaussian(number=1))
    return draws.select(x, keep, _scale(xp, keep, rescale, in_line))


def _fitless(xp: Any, x: Any, spatial: Sequence[int], block: Sequence[int]) -> Any:
    """Where no whole block can begin, in a shape that broadcasts to x's."""
    out: Any = False
    for axis, b in zip(spatial, block, strict=True):
        n = x.shape[axis]
        places = xp.arange(n, device=device_of(x)) > n - b
        out = out | xp.reshape(places, (n,) + (1,) * (len(x.shape) - axis - 1))
    return out


def _scale(xp: Any, keep: Any, rescale: str, in_line: bool) -> Any:
    """numel / kept of each sample or of the batch, 1 where nothing is kept; to broadcast."""
    shape = tuple(keep.shape)
    # Sums of a row in binary32, which is exact to 2^24 and several times as fast as in integers.
    rows, row = math.prod(shape[1:-2]), math.prod(shape[-2:])
    single = xp.float32 if row <= 2**24 else xp.float64
    counted = xp.astype(keep, single)
    if in_line:
        kept = xp.sum(xp.reshape(counted, (shape[0], rows, row)), axis=-1)
    else:
        kept = xp.reshape(xp.sum(counted, axis=(-2, -1)), (shape[0], rows))
    kept = xp.sum(xp.astype(kept, xp.float64), axis=-1)
    numel = math.prod(shape[1:])
    if rescale == "batch":
        kept, numel = xp.sum(kept, axis=0, keepdims=True), numel * shape[0]
    scale = xp.where(kept > 0.0, numel / xp.where(kept > 0.0, kept, 1.0), 1.0)
    return xp.reshape(scale, tuple(scale.shape) + (1,) * (len(shape) - 1))
