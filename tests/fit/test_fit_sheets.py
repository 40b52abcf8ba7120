"""Excel files as people have them: hidden sheets, merged cells, formulas, lines of units."""

import pytest

from thinned.errors import InputError
from thinned.fit.files import read
from thinned.fit.tables import load

openpyxl = pytest.importorskip("openpyxl", reason="openpyxl, of the extra [excel]")

HEAD = ["a", "b", "y"]
ROWS = [[i * i % 17, i * i % 7, i % 5 + 0.5] for i in range(40)]


@pytest.fixture
def book(tmp_path):
    """A file of a book that a function fills; the function gets its first sheet."""

    def made(fill):
        whole = openpyxl.Workbook()
        fill(whole.active)
        whole.save(tmp_path / "t.xlsx")
        return tmp_path / "t.xlsx"

    return made


def filled(sheet, head=HEAD, rows=ROWS):
    for row in (head, *rows):
        sheet.append(row)
    return sheet


def test_a_hidden_sheet_is_read_last(book):
    def fill(sheet):
        filled(sheet, ["key", "value", "y"]).sheet_state = "hidden"
        filled(sheet.parent.create_sheet("Data"))

    source = read(book(fill))
    assert source.frame.columns.tolist() == HEAD
    assert source.notes == ['t.xlsx has 2 sheets; the first that is not hidden, "Data", was read.']


def test_a_cover_with_some_rows_is_no_table(book):
    def fill(sheet):
        for row in (["The study's data"], ["Author", "K."], ["Date", "2023"]):
            sheet.append(row)
        filled(sheet.parent.create_sheet("Data"))

    source = read(book(fill))
    assert len(source.frame) == len(ROWS)
    assert source.notes == ['t.xlsx has 2 sheets; the first with a table, "Data", was read.']


def test_cells_that_were_merged_over_rows(book):
    def fill(sheet):
        sheet.append(["Report", None, None, None])
        sheet.merge_cells("A1:D1")
        filled(sheet, ["shop", *HEAD], [["east" if i == 0 else "west" if i == 20 else None, *row]
                                        for i, row in enumerate(ROWS)])  # fmt: skip
        sheet.merge_cells("A3:A22")
        sheet.merge_cells("A23:A42")

    source = read(book(fill))
    assert source.frame["shop"].tolist() == ["east"] * 20 + ["west"] * 20
    assert 'Cells that were merged hold their value in each row: "shop".' in source.notes


def test_a_header_that_was_merged_is_no_value(book):
    def fill(sheet):
        filled(sheet, ["shop", "numbers", "of", "each"], [[None, *HEAD]])
        for i, row in enumerate(ROWS):
            sheet.append([f"s{i % 3}", *row])
        sheet.merge_cells("A1:A2")

    source = read(book(fill))
    assert not any("were merged" in note for note in source.notes)


def test_formulas_that_no_program_has_computed(book):
    path = book(lambda sheet: filled(sheet, [*HEAD, "sum"], [[*row, "=A2+B2"] for row in ROWS]))
    said = (
        'Column "sum" holds formulas that no program has computed: open the file in a spreadsheet '
        "program and save it there."
    )
    assert said in load(str(path), "y").notes
    with pytest.raises(InputError) as caught:
        load(str(path), "sum")
    assert str(caught.value) == f't.xlsx: the target "sum" is empty. {said}'
    empty = book(lambda sheet: filled(sheet, [*HEAD, "sum"], [[*row, None] for row in ROWS]))
    assert not any("formulas" in note for note in load(str(empty), "y").notes)


def test_several_rows_say_more_of_a_header(book):
    def fill(sheet):
        filled(sheet, HEAD, [["kg", "m", "s"], ["Avg", "Max", "Max"], *ROWS])

    source = read(book(fill))
    assert source.frame["a"].tolist() == [row[0] for row in ROWS]
    assert sum("and is no row" in note for note in source.notes) == 2
