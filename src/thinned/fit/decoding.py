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


# Letters and signs, with a letter on each side, that no language of Windows-1252 writes: other
# encodings have letters there.
_ODD = re.compile(
    r"(?<=[^\W\d_])[\u00a1-\u00bf\u00d7\u00f7](?=[^\W\d_])"
    # Letters of Central Europe at a word's ends, which fractions and such marks are not beside.
    r"|(?<=[^\W\d_])[\u00bc-\u00be](?!\w)|(?<!\w)[\u00a6\u00ac\u00af](?=[^\W\d_])"
)
# A word of Western Europe has letters of ASCII besides.
_WORD = re.compile(r"[^\W\d_]{2,}")
# Bytes of UTF-8 as Windows-1252 shows them: the first of a letter, and those that follow it. Some
# are dashes and quotes, which follow letters in other texts too.
_SIGNS = (
    "\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
)
_SIGNS += "\u2022\u02dc\u2122\u0161\u203a\u0153\u017e\u0178"
_NEXT = f"[{_SIGNS}\u2018\u2019\u201c\u201d\u2013\u2014]"
_TWICE = re.compile(
    rf"[\u00c2-\u00df]{_NEXT}|[\u00e0-\u00ef]{_NEXT}{{2}}|[\u00f0-\u00f4]{_NEXT}{{3}}"
)
_SURELY_TWICE = re.compile(
    rf"[\u00c2-\u00c5][{_SIGNS}]|\u00e2\u20ac|(?:[\u00d0\u00d1]{_NEXT}){{3}}"
    rf"|(?:[\u00ce\u00cf]{_NEXT}){{3}}"
)
_SOME = "cp1250 (Central Europe), cp1251 (Cyrillic), gb18030 (Chinese), shift_jis (Japanese)"


def decoded(name: str, raw: bytes, encoding: str | None = None) -> tuple[str, list[str]]:
    """The text, and a note where its encoding is not UTF-8.

    encoding : the name that the user gave, or None.

    Raises
    ------
    InputError if it is no text, or no separated text, or its encoding is in doubt.
    """
    text, notes = _text(name, raw) if encoding is None else _told(name, raw, encoding)
    text = _without_declaration(text).rstrip("\x1a")  # which ends a file of old systems
    if "\ufeff" in text:  # where files were put together each part begins with one
        text = text.replace("\ufeff", "")
    text, twice = _decoded_again(name, text)
    notes = [*notes, *twice]
    if not text or text.isspace():  # without a copy, as a strip would make of a large file
        raise InputError(f"{name}: the file is empty.")
    for what, start in OTHER_TEXT.items():
        if re.match(start, text[:2000].lstrip()[:200], re.IGNORECASE):
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


def _decoded_again(name: str, text: str) -> tuple[str, list[str]]:
    """The text as it was before UTF-8 was taken for Windows-1252 and encoded once more, and a note.

    It is decoded where all letters beyond ASCII are of that kind; where others are among them, it
    is pointed out.
    """
    if text.isascii() or (found := _SURELY_TWICE.search(text[:1_000_000])) is None:
        return text, []
    line = text.count("\n", 0, found.start()) + 1
    start = _word_start(text, found.start())
    shown = re.compile(r"[^\s,;\t|]{1,40}").match(text, start)
    assert shown is not None
    cell = shown[0].strip("\"'")
    said = f"line {line} has {quoted(cell)}"
    once = quoted(_TWICE.sub(_once, cell))
    if not _TWICE.sub("", text).isascii():
        looks = "looks like UTF-8 text that was encoded twice, and is read as it stands"
        return text, [f"{name}: {said}, which {looks}; once it would be {once}."]
    note = f"{name} was encoded twice: {said}, which was read as {once}, and so are others."
    return _TWICE.sub(_once, text), [note]


def _once(found: re.Match[str]) -> str:
    """The letter whose bytes of UTF-8 were taken for these of Windows-1252."""
    try:
        return b"".join(map(_byte, found[0])).decode("utf-8")
    except UnicodeError:
        return found[0]


def _byte(letter: str) -> bytes:
    try:
        return letter.encode("cp1252")
    except UnicodeEncodeError:
        return letter.encode("latin-1")


def _told(name: str, raw: bytes, encoding: str) -> tuple[str, list[str]]:
    """The text in the encoding that the user names."""
    try:
        return raw.decode(encoding).lstrip("\ufeff"), []
    except UnicodeError as wrong:
        place = getattr(wrong, "start", 0)
        line = raw.count(b"\n", 0, place) + 1
        raise InputError(
            f"{name}: line {line} is no text in the encoding {encoding}; name another one with "
            "--encoding."
        ) from None


def _is_western(text: str) -> bool:
    """Whether text that was read as Windows-1252 can be of a language that it was made for."""
    words = [word for word in _WORD.findall(text[:1_000_000]) if not word.isascii()]
    foreign = sum(not any(map(str.isascii, word)) for word in words)
    return 2 * foreign < max(len(words), 1) and not _ODD.search(text)


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
            f"in UTF-8, or name its encoding with --encoding, as {_SOME}."
        ) from None
    # One byte is one character, so the place is the same.
    shown = _word(text, place)
    if not _is_western(text):
        raise InputError(
            f"{name}: not UTF-8, and as Windows-1252 text line {line} has {shown}, which looks "
            f"like another encoding; name it with --encoding, as {_SOME}; cp1252 if it is right."
        )
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
    found = re.match(r"\"?sep=[,;\t|]\"?(?=\r?\n)", text, re.IGNORECASE)
    return text[found.end() :] if found else text
