"""Members of JAX's functions and models: the networks that PyTorch's are, in one program."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from torch import nn

import thinned
import thinned.jax
from thinned.members import predict

ROWS = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32)


class Torch(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.drop, self.last = nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.first(x))))


THEIRS = Torch().eval()
W1, B1, W2, B2 = (jnp.asarray(p.detach().numpy()) for p in THEIRS.parameters())


def function(x, at):
    h = jax.nn.relu(x @ W1.T + B1)
    return thinned.dropout(h, 0.5, at.replace(site="drop")) @ W2.T + B2


class Nnx(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.last = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        for layer, w, b in ((self.first, W1, B1), (self.last, W2, B2)):
            layer.kernel.set_value(w.T)
            layer.bias.set_value(b)

    def __call__(self, x):
        return self.last(self.drop(jax.nn.relu(self.first(x))))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = jax.nn.relu(linen.Dense(16, name="first")(x))
        x = linen.Dropout(0.5, deterministic=not train, name="drop")(x)
        return linen.Dense(3, name="last")(x)


class Equinox(eqx.Module):
    first: eqx.nn.Linear
    drop: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self):
        key = jax.random.key(0)
        linear = eqx.nn.Linear(8, 16, key=key), eqx.nn.Linear(16, 3, key=key)
        put = lambda layer, w, b: eqx.tree_at(lambda m: (m.weight, m.bias), layer, (w, b))  # noqa: E731
        self.first, self.last = put(linear[0], W1, B1), put(linear[1], W2, B2)
        self.drop = eqx.nn.Dropout(0.5)

    def __call__(self, x, *, key=None):
        keys = None if key is None else jax.random.split(key)
        x = jax.nn.relu(self.first(x))
        return self.last(self.drop(x, key=None if keys is None else keys[0]))


VARIABLES = {
    "params": {"first": {"kernel": W1.T, "bias": B1}, "last": {"kernel": W2.T, "bias": B2}}
}
MODELS = {
    "function": lambda: function,
    "NNX": Nnx,
    "Linen": lambda: Linen().bind(VARIABLES),
    "Equinox": Equinox,
}


@pytest.mark.parametrize("share", ["member", "row"])
@pytest.mark.parametrize("name", MODELS)
def test_the_networks_are_those_of_pytorch(name, share):
    how = {"members": 6, "share": share, "seed": 7, "keep": True, "antithetic": True}
    theirs = predict(THEIRS, ROWS, execution="elementwise", task="classification", **how)
    ours = predict(MODELS[name](), ROWS, task="classification", **how)
    np.testing.assert_allclose(ours.outputs, theirs.outputs, atol=1e-6)
    for field in dataclasses.fields(theirs):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(other, np.ndarray):
            np.testing.assert_allclose(one, other, atol=1e-5, err_msg=field.name)
    assert (ours.members, ours.share, ours.antithetic) == (6, share, True)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_by_its_number(name):
    answers = predict(MODELS[name](), ROWS, members=5, seed=7, keep=True).outputs
    network = thinned.jax.member(MODELS[name](), 4, seed=7)
    np.testing.assert_allclose(network(ROWS), answers[4], atol=1e-6)
    np.testing.assert_allclose(network(ROWS[:3]), answers[4][:3], atol=1e-6)


def test_batches_stopping_and_what_is_told():
    whole = predict(function, ROWS, members=20, keep=True)
    told = []
    cut = predict(
        function, ROWS, members=20, batch_size=4, keep=True, progress=lambda *n: told.append(n)
    )
    np.testing.assert_allclose(cut.outputs, whole.outputs, atol=1e-6)
    assert told[0] == (1, 60)
    assert told[-1] == (60, 60)
    some = predict(function, ROWS, members=64, until=0.2)
    assert some.reached
    assert some.members % 8 == 0
    assert some.members < 64
    np.testing.assert_allclose(
        some.mean, predict(function, ROWS, members=some.members).mean, atol=1e-6
    )


def test_one_program_whatever_the_number_of_members():
    traced = []

    def counted(x, at):
        traced.append(x.shape)
        return function(x, at)

    predict(counted, ROWS, members=30, batch_size=4)
    assert traced == [(1, 8)]


def test_what_is_taken_and_what_is_returned():
    def named(x, offset, scale, at):
        y = function(x, at) * scale + offset[:, None]
        return {"logits": y, "hidden": x, "loss": y.sum()}

    plain = predict(function, ROWS, members=4, keep=True).outputs
    offset = np.arange(10.0, dtype=np.float32)
    several = predict(named, (ROWS, offset, 2.0), members=4, keep=True).outputs
    np.testing.assert_allclose(several, 2 * plain + offset[:, None], rtol=1e-5)
    mapping = {"scale": 2.0, "x": jnp.asarray(ROWS), "offset": offset}
    answer = predict(named, mapping, members=4, keep=True, output=lambda y: y["logits"] / 2)
    np.testing.assert_allclose(answer.outputs, several / 2, rtol=1e-5)

    @dataclasses.dataclass
    class Result:
        logits: object
        what: str

    held = predict(lambda x, at: Result(function(x, at), "kind"), ROWS, members=4, keep=True)
    np.testing.assert_allclose(held.outputs, plain, atol=1e-6)
    bound = Linen().bind(VARIABLES)
    for train in (False, True):
        x = {"x": ROWS, "train": train}
        np.testing.assert_allclose(
            predict(bound, x, members=4, keep=True).outputs, plain, atol=1e-6
        )


def test_models_are_not_touched_and_adopted_ones_are_asked_alike():
    model = Nnx()
    plain = predict(model, ROWS, members=3, keep=True).outputs
    assert type(model.drop) is nnx.Dropout
    report = thinned.jax.nnx.adopt(model, seed=9)
    report.clock.tick()
    model(ROWS)
    np.testing.assert_allclose(predict(model, ROWS, members=3, keep=True).outputs, plain)
    assert (int(report.clock.step), int(model.drop.calls.count.get_value())) == (1, 1)
    assert model.drop.deterministic is False
    tree, _ = thinned.jax.equinox.adopt(Equinox())
    np.testing.assert_allclose(predict(tree, ROWS, members=3, keep=True).outputs, plain, atol=1e-6)
    linens = thinned.jax.linen.adopt(Linen()).bind(VARIABLES)
    np.testing.assert_allclose(
        predict(linens, ROWS, members=3, keep=True).outputs, plain, atol=1e-6
    )


def test_layers_of_a_stack_and_tokens_have_draws_of_their_own():
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def build(rngs):
        return nnx.Dropout(0.5, rngs=rngs)

    class Stack(nnx.Module):
        def __init__(self):
            self.layers = build(nnx.Rngs(0))

        def __call__(self, x):
            run = nnx.scan(
                lambda layer, x: (x, layer(x)), in_axes=(0, nnx.Carry), out_axes=(nnx.Carry, 0)
            )
            return jnp.moveaxis(run(self.layers, x)[1], 0, 1)

    outputs = predict(Stack(), np.ones((2, 32), np.float32), members=2, keep=True).outputs
    assert len({row.tobytes() for row in outputs.reshape(-1, 32)}) == 6

    class Tokens(eqx.Module):
        drop: eqx.nn.Dropout

        def __call__(self, x, *, key):
            return jax.vmap(lambda t, k: self.drop(t, key=k))(x, jax.random.split(key, len(x)))

    tokens = np.ones((2, 4, 32), np.float32)
    outputs = predict(Tokens(eqx.nn.Dropout(0.5)), tokens, members=2, keep=True).outputs
    assert len({row.tobytes() for row in outputs.reshape(-1, 32)}) == 8


def test_what_is_not_reached_is_named():
    class Own(nnx.Dropout):
        """With a call of its own."""

    model = nnx.Sequential(nnx.Dropout(0.5), Own(0.5, deterministic=True))
    (missed,) = predict(model, ROWS, members=2).not_reached
    assert missed.startswith("layers.1: not reached: a subclass of nnx.Dropout")


@pytest.mark.parametrize(
    ("model", "x", "how", "error", "said"),
    [
        (lambda x, at: x, ROWS, {}, ValueError, "the address not passed on"),
        (lambda x, at: thinned.dropout(x, 0.0, at), ROWS, {}, ValueError, "Is p = 0 everywhere"),
        (Linen(), ROWS, {}, ValueError, r"Pass model\.bind\(variables\)"),
        (nnx.Linear(8, 8, rngs=nnx.Rngs(0)), ROWS, {}, ValueError, "holds no dropout"),
        (eqx.nn.Identity(), ROWS, {}, ValueError, "holds no dropout"),
        (function, "text", {}, TypeError, "x must be an array of JAX's or NumPy's"),
        (function, (ROWS, ROWS[:3]), {}, ValueError, "as many rows each"),
        (function, ROWS, {"share": "sequence"}, ValueError, "'member' or 'row'"),
        (function, ROWS, {"share": "row", "batch_size": 2}, ValueError, "batch_size must be None"),
        (
            function,
            ROWS,
            {"execution": "thin"},
            ValueError,
            r"thinned\.jax\.thin_mlp is a function",
        ),
        (function, ROWS, {"task": "mean_variance"}, TypeError, r"\(mean, variance\)"),
        (lambda x, at: "y", ROWS, {}, TypeError, "result must be a tensor"),
        ({"a": 1}, ROWS, {}, TypeError, r"a function of \(x, address\)"),
    ],
)
def test_errors(model, x, how, error, said):
    with pytest.raises(error, match=said):
        predict(model, x, members=2, **how)
