"""Programs that jax.export saves, for lengths that only their calls bring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from libraries import needs

import thinned
from thinned import Address, Window

pytestmark = needs("flatbuffers")  # which JAX saves programs with

AT = Address(3, "a", 5)
METHODS = {
    "dropout": lambda x, at, **how: thinned.dropout(x, 0.3, at, **how),
    "shared axes": lambda x, at, **how: thinned.dropout(x, 0.3, at, shared_axes=(0, 2), **how),
    "drop_path": lambda x, at, **how: thinned.drop_path(x, 0.3, at, **how),
    "spatial": lambda x, at, **how: thinned.spatial_dropout(x, 0.3, at, **how),
    "alpha": lambda x, at, **how: thinned.alpha_dropout(x, 0.3, at, **how),
    "uniform": lambda x, at, **how: thinned.uniform_dropout(x, 0.3, at, **how),
}


def saved(function, *shapes, platforms=("cpu",)):
    """What is read back of a saved program of these arrays' shapes, with symbols as lengths."""
    scope = export.SymbolicScope()
    specs = [
        jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), jnp.float32)
        for shape in shapes
    ]
    made = export.export(jax.jit(function), platforms=platforms)(*specs)
    return export.deserialize(made.serialize())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["b, 6, 10", "4, b, 10", "b, c, 10"])
@pytest.mark.one_in(3)
def test_a_saved_program_draws_the_masks_of_every_length(method, shape):
    def run(x):
        return METHODS[method](x, AT)

    program = saved(run, shape)
    for lengths in ((4, 6, 10), (4, 6, 10), (1, 6, 10), (300, 6, 10), (4, 50, 10)):
        pairs = zip(shape.split(", "), lengths, strict=True)
        if all(asked in "bc" or int(asked) == n for asked, n in pairs):
            x = jnp.asarray(np.random.default_rng(1).normal(size=lengths), jnp.float32)
            np.testing.assert_allclose(program.call(x), run(x), rtol=1e-5, atol=1e-6)


def test_its_backward_pass_and_a_step_that_comes_with_the_call():
    def loss(x, step):
        return thinned.dropout(x, 0.3, AT.replace(step=step.astype(jnp.uint32)[0])).sum()

    program = saved(jax.grad(loss), "b, 10", "1")
    for step in (1.0, 2.0):
        x = jnp.ones((7, 10))
        expected = thinned.dropout(x, 0.3, AT.replace(step=int(step)))
        np.testing.assert_array_equal(program.call(x, jnp.array([step])), expected)


@pytest.mark.parametrize("how", [{"training": False}, {"p": 0.0}])
@pytest.mark.parametrize("platforms", [("cpu",), ("tpu", "cuda")])
def test_evaluation_is_saved(how, platforms):
    program = saved(lambda x: thinned.dropout(x, **{"p": 0.3, "at": AT, **how}), "b, 8")
    x = jnp.ones((3, 8))
    np.testing.assert_array_equal(program.call(x), x)


def test_a_window_needs_numbers():
    with pytest.raises(ValueError, match="window must be None where a length is a symbol"):
        saved(lambda x: thinned.dropout(x, 0.3, AT, window=Window(4)), "b, 8")
