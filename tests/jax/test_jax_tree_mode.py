"""Adopted NNX models as trees, where no two layers may hold one variable; and models released."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import thinned
import thinned.jax.nnx
from thinned import Address
from thinned.jax.nnx import adopt, release, tick

ROWS = jnp.ones((4, 16))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(16, 16, rngs=rngs)
        self.first = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Dropout(0.5, rng_collection="noise", rngs=rngs)

    def __call__(self, x):
        return self.second(self.first(self.linear(x)))


def adopted(seed=3, **how):
    net = Net(nnx.Rngs(0, dropout=1, noise=2))
    return net, adopt(net, seed=seed, **how)


def expected(net, step=0, call=0, seed=3):
    y = net.linear(ROWS)
    for site in ("first", "second"):
        y = thinned.dropout(y, 0.5, Address(seed, site, step, call))
    return y


def test_a_program_in_tree_mode_counts_calls_and_steps():
    net, _ = adopted()

    @nnx.jit(graph=False)
    def run(net, x):
        y = net(x)
        tick(net, x[0, 0] > 1)
        return y

    for step, call, x in ((0, 0, ROWS), (0, 1, ROWS * 2), (1, 0, ROWS)):
        y = run(net, x)
        scale = float(x[0, 0])
        np.testing.assert_allclose(y, expected(net, step, call) * scale, rtol=1e-6)


def test_a_run_goes_on_at_its_step():
    net, report = adopted(step=7)
    np.testing.assert_allclose(net(ROWS), expected(net, 7), rtol=1e-6)
    assert report.clock.step == 7
    with pytest.raises(ValueError, match=r"^adopt: step must be"):
        adopted(step=-1)


def test_a_model_that_jax_itself_takes_and_returns():
    net, _ = adopted()

    @jax.jit
    def run(net, x):
        y = net(x)
        tick(net)
        return y, net

    for step in range(2):
        y, net = run(net, ROWS)
        np.testing.assert_allclose(y, expected(net, step), rtol=1e-6)


def test_training_in_tree_mode():
    net = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(net, optax.sgd(0.1), wrt=nnx.Param)
    report = adopt(net, seed=3, optimizer=optimizer)

    @nnx.jit(graph=False)
    def step(net, optimizer, x):
        form, params, rest = nnx.split(net, nnx.Param, ...)

        def loss(params):
            copy = nnx.merge(form, params, jax.tree.map(lambda leaf: leaf, rest))
            return (copy(x) ** 2).sum()

        value, grads = jax.value_and_grad(loss)(params)
        optimizer.update(net, grads)
        return value

    for number in range(3):
        y = expected(net, number)
        np.testing.assert_allclose(step(net, optimizer, ROWS), (y**2).sum(), rtol=1e-5)
        assert {int(clock.step) for clock in report.clock.clocks} == {number + 1}


def test_streams_that_flax_splits_and_broadcasts():
    net, report = adopted()
    report.clock.tick()
    lanes = nnx.with_rngs(net, split=5, only="dropout", graph=False)
    np.testing.assert_array_equal(lanes.first.clock.step, [1] * 5)
    assert lanes.second.clock.lanes == ()  # which draws from another stream, "noise"
    axes = nnx.prefix(net, {"dropout": 0, ...: None}, graph=False)

    @nnx.vmap(in_axes=(axes, None), out_axes=0, graph=False)
    def first(net, x):
        return net.first(x)

    seen = np.asarray(first(lanes, ROWS))
    for number, y in enumerate(seen):
        at = Address(3).fold_in(number).replace(site="first", step=1)
        np.testing.assert_array_equal(y, thinned.dropout(ROWS, 0.5, at))
    same = np.asarray(first(nnx.with_rngs(net, broadcast=5, only="dropout", graph=False), ROWS))
    at = Address(3, "first", 1)
    np.testing.assert_array_equal(same, [thinned.dropout(ROWS, 0.5, at)] * 5)
    assert {int(clock.step) for clock in report.clock.clocks} == {1}  # nothing ticked by itself
    copy = nnx.with_rngs(net, fork="dropout", graph=False)
    np.testing.assert_array_equal(copy.first(ROWS), same[0])


def test_a_site_is_reseeded_by_the_name_of_its_stream():
    net, _ = adopted()
    nnx.reseed(net, noise=7)
    y = net.first(ROWS)
    np.testing.assert_array_equal(y, thinned.dropout(ROWS, 0.5, Address(3, "first")))
    second = net.second(ROWS)
    assert not np.array_equal(second, thinned.dropout(ROWS, 0.5, Address(3, "second")))


# ----------------------------------------------------------------------------------------- released


class Attending(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(
            2, 16, dropout_rate=0.5, decode=False, deterministic=False, rngs=rngs
        )
        self.net = Net(rngs)
        self.own = thinned.jax.nnx.GaussianDropout(0.5, rngs=rngs, site="mine")

    def __call__(self, x):
        return self.own(self.net(self.attention(x)))


def test_a_released_model_is_what_it_was():
    model, plain = Attending(nnx.Rngs(0)), Attending(nnx.Rngs(0))
    before = nnx.graphdef(model)
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    kind = type(optimizer)
    adopt(model, seed=3, optimizer=optimizer, axes=())
    model(ROWS)
    assert nnx.graphdef(model) != before
    release(model, optimizer=optimizer)
    assert nnx.graphdef(model) == before
    assert type(optimizer) is kind
    np.testing.assert_array_equal(model(ROWS), plain(ROWS))  # by Flax's keys again
    optimizer.update(model, nnx.state(model, nnx.Param))  # ticks nothing, and asks for no clock
    # And may be adopted again, as a model that never was.
    other = Attending(nnx.Rngs(0))
    for one in (model, other):
        adopt(one, seed=4)
    np.testing.assert_array_equal(model.net.first(ROWS), other.net.first(ROWS))


def test_what_cannot_be_released():
    with pytest.raises(ValueError, match=r"^release: model must be an adopted model"):
        release(Net(nnx.Rngs(0)))
    with pytest.raises(TypeError, match=r"^release: model must be an nnx.Module"):
        release(jnp.ones(3))
    net, _ = adopted()
    with pytest.raises(TypeError, match=r"^release: optimizer must be an nnx.Optimizer"):
        release(net, optimizer=optax.sgd(0.1))
    assert net.first.clock is not None  # nothing is undone by halves
