"""What is typed about the columns."""

import pytest

from thinned.errors import InputError
from thinned.fit.choices import Choices, read_encoding, read_missing, read_types


def test_kinds_of_columns():
    assert Choices(read_types(["a=number", "b = c=text"])).kinds == {"a": "number", "b = c": "text"}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["a"], "--type: a is not COLUMN=KIND; kinds are number, grouped, date, "),
        (["=text"], "--type: =text is not COLUMN=KIND; kinds are "),
        (["a=integer"], "--type: a=integer is not COLUMN=KIND; kinds are "),
        ([""], "--type: an empty text is not COLUMN=KIND; kinds are "),
        (["a=text", "a=number"], '--type: the column "a" is given two kinds.'),
    ],
)
def test_kinds_that_cannot_be(typed, said):
    with pytest.raises(InputError) as caught:
        read_types(typed)
    assert str(caught.value).startswith(said)


def test_missing_texts():
    assert read_missing(None) == ()
    assert read_missing("?, -,n. a.") == ("?", "-", "n. a.")
    with pytest.raises(InputError, match="--missing: an empty place is no text"):
        read_missing("?,")


def test_a_kind_for_no_column(refused, here):
    (here / "t.csv").write_text("a,b\n1,2\n")
    said = refused("fit", "t.csv", "--type", "c=text", "--out", "out")
    assert said == '--type: there is no column "c"; the columns are "a", "b".'


def test_encodings_are_those_that_are_known():
    assert read_encoding(None) is None
    assert read_encoding("cp1251") == "cp1251"
    for name in ("cp9999", "base64", "\0"):
        with pytest.raises(InputError, match="--encoding: there is no encoding"):
            read_encoding(name)
