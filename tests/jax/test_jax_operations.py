"""The XLA path by what its programs consist of: loops and gathers, which cost most to compile."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
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
