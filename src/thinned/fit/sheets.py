"""The table in an Excel file: its sheet, its header, its rows."""

from __future__ import annotations

import io
import warnings
import zipfile
from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from thinned.errors import InputError, listed, quoted
from thinned.fit.beginnings import is_number
from thinned.fit.endings import below, line_of_units
from thinned.fit.source import text_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["excel"]

# Excel's errors, and texts that stand for nothing in other files too.
_NO_VALUE = {"", *["NA", "N/A", "n/a", "NaN", "NULL", "null"]}
_NO_VALUE |= {"#N/A", "#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!"}
# Rows of a sheet that can stand above its table, and rows that a sheet with a table has; of others
# the one with two rows is taken.
_MOST_TITLES, _ROWS, _FEW_ROWS = 20, 14, 2
# Bytes of a sheet that is read as a whole to find cells that were merged, which takes long.
_MERGED = 50_000_000


def excel(name: str, raw: bytes) -> tuple[pd.DataFrame, list[str]]:
    """The table of an Excel file, and notes: of the first sheet with one that is not hidden.

    Cells that were merged over several rows hold their value in each of them.

    Raises
    ------
    InputError with one sentence.
    """
    import pandas as pd

    try:
        import openpyxl  # noqa: F401 - pandas imports it, and says less where it is absent
    except ImportError:
        raise InputError(
            f'{name}: openpyxl is not installed; Excel files need: pip install "thinned[excel]".'
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and the like, which are not read
            book = _opened(raw, computed=True, whole=_has_merged(raw))
            read, rows, filled = _first_table(book)
    # What openpyxl raises of damaged files, also while their rows are read.
    except (KeyError, ValueError, OSError, zipfile.BadZipFile, IndexError, AttributeError):
        raise InputError(f"{name}: not a readable Excel file (.xlsx).") from None
    if not rows:
        raise InputError(f"{name}: the sheet {quoted(read)} is empty.")
    above = _titles(rows)
    header, *cells = rows[above:]
    texts = [["" if cell is None else str(cell) for cell in row] for row in cells]
    under = below(texts, len(header))
    cells = cells[: len(cells) - under]
    used = [i for i in range(len(header)) if any(row[i] is not None for row in (header, *cells))]
    names = ["" if header[i] is None else text_of(header[i]).strip() for i in used]
    columns = [pd.Series([_cell(row[i]) for row in cells], dtype=object) for i in used]
    frame = pd.concat(columns, axis=1, keys=range(len(columns))).infer_objects()
    frame.columns = pd.Index(names)
    notes = []
    while len(frame) and (units := line_of_units(frame)):
        frame = frame.iloc[1:].reset_index(drop=True).infer_objects()
        notes.append(f"The first row below the header says {listed(units, 3)}, and is no row.")
    last = above + len(notes)  # of the header
    notes += _on_sheets(name, book, read)
    if above:
        rows_above = "row is" if above == 1 else f"{above} rows that are not empty are"
        notes.append(
            f"The first {rows_above} no part of the table; the next one names its columns."
        )
    if under:
        rows_under = "row is" if under == 1 else f"{under} rows that are not empty are"
        cells_under = (cell.strip() for row in texts[-under:] for cell in row)
        left = listed([cell for cell in cells_under if cell and not is_number(cell)], 3)
        notes.append(f"The last {rows_under} no part of the table: {left}.")
    merged = [names[used.index(i)] for i in used if filled.get(i, 0) > last]
    if merged:
        notes.append(f"Cells that were merged hold their value in each row: {listed(merged, 3)}.")
    empty = [i for i in used if not any(row[i] is not None for row in cells)]
    if empty:
        notes += _on_formulas(raw, read, {i: names[used.index(i)] for i in empty})
    return frame, notes


def _opened(raw: bytes, computed: bool, whole: bool) -> Any:
    """The book with the values of formulas, or the formulas; whole, or as a stream of rows."""
    import openpyxl

    return openpyxl.load_workbook(io.BytesIO(raw), read_only=not whole, data_only=computed)


def _has_merged(raw: bytes) -> bool:
    """Whether a sheet says that cells were merged, which a stream of its rows does not say."""
    with zipfile.ZipFile(io.BytesIO(raw)) as packed:
        sheets = [one for one in packed.infolist() if one.filename.startswith("xl/worksheets/")]
        return sum(one.file_size for one in sheets) < _MERGED and any(
            b"<mergeCell " in packed.read(one) for one in sheets
        )


def _first_table(book: Any) -> tuple[str, list[list[Any]], dict[int, int]]:
    """The first sheet with a table: its name, its rows that are not empty, of even width, and the
    columns in which merged cells were filled, with the last row of these. Sheets that are hidden
    come last."""
    found = []
    sheets = [one for one in book.worksheets if hasattr(one, "iter_rows")]  # no pictures
    for sheet in sorted(sheets, key=lambda one: one.sheet_state != "visible"):
        rows = [list(row) for row in sheet.iter_rows(values_only=True)]
        merged = dict(_fill_merged(sheet, rows))
        there = [i for i, row in enumerate(rows) if any(cell is not None for cell in row)]
        filled = {column: bisect_left(there, last) for column, last in merged.items()}
        rows = [rows[i] for i in there]
        width = max(map(len, rows), default=0)
        rows = [row + [None] * (width - len(row)) for row in rows]
        size = sum(sum(cell is not None for cell in row) > 1 for row in rows)
        found.append((sheet.title, rows, filled, size))
        if size >= _ROWS:
            break
    for fewest in (_ROWS, _FEW_ROWS, 0):
        for title, rows, filled, size in found:
            if size >= fewest:
                return title, rows, filled
    return book.sheetnames[0], [], {}


def _fill_merged(sheet: Any, rows: list[list[Any]]) -> Iterator[tuple[int, int]]:
    """Write the value of cells that were merged into each of their rows; their columns and last
    rows, from 0, the last of a column at the end."""
    areas = getattr(getattr(sheet, "merged_cells", None), "ranges", ())
    for area in sorted(areas, key=lambda one: one.max_row):
        if area.max_row > area.min_row and area.max_row <= len(rows):
            column, first = area.min_col - 1, area.min_row - 1
            for row in rows[first + 1 : area.max_row]:
                row[column] = rows[first][column]
            yield column, area.max_row - 1


def _on_sheets(name: str, book: Any, read: str) -> list[str]:
    """The sentence on which sheet was read, where there are several."""
    sheets = book.sheetnames
    if len(sheets) < 2:
        return []
    hidden = book[sheets[0]].sheet_state != "visible"
    other = "the first that is not hidden" if hidden else "the first with a table"
    which = "the first" if read == sheets[0] else other
    return [f"{name} has {len(sheets)} sheets; {which}, {quoted(read)}, was read."]


def _on_formulas(raw: bytes, sheet: str, empty: dict[int, str]) -> list[str]:
    """The sentence on columns without a value that hold formulas: no program has computed them.
    empty : their names, by their places."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = _opened(raw, computed=False, whole=False)[sheet].iter_rows(values_only=True)
        found = {
            i
            for row in rows
            for i in empty
            if i < len(row) and isinstance(row[i], str) and row[i].startswith("=")
        }
    return [
        f"Column {quoted(empty[i])} holds formulas that no program has computed: open the file in "
        "a spreadsheet program and save it there."
        for i in sorted(found)
    ]


def _titles(rows: list[list[Any]]) -> int:
    """How many rows stand above the one that names the columns: it is the first that is filled in
    every column, with texts only, where those above have fewer cells."""
    used = [i for i in range(len(rows[0])) if any(row[i] is not None for row in rows)]
    for place, row in enumerate(rows[:_MOST_TITLES]):
        if all(isinstance(row[i], str) and row[i].strip() for i in used):
            return place
        if sum(row[i] is not None for i in used) > max(1, len(used) - 2):
            return 0
    return 0


def _cell(cell: object) -> object:
    return None if isinstance(cell, str) and cell.strip() in _NO_VALUE else cell
