"""A Jupyter notebook: the code of its cells as one text, and edits that keep all its other bytes.

The JSON is read twice: by Python's reader, and for the places of the strings that hold code. An
edit changes the inside of one such string.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from thinned.audit.document import spliced
from thinned.audit.finding import Edit
from thinned.audit.magics import without_magics
from thinned.audit.reading import UnreadableError, parse

__all__ = ["Cells", "Notebook", "joined"]

_SPACE = re.compile(r"[ \t\n\r]*")
_LINE_END = re.compile(r"\r\n|\r|\n")
# A character of a JSON string, or of the halves of one that UTF-16 has in two.
_CHARACTER = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL
)
_PYTHON = re.compile(r"(?i)i?python(?:\d[\d.]*)?$")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A string of a cell's source: where its literal begins in the file, and what it says."""

    at: int
    literal: str
    said: str


class Cells:
    """The code of some cells.

    Parameters
    ----------
    texts : iterable of pairs of a cell's number and its text, in order.
    """

    def __init__(self, texts: Iterable[tuple[int, str]]) -> None:
        self.cells = dict(texts)
        self._numbers = list(self.cells)
        self._firsts, first = [], 1
        for text in self.cells.values():
            self._firsts.append(first)
            first += len(_LINE_END.split(text))
        code, self.broken = joined(self.cells.values())
        self.code = code.encode("utf-8", "replace")
        self.lines = _LINE_END.split("\n".join(self.cells.values()))

    def place(self, line: int) -> tuple[int, int, int]:
        """Return the cell's number, and twice the line in the cell."""
        if not self._numbers:
            return 1, 1, 1
        index = bisect_right(self._firsts, line) - 1
        inner = line - self._firsts[index] + 1
        return self._numbers[index], inner, inner

    def edited(self, edits: Iterable[Edit]) -> bytes:
        """Cells that are in no file have no bytes."""
        raise ValueError("these cells are in no file")


class Notebook(Cells):
    """A notebook's code.

    Parameters
    ----------
    data : bytes. The file: JSON in UTF-8, of version 3 or 4 of the format.

    Raises
    ------
    UnreadableError if it is something else.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._encoding = "utf-8-sig" if data.startswith(b"\xef\xbb\xbf") else "utf-8"
            self._file = data.decode(self._encoding)
            whole = json.loads(self._file)
        except json.JSONDecodeError as error:
            raise UnreadableError(
                f"The notebook is no JSON: {error.msg}.", max(1, error.lineno)
            ) from None
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"The notebook could not be read: {error}.") from None
        if not isinstance(whole, dict):
            raise UnreadableError("The notebook holds no cells.")
        self._pieces = dict(_strings(self._file, whole)) if _is_python(whole) else {}
        super().__init__((n, _text(pieces)) for n, pieces in self._pieces.items())

    def place(self, line: int) -> tuple[int, int, int]:
        """Return the cell's number, the line in the cell, and the line of the file's JSON."""
        number, inner, _ = super().place(line)
        if number not in self._pieces:
            return number, inner, 1
        pieces = self._pieces[number]
        piece, offset = _piece_at(pieces, _offset(_text(pieces), inner))
        at = 0 if piece is None else piece.at + _raw(piece.literal, offset)
        return number, inner, self._file.count("\n", 0, at) + 1

    def edited(self, edits: Iterable[Edit]) -> bytes:
        """Return the file's bytes with the edits made inside the strings of its cells."""
        changes = []
        for edit in edits:
            pieces = self._pieces.get(edit.cell)
            if pieces is None:
                raise ValueError(f"no code in cell {edit.cell}")
            text = self.cells[edit.cell]
            lines = _LINE_END.split(text)
            if not 0 < edit.line <= len(lines) or edit.end_column > len(lines[edit.line - 1]) + 1:
                raise ValueError(f"no line {edit.line} of so many columns in cell {edit.cell}")
            piece, offset = _piece_at(pieces, _offset(text, edit.line) + edit.column - 1)
            length = edit.end_column - edit.column
            if piece is None or offset + length > len(piece.said):
                raise ValueError("the edit is not inside one string")
            first, last = (_raw(piece.literal, at) for at in (offset, offset + length))
            new = json.dumps(edit.text, ensure_ascii=True)[1:-1]
            changes.append((piece.at + first, piece.at + last, new))
        return spliced(self._file, changes).encode(self._encoding)


def joined(texts: Iterable[str]) -> tuple[str, list[tuple[int, UnreadableError]]]:
    """Return the code of some cells as one text that parses, and what does not parse.

    Every line keeps its place: magics and shell commands become `pass`, and a cell that does not
    parse becomes empty lines. With each such cell comes the line of the whole on which it breaks.
    """
    parts: list[str] = []
    broken: list[tuple[int, UnreadableError]] = []
    line = 1
    for text in texts:
        code = without_magics(text)
        try:
            parse(code.encode("utf-8", "replace"))
        except UnreadableError as error:
            sentence = error.sentence.replace("The file", "The cell", 1)
            broken.append((line + error.line - 1, UnreadableError(sentence, error.line)))
            code = "\n" * (len(_LINE_END.split(text)) - 1)
        parts.append(code)
        line += len(_LINE_END.split(text))
    return "\n".join(parts), broken


def _is_python(whole: dict[str, Any]) -> bool:
    """Whether the notebook's kernel runs Python, as it does unless the notebook says otherwise."""
    metadata = whole.get("metadata")
    if not isinstance(metadata, dict):
        return True
    for table, key in (("language_info", "name"), ("kernelspec", "language")):
        said = metadata.get(table)
        name = said.get(key) if isinstance(said, dict) else None
        if isinstance(name, str):
            return _PYTHON.match(name) is not None
    return True


def _strings(file: str, whole: dict[str, Any]) -> Iterator[tuple[int, tuple[_Piece, ...]]]:
    """The number and the source of each cell of Python, in order."""
    top = _Place(file, 0)
    number = 0
    rooms = [top] if "cells" in whole else list(top.get("worksheets").items())
    for room in rooms:
        for cell in room.get("cells").items():
            number += 1
            said = cell.value
            if not isinstance(said, dict) or said.get("cell_type") != "code":
                continue
            if not _speaks_python(said):
                continue
            source = cell.get("source" if "source" in said else "input")
            places = source.items() if isinstance(source.value, list) else [source]
            pieces = tuple(
                _Piece(place.at, file[place.at : place.end], place.value)
                for place in places
                if isinstance(place.value, str)
            )
            if pieces:
                yield number, pieces


def _speaks_python(cell: dict[str, Any]) -> bool:
    """Whether a cell is in the notebook's own language: editors mix several."""
    metadata = cell.get("metadata")
    editor = metadata.get("vscode") if isinstance(metadata, dict) else None
    language = editor.get("languageId") if isinstance(editor, dict) else cell.get("language")
    return not isinstance(language, str) or _PYTHON.match(language) is not None


class _Place:
    """A value of a JSON text that is known to be whole, and where its text stands."""

    _decoder = json.JSONDecoder()

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = _after_space(text, at)
        self._read: tuple[Any, int] | None = None

    def _known(self) -> tuple[Any, int]:
        if self._read is None:
            self._read = self._decoder.raw_decode(self.text, self.at)
        return self._read

    @property
    def value(self) -> Any:
        return self._known()[0]

    @property
    def end(self) -> int:
        return self._known()[1]

    def items(self) -> Iterator[_Place]:
        """The items of a list; nothing of anything else."""
        if self.text[self.at : self.at + 1] != "[":
            return
        at = _after_space(self.text, self.at + 1)
        while self.text[at] != "]":
            item = _Place(self.text, at)
            yield item
            at = _after_space(self.text, item.end)
            if self.text[at] == ",":
                at = _after_space(self.text, at + 1)

    def get(self, key: str) -> _Place:
        """The value of a key, of which JSON's readers take the last; without it, the place itself,
        which is no list and no string."""
        found = self
        if self.text[self.at : self.at + 1] != "{":
            return found
        at = _after_space(self.text, self.at + 1)
        while self.text[at] != "}":
            name = _Place(self.text, at)
            value = _Place(self.text, _after_space(self.text, name.end) + 1)
            if name.value == key:
                found = value
            at = _after_space(self.text, value.end)
            if self.text[at] == ",":
                at = _after_space(self.text, at + 1)
        return found


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _offset(text: str, line: int) -> int:
    """Where a line begins, from 1, in characters."""
    ends = [end.end() for end in _LINE_END.finditer(text)]
    return 0 if line == 1 else ends[line - 2]


def _text(pieces: Sequence[_Piece]) -> str:
    return "".join(piece.said for piece in pieces)


def _piece_at(pieces: Sequence[_Piece], offset: int) -> tuple[_Piece | None, int]:
    """The string that holds a character of the cell, and the character's place in it."""
    for piece in pieces:
        if offset < len(piece.said):
            return piece, offset
        offset -= len(piece.said)
    last = pieces[-1]
    return (last, len(last.said)) if offset == 0 else (None, 0)


def _raw(literal: str, offset: int) -> int:
    """Where a character of a string stands in its literal."""
    at = 1  # behind the quote
    for _ in range(offset):
        found = _CHARACTER.match(literal, at)
        if found is None:
            raise ValueError("the string ends before the edit")
        at = found.end()
    return at
