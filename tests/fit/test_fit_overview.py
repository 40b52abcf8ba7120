"""The overview of the columns, and what each is worth."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from thinned.fit.encoding import Encoder, Numeric, Texts, column_transformer, learned
from thinned.fit.importance import importance_of
from thinned.fit.model import Model
from thinned.fit.network import Network
from thinned.fit.overview import overview_of
from thinned.fit.tables import Column, load


def test_the_overview_is_what_the_table_holds(tmp_path):
    n = 60
    frame = pd.DataFrame(
        {
            "price": [f"${i % 7 + 1}.5" for i in range(n)],
            "size": [float(i % 5) for i in range(n)],
            "city": ["Rom" if i % 2 else ["Oslo", "Bonn"][i % 4 // 2] for i in range(n)],
            "old": [i % 3 == 0 for i in range(n)],
            "when": [f"2023-{1 + i % 12:02d}-05" for i in range(n)],
            "y": [i % 2 for i in range(n)],
        }
    )
    frame.loc[3, "size"] = None
    frame.loc[7, "size"] = 1000
    frame.loc[4, "city"] = None
    frame.to_csv(tmp_path / "t.csv", index=False)
    problem = load(str(tmp_path / "t.csv"), "y")
    transformer = column_transformer(problem.columns).fit(problem.features)
    found = {one.name: one for one in overview_of(problem, learned(transformer, problem.columns))}
    assert list(found) == [column.name for column in problem.columns]
    price, size, city, old = (found[name] for name in ("price", "size", "city", "old"))
    assert (price.kind, price.low, price.high, price.inputs) == ("number", 1.5, 7.5, 1)
    assert price.done.startswith('read as 1.5, "$" left away; scaled')
    assert (size.missing, size.different, size.middle, size.high) == (1, 6, 2.0, 1000.0)
    assert size.done == (
        "scaled to mean 0 and variance 1; missing cells became 2; beyond 5 deviations clipped"
    )
    assert (city.kind, city.texts[0], city.different) == ("text", ("Rom", 30), 3)
    assert city.done == "an input for each text, missing cells being one"
    assert (old.kind, old.inputs) == ("yes or no", 2)
    assert found["when: days"].done.startswith('made from the dates of "when"; scaled')


def linear(task):
    """A network that adds a and twice c, c being a text, and leaves b alone."""
    first = np.zeros((4, 4), np.float32)
    first[0, :2] = 1, -1  # a and -a
    first[2, 2] = first[3, 3] = 2.0  # the texts
    out = np.array([[1.0], [-1.0], [1.0], [-1.0]], np.float32)
    if task == "classification":
        out = np.hstack([-out, out])
    encoder = Encoder(
        (Numeric("a", 0.0, 0.0, 1.0), Numeric("b", 0.0, 0.0, 1.0)),
        (Texts("c", ("no", "yes"), ()),),
    )
    columns = (Column("a", "numeric"), Column("b", "numeric"), Column("c", "text"))
    network = Network((first, out), (np.zeros(4, np.float32), np.zeros(out.shape[1], np.float32)))
    classes = ("low", "high") if task == "classification" else ()
    return Model(task, "y", classes, columns, (), encoder, network, {"p": 0.0})


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_columns_worth_is_the_rise_of_the_loss_when_it_is_shuffled(task):
    rng = np.random.default_rng(0)
    n = 400
    frame = pd.DataFrame(
        {"a": rng.normal(size=n), "b": rng.normal(size=n), "c": rng.choice(["no", "yes"], n)}
    )
    model = linear(task)
    y = model.answers(frame).prediction
    found = importance_of(model, frame, y, seed=1)
    assert [one.column for one in found] == ["c", "a", "b"]
    worth = {one.column: one for one in found}
    assert worth["b"].value == worth["b"].error == 0.0
    if task == "regression":
        # Exact answers: the rise is the mean square of what a shuffle moves, 2 Var.
        assert worth["a"].value == pytest.approx(2 * frame["a"].var(), rel=0.15)
        assert worth["c"].value == pytest.approx(2 * 4.0, rel=0.15)
    assert all(one.value > 3 * one.error > 0 for one in found[:2])


def test_worth_by_parts_is_worth_by_the_whole_table():
    """The same shuffle of a column in the table itself gives the same rise."""
    rng = np.random.default_rng(2)
    sizes = [4, 6, 1]
    base = linear("regression")
    network = Network(
        tuple(rng.normal(size=s).astype(np.float32) for s in pairwise(sizes)),
        tuple(rng.normal(size=s).astype(np.float32) for s in sizes[1:]),
        mean=3.0,
        scale=2.0,
    )
    model = Model("regression", "y", (), base.columns, (), base.encoder, network, {"p": 0.0})
    frame = pd.DataFrame(
        {"a": rng.normal(size=50), "b": rng.normal(size=50), "c": rng.choice(["no", "yes"], 50)}
    )
    y = rng.normal(size=50)
    found = {one.column: one.value for one in importance_of(model, frame, y, seed=5)}
    draw = np.random.default_rng(5)
    before = (model.answers(frame).prediction - y) ** 2
    for name in ("a", "b", "c"):
        rises = []
        for _ in range(5):
            moved = frame.assign(**{name: frame[name].to_numpy()[draw.permutation(50)]})
            rises.append(((model.answers(moved).prediction - y) ** 2 - before).mean())
        assert found[name] == pytest.approx(np.mean(rises), rel=1e-4)
