"""Findings that are kept: never wrong, whatever changes, is damaged or runs at the same time."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit.corpus import pairs
from thinned.audit import audit, cache, many, one, running
from thinned.audit.cache import Cache
from thinned.audit.imports import Closures, digest, facts_of, imported
from thinned.audit.settings import Settings, cache_folder
from thinned.cli.main import main

WRONG = b"import torch.nn.functional as F\ndef f(x):\n    return F.dropout(x, 0.5)\n"
RIGHT = WRONG.replace(b"0.5)", b"0.5, training)")


@pytest.fixture
def tree(tmp_path):
    """Files of which each imports the next, and a folder for the cache."""
    root = tmp_path / "code"
    root.mkdir()
    for name, text in {
        "a.py": b"from b import Net\n" + WRONG,
        "b.py": b"from c import Base\n" + WRONG,
        "c.py": b"import torch\n" + WRONG,
        "d.py": WRONG,
    }.items():
        (root / name).write_bytes(text)
    return root


@pytest.fixture
def parsed(monkeypatch):
    """The names of the files that are audited anew."""
    names = []
    real = one.audit_source

    def noted(data, path, *more):
        names.append(os.path.basename(path))
        return real(data, path, *more)

    monkeypatch.setattr(one, "audit_source", noted)
    return names


def run(tree, settings=None, **more):
    return audit([str(tree)], settings, cache=str(tree.parent / "cache"), **more)


def test_a_second_run_parses_nothing_and_finds_the_same(tree, parsed):
    first = run(tree)
    assert sorted(parsed) == ["a.py", "b.py", "c.py", "d.py"]
    assert first == audit([str(tree)])
    parsed.clear()
    assert run(tree) == first
    assert parsed == []


def test_a_file_is_audited_anew_with_those_that_import_it(tree, parsed):
    run(tree)
    parsed.clear()
    (tree / "b.py").write_bytes(b"from c import Base\n" + RIGHT)
    assert [Path(f.path).name for f in run(tree).findings] == ["a.py", "c.py", "d.py"]
    assert sorted(parsed) == ["a.py", "b.py"]
    parsed.clear()
    (tree / "c.py").write_bytes(b"# another\n" + WRONG)
    run(tree)
    assert sorted(parsed) == ["a.py", "b.py", "c.py"]
    parsed.clear()
    (tree / "b.py").write_bytes(b"from c import Base\n" + WRONG)
    (tree / "c.py").write_bytes(b"import torch\n" + WRONG)
    run(tree)
    assert parsed == []  # all this was there before


@pytest.mark.parametrize(
    "change", ["the rules' code", "the rules asked for", "the path", "Python", "a new import"]
)
def test_what_findings_depend_on(change, tree, parsed, monkeypatch):
    run(tree)
    parsed.clear()
    settings = None
    if change == "the rules' code":
        monkeypatch.setattr(cache, "_version", lambda: b"another")
    elif change == "the rules asked for":
        settings = Settings(select=("THN00",))
    elif change == "the path":
        tree = tree.rename(tree.parent / "moved")
    elif change == "Python":
        cache._version.cache_clear()
        monkeypatch.setattr(cache.sys, "version_info", (3, 99, 0))
    else:
        (tree / "b").mkdir()
        (tree / "b" / "__init__.py").write_bytes(b"import torch\n")
    try:
        run(tree, settings)
    finally:
        monkeypatch.undo()
        cache._version.cache_clear()
    assert sorted(parsed) == (
        ["a.py"] if change == "a new import" else ["a.py", "b.py", "c.py", "d.py"]
    )


def test_the_version_is_that_of_the_code(monkeypatch, tmp_path):
    copy = tmp_path / "audit"
    (copy / "rules").mkdir(parents=True)
    (copy / "cache.py").write_text("")
    (copy / "rules" / "one.py").write_text("1")
    monkeypatch.setattr(cache, "__file__", str(copy / "cache.py"))
    seen = set()
    for text in ("1", "2"):
        (copy / "rules" / "one.py").write_text(text)
        seen.add(cache._version.__wrapped__())
    assert len(seen) == 2


DAMAGE = {
    "empty": b"",
    "half": None,
    "no JSON": b"\xff\x00",
    "another shape": b'{"a": 1}',
    "fields of other types": b'[["a.py", 0, "3", 1, "THN001", 3, 4, "s", "t", "w", 3, []]]',
    "too few fields": b'[["a.py"]]',
    "numbers": b"[1, 2]",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_entry_is_none(name, tree, parsed):
    first = run(tree)
    entries = list((tree.parent / "cache").rglob("*.json"))
    assert len(entries) == 4
    for entry in entries:
        data = entry.read_bytes()
        entry.write_bytes(data[: len(data) // 2] if DAMAGE[name] is None else DAMAGE[name])
    parsed.clear()
    assert run(tree) == first
    assert len(parsed) == 4
    parsed.clear()
    assert run(tree) == first
    assert parsed == []


def test_every_field_of_every_finding_is_kept(tmp_path):
    (tmp_path / "code").mkdir()
    for i, pair in enumerate(pairs()[::3]):
        (tmp_path / f"code/m{i}.py").write_text(pair.wrong, encoding="utf-8")
    first = run(tmp_path / "code")
    assert any(f.edits for f in first.findings)
    again = run(tmp_path / "code")
    assert [dataclasses.astuple(f) for f in again.findings] == [
        dataclasses.astuple(f) for f in first.findings
    ]


def test_what_changes_while_it_is_audited_is_not_kept(tree, monkeypatch):
    real = one.audit_source

    def slow(data, path, *more):
        found = real(data, path, *more)
        if path.endswith("d.py"):
            (tree / "c.py").write_bytes(b"# changed\n" + RIGHT)
        return found

    monkeypatch.setattr(one, "audit_source", slow)
    run(tree)
    assert list((tree.parent / "cache").rglob("*.json")) == []
    monkeypatch.undo()
    assert [Path(f.path).name for f in run(tree).findings] == ["a.py", "b.py", "d.py"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write anywhere")
def test_a_folder_that_is_closed_ends_no_audit(tree):
    (tree.parent / "cache").mkdir(mode=0o500)
    assert len(run(tree).findings) == 4


def test_a_folder_that_is_a_file_ends_no_audit(tree):
    (tree.parent / "cache").write_text("")
    assert len(run(tree).findings) == 4


def test_a_full_disk_ends_no_audit(tree, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    assert len(run(tree).findings) == 4
    assert [p for p in (tree.parent / "cache").rglob("*") if p.is_file()] == []


def test_what_is_not_used_is_deleted(tree, monkeypatch):
    run(tree)
    folder = tree.parent / "cache"
    kept, old = next(folder.rglob("*.json")), folder / "ab" / "old.json"
    old.parent.mkdir(exist_ok=True)
    old.write_text("[]")
    for file in (old, folder / "pruned"):
        os.utime(file, (0, 0))
    (tree / "d.py").write_bytes(b"# new\n" + WRONG)
    run(tree)
    assert not old.exists()
    assert kept.exists()


def test_a_used_entry_is_young_again(tree):
    run(tree)
    folder = tree.parent / "cache"
    for file in folder.rglob("*.json"):
        os.utime(file, (0, 0))
    run(tree)
    assert all(file.stat().st_mtime > 1e9 for file in folder.rglob("*.json"))


def test_runs_at_the_same_time(tree):
    code = (
        "import sys; from thinned.audit import audit\n"
        "for _ in range(5): print(len(audit([sys.argv[1]], cache=sys.argv[2]).findings))"
    )
    command = [sys.executable, "-c", code, str(tree), str(tree.parent / "cache")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [one.communicate(timeout=120)[0].split() for one in runs] == [["4"] * 5] * 3
    left = [p.name for p in (tree.parent / "cache").rglob("*") if p.is_file()]
    assert sorted(left)[-1] == "pruned"
    assert len(left) == 5


def test_processes_share_the_work(tree, monkeypatch):
    monkeypatch.setattr(many, "_WORTH_A_PROCESS", 1)
    first = audit([str(tree)])
    assert audit([str(tree)], jobs=2) == first == run(tree, jobs=2) == run(tree, jobs=2)


def test_the_command_keeps_findings_where_it_is_told(tree, monkeypatch, capsys, parsed):
    monkeypatch.setenv("THINNED_CACHE_DIR", str(tree.parent / "mine"))
    assert cache_folder() == str(tree.parent / "mine" / "audit")
    main(["audit", str(tree), "--jobs", "1"])
    main(["audit", str(tree), "--jobs", "1"])
    assert len(parsed) == 4
    main(["audit", str(tree), "--no-cache", "--jobs", "2"])
    assert len(parsed) == 8
    main(["audit", str(tree), "--cache-dir", str(tree.parent / "other")])
    assert len(parsed) == 12
    assert len(list((tree.parent / "mine/audit").rglob("*.json"))) == 4
    assert len(list((tree.parent / "other").rglob("*.json"))) == 4


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/thinned/audit"),
        ("linux", {"HOME": "/h"}, "/h/.cache/thinned/audit"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Caches/thinned/audit"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/thinned/audit"),
    ],
)
def test_the_platforms_folders(platform, variables, folder, monkeypatch):
    for name in ("THINNED_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache.sys, "platform", platform)
    assert Path(cache_folder()) == Path(folder)


IMPORTS = {
    b"import a": {(0, "a")},
    b"import a.b as c, d  # e": {(0, "a.b"), (0, "d")},
    b"from a import b": {(0, "a"), (0, "a.b")},
    b"from . import b": {(1, ""), (1, "b")},
    b"from ..a.b import (\n    c,  # (d\n    e as f,\n)": {(2, "a.b"), (2, "a.b.c"), (2, "a.b.e")},
    b"from a import b, \\\n    c": {(0, "a"), (0, "a.b"), (0, "a.c")},
    b"from a import *": {(0, "a")},
    b"if x:\n\timport a\r\n": {(0, "a")},
    b"x = 'import a'\n# import b": set(),
}


@pytest.mark.parametrize("text", IMPORTS)
def test_imports(text):
    assert set(imported(text)) == IMPORTS[text]


def test_imports_of_a_notebook():
    cells = [{"cell_type": "code", "source": ["x = 1\n", "from net import Net\n", "import a"]}]
    for indent in (None, 1):
        data = json.dumps({"cells": cells}, indent=indent).encode()
        assert {(0, "net"), (0, "net.Net")} <= set(facts_of("a.ipynb", data, (0, 0)).imports)


@pytest.fixture
def written(tmp_path):
    """A function that writes files, and one that returns the digests of all of them."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / "site/project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)

    def digests(names):
        root = tmp_path / "site/project"
        found = Closures({}).of([str(root / name) for name in names])
        return {name: found[str(root / name)] for name in names}

    return write, digests


LINKS = {
    "a.py": b"import b",
    "b.py": b"from pkg import Net",
    "pkg/__init__.py": b"from .net import Net",
    "pkg/net.py": b"from . import base\nimport torch",
    "pkg/base.py": b"from .net import Net",  # a circle
    "pkg/other.py": b"from ..b import x",
    "pkg/deep/far.py": b"from pkg.net import Net",
    "pkg/beside.py": b"import base",  # as a script of that folder sees it
    "alone.py": b"import numpy",
    "stubs.pyi": b"import alone",
}
INSIDE = {"a.py", "b.py", "pkg/__init__.py", "pkg/net.py", "pkg/base.py", "pkg/other.py"}
REACHED = {
    "a.py": set(),
    "b.py": {"a.py", "pkg/other.py"},
    "pkg/base.py": INSIDE | {"pkg/deep/far.py", "pkg/beside.py"},
    "pkg/net.py": INSIDE | {"pkg/deep/far.py", "pkg/beside.py"},
    "pkg/other.py": set(),
    "alone.py": {"stubs.pyi"},
    # An import that leads to another file than before.
    "numpy.py": {"alone.py", "stubs.pyi"},
    "pkg/b.py": set(),
    "b/__init__.py": {"a.py", "pkg/other.py"},
}


@pytest.mark.parametrize("path", REACHED)
def test_a_change_reaches_those_that_import_it(path, written):
    write, digests = written
    write(LINKS)
    before = digests(LINKS)
    write({path: LINKS.get(path, b"") + b"  # changed"})
    after = digests(LINKS)
    assert {p for p in LINKS if before[p] != after[p]} == (REACHED[path] | {path}) & {*LINKS}


def test_files_that_are_not_scanned_count_too(tree, parsed):
    files = [str(tree / "a.py"), str(tree / "d.py")]
    folder = str(tree.parent / "cache")
    audit(files, cache=folder)
    (tree / "c.py").write_bytes(b"import torch\n")
    parsed.clear()
    audit(files, cache=folder)
    assert parsed == ["a.py"]


def test_a_finding_follows_the_file_that_it_comes_from(tmp_path):
    """The base stands in another file, scanned or not, and in the cache both times."""
    (tmp_path / "net.py").write_text(
        "import torch.nn.functional as F\nfrom base import Base\n\nclass Net(Base):\n"
        "    def forward(self, x):\n        return F.dropout(x, 0.5, training=self.trainig)\n"
    )
    (tmp_path / "other.py").write_bytes(RIGHT)
    named = [str(tmp_path / "net.py"), str(tmp_path / "other.py")]
    for kind in ("torch.nn.Module", "object", "torch.nn.Module", "object"):
        (tmp_path / "base.py").write_text(f"import torch.nn\nclass Base({kind}): ...\n")
        for files in (named, [str(tmp_path)]):
            codes = [f.code for f in audit(files, cache=str(tmp_path / ".cache")).findings]
            assert codes == [f.code for f in audit(files).findings]
            assert codes == (["THN025"] if kind != "object" else [])


def test_an_installed_package_counts_by_its_version(tmp_path):
    site = tmp_path / "site-packages"
    for name in ("one/__init__.py", "two/__init__.py", "one-1.0.dist-info/METADATA"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("import one\n")
    names = [str(site / "two/__init__.py"), str(site / "one/__init__.py")]
    before = Closures({}).of(names)
    (site / "one/__init__.py").write_text("import two\n")
    after = Closures({}).of(names)
    assert [before[n] == after[n] for n in names] == [True, False]
    (site / "one-1.0.dist-info").rename(site / "one-1.1.dist-info")
    assert Closures({}).of(names)[names[0]] != after[names[0]]


def test_long_chains_and_large_circles_of_imports(written):
    write, digests = written
    files = {f"m{i}.py": b"import m%d" % (i + 1) for i in range(2000)}
    write(files)
    before = digests(files)
    write({"m1999.py": b"import m0"})
    after = digests(files)
    assert all(before[p] != after[p] for p in files)


def test_the_key_has_no_seams(tmp_path):
    one = Cache(str(tmp_path), ["THN001"])
    assert one.key("a", b"bc") != one.key("ab", b"c")
    assert digest(b"a", b"bc") != digest(b"ab", b"c")
    assert json.loads(json.dumps(one.key("a\udcff", b"")))


def test_one_file_needs_no_cache(tree):
    assert running.audit_file is one.audit_file
    report = audit([str(tree / "a.py")], cache=str(tree.parent / "cache"))
    assert report.files == 1
    assert not (tree.parent / "cache").exists()
