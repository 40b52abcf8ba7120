"""Regions of the input: Cutout's square, and random erasing's rectangle."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from thinned import checks
from thinned.address import Address
from thinned.backends.base import device_of
from thinned.checks import message, written
from thinned.methods.arguments import number
from thinned.methods.draws import Draws
from thinned.methods.spatial import channel_of, require_channel
from thinned.methods.table import Moments, Paper, Sample, method
from thinned.window import Window

__all__ = ["cutout", "random_erasing", "within"]

DEVRIES = Paper(
    "DeVries, Taylor", 2017,
    "Improved regularization of convolutional neural networks with Cutout", "arXiv:1708.04552",
)  # fmt: skip
ZHONG = Paper(
    "Zhong, Zheng, Kang, Li, Yang", 2017, "Random erasing data augmentation", "arXiv:1708.04896"
)

# Rectangles that each sample proposes. At the paper's ranges one in three lies inside the image,
# so that all miss once in 10^11.
PROPOSALS = 64


def within(xp: Any, x: Any, axis: int, start: Any, length: Any) -> Any:
    """Where axis's coordinate lies in [start, start + length), to broadcast with x."""
    n = x.shape[axis]
    place = xp.arange(n, dtype=xp.float64, device=device_of(x))
    place = xp.reshape(place, (n,) + (1,) * (len(x.shape) - axis - 1))
    return (place >= start) & (place < start + length)


def _covered(n: int, size: int) -> Any:
    """Share of the centres of a square whose side covers each coordinate of an axis."""
    i = np.arange(n)[:, None]
    start = np.arange(n)[None, :] - size // 2
    return ((i >= start) & (i < start + size)).mean(axis=1)


def _cutout_moments(
    x: Any, p: float, size: Any = 16, fill: float = 0.0, channel_axis: int = 1, **_: Any
) -> tuple[Any, Any]:
    spatial = [a for a in range(1, x.ndim) if a != channel_axis % x.ndim]
    sizes = size if isinstance(size, (tuple, list)) else (size,) * len(spatial)
    hit = np.full((1,) * x.ndim, float(p))
    for axis, side in zip(spatial, sizes, strict=True):
        share = _covered(x.shape[axis], side)
        hit = hit * share.reshape((-1,) + (1,) * (x.ndim - axis - 1))
    return x + hit * (fill - x), hit * (1.0 - hit) * (x - fill) ** 2


def _cutout_check(who: str, size: Any, fill: Any, channel_axis: Any) -> None:
    for side in size if isinstance(size, (tuple, list)) else (size,):
        checks.integer(who, "size", side, 1, 2**31)
    number(who, "fill", fill)
    require_channel(who, channel_axis)


@method(
    title="Cutout",
    rank="first",
    target="regions of the input",
    formula="y = fill in a square with its centre anywhere, cut off at the border; x elsewhere",
    shared="the elements of the square, all channels",
    scale="1",
    fill="fill",
    moments=Moments(
        "x + h (fill - x), h = p times the fraction of centres whose square covers the element",
        "h (1 - h) (x - fill)^2",
        _cutout_moments,
    ),
    papers=(DEVRIES,),
    aliases={
        "KerasCV": ("RandomCutout",),
        "albumentations": ("Cutout", "CoarseDropout"),
    },
    module="Cutout",
    check=_cutout_check,
    sample=Sample(
        shape=(3, 2, 5, 6), options={"size": (2, 3)}, p=0.7, dropped=None, splits=(0, 1),
        p_one="finite",
    ),
    takes=("complex", "rates"),
    note="Augmentation of small images. The paper cuts every image (p = 1) and fills with the "
    "mean of the normalised data.",
)  # fmt: skip
def cutout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    size: int | tuple[int, ...] = 16,
    fill: float = 0.0,
    channel_axis: int = 1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Cut a square out of each image, at any place, the border included (Cutout).

    y = fill in the square, x elsewhere, nothing rescaled. The centre is any element of the map with
    equal probability; the part of the square outside the image is cut off.

    Parameters
    ----------
    x : array, shape (N, C, L), (N, C, H, W) or (N, C, D, H, W), floating; channels elsewhere by
        channel_axis. Never modified.
    p : float in [0, 1]. Probability that a sample is cut; 1 in the paper.
    at : Address. Draw 0 decides which samples are cut, draw d is the centre's position on axis d.
    training : bool. False gives x itself.
    size : int, or a tuple with one for each spatial axis, elements. Side of the square; an even
        side reaches one element further before the centre than after it. The paper takes 16 for
        CIFAR-10, 8 for CIFAR-100.
    fill : float, finite. The value in the square.
    channel_axis : int. 1 is channels first, -1 channels last.
    window : Window or None. Where x sits in a larger logical array; it must hold whole maps.
    mirror : bool. The antithetic draw: other samples, and centres mirrored.

    Returns
    -------
    array of x's kind, shape and dtype. With h = p times the share of centres whose square covers
    the element: E[y] = x + h (fill - x); Var[y] = h (1 - h) (x - fill)^2.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, size is not positive, fill is not finite, x is no
    batch of maps, the channel axis does not exist, or the window splits a map. TypeError if x is
    not floating or fill no number.

    References
    ----------
    DeVries and Taylor, 2017, arXiv:1708.04552. Their code gives an odd side one element less.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.cutout(np.ones((1, 1, 3, 4)), 1.0, thinned.Address(seed=1), size=2)[0, 0]
    array([[0., 1., 1., 1.],
           [0., 1., 1., 1.],
           [1., 1., 1., 1.]])
    """
    who = "cutout"
    draws = Draws(who, x, p, at, training, window, mirror)
    shape = draws.shape
    channel = channel_of(who, shape, channel_axis, range(3, 6))
    spatial = tuple(axis for axis in range(1, len(shape)) if axis != channel)
    sizes = tuple(size) if isinstance(size, (tuple, list)) else (size,) * len(spatial)
    if len(sizes) != len(spatial):
        requirement = f"one integer, or one for each of the {len(spatial)} spatial axes"
        raise ValueError(message(who, "size", requirement, sizes))
    sizes = tuple(checks.integer(who, "size", side, 1, 2**31) for side in sizes)
    fill = number(who, "fill", fill)
    if not draws.training:
        return x
    draws.require_whole(*spatial)
    xp, shared = draws.xp, tuple(range(1, len(shape)))
    keep = draws.keep(draws.p, shared)
    hole: Any = ~keep
    for d, (axis, side) in enumerate(zip(spatial, sizes, strict=True), 1):
        # binary64, where no product of a uniform and a length is rounded up to the length
        u = xp.astype(draws.uniform(shared, number=d), xp.float64)
        hole = hole & within(xp, x, axis, xp.floor(u * shape[axis]) - side // 2, side)
    return draws.select(x, ~hole, 1.0, fill)


def _range(who: str, name: str, value: Any, high: float) -> tuple[float, float]:
    """A range of two numbers, 0 < first <= second <= high."""
    bounds = math.isinf(high)
    requirement = f"two numbers, 0 < first <= second{'' if bounds else f' <= {high:g}'}"
    pair = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, Real) for v in pair):
        raise TypeError(message(who, name, requirement, written(value)))
    first, second = float(pair[0]), float(pair[1])
    if not 0.0 < first <= second <= high or math.isinf(second):
        raise ValueError(message(who, name, requirement, pair))
    return first, second


def _erasing_check(who: str, scale: Any, ratio: Any, fill: Any, channel_axis: Any) -> None:
    _range(who, "scale", scale, 1.0)
    _range(who, "ratio", ratio, math.inf)
    number(who, "fill", fill)
    require_channel(who, channel_axis)


@method(
    title="Random erasing",
    rank="first",
    target="regions of the input",
    formula="y = fill in a rectangle of area s H W and sides' ratio r inside the image, "
    "s ~ U(scale), r ~ U(ratio); x elsewhere",
    shared="the elements of the rectangle, all channels",
    scale="1",
    fill="fill",
    moments=Moments(
        "x + h (fill - x), h the probability that the element is erased: at most p, lowest in "
        "corners; no closed form for h",
        "h (1 - h) (x - fill)^2",
    ),
    papers=(ZHONG,),
    aliases={
        "torchvision": ("transforms.RandomErasing", "transforms.v2.RandomErasing"),
        "timm": ("RandomErasing",),
        "Keras": ("RandomErasing",),
    },
    module="RandomErasing",
    check=_erasing_check,
    sample=Sample(
        shape=(4, 2, 6, 7), p=0.7, dropped=None, splits=(0, 1), p_one="finite", draws=500
    ),
    takes=("complex", "rates"),
    note="Augmentation of images against occlusion. The paper erases half of the images (p = .5), "
    "and gets its best results with random noise in each pixel instead of one fill value.",
)
def random_erasing(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    scale: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    fill: float = 0.0,
    channel_axis: int = 1,
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Erase a rectangle of random size and shape inside each image (random erasing).

    y = fill in the rectangle, x elsewhere, nothing rescaled. Its area is s H W with s ~ U(scale),
    its height over its width r ~ U(ratio), both sides rounded and 1 at least, its upper left corner
    any element of the image; rectangles that do not lie inside are drawn again.

    Parameters
    ----------
    x : array, shape (N, C, H, W), or (N, H, W, C) with channel_axis=-1; floating. Never modified.
    p : float in [0, 1]. Probability that a sample is erased; 0.5 in the paper.
    at : Address. Draw 0 decides which samples are erased; draws 1 to 4 are the area, the ratio, the
        row and the column of each of 64 proposals, of which the first that lies inside is taken.
        Where none does (once in 10^11 at these ranges), the first is cut off at the border.
    training : bool. False gives x itself.
    scale : (least, most), floats in (0, 1]. Share of the image's area.
    ratio : (least, most), positive floats. Height over width.
    fill : float, finite. The value in the rectangle.
    channel_axis : int. 1 is channels first, -1 channels last.
    window : Window or None. Where x sits in a larger logical array; it must hold whole maps.
    mirror : bool. The antithetic draw: other samples, and 1 - u for each u.

    Returns
    -------
    array of x's kind, shape and dtype.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, a range is empty or leaves its bounds, x is no batch
    of images, the channel axis does not exist, or the window splits an image. TypeError if x is not
    floating, a range is not two numbers or fill is no number.

    References
    ----------
    Zhong et al., 2017, arXiv:1708.04896, algorithm 1, which draws size and corner again until both
    fit, so that large rectangles are rarer. Their code, torchvision's and timm's draw the corner
    among those that fit, and torchvision's and timm's the logarithm of the ratio.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> thinned.random_erasing(np.ones((1, 1, 4, 5)), 1.0, thinned.Address(seed=2))[0, 0]
    array([[1., 1., 1., 1., 1.],
           [1., 1., 0., 0., 1.],
           [1., 1., 0., 0., 1.],
           [1., 1., 0., 0., 1.]])
    """
    who = "random_erasing"
    draws = Draws(who, x, p, at, training, window, mirror)
    shape = draws.shape
    channel = channel_of(who, shape, channel_axis, range(4, 5))
    across, along = (axis for axis in range(1, 4) if axis != channel)
    least, most = _range(who, "scale", scale, 1.0)
    low, high = _range(who, "ratio", ratio, math.inf)
    fill = number(who, "fill", fill)
    if not draws.training:
        return x
    draws.require_whole(across, along)
    xp, h, w = draws.xp, shape[across], shape[along]
    erased = ~draws.keep(draws.p, (1, 2, 3))
    # One proposal for each place along the first spatial axis of a shape of their own.
    many = tuple(n if a == 0 else PROPOSALS if a == across else 1 for a, n in enumerate(shape))
    u = [xp.astype(draws.uniform((channel,), many, d), xp.float64) for d in (1, 2, 3, 4)]
    area = (least + (most - least) * u[0]) * (h * w)
    tall = low + (high - low) * u[1]
    sides = xp.round(xp.sqrt(area * tall)), xp.round(xp.sqrt(area / tall))
    # On a tiny image a side may round to 0, and nothing would be erased.
    rows, columns = (xp.where(side < 1.0, xp.ones_like(side), side) for side in sides)
    top, left = xp.floor(u[2] * h), xp.floor(u[3] * w)
    inside = (top + rows <= h) & (left + columns <= w)
    first = xp.argmax(xp.astype(inside, xp.int32), axis=across, keepdims=True)
    top, left, rows, columns = (
        xp.take_along_axis(a, first, axis=across) for a in (top, left, rows, columns)
    )
    hole = within(xp, x, across, top, rows) & within(xp, x, along, left, columns)
    return draws.select(x, ~(erased & hole), 1.0, fill)
