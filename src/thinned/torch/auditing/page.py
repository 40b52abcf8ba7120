"""What an audit of a model found, as a page in the style of the report, or a section of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from thinned.pages.document import MARK, Section, document, table, text, text_long
from thinned.torch.auditing.finding import Finding
from thinned.torch.auditing.sites import SiteRow

__all__ = ["page", "sections"]

_FINDINGS_HEAD = [("Site", ""), ("Finding", ""), ("Detail", ""), ("Mend", "")]
_SITES_HEAD = [("Site", ""), ("p", "probability to drop"), ("Dropped", "part of the draws")]
_SITES_HEAD += [("Draws", "in all steps")]


class Audited(Protocol):
    """What a page shows: of an audit's result (thinned.torch.ModelAudit), what it has."""

    @property
    def clean(self) -> bool: ...
    @property
    def headline(self) -> str: ...
    @property
    def findings(self) -> Sequence[Finding]: ...
    @property
    def sites(self) -> Sequence[SiteRow]: ...
    @property
    def steps(self) -> int: ...
    @property
    def costs(self) -> Sequence[str]: ...


def page(audit: Audited) -> str:
    """A whole HTML document without scripts and without references to anything outside of it."""
    tone = "helped" if audit.clean else "hurt"
    header = (
        f'<header><div class="brand">{MARK}<span><b>Thinned</b> · what was found in this model'
        f'</span></div><h1 class="{tone}">{text(audit.headline)}</h1></header>'
    )
    footer = (
        "<footer>The model was run in evaluation and in training, and is as it was before. A rate "
        "counts as wrong where chance explains it in less than one of a billion cases.</footer>"
    )
    parts = [section.html() for section in sections(audit)]
    return document(f"Dropout audit: {audit.headline}", header, parts, footer)


def sections(audit: Audited) -> list[Section]:
    """The parts of the page, for another page to take in."""
    found = []
    if audit.findings:
        rows = [
            f'<tr><th scope="row">{_site(one.site)}</th><td class="text">{text(one.kind)}</td>'
            f'<td class="text">{text_long(one.detail)}</td>'
            f'<td class="text">{text_long(one.mend)}</td></tr>'
            for one in audit.findings
        ]
        shown = table(_FINDINGS_HEAD, rows, "In the order of their weight.", "Findings")
        found.append(Section("findings", "Findings", "", shown))
    if audit.sites:
        rows = []
        for row in audit.sites:
            _, *cells = row.cells()
            shown = "".join(f"<td>{text(cell)}</td>" for cell in cells)
            rows.append(f'<tr><th scope="row">{_site(row.site)}</th>{shown}</tr>')
        shown = table(_SITES_HEAD, rows, f"In {audit.steps} training steps.", "Sites")
        lead = "Where the model dropped in training, and how much of what it drew was dropped."
        found.append(Section("sites", "Sites", lead, shown))
    if audit.costs:
        said = "".join(f"<li>{text_long(line)}</li>" for line in audit.costs)
        found.append(Section("cost", "What it costs", "", f'<ul class="notes">{said}</ul>'))
    return found


def _site(name: str) -> str:
    return f"<code>{text(name or '(the model)')}</code>"
