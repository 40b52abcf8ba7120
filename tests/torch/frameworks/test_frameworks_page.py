"""The page on frameworks says what happens."""

import doctest
import logging
from pathlib import Path

import accelerate  # noqa: F401 - what the page trains with, as are the others
import lightning.pytorch  # noqa: F401
import pytest
import transformers

ROOT = Path(__file__).parents[3]


@pytest.mark.filterwarnings("ignore")  # those of other libraries: what is ours is tested elsewhere
def test_the_page():
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    page = ROOT / "docs" / "frameworks.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 30
    assert result.failed == 0
