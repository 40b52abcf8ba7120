"""Modules that draw masks with jax.random themselves are named in adopt's report."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import random as jr

import thinned.jax.equinox as te
import thinned.jax.nnx as tn
from thinned.jax.by_hand import drawn_by_hand


class Path(nnx.Module):
    def __init__(self, rate, rngs):
        self.rate, self.stream = rate, rngs.dropout.fork()

    def __call__(self, x):
        return x * jax.random.bernoulli(self.stream(), 1 - self.rate, (x.shape[0], 1))


class Handed(Path):  # which inherits the call
    pass


class Masked(nnx.Module):
    def __call__(self, x, rngs):
        return self.masked(x, rngs.dropout())

    @partial(jax.jit, static_argnums=0)
    def masked(self, x, key):
        return jnp.where(jr.uniform(key, x.shape) < 0.9, x, 0)


class Noisy(nnx.Module):  # which draws no mask, and makes its parameters of uniform numbers
    def __init__(self, rngs):
        self.w = nnx.Param(jax.random.uniform(rngs.params(), (4,)))

    def __call__(self, x, rngs):
        return x * self.w + jax.random.normal(rngs.noise(), x.shape)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.paths = nnx.List([Path(0.1, rngs), Handed(0.2, rngs)])
        self.masked, self.noisy = Masked(), Noisy(rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)


class Branch(eqx.Module):
    inner: eqx.nn.Linear
    rate: float = eqx.field(static=True)

    def __call__(self, x, *, key):
        return x + self.inner(x) * jax.random.bernoulli(key, 1 - self.rate)


def test_what_draws_is_read_from_the_source():
    kinds = (Path, Handed, Masked, Noisy, Net, Branch, nnx.Linear, nnx.Dropout)
    drawn = [drawn_by_hand(kind) for kind in kinds]
    by = "jax.random.bernoulli"
    assert drawn == [by, by, "jax.random.uniform", "", "", by, "", ""]
    made: dict = {}
    exec("class Typed:\n    def __call__(self, key):\n        return random.bernoulli(key)", made)
    made["Typed"].__module__ = "nowhere"
    assert drawn_by_hand(made["Typed"]) == ""  # whose source nobody has


def test_nnx_names_them():
    report = tn.adopt(Net(nnx.Rngs(0, dropout=1)), seed=1)
    missed = {row.site: row.done for row in report.not_reached}
    assert set(missed) == {"paths.0", "paths.1", "masked"}
    assert "jax.random.uniform" in missed["masked"]
    assert "thinned.jax.address" in missed["paths.0"]
    with pytest.raises(ValueError, match=r"jax\.random\.bernoulli"):
        tn.adopt(Path(0.1, nnx.Rngs(0)))


def test_equinox_names_them():
    keys = jax.random.split(jax.random.key(0), 2)
    branch = Branch(eqx.nn.Linear(4, 4, key=keys[0]), 0.3)
    model = eqx.nn.Sequential([branch, eqx.nn.Dropout(0.5), eqx.nn.Linear(4, 2, key=keys[1])])
    adopted, report = te.adopt(model)
    assert [(row.site, row.kind) for row in report.not_reached] == [("layers.0", "Branch")]
    assert "jax.random.bernoulli" in report.not_reached[0].done
    assert report.sites == ("layers.1",)
    assert adopted(jnp.ones(4), key=keys[0]).shape == (2,)
    with pytest.raises(ValueError, match=r"jax\.random\.bernoulli"):
        te.adopt(branch)
