"""What is read without Typer is read as Typer reads it, and all else is left to Typer."""

import functools
import inspect
import os
import subprocess
import sys

import pytest
import typer

from thinned.cli import app as whole, main as cli
from thinned.cli.audit import audit
from thinned.cli.options import Option, said_of
from thinned.cli.plain import read

MAIN = "import sys; from thinned.cli.main import main; code = main(sys.argv[1:])"
HEAVY = ("typer", "click", "rich", "pydantic", "numpy", "sklearn", "multiprocessing", "tomllib")

PLAIN = [
    "",
    "net.py",
    "a b/c.py ./d",
    "net.py --select THN00,THN020",
    "--select THN00 net.py --ignore=THN001 other.py",
    "net.py --select=",
    "net.py --exclude a=b",
    "net.py --exclude=a=b",
    "--json net.py",
    "net.py --sarif --github",
    "net.py --format github",
    "--format=sarif net.py",
    "net.py --jobs 1",
    "net.py --jobs=256",
    "--explain THN001",
    "--explain=all net.py",
    "-",
    "- --fix --stdin-filename net.py",
    "net.py --baseline use --baseline-file=a.json --statistics",
    "net.py --per-file-ignores tests:THN00 --force-exclude --no-cache --cache-dir x",
]
LEFT = [
    "--help",
    "net.py --help",
    "-h",
    "-- net.py",
    "net.py --",
    "net.py --no-such-option",
    "net.py --form json",
    "net.py --select",
    "net.py --select --json",
    "net.py --select -x",
    "net.py --select a --select b",
    "net.py --json --json",
    "net.py --json=1",
    "net.py --format xml",
    "net.py --format JSON",
    "net.py --jobs 0",
    "net.py --jobs 257",
    "net.py --jobs 02",
    "net.py --jobs +2",
    "net.py --jobs 1_0",
    "net.py --jobs ٣",
    "net.py --jobs 99999999999999999999",
    "net.py --jobs two",
    "n*.py",
    "~/net.py",
    "$HOME/net.py",
    "%HOME%/net.py",
    "net.py --exclude [ab].py",
    "net.py --exclude=tests/*",
    "net.py --exclude tests/?",
]


def by_typer(words):
    """The arguments that Typer calls the command with."""
    calls = []

    @functools.wraps(audit)
    def recorded(**given):
        calls.append(given)
        return 0

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(whole._for_typer(recorded))
    assert app(args=words, standalone_mode=False) == 0
    (call,) = calls
    return call


def after(*words):
    """Exit code, standard output and error, and what heavy packages are loaded then."""
    told = f"print(*(m for m in {HEAVY} if m in sys.modules), file=sys.stderr); sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", f"{MAIN}; {told}", *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    *error, loaded = done.stderr.splitlines()
    return done.returncode, done.stdout, error, loaded.split()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "from torch.nn import functional as F\n\ndef f(x):\n    return F.dropout(x, 0.2)\n"
    )
    return tmp_path


@pytest.mark.parametrize("line", PLAIN)
def test_what_is_plain_is_read_as_typer_reads_it(line):
    bound = inspect.signature(audit).bind(**read(audit, line.split()))
    bound.apply_defaults()
    assert bound.arguments == by_typer(line.split())


def test_an_empty_word_is_a_word():
    assert read(audit, ["", "--select", ""]) == {"paths": [""], "select": ""}
    assert by_typer(["", "--select", ""]) == by_typer([""]) | {"select": ""}


@pytest.mark.parametrize("line", LEFT)
def test_what_is_not_plain_is_left_to_typer(line):
    assert read(audit, line.split()) is None


@pytest.mark.parametrize("line", ["audit net.py", "audit --explain THN001"])
def test_a_plain_audit_loads_only_what_it_needs(here, line):
    code, out, error, loaded = after(*line.split())
    assert (code, error, loaded) == ("net" in line, [], [])
    assert "THN001" in out


@pytest.mark.parametrize("option", ["--json", "--json --json"], ids=["plain", "by Typer"])
def test_a_reader_that_has_gone_is_no_clean_run(here, option):
    (here / "net.py").write_text("x = 1\n")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", f"{MAIN}; sys.exit(code)", "audit", "net.py", *option.split()]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_mistake_is_told_by_typer(here):
    code, out, error, loaded = after("audit", "net.py", "--jobs", "0")
    assert (code, out, len(error)) == (2, "", 1)
    assert error[0].startswith("thinned: ")
    assert "typer" in loaded


def test_help_is_made_from_what_the_command_says(capsys):
    assert cli.main(["audit", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for one in said_of(audit):
        assert one.how.help in shown
        assert (one.flag if isinstance(one.how, Option) else one.how.metavar) in shown


def test_a_request_for_completions_is_left_to_typer(here, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(whole, "app", lambda **how: asked.append(how["args"]))
    assert cli.main(["audit", "net.py"]) == 1
    assert asked == []
    monkeypatch.setenv("_THINNED_COMPLETE", "complete_bash")
    assert cli.main(["audit", "net.py"]) == 0
    assert asked == [["audit", "net.py"]]


def test_the_process_own_words_are_left_for_typer_to_fetch(here, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(whole, "app", lambda **how: asked.append(how["args"]))
    monkeypatch.setattr(sys, "argv", ["thinned", "audit", "net.py"])
    assert cli._run(None) == 1
    monkeypatch.setattr(sys, "argv", ["thinned", "audit", "n*.py"])
    cli._run(None)
    assert asked == [None]
