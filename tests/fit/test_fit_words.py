"""The words and figures that come before a person."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from thinned.fit.metrics import METRICS
from thinned.fit.results import Mean
from thinned.fit.words import count, number, percent, table, with_error

from .test_fit_statements import level


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0123456, "0.0123"),
        (1.0, "1.00"),
        (98.76, "98.8"),
        (12345.6, "12346"),
        (-0.5, "-0.500"),
        (1e-9, "1.00e-09"),
        (2.5e12, "2.50e+12"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_have_three_digits_or_their_whole_part(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.08942, 0.00513, "0.0894 ± 0.0051"),
        (2912.3, 121.7, "2912 ± 122"),
        (98.333, 0.71, "98.33 ± 0.71"),
        (1.0, 0.0, "1.00"),
        (3e-8, 1e-9, "3.00e-08 ± 1.0e-09"),
        (-0.3, 1.26, "-0.3 ± 1.3"),
    ],
)
def test_means_are_shown_to_the_second_digit_of_their_error(value, error, shown):
    assert with_error(Mean(value, error)) == shown


def test_counts_and_shares():
    assert count(1, "row") == "1 row"
    assert count(1797, "row") == "1,797 rows"
    assert percent(0.9833) == "98.3 %"


def test_the_table_for_the_terminal():
    cut = replace(level(0.25, 0.3, 12, accuracy=0.95), finished=False)
    levels = (level(0.0, 0.5, accuracy=0.9), cut)
    data = SimpleNamespace(task="classification", unbalanced=False)
    settings, metric = SimpleNamespace(metric="loss"), METRICS["classification"]["loss"]
    result = SimpleNamespace(
        data=data, levels=levels, best=levels[1], settings=settings, metric=metric
    )
    assert table(result).splitlines() == [
        "   p  epochs  validation loss (nats)  accuracy (%)  training loss            gap",
        "   0       4           0.500 ± 0.010    90.0 ± 1.0  0.500 ± 0.010  0.500 ± 0.010",
        (
            "0.25     12+           0.300 ± 0.010    95.0 ± 1.0  0.300 ± 0.010  0.500 ± 0.010"
            "  <- lowest loss"
        ),
    ]
