"""Models of Flax Linen with an address in place of a key."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import thinned
import thinned.jax.linen
from thinned import Address
from thinned.jax.linen import adopt

X = jnp.ones((3, 80))
AT = Address(2**40 + 5, step=7)


class Block(nn.Module):
    rate: float = 0.5

    @nn.compact
    def __call__(self, x, train=True):
        return nn.Dropout(self.rate, name="drop")(x, deterministic=not train)


class Net(nn.Module):
    block: type = Block

    @nn.compact
    def __call__(self, x, train=True):
        for i in range(2):
            x = self.block(name=f"blocks_{i}")(x, train)
        return x


class Scanned(nn.Module):
    split: bool = True

    @nn.compact
    def __call__(self, x):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                y = nn.Dropout(0.5, deterministic=False, name="drop")(jnp.ones_like(x))
                return x, y

        split = {"params": True, "dropout": self.split}
        return nn.scan(Layer, {"params": 0}, split_rngs=split, length=4)(name="stack")(x, None)[1]


def made(model, x=X):
    adopted = adopt(model)
    return adopted, adopted.init(jax.random.key(0), x)


def dropped(x, *sites, at=AT):
    for site in sites:
        x = thinned.dropout(x, 0.5, at.replace(site=site))
    return x


SITES = "blocks_0.drop", "blocks_1.drop"
REMAT = nn.remat(Block, static_argnums=(2,))


@pytest.mark.parametrize("block", [Block, REMAT], ids=["plain", "remat"])
def test_every_dropout_draws_at_its_path(block):
    model, variables = made(Net(block))
    expected = dropped(X, *SITES)
    np.testing.assert_array_equal(model.apply(variables, X, at=AT), expected)
    np.testing.assert_array_equal(model.apply(variables, X, False, at=AT), X)

    @jax.jit
    def run(x, step):
        return model.apply(variables, x, at=AT.replace(step=step)).sum()

    gradient = jax.grad(run)(X, jnp.uint32(7))
    np.testing.assert_array_equal(gradient, dropped(jnp.ones_like(X), *SITES))
    steps = jnp.arange(3, dtype=jnp.uint32)
    many = jax.vmap(lambda step: model.apply(variables, X, at=AT.replace(step=step)))(steps)
    for step, y in enumerate(many):
        np.testing.assert_array_equal(y, dropped(X, *SITES, at=AT.replace(step=step)))


def test_one_layer_called_twice_draws_two_masks():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            drop = nn.Dropout(0.5, deterministic=False, broadcast_dims=(0,), name="drop")
            return drop(x), drop(x)

    model, variables = made(Twice())
    for call, y in enumerate(model.apply(variables, X, at=AT)):
        at = AT.replace(site="drop", call=call)
        np.testing.assert_array_equal(y, thinned.dropout(X, 0.5, at, shared_axes=0))


def test_each_layer_of_a_stack_draws_its_own_masks():
    model, variables = made(Scanned())
    ys = np.asarray(model.apply(variables, X, at=AT))
    assert len({y.tobytes() for y in ys}) == 4
    np.testing.assert_array_equal(model.apply(variables, X, at=AT), ys)
    assert not np.array_equal(model.apply(variables, X, at=AT.replace(step=8)), ys)
    assert abs((ys != 0).mean() - 0.5) < 0.08
    shared, variables = made(Scanned(split=False))
    ys = np.asarray(shared.apply(variables, X, at=AT))  # one stream for all, as Flax has it then
    assert len({y.tobytes() for y in ys}) == 1


def test_an_apply_in_a_step_differs_from_the_next():
    model, variables = made(Net())
    first = model.apply(variables, X, at=AT)
    second = model.apply(variables, X, at=AT.replace(call=1))
    assert not np.array_equal(first, second)
    traced = jax.jit(lambda call: model.apply(variables, X, at=AT.replace(call=call)))
    np.testing.assert_array_equal(traced(0), first)
    np.testing.assert_array_equal(traced(1), second)


def test_under_flaxs_jit_masks_are_others_and_replay():
    model, variables = made(Net(nn.jit(Block, static_argnums=(2,))))
    first = model.apply(variables, X, at=AT)
    np.testing.assert_array_equal(model.apply(variables, X, at=AT), first)
    assert not np.array_equal(model.apply(variables, X, at=AT.replace(step=8)), first)
    # Two layers of one compiled function are two sites nevertheless.
    assert abs((np.asarray(first) != 0).mean() - 0.25) < 0.1


def test_code_that_draws_keys_itself_follows_the_address():
    attention = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5, deterministic=False)
    x = jax.random.normal(jax.random.key(1), (2, 6, 8))
    model, variables = made(attention, x)
    first = model.apply(variables, x, at=AT)
    np.testing.assert_array_equal(model.apply(variables, x, at=AT), first)
    for other in (AT.replace(step=8), AT.replace(call=1), AT.replace(seed=1)):
        assert not np.array_equal(model.apply(variables, x, at=other), first)


class Half(nn.Dropout):
    def __call__(self, inputs, **how):
        return super().__call__(inputs, **how) / 2


def test_the_model_and_its_subclasses_are_as_they_were():
    model, variables = made(Half(0.5, deterministic=False))
    y = model.apply(variables, X, at=AT)
    assert float(y.max()) == 1.0
    plain = Net()
    adopted = adopt(plain)
    assert adopted.model is plain
    assert adopted.block is Block
    key = jax.random.key(3)
    theirs = plain.apply({}, X, rngs={"dropout": key})
    adopted.apply({}, X, at=AT)
    np.testing.assert_array_equal(plain.apply({}, X, rngs={"dropout": key}), theirs)
    np.testing.assert_array_equal(copy.deepcopy(adopted).apply({}, X, at=AT), dropped(X, *SITES))


def test_what_is_wrong_is_said():
    with pytest.raises(TypeError, match=r"^adopt: model must be a module of flax.linen, got a"):
        adopt(3)
    model = adopt(Net())
    with pytest.raises(TypeError, match=r"^apply: at must be a thinned.Address, got int"):
        model.apply({}, X, at=3)
    with pytest.raises(TypeError, match="rngs must be without a key for 'dropout'"):
        model.apply({}, X, at=AT, rngs={"dropout": jax.random.key(0)})
    with pytest.raises(TypeError, match="at"):
        model.apply({}, X)


class DrawsItself(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        return x + jax.random.normal(self.make_rng("dropout"), x.shape) if train else x


class Attending(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        attention = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5, name="attention")
        return attention(x, deterministic=not train)


class OfARow(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        return thinned.jax.linen.DropPath(0.5, name="path")(x, deterministic=not train)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (Net, "'blocks_0.drop'"),
        (Attending, "attention"),
        (OfARow, "'path'"),
        (DrawsItself, "needs PRNG for"),
    ],
)
@pytest.mark.parametrize("streams", [(), ("params", "noise")])
def test_evaluation_needs_no_address_and_training_says_so(kind, named, streams):
    model = adopt(kind())
    variables = model.init(jax.random.key(0), X)
    rngs = {name: jax.random.key(1) for name in streams}
    wanted = kind().apply(variables, X, train=False)
    found = model.apply(variables, X, train=False, rngs=rngs)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(model.apply(variables, X, train=False, at=AT), wanted)
    if kind is DrawsItself and streams:
        return  # Flax has it draw from the stream "params"
    with pytest.raises(TypeError, match=rf"apply: at is missing\. .*{named}.*thinned\.Address"):
        model.apply(variables, X, rngs=rngs)


class Several(nn.Module):
    @nn.compact
    def __call__(self, x):
        own, path = self.make_rng("dropout"), self.make_rng("path")
        token = nn.Dropout(0.5, rng_collection="token", deterministic=False, name="token")(x)
        return token, jax.random.normal(own, (8,)), jax.random.normal(path, (8,))


def test_streams_of_other_names_are_the_addresses_too():
    model = adopt(Several())
    first, again, other = (model.apply({}, X, at=AT.replace(step=s)) for s in (7, 7, 8))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    token, own, path = first
    assert not np.array_equal(own, path)
    np.testing.assert_array_equal(token, thinned.dropout(X, 0.5, AT.replace(site="token")))
    given = model.apply({}, X, at=AT, rngs={"path": jax.random.key(3)})
    np.testing.assert_array_equal(given[1], own)
    assert not np.array_equal(given[2], path)


class GivenAKey(nn.Module):
    @nn.compact
    def __call__(self, x, key=None):
        return nn.Dropout(0.5, deterministic=key is None, name="drop")(x, rng=key)


def test_a_key_that_the_call_is_given_rules_at_the_site():
    key, model = jax.random.key(9), adopt(GivenAKey())
    y = model.apply({}, X, key)
    np.testing.assert_array_equal(y, thinned.dropout(X, 0.5, thinned.jax.address(key, site="drop")))
    np.testing.assert_array_equal(model.apply({}, X, key, at=AT), y)
    np.testing.assert_array_equal(model.apply({}, X), X)
