"""The page for learners says what happens."""

import doctest
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page():
    page = ROOT / "docs" / "numpy.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 20
    assert result.failed == 0
