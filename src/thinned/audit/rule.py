"""What a rule is, and the one table in which every rule stands."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from thinned.audit.source import Source

__all__ = ["PARSE", "RULES", "Check", "Hit", "Rule", "Severity", "rule"]

# The code of what is no rule: a file that could not be read or parsed.
PARSE = "THN000"

Severity = Literal["error", "warning", "note"]
Hit = tuple[ast.AST, str]  # where, and the sentence about it
Check = Callable[["Source"], Iterator[Hit]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of mistake.

    Parameters
    ----------
    code : str. Stable: it is never given to another rule.
    name : str. A few words joined by hyphens.
    sentence : str. What is wrong, of any place.
    why : str. What it costs.
    mend : str. What to write instead.
    wrong, right : str. An example and its mended twin, a line each where a line is enough.
    severity : str. "error": results are wrong; "warning": they are likely to be; "note": style, or
        something that is harmless as a rule.
    check : function. Finds it in a parsed file; None for THN000, which reading a file finds.
    """

    code: str
    name: str
    sentence: str
    why: str
    mend: str
    wrong: str
    right: str
    check: Check | None
    severity: Severity = "error"


RULES: dict[str, Rule] = {
    PARSE: Rule(
        code=PARSE,
        name="not-audited",
        sentence="The file could not be read or parsed, and was passed over.",
        why="Nothing is known about it: a run that says nothing else is no clean run.",
        mend="Mend the file, or leave it out with --exclude, or say --ignore THN000.",
        wrong="def forward(self, x:",
        right="def forward(self, x): ...",
        check=None,
    )
}


def rule(
    code: str,
    name: str,
    *,
    sentence: str,
    why: str,
    mend: str,
    wrong: str,
    right: str,
    severity: Severity = "error",
) -> Callable[[Check], Check]:
    """Enter the function below into the table of rules."""

    def enter(check: Check) -> Check:
        if code in RULES:
            raise ValueError(f"rule: code must be new, got {code}, which is {RULES[code].name}.")
        RULES[code] = Rule(code, name, sentence, why, mend, wrong, right, check, severity)
        return check

    return enter
