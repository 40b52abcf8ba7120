"""A dispatch mode that the thread which enters it keeps to itself."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from thinned.backends.torch.internals import modes, pop_mode, push_mode, set_mode_seen

__all__ = ["ThreadMode"]


class ThreadMode(TorchDispatchMode):
    """A TorchDispatchMode that changes nothing of the process.

    PyTorch's own notes in variables of the process that a mode is on, and sets them back to what it
    found. Where two threads' modes overlap, the variables stay set, and Dynamo before PyTorch 2.11
    compiles nothing any more, in any thread and without a word. The stack on which modes stand is
    each thread's own.
    """

    def __enter__(self) -> Any:
        if push_mode is None or pop_mode is None:
            return super().__enter__()  # type: ignore[no-untyped-call]  # PyTorch: no types
        push_mode(self)
        set_mode_seen(True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if push_mode is None or pop_mode is None:
            super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]  # PyTorch: no types
            return
        pop_mode(None)
        set_mode_seen(modes() > 0)
