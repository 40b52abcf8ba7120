"""Below, between and beside the rows of a table: what is no part of it is left out, and said."""

import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit.endings import below
from thinned.fit.files import read

ROWS = "".join(f"a{i % 3},{i},{i}.5\n" for i in range(20))


@pytest.fixture
def table(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", newline="")
        return read(path)

    return write


def said(source):
    return [note for note in source.notes if "separated" not in note]


@pytest.mark.parametrize(
    ("rest", "note"),
    [
        ("Total,190,200\n", 'The last line is no part of the table: "Total".'),
        ("\nSource: the office, 2023\n", 'The last 2 lines are no part of the table: "Source: the'),
        (
            "# exported on Monday\n",
            'The last line is no part of the table: "# exported on Monday".',
        ),
        (
            "Mean,9.5,10\nSD,5.9,5.9\nN,20,20\n",
            'The last 3 lines are no part of the table: "Mean", "SD"',
        ),
        ("Min,0,0.5\nMax,19,19.5\n", 'The last 2 lines are no part of the table: "Min", "Max".'),
        (",,\n,,\n", "The last 2 lines are no part of the table."),
        (
            ",,\nSumme,190,200\n* without the islands,,\n",
            'The last 3 lines are no part of the table: "Summe", "* without the islands".',
        ),
    ],
)
def test_what_stands_below_is_cut_off_and_named(table, rest, note):
    source = table(f"shop,n,y\n{ROWS}{rest}")
    assert len(source.frame) == 20
    (first,) = said(source)
    assert first.startswith(note)
    assert source.spelled("n").tolist() == [str(i) for i in range(20)]


@pytest.mark.parametrize("name", ["Max", "N"])
def test_a_name_that_is_a_statistic_s_too_is_a_row(table, name):
    assert len(table(f"shop,n,y\n{ROWS}{name},1,2\n").frame) == 21


@pytest.mark.parametrize("rest", ["a1\n", "a1,5\n"])
def test_a_row_that_ends_too_soon_is_refused(table, rest):
    with pytest.raises(InputError, match=r"line 22 has . fields? where the header has 3"):
        table(f"shop,n,y\n{ROWS}{rest}")


def test_a_class_that_is_called_total_is_none_that_adds_up():
    rows = [["women", "3"], ["Total", "7"], ["men", "4"], ["Total", "8"]]
    assert below(rows, 2) == 0
    assert below(rows[:1] + rows[3:], 2) == 1


def test_columns_without_a_name_and_a_value_are_left_out(table):
    source = table("a,b,,y,\n" + "1,2,,3.5,\n" * 5)
    assert list(source.frame.columns) == ["a", "b", "y"]
    assert said(source) == ["2 columns have neither a name nor a value: left out."]
    with pytest.raises(InputError, match=r"column 3 has no name in the header, and row 2 \(line 3"):
        table("a,b,,y\n1,2,,3\n1,2,5,3\n")


def test_rows_may_be_one_field_wider_than_the_header(table):
    ends = table("a,y\n" + "1,2.5,\n" * 5)
    assert list(ends.frame.columns) == ["a", "y"]
    names = table("a,y\n" + "".join(f"r{i},{i},2.5\n" for i in range(5)))
    assert list(names.frame.columns) == ["a", "y"]
    assert names.frame["a"].tolist() == list(range(5))
    assert said(names) == ["The first column has no name and holds row names: left out."]


def test_a_first_column_without_a_name_that_names_no_rows_gets_one(table):
    source = table(",y\n" + "red,1.5\nblue,2.5\n" * 3)
    assert list(source.frame.columns) == ["column 1", "y"]
    assert said(source) == ['The first column has no name, and is called "column 1" here.']


def test_a_second_line_with_units_is_no_row(table):
    source = table("name,height,weight,y\n,cm,kg,\n" + "x,180,70,1.5\ny,170,60,2.5\n" * 3)
    assert source.frame["height"].tolist() == [180, 170] * 3
    assert said(source) == ['Line 2 says more of the columns, as "cm", and is no row.']
    assert source.row(0) == "row 1 (line 3)"


def test_several_lines_say_more_of_a_header(table):
    """As loggers and tools of surveys write them."""
    lines = "n,y\nNo.,m/s\n,Avg\n" + "".join(f"{i},{i * i % 7}.5\n" for i in range(20))
    source = table(lines)
    assert source.frame["y"].tolist() == [i * i % 7 + 0.5 for i in range(20)]
    assert said(source) == [
        'Line 2 says more of the columns, as "No.", and is no row.',
        'Line 3 says more of the columns, as "Avg", and is no row.',
    ]
    # A line with a number is a row, and the one above it may say more all the same.
    assert table(lines.replace(",Avg", "3,Avg")).frame.iloc[0].tolist() == [3, "Avg"]


def test_a_word_in_the_first_row_alone_is_a_cell(table):
    source = table("name,height,y\nx,unknown,1.5\n" + "y,170,2.5\n" * 5)
    assert len(source.frame) == 6


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_header_again_is_no_row(table, end):
    rows = "".join(f"{i},{i}.5{end}" for i in range(5))
    source = table(f"a,y{end}{rows}a,y{end}{rows}a,y{end}{rows}")
    assert source.frame["a"].tolist() == [*range(5)] * 3
    assert said(source) == ["2 lines are the header again, and no part of the table."]
    assert source.row(5) == "row 6 (line 8)"


def test_the_mark_that_ends_a_file_of_old_systems_is_no_row(table):
    assert len(table("a,y\r\n1,2\r\n3,4\r\n\x1a").frame) == 2


def test_the_end_of_a_cell_of_several_lines_is_a_cell(table):
    source = table("n,text\n" + '1,"first\nand the last of its lines"\n' * 20)
    assert len(source.frame) == 20
    assert said(source) == []


# ------------------------------------------------------------------------------ sums without a name

N = 20
A = [round(0.37 * i * i % 11, 2) for i in range(N)]
B = [(7 * i) % 13 for i in range(N)]
C = [round(1.1 * i % 5, 1) for i in range(N)]


def lines(*rows):
    body = [f"k{i % 3},{a},{b},{c}" for i, (a, b, c) in enumerate(zip(A, B, C, strict=True))]
    return ["t,a,b,c", *body, *rows]


def sums(name=""):
    return f"{name},{sum(A):.2f},{sum(B)},{sum(C):.1f}"


def means(digits=2):
    return f",{sum(A) / N:.{digits}f},{sum(B) / N:.{digits}f},{sum(C) / N:.{digits}f}"


@pytest.mark.parametrize(
    ("row", "kind"),
    [(sums(), "sums"), (sums("K"), "sums"), (means(), "means"), (means(5), "means")],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", ""])
def test_a_last_row_that_adds_up_the_others_is_none(table, row, kind, end):
    source = table(("\r\n" if end == "\r\n" else "\n").join(lines(row)) + end)
    assert said(source) == [
        f"The last row holds the {kind} of the rows above it, and is no part of the table."
    ]
    assert source.frame["b"].tolist() == B
    assert source.frame["b"].dtype.kind == "i"
    assert source.spelled("b").tolist() == [str(b) for b in B]
    assert source.row(N - 1) == f"row {N} (line {N + 1})"


def test_a_first_row_that_adds_up_the_others_is_none(table):
    head, *rows = lines()
    source = table("\n".join([head, sums("All"), *rows]) + "\n")
    assert said(source) == [
        "Line 2 holds the sums of the rows below it, and is no part of the table."
    ]
    assert source.frame["b"].tolist() == B
    assert source.row(0) == "row 1 (line 3)"


@pytest.mark.parametrize(
    "row",
    [
        f",{sum(A):.2f},,",  # one column alone can be so by chance
        f",{sum(A):.2f},{sum(B)},{sum(C) + 1:.1f}",
        f",{sum(A) / N:.2f},{sum(B) / N:.2f},{sum(C) / N + 1:.2f}",
        f",{sum(A):.2f},{sum(B)},{sum(C) / N:.2f}",
        f",{round(sum(A) / N)},{round(sum(B) / N)},{round(sum(C) / N)}",
        "k1,1.5,3,2.0",
    ],
)
def test_a_last_row_that_does_not_is_one(table, row):
    source = table("\n".join(lines(row)) + "\n")
    assert not said(source)
    assert len(source.frame) == N + 1


def test_columns_that_are_zero_or_few_rows_add_up_to_nothing(table):
    zeros = "a,b,c\n" + "0,0,1\n" * 12 + "0,0,5\n"
    assert len(table(zeros).frame) == 13
    assert len(table("a,b\n1,2\n3,4\n4,6\n").frame) == 3


def test_sums_below_a_table_with_types(tmp_path):
    frame = pd.DataFrame({"a": [*A, sum(A)], "b": [*B, sum(B)], "c": [*C, sum(C)]})
    frame.to_parquet(tmp_path / "t.parquet")
    source = read(tmp_path / "t.parquet")
    assert len(source.frame) == N
    assert "The last row holds the sums" in source.notes[0]
