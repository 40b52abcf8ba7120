"""What keeps Python's numbers for good, and one mask with them: exports, traces, captures. Refused.

A compiled program is none of them: it asks for its numbers each time it is run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Proxy

from thinned.backends.torch.internals import exporting, is_traced, proxy_mode
from thinned.torch.compat import torch_2_6

__all__ = [
    "capturing",
    "require_no_capture",
    "require_no_export",
    "require_no_proxy",
    "require_no_trace",
]

_is_traced = is_traced


def _no_export() -> None:
    if torch_2_6.exports() if torch_2_6.FINISHED else exporting():
        raise RuntimeError(
            "torch.export: an adopted model must be in evaluation mode, got training mode. A "
            "program that is exported cannot count its calls, and every call of it would draw "
            "the same masks. Export model.eval(), or release the model before."
        )


# A constant to Dynamo, which runs it while it traces: before 2.9 the words of an error that is only
# traced are lost, and torch.compiler.is_exporting is True in every program.
require_no_export: Callable[[], None] = torch.compiler.assume_constant_result(_no_export)


def _recorded() -> bool:
    """Whether what runs is recorded, its Python numbers as constants."""
    return _is_traced() or proxy_mode() is not None


def require_no_trace(name: str) -> None:
    """RuntimeError where a trace would keep the address of a site."""
    if _recorded():
        raise RuntimeError(
            f"thinned: torch.jit.trace or make_fx records site {name!r} of an adopted model in "
            "training mode. A recording cannot count its calls, and every run of it would draw "
            "the same masks. Record model.eval(), or take torch.compile, which counts."
        )


def require_no_proxy(x: Any, name: str) -> None:
    """RuntimeError where torch.fx records a call in a model's code. Modules that drop are recorded
    as wholes, and count when they are run."""
    if isinstance(x, Proxy):
        raise RuntimeError(
            f"thinned: torch.fx records a functional call of dropout at site {name!r} of an "
            "adopted model in training mode. The graph would neither count its calls nor follow "
            "its mode. Record model.eval(), or write nn.Dropout in the model's code, or call "
            "release before."
        )


def capturing() -> bool:
    """Whether a CUDA graph is captured."""
    # Asked in this order: a build for CUDA on a machine without a driver cannot say that it does
    # not capture.
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def require_no_capture(what: str, remedy: str) -> None:
    """RuntimeError where a CUDA graph is captured."""
    if capturing():
        raise RuntimeError(
            f"thinned: {what} is captured by a CUDA graph, and every replay of it would draw the "
            f"same mask. {remedy} where that is meant, or take torch.compile, whose programs draw "
            "anew."
        )
