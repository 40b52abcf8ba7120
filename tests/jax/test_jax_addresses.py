"""Addresses as JAX's programs hold them: out of their ranges, as trees, saved and read back."""

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree_util

import thinned
from thinned import Address

X = jnp.ones(1000)
FIELDS = {"seed": (-1,), "site": (-1,), "step": (-1, -5), "call": (-1, 2**16, 2**30)}
WIDE = {"site": 2**32 + 1, "step": 2**32 + 3, "call": 2**32}


def coordinates(name, value):
    return Address(**{"seed": 1, "site": 2, "step": 3, "call": 4, name: value})


DRAWS = {
    "dropout": lambda at: thinned.dropout(X, 0.3, at),
    "with a fill": lambda at: thinned.dropout(X, 0.3, at, mirror=True),
    "no dropout": lambda at: thinned.dropout(X, 0.0, at),
    "alpha": lambda at: thinned.alpha_dropout(X, 0.3, at),
    "gaussian": lambda at: thinned.gaussian_dropout(X, 0.3, at),
    "uniform": lambda at: thinned.uniform_dropout(X, 0.3, at),
    "path": lambda at: thinned.drop_path(X[:, None], 0.3, at),
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("name", FIELDS)
def test_noise_out_of_range_is_nan_everywhere(name, draw, either):
    @jax.jit
    def drawn(value):
        return DRAWS[draw](coordinates(name, value))

    for value in FIELDS[name]:
        assert jnp.isnan(drawn(jnp.int32(value))).all(), value
    assert jnp.isfinite(drawn(jnp.int32(7))).all()


@pytest.mark.parametrize("name", WIDE)
def test_a_coordinate_is_checked_before_it_is_narrowed(name):
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        run = jax.jit(lambda value: thinned.dropout(X, 0.3, coordinates(name, value)))
        assert jnp.isnan(run(jnp.int64(WIDE[name]))).all()
        assert jnp.isnan(run(jnp.int64(-(2**40)))).all()
        assert jnp.isfinite(run(jnp.int64(5))).all()
        seeded = jax.jit(lambda value: thinned.dropout(X, 0.3, Address(value)))
        wide = 2**40 + 1
        expected = thinned.dropout(np.ones(1000, np.float32), 0.3, Address(wide))
        np.testing.assert_array_equal(seeded(jnp.int64(wide)), expected)
    finally:
        jax.config.update("jax_enable_x64", before)


def test_what_is_made_of_an_address_out_of_range_is_out_of_range():
    at = Address(5, "a", 3)
    made = {
        "folded": lambda n: at.fold_in(n),
        "another step": lambda n: Address(n, "a").replace(step=4),
        "another call": lambda n: Address(n, "a").replace(call=4),
        "folded on": lambda n: at.replace(step=n).fold_in(3),
    }
    for name, make in made.items():
        run = jax.jit(lambda n, make=make: thinned.dropout(X, 0.3, make(n)))
        assert jnp.isnan(run(jnp.int32(-1))).all(), name
        assert jnp.isfinite(run(jnp.int32(1))).all(), name


# -------------------------------------------------------------------------------------------- trees


def test_an_address_is_a_tree_with_names_and_the_same_leaves_each_time():
    at = Address(2**40 + 5, "a", 3, 1)
    paths, _ = tree_util.tree_flatten_with_path(at)
    assert [tree_util.keystr(path) for path, _ in paths] == [
        ".seed_low", ".seed_high", ".site", ".step", ".call",
    ]  # fmt: skip
    assert all(a is b for a, b in zip(jax.tree.leaves(at), jax.tree.leaves(at), strict=True))
    assert jax.tree.map(lambda word: word, at) == at


class Model(eqx.Module):
    weight: jax.Array
    at: Address


def test_equinox_replaces_an_address_in_a_model():
    model = Model(jnp.ones(2), Address(1, "a", 2))
    changed = eqx.tree_at(lambda model: model.at, model, Address(1, "a", 3))
    assert changed.at == Address(1, "a", 3)
    assert model.at == Address(1, "a", 2)


def test_flax_saves_an_address():
    import thinned.jax.nnx  # noqa: F401 - which makes Flax know addresses

    state = {"at": Address(2**63 + 1, "a", 3, 1), "w": jnp.ones(2)}
    raw = flax.serialization.to_bytes(state)
    blank = {"at": Address(), "w": jnp.zeros(2)}
    assert flax.serialization.from_bytes(blank, raw)["at"] == state["at"]
    with pytest.raises(ValueError, match=r"Address: a saved one holds seed_low, .* this holds x"):
        flax.serialization.from_state_dict(Address(), {"x": 1})


def test_orbax_saves_an_address(tmp_path):
    checkpoint = pytest.importorskip("orbax.checkpoint")
    state = {"at": Address(2**63 + 1, "a", 3, 1), "w": jnp.ones(2)}
    with checkpoint.StandardCheckpointer() as saver:
        saver.save(tmp_path / "state", state)
        saver.wait_until_finished()
        found = saver.restore(tmp_path / "state", state)
    assert found["at"] == state["at"]


def test_the_repr_of_a_gradient_by_an_address():
    gradient = jax.grad(lambda at: thinned.dropout(X, 0.3, at).sum(), allow_int=True)(Address(1))
    assert "Address(seed=Halves(" in repr(gradient)


# ---------------------------------------------------------------------------------- what is refused


def test_what_is_traced_and_may_not_be_says_what_to_do():
    at = Address(1)
    with pytest.raises(TypeError, match=r"training must be True or False, got .* static under jit"):
        jax.jit(lambda x, on: thinned.dropout(x, 0.3, at, training=on))(X, True)
    with pytest.raises(TypeError, match=r"p must be a float .* the array must be one that it"):
        jax.jit(lambda p: thinned.dropout(np.ones(10, np.float32), p, at))(0.3)
