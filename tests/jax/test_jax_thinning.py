"""Thin execution: the kept units alone, against the formula on whole arrays."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import thinned
import thinned.jax
import thinned.jax.equinox as te
import thinned.jax.nnx as tn
from thinned.jax import kept_units, member, thin_mlp

AT = thinned.Address(seed=3, site="a", step=2)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(7, 16)), jnp.float32)
RATES = (0.5, 0.3)
LAYERS = [
    (jnp.asarray(RNG.normal(size=(i, o)) / 8, jnp.float32), jnp.asarray(RNG.normal(size=o)))
    for i, o in ((16, 64), (64, 48), (48, 5))
]


def whole(x, layers, step, p=RATES, mirror=False, training=True):
    """The formula of thin_mlp."""
    for i, (w, b) in enumerate(layers):
        x = x @ w if b is None else x @ w + b
        if i < len(layers) - 1:
            rows = tuple(range(x.ndim - 1))
            at = AT.replace(site=i, step=step)
            how = {"shared_axes": rows, "mirror": mirror, "training": training}
            x = thinned.k_of_n_dropout(jax.nn.gelu(x), p[i], at, **how)
    return x


def thin(x, layers, step, p=RATES, **how):
    return thin_mlp(x, layers, p, AT.replace(step=step), activation=jax.nn.gelu, **how)


def close(a, b):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=2e-5, atol=2e-5), a, b)


@pytest.mark.parametrize("n", [1, 7, 100])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("mirror", [False, True])
def test_the_kept_units_are_those_of_k_of_n_dropout(n, p, mirror):
    kept = kept_units(n, p, AT, mirror=mirror)
    y = thinned.k_of_n_dropout(jnp.ones((3, n)), p, AT, shared_axes=(0,), mirror=mirror)
    np.testing.assert_array_equal(np.flatnonzero(y[0]), kept.units)
    np.testing.assert_allclose(y[0][kept.units], kept.scale)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("lead", [(7,), (), (2, 3)])
def test_output_and_gradients_are_those_of_the_whole_network(lead):
    x = jnp.broadcast_to(X[0], (*lead, 16)) * jnp.linspace(1, 2, 16)
    for transform in (jax.jit, lambda f: jax.jit(jax.grad(lambda *a: (f(*a) ** 2).sum(), (0, 1)))):
        for step in (0, 5):
            args = (x, LAYERS, jnp.uint32(step))
            close(transform(thin)(*args), transform(whole)(*args))


@pytest.mark.long
def test_other_steps_are_no_other_program_and_members_go_by_vmap():
    program = jax.jit(lambda *args: thin(*args))
    outs = [program(X, LAYERS, step) for step in range(3)]
    assert program._cache_size() == 1
    assert not np.array_equal(outs[0], outs[1])
    close(jax.vmap(lambda step: thin(X, LAYERS, step))(jnp.arange(3)), jnp.stack(outs))
    close(jax.jvp(lambda x: thin(x, LAYERS, 1), (X,), (X,)), jax.jvp(
        lambda x: whole(x, LAYERS, 1), (X,), (X,)))  # fmt: skip


@pytest.mark.long
def test_extremes_sites_mirrors_and_evaluation():
    for p in ((0.0, 0.5), (1.0, 0.3), (0.5, 1.0)):
        close(thin(X, LAYERS, 1, p), whole(X, LAYERS, 1, p))
    close(thin(X, LAYERS, 1, mirror=True), whole(X, LAYERS, 1, mirror=True))
    close(thin(X, LAYERS, 1, training=False), whole(X, LAYERS, 1, training=False))
    bare = [(w, None) for w, _ in LAYERS]
    close(thin(X, bare, 1), whole(X, bare, 1))
    named = thin_mlp(X, LAYERS, 0.5, AT, sites=("fc1", "fc2"))
    assert not np.allclose(named, thin_mlp(X, LAYERS, 0.5, AT))
    assert np.isnan(jax.jit(thin)(X, LAYERS, jnp.int32(-1))).all()


def test_the_products_have_the_kept_units_alone():
    text = jax.jit(lambda x: thin(x, LAYERS, 0, (0.5, 0.25))).lower(X).as_text()
    for shape in ("7x16xf32>, tensor<16x32xf32", "7x32xf32>, tensor<32x36xf32"):
        assert shape in text


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"activation": jax.nn.softmax}, ValueError, "each unit by itself, got softmax"),
        ({"activation": lambda h: h[..., :3]}, ValueError, "each unit by itself"),
        ({"activation": lambda h: h * jnp.ones(48)}, ValueError, "each unit by itself"),
        ({"activation": 3}, TypeError, "activation"),
        ({"p": 1.5}, ValueError, "p must be"),
        ({"p": (0.5,)}, ValueError, "one for each of 2 hidden layers"),
        ({"layers": []}, ValueError, "at least one pair"),
        ({"layers": LAYERS[1:]}, ValueError, r"of shape \(16, out\)"),
        ({"layers": [(LAYERS[0][0], jnp.ones(3))]}, ValueError, r"of shape \(64,\)"),
        ({"layers": [1]}, TypeError, "pairs"),
        ({"at": 3}, TypeError, "Address"),
        ({"x": jnp.ones((2, 16), int)}, TypeError, "float32"),
    ],
)
def test_what_does_not_apply_is_refused(change, error, words):
    given = {"x": X, "layers": LAYERS, "p": 0.5, "at": AT, **change}
    with pytest.raises(error, match=words):
        thin_mlp(**given)


def test_a_traced_rate_is_refused_with_its_reason():
    with pytest.raises(TypeError, match="lengths of arrays depend on it"):
        jax.jit(lambda p: thin_mlp(X, LAYERS, p, AT))(0.5)
    with pytest.raises(ValueError, match="of 6 units along axis 0"):
        kept_units(6, 0.5, AT).rows(jnp.ones((5, 2)))


# ------------------------------------------------------------------------------------------ members


def of_nnx(*between, last=nnx.Linear):
    rngs = nnx.Rngs(0)
    return nnx.Sequential(nnx.Linear(16, 32, rngs=rngs), *between, last(32, 5, rngs=rngs))


def of_equinox(*between):
    keys = jax.random.split(jax.random.key(0))
    first, last = eqx.nn.Linear(16, 32, key=keys[0]), eqx.nn.Linear(32, 5, key=keys[1])
    return eqx.nn.Sequential([first, *between, last])


MODELS = {
    "nnx": lambda: of_nnx(jax.nn.gelu, nnx.Dropout(0.5, rngs=nnx.Rngs(1)), jax.nn.relu),
    "nnx, k of n": lambda: of_nnx(tn.KOfNDropout(0.25, rngs=nnx.Rngs(1)), jax.nn.relu),
    "nnx, twice": lambda: of_nnx(*(nnx.Dropout(p, rngs=nnx.Rngs(1)) for p in (0.5, 0.3))),
    "nnx, all": lambda: of_nnx(nnx.Dropout(1.0, rngs=nnx.Rngs(1))),
    "equinox": lambda: of_equinox(eqx.nn.Lambda(jax.nn.relu), eqx.nn.Dropout(0.5)),
    "equinox, k of n": lambda: of_equinox(te.KOfNDropout(0.25), eqx.nn.Identity()),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", list(MODELS))
def test_a_thin_member_is_the_whole_one(name):
    model = MODELS[name]()
    for k in range(3):
        cut = member(model, k, seed=5, execution="thin")
        close(cut(X), member(model, k, seed=5)(X))
    widths = {leaf.shape for leaf in jax.tree.leaves(jax.make_jaxpr(cut)(X).consts)}
    assert (16, 32) not in widths


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: lambda x, at: x, "got a function"),
        (lambda: nnx.Dict(drop=nnx.Dropout(0.5, rngs=nnx.Rngs(0))), "got Dict"),
        (
            lambda: of_nnx(nnx.LayerNorm(32, rngs=nnx.Rngs(0)), nnx.Dropout(0.5)),
            "it holds LayerNorm",
        ),
        (lambda: of_nnx(jax.nn.softmax, nnx.Dropout(0.5)), "softmax beside a dropout mixes units"),
        (lambda: of_nnx(nnx.Dropout(0.5), jax.nn.sigmoid), "sigmoid beside a dropout does not"),
        (lambda: nnx.Sequential(nnx.Dropout(0.5), nnx.Linear(16, 2, rngs=nnx.Rngs(0))), "between"),
        (lambda: of_nnx(tn.AlphaDropout(0.5)), "'layers.1' is AlphaDropout"),
        (lambda: eqx.nn.MLP(3, 2, 8, 2, key=jax.random.key(0)), "got MLP"),
        (lambda: of_equinox(eqx.nn.LayerNorm(32), eqx.nn.Dropout(0.5)), "it holds LayerNorm"),
    ],
)
def test_where_no_thin_member_is_to_be_had_the_error_says_why(model, why):
    with pytest.raises(ValueError, match=f"execution='thin' takes a Sequential.*{why}.*'whole'"):
        member(model(), 0, execution="thin")
