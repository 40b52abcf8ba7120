"""How many mistakes `thinned audit` found at first sight: with the rules as they stood then.

    python -m benchmarks.audit_first_sight [NAME...]

Run from the root of a checkout with its history. Each file of tests/audit/people that came with a
commit which changed nothing of the audit is read by the audit of that commit, with the mistakes as
they were written there: nobody had mended a rule after them. NAMEs choose some of the files,
without their ending. What is counted:

- found: the code that was expected, on its line.
- elsewhere: that code on another line of the file, or another finding on the line.
- missed: neither.
- false: findings in the right versions.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_PEOPLE = "tests/audit/people"
_RULES = "src/thinned/audit"
# Run inside the tree of the commit, which brings its own reader of the pairs.
_COUNT = """
import json, sys
from tests.audit.people import cases, told

found = elsewhere = missed = false = 0
for case in cases():
    if case.id.partition(":")[0] not in sys.argv[1:]:
        continue
    said, right = told(case.wrong), told(case.right)
    near = {(file, code) for file, _, code in said}, {(file, line) for file, line, _ in said}
    if case.expected <= said:
        found += 1
    elif all((f, c) in near[0] or (f, line) in near[1] for f, line, c in case.expected):
        elsewhere += 1
    else:
        missed += 1
    false += len(right)
print(json.dumps([found, elsewhere, missed, false]))
"""


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], check=True, capture_output=True).stdout


def added() -> dict[str, list[str]]:
    """The files of mistakes by the commit that brought them, where it changed no rule."""
    by: dict[str, list[str]] = {}
    for name in sorted(path.stem for path in Path(_PEOPLE).glob("*.txt")):
        log = _git("log", "--diff-filter=A", "--format=%H", "--", f"{_PEOPLE}/{name}.txt")
        for commit in log.decode().split()[-1:]:
            if not _git("diff", "--name-only", f"{commit}^", commit, "--", _RULES):
                by.setdefault(commit, []).append(name)
    return by


def counted(commit: str, names: list[str]) -> list[int]:
    """Found, elsewhere, missed and false, by the audit of a commit on its own mistakes."""
    with tempfile.TemporaryDirectory() as folder:
        packed = _git("archive", commit, "src", "tests/audit")
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        path = os.pathsep.join([str(Path(folder) / "src"), folder])
        run = subprocess.run(
            [sys.executable, "-c", _COUNT, *names],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            check=True,
            capture_output=True,
        )
    numbers: list[int] = json.loads(run.stdout)
    return numbers


def main() -> None:
    chosen = sys.argv[1:]
    print("mistakes  found  elsewhere  missed  false  commit        files")
    for commit, names in added().items():
        names = [name for name in names if not chosen or name in chosen]
        if names:
            found, elsewhere, missed, false = counted(commit, names)
            print(
                f"{found + elsewhere + missed:8d} {found:6d} {elsewhere:10d} {missed:7d} {false:6d}"
                f"  {commit[:12]}  {', '.join(names)}"
            )


if __name__ == "__main__":
    main()
