"""SECURITY.md: the package unpickles nothing, evaluates no text and opens no connection."""

import ast
from pathlib import Path

import pytest

import thinned

PACKAGE = Path(thinned.__file__).parent
# Modules that run what they load, or reach other machines and programs.
FORBIDDEN = {
    "asyncio", "cloudpickle", "dill", "ftplib", "http", "marshal", "requests", "shelve", "smtplib",
    "socket", "ssl", "subprocess", "urllib.request", "webbrowser", "xmlrpc",
}  # fmt: skip
# The language server waits for the editor, and for pauses in its typing, in a loop. `thinned fit
# FILE.py:FUNCTION` runs the file that its user names; no file that is loaded names one.
ALLOWED = {"audit/server.py": ["imports asyncio"], "fit/own.py": ["calls compile", "calls exec"]}
CALLS = {"eval", "exec", "compile", "__import__"}
LOADS = {
    ("pickle", "load"),
    ("pickle", "loads"),
    ("torch", "load"),
    ("os", "system"),
    ("os", "popen"),
}


def imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def dangers(source):
    for node in ast.walk(ast.parse(source)):
        for name in imported(node):
            if name in FORBIDDEN or name.partition(".")[0] in FORBIDDEN:
                yield f"imports {name}"
            if name.startswith("pickle."):
                yield f"imports {name}"
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in CALLS:
                yield f"calls {function.id}"
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                place = (function.value.id, function.attr)
                if place in LOADS:
                    yield f"calls {'.'.join(place)}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not refused(node.value):
            yield "passes allow_pickle"


def refused(value):
    """Whether a pickle is refused, in so many words: what may turn out true does not count."""
    return isinstance(value, ast.Constant) and value.value is False


def test_the_package_does_nothing_of_the_kind():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    found = {
        f.relative_to(PACKAGE).as_posix(): list(dangers(f.read_text(encoding="utf-8")))
        for f in files
    }
    assert {name: what for name, what in found.items() if what} == ALLOWED


@pytest.mark.parametrize("source", [
    "import socket",
    "from urllib.request import urlopen",
    "from urllib import request",
    "import http.client",
    "from pickle import loads",
    "import pickle\npickle.loads(b'')",
    "eval('1')",
    "def f():\n    exec(compile('', '', 'exec'))",
    "import numpy as np\nnp.load('x', allow_pickle=True)",
    "import numpy as np\nnp.load('x', allow_pickle=trusted)",
    "import numpy as np\nnp.load('x', allow_pickle=1)",
    "import torch\ntorch.load('x')",
])  # fmt: skip
def test_each_danger_would_be_seen(source):
    assert list(dangers(source))


def test_a_pickle_that_is_refused_is_no_danger():
    assert not list(dangers("import numpy as np\nnp.load('x', allow_pickle=False)"))
