"""Row by kind by check."""

import inspect

import pytest

from thinned.methods import every

from .checks_law import ENDS, LAW
from .checks_values import VALUES
from .trying import KINDS, ROWS, name_of

over_rows = pytest.mark.parametrize("row", ROWS, ids=name_of)


@over_rows
@pytest.mark.parametrize("check", LAW, ids=lambda check: check.__name__)
def test_the_law(row, check):
    check(row)


@over_rows
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("check", [*ENDS, *VALUES], ids=lambda check: check.__name__)
def test_the_values(row, kind, check):
    with kind.in_use():
        check(row, kind)


@pytest.mark.parametrize("row", every(), ids=name_of)
def test_a_row_tells_what_it_is(row):
    assert row.papers
    assert row.note.endswith(".")
    doc = inspect.getdoc(row.function)
    sections = ["Parameters\n", "References\n"]
    if not isinstance(row.function, type):
        sections += ["Returns\n", "Raises\n"]
    for section in sections:
        assert section in doc, f"{row.name}: no {section.strip()} in its docstring"


@over_rows
def test_a_row_has_the_common_form(row):
    names = list(row.parameters)
    start = len(row.arrays)
    assert names[start : start + 3] == ["p", "at", "training"]
    assert {"window", "mirror"} <= set(names)
    assert row.parameters["training"].default is True
