"""`thinned fit train.py:model DATA`: a network of the user's own in place of the perceptron."""

import json
from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest

import thinned.fit
from thinned.errors import InputError
from thinned.fit.engines.local import Local
from thinned.fit.kept import Kept, job_hash
from thinned.fit.own import built, own_of, places_of, read_data
from thinned.fit.results import FitSettings
from thinned.fit.training import Job, train
from thinned.methods.bernoulli import keep_mask

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

CODE = """
from torch import nn


def model(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(),
        nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0.9), nn.Linear(8, outputs),
    )


def told(inputs, outputs, p):
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Dropout(p), nn.Linear(8, outputs))


def dry(inputs, outputs):
    return nn.Linear(inputs, outputs)


def wrong(inputs, outputs):
    return nn.Sequential(nn.Dropout(), nn.Linear(inputs, outputs + 1))


def number(inputs, outputs):
    return 3


def raises(inputs, outputs):
    return nn.Dropout(p="much")


def misfit(inputs, outputs):
    return nn.Sequential(nn.Dropout(), nn.Linear(inputs + 1, outputs))
"""
SMALL = {"p": (0, 0.2), "epochs": 3, "repeats": 1, "progress": False}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "train.py"
    path.write_text(CODE, encoding="utf-8")
    return path


def table(rows=60):
    x = np.random.default_rng(0).normal(size=(rows, 3))
    frame = pd.DataFrame(x, columns=list("abc"))
    return frame.assign(t=np.where(np.arange(rows) % 3, "u", "v"), y=x[:, 0] * 3 + x[:, 1])


def fitted(file, target="y", name="model", **how):
    with joblib.parallel_config(backend="threading", n_jobs=1):
        return thinned.fit.fit(table(), target=target, network=f"{file}:{name}", **SMALL | how)


@pytest.fixture(scope="module")
def result(file):
    return fitted(file)


def test_everything_else_is_as_with_the_perceptron(result, file, tmp_path):
    found = result.metrics
    assert found["settings"]["network"]["called"] == "train.py:model"
    assert str(file) not in json.dumps(found)
    assert len(found["splits"]) == 5
    assert {one["name"] for one in found["baselines"]} == {"constant", "linear", "trees"}
    assert "train.py:model, from 5 inputs to 1 outputs" in result.report
    assert len(found["importance"]) == 4
    members = result.table(table(), members=4)
    assert (members["std"] > 0).all()
    result.save(tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert b"nn.Sequential" not in path.read_bytes()  # no code is saved
    again = thinned.fit.load(tmp_path / "out", network=f"{file}:model")
    np.testing.assert_array_equal(again.predict(table()), result.predict(table()))
    np.testing.assert_array_equal(again.predict(table()[7:9]), result.predict(table())[7:9])


def test_the_same_file_is_asked_for_and_no_other(result, file, tmp_path):
    result.save(tmp_path / "out")
    with pytest.raises(InputError, match=r"its network is built by .*name the file"):
        thinned.fit.load(tmp_path / "out")
    with pytest.raises(InputError, match="was fitted with"):
        thinned.fit.load(tmp_path / "out", network=f"{file}:told")
    other = tmp_path / "train.py"
    other.write_text(CODE + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="or has been changed since"):
        thinned.fit.load(tmp_path / "out", network=f"{other}:model")


def test_classes_and_a_function_that_takes_p(file):
    result = fitted(file, "t", "told", p=(0, 0.3))
    assert result.metrics["settings"]["p"] == [0.0, 0.3]
    shares = result.model.predict_proba(table())
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert set(result.predict(table())) <= {"u", "v"}


def job(file, p, name="model"):
    x = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    settings = FitSettings((0.0, 0.5), (), 2, 1, 0, network=own_of(f"{file}:{name}"))
    parts = (x[:32], x[32:]), (x[:32, 0].astype(np.float64), x[32:, 0].astype(np.float64))
    return Job((0,), "regression", 0, *parts, p, 7, (1, 2), settings)


def test_a_training_is_a_pure_function_with_masks_by_address(file):
    once, twice, none = (train(job(file, p)) for p in (0.5, 0.5, 0.0))
    np.testing.assert_array_equal(once.measured, twice.measured)
    assert not np.array_equal(once.measured, none.measured)
    assert none.masks == ()
    assert [(site, p, shape) for site, _, p, shape in once.masks] == [
        ("3", 0.5, (32, 12)),
        ("6", 0.5, (32, 8)),
    ]
    from thinned.torch import adopt

    # The first batch, by hand: what is dropped is what the address says.
    own = own_of(f"{file}:model")
    module = built(own, 3, 1, 0.5, 7)
    adopt(module, seed=7)
    seen = {}
    module[3].register_forward_hook(lambda one, given, out: seen.update(out=out, given=given[0]))
    module.train()(torch.ones(32, 3) + torch.arange(32.0)[:, None] * torch.randn(3))
    _, at, p, shape = once.masks[0]
    kept = keep_mask(shape, p, at)
    awake = seen["given"].detach().numpy() != 0
    np.testing.assert_array_equal((seen["out"].detach().numpy() != 0)[awake], kept[awake])


def test_each_dropout_layer_gets_its_rate(file):
    own = own_of(f"{file}:model")
    assert [one.p for _, one, _ in places_of(built(own, 3, 1, 0.25, 0))] == [0.25, 0.25]
    assert [one.p for _, one, _ in places_of(built(own, 3, 1, (0.1, 0.3), 0))] == [0.1, 0.3]
    with pytest.raises(InputError, match="3 rates for the 2 dropout layers"):
        built(own, 3, 1, (0.1, 0.2, 0.3), 0)
    first = [built(own, 3, 1, p, 5).state_dict()["0.weight"] for p in (0.0, 0.5)]
    assert torch.equal(*first)


def test_a_training_is_kept(file, tmp_path):
    wanted = train(job(file, 0.5))
    kept = Kept(tmp_path / "kept").over(Local())
    with joblib.parallel_config(backend="threading", n_jobs=1):
        list(kept.run(train, [job(file, 0.5)], 1))
        (found,) = Kept(tmp_path / "kept").run(train, [job(file, 0.5)], 1)
    np.testing.assert_array_equal(found.measured, wanted.measured)
    for name, value in wanted.network.state.items():
        np.testing.assert_array_equal(found.network.state[name], value)
    changed = job(file, 0.5)
    own = replace(changed.settings.network, sha256="0" * 64)
    other = replace(changed, settings=replace(changed.settings, network=own))
    assert job_hash(other) != job_hash(changed)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dry", "there is no dropout layer in the network"),
        ("wrong", r"must answer with shape \(32, 1\) for 32 rows, but answered with shape \(32, 2"),
        ("raises", r"train.py: line \d+ raised TypeError: "),
        ("misfit", "train.py: the network raised RuntimeError: mat1 and mat2 shapes"),
        ("number", "must return a torch.nn.Module, but returned int"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(file, name, said):
    with pytest.raises(InputError, match=said):
        train(job(file, 0.5, name))


def test_the_file_and_its_function(file, tmp_path):
    with pytest.raises(InputError, match='no function "nodel"; its functions are "model"'):
        own_of(f"{file}:nodel")
    with pytest.raises(InputError, match="No such file"):
        own_of(f"{tmp_path}/none.py:model")
    broken = tmp_path / "broken.py"
    broken.write_text("def model(:\n")
    with pytest.raises(InputError, match="line 1 is no Python"):
        own_of(f"{broken}:model")
    own, data = read_data([f"{file}:model", "table.csv"])
    assert (own.called, data) == ("train.py:model", "table.csv")
    assert read_data(["table.csv"]) == (None, "table.csv")
    for words in ([f"{file}:model"], ["a.csv", "b.csv"], ["a", "b", "c"]):
        with pytest.raises(InputError):
            read_data(words)


def test_the_command(file, command, refused, here):
    table().to_csv(here / "t.csv", index=False)
    options = ["--p", "0,0.2", "--epochs", "2", "--repeats", "1", "--quiet", "--target", "y"]
    network = f"{file}:model"
    with joblib.parallel_config(backend="threading", n_jobs=1):
        assert command("fit", network, "t.csv", *options, "--out", "o")[0] == 0
    assert network in (here / "o" / "report.html").read_text(encoding="utf-8")
    code, out, err = command("predict", "o", "t.csv", "--network", network, "--level", "0.5")
    assert (code, err) == (0, "")
    assert out.startswith("row,target,prediction,low,high\n")
    assert "name the file to run it: --network" in refused("predict", "o", "t.csv")
    assert "the layers are those that" in refused("fit", network, "t.csv", "--hidden", "3")
    assert "tune p and learning_rate" in refused("fit", network, "t.csv", "--tune", "width")
