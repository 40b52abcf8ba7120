"""The report's overview of the data: the target, each column, and what was made of it."""

from __future__ import annotations

from thinned.fit.overview import ColumnFacts
from thinned.fit.results import Result
from thinned.fit.words import count, number, percent
from thinned.pages.document import Section, clean, table, text, text_long

__all__ = ["section"]

# A table of more columns than MOST_OPEN is folded, and cut after MOST_LISTED.
MOST_OPEN, MOST_LISTED, MOST_CLASSES = 12, 200, 12

# A number that is so much smaller than others of its column is a 0 that was rounded.
LEAST = 1e-12


def section(result: Result) -> Section:
    """What was read, before anything was learned from it."""
    data = result.data
    notes = "".join(f"<li>{text_long(note)}</li>" for note in data.notes)
    body = f"<p>{_target(result)}</p>" + (f'<ul class="notes">{notes}</ul>' if notes else "")
    return Section("data", "The data", "", body + _columns(data.overview))


def _target(result: Result) -> str:
    data = result.data
    name = f"The target <b>{text(data.target)}</b>"
    if not data.classes:
        s = {key: number(value, 4) for key, value in data.spread.items()}
        return (
            f"{name} is a quantity from {s['low']} to {s['high']}, with median {s['median']}, mean "
            f"{s['mean']} and standard deviation {s['std']}."
        )
    pairs = sorted(zip(data.class_rows, data.classes, strict=True), key=lambda one: -one[0])
    if len(pairs) > MOST_CLASSES:
        (most, first), (least, last) = pairs[0], pairs[-1]
        said = f"from {least:,} ({text(clean(last, 30))}) to {most:,} ({text(clean(first, 30))})"
        if least == most:
            said = f"{most:,} of each"
    else:
        said = ", ".join(
            f"<b>{text(clean(name, 30))}</b> {n:,} ({percent(n / data.rows)})" for n, name in pairs
        )
    even = (
        " Classes are unbalanced: accuracy alone says little, so balanced accuracy and the areas "
        "under two curves stand beside it."
        if data.unbalanced
        else ""
    )
    return f"{name} has {len(pairs)} classes, with rows: {said}.{even}"


def _columns(overview: tuple[ColumnFacts, ...]) -> str:
    if not overview:
        return ""
    head = [("Column", ""), ("Kind", ""), ("Missing", "cells"), ("Different", "values")]
    head += [("Values", "least, median, greatest; or the commonest"), ("What was done", "")]
    rows = [_row(one) for one in overview[:MOST_LISTED]]
    caption = "Columns that are learned from. Scaling is learned from training rows alone."
    if len(overview) > MOST_LISTED:
        caption += f" The first {MOST_LISTED} of {len(overview)}; metrics.json has all."
    shown = table(head, rows, caption, "Columns", stacked=True)
    if len(overview) <= MOST_OPEN:
        return shown
    return f"<details><summary>{count(len(overview), 'column')}</summary>{shown}</details>"


def _row(one: ColumnFacts) -> str:
    if one.low is not None and one.middle is not None and one.high is not None:
        ends = (one.low, one.middle, one.high)
        least = LEAST * max(map(abs, ends))  # a cosine of 6e-17 is 0
        values = ", ".join(number(v if abs(v) >= least else 0.0, 4) for v in ends)
    else:
        values = ", ".join(f"{clean(name, 24)} ({n:,})" for name, n in one.texts)
    cells = {
        "Kind": one.kind, "Missing": f"{one.missing:,}", "Different": f"{one.different:,}",
    }  # fmt: skip
    numbers = "".join(f'<td data-name="{k}">{text(cell)}</td>' for k, cell in cells.items())
    told = {"Values": values, "What was done": one.done}
    said = "".join(f'<td class="text" data-name="{k}">{text(v)}</td>' for k, v in told.items())
    return f'<tr><th scope="row">{text(clean(one.name, 40))}</th>{numbers}{said}</tr>'
