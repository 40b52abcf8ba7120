"""One finding: where it is and what it says."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """What one rule says about one place in a file. They sort by place, then by code.

    Parameters
    ----------
    path : str. The file, as it was reached from what was asked for, with forward slashes.
    line, column : int. The first character, both counted from 1, columns in characters.
    code : str. The rule's stable code.
    end_line, end_column : int. One past the last character, counted in the same way.
    sentence : str. What is wrong here.
    text : str. The source line, without its indentation.
    """

    path: str
    line: int
    column: int
    code: str
    end_line: int
    end_column: int
    sentence: str
    text: str

    def as_dict(self) -> dict[str, str | int]:
        """Return the fields by name, for JSON."""
        return asdict(self)
