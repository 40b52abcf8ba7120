"""A whole HTML document, and the parts that any page is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from thinned.pages.colours import variables

__all__ = ["MARK", "Section", "clean", "document", "table", "text", "text_long"]

# Nothing may be fetched and nothing may run, whatever a column or a class is called.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

# A mask in small: the dots of a layer, some of them dropped.
MARK = (
    '<svg viewBox="0 0 20 20" aria-hidden="true">'
    + "".join(
        f'<circle cx="{4 + 6 * x}" cy="{4 + 6 * y}" r="2.3" '
        f'fill="var(--{"accent" if (x, y) not in ((1, 0), (2, 1), (0, 2)) else "grid"})"/>'
        for y in range(3)
        for x in range(3)
    )
    + "</svg>"
)


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, a line on how to read it, and what it shows (HTML)."""

    name: str
    title: str
    lead: str
    body: str

    def html(self) -> str:
        lead = f"<p>{self.lead}</p>" if self.lead else ""
        return (
            f'<section id="{self.name}" aria-labelledby="{self.name}-h">'
            f'<h2 id="{self.name}-h">{self.title}</h2>{lead}{self.body}</section>'
        )


def document(title: str, header: str, parts: list[str], footer: str, levels: int = 0) -> str:
    """A whole page around its parts (HTML), which are what they were given as; the title is text.

    levels : of how many ps the page has a colour.
    """
    light, dark = variables(levels)
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    style += f":root {{ {light} }}\n"
    style += f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<title>{text(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n{header}\n<main>\n"
        + "\n".join(parts)
        + f"\n</main>\n{footer}\n</body>\n</html>\n"
    )


def text(value: object) -> str:
    return escape(clean(value))


def text_long(sentence: str) -> str:
    """A sentence in which "p = 0.1" and "1 ± 0.1" do not break at the end of a line."""
    shown = escape(clean(sentence, 2000))
    return re.sub(r" ([=±%]) ?", lambda sign: sign.group().replace(" ", "&nbsp;"), shown)


def clean(text: object, longest: int = 200) -> str:
    """Text from the data, fit to be shown: no control characters, and not without end. Long text is
    cut in its middle, since names that begin alike differ at their ends."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    if len(shown) <= longest:
        return shown
    last = (longest - 1) // 2
    return shown[: longest - 1 - last] + "\N{HORIZONTAL ELLIPSIS}" + shown[-last:]


def table(
    head: list[tuple[str, str]], rows: list[str], caption: str, label: str, stacked: bool = False
) -> str:
    """A table (HTML) that can be scrolled to the side.

    stacked : on a narrow screen each row is a list, of which a cell's `data-name` says what it is.
    """
    names = "".join(
        f'<th scope="col">{name}<small>{unit or "&nbsp;"}</small></th>' for name, unit in head
    )
    return (
        f'<div class="scroll{" stacked" * stacked}" tabindex="0" role="region" '
        f'aria-label="{label}"><table>'
        f"<caption>{caption}</caption><thead><tr>{names}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
