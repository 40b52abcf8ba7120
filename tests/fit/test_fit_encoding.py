"""What a saved model knows of the columns is what scikit-learn's ColumnTransformer learned."""

import numpy as np
import pandas as pd
import pytest

from thinned.fit.encoding import FURTHEST, MOST_INPUTS, column_transformer, fitted, learned
from thinned.fit.tables import Column, load


def both(problem, rows, other):
    """Inputs of `other` rows by the transformer fitted on `rows`, and by what was learned."""
    transformer = column_transformer(problem.columns)
    transformer.fit(problem.features.iloc[rows])
    encoder = learned(transformer, problem.columns)
    frame = problem.features.iloc[other]
    return transformer.transform(frame).astype(np.float32), encoder.encode(frame), encoder


@pytest.mark.parametrize("data", ["digits", "wine", "mixed"])
def test_the_encoder_equals_the_transformer(data, mixed_csv):
    problem = load(str(mixed_csv) if data == "mixed" else data, "target")
    rows = np.arange(problem.rows)
    theirs, ours, encoder = both(problem, rows[::2], rows[1::2])
    np.testing.assert_array_equal(theirs, ours)
    assert ours.shape == (len(rows[1::2]), encoder.inputs)
    assert ours.dtype == np.float32


def numbers(**cells):
    columns = tuple(Column(name, "numeric") for name in cells)
    return columns, pd.DataFrame({name: np.asarray(column) for name, column in cells.items()})


def test_gaps_constants_and_columns_without_a_single_number():
    n = 12
    columns, frame = numbers(
        gaps=[np.nan, *np.arange(n - 1.0)],
        same=[3.0] * n,
        none=[np.nan] * n,
    )
    transformer = column_transformer(columns).fit(frame)
    encoder = learned(transformer, columns)
    ours = encoder.encode(frame)
    np.testing.assert_array_equal(transformer.transform(frame).astype(np.float32), ours)
    assert ours[0, 0] == 0.0  # the median of 0..10 is their mean
    assert (ours[:, 1:] == 0.0).all()
    assert np.isfinite(ours).all()


def test_texts_unseen_and_missing():
    columns = (Column("t", "text"),)
    frame = pd.DataFrame({"t": pd.Series(["a", "b", None, "a"], dtype=object)})
    transformer = column_transformer(columns).fit(frame)
    encoder = learned(transformer, columns)
    new = pd.DataFrame({"t": pd.Series(["b", None, "c"], dtype=object)})
    np.testing.assert_array_equal(transformer.transform(new), encoder.encode(new))
    assert encoder.encode(new).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert encoder.unseen(new) == {"t": ["c"]}


def test_past_a_hundred_texts_the_rarest_share_an_input():
    columns = (Column("t", "text"),)
    often = [f"often {i}" for i in range(MOST_INPUTS - 1)] * 3
    cells = pd.Series([*often, *(f"rare {i}" for i in range(40))], dtype=object)
    frame = pd.DataFrame({"t": cells})
    transformer = column_transformer(columns).fit(frame)
    encoder = learned(transformer, columns)
    assert encoder.inputs == MOST_INPUTS
    assert len(encoder.texts[0].rare) == 40
    new = pd.DataFrame({"t": pd.Series(["rare 3", "never seen", "often 7"], dtype=object)})
    theirs, ours = transformer.transform(new), encoder.encode(new)
    np.testing.assert_array_equal(theirs, ours)
    assert ours[0, -1] == ours[1, -1] == 1.0


def test_what_is_far_off_is_clipped():
    columns, frame = numbers(x=[0.0] * 999 + [1000.0])
    transformer = column_transformer(columns).fit(frame)
    assert transformer.transform(frame).max() == FURTHEST
    assert learned(transformer, columns).encode(frame).max() == FURTHEST


def test_a_large_table_is_learned_from_column_by_column(mixed_csv, monkeypatch):
    problem = load(str(mixed_csv), "target")
    rows, other = np.arange(problem.rows)[::2], np.arange(problem.rows)[1::2]
    theirs, _, whole = both(problem, rows, other)
    for cells in (1, 2 * len(rows), 10**9):
        monkeypatch.setattr("thinned.fit.encoding.CELLS", cells)
        found = fitted(problem.features, problem.columns, rows)
        assert [one.name for one in found.numeric] == [one.name for one in whole.numeric]
        assert found.texts == whole.texts
        ours = found.encode(problem.features, other)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(ours, found.encode(problem.features.iloc[other]))
