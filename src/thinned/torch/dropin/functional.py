"""The functions under the modules: torch.nn.functional's dropout family, with two differences.

`training` has no default: a call that forgets it, and so drops in evaluation, is the commonest
dropout bug there is. And a mask can be named: by `generator=`, or by `at=`, its address.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from thinned import checks, reference
from thinned.address import Address
from thinned.backends.base import Draw
from thinned.backends.torch import compiled_node
from thinned.backends.torch.backend import (
    Coordinates,
    Noise,
    _in_transform,
    _modes,
    _tracing,
    backend,
    coordinates_of,
    noise,
    noise_,
    noise_compiled,
    noise_drawn,
)
from thinned.backends.torch.fresh_seed import FRESH, place_in_program
from thinned.backends.torch.kernel import Drawn
from thinned.backends.torch.values import unread
from thinned.checks import message
from thinned.methods.alpha import ALPHA, affine
from thinned.torch.compat.dtensor import is_sharded, on_shards
from thinned.torch.dropin.seeds import _halves, _traced_seed, seed_for
from thinned.window import Repeated, Window, _window, fitting, place

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
_is_compiling = torch.compiler.is_compiling
_strided = torch.strided
# The seed of an address drawn from a generator takes this one's place.
_NOWHERE = Address()


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
            raise TypeError(message(who, "p", "one number in [0, 1]", f"shape {tuple(p.shape)}"))
        known = not unread() or (_in_transform() and not _is_compiling())
        return checks.probability(who, p.item()) if known else p
    return checks.probability(who, p)


def fresh(x: Tensor, p: Any) -> Tensor | None:
    """Dropout of x at a fresh seed, in training, or None where it takes more than this.

    The commonest call of all. A compiled program asks at each call for every name that was met
    here, so these are few.
    """
    if not _is_compiling():
        y: Tensor | None = compiled_node.dropout(x, p, None, -1, None)
        return y
    # Of floating types only those of one byte are none of ours.
    if (
        type(p) is float
        and 0.0 < p < 1.0
        and type(x) is Tensor
        and x.is_floating_point()
        and x.itemsize > 1
        and x.layout is _strided
        and not _in_transform()
    ):
        staged: Tensor = FRESH(x, p, place_in_program())
        return staged
    return None


def noisy(
    who: str,
    x: Tensor,
    p: Any,
    inplace: bool,
    generator: torch.Generator | None,
    at: Address | None,
    shared_axes: tuple[int, ...],
    window: Window | None = None,
    mirror: bool = False,
    scale: float | None = None,
    fill: float = 0.0,
) -> Tensor:
    """Training: kept elements fill + scale (x - fill), scale None for 1 / (1 - p); dropped fill."""
    _check_mask(who, at, generator, mirror)
    if is_sharded(x):
        return _on_shards(
            who, x, p, inplace, generator, at, shared_axes, window, mirror, scale, fill
        )
    if _is_compiling() or ((_modes() or _tracing()) and not _in_transform()):
        y = _compiled(who, x, p, generator, at, shared_axes, window, mirror, scale, fill)
        return x.copy_(y) if inplace else y
    if scale is None:
        scale = reference.scale_for(p)
    seed = None
    if at is None:
        drawn = seed_for(x, generator)
        if isinstance(drawn, Tensor):
            at, seed = _NOWHERE, drawn
        else:
            at = Drawn(drawn)  # type: ignore[assignment]
    where = place(who, tuple(x.shape), shared_axes, window)
    how = Noise(Draw(at, reference.threshold(p), where, mirror), scale, fill)  # type: ignore[arg-type]
    return noise_(x, seed, how) if inplace else noise(x, seed, how)


def _check_mask(who: str, at: Any, generator: Any, mirror: Any) -> None:
    """What says which mask: one thing at most, and what it is said to be."""
    if at is not None and generator is not None:
        raise ValueError(f"{who}: at and generator both say which mask. Pass one of them.")
    if at is not None and not isinstance(at, (Address, Drawn, Coordinates)):
        remedy = "Give a mask its address: thinned.Address(seed=0, site='fc1', step=7)."
        got = f"{at!r} ({type(at).__name__})"
        raise TypeError(message(who, "at", "a thinned.Address or None", got, remedy))
    if generator is not None and not isinstance(generator, torch.Generator):
        got = f"{generator!r} ({type(generator).__name__})"
        raise TypeError(message(who, "generator", "a torch.Generator or None", got))
    if mirror is not True and mirror is not False:
        checks.flag(who, "mirror", mirror)


def _on_shards(
    who: str, x: Any, p: Any, inplace: bool, generator: Any, at: Any, shared: Any, window: Any,
    mirror: bool, scale: Any, fill: float,
) -> Tensor:  # fmt: skip
    """A DTensor: each process drops its own part of one mask. Without an address the seed comes
    from the generator of each, which PyTorch wants to be seeded alike for DTensors."""
    if window is not None:
        raise ValueError(f"{who}: x is a DTensor, which says where it lies. Leave out window.")
    if at is None:
        seed = seed_for(x, generator)
        words = Coordinates(*_halves(seed), 0, 0, 0) if isinstance(seed, Tensor) else Address(seed)
        at = words

    def on_part(part: Tensor, shard: Any) -> Tensor:
        here = Window(shard.start, shard.shape)
        return noisy(who, part, p, False, None, at, shared, here, mirror, scale, fill)

    y = on_shards(x, on_part)
    return x.copy_(y) if inplace else y


def _compiled(
    who: str,
    x: Tensor,
    p: Any,
    generator: torch.Generator | None,
    at: Address | None,
    shared_axes: tuple[int, ...],
    window: Window | None,
    mirror: bool,
    scale: Any,
    fill: float,
) -> Tensor:
    threshold, nominal = _traced_rate(p)
    if isinstance(window, Repeated):
        shared_axes = tuple({*shared_axes, window.axis})
    plain = isinstance(p, float) and scale is None and fill == 0.0
    if at is None and plain and window is None and not mirror:
        return noise_drawn(x, _traced_seed(generator), threshold, nominal, shared_axes)
    words = _words(at, generator)
    start, whole = _window(who, tuple(x.shape), shared_axes, window)
    return noise_compiled(
        x,
        words,
        threshold,
        nominal if scale is None else scale,
        fill,
        shared_axes,
        start,
        whole,
        mirror,
    )


def _words(at: Any, generator: torch.Generator | None) -> Coordinates:
    if at is None:
        return Coordinates(*_halves(_traced_seed(generator)), 0, 0, 0)
    return at if isinstance(at, Coordinates) else coordinates_of(at)


def _traced_rate(p: Any) -> tuple[Any, Any]:
    """Threshold and nominal scale of p, which may be a 0-d tensor."""
    if isinstance(p, Tensor):
        return backend.rate(p)
    return reference.threshold(p), reference.scale_for(p)


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
    _check_mask(who, at, generator, mirror)
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
        require(who, x)  # what is left alone may be of any type: a quantised model's, say
    return p, training


def require(who: str, x: Any) -> None:
    """TypeError unless noise can be put on x, or on the values of a jagged one."""
    if x.is_nested:
        if x.layout is not torch.jagged:
            remedy = "Build it with layout=torch.jagged."
            raise TypeError(message(who, "input", "jagged where it is nested", "strided", remedy))
        if who != "dropout":
            remedy = "Only dropout takes those: on their values, one by one."
            raise TypeError(message(who, "input", "a dense tensor", "a nested one", remedy))
        x = x.values()
    backend.require_floating(who, x)


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
) -> Tensor:
    """Drop elements with probability p and scale the others by 1 / (1 - p).

    y = x m / (1 - p),  m ~ Bernoulli(1 - p).

    Parameters
    ----------
    input : tensor, any shape: float16, bfloat16, float32 or float64, dense or jagged (then its
        values are dropped one by one). Not modified unless inplace.
    p : float in [0, 1], or a 0-d tensor. p = 1 gives zeros.
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
        y = fresh(input, p)
        if y is not None:
            return y
    p, training = _checked("dropout", input, p, training)
    if not training or (not isinstance(p, Tensor) and p == 0.0):
        return _left_alone("dropout", input, generator, at, shared_axes, window, mirror)
    if input.is_nested:
        return on_values(input, p, inplace, generator, at, mirror)
    axes = checks.axes("dropout", shared_axes, input.dim())
    return noisy("dropout", input, p, inplace, generator, at, axes, window, mirror)


def on_values(
    x: Any, p: Any, inplace: bool, generator: Any, at: Address | None, mirror: bool
) -> Tensor:
    values = x.values()
    dropped = noisy("dropout", values, p, inplace, generator, at, (), None, mirror)
    if inplace:
        return x  # type: ignore[no-any-return]
    return torch.nested.nested_tensor_from_jagged(
        dropped, x.offsets(), x.lengths(), jagged_dim=x._ragged_idx
    )


def _channels(
    who: str, x: Tensor, p: Any, training: Any, inplace: bool, batched: bool, **mask: Any
) -> Tensor:
    """One draw for each channel: the second axis, or the first of an input without a batch."""
    p, training = _checked(who, x, p, training)
    if not training or (not isinstance(p, Tensor) and p == 0.0):
        return _left_alone(who, x, mask.get("generator"), mask.get("at"))
    first = 2 if batched else 1
    if x.dim() < first:
        raise RuntimeError(message(who, "input", f"of at least {first} axes", f"{x.dim()}"))
    shared = tuple(range(first, x.dim()))
    return noisy(who, x, p, inplace, mask.get("generator"), mask.get("at"), shared)


def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
) -> Tensor:
    """Drop whole channels of sequences: input (N, C, L) or (C, L), one draw per channel.

    Parameters, return value and errors as in `dropout`; RuntimeError for other ranks.

    References
    ----------
    Tompson et al., 2015, arXiv:1411.4280.
    """
    if isinstance(input, Tensor) and input.dim() not in (2, 3):
        raise RuntimeError(
            f"dropout1d: input must be of shape (N, C, L) or (C, L), got {input.dim()} axes."
        )
    batched = isinstance(input, Tensor) and input.dim() == 3
    return _channels("dropout1d", input, p, training, inplace, batched, generator=generator, at=at)


def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
) -> Tensor:
    """Drop whole channels of images: input (N, C, H, W), one draw per channel.

    As torch.nn.functional.dropout2d does, three axes are taken for (N, C, L), with a warning, and
    other ranks for (N, C, ...), with a warning.

    Parameters, return value and errors as in `dropout`.

    References
    ----------
    Tompson et al., 2015, arXiv:1411.4280.
    """
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


def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
) -> Tensor:
    """Drop whole channels of volumes: input (N, C, D, H, W) or (C, D, H, W), one draw per channel.

    Other ranks are taken for (N, C, ...), with a warning. Parameters, return value and errors as in
    `dropout`.

    References
    ----------
    Tompson et al., 2015, arXiv:1411.4280.
    """
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
    p, training = _checked(who, x, p, training)
    if not training or (not isinstance(p, Tensor) and p == 0.0):
        return _left_alone(who, x, generator, at)
    return self_normalising(who, x, p, inplace, generator, at, shared)


def self_normalising(
    who: str,
    x: Tensor,
    p: Any,
    inplace: bool,
    generator: torch.Generator | None,
    at: Address | None,
    shared: tuple[int, ...],
    window: Window | None = None,
    mirror: bool = False,
) -> Tensor:
    """Alpha dropout of x in training, p > 0: the values of `thinned.alpha_dropout`."""
    if not isinstance(p, Tensor) and p == 1.0:
        # Zeros with zero gradients, however large x is: a = 0 times infinity would be NaN.
        return noisy(who, x, p, inplace, generator, at, shared, window, mirror)
    a, b = affine(p, torch.where)
    kept = noisy(
        who, wide(x), p, False, generator, at, shared, window, mirror, scale=1.0, fill=ALPHA
    )
    y = (kept * a + b).to(x.dtype)
    return x.copy_(y) if inplace else y


def wide(x: Tensor) -> Tensor:
    """x in the type of its arithmetic: half types in float32, with one rounding, at the end."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
) -> Tensor:
    """Dropout for self-normalising networks: dropped elements take SELU's lowest value.

    y = a (x m + alpha' (1 - m)) + b,  a = (q (1 + p alpha'^2))^(-1/2),  b = -a alpha' p,
    q = 1 - p, alpha' = -1.7580993: an input of mean 0 and variance 1 keeps both. p = 1 gives zeros.

    Parameters, return value and errors as in `dropout`.

    References
    ----------
    Klambauer et al., 2017, arXiv:1706.02515.
    """
    return _alpha("alpha_dropout", input, p, training, inplace, generator, at, ())


def feature_alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: Any = REQUIRED,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
    at: Address | None = None,
) -> Tensor:
    """`alpha_dropout` with one draw per channel: input (N, C, ...).

    Parameters, return value and errors as in `dropout`.

    References
    ----------
    Klambauer et al., 2017, arXiv:1706.02515.
    """
    rank = input.dim() if isinstance(input, Tensor) else 2
    if rank < 2 and training:
        raise RuntimeError(
            f"feature_alpha_dropout: input must be of shape (N, C, ...), got {rank} axes."
        )
    shared = tuple(range(2, rank))
    return _alpha("feature_alpha_dropout", input, p, training, inplace, generator, at, shared)
