"""A part of somebody else's page: what a notebook shows of a report, by its `_repr_html_`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from thinned.pages.document import text

__all__ = ["paragraph", "rows_of"]

_LEFT = ' style="text-align: left; vertical-align: top"'


def rows_of(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table (HTML) in the notebook's own style. Head and cells are text, and are escaped.

    Parameters
    ----------
    head : sequence of str. One name for each column; empty for a table without a head.
    rows : iterable of sequences, one for each row.

    Returns
    -------
    str.
    """
    names = "".join(f'<th scope="col"{_LEFT}>{text(name)}</th>' for name in head)
    lines = ("".join(f"<td{_LEFT}>{text(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    top = f"<thead><tr>{names}</tr></thead>" if names else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"


def paragraph(sentence: str) -> str:
    """A sentence (HTML), escaped."""
    return f"<p>{text(sentence)}</p>"
