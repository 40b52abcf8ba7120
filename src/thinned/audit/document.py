"""A file as the rules read it, and as an edit finds it: a script or a notebook.

Both have `code`, the bytes that are parsed, and `lines`, the same as text. `place` says where a
line of the code stands in the file, and `edited` returns the file's bytes after some edits, all
others as they were.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from thinned.audit.finding import Edit
from thinned.audit.reading import UnreadableError, encoding_of, lines_of

__all__ = ["Document", "Script", "spliced"]

_LINE_END = re.compile(r"\r\n|\r|\n")


class Document(Protocol):
    """What scripts and notebooks have in common."""

    code: bytes
    lines: list[str]
    broken: list[tuple[int, UnreadableError]]

    def place(self, line: int) -> tuple[int, int, int]:
        """Return cell, line in the cell and line in the file, of a line of the code from 1."""

    def edited(self, edits: Iterable[Edit]) -> bytes:
        """Return the file's bytes after the edits, which must not overlap.

        Raises
        ------
        ValueError if an edit is outside the file, or the file does not keep its bytes.
        """


class Script:
    """A Python file.

    Parameters
    ----------
    data : bytes. The file, in whatever encoding it says that it has.
    """

    def __init__(self, data: bytes) -> None:
        self.code = data
        self.lines = lines_of(data)
        self.broken: list[tuple[int, UnreadableError]] = []

    def place(self, line: int) -> tuple[int, int, int]:
        return 0, line, line

    def edited(self, edits: Iterable[Edit]) -> bytes:
        encoding = encoding_of(self.code)
        text = self.code.decode(encoding)
        if text.encode(encoding) != self.code:
            raise ValueError(f"the file is not kept by its encoding, {encoding}")
        starts = [0, *(end.end() for end in _LINE_END.finditer(text)), len(text) + 1]
        changes = []
        for edit in edits:
            if edit.cell or not 0 < edit.line < len(starts):
                raise ValueError(f"no line {edit.line}")
            at = starts[edit.line - 1]
            if at + edit.end_column - 1 >= starts[edit.line]:
                raise ValueError(f"line {edit.line} ends before column {edit.end_column}")
            changes.append((at + edit.column - 1, at + edit.end_column - 1, edit.text))
        return spliced(text, changes).encode(encoding)


def spliced(text: str, changes: Iterable[tuple[int, int, str]]) -> str:
    """Return a text with the parts from start to end replaced.

    Raises
    ------
    ValueError if two of them overlap.
    """
    parts, last = [], 0
    for start, end, new in sorted(changes):
        if start < last or end < start:
            raise ValueError("two edits overlap")
        parts += [text[last:start], new]
        last = end
    return "".join([*parts, text[last:]])
