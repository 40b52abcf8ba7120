"""thinned.testing: what is right passes, what is wrong fails and is told how to mend."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

import thinned
import thinned.torch
from thinned.testing import (
    assert_deterministic_eval,
    assert_expectation_kept,
    assert_same_masks,
)


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4))


def batch():
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(1))


class Forgot(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return F.dropout(self.linear(x), 0.5)


class Drawing(nn.Module):
    """Draws from NumPy, which no checkpoint and no compiler knows of."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.generator = np.random.default_rng(3)

    def forward(self, x):
        keep = torch.from_numpy(self.generator.random(8) > 0.5)
        return torch.tanh(self.linear(x)) * keep


def test_importing_it_loads_no_framework():
    code = "import sys, thinned; thinned.testing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


# ------------------------------------------------------------------------ assert_deterministic_eval


@pytest.mark.parametrize("adopt", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_deterministic_model_passes_in_any_mode(adopt, training):
    model = mlp().train(training)
    if adopt:
        thinned.torch.adopt(model)
    state = torch.get_rng_state()
    assert_deterministic_eval(model, batch())
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_drops_in_evaluation_fails():
    pattern = (
        r"'/dropout' drops in evaluation: 1 draw .*test_testing\.py:\d+\)\. Pass training=self"
    )
    with pytest.raises(AssertionError, match=pattern):
        assert_deterministic_eval(Forgot().eval(), batch())


def test_a_model_that_draws_from_numpy_fails():
    model = nn.Sequential(nn.Linear(8, 8), type("Noisy", (nn.Module,), {"forward": noisy})())
    with pytest.raises(AssertionError, match=r"'1' differs in evaluation: .*Look for NumPy's"):
        assert_deterministic_eval(model, batch())


def noisy(self, x):
    return x + float(np.random.rand())  # noqa: NPY002 - as users write it


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"^assert_deterministic_eval: model must be a torch.nn.M"):
        assert_deterministic_eval(lambda x: x, batch())
    with pytest.raises(TypeError, match=r"^assert_deterministic_eval: inputs must be a tensor, a"):
        assert_deterministic_eval(mlp(), 3)


# -------------------------------------------------------------------------- assert_expectation_kept

ROWS = {
    "numpy": np.linspace(-2, 2, 40).reshape(5, 8),
    "torch": torch.linspace(-2, 2, 40, dtype=torch.float64).reshape(5, 8),
    "zero-dimensional": np.float64(3.0) * np.ones(()),
}


@pytest.mark.parametrize("p", [0.0, 0.01, 0.5, 0.9])
@pytest.mark.parametrize("name", ROWS)
def test_dropout_keeps_the_expectation(name, p):
    assert_expectation_kept(lambda x, at: thinned.dropout(x, p=p, at=at), ROWS[name])


@pytest.mark.parametrize("method", ["drop_path", "gaussian_dropout", "spatial_dropout"])
def test_other_methods_do(method):
    x = np.ones((6, 4, 5))
    assert_expectation_kept(lambda x, at: getattr(thinned, method)(x, 0.3, at), x)


def test_a_module_that_draws_from_the_generator_does():
    torch.manual_seed(0)
    module = nn.Dropout(0.3)
    assert_expectation_kept(lambda x, at: module(x), torch.ones(64))


def test_another_expectation_may_be_said():
    x = np.ones(50)
    assert_expectation_kept(lambda x, at: thinned.dropout(2 * x, 0.5, at), x, expected=2 * x)


WRONG = {
    "no scale": (lambda x, at: x * thinned.keep_mask(x.shape, 0.5, at), r"is 0\.\d+ times.*lacks"),
    "scaled twice": (lambda x, at: 2 * thinned.dropout(x, 0.5, at), r"is [12]\.\d+ times.*twice"),
    "one address": (
        lambda x, at: thinned.dropout(x, 0.5, at.replace(step=0)),
        "times what is expected|Is one mask used for all",
    ),
    "one element never kept": (
        lambda x, at: np.where(np.arange(x.size) == 3, 0.0, thinned.dropout(x, 0.5, at)),
        "expected|times",
    ),
    "NaN": (lambda x, at: x * np.nan, "not finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_keep_it_fails(name):
    fn, said = WRONG[name]
    with pytest.raises(AssertionError, match=said):
        assert_expectation_kept(fn, np.ones(100))


def test_a_bias_of_one_element_is_found_among_many():
    def fn(x, at):
        y = thinned.dropout(x, 0.5, at)
        y[7] *= 1.5
        return y

    with pytest.raises(AssertionError, match=r"element \[7\] has mean 1\.[45]"):
        assert_expectation_kept(fn, np.ones(1000), draws=1000)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"^assert_expectation_kept: draws must be an integer"):
        assert_expectation_kept(lambda x, at: x, np.ones(3), draws=1)
    with pytest.raises(ValueError, match=r"^assert_expectation_kept: tolerance must be"):
        assert_expectation_kept(lambda x, at: x, np.ones(3), tolerance=float("nan"))
    with pytest.raises(ValueError, match=r"fn\(x, at\) must be of shape \(3,\), got \(2,\)"):
        assert_expectation_kept(lambda x, at: x[:2], np.ones(3))


# -------------------------------------------------------------------------------- assert_same_masks


@pytest.mark.parametrize("adopt", [False, True])
def test_checkpointed_is_the_same(adopt):
    model = mlp()
    if adopt:
        thinned.torch.adopt(model)
    before = [p.detach().clone() for p in model.parameters()]
    assert_same_masks(model, batch(), under="checkpoint")
    assert all(map(torch.equal, model.parameters(), before))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_an_adopted_model_is_the_same():
    model = mlp()
    thinned.torch.adopt(model)
    assert_same_masks(model, batch(), under=["compile", "checkpoint"], backend="aot_eager")


def another_mask(graph, inputs):
    """A compiler whose programs draw from a generator that was moved."""

    def run(*args):
        torch.rand(1)
        return graph(*args)

    return run


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiler_that_draws_another_mask_is_told():
    with pytest.raises(AssertionError, match=r"under 'compile': output 0 differs .*adopt\(model\)"):
        assert_same_masks(mlp(), batch(), under=["compile"], backend=another_mask)


def test_a_recompute_that_draws_anew_is_told():
    pattern = r"under 'checkpoint': the gradient of 'linear\.\w+' differs by .* of its norm\. Leave"
    with pytest.raises(AssertionError, match=pattern):
        assert_same_masks(Drawing(), batch(), under="checkpoint", loss=lambda y: y.sum())


def test_another_way_is_refused():
    with pytest.raises(ValueError, match=r"^assert_same_masks: under must be of 'checkpoint', 'c"):
        assert_same_masks(mlp(), batch(), under=["export"])


# --------------------------------------------------------------------------------------- the plugin

SUITE = """
import pytest, torch
from torch import nn
from torch.nn import functional as F

class Forgot(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return F.dropout(self.linear(x), 0.5)

X = torch.randn(16, 8)

def test_right(thinned_audit):
    assert thinned_audit(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)), X).clean

def test_meant(thinned_audit):
    assert len(thinned_audit(Forgot(), X, allow=["drops in evaluation"]).findings) == 1

def test_meant_there(thinned_audit):
    thinned_audit(Forgot(), X, allow=[("/dropout", "drops in evaluation")])

def test_wrong(thinned_audit):
    thinned_audit(Forgot(), X)

def test_not_there(thinned_audit):
    thinned_audit(nn.Linear(8, 8), X, allow=["feeds BatchNorm"])

def test_no_kind(thinned_audit):
    with pytest.raises(ValueError, match="got 'batchnorm'. The kinds are"):
        thinned_audit(nn.Linear(8, 8), X, allow=["batchnorm"])
"""


def test_the_plugin_fails_the_tests_that_it_should(tmp_path):
    (tmp_path / "test_users.py").write_text(SUITE)
    # Where it is installed it is loaded already, under its other name.
    command = ["-m", "pytest", "-p", "no:thinned", "-p", "thinned.testing_plugin", "-p"]
    command += ["no:cacheprovider", "-q", "-rA", str(tmp_path)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=tmp_path)
    results = dict(
        reversed(found) for found in re.findall(r"^(PASSED|FAILED) .*::(\w+)", done.stdout, re.M)
    )
    assert results == {
        "test_right": "PASSED",
        "test_meant": "PASSED",
        "test_meant_there": "PASSED",
        "test_wrong": "FAILED",
        "test_not_there": "FAILED",
        "test_no_kind": "PASSED",
    }
    assert "thinned_audit: 1 finding: 1 site, 2 training steps" in done.stdout
    assert "allowed, and not found: ['feeds BatchNorm']" in done.stdout


def test_the_plugin_is_declared():
    from pathlib import Path
    from tomllib import loads

    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    declared = loads(text)["project"]["entry-points"]["pytest11"]
    assert declared == {"thinned": "thinned.testing_plugin"}
