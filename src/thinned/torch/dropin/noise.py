"""The noise under the drop-in's functions and under adopted sites, in eager code and in programs
that are made: at an address, at a fresh seed or one from a generator, on the shards of a DTensor.

Its arguments were checked before: by the functions of `functional`, or by the code that made the
site.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from thinned import checks, reference
from thinned.address import Address
from thinned.backends.base import Draw
from thinned.backends.torch import compiled_node, wire
from thinned.backends.torch.backend import backend
from thinned.backends.torch.eager import _in_transform, _modes, _tracing, noise, noise_
from thinned.backends.torch.fresh_seed import FRESH, place_in_program
from thinned.backends.torch.kernel import Drawn, Noise, coordinates_of
from thinned.backends.torch.operators import noise_compiled, noise_drawn
from thinned.backends.torch.spec import Coordinates
from thinned.checks import message
from thinned.methods.alpha import ALPHA, affine
from thinned.methods.equation import apply_noise
from thinned.torch.compat.dtensor import is_sharded, on_shards
from thinned.torch.dropin.seeds import _halves, _traced_seed, seed_for
from thinned.window import Repeated, Window, _window, index_strides, place

__all__ = [
    "check_mask",
    "fresh",
    "is_particular",
    "noisy",
    "on_values",
    "particular",
    "rate_in_program",
    "require",
    "self_normalising",
    "wire_of",
    "words_in_program",
]

_is_compiling = torch.compiler.is_compiling
_strided = torch.strided
# What takes complex numbers, as PyTorch's own does: alpha dropout has no value for a dropped one.
COMPLEX = ("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout")
# The seed of an address drawn from a generator takes this one's place.
_NOWHERE = Address()


def fresh(x: Tensor, p: Any) -> Tensor | None:
    """Dropout of x at a fresh seed, in training, or None where it takes more than this.

    The commonest call of all. A compiled program asks at each call for every name that was met
    here, so these are few.
    """
    if not _is_compiling():
        y: Tensor | None = compiled_node.dropout(x, p, None, -1, None)
        return y
    # Every floating type is supported but those of one byte (float8).
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
    check_mask(who, at, generator, mirror)
    if x.is_complex():
        return _of_pairs(
            who, x, p, inplace, generator, at, shared_axes, window, mirror, scale, fill
        )
    if is_sharded(x):
        return _on_shards(
            who, x, p, inplace, generator, at, shared_axes, window, mirror, scale, fill
        )
    if _is_compiling() or ((_modes() or _tracing()) and not _in_transform()):
        y = _compiled(who, x, p, generator, at, shared_axes, window, mirror, scale, fill)
        return x.copy_(y) if inplace else y
    if scale is None:
        scale = reference.scale_for(p)
    named: Any = at
    seed = None
    if at is None:
        drawn = seed_for(x, generator)
        if isinstance(drawn, Tensor):
            named, seed = _NOWHERE, drawn
        else:
            named = Drawn(drawn)
    where = place(who, tuple(x.shape), shared_axes, window)
    how = Noise(Draw(named, reference.threshold(p), where, mirror), scale, fill)
    return noise_(x, seed, how) if inplace else noise(x, seed, how)


def check_mask(who: str, at: Any, generator: Any, mirror: Any) -> None:
    """What determines the mask: one argument at most, with its name."""
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


def _of_pairs(
    who: str, x: Tensor, p: Any, inplace: bool, generator: Any, at: Any, shared: Any, window: Any,
    mirror: bool, scale: Any, fill: float,
) -> Tensor:  # fmt: skip
    """Complex numbers, as pairs of real ones that share a draw: the index is that of the number."""
    pairs = torch.view_as_real(x.resolve_conj())
    shared = (*(axis % x.dim() for axis in shared), x.dim())
    if window is not None and window.global_shape is not None:
        window = replace(window, global_shape=(*window.global_shape, 2))
    y = noisy(who, pairs, p, False, generator, at, shared, window, mirror, scale, fill)
    return x.copy_(torch.view_as_complex(y)) if inplace else torch.view_as_complex(y)


def is_particular(x: Tensor, p: Any) -> bool:
    """Whether x is sparse, or p a tensor for its elements: what goes the way of the catalogue."""
    return (isinstance(p, Tensor) and p.dim() > 0) or backend.is_sparse(x)


def particular(
    who: str, x: Tensor, p: Any, training: bool, inplace: bool, generator: Any, at: Any,
    shared_axes: Any, window: Any, mirror: bool,
) -> Tensor:  # fmt: skip
    """Dropout of a sparse x, or with p for each element, at an address or a fresh seed."""
    check_mask(who, at, generator, mirror)
    if inplace:
        remedy = "Take what is returned."
        raise ValueError(message(who, "inplace", "False for such an input or p", "True", remedy))
    if at is None and training:
        seed = seed_for(x, generator)
        if isinstance(seed, Tensor):
            remedy = "Give a mask its address: at=thinned.Address(seed=0, site='fc1', step=7)."
            got = "None, in a compiled program"
            raise TypeError(message(who, "at", "a thinned.Address", got, remedy))
        at = Address(seed)
    how: Any = {"shared_axes": shared_axes, "window": window, "mirror": mirror}
    y: Tensor = apply_noise(who, x, p, _NOWHERE if at is None else at, training=training, **how)
    return y


def _on_shards(
    who: str, x: Any, p: Any, inplace: bool, generator: Any, at: Any, shared: Any, window: Any,
    mirror: bool, scale: Any, fill: float,
) -> Tensor:  # fmt: skip
    """A DTensor: each process applies its part of one mask. Without an address, each draws the seed
    from its own generator; for DTensors PyTorch requires these to be seeded alike."""
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
    threshold, nominal = rate_in_program(p)
    if isinstance(window, Repeated):
        shared_axes = tuple({*shared_axes, *window.axes})
    plain = isinstance(p, float) and scale is None and fill == 0.0
    if at is None and plain and window is None and not mirror:
        return noise_drawn(x, _traced_seed(generator), threshold, nominal, shared_axes)
    words = words_in_program(at, generator)
    start: tuple[int, ...] = ()
    whole: tuple[int, ...] = ()
    if window is not None:
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


def words_in_program(at: Any, generator: torch.Generator | None) -> Coordinates:
    if at is None:
        return Coordinates(*_halves(_traced_seed(generator)), 0, 0, 0)
    return at if isinstance(at, Coordinates) else coordinates_of(at)


def rate_in_program(p: Any) -> tuple[Any, Any]:
    """Threshold and nominal scale of p, which may be a 0-d tensor."""
    if isinstance(p, Tensor):
        return backend.rate(p)
    return reference.threshold(p), reference.scale_for(p)


def wire_of(
    who: str, shape: tuple[int, ...], p: Any, at: Any, generator: Any, window: Any
) -> tuple[Tensor, Tensor]:
    """Which draws, for an operator (see wire.py)."""
    start, whole = _window(who, shape, (), window)
    strides = index_strides(whole, ())
    offset = sum([s * n for s, n in zip(start, strides, strict=True)])
    words = wire.pack_place(words_in_program(at, generator), offset, strides)
    return words, wire.pack_rate(*rate_in_program(p))


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
    if x.is_complex() and who in COMPLEX:
        backend.require_dense(who, x, "x")
    else:
        backend.require_floating(who, x)


def on_values(
    x: Any, p: Any, inplace: bool, generator: Any, at: Address | None, mirror: bool
) -> Tensor:
    values = x.values()
    dropped = noisy("dropout", values, p, inplace, generator, at, (), None, mirror)
    if inplace:
        written: Tensor = x
        return written
    return torch.nested.nested_tensor_from_jagged(
        dropped, x.offsets(), x.lengths(), jagged_dim=x._ragged_idx
    )


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
