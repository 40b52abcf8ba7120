"""`--fix`: edits into files, each file whole or not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from thinned.audit.finding import Edit, Finding
from thinned.audit.fixes import only_mended
from thinned.audit.opening import document_of
from thinned.audit.reading import UnreadableError, parse, read
from thinned.audit.writing import write_whole

__all__ = ["mend", "mended"]


def mended(data: bytes, path: str, findings: Iterable[Finding]) -> tuple[bytes, int]:
    """Return a file's bytes after the edits of its findings, and the number of findings mended.

    The new text is parsed and compared with the old one: should it differ by anything but mends,
    nothing is changed.

    Parameters
    ----------
    data : bytes. The file as the findings saw it.
    path : str. Its name, which says whether it is a notebook.
    findings : iterable of Finding, all of this file.
    """
    wanted = [finding for finding in findings if finding.edits]
    edits: list[Edit] = sorted({edit for finding in wanted for edit in finding.edits})
    if not edits:
        return data, 0
    try:
        before = document_of(data, path)
        new = before.edited(edits)
        after = document_of(new, path)
        if len(before.lines) != len(after.lines) or len(before.broken) != len(after.broken):
            return data, 0
        if only_mended(parse(before.code), parse(after.code)) != len(edits):
            return data, 0
    except (UnreadableError, ValueError, SyntaxError, LookupError):
        return data, 0  # the file has changed, or its form keeps no edit: nothing is certain
    return new, len(wanted)


def mend(findings: Sequence[Finding]) -> tuple[int, int]:
    """Write the edits of findings into their files.

    Parameters
    ----------
    findings : sequence of Finding, as an audit returned them.

    Returns
    -------
    tuple of int. Findings mended, and files written.

    Raises
    ------
    InputError if a file cannot be written.
    """
    by_path: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.edits:
            by_path[finding.path].append(finding)
    total = files = 0
    for path, found in by_path.items():
        try:
            data = read(path)
        except UnreadableError:
            continue  # gone since it was audited; the next audit says so
        new, count = mended(data, path, found)
        if count:
            write_whole(path, new)
            total += count
            files += 1
    return total, files
