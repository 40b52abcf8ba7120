"""Dropout in programs of which Inductor makes CUDA graphs (reduce-overhead, max-autotune).

A CUDA graph repeats launches with the arguments that they were captured with. So what a kernel is
told lies in memory of the device, where the kernel reads it (triton/words.py): `thinned::told` puts
it there before each run of the graph, and `thinned::heard`, within the graph, launches the kernel.
Both take the place of an operator that reads its words on the host, while Inductor takes a program
apart; what a program is before, and what an exported one holds, are the same as without.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thinned.backends.torch import wire
from thinned.backends.torch.devices import uses_triton
from thinned.backends.torch.internals import proxy_mode
from thinned.backends.torch.kernel import FLOATING, placed
from thinned.backends.torch.library import defined
from thinned.backends.torch.spec import Coordinates
from thinned.window import index_strides

__all__ = ["drop", "noised", "wanted"]


def wanted(x: Tensor) -> bool:
    """Whether a program is made that is to run as CUDA graphs, on a device that has kernels."""
    inductor: Any = sys.modules.get("torch._inductor.config")
    if inductor is None or proxy_mode() is None or not inductor.triton.cudagraphs:
        return False
    return uses_triton(x.device) and x.dtype in FLOATING


def noised(
    x: Tensor, words: Tensor, rate: Tensor, fill: float, mirror: bool, array: Tensor | None,
    shared: Sequence[int],
) -> Tensor:  # fmt: skip
    """`thinned::noised` in two operators. shared : the axes of x that share a draw; along all
    others x is whole, but for the leading one."""
    told = TOLD(words, rate, fill, mirror, x.shape, shared, x.device)
    y: Tensor = HEARD(x, told, shared, fill != 0.0, array)
    return y


def drop(x: Tensor, seed: Tensor, threshold: int, scale: float, strides: Sequence[int]) -> Tensor:
    """`thinned::drop` in the same two."""
    steps = strides or index_strides(tuple(x.shape), ())
    low, high = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    words = wire.pack_place(Coordinates(low, high, 0, 0, 0), 0, steps)
    shared = [axis for axis, step in enumerate(strides) if isinstance(step, int) and step == 0]
    return noised(x, words, wire.pack_rate(threshold, scale), 0.0, False, None, shared)


def _told(
    words: Tensor, rate: Tensor, fill: float, mirror: bool, shape: Sequence[int],
    shared: Sequence[int], device: torch.device,
) -> Tensor:  # fmt: skip
    from thinned.backends.torch.triton import words as told

    threshold, scale, *_ = rate.tolist()
    draw = wire.read(words, threshold, shape, mirror)
    steps = index_strides(tuple(shape), tuple(shared))
    for n, step, own in zip(shape, steps, draw.place.strides, strict=True):
        if n > 1 and step != own:
            raise RuntimeError(
                "thinned: in a program with CUDA graphs (mode='reduce-overhead' or 'max-autotune') "
                f"an array of shape {tuple(shape)} may be a piece of its leading axis only, and "
                "this one is a piece of another. Compile it with mode='default' or "
                "'max-autotune-no-cudagraphs'."
            )
    made = torch.tensor(told.told(draw, scale, fill + 0.0), dtype=torch.int64, device="cpu")
    return made.to(device, non_blocking=device.type == "cuda")


def _fake_told(words: Tensor, *rest: Any) -> Tensor:
    return words.new_empty(6, device=rest[-1])


TOLD = defined(
    "told(Tensor words, Tensor rate, float fill, bool mirror, SymInt[] shape, int[] shared, "
    "Device device) -> Tensor",
    _told,
    _fake_told,
)


def _heard(
    x: Tensor, told: Tensor, shared: Sequence[int], filled: bool, array: Tensor | None
) -> Tensor:
    from thinned.backends.torch.triton import launch

    shape, y = tuple(x.shape), torch.empty_like(x)
    where = placed(shape, 0, index_strides(shape, tuple(shared)))
    launch.drop(x, y, where, told, False, array, filled)
    return y


def _like(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


HEARD = defined(
    "heard(Tensor x, Tensor told, int[] shared, bool filled, Tensor? array) -> Tensor",
    _heard,
    _like,
    captured=True,
)
