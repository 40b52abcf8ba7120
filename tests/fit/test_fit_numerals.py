"""Numbers as Excel, R, SAP and people of several countries write them, one cell at a time."""

import pytest

from thinned.fit.numerals import STYLES, plainly, taken_apart


def worth(cell):
    """What a cell is worth under each style that it fits."""
    (numeral,) = taken_apart([cell])
    if numeral is None:
        return {}
    return {name: way.value(numeral) for name, way in STYLES.items() if way.fits(numeral)}


@pytest.mark.parametrize(
    ("cell", "style", "value"),
    [
        ("1234.5", "1.5", 1234.5),
        (".5", "1.5", 0.5),
        ("1.e5", "1.5", 1e5),
        ("1,5", "1,5", 1.5),
        ("1,5e+01", "1,5", 15.0),
        ("-1,5E-3", "1,5", -0.0015),
        ("1,234.50", "1,234.5", 1234.5),
        ("1,234,567", "1,234.5", 1234567.0),
        ("1.234,50", "1.234,5", 1234.5),
        ("1.234.567", "1.234,5", 1234567.0),
        ("1 234,50", "1 234,5", 1234.5),
        ("1\u202f234,50", "1 234,5", 1234.5),  # French, as Excel and the CLDR have it
        ("1\u00a0234.50", "1 234.5", 1234.5),
        ("12345,5", "1 234,5", 12345.5),
        ("1'234.50", "1'234.5", 1234.5),  # Swiss
        ("1\u2019234.50", "1'234.5", 1234.5),
        ("1,23,456.50", "12,34,567.5", 123456.5),  # Indian
        ("1,00,00,000", "12,34,567.5", 1e7),
        ("\u22123", "1.5", -3.0),
        ("\u20133", "1.5", -3.0),
        ("(12.50)", "1.5", -12.5),
        ("($1,234.50)", "1,234.5", -1234.5),
        ("$ (12)", "1.5", -12.0),
        ("1.234,50-", "1.234,5", -1234.5),  # SAP
        ("+7", "1.5", 7.0),
        ("$-12", "1.5", -12.0),
        ("-$12", "1.5", -12.0),
        ("12,-", "1,5", 12.0),
        ("12.\u2013", "1.5", 12.0),
        ("12,--", "1,5", 12.0),
        ("1.234,- kr", "1.234,5", 1234.0),
        ("5.\u066a", "1.5", 5.0),
    ],
)
def test_a_number_as_it_is_written(cell, style, value):
    assert worth(cell)[style] == value


@pytest.mark.parametrize(
    ("cell", "before", "after"),
    [
        ("$12", "$", ""),
        ("US$ 12", "US$", ""),
        ("CHF 1'234.50", "CHF", ""),
        ("Rs. 1,23,456", "Rs.", ""),
        ("12 €", "", "€"),
        ("12%", "", "%"),
        ("12 %", "", "%"),
        ("12 kg", "", "kg"),
        ("12kg", "", "kg"),
        ("5 °C", "", "°C"),
        ("3 m/s²", "", "m/s²"),
        ("100 Kč", "", "Kč"),
        ("1 year", "", "year"),
        ("2 years", "", "year"),
        ("$10/month", "$", "/month"),
        ("80'", "", "'"),
        ("12 (est.)", "", "(est.)"),
    ],
)
def test_what_stands_around_a_number(cell, before, after):
    (numeral,) = taken_apart([cell])
    assert (numeral.before, numeral.after) == (before, after)


@pytest.mark.parametrize(
    "cell",
    [
        "", "x", "A12", "--5", "-(5)", "((5))", "1-2", "1/2", "12 Main St", "14:05", "1,2,3",
        "0,12,3", "1.2.3", "192.168.1.1", "01.234.567", "1,2345,678", "12 34 5", "1e", "e5", "½",
        "0x1F", "1_000", "25.03.2023", "2023-03-25", "nan", "inf", "5 kg 3", "$", "%", "(", "()",
        "5.2(3)", "12 (5)", "(5)3",
    ],
)  # fmt: skip
def test_what_is_no_number_alone(cell):
    (numeral,) = taken_apart([cell])
    company = numeral is not None and numeral.before + numeral.after
    assert company or worth(cell) == {}


def test_grouping_is_whole_or_it_is_none():
    assert "1,234.5" not in worth("1,23,456")
    assert "12,34,567.5" not in worth("1,234,567")
    assert "1,234.5" not in worth("1234,567")
    assert "1,234.5" not in worth("0,234")
    assert "1.234,5" not in worth("0.500")
    assert worth("4.282") == {
        "1.5": 4.282, "1,234.5": 4.282, "1.234,5": 4282.0, "1 234.5": 4.282, "1'234.5": 4.282,
        "12,34,567.5": 4.282,
    }  # fmt: skip


def test_the_many_spaces_and_signs_are_one():
    assert plainly(" \u22121\u202f2\u2019 ") == "-1 2'"


def test_a_number_beyond_all_is_infinite_and_not_an_error():
    assert worth("1e999")["1.5"] == float("inf")
    assert worth("9" * 400)["1.5"] == float("inf")
