"""The registered operators: what compilers, exporters and dispatch modes see.

In `thinned::apply` address, threshold and scale are tensors, so that a new step or a new p is no
new program; where the draws lie (offset and index strides) are integers, which may be symbols.
`thinned::dropout` is its commonest case, a drawn seed and a p that stays, where making those
tensors would cost more than the dropout of a small one. Below autograd it is `thinned::drop`, which
is what a compiled program runs, in C++ where that was built (compiled_node.py). All are registered
by the parts of torch.library rather than by custom_op, whose checks cost 30 microseconds a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.autograd.forward_ad import _set_fwd_grad_enabled

from thinned.backends.base import Draw
from thinned.backends.torch.kernel import (
    Drawn,
    Noise,
    coordinates_of,
    make,
    placed,
)
from thinned.backends.torch.spec import Coordinates
from thinned.backends.torch.tags import READ
from thinned.backends.torch.values import lengths
from thinned.window import index_strides

__all__ = ["drop_values", "noise_compiled", "noise_drawn", "noise_registered"]

_LIBRARY: Any = torch.library.Library("thinned", "FRAGMENT")
_LIBRARY.define(
    "apply(Tensor x, Tensor coordinates, Tensor scale, float fill, SymInt offset, "
    "SymInt[] strides, bool mirror, bool gaussian, Tensor? array=None) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag, *READ),
)
_LIBRARY.define(
    "dropout(Tensor x, Tensor seed, int threshold, float scale, SymInt[] strides) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag, *READ),
)
_LIBRARY.define(
    "drop(Tensor x, Tensor seed, int threshold, float scale, SymInt[] strides) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag, *READ),
)
_in_transform = torch._C._are_functorch_transforms_active
OPERATOR: Any = torch.ops.thinned.apply.default
DROPOUT: Any = torch.ops.thinned.dropout.default
DROP: Any = torch.ops.thinned.drop.default


def _values(
    x: Tensor,
    coordinates: Tensor,
    scale: Tensor,
    fill: float,
    offset: int,
    strides: Sequence[int],
    mirror: bool,
    gaussian: bool,
    array: Tensor | None = None,
) -> Tensor:
    """coordinates: int64, shape (6,): seed_low, seed_high, site, step, call, threshold."""
    low, high, site, step, call, threshold = coordinates.tolist()
    at: Any = Drawn(low | high << 32, site, step, call)
    draw = Draw(at, threshold, placed(tuple(x.shape), offset, strides), mirror)
    return make(x, Noise(draw, scale.item(), fill, gaussian), None, array)


def drop_values(
    x: Tensor, seed: Tensor, threshold: int, scale: float, strides: Sequence[int]
) -> Tensor:
    """seed: int64, 0-d. No strides stand for those of x's own C order."""
    at: Any = Drawn(int(seed.item()) & 0xFFFFFFFFFFFFFFFF)
    shape = tuple(x.shape)
    where = placed(shape, 0, strides or index_strides(shape, ()))
    return make(x, Noise(Draw(at, threshold, where), scale))


def _shape(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@contextmanager
def _below() -> Iterator[None]:
    """Within a forward: the operator's values, or, under a transform of torch.func, its derivatives
    for the transforms around this one. Those are wanted, which a Function has switched off."""
    with torch._C._AutoDispatchBelowAutograd():
        if not _in_transform():
            yield
            return
        with torch.enable_grad(), _set_fwd_grad_enabled(True):
            yield


class _Registered(torch.autograd.Function):
    """Saves the address: six words, and the scale. Linear in x and in the array."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, array: Tensor | None, *how: Any) -> Tensor:
        coordinates, scale, _, *ctx.place = how
        ctx.save_for_backward(coordinates, scale)
        ctx.save_for_forward(coordinates, scale)
        ctx.set_materialize_grads(False)
        with _below():
            y: Tensor = OPERATOR(x, *how, array)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        if grad is None:
            return (None,) * 9
        dx = OPERATOR(grad, *ctx.saved_tensors, 0.0, *ctx.place)
        return dx, grad - dx if ctx.needs_input_grad[1] else None, *(None,) * 7

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, df: Tensor | None, *_: Any) -> Tensor | None:
        def noisy(tangent: Tensor) -> Tensor:
            y: Tensor = OPERATOR(tangent, *ctx.saved_tensors, 0.0, *ctx.place)
            return y

        if df is None:
            return None if dx is None else noisy(dx)
        left = df - noisy(df)
        return left if dx is None else left + noisy(dx)


class _Dropped(torch.autograd.Function):
    """Saves the seed: one word."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: Tensor, *how: Any) -> Tensor:
        ctx.how = how
        ctx.save_for_backward(seed)
        ctx.save_for_forward(seed)
        ctx.set_materialize_grads(False)
        with _below():
            # Detached, for the compiled operator looks for a tangent.
            y: Tensor = DROP(x if _in_transform() else x.detach(), seed, *how)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        dx = None if grad is None else DROPOUT(grad, *ctx.saved_tensors, *ctx.how)
        return dx, *(None,) * 4

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: Any) -> Tensor | None:
        return None if tangent is None else DROPOUT(tangent, *ctx.saved_tensors, *ctx.how)


def _at_one_level(function: type[torch.autograd.Function]) -> type:
    """The Function's twin for torch.func: a derivative of the transform at work, and not of all, as
    an operator's kernel runs once for each. PyTorch makes its own Functions such ones."""
    base = getattr(torch.autograd.function, "_SingleLevelFunction", torch.autograd.Function)
    parts = {name: vars(function)[name] for name in ("forward", "backward", "jvp")}
    return type(function.__name__, (base,), parts)


_FUNCTIONS: tuple[type[torch.autograd.Function], ...] = (_Registered, _Dropped)
_TWINS = {function: _at_one_level(function) for function in _FUNCTIONS}


def _derived(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """The Function as one node of autograd."""
    transformed = _in_transform()
    kind: Any = _TWINS[function] if transformed else function
    with enable_single_level_autograd_function() if transformed else nullcontext():
        y: Tensor = kind.apply(*arguments)
    return y


def _recorded(wanted: bool) -> bool:
    """Whether autograd has to know of what becomes of tensors that want it to."""
    if wanted and torch.is_grad_enabled():
        return True
    return forward_ad._current_level >= 0 or _in_transform()


def _differentiable(keyset: Any, x: Tensor, *how: Any) -> Tensor:
    *how_x, array = how if len(how) == 8 else (*how, None)
    if _recorded(x.requires_grad or (array is not None and array.requires_grad)):
        return _derived(_Registered, x, array, *how_x)
    with torch._C._AutoDispatchBelowAutograd():
        y: Tensor = OPERATOR.redispatch(keyset & torch._C._after_autograd_keyset, x, *how)
    return y


def _differentiable_drop(
    _: Any, x: Tensor, seed: Tensor, threshold: int, scale: float, strides: Sequence[int]
) -> Tensor:
    if _recorded(x.requires_grad):
        return _derived(_Dropped, x, seed, threshold, scale, strides)
    with torch._C._AutoDispatchBelowAutograd():
        y: Tensor = DROP(x, seed, threshold, scale, strides)
    return y


def _forward_alone(_: Any, x: Tensor, *how: Any) -> Tensor:
    """`thinned::drop` stands in a compiled program, whose backward pass is a program of its own: of
    derivatives only forward mode's run through it."""
    if forward_ad._current_level >= 0 or _in_transform():
        return _derived(_Dropped, x, *how)
    with torch._C._AutoDispatchBelowAutograd():
        y: Tensor = DROP(x, *how)
    return y


def _each(x: Tensor | None, axis: int | None, i: int) -> Tensor | None:
    return x if x is None or axis is None else x.select(axis, i)


def _batch_of_noise(info: Any, axes: Any, x: Tensor, *how: Any) -> tuple[Tensor, int]:
    """vmap: one call where the entries share an address, which then share the index too."""
    coordinates, scale, fill, offset, strides, *rest = how
    array = rest.pop() if len(rest) == 3 else None
    array_axis = axes[8] if len(axes) > 8 else None
    if axes[0] is not None and array is None and axes[1] is None and axes[2] is None:
        y = OPERATOR(x.movedim(axes[0], 0), coordinates, scale, fill, offset, [0, *strides], *rest)
        return y, 0
    made = [
        OPERATOR(
            _each(x, axes[0], i),
            _each(coordinates, axes[1], i),
            _each(scale, axes[2], i),
            fill, offset, strides, *rest,
            _each(array, array_axis, i),
        )
        for i in range(info.batch_size)
    ]  # fmt: skip
    return torch.stack(made), 0


def _batch_of_drops(
    info: Any, axes: Any, x: Tensor, seed: Tensor, threshold: int, scale: float, strides: Any
) -> tuple[Tensor, int]:
    """The same of dropout at a drawn seed, of which there may be one for each entry."""
    if axes[1] is None:
        x = x.movedim(axes[0], 0)
        steps = strides or index_strides(tuple(x.shape[1:]), ())
        return DROPOUT(x, seed, threshold, scale, [0, *steps]), 0
    made = [
        DROPOUT(_each(x, axes[0], i), _each(seed, axes[1], i), threshold, scale, strides)
        for i in range(info.batch_size)
    ]
    return torch.stack(made), 0


for _name, _impl, _outer, _batch in (
    ("apply", _values, _differentiable, _batch_of_noise),
    ("dropout", drop_values, _differentiable_drop, _batch_of_drops),
    ("drop", drop_values, _forward_alone, _batch_of_drops),
):
    _LIBRARY.impl(_name, _impl, "CompositeExplicitAutograd")
    _LIBRARY.impl(_name, _outer, "Autograd", with_keyset=True)
    torch.library.register_fake(f"thinned::{_name}", _shape, lib=_LIBRARY)
    torch.library.register_vmap(f"thinned::{_name}", _batch, lib=_LIBRARY)


def _tensor(number: Any, dtype: torch.dtype) -> Tensor:
    """A 0-d tensor on the CPU. By torch.full, which takes a compiler's symbol as it is: as_tensor
    would make it a constant, and each new step another program."""
    if isinstance(number, Tensor):
        return number.to("cpu", dtype)
    return torch.full((), number, dtype=dtype, device="cpu")


def _tensors(at: Coordinates, threshold: Any, scale: Any) -> tuple[Tensor, Tensor]:
    words = [_tensor(word, torch.int64) for word in (*at, threshold)]
    return torch.stack(words), _tensor(scale, torch.float64)


def noise_compiled(
    x: Tensor,
    at: Coordinates,
    threshold: Any,
    scale: Any,
    fill: float = 0.0,
    shared_axes: tuple[int, ...] = (),
    start: tuple[int, ...] = (),
    global_shape: tuple[int, ...] = (),
    mirror: bool = False,
) -> Tensor:
    """The registered operator; coordinates, threshold and scale may be numbers or 0-d tensors."""
    first = start + (0,) * (x.dim() - len(start))
    strides = index_strides(global_shape or tuple(x.shape), shared_axes)
    offset = sum([s * n for s, n in zip(first, strides, strict=True)])
    y: Tensor = OPERATOR(
        x, *_tensors(at, threshold, scale), fill, offset, lengths(strides), mirror, False
    )
    return y


def noise_drawn(
    x: Tensor, seed: Tensor, threshold: int, scale: float, shared_axes: tuple[int, ...]
) -> Tensor:
    """Dropout by `thinned::dropout`, at a seed (0-d, int64) that a generator gave."""
    strides = index_strides(tuple(x.shape), shared_axes) if shared_axes else ()
    y: Tensor = DROPOUT(x, seed, threshold, scale, lengths(strides))
    return y


def noise_registered(x: Tensor, how: Noise, array: Tensor | None = None) -> Tensor:
    """The registered operator on a noise that is known, for modes and wrapper tensors to see. The
    address may be Coordinates that are tensors."""
    if type(x) is FakeTensor:
        with x.fake_mode:  # which would not have real tensors beside its own
            return _noise_registered(x, how, array)
    return _noise_registered(x, how, array)


def _noise_registered(x: Tensor, how: Noise, array: Tensor | None) -> Tensor:
    (at, threshold, where, mirror), scale, fill, gaussian = how
    words = at if isinstance(at, Coordinates) else coordinates_of(at)
    y: Tensor = OPERATOR(
        x,
        *_tensors(words, threshold, scale),
        fill,
        where.offset,
        lengths(where.strides),
        mirror,
        gaussian,
        array,
    )
    return y
