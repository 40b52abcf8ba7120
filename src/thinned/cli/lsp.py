"""`thinned lsp`."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout

from thinned.errors import InputError

__all__ = ["lsp"]


def lsp() -> int:
    """Serve `thinned audit` to an editor, by the language server protocol on standard input.

    It needs the extra: pip install "thinned[lsp]".
    """
    try:
        from thinned.audit.server import make_server
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        raise InputError('lsp: pygls is not installed; it comes with "thinned[lsp]".') from None
    # The server closes its streams at the end. Whatever else is printed is no part of the protocol.
    with (
        os.fdopen(os.dup(sys.stdin.fileno()), "rb") as asked,
        os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answered,
        redirect_stdout(sys.stderr),
    ):
        make_server().start_io(asked, answered)
    return 0
