"""Which files a file imports, and a digest of all that its findings can depend on.

Nothing is parsed for this: lines that look like imports are enough, and one that stands in a string
costs no more than a needless look at a file that did not change. A file depends on what it imports,
and on what that imports. Files that import each other in a circle have one digest for the circle.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from thinned.audit.reading import UnreadableError, read

__all__ = ["Closures", "Facts", "digest", "facts_of", "imported", "stamp_of"]

# Folders that the modules of an absolute import are looked for in: a file's own and those above it.
_ABOVE = 8
_INSTALLED = frozenset({"site-packages", "dist-packages"})

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
Stamp = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a file: the digest of its bytes, what it imports, and its time and size just
    before it was read."""

    digest: bytes
    imports: tuple[Imported, ...]
    stamp: Stamp


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


class Closures:
    """Digests of all that files can depend on, read from the disk as it is now.

    Parameters
    ----------
    known : mapping from absolute paths to Facts. Files that were read already; others that they
        lead to are read when they are met, and are in `facts` afterwards.
    """

    def __init__(self, known: Mapping[str, Facts]) -> None:
        self.facts = dict(known)
        self._listings: dict[str, frozenset[str]] = {}
        self._folders: dict[str, tuple[str, ...]] = {}
        self._found: dict[tuple[str, str], tuple[str, ...]] = {}

    def of(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return a digest for each of these files, by absolute path.

        It changes if the file does, or one that it imports, at whatever remove, or if an import
        leads to another file than before.
        """
        edges: dict[str, list[str]] = {}
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            if path not in edges:
                if path not in self.facts:
                    self.facts[path] = _facts(path)
                edges[path] = self._targets(path, self.facts[path].imports)
                waiting.extend(edges[path])
        found: dict[str, bytes] = {}
        for circle in _circles(edges):
            inside = set(circle)
            beyond = {found[to] for path in circle for to in edges[path] if to not in inside}
            own = sorted(_bytes(path) + self.facts[path].digest for path in circle)
            whole = digest(*own, *sorted(beyond))
            for path in circle:
                found[path] = digest(self.facts[path].digest, whole)
        return found

    def _targets(self, path: str, imports: Iterable[Imported]) -> list[str]:
        """The files that some imports may mean, wherever a program is started: in the file's folder
        or one above it."""
        found: dict[str, None] = {}
        here = os.path.dirname(path)
        for dots, name in imports:
            if not dots:
                for folder in self._above(here):
                    found.update(dict.fromkeys(self._below(folder, name)))
                continue
            at = here
            for _ in range(dots - 1):
                at = os.path.dirname(at)
            found.update(dict.fromkeys(self._below(at, name)))
        found.pop(path, None)
        return list(found)

    def _above(self, folder: str) -> tuple[str, ...]:
        known = self._folders.get(folder)
        if known is None:
            chain, at = [folder], folder
            while len(chain) < _ABOVE or "__init__.py" in self._names(at):
                above = os.path.dirname(at)
                if above == at or os.path.basename(at) in _INSTALLED:
                    break
                chain.append(above)
                at = above
            known = self._folders[folder] = tuple(chain)
        return known

    def _below(self, folder: str, name: str) -> tuple[str, ...]:
        known = self._found.get((folder, name))
        if known is None:
            known = self._found[folder, name] = tuple(self._search(folder, name))
        return known

    def _search(self, folder: str, name: str) -> Iterator[str]:
        """The files of a module and of the packages around it. Of an installed package only the
        folder that it is in: what it is changes with a file's name there."""
        at = folder
        if name and os.path.basename(folder) in _INSTALLED:
            if name.partition(".")[0] in self._names(folder):
                self.facts.setdefault(folder, self._installed(folder))
                yield folder
            return
        for step in ["", *(name.split(".") if name else ())]:
            if step:
                names = self._names(at)
                for end in (".py", ".pyi"):
                    if step + end in names:
                        yield os.path.join(at, step + end)
                if step not in names:
                    return
                at = os.path.join(at, step)
            for init in ("__init__.py", "__init__.pyi"):
                if init in self._names(at) and (step or not name):
                    yield os.path.join(at, init)

    def _installed(self, folder: str) -> Facts:
        names = sorted(_bytes(name) for name in self._names(folder))
        return Facts(digest(*names), (), stamp_of(folder))

    def _names(self, folder: str) -> frozenset[str]:
        names = self._listings.get(folder)
        if names is None:
            try:
                names = frozenset(os.listdir(folder))
            except OSError:
                names = frozenset()  # no folder, or none that may be looked into
            self._listings[folder] = names
        return names


def _facts(path: str) -> Facts:
    stamp = stamp_of(path)
    try:
        return facts_of(path, read(path), stamp)
    except UnreadableError as error:
        return Facts(digest(_bytes(error.sentence)), (), stamp)


def stamp_of(path: str) -> Stamp:
    """Return what changes when a file is written to."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def facts_of(path: str, data: bytes, stamp: Stamp) -> Facts:
    """Return what is known of a file's bytes."""
    text = data
    if path.endswith(".ipynb"):  # its lines are strings of JSON
        text = data.replace(b'"', b"\n").replace(b"\\n", b"\n")
    return Facts(digest(data), imported(text), stamp)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


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
