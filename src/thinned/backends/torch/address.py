"""Addresses that a compiled program holds as tensors, and the operators that draw from them.

A method reads nothing of an address: it asks for draws. So the same method, traced by a compiler,
leaves these operators in the program, and a new step, call, p or place in the batch is no new
program. They are functions of their inputs alone: run again, they draw the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from thinned import kernel, reference
from thinned.backends.base import Draw
from thinned.backends.torch import spec
from thinned.backends.torch.kernel import Drawn, Noise, coordinates_of, make, run
from thinned.backends.torch.tags import operator
from thinned.backends.torch.values import has_values, lengths
from thinned.kernel import _native
from thinned.window import MOST_BITS, MOST_WORDS, Placement, Window, place

__all__ = [
    "GraphAddress",
    "GraphPlace",
    "apply_in_graph",
    "draw_in_graph",
    "draw_values",
    "graph_address",
    "on_gradient_in_graph",
    "uniform_of",
]

Law = _native.Law
CPU = torch.device("cpu")
MASK32 = 0xFFFFFFFF
_in_transform = torch._C._are_functorch_transforms_active


class GraphPlace(NamedTuple):
    """Where draws lie, as far as a compiler knows: the shape of the array they are made for, their
    own, the shared axes; and the tensor that says which part of a whole it is."""

    held: tuple[int, ...]
    shape: tuple[int, ...]
    shared: tuple[int, ...]
    where: Tensor


class GraphAddress(NamedTuple):
    """Stands for thinned.backends.base.Located in a compiled program.

    at : int64, shape (5,): seed_low, seed_high, site, step, call.
    where : int64, shape (2 n,): start and shape of the whole of an array of n axes; empty, or with
        a start of -1, where the array is the whole. A whole of -1 rows is one of nobody knows how
        many.
    """

    at: Tensor
    where: Tensor

    def fold_in(self, n: int) -> GraphAddress:
        return GraphAddress(torch.ops.thinned.folded(self.at, n), self.where)

    def place(
        self,
        who: str,
        held: tuple[int, ...],
        shape: tuple[int, ...],
        shared: tuple[int, ...],
        most: int = MOST_BITS,
    ) -> GraphPlace:
        return GraphPlace(held, shape, shared, self.where)

    def whole(self, who: str, held: tuple[int, ...], axes: tuple[int, ...]) -> GraphAddress:
        where = torch.ops.thinned.require_whole(self.where, who, held, axes)
        return GraphAddress(self.at, where)


def _full(number: Any) -> Tensor:
    """By torch.full, which takes a compiler's symbol as it is; a constant would be a new program
    each time."""
    return torch.full((), number, dtype=torch.int64, device=CPU)


def graph_address(at: Any, window: Window | None, shape: tuple[int, ...]) -> GraphAddress:
    """A known address and window, as tensors."""
    words = torch.stack([_full(word) for word in coordinates_of(at)])
    numbers: list[int] = []
    if window is not None:
        assert isinstance(window.start, tuple)
        start = window.start + (0,) * (len(shape) - len(window.start))
        whole = window.global_shape or (-1, *shape[1:])
        numbers = [*start, *whole]  # type: ignore[misc]
    where = (
        torch.stack([_full(n) for n in numbers])
        if numbers
        else torch.empty(0, dtype=torch.int64, device=CPU)
    )
    return GraphAddress(words, where)


def _window(where: Tensor) -> Window | None:
    numbers = where.tolist()
    n = len(numbers) // 2
    if not n or numbers[0] < 0:
        return None
    return Window(tuple(numbers[:n]), None if numbers[n] < 0 else tuple(numbers[n:]))


def _placement(
    where: Tensor, held: Sequence[int], shape: Sequence[int], shared: Sequence[int], words: bool
) -> Placement:
    window = _window(where)
    lengths, axes = tuple(shape), tuple(shared)
    if window is not None and tuple(held) != lengths:
        window = window.onto("thinned", tuple(held), lengths, axes)
    return place("thinned", lengths, axes, window, MOST_WORDS if words else MOST_BITS)


def _drawn(words: Tensor) -> Any:
    low, high, site, step, call = words.tolist()
    return Drawn(low | high << 32, site, step, call)


@operator("thinned::folded")
def _folded(words: Tensor, n: int) -> Tensor:
    low, high, *rest = words.tolist()
    seed = reference.fold_in(low | high << 32, n)
    return torch.tensor([seed & MASK32, seed >> 32, *rest], dtype=torch.int64)


@_folded.register_fake
def _(words: Tensor, n: int) -> Tensor:
    return torch.empty_like(words)


@operator("thinned::require_whole")
def _require_whole(where: Tensor, who: str, held: Sequence[int], axes: Sequence[int]) -> Tensor:
    window = _window(where)
    if window is not None:
        window.require_whole(who, tuple(held), tuple(axes))
    return where.clone()


@_require_whole.register_fake
def _(where: Tensor, who: str, held: Sequence[int], axes: Sequence[int]) -> Tensor:
    return torch.empty_like(where)


# ------------------------------------------------------------------------------------------- draws

_TYPES = {"mask": torch.bool, "words": torch.int64, "gaussian": torch.float32}


def draw_values(draw: Draw, law: str, like: Tensor | None = None) -> Tensor:
    """Draws at a known address: a keep mask, words in int64 or Gaussians, as the placement has it,
    beside `like`; on the CPU where there is none.

    PyTorch's uint32 knows few operations, and so words are int64.
    """
    if like is not None and not has_values(like):
        return like.new_empty(draw.place.shape, dtype=_TYPES[law])
    device = CPU if like is None else like.device
    if device.type != "cpu" or kernel.uses_reference():
        at, where, mirror = coordinates_of(draw.at), draw.place, draw.mirror
        if law == "mask":
            pure = spec.keep(at, draw.threshold, where, mirror, device)
        elif law == "words":
            pure = spec.words(at, where, mirror, device)
        else:
            pure = spec.gaussian(at, where, mirror, device).to(torch.float32)
        return pure.expand(where.shape).contiguous()
    if _in_transform():
        with temporarily_clear_interpreter_stack():  # which would wrap the memory up
            return _drawn_on_cpu(draw, law)
    return _drawn_on_cpu(draw, law)


def _drawn_on_cpu(draw: Draw, law: str) -> Tensor:
    if law == "words":
        words = torch.empty(draw.place.shape, dtype=torch.int32, device=CPU)
        run(None, words, draw, law=Law.words)
        return words.to(torch.int64) & MASK32
    out = torch.empty(draw.place.shape, dtype=_TYPES[law], device=CPU)
    run(None, out, draw, law=Law.mask if law == "mask" else Law.raw_gaussian)
    return out


def uniform_of(words: Tensor) -> Tensor:
    """uniform24 of words in int64: binary32, exact."""
    odd = (words >> 9) * 2 + 1
    return odd.to(torch.float32) * (1.0 / 2**24)


@operator("thinned::drawn")
def _drawn_op(
    like: Tensor,
    words: Tensor,
    where: Tensor,
    threshold: Tensor,
    held: Sequence[int],
    shape: Sequence[int],
    shared: Sequence[int],
    mirror: bool,
    law: str,
) -> Tensor:
    placement = _placement(where, held, shape, shared, law != "mask")
    draw = Draw(_drawn(words), int(threshold), placement, mirror)
    return draw_values(draw, law, like)


@_drawn_op.register_fake
def _(
    like: Tensor,
    words: Tensor,
    where: Tensor,
    threshold: Tensor,
    held: Sequence[int],
    shape: Sequence[int],
    shared: Sequence[int],
    mirror: bool,
    law: str,
) -> Tensor:
    return like.new_empty(tuple(shape), dtype=_TYPES[law])


def draw_in_graph(draw: Draw, law: str, like: Tensor) -> Tensor:
    """Draws at an address of tensors."""
    at: Any = draw.place
    held, shape, shared, where = at
    words: Any = draw.at
    threshold = draw.threshold
    if not isinstance(threshold, Tensor):
        threshold = _full(threshold)  # type: ignore[assignment]
    y: Tensor = torch.ops.thinned.drawn(
        like.detach(),
        words,
        where,
        threshold,
        lengths(held),
        lengths(shape),
        shared,
        draw.mirror,
        law,
    )
    return y


# -------------------------------------------------------------------------------------------- noise


@operator("thinned::noised")
def _noised(
    x: Tensor,
    words: Tensor,
    where: Tensor,
    threshold: Tensor,
    scale: Tensor,
    array: Tensor | None,
    fill: float,
    shared: Sequence[int],
    mirror: bool,
    gaussian: bool,
) -> Tensor:
    shape = tuple(x.shape)
    placement = _placement(where, shape, shape, shared, gaussian)
    draw = Draw(_drawn(words), int(threshold), placement, mirror)
    return make(x, Noise(draw, float(scale), fill, gaussian), None, array)


@_noised.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, words, where, threshold, scale, _, _, *ctx.how = inputs
    ctx.save_for_backward(words, where, threshold, scale)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    dx = torch.ops.thinned.noised(grad, *ctx.saved_tensors, None, 0.0, *ctx.how)
    filled = grad - dx if ctx.needs_input_grad[5] else None
    return dx, None, None, None, None, filled, None, None, None, None


_noised.register_autograd(_backward, setup_context=_keep)


def apply_in_graph(
    x: Tensor, draw: Draw, scale: Any, fill: float, array: Tensor | None, gaussian: bool
) -> Tensor:
    """Noise at an address of tensors, differentiable; four words and the scale are kept."""
    shared, where = draw.place.shared, draw.place.where  # type: ignore[attr-defined]
    words: Any = draw.at
    threshold, scale = _numbers(draw.threshold, scale)
    y: Tensor = torch.ops.thinned.noised(
        x, words, where, threshold, scale, array, fill, shared, draw.mirror, gaussian
    )
    return y


def _numbers(threshold: Any, scale: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(threshold, Tensor):
        threshold = _full(threshold)
    if not isinstance(scale, Tensor):
        scale = torch.full((), scale, dtype=torch.float64, device=CPU)
    return threshold, scale.to(torch.float64)


@operator("thinned::on_gradient")
def _on_gradient(
    x: Tensor,
    words: Tensor,
    where: Tensor,
    threshold: Tensor,
    scale: Tensor,
    shared: Sequence[int],
    mirror: bool,
) -> Tensor:
    return x.clone()


@_on_gradient.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _keep_for_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, words, where, threshold, scale, *ctx.how = inputs
    ctx.save_for_backward(words, where, threshold, scale)


def _noise_of_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    dx = torch.ops.thinned.noised(grad, *ctx.saved_tensors, None, 0.0, *ctx.how, False)
    return dx, None, None, None, None, None, None


_on_gradient.register_autograd(_noise_of_gradient, setup_context=_keep_for_gradient)


def on_gradient_in_graph(x: Tensor, draw: Draw, scale: Any) -> Tensor:
    """x, with noise at an address of tensors on its gradient."""
    shared, where = draw.place.shared, draw.place.where  # type: ignore[attr-defined]
    words: Any = draw.at
    threshold, scale = _numbers(draw.threshold, scale)
    y: Tensor = torch.ops.thinned.on_gradient(
        x, words, where, threshold, scale, shared, draw.mirror
    )
    return y
