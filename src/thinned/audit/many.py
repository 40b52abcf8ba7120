"""Many files: the ones worth parsing picked out, the known ones taken from the cache, and the rest
shared among processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from thinned.audit.cache import Cache
from thinned.audit.finding import Finding
from thinned.audit.imports import Facts, closures, digest, imported
from thinned.audit.reading import UnreadableError, may_matter, package_of, read
from thinned.audit.running import audit_source, lines_in, unreadable

__all__ = ["audited"]

# A process takes a tenth of a second to start, in which it would have audited so many bytes.
_WORTH_A_PROCESS = 100_000

Result = tuple[list[Finding], int]


def audited(
    files: Sequence[str], codes: Sequence[str], jobs: int, cache: str | None
) -> list[Result]:
    """Return the findings and the lines of each file, in the files' order.

    Parameters
    ----------
    files : sequence of str. Paths.
    codes : sequence of str. The rules to use.
    jobs : int. Processes at the most.
    cache : str or None. A folder for what was found.
    """
    results: dict[str, Result] = {}
    facts: dict[str, Facts] = {}
    sizes: dict[str, int] = {}  # of those that are to be parsed
    stamps: dict[str, tuple[int, int]] = {}
    for path in files:
        if cache is not None:
            stamps[path] = _stamp(path)
        try:
            data = read(path)
        except UnreadableError as error:
            results[path] = (unreadable(_shown(path), error, codes), 0)
            continue
        if cache is not None:
            facts[path] = Facts(digest(data), imported(data))
        results[path] = ([], lines_in(data))
        if may_matter(data):
            sizes[path] = len(data)
    store = Cache(cache, codes) if cache is not None else None
    keys: dict[str, str] = {}
    if store is not None:
        depends = closures(facts)
        for path in list(sizes):
            package = package_of(path).encode("utf-8", "surrogatepass")
            keys[path] = store.key(path, digest(depends[path], package))
            known = store.get(keys[path])
            if known is not None:
                results[path] = (known, results[path][1])
                del sizes[path]
    found = _shared(sizes, codes, jobs)
    for path, (findings, of) in found.items():
        results[path] = (findings, results[path][1])
        if store is not None and of != facts[path].digest:
            stamps[path] = (-1, -1)  # it was written to after it was looked at
    # An entry is made only if nothing that it may depend on changed in the meantime.
    if store is not None and all(_stamp(path) == stamps[path] for path in files):
        for path, (findings, _) in found.items():
            if not store.put(keys[path], findings):
                break
        else:
            store.prune()
    return [results[path] for path in files]


def _shown(path: str) -> str:
    return path.replace(os.sep, "/")


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _audited(path: str, codes: Sequence[str]) -> tuple[list[Finding], bytes]:
    """The findings in a file, and the digest of the bytes that they were found in."""
    try:
        data = read(path)
    except UnreadableError as error:
        return unreadable(_shown(path), error, codes), b""
    return audit_source(data, _shown(path), package_of(path), codes), digest(data)


def _shared(
    sizes: dict[str, int], codes: Sequence[str], jobs: int
) -> dict[str, tuple[list[Finding], bytes]]:
    work = partial(_audited, codes=codes)
    jobs = min(jobs, len(sizes), sum(sizes.values()) // _WORTH_A_PROCESS)
    if jobs < 2:
        return {path: work(path) for path in sizes}
    # Loading these takes longer than the audit of a file.
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # The large ones first, one at a time: whoever is free takes the next.
    order = sorted(sizes, key=lambda path: (-sizes[path], path))
    # Not forked: the process that asks may have threads.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return dict(zip(order, pool.map(work, order, chunksize=4), strict=True))
