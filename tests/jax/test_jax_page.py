"""The JAX page says what happens."""

import doctest
from pathlib import Path

from libraries import needs

ROOT = Path(__file__).parents[2]


@needs("jax")
def test_the_page():
    page = ROOT / "docs" / "jax.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 15
    assert result.failed == 0
