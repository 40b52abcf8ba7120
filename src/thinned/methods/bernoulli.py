"""Dropout in both its forms, and the mask it draws."""

from __future__ import annotations

from typing import Any, Never

import numpy as np
from numpy.typing import NDArray

from thinned import checks
from thinned.address import Address
from thinned.backends import backend_of
from thinned.foreign_arguments import answering, unknown_to, without_foreign
from thinned.laws import BERNOULLI, PLAIN_BERNOULLI
from thinned.methods.arguments import require_axes
from thinned.methods.draws import Draws
from thinned.methods.equation import apply_noise
from thinned.methods.placing import draw_for
from thinned.methods.table import INVERTED, PLAIN, Paper, Sample, method
from thinned.window import Window

__all__ = ["dropout", "keep_mask", "packed_mask", "times_q", "vanilla_dropout"]

HINTON = Paper(
    "Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov", 2012,
    "Improving neural networks by preventing co-adaptation of feature detectors",
    "arXiv:1207.0580",
)  # fmt: skip
SRIVASTAVA = Paper(
    "Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov", 2014,
    "Dropout: a simple way to prevent neural networks from overfitting", "JMLR 15, 1929-1958",
)  # fmt: skip


@method(
    title="Dropout",
    rank="first",
    target="units",
    formula="y = x m / (1 - p),  m ~ Bernoulli(1 - p)",
    law=BERNOULLI,
    shared="none: one draw per element, or per slice along shared_axes",
    moments=INVERTED,
    papers=(HINTON, SRIVASTAVA),
    aliases={
        "PyTorch": ("nn.Dropout", "functional.dropout"),
        "Keras": ("Dropout",),
        "TensorFlow": ("tf.nn.dropout",),
        "Flax": ("nnx.Dropout", "linen.Dropout"),
        "Equinox": ("eqx.nn.Dropout",),
    },
    module="Dropout",
    check=require_axes,
    sample=Sample(independent=(0, 1), splits=(0, 1)),
    takes=("complex", "sparse", "rates"),
    note="Before wide fully connected layers; p = .5 there, .1 in transformers.",
)
@without_foreign
def dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
    out: Any = None,
    **foreign: Never,
) -> Any:
    """Drop elements of x with probability p and scale the others by 1 / (1 - p) (inverted dropout).

    y = x m / (1 - p),  m ~ Bernoulli(1 - p), one draw per element (or per slice, see shared_axes).

    The backward pass is the same call on the gradient: dropout is linear and its own adjoint.

    Parameters
    ----------
    x : array, any shape, float16, bfloat16, float32 or float64. Never modified, unless it is `out`.
        Also a sparse array, whose stored entries are dropped, or a complex one, both parts of whose
        numbers share a draw: docs/arrays.md.
    p : float in [0, 1]. Probability of dropping an element; p = 1 gives zeros, p = 0 gives x. Or an
        array that broadcasts to x's shape (not of a sparse x): a rate for each row or element.
    at : Address. Equal addresses give equal masks, on every backend.
    training : bool. False gives x itself. The default is True, since a call that names a
        mask means to draw it; in a module pass training=self.training.
    shared_axes : int or tuple of ints. Axes along which one draw is shared: (0,) gives every row of
        a batch the same mask, (2, 3) drops whole channels of an (N, C, H, W) image.
    window : Window or None. Where x sits in a larger logical array; it takes its part of that mask.
    mirror : bool. The antithetic draw: u becomes 1 - u.
    out : array of x's shape and dtype, or None. Takes the result; may be x.

    Returns
    -------
    array of x's kind, shape and dtype (`out` if given). E[y] = x for p < 1, and
    Var[y] = x^2 p / (1 - p). A dropped NaN or infinity is zero: elements are selected, never
    multiplied by the mask.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, an axis does not exist or is named twice, the window
    does not fit, or `out` has another shape. TypeError if x is not floating.

    References
    ----------
    Hinton et al., 2012, arXiv:1207.0580; Srivastava et al., 2014, JMLR 15, 1929-1958.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> at = thinned.Address(seed=0, site="fc1", step=7)
    >>> thinned.dropout(np.ones(8, np.float32), p=0.5, at=at)
    array([2., 0., 2., 0., 0., 0., 2., 0.], dtype=float32)
    """
    if foreign:
        raise unknown_to(dropout, foreign)
    return apply_noise(
        "dropout",
        x,
        p,
        at,
        training=training,
        shared_axes=shared_axes,
        window=window,
        mirror=mirror,
        out=out,
    )


def times_q(x: Any, p: float, **_: Any) -> Any:
    """(1 - p) x: the evaluation of what was not scaled in training."""
    return x * (1.0 - p)


@method(
    title="Vanilla dropout",
    rank="first",
    target="units",
    formula="y = x m,  m ~ Bernoulli(1 - p);  evaluation: (1 - p) x",
    law=PLAIN_BERNOULLI,
    shared="none: one draw per element, or per slice along shared_axes",
    scale="1 in training",
    inference="times 1 - p",
    moments=PLAIN,
    papers=(HINTON, SRIVASTAVA),
    aliases={"papers": ("standard dropout", "non-inverted dropout", 'rescale="test"')},
    module="VanillaDropout",
    check=require_axes,
    sample=Sample(independent=(0, 1), splits=(0, 1), evaluation=times_q),
    takes=("complex", "sparse", "rates"),
    note="The original form, which scales at test time. A network trained with it becomes an "
    "inverted-dropout network when the next layer's weights are multiplied by 1 - p.",
)
def vanilla_dropout(
    x: Any,
    p: float,
    at: Address,
    training: bool = True,
    *,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
) -> Any:
    """Drop elements of x with probability p, and in evaluation scale all by 1 - p.

    y = x m,  m ~ Bernoulli(1 - p), one draw per element (or per slice, see shared_axes);
    evaluation: y = (1 - p) x.

    It drops the same elements as `dropout` at the same address, and its result is (1 - p) times
    that of `dropout`, in training and in evaluation.

    Parameters
    ----------
    x : array, any shape, floating. Never modified.
    p : float in [0, 1]. Probability of dropping an element; p = 1 gives zeros, p = 0 gives x.
        `thinned.classic.vanilla_dropout` has its course's keep = 1 - p instead.
    at : Address. Equal addresses give equal masks on every backend.
    training : bool. False gives (1 - p) x.
    shared_axes : int or tuple of ints. Axes along which one draw is shared.
    window, mirror : as in `thinned.dropout`.

    Returns
    -------
    array of x's kind, shape and dtype. E[y] = (1 - p) x; Var[y] = x^2 p (1 - p).

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, an axis does not exist or is named twice, or the
    window does not fit. TypeError if x is not floating.

    References
    ----------
    Hinton et al., 2012, arXiv:1207.0580; Srivastava et al., 2014, JMLR 15, section 4.

    Examples
    --------
    >>> import numpy as np, thinned
    >>> at = thinned.Address(seed=0, site="fc1", step=7)
    >>> thinned.vanilla_dropout(np.ones(8), 0.5, at)
    array([1., 0., 1., 0., 0., 0., 1., 0.])
    >>> thinned.vanilla_dropout(np.ones(2), 0.25, at, training=False)
    array([0.75, 0.75])
    """
    draws = Draws("vanilla_dropout", x, p, at, training, window, mirror)
    shared = checks.axes("vanilla_dropout", shared_axes, len(draws.shape))
    if not draws.training:
        return draws.scaled(x, 1.0 - draws.p)
    return draws.noise(x, scale=1.0, shared_axes=shared)


@without_foreign
def keep_mask(
    shape: int | tuple[int, ...],
    p: float,
    at: Address,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
    like: Any = None,
    **foreign: Never,
) -> Any:
    """The mask that `dropout` draws for an array of this shape: True where an element is kept.

    Parameters
    ----------
    shape : int or tuple of ints. The shape of the array at hand.
    p : float in [0, 1]. Probability that an element is dropped.
    at, shared_axes, window, mirror : as in `dropout`.
    like : array or None. An array whose library the mask shall be of; None gives NumPy's.

    Returns
    -------
    boolean array of `shape`; the mean of its elements is 1 - p, realised to within 2^-33.

    Raises
    ------
    ValueError, TypeError as `dropout`.

    Examples
    --------
    >>> import thinned
    >>> thinned.keep_mask(8, p=0.5, at=thinned.Address(seed=0, site="fc1", step=7))
    array([ True, False,  True, False, False, False,  True, False])
    """
    if foreign:
        raise unknown_to(keep_mask, foreign)
    empty: NDArray[np.bool_] = np.empty(0, np.bool_)
    backend = backend_of("keep_mask", empty if like is None else like, "like")
    lengths = checks.shape("keep_mask", shape)
    draw = draw_for("keep_mask", lengths, p, at, shared_axes, window, mirror, backend)
    return backend.mask(draw, like)


@answering
def packed_mask(
    shape: int | tuple[int, ...],
    p: float,
    at: Address,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
) -> NDArray[np.uint8]:
    """The mask of `keep_mask` in an eighth of the memory: eight elements to a byte.

    Parameters
    ----------
    shape, p, at, shared_axes, window, mirror : as in `keep_mask`.

    Returns
    -------
    uint8 array, shape (ceil(n / 8),) for the n elements of `shape` in C order; the first element is
    in the lowest bit of the first byte, 1 means kept, and bits behind the last element are 0.

    Raises
    ------
    ValueError, TypeError as `dropout`.

    Examples
    --------
    >>> import thinned
    >>> thinned.packed_mask(8, p=0.5, at=thinned.Address(seed=0, site="fc1", step=7))
    array([69], dtype=uint8)
    """
    lengths = checks.shape("packed_mask", shape)
    backend = backend_of("packed_mask", np.empty(0))
    packed: NDArray[np.uint8] = backend.packed(
        draw_for("packed_mask", lengths, p, at, shared_axes, window, mirror)
    )
    return packed
