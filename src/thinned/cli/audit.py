"""`thinned audit`."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

from thinned.cli.options import Argument, Option

__all__ = ["audit"]


class _Format(StrEnum):
    text = "text"
    json = "json"
    sarif = "sarif"
    github = "github"


def audit(
    paths: Annotated[
        list[str] | None, Argument("Python files and folders.", metavar="PATH...")
    ] = None,
    select: Annotated[
        str | None, Option("Codes, or beginnings of codes, to look for: THN00,THN020.")
    ] = None,
    ignore: Annotated[str | None, Option("Codes, or beginnings of codes, to leave out.")] = None,
    exclude: Annotated[str | None, Option("Patterns of files and folders to pass over.")] = None,
    form: Annotated[
        _Format, Option("How the findings are written.", flag="--format")
    ] = _Format.text,
    as_json: Annotated[bool, Option("The same as --format json.", flag="--json")] = False,
    as_sarif: Annotated[bool, Option("The same as --format sarif.", flag="--sarif")] = False,
    as_github: Annotated[bool, Option("The same as --format github.", flag="--github")] = False,
    jobs: Annotated[int, Option("Processes that share the work.", least=1, most=256)] = 1,
    explain: Annotated[
        str | None, Option("Say what a rule is about, or list all: all.", metavar="CODE")
    ] = None,
) -> int:
    """Find dropout that is wrong in Python files, without running them.

    The exit code is 0 when nothing is found, 1 with findings, 2 when it could not run.
    """
    from thinned.audit import settings_for
    from thinned.audit.formats import FORMATS
    from thinned.audit.running import audit as run
    from thinned.errors import InputError

    if explain is not None:
        print(_explained(explain))
        return 0
    if not paths:
        raise InputError("audit: PATH must be at least one file or folder.")
    short = {"json": as_json, "sarif": as_sarif, "github": as_github}
    forms = {name for name, asked in short.items() if asked}
    if form is not _Format.text:
        forms.add(form.value)
    if len(forms) > 1:
        raise InputError(f"audit: one format can be written, got {', '.join(sorted(forms))}.")
    settings = settings_for(paths, _words(select), _words(ignore), _words(exclude))
    report = run(paths, settings, jobs)
    print(_encoded(FORMATS[forms.pop() if forms else "text"](report)))
    return 1 if report.findings else 0


def _encoded(text: str) -> str:
    """The text with what standard output cannot say as `\\xe9`: names may be in any script."""
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _explained(code: str) -> str:
    from thinned.audit import RULES
    from thinned.audit.formats import explanation
    from thinned.errors import InputError, quoted

    if code.lower() == "all":
        return "\n".join(f"{c} {rule.sentence}" for c, rule in sorted(RULES.items()))
    rule = RULES.get(code.upper())
    if rule is None:
        raise InputError(
            f"audit: --explain must be the code of a rule, got {quoted(code)}. "
            "thinned audit --explain all lists them."
        )
    return explanation(rule)
