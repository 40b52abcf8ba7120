"""Which of the scanned files a file imports, and a digest of all that it can depend on.

Nothing is parsed for this: lines that look like imports are enough, and one that stands in a string
costs no more than a needless look at a file that did not change. A file depends on what it imports,
and on what that imports. Files that import each other in a circle have one digest for the circle.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

__all__ = ["Facts", "closures", "digest", "imported"]

_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+(?P<dots>\.*)[ \t]*(?P<room>[\w.]*)[ \t]+import[ \t]*"
    rb"(?P<names>\([^)]*\)|(?:[^\n#;\\]|\\\r?\n?)*)"
    rb"|import[ \t]+(?P<rooms>[^\n#;]*))",
    re.MULTILINE,
)
_NAME = re.compile(rb"[A-Za-z_][\w.]*")
_COMMENT = re.compile(rb"#[^\n]*")

# A relative import's dots, 0 for none, and the dotted name behind them.
Imported = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a scanned file: the digest of its bytes, and what it imports."""

    digest: bytes
    imports: tuple[Imported, ...]


def digest(*parts: bytes) -> bytes:
    """Return a digest of some texts, each with its length, so that none runs into the next."""
    made = blake2b(digest_size=20)
    for part in parts:
        made.update(len(part).to_bytes(8, "little"))
        made.update(part)
    return made.digest()


def imported(data: bytes) -> tuple[Imported, ...]:
    """Return what a file's text imports: modules, and names that may be modules."""
    found: dict[Imported, None] = {}
    for match in _IMPORT.finditer(data):
        if match["rooms"] is not None:
            for part in match["rooms"].split(b","):
                name = _NAME.match(part.strip())
                if name is not None:
                    found[0, name[0].decode("ascii", "ignore")] = None
            continue
        dots, room = len(match["dots"]), match["room"].decode("ascii", "ignore")
        found[dots, room] = None
        for part in _COMMENT.sub(b"", match["names"]).strip(b"() \t\r\n").split(b","):
            name = _NAME.match(part.strip(b" \t\r\n\\"))
            if name is not None:
                inner = name[0].decode("ascii", "ignore")
                found[dots, f"{room}.{inner}" if room else inner] = None
    return tuple(found)


def closures(files: Mapping[str, Facts]) -> dict[str, bytes]:
    """Return for each file a digest of its bytes and of all that it imports among the files.

    Parameters
    ----------
    files : mapping from paths to Facts.

    Returns
    -------
    dict. The digest changes if the file does, or one that it imports, at whatever remove.
    """
    index = _Index(files)
    edges = {path: index.targets(path, facts.imports) for path, facts in files.items()}
    found: dict[str, bytes] = {}
    for circle in _circles(edges):
        inside = set(circle)
        beyond = {found[to] for path in circle for to in edges[path] if to not in inside}
        own = sorted(path.encode("utf-8", "surrogatepass") + files[path].digest for path in circle)
        whole = digest(*own, *sorted(beyond))
        for path in circle:
            found[path] = digest(files[path].digest, whole)
    return found


class _Index:
    """The scanned files by the last part of their modules' names."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = {_whole(path): path for path in files}
        self._by_last: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for whole, path in self._files.items():
            module = _module(whole)
            self._by_last[module.rpartition("/")[2]].append((f"/{module.lstrip('/')}", path))

    def targets(self, path: str, imports: Iterable[Imported]) -> list[str]:
        """The files that some imports may mean. A name without dots means every file whose path
        ends with it: which one it is depends on where the program is started."""
        found: dict[str, None] = {}
        for dots, name in imports:
            steps = name.split(".") if name else []
            if dots:
                found.update(dict.fromkeys(self._beside(path, dots, steps)))
                continue
            for count in range(1, len(steps) + 1):
                end = "/" + "/".join(steps[:count])
                for module, target in self._by_last.get(steps[count - 1], ()):
                    if module.endswith(end):
                        found[target] = None
        found.pop(path, None)
        return list(found)

    def _beside(self, path: str, dots: int, steps: Sequence[str]) -> Iterator[str]:
        folder = _whole(path)
        for _ in range(dots):
            folder = folder.rpartition("/")[0]
        for count in range(len(steps) + 1):
            stem = "/".join([folder, *steps[:count]])
            for end in (".py", ".pyi", "/__init__.py", "/__init__.pyi"):
                target = self._files.get(stem + end)
                if target is not None:
                    yield target


def _whole(path: str) -> str:
    return os.path.abspath(path).replace(os.sep, "/")


def _module(whole: str) -> str:
    stem = whole.rpartition(".")[0] or whole
    return stem.removesuffix("/__init__")


def _circles(edges: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """The sets of files that import each other, each after those that it leads to (Tarjan, 1972,
    SIAM Journal on Computing 1:146), without recursion."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    held: list[str] = []
    is_held: set[str] = set()
    for root in edges:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        held.append(root)
        is_held.add(root)
        walk = [(root, iter(edges[root]))]
        while walk:
            at, rest = walk[-1]
            step = next(rest, None)
            if step is None:
                walk.pop()
                if walk:
                    above = walk[-1][0]
                    low[above] = min(low[above], low[at])
                if low[at] == order[at]:
                    cut = held.index(at) if held[-1] != at else len(held) - 1
                    circle = held[cut:]
                    del held[cut:]
                    is_held.difference_update(circle)
                    yield circle
            elif step not in order:
                order[step] = low[step] = len(order)
                held.append(step)
                is_held.add(step)
                walk.append((step, iter(edges[step])))
            elif step in is_held:
                low[at] = min(low[at], order[step])
