"""What IPython adds to Python: magics, commands of the shell, questions. They become `pass`.

A line is one of them only where a statement begins: `%` inside brackets is the remainder, and
inside a string it is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["without_magics"]

# Cell magics whose cell is Python that runs here.
_PYTHON_CELLS = frozenset({"time", "timeit", "capture", "prun", "memit", "mprun", "snakeviz"})
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_CELL = re.compile(r"\s*%%(\w*)")
# !command, %magic, ?name, /call, ,call, ;call; and name? at the end.
_MAGIC = re.compile(r"(\s*)(?:[!%?]|[/,;](?=\w)|[\w.*%\[\]'\"]+\?{1,2}[ \t;]*$)")
_GIVEN = re.compile(r"(\s*[\w.,* \t\[\]'\"]+?=\s*)(?:!|%(?=[a-zA-Z]))")
# What a line of Python holds as far as statements are concerned.
_TOKEN = re.compile(
    r"""(?P<comment>\#.*)|(?P<long>[rRbBuUfFtT]{0,2}(?:\"\"\"|'''))"""
    r"""|(?P<short>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<open>[(\[{])|(?P<close>[)\]}])"""
)
# The rest of a string in three quotes.
_LONG_END = r"(?:\\.|(?!{0}).)*{0}"


def without_magics(text: str) -> str:
    """Return a cell's text as Python: line by line, what is IPython's own replaced.

    Parameters
    ----------
    text : str. A cell.

    Returns
    -------
    str. As many lines, the lines of Python as they were.
    """
    lines = _LINE.findall(text)
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return text
    cell = _CELL.match(lines[first])
    if cell is not None:
        rest = lines[first + 1 :]
        if cell[1] not in _PYTHON_CELLS:
            rest = [_end_of(line) for line in rest]
        before = "".join([*lines[:first], _end_of(lines[first])])
        return before + without_magics("".join(rest))
    return "".join(_replaced(lines))


def _replaced(lines: list[str]) -> Iterator[str]:
    state = _State()
    goes_on = False  # a magic whose line ends in a backslash
    for line in lines:
        bare = line.rstrip("\r\n")
        if goes_on:
            yield _end_of(line)
            goes_on = bare.endswith("\\")
            continue
        if state.begins:
            magic, given = _MAGIC.match(bare), _GIVEN.match(bare)
            if magic is not None or given is not None:
                goes_on = bare.endswith("\\")
                # What a magic returns is not known: neither is what is called here.
                if magic is not None:
                    new = f"{magic[1]}pass"
                else:
                    assert given is not None
                    new = f"{given[1]}get_ipython()"
                yield new + _end_of(line)
                continue
        state.read(bare)
        yield line


def _end_of(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


class _State:
    """What is open at the end of a line."""

    def __init__(self) -> None:
        self.depth = 0
        self.quotes = ""
        self.joins = False

    @property
    def begins(self) -> bool:
        """Whether a statement begins with the next line."""
        return not (self.depth or self.quotes or self.joins)

    def read(self, line: str) -> None:
        """Go over a line."""
        at = 0
        while True:
            if self.quotes:
                end = re.compile(_LONG_END.format(self.quotes)).match(line, at)
                if end is None:
                    return
                at, self.quotes = end.end(), ""
            token = _TOKEN.search(line, at)
            if token is None:
                break
            at = token.end()
            if token["long"]:
                self.quotes = token["long"][-3:]
            elif token["open"]:
                self.depth += 1
            elif token["close"]:
                self.depth = max(0, self.depth - 1)
            elif token["comment"]:
                self.joins = False
                return
        self.joins = line.endswith("\\")
