"""Examples run by themselves and say what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from libraries import needs
from sklearn.exceptions import ConvergenceWarning

from thinned import DropoutMLPRegressor

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def said(name: str, *arguments: object, ignored: str | None = None) -> str:
    """ignored : warnings that are none of ours, as Python's -W names them."""
    warnings = ["-W", "error", *(("-W", f"ignore{ignored}") if ignored is not None else ())]
    command = [sys.executable, *warnings, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested_here():
    tested = {name.removeprefix("test_") + ".py" for name in globals() if name.startswith("test_")}
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested


def test_by_hand():
    found = {name: float(v) for name, v in re.findall(r"(\w+) accuracy (.*)", said("by_hand.py"))}
    assert found["train"] > 0.99
    assert found["test"] > 0.96


@needs("torch")
def test_torch_mlp():
    lines = [line.rpartition(" ")[::2] for line in said("torch_mlp.py").splitlines()]
    assert dict(lines) == {
        f"{name}, {question}": answer
        for name in ("digits", "DropoutMLP")
        for question, answer in {
            "train(): two passes equal?": "False",
            "train(): equal after the same seed?": "True",
            "eval():  two passes equal?": "True",
        }.items()
    }


@needs("keras")
@needs("jax")
@pytest.mark.long
def test_keras_digits(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    # Keras's own, wherever a model with an optimizer is saved: a Variable's __array__ has no copy.
    copy = ":__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    told = said("keras_digits.py", ignored=copy)
    assert "resumed, bit for bit the run that never stopped: True" in told
    assert float(told.rpartition(" ")[2]) > 0.85


@needs("torch")
@pytest.mark.long
def test_spread():
    """The page on members shows this table, and says what is asserted here."""
    found = spreads(said("spread.py"))
    page = (EXAMPLES.parent / "docs" / "members.md").read_text(encoding="utf-8")
    shown = spreads(page.partition("```text\n")[2].partition("```")[0])
    for table in (found, shown):
        spread, error, alone, conformal = np.moveaxis(table.reshape(2, 3, 4), 2, 0)
        assert (spread.max(1) < 1.5 * spread.min(1)).all()  # the rows do not change it,
        assert (spread[1] > 1.5 * spread[0]).all()  # p does,
        assert (error[:, 2] < error[:, 0] / 2).all()  # and more rows do help.
        assert alone.max() < 70
        assert (abs(conformal - 90) < 7).all()


def spreads(text):
    """(6, 4): spread, error, and the two coverages in percent."""
    lines = text.replace("%", "").splitlines()
    assert lines[0].split() == ["p", "rows", "spread", "error", "spread", "alone", "conformal"]
    return np.array([[float(v) for v in line.split()[2:]] for line in lines[1:]])


@pytest.mark.long
@needs("torch")
def test_finetune_resume():
    first, second = said("finetune_resume.py").splitlines()
    assert first == "bit for bit the same: True"
    assert float(second.rpartition(" ")[2]) > 0.7


@pytest.mark.long
@needs("transformers")
@needs("accelerate")
def test_trainer_digits():
    said_of_resuming(said("trainer_digits.py"))


@pytest.mark.long
@needs("lightning")
def test_lightning_digits():
    said_of_resuming(said("lightning_digits.py", ignored=""))


def said_of_resuming(text):
    *_, first, second = text.splitlines()
    assert first == "bit for bit the same: True"
    assert float(second.rpartition(" ")[2]) > 0.6


@pytest.mark.long
@needs("torch")
def test_learned_rates():
    lines = dict(line.split(": ", 1) for line in said("learned_rates.py").splitlines())
    found = {name: [float(v) for v in re.findall(r"\d\.\d+", line)] for name, line in lines.items()}
    few, many = (found[f"Concrete dropout, {n} digits"] for n in (100, 1400))
    assert max(many[1:3]) < few[0] < min(few[1:3])  # from p = .1 down, and up
    few, many = (found[f"Variational, {n} digits"] for n in (100, 1400))
    assert many[1] < few[0] < few[1]
    assert min(found["Sparse variational"][:2]) > 0.5
    pixels, noise, _ = found["L0"]
    assert noise < pixels - 0.2
    assert min(values[-1] for values in found.values()) > 0.75


@pytest.mark.long
def test_uci(tmp_path):
    def found(*arguments):
        lines = said("uci.py", "--quick", *arguments).splitlines()
        return lines[0], [float(re.search(r": (-?[\d.]+) ±", line)[1]) for line in lines[1:4]]

    head, (members, whole, likelihood) = found()
    assert head.startswith("diabetes: 442 rows, 3 splits, 100 members")
    assert 45 < members < 65  # the target's standard deviation is 77
    assert abs(members - whole) < 3
    assert -5.7 < likelihood < -5.3
    # A line of noise .1 through columns of another scale, as blanks and as commas.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) * (1, 10, 1000)
    table = np.column_stack([x, x @ (1, 0.1, 0.001) + rng.normal(size=200) * 0.1])
    np.savetxt(tmp_path / "blanks.txt", table)
    np.savetxt(tmp_path / "commas.csv", table, delimiter=",")
    _, blanks = found(tmp_path / "blanks.txt")
    assert found(tmp_path / "commas.csv")[1] == blanks
    assert blanks[0] < 0.8 < table[:, -1].std()


@pytest.mark.long
def test_uci_folder(tmp_path):
    """A table in the form of the published repository: their splits, grids, and results beside."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) * (1, 100)
    y = 50 + 10 * x @ (1, 0.01) + rng.normal(size=60)
    data, results = tmp_path / "line" / "data", tmp_path / "line" / "results"
    data.mkdir(parents=True)
    results.mkdir()
    np.savetxt(data / "data.txt", np.column_stack([y, x]))  # the target comes first here
    texts = {"index_features": "1\n2\n", "index_target": "0\n", "n_splits": "2", "n_hidden": "20"}
    texts |= {"n_epochs": "40", "dropout_rates": "0.01\n0.2", "tau_values": "0.3\n1.0"}
    for name, text in texts.items():
        (data / f"{name}.txt").write_text(text)
    for i in range(2):
        order = rng.permutation(60)
        np.savetxt(data / f"index_train_{i}.txt", order[6:], fmt="%d")
        np.savetxt(data / f"index_test_{i}.txt", order[:6], fmt="%d")
    for name, value in (("MC_rmse", 2.0), ("ll", -2.5)):
        path = results / f"test_{name}_100_xepochs_1_hidden_layers.txt"
        np.savetxt(path, [value, value])
    kept = tmp_path / "kept.txt"
    options = ["--times", "5", "--members", "50", "--keep", kept]
    head, first, second, rmse, likelihood = said("uci.py", data.parent, *options).splitlines()
    assert head == "line: 60 rows, 2 of 2 splits, 200 epochs, 50 members"
    found = [[float(v) for v in re.findall(r"-?\d+\.\d+", line)] for line in (first, second)]
    assert all(line[:4:2] != line[1:4:2] and line[1] == 2.0 and line[3] == -2.5 for line in found)
    assert all(line[0] < 6 and -6 < line[2] < -1.4 for line in found)  # 10 units spread, 1 of noise
    for line, i in ((rmse, 0), (likelihood, 2)):
        mean, theirs, off, _ = (float(v) for v in re.findall(r"[+-]?\d+\.\d+", line))
        assert abs(mean - np.mean([one[i] for one in found])) < 1e-3
        assert abs(off - (mean - theirs)) < 1e-3
    # A run that was stopped after a split goes on from there.
    asked, one, two = kept.read_text().splitlines()
    kept.write_text(f"{asked}\n{one.replace(one.split()[1], '7.0')}\n")
    _, again, other, *_ = said("uci.py", data.parent, *options).splitlines()
    assert again.startswith("split 0: RMSE 7.0000 (2.0000)")
    assert (other, kept.read_text().splitlines()[2]) == (second, two)
    options[1] = "6"
    assert "keeps another run: line: 200 epochs, 50 members" in refused(data.parent, *options)
    (data / "n_splits.txt").unlink()
    assert "not a table in the form of their repository" in refused(data.parent)


def refused(*arguments):
    command = [sys.executable, EXAMPLES / "uci.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


def test_uci_side_by_side(monkeypatch):
    """Networks that are trained side by side are to the bit what each is alone."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import uci

    x = np.random.default_rng(0).normal(size=(150, 3))
    y, rates, decay = x[:, 0] + x[:, 1] ** 2, (0.01, 0.1, 0.5), 0.1
    stack = uci.Stack(20, rates, decay, epochs=3, seed=7).fit(x, y)
    for i, p in enumerate(rates):
        alone = DropoutMLPRegressor(
            (20,), p=p, batch_size=128, max_iter=3, weight_decay=decay, random_state=7
        )
        with pytest.warns(ConvergenceWarning):
            alone.fit(x, y)
        for layer, coef, intercept in zip(
            stack.layers, alone.coefs_, alone.intercepts_, strict=True
        ):
            assert np.array_equal(layer.weight[i], coef)
            assert np.array_equal(layer.bias[i, 0], intercept)
        asked = {"seed": 1, "share": "row", "keep": True}
        outputs = alone.predict_members(np.tile(x, (50, 1)).astype(np.float32), 2, **asked).outputs
        assert np.allclose(stack.members(i, x, 100, 1), outputs.reshape(100, 150), atol=1e-6)


@needs("jax")
def test_jax_digits():
    first, second = said("jax_digits.py").splitlines()
    assert first == "bit for bit the same: True"
    assert float(second.rpartition(" ")[2]) > 0.95
