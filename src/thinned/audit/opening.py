"""Which kind of file it is."""

from __future__ import annotations

from thinned.audit.document import Document, Script

__all__ = ["document_of"]


def document_of(data: bytes, path: str) -> Document:
    """Return a file as the rules read it: a notebook where its name ends with .ipynb.

    Raises
    ------
    UnreadableError if it is a notebook that is no notebook.
    """
    if path.endswith(".ipynb"):
        from thinned.audit.notebook import Notebook  # whose JSON scripts have no use for

        return Notebook(data)
    return Script(data)
