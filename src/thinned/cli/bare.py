"""What the command line answers by itself: its version, and help where Typer is not installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from thinned.version import __version__

__all__ = ["COMMANDS", "answers"]

# Each command with what it does. `audit` is the one that needs no more than Python.
COMMANDS = {
    "fit": "Measure what dropout does to the validation loss on your table.",
    "predict": "Apply a model that `thinned fit` saved.",
    "export": "Write such a model as ONNX, for programs without Python.",
    "compare": "Set runs of `thinned fit` beside each other.",
    "schedule": "Plot p over training and depth.",
    "methods": "List every method, or show one.",
    "audit": "Find dropout bugs in Python source, without running it.",
    "lsp": "The audit as a language server, for editors.",
}
_NEEDS = (
    'All but audit need more: pip install "thinned[fit]", "thinned[onnx]" for export, and '
    '"thinned[lsp]" for lsp'
)


def answers(typed: Sequence[str]) -> bool:
    """Answer what was typed, if it asks for no more than this file knows.

    Parameters
    ----------
    typed : sequence of str. The words behind `thinned`.

    Returns
    -------
    bool. False where a command, or Typer's own help, must answer.
    """
    if list(typed) == ["--version"]:
        print(f"thinned {__version__}")
        return True
    if list(typed) in ([], ["--help"]) and find_spec("typer") is None:
        print(_help())
        return True
    return False


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {does}" for name, does in COMMANDS.items()]
    return "\n".join(
        ["Usage: thinned [--version] [--help] COMMAND ...", "", "Commands:", *lines, "", _NEEDS]
    )
