"""What an audit of a model found, as a page in the style of the report, or a section of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinned.report.page import _MARK, Section, _table, _text, _text_long, document

if TYPE_CHECKING:
    from thinned.torch.auditing.result import ModelAudit

__all__ = ["page", "sections"]

_FINDINGS_HEAD = [("Site", ""), ("Finding", ""), ("Detail", ""), ("Mend", "")]
_SITES_HEAD = [("Site", ""), ("p", "probability to drop"), ("Dropped", "part of the draws")]
_SITES_HEAD += [("Draws", "in all steps")]


def page(audit: ModelAudit) -> str:
    """A whole HTML document without scripts and without references to anything outside of it."""
    tone = "helped" if audit.clean else "hurt"
    header = (
        f'<header><div class="brand">{_MARK}<span><b>Thinned</b> · what was found in this model'
        f'</span></div><h1 class="{tone}">{_text(audit.headline)}</h1></header>'
    )
    footer = (
        "<footer>The model was run in evaluation and in training, and is as it was before. A rate "
        "counts as wrong where chance explains it in less than one of a billion cases.</footer>"
    )
    parts = [section.html() for section in sections(audit)]
    return document(f"Dropout audit: {audit.headline}", header, parts, footer)


def sections(audit: ModelAudit) -> list[Section]:
    """The parts of the page, for another page to take in."""
    found = []
    if audit.findings:
        rows = [
            f'<tr><th scope="row">{_site(one.site)}</th><td class="text">{_text(one.kind)}</td>'
            f'<td class="text">{_text_long(one.detail)}</td>'
            f'<td class="text">{_text_long(one.mend)}</td></tr>'
            for one in audit.findings
        ]
        table = _table(_FINDINGS_HEAD, rows, "In the order of their weight.", "Findings")
        found.append(Section("findings", "Findings", "", table))
    if audit.sites:
        from thinned.torch.auditing.result import cells_of

        rows = []
        for row in audit.sites:
            _, *cells = cells_of(row)
            shown = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
            rows.append(f'<tr><th scope="row">{_site(row.site)}</th>{shown}</tr>')
        table = _table(_SITES_HEAD, rows, f"In {audit.steps} training steps.", "Sites")
        lead = "Where the model dropped in training, and how much of what it drew was dropped."
        found.append(Section("sites", "Sites", lead, table))
    if audit.costs:
        said = "".join(f"<li>{_text_long(line)}</li>" for line in audit.costs)
        found.append(Section("cost", "What it costs", "", f'<ul class="notes">{said}</ul>'))
    return found


def _site(name: str) -> str:
    return f"<code>{_text(name or '(the model)')}</code>"
