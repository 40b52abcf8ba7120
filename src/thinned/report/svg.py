"""A matplotlib figure as SVG that can stand in a page among others."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from thinned.pages.colours import ACCENT, GRID, INK, MUTED, themed
from thinned.pages.document import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture", "canvas", "figures", "inline"]

# Inches. At this size a page can show it on a phone with letters that can still be read.
WIDTH, HEIGHT = 4.2, 3.0
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, read aloud, in the page's own font
    "svg.hashsalt": "thinned",  # the same figure has the same ids, and so the same bytes
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": f"cycler('color', ['{ACCENT}'])",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $x$
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
}


@dataclass(frozen=True)
class Picture:
    """A figure ready for the page, and the words beneath it (HTML)."""

    svg: str
    caption: str


@contextmanager
def canvas(width: float = WIDTH, height: float = HEIGHT) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one axes, in the page's style."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever the user's own matplotlibrc says
        matplotlib.rcParams.update(_STYLE)
        # The browser has fonts for scripts that matplotlib's own lacks; here they only cost width.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.add_subplot()


def inline(figure: Figure, name: str, title: str, description: str, levels: int) -> str:
    """The figure as an svg element: themed, titled, its ids its own, as wide as its place.

    Parameters
    ----------
    name : str. Unique on the page; every id in the element starts with it.
    title, description : str. What is read aloud in the picture's stead.
    levels : int. The number of values of p.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)

    def own(tag: re.Match[str]) -> str:
        """A tag whose ids and references are this picture's. Text between tags is the data's."""
        found = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', tag.group())
        found = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', found)
        return themed(re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", found), levels)

    svg = re.sub(r"<[^>]+>", own, svg)
    box = re.search(r'viewBox="[^"]+"', svg)
    assert box is not None
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box.group()} role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(clean(title))}</title>'
        f'<desc id="{name}-desc">{escape(clean(description))}</desc>'
    )
    svg = re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1)
    return re.sub(r"\n\s*", "\n", svg)


def figures(pictures: list[Picture], kind: str = "") -> str:
    """Pictures side by side, as HTML; nothing where there is none."""
    shown = "".join(
        f"<figure>{picture.svg}"
        + (f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else "")
        + "</figure>"
        for picture in pictures
    )
    return f'<div class="figures {kind}">{shown}</div>' if pictures else ""
