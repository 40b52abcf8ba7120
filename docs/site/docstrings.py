"""The docstrings of Thinned as reStructuredText, for autodoc.

They are plain text: sections with a line under their names, "name : meaning" for arguments, lines
set in for formulas, and one kind of backtick for code. So no sign may be read as markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

ITEMS = ("Parameters", "Attributes", "Yields")
FIELDS = (*ITEMS, "Returns", "Raises", "Warns")
CODE = re.compile(r"(``[^`]+``|`[^`]+`)(?=(\w?))")
NAME = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*) : ?(.*)")


def line_in_rst(line: str) -> str:
    """A line of plain text: code as code, everything else as it stands."""
    shown = []
    last = 0
    for found in CODE.finditer(line):
        shown.append(_plain(line[last : found.start()]))
        code = found.group(1).strip("` ")
        # A name may be one that has an entry of its own to lead to.
        shown.append(f"`{code}`" if re.fullmatch(r"[A-Za-z_][\w.]*", code) else f"``{code}``")
        if found.group(2):
            shown.append("\\ ")
        last = found.end(1)
    return "".join(shown) + _plain(line[last:])


def _plain(text: str) -> str:
    return re.sub(r"([\\*|`]|_(?!\w))", r"\\\1", text)


def paragraphs(lines: list[str]) -> Iterator[str]:
    """Plain paragraphs and lists; doctests and what is indented as they stand."""
    rest = list(lines)
    while rest:
        part = _part(rest)
        del rest[: len(part)]
        if not part[0].strip() or part[0].startswith(">>>"):
            yield from part
        elif part[0].startswith("    "):
            yield from ("", "::", "", *part, "")
        elif part[0].startswith("- "):
            yield f"- {line_in_rst(_joined(part)[2:])}"
        else:
            yield line_in_rst(_joined(part))


def _part(lines: list[str]) -> list[str]:
    """The first lines that are of one kind: a blank one, a doctest, a formula, an entry, a text."""
    first = lines[0]
    if not first.strip():
        return [first]

    def ends(line: str) -> bool:
        if not line.strip():
            return True
        if first.startswith(">>>"):
            return False
        return line.startswith("- ") or line.startswith("    ") != first.startswith("    ")

    end = next((n for n, line in enumerate(lines[1:], 1) if ends(line)), len(lines))
    return lines[:end]


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)


def items(lines: list[str]) -> Iterator[str]:
    """ "name : meaning" and its continued lines, as a list of definitions."""
    starts = [n for n, line in enumerate(lines) if line.strip() and not line.startswith(" ")]
    for start, end in zip(starts, [*starts, len(lines)][1:], strict=True):
        text = _joined(lines[start:end]).strip()
        found = NAME.match(text)
        yield ""
        if found:
            yield f"``{found.group(1)}``"
            yield f"    {line_in_rst(found.group(2)) or chr(92) + ' '}"
        else:
            yield line_in_rst(text)


def sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The parts of a docstring with their names; the first has none."""
    name = ""
    held: list[str] = []
    rest = iter([*lines, ""])
    line = next(rest)
    for below in rest:
        if re.fullmatch(r"-{3,}", below) and len(below) >= len(line.strip()) > 0:
            yield name, held
            name, held = line.strip(), []
            line = next(rest, "")
            continue
        held.append(line)
        line = below
    yield name, held


def in_rst(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText."""
    shown: list[str] = []
    for name, held in sections(lines):
        body = list(items(held) if name in ITEMS else paragraphs(held))
        if name in FIELDS:
            shown += ["", f":{name}:", *(f"    {line}" if line else "" for line in body)]
        else:
            shown += ["", f".. rubric:: {name}", "", *body] if name else body
    return [*shown, ""]


def process(
    app: Sphinx, what: str, name: str, given: object, options: object, lines: list[str]
) -> None:
    """autodoc's event, which takes what it finds in `lines`."""
    lines[:] = in_rst(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
