"""Layers for Equinox and NNX: their libraries' habits, and thinned's masks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import thinned
import thinned.jax
import thinned.jax.equinox
import thinned.jax.nnx
from thinned import Address

KEY = jax.random.key(3)
AT = Address(seed=3, site="fc1", step=5)
# A batch for each layer, channels first as the rows have it; others are (4, 6).
CHANNELS = ("Cutout", "DropBlock", "RandomErasing", "SpatialDropout")
SHAPES = dict.fromkeys(CHANNELS, (2, 3, 8, 9))
SHAPES |= {"DropHead": (2, 4, 3, 3), "LockedDropout": (2, 5, 3), "FeatureAlphaDropout": (3, 5, 4)}
OPTIONS = {"Cutout": {"size": 2}, "DropBlock": {"block_size": 3}}
NAMES = sorted(thinned.jax.equinox.made())


def batch(name):
    shape = SHAPES.get(name, (4, 6))
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32) + 3


def row(name):
    return thinned.methods.find(name)


def same(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


# ------------------------------------------------------------------------------------------ Equinox


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", NAMES)
def test_an_equinox_layer_takes_a_sample(name):
    layer = getattr(thinned.jax.equinox, name)(0.4, **OPTIONS.get(name, {}))
    x, options = batch(name)[0], OPTIONS.get(name, {})
    same(layer(x, at=AT), row(name).function(batch(name)[:1], 0.4, AT, **options)[0])
    same(layer(x, key=KEY), layer(x, at=thinned.jax.address(KEY)))
    still = eqx.nn.inference_mode(layer)
    assert still(x) is x or np.array_equal(still(x), x)
    same(layer(x, inference=True), x)
    same(still(x, key=KEY, inference=False), layer(x, key=KEY))
    each = jax.random.split(KEY, 2)
    mapped = jax.vmap(lambda x, k: layer(x, key=k))(jnp.stack([x, x]), each)
    same(mapped, [layer(x, key=k) for k in each])


def test_equinox_refusals():
    layer = thinned.jax.equinox.Dropout(0.5)
    with pytest.raises(RuntimeError, match=r"^Dropout requires a key, or an address \(at=...\)"):
        layer(jnp.ones(3))
    with pytest.raises(ValueError, match=r"^Dropout: key and at both came"):
        layer(jnp.ones(3), key=KEY, at=AT)
    with pytest.raises(ValueError, match=r"^Dropout: p must be a float in \[0, 1\], got 1.5"):
        thinned.jax.equinox.Dropout(1.5)
    with pytest.raises(TypeError, match=r"^DropPath: 'axis' is no argument"):
        thinned.jax.equinox.DropPath(0.5, axis=1)
    with pytest.raises(TypeError, match=r"^Dropout: at must be a thinned.Address, got int"):
        layer(jnp.ones(3), at=7)
    with pytest.raises(ValueError, match=r"^adopt: the model holds no dropout"):
        thinned.jax.equinox.adopt(eqx.nn.Linear(2, 2, key=KEY))
    with pytest.raises(AttributeError, match="no attribute 'Dropuot'"):
        _ = thinned.jax.equinox.Dropuot


@pytest.mark.parametrize("room", [thinned.jax.equinox, thinned.jax.nnx], ids=["equinox", "nnx"])
def test_what_no_array_would_make_right_is_refused_at_once(room):
    with pytest.raises(ValueError, match=r"^GaussianDropout: p must be below 1"):
        room.GaussianDropout(1.0)
    with pytest.raises(ValueError, match=r"^DropBlock: gamma must be"):
        room.DropBlock(0.1, gamma="x")


def test_adopted_equinox_models_draw_at_their_places():
    model = eqx.nn.Sequential(
        [eqx.nn.Dropout(0.5), eqx.nn.Lambda(lambda x: x), eqx.nn.Dropout(0.3, inference=True)]
    )
    adopted, report = thinned.jax.equinox.adopt(model)
    assert report.sites == ("layers.0", "layers.2")
    assert isinstance(model.layers[0], eqx.nn.Dropout)
    assert adopted.layers[2].inference
    assert "layers.2  Dropout  0.3  replaced" in str(report)
    x, keys = jnp.ones(40), jax.random.split(KEY, 3)
    at = thinned.jax.address(keys[0], site="layers.0")
    same(adopted(x, key=KEY), thinned.dropout(x, 0.5, at))
    again, second = thinned.jax.equinox.adopt(adopted)
    assert again.layers[0].site == "layers.0"
    assert second.rows[0].done == "has its site: 'layers.0'"
    attention = eqx.nn.MultiheadAttention(2, 8, dropout_p=0.5, key=KEY)
    adopted, report = thinned.jax.equinox.adopt(attention)
    assert report.sites == ("dropout",)
    q = jax.random.normal(KEY, (3, 8))
    assert not np.array_equal(adopted(q, q, q, key=KEY), attention(q, q, q, inference=True))
    same(adopted(q, q, q, inference=True), attention(q, q, q, inference=True))


def test_a_step_of_equinoxs_training():
    model, _ = thinned.jax.equinox.adopt(
        eqx.nn.Sequential([eqx.nn.Linear(4, 8, key=KEY), eqx.nn.Dropout(0.5)])
    )
    x = jnp.ones((3, 4))

    @eqx.filter_jit
    def gradients(model, keys):
        def loss(model):
            return (jax.vmap(lambda x, k: model(x, key=k))(x, keys) ** 2).sum()

        return eqx.filter_grad(loss)(model)

    first, second = (gradients(model, jax.random.split(KEY, 3)) for _ in range(2))
    same(first.layers[0].weight, second.layers[0].weight)
    assert jnp.isfinite(first.layers[0].weight).all()


def test_a_p_that_is_an_array_is_traced_and_not_a_program_of_its_own():
    traced = []

    @eqx.filter_jit
    def call(layer, x):
        traced.append(layer.p)
        return layer(x, at=AT)

    x = jnp.ones(64)
    for p in (0.1, 0.5, 0.9):
        wanted = thinned.dropout(x, jnp.float32(p), AT)
        same(call(thinned.jax.equinox.Dropout(jnp.array(p)), x), wanted)
        adopted, _ = thinned.jax.equinox.adopt(eqx.nn.Dropout(jnp.array(p)))
        call(adopted, x)
    assert len(traced) == 2  # a program for each site
    inside = jax.jit(lambda p: thinned.jax.equinox.Dropout(p)(x, at=AT))
    same(inside(0.5), thinned.dropout(x, 0.5, AT))
    for wrong, error in ((1.5, ValueError), ([0.1, 0.2], TypeError)):
        with pytest.raises(error, match=r"^Dropout: p must be"):
            thinned.jax.equinox.Dropout(jnp.array(wrong))


# ---------------------------------------------------------------------------------------------- NNX


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", NAMES)
def test_an_nnx_layer_takes_a_batch(name):
    x, options = batch(name), dict(OPTIONS.get(name, {}))
    layer = getattr(thinned.jax.nnx, name)(0.4, **options)
    if name in CHANNELS:
        x, options["channel_axis"] = jnp.moveaxis(x, 1, -1), -1
    same(layer(x, at=AT), row(name).function(x, 0.4, AT, **options))
    same(layer(x, rngs=KEY), layer(x, at=thinned.jax.address(KEY)))
    same(layer(x, deterministic=True), x)
    layer.eval()
    same(layer(x), x)
    layer.train()
    streamed = getattr(thinned.jax.nnx, name)(0.4, rngs=nnx.Rngs(7), **OPTIONS.get(name, {}))
    draws = [streamed(x) for _ in range(8)]
    assert any(not np.array_equal(draws[0], y) for y in draws[1:])


def test_dropout_is_nnxs_own_with_other_masks():
    layer = thinned.jax.nnx.Dropout(0.5, broadcast_dims=(1,), rngs=nnx.Rngs(0))
    assert isinstance(layer, nnx.Dropout)
    x = jnp.ones((6, 5))
    same(layer(x, at=AT), thinned.dropout(x, 0.5, AT, shared_axes=1))
    stream = nnx.Rngs(0)["dropout"].fork()
    same(layer(x), thinned.dropout(x, 0.5, thinned.jax.address(stream()), shared_axes=1))
    same(layer(x), thinned.dropout(x, 0.5, thinned.jax.address(stream()), shared_axes=1))
    same(nnx.view(layer, deterministic=True)(x), x)
    assert (thinned.jax.nnx.Dropout(1.0)(x, at=AT) == 0).all()
    same(thinned.jax.nnx.Dropout(0.0)(x, at=AT), x)
    with pytest.raises(
        ValueError, match=r"^Dropout: `deterministic` is False, but there is neither"
    ):
        thinned.jax.nnx.Dropout(0.5)(x)
    with pytest.raises(ValueError, match=r"^Dropout: no `deterministic` came"):
        thinned.jax.nnx.Dropout(0.5, deterministic=None)(x, at=AT)
    with pytest.raises(ValueError, match=r"^Dropout: rate must be a float in \[0, 1\], got 50"):
        thinned.jax.nnx.Dropout(50)
    with pytest.raises(TypeError, match=r"^dropout: x must be of type .* got int32"):
        layer(jnp.arange(4), at=AT)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(6, 6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.also = self.dropout
        self.body = nnx.Sequential(nnx.Dropout(0.3, rngs=rngs), thinned.jax.nnx.DropPath(0.2))
        self.attention = nnx.MultiHeadAttention(
            num_heads=2, in_features=6, dropout_rate=0.1, decode=False, rngs=rngs
        )

    def __call__(self, x):
        return self.also(self.body(self.dropout(x)))


def expected(x, step, seed=5):
    at = Address(seed, step=step)
    x = thinned.dropout(x, 0.5, at.replace(site="also"))
    x = thinned.dropout(x, 0.3, at.replace(site="body.layers.0"))
    x = thinned.drop_path(x, 0.2, at.replace(site="body.layers.1"))
    return thinned.dropout(x, 0.5, at.replace(site="also", call=1))


def test_an_adopted_nnx_model_has_a_clock():
    net = Net(nnx.Rngs(0))
    report = thinned.jax.nnx.adopt(net, seed=5)
    assert set(report.sites) == {"also", "attention/dropout", "body.layers.0", "body.layers.1"}
    assert report.not_reached == ()
    assert net.also is net.dropout
    x = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)

    @nnx.jit
    def forward(net, x):
        return net(x)

    for step in range(3):
        same(forward(net, x), expected(x, step))
        report.clock.tick()
    # The clock is a part of the state: saved and loaded, the masks go on.
    form, state = nnx.split(net)
    keys, others = nnx.split_state(state, nnx.RngState, ...)
    numbers = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), others)
    other = nnx.merge(form, keys, numbers)
    same(other(x), expected(x, 3))
    net.eval()
    same(net(x), x)
    with pytest.raises(ValueError, match=r"^adopt: the model was adopted before"):
        thinned.jax.nnx.adopt(net)
    with pytest.raises(ValueError, match=r"^adopt: the model holds no dropout"):
        thinned.jax.nnx.adopt(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))


def test_gradients_of_an_adopted_model_use_the_forwards_mask():
    class Small(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.ones((8, 6)))
            self.dropout = nnx.Dropout(0.5)

        def __call__(self):
            return self.dropout(self.weight[...])

    net = Small()
    clock = thinned.jax.nnx.adopt(net, seed=5).clock

    @nnx.jit
    def gradient(net):
        return nnx.grad(lambda net: net().sum())(net)

    for step in range(2):
        at = Address(5, "dropout", step)
        same(gradient(net)["weight"][...], thinned.dropout(np.ones((8, 6), np.float32), 0.5, at))
        clock.tick()


def test_a_mask_that_does_not_follow_the_clock_is_caught(monkeypatch):
    monkeypatch.setattr(thinned.jax.nnx.Clock, "tick", lambda self: None)
    with pytest.raises(AssertionError):
        test_gradients_of_an_adopted_model_use_the_forwards_mask()
