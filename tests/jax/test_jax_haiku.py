"""Models of Haiku: hk.dropout by address."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thinned
import thinned.jax
from thinned import Address
from thinned.jax.haiku import adopt
from thinned.jax.keys import key_of
from thinned.members import predict

X = jnp.ones((3, 64))
AT = Address(4, step=7)


class Block(hk.Module):
    def __call__(self, x):
        return hk.dropout(hk.next_rng_key(), 0.5, x)


def two(x):
    return Block()(x), Block()(x), hk.dropout(hk.next_rng_key(), 0.5, x, broadcast_dims=(0,))


def applied(function, x=X, at=AT, **how):
    model = adopt(hk.transform(function))
    return model.apply(model.init(jax.random.PRNGKey(0), x), x, at=at, **how)


def test_each_call_draws_by_its_key_at_its_module():
    keys = []

    def noted(x):
        keys.append(hk.next_rng_key())
        return hk.dropout(keys[-1], 0.5, x)

    y = applied(noted)
    expected = thinned.dropout(X, 0.5, thinned.jax.address(keys[-1], site="~/dropout"))
    np.testing.assert_array_equal(y, expected)
    one, other, shared = applied(two)
    assert len({np.asarray(a).tobytes() for a in (one, other, shared)}) == 3
    assert bool((shared == shared[:1]).all())
    for a, b in zip(applied(two), (one, other, shared), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not bool((applied(two, at=AT.replace(step=8))[0] == one).all())
    traced = jax.jit(lambda step: applied(two, at=AT.replace(step=step)))(7)
    np.testing.assert_array_equal(traced[0], one)


def test_state_remat_and_stacks_of_layers():
    def counted(x):
        count = hk.get_state("count", (), init=jnp.zeros)
        hk.set_state("count", count + 1)
        return hk.remat(Block())(x)

    model = adopt(hk.transform_with_state(counted))
    params, state = model.init(jax.random.PRNGKey(0), X)
    y, new = model.apply(params, state, X, at=AT)
    assert float(new["~"]["count"]) == 1.0
    assert 0.3 < float((y == 0).mean()) < 0.7
    dx = jax.grad(lambda x: model.apply(params, state, x, at=AT)[0].sum())(X)
    np.testing.assert_array_equal(dx, y)

    def stacked(x):
        return hk.experimental.layer_stack(3)(lambda x: Block()(x) + 0.0)(x)

    # Three masks that are one would keep a half; three of their own keep an eighth.
    assert 0.05 < float((applied(stacked) != 0).mean()) < 0.22


def test_nothing_of_the_mask_is_kept():
    model = adopt(hk.transform(lambda x: Block()(x)))
    _, back = jax.vjp(lambda x: model.apply({}, x, at=AT), X)
    assert max(leaf.size for leaf in jax.tree.leaves(back)) < 64


def test_members_by_a_function():
    model = adopt(hk.transform(lambda x: Block()(x)))
    answer = predict(
        lambda x, at: model.apply({}, x, at=at), X, members=4, antithetic=True, keep=True
    )
    # Mirrors at p = .5 keep what the others drop.
    np.testing.assert_array_equal(answer.outputs[0] + answer.outputs[1], 2.0)
    assert bool((answer.outputs[0] == answer.outputs[0][:1]).all())


def test_haikus_own_function_stays():
    own = hk.dropout
    applied(two)
    assert hk.dropout is own
    with pytest.raises(ZeroDivisionError):
        applied(lambda x: 1 / 0)
    assert hk.dropout is own
    plain = hk.transform(lambda x: hk.dropout(hk.next_rng_key(), 0.5, x))
    key = key_of(AT)
    theirs = plain.apply({}, key, X)
    adopt(plain).apply({}, X, at=AT)
    np.testing.assert_array_equal(plain.apply({}, key, X), theirs)


def test_errors():
    with pytest.raises(TypeError, match=r"what hk\.transform, hk\.multi_transform or either"):
        adopt(two)
    model = adopt(hk.transform(two))
    with pytest.raises(TypeError, match=r"at must be a thinned\.Address"):
        model.apply({}, X, at=3)


def test_evaluation_needs_no_address_and_training_says_so():
    def net(x, train):
        x = hk.Linear(4)(x)
        return Block()(x) if train else x

    model = adopt(hk.transform(net))
    params = model.init(jax.random.PRNGKey(0), X, True)
    evaluated = model.apply(params, X, False)
    np.testing.assert_array_equal(evaluated, model.apply(params, X, False, at=AT))
    with pytest.raises(TypeError, match=r"at is missing.*asks for a key.*thinned\.Address"):
        model.apply(params, X, True)

    def bad(x):
        raise ValueError("too bad")

    with pytest.raises(ValueError, match="too bad"):
        adopt(hk.transform(bad)).apply({}, X)
    stateful = adopt(hk.transform_with_state(net))
    y, _ = stateful.apply(params, {}, X, False)
    np.testing.assert_array_equal(y, evaluated)


@pytest.mark.parametrize("with_state", [False, True])
def test_several_functions_of_one_model(with_state):
    def build():
        block, linear = Block(), hk.Linear(4)

        def encode(x):
            return block(linear(x))

        return encode, {"encode": encode, "both": lambda x: linear(encode(x)[:, :4])}

    transform = hk.multi_transform_with_state if with_state else hk.multi_transform
    own = transform(build)
    model = adopt(own)
    made = model.init(jax.random.PRNGKey(0), X[:, :4])
    held = made if with_state else (made,)
    first, again, other = (
        jax.tree.leaves(model.apply["encode"](*held, X[:, :4], at=AT.replace(step=s)))[0]
        for s in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert 0.2 < float((first == 0).mean()) < 0.8
    assert jax.tree.leaves(model.apply["both"](*held, X[:, :4], at=AT))[0].shape == (3, 4)
    assert own.apply["encode"] is not model.apply["encode"]
