"""Forms of cells, and of files, that people write and that were once read wrongly or not at all."""

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit import tables
from thinned.fit.choices import Choices
from thinned.fit.detection import found
from thinned.fit.files import read
from thinned.fit.readings import applied


@pytest.fixture
def column(tmp_path):
    """Read a column "a" beside a column "b": its values, its form and the notes."""

    def look(cells, other="x", separator=",", name="a", targets=(), kinds=None):
        path = tmp_path / "t.csv"
        quoted = [str(cell).replace('"', '""') for cell in cells]
        others = other if isinstance(other, list) else [other] * len(quoted)
        rows = [f'"{a}"{separator}"{b}"\n' for a, b in zip(quoted, others, strict=True)]
        path.write_text(f"{name}{separator}b\n{''.join(rows)}", encoding="utf-8")
        source = read(path)
        readings = found(source, [name, "b"], kinds or {}, targets)
        applied(source, readings)
        forms = {one.column: one.form for one in readings}
        return source.frame, forms.get(name), source.notes

    return look


def refusal(look, *arguments, **options):
    with pytest.raises(InputError) as caught:
        look(*arguments, **options)
    return str(caught.value)


def days(frame, name="a"):
    return [str(np.datetime64(round(d * 86400), "s")) for d in frame[f"{name}: days"]]


# ------------------------------------------------------------------------------------------- dates


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("05.08.22", "2022-08-05T00:00:00"),
        ("26-Okt-23 02:30:00", "2023-10-26T02:30:00"),
        ("02/Mar/99 4:15 PM", "1999-03-02T16:15:00"),
        ("2023/10/02 3:24:07 PM GMT+2", "2023-10-02T13:24:07"),
        ("2023-10-02 03:00 UTC-05:30", "2023-10-02T08:30:00"),
        ("23/01/2021 \u00e0s 09h05", "2021-01-23T09:05:00"),
        ("24 kwietnia 2023 r.", "2023-04-24T00:00:00"),
        ("\u0662\u0660\u0662\u0663-\u0661\u0661-\u0662\u0669", "2023-11-29T00:00:00"),
        ("\u200e\u06f2\u06f0\u06f2\u06f3/\u06f1\u06f1/\u06f2\u06f9", "2023-11-29T00:00:00"),
        ("\uff12\uff10\uff12\uff13/\uff11\uff11/\uff12\uff19", "2023-11-29T00:00:00"),
    ],
)
def test_dates(column, cell, moment):
    frame, _, notes = column([cell] * 3)
    assert days(frame) == [moment] * 3
    assert moment[:10] in notes[0]


def test_years_of_two_digits_have_a_century_where_it_is_sure(column):
    frame, form, _ = column(["31/12/69", "01/02/45", "03/04/99"])
    assert (form, "a: days" in frame) == (None, False)
    frame, form, _ = column(["31/12/39", "01/02/70", "03/04/00"])
    assert (form, frame["a: year"].tolist()) == ("25/03/23", [2039, 1970, 2000])


def test_two_digits_of_which_the_first_may_be_the_year(column):
    """22/03/25: in a table of one spring the last number is the day."""
    cells = [f"{year}/03/{day:02d}" for year in (22, 23) for day in range(1, 28)]
    assert column(cells)[1] is None
    turned = [f"{day:02d}/03/{year}" for year in (22, 23) for day in range(1, 28)]
    assert column(turned)[1] == "25/03/23"


def test_two_digit_years_ask_as_four_do(column):
    assert "which can be 2022-08-05 or 2022-05-08" in refusal(column, ["05/08/22", "06/08/22"])
    frame, _, _ = column(["05/08/22", "06/08/22"], kinds={"a": "day/month/year"})
    assert days(frame)[0] == "2022-08-05T00:00:00"


def test_versions_are_no_dates(column):
    assert column(["1.5.23", "1.12.10", "10.1.3"])[1] is None


def test_hours_and_minutes_run_together_with_a_day(column):
    stamps = [f"202206{day:02d}{hour:02d}" for day in (1, 2) for hour in (0, 6, 15, 23)]
    frame, _, _ = column(stamps, name="stamp_date")
    assert days(frame, "stamp_date")[-1] == "2022-06-02T23:00:00"
    frame, _, _ = column([f"{one}30" for one in stamps])
    assert days(frame)[2] == "2022-06-01T15:30:00"
    frame, _, _ = column([f"{one}3059" for one in stamps])
    assert days(frame)[3] == "2022-06-01T23:30:59"
    ids = [str(2022010050 + i) for i in range(30)]  # no hour 50
    assert column(ids)[1] is None


def test_dates_of_another_calendar_that_ours_has_not_are_left_out_by_name(tmp_path):
    """In Iran the second month has 31 days."""
    path = tmp_path / "t.csv"
    cells = [f"1402/{month:02d}/{day:02d}" for month in (1, 2) for day in range(1, 32)]
    path.write_text("d,x,y\n" + "".join(f"{c},{i % 7},{i % 5}.5\n" for i, c in enumerate(cells)))
    problem = tables.load(str(path), "y")
    (note,) = [one for one in problem.notes if '"d"' in one]
    assert "dates of another calendar (Persian, Islamic); convert them to use it" in note


def test_dates_in_many_ways_are_pointed_out(column):
    cells = [f"2023-05-{d:02d}" for d in range(1, 13)] + [f"May {d}, 2023" for d in range(1, 13)]
    cells += [f"{45000 + i}" for i in range(14)]
    _, form, (note,) = column(cells)
    assert form is None
    assert 'it holds dates, written in several ways, in 24 rows and others, as "45000", in' in note


# ----------------------------------------------------------------------------------------- lengths


def test_short_times_are_lengths_and_the_note_on_clocks_says_what_to_do(column):
    paces = [f"{m}:{s:02d}" for m in (4, 5, 6) for s in range(0, 60, 6)]
    frame, form, (note,) = column(paces)
    assert (form, frame["a"].iloc[1]) == ("26:05:30", 246)
    assert note.endswith('"4:00" is 240, its last number being seconds.')
    halves = [f"1:{m}:{s:02d}" for m in (40, 50) for s in range(0, 60, 5)]
    assert column(halves, name="Time")[0]["Time"].iloc[0] == 6000
    assert column(paces, name="start time")[1] == "14:05"
    later = [f"{h:02d}:{m:02d}" for h in (4, 5) for m in range(0, 60, 5)]
    _, form, (note,) = column(later)
    assert form == "14:05"
    assert note.endswith('If they are lengths of time, write --type "a=duration".')
    assert "lengths" not in column(["2 pm", "3 pm"])[2][0]


def test_seconds_below_a_minute_beside_minutes(column):
    cells = [f"{s}.{s}" for s in range(41, 59)] + [f"1:{s:02d}.25" for s in range(20)]
    frame, _, _ = column(cells)
    assert frame["a"].iloc[[0, -1]].tolist() == [41.41, 79.25]
    assert 'except in row 39 (line 40), where it holds "DQ"' in refusal(column, [*cells, "DQ"])
    said = refusal(column, [*cells, "DQ"], targets=("a",))
    assert 'column "a" holds lengths of time except in row 39' in said
    plain = [f"{s}.{s}" for s in range(10, 59)]
    assert column(plain)[0]["a"].iloc[0] == 10.1


def test_feet_inches_and_fractions(column):
    cells = ["6' 11\"", "7' 0 3/4\"", "7' 4 1/2\"", "5'7", "6' 1/2\""]
    frame, _, _ = column(cells)
    assert frame["a"].tolist() == [83, 84.75, 88.5, 67, 72.5]


def test_quantities_in_several_units_among_others(column):
    heights = [f"{f}'{i}" for f in (5, 6) for i in range(12)]
    assert "holds feet and inches except in" in refusal(column, [*heights, "170cm"])
    others = [f"{160 + i}cm" for i in range(20)]
    _, form, (note,) = column(heights + others)
    assert form is None
    assert 'it holds feet and inches in 24 rows and others, as "160cm", in 20' in note


# ----------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["\u20b917.5 Lakh", "\u20b91.31 Crore"], [1.75e6, 1.31e7]),
        (["272.7\u4e07", "0.117\u4ebf"], [2.727e6, 1.17e7]),
        (["910 tri\u1ec7u", "1,99 t\u1ef7"], [9.1e8, 1.99e9]),
        (["910 \u0442\u044b\u0441.", "1,5 \u043c\u043b\u043d"], [9.1e5, 1.5e6]),
        (["3 tys. ", "2,5 mln"], [3e3, 2.5e6]),
        (["42.73\u33a1", "1\u33a1"], [42.73, 1]),
        (["63,811\u5143/\u33a1", "811\u5143/\u33a1"], [63811, 811]),
        (["24 \u0e1b\u0e35", "5 \u0e1b\u0e35"], [24, 5]),
        (["\uffe5216,710", "\uffe51,000"], [216710, 1000]),
        (["4.5 out of 5", "2 out of 5"], [4.5, 2]),
        (["\u00b1173", "\u00b13,975"], [173, 3975]),
        (["12 *", "13 (p)", "14"], [12, 13, 14]),
    ],
)
def test_numbers_with_what_stands_around_them(column, cells, values):
    assert column(cells)[0]["a"].tolist() == values


def test_one_thousand_beside_hundreds_is_asked_whatever_the_mark_elsewhere(column):
    heights = [f"{n} m" for n in range(700, 715)] + ["1,221 m"]
    said = refusal(column, heights, other=["6,4"] * 16, separator=";")
    assert "can be 1.221 or 1221" in said
    few = [f"{n} m" for n in range(1, 16)] + ["1,221 m"]
    assert column(few, other=["6,4"] * 16, separator=";")[0]["a"].iloc[-1] == 1.221


def test_a_doubtful_column_with_others_names_both_options(column):
    cells = [f"{n},{n}" for n in range(100, 120)] + ["250,000+"] * 2
    said = refusal(column, cells)
    assert '--type "a=number" or --type "a=grouped" to take the rarer ones for missing' in said
    frame, _, notes = column(cells, kinds={"a": "grouped"})
    assert frame["a"].iloc[0] == 100100
    assert np.isnan(frame["a"].iloc[-1])
    assert any('"250,000+" taken for missing (2 rows)' in note for note in notes)


def test_an_option_is_shown_whole_or_not_at_all(column):
    words = [f"a word of some length {i}" for i in range(10)]
    said = refusal(column, [f"{i}.5" for i in range(200)] + words)
    assert "--missing" not in said
    assert '--type "a=text"' in said


def test_texts_among_a_spreadsheet_s_numbers(tmp_path):
    """What the sheet holds as numbers has no mark, and no say in what a mark of others means."""
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl, of the extra [excel]")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["grouped", "decimal", "share"])
    for i in range(20):
        text = i % 5 == 0
        sheet.append([f"{90 + i}.950" if text else 418000 + i, f"{i},5" if text else i, i / 7])
    book.save(tmp_path / "t.xlsx")
    source = read(tmp_path / "t.xlsx")
    readings = found(source, ["grouped", "decimal", "share"])
    applied(source, readings)
    assert source.frame["grouped"].head(2).tolist() == [90950, 418001]
    assert source.frame["decimal"].head(2).tolist() == [0.5, 1]
    assert pd.api.types.is_float_dtype(source.frame["share"])


# --------------------------------------------------------------------------------- rows and columns


def loaded(tmp_path, header, rows, target, suffix=".csv", **choices):
    path = tmp_path / f"t{suffix}"
    path.write_text(header + "\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return tables.load(str(path), target, "auto", Choices(**choices))


def test_counters_that_could_be_years_and_those_called_ids(tmp_path):
    rows = [f"{1000 + i},{1900 + i},{7 * i + 20000},{(i * 7) % 11}.5" for i in range(60)]
    problem = loaded(tmp_path, "resp,season,caseid,y", rows, "y")
    assert problem.left_out == ("resp", "caseid")


def test_one_class_in_several_ways(tmp_path):
    rows = [f"{i},{'OK' if i % 3 else 'ok '}" for i in range(60)]
    with pytest.raises(InputError, match=r'has one class, written in several ways: "OK", "ok "'):
        loaded(tmp_path, "x,status", rows, "status")


def test_a_bank_s_file(tmp_path):
    """Titles above a header between quotes, and decimal commas that are no separators."""
    rows = [f'"{i % 28 + 1:02d}.01.23";"{i},{i + 10}";"{"ab"[i % 2]}"' for i in range(40)]
    title = 'Turnover;made on 03.01.2024\nAccount:;4711\n\n"day";"sum";"kind"'
    problem = loaded(tmp_path, title, rows, "kind")
    assert problem.notes[0].startswith("The first 3 lines are no part of the table; line 4")
    assert problem.features["sum"].iloc[3] == 3.13


def test_names_that_python_takes_for_numbers_and_a_line_of_formats(tmp_path):
    title = "# a remark\n#\nagency\tsite\t23456_00060\t23458_00010\n5s\t15s\t14n\t14n"
    rows = [f"AB{i % 3}\t{i % 4}\t{i * 3}\t{i % 9}.5" for i in range(40)]
    problem = loaded(tmp_path, title, rows, "23456_00060", ".tsv")
    assert problem.rows == 40
    assert 'Line 4 says more of the columns, as "5s", and is no row.' in problem.notes


def test_rows_that_look_like_formats_stay(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("p,q,r\n" + "".join(f"{i}a,{i}b,{i % 2}c\n" for i in range(40)))
    assert len(read(path).frame) == 40


def test_a_line_of_labels_above_numbers_with_marks_among_them(tmp_path):
    labels = "Area,Households in all,Their income,Margin"
    rows = [f"tract {i},{1000 + i},{'***' if i % 9 == 1 else 500 + i},{i % 7}" for i in range(40)]
    with pytest.raises(InputError, match=r'holds numbers except in row 2 .*"\*\*\*"'):
        loaded(tmp_path, "NAME,A1,A2,A3\n" + labels, rows, "A3")
    problem = loaded(tmp_path, "NAME,A1,A2,A3\n" + labels, rows, "A3", missing=("***",))
    assert problem.rows == 40


@pytest.mark.parametrize(
    "text",
    [
        "Station        Date      pH\nNorth Ridge    1 May     6.5\nSouth          2 May\n",
        '"mpg" "cyl"\n"Merc 450, new" 16.4 8\n"Fiat" 32.4 4\n',
    ],
)
def test_columns_between_spaces_are_named_as_such(tmp_path, text):
    path = tmp_path / "t.txt"
    path.write_text(text)
    with pytest.raises(InputError, match="spaces seem to separate"):
        read(path)


def test_the_folder_that_one_is_in_has_a_name(tmp_path, monkeypatch):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.parquet").write_bytes(b"PAR1 and no more")
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=r"^parts: not a readable folder of Parquet files"):
        tables.open_data(".")


def test_text_that_is_called_as_old_excel_files_are(tmp_path):
    path = tmp_path / "t.xls"
    path.write_text("a\tb\n" + "1\t2\n" * 20)
    assert read(path).frame.shape == (20, 2)
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl, of the extra [excel]")
    book = openpyxl.Workbook()
    for row in (["a", "b"], [1, 2], [3, 4]):
        book.active.append(row)
    book.save(tmp_path / "new.xlsx")
    (tmp_path / "new.xls").write_bytes((tmp_path / "new.xlsx").read_bytes())
    assert read(tmp_path / "new.xls").frame.shape == (2, 2)
