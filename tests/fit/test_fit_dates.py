"""Dates and times of day: how they are written, what they mean, what they become."""

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit.choices import Choices
from thinned.fit.date_numbers import form_of_numbers
from thinned.fit.date_parts import part_names, parts
from thinned.fit.dates import FORMS, Counted, two_digit_years
from thinned.fit.detection import found
from thinned.fit.files import read
from thinned.fit.readings import applied
from thinned.fit.tables import load


def meant(text):
    """What a text means under each form that it has."""
    ways = {form: way for form, way in FORMS.items() if not isinstance(way, Counted)}
    days = {form: way.days(pd.Series([text], dtype=object))[0] for form, way in ways.items()}
    return {form: day for form, day in days.items() if np.isfinite(day)}


def day(text):
    return int(np.datetime64(text, "D").astype(int))


@pytest.mark.parametrize(
    ("text", "form", "value"),
    [
        ("2023-03-25", "2023-03-25", day("2023-03-25")),
        ("2023/3/5", "2023-03-25", day("2023-03-05")),
        ("2023-03", "2023-03-25", day("2023-03-01")),
        ("1899-12-31 12:00:00", "2023-03-25", day("1899-12-31") + 0.5),
        ("2023-03-25T10:00Z", "2023-03-25T10:00Z", day("2023-03-25") + 10 / 24),
        ("2023-03-25T01:00:00.000+02:00", "2023-03-25T10:00Z", day("2023-03-24") + 23 / 24),
        ("2023-03-25 20:00-0530", "2023-03-25T10:00Z", day("2023-03-26") + 1.5 / 24),
        ("25.03.2023", "25.03.2023", day("2023-03-25")),
        ("5. 3. 2023 6:00", "25.03.2023", day("2023-03-05") + 0.25),
        ("25/03/2023", "25/03/2023", day("2023-03-25")),
        ("25-03-2023", "25/03/2023", day("2023-03-25")),
        ("03/25/2023", "03/25/2023", day("2023-03-25")),
        ("3/25/2023 6:00:00 PM", "03/25/2023", day("2023-03-25") + 0.75),
        ("25 Mar 2023", "25 Mar 2023", day("2023-03-25")),
        ("25-MAR-2023", "25 Mar 2023", day("2023-03-25")),
        ("1st September 2023", "25 Mar 2023", day("2023-09-01")),
        ("March 25, 2023", "Mar 25, 2023", day("2023-03-25")),
        ("Jan-1-1995", "Mar 25, 2023", day("1995-01-01")),
        ("29.02.2024", "25.03.2023", day("2024-02-29")),
        ("2023-03-25 10:00 CET", "2023-03-25T10:00Z", day("2023-03-25") + 9 / 24),
        ("2023-03-25 20:00 PDT", "2023-03-25T10:00Z", day("2023-03-26") + 3 / 24),
        ("21 lutego 2023", "25 Mar 2023", day("2023-02-21")),
        ("3 a\u011fustos 2023", "25 Mar 2023", day("2023-08-03")),
        ("7 \u043c\u0430\u044f 2023", "25 Mar 2023", day("2023-05-07")),
        ("2023\u5e743\u670825\u65e5", "2023\u5e743\u670825\u65e5", day("2023-03-25")),
        ("25/Mar/2023:06:00:00 +0000", "25/Mar/2023:10:00", day("2023-03-25") + 0.25),
        ("Sat Mar 25 06:00:00 2023", "Mar 25 10:00 2023", day("2023-03-25") + 0.25),
        ("1. Quartal 2023", "Q1 2023", day("2023-01-01")),
        ("3Q2023", "Q1 2023", day("2023-07-01")),
        ("KW 2/2023", "W12/2023", day("2023-01-09")),
        ("2023W2", "2023-W12", day("2023-01-09")),
        ("202303", "202303", day("2023-03-01")),
        ("1991 Jul", "2023 Mar", day("1991-07-01")),
        ("2023-March", "2023 Mar", day("2023-03-01")),
        ("18:00", "14:05", 0.75),
        ("12:00 a.m.", "14:05", 0.0),
        ("12:30 PM", "14:05", 12.5 / 24),
        ("00:00:43.2", "14:05", 0.0005),
        ("24:00", "14:05", 1.0),
        ("2023-03-25 24:00:00", "2023-03-25", day("2023-03-26")),
        ("kl. 18:00", "14:05", 0.75),
        ("14:05 Uhr", "14:05", (14 * 60 + 5) / 1440),
        ("14.05 Uhr", "14.05 Uhr", (14 * 60 + 5) / 1440),
        ("kl. 6.00", "14.05 Uhr", 0.25),
        ("18h00", "14.05 Uhr", 0.75),
        ("6 pm", "2 pm", 0.75),
        ("12 a.m.", "2 pm", 0.0),
        ("25/03/2023 6:00 p. m.", "25/03/2023", day("2023-03-25") + 0.75),
        ("25.03.2023 um 18:00 Uhr", "25.03.2023", day("2023-03-25") + 0.75),
        ("Mo, 27.03.2023", "25.03.2023", day("2023-03-27")),
        ("Mon 03/27/2023", "03/25/2023", day("2023-03-27")),
        ("2012/13", "2012/13", day("2012-01-01")),
        ("1999-00", "2012/13", day("1999-01-01")),
        ("2012\u201313", "2012/13", day("2012-01-01")),
        ("FY2012/2013", "2012/13", day("2012-01-01")),
        ("2023M03", "2023M03", day("2023-03-01")),
        ("2023 03", "2023M03", day("2023-03-01")),
        ("03-2023", "03/2023", day("2023-03-01")),
        ("2023-S2", "2023-H1", day("2023-07-01")),
        ("H1 2023", "H1 2023", day("2023-01-01")),
        ("2023. 3. 25.", "2023. 3. 25.", day("2023-03-25")),
        ("2023. m\u00e1rcius 25.", "2023 Mar 25", day("2023-03-25")),
        ("2023-Mar-25", "2023 Mar 25", day("2023-03-25")),
        ("25MAR2023:06:00:00", "25/Mar/2023:10:00", day("2023-03-25") + 0.25),
        ("25 \u043c\u0430\u0440\u0442\u0430 2023 \u0433.", "25 Mar 2023", day("2023-03-25")),
        ("25. maaliskuuta 2023", "25 Mar 2023", day("2023-03-25")),
        ("25 \u039c\u03b1\u03c1\u03c4\u03af\u03bf\u03c5 2023", "25 Mar 2023", day("2023-03-25")),
        ("25 \u0431\u0435\u0440\u0435\u0437\u043d\u044f 2023", "25 Mar 2023", day("2023-03-25")),
    ],
)
def test_what_a_date_means(text, form, value):
    (only,) = meant(text).items()
    assert only == (form, pytest.approx(value, rel=1e-15, abs=1e-12))


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "2023", "20231325", "2023-02-30", "29.02.2023", "31/04/2023", "2023-13-01",
        "2023-00-10", "2023-01-00", "25.3.23", "25.03", "2023-03/25", "24:01", "14:60", "14:5",
        "13:00 PM", "0:30 AM", "2023-03-25 24:01", "25 Foo 2023", "3:1", "12345-01-01", "1.2.3",
        "2012/14", "2012/2015", "14.05", "24:00:01", "24:00 pm", "25h00", "13 pm", "2023M13",
        "H3 2023",
    ],
)  # fmt: skip
def test_what_is_no_date(text):
    assert meant(text) == {}


def test_two_digits_are_no_year():
    assert two_digit_years(pd.Series(["1.2.23", "25.12.99"]))
    assert not two_digit_years(pd.Series(["1.2.23", "25.12.1999"]))


def test_what_a_date_becomes():
    days = np.array([day("2023-03-26") + 0.25, np.nan, day("1969-12-31")])
    out = parts("d", days, FORMS["2023-03-25"])
    assert tuple(out) == part_names("d", FORMS["2023-03-25"])
    assert all(np.isnan(column[1]) for column in out.values())
    assert out["d: days"][::2].tolist() == [19442.25, -1.0]
    assert out["d: year"][::2].tolist() == [2023.0, 1969.0]

    def angle(cycle, i):
        pair = (out[f"d: {cycle} ({wave})"][i] for wave in ("sine", "cosine"))
        return np.arctan2(*pair) / (2 * np.pi) % 1

    assert angle("month", 0) == pytest.approx(2 / 12)  # March
    assert angle("month", 2) == pytest.approx(11 / 12)
    assert angle("weekday", 0) == pytest.approx(6 / 7)  # a Sunday
    assert angle("weekday", 2) == pytest.approx(2 / 7)
    assert angle("hour", 0) == pytest.approx(1 / 4)
    clock = parts("t", np.array([0.75]), FORMS["14:05"])
    assert tuple(clock) == part_names("t", FORMS["14:05"]) == ("t: hour (sine)", "t: hour (cosine)")
    assert clock["t: hour (sine)"][0] == pytest.approx(-1)


# ------------------------------------------------------------------------------------- of a column


@pytest.fixture
def table(tmp_path):
    def write(cells, kinds=None):
        path = tmp_path / "data.csv"
        pd.DataFrame({"d": cells, "z": "x"}).to_csv(path, index=False)
        source = read(path)
        readings = found(source, ["d", "z"], kinds)
        applied(source, readings)
        return source, readings

    return write


def sentence(table, *arguments):
    with pytest.raises(InputError) as caught:
        table(*arguments)
    return str(caught.value).removeprefix("data.csv: ")


@pytest.mark.parametrize(
    ("cells", "form", "note"),
    [
        (
            ["2023-03-25", "2023-04-01 10:00"],
            "2023-03-25",
            'Dates (year, month, day) were read in "d": "2023-03-25" is 2023-03-25.',
        ),
        (
            ["25.03.2023", "01.04.2023"],
            "25.03.2023",
            'Dates (day, month, year) were read in "d": "25.03.2023" is 2023-03-25.',
        ),
        (
            ["04/03/2023", "04/13/2023"],
            "03/25/2023",
            'Dates (month, day, year) were read in "d": "04/03/2023" is 2023-04-03.',
        ),
        (
            ["04/03/2023", "13/04/2023"],
            "25/03/2023",
            'Dates (day, month, year) were read in "d": "04/03/2023" is 2023-03-04.',
        ),
    ],
)
def test_all_cells_decide_the_form_and_it_is_said(table, cells, form, note):
    source, (reading,) = table(cells)
    assert reading.form == form
    (said,) = source.notes
    assert said == (
        f"{note} They become columns: days since 1970, the year, and month, weekday and hour (a "
        "sine and a cosine each)."
    )
    assert source.frame.columns.tolist() == [*part_names("d", FORMS["2023-03-25"]), "z"]


def test_times_of_day(table):
    source, (reading,) = table(["14:05", "", "9:30"])
    assert reading.form == "14:05"
    (said,) = source.notes
    assert said == (
        'Times of day were read in "d": "14:05" is 14:05. They become columns: the hour (a sine '
        'and a cosine). If they are lengths of time, write --type "d=duration".'
    )
    assert np.isnan(source.frame["d: hour (sine)"]).tolist() == [False, True, False]


def test_a_day_or_a_month_first_is_asked_and_the_answer_decides(table):
    cells = ["01/01/2023", "04/03/2023", "05/03/2023"]
    asked = (
        'column "d", row 2 (line 3) holds "04/03/2023", which can be 2023-03-04 or 2023-04-03, and '
        'no row decides; write --type "d=day/month/year" or --type "d=month/day/year".'
    )
    assert sentence(table, cells) == asked
    assert sentence(table, cells, {"d": "date"}) == asked
    for kind, first in (("day/month/year", "2023-03-04"), ("month/day/year", "2023-04-03")):
        assert table(cells, {"d": kind})[0].frame["d: days"][1] == day(first)
    # Where both orders mean the same there is no doubt.
    assert table(["01/01/2023", "02/02/2023"])[0].frame["d: days"][1] == day("2023-02-02")


@pytest.mark.parametrize(
    ("cells", "one", "other"),
    [
        (["25/03/2023"] * 2 + ["3/25/2023"], '"25/03/2023" in row 1', '"3/25/2023" in row 3'),
        (["2023-03-25"] * 2 + ["25.3.2023"], '"2023-03-25" in row 1', '"25.3.2023" in row 3'),
        (
            ["2023-03-25 10:00", "2023-03-25 10:00Z"],
            '"2023-03-25 10:00" in row 1',
            '"2023-03-25 10:00Z" in row 2',
        ),
    ],
)
def test_dates_in_several_ways_are_refused(table, cells, one, other):
    said = sentence(table, cells)
    assert said.startswith(f'column "d" holds {one} (line ')
    assert f" and {other} (line " in said
    assert said.endswith(
        ': dates are written in several ways; write all in one way, or --type "d=date" to take the '
        'rarer ones for missing, or --type "d=text".'
    )
    source, (reading,) = table(cells, {"d": "date"})
    assert reading.lenient
    assert np.isnan(source.frame["d: days"]).sum() == 1


def test_as_many_dates_of_each_kind(table):
    cells = ["25/03/2023", "03/25/2023"]
    assert "as many begin with the day as with the month" in sentence(table, cells, {"d": "date"})
    assert np.isnan(table(cells, {"d": "month/day/year"})[0].frame["d: days"][0])


def test_a_word_among_dates_is_refused_by_place(table):
    cells = [*(f"2023-03-{i:02d}" for i in range(1, 21)), "soon"]
    assert sentence(table, cells) == (
        'column "d" holds dates except in row 21 (line 22), where it holds "soon"; leave cells '
        'without a value empty, or write --missing "soon" or --type "d=text".'
    )


def test_seasons_are_no_months(table):
    """2008-09 is a month of 2008 too; that all of them are is an accident no longer."""
    source, (reading,) = table(["2008-09", "2009-10", "", "2010-11"])
    assert reading.form == "2012/13"
    assert source.frame.columns.tolist() == ["d: year", "z"]
    assert source.frame["d: year"].tolist()[::3] == [2008.0, 2010.0]
    (note,) = source.notes
    assert note == (
        'Seasons or financial years were read in "d": "2008-09" is 2008. They become a column: the '
        "year that each begins in."
    )
    months, (reading,) = table(["2008-09", "2009-11"])
    assert reading.form == "2023-03-25"
    assert months.frame["d: days"][1] == day("2009-11-01")
    assert table(["2008-09", "2009-10"], {"d": "date"})[1][0].form == "2023-03-25"


@pytest.mark.parametrize(
    ("spelled", "form"), [("{month:02d}.{year}", "03.2023"), ("{year}.{month:02d}", "2023.03")]
)
def test_months_that_a_reader_of_csv_takes_for_numbers(table, spelled, form):
    """01.2010 is 1.201 to pandas, and 2010.10 the same as 2010.1."""
    cells = [spelled.format(month=i % 12 + 1, year=2010 + i // 7) for i in range(40)]
    source, (reading,) = table(cells)
    assert reading.form == form
    assert f'"{cells[0]}" is 2010-01-01' in source.notes[0]
    expected = [day(f"{2010 + i // 7}-{i % 12 + 1:02d}-01") for i in range(40)]
    assert source.frame["d: days"].tolist() == expected
    assert not table([*cells, "1.5"])[1]  # one that is no month makes all of them numbers
    assert not table(cells[:5])[1]


@pytest.mark.parametrize("missing", [60, 3])
def test_dates_in_numbers_behind_rows_without(tmp_path, missing):
    """The first rows say nothing, and the first date is found nonetheless."""
    path = tmp_path / "t.csv"
    days = [*["NA"] * missing, *(f"2023{i % 12 + 1:02d}{i % 28 + 1:02d}" for i in range(80))]
    months = [*["NA"] * missing, *(f"{i % 12 + 1:02d}.{2010 + i // 12}" for i in range(80))]
    pd.DataFrame({"d": days, "m": months, "y": np.arange(80 + missing) / 4}).to_csv(path)
    notes = load(str(path), "y").notes
    assert any('in "d": "20230101" is 2023-01-01' in note for note in notes)
    assert any('in "m": "01.2010" is 2010-01-01' in note for note in notes)


def test_months_of_a_language_that_is_not_known(tmp_path):
    path = tmp_path / "t.csv"
    days = [f"{i % 28 + 1} mehefin {1990 + i}" for i in range(30)]
    pd.DataFrame({"d": days, "z": range(30, 60), "y": np.arange(30) ** 2 * 0.5}).to_csv(path)
    (note,) = (
        note for note in load(str(path), "y", choices=Choices(keep=("z",))).notes if '"d"' in note
    )
    assert "dates whose months' names are not known here" in note


def test_seasons_put_rows_in_order(tmp_path):
    path = tmp_path / "t.csv"
    seasons = [f"{2000 + i}/{1 + i:02d}" for i in range(40)]
    pd.DataFrame({"s": seasons, "z": np.arange(40) % 7, "y": np.arange(40) * 0.5}).to_csv(path)
    problem = load(str(path), "y", choices=Choices(time="s"))
    assert problem.times is not None
    assert problem.times.tolist() == [2000.0 + i for i in range(40)]


def test_a_name_that_is_taken(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame({"d": ["2023-03-25"] * 2, "d: year": [1, 2]}).to_csv(path, index=False)
    source = read(path)
    with pytest.raises(InputError) as caught:
        applied(source, found(source, ["d", "d: year"]))
    assert str(caught.value) == (
        't.csv: the dates of column "d" make a column "d: year", which is there already; rename it.'
    )


def test_a_problem_with_dates(tmp_path):
    """What is of no use is left out by name: all of 2024 is one year, and no cell has a time."""
    path = tmp_path / "t.csv"
    days = pd.date_range("2024-01-01", periods=60).strftime("%d.%m.%Y")
    frame = pd.DataFrame({"day": days, "same": ["1.2.2024"] * 60, "y": np.arange(60) * 0.5})
    frame.to_csv(path, index=False)
    problem = load(str(path), "y")
    assert [column.name for column in problem.columns] == [
        "day: days", "day: month (sine)", "day: month (cosine)", "day: weekday (sine)",
        "day: weekday (cosine)",
    ]  # fmt: skip
    assert problem.left_out == ("same",)
    assert [one.column for one in problem.readings] == ["day"]
    (note,) = (note for note in problem.notes if "left out" in note)
    assert '"day: year", "day: hour (sine)", "day: hour (cosine)", "same: days"' in note


def test_dates_are_no_target(tmp_path):
    path = tmp_path / "t.csv"
    frame = pd.DataFrame({"a": range(20), "y": pd.date_range("2024-01-01", periods=20)})
    frame.to_csv(path, index=False)
    with pytest.raises(InputError, match='the target "y" holds dates; name another with --target'):
        load(str(path))


@pytest.mark.parametrize(
    ("name", "numbers", "form", "first"),
    [
        ("period", [202301, 202312, 202403, 202207], "202303", "2023-01-01"),
        ("created_at", [1679702400, 1679788800], "1679702400", "2023-03-25"),
        ("eventTime", [1679702400000, 1679788800000], "1679702400000", "2023-03-25"),
        ("Date", [45010, 45011], "45010", "2023-03-25"),
    ],
)
def test_numbers_that_are_dates(name, numbers, form, first):
    assert form_of_numbers(name, pd.Series(numbers)) == form
    days = FORMS[form].days(pd.Series([str(numbers[0])], dtype=object))
    assert days.tolist() == [day(first)]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("price", [202301, 202312, 202403, 202313]),
        ("id", [1679702400, 1679788800]),
        ("time", [45010, 45011]),
        ("Date", [12, 45011]),
    ],
)
def test_numbers_that_are_none(name, numbers):
    assert form_of_numbers(name, pd.Series(numbers)) is None
