"""Attention of Linen's and Equinox's modules, adopted: by address, in blocks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import thinned
import thinned.jax
from thinned import Address
from thinned.jax import equinox as te, linen as tl
from thinned.members import predict

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8)), jnp.float32)
AT = Address(4, step=3)


class Net(nn.Module):
    shared: bool = False
    off: bool = False

    @nn.compact
    def __call__(self, x, **how):
        attention = nn.MultiHeadDotProductAttention(
            2,
            dropout_rate=0.5,
            deterministic=self.off,
            broadcast_dropout=self.shared,
            name="attend",
        )
        return nn.Dropout(0.5, deterministic=False, name="drop")(attention(x, **how))


def by_hand(params, x, keep, p=0.5, seen=True):
    q, k, v = (
        jnp.einsum("...td,dnh->...tnh", x, params[name]["kernel"]) + params[name]["bias"]
        for name in ("query", "key", "value")
    )
    scores = jnp.einsum("...tnh,...snh->...nts", q, k) / np.sqrt(q.shape[-1])
    scores = jnp.where(seen, scores, -1e30)
    weights = jnp.where(keep, jax.nn.softmax(scores, -1) / (1 - p), 0)
    out = jnp.einsum("...nts,...snh->...tnh", weights, v)
    return jnp.einsum("...tnh,nhd->...td", out, params["out"]["kernel"]) + params["out"]["bias"]


@pytest.mark.parametrize("shared", [False, True])
def test_linen(shared):
    model = tl.adopt(Net(shared))
    variables = model.init(jax.random.key(0), X)
    mask = jnp.tril(jnp.ones((6, 6), bool))
    shape = (6, 6) if shared else (2, 2, 6, 6)
    keep = thinned.keep_mask(shape, 0.5, AT.replace(site="attend/dropout"), like=X)
    y = by_hand(variables["params"]["attend"], X, keep, seen=mask)
    y = thinned.dropout(y, 0.5, AT.replace(site="drop"))
    for how in ({}, {"sow_weights": True}):
        ours = model.apply(variables, X, at=AT, mask=mask, **how)
        np.testing.assert_allclose(ours, y, atol=3e-6)
    off = tl.adopt(Net(shared, off=True)).apply(variables, X, at=AT)
    on = by_hand(variables["params"]["attend"], X, True, 0.0)
    np.testing.assert_allclose(off, thinned.dropout(on, 0.5, AT.replace(site="drop")), atol=3e-6)


def test_members_of_linen_drop_attention_too():
    variables = Net(off=True).init(jax.random.key(0), X)
    bound = Net(off=True).bind(variables)
    outputs = predict(bound, X, members=2, keep=True).outputs
    keep = thinned.keep_mask((1, 2, 6, 6), 0.5, Address(0, "attend/dropout").fold_in(1), like=X)
    y = by_hand(variables["params"]["attend"], X, keep)
    at = Address(0, "drop").fold_in(1)
    np.testing.assert_allclose(outputs[1], thinned.dropout(y, 0.5, at, shared_axes=(0,)), atol=3e-6)


def test_linen_attention_alone_keeps_its_function_and_a_given_key():
    layer = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5, deterministic=False)
    model = tl.adopt(layer)
    variables = model.init(jax.random.key(0), X)
    y = model.apply(variables, X, at=AT)
    keep = thinned.keep_mask((6, 6), 0.5, AT.replace(site="dropout"), like=X)
    np.testing.assert_allclose(y, by_hand(variables["params"], X, keep), atol=3e-6)
    assert layer.attention_fn is nn.dot_product_attention
    key = jax.random.key(5)
    own = layer.apply(variables, X, dropout_rng=key)
    assert bool((model.apply(variables, X, at=AT, dropout_rng=key) == own).all())


def test_equinox():
    attention = eqx.nn.MultiheadAttention(2, 8, dropout_p=0.5, key=jax.random.key(0))
    model, report = te.adopt({"layers": [attention]})
    assert report.sites == ("layers.0/dropout",)
    (ours,) = model["layers"]
    assert isinstance(ours, te.MultiheadAttention)
    x = X[0]
    mask = jnp.tril(jnp.ones((6, 6), bool))
    y = ours(x, x, x, mask, at=AT)
    assert bool((ours(x, x, x, mask.astype(jnp.float32), at=AT) == y).all())
    site = report.sites[0]
    keep = thinned.keep_mask((2, 6, 6), 0.5, AT.replace(site=site), like=x)
    q, k, v = (
        jax.vmap(p)(x).reshape(6, 2, 4)
        for p in (attention.query_proj, attention.key_proj, attention.value_proj)
    )
    scores = jnp.where(mask, jnp.einsum("tnh,snh->nts", q, k) / 2.0, -jnp.inf)
    weights = jnp.where(keep, 2 * jax.nn.softmax(scores, -1), 0)
    out = jnp.einsum("nts,snh->tnh", weights, v).reshape(6, 8)
    np.testing.assert_allclose(y, jax.vmap(attention.output_proj)(out), atol=3e-6)
    key = jax.random.key(3)
    named = thinned.jax.address(key)
    np.testing.assert_allclose(ours(x, x, x, key=key), ours(x, x, x, at=named), atol=3e-6)
    many = jax.vmap(lambda x, key: ours(x, x, x, key=key))(X, jax.random.split(key, 2))
    assert not bool(jnp.allclose(many[0], ours(x, x, x, key=key)))
    for how in ({"inference": True}, {"inference": True, "mask": jnp.ones((2, 6, 6), bool)}):
        np.testing.assert_allclose(ours(x, x, x, **how), attention(x, x, x, **how), atol=3e-6)
    with pytest.raises(RuntimeError, match="requires a key"):
        ours(x, x, x)
    with pytest.raises(ValueError, match="must not change the shape"):
        ours(x, x, x, key=key, process_heads=lambda *heads: [h[:2] for h in heads])
    again, report = te.adopt(model)
    assert "has its site" in report.rows[0].done
    assert bool((again["layers"][0](x, x, x, mask, at=AT) == y).all())


def test_gradients_keep_nothing_of_the_weights():
    attention = eqx.nn.MultiheadAttention(1, 8, dropout_p=0.5, key=jax.random.key(0))
    ours, _ = te.adopt(attention)
    x = jnp.ones((512, 8))

    def loss(x):
        return ours(x, x, x, at=AT).sum()

    _, back = jax.vjp(loss, x)
    assert max(leaf.size for leaf in jax.tree.leaves(back)) < 512 * 512 // 4
