"""docs/reliability.md: every test that it names is there, and every promise names one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def defined():
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}


def test_every_test_that_the_page_names_is_there():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 20
    assert not named - defined()


def test_every_promise_names_a_test():
    promises = PAGE.partition("## Promises")[2].partition("\n## ")[0].split("\n\n**")[1:]
    assert len(promises) > 10
    without = [promise[:40] for promise in promises if "Test" not in promise]
    assert not without


def test_every_file_that_the_page_names_is_there():
    for name in re.findall(r"`(tests/[\w./]+)`", PAGE):
        assert (ROOT / name).exists(), name
