"""From a table's columns to the network's inputs.

In fitting, scikit-learn's ColumnTransformer learns the way and goes it. A saved model goes the same
way by `Encoder`, which is what was learned, as plain numbers and names: to make a fitted
scikit-learn object out of them would mean to write its private attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinned.fit.tables import Column

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.compose import ColumnTransformer

__all__ = ["Encoder", "Numeric", "Texts", "column_transformer", "fitted", "learned"]

# A number scaled to variance 1 counts as at most this far from the mean. A column that is nearly
# constant in the training rows sends single rows hundreds of deviations off, and the loss with
# them: on digits the clip takes the mean validation loss from .089 to .063 nats.
FURTHEST = 5.0
# Inputs that one column of texts can make. Past it, its rarest texts share one input.
MOST_INPUTS = 100
# Cells that are learned from at once: scikit-learn's steps make half a dozen copies of them.
CELLS = 2**22
# What a missing text counts as: a category, because its absence can matter.
MISSING = ""


def column_transformer(columns: Sequence[Column]) -> ColumnTransformer:
    """An unfitted ColumnTransformer for these columns.

    Numbers: a missing one becomes the column's median, then each column gets mean 0 and variance 1,
    and values are clipped to [-5, 5].
    Texts and booleans: one-hot encoded, a missing value being a category; a text
    not seen in fitting joins the rarest ones if there are more than 100, else it is all zeros.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    numeric = Pipeline(
        [
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", StandardScaler()),
            (
                "clip",
                FunctionTransformer(np.clip, kw_args={"a_min": -FURTHEST, "a_max": FURTHEST}),
            ),
        ]
    )
    texts = Pipeline(
        [
            (
                "impute",
                SimpleImputer(strategy="constant", fill_value=MISSING, missing_values=None),
            ),
            (
                "encode",
                OneHotEncoder(
                    handle_unknown="infrequent_if_exist",
                    max_categories=MOST_INPUTS,
                    sparse_output=False,
                ),
            ),
        ]
    )
    parts = [
        ("numeric", numeric, [c.name for c in columns if c.kind == "numeric"]),
        ("texts", texts, [c.name for c in columns if c.kind != "numeric"]),
    ]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0.0)


@dataclass(frozen=True)
class Numeric:
    """A column of numbers: (x - mean) / scale, clipped to [-5, 5]; a missing x is `median`."""

    name: str
    median: float
    mean: float
    scale: float


@dataclass(frozen=True)
class Texts:
    """A column of texts: an input for each of `own`, and where there are `rare` ones, one for them.

    A text that is in neither joins the rare ones, or is all zeros where there are none.
    """

    name: str
    own: tuple[str, ...]
    rare: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        return len(self.own) + bool(self.rare)


@dataclass(frozen=True)
class Encoder:
    """What a fitted ColumnTransformer does, as plain numbers and names."""

    numeric: tuple[Numeric, ...]
    texts: tuple[Texts, ...]

    @property
    def inputs(self) -> int:
        """How many inputs the network has."""
        return len(self.numeric) + sum(column.inputs for column in self.texts)

    def encode(
        self, frame: pd.DataFrame, rows: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """The network's inputs, shape (rows, inputs): numbers first, then texts, as in fitting.

        rows : positions of the rows; None is all. Column by column, so that no copy is made of all.
        """
        places = slice(None) if rows is None else rows
        out = np.zeros((len(frame) if rows is None else len(rows), self.inputs), np.float32)
        for j, number in enumerate(self.numeric):
            cells = frame[number.name].to_numpy(np.float64)[places]
            cells = np.where(np.isnan(cells), number.median, cells)
            out[:, j] = np.clip((cells - number.mean) / number.scale, -FURTHEST, FURTHEST)
        first = len(self.numeric)
        for column in self.texts:
            texts = frame[column.name].iloc[places]
            place = {text: i for i, text in enumerate(column.own)}
            where = texts.where(texts.notna(), MISSING).map(place).to_numpy(np.float64)
            if column.rare:
                where = np.where(np.isnan(where), len(column.own), where)
            known = np.flatnonzero(~np.isnan(where))
            out[known, first + where[known].astype(np.intp)] = 1.0
            first += column.inputs
        return out

    def unseen(self, frame: pd.DataFrame) -> dict[str, list[str]]:
        """For each column of texts, those that fitting did not see."""
        found = {}
        for column in self.texts:
            new = set(frame[column.name].dropna()) - set(column.own) - set(column.rare)
            if new:
                found[column.name] = sorted(new)
        return found


def fitted(
    frame: pd.DataFrame, columns: Sequence[Column], rows: NDArray[np.intp] | None = None
) -> Encoder:
    """What some rows of a table teach, all where `rows` is None."""
    n = len(frame) if rows is None else len(rows)
    at_once = max(1, CELLS // max(n, 1))
    parts = []
    for some in (columns[i : i + at_once] for i in range(0, len(columns), at_once)):
        cells = frame[[column.name for column in some]]
        known = cells if rows is None else cells.iloc[rows]
        parts.append(learned(column_transformer(some).fit(known), some))
    return Encoder(
        tuple(one for part in parts for one in part.numeric),
        tuple(one for part in parts for one in part.texts),
    )


def learned(transformer: Any, columns: Sequence[Column]) -> Encoder:
    """What a fitted `column_transformer` learned, read from its public attributes."""
    numeric: list[Numeric] = []
    texts: list[Texts] = []
    parts = transformer.named_transformers_
    names = [c.name for c in columns if c.kind == "numeric"]
    if names:
        impute, scale = (parts["numeric"].named_steps[step] for step in ("impute", "scale"))
        # A column without a single number in this part of the rows: scikit-learn fills in 0.
        medians = np.nan_to_num(impute.statistics_, nan=0.0)
        for j, name in enumerate(names):
            row = (float(medians[j]), float(scale.mean_[j]), float(scale.scale_[j]))
            numeric.append(Numeric(name, *row))
    names = [c.name for c in columns if c.kind != "numeric"]
    if names:
        encode = parts["texts"].named_steps["encode"]
        rares = getattr(encode, "infrequent_categories_", [None] * len(names))
        for name, known, rare in zip(names, encode.categories_, rares, strict=True):
            few = () if rare is None else tuple(str(text) for text in rare)
            own = tuple(str(text) for text in known if text not in set(few))
            texts.append(Texts(name, own, few))
    return Encoder(tuple(numeric), tuple(texts))
