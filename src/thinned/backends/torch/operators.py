"""The registered operators: what compilers, exporters and dispatch modes see.

`thinned::noised` is the noise at an address: words and rate are tensors (wire.py), so that a new
step, p or place is no new program. `thinned::dropout` is its commonest case, a drawn seed and a p
that stays, where making those tensors would cost more than the dropout of a small one. Below
autograd it is `thinned::drop`, which is what a compiled program runs, in C++ where that was built
(compiled_node.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from thinned.backends.base import Draw
from thinned.backends.torch import in_cuda_graph, in_inductor, wire
from thinned.backends.torch.derivative import Linear
from thinned.backends.torch.internals import (
    ONE_LEVEL,
    FakeTensor,
    after_autograd,
    below_autograd,
    forward_ad,
    in_transform,
    set_forward_mode,
    single_level,
)
from thinned.backends.torch.kernel import FLOATING, Drawn, Noise, make, placed
from thinned.backends.torch.library import LIBRARY, defined
from thinned.backends.torch.spec import Coordinates
from thinned.backends.torch.values import lengths
from thinned.window import index_strides

__all__ = [
    "BERNOULLI",
    "GAUSSIAN",
    "GRADIENT",
    "drop_values",
    "noise_compiled",
    "noise_drawn",
    "noise_registered",
]

# ----------------------------------------------------------------------------------------- values

# What `noised` does: fill + scale m (x - fill); x (1 + scale z); x, and scale m on its gradient.
BERNOULLI, GAUSSIAN, GRADIENT = "bernoulli", "gaussian", "gradient"


def _values(
    x: Tensor,
    words: Tensor,
    rate: Tensor,
    fill: float,
    mirror: bool,
    law: str,
    array: Tensor | None = None,
    shared: Sequence[int] | None = None,
) -> Tensor:
    threshold, scale, *_ = rate.tolist()
    if law == GRADIENT:
        return x.clone()
    if x.dtype not in FLOATING:
        if threshold == 0.0:  # what is left alone may be of any type
            return x.clone()
        raise TypeError(f"thinned: x must be of a floating type of 16 bits or more, got {x.dtype}.")
    draw = wire.read(words, threshold, x.shape, mirror)
    return make(x, Noise(draw, scale, fill, law == GAUSSIAN), None, array)


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


NOISED = defined(
    "noised(Tensor x, Tensor words, Tensor rate, float fill, bool mirror, str law, "
    "Tensor? array=None, int[]? shared=None) -> Tensor",
    _values,
    _shape,
)
_DROP = "(Tensor x, Tensor seed, int threshold, float scale, SymInt[] strides) -> Tensor"
DROPOUT = defined("dropout" + _DROP, drop_values, _shape)
DROP = defined("drop" + _DROP, drop_values, _shape)


# ------------------------------------------------------------------------------------- derivatives

_in_transform = in_transform


def _noised(
    x: Tensor, words: Tensor, rate: Tensor, fill: float, mirror: bool, law: str,
    array: Tensor | None, shared: Sequence[int] | None,
) -> Tensor:  # fmt: skip
    """`thinned::noised` below autograd, or what stands for it in a CUDA graph."""
    if law == BERNOULLI and shared is not None and in_cuda_graph.wanted(x):
        return in_cuda_graph.noised(x, words, rate, fill, mirror, array, shared)
    y: Tensor = NOISED(x, words, rate, fill, mirror, law, array, shared)
    return y


def _drop(x: Tensor, seed: Tensor, *how: Any) -> Tensor:
    """`thinned::drop` below autograd, or what stands for it in a CUDA graph."""
    y: Tensor = (
        in_cuda_graph.drop(x, seed, *how) if in_cuda_graph.wanted(x) else DROP(x, seed, *how)
    )
    return y


@contextmanager
def _below() -> Iterator[None]:
    """Within a forward: the operator's values, or, under a transform of torch.func, its derivatives
    for the transforms around this one. Those are wanted, which a Function has switched off."""
    with below_autograd():
        if not _in_transform():
            yield
            return
        with torch.enable_grad(), set_forward_mode(True):
            yield


class _Noised(Linear):
    """Saves words and rate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, array: Tensor | None, *how: Any) -> Tensor:
        words, rate, fill, ctx.mirror, ctx.law, ctx.shared = how
        ctx.save_for_backward(words, rate)
        ctx.save_for_forward(words, rate)
        ctx.set_materialize_grads(False)
        with _below():
            return _noised(x, words, rate, fill, ctx.mirror, ctx.law, array, ctx.shared)

    @staticmethod
    def again(ctx: Any, x: Tensor) -> Tensor:
        law = BERNOULLI if ctx.law == GRADIENT else ctx.law
        y: Tensor = NOISED(x, *ctx.saved_tensors, 0.0, ctx.mirror, law, None, ctx.shared)
        return y

    @classmethod
    def jvp(cls, ctx: Any, dx: Tensor | None, df: Tensor | None, *rest: Any) -> Tensor | None:
        if ctx.law == GRADIENT:
            raise NotImplementedError(
                "thinned: noise on the gradient has no forward mode. Use reverse mode."
            )
        return super().jvp(ctx, dx, df, *rest)


class _Dropped(Linear):
    """Saves the seed: one word."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, _: None, seed: Tensor, *how: Any) -> Tensor:
        ctx.how = how
        ctx.save_for_backward(seed)
        ctx.save_for_forward(seed)
        ctx.set_materialize_grads(False)
        with _below():
            # Detached, since the compiled operator looks for a tangent.
            return _drop(x if _in_transform() else x.detach(), seed, *how)

    @staticmethod
    def again(ctx: Any, x: Tensor) -> Tensor:
        y: Tensor = DROPOUT(x, *ctx.saved_tensors, *ctx.how)
        return y


# Under torch.func a derivative is one of the transform at work, and not of all: an operator's
# kernel runs once for each. PyTorch makes its own Functions such ones.
_RULES: tuple[type[Linear], ...] = (_Noised, _Dropped)
_FUNCTIONS, _TWINS = (
    {rule: type(rule.__name__, (rule, base), {}) for rule in _RULES}
    for base in (torch.autograd.Function, ONE_LEVEL)
)


def _derived(rule: type[Linear], *arguments: Any) -> Tensor:
    """What the rule makes of its arguments, as one node of autograd."""
    transformed = _in_transform()
    function: Any = (_TWINS if transformed else _FUNCTIONS)[rule]
    with single_level() if transformed else nullcontext():
        y: Tensor = function.apply(*arguments)
    return y


def _recorded(wanted: bool) -> bool:
    """Whether autograd has to know of what becomes of tensors that want it to."""
    if wanted and torch.is_grad_enabled():
        return True
    return bool(forward_ad._current_level >= 0 or _in_transform())


def _differentiable(
    keyset: Any, x: Tensor, words: Tensor, rate: Tensor, fill: float, mirror: bool, law: str,
    array: Tensor | None = None, shared: Sequence[int] | None = None,
) -> Tensor:  # fmt: skip
    in_inductor.offer(x)
    if _recorded(x.requires_grad or (array is not None and array.requires_grad)):
        return _derived(_Noised, x, array, words, rate, fill, mirror, law, shared)
    with below_autograd():
        if in_cuda_graph.wanted(x):
            return _noised(x, words, rate, fill, mirror, law, array, shared)
        below = keyset & after_autograd
        y: Tensor = NOISED.redispatch(below, x, words, rate, fill, mirror, law, array, shared)
    return y


def _differentiable_drop(_: Any, x: Tensor, *how: Any) -> Tensor:
    return _dropped(_recorded(x.requires_grad), x, how)


def _forward_alone(_: Any, x: Tensor, *how: Any) -> Tensor:
    """`thinned::drop` stands in a compiled program, whose backward pass is a program of its own: of
    derivatives only forward mode's run through it."""
    return _dropped(_recorded(False), x, how)


def _dropped(recorded: bool, x: Tensor, how: tuple[Any, ...]) -> Tensor:
    in_inductor.offer(x)
    if recorded:
        return _derived(_Dropped, x, None, *how)
    with below_autograd():
        return _drop(x, *how)


# -------------------------------------------------------------------------------------------- vmap


def _each(x: Tensor | None, axis: int | None, i: int) -> Tensor | None:
    return x if x is None or axis is None else x.select(axis, i)


def _in_front(x: Tensor, axis: int | None, n: int) -> Tensor:
    return x.expand(n, *x.shape) if axis is None else x.movedim(axis, 0)


def _batch_of_noise(
    info: Any, axes: Any, x: Tensor, words: Tensor, rate: Tensor, fill: float, mirror: bool,
    law: str, array: Tensor | None = None, _: Any = None,
) -> tuple[Tensor, int]:  # fmt: skip
    """One call where the entries share an address: an axis in front that words do not speak of is
    one that shares the draws."""
    n, array_axis = info.batch_size, axes[6] if len(axes) > 6 else None
    if axes[1] is None and axes[2] is None:
        f = None if array is None else _in_front(array, array_axis, n)
        return NOISED(_in_front(x, axes[0], n), words, rate, fill, mirror, law, f), 0
    made = [
        NOISED(
            _each(x, axes[0], i),
            _each(words, axes[1], i),
            _each(rate, axes[2], i),
            fill, mirror, law,
            _each(array, array_axis, i),
        )
        for i in range(n)
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


for _name, _outer, _batch in (
    ("noised", _differentiable, _batch_of_noise),
    ("dropout", _differentiable_drop, _batch_of_drops),
    ("drop", _forward_alone, _batch_of_drops),
):
    LIBRARY.impl(_name, _outer, "Autograd", with_keyset=True)
    torch.library.register_vmap(f"thinned::{_name}", _batch, lib=LIBRARY)


# ------------------------------------------------------------------------------------- how to call


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
    """`thinned::noised`; coordinates, threshold and scale may be numbers or 0-d tensors."""
    first = start + (0,) * (x.dim() - len(start))
    strides = index_strides(global_shape or tuple(x.shape), shared_axes)
    offset = sum([s * n for s, n in zip(first, strides, strict=True)])
    words, rate = wire.pack_place(at, offset, strides), wire.pack_rate(threshold, scale)
    whole = None if global_shape else shared_axes
    y: Tensor = NOISED(x, words, rate, fill, mirror, BERNOULLI, None, whole)
    return y


def noise_drawn(
    x: Tensor, seed: Tensor, threshold: int, scale: float, shared_axes: tuple[int, ...]
) -> Tensor:
    """Dropout by `thinned::dropout`, at a seed (0-d, int64) that a generator gave."""
    strides = index_strides(tuple(x.shape), shared_axes) if shared_axes else ()
    y: Tensor = DROPOUT(x, seed, threshold, scale, lengths(strides))
    return y


def noise_registered(x: Tensor, how: Noise, array: Tensor | None = None) -> Tensor:
    """`thinned::noised` on a noise that is known, for modes and wrapper tensors to see. The address
    may be Coordinates that are tensors."""
    if type(x) is FakeTensor:
        fake: Any = x
        with fake.fake_mode:  # which would not have real tensors beside its own
            return _noise_registered(x, how, array)
    return _noise_registered(x, how, array)


def _noise_registered(x: Tensor, how: Noise, array: Tensor | None) -> Tensor:
    (at, threshold, where, mirror), scale, fill, gaussian = how
    words = wire.pack_place(at, where.offset, where.strides)
    rate, law = wire.pack_rate(threshold, scale), GAUSSIAN if gaussian else BERNOULLI
    y: Tensor = NOISED(x, words, rate, fill, mirror, law, array)
    return y
