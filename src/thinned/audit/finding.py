"""One finding: where it is and what it says, and the edits that mend it where that is certain."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Edit", "Finding"]


@dataclass(frozen=True, order=True, slots=True)
class Edit:
    """Characters of one line that another text replaces.

    Parameters
    ----------
    cell : int. The notebook's cell, from 1; 0 in a script.
    line : int, from 1, in the cell or the script.
    column, end_column : int, from 1: the first character, and one past the last. Equal to insert.
    text : str. What stands there afterwards.
    """

    cell: int
    line: int
    column: int
    end_column: int
    text: str


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """What one rule says about one place in a file. They sort by place, then by code.

    Parameters
    ----------
    path : str. The file, as it was reached from the paths that were given, with forward slashes.
    cell : int. The cell of a notebook, all its cells counted from 1; 0 in a script.
    line, column : int. The first character, both counted from 1, columns in characters; in a
        notebook they count within the cell.
    code : str. The rule's stable code.
    end_line, end_column : int. One past the last character, counted in the same way.
    sentence : str. What is wrong here.
    text : str. The source line, without its indentation.
    words : str. What the finding is about, without white space: the same wherever the code moves.
    file_line : int. The line of the file: that of the notebook's JSON, `line` in a script.
    edits : tuple of Edit. What mends it for certain; empty where that takes a reader.
    """

    path: str
    cell: int
    line: int
    column: int
    code: str
    end_line: int
    end_column: int
    sentence: str
    text: str
    words: str = ""
    file_line: int = 1
    edits: tuple[Edit, ...] = ()

    def as_dict(self) -> dict[str, str | int | bool | None]:
        """Return what a reader needs by name, for JSON; `cell` is None in a script."""
        return {
            "path": self.path,
            "cell": self.cell or None,
            "line": self.line,
            "column": self.column,
            "end_line": self.end_line,
            "end_column": self.end_column,
            "code": self.code,
            "sentence": self.sentence,
            "text": self.text,
            "fixable": bool(self.edits),
        }

    @property
    def place(self) -> str:
        """The place as it is printed."""
        cell = f"cell {self.cell}:" if self.cell else ""
        return f"{self.path}:{cell}{self.line}:{self.column}"
