"""thinned.jax.audit and the assertions, each with what it is to find."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import thinned
import thinned.jax
from thinned.jax import audit, equinox as te, nnx as tn
from thinned.testing import assert_deterministic_eval, assert_same_masks

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 32)), jnp.float32)


def kinds(model, x=X):
    return [finding.kind for finding in audit(model, x).findings]


class Fixed(nnx.Module):
    """Draws at one address whatever the mode and the step."""

    def __call__(self, x):
        return thinned.dropout(x, 0.5, thinned.Address(3))


class Awake(nnx.Module):
    def __init__(self):
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.drop(x, deterministic=False)


class Off(Awake):
    def __call__(self, x):
        return self.drop(x, deterministic=True)


def adopted(model):
    tn.adopt(model)
    return model


class Alone(eqx.Module):
    drop: eqx.nn.Dropout

    def __call__(self, x, *, key):
        return self.drop(x, key=key)


class Sharing(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dropout(0.5, broadcast_dims=(0,), deterministic=False)(x)


CASES = {
    "a good function": (lambda x, at: thinned.dropout(x, 0.5, at), []),
    "one address twice": (
        lambda x, at: thinned.dropout(x, 0.5, at) + thinned.dropout(2 * x, 0.5, at),
        ["one mask for two calls"],
    ),
    "no step": (
        lambda x, at: thinned.dropout(x, 0.5, at.replace(step=0)), ["one mask for all steps"]
    ),
    "shared rows": (
        lambda x, at: thinned.dropout(x, 0.5, at, shared_axes=(0,)), ["rows share a mask"]
    ),
    "NNX": (Awake, ["differs in evaluation"]),
    "NNX adopted": (lambda: adopted(nnx.Sequential(nnx.Dropout(0.5))), []),
    "NNX awake": (lambda: adopted(Awake()), ["drops in evaluation"]),
    "NNX off": (lambda: adopted(Off()), ["never drops"]),
    "NNX fixed": (Fixed, ["one mask for all steps", "drops in evaluation"]),
    "NNX missed": (
        lambda: adopted(nnx.Sequential(nnx.Dropout(0.5), type("Own", (nnx.Dropout,), {})(0.0))),
        ["not reached"],
    ),
    "Equinox": (lambda: Alone(eqx.nn.Dropout(0.5)), []),
    "Equinox adopted": (lambda: te.adopt(Alone(eqx.nn.Dropout(0.5)))[0], []),
    "Equinox off": (lambda: Alone(eqx.nn.Dropout(0.0)), ["never drops"]),
    "Linen": (lambda: Sharing().bind({}), ["rows share a mask"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_findings(name):
    model, expected = CASES[name]
    model = model() if name.startswith(("NNX", "Equinox", "Linen")) else model
    assert kinds(model) == expected


class Asked(linen.Module):
    """Dropout that the call switches on, as most models of Linen have it."""

    @linen.compact
    def __call__(self, image, *, train=False):
        return linen.Dropout(0.5)(image, deterministic=not train), {"of": image}


def test_a_call_that_takes_the_mode_is_told_of_and_taken():
    model = Asked().bind({})
    (found,) = thinned.jax.audit(model, X).findings
    assert found.kind == "never drops"
    assert "train=True" in found.mend
    found = thinned.jax.audit(model, {"image": X, "train": True})
    assert (found.findings, found.sites) == ((), {"Dropout_0": 1})


def test_the_table_and_that_nothing_is_touched():
    model = adopted(nnx.Sequential(nnx.Dropout(0.5), nnx.Dropout(0.5)))
    before = jax.tree.map(np.asarray, nnx.state(model, nnx.RngCount))
    found = audit(model, X, steps=3)
    assert str(found).splitlines() == [
        "No findings: 2 sites, 3 training steps.",
        "layers.0  draws 1 times a step",
        "layers.1  draws 1 times a step",
    ]
    after = jax.tree.map(np.asarray, nnx.state(model, nnx.RngCount))
    assert jax.tree.all(jax.tree.map(np.array_equal, before, after))
    assert model.layers[0].deterministic is False
    text = str(audit(lambda x, at: thinned.dropout(x, 0.5, thinned.Address(1)), X))
    assert "the model  one mask for all steps: Two steps of training give the same output." in text


def test_deterministic_evaluation():
    assert_deterministic_eval(adopted(nnx.Sequential(nnx.Dropout(0.5))), X)
    with pytest.raises(AssertionError, match=r"'drop' drops in evaluation: It draws"):
        assert_deterministic_eval(adopted(Awake()), X)
    with pytest.raises(TypeError, match="has no evaluation"):
        assert_deterministic_eval(Sharing().bind({}), X)


class Traced(nnx.Module):
    """Draws another mask where it is compiled."""

    def __call__(self, x):
        step = int(isinstance(x, jax.core.Tracer))
        return thinned.dropout(x, 0.5, thinned.Address(3, step=step))


def test_same_masks():
    assert_same_masks(adopted(nnx.Sequential(nnx.Dropout(0.5), nnx.Dropout(0.5))), X)
    assert_same_masks(lambda x, at: thinned.dropout(x, 0.5, at), X, under="jit")
    assert_same_masks(te.adopt(Alone(eqx.nn.Dropout(0.5)))[0], X)
    with pytest.raises(AssertionError, match="under jit the output differs"):
        assert_same_masks(Traced(), X)
    with pytest.raises(ValueError, match="under must be"):
        assert_same_masks(Traced(), X, under="pmap")


def test_errors():
    with pytest.raises(TypeError, match=r"audit: model must be a function of"):
        audit(3, X)
    with pytest.raises(ValueError, match=r"audit: x must be of at least two rows"):
        audit(Fixed(), X[:1])
    with pytest.raises(ValueError, match=r"model\.bind"):
        audit(Sharing(), X)
