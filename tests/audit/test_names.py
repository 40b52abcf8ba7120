"""Names of files, and lines of them, that would drive the terminal or the log they are printed in.

Nothing but printable text reaches either, in every format and on both streams, and no line of the
text, or annotation of the log, is a command that the audited files wrote.
"""

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from thinned.audit import audit
from thinned.audit.formats import FORMATS, as_sarif
from thinned.cli.main import main

WRONG = "import torch.nn.functional as F\n\n\ndef f(x):\n    return F.dropout(x, 0.5)\n"
BROKEN = "import torch\ndropout = (\n"

NAMES = (
    "a\x1b[31mred.py",
    "a\x1b]0;title\x07.py",
    "a\r\x08\x7f.py",
    "a\x9b31m\x85.py",
    "a\u202e\u202a\u2066yp.\u2069\u200f\u200e\u061c.py",
    "a\u2028b\u2029c\u200b\ufeff.py",
    "a\n::error file=x::pwned.py",
    "a\r\n::add-mask::x.py",
    "::error::pwned.py",
    " ::stop-commands::x.py",
    "##[error]pwned.py",
    "a,b:c%0A::error::x.py",
    "a\udcff\udc80.py",
    "Größe 数据.py",
)
# A line of source that begins as a command: it is the line of a finding.
SOURCE = (
    'import torch.nn.functional as F\n\nx = """\n::error::pwned""", F.dropout(1, 0.5)  # \x1b[1m\n'
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no files of such names")


def _commands(text):
    """The lines that a runner of GitHub's takes for commands."""
    return [
        line
        for line in re.split(r"\r\n|\r|\n", text)
        if line.lstrip().startswith("::") or "##[" in line
    ]


def _harmless(text):
    kinds = {unicodedata.category(c) for c in text.replace("\n", "")}
    return kinds.isdisjoint({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@pytest.fixture
def named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []
    for number, name in enumerate(NAMES):
        try:
            Path(name).write_text((WRONG, BROKEN, SOURCE)[number % 3])
        except OSError:  # a file system that takes UTF-8 alone
            print(f"{name!a} cannot be the name of a file here")
            continue
        made.append(name)
    assert len(made) >= len(NAMES) - 2
    return made


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_prints_a_name_raw(form, named, capsys):
    for paths in (["."], named):
        code = main(["audit", *paths, "--format", form])
        said = capsys.readouterr()
        assert (code, said.err) == (1, "")
        assert _harmless(said.out)
        commands = _commands(said.out)
        if form == "github":
            # One for each finding, and each is ours.
            assert len(commands) == len(audit(paths).findings)
            for line in commands:
                assert re.match(r"::error file=[^:,]+,line=\d+,endLine=\d+,col=\d+,[^:]*::", line)
        else:
            assert commands == []


def test_the_check_on_commands_can_fail(named):
    """What printing names raw would give."""
    assert len(_commands("\n".join(f"{name}:5:12 THN001" for name in named))) >= 5
    assert not _harmless("a\x1b")


def test_json_and_sarif_name_every_file(named):
    report = audit(named)
    paths = {f["path"] for f in json.loads(FORMATS["json"](report))["findings"]}
    assert paths == {name.encode(errors="backslashreplace").decode() for name in named}
    results = json.loads(as_sarif(report))["runs"][0]["results"]
    places = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in results]
    assert {unquote_to_bytes(uri) for uri in places} == {os.fsencode(name) for name in named}
    for uri in places:
        assert re.fullmatch(r"(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})+", uri)


def test_absolute_names_are_uris(named):
    report = audit([os.path.abspath(name) for name in named])
    for finding, result in zip(
        report.findings, json.loads(as_sarif(report))["runs"][0]["results"], strict=True
    ):
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert unquote_to_bytes(uri.removeprefix("file://")) == os.fsencode(finding.path)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_errors_about_files(name, tmp_path, monkeypatch, capsys):
    """A path that is not there; settings that cannot be read in a folder of such a name."""
    monkeypatch.chdir(tmp_path)
    assert main(["audit", f"{name}.gone"]) == 2
    gone = capsys.readouterr().err
    folder = Path(name)
    folder.mkdir()
    (folder / "net.py").write_text(WRONG)
    (folder / "pyproject.toml").write_text(f"[tool.thinned.audit]\n{json.dumps('é' + name)} = 1\n")
    assert main(["audit", name]) == 2
    for said in (gone, capsys.readouterr().err):
        assert said.startswith("thinned: ")
        assert said.count("\n") == 1
        assert _harmless(said)


def test_a_stream_that_lacks_a_script(tmp_path):
    (tmp_path / "Größe.py").write_text(WRONG)
    thinned = Path(sys.executable).with_name("thinned")
    done = subprocess.run(
        [str(thinned), "audit", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(rb"./Gr\xf6\xdfe.py:5:12 THN001")
