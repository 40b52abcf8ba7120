"""Attention with dropout on its weights, a block of the weights at a time, forward and backward.

The weights of all heads together are the largest array of a transformer, and nothing here ever
holds them: a block is made, dropped on, used and overwritten by the next, and the backward pass
makes it again from queries and keys. A block holds whole rows, so that its softmax is the plain
one.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from thinned.backends.torch.eager import noise
from thinned.backends.torch.internals import softmax_backward
from thinned.backends.torch.kernel import Noise, make, placed

__all__ = ["Plan", "backward", "forward", "grouped", "plain"]

# Elements of a block. On the CPU each thread's share of a block, a megabyte, or two in the backward
# pass, stays in its core's cache between one matrix product and the next: all of 8 x 8 heads of 512
# tokens at once took twice as long. Smaller blocks lose more to starting the products than they
# gain. Elsewhere a block is only there to bound the memory.
A_THREAD, ELSEWHERE = 2**18, 2**26

# With is_causal a block ends at its last row's last column, so fewer rows skip more of the square.
CAUSAL_ROWS = 64

# Nothing is kept: the gradients are settled without asking what the weights were.
EVERYTHING = 2**32


class Plan(NamedTuple):
    """softmax(scale q k' + mask) -> how -> @ v. `how.draw.place` has the shape of the weights."""

    how: Noise
    scale: float
    is_causal: bool


class _Block(NamedTuple):
    """Part of the weights: whole rows of some heads, with all columns before `shape`'s last.

    `heads` picks them along the leading axes: numbers, then a slice of heads, or two slices
    where the block holds all heads of several samples. `shape` is (heads, rows, columns) or
    (samples, heads, rows, columns); `first` is where the block starts in the weights.
    """

    heads: tuple[int | slice, ...]
    rows: slice
    first: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def columns(self) -> slice:
        """Those of its keys and values that it has weights for."""
        return slice(self.shape[-1])

    def of(self, x: Tensor, tokens: slice) -> Tensor:
        """What belongs to its heads, in a tensor of as many axes as the weights; a view."""
        part: Tensor = x[(*self.heads, tokens)]
        return part

    def of_mask(self, mask: Tensor) -> Tensor:
        """The same of a mask, whose axes of length 1 stand for all."""
        index: list[int | slice] = []
        for n, part in zip(mask.shape, (*self.heads, self.rows, self.columns), strict=True):
            index.append(part if n > 1 else 0 if isinstance(part, int) else slice(None))
        return mask[tuple(index)]

    def noise(self, how: Noise) -> Noise:
        """The draws of this block."""
        place = how.draw.place
        steps = (0,) * max(0, 4 - len(place.strides)) + place.strides
        offset = place.offset + sum(map(operator.mul, self.first, steps))
        # A step along an axis of length 1 is never taken, so that it may be any: the one that makes
        # the indices of most blocks run on is the one that the kernel is fast with.
        strides, run = list(steps[-len(self.shape) :]), 1
        for axis in reversed(range(len(self.shape))):
            if self.shape[axis] == 1:
                strides[axis] = run
            run *= self.shape[axis]
        part = placed(self.shape, offset, strides)
        return how._replace(draw=how.draw._replace(place=part))


def _blocks(shape: tuple[int, ...], is_causal: bool, most: int) -> Iterator[_Block]:
    """The blocks of weights of `shape`, at least four axes; those of one head in a row."""
    *lead, outer, heads, length, width = shape
    row = max(1, width)
    rows = max(1, min(length, most // row, CAUSAL_ROWS if is_causal else length))
    group = max(1, min(heads, most // (rows * row)))
    # Heads of several samples go into one batch of products only if they are all the heads.
    several = max(1, most // (heads * rows * row)) if group == heads > 0 else 1
    for index in itertools.product(*map(range, lead)):
        for o in range(0, outer, several):
            n = min(several, outer - o)
            sample: tuple[int | slice, ...] = (o,) if n == 1 else (slice(o, o + n),)
            samples = () if n == 1 else (n,)
            for h in range(0, heads, group):
                end = min(h + group, heads)
                for r in range(0, length, rows):
                    below = min(r + rows, length)
                    yield _Block(
                        (*index, *sample, slice(h, end)),
                        slice(r, below),
                        (*index, o, h, r),
                        (*samples, end - h, below - r, min(width, below) if is_causal else width),
                    )


def _four(x: Tensor) -> Tensor:
    """With axes of length 1 in front, if it has fewer than four."""
    return x[(None,) * max(0, 4 - x.dim())]


def _arithmetic(x: Tensor) -> torch.dtype:
    """Half types compute in float32: so does PyTorch where it drops on the weights."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _most(x: Tensor) -> int:
    return A_THREAD * torch.get_num_threads() if x.device.type == "cpu" else ELSEWHERE


def _beyond(first: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Which of the columns from `first` on lie right of the diagonal, in the rows from there on."""
    square = torch.ones(rows, columns - first, device=device)
    return square.triu(1).to(torch.bool)


def _matrices(x: Tensor) -> Tensor:
    """(samples, heads, n, m) as a batch of matrices: the same memory, or a copy where it must be.
    Of one sample they are one."""
    return x if x.dim() == 3 else x.flatten(0, 1)


class _Room:
    """Memory for one block after the other."""

    def __init__(self, size: int, like: Tensor) -> None:
        self.memory = torch.empty(size, dtype=like.dtype, device=like.device)
        self.view: Tensor = self.memory

    def of(self, block: _Block) -> Tensor:
        """In the shape of the block's weights."""
        if self.view.shape != block.shape:
            self.view = self.memory[: math.prod(block.shape)].view(block.shape)
        return self.view


class _Weights:
    """The softmax of one block after the other, in the same memory."""

    def __init__(self, q: Tensor, k: Tensor, mask: Tensor | None, plan: Plan) -> None:
        kind = _arithmetic(q)
        self.plan, self.q, self.k, self.mask = plan, _four(q).to(kind), _four(k).to(kind), mask
        if mask is not None:
            self.mask = mask[(None,) * (self.q.dim() - mask.dim())]
        shape = (*self.q.shape[:-1], self.k.shape[-2])
        self.blocks = list(_blocks(shape, plan.is_causal, _most(q)))
        self.largest = max((math.prod(block.shape) for block in self.blocks), default=0)
        self.room = self.another_room()

    def another_room(self) -> _Room:
        """Room for a block."""
        return _Room(self.largest, self.q)

    def __call__(self, block: _Block) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, of the block's shape; their queries and keys, batches of matrices."""
        q = _matrices(block.of(self.q, block.rows))
        k = _matrices(block.of(self.k, block.columns))
        weights = self._scores(block, q, k)
        torch.softmax(weights, -1, out=weights)
        if block.shape[-1]:
            # A NaN fills its whole row, so that one column tells, and most often that all is well.
            broken = weights[..., 0].isnan()
            if weights.device.type != "cpu" or broken.any():
                self._settle(block, q, k)
        return weights, q, k

    def _scores(self, block: _Block, q: Tensor, k: Tensor) -> Tensor:
        scores = self.room.of(block)
        flat = _matrices(scores)
        torch.baddbmm(flat, q, k.mT, beta=0, alpha=self.plan.scale, out=flat)
        if self.mask is not None:
            mask = block.of_mask(self.mask)
            if mask.dtype == torch.bool:
                scores.masked_fill_(~mask, -math.inf)
            else:
                scores.add_(mask)
        elif self.plan.is_causal:
            first, (rows, columns) = block.rows.start, block.shape[-2:]
            if columns > first:
                beyond = _beyond(first, rows, columns, scores.device)
                scores[..., first:].masked_fill_(beyond, -math.inf)
        return scores

    def _settle(self, block: _Block, q: Tensor, k: Tensor) -> None:
        """Zeros where a row has nothing to attend to, as in PyTorch; its softmax is 0 / 0."""
        scores = self._scores(block, q, k)
        nothing = (scores == -math.inf).all(-1, keepdim=True)
        torch.softmax(scores, -1, out=scores)
        scores.masked_fill_(nothing, 0.0)


def _put(part: Tensor, a: Tensor, b: Tensor, scale: float, add: bool = False) -> None:
    """part = scale a b, or part += scale a b; a and b are batches of matrices, and part is one but
    for its samples."""
    if part.is_contiguous():
        flat = _matrices(part)
        torch.baddbmm(flat, a, b, beta=int(add), alpha=scale, out=flat)
        return
    # Products are written a third slower into memory with gaps, more than the copy costs.
    product = torch.bmm(a, b)
    if part.dim() > 3:
        product = product.view(part.shape)
    if add:
        part.add_(product, alpha=scale)
    else:
        torch.mul(product, scale, out=part)


def output_like(q: Tensor, v: Tensor, dtype: torch.dtype) -> Tensor:
    """An empty output, in q's strides where it can be: the layer around it goes on with those."""
    if q.shape[-1] == v.shape[-1]:
        return torch.empty_like(q, dtype=dtype)
    return q.new_empty((*q.shape[:-1], v.shape[-1]), dtype=dtype)


def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: Plan) -> Tensor:
    """The attention's output, of q's type. q, k and v have the same leading axes."""
    out = output_like(q, v, _arithmetic(q))
    if plan.how.draw.threshold == EVERYTHING:
        return out.zero_().to(q.dtype)
    into, values = _four(out), _four(v).to(out.dtype)
    softmax = _Weights(q, k, mask, plan)
    for block in softmax.blocks:
        weights, _, _ = softmax(block)
        make(weights, block.noise(plan.how), out=weights)
        v_part = _matrices(block.of(values, block.columns))
        _put(block.of(into, block.rows), _matrices(weights), v_part, 1.0)
    return out.to(q.dtype)


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    plan: Plan,
    mask_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The gradients of q, k, v and, if asked for, of the mask.

    With P the softmax, D the dropout (linear, its own adjoint) and G the output's gradient:
    dv = D(P)' G,  dP = D(G v'),  dS = P (dP - rowsum(dP P)),  dq = scale dS k,  dk = scale dS' q.
    """
    kind = _arithmetic(q)
    grads = [torch.empty_like(x, dtype=kind) for x in (q, k, v)]
    wanted = mask if mask_gradient else None
    dmask = None if wanted is None else torch.zeros_like(wanted, dtype=kind)
    nothing = plan.how.draw.threshold == EVERYTHING
    # Blocks that leave columns out, and no blocks at all, leave gradients untouched.
    if nothing or plan.is_causal or q.shape[-2] == 0:
        for x in grads:
            x.zero_()
    if not nothing:
        _add_gradients(grad, q, k, v, mask, plan, [_four(x) for x in grads], dmask)
    dq, dk, dv = (x.to(q.dtype) for x in grads)
    if dmask is not None and wanted is not None:
        dmask = dmask.to(wanted.dtype)
    return dq, dk, dv, dmask


def _add_gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    plan: Plan,
    into: list[Tensor],
    dmask: Tensor | None,
) -> None:
    softmax = _Weights(q, k, mask, plan)
    spare = softmax.another_room()
    g_all, v_all = _four(grad).to(softmax.q.dtype), _four(v).to(softmax.q.dtype)
    dq, dk, dv = into
    if dmask is not None:
        dmask = dmask[(None,) * (softmax.q.dim() - dmask.dim())]
    for block in softmax.blocks:
        weights, q_part, k_part = softmax(block)
        how = block.noise(plan.how)
        rows, columns = block.rows, block.columns
        add = plan.is_causal or rows.start > 0
        g = _matrices(block.of(g_all, rows))
        v_part = _matrices(block.of(v_all, columns))
        ds = spare.of(block)
        torch.bmm(g, v_part.mT, out=_matrices(ds))
        make(ds, how, out=ds)
        # The kernel under softmax's own derivative: one pass, and rounded as that one is.
        softmax_backward(ds, weights, -1, weights.dtype, grad_input=ds)
        if dmask is not None:
            part = block.of_mask(dmask)
            part += ds.sum_to_size(part.shape)
        _put(block.of(dq, rows), _matrices(ds), k_part, plan.scale)
        _put(block.of(dk, columns), _matrices(ds).mT, q_part, plan.scale, add)
        make(weights, how, out=weights)
        _put(block.of(dv, columns), _matrices(weights).mT, g, 1.0, add)


def grouped(x: Tensor, heads: int) -> Tensor:
    """Each head of a key or value once for each head of the query that it serves."""
    return x.repeat_interleave(heads // x.shape[-3], -3)


def plain(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: Plan, seed: Tensor | None = None
) -> Tensor:
    """The formula as it stands, in operations that PyTorch differentiates and transforms itself."""
    kind = _arithmetic(q)
    if k.dim() > 2 and k.shape[-3] != q.shape[-3]:
        k, v = (grouped(x, q.shape[-3]) for x in (k, v))
    scores = q.to(kind) @ k.to(kind).mT * plan.scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    elif plan.is_causal:
        ones = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
        scores = scores.masked_fill(ones.triu(1), -math.inf)
    # A row with nothing to attend to is put out of the way before, so that no NaN is made whose
    # derivative would be another.
    nothing = (scores == -math.inf).all(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0)
    return (noise(weights, seed, plan.how) @ v.to(kind)).to(q.dtype)
