"""Where a file's header is, what separates its columns, and how odd files are read or refused."""

import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit.beginnings import beginning, check_marks, is_spaced
from thinned.fit.files import read
from thinned.fit.tables import load

ROWS = 40
X = np.arange(ROWS) * 1.25
Y = np.where(np.arange(ROWS) % 2, "yes", "no")
BODY = "".join(f"{x},{i % 7},{y}\n" for i, (x, y) in enumerate(zip(X, Y, strict=True)))


@pytest.fixture
def table(tmp_path):
    def made(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read(path)

    return made


@pytest.mark.parametrize(
    "above",
    ["Report of 2020\n\n", "# made by hand\n# twice\n", "Report,,\nby me,,\n", "% a, b\n"],
)
def test_what_stands_above_a_header_is_passed_over(table, above):
    source = table(above + "x,z,y\n" + BODY)
    assert list(source.frame.columns) == ["x", "z", "y"]
    assert len(source.frame) == ROWS
    assert "no part of the table" in source.notes[0]
    line = above.count("\n") + 2  # of the first row, as an editor counts
    assert source.row(0) == f"row 1 (line {line})"


@pytest.mark.parametrize(
    ("above", "head"),
    [
        ("Account;DE12;\n\nFrom;1.1.2023;\nBalance;12,50 EUR;\n", "x;z;y;v"),  # of banks
        ("Site: 4\nPlace: 47.4; 8.6; north\n", "x;z;y;v"),
        ('"TOA5";"CR1";"CR1";"12";"Std";"x"\n', "x;z;y;v"),  # of loggers
    ],
)
def test_what_stands_above_a_header_may_have_as_many_cells(table, above, head):
    rows = "".join(f"{i};{i % 7};{i % 3};{i % 5}\n" for i in range(ROWS))
    source = table(f"{above}{head}\n{rows}")
    assert list(source.frame.columns) == head.split(";")
    assert len(source.frame) == ROWS
    assert "no part of the table" in source.notes[0]
    # A mark behind each line makes a column without a name.
    ended = table(f"{above}{head};\n{rows}".replace("\n", ";\n").replace(f"{head};;", f"{head};"))
    assert list(ended.frame.columns) == head.split(";")


def test_lines_of_texts_alone_do_not_show_which_is_the_header(table):
    with pytest.raises(InputError, match="line 2 has 3 fields where the header has 2"):
        table("x,y\n" + "a,b,c\nd,e,f\n" * 5)


def test_files_put_together_with_a_mark_before_each(table):
    part = "\ufeffx,z,y\n" + BODY
    source = table(part + part)
    assert len(source.frame) == 2 * ROWS
    assert source.notes == ["One line is the header again, and no part of the table."]


def test_a_header_that_is_shorter_than_the_rows_is_no_title(table):
    with pytest.raises(InputError, match="line 2 has 3 fields where the header has 2"):
        table("x,y\n" + "1,2,3\n1,5,6\n1,8,9\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_make_no_difference(table, end):
    assert len(table(("x,z,y\n" + BODY).replace("\n", end)).frame) == ROWS


def test_the_separator_is_what_cuts_all_lines_evenly():
    assert beginning("t", "a,1,2;b,3,4;y\n0,5;1,5;u\n")[1] == ";"
    assert beginning("t", "a;b;c\n1,5;2,5;3\n")[1] == ";"
    assert beginning("t", "a\n1\n")[1] == ","


def test_spaces_behind_separators_are_a_part_of_them(table):
    source = table("x, z, y\n" + BODY.replace(",", ", "))
    assert source.spaced
    assert set(source.frame["y"]) == {"yes", "no"}
    assert not is_spaced("x,y\n1, 2\n", ",")


@pytest.mark.parametrize("mark", ["~", "^", ":", " "])
def test_other_separators_are_named(mark):
    with pytest.raises(InputError, match="seem to separate 3 columns"):
        check_marks("t", f"x{mark}z{mark}y\n1{mark}2{mark}u\n")


@pytest.mark.parametrize("first", ["-3.5,1,no\n", "7,3,yes\n"])
def test_a_row_in_the_header_s_place_is_refused(table, first):
    with pytest.raises(InputError, match="as a row would; a header"):
        table(first + BODY)


def test_numbers_can_be_names(table):
    table("2001,2002,y\n" + BODY)
    names = [f"{n}.5" for n in range(400, 410)]
    table(",".join([*names, "y"]) + "\n" + "".join(",".join("1" * 10) + ",u\n" for _ in "ab"))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("150,4,setosa", 'Numbers are names: "150", "4". If the first line is none'),
        ("a,7,c", 'A number is the name of a column: "7". If the first line is none'),
        ("a,2012,c", ""),
        ("1,2,c", ""),
        ("2012,2007,c", ""),
    ],
)
def test_numbers_for_names_are_pointed_out(table, header, said):
    rows = "".join(f"{i * 7 % 20},{i * i % 23}.5,{i % 3}\n" for i in range(60))
    notes = [note for note in table(f"{header}\n{rows}").notes if "If the first line" in note]
    assert len(notes) == bool(said)
    assert "".join(notes).startswith(said)


def test_lines_of_two_encodings(table):
    good, bad = "1,Zürich,no\n".encode(), "2,Köln,yes\n".encode("cp1252")
    source = table(b"x,t,y\n" + good * 3 + bad * 2)
    assert set(source.frame["t"]) == {"Zürich", "Köln"}
    assert "UTF-8 but for 2 lines" in source.notes[0]


def test_utf_32_and_marks_that_do_not_show(table):
    assert len(table(("x,z,y\n" + BODY).encode("utf-32")).frame) == ROWS
    assert list(table("\ufeff\ufeffx,z,y\n" + BODY).frame.columns) == ["x", "z", "y"]


def test_an_archive_may_have_a_readme_and_what_systems_leave(table):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for name in ("d/a.csv", "__MACOSX/d/._a.csv", "d/.DS_Store", "README.md"):
            packed.writestr(name, "x,z,y\n" + BODY)
    assert len(table(made.getvalue(), "t.zip").frame) == ROWS


def workbook(tmp_path, rows, first=()):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    book = openpyxl.Workbook()
    if first:
        book.active.append(list(first))
        book.create_sheet("Data")
    for row in rows:
        book.worksheets[-1].append(row)
    book.save(tmp_path / "t.xlsx")
    return read(tmp_path / "t.xlsx")


ROWS_OF_CELLS = [[float(x), int(i % 7), str(y)] for i, (x, y) in enumerate(zip(X, Y, strict=True))]


def test_a_sheet_with_a_title_and_one_behind_a_cover(tmp_path):
    head = ["x", "z", "y"]
    source = workbook(tmp_path, [["Quarterly"], [], head, *ROWS_OF_CELLS])
    assert list(source.frame.columns) == head
    assert "no part of the table" in source.notes[-1]
    source = workbook(tmp_path, [head, *ROWS_OF_CELLS], ["notes"])
    assert len(source.frame) == ROWS
    assert 'the first with a table, "Data"' in source.notes[0]
    numbered = [[None, *head], *([i, *row] for i, row in enumerate(ROWS_OF_CELLS))]
    assert list(workbook(tmp_path, numbered).frame.columns) == head


# ------------------------------------------------------------------------- what columns are read as


@pytest.mark.parametrize(
    ("cell", "made"),
    [
        (lambda i: f"{20 + i}:{i % 60:02d}:{i % 7:02d}", 20 * 3600),
        (lambda i: f"{i}h {i % 60}m", 0),
        (lambda i: f"{i} days 01:02:0{i % 7}", 3720),
        (lambda i: f"PT{i}H3M", 180),
        (lambda i: f"~{i}", 0),
        (lambda i: f"#{i}", 0),
        (lambda i: "".join(chr(0xFF10 + int(c)) for c in str(i)), 0),
        (lambda i: f"\u200b{i}", 0),
    ],
)
def test_lengths_of_time_and_numbers_in_disguise(tmp_path, cell, made):
    frame = pd.DataFrame({"v": [cell(i) for i in range(ROWS)], "x": X[::-1], "y": Y})
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = load(str(tmp_path / "t.csv"))
    there = found.features.get("v")
    if there is None:  # counted up by one: left out as a number of the row, and so it was read
        assert any("it numbers the rows" in note for note in found.notes)
    else:
        assert there.iloc[0] == made
        assert there.is_monotonic_increasing


@pytest.mark.parametrize(
    ("spelled", "day"),
    [
        ("%Y%m%d", True), ("%b-%Y", False), ("%m/%Y", False), ("%A, %d %B %Y", True),
        ("%a, %d %b %Y 10:00:00 +0000", True), ("%G-W%V-%u", True),
    ],
)  # fmt: skip
def test_more_ways_to_write_a_date(tmp_path, spelled, day):
    dates = pd.Timestamp("2020-01-31") + pd.to_timedelta(np.arange(ROWS) * 9, "D")
    frame = pd.DataFrame({"when": dates.strftime(spelled), "x": X[::-1], "y": Y})
    frame.to_csv(tmp_path / "t.csv", index=False)
    got = load(str(tmp_path / "t.csv")).features["when: days"].to_numpy()
    wanted = dates if day else dates.to_period("M").start_time
    hours = 10 / 24 if "10:00" in spelled else 0.0
    whole = wanted.to_numpy("datetime64[D]").astype(np.int64)
    np.testing.assert_allclose(got, whole + hours, rtol=0, atol=1e-9)


def test_what_can_be_misread_is_pointed_out(tmp_path):
    order = np.random.default_rng(0).permutation(ROWS)
    frame = pd.DataFrame(
        {
            "zip": [f"{n:05d}" for n in order * 1000 + 17],
            "v": np.where(order % 9, order, -999),
            "nearly": np.round(order * 2.0 + 1, 0) + order % 2 * 1e-4,
            "y": order * 1.0 + 0.5,
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    notes = " ".join(load(str(tmp_path / "t.csv")).notes)
    assert 'if they are codes, write --type "zip=text"' in notes
    assert '--missing "-999"' in notes
    assert '--drop "nearly"' in notes


def test_numbers_beyond_what_was_measured_ask(tmp_path):
    cells = ["<2" if i % 7 == 0 else str(i * 3) for i in range(ROWS)]
    pd.DataFrame({"v": cells, "y": Y}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match="what stands around the numbers differs"):
        load(str(tmp_path / "t.csv"))


def test_limits_are_names_of_groups(tmp_path):
    cells = np.array(["<10", ">10"])[np.arange(ROWS) // 4 % 2]
    pd.DataFrame({"v": cells, "x": X, "y": Y}).to_csv(tmp_path / "t.csv", index=False)
    assert load(str(tmp_path / "t.csv")).columns[0].kind == "text"
