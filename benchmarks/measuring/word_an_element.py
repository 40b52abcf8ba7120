"""Dropout as most libraries have it on a GPU, for comparison: a word of 32 bits for each element.

By Triton's own generator, a block of Philox for four elements. It has no address and no spec.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["drop"]

BLOCK = 4096


@triton.jit
def _kernel(x_ptr, y_ptr, seed, p, scale, n, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    at = tl.arange(0, BLOCK)
    inside = start + at < n
    x = tl.load(x_ptr + start + at, mask=inside, other=0)
    four = tl.program_id(0) * (BLOCK // 4) + tl.arange(0, BLOCK // 4)
    a, b, c, d = tl.rand4x(seed, four)
    u = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (BLOCK,))
    y = tl.where(u >= p, x.to(tl.float32) * scale, 0.0).to(x.dtype)
    tl.store(y_ptr + start + at, y, mask=inside)


def drop(x: Tensor, p: float, seed: int) -> Tensor:
    y = torch.empty_like(x)
    programs = -(-x.numel() // BLOCK)
    _kernel[(programs,)](x, y, seed, p, 1.0 / (1.0 - p), x.numel(), BLOCK=BLOCK)
    return y
