"""What is pointed out, or read, of forms that tables of strangers have."""

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit.dates import FORMS, HoursMinutes, form_of_numbers
from thinned.fit.endings import is_sum
from thinned.fit.quotes import with_double_quotes
from thinned.fit.tables import load

ROWS = 80
RNG = np.random.default_rng(3)
Y = RNG.normal(size=ROWS).round(3)
Z = RNG.normal(size=ROWS).round(2)


@pytest.fixture
def problem(tmp_path):
    """A table with a column of these cells beside a quantity and a target, read."""

    def read(cells, name="a", y=Y, encoding="utf-8", **options):
        path = tmp_path / "data.csv"
        frame = pd.DataFrame({name: cells, "z": Z[: len(cells)], "y": y[: len(cells)]})
        path.write_bytes(frame.to_csv(index=False).encode(encoding))
        return load(str(path), "y", **options)

    return read


def noted(problem, text):
    return [note for note in problem.notes if text in note]


def numbers(low, high, rows=ROWS):
    return np.random.default_rng(7).integers(low, high, rows)


# -------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("name", ["zip", "Provider Zip Code", "area_code", "PLZ", "stationId"])
def test_numbers_that_are_called_codes(problem, name):
    codes = numbers(10000, 99999)
    codes[:3] = codes[3]  # no row's own number
    (note,) = noted(problem(codes, name), "is called as codes are")
    assert f'--type "{name}=text"' in note


@pytest.mark.parametrize("name", ["area", "encode", "paid", "price"])
def test_numbers_that_are_not(problem, name):
    assert not noted(problem(numbers(10000, 99999), name), "is called as codes are")


def test_versions(problem):
    cells = [f"{a}.{b}" for a, b in zip(numbers(1, 4), numbers(0, 15), strict=True)]
    assert noted(problem(cells, "version"), "is called as codes are")


def test_codes_with_an_exponent(problem):
    cells = [f"{a}E{b:02d}" for a, b in zip(numbers(10, 99), numbers(1, 15), strict=True)]
    (note,) = noted(problem(cells), "all have an exponent")
    assert '--type "a=text"' in note
    assert not noted(problem([f"{a / 7:.4e}" for a in numbers(10, 99)]), "all have an exponent")


def test_long_numbers_that_name_rows(problem):
    cells = [10**17 + int(n) for n in numbers(1, 10**9)]
    assert noted(problem(cells), "has another number of 18 digits in each row")


# ---------------------------------------------------------------------------------------- dates


def test_hours_and_minutes(problem):
    hours, minutes = numbers(0, 24), np.random.default_rng(1).integers(0, 60, ROWS)
    found = problem(hours * 100 + minutes, "dep_time")
    names = [column.name for column in found.columns]
    assert names[:2] == ["dep_time: hour (sine)", "dep_time: hour (cosine)"]
    turn = 2 * np.pi * (hours * 60 + minutes) / 1440
    np.testing.assert_allclose(found.features[names[0]], np.sin(turn), atol=1e-12)
    assert noted(found, "Times of day, hours and minutes in one number, were read")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("air_time", np.arange(100, 180)),  # minutes, some of them from 60 to 99 in the end
        ("length", (np.arange(80) % 24) * 100 + 30),  # not called a time
        ("time", np.arange(80)),  # small
    ],
)
def test_numbers_that_are_no_times(name, values):
    assert form_of_numbers(name, pd.Series(values)) is None


def test_what_hours_and_minutes_are():
    form = FORMS["1405"]
    assert isinstance(form, HoursMinutes)
    days = form.days(pd.Series(["1405", "5", "960", "2400", "905.0", "2501"], dtype=object))
    expected = [(14 * 60 + 5) / 1440, 5 / 1440, np.nan, 1.0, (9 * 60 + 5) / 1440, np.nan]
    np.testing.assert_allclose(days, expected)


DAYS = pd.Timestamp("2019-01-01") + pd.to_timedelta(numbers(0, 1500), unit="D")


@pytest.mark.parametrize("form", ["%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M", "%Y%m%d%H%M%S"])
def test_dates_and_times_without_marks(problem, form):
    found = problem([f"{day:{form}}" for day in DAYS + pd.Timedelta(hours=6)], "d")
    days = (DAYS - pd.Timestamp("1970-01-01")).days + 0.25
    np.testing.assert_allclose(found.features["d: days"], days)


@pytest.mark.parametrize("form", ["%Y%j", "%y%m%d"])
def test_dates_in_no_known_form(problem, form):
    cells = [int(f"{day:{form}}") for day in DAYS]
    assert noted(problem(cells, "date"), "in no form of dates that is known here")
    assert not noted(problem(cells, "load"), "in no form of dates")


@pytest.mark.parametrize("none", ["9999-12-31", "1900-01-01"])
def test_dates_that_stand_for_none(problem, none):
    cells = [none if i % 3 == 0 else f"{day:%Y-%m-%d}" for i, day in enumerate(DAYS)]
    (note,) = noted(problem(cells, "until"), "far from all other dates")
    assert none in note
    assert not noted(problem([f"{day:%Y-%m-%d}" for day in DAYS], "until"), "far from all")


# ---------------------------------------------------------------------------------------- texts


def test_several_texts_in_a_cell(problem):
    colours = ["red", "green", "blue", "grey"]
    pairs = [f"{a}|{b}" for a in colours for b in colours if a < b]
    cells = [[*colours, *pairs][n] for n in numbers(0, 10)]
    (note,) = noted(problem(cells), "several texts in a cell")
    assert "4 in all" in note
    assert not noted(problem([f"{a} and sons" for a in cells]), "several texts in a cell |")


def test_several_numbers_in_a_cell(problem):
    cells = [f"{a}:{b}" for a, b in zip(numbers(0, 7), numbers(0, 6)[::-1], strict=True)]
    assert noted(problem(cells, "result"), "several numbers in each cell")
    assert not noted(problem([f"{a}-{a + 9}" for a in numbers(1, 8) * 10]), "several numbers")


def test_sums_among_the_rows(problem):
    cells = ["Subtotal" if i % 10 == 9 else f"g{i // 10}" for i in range(ROWS)]
    (note,) = noted(problem(cells), "seem to be sums of others")
    assert '"Subtotal" in 8 rows' in note
    assert is_sum("Gesamt")
    assert not is_sum("media")


@pytest.mark.parametrize("rows", [20, ROWS])
def test_another_text_in_each_row_names_rows(problem, rows):
    found = problem([f"row {chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(rows)])
    assert [column.name for column in found.columns] == ["z"]
    assert noted(found, "which name rows")


@pytest.mark.parametrize("word", ["?", "unknown", "--", "k.A."])
def test_a_class_that_may_say_that_there_is_none(problem, word):
    y = np.array([("good", "bad", word)[n] for n in numbers(0, 3)])
    (note,) = noted(problem(numbers(0, 9), y=y), "may say that there is none")
    assert f'--missing "{word}"' in note
    assert not noted(problem(numbers(0, 9), y=np.where(y == word, "fair", y)), "may say")


def test_texts_that_differ_in_how_letters_are_composed(problem):
    cells = ["é" if n else "e\u0301" for n in numbers(0, 2)]
    assert noted(problem(cells), "count as different")


# ----------------------------------------------------------------------------------------- rows


def test_rows_that_are_equal_to_others(tmp_path):
    frame = pd.DataFrame({"z": Z, "t": np.where(Z > 0, "u", "v"), "y": Y})
    path = tmp_path / "data.csv"
    pd.concat([frame, frame[:30]]).to_csv(path, index=False)
    (note,) = noted(load(str(path), "y"), "are equal to others in all columns")
    assert note.startswith("30 rows of 110 ")
    frame.to_csv(path, index=False)
    assert not noted(load(str(path), "y"), "are equal to others")


def test_equal_rows_of_few_values_are_no_copies(tmp_path):
    path = tmp_path / "data.csv"
    columns = {"a": numbers(0, 3), "b": Z > 0, "y": np.where(Y > 0, "yes", "no")}
    pd.DataFrame(columns).to_csv(path, index=False)
    assert not noted(load(str(path), "y"), "are equal to others")


# ---------------------------------------------------------------------------------------- files


def test_a_first_line_of_texts_that_is_a_row(tmp_path):
    path = tmp_path / "data.csv"
    a, b = numbers(0, 2), np.random.default_rng(2).integers(0, 3, ROWS)
    lines = [
        f"{'uv'[i]},{'pqr'[j]},{('no', 'yes')[int(k > 0)]}" for i, j, k in zip(a, b, Y, strict=True)
    ]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match="which stand in rows below too; a header"):
        load(str(path))
    path.write_text("\n".join(["one,two,three", *lines]))
    assert load(str(path)).rows == ROWS
    path.write_text("\n".join(["u,two,three", *lines]))  # one alone may be a name
    assert load(str(path)).rows == ROWS


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_single_quotes(tmp_path, separator):
    path = tmp_path / "data.csv"
    lines = [separator.join(["'a'", "'t'", "'y'"])]
    cells = [f"u{separator}{n}" for n in numbers(0, 3)]
    lines += [
        f"'{n}'{separator}'{t}'{separator}{y}"
        for n, t, y in zip(numbers(0, 99), cells, Y, strict=True)
    ]
    path.write_text("\n".join(lines))
    found = load(str(path), "y")
    assert found.features["a"].tolist() == numbers(0, 99).tolist()
    assert found.features["t"].tolist() == cells
    assert "The single quotes around cells were taken away." in found.notes


@pytest.mark.parametrize(
    "text",
    [
        "a,b\nit's,1\nO'Brien,2\n",  # apostrophes
        "a,b\n'1154,1\n'6622,2\n",  # spreadsheets' mark of texts
        'a,b\n"it\'s",1\n"\'u\'",2\n',  # double quotes are there
        "a,b\n'u',1\nv,2\nw,3\nw,4\n",  # one cell alone
        "'a','b'\n'u','v'w\n",  # text behind a quote
    ],
)
def test_what_are_no_single_quotes(text):
    assert with_double_quotes(text, ",") == (text, [])


def test_letters_of_central_europe_are_asked_about(problem):
    towns = ["Łódź", "Gdańsk", "Żary"]
    with pytest.raises(InputError, match="looks like another encoding"):
        problem([towns[n] for n in numbers(0, 3)], encoding="iso-8859-2")
    west = ["Orléans", "1½ l", "Sète", "5 m²"]
    assert problem([west[n] for n in numbers(0, 4)], encoding="cp1252").rows == ROWS
