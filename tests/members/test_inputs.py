"""What predict takes and gives back: Mappings, constants, DataLoaders, results with names."""

import collections
import dataclasses
import enum

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from thinned.members import arguments, predict

from .models import OnSecondAxis, everything, rows


def outputs(model, x, **how):
    return predict(model, x, members=4, keep=True, **how).outputs


class Named(nn.Module):
    """Takes keywords of many kinds, and keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.drop, self.seen = nn.Dropout(0.5), []

    def forward(self, a, b=None, **others):
        self.seen.append(others)
        return self.drop(a) if b is None else self.drop(a) + b


class Reduction(enum.Enum):
    MEAN = "mean"


# ---------------------------------------------------------------------------------------- Mappings


def test_any_mapping_is_keywords():
    x = {"a": rows(), "b": rows(seed=2)}
    expected = outputs(Named(), x)
    for kind in (collections.OrderedDict, collections.UserDict, collections.ChainMap):
        np.testing.assert_array_equal(outputs(Named(), kind(x)), expected)
    np.testing.assert_array_equal(outputs(Named(), (x["a"], x["b"])), expected)


def test_constants_are_given_to_every_forward_as_they_are():
    told = {
        "nothing": None, "yes": True, "number": 0.5, "text": "cls", "kind": Reduction.MEAN,
        "size": (2, 4), "dtype": torch.float64, "scale": torch.tensor(2.0), "own": np.float32(1),
    }  # fmt: skip
    model = Named()
    whole = outputs(model, {"a": rows(), **told})
    assert all(seen == told and seen["scale"] is told["scale"] for seen in model.seen)
    np.testing.assert_array_equal(outputs(Named(), {**told, "a": rows()}, batch_size=3), whole)
    np.testing.assert_array_equal(outputs(Named(), (rows(), None)), whole)


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        ({"a": [[1.0]] * 10}, TypeError, r"x\['a'\] must be a tensor.*got list.*return_tensors"),
        ({"a": rows(), "c": object()}, TypeError, r"x\['c'\] must be .*got object"),
        ({"a": rows(), "c": {"d": 1}}, TypeError, r"x\['c'\] must be .*got dict"),
        ({"a": 1.0}, TypeError, "x must be a tensor or a NumPy array, got float"),
        ({}, TypeError, "x must be a tensor or a NumPy array, got dict"),
        ({"a": rows(), "b": rows(1)}, ValueError, r"as many rows each.*'b': \(1, 8\).*expand"),
        (np.array(["a", "b"]), TypeError, "x must be an array of numbers"),
        ((rows(), rows(), rows()), TypeError, "must be at most 2, as forward takes, got 3"),
    ],
)
def test_what_cannot_be_cut_into_rows_is_said(x, error, text):
    with pytest.raises(error, match=text):
        predict(Named(), x)


# -------------------------------------------------------------------------------------- DataLoaders


class Dicts(Dataset):
    def __init__(self, n=10):
        self.a, self.b = rows(n), rows(n, seed=2)

    def __len__(self):
        return len(self.a)

    def __getitem__(self, i):
        return {"a": self.a[i], "b": self.b[i]}


class Stream(IterableDataset):
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(self.x)


def test_a_loader_gives_what_its_rows_give():
    x = rows()
    expected = outputs(everything(), x)
    only = {"collate_fn": lambda some: default_collate(some)[0]}
    labelled = TensorDataset(x, torch.zeros(10))
    for loader in (
        DataLoader(x, batch_size=4),
        DataLoader(x, batch_size=10),
        DataLoader(TensorDataset(x), batch_size=3),
        DataLoader(labelled, batch_size=4, **only),
        DataLoader(Stream(x), batch_size=4),
        DataLoader(x, batch_sampler=BatchSampler(SequentialSampler(x), 4, False)),
        DataLoader([x[:4], x[4:]], batch_size=None),
        DataLoader(x, batch_size=4, sampler=DistributedSampler(x, 1, 0, shuffle=False)),
    ):
        np.testing.assert_allclose(outputs(everything(), loader), expected, atol=1e-6)
    for kind in (dict, collections.UserDict):
        loader = DataLoader(
            Dicts(), batch_size=4, collate_fn=lambda s, k=kind: k(default_collate(s))
        )
        expected = outputs(Named(), Dicts()[:])
        np.testing.assert_allclose(outputs(Named(), loader), expected, atol=1e-6)


def test_rows_have_masks_of_their_own_in_a_loader():
    x = rows(10, 5, 8)
    torch.manual_seed(0)
    model = OnSecondAxis()
    expected = outputs(model, x, share="row")
    for drop_last in (False, True):
        loader = DataLoader(x, batch_size=4, drop_last=drop_last)
        some = expected if not drop_last else outputs(model, x[:8], share="row")
        np.testing.assert_allclose(outputs(model, loader, share="row"), some, atol=1e-6)
    with pytest.raises(RuntimeError, match="this DataLoader does not tell it"):
        predict(model, DataLoader(Stream(x), batch_size=4), share="row")
    twice = DataLoader(x, batch_size=4, collate_fn=lambda some: torch.stack(some * 2))
    with pytest.raises(RuntimeError, match="sampler has 10 rows, and its batches have 20"):
        predict(everything(), DataLoader(rows(), batch_size=4, collate_fn=twice.collate_fn))


def test_until_goes_over_a_loader_again():
    x = rows()
    asked = {"members": 64, "until": 0.02, "keep": True, "task": "classification"}
    expected = predict(everything(), x, **asked)
    assert 8 < expected.members < 64
    for loader in (DataLoader(x, batch_size=4), DataLoader(Stream(x), batch_size=4)):
        got = predict(everything(), loader, **asked)
        assert (got.members, got.reached) == (expected.members, True)
        np.testing.assert_allclose(got.outputs, expected.outputs, atol=1e-6)


def check_other_rows(data):
    with pytest.raises(RuntimeError, match="gave other batches when it was gone through again"):
        predict(everything(), DataLoader(data, batch_size=4), members=64, until=1e-6)


class Augmented(TensorDataset):
    def __getitem__(self, i):
        return super().__getitem__(i)[0] + 0.01 * torch.randn(8)


class Moving(Stream):
    def __iter__(self):
        self.x = self.x.flip(0)
        return iter(self.x)


def test_a_loader_that_gives_other_rows_is_refused():
    for data in (Augmented(rows()), Moving(rows()), Moving(rows(3)), Stream(iter(rows()))):
        check_other_rows(data)


def test_other_rows_that_nobody_looks_at_are_caught(monkeypatch):
    monkeypatch.setattr(arguments, "_sums", lambda _: ())
    for data in (Augmented(rows()), Moving(rows())):
        with pytest.raises(pytest.fail.Exception):
            check_other_rows(data)


@pytest.mark.parametrize(
    ("how", "which"),
    [
        ({"shuffle": True}, "RandomSampler"),
        ({"sampler": WeightedRandomSampler([1.0] * 10, 10)}, "WeightedRandomSampler"),
        ({"sampler": DistributedSampler(range(10), 1, 0)}, "DistributedSampler"),
        ({"batch_sampler": BatchSampler(RandomSampler(range(10)), 4, False)}, "RandomSampler"),
    ],
)
def test_a_loader_that_shuffles_is_refused(how, which):
    with pytest.raises(ValueError, match=f"keeps the order, got one with a {which}.*shuffle=False"):
        predict(everything(), DataLoader(rows(), **how))


def test_wrong_loaders_are_said():
    x, y = rows(), torch.zeros(10)
    with pytest.raises(ValueError, match="batch_size must be None for a DataLoader"):
        predict(everything(), DataLoader(x), batch_size=4)
    with pytest.raises(TypeError, match=r"parts of a batch of x must be at most 1, .*collate_fn"):
        predict(everything(), DataLoader(TensorDataset(x, y)))
    with pytest.raises(ValueError, match="at least one row"):
        predict(everything(), DataLoader(Stream([])))
    with pytest.raises(TypeError, match="a batch of x must be a tensor"):
        predict(everything(), DataLoader([1.0, 2.0], batch_size=None))


class Lengths(nn.Module):
    def __init__(self, pooled):
        super().__init__()
        self.drop, self.pooled = nn.Dropout(0.5), pooled

    def forward(self, x):
        y = self.drop(x)
        return y.mean(1) if self.pooled else y


def test_batches_of_several_lengths():
    loader = DataLoader([rows(4, 5, 8), rows(4, 7, 8)], batch_size=None)
    assert predict(Lengths(True), loader, members=4).mean.shape == (8, 8)
    with pytest.raises(ValueError, match=r"of one shape.*\(5, 8\), \(7, 8\).*Pad all batches"):
        predict(Lengths(False), loader, members=4)


# ----------------------------------------------------------------------------------------- progress


def test_progress_is_told_or_shown(capsys):
    pytest.importorskip("rich")
    predict(everything(), rows(), members=4, progress=True)
    assert "4/4" in capsys.readouterr().err
    done = []
    for loader in (DataLoader(rows(), batch_size=4), DataLoader(Stream(rows()), batch_size=4)):
        predict(everything(), loader, members=2, progress=lambda *told: done.append(told))
    assert done == [(i, 6) for i in range(1, 7)] + [(i, None) for i in range(1, 7)]
    predict(everything(), DataLoader(Stream(rows()), batch_size=4), members=2, progress=True)
    assert "6/?" in capsys.readouterr().err
    predict(everything(), rows(), members=2, progress=False)
    assert capsys.readouterr().err == ""
    with pytest.raises(TypeError, match="progress must be True, False, None or a function"):
        predict(everything(), rows(), progress=1)


# ------------------------------------------------------------------------------------------ results


class Giving(nn.Module):
    def __init__(self, give):
        super().__init__()
        self.drop, self.give = nn.Dropout(0.5), give

    def forward(self, x):
        return self.give(self.drop(x))


@dataclasses.dataclass
class Result:
    loss: object
    scores: object
    ids: object = None


Pair = collections.namedtuple("Pair", ["scores", "loss"])


@pytest.mark.parametrize(
    "give",
    [
        lambda y: {"loss": y.mean(), "logits": y, "hidden": y + 1},
        lambda y: {"scores": y, "ids": y.long(), "states": (y, y), "aux": y[:1].expand(3, 8)},
        lambda y: collections.UserDict({"scores": y}),
        lambda y: Result(y.mean(), y, y.argmax(1)),
        lambda y: Pair(y, y.mean()),
    ],
    ids=["logits", "only", "UserDict", "dataclass", "named tuple"],
)
def test_the_answer_among_named_results(give):
    np.testing.assert_array_equal(
        outputs(Giving(give), rows()), outputs(Giving(lambda y: y), rows())
    )


def test_results_without_one_answer_are_said():
    both = Giving(lambda y: {"start": y, "end": y + 1, "loss": y.mean()})
    with pytest.raises(TypeError, match=r"several in a dict: start \(10, 8\), end \(10, 8\)"):
        predict(both, rows())
    with pytest.raises(TypeError, match=r"Pass output=lambda y: y\['start'\]"):
        predict(both, rows())
    several = Giving(lambda y: Result(y, y + 1))
    with pytest.raises(TypeError, match=r"Pass output=lambda y: y\.loss"):
        predict(several, rows())
    with pytest.raises(TypeError, match=r"got a dict of loss, ids.*Pass output="):
        predict(Giving(lambda y: {"loss": y.mean(), "ids": y.long()}), rows())
    with pytest.raises(TypeError, match="must be a tensor, got tuple"):
        predict(Giving(lambda y: (y, y)), rows())
    with pytest.raises(ValueError, match="of 10 rows, as x"):
        predict(Giving(lambda y: {"logits": y[:2]}), rows())


def test_a_mean_and_a_variance_with_names():
    named = Giving(lambda y: {"mean": y, "variance": y**2, "loss": y.mean()})
    plain = Giving(lambda y: (y, y**2))
    got, expected = (predict(m, rows(), members=4, task="mean_variance") for m in (named, plain))
    np.testing.assert_array_equal(got.mean, expected.mean)
    np.testing.assert_array_equal(got.aleatoric, expected.aleatoric)
