"""How operators of ours are registered: by the parts of torch.library rather than by custom_op,
whose checks cost 30 microseconds a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from thinned.backends.torch.values import eager

__all__ = ["LIBRARY", "defined"]

LIBRARY: Any = torch.library.Library("thinned", "FRAGMENT")

# A CUDA graph would keep the numbers that operators read in Python while they run, and with them
# one mask for good: a graph may hold no such operator. A tag tells Inductor so, from 2.8 on;
# before, it makes no CUDA graph of a program that holds tensors on the CPU, as all with addresses
# do.
_CAPTURED: tuple[torch.Tag, ...] = (torch.Tag.pt2_compliant_tag,)
_UNSAFE = _CAPTURED + (
    (torch.Tag.cudagraph_unsafe,) if hasattr(torch.Tag, "cudagraph_unsafe") else ()
)


def defined(
    schema: str, run: Callable[..., Any], fake: Callable[..., Any], captured: bool = False
) -> Any:
    """A new operator, which neither writes into its arguments nor returns one of them.

    run : the same for all devices, without derivatives. Dynamo does not look into it where a
        program with graph breaks calls it. fake : what it returns, without values. captured : it
        reads nothing on the host, and may stand in a CUDA graph.
    """
    name = schema[: schema.index("(")]
    LIBRARY.define(schema, tags=_CAPTURED if captured else _UNSAFE)
    LIBRARY.impl(name, eager(run), "CompositeExplicitAutograd")
    torch.library.register_fake(f"thinned::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.thinned, name).default
