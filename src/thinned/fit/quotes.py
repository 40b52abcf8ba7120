"""Cells between quotes of other kinds, as some programs write them, brought between double ones."""

from __future__ import annotations

import csv
import io
import re

from thinned.errors import quoted
from thinned.fit.beginnings import lines_of

__all__ = ["with_double_quotes", "without_formulas"]

# Lines that are looked at.
_LINES, _CHARACTERS = 40, 100_000


def with_double_quotes(text: str, separator: str) -> tuple[str, list[str]]:
    """The text with double quotes where it has single ones around cells, and a note on it.

    They are quotes where each name in the header has them, or a cell in each of the first rows, and
    where the table has as many fields in each row then. Lines keep their numbers.
    """
    if '"' in text or "'" not in text[:_CHARACTERS]:
        return text, []
    lines = [line.rstrip("\r\n") for line in lines_of(text[:_CHARACTERS])[:_LINES]]
    first, *rows = [line for line in lines if line.strip()] or [""]
    mark = re.escape(separator)
    cell = re.compile(rf"(?:^|{mark})\s*'[^']*'\s*(?={mark}|$)")
    names = len(cell.findall(first)) == first.count(separator) + 1
    if not names and not (rows and all(map(cell.search, rows[:-1] or rows))):
        return text, []
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, quotechar="'", strict=True
    )
    made = io.StringIO(newline="")
    writer = csv.writer(made, delimiter=separator, lineterminator="\n")
    width = 0
    try:
        for fields in reader:
            width = width or len(fields)
            if fields and len(fields) != width:
                return text, []
            writer.writerow(fields)
    except csv.Error:
        return text, []
    return made.getvalue(), ["The single quotes around cells were taken away."]


def without_formulas(text: str, separator: str) -> tuple[str, list[str]]:
    """The text with "0072" in place of a spreadsheet's formula that gives a text, ="0072", and a
    note on it. Lines keep their numbers."""
    if '"' not in text or '="' not in text:  # the first is found in a tenth of the time
        return text, []
    mark = re.escape(separator)
    cell = r'"=""([^"\r\n]*)"""|="([^"\r\n]*)"'
    whole = re.compile(rf"(?m)(^|{mark})(?:{cell})(?={mark}|\r?$)")
    found = whole.search(text)
    if found is None:
        return text, []
    shown = found[2] if found[2] is not None else found[3]
    made = whole.sub(lambda one: f'{one[1]}"{one[2] if one[2] is not None else one[3]}"', text)
    shown = f"={quoted(shown)}"
    return made, [f"Cells such as {shown}, formulas of a spreadsheet, were read as what they give."]
