"""The page on frameworks says what happens."""

import doctest
import logging
from pathlib import Path

import accelerate  # noqa: F401 - what the page trains with, as are the others
import lightning.pytorch  # noqa: F401
import pytest
import transformers
from libraries import needs

PAGE = Path(__file__).parents[3] / "docs" / "frameworks.md"
FIRST, *SECTIONS = PAGE.read_text(encoding="utf-8").split("\n## ")
# Sections that stand alone, and what they need.
ALONE = {"timm": "timm", "PEFT": "peft", "PyTorch Geometric": "torch_geometric"}

# Those of other libraries: what is ours is tested elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore")


def title_of(section):
    return section.partition("\n")[0]


def ran(name, text):
    test = doctest.DocTestParser().get_doctest(text, {}, name, str(PAGE), 0)
    result = doctest.DocTestRunner().run(test)
    assert result.failed == 0
    return result.attempted


def test_the_page():
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    together = [section for section in SECTIONS if title_of(section) not in ALONE]
    assert len(together) == len(SECTIONS) - len(ALONE)
    assert ran("the page", "\n## ".join([FIRST, *together])) > 30


@pytest.mark.parametrize(
    "title", [pytest.param(title, marks=needs(name)) for title, name in ALONE.items()]
)
def test_a_section_that_stands_alone(title):
    (section,) = (section for section in SECTIONS if title_of(section) == title)
    assert ran(title, section) > 4
