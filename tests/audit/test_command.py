"""`thinned audit` as it is typed: exit codes, what is printed, what silences it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from libraries import needs

from thinned.audit import RULES
from thinned.cli.main import main

WRONG = "import torch.nn.functional as F\n\n\ndef f(x):\n    return F.dropout(x, 0.5)\n"
RIGHT = WRONG.replace("0.5)", "0.5, training)").replace("f(x)", "f(x, training)")


@pytest.fixture
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name

    return write


def run(capsys, *arguments):
    code = main(["audit", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def found(capsys, *arguments):
    code, out, _ = run(capsys, *arguments, "--json")
    codes = [f["code"] for f in json.loads(out)["findings"]]
    assert code == (1 if codes else 0)
    return codes


def test_the_real_command_and_its_exit_codes(tmp_path):
    thinned = Path(sys.executable).with_name("thinned")
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "right.py").write_text(RIGHT)

    def code(*arguments):
        command = [str(thinned), "audit", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout

    assert code("right.py")[0] == 0
    status, out = code(".")
    assert status == 1
    assert out.startswith("./wrong.py:5:12 THN001 F.dropout is called without training=")
    assert "\x1b" not in out
    assert code("nowhere.py") == (2, "")


def test_text(at, capsys):
    at("net.py", WRONG)
    code, out, err = run(capsys, "net.py")
    assert (code, err) == (1, "")
    rule = RULES["THN001"]
    assert out == (
        "net.py:5:12 THN001 F.dropout is called without training=: it drops in evaluation too.\n"
        "    return F.dropout(x, 0.5)\n"
        f"    mend: {rule.mend}\n\n"
        f"Why it matters:\n  THN001 {rule.why}\n\n"
        "1 finding in 1 file (1 file, 5 lines read).\n"
    )


def test_text_when_clean(at, capsys):
    at("net.py", RIGHT)
    assert run(capsys, ".") == (0, "No findings (1 file, 5 lines read).\n", "")


def test_escape_sequences_of_a_file_do_not_reach_the_terminal(at, capsys):
    at("net.py", WRONG.replace("0.5)", "0.5)  # \x1b[31m\u202e"))
    assert run(capsys, "net.py")[1].splitlines()[1] == (
        r"    return F.dropout(x, 0.5)  # \x1b[31m\u202e"
    )


def test_json(at, capsys):
    at("net.py", WRONG)
    _, out, _ = run(capsys, "net.py", "--json")
    assert run(capsys, "net.py", "--format", "json")[1] == out
    whole = json.loads(out)
    assert (whole["files"], whole["lines"]) == (1, 5)
    (one,) = whole["findings"]
    rule = RULES["THN001"]
    assert one == {
        "path": "net.py", "line": 5, "column": 12, "end_line": 5, "end_column": 29,
        "code": "THN001", "name": rule.name, "why": rule.why, "mend": rule.mend,
        "sentence": "F.dropout is called without training=: it drops in evaluation too.",
        "text": "return F.dropout(x, 0.5)", "cell": None, "fixable": False,
    }  # fmt: skip


def test_sarif(at, capsys):
    at("a net/net.py", WRONG)
    code, out, _ = run(capsys, "a net", "--sarif")
    assert code == 1
    log = json.loads(out)
    # What the schema of SARIF 2.1.0 requires, and the values it allows.
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (one,) = log["runs"]
    driver = one["tool"]["driver"]
    assert driver["name"]
    assert [rule["id"] for rule in driver["rules"]] == sorted(RULES)
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    assert one["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
    (result,) = one["results"]
    assert result["message"]["text"]
    assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "THN001"
    (place,) = result["locations"]
    physical = place["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == "a%20net/net.py"
    assert physical["region"] == {"startLine": 5, "startColumn": 12, "endLine": 5, "endColumn": 29}


def test_sarif_when_clean_has_results_all_the_same(at, capsys):
    at("net.py", RIGHT)
    code, out, _ = run(capsys, "net.py", "--format", "sarif")
    assert code == 0
    assert json.loads(out)["runs"][0]["results"] == []


def test_github(at, capsys):
    at("a,b/100%.py", WRONG)
    code, out, _ = run(capsys, "a,b", "--github")
    assert code == 1
    first = out.splitlines()[0]
    place, _, message = first.removeprefix("::error ").partition("::")
    assert dict(pair.split("=", 1) for pair in place.split(",")) == {
        "file": "a%2Cb/100%25.py", "line": "5", "endLine": "5", "col": "12", "endColumn": "29",
        "title": "THN001 functional-dropout-without-training",
    }  # fmt: skip
    assert message.startswith("F.dropout is called without training=")


@pytest.mark.parametrize("code", sorted(RULES))
def test_every_rule_is_explained(code, capsys):
    status, out, _ = run(capsys, "--explain", code.lower())
    rule = RULES[code]
    assert status == 0
    for part in (rule.code, rule.name, rule.sentence, rule.why, rule.mend):
        assert part in out
    assert rule.wrong.splitlines()[0] in out
    assert rule.right.splitlines()[0] in out
    for words in (rule.sentence, rule.why, rule.mend):
        assert words.endswith(".")
    assert rule.wrong != rule.right
    assert rule.name == rule.name.lower()
    assert " " not in rule.name


def test_all_rules_are_listed(capsys):
    _, out, _ = run(capsys, "--explain", "all")
    assert [line.split()[0] for line in out.splitlines()] == sorted(RULES)


NOQA = {
    "# noqa": True,
    "# noqa: THN001": True,
    "#noqa:THN001": True,
    "# NOQA: thn001": True,
    "# noqa: E501, THN001": True,
    "# noqa: E501 THN001": True,
    "# fine  # noqa: THN001": True,
    "# noqa: THN001 because it is meant": True,
    "# noqa: THN002": False,
    "# noqa: THN0011": False,
    "# noqa: E501": False,
    "# noquarter": False,
    "": False,
}


@pytest.mark.parametrize("comment", NOQA)
def test_noqa(comment, at, capsys):
    at("net.py", WRONG.rstrip() + f"  {comment}\n")
    assert found(capsys, "net.py") == ([] if NOQA[comment] else ["THN001"])


def test_noqa_on_the_last_line_of_a_call_and_in_a_string(at, capsys):
    at("net.py", WRONG.replace("(x, 0.5)", "(\n        x,\n        0.5,\n    )  # noqa: THN001"))
    assert found(capsys, "net.py") == []
    at("net.py", WRONG.replace("x, 0.5)", "x['# noqa: THN001'], 0.5)"))
    assert found(capsys, "net.py") == ["THN001"]
    at("net.py", WRONG.replace("(x, 0.5)", "(  # noqa: THN001\n        x, 0.5\n    )"))
    assert found(capsys, "net.py") == []


TWO = WRONG + "\n\ndef g(x):\n    return F.dropout(x, 50, True)\n"


def test_select_and_ignore(at, capsys):
    at("net.py", TWO)
    assert found(capsys, ".") == ["THN001", "THN002", "THN006"]
    assert found(capsys, ".", "--select", "THN002") == ["THN002"]
    assert found(capsys, ".", "--select", "THN006,THN001") == ["THN001", "THN006"]
    assert found(capsys, ".", "--select", "THN02") == []
    assert found(capsys, ".", "--ignore", "THN001, THN002") == ["THN006"]
    assert found(capsys, ".", "--select", "THN00", "--ignore", "THN006") == ["THN001", "THN002"]


def test_pyproject(at, capsys):
    at(
        "pyproject.toml",
        '[tool.thinned.audit]\nignore = ["THN002"]\nexclude = ["old", "*_gen.py"]\n',
    )
    at("src/net.py", TWO)
    at("src/old/net.py", TWO)
    at("src/net_gen.py", TWO)
    assert found(capsys, "src") == ["THN001", "THN006"]
    # What is named is read, and the command line's word replaces the file's.
    assert found(capsys, "src/net_gen.py") == ["THN001", "THN006"]
    assert found(capsys, "src/net.py", "--ignore", "THN001") == ["THN002", "THN006"]
    assert len(found(capsys, "src", "--exclude", "src/old")) == 4


def test_the_nearest_section_counts(at, capsys):
    at("pyproject.toml", '[tool.thinned.audit]\nselect = ["THN006"]\n')
    at("inner/pyproject.toml", '[project]\nname = "inner"\n')
    at("inner/net.py", TWO)
    assert found(capsys, "inner") == ["THN006"]
    at("inner/pyproject.toml", '[tool.thinned.audit]\nselect = ["THN002"]\n')
    assert found(capsys, "inner/net.py") == ["THN002"]
    at("net.py", TWO)
    assert found(capsys, "inner", "net.py") == ["THN006", "THN006"]


REFUSED = {
    "a path that is not there": (["gone.py"], "", '"gone.py" does not exist'),
    "no path": ([], "", "PATH must be at least one"),
    "an unknown code": (["net.py", "--select", "ABC"], "", 'beginnings, got "ABC"'),
    "an unknown code to ignore": (["net.py", "--ignore", "THN9"], "", 'got "THN9"'),
    "no code": (["net.py", "--select", ","], "", "select must name at least one code"),
    "two formats": (["net.py", "--json", "--sarif"], "", "one format"),
    "an unknown format": (["net.py", "--format", "xml"], "", "xml"),
    "no such rule": (["--explain", "THN999"], "", 'code of a rule, got "THN999"'),
    "statistics in SARIF": (["net.py", "--statistics", "--sarif"], "", "must be text or JSON"),
    "files beside standard input": (
        ["net.py", "--stdin-filename", "a.py"],
        "",
        "PATH must be left",
    ),
    "no pair": (["net.py", "--per-file-ignores", "THN001"], "", "must be pairs such as"),
    "an unknown code of a file": (["net.py", "--per-file-ignores", "a:B1"], "", 'got "B1"'),
    "a list of ignores": (
        ["net.py"],
        "[tool.thinned.audit]\nper-file-ignores = []",
        "must be a table of patterns",
    ),
    "a number for a switch": (
        ["net.py"],
        "[tool.thinned.audit]\nforce-exclude = 1",
        "must be true or false",
    ),
    "no name of a file": (["net.py"], '[tool.thinned.audit]\nbaseline = ""', "the name of a file"),
    "no jobs": (["net.py", "--jobs", "0"], "", "jobs"),
    "broken TOML": (["net.py"], "[tool.thinned", "pyproject.toml"),
    "an integer of 5000 digits": (["net.py"], f"a = {'9' * 5000}", "pyproject.toml"),
    "TOML of lists in lists": (["net.py"], f"a = {'[' * 9999}", "pyproject.toml"),
    "an unknown key": (["net.py"], "[tool.thinned.audit]\nselct = []", 'got "selct"'),
    "a string for a list": (
        ["net.py"],
        '[tool.thinned.audit]\nselect = "THN001"',
        "list of strings",
    ),
    "no table": (["net.py"], "[tool.thinned]\naudit = 3", "must be a table, got int"),
    "an unknown code there": (["net.py"], '[tool.thinned.audit]\nignore = ["X1"]', 'got "X1"'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_says_why(case, at, capsys):
    arguments, settings, words = REFUSED[case]
    at("net.py", WRONG)
    if settings:
        at("pyproject.toml", settings)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_file_that_does_not_parse_is_a_finding(at, capsys):
    at("broken.py", "import torch\ndropout = (\n")
    at("net.py", RIGHT)
    assert found(capsys, ".") == ["THN000"]
    assert found(capsys, ".", "--ignore", "THN000") == []


def test_folders_that_are_passed_over(at, capsys):
    for folder in (".hidden", "build", "__pycache__", "env/lib", "node_modules/x"):
        at(f"{folder}/net.py", WRONG)
    at("env/pyvenv.cfg", "home = /usr/bin\n")
    at("net.pyi", WRONG)
    at("net.txt", WRONG)
    assert found(capsys, ".") == ["THN001"]
    assert found(capsys, "build", ".hidden", "net.txt") == ["THN001"] * 3


def test_excluded_files_that_are_named(at, capsys):
    """A hook names each file of a commit."""
    at("pyproject.toml", '[tool.thinned.audit]\nexclude = ["third_party", "old/*", "*_gen.py"]\n')
    for name in ("third_party/a/net.py", "old/b/net.py", "src/net_gen.py", "build/net.py"):
        at(name, WRONG)
        assert found(capsys, name) == ["THN001"]
        assert found(capsys, name, "--force-exclude") == []
    at("src/net.py", WRONG)
    at("env/pyvenv.cfg", "")
    at("env/net.py", WRONG)
    named = ["src/net.py", "third_party/a/net.py", "third_party", "env/net.py"]
    assert found(capsys, *named, "--force-exclude") == ["THN001"]
    assert found(capsys, ".", "--force-exclude") == ["THN001"]
    assert found(capsys, "src/net.py", "--force-exclude", "--exclude", "src") == []
    at("pyproject.toml", '[tool.thinned.audit]\nexclude = ["old"]\nforce-exclude = true\n')
    assert found(capsys, "old/b/net.py") == []


def test_per_file_ignores(at, capsys):
    at(
        "pyproject.toml",
        '[tool.thinned.audit.per-file-ignores]\n"examples/*" = ["THN001"]\n'
        '"*_old.py" = ["THN00"]\nnotes = ["THN001", "THN006"]\n',
    )
    for name in ("net.py", "examples/a/net.py", "net_old.py", "notes/deep/net.py"):
        at(name, TWO)
    assert found(capsys, "net.py") == ["THN001", "THN002", "THN006"]
    assert found(capsys, "examples") == ["THN002", "THN006"]
    assert found(capsys, "net_old.py") == []
    assert found(capsys, "notes/deep/net.py") == ["THN002"]
    assert len(found(capsys, ".")) == 6
    # The command line's word replaces the file's.
    ignores = "net.py:THN002, examples:THN00"
    assert found(capsys, "examples", "net.py", "--per-file-ignores", ignores) == [
        "THN001",
        "THN006",
    ]


def test_standard_input(at, capsys, monkeypatch):
    at("pyproject.toml", '[tool.thinned.audit]\nignore = ["THN006"]\nexclude = ["old"]\n')

    def piped(data, *arguments):
        text = io.TextIOWrapper(io.BytesIO(data.encode()), encoding="ascii")
        monkeypatch.setattr("sys.stdin", text)
        return run(capsys, *arguments)

    code, out, _ = piped(TWO, "--stdin-filename", "src/net.py", "--json")
    assert code == 1
    places = [(f["path"], f["code"], f["line"]) for f in json.loads(out)["findings"]]
    assert places == [("src/net.py", "THN001", 5), ("src/net.py", "THN002", 9)]
    assert piped(WRONG, "-")[1].startswith("-:5:12 THN001 ")
    assert piped(WRONG, "--stdin-filename", "net.py", "-")[1].startswith("net.py:5:12 THN001 ")
    assert piped(RIGHT, "-") == (0, "No findings (1 file, 5 lines read).\n", "")
    assert piped("", "-")[0] == 0
    assert piped(WRONG, "--stdin-filename", "old/net.py")[0] == 1
    assert piped(WRONG, "--stdin-filename", "old/net.py", "--force-exclude")[0] == 0
    net = (
        "import torch.nn.functional as F\nfrom torch import nn\nclass Net(nn.Module):\n"
        "    def forward(self, x):\n        return F.dropout(x, 0.5)\n"
    )
    mended = net.replace("0.5)", "0.5, training=self.training)")
    code, out, err = piped(net, "--stdin-filename", "net.py", "--fix")
    assert (code, out) == (0, mended)
    assert err.endswith("Mended 1 finding in 1 file.\n")
    assert piped(WRONG, "--stdin-filename", "net.py", "--fix")[:2] == (1, WRONG)
    book = json.dumps({"cells": [{"cell_type": "code", "source": net}]})
    assert piped(book, "--stdin-filename", "a.ipynb", "--fix")[1] == book.replace(
        "0.5)", "0.5, training=self.training)"
    )
    assert not os.path.exists("net.py")


def test_statistics(at, capsys):
    at("a.py", TWO)
    at("b.py", WRONG)
    code, out, _ = run(capsys, ".", "--statistics")
    assert code == 1
    assert out.splitlines() == [
        "2 THN001 functional-dropout-without-training",
        "1 THN002 functional-dropout-always-training",
        "1 THN006 probability-out-of-range",
        "4 findings in 2 files (2 files, 14 lines read).",
    ]
    rows = json.loads(run(capsys, ".", "--statistics", "--json")[1])["statistics"]
    assert [(row["code"], row["count"]) for row in rows] == [
        ("THN001", 2), ("THN002", 1), ("THN006", 1),
    ]  # fmt: skip
    at("a.py", RIGHT)
    at("b.py", RIGHT)
    assert run(capsys, ".", "--statistics")[:2] == (0, "No findings (2 files, 10 lines read).\n")


def test_jobs(at, capsys):
    for name in "abcd":
        at(f"{name}.py", TWO)
    assert run(capsys, ".", "--jobs", "2") == run(capsys, ".")


@needs("pre_commit")
def test_the_hook_runs_this_command():
    root = Path(__file__).parents[2]
    (hook,) = yaml.safe_load((root / ".pre-commit-hooks.yaml").read_text())
    assert hook["entry"].split() == ["thinned", "audit", "--force-exclude"]
    assert hook["language"] == "python"
    assert set(hook["types_or"]) == {"python", "pyi", "jupyter"}
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-manifest", ".pre-commit-hooks.yaml"],
        cwd=root,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
