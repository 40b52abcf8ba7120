"""Text of others as it may be printed: names of files, cells of tables, lines of source."""

from __future__ import annotations

import re

__all__ = ["encodable", "printable"]

# What a workflow's log takes for a command: "::" where a line begins, "##[" anywhere.
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\[)")


def printable(text: str) -> str:
    r"""Return text on one line that drives neither a terminal nor a workflow's log.

    Control characters and line ends, marks that turn the direction of writing, unassigned
    characters and bytes of a name that are no text are written as Python writes them in a string:
    `\x1b`, `\n`, `\u202e`, `\udcff`. So is the first sign of what a log of GitHub's would take for
    a command: `\x3a:error`, `\x23#[error]`. All other text stays what it is.
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return _COMMAND.sub(lambda found: f"{found[1] or ''}\\x{ord(found[0][-1]):02x}", shown)


def encodable(text: str) -> str:
    r"""Return text that has an encoding: bytes of a name that are no text as `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
