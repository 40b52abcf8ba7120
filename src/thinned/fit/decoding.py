"""The bytes of a text file as text: UTF-8, UTF-16, or Windows-1252 as older programs write it."""

from __future__ import annotations

import re

from thinned.errors import InputError, quoted

__all__ = ["decoded"]

# How a text file starts that is no table: most often a page saved in place of the data.
OTHER_TEXT = {
    "HTML or XML": r"<(!doctype|html|\?xml)",
    "JSON": r"\{\s*[\"}]|\[\s*[\[{\"\d]",
    "an ARFF file": r"(%.*\n|\s)*@relation",
}


def decoded(name: str, raw: bytes) -> tuple[str, list[str]]:
    """The text, and a note where its encoding is not UTF-8.

    Raises
    ------
    InputError if it is no text, or no separated text.
    """
    text, notes = _text(name, raw)
    text = _without_declaration(text)
    if not text.strip():
        raise InputError(f"{name}: the file is empty.")
    for what, start in OTHER_TEXT.items():
        if re.match(start, text.lstrip()[:200], re.IGNORECASE):
            raise InputError(f"{name}: not a CSV file, it looks like {what}.")
    return text, notes


def _text(name: str, raw: bytes) -> tuple[str, list[str]]:
    wide = _wide(raw)
    if wide is not None:
        try:
            text = raw.decode(wide).lstrip("\ufeff")
        except UnicodeDecodeError:
            raise InputError(f"{name}: not readable as {wide[:6].upper()} text.") from None
        return text, [f"{name} was read as {wide[:6].upper()} text."]
    if b"\0" in raw:
        raise InputError(f"{name}: not a CSV file, it holds binary data.")
    try:
        return raw.decode("utf-8").lstrip("\ufeff"), []
    except UnicodeDecodeError as place:
        return _mixed(name, raw) or _windows(name, raw, place.start)


def _wide(raw: bytes) -> str | None:
    """The codec of UTF-16 or UTF-32 text: it has a mark, or every other of its first bytes is 0."""
    if raw.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    start = raw[:200]
    for first, codec in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = start[first::2], start[1 - first :: 2]
        if len(start) > 3 and not any(zeros) and 0 not in others:
            return codec
    return None


def _mixed(name: str, raw: bytes) -> tuple[str, list[str]] | None:
    """The text of a file of which some lines are UTF-8 and others Windows-1252, as where two files
    were joined; None where no line is UTF-8 with more than ASCII, or a line is neither."""
    lines, other = raw.split(b"\n"), []
    texts, wide = [], False
    for number, line in enumerate(lines):
        try:
            texts.append(line.decode("utf-8"))
            wide = wide or not line.isascii()
        except UnicodeDecodeError as wrong:
            other.append((number, wrong.start))
            try:
                texts.append(line.decode("cp1252"))
            except UnicodeDecodeError:
                return None
    if not wide:
        return None
    first, place = other[0]
    shown = _word(texts[first], place)
    many = f"{len(other)} lines" if len(other) > 1 else "one line"
    note = (
        f"{name} is UTF-8 but for {many} that were read as Windows-1252 text: line {first + 1} has "
        f"{shown}."
    )
    return "\n".join(texts).lstrip("\ufeff"), [note]


def _windows(name: str, raw: bytes, place: int) -> tuple[str, list[str]]:
    line = raw.count(b"\n", 0, place) + 1
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        raise InputError(
            f"{name}: line {line} is neither UTF-8 nor Windows-1252 text; save the file as a CSV "
            "in UTF-8."
        ) from None
    # One byte is one character, so the place is the same.
    shown = _word(text, place)
    note = f"{name} is not UTF-8 and was read as Windows-1252 text: line {line} has {shown}."
    return text, [note]


def _word(text: str, place: int) -> str:
    """The word at a place, as a sentence can name it."""
    around = re.compile(r"\w*\W?\w*").match(text, _word_start(text, place))
    return quoted(around[0].strip()) if around else ""


def _word_start(text: str, place: int) -> int:
    while place and text[place - 1].isalnum():
        place -= 1
    return place


def _without_declaration(text: str) -> str:
    """The text with Excel's first line, as `sep=;`, emptied: it says what the header shows too."""
    return re.sub(r"\A\"?sep=[,;\t|]\"?(?=\r?\n)", "", text, count=1, flags=re.IGNORECASE)
