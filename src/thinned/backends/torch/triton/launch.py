"""The kernels on the memory of tensors: which of them, how many programs, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from thinned.backends.torch.triton import words
from thinned.backends.torch.triton.drawing import GAUSSIAN, WORDS, draws
from thinned.backends.torch.triton.dropping import ARRAY, NOTHING, NUMBER, flat, tiles
from thinned.backends.torch.triton.geometry import ELEMENTS, joined, tiling
from thinned.backends.torch.triton.packing import rows_of_words
from thinned.window import Placement, index_strides

__all__ = ["draws_at", "draws_of", "drop", "mask_words"]

# Blocks to a warp: one to a thread, of which AMD's have 64. Of 4 bytes for each element, registers
# hold no more.
BLOCKS = 32 if torch.version.hip is None else 64
# Draws of words to a program.
DRAWS = 1024
# Planes between two looks at whether a lane is open.
CHUNK = 2


def drop(
    x: Tensor,
    y: Tensor,
    where: Placement,
    told: Sequence[int] | Tensor,
    unit: bool = False,
    array: Tensor | None = None,
    fill: bool = False,
    live: Tensor | None = None,
) -> None:
    """y = fill + scale m (x - fill) in one launch, into y, which may be x.

    x, y, array : one shape, one floating type, one device; any strides, of which y's are no 0.
    told : the six words of words.py, or a tensor that holds them on the device (int64, shape (6,)),
        which is read by the kernel. unit : the scale is 1. array : fill values. fill : the fill
        among the words is not 0. live : the step, where it lies on the device (words.step_of).
    """
    n = y.numel()
    if n == 0:
        return
    held, numbers, first = _split(told)
    kind = ARRAY if array is not None else NUMBER if fill else NOTHING
    f = x if array is None else array
    double = x.dtype == torch.float64
    # A thread that holds more of each element takes fewer of them.
    shares = (2 if double else 1) * (1 if array is None else 2)
    launch = {"UNIT": unit, "FILL": kind, "CHUNK": CHUNK, "num_warps": 1}
    # f + s (x - f) is rounded after each of its operations.
    launch["enable_fp_fusion"] = False
    steps = where.steps or index_strides(where.shape, ())
    axes = joined(where.shape, steps, (x.stride(), y.stride(), f.stride()))
    with _on(y):
        if not axes or (len(axes) == 1 and axes[0][1:] == (1, (1, 1, 1))):
            blocks = BLOCKS // shares
            moved = first is None or first % 128 != 0
            flat[(-(-n // (blocks * 128)),)](
                x, y, f, held, live, *numbers, n // 16 if n % 16 == 0 else n,
                EVEN=n % 16 == 0, BLOCKS=blocks, MOVED=moved, EARLY=not double, **launch,
            )  # fmt: skip
            return
        cut = tiling(axes, first, ELEMENTS // shares)
        rows, columns, others = cut.rows, cut.columns, cut.others
        moves = zip(rows.moves, columns.moves, strict=True)
        tiles[(cut.programs,)](
            x, y, f, held, live, *numbers,
            rows.n, columns.n, rows.step, *[step for pair in moves for step in pair],
            tuple([axis.n for axis in others]), tuple([axis.step for axis in others]),
            *[tuple([axis.moves[i] for axis in others]) for i in range(3)],
            ROWS=cut.ROWS, COLUMNS=cut.COLUMNS, SHARED=rows.step == 0,
            MOVED=cut.MOVED, NEXT=cut.NEXT, WIDE=cut.wide, **launch,
        )  # fmt: skip


def mask_words(
    where: Placement,
    told: Sequence[int] | Tensor,
    device: torch.device,
    out: Tensor | None = None,
    live: Tensor | None = None,
) -> Tensor:
    """The keep bits of a placement, packed in rows, in one launch: 1 is kept.

    Parameters
    ----------
    where : of shape (..., n). Its leading axes are the rows; a mask that runs on through all of an
        array is one row: a placement of shape (n,).
    told : the words of the draw, as `words.told(draw)` gives them, or a tensor that holds them on
        the device (int64, shape (6,)). Scale and fill among them are not looked at. A tensor's
        first index counts, and not that of `where`.
    out : to be written into, contiguous, or None. live : as for `drop`.

    Returns
    -------
    int32, shape (..., 4 ceil(n / 128)), C-contiguous: each row is padded to 16 bytes. Element j of
    a row is bit j & 31 of its word j >> 5, and bits behind the n-th are 0. An empty placement gives
    an empty tensor.
    """
    *leading, n = where.shape
    groups = -(-n // 128)
    if out is None:
        out = torch.empty((*leading, 4 * groups), dtype=torch.int32, device=device)
    total = out.numel() // 4
    if total == 0:
        return out
    held, numbers, first = _split(told)
    *outer, last = where.steps or index_strides(where.shape, ())
    shared = last == 0 and n > 1
    axes = joined(leading, outer, ())[::-1]
    starts = [0 if first is None else first, *[axis.step for axis in axes]]
    moved = shared or first is None or any(start % 128 for start in starts)
    if len(axes) == 1 and axes[0].step == n and n % 128 == 0 and not shared:
        axes, n, groups = [], n * axes[0].n, total  # rows without padding are one row
    seed, place, law, _, _, start = numbers
    with _on(out):
        rows_of_words[(-(-total // BLOCKS),)](
            out, held, live, seed, place, law, start, n, groups, total,
            tuple([axis.n for axis in axes]), tuple([axis.step for axis in axes]),
            BLOCKS=BLOCKS, MOVED=moved, SHARED=shared, CHUNK=CHUNK, num_warps=1,
        )  # fmt: skip
    return out


def draws_of(
    where: Placement,
    told: Sequence[int] | Tensor,
    device: torch.device,
    gaussian: bool = False,
    live: Tensor | None = None,
) -> Tensor:
    """The words of a placement's draws in one launch: int64, shape `where.drawn`; or, of gaussian
    ones, the normal draws made of them, binary32."""
    out = torch.empty(where.drawn, dtype=torch.float32 if gaussian else torch.int64, device=device)
    axes = joined(where.drawn, where.strides, ())[::-1]
    sizes, steps = tuple([axis.n for axis in axes]), tuple([axis.step for axis in axes])
    return _draws(out, None, told, sizes, steps, gaussian, live)


def draws_at(index: Tensor, told: Sequence[int]) -> Tensor:
    """The words of the elements with these indices (integers), in one launch: int64, of index's
    shape. Bits of an index from 42 on are not looked at."""
    index = index.to(torch.int64).contiguous()
    return _draws(torch.empty_like(index), index, told, (), (), False)


def _draws(
    out: Tensor,
    index: Tensor | None,
    told: Sequence[int] | Tensor,
    sizes: tuple[int, ...],
    steps: tuple[int, ...],
    gaussian: bool,
    live: Tensor | None = None,
) -> Tensor:
    n = out.numel()
    if n == 0:
        return out
    held, (seed, place, law, _, _, first), _ = _split(told)
    with _on(out):
        draws[(-(-n // DRAWS),)](
            out, index, held, live, seed, place, law, first, n, sizes, steps,
            SIZE=DRAWS, KIND=GAUSSIAN if gaussian else WORDS, num_warps=4,
            enable_fp_fusion=False,
        )  # fmt: skip
    return out


def _split(told: Sequence[int] | Tensor) -> tuple[Tensor | None, Sequence[int], int | None]:
    """The words as a tensor, or None; as numbers; and the first index, where it is known."""
    if isinstance(told, Tensor):
        return told, (0,) * words.COUNT, None
    return None, told, told[words.FIRST]


def _on(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the device that is current."""
    if x.device.type != "cuda" or x.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(x.device)
