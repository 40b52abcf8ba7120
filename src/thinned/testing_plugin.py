"""The pytest plugin: a fixture that audits a model and fails the test with what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from thinned.torch import ModelAudit

__all__ = ["thinned_audit"]


@pytest.fixture
def thinned_audit() -> Callable[..., ModelAudit]:
    """`thinned_audit(model, inputs, allow=(), **options)`: fails the test if something is found.

    allow : kinds of findings that are meant so, such as "feeds BatchNorm", or pairs of a site and a
        kind. One that was not found is a failure as well.
    options : those of `thinned.torch.audit`; measure is False unless it is given.

    Returns the audit.
    """

    def audited(model: Any, inputs: Any, allow: Iterable[Any] = (), **options: Any) -> ModelAudit:
        from thinned.torch import audit
        from thinned.torch.auditing.rules import KINDS

        allowed = list(allow)
        for one in allowed:
            kind = one if isinstance(one, str) else one[1]
            if kind not in KINDS:
                raise ValueError(
                    f"thinned_audit: allow must hold kinds of findings, got {kind!r}. The kinds "
                    f"are {', '.join(map(repr, KINDS))}."
                )
        report = audit(model, inputs, **{"measure": False, **options})
        used = set()
        wrong = []
        for finding in report.findings:
            meant = [one for one in allowed if one in (finding.kind, (finding.site, finding.kind))]
            used.update(meant)
            if not meant:
                wrong.append(finding)
        if wrong:
            pytest.fail(f"thinned_audit: {report}", pytrace=False)
        unused = [one for one in allowed if one not in used]
        if unused:
            pytest.fail(f"thinned_audit: allowed, and not found: {unused}.", pytrace=False)
        return report

    return audited
