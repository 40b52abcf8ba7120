"""Attention with dropout on its weights, a block of the weights at a time, forward and backward.

The weights of all heads together are the largest array of a transformer, and nothing here ever
holds them: a block is made, dropped on, used and overwritten by the next, and the backward pass
makes it again from queries and keys. A block holds whole rows, so that its softmax is the plain
one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thinned.backends.torch import Noise, noise
from thinned.backends.torch_memory import make, placed

__all__ = ["Plan", "backward", "forward", "plain"]

# Elements of a block. On the CPU a block of 4 MB, or two in the backward pass, stay in the cache
# between one matrix product and the next: all of 8 x 8 heads of 512 tokens at once took twice as
# long. Smaller blocks lose more to starting the products than they gain. Elsewhere a block is only
# there to bound the memory.
ON_CPU, ELSEWHERE = 2**20, 2**26

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
    """Part of the weights: indices of the leading axes, then first and end along each of the last
    three axes but one; all columns below `columns`."""

    lead: tuple[int, ...]
    outer: slice
    heads: slice
    rows: slice
    columns: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        outer, heads, rows = (s.stop - s.start for s in (self.outer, self.heads, self.rows))
        return outer, heads, rows, self.columns

    def of(self, x: Tensor) -> Tensor:
        """What belongs to its heads, in a tensor of as many axes as the weights."""
        index: Any = (*self.lead, self.outer, self.heads)
        return x[index]

    def of_mask(self, mask: Tensor) -> Tensor:
        """The same of a mask, whose axes of length 1 stand for all."""
        wanted: Any = (*self.lead, self.outer, self.heads, self.rows, slice(None))
        index: list[Any] = []
        for n, part in zip(mask.shape, wanted, strict=True):
            index.append(part if n > 1 else 0 if isinstance(part, int) else slice(None))
        return mask[tuple(index)]

    def noise(self, how: Noise) -> Noise:
        """The draws of this block."""
        place = how.draw.place
        steps = (0,) * max(0, 4 - len(place.strides)) + place.strides
        first = (*self.lead, self.outer.start, self.heads.start, self.rows.start, 0)
        offset = place.offset + sum(i * step for i, step in zip(first, steps, strict=True))
        # A step along an axis of length 1 is never taken, so that it may be any: the one that makes
        # the indices of most blocks run on is the one that the kernel is fast with.
        strides, run = list(steps[-4:]), 1
        for axis in (3, 2, 1, 0):
            strides[axis] = run if self.shape[axis] == 1 else strides[axis]
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
            for h in range(0, heads, group):
                for r in range(0, length, rows):
                    end = min(r + rows, length)
                    yield _Block(
                        index,
                        slice(o, min(o + several, outer)),
                        slice(h, min(h + group, heads)),
                        slice(r, end),
                        min(width, end) if is_causal else width,
                    )


def _four(x: Tensor) -> Tensor:
    """With axes of length 1 in front, if it has fewer than four."""
    return x[(None,) * max(0, 4 - x.dim())]


def _arithmetic(x: Tensor) -> torch.dtype:
    """Half types compute in float32: so does PyTorch where it drops on the weights."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _most(x: Tensor) -> int:
    return ON_CPU if x.device.type == "cpu" else ELSEWHERE


def _beyond(rows: slice, columns: int, device: torch.device) -> Tensor:
    """Which of the columns from the first row's number on lie right of the diagonal."""
    square = torch.ones(rows.stop - rows.start, columns - rows.start, device=device)
    return square.triu(1).to(torch.bool)


def _view(memory: Tensor, block: _Block) -> Tensor:
    return memory[: math.prod(block.shape)].view(block.shape)


def _heads(x: Tensor) -> Tensor:
    """(outer, heads, n, m) as a batch of matrices: the same memory, or a copy where it must be."""
    return x.flatten(0, 1)


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
        self.room = self.memory()

    def memory(self) -> Tensor:
        """Room for a block."""
        return torch.empty(self.largest, dtype=self.q.dtype, device=self.q.device)

    def __call__(self, block: _Block) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, (outer, heads, rows, columns); their queries and keys, 3-D."""
        q = _heads(block.of(self.q)[..., block.rows, :])
        k = _heads(block.of(self.k)[..., : block.columns, :])
        weights = self._scores(block, q, k)
        torch.softmax(weights, -1, out=weights)
        if block.columns:
            # A NaN fills its whole row, so that one column tells, and most often that all is well.
            broken = weights[..., 0].isnan()
            if weights.device.type != "cpu" or broken.any():
                self._settle(block, q, k)
        return weights, q, k

    def _scores(self, block: _Block, q: Tensor, k: Tensor) -> Tensor:
        rows, columns = block.rows, block.columns
        scores = _view(self.room, block)
        flat = _heads(scores)
        torch.baddbmm(flat, q, k.mT, beta=0, alpha=self.plan.scale, out=flat)
        if self.mask is not None:
            mask = block.of_mask(self.mask)
            if mask.dtype == torch.bool:
                scores.masked_fill_(~mask, -math.inf)
            else:
                scores.add_(mask)
        elif self.plan.is_causal and columns > rows.start:
            beyond = _beyond(rows, columns, scores.device)
            scores[..., rows.start :].masked_fill_(beyond, -math.inf)
        return scores

    def _settle(self, block: _Block, q: Tensor, k: Tensor) -> None:
        """Zeros where a row has nothing to attend to, as in PyTorch; its softmax is 0 / 0."""
        scores = self._scores(block, q, k)
        nothing = (scores == -math.inf).all(-1, keepdim=True)
        torch.softmax(scores, -1, out=scores)
        scores.masked_fill_(nothing, 0.0)


def _put(part: Tensor, a: Tensor, b: Tensor, scale: float) -> None:
    """part = scale a b; part is (outer, heads, n, m), a and b are batches of matrices."""
    # Products are written a third slower into memory with gaps, more than the copy costs.
    whole = part if part.is_contiguous() else part.new_empty(part.shape)
    flat = _heads(whole)
    torch.baddbmm(flat, a, b, beta=0, alpha=scale, out=flat)
    if whole is not part:
        part.copy_(whole)


def _put_transposed(part: Tensor, a: Tensor, b: Tensor, scale: float, add: bool) -> None:
    """part = scale a' b, or part += scale a' b, for a large a.

    Made as (b' a)': with the transpose of the large one a product takes a fifth longer, and to put
    the small one in order takes less than that.
    """
    turned = torch.bmm(b.mT, a).mT.view(part.shape)
    if add:
        part.add_(turned, alpha=scale)
    else:
        torch.mul(turned, scale, out=part)


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
        v_part = _heads(block.of(values)[..., : block.columns, :])
        _put(block.of(into)[..., block.rows, :], _heads(weights), v_part, 1.0)
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
    spare = softmax.memory()
    g_all, v_all = _four(grad).to(softmax.q.dtype), _four(v).to(softmax.q.dtype)
    if dmask is not None:
        dmask = dmask[(None,) * (softmax.q.dim() - dmask.dim())]
    for block in softmax.blocks:
        weights, q_part, k_part = softmax(block)
        how = block.noise(plan.how)
        rows, columns = block.rows, block.columns
        add = plan.is_causal or rows.start > 0
        g = _heads(block.of(g_all)[..., rows, :])
        v_part = _heads(block.of(v_all)[..., :columns, :])
        ds = _view(spare, block)
        torch.bmm(g, v_part.mT, out=_heads(ds))
        make(ds, how, out=ds)
        # The kernel under softmax's own derivative: one pass, and rounded as that one is.
        torch._softmax_backward_data(ds, weights, -1, weights.dtype, grad_input=ds)
        if dmask is not None:
            part = block.of_mask(dmask)
            part += ds.sum_to_size(part.shape)
        dq, dk, dv = (block.of(x) for x in into)
        _put(dq[..., rows, :], _heads(ds), k_part, plan.scale)
        _put_transposed(dk[..., :columns, :], _heads(ds), q_part, plan.scale, add)
        make(weights, how, out=weights)
        _put_transposed(dv[..., :columns, :], _heads(weights), g, 1.0, add)


def plain(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: Plan, seed: Tensor | None = None
) -> Tensor:
    """The formula as it stands, in operations that PyTorch differentiates and transforms itself."""
    kind = _arithmetic(q)
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
