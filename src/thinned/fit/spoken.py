"""Sentences that name options of the command line, for callers who have arguments instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from thinned.errors import InputError

__all__ = ["in_arguments", "naming_arguments"]

_WAYS = (
    (re.compile(r'--type "((?:[^"\\]|\\.)+)=([a-z/]+)"'), r'types={"\1": "\2"}'),
    (re.compile(r'--(missing|keep|drop) ("(?:[^"\\]|\\.)*")'), r"\1=[\2]"),
    (re.compile(r"--task (regression|classification)"), r'task="\1"'),
    (re.compile(r"; choose another with --out, or --overwrite it"), "; pass overwrite=True"),
    (re.compile(r"(;|,) (choose another|name a file) with --out"), r"\1 \2"),
    (re.compile(r"or choose another with --out"), "or choose another"),
    (re.compile(r"--overwrite replaces"), "overwrite=True replaces"),
    (re.compile(r"--type\b"), "types="),
)
_OPTION = re.compile(r"(?<![-\w])--([a-z]+(?:-[a-z]+)*)\b")


def in_arguments(sentence: str) -> str:
    """The sentence with arguments where it has options: `--target` becomes `target=`."""
    for pattern, words in _WAYS:
        sentence = pattern.sub(words, sentence)
    return _OPTION.sub(lambda found: f"{found[1].replace('-', '_')}=", sentence)


@contextmanager
def naming_arguments() -> Iterator[None]:
    """An InputError in here names arguments."""
    try:
        yield
    except InputError as error:
        raise InputError(in_arguments(str(error))) from None
