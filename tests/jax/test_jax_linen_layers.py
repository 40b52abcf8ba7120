"""Layers for Linen: the rows of the catalogue, by keys, by paths and by addresses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import thinned
import thinned.jax
from thinned import Address
from thinned.jax import linen as tl
from thinned.members import predict
from thinned.methods.made import default_p

AT = Address(4, step=7)
KEY = jax.random.key(3)
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 4)), jnp.float32)
OPTIONS = {"KOfNDropout": {"k": 2}, "DropBlock": {"block_size": 3}}
ROWS = {name: kind for name, kind in tl.made().items() if name != "Dropout"}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_its_function(name):
    kind = ROWS[name]
    options = {k: v for k, v in OPTIONS.get(name, {}).items() if k in kind.row.options}
    layer = getattr(tl, name)(options=options)
    how = {**kind.row.options, **options}
    how |= {"channel_axis": -1} if "channel_axis" in how else {}
    p = default_p(kind.row)
    y = layer.apply({}, X, deterministic=False, at=AT)
    np.testing.assert_array_equal(y, kind.row.function(X, p, AT, **how))
    off = layer.apply({}, X, deterministic=True)
    np.testing.assert_array_equal(off, kind.row.function(X, p, AT, training=False, **how))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        x = tl.Dropout(0.5, deterministic=not train, name="first")(x)
        return tl.SpatialDropout(0.5, deterministic=not train, name="second")(x)


def test_keys_and_paths():
    y = Net().apply({}, X, rngs={"dropout": KEY})
    np.testing.assert_array_equal(Net().apply({}, X, rngs={"dropout": KEY}), y)
    assert not np.array_equal(Net().apply({}, X, rngs={"dropout": jax.random.key(4)}), y)
    ours = tl.adopt(Net()).apply({}, X, at=AT)
    hand = thinned.dropout(X, 0.5, AT.replace(site="first"))
    hand = thinned.spatial_dropout(hand, 0.5, AT.replace(site="second"), channel_axis=-1)
    np.testing.assert_array_equal(ours, hand)
    np.testing.assert_array_equal(Net().apply({}, X, train=False), X)
    given = tl.Dropout(0.5, deterministic=False).apply({}, X, at=AT)
    np.testing.assert_array_equal(given, thinned.dropout(X, 0.5, AT))
    keyed = tl.SpatialDropout(0.5, deterministic=False).apply({}, X, rng=KEY)
    at = thinned.jax.address(KEY, site="")
    np.testing.assert_array_equal(keyed, thinned.spatial_dropout(X, 0.5, at, channel_axis=-1))


def test_members_wake_them():
    outputs = predict(Net().bind({}), {"x": X, "train": False}, members=2, keep=True).outputs
    assert not np.array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal((outputs[0] == 0)[0], (outputs[0] == 0)[1])


def test_errors():
    with pytest.raises(ValueError, match=r"SpatialDropout: rate must be"):
        tl.SpatialDropout(1.5, deterministic=False).apply({}, X, at=AT)
    with pytest.raises(TypeError, match="'blocks' is no argument"):
        tl.DropBlock(options={"blocks": 2}, deterministic=False).apply({}, X, at=AT)
    with pytest.raises(TypeError, match=r"at must be a thinned\.Address"):
        tl.Dropout(0.5, deterministic=False).apply({}, X, at=3)
    with pytest.raises(AttributeError, match="no attribute 'Drop'"):
        tl.Drop  # noqa: B018
