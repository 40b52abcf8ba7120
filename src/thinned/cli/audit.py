"""`thinned audit`."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from thinned.cli.options import Argument, Option

if TYPE_CHECKING:
    from thinned.audit import Report, Settings

__all__ = ["audit"]


class _Format(StrEnum):
    text = "text"
    json = "json"
    sarif = "sarif"
    github = "github"


class _Baseline(StrEnum):
    write = "write"
    use = "use"


def audit(
    paths: Annotated[
        list[str] | None,
        Argument("Python files, notebooks and folders; - is standard input.", metavar="PATH..."),
    ] = None,
    select: Annotated[
        str | None, Option("Codes, or beginnings of codes, to look for: THN00,THN020.")
    ] = None,
    ignore: Annotated[str | None, Option("Codes, or beginnings of codes, to leave out.")] = None,
    exclude: Annotated[str | None, Option("Patterns of files and folders to pass over.")] = None,
    force_exclude: Annotated[
        bool, Option("Pass over excluded files that are named too, as hooks name them.")
    ] = False,
    per_file_ignores: Annotated[
        str | None, Option("Codes to leave out in some files: PATTERN:CODE,PATTERN:CODE.")
    ] = None,
    stdin_filename: Annotated[
        str | None, Option("Read standard input, as the file of this name.")
    ] = None,
    fix: Annotated[
        bool, Option("Mend what can be mended for certain, and report the rest.")
    ] = False,
    baseline: Annotated[
        _Baseline | None, Option("write: keep all findings as known; use: report new ones only.")
    ] = None,
    baseline_file: Annotated[str | None, Option("The file of known findings.")] = None,
    statistics: Annotated[bool, Option("Count the findings of each rule.")] = False,
    form: Annotated[
        _Format, Option("How the findings are written.", flag="--format")
    ] = _Format.text,
    as_json: Annotated[bool, Option("The same as --format json.", flag="--json")] = False,
    as_sarif: Annotated[bool, Option("The same as --format sarif.", flag="--sarif")] = False,
    as_github: Annotated[bool, Option("The same as --format github.", flag="--github")] = False,
    jobs: Annotated[
        int | None,
        Option("Processes that share the work. Default: one for each core.", least=1, most=256),
    ] = None,
    no_cache: Annotated[bool, Option("Neither read nor keep earlier findings.")] = False,
    cache_dir: Annotated[
        str | None, Option("Where findings are kept. Default: the user's folder of caches.")
    ] = None,
    explain: Annotated[
        str | None, Option("Say what a rule is about, or list all: all.", metavar="CODE")
    ] = None,
) -> int:
    """Find dropout that is wrong in Python files and notebooks, without running them.

    The exit code is 0 when nothing is found, 1 with findings, 2 when it could not run.
    """
    from thinned.audit import settings_for
    from thinned.audit.formats import FORMATS, statistics as counted
    from thinned.errors import InputError

    if explain is not None:
        print(_explained(explain))
        return 0
    name = _form({"json": as_json, "sarif": as_sarif, "github": as_github}, form)
    if statistics and name not in ("text", "json"):
        raise InputError(f"audit: --statistics must be text or JSON, but got --{name}.")
    if baseline is not None and fix:
        raise InputError("audit: --baseline must be given without --fix: mend first, then write.")
    is_stdin = stdin_filename is not None or paths == ["-"]
    if is_stdin and paths not in (None, [], ["-"]):
        raise InputError("audit: PATH must be left out, or be -, where --stdin-filename is given.")
    if not is_stdin and not paths:
        raise InputError("audit: PATH must be at least one file or folder.")
    named = [stdin_filename or "-"] if is_stdin else list(paths or ())
    settings = settings_for(
        named,
        _words(select),
        _words(ignore),
        _words(exclude),
        None if per_file_ignores is None else _pairs(per_file_ignores),
        True if force_exclude else None,
        baseline_file,
    )
    stream = sys.stdout
    if is_stdin:
        report, note = _of_stdin(named[0], settings, fix)
        stream = sys.stderr if fix else sys.stdout
    else:
        report, note = _of_files(named, settings, fix, jobs, None if no_cache else cache_dir or "")
    if baseline is _Baseline.write:
        return _keep(report, settings)
    if baseline is _Baseline.use:
        report, note = _new(report, settings)
    text = counted(report, name) if statistics else FORMATS[name](report)
    if note and name == "text":
        text = f"{text}\n{note}"
    print(_encoded(text), file=stream)
    return 1 if report.findings else 0


def _form(short: dict[str, bool], form: _Format) -> str:
    from thinned.errors import InputError

    forms = {name for name, asked in short.items() if asked}
    if form is not _Format.text:
        forms.add(form.value)
    if len(forms) > 1:
        raise InputError(f"audit: one format can be written, got {', '.join(sorted(forms))}.")
    return forms.pop() if forms else "text"


def _of_files(
    paths: list[str], settings: Settings, fix: bool, jobs: int | None, cache: str | None
) -> tuple[Report, str]:
    from thinned.audit.running import audit as run

    jobs = jobs or _cores()
    if cache == "":
        from thinned.audit.settings import cache_folder

        cache = cache_folder()
    report = run(paths, settings, jobs, cache)
    if not fix:
        return report, ""
    from thinned.audit.mending import mend

    mended, files = mend(report.findings)
    if mended:
        report = run(paths, settings, jobs, cache)
    return report, _mended(mended, files)


def _mended(findings: int, files: int) -> str:
    return (
        f"Mended {findings:,} finding{'' if findings == 1 else 's'} in "
        f"{files:,} file{'' if files == 1 else 's'}."
    )


def _of_stdin(name: str, settings: Settings, fix: bool) -> tuple[Report, str]:
    """The report of what comes in; with `fix`, the mended text goes to standard output."""
    from thinned.audit.mending import mended
    from thinned.audit.running import audit_bytes
    from thinned.audit.walking import is_passed_over

    data = sys.stdin.buffer.read()
    passed_over = is_passed_over(name, settings)
    report = audit_bytes(None if passed_over else data, name, settings)
    if not fix:
        return report, ""
    new, count = mended(data, name, report.findings)
    if count:
        report = audit_bytes(new, name, settings)
    sys.stdout.flush()
    sys.stdout.buffer.write(new)
    return report, _mended(count, int(count > 0))


def _keep(report: Report, settings: Settings) -> int:
    from thinned.audit import baseline

    baseline.write(settings.baseline, report.findings)
    count = len(report.findings)
    print(f"{count:,} finding{'' if count == 1 else 's'} kept as known in {settings.baseline}.")
    return 0


def _new(report: Report, settings: Settings) -> tuple[Report, str]:
    from dataclasses import replace

    from thinned.audit import baseline

    new, gone = baseline.unknown(settings.baseline, report.findings)
    known = len(report.findings) - len(new)
    note = f"{known:,} known finding{'' if known == 1 else 's'} left out."
    if gone:
        note += f" {gone:,} of the baseline were not found: --baseline write leaves those out."
    return replace(report, findings=tuple(new)), note


def _cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _encoded(text: str) -> str:
    """The text with what standard output cannot say as `\\xe9`: names may be in any script."""
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _pairs(text: str) -> list[tuple[str, tuple[str, ...]]]:
    from thinned.errors import InputError, quoted

    pairs: list[tuple[str, tuple[str, ...]]] = []
    for word in _words(text) or ():
        pattern, colon, code = word.rpartition(":")
        if not colon or not pattern.strip():
            raise InputError(
                "audit: --per-file-ignores must be pairs such as tests/*:THN001, separated by "
                f"commas, but got {quoted(word)}."
            )
        pairs.append((pattern.strip(), (code.strip(),)))
    return pairs


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
