"""Which names of a file could matter to a rule, from its text alone.

To parse a file takes many times as long as to read it, and most of what code imports is of no
interest: a logger, a table of strings. So the text is cut at the statements of its top level, and a
name is worth parsing the file for if the piece that defines it speaks of dropout, modes, draws or
modules, or calls another function of the file whose piece does.
"""

from __future__ import annotations

import re
from itertools import pairwise

__all__ = ["Outline"]

# What begins a statement of the top level; text of a string and `else:` go on with what is before.
_HEAD = re.compile(
    rb"^(?=@|(?:async[ \t]+)?def[ \t]|class[ \t]|from[ \t]|import[ \t]|(?:if|try|for|while|with)\b"
    rb"|[A-Za-z_]\w*[ \t]*(?::[^=\n]*)?=(?!=))",
    re.MULTILINE,
)
_DEFINED = re.compile(rb"(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)|(\w+)[ \t]*(?::[^=\n]*)?=")
_IMPORT = re.compile(
    rb"from[ \t]+(?P<dots>\.*)[ \t]*(?P<room>[\w.]*)[ \t]+import\b(?P<names>.*)"
    rb"|import[ \t](?P<rooms>.*)",
    re.DOTALL,
)
_AS = re.compile(rb"([\w.]+)(?:[ \t]+as[ \t]+(\w+))?")
_COMMENT = re.compile(rb"#[^\n]*")
_WORD = re.compile(rb"[A-Za-z_]\w*")
_CALLED = re.compile(rb"\b([A-Za-z_]\w*)[ \t]*\(")
_BASES = re.compile(rb"^class[ \t]+\w+[ \t]*(?:\(([^)]*)\))?", re.MULTILINE)
# A number or a truth value: what rates and modes are kept in.
_VALUE = re.compile(rb"\w+[ \t]*(?::[^=\n]*)?=[ \t]*(?:[-+.\d]|True|False)")
_TELLING = re.compile(
    rb"[Dd]rop(?!ped|ping|s\b)|training\b|\btrain\b|\.eval\(|[Bb]ernoulli|\brand(?:_like)?\("
    rb"|random\.(?:rand|uniform|binomial)|^class[^(:]*\([^)]*(?:Module|Model|Layer)\b|BatchNorm"
    rb"|deterministic\b|inference\b|inference_mode|seed\w*\(|\.backward\(|keep_?prob"
    rb"|is_eval|eval_mode|do_eval|is_test|\b_?(?:evaluate|validate|run_eval|train_\w+|test)\(",
    re.MULTILINE,
)
# One of these is in every text that _TELLING matches; to look for them takes a tenth of its time.
_HINTS: tuple[bytes, ...] = (
    b"rop",
    b"rain",
    b"eval",
    b"ernoulli",
    b"rand",
    b"Mod",
    b"Layer",
    b"BatchNorm",
    b"seed",
)
_HINTS += (b"determin", b"inference", b"backward", b"keep", b"test", b"validate")


def _tells(text: bytes) -> bool:
    return any(hint in text for hint in _HINTS) and _TELLING.search(text) is not None


class Outline:
    """The pieces of a file's text.

    Parameters
    ----------
    data : bytes. The file.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._pieces: dict[bytes, list[bytes]] | None = None
        self._branches: set[bytes] = set()
        self._origins: dict[bytes, tuple[int, str]] = {}
        self._known: dict[bytes, bool] = {}

    def may_matter(self, name: str) -> bool:
        """Say whether a name of the top level could be, hold or do what rules ask about, as far as
        this text shows; "" asks it of the whole file."""
        if not name:
            return _tells(self.data)
        return self._may(name.encode("utf-8", "surrogatepass"))

    def bases(self, name: str) -> list[str]:
        """Return the imported names that a class, or a class of this file above it, is made of."""
        pieces = self._cut()
        waiting, seen = [name.encode("utf-8", "surrogatepass")], set[bytes]()
        found: list[str] = []
        while waiting:
            word = waiting.pop()
            if word in seen:
                continue
            seen.add(word)
            for piece in pieces.get(word, ()):
                bases = _BASES.search(piece)
                waiting += _WORD.findall(bases[1] or b"") if bases is not None else []
            if word in self._origins and word not in pieces:
                found.append(word.decode("utf-8", "surrogatepass"))
        return found

    def origin(self, name: str) -> tuple[int, str] | None:
        """Return the dots and the dotted name that an imported name stands for; None for others."""
        self._cut()
        return self._origins.get(name.encode("utf-8", "surrogatepass"))

    def _cut(self) -> dict[bytes, list[bytes]]:
        if self._pieces is not None:
            return self._pieces
        pieces: dict[bytes, list[bytes]] = {}
        starts = [match.start() for match in _HEAD.finditer(self.data)]
        first = None  # of a definition's decorators
        for start, end in pairwise([*starts, len(self.data)]):
            if self.data[start : start + 1] == b"@":
                first = start if first is None else first
                continue
            piece = self.data[start if first is None else first : end]
            first = None
            found = _DEFINED.match(self.data, start)
            if found is not None:
                pieces.setdefault(found[1] or found[2], []).append(piece)
            elif (line := _IMPORT.match(piece)) is not None:
                self._note(line)
            else:  # a branch: what it names may be bound in it
                self._branches.update(_WORD.findall(piece))
        self._pieces = pieces
        return pieces

    def _note(self, line: re.Match[bytes]) -> None:
        room = (line["room"] or b"").decode("ascii", "ignore")
        names = line["rooms"] if line["names"] is None else line["names"]
        for part in _COMMENT.sub(b"", names).split(b","):
            found = _AS.search(part)
            if found is None:
                continue
            name = found[1].decode("ascii", "ignore")
            if line["names"] is None:
                top = name if found[2] else name.partition(".")[0]
                self._origins[found[2] or top.encode()] = 0, top
            else:
                dotted = f"{room}.{name}" if room else name
                self._origins[found[2] or found[1]] = len(line["dots"]), dotted

    def _may(self, name: bytes) -> bool:
        known = self._known.get(name)
        if known is None:
            pieces = self._cut().get(name)
            if pieces is None:  # in a branch, or bound in a way that is not seen here
                return name in self._branches or b"import *" in self.data
            self._known[name] = False  # while it is looked at: a name that uses itself
            known = self._known[name] = any(self._tells(piece) for piece in pieces)
        return known

    def _tells(self, piece: bytes) -> bool:
        if _tells(piece) or _VALUE.match(piece) is not None:
            return True
        pieces = self._cut()
        bases = _BASES.search(piece)
        # What a function hands its arguments to; of a class, what it is made of.
        used = _CALLED.findall(piece) if bases is None else _WORD.findall(bases[1] or b"")
        return any(self._may(word) for word in set(used) if word in pieces)
