"""One file: its findings, with the edits that mend them."""

from __future__ import annotations

import ast
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from thinned.audit.document import Document
from thinned.audit.finding import Edit, Finding
from thinned.audit.fixes import FIXES
from thinned.audit.opening import document_of
from thinned.audit.reading import UnreadableError, is_silenced, may_matter, package_of, read
from thinned.audit.rule import PARSE, RULES
from thinned.audit.source import Source
from thinned.audit.tree import one_at_a_time, parsed
from thinned.foreign_arguments import answering

__all__ = [
    "audit_document",
    "audit_file",
    "audit_source",
    "lines_in",
    "unreadable",
    "without_collection",
]


@contextmanager
def without_collection() -> Iterator[None]:
    """The collector would look through each tree many times, a quarter of the whole time, and find
    nothing: files that are let go undo their own circles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            # What is left is old: it is looked at when the collector does so anyway, not at once.
            gc.freeze()
            gc.unfreeze()
            gc.enable()


@answering
def audit_file(path: str, codes: Sequence[str] | None = None) -> tuple[list[Finding], int]:
    """Return the findings in one file, and its number of lines."""
    codes = tuple(RULES) if codes is None else codes
    shown = path.replace(os.sep, "/")
    try:
        data = read(path)
    except UnreadableError as error:
        return unreadable(shown, error, codes), 0
    if not may_matter(data):
        return [], lines_in(data)
    return audit_source(data, shown, package_of(path), codes), lines_in(data)


def lines_in(data: bytes) -> int:
    """Return the number of lines of a file."""
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


@answering
def audit_source(
    data: bytes, path: str = "", package: str = "", codes: Sequence[str] | None = None
) -> list[Finding]:
    """Return the findings in the text of a file, sorted by place.

    Parameters
    ----------
    data : bytes. The file, in whatever encoding it says that it has; a notebook where the path ends
        with .ipynb.
    path : str. As findings are to name it.
    package : str. The package that relative imports start from, "" for none.
    codes : sequence of str or None, for all. The rules to use.
    """
    codes = tuple(RULES) if codes is None else codes
    try:
        document = document_of(data, path)
    except UnreadableError as error:
        return unreadable(path, error, codes)
    return audit_document(document, path, package, codes)


def audit_document(
    document: Document, path: str, package: str, codes: Sequence[str]
) -> list[Finding]:
    """Return the findings in a script or a notebook, sorted by place."""
    try:
        with one_at_a_time(), without_collection():
            source = parsed(document.code, package, path, Source)
            hits = [
                (code, node, sentence)
                for code in codes
                if (check := RULES[code].check) is not None
                for node, sentence in check(source)
            ]
            found = [_finding(document, source, *hit) for hit in hits]
    except UnreadableError as error:
        return unreadable(path, error, codes)
    except (RecursionError, MemoryError):
        return unreadable(path, UnreadableError("The file is nested too deeply."), codes)
    kept = {f for f, first, last in found if not is_silenced(document.lines, first, last, f.code)}
    if PARSE in codes:
        kept.update(_broken(document, path, line, error) for line, error in document.broken)
    return sorted(kept)


def unreadable(path: str, error: UnreadableError, codes: Sequence[str]) -> list[Finding]:
    """Return the finding that a file could not be read, if that is asked for."""
    if PARSE not in codes:
        return []
    line = error.line
    return [Finding(path, 0, line, 1, PARSE, line, 1, error.sentence, "", "", line)]


def _broken(document: Document, path: str, line: int, error: UnreadableError) -> Finding:
    cell, inner, file_line = document.place(line)
    text = _line(document.lines, line).strip()
    return Finding(path, cell, inner, 1, PARSE, inner, 1, error.sentence, text, "", file_line)


def _finding(
    document: Document, source: Source, code: str, node: ast.AST, sentence: str
) -> tuple[Finding, int, int]:
    """The finding of a hit, and the lines of the code between which it stands."""
    lines = document.lines
    first = getattr(node, "lineno", 1)
    last = getattr(node, "end_lineno", None) or first
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        last = first  # the head alone is what the finding is about
    column = _characters(lines, first, getattr(node, "col_offset", 0))
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        end = len(_line(lines, first))
    else:
        end = _characters(lines, last, getattr(node, "end_col_offset", 0) or 0)
    text = _line(lines, first).strip()
    cell, line, file_line = document.place(first)
    whole = [*lines[first - 1 : last]]
    if whole:
        whole[-1] = whole[-1][:end]
        whole[0] = whole[0][column:]
    finding = Finding(
        source.path, cell, line, column + 1, code, line + last - first, end + 1, sentence, text,
        "".join("".join(whole).split()), file_line, _edits(document, source, code, node),
    )  # fmt: skip
    return finding, first, last


def _edits(document: Document, source: Source, code: str, node: ast.AST) -> tuple[Edit, ...]:
    fix = FIXES.get(code)
    change = None if fix is None else fix(source, node, document.lines)
    if change is None:
        return ()
    cell, line, _ = document.place(change.line)
    start, end = (
        _characters(document.lines, change.line, at) + 1 for at in (change.start, change.end)
    )
    return (Edit(cell, line, start, end, change.text),)


def _line(lines: list[str], number: int) -> str:
    return lines[number - 1] if 0 < number <= len(lines) else ""


def _characters(lines: list[str], number: int, offset: int) -> int:
    """An offset in UTF-8 bytes, as trees have it, in characters."""
    line = _line(lines, number)
    if line.isascii():
        return offset
    return len(line.encode("utf-8")[:offset].decode("utf-8", "ignore"))
