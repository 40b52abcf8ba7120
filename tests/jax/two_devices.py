"""Run by test_jax_stacks.py with two devices: adopted NNX models in pmap, shard_map and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

import thinned
from thinned import Address
from thinned.jax.nnx import adopt

ROWS = jnp.ones((16, 8))


class Block(nnx.Module):
    def __init__(self):
        self.dropout = nnx.Dropout(0.5)

    def __call__(self, x):
        return self.dropout(x)


def mapped(block, how):
    """The block on two pieces of a batch, by pmap or vmap with a named axis, or by shard_map."""
    pieces = jnp.ones((2, *ROWS.shape))
    call = lambda block, x: block(x)  # noqa: E731 - one body for all of them
    if how == "shard_map":
        mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        parts = PartitionSpec("data")
        form, state = nnx.split(block)
        body = lambda state, x: nnx.merge(form, state)(x)  # noqa: E731
        f = jax.shard_map(body, mesh=mesh, in_specs=(PartitionSpec(), parts), out_specs=parts)
        return f(state, pieces.reshape(-1, 8)).reshape(pieces.shape)
    transform = {"pmap": nnx.pmap, "vmap": nnx.vmap}[how]
    return transform(call, in_axes=(None, 0), out_axes=0, axis_name="data")(block, pieces)


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_devices_do_not_share_masks_unless_told_to(how):
    block = Block()
    adopt(block)
    with pytest.raises(ValueError, match=r"site 'dropout' is called inside of pmap or shard_map"):
        mapped(block, how)
    block.eval()
    assert (mapped(block, how) == 1).all()


@pytest.mark.parametrize("how", ["pmap", "shard_map", "vmap"])
def test_named_axes_draw_masks_of_their_own(how):
    block = Block()
    adopt(block, seed=3, axes=("data",))
    for n, y in enumerate(mapped(block, how)):
        at = Address(3, "dropout").fold_in(n)
        assert np.array_equal(y, thinned.dropout(np.asarray(ROWS), 0.5, at))
    same = Block()
    adopt(same, axes=())
    first, second = mapped(same, how)
    assert (first == second).all()
