r"""Texts of a table as cells of a CSV, which a program reads back and a person opens.

A spreadsheet takes a cell that begins with =, +, - or @ for a formula, also behind spaces, tabs and
line ends, and some take the wide forms of these signs, ＝ and so on. A formula can fetch an address
or start a program, and what a class is called was decided by whoever wrote the data. An apostrophe
before such a text makes it a text. The text may also begin a cell where a spreadsheet is set to cut
at semicolons or tabs, and there quotes do not hold it together: so it is guarded behind these, too.

`guarded` writes the apostrophes, `unguarded` takes them away: each text comes back as it was.
"""

from __future__ import annotations

import re

__all__ = ["guarded", "unguarded"]

# Where a cell may begin, and what makes it live there. Apostrophes count as spaces do, so that a
# text which has one already gets another and not two texts become one.
_BEGINS = r"(?:\A|(?<=[;\t\r\n]))"
_LIVE = "(?=['\\s]*[-=+@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
_LIVE += "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}]|'*[\\t\\r\\n])"
_UNGUARDED = re.compile(_BEGINS + _LIVE)
_GUARDED = re.compile(_BEGINS + "'" + _LIVE)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def guarded(text: str) -> str:
    """The text, with an apostrophe wherever a spreadsheet would begin to compute. Numbers stay."""
    return text if _NUMBER.fullmatch(text) else _UNGUARDED.sub("'", text)


def unguarded(cell: str) -> str:
    """The text that `guarded` made the cell of."""
    return _GUARDED.sub("", cell)
