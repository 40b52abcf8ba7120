"""Adopted models of Flax and Equinox: names, streams, and what is left alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from flax.nnx import bridge
from libraries import needs

import thinned
import thinned.jax.equinox
from thinned import Address
from thinned.jax.nnx import adopt, tick
from thinned.jax.nnx.clock import LOT

X = jnp.ones((4, 250))


class Block(nnx.Module):
    def __init__(self, rngs, rate=0.5):
        self.drop = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return self.drop(x)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([Block(rngs, 0.5), Block(rngs, 0.3)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def dropped(x, *sites, seed=1, step=0, call=0):
    for site, p in zip(sites, (0.5, 0.3), strict=False):
        x = thinned.dropout(x, p, Address(seed, site, step, call))
    return x


@needs("torch")
def test_a_site_has_the_name_that_it_has_in_pytorch():
    import torch

    import thinned.torch

    class OfTorch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(
                torch.nn.ModuleDict({"drop": torch.nn.Dropout(p)}) for p in (0.5, 0.3)
            )

        def forward(self, x):
            for layer in self.layers:
                x = layer["drop"](x)
            return x

    net, other = Net(nnx.Rngs(0)), OfTorch()
    report, theirs = adopt(net, seed=1), thinned.torch.adopt(other, seed=1)
    assert report.sites == theirs.sites == ("layers.0.drop", "layers.1.drop")
    for _ in range(2):
        y = other(torch.from_numpy(np.array(X)))
        np.testing.assert_array_equal(net(X), y.numpy())
        tick(net)
        theirs.clock.tick()


def test_the_former_names_are_to_be_had():
    net = Net(nnx.Rngs(0))
    report = adopt(net, seed=1, separator="/")
    assert report.sites == ("layers/0/drop", "layers/1/drop")
    np.testing.assert_array_equal(net(X), dropped(X, *report.sites))
    model, report = thinned.jax.equinox.adopt(
        eqx.nn.Sequential([eqx.nn.Dropout(0.5)]), separator="/"
    )
    assert report.sites == ("layers/0",)
    assert model.layers[0].site == "layers/0"


# ------------------------------------------------------------------------------------------ streams


def test_the_clock_is_a_stream_of_flaxs():
    net = Net(nnx.Rngs(0))
    clock = adopt(net, seed=2**40 + 1).clock
    _, params, streams = nnx.split(net, nnx.Param, nnx.RngState)
    assert not jax.tree.leaves(params)
    assert len(jax.tree.leaves(streams)) == 12  # of both layers the streams, clocks and calls
    sites = "layers.0.drop", "layers.1.drop"
    np.testing.assert_array_equal(net(X), dropped(X, *sites, seed=2**40 + 1))
    tick(net)
    nnx.reseed(net, default=7)
    assert clock.step == 0
    first = net(X)
    nnx.reseed(net, default=7)
    np.testing.assert_array_equal(net(X), first)
    expected = X
    for site, p, one in zip(sites, (0.5, 0.3), clock.clocks, strict=True):
        at = thinned.jax.address(one.key.get_value(), site)
        assert at.seed != 2**40 + 1
        expected = thinned.dropout(expected, p, at)
    np.testing.assert_array_equal(first, expected)
    nnx.reseed(net, default=8)
    assert not np.array_equal(net(X), first)


@pytest.mark.parametrize(("rngs", "name"), [({"dropout": 1}, "dropout"), ({}, "default")])
def test_what_reseeds_flaxs_own_stream_reseeds_the_site(rngs, name):
    own, net = (Net(nnx.Rngs(0, **rngs)) for _ in range(2))
    adopt(net, seed=3)
    for model in (own, net):
        first, other = (nnx.clone(model) for _ in range(2))
        nnx.reseed(first, **{name: 7})
        nnx.reseed(other, **{name: 8})
        assert not np.array_equal(first(X), other(X))
        nnx.reseed(other, **{name: 7})
    adopted = nnx.state(net, nnx.RngState)
    assert {leaf.tag for leaf in jax.tree.leaves(adopted, is_leaf=lambda v: hasattr(v, "tag"))} == {
        name
    }


def test_a_clock_that_nobody_ticks_repeats_no_mask_and_stays_finite():
    block = Block(nnx.Rngs(0))
    clock = adopt(block, seed=3).clock
    seen = []
    for count in (0, 2**16 - 1, 2**16, 2**16 + 1, 2**17, 2**32 - 1):
        block.drop.calls.count.set_value(jnp.uint32(count))
        y = nnx.jit(lambda model, x: model(x))(block, X)
        upper = (count >> 16) * int(LOT) % 2**32  # each lot of calls has a seed of its own
        seed = 3 + (upper << 32)
        expected = dropped(X, "drop", seed=seed, call=count % 2**16)
        np.testing.assert_array_equal(y, expected)
        seen.append(np.asarray(y))
        assert clock.address("drop", count) == Address(seed, "drop", 0, count % 2**16)
    assert len({y.tobytes() for y in seen}) == len(seen)


# ------------------------------------------------------------------------------------- what is left


class Half(nnx.Dropout):
    def __call__(self, inputs, **how):
        return super().__call__(inputs, **how) / 2


class HalfOfEquinox(eqx.nn.Dropout):
    def __call__(self, x, **how):
        return super().__call__(x, **how) / 2


def test_subclasses_keep_their_own_call_and_are_named():
    class Both(nnx.Module):
        def __init__(self, rngs):
            self.half, self.drop = Half(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    model = Both(nnx.Rngs(0))
    report = adopt(model)
    assert report.sites == ("drop",)
    (row,) = report.not_reached
    assert (row.site, row.kind) == ("half", "Half")
    assert "a subclass of nnx.Dropout, whose own code runs" in row.done
    assert type(model.half) is Half
    assert float(model.half(X).max()) == 1.0
    tree = eqx.nn.Sequential([HalfOfEquinox(0.5), eqx.nn.Dropout(0.5)])
    made, report = thinned.jax.equinox.adopt(tree)
    assert report.sites == ("layers.1",)
    assert report.not_reached[0].kind == "HalfOfEquinox"
    assert type(made.layers[0]) is HalfOfEquinox
    with pytest.raises(ValueError, match=r"nothing in the model can be given .*: layers\.0, "):
        thinned.jax.equinox.adopt(eqx.nn.Sequential([HalfOfEquinox(0.5)]))


def test_a_model_that_drops_in_code_of_its_own_is_not_said_to_hold_none():
    attention = nnx.MultiHeadAttention(
        2, 8, 8, dropout_rate=0.1, rngs=nnx.Rngs(0), decode=False, attention_fn=lambda *_, **__: X
    )
    with pytest.raises(ValueError, match=r"given an address: the model itself, a Multi.*its atten"):
        adopt(attention)
    within = bridge.ToNNX(linen.Dropout(0.5), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"ToNNX\(Dropout\), not reached: a module of Linen"):
        adopt(within)
    with pytest.raises(TypeError, match=r"an nnx.Module, got a flax Dropout. A module"):
        adopt(linen.Dropout(0.5))
    with pytest.raises(ValueError, match=r"^adopt: the model holds no dropout.$"):
        adopt(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
