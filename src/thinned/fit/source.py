"""A table as it was read, and where its rows stand in the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from thinned.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# Characters from which on a table is read in pieces, and about how many cells one has.
PIECE, PIECE_CELLS = 2**24, 2**19

__all__ = ["TableFile", "line_of", "parsed", "text_of"]


@dataclass
class TableFile:
    """A table as it was read, and where its rows stand in the file.

    text, separator, header : of a file of separated texts; None, "," and () for other formats.
    missing : texts that count as missing besides those that pandas knows.
    typed : whether the file itself says of what type a column is, as Parquet does.
    spaced : whether a space follows each separator, and is part of it.
    respelled : columns of texts and of numbers by their type, which are texts here: their decimal
        points are ours.
    """

    name: str
    frame: pd.DataFrame
    sha256: str | None = None
    notes: list[str] = field(default_factory=list)
    text: str | None = None
    separator: str = ","
    header: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    typed: bool = False
    spaced: bool = False
    respelled: frozenset[str] = frozenset()

    def row(self, position: int) -> str:
        """How a person finds the row at this position: its number, and its line in a CSV."""
        if self.text is None:
            return f"row {position + 1}"
        line = line_of(self.text, self.separator, position, self.spaced)
        return f"row {position + 1} (line {line})"

    def error(self, sentence: str) -> InputError:
        return InputError(f"{self.name}: {sentence}")

    def spelled(self, name: str, rows: int | None = None) -> pd.Series:
        """The cells of a column as they stand in the file: texts, and None where one is empty or
        one of `missing`. rows : the first ones only."""
        import pandas as pd

        if self.text is None:
            cells = self.frame[name][:rows]
            texts = [None if pd.isna(cell) else text_of(cell) for cell in cells]
            return pd.Series(texts, index=cells.index, dtype=object)
        header = self.header
        frame = parsed(
            self.text, self.separator, header, frozenset((name,)), self.missing, name, rows,
            self.spaced,
        )  # fmt: skip
        found = frame[name].astype(object)
        return found.where(found.notna(), None).set_axis(self.frame.index[:rows])


def text_of(cell: object) -> str:
    """A cell as a text."""
    # Whole numbers become floats where one of them is missing; as texts they stay what they were.
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def parsed(
    text: str,
    separator: str,
    header: tuple[str, ...],
    as_text: frozenset[str],
    missing: tuple[str, ...] = (),
    only: str | None = None,
    rows: int | None = None,
    spaced: bool = False,
    count: int | None = None,
) -> pd.DataFrame:
    """Separated texts as pandas reads them.

    only : one column, whose every spelling is kept. rows : the first ones only. count : how many
    rows there are, if that is known.
    """
    import pandas as pd

    asked: dict[str, Any] = {
        "sep": separator,
        "skipinitialspace": spaced,
        "header": 0,
        "names": list(header),
        "index_col": False,
        "usecols": None if only is None else [only],
        "dtype": {name: str for name in as_text if name in header},
        "na_values": list(missing) if only is None else ["", *missing],
        "keep_default_na": only is None,
        "low_memory": False,  # within one piece no column gets two types
    }
    frame = None
    if count is not None and len(text) > PIECE:
        frame = _joined(text, asked, count)
    if frame is None:
        frame = cast("pd.DataFrame", pd.read_csv(_file(text), nrows=rows, **asked))
    for name in frame.columns:  # with spaces around it, a mark is still one, and nothing nothing
        cells = frame[name]
        if pd.api.types.is_string_dtype(cells.dtype) or cells.dtype == object:
            empty = cells.astype("str").str.strip().isin(["", *missing])
            frame[name] = cells.mask(empty) if empty.any() else cells
    return frame


def _file(text: str) -> Any:
    """A text as a file; a StringIO would hold it once more, at four bytes a character."""
    return _Pieces(text)


def _joined(text: str, asked: dict[str, Any], count: int) -> pd.DataFrame | None:
    """A long table, read piece by piece: a reader of all of it at once holds it three times. None
    where it has not so many rows, or a column cannot be put together.

    A column of numbers in a piece and of texts in another is read again, as texts.
    """
    import pandas as pd

    columns: dict[str, _Cells] = {}
    at, rows = 0, max(1, PIECE_CELLS // len(asked["names"]))
    with pd.read_csv(_file(text), chunksize=rows, **asked) as pieces:
        for piece in pieces:
            if at + len(piece) > count:
                return None
            for name in piece.columns:
                columns.setdefault(name, _Cells(count)).take(piece[name], at)
            at += len(piece)
    if at != count:
        return None
    mixed = [name for name, cells in columns.items() if cells.are_mixed]
    texts = None
    if mixed:
        again = {**asked, "usecols": mixed, "dtype": dict.fromkeys(mixed, str)}
        texts = _joined(text, again, count)
        if texts is None:
            return None
    whole: dict[str, pd.Series] = {}
    for name in list(columns):
        one = columns.pop(name)
        cells = texts[name] if texts is not None and name in mixed else one.whole()
        if cells is None:
            return None
        whole[name] = cells
    return pd.DataFrame(whole, copy=False)


class _Cells:
    """The cells of a column, piece after piece: numbers stand in one array with room for all, since
    many small ones, once freed, leave holes that a large one does not fit in."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.numbers: NDArray[Any] | None = None
        self.parts: list[pd.Series] = []

    def take(self, cells: pd.Series, at: int) -> None:
        """Add the cells that follow the first `at`."""
        if self.parts or cells.dtype.kind not in "if":
            if self.numbers is not None:
                self.parts.append(_series(self.numbers[:at]))
                self.numbers = None
            self.parts.append(cells)
            return
        if self.numbers is None:
            self.numbers = np.empty(self.count, cells.to_numpy().dtype)
        elif cells.dtype.kind == "f":
            self.numbers = self.numbers.astype(np.float64, copy=False)
        self.numbers[at : at + len(cells)] = cells

    @property
    def _kinds(self) -> set[Any]:
        """The types of the pieces; one without a value has that of numbers, and says nothing."""
        return {one.dtype for one in self.parts if one.notna().any()}

    @property
    def are_mixed(self) -> bool:
        """Whether some pieces hold numbers, and others texts."""
        import pandas as pd

        kinds = self._kinds
        others = {kind for kind in kinds if not isinstance(kind, pd.StringDtype)}
        return 0 < len(others) < len(kinds) and all(kind.kind in "iuf" for kind in others)

    def whole(self) -> pd.Series | None:
        """The column; None if its pieces differ in more than a whole number differs from others."""
        import pandas as pd

        if self.numbers is not None:
            return _series(self.numbers)
        kinds = self._kinds
        kind = next(iter(kinds), self.parts[0].dtype)
        if len(kinds) > 1 or (kind.kind == "b" and any(one.isna().any() for one in self.parts)):
            return None
        return pd.concat([one.astype(kind) for one in self.parts], ignore_index=True)


def _series(numbers: NDArray[Any]) -> pd.Series:
    import pandas as pd

    return pd.Series(numbers, copy=False)


class _Pieces:
    """A text as a file that is read from: piece after piece, without a copy."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def read(self, n: int = -1) -> str:
        end = len(self.text) if n < 0 else self.at + n
        piece = self.text[self.at : end]
        self.at += len(piece)
        return piece

    def __iter__(self) -> Iterator[str]:
        while line := self.readline():
            yield line

    def readline(self) -> str:
        end = self.text.find("\n", self.at) + 1
        return self.read((end or len(self.text)) - self.at)


def line_of(text: str, separator: str, position: int, spaced: bool) -> int:
    """The line (from 1) on which the data row at this position starts."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=spaced)
    start, rows = 1, -1  # the header is row -1
    for fields in reader:
        if fields:
            if rows == position:
                break
            rows += 1
        start = reader.line_num + 1
    return start
