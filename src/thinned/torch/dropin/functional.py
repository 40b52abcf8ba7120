"""The functions under the modules: torch.nn.functional's dropout family, with two differences.

`training` has no default: a call that forgets it, and so drops in evaluation, is the commonest
dropout bug there is. And a mask can be named: by `generator=`, or by `at=`, its address.
"""

from __future__ import annotations

import warnings
from typing import Any, Never

import torch
from torch import Tensor

from thinned import checks
from thinned.address import Address
from thinned.backends.torch.internals import in_transform
from thinned.backends.torch.values import unread
from thinned.checks import message
from thinned.foreign_arguments import unknown_to, without_foreign
from thinned.torch.dropin import noise
from thinned.window import Window, fitting

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
]


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()


def _training(who: str, training: Any) -> bool:
    if training is REQUIRED:
        raise TypeError(
            f"{who}: training must be given: training=self.training in a module. "
            "Left out, dropout would go on in evaluation."
        )
    return checks.flag(who, "training", training)


def _probability(who: str, p: Any) -> Any:
    """p as a float; under a compiler a 0-d tensor stays one, so that a new p is no new program."""
    if isinstance(p, Tensor):
        if p.dim() > 0:
            raise TypeError(
                message(who, "p", "one number in [0, 1]", f"a tensor of {p.dim()} axes")
            )
        known = not unread() or (in_transform() and not torch.compiler.is_compiling())
        return checks.probability(who, p.item()) if known else p
    return checks.probability(who, p)


def _truth(who: str, inplace: Any) -> bool:
    """As PyTorch takes it: anything that is true or false."""
    try:
        return bool(inplace)
    except (TypeError, ValueError, RuntimeError):
        got = checks.shown(inplace)
        raise TypeError(message(who, "inplace", "True or False", got)) from None


def _left_alone(
    who: str,
    x: Tensor,
    generator: Any,
    at: Any,
    shared_axes: Any = (),
    window: Any = None,
    mirror: Any = False,
) -> Tensor:
    """x itself. What says which mask is checked: a mistake does not wait for training to show."""
    noise.check_mask(who, at, generator, mirror)
    if window is not None or shared_axes != ():
        fitting(who, (1,) * x.dim(), shared_axes, window)
    return x


def _checked(who: str, x: Any, p: Any, training: Any) -> tuple[Any, bool]:
    if not isinstance(x, Tensor):
        raise TypeError(message(who, "input", "a torch tensor", type(x).__name__))
    if type(p) is not float or not 0.0 <= p <= 1.0:
        p = _probability(who, p)
    if training is not True and training is not False:
        training = _training(who, training)
    if training and (isinstance(p, Tensor) or p != 0.0):
        noise.require(who, x)  # what is left alone may be of any type: a quantised model's, say
    return p, training


@without_foreign
def dropout(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
    shared_axes: int | tuple[int, ...] = (),
    window: Window | None = None,
    mirror: bool = False,
    **foreign: Never,
) -> Tensor:
    """Drop elements with probability p and scale the others by 1 / (1 - p).

    y = x m / (1 - p),  m ~ Bernoulli(1 - p).

    Parameters
    ----------
    input : tensor, any shape: float16, bfloat16, float32 or float64, dense or jagged (then its
        values are dropped one by one), complex (both parts share a draw) or sparse (COO, CSR, CSC:
        the stored entries). Not modified unless inplace.
    p : float in [0, 1], or a 0-d tensor; of a dense input also a tensor that broadcasts to it. p =
        1 gives zeros.
    training : bool, required. False gives input itself.
    inplace : bool. Write into input.
    generator : torch.Generator (CPU) or None. Where the mask's seed is drawn; None is PyTorch's
        default one, so that torch.manual_seed and checkpointing rule the mask.
    at : Address or None. The mask's address; nothing is drawn then.
    shared_axes, window, mirror : as in `thinned.dropout`.

    Returns
    -------
    tensor of input's shape, type, device and strides. E[y] = x for p < 1; Var[y] = x^2 p / (1 - p).
    For the backward pass nothing of the mask's size is kept.

    Raises
    ------
    ValueError if p is outside [0, 1] or NaN, or at and generator are both given. TypeError if
    training is missing or input is not floating.

    References
    ----------
    Hinton et al., 2012, arXiv:1207.0580; Srivastava et al., 2014, JMLR 15, 1929-1958.
    """
    if foreign:
        raise unknown_to(dropout, foreign)
    if inplace is not False and inplace is not True:
        inplace = _truth("dropout", inplace)
    if (
        training is True
        and generator is None
        and at is None
        and window is None
        and not inplace
        and type(shared_axes) is tuple
        and not shared_axes
        and mirror is False
    ):
        y = noise.fresh(input, p)
        if y is not None:
            return y
    if isinstance(input, Tensor) and noise.is_particular(input, p):
        training, how = _training("dropout", training), (shared_axes, window, mirror)
        return noise.particular("dropout", input, p, training, inplace, generator, at, *how)
    p, training = _checked("dropout", input, p, training)
    if not training or (not isinstance(p, Tensor) and p == 0.0):
        return _left_alone("dropout", input, generator, at, shared_axes, window, mirror)
    if input.is_nested:
        return noise.on_values(input, p, inplace, generator, at, mirror)
    axes = checks.axes("dropout", shared_axes, input.dim())
    return noise.noisy("dropout", input, p, inplace, generator, at, axes, window, mirror)


def _channels(
    who: str, x: Tensor, p: Any, training: Any, inplace: bool, batched: bool, **mask: Any
) -> Tensor:
    """One draw for each channel: the second axis, or the first of an input without a batch."""
    inplace = _truth(who, inplace)
    p, training = _checked(who, x, p, training)
    if not training or (not isinstance(p, Tensor) and p == 0.0):
        return _left_alone(who, x, mask.get("generator"), mask.get("at"))
    first = 2 if batched else 1
    if x.dim() < first:
        raise RuntimeError(message(who, "input", f"of at least {first} axes", f"{x.dim()}"))
    shared = tuple(range(first, x.dim()))
    return noise.noisy(who, x, p, inplace, mask.get("generator"), mask.get("at"), shared)


@without_foreign
def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
    **foreign: Never,
) -> Tensor:
    """Drop whole channels of sequences: input (N, C, L) or (C, L), one draw per channel.

    Parameters, return value and errors as in `dropout`; RuntimeError for other ranks.

    References
    ----------
    Tompson et al., 2015, arXiv:1411.4280.
    """
    if foreign:
        raise unknown_to(dropout1d, foreign)
    if isinstance(input, Tensor) and input.dim() not in (2, 3):
        raise RuntimeError(
            f"dropout1d: input must be of shape (N, C, L) or (C, L), got {input.dim()} axes."
        )
    batched = isinstance(input, Tensor) and input.dim() == 3
    return _channels("dropout1d", input, p, training, inplace, batched, generator=generator, at=at)


@without_foreign
def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
    **foreign: Never,
) -> Tensor:
    """Drop whole channels of images: input (N, C, H, W), one draw per channel.

    As torch.nn.functional.dropout2d does, three axes are taken for (N, C, L), with a warning, and
    other ranks for (N, C, ...), with a warning.

    Parameters, return value and errors as in `dropout`.

    References
    ----------
    Tompson et al., 2015, arXiv:1411.4280.
    """
    if foreign:
        raise unknown_to(dropout2d, foreign)
    rank = input.dim() if isinstance(input, Tensor) else 4
    if rank == 3:
        warnings.warn(
            "dropout2d: a 3-D input is taken for (N, C, L), and not for an image (C, H, W) without "
            "a batch. Use dropout1d for sequences, and input.unsqueeze(0) for one image.",
            stacklevel=2,
        )
    elif rank != 4:
        warnings.warn(
            f"dropout2d: a {rank}-D input is deprecated, and an error in PyTorch to come. Use "
            "dropout for elements, dropout1d or dropout3d for other channels.",
            stacklevel=2,
        )
    return _channels("dropout2d", input, p, training, inplace, True, generator=generator, at=at)


@without_foreign
def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
    **foreign: Never,
) -> Tensor:
    """Drop whole channels of volumes: input (N, C, D, H, W) or (C, D, H, W), one draw per channel.

    Other ranks are taken for (N, C, ...), with a warning. Parameters, return value and errors as in
    `dropout`.

    References
    ----------
    Tompson et al., 2015, arXiv:1411.4280.
    """
    if foreign:
        raise unknown_to(dropout3d, foreign)
    rank = input.dim() if isinstance(input, Tensor) else 5
    if rank not in (4, 5):
        warnings.warn(
            f"dropout3d: a {rank}-D input is deprecated, and an error in PyTorch to come. Use "
            "dropout for elements, dropout1d or dropout2d for other channels.",
            stacklevel=2,
        )
    batched = rank != 4
    return _channels("dropout3d", input, p, training, inplace, batched, generator=generator, at=at)


def _alpha(
    who: str,
    x: Tensor,
    p: Any,
    training: Any,
    inplace: bool,
    generator: torch.Generator | None,
    at: Address | None,
    shared: tuple[int, ...],
) -> Tensor:
    inplace = _truth(who, inplace)
    p, training = _checked(who, x, p, training)
    if not training or (not isinstance(p, Tensor) and p == 0.0):
        return _left_alone(who, x, generator, at)
    return noise.self_normalising(who, x, p, inplace, generator, at, shared)


@without_foreign
def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
    **foreign: Never,
) -> Tensor:
    """Dropout for self-normalising networks: dropped elements take SELU's lowest value.

    y = a (x m + alpha' (1 - m)) + b,  a = (q (1 + p alpha'^2))^(-1/2),  b = -a alpha' p,
    q = 1 - p, alpha' = -1.7580993: an input of mean 0 and variance 1 keeps both. p = 1 gives zeros.

    Parameters, return value and errors as in `dropout`.

    References
    ----------
    Klambauer et al., 2017, arXiv:1706.02515.
    """
    if foreign:
        raise unknown_to(alpha_dropout, foreign)
    return _alpha("alpha_dropout", input, p, training, inplace, generator, at, ())


@without_foreign
def feature_alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
    **foreign: Never,
) -> Tensor:
    """`alpha_dropout` with one draw per channel: input (N, C, ...).

    Parameters, return value and errors as in `dropout`.

    References
    ----------
    Klambauer et al., 2017, arXiv:1706.02515.
    """
    if foreign:
        raise unknown_to(feature_alpha_dropout, foreign)
    rank = input.dim() if isinstance(input, Tensor) else 2
    if rank < 2 and training:
        raise RuntimeError(
            f"feature_alpha_dropout: input must be of shape (N, C, ...), got {rank} axes."
        )
    shared = tuple(range(2, rank))
    return _alpha("feature_alpha_dropout", input, p, training, inplace, generator, at, shared)
