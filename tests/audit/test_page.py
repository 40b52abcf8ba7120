"""docs/audit.md: its table is that of the rules, its commands and settings work."""

import re
import tomllib
from pathlib import Path

import pytest
from pages import builder

from tests.audit.corpus import pairs
from thinned.audit import RULES, audit_source
from thinned.audit.settings import BASELINE, chosen, ignored_codes, settings_for
from thinned.cli.audit import audit
from thinned.cli.options import Option, said_of

build = builder("docs/build.py")
PAGE = (Path(__file__).parents[2] / "docs/audit.md").read_text(encoding="utf-8")


def test_the_table_is_that_of_the_rules():
    """Remade by `make docs`."""
    assert build.filled(PAGE, build.rules) == PAGE
    assert re.findall(r"^\| (THN\d+) \|", PAGE, flags=re.M) == sorted(RULES)


def test_the_number_of_pairs():
    (rough,) = re.findall(r"some (\d+) pairs of snippets, at least three for each rule", PAGE)
    assert len(pairs()) == pytest.approx(int(rough), rel=0.15)


def test_the_settings_shown_are_understood(tmp_path):
    ruff, shown = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.S)
    assert tomllib.loads(ruff)["tool"]["ruff"]["lint"]["external"] == ["THN"]
    (tmp_path / "pyproject.toml").write_text(shown)
    settings = settings_for([str(tmp_path)])
    said = tomllib.loads(shown)["tool"]["thinned"]["audit"]
    assert set(said) == {"select", "ignore", "exclude", "per-file-ignores", "baseline"}
    assert settings.select == tuple(said["select"])
    assert settings.exclude == tuple(said["exclude"])
    assert ignored_codes(str(tmp_path / "examples/net.py"), settings) == ("THN044",)
    assert settings.baseline == str(tmp_path / BASELINE)
    assert chosen(settings)


def test_every_option_is_named_on_the_page():
    for one in said_of(audit):
        if isinstance(one.how, Option):
            assert one.flag in PAGE, one.flag


def test_the_output_shown_is_what_is_printed(tmp_path, monkeypatch, capsys):
    from thinned.cli.main import main

    source, *_ = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    (shown,) = re.findall(r"    \$ thinned audit net\.py\n(.*?)\n\n[^ ]", PAGE, flags=re.S)
    (tmp_path / "net.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["audit", "net.py"]) == 1
    printed = capsys.readouterr().out.rstrip()
    assert printed == "\n".join(line.removeprefix("    ") for line in shown.splitlines())


def test_what_it_cannot_see_is_not_seen():
    """The limits that the page names, each by an example."""
    before = "import torch\nimport torch.nn.functional as F\n"
    limits = (
        "def f(x, mode):\n    return F.dropout(x, 0.5, mode)\n",
        "def f(x, **more):\n    return F.dropout(x, 0.5, **more)\n",
        "KINDS = {'a': F.dropout, 'b': F.relu}\ndef f(x, kind):\n    return KINDS[kind](x, 0.5)\n",
        "def f(x, p):\n    return F.dropout(x, p)\n",
    )
    for text in limits:
        assert audit_source((before + text).encode(), "a.py") == []
