"""Standard output and standard error, as they are while a command runs."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

__all__ = ["STDOUT", "output_as_a_file", "standard_streams", "wrapped"]

# What an error of the system names where a file has its path.
STDOUT = "standard output"
# Columns below which a sentence is not wrapped any further.
NARROWEST = 30


@contextmanager
def standard_streams() -> Iterator[None]:
    """Standard output says that it is the one that is full. A character that a stream's encoding
    lacks is written as an escape sequence. A stream that was closed before the start takes nothing,
    and it is an error to write to standard output then.
    """
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout = cast(TextIO, _Output(before[0] or nowhere, is_closed=before[0] is None))
        sys.stderr = before[1] or nowhere
        errors = [(stream, _lenient(stream)) for stream in before if stream is not None]
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for stream, was in errors:
                _set_errors(stream, was)


def wrapped(sentence: str, further: str = "") -> str:
    """A sentence in lines that a terminal's width takes, further ones after an indent. What goes to
    a file or a pipe stays one line."""
    if not sys.stdout.isatty():
        return sentence
    width = max(shutil.get_terminal_size().columns - 1, NARROWEST)
    return textwrap.fill(
        sentence, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )


@contextmanager
def output_as_a_file() -> Iterator[None]:
    """What is printed meanwhile has a file's form: UTF-8, and lines end as they are given."""
    stream = cast(io.TextIOWrapper, sys.stdout)
    if not hasattr(stream, "reconfigure"):  # another program's
        yield
        return
    encoding, errors = stream.encoding, stream.errors
    stream.reconfigure(encoding="utf-8", errors="strict", newline="")
    try:
        yield
    finally:
        stream.reconfigure(encoding=encoding, errors=errors, newline=None)


class _Output:
    """Standard output, whose errors say where they come from."""

    def __init__(self, stream: TextIO, is_closed: bool) -> None:
        self.stream, self.is_closed = stream, is_closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        if self.is_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), STDOUT)
        with _named():
            return self.stream.write(text)

    def flush(self) -> None:
        with _named():
            self.stream.flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, STDOUT) from None


def _lenient(stream: TextIO) -> str | None:
    was = stream.errors
    _set_errors(stream, "backslashreplace")
    return was


def _set_errors(stream: TextIO, errors: str | None) -> None:
    if isinstance(stream, io.TextIOWrapper):  # else it is another program's
        try:
            stream.reconfigure(errors=errors)
        except OSError:  # it is full, as was reported
            return
