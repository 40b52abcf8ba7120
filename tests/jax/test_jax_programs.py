"""What is compiled: nothing of a mask is kept for the backward pass; nothing leaks or grows."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import thinned
from thinned import Address
from thinned.backends.jax import primitives

AT = Address(seed=5, site="fc1", step=7)
ROWS, WIDTH = 1024, 64


def layers(x, w, at, count, drop):
    """Linear in x: but for the masks there is nothing to keep for its gradient."""
    for i in range(count):
        x = drop(x, at.replace(site=i)) @ w
    return x.sum()


def addressed(x, at):
    return thinned.dropout(x, 0.3, at)


def keyed(x, at):
    key = jax.random.fold_in(jax.random.key(0), at.site)
    return jnp.where(jax.random.bernoulli(key, 0.7, x.shape), x / 0.7, 0.0)


def program(count, drop):
    f = jax.jit(jax.value_and_grad(lambda x, w, at: layers(x, w, at, count, drop)))
    return f.lower(jnp.ones((ROWS, WIDTH)), jnp.ones((WIDTH, WIDTH)), AT).compile()


def bytes_a_layer(drop):
    """What each layer more adds to the program's temporary memory, per element."""
    few, many = (program(n, drop).memory_analysis().temp_size_in_bytes for n in (2, 5))
    return (many - few) / 3 / (ROWS * WIDTH)


def nothing_of_the_mask_is_kept():
    # A packed mask would be an eighth of a byte.
    assert bytes_a_layer(addressed) < 1 / 32


def masks_are_drawn_again():
    draws = program(3, addressed).as_text().count("thinned_noise/while")
    alone = jax.jit(addressed).lower(jnp.ones((ROWS, WIDTH)), AT).compile().as_text()
    assert draws == 6 * alone.count("thinned_noise/while") > 0


@pytest.mark.usefixtures("either")
def test_nothing_of_the_mask_is_kept():
    nothing_of_the_mask_is_kept()


def test_what_others_keep_would_show():
    assert bytes_a_layer(keyed) > 1


@pytest.mark.long
def test_a_mask_that_is_merged_is_caught(pure, monkeypatch):
    nothing_of_the_mask_is_kept()
    monkeypatch.setattr(primitives, "_when_there_is", lambda x, words: words)
    jax.clear_caches()
    with pytest.raises(AssertionError):
        nothing_of_the_mask_is_kept()
    jax.clear_caches()


@pytest.mark.usefixtures("either")
def test_residuals_are_addresses():
    """What jax.vjp keeps between the passes has the size of an address."""
    x = jnp.ones((ROWS, WIDTH))
    _, pulled = jax.vjp(lambda x: addressed(x, AT), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(pulled)) < 32
    _, pulled = jax.vjp(jax.jit(lambda x, at: addressed(x, at)), x, AT)
    assert sum(leaf.size for leaf in jax.tree.leaves(pulled)) < 32


def test_nothing_leaks():
    with jax.checking_leaks():
        f = jax.jit(jax.grad(lambda x, p, at: (thinned.dropout(x, p, at) ** 2).sum()))
        f(jnp.ones((3, 4)), 0.3, AT)
        jax.vmap(lambda n: thinned.gaussian_dropout(jnp.ones(4), 0.3, AT.fold_in(n)))(jnp.arange(2))
        jax.lax.scan(
            lambda c, i: (thinned.drop_path(c, 0.3, AT.replace(step=i)), None),
            jnp.ones((3, 4)),
            jnp.arange(2),
        )


def test_neither_step_nor_p_nor_site_is_a_new_program():
    traces = []

    @jax.jit
    def f(x, p, at):
        traces.append(1)
        return jax.grad(lambda x: (thinned.dropout(x, p, at) ** 2).sum())(x)

    x = jnp.ones((3, 4))
    for step in range(5):
        for site in ("fc1", "fc2"):
            f(x, 0.1 * step, Address(step, site, step, step))
    assert len(traces) == f._cache_size() == 1


def test_eager_calls_compile_once():
    x = jnp.ones((3, 5))
    for start in (0, 1):  # where a block begins, and where none does: a program each
        thinned.dropout(x, 0.3, AT, window=thinned.Window(start))
    counted = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: counted.append(name) if "backend_compile" in name else None
    )
    for step in range(4):
        at = AT.replace(step=step).fold_in(step)
        thinned.dropout(x, 0.1 * step, at, window=thinned.Window(step))
    assert counted == []
    thinned.dropout(jnp.ones((3, 6)), 0.3, AT)
    assert counted  # the listener does listen


def test_a_program_for_the_gpu_holds_no_kernel_of_the_cpus():
    """Lowered for other platforms: operations of XLA, on whole numbers and on x's own type."""
    f = jax.jit(jax.grad(lambda x, at: (thinned.dropout(x, 0.3, at) ** 2).sum()))
    for platform in ("cuda", "tpu"):
        text = f.trace(jnp.ones((16, 8)), AT).lower(lowering_platforms=(platform,)).as_text()
        assert "thinned_noise" not in text
        assert "ui32" in text
        assert "f64" not in text
    assert "thinned_noise" in f.lower(jnp.ones((16, 8)), AT).as_text()


@pytest.mark.usefixtures("either")
def test_it_runs_in_many_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    f = jax.jit(addressed)
    x = np.ones((300, 1000), np.float32)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: np.asarray(f(x, AT.replace(step=n % 4))), range(16)))
    for n, y in enumerate(found):
        np.testing.assert_array_equal(y, thinned.dropout(x, 0.3, AT.replace(step=n % 4)))


EXPORTED = {
    "dropout": lambda x: thinned.dropout(x, 0.3, AT),
    "gradient": jax.grad(lambda x: (thinned.dropout(x, 0.3, AT) ** 2).sum()),
    "gaussian": lambda x: thinned.gaussian_dropout(x, 0.3, AT),
    "mask": lambda x: thinned.keep_mask(x.shape, 0.3, AT, like=x).astype(x.dtype),
    "block": lambda x: thinned.drop_block(x.reshape(2, 2, 4, 4), 0.1, AT, block_size=3),
    "traced": lambda x: thinned.dropout(x, jnp.abs(x[0]) / 9, AT.replace(step=x[1].astype(int))),
    "scan": lambda x: jax.lax.scan(
        lambda x, i: (thinned.dropout(x, 0.1, AT.replace(step=i)), None), x, jnp.arange(3)
    )[0],
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_program_draws_the_same_and_needs_nothing_of_ours(name):
    x = jnp.linspace(1.0, 3.0, 64)
    program = jax.export.export(jax.jit(EXPORTED[name]))(x)
    assert "custom_call @thinned" not in program.mlir_module()
    loaded = jax.export.deserialize(program.serialize())
    np.testing.assert_allclose(loaded.call(x), EXPORTED[name](x), rtol=4e-6)


@pytest.mark.parametrize(
    ("drop", "most"),
    [
        (lambda x: thinned.drop_block(x, 0.1, AT, block_size=3), 0.26),  # its mask, a byte each
        (lambda x: thinned.k_of_n_dropout(x, 0.1, AT), 0.26),
        (lambda x: thinned.drop_head(x, 0.1, AT), 0.02),
        (lambda x: thinned.cutout(x, 0.5, AT), 0.05),
        (lambda x: thinned.random_erasing(x, 0.5, AT), 0.05),
        (lambda x: thinned.nested_dropout(x, 0.5, AT), 0.02),
    ],
)
def test_masks_that_are_made_of_draws_keep_no_array_of_the_input_s_size(drop, most):
    x = jnp.ones((4, 8, 16, 16))
    back = jax.eval_shape(lambda x: jax.vjp(drop, x)[1], x)
    held = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(back))
    assert held <= most * x.size * 4
