"""The judged findings of public packages: the table is whole, and the page says what is in it."""

import re
import tomllib
from collections import Counter
from pathlib import Path

from tests.audit import public
from thinned.audit import RULES

TABLE = public.table()
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def words(text):
    return " ".join(text.split())


def test_the_table_is_whole():
    names = [package["name"] for package in TABLE["package"]]
    assert len(set(names)) == len(names) >= 20
    for package in TABLE["package"]:
        assert set(package) == {"name", "version"}
    for entry in TABLE["finding"]:
        assert set(entry) == {"package", "path", "line", "code", "verdict", "because"}
        assert entry["package"] in names
        assert entry["code"] in RULES
        assert entry["verdict"] in public.VERDICTS
        assert entry["because"].endswith(".")
    places = Counter((e["package"], e["path"], e["line"], e["code"]) for e in TABLE["finding"])
    assert max(places.values()) <= 2  # two arguments of one line


def test_the_precision():
    good, of = public.precision(TABLE["finding"])
    print(f"{good} of {of} findings are true or harmless")
    assert good >= 0.9 * of
    assert public.precision([{"verdict": v} for v in ("true", "harmless", "false")]) == (2, 3)


def test_the_page_says_what_was_measured():
    verdicts = Counter(entry["verdict"] for entry in TABLE["finding"])
    assert f"holds the {verdicts.total()} findings in" in words(PAGE)
    assert f"{verdicts['true']} are mistakes, {verdicts['harmless']} are harmless" in words(PAGE)
    good, of = public.precision(TABLE["finding"])
    assert f"{good} of {of}" in words(PAGE)


def test_what_repositories_showed_at_first_sight():
    """The table is whole, and the page says its figures."""
    text = (Path(__file__).parent / "repositories.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    names = {entry["name"] for entry in table["repository"]}
    found = table["finding"]
    assert len(names) == len(table["repository"]) >= 40
    assert all(re.fullmatch("[0-9a-f]{40}", entry["commit"]) for entry in table["repository"])
    for entry in found:
        needed = {"repository", "path", "line", "code", "verdict", "because"}
        assert needed <= set(entry) <= {*needed, "cell"}
        assert entry["repository"] in names
        assert entry["code"] in RULES
        assert entry["verdict"] in public.VERDICTS
        assert entry["because"].endswith(".")
    good, of = public.precision(found)
    said = f"{len(names)} repositories | {table['lines'] / 1e6:.1f} million | {of} | {good} "
    assert f"| {said}({good / of:.0%})".replace("%", " %") in PAGE
    most = Counter(entry["repository"] for entry in found).most_common(1)[0][1]
    assert f"Of the last set's findings {most} come from one course" in words(PAGE)


def test_a_scan_is_compared_with_the_table(tmp_path, monkeypatch, capsys):
    """A judged finding that is there, one that is gone, and a new one."""
    wrong = "import torch.nn.functional as F\ndef f(x):\n    return F.dropout(x, 0.5)\n"
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(wrong)
    entry = {"package": "one", "line": 3, "code": "THN001", "verdict": "true", "because": "It is."}
    judged = [{**entry, "path": path} for path in ("a.py", "c.py")]
    known = {"package": [{"name": "one", "version": "1"}], "finding": judged}
    monkeypatch.setattr(public, "table", lambda: known)
    monkeypatch.setattr(public, "installed", lambda below, name, version: tmp_path)
    assert public.main([]) == 1
    said = capsys.readouterr().out
    assert re.search(r"not judged: b\.py THN001 \(1\)", said)
    assert re.search(r"vanished: c\.py THN001 \(1\)", said)
    assert "a.py" not in said
