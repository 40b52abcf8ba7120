"""What is pointed out, or read, of forms that tables of strangers have."""

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit.choices import Choices
from thinned.fit.date_numbers import form_of_numbers
from thinned.fit.dates import FORMS, HoursMinutes
from thinned.fit.decoding import decoded
from thinned.fit.quotes import with_double_quotes, without_formulas
from thinned.fit.sums import is_sum
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


def test_one_number_in_a_cell(problem):
    cells = [f"${a}.5 - net" for a in numbers(1, 50)]
    (note,) = noted(problem(cells), "a number in each cell")
    assert "the number alone could be used" in note
    assert not noted(problem([f"site{a}" for a in numbers(1, 50)]), "number in each cell")


def test_a_text_in_the_first_row_of_several(problem):
    cells = [f"dept {i // 8 % 4}" if i % 8 == 0 else None for i in range(ROWS)]
    (note,) = noted(problem(cells), "if it holds for the rows below too")
    assert "a value in 10 of 80 rows" in note
    assert not noted(problem([None, *cells[:-1]]), "rows below too")
    assert not noted(problem(["x" if cell else None for cell in cells]), "rows below too")


@pytest.mark.parametrize(("code", "low"), [(-1, 1), (-9, 0), (-999, 0)])
def test_the_only_number_below_0(problem, code, low):
    cells = numbers(low, 5000)
    assert not noted(problem(cells), "the only number below 0")
    cells[::9] = code
    (note,) = noted(problem(cells), "the only number below 0")
    assert f'--missing "{code}"' in note
    assert not noted(problem(numbers(-1, 4)), "the only number below 0")


def test_numbers_with_marks_of_several_kinds(problem):
    cells = [f"{a}{('', ' p', ' e', ' b')[a % 4]}" for a in numbers(1, 500)]
    (note,) = noted(problem(cells), "different things around them")
    assert "the numbers alone could be used" in note
    with pytest.raises(InputError, match="what stands around the numbers differs"):
        problem(Z, y=np.array(cells))


def test_sums_among_the_rows(problem):
    cells = ["Subtotal" if i % 10 == 9 else f"g{i // 10}" for i in range(ROWS)]
    (note,) = noted(problem(cells), "seem to be sums of others")
    assert '"Subtotal" in 8 rows' in note
    assert is_sum("Gesamt")
    assert not is_sum("media")
    cells = ["Total north" if i % 10 == 9 else ("North", "South")[i % 2] for i in range(ROWS)]
    (note,) = noted(problem(cells), "seem to be sums of others")
    assert '"Total north" in 8 rows' in note
    assert not noted(
        problem(["Total wine" if n else "Beer" for n in numbers(0, 2)]), "sums of others"
    )


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
    assert noted(problem(cells), "how letters with accents are stored only, and count as different")


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


# ---------------------------------------------------------------------------- texts of spreadsheets


@pytest.mark.parametrize("quoted", [False, True])
def test_formulas_that_give_texts(tmp_path, quoted):
    def cell(text):
        return f'"=""{text}"""' if quoted else f'="{text}"'

    rows = [f"{cell(f'{7 * i:04d}')},{cell('a b')},{i % 5}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join([f"code,{cell('n')},y", *rows]) + "\n")
    choices = Choices(types=("code=text",), keep=("n", "code"))
    found = load(str(tmp_path / "t.csv"), "y", choices=choices)
    assert found.features["code"].tolist() == [f"{7 * i:04d}" for i in range(40)]
    assert found.features["n"].tolist() == ["a b"] * 40
    assert (
        'Cells such as ="n", formulas of a spreadsheet, were read as what they give.' in found.notes
    )
    found = load(str(tmp_path / "t.csv"), "y")
    assert found.features["code"].tolist() == [7.0 * i for i in range(40)]
    assert any('some begin with 0, as "0000"; if they are codes' in note for note in found.notes)


def test_what_only_looks_like_a_formula():
    for text in ("a,b\n=A1,2\n", 'a,b\nx="y",2\n', 'a,b\n"say =""x""",2\n', 'a\n="x"y\n'):
        assert without_formulas(text, ",") == (text, [])


def test_days_without_a_year(problem):
    days = [f"{i % 28 + 1}-{'Mar' if i % 2 else 'Apr'}" for i in range(ROWS)]
    (note,) = noted(problem(days), "days without a year")
    assert note.startswith('Column "a" holds days without a year, as "1-Apr", which count as texts')
    (note,) = noted(problem(["Sep 1", "October. 2"] * 40), "days without a year")
    genes = ["TP53", "BRCA1", "1-Sep", "2-Mar", "EGFR"] * 16
    (note,) = noted(problem(genes), "a spreadsheet makes")
    assert '"1-Sep", "2-Mar" among other texts' in note
    assert not noted(problem(["10-a", "b-2", "May", "x 1"] * 20), "days")


# -------------------------------------------------------------------------------- what looks alike


def test_letters_that_look_alike_are_pointed_out(problem):
    (note,) = noted(problem(["Na", "N\u0430", "K", "\u041a"] * 20), "look the same")
    assert '"Na", "N\u0430" (with U+0430); "K", "\u041a" (with U+041A)' in note
    assert "spaces, capitals or letters that look the same only" in note
    (note,) = noted(problem(["no", "n\u200bo", "yes", "yes"] * 20), "look the same")
    assert "U+200B" in note
    (note,) = noted(problem(["no", "No ", "yes", "yes"] * 20), "differ in")
    assert "differ in spaces or capitals only" in note
    assert not noted(
        problem(["\u041c\u043e\u0441\u043a\u0432\u0430", "\u041a\u0438\u0435\u0432"] * 40), "differ"
    )


# ------------------------------------------------------------------------------------- other dates


@pytest.mark.parametrize(("first", "years"), [(2560, "2560 to 2566"), (1400, "1400 to 1406")])
def test_years_of_other_calendars(problem, first, years):
    cells = [f"{i % 28 + 1:02d}/{i % 12 + 1:02d}/{first + i % 7}" for i in range(ROWS)]
    (note,) = noted(problem(cells, "day"), "another calendar")
    assert f'Column "day" holds dates of the years {years}.' in note
    cells = [f"{i % 28 + 1:02d}/{i % 12 + 1:02d}/{1990 + i % 40}" for i in range(ROWS)]
    assert not noted(problem(cells, "day"), "another calendar")


def test_weekdays_of_months_are_left_out(problem):
    months = [f"{1990 + i // 12}-{i % 12 + 1:02d}-01" for i in range(ROWS)]
    found = problem(months, "when")
    assert not any("weekday" in column.name for column in found.columns)
    assert noted(found, '"when: weekday (cosine)" (each date is the first of a month)')
    months[3] = "1990-04-02"
    assert any("weekday" in column.name for column in problem(months, "when").columns)


@pytest.mark.parametrize("name", ["fcode", "cowcode2", "nr", "occ_codes"])
def test_more_names_of_codes(problem, name):
    assert noted(problem(numbers(100, 120), name), "is called as codes are")


# ---------------------------------------------------------------------------------- encoded twice


def twice(text):
    return text.encode().decode("cp1252")


def test_text_that_was_encoded_twice(problem):
    cells = [*map(twice, ["café", "thé \u2013 noir", "naïve", "Łódź".replace("Ł", "L")]), "x"] * 16
    found = problem(cells)
    assert set(found.features["a"]) == {"café", "thé \u2013 noir", "naïve", "Lódź", "x"}
    (note,) = noted(found, "encoded twice")
    start = 'data.csv was encoded twice: line 2 has "cafÃ©", which was read as "café"'
    assert note == f"{start}, and so are others."


def test_text_of_which_some_was_encoded_twice(problem):
    found = problem([twice("café"), "thé", "naïve", "x"] * 20)
    assert set(found.features["a"]) == {"cafÃ©", "thé", "naïve", "x"}
    (note,) = noted(found, "encoded twice")
    assert note.endswith('is read as it stands; once it would be "café".')


@pytest.mark.parametrize(
    "texts",
    [
        ["MEN\u00dc\u2013KARTE", "\u201eMEN\u00dc\u201c", "\u00c4\u00d6", "x"],
        ["\u201cMA\u00c7\u00c3\u201d", "S\u00c3O", "\u00e2mbar", "\u00c2ngulo"],
        ["\u041f\u0440\u0438\u0432\u0435\u0442", "\u00a3 5", "\u00b0", "\u20ac"],
    ],
)
def test_text_that_was_not(problem, texts):
    found = problem(texts * 20)
    assert set(found.features["a"]) == set(texts)
    assert not noted(found, "twice")


def test_cyrillic_that_was_encoded_twice():
    text = "a,b\n" + "".join(f"Привет мир,{i}\n" for i in range(5))
    raw = b"".join(
        letter.encode("cp1252", "ignore") or letter.encode("latin-1")
        for letter in text.encode().decode("latin-1")
    )
    wrong = "".join(
        bytes([byte]).decode("cp1252", "ignore") or bytes([byte]).decode("latin-1") for byte in raw
    )
    found, notes = decoded("t.csv", wrong.encode())
    assert found == text
    assert "Привет" in notes[0]
