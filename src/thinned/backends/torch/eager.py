"""Noise on tensors in eager code: differentiable, by address, nothing of a mask's size saved.

Plain tensors on the CPU have it in C++ (compiled_node.py), where that was built for the PyTorch at
hand; a torch.autograd.Function does the same, and carries forward mode and torch.func's transforms.
Where a mode, a tracer or a wrapper looks on, it is the registered operator (operators.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.backends.torch import compiled_node, wire
from thinned.backends.torch.derivative import Linear
from thinned.backends.torch.internals import (
    forward_ad,
    functorch,
    in_transform,
    modes,
    own_dispatch,
    tracing,
)
from thinned.backends.torch.kernel import Drawn, Noise, affine, make
from thinned.backends.torch.operators import drop_values, noise_registered
from thinned.backends.torch.spec import Coordinates
from thinned.backends.torch.values import eager
from thinned.window import Placement

__all__ = ["OnGradient", "filled", "noise", "noise_", "noise_into", "seed_again"]

CPU = torch.device("cpu")

# Used at every call: looked up once.
_in_transform, _modes, _tracing = in_transform, modes, tracing
_grad_enabled = torch.is_grad_enabled


def _seeded(how: Noise, seed: Tensor | None) -> Noise:
    """The noise with the seed that a generator gave, a number."""
    if seed is None:
        return how
    at = how.draw.at
    named: Any = Drawn(int(seed.item()) & (2**64 - 1), at.site, at.step, at.call)
    return how._replace(draw=how.draw._replace(at=named))


def _seeded_unread(how: Noise, seed: Tensor | None) -> Noise:
    """The same with the seed as a tensor, which the operator is the first to read."""
    if seed is None:
        return how
    at = how.draw.at
    low, high = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    words: Any = Coordinates(low, high, at.site, at.step, at.call)
    return how._replace(draw=how.draw._replace(at=words))


def _shared_in_front(how: Noise, n: int) -> Noise:
    """The same draws for each of n arrays that lie along a new leading axis."""
    p = how.draw.place
    repeated = Placement((n, *p.shape), p.offset, (0, *p.strides), False, (0, *p.strides))
    return how._replace(draw=how.draw._replace(place=repeated))


class _Eager(Linear, torch.autograd.Function):
    """The address is kept as an attribute: no tensor is saved.

    One of the two forms that PyTorch has for a Function: this one starts in 10 microseconds, the
    other, which torch.func needs, in 55.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, array: Tensor | None, how: Noise, inplace: bool) -> Tensor:
        ctx.how = how._replace(fill=0.0) if how.fill else how
        ctx.inplace = inplace
        ctx.set_materialize_grads(False)
        if inplace:
            ctx.mark_dirty(x)
        return make(x, how, x if inplace else None, array)

    @staticmethod
    def again(ctx: Any, x: Tensor) -> Tensor:
        return _again(x, ctx.how)

    @classmethod
    def jvp(cls, ctx: Any, dx: Tensor | None, df: Tensor | None, *rest: Any) -> Tensor | None:
        moved = super().jvp(ctx, dx, df, *rest)
        return dx.copy_(moved) if ctx.inplace and dx is not None and moved is not None else moved


# Up to 2.13 Function.apply is this and two microseconds of checks for transforms of torch.func,
# which `noise` has made before.
_eager: Any = super(torch.autograd.Function, _Eager).apply


def _elsewhere(x: Tensor, numbers: tuple[int, ...]) -> Tensor:
    """The noise on a gradient that is not plain, for the compiled part: numbers as in its `How`."""
    return _again(x, wire.read_native(numbers, tuple(x.shape)))


def _again(grad: Tensor, how: Noise) -> Tensor:
    """The noise of a forward pass that is over, on its gradient. A vmap over the backward pass has
    many gradients and no say in the mask."""
    return noise(grad, seed_again(how) if _in_transform() else None, how)


def seed_again(how: Noise) -> Tensor:
    """A known seed as a tensor (int64, 0-d), which no vmap makes another one of."""
    seed = how.draw.at.seed
    signed = seed - 2**64 if seed >= 2**63 else seed
    return torch.full((), signed, dtype=torch.int64, device=CPU)


class OnGradient(torch.autograd.Function):
    """y = x, and the gradient of y with noise for that of x. It has no forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, how: Noise) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.how = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return noise(grad, None, ctx.how), None


class _Transformed(Linear, torch.autograd.Function):
    """The same under the transforms of torch.func, where a seed may be a batch of seeds."""

    @staticmethod
    def forward(x: Tensor, array: None, seed: Tensor | None, how: Noise) -> Tensor:
        if _watched(x):
            return noise_registered(x, _seeded_unread(how, seed))
        return make(x, _seeded(how, seed))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, _, ctx.seed, how = inputs
        ctx.how = how._replace(fill=0.0)
        ctx.set_materialize_grads(False)

    @staticmethod
    def again(ctx: Any, x: Tensor) -> Tensor:
        return noise(x, ctx.seed, ctx.how)

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, array: None, seed: Tensor | None, how: Noise
    ) -> tuple[Tensor, int]:
        n = info.batch_size
        x = x.expand(n, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        if in_dims[2] is not None:  # a seed of its own for each, drawn under "different"
            assert seed is not None
            seeds = seed.movedim(in_dims[2], 0)
            return torch.stack([noise(x[i], seeds[i], how) for i in range(n)]), 0
        if seed is None and info.randomness == "different":
            at = how.draw.at
            each = [how._replace(draw=how.draw._replace(at=at.fold_in(i))) for i in range(n)]
            return torch.stack([noise(x[i], None, each[i]) for i in range(n)]), 0
        return noise(x, seed, _shared_in_front(how, n)), 0


def _entry_by_entry(x: Tensor) -> Tensor:
    """x as a batch, under a vmap that wants another mask for each entry of one address: an x that
    is the same for all would not show _Transformed that there are several."""
    vmap = functorch.peek_interpreter_stack()
    if vmap is None or vmap.key() != functorch.TransformType.Vmap:
        return x
    level = functorch.CVmapInterpreterPtr(vmap)
    if level.randomness() != functorch.RandomnessType.Different or (
        functorch.is_batchedtensor(x) and functorch.maybe_get_level(x) == vmap.level()
    ):
        return x
    batch = x.unsqueeze(0).expand(level.batchSize(), *x.shape)
    y: Tensor = functorch._add_batch_dim(batch, 0, vmap.level())
    return y


def _wraps(x: Tensor) -> bool:
    """Whether x is a tensor around others (a DTensor, a FakeTensor), for the dispatcher to open.

    Subclasses without a dispatch of their own have plain memory, parameters among them.
    """
    return type(x).__torch_dispatch__ is not own_dispatch


def _watched(x: Tensor) -> bool:
    """Whether somebody is to see the operator on x: a dispatch mode, a tracer, x itself."""
    return bool(_modes() or _tracing()) or (type(x) is not Tensor and _wraps(x))


@eager
def noise(x: Tensor, seed: Tensor | None, how: Noise) -> Tensor:
    """The noise on x, differentiable. A seed (0-d, int64) takes the place of the address's."""
    y: Tensor
    if _in_transform():
        x = x if seed is not None else _entry_by_entry(x)
        # PyTorch gives Function.apply no types.
        y = _Transformed.apply(x, None, seed, how)  # type: ignore[no-untyped-call]
        return y
    if seed is not None:
        if _watched(x):
            return noise_registered(x, _seeded_unread(how, seed))
        how = _seeded(how, seed)
    (at, threshold, where, mirror), scale, fill, gaussian = how
    if x.is_cpu:
        short = compiled_node.noise(
            x, scale, fill, gaussian, at.seed, at.site, at.step, at.call, threshold, mirror,
            where.offset, where.steps,
        )  # fmt: skip
        if short is not None:
            y = short
            return y
    if _watched(x):
        return noise_registered(x, how)
    if (x.requires_grad and _grad_enabled()) or forward_ad._current_level >= 0:
        y = _eager(x, None, how, False)
    else:
        y = make(x, how)
    return y


@eager
def noise_(x: Tensor, seed: Tensor | None, how: Noise) -> Tensor:
    """The same into x itself."""
    if _in_transform() or _watched(x):
        return x.copy_(noise(x, seed, how))
    # Checked before anything is written; PyTorch itself checks afterwards.
    if x.requires_grad and x.is_leaf and _grad_enabled():
        raise RuntimeError(
            "thinned: a leaf tensor that requires grad cannot be written in place. "
            "Pass inplace=False."
        )
    if 0 in x.stride() and any(n > 1 and not s for n, s in zip(x.shape, x.stride(), strict=True)):
        raise RuntimeError(
            "thinned: more than one element of x lies in the same memory (it was expanded), so it "
            "cannot be written in place. Pass x.clone()."
        )
    y: Tensor = _eager(x, None, _seeded(how, seed), True)
    return y


def noise_into(x: Tensor, how: Noise, out: Tensor) -> Tensor:
    """The noise on x in `out`: made there if nobody differentiates or looks on and the two share no
    memory, and copied there if not."""
    if out is x:
        return noise_(x, None, how)
    if (
        not x.is_cpu
        or ((x.requires_grad or out.requires_grad) and _grad_enabled())
        or (_watched(x) or _watched(out) or _in_transform() or out.is_neg())
        or forward_ad._current_level >= 0
        or x.untyped_storage().data_ptr() == out.untyped_storage().data_ptr()
    ):
        return out.copy_(noise(x, None, how))
    make(x, how, out)
    if not out.is_inference():  # which has no version
        torch.autograd.graph.increment_version(out)
    return out


@eager
def filled(x: Tensor, array: Tensor, how: Noise) -> Tensor:
    """The noise on x with an array of fill values, of x's shape and type; two gradients."""
    if _in_transform():
        # f + s m (x - f) in parts that carry the transforms, with the dropped elements selected.
        kept = noise(torch.ones_like(x), None, how._replace(scale=1.0)).to(torch.bool)
        return torch.where(kept, affine(x, how.scale, array), array)
    if torch.compiler.is_compiling() or _watched(x) or _wraps(array):
        return noise_registered(x, how, array)
    y: Tensor = _eager(x, array, how, False)
    return y


compiled_node.connect(_elsewhere, drop_values)
