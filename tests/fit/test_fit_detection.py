"""How texts are read is decided by all cells of a column; each reading is said, doubt asks."""

import numpy as np
import pandas as pd
import pytest

from thinned.errors import InputError
from thinned.fit.detection import found
from thinned.fit.files import read
from thinned.fit.readings import applied


@pytest.fixture
def table(tmp_path):
    def write(cells, separator=",", other="x", kinds=None, suffix=""):
        """Read a table of the column "a" with these cells, and of "b" which is all `other`."""
        path = tmp_path / "data.csv"
        rows = "".join(f'"{cell}"{separator}"{other}"\n' for cell in cells)
        path.write_text(f"a{separator}b\n{rows}", encoding="utf-8")
        source = read(path)
        readings = found(source, ["a", "b"], kinds)
        applied(source, readings)
        return source, readings

    return write


def values(table, *arguments, **options):
    return table(*arguments, **options)[0].frame["a"].tolist()


def sentence(table, *arguments, **options):
    with pytest.raises(InputError) as caught:
        table(*arguments, **options)
    return str(caught.value).removeprefix("data.csv: ")


SEPARATORS = pytest.mark.parametrize("separator", [",", ";", "\t", "|"])


@SEPARATORS
@pytest.mark.parametrize(
    ("cells", "numbers", "note"),
    [
        (
            ["4.282", "396"],
            [4282, 396],
            'Points were read as marks between groups of digits in "a": "4.282" is 4282.',
        ),
        (
            ["1.000", "2.000", "7"],
            [1000, 2000, 7],
            'Points were read as marks between groups of digits in "a": "1.000" is 1000.',
        ),
        (
            ["1,234", "396"],
            [1234, 396],
            'Commas were read as marks between groups of digits in "a": "1,234" is 1234.',
        ),
        (
            ["7", "1,234.50", "12.5"],
            [7, 1234.5, 12.5],
            'Commas were read as marks between groups of digits in "a": "1,234.50" is 1234.5.',
        ),
        (
            ["1.234,50", "12,5"],
            [1234.5, 12.5],
            'Points were read as marks between groups of digits in "a": "1.234,50" is 1234.5.',
        ),
        (
            ["1 234", "12"],
            [1234, 12],
            'Spaces were read as marks between groups of digits in "a": "1 234" is 1234.',
        ),
        (
            ["1\u202f234,5", "12"],
            [1234.5, 12],
            (
                "Spaces were read as marks between groups of digits and commas as decimal in "
                '"a": "1\\u202f234,5" is 1234.5.'
            ),
        ),
        (
            ["1'234.5", "12"],
            [1234.5, 12],
            'Apostrophes were read as marks between groups of digits in "a": "1\'234.5" is 1234.5.',
        ),
        (
            ["1,23,456", "12,345"],
            [123456, 12345],
            'Commas were read as marks between groups of two digits in "a": "1,23,456" is 123456.',
        ),
        (["1,5", "2"], [1.5, 2], 'Decimal commas were read in "a": "1,5" is 1.5.'),
        (["1,5e+01", "2"], [15, 2], 'Decimal commas were read in "a": "1,5e+01" is 15.'),
        (["\u22121.5", "2"], [-1.5, 2], 'Numbers were read in "a": "\u22121.5" is -1.5.'),
        (["(12.50)", "2"], [-12.5, 2], 'Numbers were read in "a": "(12.50)" is -12.5.'),
        (
            ["$12", "$1,234"],
            [12, 1234],
            (
                'Commas were read as marks between groups of digits, "$" left away, in "a": '
                '"$1,234" is 1234.'
            ),
        ),
        (["12%", "5 %"], [12, 5], 'Numbers were read, "%" left away, in "a": "12%" is 12.'),
        (["5 m", "7.5 m"], [5, 7.5], 'Numbers were read, "m" left away, in "a": "7.5 m" is 7.5.'),
    ],
)  # fmt: skip
def test_a_column_whose_cells_all_fit_is_read_and_it_is_said(
    table, separator, cells, numbers, note
):
    source, (reading,) = table(cells, separator)
    assert source.frame["a"].tolist() == numbers
    assert source.notes[-1] == note
    assert reading.column == "a"


@SEPARATORS
@pytest.mark.parametrize("cells", [["1.5", "2"], ["7", "2"], ["1.234", "2.5"], ["1234.567", "2"]])
def test_plain_numbers_stay_as_they_were(table, separator, cells):
    source, readings = table(cells, separator)
    assert source.frame["a"].tolist() == [float(cell) for cell in cells]
    assert readings == ()


def test_three_decimals_throughout_are_decimals_where_points_are_usual(table):
    for separator in (",", "\t", "|"):
        assert values(table, ["4.282", "5.123"], separator) == [4.282, 5.123]


@pytest.mark.parametrize(
    ("cells", "separator", "small", "large"),
    [
        (["4.282", "5.123"], ";", "4.282", "4282"),
        (["4,282", "5,123"], ",", "4.282", "4282"),
        (["4,282", "5,123"], ";", "4.282", "4282"),
        (["4,282 kg", "5,123 kg"], "\t", "4.282", "4282"),
    ],
)
def test_doubt_asks_and_the_answer_decides(table, cells, separator, small, large):
    assert sentence(table, cells, separator) == (
        f'column "a", row 1 (line 2) holds "{cells[0]}", which can be {small} or {large}; write '
        '--type "a=number" for the first, --type "a=grouped" for the second.'
    )
    assert values(table, cells, separator, kinds={"a": "number"})[0] == float(small)
    assert values(table, cells, separator, kinds={"a": "grouped"})[0] == float(large)
    assert values(table, cells, separator, kinds={"a": "text"}) == cells


@pytest.mark.parametrize(
    ("cells", "other", "first"),
    [
        (["4.282", "5.123"], "0,5", 4282),
        (["4.282", "5.123"], "1.234,5", 4282),
        (["4.282", "5.123"], "0.5", 4.282),
        (["4,282", "5,123"], "0,5", 4.282),
        (["4,282", "5,123"], "0.5", 4282),
        (["4,282", "396"], "0,5", 4.282),
    ],
)
def test_other_columns_show_which_mark_is_decimal(table, cells, other, first):
    assert values(table, cells, ";", other)[0] == first


def test_a_decimal_point_that_could_be_doubted_is_said(table):
    source, readings = table(["4.282", "396"], ",", "0.5")
    assert source.frame["a"].tolist() == [4.282, 396]
    assert readings == ()
    (note,) = source.notes
    assert note == (
        'Column "a": "4.282" has a decimal point, as numbers in other columns have; --type '
        '"a=grouped" reads thousands.'
    )


@pytest.mark.parametrize(
    ("cells", "separator", "said"),
    [
        (
            ["1.234", "12.5", "1,5"],
            ";",
            (
                'holds "12.5" in row 2 (line 3) and "1,5" in row 3 (line 4): the marks between '
                "digits differ"
            ),
        ),
        (
            ["1,23,456", "5", "1,234,567"],
            ",",
            (
                'holds "1,23,456" in row 1 (line 2) and "1,234,567" in row 3 (line 4): the marks '
                "between digits differ"
            ),
        ),
        (
            ["1,234.5", "1234,5"],
            "|",
            (
                'holds "1,234.5" in row 1 (line 2) and "1234,5" in row 2 (line 3): the marks '
                "between digits differ"
            ),
        ),
        (
            ["$5", "€5"],
            ",",
            (
                'holds "$5" in row 1 (line 2) and "€5" in row 2 (line 3): what stands around the '
                "numbers differs"
            ),
        ),
        (
            [*(f"{i} kg" for i in range(12)), "5 lb"],
            ",",
            (
                'holds "0 kg" in row 1 (line 2) and "5 lb" in row 13 (line 14): what stands around '
                "the numbers differs"
            ),
        ),
    ],
)
def test_a_mixed_column_is_refused_by_name(table, cells, separator, said):
    assert sentence(table, cells, separator) == (
        f'column "a" {said}; write all in one way, or --type "a=number" to take the rarer ones '
        'for missing, or --type "a=text".'
    )


@pytest.mark.parametrize(
    ("cells", "word", "row"),
    [
        ([*map(str, range(20)), "unknown"], "unknown", 21),
        ([*(f"{i},5" for i in range(20)), "x"], "x", 21),
        ([*(f"${i}" for i in range(20)), "free"], "free", 21),
        (["-", "1", "2", "-"], "-", 1),
        ([*map(str, range(12)), *["none yet"] * 8], "none yet", 13),
    ],
)
def test_a_few_words_among_numbers_are_refused_by_place(table, cells, word, row):
    assert sentence(table, cells, ";") == (
        f'column "a" holds numbers except in row {row} (line {row + 1}), where it holds "{word}"; '
        f'leave cells without a value empty, or write --missing "{word}" or --type "a=text".'
    )
    source, (reading,) = table(cells, ";", kinds={"a": "number"})
    missing = np.isnan(source.frame["a"])
    assert missing.tolist() == [cell == word for cell in cells]
    assert source.notes[-1].startswith(f'Column "a": "{word}" taken for missing (')
    assert reading.lenient


@pytest.mark.parametrize(
    "cells",
    [
        ["1A", "2B", "3C", "12D"],
        ["2", "3", "4", "5more"] * 9,
        ["ground", "1", "2"] * 9,
        ["1st", "2nd", "3rd"],
        ["1.2.3", "1.2.4"],
        ["192.168.1.1", "10.0.0.1"],
        ["1/2", "3/4"],
        ["12 Main St", "7 High St"],
        ["A12", "B13"],
        ["yes", "no"],
    ],
)
def test_texts_stay_texts(table, cells):
    source, readings = table(cells)
    assert readings == ()
    assert source.frame["a"].tolist() == cells


def test_declared_kinds(table):
    source, (reading,) = table(["017", "NA"], kinds={"a": "text"})
    assert source.frame["a"].tolist() == ["017", "NA"]
    assert reading.form == "text"
    assert sentence(table, ["x", "y"], kinds={"a": "number"}) == (
        'column "a" is no number, as --type says it is; row 1 (line 2) holds "x".'
    )
    assert sentence(table, ["1,5", "2,5"], kinds={"a": "grouped"}) == (
        'column "a" is no grouped number, as --type says it is; row 1 (line 2) holds "1,5".'
    )


@pytest.mark.parametrize(
    "cells", [["4.282", "396"], ["1,234.5", "7"], ["1,5", "-2"], ["1.234,5", "2,5"], ["1 234", "5"]]
)
@pytest.mark.parametrize("last", ["12", "", "+3", "(4)", "\u22125"])
def test_long_columns_are_read_as_short_ones_are(table, monkeypatch, cells, last):
    from thinned.fit import detection

    many = [*cells * 30, last]
    short, (one,) = table(many, ";")
    monkeypatch.setattr(detection, "LOOKED_AT", 5)
    long, (other,) = table(many, ";")
    assert one == other
    assert short.notes == long.notes
    pd.testing.assert_frame_equal(short.frame, long.frame)


@pytest.mark.parametrize(
    ("cells", "last"), [(["4.282", "5.123"], "6.100"), (["1,5", "2"], "x"), (["1,5", "2"], "1.5")]
)
def test_long_columns_are_refused_as_short_ones_are(table, monkeypatch, cells, last):
    from thinned.fit import detection

    many = [*cells * 30, last]
    short = sentence(table, many, ";")
    monkeypatch.setattr(detection, "LOOKED_AT", 5)
    assert sentence(table, many, ";") == short


@pytest.mark.parametrize(
    ("cells", "kind", "what"),
    [
        (["1", "2"], "date", "numbers"),
        (["1", "2"], "day/month/year", "numbers"),
        (["True", "False"], "number", "true or false"),
        (["True", ""], "grouped", "true or false"),
    ],
)
def test_a_kind_that_a_column_cannot_have(table, cells, kind, what):
    assert sentence(table, cells, kinds={"a": kind}) == (
        f'column "a" is no {kind}, as --type says it is; it holds {what}.'
    )


def test_missing_cells_stay_missing(table):
    found_here = values(table, ["", "4.282", "NA", "396"])
    assert found_here[1::2] == [4282.0, 396.0]
    assert np.isnan(found_here[::2]).all()


def test_texts_of_digits_in_a_typed_file_are_names_if_one_begins_with_a_zero(tmp_path):
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"zip": ["01067", "80331"], "n": ["1,5", "2"], "m": [4.282, 396.0]})
    frame.to_parquet(path)
    source = read(path)
    applied(source, found(source, list(frame)))
    assert source.frame["zip"].tolist() == ["01067", "80331"]
    assert source.frame["n"].tolist() == [1.5, 2.0]
    assert source.frame["m"].tolist() == [4.282, 396.0]


@pytest.mark.parametrize(
    ("cells", "numbers", "note"),
    [
        (["300.1K", "2M", "1.5B"], [300100, 2e6, 1.5e9], "K, M, B and the like multiplied out"),
        (["\u20ac110.5M", "\u20ac0"], [110.5e6, 0], "left away, K, M, B and the like"),
        (["12*", "7", "9[1]"], [12, 7, 9], "marks of footnotes left away"),
        (["70 kg", "800 g"], [70000, 800], "in grams"),
        ([f"{i}th" for i in range(4, 20)] + ["1st"], [*range(4, 20), 1], "st, nd, rd and th"),
        (["1,200+", "50+"], [1200, 50], '"+" left away'),
        (["%39", "%7"], [39, 7], '"%" left away'),
        (["8/10", "3/10"], [8, 3], '"/10" left away'),
        (["1.5x10^3", "2\u00d710\u2075", "3d+02"], [1500, 2e5, 300], "Numbers were read in"),
        (["$39,569", "$1,200"], [39569, 1200], "Commas were read as marks between groups"),
    ],
)
def test_what_stands_after_numbers_can_belong_together(table, cells, numbers, note):
    source, (reading,) = table(cells, ";")
    assert source.frame["a"].tolist() == numbers
    assert any(note in said for said in source.notes)
    assert not reading.lenient


@pytest.mark.parametrize("cells", [["$1.459", "$1.500"], ["1.459 \u20ac", "1.500 \u20ac"]])
def test_money_with_three_decimals_is_asked(table, cells):
    assert "which can be" in sentence(table, cells)


def test_several_words_among_numbers_are_all_named(table):
    cells = [f"{i}.5" for i in range(20)] + ["n.a.", "k.A.", "unknown", "lost"]
    assert '--missing "n.a.,k.A.,unknown,lost"' in sentence(table, cells, ";")


def test_a_mark_in_most_cells_is_asked(table):
    assert '--missing "--"' in sentence(table, [f"{i}.5" for i in range(12)] + ["--"] * 40)


def test_texts_most_of_which_are_numbers_are_pointed_out(table):
    cells = [str(i) for i in range(40)] + [f"V{i}" for i in range(15)]
    source, readings = table(cells)
    assert readings == ()
    (note,) = source.notes
    assert note == (
        'Column "a" was read as texts: it holds numbers in 40 rows and others, as "V0", in 15; '
        '--type "a=number" takes these for missing.'
    )


def test_a_clock_that_is_a_length_of_time(table):
    cells = ["1:30:00", "2:05:10", "soon"]
    source, (reading,) = table(cells, kinds={"a": "duration"})
    assert source.frame["a"].tolist()[:2] == [5400, 7510]
    assert reading.lenient
    assert "is no duration, as --type says" in sentence(table, ["a", "b"], kinds={"a": "duration"})
