"""Many files: the ones worth parsing picked out, the known ones taken from the cache, and the rest
shared among processes."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from functools import partial

from thinned.audit.cache import Cache
from thinned.audit.finding import Finding
from thinned.audit.imports import Closures, Facts, digest, facts_of, stamp_of
from thinned.audit.one import audit_file, lines_in, unreadable, without_collection
from thinned.audit.reading import UnreadableError, may_matter, package_of, read

__all__ = ["audited"]

# The bytes that a process could audit in the tenth of a second that it takes to start.
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
    for path in files:
        stamp = stamp_of(path)
        try:
            data = read(path)
        except UnreadableError as error:
            results[path] = (unreadable(_shown(path), error, codes), 0)
            continue
        results[path] = ([], lines_in(data))
        if may_matter(data):
            sizes[path] = len(data)
            if cache is not None:
                facts[os.path.abspath(path)] = facts_of(path, data, stamp)
    store = Cache(cache, codes) if cache is not None else None
    closures = Closures(facts)
    keys: dict[str, str] = {}
    if store is not None:
        depends = closures.of([os.path.abspath(path) for path in sizes])
        for path in list(sizes):
            package = package_of(path).encode("utf-8", "surrogatepass")
            keys[path] = store.key(path, digest(depends[os.path.abspath(path)], package))
            known = store.get(keys[path])
            if known is not None:
                results[path] = (known, results[path][1])
                del sizes[path]
    found = _shared(sizes, codes, jobs)
    for path, findings in found.items():
        results[path] = (findings, results[path][1])
    # An entry is made only if nothing that it may depend on changed in the meantime.
    if store is not None and all(stamp_of(p) == f.stamp for p, f in closures.facts.items()):
        for path, findings in found.items():
            if not store.put(keys[path], findings):
                break
        else:
            store.prune()
    return [results[path] for path in files]


def _shown(path: str) -> str:
    return path.replace(os.sep, "/")


def _shared(sizes: dict[str, int], codes: Sequence[str], jobs: int) -> dict[str, list[Finding]]:
    work = partial(_found, codes=codes)
    jobs = min(jobs, len(sizes), sum(sizes.values()) // _WORTH_A_PROCESS)
    if jobs < 2:
        with without_collection():
            return {path: work(path) for path in sizes}
    # Loading these takes longer than the audit of a file.
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # The large ones first, few at a time: a free worker takes the next.
    order = sorted(sizes, key=lambda path: (-sizes[path], path))
    # Not forked: the process that asks may have threads.
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=gc.disable) as pool:
        return dict(zip(order, pool.map(work, order, chunksize=4), strict=True))


def _found(path: str, codes: Sequence[str]) -> list[Finding]:
    return audit_file(path, codes)[0]
