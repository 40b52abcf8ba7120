"""Notebooks: cells joined, IPython's own skipped, findings by cell, edits that keep the rest."""

import json
import re

import pytest

from thinned.audit import audit, audit_source
from thinned.audit.magics import without_magics
from thinned.audit.mending import mended
from thinned.audit.notebook import Notebook
from thinned.cli.main import main


def cell(text, kind="code", **more):
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    return {"cell_type": kind, "metadata": {}, "source": lines, **more}


def notebook(*cells, indent=1, **more):
    made = {"cells": [c if isinstance(c, dict) else cell(c) for c in cells], **more}
    return (json.dumps(made, indent=indent, ensure_ascii=False) + "\n").encode()


IMPORTS = "import torch\nfrom torch import nn\nimport torch.nn.functional as F"
NET = "class Net(nn.Module):\n    def forward(self, x):\n        return F.dropout(x, 0.5)\n"
WHOLE = notebook(cell("# A title", "markdown"), IMPORTS, "x = 1\n", NET, "net = Net()")


def found(data, path="a.ipynb"):
    return [(f.code, f.cell, f.line, f.column) for f in audit_source(data, path)]


def test_a_finding_is_named_by_its_cell():
    (one,) = audit_source(WHOLE, "a.ipynb")
    assert (one.code, one.cell, one.line, one.column) == ("THN001", 4, 3, 16)
    assert one.text == "return F.dropout(x, 0.5)"
    assert b"return F.dropout(x, 0.5)" in WHOLE.splitlines()[one.file_line - 1]
    assert one.place == "a.ipynb:cell 4:3:16"
    assert one.as_dict()["cell"] == 4


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_the_layout_of_the_json_does_not_matter(indent):
    data = notebook(IMPORTS, NET, indent=indent)
    assert found(data) == [("THN001", 2, 3, 16)]
    one = notebook({"cell_type": "code", "source": IMPORTS}, {"cell_type": "code", "source": NET})
    assert found(one) == [("THN001", 2, 3, 16)]
    assert found(b"\xef\xbb\xbf" + data) == found(data)


def test_version_3_of_the_format():
    cells = [
        {"cell_type": "code", "input": [text], "language": "python"} for text in (IMPORTS, NET)
    ]
    data = json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}).encode()
    assert found(data) == [("THN001", 2, 3, 16)]


MAGICS = {
    "%matplotlib inline\nx = 1": "pass\nx = 1",
    "!pip install torch": "pass",
    "if x:\n    !ls -l \\\n      -a\ny = 2": "if x:\n    pass\n\ny = 2",
    "files = !ls *.py": "files = get_ipython()",
    "t = %timeit -o f(x)": "t = get_ipython()",
    "nn.Dropout?": "pass",
    "?nn.Dropout": "pass",
    "nn.Dropout??\n": "pass\n",
    "%%time\nx = f(y)\n": "\nx = f(y)\n",
    "\n%%capture out\n!ls\nx = 1": "\n\npass\nx = 1",
    "%%bash\necho it's\nls": "\n\n",
    "%%writefile net.py\nimport torch": "\n",
    # Python that only looks like it.
    "x = (a\n% b)\n": "x = (a\n% b)\n",
    'text = """\n%time\n!ls\nwhat?\n"""\n': 'text = """\n%time\n!ls\nwhat?\n"""\n',
    "x = a \\\n    % b": "x = a \\\n    % b",
    "x = 'it' # ' (\n%time f()": "x = 'it' # ' (\npass",
    "print('50%' % x)\nx != y\nf(x)[0] %= 3": "print('50%' % x)\nx != y\nf(x)[0] %= 3",
    "x = a % b": "x = a % b",
    "x %= b\nx = y == z\n": "x %= b\nx = y == z\n",
    "x\x0c = 1\n%time": "x\x0c = 1\npass",
    "a\r\n%time\r\nb": "a\r\npass\r\nb",
    'f"""{x}\n"""\n!ls': 'f"""{x}\n"""\npass',
    "": "",
}


@pytest.mark.parametrize("text", MAGICS)
def test_magics(text):
    assert without_magics(text) == MAGICS[text]


def test_magics_move_no_line_and_hide_no_finding():
    data = notebook(
        "!pip install -q torch\n%load_ext autoreload\n" + IMPORTS,
        "%%html\n<b>it's</b>",
        "%%time\n" + NET,
        "Net?",
    )
    assert found(data) == [("THN001", 3, 4, 16)]


def test_a_cell_that_does_not_parse_is_named_and_the_others_are_read():
    data = notebook(IMPORTS, "x = 1\nprint 'dropout'\n", NET)
    assert found(data) == [("THN000", 2, 2, 1), ("THN001", 3, 3, 16)]
    (first, _) = audit_source(data, "a.ipynb")
    assert first.sentence.startswith("The cell does not parse")


def test_suppressions():
    silent = NET.replace("0.5)", "0.5)  # noqa: THN001")
    assert found(notebook(IMPORTS, silent, NET)) == [("THN001", 3, 3, 16)]


@pytest.mark.parametrize(
    "data",
    [
        notebook(IMPORTS, NET, metadata={"kernelspec": {"language": "julia"}}),
        notebook(IMPORTS, NET, metadata={"language_info": {"name": "R"}}),
        notebook(IMPORTS, cell(NET, metadata={"vscode": {"languageId": "sql"}})),
        notebook(IMPORTS, cell(NET, "markdown"), cell(NET, "raw")),
        notebook(),
    ],
)
def test_what_is_not_python_is_not_read(data):
    assert found(data) == []


@pytest.mark.parametrize("name", ["python", "ipython", "Python3", "python3.11"])
def test_kernels_of_python(name):
    data = notebook(IMPORTS, NET, metadata={"language_info": {"name": name}})
    assert found(data) == [("THN001", 2, 3, 16)]


BROKEN = {
    "no JSON": b'{"cells": [torch dropout',
    "no object": b'["torch", "dropout"]',
    "not UTF-8": b'{"cells": "torch dropout \xff"}',
    "deep": b'{"torch dropout": ' + b"[" * 50_000,
    "an endless number": b'{"torch dropout": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_notebook_is_one_finding(name, tmp_path):
    (tmp_path / "a.ipynb").write_bytes(BROKEN[name])
    assert [f.code for f in audit([str(tmp_path)]).findings] == ["THN000"]


ODD = [
    b'{"cells": {"torch": "dropout"}}',
    b'{"cells": [1, "dropout torch", null, [], {}]}',
    b'{"cells": [{"cell_type": "code", "source": {"torch": "dropout"}}]}',
    b'{"cells": [{"cell_type": "code", "source": ["torch dropout = 1", 3, null]}]}',
    b'{"cells": [{"cell_type": "code"}], "torch": "dropout"}',
    b'{"metadata": 3, "worksheets": 4, "torch": "dropout"}',
    b'{"cells": [], "cells": [{"cell_type": "code", "source": "x = 1"}], "torch": "dropout"}',
    b'{"cells": [{"cell_type": "code", "source": "torch = \'\\ud800 dropout\'"}]}',
]


@pytest.mark.parametrize("data", ODD)
def test_odd_notebooks_end_nothing(data):
    assert {code for code, *_ in found(data)} <= {"THN000"}


def test_an_edit_keeps_every_other_byte():
    text = NET.replace("(x, 0.5)", '(x["\\t\\u00e9 é 😀"], 0.5)')
    raw = notebook(IMPORTS, text, outputs=[{"text": "Ω \\u0041"}], indent=2)
    raw = raw.replace("é 😀".encode(), rb"\u00e9 \ud83d\ude00").replace(b": [", b" :  [")
    raw = b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n")
    new, count = mended(raw, "a.ipynb", audit_source(raw, "a.ipynb"))
    assert count == 1
    assert new == raw.replace(b", 0.5)", b", 0.5, training=self.training)")
    assert found(new) == []


def test_an_edit_reaches_a_source_that_is_one_string():
    raw = json.dumps({"cells": [{"cell_type": "code", "source": f"{IMPORTS}\n{NET}"}]}).encode()
    new, count = mended(raw, "a.ipynb", audit_source(raw, "a.ipynb"))
    assert count == 1
    assert new == raw.replace(b", 0.5)", b", 0.5, training=self.training)")


def test_places_of_every_line():
    book = Notebook(notebook("a = 1\n\nb = 2\n", cell("x", "markdown"), "c = 3", "", "d = 4\n"))
    places = {text: book.place(i + 1)[:2] for i, text in enumerate(book.lines) if text}
    assert places == {"a = 1": (1, 1), "b = 2": (1, 3), "c = 3": (3, 1), "d = 4": (5, 1)}


def test_the_formats(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.ipynb").write_bytes(WHOLE)
    (line,) = (i for i, text in enumerate(WHOLE.splitlines(), 1) if b"F.dropout" in text)
    assert main(["audit", "."]) == 1
    assert capsys.readouterr().out.startswith("./a.ipynb:cell 4:3:16 THN001 ")
    main(["audit", "a.ipynb", "--github"])
    assert capsys.readouterr().out.startswith(f"::error file=a.ipynb,line={line},title=THN001 ")
    main(["audit", "a.ipynb", "--sarif"])
    (result,) = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": line}
    assert result["message"]["text"].startswith("Cell 4, line 3: ")
