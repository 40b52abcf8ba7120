"""The audit of public packages, and what a reading of every finding says of it.

    python -m tests.audit.public [PACKAGE...]

Run from the root of the checkout (`make audit-public` does). Each package of public.toml, in the
version that stands there, is installed without what it needs into a folder of its own below
build/audit-public, and audited; nothing of it is imported or run. Printed are the verdicts by rule,
findings that no one has judged, and judged ones that are no longer found. The exit code is 1 if
there are any of these.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from tests.packages import installed
from thinned.audit import RULES, audit

TABLE = Path(__file__).parent / "public.toml"
HOME = Path("build/audit-public")
VERDICTS = ("true", "harmless", "false")


def table() -> dict[str, Any]:
    """Return the packages and the judged findings."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def precision(entries: list[dict[str, Any]]) -> tuple[int, int]:
    """Return how many judged findings are true or harmless, and how many there are."""
    return sum(entry["verdict"] != "false" for entry in entries), len(entries)


def by_rule(entries: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Return the verdicts on each rule's findings."""
    found: dict[str, Counter[str]] = {}
    for entry in entries:
        found.setdefault(entry["code"], Counter())[entry["verdict"]] += 1
    return dict(sorted(found.items()))


def found_in(home: Path) -> tuple[Counter[tuple[str, str]], int]:
    """Return how often each code is found in each file of a folder, and the lines read."""
    report = audit([str(home)])
    places = (
        (Path(finding.path).relative_to(home).as_posix(), finding.code)
        for finding in report.findings
        if finding.code != "THN000"
    )
    return Counter(places), report.lines


def main(names: list[str]) -> int:
    known = table()
    differs = False
    lines = 0
    for package in known["package"]:
        name = package["name"]
        if names and name not in names:
            continue
        found, read = found_in(installed(HOME, name, package["version"]))
        lines += read
        entries = [entry for entry in known["finding"] if entry["package"] == name]
        judged = Counter((entry["path"], entry["code"]) for entry in entries)
        good, of = precision(entries)
        print(f"{name} {package['version']}: {read:,} lines, {good} of {of} true or harmless")
        for title, places in (("not judged", found - judged), ("vanished", judged - found)):
            for (path, code), times in sorted(places.items()):
                differs = True
                print(f"  {title}: {path} {code} ({times})")
    for code, verdicts in by_rule(known["finding"]).items():
        shown = ", ".join(f"{verdicts[v]} {v}" for v in VERDICTS if verdicts[v])
        print(f"{code} {RULES[code].name}: {shown}")
    good, of = precision(known["finding"])
    print(f"{good} of {of} findings in {lines:,} lines are true or harmless")
    return int(differs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
