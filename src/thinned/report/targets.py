"""The page on several targets: a row for each, beside the reports of single ones."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from thinned.fit.rate import spelled
from thinned.fit.results import Mean, Result
from thinned.fit.words import count, shown_measures, with_error
from thinned.pages.document import MARK, Section, document, table, text

__all__ = ["page_of_targets"]

_LEAD = (
    "One network learned all of these targets at once: its last layer has outputs for each, "
    "and its loss is the sum of theirs. Each target has the p and the epochs that are best for "
    "it, and a report of its own in the folder of its name."
)


def page_of_targets(results: Sequence[Result], again: Sequence[str]) -> str:
    """The page of a fit of several targets. again : the command that does it again."""
    data = results[0].data
    about = (
        f"<b>{text(data.name)}</b>: {len(results)} targets from "
        f"{count(len(data.columns), 'column')}, {count(data.rows, 'row')}, of which "
        f"{data.test_rows:,} were held out as the test part."
    )
    title = f"{len(results)} targets of {data.name}"
    header = (
        f'<header><div class="brand">{MARK}<span><b>Thinned</b> · what dropout did for this data'
        f'</span></div><h1>{text(title)}</h1><p class="about">{about}</p></header>'
    )
    typed = " ".join(f"<span>{escape(group)}</span>" for group in again)
    replay = f'<pre class="command"><code>{typed}</code></pre>'
    parts = [
        Section("targets", "Each target", _LEAD, _table(results)).html(),
        Section("replay", "Do it again", "", replay).html(),
    ]
    footer = f"<footer>Thinned {text(results[0].versions.get('thinned', ''))}.</footer>"
    return document(title, header, parts, footer)


def _table(results: Sequence[Result]) -> str:
    head = [("Target", ""), ("Best p", ""), ("Score", "on the test part"), ("Without inputs", "")]
    head += [("Verdict", "")]
    return table(head, list(map(_row, results)), "Scores ± standard errors.", "Targets", True)


def _row(result: Result) -> str:
    first, refit = shown_measures(result)[0], result.refit(result.best.p)
    constant = next(one for one in result.baselines if one.name == "constant")
    score = with_error(Mean(refit.test[first.name], refit.errors[first.name]), first.scale)
    without = with_error(Mean(constant.test[first.name], 0.0), first.scale)
    unit = " %" if first.unit == "%" else ""
    cells = {
        "Best p": spelled(result.best.p),
        "Score": f"{first.head.removesuffix(' (%)')} {score}{unit}",
        "Without inputs": f"{without}{unit}",
    }
    numbers = "".join(f'<td data-name="{k}">{text(cell)}</td>' for k, cell in cells.items())
    said = f'<td class="text" data-name="Verdict">{text(result.headline)}</td>'
    return f'<tr><th scope="row">{text(result.data.target)}</th>{numbers}{said}</tr>'
