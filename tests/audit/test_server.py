"""`thinned lsp`, talked to as an editor talks to it: another process, over its standard streams."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from lsprotocol import types
from pygls.lsp.client import LanguageClient

from thinned.audit import RULES
from thinned.cli.main import main

HEAD = "from torch import nn\nimport torch.nn.functional as F\n\n\n"
WRONG = HEAD + (
    "class Net(nn.Module):\n    def forward(self, x):\n        return F.dropout(x['😀'], 0.5)\n"
)
RIGHT = WRONG.replace("0.5)", "0.5, training=self.training)")
SERVE = "import sys; from thinned.cli.main import main; sys.exit(main(['lsp']))"
PYTHON = "python"


class Editor:
    """A client that keeps what it is told."""

    def __init__(self, client, root):
        self.client, self.root = client, root
        self.news = asyncio.Queue()
        self.shown = []

        def published(params):
            self.news.put_nowait(params)

        client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(published)
        client.feature(types.WINDOW_SHOW_MESSAGE)(lambda params: self.shown.append(params.message))

    def uri(self, name):
        return (self.root / name).as_uri()

    def open(self, name, text):
        item = types.TextDocumentItem(self.uri(name), PYTHON, 1, text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def change(self, name, version, text):
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                types.VersionedTextDocumentIdentifier(version, self.uri(name)),
                [types.TextDocumentContentChangeWholeDocument(text)],
            )
        )

    async def told(self):
        return await asyncio.wait_for(self.news.get(), 60)

    async def codes(self):
        """What comes next: the name of the file or cell, and codes."""
        news = await self.told()
        return news.uri.rpartition("/")[2], [d.code for d in news.diagnostics]

    async def actions(self, uri, line, only=None):
        at = types.Position(line, 20)
        params = types.CodeActionParams(
            types.TextDocumentIdentifier(uri),
            types.Range(at, at),
            types.CodeActionContext(diagnostics=[], only=only),
        )
        return await self.client.text_document_code_action_async(params) or []

    async def hover(self, uri, line, character=20):
        params = types.HoverParams(
            types.TextDocumentIdentifier(uri), types.Position(line, character)
        )
        return await self.client.text_document_hover_async(params)


@asynccontextmanager
async def editor(root, encodings=None):
    client = LanguageClient("test", "1")
    made = Editor(client, root)
    await client.start_io(sys.executable, "-c", SERVE)
    try:
        general = types.GeneralClientCapabilities(position_encodings=encodings)
        made.server = await client.initialize_async(
            types.InitializeParams(
                capabilities=types.ClientCapabilities(general=general),
                process_id=os.getpid(),
                root_uri=root.as_uri(),
            )
        )
        client.initialized(types.InitializedParams())
        yield made
    finally:
        await asyncio.wait_for(client.shutdown_async(None), 60)
        client.exit(None)
        await asyncio.wait_for(client.stop(), 60)


def talk(conversation, root, **more):
    async def whole():
        async with editor(root, **more) as one:
            return await asyncio.wait_for(conversation(one), 100)

    return asyncio.run(whole())


def applied(text, edits):
    """What an editor makes of edits, which count in UTF-16."""
    lines = text.splitlines(keepends=True)
    for edit in sorted(edits, key=lambda e: (e.range.start.line, e.range.start.character))[::-1]:
        start, end = edit.range.start, edit.range.end
        assert start.line == end.line
        line = lines[start.line].encode("utf-16-le")
        new = line[: 2 * start.character] + edit.new_text.encode("utf-16-le")
        lines[start.line] = (new + line[2 * end.character :]).decode("utf-16-le")
    return "".join(lines)


def test_a_whole_conversation(tmp_path):
    async def conversation(at):
        at.open("net.py", WRONG)
        news = await at.told()
        (one,) = news.diagnostics
        assert (one.code, one.source, news.version) == ("THN001", "thinned", 1)
        assert one.severity == types.DiagnosticSeverity.Error
        # The smiley is two units of UTF-16.
        assert (one.range.start.line, one.range.start.character) == (6, 15)
        assert one.range.end.character == 38

        rule = RULES["THN001"]
        said = (await at.hover(at.uri("net.py"), 6)).contents.value
        assert rule.why in said
        assert rule.mend in said
        assert await at.hover(at.uri("net.py"), 0) is None
        assert await at.hover(at.uri("net.py"), 6, 3) is None

        mend, silence, whole = await at.actions(at.uri("net.py"), 6)
        assert (mend.title, mend.is_preferred, mend.kind) == ("Mend THN001", True, "quickfix")
        assert applied(WRONG, mend.edit.changes[at.uri("net.py")]) == RIGHT
        silenced = applied(WRONG, silence.edit.changes[at.uri("net.py")])
        assert silenced == WRONG.replace("0.5)", "0.5)  # noqa: THN001")
        assert whole.kind == "source.fixAll.thinned"
        assert applied(WRONG, whole.edit.changes[at.uri("net.py")]) == RIGHT
        (only,) = await at.actions(at.uri("net.py"), 0, only=["source.fixAll"])
        assert only.edit == whole.edit
        assert await at.actions(at.uri("net.py"), 6, only=["refactor"]) == []

        # Typing: what is published is the last text's.
        for version, text in enumerate(["x", WRONG + "?", WRONG * 2, RIGHT], start=2):
            at.change("net.py", version, text)
        news = await at.told()
        assert (news.version, list(news.diagnostics)) == (5, [])
        at.change("net.py", 6, RIGHT + "def f(:\n")
        assert await at.codes() == ("net.py", ["THN000"])
        at.change("net.py", 7, WRONG)
        # What is asked for before the pause is over is answered of this text.
        assert len(await at.actions(at.uri("net.py"), 6)) == 3
        assert await at.codes() == ("net.py", ["THN001"])
        at.client.text_document_did_close(
            types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(at.uri("net.py")))
        )
        assert await at.codes() == ("net.py", [])

    talk(conversation, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_each_rule_has_its_own_severity(tmp_path):
    """An error, a warning and a note arrive as such, and no other is among them."""
    text = HEAD + (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.rnn = nn.LSTM(8, 8, dropout=0.5)\n        self.drop = nn.Dropout(0.1)\n\n"
        "    def forward(self, x):\n        return F.dropout(self.rnn(x)[0], 0.2)\n"
    )

    async def conversation(one):
        one.open("net.py", text)
        return {d.code: d.severity for d in (await one.told()).diagnostics}

    assert talk(conversation, tmp_path) == {
        "THN001": types.DiagnosticSeverity.Error,
        "THN021": types.DiagnosticSeverity.Information,
        "THN026": types.DiagnosticSeverity.Warning,
    }


def test_another_encoding_of_positions(tmp_path):
    async def conversation(at):
        at.open("net.py", WRONG)
        (one,) = (await at.told()).diagnostics
        assert one.range.end.character == 37

    talk(conversation, tmp_path, encodings=[types.PositionEncodingKind.Utf32])


def test_settings_and_suppressions(tmp_path):
    settings = tmp_path / "pyproject.toml"
    settings.write_text('[tool.thinned.audit]\nexclude = ["old"]\nper-file-ignores.a = ["THN0"]\n')

    async def conversation(at):
        for name in ("old/net.py", "a/net.py", "net.py"):
            at.open(name, WRONG)
            assert await at.codes() == ("net.py", ["THN001"] if name == "net.py" else [])
        # A comment that is there is made longer; a line that can take none is left.
        at.open("b.py", WRONG.replace("0.5)", "0.5)  # noqa: E501"))
        assert await at.codes() == ("b.py", ["THN001"])
        _, silence, _ = await at.actions(at.uri("b.py"), 6)
        (edit,) = silence.edit.changes[at.uri("b.py")]
        assert edit.new_text == ", THN001"
        text = HEAD + "def f(x):\n    return F.dropout(x, 0.5) + len('''\na''')\n"
        at.open("c.py", text)
        assert await at.codes() == ("c.py", ["THN001"])
        assert await at.actions(at.uri("c.py"), 5) == []
        at.open("d.py", "# -*- coding: latin-1 -*-\n# é\n" + WRONG)
        assert await at.codes() == ("d.py", ["THN001"])
        settings.write_text("[tool.thinned.audit]\nselct = []\n")
        for version in (2, 3):
            at.change("net.py", version, WRONG * version)
            assert await at.codes() == ("net.py", [])
        assert len(at.shown) == 1
        assert '"selct"' in at.shown[0]

    talk(conversation, tmp_path)


def test_a_text_that_is_in_no_file(tmp_path):
    async def conversation(at):
        item = types.TextDocumentItem("untitled:Untitled-1", PYTHON, 1, WRONG)
        at.client.text_document_did_open(types.DidOpenTextDocumentParams(item))
        assert (await at.codes())[1] == ["THN001"]
        assert len(await at.actions("untitled:Untitled-1", 6)) == 3

    talk(conversation, tmp_path)


def test_the_cells_of_a_notebook(tmp_path):
    async def conversation(at):
        book = at.uri("a.ipynb")
        texts = {"one": HEAD.strip(), "words": "# A title", "two": WRONG[len(HEAD) :]}
        kinds = types.NotebookCellKind
        cells = [
            types.NotebookCell(kinds.Markup if name == "words" else kinds.Code, f"cell:/{name}")
            for name in texts
        ]
        items = [
            types.TextDocumentItem(
                f"cell:/{name}", "markdown" if name == "words" else PYTHON, 1, text
            )
            for name, text in texts.items()
        ]
        at.client.notebook_document_did_open(
            types.DidOpenNotebookDocumentParams(
                types.NotebookDocument(book, "jupyter-notebook", 1, cells), items
            )
        )
        assert await at.codes() == ("one", [])
        news = await at.told()
        assert news.uri == "cell:/two"
        assert [(d.code, d.range.start.line) for d in news.diagnostics] == [("THN001", 2)]
        assert RULES["THN001"].why in (await at.hover("cell:/two", 2)).contents.value
        mend, silence, _ = await at.actions("cell:/two", 2)
        mended = applied(texts["two"], mend.edit.changes["cell:/two"])
        assert mended == RIGHT[len(HEAD) :]
        assert list(silence.edit.changes) == ["cell:/two"]

        def change(version, **what):
            at.client.notebook_document_did_change(
                types.DidChangeNotebookDocumentParams(
                    types.VersionedNotebookDocumentIdentifier(version, book),
                    types.NotebookDocumentChangeEvent(
                        cells=types.NotebookDocumentCellChanges(**what)
                    ),
                )
            )

        text = types.NotebookDocumentCellContentChanges(
            types.VersionedTextDocumentIdentifier(2, "cell:/two"),
            [types.TextDocumentContentChangeWholeDocument(mended)],
        )
        change(2, text_content=[text])
        assert await at.codes() == ("one", [])
        assert await at.codes() == ("two", [])
        gone = types.NotebookCellArrayChange(start=0, delete_count=1, cells=[])
        change(
            3,
            structure=types.NotebookDocumentCellChangeStructure(
                gone, did_close=[types.TextDocumentIdentifier("cell:/one")]
            ),
        )
        assert await at.codes() == ("one", [])
        assert await at.codes() == ("two", [])
        at.client.notebook_document_did_close(
            types.DidCloseNotebookDocumentParams(
                types.NotebookDocumentIdentifier(book),
                [types.TextDocumentIdentifier("cell:/two")],
            )
        )
        assert await at.codes() == ("two", [])

    talk(conversation, tmp_path)


def test_without_the_extra_the_command_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pygls.lsp.server", None)
    monkeypatch.delitem(sys.modules, "thinned.audit.server", raising=False)
    assert main(["lsp"]) == 2
    assert 'comes with "thinned[lsp]"' in capsys.readouterr().err


def test_the_extra_holds_what_is_imported():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '\nlsp = ["pygls' in text
