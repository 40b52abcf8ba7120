"""The XLA path by what its programs consist of: loops and gathers, which cost most to compile."""

import math
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thinned
from thinned import Address, Window

AT = Address(seed=1, site="fc1", step=7)


def operations(function, *operands):
    """How often each operation of XLA stands in the program, on the path without the kernel."""
    before = thinned.kernel_info().name
    thinned.kernel.use_kernel("reference")
    try:
        program = jax.jit(function).lower(*operands)
    finally:
        thinned.kernel.use_kernel(before)
    return Counter(re.findall(r"stablehlo\.(\w+)", program.as_text())), program


def dropped(window=None, p=0.1):
    return lambda x: thinned.dropout(x, p, AT, window=window)


@pytest.mark.parametrize(("size", "loops"), [(1000, 1), (2**17, 1), (2**18, 2)])
def test_few_blocks_take_one_loop_and_many_take_two(size, loops):
    found, _ = operations(dropped(), jnp.ones(size))
    assert (found["while"], found["gather"]) == (loops, 0)


def test_nothing_is_drawn_at_a_rate_of_zero_that_is_known():
    x = jnp.asarray([0.0, -0.0, jnp.nan, jnp.inf, 1e-42, -3.0])
    for function in (dropped(p=0.0), lambda x: thinned.vanilla_dropout(x, 0.0, AT)):
        found, program = operations(function, x)
        assert "thinned" not in str(jax.make_jaxpr(function)(x))
        assert found["while"] == found["multiply"] == 0
        np.testing.assert_array_equal(program.compile()(x), x)
        np.testing.assert_array_equal(jnp.signbit(function(x)), jnp.signbit(x))
        np.testing.assert_array_equal(jax.grad(lambda x, f=function: f(x).sum())(x), jnp.ones(6))

    def at_step(step):
        return thinned.dropout(x, 0.0, AT.replace(step=step))

    np.testing.assert_array_equal(jax.jit(at_step)(3), x)
    assert jnp.isnan(jax.jit(at_step)(-1)).all()  # out of its range, as at any other rate
    traced = jax.jit(lambda p: thinned.dropout(x, p, AT))(0.0)
    np.testing.assert_array_equal(traced, x)


def test_only_an_array_that_begins_within_a_block_takes_gathers():
    rows = jnp.ones((4, 128))
    for start, gathers in ((0, 0), (2, 0), (1, 0)):
        window = Window((start, 0), (9, 128))
        found, _ = operations(dropped(window), rows)
        assert found["gather"] == gathers
    found, _ = operations(dropped(Window((1, 0), (9, 100))), jnp.ones((4, 100)))
    assert found["gather"] > 0


def test_one_program_for_sites_and_steps_holds_one_draw_of_a_shape():
    """However many sites there are, a program has the operations of a draw once."""

    def layers(x, step, count):
        for site in range(count):
            x = thinned.dropout(x, 0.1, AT.replace(site=site, step=step))
        return x

    one, many = (
        operations(lambda x, step, n=n: layers(x, step, n), jnp.ones(1000), jnp.uint32(3))[0]
        for n in (1, 12)
    )
    assert one["while"] == many["while"] == 1


def test_what_x_is_made_of_is_computed_twice():
    """For its place in the draw and where it is dropped; not in each part of the draw again."""
    _, program = operations(lambda x: thinned.dropout(-x, 0.1, AT), jnp.ones(1000))
    assert program.compile().as_text().count(" negate(") == 2


def test_addresses_of_many_rows_are_drawn_at_once():
    """Two loops for all of them, that end when the last lane of all is decided."""

    def rows(x, step, p):
        return jax.vmap(lambda x, step, p: thinned.dropout(x, p, AT.replace(step=step)))(x, step, p)

    x, steps = jnp.ones((64, 8)), jnp.arange(64)
    found, _ = operations(rows, x, steps, jnp.full(64, 0.1))
    assert (found["while"], found["gather"]) == (2, 0)


@pytest.mark.parametrize("shape", [(5,), (3, 130), (2, 3, 50), (0,)])
@pytest.mark.parametrize("law", ["dropout", "gaussian_dropout", "alpha_dropout", "uniform_dropout"])
def test_a_batch_of_addresses_is_each_by_itself(shape, law):
    """Of two axes, with a p for each, on windows that begin within a block, with shared axes."""
    steps, rates = jnp.arange(6).reshape(2, 3), jnp.linspace(0.0, 1.0, 6).reshape(2, 3)
    if law in ("gaussian_dropout", "uniform_dropout"):
        rates = rates * 0.9
    window = Window((3,), (shape[0] + 4, *shape[1:])) if len(shape) < 3 else None

    def one(x, step, p):
        at = AT.replace(step=step)
        how = {"shared_axes": (1,)} if law == "dropout" and len(shape) == 3 else {}
        if law == "alpha_dropout":
            return thinned.alpha_dropout(x, 0.3, at, window=window)
        return getattr(thinned, law)(x, p, at, window=window, **how)

    before = thinned.kernel_info().name
    thinned.kernel.use_kernel("reference")
    try:
        x = jnp.linspace(-1.0, 1.0, 6 * math.prod(shape)).reshape(2, 3, *shape)
        batch = jax.jit(jax.vmap(jax.vmap(one)))(x, steps, rates)
        for i in range(2):
            for j in range(3):
                alone = jax.jit(one)(x[i, j], steps[i, j], rates[i, j])
                np.testing.assert_array_equal(batch[i, j], alone)
    finally:
        thinned.kernel.use_kernel(before)
