"""Links from docs/ to other files of the checkout: to the page that shows one, or to a copy."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from sphinx.application import Sphinx

# Files beside docs/, and the pages that show them.
PAGES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
}
# Where the copies of all other files lie in the site.
FILES = "files"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")


def place(folder: str, link: str, docs: str) -> tuple[str, str | None]:
    """Where a link leads on the site, and which file of the checkout must be copied for it.

    folder : of the text, from the checkout's root. docs : folder of the page, from docs/.
    """
    path = normpath(join(folder, link))
    if path.startswith("docs/"):
        return relpath(path.removeprefix("docs/"), docs or "."), None
    if path in PAGES:
        return relpath(PAGES[path], docs or "."), None
    return relpath(f"{FILES}/{path}", docs or "."), path


def mend(app: Sphinx, page: str, source: list[str]) -> None:
    """Fill in pages that show a file, and let links out of docs/ lead to the site's own files."""
    root = Path(app.srcdir).parent
    docs = dirname(page)
    folder = normpath(join("docs", docs))
    for name, own in PAGES.items():
        if f"{page}.md" == own:
            folder, source[0] = ".", (root / name).read_text(encoding="utf-8")

    def mended(found: re.Match[str]) -> str:
        link, anchor = found.group(1), found.group(2) or ""
        onto, copied = place(folder, link, docs)
        if copied is None:
            return f"{onto}{anchor}"
        if (root / copied).is_file():  # else Sphinx warns that there is nothing
            copy = Path(app.outdir) / FILES / copied
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / copied, copy)
            return f"url:{onto}"
        return link

    source[0] = LINK.sub(mended, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    # Before the contents of an index are read from its links.
    app.connect("source-read", mend, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
