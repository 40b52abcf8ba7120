"""`thinned lsp`: the audit in an editor, by the language server protocol over standard input.

Diagnostics follow the typing. Hovering over one tells why it matters and how to mend it; actions
mend it where that is certain, or silence it on its line. Cells of a notebook are audited together.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from thinned.audit.document import Document, Script
from thinned.audit.finding import Edit, Finding
from thinned.audit.notebook import Cells
from thinned.audit.one import audit_document
from thinned.audit.reading import package_of
from thinned.audit.rule import RULES
from thinned.audit.running import reported
from thinned.audit.settings import Settings, chosen, settings_for
from thinned.audit.tree import forget
from thinned.audit.walking import is_passed_over
from thinned.errors import InputError
from thinned.version import __version__

__all__ = ["make_server"]

# Seconds without a keystroke after which a text is audited.
_PAUSE = 0.2
_SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "note": types.DiagnosticSeverity.Information,
}
_FIX_ALL = "source.fixAll.thinned"
_COOKIE = re.compile(r"\A((?:[^\n]*\n)?[ \t\f]*#.*?)coding(?=[:=][ \t]*[-\w.]+)")
_NOQA = re.compile(r"(?i)#\s*noqa\s*:\s*[A-Z]+[0-9]+(?:\s*,\s*[A-Z]+[0-9]+)*")


@dataclass(frozen=True)
class _Page:
    """What is audited together: a script, or the cells of a notebook, by their numbers.

    uri and version name it; parts are the texts and their own names.
    """

    uri: str
    path: str
    parts: dict[int, Any]
    version: tuple[int | None, ...]
    document: Document


class _Audit:
    """The pages that are open, and what was found in them."""

    def __init__(self, server: LanguageServer) -> None:
        self.server = server
        self._found: dict[str, tuple[tuple[int | None, ...], list[Finding]]] = {}
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._told: set[str] = set()

    # -- pages -----------------------------------------------------------------------------------

    def page(self, uri: str) -> _Page:
        """The page that a text belongs to."""
        space = self.server.workspace
        book = space.get_notebook_document(cell_uri=uri) or space.get_notebook_document(
            notebook_uri=uri
        )
        if book is None:
            text = space.get_text_document(uri)
            document = Script(_without_cookie(text.source).encode("utf-8", "replace"))
            return _Page(uri, _path(uri), {0: text}, (text.version,), document)
        parts = {
            number: space.get_text_document(cell.document)
            for number, cell in enumerate(book.cells, 1)
            if cell.kind == types.NotebookCellKind.Code
        }
        version = (book.version, *parts, *(part.version for part in parts.values()))
        cells = Cells((number, part.source) for number, part in parts.items())
        return _Page(book.uri, _path(book.uri), parts, version, cells)

    def findings(self, page: _Page) -> list[Finding]:
        """What is found in a page as it is now."""
        known = self._found.get(page.uri)
        if known is None or known[0] != page.version:
            known = self._found[page.uri] = (page.version, self._audited(page))
        return known[1]

    def _audited(self, page: _Page) -> list[Finding]:
        try:
            settings = replace(settings_for([page.path]), force_exclude=True)
        except InputError as error:
            self._tell(str(error))
            return []
        if is_passed_over(page.path, settings):
            return []
        forget()  # files beside this one may have changed since
        return _findings(page.document, page.path, settings)

    def _tell(self, sentence: str) -> None:
        """Show a sentence once, however often a key is pressed."""
        if sentence not in self._told:
            self._told.add(sentence)
            self.server.window_show_message(
                types.ShowMessageParams(type=types.MessageType.Error, message=sentence)
            )

    # -- diagnostics -----------------------------------------------------------------------------

    def publish(self, uri: str) -> None:
        """Send what is found in a page to the editor."""
        page = self.page(uri)
        found = self.findings(page)
        for number, part in page.parts.items():
            diagnostics = [
                types.Diagnostic(
                    range=self._range(part, finding),
                    message=finding.sentence,
                    severity=_SEVERITIES[RULES[finding.code].severity],
                    code=finding.code,
                    source="thinned",
                )
                for finding in found
                if finding.cell == number
            ]
            self._send(part.uri, part.version, diagnostics)

    def _send(self, uri: str, version: int | None, diagnostics: list[types.Diagnostic]) -> None:
        self.server.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(uri=uri, version=version, diagnostics=diagnostics)
        )

    def later(self, uri: str) -> None:
        """Publish when nothing is typed for a moment."""
        before = self._waiting.pop(uri, None)
        if before is not None:
            before.cancel()
        self._waiting[uri] = asyncio.get_running_loop().create_task(self._after_a_pause(uri))

    async def _after_a_pause(self, uri: str) -> None:
        await asyncio.sleep(_PAUSE)
        self._waiting.pop(uri, None)
        self.publish(uri)

    def close(self, uri: str, parts: Iterable[str]) -> None:
        """Forget a page, and take its diagnostics away."""
        waiting = self._waiting.pop(uri, None)
        if waiting is not None:
            waiting.cancel()
        self._found.pop(uri, None)
        for part in parts:
            self._send(part, None, [])

    # -- hovers and actions ----------------------------------------------------------------------

    def at(self, uri: str, wanted: types.Range) -> Iterator[tuple[_Page, Any, Finding]]:
        """The findings that touch a range of a text."""
        page = self.page(uri)
        for number, part in page.parts.items():
            if part.uri != uri:
                continue
            for finding in self.findings(page):
                if finding.cell == number and _touch(self._range(part, finding), wanted):
                    yield page, part, finding

    def hover(self, params: types.HoverParams) -> types.Hover | None:
        at = types.Range(params.position, params.position)
        found = list(self.at(params.text_document.uri, at))
        if not found:
            return None
        parts = [_explained(finding) for _, _, finding in found]
        _, part, first = found[0]
        content = types.MarkupContent(types.MarkupKind.Markdown, "\n\n---\n\n".join(parts))
        return types.Hover(content, self._range(part, first))

    def actions(self, params: types.CodeActionParams) -> list[types.CodeAction]:
        uri = params.text_document.uri
        only = params.context.only
        found: list[types.CodeAction] = []
        if _asked(types.CodeActionKind.QuickFix, only):
            for page, part, finding in self.at(uri, params.range):
                if finding.edits:
                    found.append(self._mend(page, [finding], f"Mend {finding.code}", True))
                silence = self._silence(page, part, finding)
                if silence is not None:
                    found.append(silence)
        if _asked(_FIX_ALL, only):
            page = self.page(uri)
            mendable = [finding for finding in self.findings(page) if finding.edits]
            if mendable:
                action = self._mend(page, mendable, "Mend all that thinned is sure of", False)
                action.kind = _FIX_ALL
                found.append(action)
        return found

    def _mend(
        self, page: _Page, findings: list[Finding], title: str, is_preferred: bool
    ) -> types.CodeAction:
        edits: dict[str, list[types.TextEdit]] = {}
        for edit in sorted({edit for finding in findings for edit in finding.edits}):
            part = page.parts[edit.cell]
            edits.setdefault(part.uri, []).append(
                types.TextEdit(self._range(part, edit), edit.text)
            )
        return types.CodeAction(
            title=title,
            kind=types.CodeActionKind.QuickFix,
            is_preferred=is_preferred,
            edit=types.WorkspaceEdit(changes=edits),
        )

    def _silence(self, page: _Page, part: Any, finding: Finding) -> types.CodeAction | None:
        """A comment at the end of the finding's last line, or the code in the one that is there;
        None where a line cannot take one."""
        lines = part.lines
        text = lines[finding.end_line - 1].rstrip("\r\n") if finding.end_line <= len(lines) else ""
        there = list(_NOQA.finditer(text))
        if there:
            column, new = there[-1].end() + 1, f", {finding.code}"
        else:
            column, new = len(text) + 1, f"  # noqa: {finding.code}"
        edit = Edit(finding.cell, finding.end_line, column, column, new)
        before, after = lines[: finding.end_line - 1], lines[finding.end_line :]
        changed = text[: column - 1] + new + text[column - 1 :]
        silenced = "".join([*before, changed, "\n", *after])
        texts = {n: one.source for n, one in page.parts.items()} | {finding.cell: silenced}
        document: Document = Cells(texts.items())
        if finding.cell == 0:
            document = Script(_without_cookie(silenced).encode("utf-8", "replace"))
        place = (finding.cell, finding.line, finding.column, finding.code)
        left = audit_document(document, page.path, package_of(page.path), tuple(RULES))
        if any((f.cell, f.line, f.column, f.code) == place or f.code == "THN000" for f in left):
            return None
        return types.CodeAction(
            title=f"Silence {finding.code} on this line",
            kind=types.CodeActionKind.QuickFix,
            edit=types.WorkspaceEdit(
                changes={part.uri: [types.TextEdit(self._range(part, edit), new)]}
            ),
        )

    def _range(self, part: Any, at: Finding | Edit) -> types.Range:
        """A range as the editor counts: lines from 0, characters in units of its encoding."""
        last = at.end_line if isinstance(at, Finding) else at.line
        whole = types.Range(
            types.Position(at.line - 1, at.column - 1), types.Position(last - 1, at.end_column - 1)
        )
        codec = self.server.workspace.position_codec
        counted: types.Range = codec.range_to_client_units(part.lines, whole)
        return counted


def _findings(document: Document, path: str, settings: Settings) -> list[Finding]:
    codes = tuple(chosen(settings))
    return reported(audit_document(document, path, package_of(path), codes), settings)


def _path(uri: str) -> str:
    """The file of a text; a name for one that is in no file yet."""
    return to_fs_path(uri) or "untitled.py"


def _without_cookie(text: str) -> str:
    """A text that is parsed as it stands: what it says of its encoding is true of the file only."""
    return _COOKIE.sub(r"\1c0ding", text)


def _touch(one: types.Range, other: types.Range) -> bool:
    def order(at: types.Position) -> tuple[int, int]:
        return at.line, at.character

    return order(one.start) <= order(other.end) and order(other.start) <= order(one.end)


def _asked(kind: str, only: Iterable[str] | None) -> bool:
    """Whether an editor requests actions of a kind: it names kinds, or how they begin."""
    return only is None or any(f"{kind}.".startswith(f"{one}.") for one in only)


def _explained(finding: Finding) -> str:
    rule = RULES[finding.code]
    return (
        f"**{finding.code}** {finding.sentence}\n\n{rule.why}\n\n**Mend:** {rule.mend}\n\n"
        f"```python\n{rule.right}\n```"
    )


def make_server() -> LanguageServer:
    """Return the server, for its `start_io()`."""
    cells = [types.NotebookCellLanguage(language="python")]
    books = types.NotebookDocumentFilterWithNotebook(notebook="jupyter-notebook", cells=cells)
    server = LanguageServer(
        "thinned",
        __version__,
        notebook_document_sync=types.NotebookDocumentSyncOptions(notebook_selector=[books]),
    )
    audit = _Audit(server)

    def opened(params: types.DidOpenTextDocumentParams) -> None:
        audit.publish(params.text_document.uri)

    async def changed(params: types.DidChangeTextDocumentParams) -> None:
        audit.later(params.text_document.uri)

    def closed(params: types.DidCloseTextDocumentParams) -> None:
        audit.close(params.text_document.uri, [params.text_document.uri])

    def book_opened(params: types.DidOpenNotebookDocumentParams) -> None:
        audit.publish(params.notebook_document.uri)

    async def book_changed(params: types.DidChangeNotebookDocumentParams) -> None:
        structure = params.change.cells.structure if params.change.cells else None
        for gone in (structure.did_close or ()) if structure else ():
            audit.close(gone.uri, [gone.uri])
        audit.later(params.notebook_document.uri)

    def book_closed(params: types.DidCloseNotebookDocumentParams) -> None:
        audit.close(params.notebook_document.uri, [c.uri for c in params.cell_text_documents])

    def saved(params: types.DidSaveTextDocumentParams) -> None:
        audit.publish(params.text_document.uri)

    def hovered(params: types.HoverParams) -> types.Hover | None:
        return audit.hover(params)

    def acted(params: types.CodeActionParams) -> list[types.CodeAction]:
        return audit.actions(params)

    handlers: dict[str, Callable[..., Any]] = {
        types.TEXT_DOCUMENT_DID_OPEN: opened,
        types.TEXT_DOCUMENT_DID_CHANGE: changed,
        types.TEXT_DOCUMENT_DID_SAVE: saved,
        types.TEXT_DOCUMENT_DID_CLOSE: closed,
        types.NOTEBOOK_DOCUMENT_DID_OPEN: book_opened,
        types.NOTEBOOK_DOCUMENT_DID_CHANGE: book_changed,
        types.NOTEBOOK_DOCUMENT_DID_CLOSE: book_closed,
        types.TEXT_DOCUMENT_HOVER: hovered,
    }
    for name, handler in handlers.items():
        server.feature(name)(handler)
    kinds = [types.CodeActionKind.QuickFix, _FIX_ALL]
    options = types.CodeActionOptions(code_action_kinds=kinds)
    server.feature(types.TEXT_DOCUMENT_CODE_ACTION, options)(acted)
    return server
