"""Every transformation of JAX's gives what NumPy gives, whatever is traced."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import thinned
import thinned.jax
from thinned import Address, Window

AT = Address(seed=2**63 + 5, site="fc1", step=7, call=3)
X = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((6, 50)).astype(np.float32)


def same(actual, expected):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


# ------------------------------------------------------------------------------------------ tracing


@pytest.mark.usefixtures("either")
def test_p_and_every_coordinate_may_be_traced():
    @jax.jit
    def f(x, p, at):
        return thinned.dropout(x, p, at), thinned.keep_mask(x.shape, p, at, like=x)

    for at in (AT, Address(), AT.replace(step=2**32 - 2, call=2**16 - 1, site=2**32 - 1)):
        for p in (np.float32(0.3), np.float32(0.0), np.float32(1.0), np.float32(1e-9)):
            y, keep = f(X, p, at)
            same(y, thinned.dropout(X, p, at))
            same(keep, thinned.keep_mask(X.shape, p, at))
    assert f._cache_size() == 1


def test_a_traced_p_is_settled_as_numpy_settles_it():
    """Threshold and scale to the bit, for binary32 as it comes."""
    rng = np.random.default_rng(3)
    ps = np.concatenate(
        [rng.random(3000), 2.0 ** rng.uniform(-40, 0, 3000), 1 - rng.random(999) / 99]
    )
    ps = np.append(ps, [0.0, 0.5, 1.0, 2.0**-33, 3 * 2.0**-33]).astype(np.float32)
    from thinned import reference
    from thinned.backends.jax.backend import backend

    (low, high), scale = jax.jit(jax.vmap(backend.rate))(ps)
    threshold = np.asarray(low, np.int64) + (np.asarray(high, np.int64) << 32)
    same(threshold, [reference.threshold(float(p)) for p in ps])
    same(scale, np.array([reference.scale_for(float(p)) for p in ps]).astype(np.float32))


def test_scan_over_steps():
    def step(total, i):
        return total + thinned.dropout(jnp.asarray(X), 0.3, AT.replace(step=i)).sum(), None

    total, _ = jax.jit(lambda: lax.scan(step, 0.0, jnp.arange(5)))()
    expected = sum(thinned.dropout(X, 0.3, AT.replace(step=i)).sum() for i in range(5))
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_an_address_is_a_tree_of_words():
    leaves, form = jax.tree.flatten(AT)
    assert [leaf.dtype for leaf in leaves] == [np.uint32] * 5
    assert jax.tree.unflatten(form, leaves) == AT
    back = jax.jit(lambda at: at.replace(step=at.step + 1))(AT)
    assert back == AT.replace(step=8)
    assert hash(back) == hash(AT.replace(step=8))
    assert repr(back) == repr(Address(AT.seed, AT.site, 8, 3))
    same(thinned.dropout(X, 0.3, back), thinned.dropout(X, 0.3, AT.replace(step=8)))
    carried, _ = lax.scan(lambda at, _: (at.replace(call=at.call + 1), None), AT, None, length=4)
    assert carried == AT.replace(call=7)


@pytest.mark.usefixtures("either")
def test_vmap_over_members_arrays_and_rates():
    f = jax.jit(jax.vmap(lambda x, n: thinned.dropout(x, 0.3, AT.fold_in(n))))
    same(f(X, np.arange(6)), [thinned.dropout(X[n], 0.3, AT.fold_in(n)) for n in range(6)])
    # Of arrays alone: one mask for all of them.
    f = jax.jit(jax.vmap(lambda x: thinned.dropout(x, 0.3, AT), in_axes=1, out_axes=1))
    same(f(X), thinned.dropout(X, 0.3, AT, shared_axes=1))
    # Of members that see the same array, within that of arrays.
    f = jax.vmap(lambda n: jax.vmap(lambda x: thinned.dropout(x, 0.3, AT.fold_in(n)))(X))
    expected = [thinned.dropout(X, 0.3, AT.fold_in(n), shared_axes=0) for n in range(3)]
    same(jax.jit(f)(np.arange(3)), expected)
    ps = np.array([0.0, 0.25, 0.5, 1.0], np.float32)
    f = jax.jit(jax.vmap(lambda p: thinned.dropout(jnp.asarray(X), p, AT)))
    same(f(ps), [thinned.dropout(X, p, AT) for p in ps])
    ats = jax.vmap(AT.fold_in)(jnp.arange(4))
    masks = jax.vmap(lambda at: thinned.keep_mask((70,), 0.4, at, like=jnp.ones(1)))(ats)
    same(masks, [thinned.keep_mask((70,), 0.4, AT.fold_in(n)) for n in range(4)])


def test_fold_in_of_what_is_traced():
    for n in (0, 1, 2**31 - 1):
        assert jax.jit(AT.fold_in)(n) == AT.fold_in(n)
        assert jax.jit(lambda at, n=n: at.fold_in(n))(AT) == AT.fold_in(n)
    assert jax.jit(AT.fold_in)(np.uint32(2**32 - 1)) == AT.fold_in(2**32 - 1)
    assert jax.jit(lambda at: at.fold_in(2**64 - 1))(AT) == AT.fold_in(2**64 - 1)


# ---------------------------------------------------------------------------------- differentiation


@pytest.mark.usefixtures("either")
def test_gradients_of_every_mode():
    def f(x):
        return thinned.dropout(x, 0.3, AT)

    x, w = jnp.asarray(X), jnp.asarray(W)
    dropped = thinned.dropout(W, 0.3, AT)
    same(jax.vjp(f, x)[1](w)[0], dropped)
    same(jax.jvp(f, (x,), (w,))[1], dropped)
    _, linear = jax.linearize(f, x)
    same(linear(w), dropped)
    same(jax.linear_transpose(linear, x)(w)[0], dropped)
    same(jax.jit(jax.grad(lambda x: (w * jax.checkpoint(f)(x)).sum()))(x), dropped)
    twice = thinned.dropout(dropped, 0.3, AT)

    def loss(x):
        return (f(x) ** 2).sum() / 2

    same(jax.jvp(jax.grad(loss), (x,), (w,))[1], twice)  # forward over reverse: a Hessian product
    same(jax.grad(lambda x: jax.jvp(loss, (x,), (w,))[1])(x), twice)
    small = x[0, :4]
    same(jax.jacfwd(f)(small), jax.jacrev(f)(small))
    same(jax.hessian(loss)(small), np.diag(thinned.dropout(f(np.ones(4, np.float32)), 0.3, AT)))


@pytest.mark.usefixtures("either")
def test_an_array_of_fills_has_its_own_gradient():
    keep = thinned.keep_mask(X.shape, 0.3, AT)
    new, old, g = (jnp.asarray(a) for a in (X, W, X + W))
    y, pulled = jax.vjp(lambda new, old: thinned.zoneout(new, old, 0.3, AT), new, old)
    same(y, thinned.zoneout(X, W, 0.3, AT))
    dnew, dold = pulled(g)
    same(dnew, np.where(keep, g, 0))
    same(dold, np.where(keep, 0, g))
    moved = jax.jvp(lambda o: thinned.zoneout(new, o, 0.3, AT), (old,), (g,))[1]
    same(moved, np.where(keep, 0, g))


@pytest.mark.usefixtures("either")
def test_both_ends_of_p_have_finite_gradients():
    bad = jnp.asarray([np.inf, np.nan, 1.0])
    for p in (1.0, np.float32(1.0)):
        f = jax.jit(
            jax.value_and_grad(lambda x, p: thinned.dropout(x, p, AT).sum()), static_argnums=()
        )
        y, dx = f(bad, p)
        assert y == 0.0
        same(dx, np.zeros(3))
    y, dx = jax.value_and_grad(lambda x: thinned.dropout(x, 0.0, AT).sum())(jnp.ones(3))
    assert y == 3.0
    same(dx, np.ones(3))
    assert jnp.isfinite(jax.grad(lambda p: thinned.dropout(jnp.ones(9), p, AT).sum())(1.0))


def test_drop_grad_is_the_identity_and_its_gradient_is_not():
    x, w = jnp.asarray(X), jnp.asarray(W)
    y, pulled = jax.vjp(jax.jit(lambda x: thinned.drop_grad(x, 0.3, AT)), x)
    same(y, X)
    same(pulled(w)[0], thinned.dropout(W, 0.3, AT))
    same(jax.vmap(lambda x: thinned.drop_grad(x, 0.3, AT))(x), X)


# ------------------------------------------------------------------------------------------ indices


@pytest.mark.usefixtures("either")
def test_past_two_to_the_32_elements():
    for start in (2**32 - 3, 2**33 + 1, 2**39 - 50, 2**46 + 12345):
        how = {
            "window": Window((start, 5), (2**46 + 2**20, 60)) if start < 2**40 else Window(start)
        }
        x = X if start < 2**40 else X.reshape(-1)
        f = jax.jit(partial(thinned.dropout, p=0.3, **how))
        same(f(jnp.asarray(x), at=AT), thinned.dropout(x, 0.3, AT, **how))
    start = 2**33 + 6
    f = jax.jit(
        lambda x, at: thinned.gaussian_dropout(x, 0.3, at, window=Window((start, 1), (2**34, 51)))
    )
    expected = thinned.gaussian_dropout(X, 0.3, AT, window=Window((start, 1), (2**34, 51)))
    np.testing.assert_allclose(f(X, AT), expected, atol=4e-5)


@pytest.mark.usefixtures("pure")
def test_gaussians_are_near_the_references():
    """Absolute, over every angle and the largest radii among a quarter of a million."""
    from thinned import reference
    from thinned.window import place

    n = 2**18
    y = jax.jit(lambda x: thinned.gaussian_dropout(x, 0.5, AT))(jnp.ones(n))
    z = reference.gaussian(AT, reference.indices(place("test", (n,))))
    assert abs(np.asarray(y, np.float64) - 1.0 - z).max() < 4e-6


def test_sums_are_not_contracted(pure):
    """fill + scale (x - fill) with each step rounded, as in NumPy, in a program that XLA fuses."""
    x = np.random.default_rng(4).standard_normal(4096).astype(np.float32)
    f = jax.jit(lambda x, at: thinned.alpha_dropout(x, 0.3, at))
    from thinned.backends.base import Draw
    from thinned.backends.jax.backend import backend
    from thinned.window import place

    draw = Draw(AT, 2**31, place("test", (4096,)))
    y = jax.jit(lambda x: backend.apply(x, draw, 1.7, 0.3, None))(x)
    from thinned.backends.numpy import backend as numpy

    same(y, numpy.apply(x, draw, 1.7, 0.3, None))
    assert f(x, AT).shape == x.shape


# ----------------------------------------------------------------------------------------- refusals


def test_what_is_refused():
    x = jnp.asarray(X)
    with pytest.raises(TypeError, match=r"^dropout: x must be of type float16, .* got int32\."):
        thinned.dropout(jnp.arange(3), 0.5, AT)
    with pytest.raises(TypeError, match=r"^dropout: out cannot be used with JAX"):
        thinned.dropout(x, 0.5, AT, out=x)
    with pytest.raises(ValueError, match=r"^dropout: p must be an array that broadcasts to x's"):
        jax.jit(lambda p: thinned.dropout(x, p, AT))(jnp.ones(6))
    with pytest.raises(TypeError, match=r"^dropout: at must be known here, got a traced address\."):
        jax.jit(lambda at: thinned.dropout(X, 0.5, at))(AT)
    with pytest.raises(TypeError, match=r"^keep_mask: at must be known here"):
        jax.jit(lambda i: thinned.keep_mask(3, 0.5, AT.replace(step=i)))(1)
    with pytest.raises(TypeError, match=r"^Address: step must be one integer, got a traced array"):
        jax.jit(lambda i: AT.replace(step=i).step)(1.0)
    with pytest.raises(TypeError, match=r"^Address.fold_in: n must be one integer"):
        jax.jit(lambda i: AT.fold_in(i).step)(jnp.arange(3))


@pytest.mark.usefixtures("either")
def test_what_is_wrong_once_it_runs_is_nan():
    """No program can raise an error for a value; and silence would be worse."""
    f = jax.jit(lambda p, at: thinned.dropout(jnp.ones(64), p, at))
    for p in (-0.1, 1.5, 50.0, np.nan):
        assert np.isnan(f(np.float32(p), AT)).all()
    g = jax.jit(
        lambda step, call: thinned.dropout(jnp.ones(64), 0.0, AT.replace(step=step, call=call))
    )
    assert not np.isnan(g(3, 4)).any()
    assert np.isnan(g(-1, 4)).all()
    assert np.isnan(g(3, 2**16)).all()


# --------------------------------------------------------------------------------------------- keys


def test_keys_of_any_implementation():
    key = jax.random.key(7)
    assert thinned.jax.address(key, site="fc1") == Address(7, "fc1")
    assert thinned.jax.address(jax.random.PRNGKey(7), "fc1") == Address(7, "fc1")
    high = jax.random.wrap_key_data(np.array([2**31, 5], np.uint32))
    assert thinned.jax.address(high).seed == 2**63 + 5
    long = [thinned.jax.address(jax.random.key(n, impl="rbg")).seed for n in range(3)]
    assert len(set(long)) == 3
    for impl in ("threefry2x32", "rbg", "unsafe_rbg"):
        key = jax.random.key(7, impl=impl)
        assert jax.jit(thinned.jax.address)(key) == thinned.jax.address(key)
    keys = jax.random.split(jax.random.key(0), 3)
    y = jax.vmap(lambda k: thinned.dropout(jnp.ones(40), 0.5, thinned.jax.address(k)))(keys)
    one = np.ones(40, np.float32)
    same(y, [thinned.dropout(one, 0.5, thinned.jax.address(k)) for k in keys])
    for bad in (7, jnp.ones(2), keys, jnp.zeros((2, 2), jnp.uint32)):
        with pytest.raises(TypeError, match=r"^address: key must be one key of jax.random, got "):
            thinned.jax.address(bad)


def test_without_jit_all_is_as_with_it(either):
    """jax.disable_jit, under which people look for their mistakes."""
    x = jnp.linspace(-1, 1, 500)

    def loss(x, step):
        at = Address(1, "a", step).fold_in(step)
        y = thinned.dropout(x, 0.3, at) + thinned.gaussian_dropout(x, 0.2, at)
        return (y * thinned.keep_mask(500, 0.5, at, like=x)).sum()

    gradient = jax.grad(loss)
    expected = jax.jit(gradient)(x, jnp.uint32(3))
    with jax.disable_jit():
        found = gradient(x, jnp.uint32(3))
        assert jax.config.jax_disable_jit
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_taylor_mode_has_the_same_noise_in_every_term(either):
    from jax.experimental import jet

    at = Address(1, "a", 2)
    x, dx, ddx = jnp.linspace(1, 2, 300), jnp.linspace(3, 4, 300), jnp.linspace(-1, 1, 300)
    y, (dy, ddy) = jet.jet(lambda x: thinned.dropout(x, 0.3, at), (x,), ((dx, ddx),))
    for found, given in ((y, x), (dy, dx), (ddy, ddx)):
        np.testing.assert_allclose(found, thinned.dropout(given, 0.3, at), rtol=1e-6)


def test_between_the_passes_nothing_of_a_mask_is_kept():
    """What benchmarks.jax_memory prints, of a small perceptron: memory alone."""
    from benchmarks import jax_memory

    found = {name: jax_memory.taken(d, 3, 64, 128) for name, d in jax_memory.WAYS.items()}
    plain, ours, theirs = (one.residuals for one in found.values())
    assert ours <= 1.03 * plain
    assert theirs > 1.1 * plain
