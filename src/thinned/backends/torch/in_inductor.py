"""Dropout in programs that Inductor makes for devices: one kernel with its neighbours.

An operator is a wall to Inductor: what stands before and behind it goes through memory. So while
Inductor lowers a program for a device that has kernels, `thinned::noised`, `thinned::drop` and
`thinned::heard` become two things: an operator that draws the keep bits, 32 to a word, and
arithmetic that looks them up, which Inductor fuses as its own. What is traced, saved or exported
is the same as without. Each pass draws for itself, and keeps no bits for the other.

THINNED_INDUCTOR=operators leaves the operators whole.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from thinned.backends.base import Draw
from thinned.backends.torch import spec, wire
from thinned.backends.torch.devices import uses_triton
from thinned.backends.torch.internals import proxy_mode
from thinned.backends.torch.kernel import FLOATING, Drawn, Noise, make, placed
from thinned.backends.torch.library import defined
from thinned.window import index_strides

__all__ = ["fuses", "offer"]

WAYS = ("fused", "operators")

# Programs lowered with PyTorch's own functions of these names.
_LOWERING = "torch._inductor.lowering"
_offered = False


def fuses() -> bool:
    """Whether THINNED_INDUCTOR lets Inductor fuse. ValueError for what it may not be."""
    way = os.environ.get("THINNED_INDUCTOR", "").strip() or WAYS[0]
    if way not in WAYS:
        raise ValueError(
            f"thinned: THINNED_INDUCTOR must be fused, for dropout that a compiled program for a "
            f"GPU fuses with its neighbours, or operators, for one that stands alone, got {way!r}."
        )
    return way == WAYS[0]


# ----------------------------------------------------------------------------------------- the bits


def _drawn(draw: Draw, shape: Sequence[int], shared: Sequence[int], device: torch.device) -> Tensor:
    """Keep bits in the order of the axes that share no draw, in words of int32."""
    steps = index_strides(tuple(shape), tuple(shared))
    own = draw.place.strides
    offset, n = draw.place.offset, _number(shape, shared)
    if all(a == b for count, a, b in zip(shape, steps, own, strict=True) if count > 1):
        return _in_order(draw._replace(place=placed((n,), offset, (1,))), device)
    # A part of a larger array along another axis than the first: its indices do not run on.
    alone = tuple(1 if axis in shared else count for axis, count in enumerate(shape))
    return _bits(draw._replace(place=placed(alone, offset, own)), device)


def _in_order(draw: Draw, device: torch.device) -> Tensor:
    if not uses_triton(device):
        return _bits(draw, device)
    from thinned.backends.torch.triton import launch, words

    return launch.mask_words(draw.place, words.told(draw), device)


def _bits(draw: Draw, device: torch.device) -> Tensor:
    ones = torch.ones(draw.place.shape, dtype=torch.float16, device=device)
    return spec.packed(make(ones, Noise(draw, 1.0)).flatten() != 0)


def _number(shape: Sequence[Any], shared: Sequence[int]) -> Any:
    return math.prod([n for axis, n in enumerate(shape) if axis not in shared])


def _words_for(n: Any, device: torch.device) -> Tensor:
    return torch.empty((n + 127) // 128 * 4, dtype=torch.int32, device=device)


def _noised_bits(
    words: Tensor, rate: Tensor, mirror: bool, shape: Sequence[int], shared: Sequence[int],
    device: torch.device,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    threshold, scale, *_ = rate.tolist()
    draw = wire.read(words, threshold, shape, mirror)
    # Filled, and not copied from the host, for which the host might wait.
    number = torch.full((), scale, dtype=torch.float64, device=device)
    return _drawn(draw, shape, shared, device), number


def _fake_noised_bits(
    words: Tensor, rate: Tensor, mirror: bool, shape: Any, shared: Any, device: torch.device
) -> tuple[Tensor, Tensor]:
    number = torch.empty((), dtype=torch.float64, device=device)
    return _words_for(_number(shape, shared), device), number


NOISED_BITS = defined(
    "noised_bits(Tensor words, Tensor rate, bool mirror, SymInt[] shape, int[] shared, "
    "Device device) -> (Tensor, Tensor)",
    _noised_bits,
    _fake_noised_bits,
)


def _drop_bits(seed: Tensor, threshold: int, n: int, device: torch.device) -> Tensor:
    at: Any = Drawn(int(seed.item()) & 0xFFFFFFFFFFFFFFFF)
    return _in_order(Draw(at, threshold, placed((n,), 0, (1,)), False), device)


def _fake_drop_bits(seed: Tensor, threshold: int, n: Any, device: torch.device) -> Tensor:
    return _words_for(n, device)


DROP_BITS = defined(
    "drop_bits(Tensor seed, int threshold, SymInt n, Device device) -> Tensor",
    _drop_bits,
    _fake_drop_bits,
)


def _heard_bits(told: Tensor, n: int) -> Tensor:
    from thinned.backends.torch.triton import launch

    return launch.mask_words(placed((n,), 0, (1,)), told, told.device)


def _fake_heard_bits(told: Tensor, n: Any) -> Tensor:
    return _words_for(n, told.device)


HEARD_BITS = defined(
    "heard_bits(Tensor told, SymInt n) -> Tensor", _heard_bits, _fake_heard_bits, captured=True
)


# ------------------------------------------------------------------------------------- the lowering


def offer(x: Tensor) -> None:
    """Tell Inductor, where it is loaded, how to lower the operators. Asked while one is traced, on
    x; without a device that has kernels Inductor is left as it is."""
    global _offered
    if _offered or proxy_mode() is None or not uses_triton(x.device):
        return
    lowering: Any = sys.modules.get(_LOWERING)
    if lowering is None or not hasattr(lowering, "constrain_to_fx_strides"):
        return
    operators = torch.ops.thinned
    for operator, lowered in (
        (operators.noised.default, _noised),
        (operators.drop.default, _drop),
        (operators.dropout.default, _drop),
        (operators.heard.default, _heard),
    ):
        as_operator = _whole(lowering, operator)
        register = lowering.register_lowering(operator, type_promotion_kind=None)
        register(_choosing(lowered, as_operator))
    _offered = True


def _whole(lowering: Any, operator: Any) -> Callable[..., Any]:
    """The operator as it stands, of inputs with the strides that it was traced with."""
    handler = lowering.fallback_handler(operator, add_to_fallback_set=False)

    def whole(*arguments: Any) -> Any:
        node = lowering.V.graph.current_node
        arguments, _ = lowering.constrain_to_fx_strides(node, *arguments)
        return handler(*arguments)

    return whole


def _choosing(lowered: Callable[..., Any], whole: Callable[..., Any]) -> Callable[..., Any]:
    def choose(x: Any, *how: Any) -> Any:
        fits = uses_triton(x.get_device()) and x.get_dtype() in FLOATING and fuses()
        y = lowered(x, *how) if fits else None
        return whole(x, *how) if y is None else y

    return choose


def _noised(
    x: Any, words: Any, rate: Any, fill: float, mirror: bool, law: str, array: Any = None,
    shared: Any = None,
) -> Any:  # fmt: skip
    if law != "bernoulli" or shared is None:
        return None
    size = x.get_size()
    bits, scale = _call(NOISED_BITS, words, rate, mirror, size, shared, x.get_device())
    load = scale.make_loader()
    return _pointwise(x, bits, index_strides(tuple(size), tuple(shared)), lambda: load([]),
                      lambda: fill + 0.0, array, fill != 0.0)  # fmt: skip


def _drop(x: Any, seed: Any, threshold: int, scale: float, strides: Sequence[Any]) -> Any:
    size = x.get_size()
    steps = tuple(strides) or index_strides(tuple(size), ())
    last = sum([(n - 1) * step for n, step in zip(size, steps, strict=True)])
    bits = _call(DROP_BITS, seed, threshold, last + 1, x.get_device())
    return _pointwise(x, bits, steps, lambda: scale, lambda: 0.0, None, False)


def _heard(x: Any, told: Any, shared: Sequence[int], filled: bool, array: Any) -> Any:
    from torch._inductor.virtualized import ops

    size = x.get_size()
    bits = _call(HEARD_BITS, told, _number(size, shared))
    load = told.make_loader()

    def number(i: int) -> Any:
        return ops.to_dtype_bitcast(load([i]), torch.float64, torch.int64)

    steps = index_strides(tuple(size), tuple(shared))
    return _pointwise(x, bits, steps, lambda: number(3), lambda: number(4), array, filled)


def _call(operator: Any, *arguments: Any) -> Any:
    lowering: Any = sys.modules[_LOWERING]
    return lowering.fallback_handler(operator, add_to_fallback_set=False)(*arguments)


def _pointwise(
    x: Any, bits: Any, steps: Sequence[Any], scale: Callable[[], Any], fill: Callable[[], Any],
    array: Any, filled: bool,
) -> Any:  # fmt: skip
    """fill + scale (x - fill) where kept, by dropping.py's arithmetic. scale, fill : numbers, or
    what is loaded as binary64; bit i of the words is that of the element with index i."""
    from torch._inductor import ir
    from torch._inductor.virtualized import ops
    from torch.utils._sympy.functions import FloorDiv, ModularIndexing

    dtype = x.get_dtype()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    load, load_bits = x.make_loader(), bits.make_loader()
    load_array = None if array is None else array.make_loader()

    def number(value: Any) -> Any:
        if isinstance(value, float):
            return ops.constant(value, wide)
        return (
            value if wide == torch.float64 else ops.to_dtype(value, wide, src_dtype=torch.float64)
        )

    def rounded(y: Any) -> Any:
        """In x's type, as what follows would have it from memory."""
        if dtype == wide:
            return y
        narrow = ops.to_dtype(y, dtype, src_dtype=wide, use_compute_types=False)
        return ops.to_dtype(narrow, wide, src_dtype=dtype)

    def element(index: Sequence[Any]) -> Any:
        at = sum([i * step for i, step in zip(index, steps, strict=True)])
        word = load_bits([FloorDiv(at, 32)])
        bit = ops.index_expr(ModularIndexing(at, 1, 32), torch.int32)
        one = ops.bitwise_and(ops.bitwise_right_shift(word, bit), ops.constant(1, torch.int32))
        keep = ops.ne(one, ops.constant(0, torch.int32))
        s, kept = number(scale()), ops.to_dtype(load(index), wide, src_dtype=dtype)
        if load_array is None and not filled:
            return ops.where(keep, rounded(ops.mul(kept, s)), ops.constant(0.0, wide))
        if load_array is None:
            from_ = number(fill())
            dropped = rounded(from_)
        else:
            dropped = from_ = ops.to_dtype(load_array(index), wide, src_dtype=dtype)
        moved = rounded(ops.add(from_, ops.mul(s, ops.sub(kept, from_))))
        same = ops.eq(s, ops.constant(1.0, wide))
        return ops.where(keep, ops.where(same, kept, moved), dropped)

    return ir.Pointwise.create(
        device=x.get_device(), dtype=dtype, inner_fn=element, ranges=list(x.get_size())
    )
