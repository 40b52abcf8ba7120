"""The audit itself: files in, findings out."""

from __future__ import annotations

import ast
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from thinned.audit.finding import Finding
from thinned.audit.reading import (
    UnreadableError,
    is_silenced,
    lines_of,
    may_matter,
    package_of,
    parse,
    read,
)
from thinned.audit.rule import PARSE, RULES
from thinned.audit.settings import Settings, chosen
from thinned.audit.source import Source
from thinned.audit.walking import files_under

__all__ = ["Report", "audit", "audit_file", "audit_source"]


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found.

    Parameters
    ----------
    findings : tuple of Finding, sorted by place.
    files : int. Files that were read.
    lines : int. Lines in them.
    """

    findings: tuple[Finding, ...]
    files: int
    lines: int

    def _repr_html_(self) -> str:
        """A table for a notebook."""
        from thinned.pages.fragment import paragraph, rows_of

        told = paragraph(f"{len(self.findings)} findings in {self.files} files.")
        rows = [(f"{f.path}:{f.line}:{f.column}", f.code, f.sentence) for f in self.findings]
        return told + rows_of(("place", "code", "what is wrong"), rows) if rows else told


def audit(paths: Sequence[str], settings: Settings | None = None, jobs: int = 1) -> Report:
    """Audit the Python files at and under `paths`.

    Parameters
    ----------
    paths : sequence of str. Files and folders.
    settings : Settings or None, for all rules.
    jobs : int, at least 1. Processes that share the work. The findings do not depend on it.

    Returns
    -------
    Report.

    Raises
    ------
    InputError if a path cannot be used or a code is unknown.
    """
    settings = settings or Settings()
    codes = tuple(chosen(settings))
    files = files_under(paths, settings)
    if jobs > 1 and len(files) > 1:
        results = _shared(files, codes, jobs)
    else:
        results = [audit_file(path, codes) for path in files]
    findings = sorted(finding for found, _ in results for finding in found)
    return Report(tuple(findings), len(files), sum(lines for _, lines in results))


def _shared(
    files: Sequence[str], codes: Sequence[str], jobs: int
) -> list[tuple[list[Finding], int]]:
    # Loading these takes longer than the audit of a file.
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    work = partial(audit_file, codes=codes)
    # Not forked: the process that asks may have threads.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, files, chunksize=max(1, len(files) // (jobs * 8))))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Trees have no cycles, and the collector would look through each of them many times: a quarter
    of the whole time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def audit_file(path: str, codes: Sequence[str] | None = None) -> tuple[list[Finding], int]:
    """Return the findings in one file, and its number of lines."""
    codes = tuple(RULES) if codes is None else codes
    shown = path.replace(os.sep, "/")
    try:
        data = read(path)
    except UnreadableError as error:
        return _passed_over(shown, error, codes), 0
    lines = data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    if not may_matter(data):
        return [], lines
    return audit_source(data, shown, package_of(path), codes), lines


def audit_source(
    data: bytes, path: str = "", package: str = "", codes: Sequence[str] | None = None
) -> list[Finding]:
    """Return the findings in the text of a file, sorted by place.

    Parameters
    ----------
    data : bytes. The file, in whatever encoding it says that it has.
    path : str. As findings are to name it.
    package : str. The package that relative imports start from, "" for none.
    codes : sequence of str or None, for all. The rules to use.
    """
    codes = tuple(RULES) if codes is None else codes
    try:
        with _without_collection():
            source = Source(parse(data), package, path)
            hits = [
                (code, node, sentence)
                for code in codes
                if (check := RULES[code].check) is not None
                for node, sentence in check(source)
            ]
    except UnreadableError as error:
        return _passed_over(path, error, codes)
    except (RecursionError, MemoryError):
        return _passed_over(path, UnreadableError("The file is nested too deeply."), codes)
    if not hits:
        return []
    lines = lines_of(data)
    found = (_finding(path, lines, code, node, sentence) for code, node, sentence in hits)
    return sorted({f for f in found if not is_silenced(lines, f.line, f.end_line, f.code)})


def _passed_over(path: str, error: UnreadableError, codes: Sequence[str]) -> list[Finding]:
    if PARSE not in codes:
        return []
    line = error.line
    return [Finding(path, line, 1, PARSE, line, 1, error.sentence, "")]


def _finding(path: str, lines: list[str], code: str, node: ast.AST, sentence: str) -> Finding:
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
    return Finding(path, first, column + 1, code, last, end + 1, sentence, text)


def _line(lines: list[str], number: int) -> str:
    return lines[number - 1] if 0 < number <= len(lines) else ""


def _characters(lines: list[str], number: int, offset: int) -> int:
    """An offset in UTF-8 bytes, as trees have it, in characters."""
    line = _line(lines, number)
    if line.isascii():
        return offset
    return len(line.encode("utf-8")[:offset].decode("utf-8", "ignore"))
