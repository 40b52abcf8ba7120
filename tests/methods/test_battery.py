"""Row by kind by check."""

import inspect
import re
from pathlib import Path

import pytest

from thinned.methods import every
from thinned.methods.table import method

from .checks_law import ENDS, LAW
from .checks_values import VALUES
from .trying import KINDS, ROWS, chosen, name_of, told

over_rows = pytest.mark.parametrize("row", ROWS, ids=name_of)


@pytest.mark.one_in(3)
@over_rows
def test_the_law(row):
    """Whole for a row, whose draws the checks share."""
    for check in LAW:
        with told(check.__name__):
            check(row)


@over_rows
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_values(request, row, kind):
    one_in = 18 if kind.backend == "jax" else 6  # it compiles each operation of each row
    with kind.in_use():
        for check in (*ENDS, *VALUES):
            if chosen(request, one_in, row.name, str(kind), check.__name__):
                with told(check.__name__):
                    check(row, kind)


@pytest.mark.parametrize("row", every(), ids=name_of)
def test_a_row_tells_what_it_is(row):
    assert row.papers or row.source
    assert row.note.endswith(".")
    doc = inspect.getdoc(row.function)
    sections = ["Parameters\n", "References\n"]
    if not isinstance(row.function, type):
        sections += ["Returns\n", "Raises\n"]
    for section in sections:
        assert section in doc, f"{row.name}: no {section.strip()} in its docstring"


# Rows that the battery does not try, and the file whose tests do. Why, the row says itself.
APART = {
    "drop_edge": "test_graphs.py",
    "drop_bp": "test_adapting.py",
    "drop_grad": "test_words.py",
    "dropout_path": "test_walks.py",
    "layer_drop": "test_layers.py",
    "masksembles": "test_structured.py",
    "fast_dropout_moments": "test_moments.py",
    "r_drop": "test_losses.py",
    "fraternal_dropout": "test_losses.py",
    "multi_sample_dropout": "test_losses.py",
    "early_dropout": "../test_schedules.py",
    "late_dropout": "../test_schedules.py",
    "annealed_dropout": "../test_schedules.py",
    "curriculum_dropout": "../test_schedules.py",
    "scheduled_drop_path": "../test_schedules.py",
}


def test_no_row_slips_past_the_battery():
    apart = {row.name: row for row in every() if row.sample is None}
    assert set(apart) == set(APART)
    for name, row in apart.items():
        assert row.apart.endswith(".")
        tests = (Path(__file__).parent / APART[name]).read_text(encoding="utf-8")
        assert re.search(rf"\b{row.function.__name__}\b", tests), name
    with pytest.raises(AssertionError, match="Nameless"):
        method(
            title="Nameless", rank="first", target="", formula="", papers=(), note="",
            moments=apart["r_drop"].moments,
        )(len)  # fmt: skip


@over_rows
def test_a_row_has_the_common_form(row):
    names = list(row.parameters)
    start = len(row.arrays)
    expected = ["p", "at", "training"] if row.has_p else ["at", "training"]
    assert names[start : start + len(expected)] == expected
    assert {"window", "mirror"} <= set(names)
    assert row.parameters["training"].default is True
