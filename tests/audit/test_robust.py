"""Odd files: nothing that is read can run, hang or end the audit."""

import os
import sys
import threading

import pytest

from tests.audit.corpus import pairs
from thinned.audit import audit, audit_file, audit_source, reading, running
from thinned.audit.settings import Settings

BEFORE = b"import torch.nn.functional as F\n"
WRONG = BEFORE + b"def f(x):\n    return F.dropout(x, 0.5)\n"


def codes(data):
    return [f.code for f in audit_source(data, "a.py")]


DEEP = {
    "brackets": b"x = " + b"[" * 5000 + b"]" * 5000,
    "minus signs": b"x = " + b"-" * 100_000 + b"1",
    "nots": b"x = " + b"not " * 50_000 + b"y",
    "a long sum": b"x = " + b"1 + " * 50_000 + b"1",
    "a long chain of dots": b"x = a" + b".b" * 50_000,
    "a long chain of calls": b"x = a" + b"()" * 20_000,
    "a long elif": b"if a:\n    pass\n" + b"elif a:\n    pass\n" * 20_000,
    "nested functions": b"".join(b" " * i + b"def f():\n" for i in range(99)) + b" " * 99 + b"pass",
    "nested lambdas": b"x = " + b"lambda: " * 20_000 + b"0",
    "a long comparison": b"x = " + b"a < " * 50_000 + b"a",
    "a long string of ifs": b"x = " + b"a if b else " * 20_000 + b"a",
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_is_passed_over_or_read(name):
    found = codes(WRONG + DEEP[name] + b"\n")
    assert found in (["THN000"], ["THN001"])


UNPARSED = {
    "a null byte": WRONG + b"\0\n",
    "no Python": b"import torch\nif dropout then\n",
    "Python 2": b"import torch\nprint 'dropout'\n",
    "binary": b"torch dropout" + bytes(range(256)) * 8,
    "an unknown coding": b"# -*- coding: klingon -*-\nimport torch; dropout = 1\n",
    "not in its coding": b"# -*- coding: ascii -*-\nimport torch; dropout = '\xff'\n",
    "a number of too many digits": b"import torch\ndropout = " + b"9" * 10_000 + b"\n",
    "half a string": b"import torch\nx = 'dropout\n",
    "a wrong indent": b"import torch\n  dropout = 1\n",
}


@pytest.mark.parametrize("name", UNPARSED)
def test_what_does_not_parse_is_one_finding(name, tmp_path):
    (tmp_path / "odd.py").write_bytes(UNPARSED[name])
    (tmp_path / "wrong.py").write_bytes(WRONG)
    report = audit([str(tmp_path)])
    assert [f.code for f in report.findings] == ["THN000", "THN001"]
    assert report.findings[0].line >= 1
    assert "\n" not in report.findings[0].sentence


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + WRONG,
        WRONG.replace(b"\n", b"\r\n"),
        WRONG.replace(b"\n", b"\r"),
        b"# -*- coding: latin-1 -*-\n# \xe9\n" + WRONG,
        WRONG.rstrip(),
        WRONG + b"x = '\\d'  # an escape that Python warns of\nassert (1, 'always true')\n",
        WRONG + b"\x0c\nx = 1 if 1 is 1 else 2\n",
    ],
)
def test_codings_and_line_ends(data):
    (found,) = audit_source(data, "a.py")
    assert found.code == "THN001"
    assert found.text == "return F.dropout(x, 0.5)"


def test_columns_count_characters():
    data = BEFORE + "def f(é):\n    return 'äö' + F.dropout(é, 0.5) + 'ü'\n".encode()
    (found,) = audit_source(data, "a.py")
    line = data.decode().splitlines()[found.line - 1]
    assert line[found.column - 1 : found.end_column - 1] == "F.dropout(é, 0.5)"


def test_a_file_that_would_act_is_only_read(tmp_path):
    flag = tmp_path / "acted"
    text = f"""
import os, sys, torch
open({str(flag)!r}, "w").close()
__import__("os").mkdir({str(flag) + "2"!r})
sys.exit(7)
class Meta(type):
    def __init__(cls, *a): open({str(flag)!r}, "w").close()
class Net(torch.nn.Module, metaclass=Meta): ...
x = torch.nn.functional.dropout(torch.ones(2), p=[open({str(flag)!r}, "w"), 0.5][1])
"""
    (tmp_path / "acts.py").write_text(text)
    (tmp_path / "conftest.py").write_text(text)
    (tmp_path / "sitecustomize.py").write_text(text)
    before = set(sys.modules)
    assert audit([str(tmp_path)]).files == 3
    assert not flag.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "acts.py", "conftest.py", "sitecustomize.py",
    ]  # fmt: skip
    assert not {"acts", "torch_geometric", "keras"} & (set(sys.modules) - before)


def test_arithmetic_in_a_file_costs_nothing():
    data = BEFORE + b"def f(x):\n    return F.dropout(x, 9**9**9**9, 1)\nBIG = 2 ** 10**9 * 'a'\n"
    assert codes(data) == []


def test_an_alias_of_itself_ends():
    data = (
        BEFORE + b"a = b\nb = a\ndef f(x):\n    return a(x) + b.dropout(x)\nF = F\nF.dropout(1)\n"
    )
    assert codes(data) == []


def test_files_that_import_each_other_in_a_circle_end(tmp_path):
    (tmp_path / "__init__.py").write_text("from .a import drop\nfrom .b import other\n")
    (tmp_path / "a.py").write_text("import torch\nfrom .b import drop\nfrom . import other\n")
    (tmp_path / "b.py").write_text("import torch\nfrom .a import drop\nfrom . import other\n")
    user = "import torch\nfrom . import drop, other\ndef f(x):\n    return other(drop(x, 0.5))\n"
    (tmp_path / "dropout.py").write_text(user)
    assert audit([str(tmp_path)]).findings == ()


def test_a_class_that_is_its_own_base_ends():
    data = (
        b"import torch\nclass A(B): pass\nclass B(A):\n    def f(self): self.trainig\n# dropout\n"
    )
    assert codes(data) == []


def test_a_large_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST", 1000)
    (tmp_path / "large.py").write_bytes(WRONG + b"#" * 1000)
    found, lines = audit_file(str(tmp_path / "large.py"))
    assert [f.code for f in found] == ["THN000"]
    assert lines == 0


def test_links_in_a_circle_and_links_to_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/wrong.py").write_bytes(WRONG)
    (tmp_path / "a/back").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a/self.py").symlink_to(tmp_path / "a/self.py")
    (tmp_path / "a/gone.py").symlink_to(tmp_path / "nowhere.py")
    report = audit([str(tmp_path)])
    assert [f.code for f in report.findings] == ["THN001"]
    assert report.files == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(audit([str(tmp_path)])), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert [f.code for f in answers[0].findings] == ["THN000"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="this user may read every file"
)
def test_what_may_not_be_read_is_said(tmp_path):
    (tmp_path / "closed").mkdir()
    (tmp_path / "secret.py").write_bytes(WRONG)
    (tmp_path / "secret.py").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        report = audit([str(tmp_path)])
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert [f.code for f in report.findings] == ["THN000", "THN000"]


def test_an_error_of_the_system_is_a_finding(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_bytes(WRONG)
    (tmp_path / "b.py").write_bytes(WRONG)
    stat = os.stat

    def refuse(path, *more, **words):
        if str(path).endswith("a.py") and not words:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *more, **words)

    monkeypatch.setattr(reading.os, "stat", refuse)
    found, _ = audit_file(str(tmp_path / "a.py"))
    assert [(f.code, f.sentence) for f in found] == [
        ("THN000", "The file could not be read: Permission denied.")
    ]
    assert [f.code for f in audit_file(str(tmp_path / "b.py"))[0]] == ["THN001"]


def test_a_function_of_very_many_lines():
    body = b"".join(b"    x = x.relu() + %d\n" % i for i in range(40_000))
    (found,) = audit_source(BEFORE + b"def f(x):\n" + body + b"    return F.dropout(x)\n", "a.py")
    assert found.line == 40_003


def test_many_findings_in_one_file():
    data = BEFORE + b"def f(x):\n" + b"    x = F.dropout(x, 0.5)\n" * 3000
    assert len(codes(data)) == 3000


def test_snippets_cut_anywhere_do_not_end_it():
    for pair in pairs()[::7]:
        text = pair.wrong.encode()
        for end in range(0, len(text), 23):
            audit_source(text[:end], "a.py")


def test_the_text_before_parsing_is_no_narrower_than_the_rules(monkeypatch):
    """Every pair of the corpus is found with the pre-filter as without."""
    for pair in pairs():
        assert reading.may_matter(pair.wrong.encode()), pair.id
    assert not reading.may_matter(b"import torch\nx = torch.ones(3)\n")
    assert not reading.may_matter(b"dropout = 0.5\n")


def test_the_findings_do_not_depend_on_order_or_processes(tmp_path, monkeypatch):
    for i in range(40):
        (tmp_path / f"m{i}.py").write_bytes(pairs()[4 * i].wrong.encode())
    first = audit([str(tmp_path)])
    assert len(first.findings) >= 40
    assert first == audit([str(tmp_path)])
    assert first == audit([str(tmp_path)], jobs=2)
    walk = os.walk

    def backwards(top, **words):
        for folder, names, files in walk(top, **words):
            yield folder, names[::-1], files[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert first == audit([str(tmp_path)])
    assert list(first.findings) == sorted(first.findings)


def test_a_file_named_twice_is_read_once(tmp_path):
    (tmp_path / "wrong.py").write_bytes(WRONG)
    report = audit([str(tmp_path / "wrong.py"), str(tmp_path / "wrong.py"), str(tmp_path)])
    assert (report.files, len(report.findings)) == (1, 1)


def test_the_collector_is_as_it_was(tmp_path):
    import gc

    (tmp_path / "wrong.py").write_bytes(WRONG)
    for on in (True, False):
        (gc.enable if on else gc.disable)()
        try:
            running.audit([str(tmp_path)], Settings())
            assert gc.isenabled() is on
        finally:
            gc.enable()
