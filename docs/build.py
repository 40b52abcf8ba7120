"""The parts of pages that are made from code: `make docs`.

Such a part stands between two comments, which name it and say where it ends. Everything else on
these pages is written by hand. The pages of the methods are made by methods/build.py.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from thinned.audit import RULES

HERE = Path(__file__).parent


def rules() -> str:
    """The rules of `thinned audit`."""
    lines = [
        "| code | severity | measured | what is wrong | wrong | right |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    measured = judged()
    for code, rule in sorted(RULES.items()):
        wrong, right = (f"`{'; '.join(text.splitlines())}`" for text in (rule.wrong, rule.right))
        verdicts = measured.get(code, [])
        good = sum(verdict != "false" for verdict in verdicts)
        figure = f"{good} of {len(verdicts)}" if verdicts else "-"
        lines.append(_line(code, rule.severity, figure, rule.sentence, wrong, right))
    return "\n".join(lines)


def judged() -> dict[str, list[str]]:
    """The verdicts on the findings in public packages, by code."""
    table = tomllib.loads((HERE.parent / "tests/audit/public.toml").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for entry in table["finding"]:
        found.setdefault(entry["code"], []).append(entry["verdict"])
    return found


def kinds() -> str:
    """What `thinned.torch.audit` finds."""
    from thinned.torch.auditing.rules import KINDS

    lines = ["| finding | what was observed | why it matters |", "| --- | --- | --- |"]
    lines += [_line(kind.name, kind.observed, kind.why) for kind in KINDS.values()]
    return "\n".join(lines)


def takes() -> str:
    """What rows of the catalogue take besides dense real arrays and one p."""
    from thinned.methods.table import TAKES, every

    words = {"complex": "complex numbers", "sparse": "sparse arrays", "rates": "p as an array"}
    lines = ["| takes | rows |", "| --- | --- |"]
    for what in TAKES:
        names = sorted(f"`{row.name}`" for row in every() if what in row.takes)
        lines.append(_line(f"{words[what]} (`{what}`)", ", ".join(names)))
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# Page -> the part that is made there.
PARTS: dict[str, Callable[[], str]] = {
    "arrays.md": takes,
    "audit.md": rules,
    "audit-model.md": kinds,
}


def filled(text: str, part: Callable[[], str]) -> str:
    """A page with its part as the code has it now. ValueError where the page has no marks."""
    begin, end = f"<!-- {part.__name__}: made by `make docs` -->\n", "\n<!-- end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no {begin.strip()} ... {end.strip()}")
    return f"{before}{begin}{part()}{end}{after}"


def build(pages: Iterable[str], folder: Path = HERE) -> None:
    """Write the parts of these pages anew."""
    for page in pages:
        path = folder / page
        path.write_text(filled(path.read_text(encoding="utf-8"), PARTS[page]), encoding="utf-8")


if __name__ == "__main__":
    build(sys.argv[1:] or PARTS)
