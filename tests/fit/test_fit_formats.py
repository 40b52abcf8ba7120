"""Files in the formats that people have: the same table from each, a name for what is not read."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit import source
from thinned.fit.files import STANDARD_INPUT, read
from thinned.fit.separated import _even_rows

FRAME = pd.DataFrame(
    {"a": [1.5, np.nan, -2.0], "t": ["größe", "x", None], "n": [1, 2, 3], "b": [True, False, True]}
)
CSV = FRAME.to_csv(index=False).encode()


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def sentence(path):
    with pytest.raises(InputError) as caught:
        read(path)
    return str(caught.value).removeprefix(f"{path.name}: ")


def zipped(**members):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return raw.getvalue()


def check(source):
    frame = source.frame
    assert frame.columns.tolist() == ["a", "t", "n", "b"]
    assert frame["a"].tolist()[::2] == [1.5, -2.0]
    assert frame["t"].tolist()[:2] == ["größe", "x"]
    assert frame["n"].tolist() == [1, 2, 3]
    assert frame["b"].tolist() == [True, False, True]
    assert frame.isna().sum().tolist() == [1, 1, 0, 0]
    assert len(source.sha256) == 64


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", gzip.compress(CSV, mtime=0)),
        ("t.gz", gzip.compress(CSV, mtime=0)),
        ("t.csv.bz2", bz2.compress(CSV)),
        ("t.csv.xz", lzma.compress(CSV)),
        ("t.zip", zipped(**{"inside.csv": CSV})),
        ("t.zip", zipped(**{"a/": b"", "a/inside.csv": CSV, "__MACOSX/inside.csv": b"x"})),
        ("t.tsv", FRAME.to_csv(index=False, sep="\t").encode("utf-16")),
        ("t.csv", CSV.decode().encode("utf-16-be")),
        ("t.csv", CSV.decode().encode("utf-16-le")),
        ("t.csv", CSV.decode().encode("cp1252")),
        ("t.csv", b"sep=,\r\n" + CSV),
        ("t.csv", b'\xef\xbb\xbf"sep=,"\n' + CSV),
        ("t.jsonl", FRAME.to_json(orient="records", lines=True).encode()),
        ("t.txt", FRAME.to_json(orient="records", lines=True).encode()),
    ],
)
def test_a_table_in_another_wrapping(file, name, content):
    check(read(file(name, content)))


@pytest.mark.parametrize("suffix", ["feather", "parquet", "dta"])
def test_typed_files(tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    if suffix == "dta":
        FRAME.assign(t=FRAME["t"].fillna(""), b=FRAME["b"].astype("int8")).to_stata(
            path, write_index=False, version=118
        )
        frame = read(path).frame
        assert frame["t"].tolist() == ["größe", "x", ""]
        assert frame["a"].isna().tolist() == [False, True, False]
        return
    getattr(FRAME, f"to_{suffix}")(path)
    check(read(path))
    check(read(path.rename(tmp_path / "without")))


def test_times_of_stata_that_pandas_cannot_read_stay_numbers(tmp_path):
    path = tmp_path / "t.dta"
    days = pd.to_datetime(["2020-01-01", "2020-02-03"])
    pd.DataFrame({"d": days, "a": [1, 2]}).to_stata(
        path, convert_dates={"d": "tc"}, write_index=False
    )
    raw = path.read_bytes()
    assert b"%tc" in raw
    path.write_bytes(raw.replace(b"%tc", b"%tC"))
    assert read(path).frame["d"].map(float).diff()[1] > 1e9  # milliseconds


def test_a_folder_of_parquet_files(tmp_path):
    folder = tmp_path / "parts"
    for i, year in enumerate((2020, 2021, 2021)):
        part = folder / f"year={year}"
        part.mkdir(parents=True, exist_ok=True)
        FRAME.assign(n=i).to_parquet(part / f"{i}.parquet")
    source = read(folder)
    assert source.name == "parts"
    assert len(source.frame) == 9
    assert source.frame["year"].astype(int).tolist() == [2020] * 3 + [2021] * 6
    before = source.sha256
    FRAME.assign(n=7).to_parquet(folder / "year=2020" / "0.parquet")
    assert read(folder).sha256 != before
    (folder / "year=2020" / "0.parquet").write_bytes(b"PAR1 and no more")
    assert sentence(folder) == "not a readable folder of Parquet files."
    (tmp_path / "empty").mkdir()
    assert sentence(tmp_path / "empty").endswith(
        "empty: this is a folder without Parquet files, not a file."
    )


def excel(path, rows, **more):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl, of the extra [excel]")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for name in more.get("sheets", ()):
        book.create_sheet(name)
    book.save(path)
    return path


def test_an_excel_file(tmp_path):
    rows = [list(FRAME.columns), *FRAME.astype(object).where(FRAME.notna(), None).values.tolist()]
    path = excel(tmp_path / "t.xlsx", rows)
    check(read(path))
    check(read(path.rename(tmp_path / "no-name")))


def test_an_excel_file_as_people_fill_it(tmp_path):
    import datetime

    day = datetime.datetime(2023, 3, 25)
    rows = [
        [None, None], ["a", None, "mixed", "day", 2021], [1, None, "x", day, 3],
        ["#N/A", None, 7, day, 4.5], [None] * 5, [2, None, None, None, "NA"],
    ]  # fmt: skip
    source = read(excel(tmp_path / "t.xlsx", rows, sheets=["notes"]))
    frame = source.frame
    assert frame.columns.tolist() == ["a", "mixed", "day", "2021"]
    assert frame["a"].astype(float).tolist()[::2] == [1.0, 2.0]
    assert frame["mixed"].tolist()[:2] == ["x", "7"]
    assert frame["day"].dtype.kind == "M"
    assert frame["2021"].astype(float).tolist()[:2] == [3.0, 4.5]
    assert frame.isna().sum().tolist() == [1, 1, 1, 1]
    assert source.notes == ['t.xlsx has 2 sheets; the first, "Sheet", was read.']


def test_excel_files_that_cannot_be_read(tmp_path, file, monkeypatch):
    empty = excel(tmp_path / "empty.xlsx", [])
    assert sentence(empty) == 'the sheet "Sheet" is empty.'
    broken = file("broken.xlsx", zipped(**{"[Content_Types].xml": "<x/>"}))
    assert sentence(broken) == "not a readable Excel file (.xlsx)."
    twice = excel(tmp_path / "twice.xlsx", [["a", "a"], [1, 2]])
    assert sentence(twice) == 'two columns are called "a"; give each its own name.'


def test_excel_without_openpyxl_names_the_extra(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    path = file("t.xlsx", zipped(**{"[Content_Types].xml": "<x/>"}))
    assert sentence(path) == (
        'openpyxl is not installed; Excel files need: pip install "thinned[excel]".'
    )


def test_standard_input(monkeypatch, here, command):
    class Stdin:
        buffer = io.BytesIO(gzip.compress(CSV, mtime=0))

    monkeypatch.setattr(sys, "stdin", Stdin)
    source = read(STANDARD_INPUT)
    check(source)
    assert source.name == "standard input"
    assert source.row(1) == "row 2 (line 3)"
    rows = "".join(f"{i % 7},{i * i % 11},{'uv'[i % 2]}\n" for i in range(60))
    Stdin.buffer = io.BytesIO(f"a,b,y\n{rows}".encode())
    small = ["--p", "0.1", "--hidden", "4", "--epochs", "1", "--repeats", "1", "--quiet"]
    assert command("fit", *small, "-")[0] == 0
    facts = json.loads((here / "thinned-data" / "metrics.json").read_bytes())
    assert facts["data"]["name"] == "standard input"
    Stdin.buffer = io.BytesIO(b"a,b\n1,2\n")
    assert command("predict", "thinned-data", "-")[1].startswith("row,prediction,")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel file of the old kind (.xls)"),
        ("t", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel file of the old kind (.xls)"),
        ("t.sas7bdat", b"\0" * 12 + b"\xc2\xea\x81\x60", "a SAS file"),
        ("t.xpt", b"HEADER RECORD*******LIBRARY", "a SAS file"),
        ("t.sav", b"$FL2@(#) SPSS", "an SPSS file"),
        ("t.rds", gzip.compress(b"X\n\0\0\0", mtime=0), "an R data file"),
        ("t.rda.gz", gzip.compress(b"RDX3\nX\n", mtime=0), "an R data file"),
        ("t.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("t", b"SQLite format 3\0", "a SQLite database"),
        ("t.npy", b"\x93NUMPY\1\0", "a NumPy file"),
        ("t.pkl", b"\x80\x04\x95", "a pickle, which could run code"),
        ("t.pdf", b"%PDF-1.7", "a PDF file"),
    ],
)
def test_what_is_not_read_is_named(file, name, content, what):
    assert sentence(file(name, content)).endswith(
        f"this is {what}, which is not read; save the table as CSV or Parquet"
        f"{', or as .xlsx' if name == 't.xls' else ''}."
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv.gz", gzip.compress(CSV, mtime=0)[:-9], "a damaged compressed file."),
        ("t.csv.bz2", bz2.compress(CSV)[:-9], "a damaged compressed file."),
        ("t.xz", lzma.compress(CSV)[:-9], "a damaged compressed file."),
        ("t.zip", zipped(a=CSV)[:-30], "a damaged or locked zip file."),
        ("t.zip", zipped(), "a damaged or locked zip file."),
        (
            "t.zip",
            zipped(a=CSV, b=CSV),
            'a zip file must hold one table, this one holds 2 files: "a", "b".',
        ),
        (
            "t.ods",
            zipped(mimetype="application/vnd.oasis.opendocument.spreadsheet"),
            "this is an OpenDocument file, which is not read; save the table as CSV or .xlsx.",
        ),
        ("t.feather", b"ARROW1\0\0 and no more", "not a readable Feather file."),
        ("t.dta", b"<stata_dta> and no more", "not a readable Stata file."),
        ("t.dta", b"", "not a readable Stata file."),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is no JSON."),
        ("t.jsonl", b'{"a": 1}\n[1]\n', "line 2 is no JSON object, as a row must be."),
        ("t.jsonl", b"\n", "the file is empty."),
        ("t.csv", b"a,b\n1,x\n2,\x81\n", (
            "line 3 is neither UTF-8 nor Windows-1252 text; save the file as a CSV in UTF-8, or "
            "name its encoding with --encoding, as cp1250 (Central Europe), cp1251 (Cyrillic), "
            "gb18030 (Chinese), shift_jis (Japanese)."
        )),
        ("t.csv", b"\xff\xfea\0,", "not readable as UTF-16 text."),
        ("t.csv", b"sep=;\n", "the file is empty."),
    ],
)  # fmt: skip
def test_what_is_damaged_is_one_sentence(file, name, content, said):
    if name == "t.zip" and content == zipped():
        content = b"PK\x03\x04"
    assert sentence(file(name, content)) == said


def test_encodings_are_said(file):
    source = read(file("t.csv", "a,b\n1,x\n2,un café noir\n".encode("cp1252")))
    assert source.notes == [
        't.csv is not UTF-8 and was read as Windows-1252 text: line 3 has "café noir".'
    ]
    assert read(file("t.csv", "a,b\n1,2\n".encode("utf-16"))).notes == [
        "t.csv was read as UTF-16 text."
    ]


def test_lines_are_counted_from_the_declaration(file):
    source = read(file("t.csv", b"sep=;\r\na;b\r\n1;2\r\n"))
    assert source.row(0) == "row 1 (line 3)"
    assert source.notes == ["The columns of t.csv are separated by semicolons."]


def test_rows_of_json_with_other_things_in_them(file, here, refused):
    lines = "".join(f'{{"a": [{i}], "y": {i % 2}}}\n' for i in range(20))
    file("t.jsonl", lines.encode())
    assert refused("fit", "t.jsonl") == (
        't.jsonl: column "a", row 1: cannot read a cell of type list beside the others; cells must '
        'be numbers, texts or booleans. --drop "a" leaves the column out.'
    )


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("\u0433\u043e\u0440\u043e\u0434;v\n\u041c\u043e\u0441\u043a\u0432\u0430;1\n", "cp1251"),
        ("\u57ce\u5e02,v\n\u5317\u4eac,1\n", "gb18030"),
        ("miasto;v\n\u0141\u00f3d\u017a;1\nMi\u0119dzyzdroje;2\nBia\u0142ystok;3\n", "cp1250"),
    ],
)
def test_other_encodings_are_asked_and_told(file, text, encoding):
    path = file("t.csv", text.encode(encoding))
    assert "--encoding" in sentence(path)
    source = read(path, encoding=encoding)
    assert source.frame.columns[0] == text.split("\n")[0][:-2]


def test_western_text_is_no_other_encoding(file):
    text = "stadt;gr\u00f6\u00dfe\nK\u00f6ln;1\n\u00c5;2\nSt. P\u00f6lten;3\n"
    assert read(file("t.csv", text.encode("cp1252"))).frame["stadt"].tolist()[1] == "\u00c5"
    with pytest.raises(InputError, match="line 1 is no text in the encoding ascii"):
        read(file("t.csv", text.encode("cp1252")), encoding="ascii")


def test_a_long_table_is_read_in_pieces_as_it_is_at_once(monkeypatch):
    frame = pd.DataFrame(
        {
            "whole": range(40),
            "some": [*range(20), *np.linspace(0, 1, 20)],
            "first": [*np.linspace(0, 1, 20), *range(20)],
            "large": [2**53 + 1, 0.5, *range(38)],
            "late": [None] * 10 + [*range(30)],
            "text": [*"abcd"] * 10,
            "rare": ["a"] * 8 + [None] * 32,
            "empty": [None] * 40,
            "truth": [True, False] * 20,
            "mixed": [*map(str, range(30)), *"abcdefghij"],
            "word": [*"ab", *(f"{i}.50" for i in range(37)), "NA"],
        }
    )
    arguments = frame.to_csv(index=False), ",", tuple(frame.columns), frozenset()
    once = source.parsed(*arguments)
    monkeypatch.setattr(source, "PIECE", 10)
    monkeypatch.setattr(source, "PIECE_CELLS", 7 * frame.shape[1])
    at_once, reader = [], pd.read_csv

    def noted(*args, **asked):
        at_once.append("chunksize" not in asked)
        return reader(*args, **asked)

    monkeypatch.setattr(pd, "read_csv", noted)
    pd.testing.assert_frame_equal(source.parsed(*arguments, count=40), once)
    assert at_once == [False, False]  # the columns of numbers and texts are read again, as texts
    at_once.clear()
    for other in (39, 41):  # the count is wrong
        pd.testing.assert_frame_equal(source.parsed(*arguments, count=other), once)
    assert at_once == [False, True] * 2


def test_a_column_of_truths_with_gaps_is_read_at_once(monkeypatch):
    text = "a,b\n" + "True,1\n" * 20 + ",2\n" * 20
    once = source.parsed(text, ",", ("a", "b"), frozenset())
    monkeypatch.setattr(source, "PIECE", 10)
    monkeypatch.setattr(source, "PIECE_CELLS", 14)
    pd.testing.assert_frame_equal(source.parsed(text, ",", ("a", "b"), frozenset(), count=40), once)


def test_rows_of_a_long_text_are_counted_as_a_reader_of_csv_counts_them():
    rows = ["a,b", *(f"{i},x" for i in range(9))]
    for end in ("\n", "\r\n"):
        for text in (
            end.join(rows),
            end.join(rows) + end,
            end + end.join(rows) + end + end,
            end.join([*rows[:4], "", *rows[4:]]),
            end.join([*rows, "\u20ac,\u00e9"]),
        ):
            expected = sum(1 for fields in csv.reader(io.StringIO(text, newline="")) if fields)
            assert _even_rows(text, ",") == expected - 1
    assert _even_rows("a\n1\n\n2\n", ",") == 2
    assert _even_rows("a,b\n1,2\n3\n", ",") is None
    assert _even_rows("a,b\n1,2\n3,4,5\n", ",") is None
    assert _even_rows("a,b\n1,2\r3,4\n", ",") is None
