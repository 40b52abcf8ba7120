"""The operators that a compiled graph holds: the clock's reading, a site's draw, and its gradient.

They are functions of their inputs alone, so that a compiler may run them again in the backward pass
(checkpointing inside a compiled model, an activation memory budget) and get the same mask. Step, p,
call and piece are tensors: a new value is no new program.

One thing they look up outside: run in a backward pass, and asked for a call not made yet, the
compiled code as a whole is being recomputed by a checkpoint around it, and the call to repeat is
found as in eager code.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned import checks, reference
from thinned.address import Address
from thinned.backends.base import Draw
from thinned.backends.torch.backend import Noise
from thinned.backends.torch.tags import operator
from thinned.torch.attention import blockwise
from thinned.torch.clock import checkpoints
from thinned.torch.clock.clock import Clock
from thinned.torch.clock.numbers import clock_by_number
from thinned.torch.clock.reading import HEAD, Moment, moment_of, require_call, words_of
from thinned.torch.clock.rows import address_of, window_of
from thinned.torch.compat.shard import Shard
from thinned.torch.dropin import kinds
from thinned.window import Window, place

__all__ = ["BITS_OF_P", "bits_of"]

# Words of a site: its index among the model's sites, its 32-bit name, the bits of p as binary64.
INDEX, NAME, BITS_OF_P = range(3)
# Words of a draw, for the backward pass: the address, the bits of p, then start and shape.
DRAW = 6


def bits_of(p: float) -> int:
    """A binary64 number as an int64: integers and p travel in one tensor."""
    bits: int = struct.unpack("<q", struct.pack("<d", p))[0]
    return bits


def _number_of(bits: int) -> float:
    p: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return p


@operator("thinned::clock")
def _clock(buffer: Tensor, identity: Tensor, counts: Tensor) -> Tensor:
    clock = clock_by_number(int(identity))
    assert clock is not None
    known, moment = clock.counts, clock.moment()
    if clock.counts is not known:
        # The buffer was written into, and this asking began its step: none of its calls was made.
        counts = torch.zeros_like(counts)
    words = torch.tensor(words_of(moment), dtype=torch.int64, device="cpu")
    return torch.cat([words, counts])


@_clock.register_fake
def _(buffer: Tensor, identity: Tensor, counts: Tensor) -> Tensor:
    return counts.new_empty(HEAD + counts.shape[0])


@operator("thinned::addressed")
def _addressed(
    x: Tensor,
    live: Tensor,
    words: Tensor,
    p: Tensor | None,
    kind: str,
    shared_axes: Sequence[int],
    axis: int,
    start: Sequence[int],
    shape: Sequence[int],
    covers: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns y, the words of the draw, and `live` with one call more. p None: the site's own."""
    name = int(words[NAME])
    moment, call, label, after = _next_call(live, words)
    shard = Shard(start, shape, covers) if start else None
    at = address_of(moment, name, call, shard)
    window = window_of(label, moment, tuple(x.shape), axis, shard)
    bits = _bits(p, words, moment)
    with torch.no_grad():
        y = kinds.forward(x, _number_of(bits), kind, at, tuple(shared_axes), window)
    return y.clone() if y is x else y, _draw(at, bits, window, x.dim()), after


def _bits(p: Tensor | None, words: Tensor, moment: Moment) -> int:
    """The bits of the p that a draw has: the call's, or the site's own."""
    if p is None:
        return _own_bits(words, moment)
    return bits_of(checks.probability("dropout", p.item()))


def _own_bits(words: Tensor, moment: Moment) -> int:
    """The bits of the site's own p at this moment.

    Its schedule is asked: who writes into the clock's buffer moves the step, and the words that the
    site had ready for this run were those of another step.
    """
    index, _, bits = words.tolist()
    clock = clock_by_number(moment.clock)
    rule = None if clock is None else clock.rules.get(clock.names[index])
    return int(bits) if rule is None else bits_of(rule(moment.step))


def _next_call(live: Tensor, words: Tensor) -> tuple[Moment, int, str, Tensor]:
    """The moment and number of a site's next call, its name for messages, and `live` after it."""
    index, name, _ = words.tolist()
    moment = moment_of(live[:HEAD].tolist())
    call, after = int(live[HEAD + index]), live.clone()
    label = f"number {name}"
    clock = clock_by_number(moment.clock)
    repeated = None
    if clock is not None:
        label = clock.names[index]
        if torch._C._current_graph_task_id() >= 0:
            repeated = _repeated(clock, moment, index, call, label)
        else:
            clock.drew(index, moment.epoch, call)
            checkpoints.note(clock, index, (moment, call))
    if repeated is None:
        require_call(call, label)
        after[HEAD + index] += 1
    else:
        moment, call = repeated
    return moment, call, label, after


def _repeated(
    clock: Clock, moment: Moment, index: int, call: int, label: str
) -> tuple[Moment, int] | None:
    """What a recompute of the whole compiled code is to draw; None for a draw made again in it."""
    if clock.moment().epoch != moment.epoch or call < clock.drawn(index):
        return None
    return checkpoints.replayed(clock, index, label) or clock.again(index, label)


@_addressed.register_fake
def _(
    x: Tensor,
    live: Tensor,
    words: Tensor,
    p: Tensor | None,
    kind: str,
    shared_axes: Sequence[int],
    axis: int,
    start: Sequence[int],
    shape: Sequence[int],
    covers: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    draw = words.new_empty(DRAW + 2 * x.dim())
    return torch.empty_like(x), draw, torch.empty_like(live)


@operator("thinned::located")
def _located(
    live: Tensor,
    words: Tensor,
    held: Sequence[int],
    axis: int,
    start: Sequence[int],
    shape: Sequence[int],
    covers: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where a method's draws of a site's next call lie, for an array of shape `held`.

    Returns the words of the address, the window (start and whole shape, or -1s), the site's p, and
    `live` with one call more.
    """
    name = int(words[NAME])
    moment, call, label, after = _next_call(live, words)
    bits = _own_bits(words, moment)
    shard = Shard(start, shape, covers) if start else None
    at = address_of(moment, name, call, shard)
    window = window_of(label, moment, tuple(held), axis, shard)
    drawn = _draw(at, bits, window, len(held))
    p = torch.tensor(_number_of(bits), dtype=torch.float64, device="cpu")
    return drawn[: DRAW - 1].clone(), drawn[DRAW:].clone(), p, after


@_located.register_fake
def _(
    live: Tensor,
    words: Tensor,
    held: Sequence[int],
    axis: int,
    start: Sequence[int],
    shape: Sequence[int],
    covers: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    where = words.new_empty(2 * len(held))
    return words.new_empty(5), where, words.new_empty((), dtype=torch.float64), live.clone()


@operator("thinned::own_p")
def _own_p(buffer: Tensor, identity: Tensor, words: Tensor) -> Tensor:
    """The p of a site now, for an evaluation that needs one: 0-d, float64. No call is counted."""
    clock = clock_by_number(int(identity))
    assert clock is not None
    number = _number_of(_own_bits(words, clock.moment()))
    return torch.tensor(number, dtype=torch.float64, device="cpu")


@_own_p.register_fake
def _(buffer: Tensor, identity: Tensor, words: Tensor) -> Tensor:
    return words.new_empty((), dtype=torch.float64)


def _draw(at: Address, bits: int, window: Window | None, axes: int) -> Tensor:
    start: Sequence[int] = [-1] * axes
    shape: Sequence[int] = start
    if window is not None:
        assert isinstance(window.start, tuple)
        assert isinstance(window.global_shape, tuple)
        start, shape = window.start, window.global_shape
    low, high = at.seed & 0xFFFFFFFF, at.seed >> 32
    drawn = [low, high, at.site, at.step, at.call, bits, *start, *shape]
    return torch.tensor(drawn, dtype=torch.int64, device="cpu")


def _read(draw: Tensor) -> tuple[Address, float, Window | None]:
    """Address, p and window from the words of a draw."""
    low, high, site, step, call, bits, *where = draw.tolist()
    start, shape = tuple(where[: len(where) // 2]), tuple(where[len(where) // 2 :])
    window = Window(start, shape) if start and start[0] >= 0 else None
    return Address(low | high << 32, site, step, call), _number_of(bits), window


@operator("thinned::addressed_backward")
def _gradient(grad: Tensor, draw: Tensor, kind: str, shared_axes: Sequence[int]) -> Tensor:
    at, p, window = _read(draw)
    with torch.no_grad():
        y = kinds.backward(grad, p, kind, at, tuple(shared_axes), window)
    return y.clone() if y is grad else y


@_gradient.register_fake
def _(grad: Tensor, draw: Tensor, kind: str, shared_axes: Sequence[int]) -> Tensor:
    return torch.empty_like(grad)


def _keep_draw(ctx: object, inputs: tuple[object, ...], output: tuple[Tensor, ...]) -> None:
    ctx.kind, ctx.shared_axes = inputs[4], inputs[5]  # type: ignore[attr-defined]
    ctx.save_for_backward(output[1])  # type: ignore[attr-defined]


def _backward(ctx: object, grad: Tensor, *_: object) -> tuple[object, ...]:
    (draw,) = ctx.saved_tensors  # type: ignore[attr-defined]
    kind, shared = ctx.kind, ctx.shared_axes  # type: ignore[attr-defined]
    return (_gradient(grad, draw, kind, shared), *(None,) * 9)


def _keep_same(ctx: object, inputs: tuple[object, ...], output: Tensor) -> None:
    _, draw, ctx.kind, ctx.shared_axes = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(draw)  # type: ignore[attr-defined]


def _backward_twice(ctx: object, grad: Tensor) -> tuple[object, ...]:
    (draw,) = ctx.saved_tensors  # type: ignore[attr-defined]
    kind, shared = ctx.kind, ctx.shared_axes  # type: ignore[attr-defined]
    return _gradient(grad, draw, kind, shared), None, None, None


_addressed.register_autograd(_backward, setup_context=_keep_draw)
_gradient.register_autograd(_backward_twice, setup_context=_keep_same)


# --------------------------------------------------------------------------------------- attention


def _plan(
    q: Tensor,
    k: Tensor,
    at: Address,
    p: float,
    window: Window | None,
    scale: float,
    is_causal: bool,
) -> blockwise.Plan:
    shape = (*q.shape[:-1], k.shape[-2])
    where = place("attention", shape, (), window)
    draw = Draw(at, reference.threshold(p), where, False)
    return blockwise.Plan(Noise(draw, reference.scale_for(p)), scale, is_causal)


@operator("thinned::attended")
def _attended(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    live: Tensor,
    words: Tensor,
    p: Tensor | None,
    scale: float,
    is_causal: bool,
    axis: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention whose weights a site drops: the output, the words of the draw, and `live` after.

    q, k and v have the same leading axes.
    """
    name = int(words[NAME])
    moment, call, label, after = _next_call(live, words)
    at = address_of(moment, name, call, None)
    shape = (*q.shape[:-1], k.shape[-2])
    window = window_of(label, moment, shape, axis, None)
    bits = _bits(p, words, moment)
    plan = _plan(q, k, at, _number_of(bits), window, scale, is_causal)
    out = blockwise.forward(q, k, v, mask, plan)
    return out, _draw(at, bits, window, len(shape)), after


@_attended.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    live: Tensor,
    words: Tensor,
    p: Tensor | None,
    scale: float,
    is_causal: bool,
    axis: int,
) -> tuple[Tensor, Tensor, Tensor]:
    draw = words.new_empty(DRAW + 2 * q.dim())
    return blockwise.output_like(q, v, q.dtype), draw, torch.empty_like(live)


@operator("thinned::attended_backward")
def _attended_gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    mask_gradient: bool,
    draw: Tensor,
    scale: float,
    is_causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    at, p, window = _read(draw)
    plan = _plan(q, k, at, p, window, scale, is_causal)
    dq, dk, dv, dmask = blockwise.backward(grad, q, k, v, mask, plan, mask_gradient)
    return dq, dk, dv, q.new_empty(0) if dmask is None else dmask


@_attended_gradients.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    mask_gradient: bool,
    draw: Tensor,
    scale: float,
    is_causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dmask = q.new_empty(0) if mask is None or not mask_gradient else torch.empty_like(mask)
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), dmask


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, mask, _, _, _, ctx.scale, ctx.is_causal, _ = inputs
    ctx.save_for_backward(q, k, v, mask, output[1])


def _attended_backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
    q, k, v, mask, draw = ctx.saved_tensors
    wanted = ctx.needs_input_grad[3]
    dq, dk, dv, dmask = _attended_gradients(
        grad, q, k, v, mask, wanted, draw, ctx.scale, ctx.is_causal
    )
    return (dq, dk, dv, dmask if wanted else None) + (None,) * 6


_attended.register_autograd(_attended_backward, setup_context=_keep_inputs)
