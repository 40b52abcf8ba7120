"""Rules over source: what `thinned audit` finds, without running anything that it reads.

`running` reads files and asks the rules; `source`, `names`, `context` and `flow` say what a line of
code stands for; `rules` are the rules, a file for each family; `formats` prints.
"""

from __future__ import annotations

from thinned.audit.finding import Finding
from thinned.audit.rule import RULES, Rule
from thinned.audit.running import Report, audit, audit_file, audit_source
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
