"""Adopted NNX models as they are trained: attention, optimizers that tick, functions that trace."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import thinned
import thinned.jax
from thinned import Address
from thinned.jax.nnx import MultiHeadAttention, adopt

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8)), jnp.float32)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(
            2,
            8,
            dropout_rate=0.5,
            broadcast_dropout=False,
            decode=False,
            deterministic=False,
            rngs=rngs,
        )
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, **how):
        return self.dropout(self.attention(x, **how))


def net():
    return Net(nnx.Rngs(0))


def by_hand(attention, x, keep, p=0.5):
    """The attention of a module with the mask given."""
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    scores = jnp.einsum("...tnh,...snh->...nts", q, k) / np.sqrt(q.shape[-1])
    weights = jnp.where(keep, jax.nn.softmax(scores, -1) / (1 - p), 0)
    return attention.out(jnp.einsum("...nts,...snh->...tnh", weights, v))


def test_attention_draws_at_its_site():
    model = net()
    report = adopt(model, seed=4)
    assert report.sites == ("attention/dropout", "dropout")
    assert "weights addressed" in str(report)
    assert type(model.attention) is MultiHeadAttention
    y = model.attention(X)
    keep = thinned.keep_mask((2, 2, 6, 6), 0.5, Address(4, "attention/dropout"), like=X)
    np.testing.assert_allclose(y, by_hand(model.attention, X, keep), atol=2e-6)
    again = thinned.keep_mask((2, 2, 6, 6), 0.5, Address(4, "attention/dropout", 0, 1), like=X)
    np.testing.assert_allclose(model.attention(X), by_hand(model.attention, X, again), atol=2e-6)
    model.eval()
    np.testing.assert_allclose(model.attention(X), by_hand(model.attention, X, True, 0), atol=2e-6)
    assert int(model.attention.calls.count.get_value()) == 2


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_attention_with_shared_draws_more_axes_keys_addresses_and_shown_weights():
    layer = MultiHeadAttention(
        2, 8, dropout_rate=0.5, decode=False, deterministic=False, rngs=nnx.Rngs(0), site="a"
    )
    at = Address(1, step=3)
    wide = jnp.stack([X, 2 * X, -X])
    keep = thinned.keep_mask((6, 6), 0.5, at.replace(site="a"), like=X)
    for x in (X, wide, X[0]):
        np.testing.assert_allclose(layer(x, at=at), by_hand(layer, x, keep), atol=2e-6)
    mask = jnp.tril(jnp.ones((6, 6), bool))
    shown = layer(wide, at=at, mask=mask, sow_weights=True)
    np.testing.assert_allclose(layer(wide, at=at, mask=mask), shown, atol=2e-6)
    (weights,) = nnx.pop(layer, nnx.Intermediate)["attention_weights"].get_value()
    assert weights.shape == (3, 2, 2, 6, 6)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
    key = jax.random.key(7)
    one, other = layer(X, rngs=nnx.Rngs(dropout=7)), layer(X, rngs=nnx.Rngs(dropout=7))
    assert bool((one == other).all())
    assert not bool((one == layer(X, rngs=nnx.Rngs(dropout=8))).all())
    own = thinned.jax.address(jax.random.fold_in(key, 0), site="a")
    np.testing.assert_allclose(one, layer(X, at=own), atol=2e-6)


@pytest.mark.parametrize("every", [1, 3])
def test_an_optimizer_ticks_where_parameters_change(every):
    model = net()
    tx = optax.sgd(0.1)
    tx = optax.MultiSteps(tx, every) if every > 1 else tx
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    clock = adopt(model, seed=4, optimizer=optimizer).clock

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda model: (model(X) ** 2).sum())(model)
        optimizer.update(model, grads)
        return loss

    seen = []
    for _ in range(6):
        seen.append((int(clock.step), int(model.dropout.calls.count.get_value())))
        step(model, optimizer)
    if every == 1:
        assert [s for s, _ in seen] == [0, 1, 2, 3, 4, 5]
    else:
        assert seen == [(0, 0), (0, 1), (0, 2), (1, 3), (1, 1), (1, 2)]
    assert int(clock.step) == 6 // every
    assert isinstance(optimizer, nnx.Optimizer)


def test_a_step_that_is_skipped_does_not_tick():
    model = nnx.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Dropout(0.5))
    tx = optax.apply_if_finite(optax.sgd(0.1), 5)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    clock = adopt(model, optimizer=optimizer).clock
    for value, step in ((1.0, 1), (jnp.nan, 1), (1.0, 2)):
        grads = jax.tree.map(lambda x, v=value: jnp.full_like(x, v), nnx.state(model, nnx.Param))
        optimizer.update(model, grads)
        assert int(clock.step) == step
    with pytest.raises(TypeError, match=r"optimizer must be an nnx.Optimizer.*tick"):
        adopt(nnx.Dropout(0.5), optimizer=optax.sgd(0.1))


def test_functions_that_close_over_a_model():
    """Flax's own count refuses them; here calls are counted within the program."""
    model = nnx.Sequential(nnx.Dropout(0.5), nnx.Dropout(0.5))
    adopt(model, seed=4)
    ones = jnp.ones(64)

    def masks(x):
        first, second = model.layers[0](x), model.layers[0](x)
        inner = jax.checkpoint(model.layers[0])(x)
        return first, second, inner

    expected = [thinned.dropout(ones, 0.5, Address(4, "layers.0", 0, call)) for call in range(3)]
    runs = [jax.jit(masks), lambda x: jax.vjp(masks, x)[0], jax.vmap(masks)]
    for run, x in zip(runs, (ones, ones, ones[None]), strict=True):
        for y, z in zip(run(x), expected, strict=True):
            assert bool((y.reshape(64) == z).all())
    dx = jax.grad(lambda x: model.layers[0](x).sum())(ones)
    assert bool((dx == expected[0]).all())
    assert int(model.layers[0].calls.count.get_value()) == 0
    model.layers[0](ones)
    assert int(model.layers[0].calls.count.get_value()) == 1


def test_a_merged_model_within_grad_and_scan():
    model = nnx.Sequential(nnx.Dropout(0.5))
    adopt(model, seed=4)
    graph, state = nnx.split(model)

    def loss(x, state):
        model = nnx.merge(graph, state)
        return (model(x) * model(x)).sum()

    ones = jnp.ones(64)
    both = [thinned.dropout(ones, 0.5, Address(4, "layers.0", 0, call)) for call in range(2)]
    assert float(jax.jit(loss)(ones, state)) == float((both[0] * both[1]).sum())
    got = jax.grad(loss)(ones, state)
    np.testing.assert_allclose(got, 2 * both[0] * both[1])
