"""What the page on frameworks says of timm, PEFT and PyTorch Geometric happens."""

import doctest
from pathlib import Path

import pytest
from libraries import needs

PAGE = Path(__file__).parents[3] / "docs" / "frameworks-part-paths.md"
SECTIONS = {"timm": "timm", "PEFT": "peft", "PyTorch Geometric": "torch_geometric"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "title", [pytest.param(title, marks=needs(name)) for title, name in SECTIONS.items()]
)
def test_the_section(title):
    (section,) = (s for s in PAGE.read_text().split("## ")[1:] if s.startswith(f"{title}\n"))
    test = doctest.DocTestParser().get_doctest(section, {}, title, str(PAGE), 0)
    result = doctest.DocTestRunner().run(test)
    assert result.attempted > 4
    assert result.failed == 0
