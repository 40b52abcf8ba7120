"""CSV and Parquet files: what is read, and one sentence for everything that cannot be."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError, quoted
from thinned.fit.files import read


@pytest.fixture
def csv(tmp_path):
    def write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def sentence(path, **options):
    with pytest.raises(InputError) as caught:
        read(path, **options)
    return str(caught.value)


def test_plain_csv(csv):
    source = read(csv("a,b\n1,x\n2,\n"))
    assert source.frame.columns.tolist() == ["a", "b"]
    assert source.frame["a"].tolist() == [1, 2]
    assert source.frame["b"].isna().tolist() == [False, True]
    assert source.notes == []
    assert source.sha256 == hashlib.sha256(b"a,b\n1,x\n2,\n").hexdigest()


def test_byte_order_mark_quotes_blank_lines_and_line_ends(csv):
    source = read(csv(b'\xef\xbb\xbf"a","b, c"\r\n1,"x ""y""\r\nz"\r\n\r\n2,w\r\n'))
    assert source.frame.columns.tolist() == ["a", "b, c"]
    assert source.frame["b, c"].tolist() == ['x "y"\r\nz', "w"]
    assert source.row(1) == "row 2 (line 5)"


@pytest.mark.parametrize(
    ("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
def test_other_separators_are_found_and_said(csv, separator, name):
    source = read(csv(f"a{separator}b\n1{separator}2\n"))
    assert source.frame.columns.tolist() == ["a", "b"]
    assert source.notes == [f"The columns of data.csv are separated by {name}."]


def test_separators_inside_quotes_do_not_count(csv):
    assert read(csv('"a;b;c",d\n1,2\n')).frame.columns.tolist() == ["a;b;c", "d"]


def test_a_nameless_column_of_row_numbers_is_left_out(csv):
    source = read(csv(",a,b\n0,1,2\n7,3,4\n"))
    assert source.frame.columns.tolist() == ["a", "b"]
    assert source.notes == ["The first column has no name and holds row numbers: left out."]


def test_columns_taken_as_text_keep_their_zeros(csv):
    path = csv("a,b\n017,1\n018,2\n")
    assert read(path).frame["a"].tolist() == [17, 18]
    assert read(path, frozenset(("a",))).frame["a"].tolist() == ["017", "018"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty."),
        ("\n\n", "the file is empty."),
        ("a,b\n", "the table has a header but no rows."),
        ("a,b\n1,2\n3\n4,5\n", "line 3 has 1 field where the header has 2."),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields where the header has 2."),
        ('a,b\n"x\ny",2\n3,4,5\n', "line 4 has 3 fields where the header has 2."),
        ('a,b\n1,"2\n3,4\n', "line 2 cannot be read as CSV (unexpected end of data)."),
        ("a,a\n1,2\n", 'two columns are called "a"; give each its own name.'),
        (
            "a,,c\n1,2,3\n",
            (
                "column 2 has no name in the header, and row 1 (line 2) has a value there; write a "
                "name."
            ),
        ),
        (
            "a b  c\n1 2 3\n4  5 6\n",
            (
                "spaces seem to separate 3 columns; save the table with commas, semicolons, tabs "
                "or vertical bars between them."
            ),
        ),
        (
            "1,2\n3,4\n",
            "the first line holds numbers only; a header that names the columns is needed.",
        ),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not a CSV file, it holds binary data."),
        ("<!DOCTYPE html><p>404", "not a CSV file, it looks like HTML or XML."),
        ('{"a": [1]}', "not a CSV file, it looks like JSON."),
    ],
)
def test_what_cannot_be_read_is_said_by_line(csv, content, said):
    assert sentence(csv(content)) == f"data.csv: {said}"


def test_a_nameless_column_of_row_names_is_left_out(csv):
    source = read(csv('"","mpg"\n"Mazda RX4",21\n"Datsun 710",22.8\n'))  # as R writes it
    assert source.frame.columns.tolist() == ["mpg"]
    assert source.notes == ["The first column has no name and holds row names: left out."]


def test_one_column_of_texts_with_spaces(csv):
    frame = read(csv("full name\nAnna Maria Smith\nBo Li\n")).frame
    assert frame["full name"].tolist() == ["Anna Maria Smith", "Bo Li"]


def test_texts_that_count_as_missing(csv):
    path = csv("a,b\n1, ? \n?,x\n3,-\n")
    source = read(path, missing=("?", "-"))
    assert source.frame["a"].isna().tolist() == [False, True, False]
    assert source.frame["a"].dtype == float
    assert source.frame["b"].isna().tolist() == [True, False, True]
    assert not read(path).frame["b"].isna().any()


@pytest.mark.parametrize("blank", [" ", "\t ", "\u00a0"])
def test_spaces_alone_are_no_text(csv, blank):
    frame = read(csv(f"a,b\n1,x\n{blank},{blank}\n3,y\n")).frame
    assert frame.isna().to_numpy().tolist() == [[False] * 2, [True] * 2, [False] * 2]


def test_cells_of_a_typed_file_that_count_as_missing(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1, -9, 3], "b": ["x", " ?", "?x"], "c": [True, False, True]}).to_parquet(
        path
    )
    frame = read(path, missing=("?", "-9", "1")).frame
    assert frame["a"].isna().tolist() == [True, True, False]
    assert frame["b"].isna().tolist() == [False, True, False]
    assert not frame["c"].isna().any()


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n3,4", "a,b\n1,2\n\n3,4\n", "\n\na,b\r\n1,2\r\n\r\n3,4\r\n\r\n",
        "a,b\r1,2\r3,4\r", "\ufeffa,b\n1,2\n3,4\n", "a,b\n1,2\r3,4\n", "a,b\r\n1,2\r3,4\r\n",
    ],
)  # fmt: skip
def test_rows_are_counted_alike_with_quotes_and_without(csv, content):
    quoted_too = content.replace("1,2", '"1",2')
    for text in (content, quoted_too):
        frame = read(csv(text)).frame
        assert frame.columns.tolist() == ["a", "b"]
        assert frame["a"].tolist() == [1, 3]


def test_a_column_as_it_is_spelled(csv):
    source = read(csv("a,b\n1.50,NA\n,None\n?,017\n"), missing=("?",))
    assert source.spelled("a").tolist() == ["1.50", None, None]
    assert source.spelled("b").tolist() == ["NA", "None", "017"]
    assert source.spelled("b", 2).tolist() == ["NA", "None"]


def test_a_folder_and_a_missing_file(tmp_path):
    assert sentence(tmp_path) == f"{tmp_path}: this is a folder without Parquet files, not a file."
    assert sentence(tmp_path / "no.csv") == f"{tmp_path / 'no.csv'}: no such file."


def test_parquet_is_read_by_what_it_is_not_by_its_name(tmp_path):
    frame = pd.DataFrame({"a": [1.5, np.nan], "b": ["x", None]}, index=[7, 9])
    path = tmp_path / "table.data"
    frame.to_parquet(path)
    source = read(path)
    assert source.frame.columns.tolist() == ["a", "b"]
    assert source.row(0) == "row 1"


def test_broken_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    assert sentence(path) == "x.parquet: not a readable Parquet file."
    path.write_text("a,b\n1,2\n")
    assert sentence(path) == "x.parquet: not a readable Parquet file."


def test_names_in_sentences_are_short_and_printable():
    assert quoted("x" * 100) == '"' + "x" * 57 + '..."'
    assert quoted("a\x1b[31m\n") == '"a\\x1b[31m\\n"'
    assert quoted("größe") == '"größe"'


def test_a_name_that_is_no_text_can_be_written_down(tmp_path):
    path = tmp_path / "\udcff.csv"  # a byte that is not UTF-8
    try:
        path.write_text("a,b\n1,2\n")
    except OSError as refusal:
        pytest.skip(f"this file system takes texts only: {refusal}")
    assert read(path).name == "\\udcff.csv"


@pytest.mark.parametrize("data", ["x" * 300, "x" * 5000, "loop"])
def test_a_path_that_cannot_be_is_one_sentence(here, refused, data):
    (here / "loop").symlink_to("loop")
    said = refused("fit", data, "--out", "out")
    assert said.startswith(data)
    assert "(" in said or "no such file" in said


def test_parquet_whose_texts_are_no_texts(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = pa.array([b"\xff\xfe", b"ok"] * 10, pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 20, raw.buffers())
    pq.write_table(pa.table({"a": broken, "y": ["u", "v"] * 10}), tmp_path / "broken.parquet")
    with pytest.raises(InputError, match=r"broken\.parquet: not a readable Parquet file\."):
        read(tmp_path / "broken.parquet")
