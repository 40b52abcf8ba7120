"""Rules over source: what `thinned audit` finds, without running anything that it reads.

`one` reads a file and asks the rules, `running` and `many` go over several; `source`, `names`,
`context` and `flow` say what a line of code stands for; `rules` are the rules, a file for each
family; `formats` prints.
"""

from __future__ import annotations

from thinned.audit.finding import Finding
from thinned.audit.one import audit_file, audit_source
from thinned.audit.rule import RULES, Rule
from thinned.audit.running import Report, audit
from thinned.audit.settings import Settings, settings_for

__all__ = [
    "RULES",
    "Finding",
    "Report",
    "Rule",
    "Settings",
    "audit",
    "audit_file",
    "audit_source",
    "settings_for",
]
