"""Quantities in several units: all cells decide, and each is what its units are worth."""

import pandas as pd
import pytest

from thinned.fit.compounds import COMPOUNDS, compound_of


def read(*texts):
    cells = pd.Series(texts, dtype=object)
    form = compound_of(cells)
    return form, None if form is None else COMPOUNDS[form].values(cells).tolist()


@pytest.mark.parametrize(
    ("texts", "form", "values"),
    [
        (["26:05:30", "1:00:00"], "26:05:30", [93930, 3600]),
        (["90 min", "2 h"], "26:05:30", [5400, 7200]),
        (["2 years", "3 weeks", "5 days"], "4 yrs 8 mos", [730.5, 21, 5]),
        (["4 yrs 8 mos", "1 yr"], "4 yrs 8 mos", [1704.5, 365.25]),
        (["47°12'30\"N", "10°30'S"], "47°12'30\"N", [47 + 12 / 60 + 30 / 3600, -10.5]),
        (["45.1234° W", "3.5° E"], "47°12'30\"N", [-45.1234, 3.5]),
        (["N47.5°", "S1.25°"], "47°12'30\"N", [47.5, -1.25]),
        (["47\N{DEGREE SIGN}12\N{PRIME}0\N{DOUBLE PRIME}"], "47°12'30\"N", [47.2]),
        (["6'2\"", "5'11\""], "6'2\"", [74, 71]),
        (["6ft 2in", "5 feet"], "6'2\"", [74, 60]),
    ],
)
def test_units_that_follow_each_other_are_added_up(texts, form, values):
    found, numbers = read(*texts)
    assert found == form
    assert numbers == pytest.approx(values)


@pytest.mark.parametrize(
    "texts",
    [
        ["12 h", "3 h"],  # a number with a unit
        ["12:05", "9:30"],  # times of day
        ["6'12\"", "5'3\""],  # no foot has twelve inches: minutes and seconds, perhaps
        ["45.1°", "44.2°"],
        ["5 m", "2 km"],
        ["2 years", "many"],
    ],
)
def test_others_are_none(texts):
    assert read(*texts) == (None, None)


@pytest.mark.parametrize(
    ("texts", "form", "values"),
    [
        (["19 1/2", "20", "7/8", "-2 3/8"], "19 1/2", [19.5, 20, 0.875, -2.375]),
        (["1½", "½", "3-1/4", "2"], "19 1/2", [1.5, 0.5, 3.25, 2]),
        (["1/2", "3/4", "5"], "19 1/2", [0.5, 0.75, 5]),
        (["1 1\N{FRACTION SLASH}3", "2/3"], "19 1/2", [4 / 3, 2 / 3]),
        (['1-1/2"', '2"'], "19 1/2", [1.5, 2]),
        (["6 lb 5 oz", "7 lbs 8 oz", "9 oz"], "6 lb 5 oz", [6.3125, 7.5, 0.5625]),
        (["11 st 4 lb", "9 st"], "6 lb 5 oz", [158, 126]),
    ],
)
def test_fractions_and_pounds(texts, form, values):
    found, numbers = read(*texts)
    assert found == form
    assert numbers == pytest.approx(values)


@pytest.mark.parametrize(
    "texts",
    [
        ["1/2", "1/4"],  # days and months, perhaps
        ["19 3/2", "20"],  # nobody writes it so
        ["19 1/2", "x"],
        ["3/25", "4 1/2"],
        ["19 5", "1 1/2"],
        ["6 lb 17 oz", "2 lb 3 oz"],
    ],
)
def test_what_is_no_fraction(texts):
    assert read(*texts) == (None, None)
