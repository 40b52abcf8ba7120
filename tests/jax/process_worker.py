"""Run by test_jax_sharded.py as one of two processes of jax.distributed, one device each."""

import sys

import jax
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec as P

import thinned

if __name__ == "__main__":
    address, process = sys.argv[1], int(sys.argv[2])
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, 2, process)
    assert (jax.process_count(), jax.device_count(), jax.local_device_count()) == (2, 2, 1)
    at = thinned.Address(seed=3, site="fc1", step=5)
    whole = np.random.default_rng(0).standard_normal((16, 24)).astype(np.float32)
    rows = NamedSharding(jax.make_mesh((2,), ("a",)), P("a"))
    x = jax.make_array_from_callback(whole.shape, rows, lambda part: whole[part])

    @jax.jit
    def train(x):
        """Two steps on one global array, with a gradient through each."""

        def step(x, i):
            def loss(x):
                return (thinned.dropout(x, 0.3, at.replace(step=i)) ** 2).sum()

            return x - 0.1 * jax.grad(loss)(x), None

        return lax.scan(step, x, np.arange(2))[0]

    found = train(x)
    expected = whole
    for i in range(2):
        once = thinned.dropout(expected, 0.3, at.replace(step=i))
        twice = thinned.dropout(once, 0.3, at.replace(step=i))
        expected = expected - np.float32(0.2) * twice
    for shard in found.addressable_shards:
        assert shard.index[0] == slice(8 * process, 8 * process + 8)
        np.testing.assert_allclose(shard.data, expected[shard.index], rtol=1e-5)
    print("this process holds its part of the whole masks")
