"""A page README.md is the contents of its folder: the links of its lists and tables, in order.

So the pages stay plain Markdown, which a forge shows as it is, and a page that no index names is a
warning of Sphinx.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from sphinx.application import Sphinx

LINK = re.compile(r"^(?:[-*|] ).*?\]\(([^)#:]+\.md)\)", re.MULTILINE)


def contents(page: str, text: str) -> list[str]:
    """The pages that begin an entry of a list or a row of a table, as names of documents."""
    folder = posixpath.dirname(page)
    named = [posixpath.normpath(posixpath.join(folder, link)) for link in LINK.findall(text)]
    return list(dict.fromkeys(path.removesuffix(".md") for path in named))


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the contents of a page README.md to it, unseen."""
    if posixpath.basename(page) != "README":
        return
    pages = contents(page, source[0])
    if pages:
        lines = "\n".join(f"/{name}" for name in pages)
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:maxdepth: 2\n\n{lines}\n```\n"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
