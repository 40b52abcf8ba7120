"""The page on members says what happens."""

import doctest
from pathlib import Path

from libraries import needs

ROOT = Path(__file__).parents[2]


@needs("torch")
def test_the_page():
    page = ROOT / "docs" / "members.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 12
    assert result.failed == 0
