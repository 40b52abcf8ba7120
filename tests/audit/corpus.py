"""The corpus: snippets that are wrong, each with its right twin.

A file for each rule, named by its code. Lines before the first section go before every snippet of
the file. A section is a line `=== what it shows`, then `--- wrong` and `--- right`. In the wrong
snippet every expected finding has a mark `# <-` at the end of its line (`# <- <-` for two).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
_MARK = re.compile(r"\s*#((?:\s*<-)+)$")


@dataclass(frozen=True)
class Pair:
    code: str
    name: str
    wrong: str
    right: str
    lines: tuple[int, ...]  # of the wrong one, one for each expected finding

    @property
    def id(self) -> str:
        return f"{self.code} {self.name}"


def _unmarked(text: str) -> tuple[str, tuple[int, ...]]:
    kept, lines = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        mark = _MARK.search(line)
        if mark:
            lines += [number] * mark[1].count("<-")
            line = line[: mark.start()]
        kept.append(line)
    return "\n".join(kept) + "\n", tuple(lines)


def pairs() -> list[Pair]:
    """Return the pairs of all files, in their order."""
    found = []
    for file in sorted(FOLDER.glob("*.txt")):
        before, *sections = re.split(r"^=== ", file.read_text(encoding="utf-8"), flags=re.M)
        for section in sections:
            head, wrong, right = re.split(r"^--- (?:wrong|right)\n", section, flags=re.M)
            text, lines = _unmarked(before + wrong)
            found.append(Pair(file.stem, head.strip(), text, before + right, lines))
    return found
