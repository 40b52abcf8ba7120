"""How operators are registered whose numbers are read by Python while they run.

A CUDA graph would keep those numbers, and with them one mask for good: no operator of ours may
stand in one. Inductor is told so by a tag, from 2.8 on; before, it makes no CUDA graph of a program
that holds tensors on the CPU, as all with addresses do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._library.custom_ops import CustomOpDef

__all__ = ["READ", "operator"]

READ: tuple[torch.Tag, ...] = (
    (torch.Tag.cudagraph_unsafe,) if hasattr(torch.Tag, "cudagraph_unsafe") else ()
)


def operator(name: str) -> Callable[[Callable[..., object]], CustomOpDef]:
    """torch.library.custom_op for one of them, which writes into none of its arguments."""
    tags: Any = {"tags": READ} if READ else {}
    made: Callable[[Callable[..., object]], CustomOpDef] = torch.library.custom_op(
        name, mutates_args=(), **tags
    )
    return made
