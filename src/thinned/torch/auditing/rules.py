"""The rules of the model audit: what the observed runs of a model say, each with its mend.

They stand in files by what they are about; the order of the imports is that of a report.
"""

from __future__ import annotations

# Imported for what they declare.
# isort: off
from thinned.torch.auditing import evaluated, rated, masked, behind, misuse  # noqa: F401

# isort: on
from thinned.torch.auditing.finding import Finding, Observed
from thinned.torch.auditing.rule import KINDS

__all__ = ["KINDS", "Finding", "Observed", "findings_of"]


def findings_of(seen: Observed) -> tuple[Finding, ...]:
    """Everything that is wrong, in the order of KINDS."""
    return tuple(finding for kind in KINDS.values() for finding in kind.check(seen))
