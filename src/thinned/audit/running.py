"""The audit itself: files in, findings out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from thinned.audit.finding import Finding
from thinned.audit.one import audit_file, audit_source, lines_in, without_collection
from thinned.audit.reading import may_matter, package_of
from thinned.audit.settings import Settings, chosen, ignored_codes
from thinned.audit.tree import forget
from thinned.audit.walking import files_under
from thinned.foreign_arguments import answering

__all__ = ["Report", "audit", "audit_bytes", "reported"]


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found.

    Parameters
    ----------
    findings : tuple of Finding, sorted by place.
    files : int. Files that were read.
    lines : int. Lines in them.
    """

    findings: tuple[Finding, ...]
    files: int
    lines: int

    def _repr_html_(self) -> str:
        """A table for a notebook."""
        from thinned.pages.fragment import paragraph, rows_of

        found, files = len(self.findings), self.files
        told = paragraph(
            f"{found} finding{'s' * (found != 1)} in {files} file{'s' * (files != 1)}."
        )
        rows = [(f"{f.path}:{f.line}:{f.column}", f.code, f.sentence) for f in self.findings]
        return told + rows_of(("place", "code", "what is wrong"), rows) if rows else told


@answering
def audit(
    paths: Sequence[str],
    settings: Settings | None = None,
    jobs: int = 1,
    cache: str | None = None,
) -> Report:
    """Audit the Python files and notebooks at and under `paths`.

    Parameters
    ----------
    paths : sequence of str. Files and folders.
    settings : Settings or None, for all rules.
    jobs : int, at least 1. Processes that share the work, where there is enough of it. The findings
        do not depend on it.
    cache : str or None, for none. A folder in which findings are kept from run to run.

    Returns
    -------
    Report.

    Raises
    ------
    InputError if a path cannot be used or a code is unknown.
    """
    settings = settings or Settings()
    codes = tuple(chosen(settings))
    files = files_under(paths, settings)
    forget()
    if (jobs == 1 and cache is None) or len(files) < 2:
        with without_collection():
            results = [audit_file(path, codes) for path in files]
    else:
        from thinned.audit.many import audited  # which one file has no use for

        results = audited(files, codes, jobs, cache)
    findings = [finding for found, _ in results for finding in found]
    return Report(
        tuple(reported(findings, settings)), len(files), sum(lines for _, lines in results)
    )


def audit_bytes(data: bytes | None, path: str, settings: Settings) -> Report:
    """Audit one text that is in no file, or not yet.

    Parameters
    ----------
    data : bytes or None, for a file that is passed over.
    path : str. The file that it is to be, from which its kind and its package follow.
    settings : Settings.

    Returns
    -------
    Report.
    """
    codes = tuple(chosen(settings))
    if data is None:
        return Report((), 0, 0)
    forget()
    shown = path.replace(os.sep, "/")
    findings = audit_source(data, shown, package_of(path), codes) if may_matter(data) else []
    return Report(tuple(reported(findings, settings)), 1, lines_in(data))


def reported(findings: Sequence[Finding], settings: Settings) -> list[Finding]:
    """Return the findings that no per_file_ignores leaves out, sorted by place."""
    left_out = {
        path: ignored_codes(path, settings) or ("-",) for path in {f.path for f in findings}
    }
    return sorted(f for f in findings if not f.code.startswith(left_out[f.path]))
