"""An audit as text, JSON, SARIF and annotations of GitHub's."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from thinned.audit.finding import Finding
from thinned.audit.rule import RULES, Rule
from thinned.audit.running import Report
from thinned.printable import encodable, printable

__all__ = ["FORMATS", "as_github", "as_json", "as_sarif", "as_text", "explanation", "statistics"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_text(report: Report) -> str:
    """Return the findings for a terminal: place and sentence, the line, the mend; reasons last."""
    blocks = []
    for finding in report.findings:
        lines = [printable(f"{finding.place} {finding.code} {finding.sentence}")]
        if finding.text:
            lines.append(f"    {printable(finding.text)}")
        lines.append(f"    mend: {RULES[finding.code].mend}")
        blocks.append("\n".join(lines))
    codes = sorted({finding.code for finding in report.findings})
    if codes:
        blocks.append("\n".join(["Why it matters:", *(f"  {c} {RULES[c].why}" for c in codes)]))
    blocks.append(_summary(report))
    return "\n\n".join(blocks)


def _summary(report: Report) -> str:
    found = len(report.findings)
    places = len({finding.path for finding in report.findings})
    read = f"{report.files:,} file{_s(report.files)}, {report.lines:,} line{_s(report.lines)} read"
    if not found:
        return f"No findings ({read})."
    fixable = sum(bool(finding.edits) for finding in report.findings)
    more = f" --fix mends {fixable:,} of them." if fixable else ""
    return f"{found:,} finding{_s(found)} in {places:,} file{_s(places)} ({read}).{more}"


def _s(number: int) -> str:
    return "" if number == 1 else "s"


def as_json(report: Report) -> str:
    """Return the report as a JSON object: findings, each with its rule's words, and counts."""
    findings = []
    for finding in report.findings:
        rule = RULES[finding.code]
        findings.append(finding.as_dict() | {"name": rule.name, "why": rule.why, "mend": rule.mend})
    return _json({"findings": findings, "files": report.files, "lines": report.lines})


def _json(whole: Any) -> str:
    """JSON that every reader takes (half a pair of surrogates has no encoding), and that a
    workflow's log takes for no command."""
    import json

    text = json.dumps(_encodable(whole), indent=2, ensure_ascii=True)
    return text.replace("##[", "#\\u0023[")


def _encodable(held: Any) -> Any:
    if isinstance(held, dict):
        return {key: _encodable(value) for key, value in held.items()}
    if isinstance(held, list):
        return [_encodable(item) for item in held]
    return encodable(held) if isinstance(held, str) else held


def as_sarif(report: Report) -> str:
    """Return the report in SARIF 2.1.0, the format that code-scanning services read."""
    from thinned.version import __version__

    codes = sorted(RULES)
    driver = {
        "name": "thinned audit",
        "semanticVersion": __version__,
        "rules": [_sarif_rule(RULES[code]) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(finding, codes) for finding in report.findings],
    }
    return _json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.sentence},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.mend},
        "defaultConfiguration": {"level": rule.severity},
    }


def _sarif_result(finding: Finding, codes: list[str]) -> dict[str, Any]:
    region = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endLine": finding.end_line,
        "endColumn": finding.end_column,
    }
    if finding.cell:  # the columns are those of the code, not of the JSON that holds it
        region = {"startLine": finding.file_line}
    place = {"artifactLocation": {"uri": _uri(finding.path)}, "region": region}
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": RULES[finding.code].severity,
        "message": {"text": _told(finding)},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"words/v1": _fingerprint(finding)},
    }


def _told(finding: Finding) -> str:
    cell = f"Cell {finding.cell}, line {finding.line}: " if finding.cell else ""
    return f"{cell}{finding.sentence} {RULES[finding.code].mend}"


def _fingerprint(finding: Finding) -> str:
    """What stays the same where the code moves, by which services know a finding again."""
    from hashlib import blake2b

    words = f"{finding.code}\0{finding.words}".encode("utf-8", "replace")
    return blake2b(words, digest_size=16).hexdigest()


def _uri(path: str) -> str:
    from pathlib import PurePath
    from urllib.parse import quote

    if os.path.isabs(path):
        return PurePath(path).as_uri()
    return quote(os.fsencode(path.removeprefix("./")))


def as_github(report: Report) -> str:
    """Return commands that a workflow's log turns into annotations of the lines."""
    lines = []
    for finding in report.findings:
        span: list[tuple[str, object]] = [("line", finding.file_line)]
        if not finding.cell:
            span += [
                ("endLine", finding.end_line),
                ("col", finding.column),
                ("endColumn", finding.end_column),
            ]
        place = ",".join(
            f"{name}={_property(str(value))}"
            for name, value in (
                ("file", finding.path.removeprefix("./")),
                *span,
                ("title", f"{finding.code} {RULES[finding.code].name}"),
            )
        )
        command = _COMMANDS[RULES[finding.code].severity]
        lines.append(f"::{command} {place}::{_message(_told(finding))}")
    lines.append(_summary(report))
    return "\n".join(lines)


def _message(text: str) -> str:
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


# GitHub's words for what is an error, a warning or a note.
_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}

FORMATS: dict[str, Callable[[Report], str]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "github": as_github,
}


def statistics(report: Report, form: str) -> str:
    """Return how often each rule found something, the commonest first, as text or JSON."""
    counts = Counter(finding.code for finding in report.findings)
    order = sorted(counts, key=lambda code: (-counts[code], code))
    if form == "json":
        rows = [{"code": c, "name": RULES[c].name, "count": counts[c]} for c in order]
        return _json({"statistics": rows, "files": report.files, "lines": report.lines})
    width = max((len(f"{count:,}") for count in counts.values()), default=0)
    rows_ = [f"{counts[c]:{width},} {c} {RULES[c].name}" for c in order]
    return "\n".join([*rows_, _summary(report)])


def explanation(rule: Rule) -> str:
    """Return all that is known about a rule, for a terminal."""
    wrong, right = (part.replace("\n", "\n    ") for part in (rule.wrong, rule.right))
    return (
        f"{rule.code} {rule.name} ({rule.severity})\n\n{rule.sentence}\n\n"
        f"Why it matters: {rule.why}\n\nMend: {rule.mend}\n\n"
        f"Wrong:\n    {wrong}\n\nRight:\n    {right}\n\n"
        f"To silence it on one line: # noqa: {rule.code}"
    )
