"""Text of others, as it is printed."""

import sys
import unicodedata

import pytest

from thinned.printable import encodable, printable

SHOWN = {
    "net.py": "net.py",
    "Größe 数据 x[::2] ##": "Größe 数据 x[::2] ##",
    "": "",
    "a\x1b[31m.py": r"a\x1b[31m.py",
    "a\nb\rc\td": r"a\nb\rc\td",
    "a\x7f\x9b\x85": r"a\x7f\x9b\x85",
    "a\u202ey\u2066p\u200f.\u061c": r"a\u202ey\u2066p\u200f.\u061c",
    "a\u2028b\u2029": r"a\u2028b\u2029",
    "a\udcff.py": r"a\udcff.py",
    "\U000e0001": r"\U000e0001",
    "a\n::error::b": r"a\n::error::b",
    "::error file=a::b.py": r"\x3a:error file=a::b.py",
    "  ::error::b": r"  \x3a:error::b",
    "a ##[error]b ##[group]": r"a \x23#[error]b \x23#[group]",
    "###[error]": r"#\x23#[error]",
}


@pytest.mark.parametrize("text", SHOWN, ids=ascii)
def test_what_is_shown(text):
    assert printable(text) == SHOWN[text]
    assert printable(printable(text)) == SHOWN[text]


def test_every_character():
    """Of all characters none is left that has no picture of its own, and each can be encoded."""
    driving = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    shown = printable("".join(map(chr, range(sys.maxunicode + 1))))
    assert driving.isdisjoint(map(unicodedata.category, set(shown)))
    assert shown.encode()
    assert len(shown.splitlines()) == 1


def test_encodable():
    assert encodable("a\udcff\x1bé.py") == "a\\udcff\x1bé.py"
