"""How the kernels of a residual stream are called: the rows of arrays in C order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thinned.backends.torch.kernel import Noise
from thinned.backends.torch.triton import words
from thinned.backends.torch.triton.geometry import joined
from thinned.backends.torch.triton.launch import CHUNK, _on
from thinned.backends.torch.triton.residual import LAYER, RMS, SUM, backward, forward

__all__ = ["WIDEST", "add", "gradients", "norm"]

# Elements of a row that a program norms, and of one that it only sums.
WIDEST, SEGMENT = 2**14, 2**12

# Programs that share the rows of a backward pass: a few for each processor of a large device.
PARTS = 512


def _power(n: int) -> int:
    """At least a block of the mask."""
    return max(128, 1 << (n - 1).bit_length())


def _draws(how: Noise, width: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The parameters of a kernel that concern the draws of rows."""
    draw = how.draw
    seed, place, law, scale, _, first = words.told(draw, how.scale)
    *shape, _ = draw.place.shape
    *steps, _ = draw.place.strides
    axes = joined(tuple(shape), tuple(steps), ())[::-1]
    sizes, strides = tuple([axis.n for axis in axes]), tuple([axis.step for axis in axes])
    moved = any(start % 128 for start in (first, width, *strides))
    told = (None, words.step_of(draw), seed, place, law, scale, first, sizes, strides)
    # Each step is rounded: nothing is contracted.
    return told, {"MOVED": moved, "CHUNK": CHUNK, "enable_fp_fusion": False}


def _warps(width: int) -> int:
    """Sixteen elements to a thread, or more."""
    return min(16, max(1, width // 512))


def add(x: Tensor, bias: Tensor | None, residual: Tensor, z: Tensor, how: Noise) -> None:
    """z = residual + noise(x + bias), of rows along the last axis."""
    n = x.shape[-1]
    width = min(SEGMENT, _power(n))
    told, more = _draws(how, width)
    with _on(x):
        forward[(x.numel() // n * -(-n // width),)](
            x, bias, residual, z, None, None, None, None, None, *told, n, 0,
            WIDTH=width, NORM=SUM, num_warps=_warps(width), **more,
        )  # fmt: skip


def norm(
    x: Tensor, residual: Tensor | None, z: Tensor, weight: Tensor | None, shift: Tensor | None,
    out: Tensor, mean: Tensor, rstd: Tensor, how: Noise, rms: bool, eps: float,
) -> None:  # fmt: skip
    """The same without a bias, and `out` its norm."""
    n = x.shape[-1]
    width = _power(n)
    told, more = _draws(how, width)
    with _on(x):
        forward[(x.numel() // n,)](
            x, None, residual, z, weight, shift, out, mean, rstd, *told, n, words.bits(eps),
            WIDTH=width, NORM=RMS if rms else LAYER, num_warps=_warps(width), **more,
        )  # fmt: skip


def gradients(
    g: Tensor, z: Tensor, more: Tensor | None, weight: Tensor | None, mean: Tensor, rstd: Tensor,
    dz: Tensor, dx: Tensor, how: Noise, rms: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """dz and dx are written; the gradients of weight and shift come back."""
    n = z.shape[-1]
    rows, width = z.numel() // n, _power(n)
    each = -(-rows // PARTS)
    parts = -(-rows // each)
    dweight, dshift = torch.empty((2, parts, n), dtype=mean.dtype, device=z.device)
    told, options = _draws(how, width)
    with _on(z):
        backward[(parts,)](
            g, z, more, weight, mean, rstd, dz, dx, dweight, dshift, *told, n, rows, each,
            WIDTH=width, NORM=RMS if rms else LAYER, num_warps=_warps(width), **options,
        )  # fmt: skip
    return dweight.sum(0), dshift.sum(0)
