"""The file of known findings: what stays known, what is new."""

import json

import pytest

from thinned.cli.main import main

WRONG = "import torch.nn.functional as F\n\n\ndef f(x):\n    return F.dropout(x, 0.5)\n"


@pytest.fixture
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    return write


def new(capsys, *arguments):
    code = main(["audit", *(arguments or (".",)), "--baseline", "use", "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert code == bool(findings)
    return [(f["path"], f["line"]) for f in findings]


def test_known_findings_are_left_out(at, capsys, tmp_path):
    at("src/a.py", WRONG)
    assert main(["audit", ".", "--baseline", "write"]) == 0
    assert "1 finding kept as known" in capsys.readouterr().out
    assert (tmp_path / "thinned-audit-baseline.json").is_file()
    assert new(capsys) == []
    assert main(["audit", ".", "--baseline", "use"]) == 0
    assert "1 known finding left out." in capsys.readouterr().out
    assert main(["audit", "."]) == 1


MOVED = {
    "lines before it": "'''A text.'''\nimport os\n\n\n\n" + WRONG,
    "another indent": WRONG.replace("    return", "    if x:\n        return"),
    "several lines": WRONG.replace("(x, 0.5)", "(\n        x,\n        0.5\n    )"),
    "white space": WRONG.replace("(x, 0.5)", "( x,  0.5 )  # half"),
    "carriage returns": WRONG.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("case", MOVED)
def test_code_that_moves_stays_known(case, at, capsys):
    at("a.py", WRONG)
    main(["audit", ".", "--baseline", "write"])
    capsys.readouterr()
    at("a.py", MOVED[case])
    assert new(capsys) == []


def test_one_more_of_the_same_is_new(at, capsys):
    at("a.py", WRONG)
    main(["audit", ".", "--baseline", "write"])
    capsys.readouterr()
    at("a.py", WRONG + "\n\ndef g(x):\n    return F.dropout(x, 0.5)\n")
    assert new(capsys) == [("./a.py", 9)]
    at("a.py", WRONG)
    at("b.py", WRONG)
    assert new(capsys) == [("./b.py", 5)]


def test_paths_count_from_the_baseline(at, capsys, tmp_path, monkeypatch):
    at("pyproject.toml", '[tool.thinned.audit]\nbaseline = "known/audit.json"\n')
    at("src/a.py", WRONG)
    (tmp_path / "known").mkdir()
    main(["audit", ".", "--baseline", "write"])
    capsys.readouterr()
    text = (tmp_path / "known/audit.json").read_text()
    assert json.loads(text)["findings"] == {"../src/a.py": {"THN001": {"F.dropout(x,0.5)": 1}}}
    monkeypatch.chdir(tmp_path / "src")
    assert new(capsys, "a.py") == []
    assert new(capsys, str(tmp_path / "src/a.py")) == []


def test_what_was_mended_is_said(at, capsys):
    at("a.py", WRONG)
    main(["audit", ".", "--baseline", "write"])
    at("a.py", WRONG.replace("0.5)", "0.5, training)").replace("f(x)", "f(x, training)"))
    capsys.readouterr()
    assert main(["audit", ".", "--baseline", "use"]) == 0
    assert "1 of the baseline were not found" in capsys.readouterr().out


def test_the_same_findings_make_the_same_file(at, capsys, tmp_path):
    at("b.py", WRONG)
    at("a.py", WRONG)
    main(["audit", "a.py", "b.py", "--baseline", "write"])
    file = tmp_path / "thinned-audit-baseline.json"
    first = file.read_bytes()
    main(["audit", "b.py", "a.py", "--baseline", "write"])
    assert file.read_bytes() == first
    main(["audit", "b.py", "a.py", "--baseline", "write", "--baseline-file", "other.json"])
    assert (tmp_path / "other.json").read_bytes() == first


REFUSED = {
    None: "does not exist: thinned audit --baseline write",
    "{": "is no JSON",
    "[" * 100_000: "is no JSON",
    "[]": "is no baseline",
    '{"version": 1}': "is no baseline",
    '{"version": 1, "findings": {"a.py": {"THN001": {"x": "many"}}}}': "is no baseline",
    '{"version": 7, "findings": {}}': "must be a baseline of version 1, but got 7",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_baseline_is_refused(text, at, capsys):
    at("a.py", WRONG)
    if text is not None:
        at("thinned-audit-baseline.json", text)
    assert main(["audit", "a.py", "--baseline", "use"]) == 2
    assert REFUSED[text] in capsys.readouterr().err


def test_a_baseline_is_not_written_while_mending(at, capsys):
    at("a.py", WRONG)
    assert main(["audit", "a.py", "--baseline", "write", "--fix"]) == 2
    assert "without --fix" in capsys.readouterr().err
