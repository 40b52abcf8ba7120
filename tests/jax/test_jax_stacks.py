"""Adopted NNX models in stacks of layers and on devices: each draws masks of its own."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import thinned
from thinned import Address
from thinned.jax.nnx import Clocks, adopt, tick

ROWS = jnp.ones((16, 8))


class Block(nnx.Module):
    def __init__(self, rngs, own=True, adopts=False):
        self.linear = nnx.Linear(8, 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs if own else None)
        if adopts:
            adopt(self, seed=3)

    def __call__(self, x):
        return self.dropout(x)


class Inner(nnx.Module):
    """Dropout beside a layer of known shape, in a container, without rngs."""

    def __init__(self, rngs):
        self.body = nnx.Sequential(nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(0.5))

    def __call__(self, x):
        return self.body.layers[1](x)


def stack(make, *lanes):
    """Blocks built by nnx.vmap, a level for each of `lanes`."""
    for n in reversed(lanes):
        make = nnx.split_rngs(splits=n)(nnx.vmap(make, in_axes=(0,), out_axes=0))
    return make(nnx.Rngs(0))


def scanned(blocks, x=ROWS):
    run = nnx.scan(lambda block, x: (x, block(x)), in_axes=(0, nnx.Carry), out_axes=(nnx.Carry, 0))
    return run(blocks, x)[1]


def vmapped(blocks, x=ROWS):
    return nnx.vmap(lambda block, x: block(x), in_axes=(0, None), out_axes=0)(blocks, x)


def all_different(ys):
    """Whether the lanes along the leading axis drew different masks."""
    masks = {np.asarray(y != 0).tobytes() for y in ys}
    return len(masks) == len(ys)


BUILT = {
    "in the constructor": lambda: stack(lambda rngs: Block(rngs, adopts=True), 3),
    "in the constructor, without rngs": lambda: stack(lambda rngs: Block(rngs, False, True), 3),
    "afterwards, by its rngs": lambda: stack(Block, 3),
    "afterwards, by the layer beside it": lambda: stack(lambda rngs: Block(rngs, False), 3),
    "afterwards, in a container": lambda: stack(Inner, 3),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("run", [scanned, vmapped])
@pytest.mark.parametrize("how", BUILT)
def test_every_layer_of_a_stack_draws_a_mask_of_its_own(how, run):
    blocks = BUILT[how]()
    if "afterwards" in how:
        adopt(blocks, seed=3)
    first, second = run(blocks), run(blocks)
    assert all_different([*first, *second])
    tick(blocks)
    assert all_different([*first, *second, *run(blocks)])
    blocks.eval()
    assert (run(blocks) == ROWS).all()


def test_a_layer_of_a_stack_has_the_seed_with_its_number_folded_in():
    for how in ("in the constructor", "afterwards, by its rngs"):
        blocks = BUILT[how]()
        if "afterwards" in how:
            adopt(blocks, seed=3)
        for n, y in enumerate(scanned(blocks)):
            at = Address(3, "dropout").fold_in(n)
            assert np.array_equal(y, thinned.dropout(np.asarray(ROWS), 0.5, at))


@pytest.mark.long
def test_stacks_of_stacks():
    def grid(blocks):
        return nnx.vmap(lambda blocks: vmapped(blocks), in_axes=(0,), out_axes=0)(blocks).reshape(
            6, *ROWS.shape
        )

    for adopts in (True, False):
        blocks = stack(partial(Block, adopts=adopts), 2, 3)
        if not adopts:
            adopt(blocks, seed=3)
        assert all_different([*grid(blocks), *grid(blocks)])


def test_a_stack_that_is_built_under_jit():
    @nnx.jit
    def build():
        return stack(lambda rngs: Block(rngs, adopts=True), 3)

    assert all_different(scanned(build()))


class Model(nnx.Module):
    """Two stacks and a dropout of its own."""

    def __init__(self, adopts):
        self.encoder = stack(partial(Block, adopts=adopts), 3)
        self.decoder = stack(partial(Block, adopts=adopts), 3)
        self.dropout = nnx.Dropout(0.5)

    def __call__(self, x):
        return [*scanned(self.encoder, x), *scanned(self.decoder, x), self.dropout(x)]


@pytest.mark.parametrize("adopts", [True, False])
def test_a_model_that_holds_stacks(adopts):
    model = Model(adopts)
    report = adopt(model, seed=3)
    assert report.sites == ("decoder.dropout", "dropout", "encoder.dropout")
    assert isinstance(report.clock, Clocks)

    @nnx.jit
    def step(model):
        ys = model(ROWS)
        tick(model)
        return ys

    seen = [*step(model), *step(model)]
    assert all_different(seen)
    assert report.clock.step == 2
    report.clock.tick()
    # Saved and loaded, the masks go on.
    form, state = nnx.split(model)
    other = nnx.merge(form, jax.tree.map(jnp.array, state))
    later = model(ROWS)
    assert all_different([*seen, *later])
    assert all((a == b).all() for a, b in zip(later, other(ROWS), strict=True))
    with pytest.raises(ValueError, match=r"^adopt: the model was adopted before"):
        adopt(model)


def test_a_stack_called_as_a_whole_is_refused():
    blocks = stack(Block, 3)
    adopt(blocks)
    with pytest.raises(ValueError, match=r"site 'dropout' stands in a stack of layers of shape"):
        blocks(ROWS)


def test_a_model_without_stacks_draws_as_ever():
    block = Block(nnx.Rngs(0))
    report = adopt(block, seed=3)
    y = block(ROWS)
    assert np.array_equal(y, thinned.dropout(np.asarray(ROWS), 0.5, Address(3, "dropout")))
    assert report.clock.address("dropout", 0).step == 0
    with pytest.raises(ValueError, match=r"^tick: the model holds no clock"):
        tick(Block(nnx.Rngs(0)))


@pytest.mark.long
def test_on_two_devices():
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    file = Path(__file__).with_name("two_devices.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]


def test_axes_are_a_sequence_of_names():
    with pytest.raises(TypeError, match=r"^adopt: axes must be a sequence of axis names"):
        adopt(Block(nnx.Rngs(0)), axes="data")
